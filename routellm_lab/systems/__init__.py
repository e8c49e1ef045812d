"""Systems: the neighbours of routing, played back on logged answers: cascades, blenders, panels, a cache."""

from routellm_lab.systems.base import FIGURES, Played, System, compare_systems, mixed_at, played_choices, systems_table

__all__ = ["FIGURES", "Played", "System", "compare_systems", "mixed_at", "played_choices", "systems_table"]
