"""routellm_lab: learn which questions need the large model, measure it honestly, and decide with it.

The public names load on first use, so that ``import routellm_lab`` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "ModelPair": "preferences",
    "load_battles": "preferences",
    "battles_from_outcomes": "preferences",
    "decontaminate": "preferences",
    "fit_ratings": "preferences",
    "fit_tiers": "preferences",
    "Outcomes": "benchmarks",
    "default_pair": "benchmarks",
    "load_outcomes": "benchmarks",
    "load_prompts": "benchmarks",
    "RoutingCurve": "evaluation",
    "evaluate": "evaluation",
    "ThresholdPolicy": "policies",
    "load_router": "routers",
    "recommended_router": "routers",
}
__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from routellm_lab.benchmarks import Outcomes, default_pair, load_outcomes, load_prompts
    from routellm_lab.evaluation import RoutingCurve, evaluate
    from routellm_lab.policies import ThresholdPolicy
    from routellm_lab.preferences import (
        ModelPair,
        battles_from_outcomes,
        decontaminate,
        fit_ratings,
        fit_tiers,
        load_battles,
    )
    from routellm_lab.routers import load_router, recommended_router


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
