"""Numbers that a public function cannot use are refused where they come in, by an error of the package."""

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from test_cost import PAIR, costs_of, outcomes
from test_many import log_of

from routellm_lab import RoutingCurve
from routellm_lab.columns import float_array
from routellm_lab.costs import count_tokens
from routellm_lab.errors import (
    DataError,
    ParameterError,
    RoutellmLabError,
    require_names,
    require_number,
    require_numbers,
    require_threshold,
)
from routellm_lab.evaluation import Bootstrap, PairCostCurve, compare_all, holm, required_questions, should_route
from routellm_lab.evaluation.calibration import calibration, decisions_changed
from routellm_lab.evaluation.cost_quality import CostQualityCurve
from routellm_lab.evaluation.guarantees import verify_guarantee
from routellm_lab.evaluation.intervals import share_interval
from routellm_lab.evaluation.many_models import at_budget
from routellm_lab.evaluation.model_panels import panel_usage
from routellm_lab.evaluation.required_labels import required_labels, required_labels_pgr
from routellm_lab.policies import OnlineThreshold, ThresholdPolicy, shares_over_time
from routellm_lab.policies.calibration import cross_calibrated
from routellm_lab.policies.guarantees import guarantee_missed, guarantee_pgr
from routellm_lab.policies.many_models import route_many
from routellm_lab.policies.online import threshold_transfer
from routellm_lab.preferences.models import require_pair
from routellm_lab.systems import mixed_at, replayed_choices
from routellm_lab.systems.cascade import AutoMix, Cascade
from routellm_lab.systems.hybrid import hybrid_labels
from routellm_lab.systems.panels import sample_panels

NEVER = (math.nan, -math.inf, True, "0.5", [], [0.5, 0.5], np.array([]), object())
"""What is no number, whatever the parameter."""
ENDLESS, LESS, PERCENT, PARTS = (math.inf,), (-1, -0.5), (50, np.int64(95), 1.5), (2.5, np.float64(1.5))

SHARE = (*ENDLESS, *LESS, *PERCENT)
INSIDE = (*SHARE, 0, 1)
COUNT = (*ENDLESS, *LESS, *PARTS, 0)
MONEY = (*ENDLESS, *LESS)


@cache
def costs():
    return costs_of(np.random.default_rng(0), n=120)


@cache
def log():
    rng = np.random.default_rng(1)
    return log_of(rng.random((40, 3)) < [0.3, 0.5, 0.8], [0.1, 0.4, 2.0])


@cache
def played():
    return [replayed_choices(model, log(), [model] * len(log())) for model in log().models]


def curve():
    return costs().curve


def expected():
    return log().outcomes.scores


def policy():
    return ThresholdPolicy(PAIR, 0.5, "by hand")


