"""Difficulty from graded answers: planted truth recovered, and soft votes that say it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import check_grad, minimize
from scipy.special import expit, logit
from scipy.stats import norm

from routellm_lab import ModelPair, Outcomes
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import (
    Tiers,
    battles_from_difficulty,
    fit_difficulty,
    prompt_key,
    result_for_a,
    vote_weights,
)
from routellm_lab.preferences import difficulty as module
from routellm_lab.routers import RidgeRouter

PAIR = ModelPair("large", "small")
GROUPS = ("history", "law", "maths")


def simulated(n_prompts=800, n_models=25, seed=0):
    """Outcomes drawn from the two-parameter logistic model, with its abilities and difficulties."""
    rng = np.random.default_rng(seed)
    index = pd.Index([f"q{i}" for i in range(n_prompts)], name="prompt_id")
    group = rng.integers(3, size=n_prompts)
    difficulty = rng.normal(0.6 * (group - 1), 1)
    ability, discrimination = rng.normal(0, 1, n_models), np.exp(rng.normal(0.3, 0.3, n_models))
    right = rng.random((n_prompts, n_models)) < expit(discrimination * (ability - difficulty[:, None]))
    words = ["easy", "plain", "tricky", "fiendish"]
    text = [f"a {words[np.searchsorted([-1, 0, 1], b)]} question, number {i}" for i, b in enumerate(difficulty)]
    outcomes = Outcomes(
        name="exam",
        prompts=pd.Series(text, index=index, dtype="str"),
        scores=pd.DataFrame(right.astype(float), index=index, columns=[f"m{m}" for m in range(n_models)]),
        groups=pd.Series(np.array(GROUPS)[group], index=index),
        keys=pd.Series([prompt_key(line) for line in text], index=index, dtype="str"),
        details=pd.DataFrame({"overlaps_test": np.arange(n_prompts) % 5 == 0, "source_id": 1}, index=index),
    )
    return outcomes, ability, discrimination, difficulty


@pytest.fixture(scope="module")
def exam():
    return simulated()


@pytest.fixture(scope="module")
def fitted(exam):
    return fit_difficulty(exam[0])


@pytest.fixture(scope="module")
def small():
    return simulated(60, 6, seed=2)[0]


def test_planted_abilities_and_difficulties_are_recovered(exam, fitted):
    outcomes, ability, discrimination, difficulty = exam
    assert np.corrcoef(fitted.difficulty, difficulty)[0, 1] > 0.9
    assert np.corrcoef(fitted.ability, ability)[0, 1] > 0.98
    assert np.corrcoef(np.log(fitted.discrimination), np.log(discrimination))[0, 1] > 0.8
    assert fitted.difficulty.index.equals(outcomes.prompts.index)
    assert fitted.ability.index.tolist() == fitted.discrimination.index.tolist() == outcomes.models
    assert (fitted.difficulty.mean(), fitted.difficulty.std(ddof=0)) == pytest.approx((0, 1))
    assert fitted.n_scores == outcomes.scores.size


def test_the_losses_are_those_of_the_chances(exam, fitted):
    right = exam[0].scores

    def loss(chance):
        return -np.log(np.where(right == 1, chance, 1 - chance)).mean()

    assert fitted.log_loss == pytest.approx(loss(fitted.chances().to_numpy()))
    assert fitted.base_log_loss == pytest.approx(loss(np.tile(right.mean(), (len(right), 1))))
    assert fitted.log_loss < fitted.base_log_loss - 0.1
    # chances at the posterior mean of a difficulty: not quite the mean over the posterior, whose residuals sum to 0
    np.testing.assert_allclose(fitted.chances().mean(), right.mean(), atol=0.01)


def test_the_gradient_is_that_of_the_loss(small):
    rng = np.random.default_rng(0)
    known = rng.random(small.scores.shape) < 0.8
    right = np.where(known, small.scores, 0.0)
    at = rng.normal(0, 0.7, 2 * 6)
    parts = [lambda x, i=i: module._loss(x, right, known)[i] for i in (0, 1)]
    assert np.linalg.norm(parts[1](at)) > 0.1
    assert check_grad(*parts, at) < 1e-5


def test_the_marginal_likelihood_is_the_integral_over_the_difficulty(small):
    """And the posterior mean is the mean under it, by a fine sum over a grid."""
    right, values = small.scores.to_numpy(), np.random.default_rng(0).normal(0, 0.5, 12)
    known, grid = np.ones(right.shape, bool), np.linspace(-8, 8, 4001)
    chance = expit(np.exp(values[6:]) * (values[:6] - grid[:, None]))
    density = norm.pdf(grid) * (grid[1] - grid[0])
    joint = np.stack([np.where(row == 1, chance, 1 - chance).prod(axis=1) * density for row in right])
    found, weights = module._posterior(values, right, known)
    assert found == pytest.approx(np.log(joint.sum(axis=1)).sum(), abs=1e-6)
    np.testing.assert_allclose(weights @ module._NODES, joint @ grid / joint.sum(axis=1), atol=1e-6)


def test_the_fit_is_the_mode_on_another_scale(small):
    fit, right = fit_difficulty(small), small.scores.to_numpy()
    known = np.ones(right.shape, bool)

    def rescaled(scale_and_shift):
        scale, shift = scale_and_shift
        return np.concatenate([fit.ability * scale + shift, np.log(fit.discrimination / scale)])

    best = minimize(lambda x: module._loss(rescaled(x), right, known)[0], [0.5, 0.0], tol=1e-12, method="Nelder-Mead").x
    assert np.abs(module._loss(rescaled(best), right, known)[1]).max() < 1e-3
    assert np.abs(module._loss(rescaled([1, 0]), right, known)[1]).max() > 0.005
    difficulty = module._posterior(rescaled(best), right, known)[1] @ module._NODES
    np.testing.assert_allclose((difficulty - difficulty.mean()) / difficulty.std(), fit.difficulty, atol=1e-3)


def test_order_of_prompts_and_models_does_not_matter(small):
    there = fit_difficulty(small)
    rng = np.random.default_rng(1)
    turned = small.select(small.prompts.index[rng.permutation(len(small))])
    turned = replace(turned, scores=turned.scores[turned.scores.columns[::-1]])
    back = fit_difficulty(turned)
    pd.testing.assert_series_equal(back.difficulty[there.difficulty.index], there.difficulty, atol=1e-3)
    pd.testing.assert_series_equal(back.ability[there.ability.index], there.ability, atol=1e-3)
    pd.testing.assert_series_equal(fit_difficulty(small).difficulty, there.difficulty, rtol=0, atol=0)


def test_missing_scores_are_left_out(exam, fitted):
    outcomes, _, _, difficulty = exam
    gone = np.random.default_rng(3).random(outcomes.scores.shape) < 0.3
    holes = fit_difficulty(replace(outcomes, scores=outcomes.scores.mask(gone)))
    assert holes.n_scores == (~gone).sum()
    assert np.corrcoef(holes.difficulty, difficulty)[0, 1] > 0.85
    even = np.arange(len(outcomes)) % 2 == 0  # a missing score is no wrong one: they do not look harder
    fewer = fit_difficulty(replace(outcomes, scores=outcomes.scores.mask(even[:, None] & (gone | gone[::-1]))))
    gap = [known[even].mean() - known[~even].mean() for known in (fewer.difficulty, fitted.difficulty)]
    assert gap[0] == pytest.approx(gap[1], abs=0.1)
    subset = outcomes.models[3:]
    assert fit_difficulty(outcomes, subset).ability.index.tolist() == subset


def test_a_share_right_counts_as_one(small):
    halves = replace(small, scores=(small.scores + small.scores.iloc[::-1].to_numpy()) / 2)
    fit = fit_difficulty(halves)
    assert np.corrcoef(fit.difficulty, halves.scores.mean(axis=1))[0, 1] < -0.9


def test_outcomes_without_a_difficulty_are_refused(small):
    bare = small.scores.copy()
    bare.iloc[3] = np.nan
    silent = small.scores.assign(m1=np.nan)
    for scores, message in (
        (small.scores[["m0", "m1"]], "at least 3 models, got m0, m1; with fewer, take the share of models"),
        (small.scores * 10, r"scores must be in \[0, 1\].*q"),
        (small.scores - 1, r"scores must be in \[0, 1\].*q"),
        (bare, r"no score on prompt q3; leave them out with outcomes\.select"),
        (silent, "no score of model m1"),
        (small.scores * 0 + [0, 1, 0, 1, 0, 1], "all 60 prompts are equally hard"),
    ):
        with pytest.raises(DataError, match=message):
            fit_difficulty(replace(small, scores=scores))
    with pytest.raises(DataError, match="no scores of model 'nobody'"):
        fit_difficulty(small, ["m0", "nobody"])
    with pytest.raises(DataError, match="at least 3 models, got m0"):
        fit_difficulty(small, ["m0", "m0"])
    with pytest.raises(DataError, match="no convergence in 2 iterations"):
        fit_difficulty(small, max_iterations=2)


def votes_logit(votes):
    """Log-odds of the weighted mean result of the strong model, by prompt id."""
    ids = votes["battle_id"].str[:-2]
    result = (votes["weight"] * result_for_a(votes)).groupby(ids).sum() / votes["weight"].groupby(ids).sum()
    return pd.Series(logit(result), index=result.index)


def test_votes_say_how_hard_a_prompt_is(exam, fitted):
    outcomes = exam[0]
    votes = battles_from_difficulty(outcomes, PAIR, slope=0.8, weight=3)
    assert len(votes) == 2 * len(outcomes)
    assert votes["battle_id"].is_unique
    np.testing.assert_allclose(votes_logit(votes)[outcomes.prompts.index], 0.8 * fitted.difficulty)
    np.testing.assert_allclose(vote_weights(votes).reshape(-1, 2).sum(axis=1), 3)
    assert votes["prompt"].tolist() == outcomes.prompts.repeat(2).tolist()
    assert votes["prompt_key"].tolist() == outcomes.keys.repeat(2).tolist()
    told = votes[["model_a", "model_b", "judge", "source"]].drop_duplicates()
    assert told.to_numpy().tolist() == [["large", "small", "difficulty", "exam"]]
    assert votes["overlaps_test"].tolist() == outcomes.details["overlaps_test"].repeat(2).tolist()
    assert "source_id" not in votes
    assert vote_weights(battles_from_difficulty(outcomes, PAIR)).sum() == pytest.approx(len(outcomes))
    some = outcomes.models[:10]
    expected = 0.6 * fit_difficulty(outcomes, some).difficulty
    np.testing.assert_allclose(
        votes_logit(battles_from_difficulty(outcomes, PAIR, models=some))[expected.index], expected
    )


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_only_a_share_of_the_topics_is_kept(exam, share):
    outcomes = exam[0]
    whole, part = (votes_logit(battles_from_difficulty(outcomes, PAIR, topic_share=kept)) for kept in (1, share))
    groups = outcomes.groups[whole.index]
    means = whole.groupby(groups).mean()
    assert means["maths"] - means["history"] > 0.4
    np.testing.assert_allclose(part.groupby(groups).mean(), share * means, atol=1e-12)
    within = [votes - votes.groupby(groups).transform("mean") for votes in (whole, part)]
    np.testing.assert_allclose(within[0], within[1], atol=1e-12)


def test_a_router_learns_from_the_votes(exam):
    outcomes = exam[0]
    votes = battles_from_difficulty(outcomes, PAIR)
    tiers = Tiers({"large": 0, "small": 1}, "told")
    router = RidgeRouter(PAIR, encoder="hashing", tiers=tiers).fit(votes)
    texts = [f"a {word} question, number 9999" for word in ("easy", "plain", "tricky", "fiendish")]
    assert (np.diff(router.win_rate(texts)) > 0).all()


def test_options_of_the_votes_are_checked(small):
    for share in (-0.1, 1.1, np.nan):
        with pytest.raises(ParameterError, match=r"topic_share must be in \[0, 1\]"):
            battles_from_difficulty(small, PAIR, topic_share=share)
    for name in ("slope", "weight"):
        for value in (0, -1, np.nan, np.inf):
            with pytest.raises(ParameterError, match=f"{name} must be a number above 0"):
                battles_from_difficulty(small, PAIR, **{name: value})
