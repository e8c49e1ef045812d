"""The figures of the workbook: one theme, one function per figure, each returns a matplotlib Figure.

Titles state what the data shows. Figures of simulated data say so above the axes. The colours suit colour-blind readers
(seaborn's ``colorblind`` palette), and lines also differ in their dashes or markers.
"""

from routellm_lab.plots.costs import cost_curves
from routellm_lab.plots.guarantees import promises, reliability_diagram, share_over_time
from routellm_lab.plots.judges import agreement_by, confusion
from routellm_lab.plots.many_models import cost_quality, usage_map
from routellm_lab.plots.other_systems import cache_threshold, system_gains, systems
from routellm_lab.plots.robustness import adversarial_suffix, flip_rates
from routellm_lab.plots.routing import routing_curves
from routellm_lab.plots.shapes import dot_plot, heat_map
from routellm_lab.plots.significance import ablation_forest, apgr_forest, apgr_panels, pairwise_matrix, power_curves
from routellm_lab.plots.speed import benchmark_ratios
from routellm_lab.plots.theme import DASHES, INK, MARKERS, MUTED, PALETTE, SIMULATED, STRONG, WEAK, WIDTH, set_theme
from routellm_lab.plots.training import learning_curve, training_loss, win_rate_histogram
from routellm_lab.plots.transfer import adaptation, similarity_scatter, transfer_dots
from routellm_lab.plots.votes import rating_ladder, vote_heatmap

__all__ = [
    "DASHES",
    "INK",
    "MARKERS",
    "MUTED",
    "PALETTE",
    "SIMULATED",
    "STRONG",
    "WEAK",
    "WIDTH",
    "ablation_forest",
    "adaptation",
    "adversarial_suffix",
    "agreement_by",
    "apgr_forest",
    "apgr_panels",
    "benchmark_ratios",
    "cache_threshold",
    "confusion",
    "cost_curves",
    "cost_quality",
    "dot_plot",
    "flip_rates",
    "heat_map",
    "learning_curve",
    "pairwise_matrix",
    "power_curves",
    "promises",
    "rating_ladder",
    "reliability_diagram",
    "routing_curves",
    "set_theme",
    "share_over_time",
    "similarity_scatter",
    "system_gains",
    "systems",
    "training_loss",
    "transfer_dots",
    "usage_map",
    "vote_heatmap",
    "win_rate_histogram",
]
