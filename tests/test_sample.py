"""The simulated world: its law, its determinism, and that it is neither trivial nor hopeless."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from routellm_lab import evaluate, fit_ratings, fit_tiers, load_battles, load_outcomes
from routellm_lab.benchmarks.grading import final_number
from routellm_lab.benchmarks.sample import (
    _HEDGES,
    ANSWER_CHARACTERS,
    FAVOURITE_ERROR,
    HEDGED,
    OUTCOME_SETS,
    sample_outcomes,
)
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import achieved_share, best_possible
from routellm_lab.preferences import ModelPair, resolve_pair
from routellm_lab.preferences import sample as world
from routellm_lab.preferences.sample import (
    BATTLE_SETS,
    MAX_SIZE,
    SAMPLE_MODELS,
    SAMPLE_PAIR,
    competence,
    recast_votes,
    sample_battles,
    true_win_rate,
    vote_chances,
    vote_law,
)
from routellm_lab.preferences.sample.phrases import PHRASES, PUNCTUATION, marked
from routellm_lab.preferences.sample.reading import lexicon
from routellm_lab.routers import PromptLengthRouter, RidgeRouter

BENCHMARKS = ("mmlu", "gsm8k", "mt_bench")
ALL_OUTCOMES = (*BENCHMARKS, "mmlu_pro")
models = st.sampled_from(list(SAMPLE_MODELS.index))


@pytest.fixture(scope="module")
def votes():
    return load_battles("arena_human", data="sample")


@given(name=st.sampled_from(list(BATTLE_SETS)), size=st.integers(1, 60), seed=st.integers(0, 2**32))
@settings(max_examples=10)
def test_the_same_name_size_and_seed_give_the_same_votes(name, size, seed):
    first, second = sample_battles(name, size, seed), sample_battles(name, size, seed)
    assert first.equals(second)
    assert len(first) == size


def test_sets_and_seeds_are_independent():
    drawn = [sample_battles("arena_human", 200, seed) for seed in (0, 1)] + [sample_battles("elobench_judge", 200)]
    winners = [tuple(battles["winner"]) for battles in drawn]
    assert len(set(winners)) == 3


@pytest.mark.parametrize("size", [0, -1, MAX_SIZE + 1, 2.5, True])
def test_sizes_that_cannot_be_are_refused(size):
    with pytest.raises(ParameterError, match="size must be a whole number"):
        sample_battles("arena_human", size)


def test_there_are_at_least_twelve_models_in_clear_tiers():
    assert len(SAMPLE_MODELS) >= 12
    assert all(name.startswith("sim-") for name in SAMPLE_MODELS.index)
    by_tier = SAMPLE_MODELS.groupby("tier")["ability"]
    gaps = by_tier.min().to_numpy()[:-1] - by_tier.max().to_numpy()[1:]
    assert gaps.min() > 3 * (by_tier.max() - by_tier.min()).max()


def test_prompts_are_short_of_several_domains_and_languages(votes):
    assert votes["prompt"].str.split().str.len().median() <= 24
    assert votes["language"].nunique() >= 2
    assert votes["domain"].nunique() >= 5


@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_the_law_is_a_law(a, b):
    win, tie = vote_law(np.array([a]), np.array([b]))
    loss, same = vote_law(np.array([b]), np.array([a]))
    assert win[0] + tie[0] + loss[0] == pytest.approx(1)
    assert tie[0] == pytest.approx(same[0])
    assert (win[0] - loss[0]) * (a - b) >= 0


@given(strong=models, weak=models)
@settings(max_examples=20)
def test_the_true_win_rate_ranks_as_the_gap_in_competence(strong, weak):
    if strong == weak:
        return
    prompts = load_outcomes("mmlu", data="sample").prompts.head(200)
    chance = competence(prompts, [strong, weak])
    gap = (chance[strong] - chance[weak]).to_numpy()
    truth = true_win_rate(prompts, ModelPair(strong, weak))
    order = np.argsort(gap)
    assert (np.diff(truth[order]) >= -1e-12).all()
    assert truth + true_win_rate(prompts, ModelPair(weak, strong)) == pytest.approx(np.ones(len(prompts)))


def test_votes_follow_the_law():
    battles = sample_battles("arena_human", 100_000, seed=5)
    score = battles["winner"].map({"model_a": 1.0, "tie": 0.5, "model_b": 0.0}).to_numpy()
    expected = battles["true_preference_a"].to_numpy()
    for low in np.arange(0, 1, 0.1):
        rows = (expected >= low) & (expected < low + 0.1)
        error = (score[rows] - expected[rows]).mean()
        assert abs(error) < 4 * 0.5 / np.sqrt(rows.sum()), f"true win rates of {low:.1f} and more"


@pytest.mark.parametrize("name", ["mmlu", "gsm8k", "mmlu_pro"])
def test_outcomes_follow_competence(name):
    outcomes = load_outcomes(name, data="sample")
    error = (outcomes.scores - outcomes.competence).mean()
    spread = np.sqrt((outcomes.competence * (1 - outcomes.competence)).mean() / len(outcomes))
    assert (error.abs() < 4.5 * spread).all()
    assert set(np.unique(outcomes.scores)) == {0.0, 1.0}
    assert outcomes.tokens is not None


def test_simulated_answers_are_graded_as_scored_and_hold_what_is_planted():
    outcomes = load_outcomes("gsm8k", data="sample")
    reference = outcomes.details["answer_value"]
    found = outcomes.responses.map(final_number)
    assert (found.eq(reference, axis=0) == outcomes.scores.astype(bool)).all(axis=None)
    assert (reference.map(final_number) == reference).all()
    right = outcomes.scores.to_numpy() == 1
    doubts = outcomes.responses.map(lambda text: any(hedge in text for hedge in _HEDGES)).to_numpy()
    assert doubts[right].mean() == pytest.approx(HEDGED["right"], abs=0.02)
    assert doubts[~right].mean() == pytest.approx(HEDGED["wrong"], abs=0.02)
    errors = found.where(~right)
    assert errors.nunique(axis=1).max() <= 5
    shares = errors.apply(lambda row: row.value_counts(normalize=True).max(), axis=1)[(~right).sum(axis=1) >= 12]
    assert shares.median() == pytest.approx(FAVOURITE_ERROR, abs=0.05)
    lengths = outcomes.responses.map(len).to_numpy()
    assert lengths.max() <= ANSWER_CHARACTERS
    assert outcomes.responses.stack().nunique() > 0.95 * right.size
    again = sample_outcomes("gsm8k", seed=0).responses.loc[outcomes.prompts.index]
    assert again.equals(outcomes.responses)
    assert load_outcomes("mmlu", data="sample").responses is None


def test_the_text_of_answers_changes_no_number(monkeypatch):
    without = replace(OUTCOME_SETS["gsm8k"], answers=False)
    outcomes = sample_outcomes("gsm8k", seed=2, size=100)
    monkeypatch.setitem(OUTCOME_SETS, "gsm8k", without)
    plain = sample_outcomes("gsm8k", seed=2, size=100)
    assert plain.responses is None
    for part in ("prompts", "scores", "tokens", "competence"):
        assert getattr(plain, part).equals(getattr(outcomes, part)), part


def test_judge_scores_rise_with_competence():
    outcomes = load_outcomes("mt_bench", data="sample")
    assert outcomes.scores.to_numpy().min() >= 1
    assert outcomes.scores.to_numpy().max() <= 10
    mean = outcomes.scores.mean().corr(outcomes.competence.mean())
    assert mean > 0.98


def test_ratings_find_the_planted_order_of_tiers(votes):
    ratings = fit_ratings(votes)["rating"]
    by_tier = ratings.groupby(SAMPLE_MODELS["tier"].reindex(ratings.index)).mean()
    assert by_tier.is_monotonic_decreasing


def test_no_benchmark_prompt_is_in_the_votes(votes):
    assert set(ALL_OUTCOMES) == set(OUTCOME_SETS)
    for name in ALL_OUTCOMES:
        assert not set(load_outcomes(name, data="sample").keys) & set(votes["prompt_key"])


@pytest.mark.parametrize("name", ALL_OUTCOMES)
def test_the_best_router_is_neither_trivial_nor_hopeless(name):
    outcomes = load_outcomes(name, data="sample")
    assert 0.70 <= best_possible(outcomes, SAMPLE_PAIR).apgr <= 0.85


@pytest.mark.parametrize("name", ALL_OUTCOMES)
def test_length_says_little(votes, name):
    outcomes = load_outcomes(name, data="sample")
    router = PromptLengthRouter(SAMPLE_PAIR).fit(votes)
    assert abs(achieved_share(evaluate(router, outcomes), outcomes)) <= 0.25


@pytest.mark.parametrize("name", ALL_OUTCOMES)
def test_words_say_something_but_not_all(votes, name):
    outcomes = load_outcomes(name, data="sample")
    router = RidgeRouter(SAMPLE_PAIR, encoder="hashing").fit(votes)
    assert 0.35 <= achieved_share(evaluate(router, outcomes), outcomes) <= 0.75


def test_shuffled_verdicts_teach_nothing(votes):
    outcomes = load_outcomes("mmlu", data="sample")
    rng, shares = np.random.default_rng(0), []
    router = RidgeRouter(SAMPLE_PAIR, encoder="hashing", alphas=(3.0,))
    for _ in range(12):
        shuffled = votes.assign(winner=rng.permutation(votes["winner"].to_numpy()))
        side = rng.random(len(votes)) < 0.5  # who stood where is shuffled too: the winner's name must not leak
        shuffled.loc[side, ["model_a", "model_b"]] = shuffled.loc[side, ["model_b", "model_a"]].to_numpy()
        fitted = clone(router).set_params(tiers=_planted_tiers()).fit(shuffled)
        shares.append(achieved_share(evaluate(fitted, outcomes), outcomes))
    assert abs(np.mean(shares)) <= 0.05


def _planted_tiers():
    from routellm_lab.preferences import Tiers

    return Tiers({name: int(tier) for name, tier in SAMPLE_MODELS["tier"].items()}, "planted")


def test_the_pair_has_votes_of_its_own(votes):
    assert resolve_pair(SAMPLE_PAIR, set(votes["model_a"])) == SAMPLE_PAIR


def test_a_smaller_set_is_the_start_of_a_larger_one():
    larger = sample_battles("elobench_judge", 9_000, seed=3)
    assert sample_battles("elobench_judge", 500, seed=3).equals(larger.head(500))


def test_marked_words_are_the_only_ones_with_a_meaning():
    known = lexicon().number
    phrases = [text for texts in PHRASES["small_talk"].values() for text in texts]
    phrases += PHRASES["names"] + PHRASES["places"]
    phrases += [text for tasks in PHRASES["verbs"].values() for verbs in tasks.values() for text in verbs]
    phrases += [text for manners in PHRASES["manners"].values() for manner in manners for text in manner["phrases"]]
    phrases += [
        text
        for domain in PHRASES["domains"].values()
        for levels in domain["topics"].values()
        for texts in levels.values()
        for text in texts
    ]
    for phrase in phrases:
        read = [word for word in (raw.strip(PUNCTUATION + "*").lower() for raw in phrase.split()) if word in known]
        assert read == marked(phrase), phrase


def test_the_text_alone_tells_domain_language_and_win_rate(votes):
    read = world.read_prompts(votes["prompt"])
    assert (read["domain"] == votes["domain"]).all()
    assert (read["language"] == votes["language"]).all()
    pair = votes[(votes["model_a"] == SAMPLE_PAIR.strong) & (votes["model_b"] == SAMPLE_PAIR.weak)]
    assert len(pair) > 10
    assert true_win_rate(pair["prompt"]) == pytest.approx(pair["true_preference_a"].to_numpy())


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_any_text_has_a_competence(prompts):
    chance = competence(prompts).to_numpy()
    assert chance.shape == (len(prompts), len(SAMPLE_MODELS))
    assert ((chance > 0) & (chance < 1)).all()


def test_a_verb_means_something_else_in_another_domain():
    easier, harder = world.read_prompts(["Explain a lock-free queue.", "Explain estoppel by convention."])["difficulty"]
    plain = world.read_prompts(["a lock-free queue.", "estoppel by convention."])["difficulty"]
    assert easier - plain[0] < 0 < harder - plain[1]


@pytest.mark.parametrize("name", [name for name, kind in BATTLE_SETS.items() if not kind.again])
def test_every_judge_follows_the_law_but_for_its_lapses(name):
    kind, battles = BATTLE_SETS[name], sample_battles(name, 40_000, seed=7)
    expected = (1 - kind.lapse) * battles["true_preference_a"] + kind.lapse / 2
    score = battles["winner"].map({"model_a": 1.0, "tie": 0.5, "model_b": 0.0})
    groups = (expected * 10).astype(int)
    error = (score - expected).groupby(groups).agg(["mean", "size"])
    assert (error["mean"].abs() < 4.5 * 0.5 / np.sqrt(error["size"])).all()
    assert (battles["winner"] == "tie").any() == kind.ties
    assert battles["prompt"].notna().all() == kind.prompts
    assert set(battles["judge"]) == {kind.judge}


def test_the_rejudged_set_is_the_arena_judged_again():
    people, again = sample_battles("arena_human", 9_000, seed=3), sample_battles("arena_rejudged", 9_000, seed=3)
    told = ["prompt", "prompt_key", "model_a", "model_b", "language", "domain", "true_preference_a"]
    told += ["chars_a", "chars_b"]
    assert again[told].equals(people[told])
    assert again["arena_battle_id"].tolist() == people["battle_id"].tolist()
    assert people["battle_id"].is_unique
    assert set(again["judge"]) == {"sim-judge-large"}
    assert sample_battles("arena_rejudged", 500, seed=3).equals(again.head(500))
    assert sample_battles("arena_human", 500, seed=3).equals(people.head(500))
    default = load_battles("arena_rejudged", data="sample")
    assert len(default) == 2_000
    assert (
        default["arena_battle_id"].tolist() == load_battles("arena_human", data="sample")["battle_id"][:2_000].tolist()
    )


@pytest.mark.parametrize("name", ["arena_human", "arena_rejudged"])
def test_every_verdict_has_the_planted_chance(name):
    battles = sample_battles(name, 30_000, seed=8)
    chances = vote_chances(battles, name)
    assert chances.to_numpy().sum(axis=1) == pytest.approx(np.ones(len(battles)))
    for verdict in chances:
        error = (battles["winner"] == verdict) - chances[verdict]
        mean = error.groupby((chances[verdict] * 8).astype(int)).agg(["mean", "size"])
        assert (mean["mean"].abs() < 4.5 * 0.5 / np.sqrt(mean["size"])).all(), verdict


def test_the_judge_of_the_rejudged_set_likes_what_is_first_and_what_is_long():
    people, again = sample_battles("arena_human", 5_000, seed=1), sample_battles("arena_rejudged", 5_000, seed=1)
    score = {"model_a": 1.0, "tie": 0.0, "model_b": -1.0}
    more = again["winner"].map(score) - people["winner"].map(score)
    assert more.mean() > 0.08
    assert (more * np.sign(people["chars_a"] - people["chars_b"])).mean() > 0.06


def test_answers_are_as_long_as_their_models_are_verbose():
    battles = sample_battles("arena_human", 30_000, seed=2)
    assert battles[["chars_a", "chars_b"]].to_numpy().min() >= 1
    lengths = np.log(battles["chars_a"]).groupby(battles["model_a"]).mean()
    planted = np.log(SAMPLE_MODELS["verbosity"])
    assert lengths.corr(planted.reindex(lengths.index)) > 0.97
    ratio = np.log(battles["chars_a"] / battles["chars_b"])
    rest = ratio - battles["model_a"].map(planted) + battles["model_b"].map(planted)
    assert rest.std() == pytest.approx(np.sqrt(2) * world.ANSWER_SPREAD, rel=0.05)


def test_judges_with_a_baseline_always_show_it_first():
    judged, again = sample_battles("alpacaeval_judge", 2_000), sample_battles("alpacaeval_rejudged", 2_000)
    assert SAMPLE_MODELS.loc[judged["model_a"].unique(), "tier"].tolist() == [SAMPLE_MODELS["tier"][SAMPLE_PAIR.strong]]
    assert set(again["model_a"]) == {SAMPLE_PAIR.strong}
    assert (again["model_b"] == SAMPLE_PAIR.weak).sum() > 100
    assert judged["prompt_key"].nunique() <= 805


def test_many_votes_recover_the_planted_tiers():
    found = fit_tiers(sample_battles("arena_human_outcomes", 200_000))
    assert {name: found.tier[name] for name in SAMPLE_MODELS.index} == SAMPLE_MODELS["tier"].to_dict()


@pytest.mark.parametrize("seed", [0, 4])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_only_the_planted_questions_are_in_the_votes(name, seed):
    outcomes = sample_outcomes(name, seed=seed)
    flagged = outcomes.details["contaminated"]
    seen = outcomes.keys.isin(set(sample_battles("arena_human", seed=seed)["prompt_key"]))
    assert flagged.sum() >= 2
    assert (seen == flagged).all()
    assert outcomes.keys.is_unique
    assert load_outcomes(name, data="sample", seed=seed).dropped == flagged.sum()


@pytest.mark.parametrize("seed", [0, 4])
def test_a_few_questions_of_mmlu_pro_are_those_of_other_benchmarks(seed):
    pro = sample_outcomes("mmlu_pro", seed=seed)
    assert not pro.details["contaminated"].any()
    assert pro.keys.is_unique
    for name in BENCHMARKS:
        shared = pro.keys.isin(set(sample_outcomes(name, seed=seed).keys)).sum()
        assert (shared == 0) if name == "mmlu" else (5 <= shared <= 40), name
    for votes in BATTLE_SETS:
        assert not set(pro.keys) & set(sample_battles(votes, 5_000, seed=seed)["prompt_key"].dropna()), votes


def test_judge_scores_have_the_stated_mean():
    outcomes = sample_outcomes("mt_bench", size=4_000)
    error = outcomes.scores - (1 + 9 * outcomes.competence)
    assert (error.mean().abs() < 4.5 * error.std() / np.sqrt(len(outcomes))).all()


def test_harder_questions_get_longer_answers(mmlu):
    order = mmlu.tokens.mean(axis=1).corr(mmlu.details["difficulty"], method="spearman")
    assert order > 0.5
    assert mmlu.tokens.to_numpy().min() >= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_battles("arena_humans"), "nearest: arena_human"),
        (lambda: sample_outcomes("mmlus"), "nearest: mmlu"),
        (lambda: sample_battles("arena_human", 10, seed=-1), "seed must be a whole number"),
        (lambda: competence(["a"], ["sim-granit"]), "nearest: sim-granite"),
        (lambda: sample_outcomes("mmlu", size=0), "size must be a whole number"),
        (lambda: vote_chances(sample_battles("arena_human", 5), "arena"), "nearest: arena_human"),
    ],
)
def test_what_is_not_in_the_world_is_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


def test_a_judge_of_length_needs_lengths():
    votes = sample_battles("elobench_judge", 5)
    assert vote_chances(votes, "arena_human").shape == (5, 3)
    with pytest.raises(DataError, match="chars_a, chars_b missing in some votes; the judge of 'arena_rejudged'"):
        vote_chances(votes, "arena_rejudged")
    with pytest.raises(DataError, match="prompt missing"):
        vote_chances(sample_battles("arena_human_outcomes", 5), "arena_human")


def test_votes_cast_again_follow_the_judge_and_nest_by_share(arena):
    chances = vote_chances(arena, "arena_rejudged")
    cast = [recast_votes(arena, "arena_rejudged", share, seed=3) for share in (0, 0.4, 1)]
    assert cast[0]["winner"].equals(arena["winner"])
    assert cast[2].drop(columns="winner").equals(arena.drop(columns="winner"))
    assert not cast[2]["winner"].equals(recast_votes(arena, "arena_rejudged", 1, seed=4)["winner"])
    changed = [part["winner"] != arena["winner"] for part in cast]
    assert (changed[2] | ~changed[1]).all()
    assert 0.3 < changed[1].sum() / changed[2].sum() < 0.5
    for verdict in ("model_a", "model_b", "tie"):
        expected, spread = chances[verdict].mean(), (chances[verdict] * (1 - chances[verdict])).sum() ** 0.5
        assert abs((cast[2]["winner"] == verdict).mean() - expected) < 4 * spread / len(arena)
    with pytest.raises(ParameterError, match=r"share must be in \[0, 1\], got 2"):
        recast_votes(arena, "arena_human", 2)
