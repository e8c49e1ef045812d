"""An old path of `routellm_lab.costs.tokens` and `routellm_lab.evaluation.cost_curve`."""

from routellm_lab._moved import moved
from routellm_lab.evaluation.cost_curve import PairCostCurve as CostCurve

__all__ = ["CostCurve"]
__getattr__ = moved(__name__, {"costs.tokens": ["Tokens", "count_tokens"], "evaluation.cost_curve": "*"})
