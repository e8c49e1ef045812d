"""The path of many models in version 0.1."""

from routellm_lab._moved import moved

__getattr__ = moved(
    __name__,
    {
        "policies.many_models": ["route_many"],
        "evaluation.cost_quality": ["CostQualityCurve"],
        "evaluation.model_panels": ["panel_against", "panel_usage"],
        "evaluation.many_models": "*",
    },
)
