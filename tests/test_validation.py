"""Validation on held-out prompts: the metric against curves, training kept apart from testing, planted truth."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

from routellm_lab import Outcomes, battles_from_outcomes, evaluate, load_outcomes
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap, RoutingCurve
from routellm_lab.preferences import ModelPair, Tiers, pool_battles, prompt_key, validate_battles
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import KernelRouter, RandomRouter, RidgeRouter
from routellm_lab.studies.validation import ValidationSource, outcomes_from_battles, random_groups, validate_router

PAIR = ModelPair("large", "small")
OTHER = ModelPair("huge", "small")
ELSEWHERE = validate_battles(
    pd.DataFrame({"prompt": ["elsewhere"], "model_a": ["large"], "model_b": ["small"], "winner": ["tie"]})
)


class Told(BaseEstimator):
    """Says what it was given, by prompt."""

    def __init__(self, pair, rates):
        self.pair = pair
        self.rates = rates

    def fit(self, battles):
        self.fitted_ = True
        return self

    def win_rate(self, prompts):
        assert self.fitted_
        return np.array([self.rates[prompt] for prompt in prompts])


class Memory(BaseEstimator):
    """Knows the results of its training prompts by heart, whatever their case; of others nothing. Notes each fit."""

    def __init__(self, pair, log=None):
        self.pair = pair
        self.log = log

    def fit(self, battles):
        won = battles["winner"].map({"model_a": 1.0, "tie": 0.5, "model_b": 0.0})
        self.known_ = won.groupby(battles["prompt_key"]).mean().to_dict()
        FITS.append(set(self.known_))
        return self

    def win_rate(self, prompts):
        return np.array([self.known_.get(prompt_key(prompt), 0.5) for prompt in prompts])


FITS: list[set[str]] = []


@pytest.fixture(autouse=True)
def no_fits_yet():
    FITS.clear()


def quiz(n, seed=0, texts=None):
    """Right and wrong answers of three models, the smaller the worse."""
    rng = np.random.default_rng(seed)
    index = pd.Index([f"q{number}" for number in range(n)], name="prompt_id")
    prompts = pd.Series(texts or [f"question {number}" for number in range(n)], index=index, dtype="str")
    right = {"huge": 0.9, "large": 0.8, "small": 0.4}
    return Outcomes(
        name="quiz",
        prompts=prompts,
        scores=pd.DataFrame({name: (rng.random(n) < share) * 1.0 for name, share in right.items()}, index=index),
        groups=pd.Series(np.array(["a", "b", "c"])[rng.integers(3, size=n)], index=index),
        keys=prompts.map(prompt_key),
    )


def told(outcomes, rates):
    return Told(PAIR, dict(zip(outcomes.prompts, np.asarray(rates, float), strict=True)))


def validated(router, outcomes, groups=None, pairs=(PAIR,), battles=ELSEWHERE, **options):
    frame = validate_router(
        router, battles, {"quiz": ValidationSource(outcomes, pairs, groups)}, **{"n_resamples": 2} | options
    )
    assert frame.columns.tolist() == ["source", "apgr", "se", "random_sd", "prompts"]
    return frame.iloc[0]


def curve_of(outcomes, rates, pair=PAIR):
    return RoutingCurve.from_win_rates(rates, outcomes, pair)


seeds, levels = st.integers(0, 10_000), st.integers(2, 40)


class TestMetric:
    @settings(max_examples=40)
    @given(seeds, levels, st.booleans())
    def test_one_group_is_the_curve(self, seed, ties, named):
        outcomes = quiz(60, seed)
        rates = np.random.default_rng(seed + 1).integers(0, ties, 60) / ties
        groups = pd.Series("all", index=outcomes.prompts.index).sample(frac=1, random_state=seed) if named else None
        assume(outcomes.gap(PAIR).sum() > 0)
        row = validated(told(outcomes, rates), outcomes, groups)
        curve = curve_of(outcomes, rates)
        assert (row["apgr"], row["random_sd"]) == pytest.approx((curve.apgr, curve.random_sd), abs=1e-12)
        assert (row["source"], row["prompts"]) == ("quiz", 60)

    @settings(max_examples=25)
    @given(seeds, levels)
    def test_only_ranks_within_groups_count(self, seed, ties):
        outcomes = quiz(80, seed)
        rates = np.random.default_rng(seed + 1).integers(0, ties, 80) / ties / 4
        shift = outcomes.groups.map({"a": 0.7, "b": 0.0, "c": 0.35}).to_numpy()
        assume(outcomes.gap(PAIR).sum() > 0)
        plain, moved, stretched = (
            validated(told(outcomes, told_rates), outcomes, outcomes.groups, n_resamples=5)
            for told_rates in (rates, rates + shift, np.where(outcomes.groups == "b", rates**2, np.sqrt(rates)))
        )
        assert moved["apgr"] == pytest.approx(plain["apgr"], abs=1e-12)
        assert moved["se"] == pytest.approx(plain["se"], abs=1e-12)
        assert stretched["apgr"] == pytest.approx(plain["apgr"], abs=1e-12)

    def test_across_groups_they_would_count(self):
        outcomes = quiz(80, 3)
        rates = np.random.default_rng(4).random(80) / 4
        shift = outcomes.groups.map({"a": 0.7, "b": 0.0, "c": 0.35}).to_numpy()
        assert abs(curve_of(outcomes, rates).apgr - curve_of(outcomes, rates + shift).apgr) > 0.01

    @settings(max_examples=25)
    @given(seeds)
    def test_groups_count_by_their_gap(self, seed):
        outcomes = quiz(120, seed)
        rates = np.random.default_rng(seed + 1).random(120)
        parts = [(outcomes.groups == group).to_numpy() for group in "abc"]
        gaps = [outcomes.gap(PAIR)[inside].sum() for inside in parts]
        assume(min(gaps) > 0)
        alone = [curve_of(outcomes.select(inside), rates[inside]).apgr for inside in parts]
        row = validated(told(outcomes, rates), outcomes, outcomes.groups)
        assert row["apgr"] == pytest.approx(np.average(alone, weights=gaps), abs=1e-12)
        curves = [curve_of(outcomes.select(inside), rates[inside]) for inside in parts]
        spread = [curve.random_sd * gap for curve, gap in zip(curves, gaps, strict=True)]
        assert row["random_sd"] == pytest.approx(np.linalg.norm(spread) / sum(gaps))

    def test_pairs_are_averaged_and_prompts_without_a_group_left_out(self):
        outcomes = quiz(100, 1)
        rates = np.random.default_rng(2).random(100)
        router = told(outcomes, rates)
        curves = [curve_of(outcomes, rates, pair) for pair in (PAIR, OTHER)]
        expected = [curve.apgr for curve in curves]
        assert abs(expected[0] - expected[1]) > 0.001
        both = validated(router, outcomes, pairs=(PAIR, OTHER))
        assert both["apgr"] == pytest.approx(np.mean(expected))
        assert both["random_sd"] == pytest.approx(np.mean([curve.random_sd for curve in curves]))
        some = (outcomes.groups != "a").to_numpy()
        row = validated(router, outcomes, pd.Series("in", index=outcomes.prompts.index).where(some))
        assert row["apgr"] == pytest.approx(curve_of(outcomes.select(some), rates[some]).apgr)
        assert row["prompts"] == some.sum()

    @settings(max_examples=15)
    @given(seeds)
    def test_prompts_may_be_ranked_in_smaller_groups_than_are_held_out(self, seed):
        outcomes = quiz(120, seed)
        rates = np.random.default_rng(seed + 1).random(120)
        ids = outcomes.prompts.index
        half = pd.Series(np.array(["first", "second"])[np.arange(120) % 2], index=ids)
        cells = half + outcomes.groups
        assume(outcomes.gap(PAIR).sum() > 0)
        router = told(outcomes, rates)
        frame = validate_router(
            router, ELSEWHERE, {"quiz": ValidationSource(outcomes, (PAIR,), half, outcomes.groups)}, 4
        )
        assert frame.loc[0, "apgr"] == pytest.approx(validated(router, outcomes, cells)["apgr"], abs=1e-12)
        whole = ValidationSource(outcomes, (PAIR,), within=outcomes.groups.sample(frac=1, random_state=seed))
        frame = validate_router(router, ELSEWHERE, {"quiz": whole}, 4)
        assert frame.loc[0, "apgr"] == pytest.approx(validated(router, outcomes, outcomes.groups)["apgr"], abs=1e-12)

    def test_the_error_is_that_of_resampled_prompts(self):
        outcomes = quiz(400, 5)
        gap = outcomes.gap(PAIR).to_numpy()
        rates = 1 / (1 + np.exp(-gap - np.random.default_rng(6).normal(0, 2, 400)))
        row = validated(told(outcomes, rates), outcomes, n_resamples=1500)
        low, high = curve_of(outcomes, rates).interval(
            bootstrap=Bootstrap(confidence_level=0.6827, n_resamples=1500, random_state=1)
        )
        assert row["se"] == pytest.approx((high - low) / 2, rel=0.1)
        again, other = (
            validated(told(outcomes, rates), outcomes, n_resamples=50, random_state=seed) for seed in (0, 1)
        )
        assert again["se"] == validated(told(outcomes, rates), outcomes, n_resamples=50)["se"] != other["se"]

    def test_missing_scores_are_no_difference(self):
        outcomes = quiz(50, 7)
        rates = np.random.default_rng(8).random(50)
        lacking = np.tile((np.arange(50) % 7 == 0)[:, None], 3)
        holes = Outcomes("quiz", outcomes.prompts, outcomes.scores.mask(lacking), outcomes.groups, outcomes.keys)
        even = outcomes.scores.mask(lacking, 0.0)
        same = Outcomes("quiz", outcomes.prompts, even, outcomes.groups, outcomes.keys)
        row = validated(told(outcomes, rates), holes)
        assert row["apgr"] == pytest.approx(curve_of(same, rates).apgr)
        assert row["prompts"] == 50


class TestHeldOut:
    @pytest.mark.parametrize("groups", [None, "own", "folds"])
    def test_what_is_known_by_heart_is_of_no_use(self, groups):
        outcomes = quiz(90, 1)
        battles = battles_from_outcomes(outcomes, PAIR)
        split = {None: None, "own": outcomes.groups, "folds": random_groups(outcomes, 3)}[groups]
        battles = pd.concat([battles, ELSEWHERE], ignore_index=True)  # held out whole, something must be left
        assert validated(Memory(PAIR), outcomes, split, battles=battles)["apgr"] == 0.5
        assert evaluate(Memory(PAIR).fit(battles), outcomes).apgr > 0.75

    def test_each_group_is_held_out_of_the_votes_in_turn(self):
        outcomes = quiz(60, 2)
        battles = pd.concat([battles_from_outcomes(outcomes, PAIR), ELSEWHERE], ignore_index=True)
        validated(Memory(PAIR), outcomes, outcomes.groups, battles=battles)
        whole = set(battles["prompt_key"])
        expected = [whole - set(outcomes.keys[outcomes.groups == group]) for group in outcomes.groups.unique()]
        assert len(expected) == 3
        within = pd.Series("all", index=outcomes.prompts.index)
        FITS.clear()
        source = ValidationSource(outcomes, (PAIR,), outcomes.groups, within)
        assert validate_router(Memory(PAIR), battles, {"quiz": source}, 2).loc[0, "apgr"] == 0.5
        assert expected == FITS

    def test_a_copy_in_another_group_or_case_goes_too(self):
        texts = [f"question {number // 2}" if number % 2 else f" QUESTION  {number // 2}" for number in range(80)]
        outcomes = quiz(80, 3, texts)
        halves = pd.Series(np.array(["even", "odd"])[np.arange(80) % 2], index=outcomes.prompts.index)
        battles = pd.concat([battles_from_outcomes(outcomes, PAIR), ELSEWHERE], ignore_index=True)
        assert validated(Memory(PAIR), outcomes, halves, battles=battles)["apgr"] == 0.5
        assert len(FITS) == 2
        assert set.union(*FITS) == {prompt_key("elsewhere")}
        folds = random_groups(outcomes, 4)
        assert (folds.to_numpy()[::2] == folds.to_numpy()[1::2]).all()
        bare = battles.drop(columns="prompt_key")  # votes as a user brings them
        assert validated(Memory(PAIR), outcomes, halves, battles=bare)["apgr"] == 0.5

    def test_without_a_vote_left_a_router_knows_nothing(self):
        outcomes, other = quiz(40), quiz(40, 1, [f"another {number}" for number in range(40)])
        battles = battles_from_outcomes(outcomes, PAIR)
        router = told(outcomes, np.arange(40) / 40)
        assert validated(router, outcomes)["apgr"] != 0.5
        assert validated(router, outcomes, battles=battles)["apgr"] == 0.5
        pool = pool_battles({"own": battles, "other": battles_from_outcomes(other, PAIR)})
        kernel = KernelRouter(PAIR, "hashing:64", sets={"own": 1.0}, tiers=Tiers({"large": 0, "small": 1}, "told"))
        assert validated(kernel, outcomes, battles=pool)["apgr"] == 0.5
        assert validated(kernel, outcomes, outcomes.groups, battles=pool)["apgr"] != 0.5

    def test_a_set_that_is_held_out_whole_is_done_without(self):
        outcomes, other = quiz(40), quiz(40, 1, [f"question {number} or so" for number in range(40)])
        pool = pool_battles({"own": battles_from_outcomes(outcomes, PAIR), "other": battles_from_outcomes(other, PAIR)})
        tiers = Tiers({"large": 0, "small": 1}, "told")
        router = KernelRouter(PAIR, "hashing:64", sets={"own": 1.0, "other": 2.0}, tiers=tiers)
        alone = KernelRouter(PAIR, "hashing:64", tiers=tiers).fit(pool[pool["set"] == "other"])
        row = validated(router, outcomes, battles=pool)
        assert row["apgr"] == pytest.approx(evaluate(alone, outcomes).apgr, abs=1e-9)
        assert router.sets == {"own": 1.0, "other": 2.0}
        with pytest.raises(DataError, match="no set mine in the votes"):  # a slip is no set that was held out
            validated(router.set_params(sets={"mine": 1.0, "other": 2.0}), outcomes, battles=pool)

    def test_sources_that_no_vote_is_on_need_one_fit(self):
        first, second = quiz(30, 4), quiz(40, 5, [f"another {number}" for number in range(40)])
        sources = {
            "first": ValidationSource(first, (PAIR,), first.groups),
            "second": ValidationSource(second, (PAIR, OTHER)),
        }
        router = Memory(PAIR)
        frame = validate_router(router, ELSEWHERE, sources, n_resamples=2)
        assert frame[["source", "prompts"]].to_numpy().tolist() == [["first", 30], ["second", 40]]
        assert len(FITS) == 1
        assert not hasattr(router, "known_")

    def test_folds_are_equal_parts_by_seed(self):
        outcomes = quiz(100)
        folds = random_groups(outcomes, 4)
        assert folds.value_counts().to_dict() == dict.fromkeys("0123", 25)
        assert folds.index.equals(outcomes.prompts.index)
        assert folds.equals(random_groups(outcomes, np.int64(4)))
        assert not folds.equals(random_groups(outcomes, 4, random_state=1))
        for bad in (1, 0, 2.5, "3"):
            with pytest.raises(ParameterError, match="folds must be a whole number from 2"):
                random_groups(outcomes, bad)


def test_a_router_that_knows_something_beats_one_that_does_not(mmlu):
    pro = load_outcomes("mmlu_pro", data="sample")
    battles = pd.concat([battles_from_outcomes(part, SAMPLE_PAIR) for part in (mmlu, pro)], ignore_index=True)
    sources = {
        "new": ValidationSource(load_outcomes("gsm8k", data="sample"), (SAMPLE_PAIR,)),
        "topics": ValidationSource(pro, (SAMPLE_PAIR, ModelPair("sim-basalt", "sim-shale")), pro.groups),
        "folds": ValidationSource(pro, (SAMPLE_PAIR,), random_groups(pro, 3)),
    }
    good = validate_router(RidgeRouter(SAMPLE_PAIR, encoder="hashing:256"), battles, sources, n_resamples=200)
    random = validate_router(RandomRouter(SAMPLE_PAIR), battles, sources, n_resamples=200)
    assert (np.abs(random["apgr"] - 0.5) < 3.5 * random["se"]).all()
    assert (good["apgr"] - 0.5 > 3 * good["se"]).all()
    assert (good["apgr"] > random["apgr"] + 0.03).all()
    assert good["se"].between(0.003, 0.05).all()


class TestRefused:
    def test_a_strong_model_that_is_not_better(self):
        outcomes = quiz(40)
        turned = ModelPair("small", "large")
        with pytest.raises(DataError, match="held-out source 'quiz': the strong model of a pair is not better there"):
            validated(told(outcomes, np.arange(40) / 40), outcomes, pairs=(PAIR, turned))

    def test_no_vote_left(self):
        outcomes = quiz(40)
        found = validated(RandomRouter(PAIR), outcomes, battles=battles_from_outcomes(outcomes, PAIR))
        assert found["apgr"] == 0.5
        with pytest.raises(ParameterError, match="needs one pair of models or more"):
            validated(RandomRouter(PAIR), outcomes, pairs=())
        with pytest.raises(DataError, match="missing column winner"):
            validated(RandomRouter(PAIR), outcomes, battles=ELSEWHERE.drop(columns="winner"))

    def test_unknown_models_groups_and_resamples(self):
        outcomes = quiz(40)
        router = told(outcomes, np.arange(40) / 40)
        with pytest.raises(DataError, match="no scores of model 'medium'"):
            validated(router, outcomes, pairs=(ModelPair("large", "medium"),))
        with pytest.raises(DataError, match="groups lack 3 of 40 prompts"):
            validated(router, outcomes, outcomes.groups.iloc[3:])
        with pytest.raises(DataError, match="groups lack 1 of 40 prompts"):
            validate_router(
                router, ELSEWHERE, {"quiz": ValidationSource(outcomes, (PAIR,), within=outcomes.groups.iloc[1:])}
            )
        for bad in (0, -1, 1.5):
            with pytest.raises(ParameterError, match="n_resamples must be a whole number from 1"):
                validated(router, outcomes, n_resamples=bad)


class TestVotesAsOutcomes:
    @pytest.fixture
    def votes(self):
        rows = [
            ("one", "l1", "s1", "model_a", 3.0),
            ("ONE ", "s2", "l1", "model_a", 1.0),
            ("one", "l2", "s1", "tie", 2.0),
            ("two", "s1", "l2", "model_b", 0.5),
            ("three", "l1", "l2", "model_a", 5.0),
            ("three", "mid", "s1", "model_a", 5.0),
            ("four", "l1", "s2", "model_b", 7.0),
            ("four", "l1", "mid", "model_a", 9.0),
            (None, "l1", "s1", "model_b", 4.0),
        ]
        frame = pd.DataFrame(rows, columns=["prompt", "model_a", "model_b", "winner", "weight"])
        return frame.astype({"prompt": "str"})

    def test_results_are_those_by_hand(self, votes):
        outcomes = outcomes_from_battles(votes, PAIR, ["l1", "l2"], {"s1", "s2"}, name="people")
        assert outcomes.prompts.tolist() == ["one", "two", "four"]
        assert outcomes.prompts.index.tolist() == ["people-00000", "people-00001", "people-00002"]
        expected = [(3 * 1 + 1 * 0 + 2 * 0.5) / 6, 1.0, 0.0]
        np.testing.assert_allclose(outcomes.of("large"), expected)
        np.testing.assert_allclose(outcomes.of("small"), 1 - np.array(expected))
        assert outcomes.keys.tolist() == [prompt_key(text) for text in ("one", "two", "four")]
        assert outcomes.models == ["large", "small"]
        assert (outcomes.name, set(outcomes.groups)) == ("people", {"people"})

    def test_without_weights_each_vote_counts_once(self, votes):
        outcomes = outcomes_from_battles(votes.drop(columns="weight"), PAIR, ["l1", "l2"], ["s1", "s2"])
        np.testing.assert_allclose(outcomes.of("large"), [(1 + 0 + 0.5) / 3, 1.0, 0.0])

    @settings(max_examples=25)
    @given(seeds)
    def test_sides_may_be_swapped(self, seed):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame(
            {
                "prompt": rng.choice([f"p{number}" for number in range(6)], 30),
                "model_a": rng.choice(["l1", "l2"], 30),
                "model_b": rng.choice(["s1", "s2"], 30),
                "winner": rng.choice(["model_a", "model_b", "tie"], 30),
                "weight": rng.uniform(0.1, 4, 30),
            }
        )
        turned = frame.copy()
        rows = rng.random(30) < 0.5
        turned.loc[rows, ["model_a", "model_b"]] = frame.loc[rows, ["model_b", "model_a"]].to_numpy()
        turned.loc[rows, "winner"] = frame.loc[rows, "winner"].map(
            {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}
        )
        plain, swapped = (outcomes_from_battles(votes, PAIR, ["l1", "l2"], ["s1", "s2"]) for votes in (frame, turned))
        pd.testing.assert_frame_equal(swapped.scores, plain.scores)
        back = outcomes_from_battles(frame, PAIR, ["s1", "s2"], ["l1", "l2"])
        np.testing.assert_allclose(back.of("large"), plain.of("small"))

    def test_they_validate_a_router(self, votes):
        outcomes = outcomes_from_battles(votes, PAIR, ["l1", "l2"], ["s1", "s2"])
        row = validated(told(outcomes, [0.6, 0.9, 0.1]), outcomes, battles=ELSEWHERE)
        gap = 2 * outcomes.of("large").to_numpy() - 1
        assert row["apgr"] == pytest.approx(0.5 + np.array([0, 1, -1]) / 3 @ gap / gap.sum())

    def test_no_vote_between_the_sides(self, votes):
        with pytest.raises(DataError, match=r"votes: no vote between \['l1'\] and \['nobody'\]"):
            outcomes_from_battles(votes, PAIR, ["l1"], ["nobody"])
        with pytest.raises(ParameterError, match="votes: on both sides: l2"):
            outcomes_from_battles(votes, PAIR, ["l1", "l2"], ["l2", "s1"])
        with pytest.raises(DataError, match="prompts are null"):
            outcomes_from_battles(votes.tail(1), PAIR, ["l1"], ["s1"])


def test_finer_groups_are_ranked_within_themselves_whatever_is_held_out_at_once():
    outcomes = quiz(120, seed=5)
    rng = np.random.default_rng(5)
    rates = rng.random(120)
    fold = pd.Series(["x", "y"] * 60, index=outcomes.prompts.index)
    subject = pd.Series(np.repeat(["a", "b", "c"], 40), index=outcomes.prompts.index)
    shifted = np.clip(rates / 4 + subject.map({"a": 0.0, "b": 0.3, "c": 0.7}).to_numpy(), 0, 1)
    found = [
        validate_router(
            Told(PAIR, dict(zip(outcomes.prompts, values, strict=True))),
            ELSEWHERE,
            {"s": ValidationSource(outcomes, (PAIR,), fold, within)},
            n_resamples=5,
        )["apgr"].iloc[0]
        for values, within in ((rates, subject), (shifted, subject), (shifted, None))
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-12)
    assert found[0] != pytest.approx(found[2], abs=1e-6)
