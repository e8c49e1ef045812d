"""Coverage, level and broken promises in simulated worlds of known truth: few draws here, many in the slow tier."""

from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

from routellm_lab import Outcomes, RoutingCurve
from routellm_lab.errors import DataError, FewQuestionsWarning
from routellm_lab.evaluation import Bootstrap, PairCostCurve, rank_correlation
from routellm_lab.evaluation.influence import apgr_interval
from routellm_lab.judging import agreement
from routellm_lab.policies import guarantee_pgr
from routellm_lab.preferences import fit_difficulty
from routellm_lab.preferences.battles import WINNERS
from routellm_lab.preferences.models import ModelPair

PAIR = ModelPair(strong="large", weak="small")


def draws(few, many):
    """Numbers of draws: a few in every run, many in the slow tier."""
    return pytest.mark.parametrize("n_draws", [few, pytest.param(many, marks=pytest.mark.slow)])


def at_least(hits, n_draws, rate):
    """Whether this number of hits is compatible with a rate of at least this (one-sided, .1 %)."""
    return hits >= stats.binom.ppf(0.001, n_draws, rate)


def at_most(hits, n_draws, rate):
    return hits <= stats.binom.isf(0.001, n_draws, rate)


def curve_of(win_rate, gap, keys=None):
    """The curve of win rates and of the differences of scores."""
    ids = pd.RangeIndex(len(gap))
    return RoutingCurve(win_rate, np.maximum(gap, 0), np.maximum(-gap, 0), ids, PAIR, keys=keys)


def judged(n, rng):
    """Differences of a judge's scores: often none, seldom large."""
    kind, large = rng.random(n), np.minimum(np.ceil(2 * rng.exponential(2.6, n)) / 2, 9)
    small = np.where(kind < 0.5, -0.5 * rng.integers(1, 3, n), 0.5)
    return np.where(kind < 0.4, 0.0, np.where(kind < 0.72, small, large))


def graded(wins, losses):
    """Differences of right or wrong, as a function of n and a generator."""

    def gaps(n, rng):
        luck = rng.random(n)
        return np.where(luck < wins, 1.0, np.where(luck < wins + losses, -1.0, 0.0))

    return gaps


def ranked(gap, skill, rng):
    """Win rates that know the gap up to noise."""
    return expit(skill * gap + rng.standard_normal(len(gap)))


def true_apgr(gaps, skill, n=1_000_000):
    rng = np.random.default_rng(0)
    gap = gaps(n, rng)
    order = np.argsort(ranked(gap, skill, rng))
    return float((gap[order] * (np.arange(n) + 0.5)).sum() / n / gap.sum())


@draws(50, 3000)
@pytest.mark.parametrize(("skill", "apgr", "wanted"), [(0.0, 0.5, 0.95), (0.5, 0.82, 0.93), (0.95, 0.88, 0.92)])
def test_intervals_of_apgr_cover_on_few_judged_questions(n_draws, skill, apgr, wanted):
    truth, rng, hits, refused = true_apgr(judged, skill), np.random.default_rng(1), 0, 0
    assert truth == pytest.approx(apgr, abs=0.01)
    for _ in range(n_draws):
        gap = judged(72, rng)
        try:
            low, high = apgr_interval(curve_of(ranked(gap, skill, rng), gap))
        except DataError:
            refused += 1
            continue
        hits += low <= truth <= high
    assert at_least(hits, n_draws - refused, wanted)
    assert at_most(refused, n_draws, 0.002)


@draws(30, 1000)
@pytest.mark.parametrize("wins", [0.005, 0.01, 0.03])
def test_where_few_questions_carry_the_gap_the_interval_warns(n_draws, wins):
    """Percentiles cover 7 in 10 here or fewer, Fieller's interval hardly more of those shown; it is often refused."""
    rng, shown = np.random.default_rng(8), 0
    for _ in range(n_draws):
        gap = graded(0.8 * wins, 0.2 * wins)(300, rng)
        if gap.sum() <= 0:
            continue
        curve = curve_of(ranked(gap, 1.5, rng), gap)
        with suppress(DataError):
            apgr_interval(curve)
            with pytest.warns(FewQuestionsWarning, match="of 300 questions carry the performance gap"):
                shown += np.isfinite(curve.interval()).all()
    assert shown < 0.6 * n_draws


