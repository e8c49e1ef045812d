"""Promises of thresholds: kept as often as they say on planted traffic, and refused where labels are too few."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_cost import PAIR, curve_of

from routellm_lab import RoutingCurve
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.policies import (
    guarantee_missed,
    guarantee_pgr,
    labels_needed,
    promise_table,
    share_interval,
    verify_guarantee,
)


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


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("missed", {"alpha": 0.08, "of": "weak"}),
        ("missed", {"alpha": 0.08, "of": "weak", "procedure": "bonferroni"}),
        ("missed", {"alpha": 0.04, "of": "all"}),
        ("pgr", {"pgr": 0.7}),
    ],
)
def test_promises_are_broken_no_more_often_than_said(kind, options):
    rule = {"missed": guarantee_missed, "pgr": guarantee_pgr}[kind]
    found = verify_guarantee(world(), lambda labelled: rule(labelled, delta=0.1, **options), 600, n_draws=400)
    low, _ = share_interval(int(found["broken"].sum()), len(found))
    assert low <= 0.1
    assert found["weak_share"].mean() > 0.1  # it does save calls


def test_held_out_questions_are_the_rest():
    found = verify_guarantee(
        drawn(300, 1), lambda labelled: guarantee_missed(labelled, 0.2, of="all"), 200, n_draws=20, held_out=True
    )
    assert len(found) == 20
    with pytest.raises(ParameterError, match="from 2 to 299"):
        verify_guarantee(drawn(300, 1), lambda labelled: guarantee_pgr(labelled, 0.5), 300, held_out=True)


def test_the_same_seed_draws_the_same():
    def rule(labelled):
        return guarantee_missed(labelled, 0.1)

    first, second = (verify_guarantee(drawn(1000, 1), rule, 200, n_draws=10, random_state=3) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 500), alpha=st.floats(0.03, 0.5), of=st.sampled_from(["weak", "all"]))
def test_bound_and_estimate_are_those_at_the_threshold(seed, alpha, of):
    curve = drawn(800, seed)
    found = guarantee_missed(curve, alpha, of=of)
    if found.abstains:
        assert found.weak_share == 0
        return
    weak = curve.win_rate < found.threshold
    misses = int((weak & (curve.strong_scores > curve.weak_scores)).sum())
    size = len(curve) if of == "all" else int(weak.sum())
    assert found.weak_share == pytest.approx(weak.mean())
    assert found.estimate == pytest.approx(misses / size)
    assert found.estimate <= found.bound <= alpha + 1e-9
    level = 0.1 / (4 if of == "weak" else 1)
    assert found.bound == pytest.approx(stats.binomtest(misses, size).proportion_ci(1 - 2 * level).high)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 500), pgr=st.floats(0.1, 0.95))
def test_the_bound_on_pgr_passes_where_the_test_does(seed, pgr):
    curve = drawn(500, seed)
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
    assert found.bound == pytest.approx(np.quantile(resampled, 0.1), abs=0.01)


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


def test_too_few_labels_say_how_many_are_needed():
    needed = labels_needed(0.05, 0.1)
    assert needed == math.ceil(math.log(0.1 / 4) / math.log(0.95))
    with pytest.raises(DataError, match=f"20 labelled questions are too few.*it takes {needed} sent to the weak model"):
        guarantee_missed(drawn(20, 0), 0.05)
    with pytest.raises(DataError, match="20 labelled questions are too few for a bound on PGR"):
        guarantee_pgr(drawn(20, 0), 0.5)


@pytest.mark.parametrize("missed", [0.0, 0.05])
def test_labels_needed_pass_as_often_as_they_say(missed):
    n = labels_needed(0.1, 0.1, missed=missed, power=0.8, of="all")
    allowed = max((k for k in range(n + 1) if stats.binom.cdf(k, n, 0.1) <= 0.1), default=-1)
    assert stats.binom.cdf(allowed, n, missed) >= 0.8
    if missed == 0:
        assert stats.binom.cdf(0, n - 1, 0.1) > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda curve: guarantee_missed(curve, 0.0), "alpha must be a number between 0 and 1"),
        (lambda curve: guarantee_missed(curve, 0.1, delta=1.5), "delta must be a number between 0 and 1"),
        (lambda curve: guarantee_missed(curve, 0.1, of="some"), "of must be 'weak' or 'all'"),
        (lambda curve: guarantee_pgr(curve, 1.0), "pgr must be a number between 0 and 1"),
        (lambda curve: labels_needed(0.1, missed=0.2), "missed must be a share below alpha"),
    ],
)
def test_options_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call(curve_of(np.random.default_rng(0)))


def test_the_table_of_promises_sums_up_the_draws():
    def rule(labelled):
        return guarantee_missed(labelled, 0.1, of="all")

    table = promise_table({"one": drawn(1000, 1)}, {"a promise": rule}, (100, 300, 5000), n_draws=30)
    assert table["labels"].tolist() == [100, 300]
    found = verify_guarantee(drawn(1000, 1), rule, 300, 30)
    row = table.iloc[1]
    assert row["broken"] == found["broken"].mean()
    assert row["weak_share"] == pytest.approx(found["weak_share"].mean())
    assert row["weak_low"] <= row["weak_share"] <= row["weak_high"]
