"""Systems: the neighbours of routing, played back on logged answers: cascades, blenders, panels, a cache."""

from routellm_lab.systems.base import (
    METRICS,
    Replay,
    System,
    cheapest_match,
    compare_systems,
    mixed_at,
    paired_gains,
    replayed_choices,
    systems_table,
)

__all__ = [
    "METRICS",
    "Replay",
    "System",
    "cheapest_match",
    "compare_systems",
    "mixed_at",
    "paired_gains",
    "replayed_choices",
    "systems_table",
]
