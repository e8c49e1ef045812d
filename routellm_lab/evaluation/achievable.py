"""What is achievable on simulated outcomes, whose true win rates are known."""

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.preferences.models import ModelPair


def best_possible(outcomes: Outcomes, pair: ModelPair) -> RoutingCurve:
    """The curve of the true win rates of simulated outcomes: what no router can beat but by luck.

    The true win rate rises with the gap in planted competence, so the gap ranks prompts as it does.

    Raises
    ------
    DataError
        When the outcomes are not simulated.
    """
    if outcomes.competence is None:
        raise DataError(
            f"outcomes {outcomes.name} ({outcomes.data}) are not simulated: the best possible router is unknown. "
            "The achieved share is for the sample; on real outcomes compare with random and the baselines."
        )
    for model in (pair.strong, pair.weak):
        outcomes.of(model)  # names the nearest models when there is no such one
    gap = outcomes.competence[pair.strong] - outcomes.competence[pair.weak]
    return RoutingCurve.from_win_rates((1 + gap.to_numpy(float)) / 2, outcomes, pair)


def achieved_share(curve: RoutingCurve, outcomes: Outcomes) -> float:
    """Share of the achievable gain over random: (APGR - .5) / (APGR of the true win rates - .5).

    Parameters
    ----------
    curve : RoutingCurve
        On prompts of ``outcomes``.
    outcomes : Outcomes
        Simulated.

    Raises
    ------
    DataError
        When the outcomes are not simulated, lack prompts of the curve, or cannot be routed better than at random.
    """
    best = best_possible(outcomes.select(curve.prompt_ids), curve.pair)
    if best.apgr <= 0.5:
        raise DataError(
            f"outcomes {outcomes.name}: APGR of the true win rates is {best.apgr:.3f}: nothing to achieve on these "
            f"{len(best)} prompts"
        )
    return (curve.apgr - 0.5) / (best.apgr - 0.5)
