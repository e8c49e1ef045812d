"""Systems: the neighbours of routing, played back on logged answers: cascades, blenders, panels, a cache."""

from routellm_lab.systems.base import FIGURES, Played, System, compare_systems, played_choices, systems_table

__all__ = ["FIGURES", "Played", "System", "compare_systems", "played_choices", "systems_table"]