@draws(50, 3000)
def test_an_interval_with_refits_covers_a_deployed_fit(n_draws):
    """Refits move the skill of the router: the interval of another fit has to cover them too."""
    rng, hits, skills = np.random.default_rng(2), 0, (0.2, 1.2)
    truths = {skill: true_apgr(graded(0.3, 0.1), skill, 300_000) for skill in skills}
    apart = (truths[skills[1]] - truths[skills[0]]) / 2
    for _ in range(n_draws):
        mine, other = rng.choice(skills, 2)
        gap = graded(0.3, 0.1)(300, rng)
        curve = curve_of(ranked(gap, mine, rng), gap)
        low, high = curve.interval(extra_variance=2 * apart**2)  # of the difference of two fits
        hits += low <= truths[other] <= high
    assert at_least(hits, n_draws, 0.95)


@draws(50, 2000)
@pytest.mark.parametrize("place", ["ends", "even", "middle"])
def test_random_routers_are_called_significant_as_often_as_the_level_says(n_draws, place):
    rng, rejected = np.random.default_rng(3), 0
    for _ in range(n_draws):
        rates = rng.random(200)
        far = np.abs(rates - 0.5) > 0.25
        often = {"ends": far, "even": rng.random(200) < 0.5, "middle": ~far}[place]
        luck = rng.random(200)
        gap = np.where(luck < np.where(often, 0.35, 0.10), 1.0, np.where(luck < np.where(often, 0.60, 0.10), -1.0, 0.0))
        if gap.sum() > 0:
            rejected += curve_of(rates, gap).p_value_vs_random(199, int(rng.integers(2**31))) <= 0.05
    assert at_most(rejected, n_draws, 0.05)


@pytest.mark.filterwarnings("ignore::routellm_lab.errors.RepeatedPromptsWarning")  # half of the prompts are copies
@draws(15, 300)
@pytest.mark.parametrize("n", [150, 600])
def test_copies_of_prompts_do_not_narrow_intervals_nor_make_significance(n_draws, n):
    gaps, skill = graded(0.35, 0.05), 0.5
    truth, rng, hits, rejected, covered = true_apgr(gaps, skill), np.random.default_rng(4), 0, 0, 0
    keys, bootstrap = np.repeat(np.arange(n), 2).astype(str), Bootstrap(n_resamples=200)
    prices = np.full(2 * n, 1.0), np.full(2 * n, 0.1)
    cpt = true_cpt(gaps, skill)
    for _ in range(n_draws):
        gap = gaps(n, rng)
        rates, other = np.repeat(ranked(gap, skill, rng), 2), np.repeat(rng.random(n), 2)
        curve, random = (curve_of(values, np.repeat(gap, 2), keys) for values in (rates, other))
        low, high = curve.interval(bootstrap=bootstrap)
        rejected += random.p_value_vs_random(99, int(rng.integers(2**31))) <= 0.05
        dollars = PairCostCurve(curve, *prices).intervals(["dollars50"], bootstrap).loc["dollars50"]
        hits += low <= truth <= high
        covered += dollars["low"] <= 1000 * (0.1 + 0.9 * cpt) <= dollars["high"]
    assert at_least(hits, n_draws, 0.93)
    assert at_least(covered, n_draws, 0.92)
    assert at_most(rejected, n_draws, 0.05)


def true_cpt(gaps, skill, n=1_000_000):
    rng = np.random.default_rng(0)
    gap = gaps(n, rng)
    return curve_of(ranked(gap, skill, rng), gap).cpt(0.5)


def heavy(at_bottom):
    """1 of 200 questions loses 9 points: among the tenth that goes to the weak model first, or anywhere."""

    def world(n, rng):
        rates = rng.random(n)
        worst = (rates < 0.1) & (rng.random(n) < 0.05) if at_bottom else rng.random(n) < 0.01
        return rates, np.where(worst, 9.0, rng.random(n) < 0.4 * rates)

    return world


def judged_router(n, rng):
    gap = judged(n, rng)
    return ranked(gap, 0.5, rng), gap


def right_or_wrong(wins, losses):
    def world(n, rng):
        gap = graded(wins, losses)(n, rng)
        return ranked(gap, 0.7, rng), gap

    return world


