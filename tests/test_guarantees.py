"""Promises of thresholds: kept as often as they say on planted traffic, and refused where labels are too few."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_cost import PAIR, curve_of

from routellm_lab import RoutingCurve
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import share_interval
from routellm_lab.evaluation.guarantees import guarantee_table, verify_guarantee
from routellm_lab.evaluation.required_labels import required_labels, required_labels_pgr, required_labels_table
from routellm_lab.policies import guarantee_missed, guarantee_pgr
from routellm_lab.policies.betting import Wealth, largest_gap


def world(n: int = 20_000, seed: int = 0) -> RoutingCurve:
    """Traffic on which the share missed grows with the win rate."""
    rng = np.random.default_rng(seed)
    rates = rng.random(n)
    missed = rng.random(n) < 0.5 * rates**2
    other = rng.random(n) < 0.05
    strong = np.where(other & ~missed, 0.0, 1.0)
    weak = np.where(missed, 0.0, 1.0)
    return RoutingCurve(rates, strong, weak, pd.RangeIndex(n), PAIR)


def drawn(n: int, seed: int) -> RoutingCurve:
    return world(n, seed)


def flat(share: float, n: int = 20_000) -> RoutingCurve:
    """Traffic on which the share missed is the same at every threshold."""
    rng = np.random.default_rng(0)
    return RoutingCurve(rng.random(n), np.ones(n), rng.random(n) >= share, pd.RangeIndex(n), PAIR)


def hovering(pgr: float, n: int = 20_000) -> RoutingCurve:
    """Traffic on which a share of the gap is recovered at all thresholds between 90 and 20 % strong calls."""
    rng = np.random.default_rng(0)
    rates = rng.random(n)
    lost, noise = rng.random(n) < 1.8 * (1 - pgr), rng.integers(4, size=n)
    gap = np.where(
        rates < 0.1, lost, np.where(rates > 0.8, rng.random(n) < 0.9 * pgr, (noise == 0) - 1.0 * (noise == 1))
    )
    return RoutingCurve(rates, gap > 0, gap < 0, pd.RangeIndex(n), PAIR)


def unranked(n: int = 20_000) -> RoutingCurve:
    """Traffic on which the win rate says nothing: any lost question may be the first that is sent to the weak model."""
    rng = np.random.default_rng(0)
    luck = rng.random(n)
    return RoutingCurve(rng.random(n), luck < 0.18, luck > 0.95, pd.RangeIndex(n), PAIR)


WORLDS = {
    "missed of weak": (world(), guarantee_missed, {"alpha": 0.08}, 600),
    "missed of weak, bonferroni": (world(), guarantee_missed, {"alpha": 0.08, "procedure": "bonferroni"}, 600),
    "missed of all": (world(), guarantee_missed, {"alpha": 0.04, "of": "all"}, 600),
    "pgr": (world(), guarantee_pgr, {"pgr": 0.7}, 600),
    "pgr, demanding": (world(), guarantee_pgr, {"pgr": 0.95}, 1000),
    # no threshold keeps these promises, or hardly a draw of the labels can tell
    "just above alpha": (flat(0.11), guarantee_missed, {"alpha": 0.1}, 600),
    "just above alpha, bonferroni": (flat(0.11), guarantee_missed, {"alpha": 0.1, "procedure": "bonferroni"}, 600),
    "just below pgr": (hovering(0.78), guarantee_pgr, {"pgr": 0.8}, 600),
    "pgr, few labels": (unranked(), guarantee_pgr, {"pgr": 0.95}, 100),
    "pgr, fewer labels": (unranked(), guarantee_pgr, {"pgr": 0.9}, 40),
    "pgr, few for it": (unranked(), guarantee_pgr, {"pgr": 0.98}, 300),
    "pgr, just enough": (unranked(), guarantee_pgr, {"pgr": 0.95}, 450),
}


@pytest.mark.parametrize("name", WORLDS)
def test_promises_are_broken_no_more_often_than_said(name):
    traffic, rule, options, n = WORLDS[name]
    found = verify_guarantee(traffic, lambda labelled: rule(labelled, delta=0.1, **options), n, n_draws=400)
    low, _ = share_interval(int(found["broken"].sum()), len(found))
    assert low <= 0.1
    if n >= 600 and not name.startswith("just"):
        assert found["weak_share"].mean() > (0.02 if "demanding" in name else 0.1)  # it does save calls


def test_tests_stop_at_the_first_failure():
    n = 1000
    rates, ids = (np.arange(n) + 0.5) / n, pd.RangeIndex(n)
    missed = np.zeros(n, bool)
    missed[:260:10] = missed[400:500:2] = missed[500::8] = True
    curve = RoutingCurve(rates, np.ones(n), ~missed, ids, PAIR)
    assert stats.binom.cdf(missed[:400].sum(), 400, 0.1) < 0.1 / 4  # 40 % passes by itself, but at no start
    assert guarantee_missed(curve, 0.1).abstains
    gap = np.where(rates < 0.02, 1, np.where(rates < 0.12, -1, np.arange(n) % 2))
    curve = RoutingCurve(rates, gap > 0, gap < 0, ids, PAIR)
    assert curve.pgr(0.88) > 1.2  # but the first step down from "always strong" loses too much
    assert curve.pgr(0.99) < 0.98
    assert guarantee_pgr(curve, 0.98).weak_share < 0.02


def test_no_pgr_is_promised_where_the_strong_model_is_not_significantly_better():
    rates = (np.arange(200) + 0.5) / 200
    gap = np.where(rates > 0.5, np.arange(200) % 5 > 1, -1.0 * (np.arange(200) % 5 > 1))
    gap[2] = 0  # 60 wins of the strong model, 59 of the weak one
    curve = RoutingCurve(rates, gap > 0, gap < 0, pd.RangeIndex(200), PAIR)
    assert curve.pgr(0.5) > 2
    assert guarantee_pgr(curve, 0.5).abstains


@pytest.mark.parametrize("copies", [False, True])
def test_held_out_promises_are_checked_on_the_rest_without_copies_of_the_labelled(copies):
    curve, seen = drawn(300, 1), []
    groups = pd.Series(np.arange(300) % 200, index=curve.prompt_ids)

    def rule(labelled):
        seen.append(labelled)
        return guarantee_missed(labelled, 0.2, of="all")

    found = verify_guarantee(curve, rule, 100, n_draws=20, held_out=True, groups=groups if copies else None)
    assert len(found) == len(seen) == 20
    missed = curve.strong_scores > curve.weak_scores
    for row, labelled in zip(found.to_dict("records"), seen, strict=True):
        assert labelled.prompt_ids.is_unique
        rest = ~curve.prompt_ids.isin(labelled.prompt_ids)
        if copies:
            rest = ~groups.isin(groups[labelled.prompt_ids]).to_numpy()
        assert row["realised"] == pytest.approx((missed & (curve.win_rate < row["threshold"]))[rest].mean())
    with pytest.raises(ParameterError, match="n_labels must be a whole number from 2 to 299"):
        verify_guarantee(curve, rule, 300, held_out=True)
    with pytest.raises(DataError, match="100 labelled questions leave no group to check on"):
        verify_guarantee(curve, rule, 100, held_out=True, groups=groups * 0)


def test_the_same_seed_draws_the_same():
    def rule(labelled):
        return guarantee_missed(labelled, 0.1)

    first, second = (verify_guarantee(drawn(1000, 1), rule, 200, n_draws=10, random_state=3) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 500),
    alpha=st.floats(0.03, 0.5),
    kind=st.sampled_from([("weak", "sequence", 4), ("weak", "bonferroni", 100), ("all", "sequence", 1)]),
)
def test_bound_and_estimate_are_those_at_the_threshold(seed, alpha, kind):
    of, procedure, tests = kind
    curve = drawn(800, seed)
    found = guarantee_missed(curve, alpha, of=of, procedure=procedure)
    assert found.exact == (of == "all" or procedure == "bonferroni")
    assert ("with probability about 90%" in str(found)) != found.exact
    if found.abstains:
        assert found.weak_share == 0
        return
    weak = curve.win_rate < found.threshold
    misses = int((weak & (curve.strong_scores > curve.weak_scores)).sum())
    size = len(curve) if of == "all" else int(weak.sum())
    assert found.weak_share == pytest.approx(weak.mean())
    assert found.estimate == pytest.approx(misses / size)
    assert found.estimate <= found.bound <= alpha + 1e-9
    assert found.bound == pytest.approx(stats.binomtest(misses, size).proportion_ci(1 - 2 * 0.1 / tests).high)


@settings(max_examples=30)
@given(seed=st.integers(0, 500), pgr=st.floats(0.1, 0.95))
def test_the_bound_on_pgr_passes_where_the_test_does(seed, pgr):
    curve = drawn(1500, seed)
    found = guarantee_pgr(curve, pgr)
    if not found.abstains:
        assert pgr - 1e-9 <= found.bound <= found.estimate
        called = curve.win_rate >= found.threshold
        gap = curve.strong_scores - curve.weak_scores
        assert found.estimate == pytest.approx(gap[called].sum() / gap.sum())


def test_the_bound_on_pgr_is_near_the_bootstrap():
    curve = drawn(2000, 5)
    found = guarantee_pgr(curve, 0.6, delta=0.1)
    rng = np.random.default_rng(0)
    called, gap = curve.win_rate >= found.threshold, curve.strong_scores - curve.weak_scores
    draws = rng.integers(2000, size=(4000, 2000))
    resampled = (gap * called)[draws].sum(axis=1) / gap[draws].sum(axis=1)
    # a test that is valid for any scores costs a little: not far below, and not above but for noise
    assert np.quantile(resampled, 0.1) - 0.025 < found.bound < np.quantile(resampled, 0.1) + 0.005
    assert found.exact


def test_more_labels_save_more_calls():
    def saved(n):
        return verify_guarantee(world(), lambda labelled: guarantee_missed(labelled, 0.08), n, n_draws=100)[
            "weak_share"
        ]

    assert saved(200).mean() < saved(1000).mean() < saved(5000).mean()


def test_a_router_that_misses_nothing_may_send_everything_to_the_weak_model():
    n = 500
    rates = np.random.default_rng(0).random(n)
    curve = RoutingCurve(rates, np.ones(n), np.ones(n), pd.RangeIndex(n), PAIR)
    for of in ("weak", "all"):
        found = guarantee_missed(curve, 0.05, of=of)
        assert found.threshold == math.inf
        assert found.weak_share == 1


def test_no_threshold_qualifies_where_everything_is_missed():
    n = 500
    rates = np.random.default_rng(0).random(n)
    curve = RoutingCurve(rates, np.ones(n), np.zeros(n), pd.RangeIndex(n), PAIR)
    found = guarantee_missed(curve, 0.1)
    assert found.abstains
    assert str(found).startswith("No threshold qualifies on 500 labelled questions for the promise that at most 10.0%")
    same = RoutingCurve(rates, np.ones(n), np.ones(n), pd.RangeIndex(n), PAIR)
    assert guarantee_pgr(same, 0.5).abstains  # there is no gap to recover


def lossless(wins, lost, n=1000):
    """The weak model never wins; of the questions that the strong one wins the given number is ranked lowest."""
    gap = np.zeros(n)
    gap[:lost] = 1
    gap[n - (wins - lost) :] = 1
    return RoutingCurve((np.arange(n) + 0.5) / n, gap, np.zeros(n), pd.RangeIndex(n), PAIR)


@pytest.mark.parametrize("wins", [60, 100, 200])
def test_a_promise_on_pgr_needs_fewer_losses_than_it_allows(wins):
    pgr = 0.9
    allowed = round((1 - pgr) * wins)
    assert guarantee_pgr(lossless(wins, 0), pgr).weak_share > 0.5
    assert guarantee_pgr(lossless(wins, 2 * allowed), pgr).weak_share < 0.03
    # about as many as pass an exact test of a binomial; the order in which the questions come decides over the last
    exact = int(stats.binom.ppf(0.1, wins, 1 - pgr)) - 1
    most = max(lost for lost in range(allowed + 1) if guarantee_pgr(lossless(wins, lost), pgr).weak_share > 0.5)
    assert abs(most - exact) <= 3


@settings(max_examples=15)
@given(seed=st.integers(0, 200), x=st.floats(0.1, 0.95))
def test_the_wealth_is_that_of_a_plain_gambler(seed, x):
    rng = np.random.default_rng(seed)
    gaps = rng.choice([-9.0, -0.5, 0, 0, 0, 2, 4.5], 60)
    wealth = Wealth(np.linspace(1, 0, 60), gaps, 9.0, 0.1)
    order = np.random.default_rng(wealth.random_state).permutation(60)
    for calls in (0, 20, 60):
        money = most = squares = 1.0
        total = 0.0
        for turn in range(60):
            question = int(np.flatnonzero(order == turn)[0])
            z = gaps[question] * ((question < calls) - x) / (9 * max(x, 1 - x))
            bet = min(math.sqrt(2 * math.log(10) / (60 * squares / (turn + 1))), 0.75)
            assert -1 <= z <= 1
            money, squares, total = money * (1 + bet * z), squares + z**2, total + z
            most = max(most, money)
        assert wealth.passes(x, np.array([calls])).tolist() == [most >= 10 and total >= 0]


def test_a_promise_on_pgr_knows_the_scale_of_the_scores():
    rng = np.random.default_rng(0)
    rates, gap = rng.random(600), rng.choice([0.0, 9.0], 600)
    bare = RoutingCurve(rates, 1 + gap, np.ones(600), pd.RangeIndex(600), PAIR)
    with pytest.raises(ParameterError, match=r"scores from 1 to 10, and no range of them is known.*pass bound="):
        guarantee_pgr(bare, 0.5)
    judged = replace(bare, score_unit="judge score, 1-10")
    assert guarantee_pgr(judged, 0.5) == guarantee_pgr(bare, 0.5, bound=9)
    for unit, bound in (("score from 0 to 2.5", 2.5), ("rating (1-5)", 4), ("judge score, 1-10", 9)):
        assert largest_gap(replace(bare, strong_scores=np.ones(600), score_unit=unit), None) == bound
    with pytest.raises(ParameterError, match="no range of them is known"):
        largest_gap(replace(bare, score_unit="preferred to gpt-4-1106"), None)
    right = RoutingCurve(rates, gap / 9, np.zeros(600), pd.RangeIndex(600), PAIR)
    assert guarantee_pgr(right, 0.5) == guarantee_pgr(right, 0.5, bound=1)
    assert guarantee_pgr(right, 0.5, bound=50).weak_share < guarantee_pgr(right, 0.5).weak_share
    with pytest.raises(ParameterError, match="scores from 0 to 1, and no range of them is known"):
        guarantee_pgr(replace(right, score_unit="mean score"), 0.5)  # others of this scale may be larger
    with pytest.raises(DataError, match="the scores of prompt 0 differ by 9, more than the bound of 5"):
        guarantee_pgr(replace(bare, strong_scores=np.full(600, 10.0)), 0.5, bound=5)
    with pytest.raises(ParameterError, match="bound must be a number above 0"):
        guarantee_pgr(right, 0.5, bound=0)


@settings(max_examples=10)
@given(seed=st.integers(0, 100))
def test_the_order_of_the_questions_changes_no_promise(seed):
    curve = drawn(400, seed)
    assert guarantee_pgr(curve, 0.5) == guarantee_pgr(curve.take(np.random.default_rng(seed).permutation(400)), 0.5)


def test_too_few_labels_say_how_many_are_needed():
    needed = required_labels(0.05, 0.1)
    assert needed == math.ceil(math.log(0.1 / 4) / math.log(0.95))
    few = drawn(20, 0)
    with pytest.raises(
        DataError,
        match=f"20 labelled questions are too few .* of those sent to the weak model are missed .*{needed} labelled "
        "questions sent to the weak model$",
    ):
        guarantee_missed(few, 0.05)
    with pytest.raises(DataError, match=r"at most 5.0% of all questions are missed .* it takes 45 labelled questions$"):
        guarantee_missed(few, 0.05, of="all")
    few = RoutingCurve(few.win_rate, np.ones(20), np.arange(20) % 2, few.prompt_ids, PAIR)
    needed = required_labels_pgr(0.9, 0.5, 0.1)
    assert needed == math.ceil(math.log(0.1) / math.log(1 - 0.1 * 0.5))
    with pytest.raises(
        DataError, match=rf"20 labelled .* 90% of the performance gap \(0.5 here\).*at least {needed} labels$"
    ):
        guarantee_pgr(few, 0.9)
    tens = RoutingCurve(few.win_rate, 10 * few.strong_scores, 10 * few.weak_scores, few.prompt_ids, PAIR)
    with pytest.raises(DataError, match=rf"gap \(5 here\).*at least {needed} labels$"):
        guarantee_pgr(tens, 0.9, bound=10)


def test_labels_needed_are_those_of_the_level_of_each_test():
    assert required_labels(0.1, 0.1, of="all") == 22  # .9 ** 22 < .1
    assert required_labels(0.1, 0.1) == 36  # < .1 / 4
    assert required_labels(0.1, 0.1, procedure="bonferroni") == 66  # < .1 / 100
    assert required_labels(0.1, 0.1, missed=0.0999) > 50_000_000


@pytest.mark.parametrize("missed", [0.0, 0.02, 0.05])
def test_labels_needed_pass_as_often_as_they_say(missed):
    needed = required_labels(0.1, 0.1, missed=missed, power=0.8, of="all")
    powers = []
    for n in range(needed - 1, needed + 100):
        allowed = max((k for k in range(n + 1) if stats.binom.cdf(k, n, 0.1) <= 0.1), default=-1)
        powers.append(stats.binom.cdf(allowed, n, missed))
    assert powers[0] < 0.8 <= min(powers[1:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda curve: guarantee_missed(curve, 0.0), "alpha must be a number between 0 and 1"),
        (lambda curve: guarantee_missed(curve, 0.1, delta=1.5), "delta must be a number between 0 and 1"),
        (lambda curve: guarantee_missed(curve, 0.1, of="some"), "of must be 'weak' or 'all'"),
        (lambda curve: guarantee_table({"one": curve}, {}, (), groups={"two": None}), "groups has no option two"),
        (lambda curve: guarantee_pgr(curve, 1.0), "pgr must be a number between 0 and 1"),
        (lambda curve: required_labels(0.1, missed=0.2), "missed must be a share below alpha"),
        (lambda curve: required_labels_pgr(0.9, 0.0), "gap must be above 0"),
        (
            lambda curve: verify_guarantee(curve, guarantee_missed, 10, n_draws=0),
            "n_draws must be a whole number from 1",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call(curve_of(np.random.default_rng(0)))


def test_the_table_of_promises_sums_up_the_draws():
    def rule(labelled):
        return guarantee_missed(labelled, 0.1, of="all")

    table = guarantee_table({"one": drawn(1000, 1)}, {"a promise": rule}, (100, 300, 5000), n_draws=30)
    assert table["labels"].tolist() == [100, 300]
    found = verify_guarantee(drawn(1000, 1), rule, 300, 30)
    row = table.iloc[1]
    assert row["broken"] == found["broken"].mean()
    assert row["weak_share"] == pytest.approx(found["weak_share"].mean())
    assert row["weak_low"] <= row["weak_share"] <= row["weak_high"]


def test_labels_that_are_too_few_count_as_abstained():
    rules = {"missed": lambda c: guarantee_missed(c, 0.02, of="all"), "pgr": lambda c: guarantee_pgr(c, 0.98)}
    table = guarantee_table({"one": drawn(1000, 1)}, rules, (100,), n_draws=5)
    assert (table["abstained"] == 1).all()
    assert (table[["broken", "weak_share"]] == 0).all(axis=None)


@pytest.mark.parametrize(("alpha", "delta", "missed"), [(1e-14, 0.1, 0), (0.1, 1e-300, 0), (0.1, 0.1, 0.1 - 1e-16)])
def test_labels_that_no_number_is_enough_for_are_refused_at_once(alpha, delta, missed):
    with pytest.raises(ParameterError, match="no number of labels will do"):
        required_labels(alpha, delta, missed)


def test_the_table_of_labels_says_of_which_questions():
    table = required_labels_table((0.02, 0.1), (0.8,), {"mmlu": 0.2}, 0.1, missed_of_all=(0.05,))
    assert table["promise"].tolist() == [
        "at most 5% of all questions are missed",
        "at most 2% of those sent to weak are missed",
        "at most 10% of those sent to weak are missed",
        "at least 80% of the gap, mmlu",
    ]
    least = [
        required_labels(0.05, of="all"),
        required_labels(0.02),
        required_labels(0.1),
        required_labels_pgr(0.8, 0.2),
    ]
    assert table["least"].tolist() == least
    assert table["likely"][1] == required_labels(0.02, missed=0.01)
    assert np.isnan(table["likely"].iloc[-1])