PARAMETERS = {
    "curve.cpt": (lambda value: curve().cpt(value), (*SHARE, 0)),
    "curve.random_band level": (lambda value: curve().random_band(value), INSIDE),
    "curve.interval n_resamples": (lambda value: curve().interval(n_resamples=value), COUNT),
    "curve.p_value_vs_random": (lambda value: curve().p_value_vs_random(value), COUNT),
    "Bootstrap confidence_level": (Bootstrap, INSIDE),
    "Bootstrap n_resamples": (lambda value: Bootstrap(n_resamples=value), COUNT),
    "compare_all n_resamples": (lambda value: compare_all({"a": curve(), "b": curve()}, n_resamples=value), COUNT),
    "required_questions first": (lambda value: required_questions(curve(), value, 0.6), (*MONEY, 50)),
    "required_questions level": (lambda value: required_questions(curve(), 0.7, 0.6, confidence_level=value), INSIDE),
    "required_questions power": (lambda value: required_questions(curve(), 0.7, 0.6, power=value), INSIDE),
    "required_questions n_draws": (lambda value: required_questions(curve(), 0.7, 0.6, n_draws=value), COUNT),
    "should_route price": (lambda value: should_route(curve(), value, 0.1), (*MONEY, 0)),
    "should_route tolerance": (lambda value: should_route(curve(), 2, 1, tolerance=value), (*SHARE, 0)),
    "calibration n_bins": (lambda value: calibration(curve(), value), (*COUNT, 500)),
    "cross_calibrated n_folds": (lambda value: cross_calibrated(curve(), n_folds=value), (*COUNT, 1, 500)),
    "decisions_changed share": (lambda value: decisions_changed(curve(), curve(), share=value), SHARE),
    "decisions_changed threshold": (
        lambda value: decisions_changed(curve(), curve(), threshold=value),
        (*LESS, *PERCENT),
    ),
    "guarantee_missed alpha": (lambda value: guarantee_missed(curve(), value), INSIDE),
    "guarantee_missed delta": (lambda value: guarantee_missed(curve(), 0.2, value), INSIDE),
    "guarantee_pgr pgr": (lambda value: guarantee_pgr(curve(), value), INSIDE),
    "guarantee_pgr delta": (lambda value: guarantee_pgr(curve(), 0.5, value), INSIDE),
    "required_labels alpha": (required_labels, INSIDE),
    "required_labels missed": (lambda value: required_labels(0.2, missed=value), SHARE),
    "required_labels power": (lambda value: required_labels(0.2, power=value), INSIDE),
    "required_labels_pgr gap": (lambda value: required_labels_pgr(0.5, value), (*SHARE, 0)),
    "verify_guarantee n_labels": (
        lambda value: verify_guarantee(curve(), lambda part: guarantee_pgr(part, 0.5), value),
        (*COUNT, 1, 500),
    ),
    "share_interval count": (lambda value: share_interval(value, 10), (*MONEY, 11)),
    "share_interval level": (lambda value: share_interval(5, 10, value), INSIDE),
    "for_share": (lambda value: ThresholdPolicy.for_share(costs(), value), SHARE),
    "for_budget": (lambda value: ThresholdPolicy.for_budget(costs(), value), LESS),
    "for_quality quality": (lambda value: ThresholdPolicy.for_quality(costs(), value), (*ENDLESS, 50)),
    "for_quality pgr": (lambda value: ThresholdPolicy.for_quality(costs(), pgr=value), SHARE),
    "guaranteed missed": (lambda value: ThresholdPolicy.guaranteed(costs(), missed=value), INSIDE),
    "guaranteed delta": (lambda value: ThresholdPolicy.guaranteed(costs(), missed=0.2, delta=value), INSIDE),
    "threshold_transfer": (lambda value: threshold_transfer({"a": curve()}, value), INSIDE),
    "OnlineThreshold share": (lambda value: OnlineThreshold(PAIR, value), INSIDE),
    "OnlineThreshold window": (lambda value: OnlineThreshold(PAIR, 0.5, value), (*COUNT, 1)),
    "OnlineThreshold step": (lambda value: OnlineThreshold(PAIR, 0.5, step=value), INSIDE),
    "shares_over_time block": (lambda value: shares_over_time([True, False], value), COUNT),
    "shares_over_time level": (lambda value: shares_over_time([True, False], confidence_level=value), INSIDE),
    "count_tokens characters": (lambda value: count_tokens(outcomes(), [], characters_per_token=value), (*MONEY, 0)),
    "count_tokens assumed": (lambda value: count_tokens(outcomes(), ["strong"], value), (*MONEY, 0)),
    "PairCostCurve router": (lambda value: PairCostCurve(curve(), costs().strong, costs().weak, value), MONEY),
    "PairCostCurve.points": (lambda value: costs().points(value), (*COUNT, 1)),
    "route_many cost_weight": (lambda value: route_many(expected(), dict.fromkeys(log().models, 1.0), value), LESS),
    "route_many price": (lambda value: route_many(expected(), dict.fromkeys(log().models, value), 0), (*MONEY, 0)),
    "CostQualityCurve most": (
        lambda value: CostQualityCurve.from_scores(log(), expected(), most=value),
        (*COUNT, 1),
    ),
    "CostQualityCurve.cost_weight_at": (lambda value: CostQualityCurve.oracle(log()).cost_weight_at(value), LESS),
    "at_budget": (lambda value: at_budget({"a": CostQualityCurve.oracle(log())}, value), MONEY),
    "panel_usage cost_weight": (lambda value: panel_usage(log(), expected(), value), LESS),
    "panel_usage minimum": (lambda value: panel_usage(log(), expected(), 0, minimum=value), COUNT),
    "panel_usage level": (lambda value: panel_usage(log(), expected(), 0, confidence_level=value), INSIDE),
    "Cascade budget": (lambda value: Cascade(budget=value).fit(log()), (*LESS, 0)),
    "Cascade max_length": (lambda value: Cascade(budget=1.0, max_length=value).fit(log()), COUNT),
    "AutoMix cost_weight": (lambda value: AutoMix("m0", "m2", ["m1"], value).fit(log()), MONEY),
    "hybrid_labels t": (lambda value: hybrid_labels(np.array([0.5, -0.5]), t=value), MONEY),
    "sample_panels n": (lambda value: sample_panels(log(), [1], value), COUNT),
    "sample_panels sizes": (lambda value: sample_panels(log(), [value], 2), (*COUNT, 9)),
    "mixed_at": (lambda value: mixed_at(played(), value), LESS),
}