PROMISES = {
    "heavy losses at the bottom": (heavy(True), 300, 0.9, 9.0),
    "heavy losses at the bottom, more labels": (heavy(True), 3000, 0.8, 9.0),
    "heavy losses anywhere": (heavy(False), 300, 0.9, 9.0),
    "judged": (judged_router, 1000, 0.7, 9.0),
    "like MMLU": (right_or_wrong(0.18, 0.05), 1000, 0.8, None),
    "like GSM8K": (right_or_wrong(0.29, 0.07), 600, 0.8, None),
}


@draws(30, 1500)
@pytest.mark.parametrize("name", PROMISES)
def test_promises_on_the_gap_are_broken_no_more_often_than_said(n_draws, name):
    world, n, pgr, bound = PROMISES[name]
    rates, gap = world(300_000, np.random.default_rng(0))
    order = np.argsort(-rates)
    falling, recovered = -rates[order], np.append(0, np.cumsum(gap[order])) / gap.sum()
    rng, broken, weak = np.random.default_rng(5), 0, []
    for _ in range(n_draws):
        rates, gap = world(n, rng)
        try:
            promise = guarantee_pgr(curve_of(rates, gap), pgr, bound=bound)
        except DataError:
            continue
        if not promise.abstains:
            broken += recovered[np.searchsorted(falling, -promise.threshold, side="right")] < pgr
        weak.append(promise.weak_share)
    assert at_most(broken, n_draws, 0.1)
    if bound is None:  # on right or wrong answers it costs little: the normal test, of no validity, sends .05 more
        assert np.mean(weak) > 0.4


@draws(50, 2000)
@pytest.mark.parametrize("votes", [1, 3])
@pytest.mark.parametrize("agrees", [0.94, 0.5])
def test_intervals_of_agreement_cover_near_one(n_draws, votes, agrees):
    rng, hits, carried = np.random.default_rng(6), 0, 0
    for _ in range(n_draws):
        prompts = np.repeat(np.arange(20), votes).astype(str)
        same = np.repeat(rng.random(20) < agrees, votes)
        first = np.array(WINNERS[:2])[rng.integers(2, size=20 * votes)]
        other = np.where(first == "model_a", "model_b", "model_a")
        votes_of_both = pd.DataFrame({"prompt_key": prompts, "first": first, "second": np.where(same, first, other)})
        found = agreement(votes_of_both, Bootstrap(n_resamples=50))
        hits += found.low <= agrees <= found.high
        carried += not found.kappa_low <= 2 * agrees - 1 <= found.kappa_high
    assert at_least(hits, n_draws, 0.95 if votes == 1 else 0.93)
    if agrees > 0.9:
        assert at_most(carried, n_draws, 0.07)


@draws(100, 4000)
@pytest.mark.parametrize("n", [6, 12, 25])
@pytest.mark.parametrize("strength", [0.0, 0.8])
def test_intervals_of_a_rank_correlation_cover_with_few_points(n_draws, n, strength):
    truth = 6 / np.pi * np.arcsin(strength / 2)  # Spearman's of two normal variables
    rng, hits = np.random.default_rng(7), 0
    for _ in range(n_draws):
        x, noise = rng.standard_normal((2, n))
        found = rank_correlation(x, strength * x + np.sqrt(1 - strength**2) * noise, Bootstrap(n_resamples=1))
        hits += found.low <= truth <= found.high
    assert at_least(hits, n_draws, 0.95)


@draws(5, 60)
@pytest.mark.parametrize("n_models", [3, 4, 5, 8, 10])
def test_the_difficulty_from_few_models_is_not_worse_than_the_share_that_is_wrong(n_draws, n_models):
    gains = []
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        difficulty, ability = rng.normal(size=400), rng.normal(size=n_models)
        slope = np.exp(rng.normal(0.3, 0.5, n_models))
        right = pd.DataFrame(rng.random((400, n_models)) < expit(slope * (ability - difficulty[:, None]))).astype(float)
        text = pd.Series([f"question {row}" for row in range(400)])
        found = fit_difficulty(Outcomes("exam", text, right, groups=text, keys=text)).difficulty
        plain = 1 - right.mean(axis=1)
        gains.append(np.corrcoef(found, difficulty)[0, 1] - np.corrcoef(plain, difficulty)[0, 1])
    assert np.mean(gains) > 0
    assert min(gains) > -0.08