def refused(function, value):
    """Whether a value is refused by an error of the package; any other error goes on."""
    try:
        function(value)
    except RoutellmLabError:
        return True
    return False


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_number_that_cannot_be_used_is_refused(name):
    function, outside = PARAMETERS[name]
    assert [value for value in (*NEVER, *outside) if not refused(function, value)] == []


SHARES = {
    "curve.quality": lambda shares: curve().quality(shares),
    "curve.pgr": lambda shares: curve().pgr(shares),
    "curve.random_band": lambda shares: curve().random_band(shares=shares),
    "PairCostCurve.dollars": lambda shares: costs().dollars(shares),
}


@pytest.mark.parametrize("name", SHARES)
def test_shares_of_strong_calls_are_numbers_from_0_to_1(name):
    for shares in (-0.1, 50, math.nan, [0.5, 1.2], [0.5, math.nan], "half", [None], object()):
        with pytest.raises(ParameterError, match="share of strong calls must be"):
            SHARES[name](shares)
    assert np.size(SHARES[name]([])) == 0


WIN_RATES = {
    "decide": lambda rates: policy().decide(rates),
    "OnlineThreshold.decide": lambda rates: OnlineThreshold(PAIR, 0.5).decide(rates),
    "OnlineThreshold.seed": lambda rates: OnlineThreshold(PAIR, 0.5).seed(rates),
    "for_share": lambda rates: ThresholdPolicy.for_share(rates, 0.5, PAIR),
    "RoutingCurve": lambda rates: RoutingCurve(rates, [1, 1, 0], [0, 1, 1], ["x", "y", "z"], PAIR),
    "holm": holm,
}


@pytest.mark.parametrize("name", WIN_RATES)
def test_win_rates_and_p_values_are_numbers_from_0_to_1(name):
    bad = ([0.1, math.nan, 0.3], [0.1, math.inf, 0.3], [0.1, -0.1, 0.3], [10, 50, 80], ["a", "b", "c"], 0.5, None)
    tables = ([[0.1], [0.2], [0.3]], pd.DataFrame({"win_rate": [0.1, 0.2, 0.3]}))
    assert [rates for rates in (*bad, *tables, object()) if not refused(WIN_RATES[name], rates)] == []


def test_the_checks_take_the_numbers_of_numpy_and_fill_their_messages():
    for value in (3, np.int8(3), np.float32(3)):
        require_number("n", value, 0, 5)
    require_number("budget", math.inf, 0, math.inf)
    assert require_numbers("sizes", np.arange(1, 4), 1, whole=True) == require_numbers("sizes", range(1, 4), 1)
    require_threshold("threshold", np.float64(0.5))
    for call, message in (
        (lambda: require_number("n", math.inf, 0), "n must be a number from 0, got inf"),
        (lambda: require_number("n", -math.inf), "n must be a number, got -inf"),
        (lambda: require_number("n", np.array(3), 0), "n must be a number from 0"),
        (lambda: require_numbers("sizes", [1, 0], 1, whole=True), "sizes must be a list of whole numbers from 1, got"),
        (lambda: require_numbers("sizes", np.array(3)), "sizes must be a list of numbers, got"),
        (lambda: require_threshold("cut", 12.5), "cut must be a number from 0 to 1.*12.5 % is 0.125"),
    ):
        with pytest.raises(ParameterError, match=message):
            call()


HUGE = 10**400


@pytest.mark.parametrize("value", [HUGE, 1e308, np.float32("inf"), 1 - 2**-53])
def test_a_number_that_a_float_cannot_work_with_is_refused_inside_a_range(value):
    with pytest.raises(ParameterError, match="level must be a number between 0 and 1"):
        require_number("level", value, 0, 1, inside=True)
    if value > 1:
        with pytest.raises(ParameterError, match="price must be a number above 0"):
            require_number("price", value, 0, inside=True)


@pytest.mark.parametrize(
    "values", [[1j], [HUGE], [[1], [1, 2]], ["x"], np.array(["2024"], "datetime64[D]"), [object()]]
)
def test_what_is_no_array_of_numbers_is_refused(values):
    with pytest.raises(DataError, match="scores: not numbers"):
        float_array(values, "scores")


@pytest.mark.parametrize("values", ["apgr", None, 3, [3], [None], b"apgr"])
def test_what_is_no_list_of_names_is_refused(values):
    with pytest.raises(ParameterError, match="names must be a list of names"):
        require_names("names", values)


@pytest.mark.parametrize("pair", [None, "gpt-4", 3, ("a", "b")])
def test_what_is_no_pair_is_refused(pair):
    with pytest.raises(ParameterError, match="pair must be a ModelPair"):
        require_pair(pair)
    with pytest.raises(ParameterError, match="pair must be a ModelPair"):
        OnlineThreshold(pair, 0.5)
