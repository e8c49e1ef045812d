"""The baselines do what their names say."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from routellm_lab import ModelPair
from routellm_lab.encoders import make_encoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import Tiers, judges_of, result_for_a, validate_battles
from routellm_lab.preferences.sample import SAMPLE_MODELS, SAMPLE_PAIR
from routellm_lab.routers import (
    ConstantRouter,
    KNNRouter,
    PromptLengthRouter,
    RandomRouter,
    RidgeRouter,
    tier_votes,
)
from routellm_lab.routers.baselines import clip_win_rate

TIERS = Tiers({"s1": 0, "strong": 1, "mid": 2, "weak": 3, "w1": 3, "last": 4}, "toy")
PAIR = ModelPair("strong", "weak")


def votes(*rows):
    frame = pd.DataFrame(rows, columns=["prompt", "model_a", "model_b", "winner"])
    return validate_battles(frame)


def test_random_numbers_are_uniform_and_a_hash_of_seed_and_prompt(arena):
    prompts = [f"prompt {number}" for number in range(5_000)]
    rates = RandomRouter(SAMPLE_PAIR).fit(arena).win_rate(prompts)
    assert kstest(rates, "uniform").pvalue > 1e-3
    other = RandomRouter(SAMPLE_PAIR, random_state=1).fit(arena.head(3)).win_rate(prompts)
    assert abs(np.corrcoef(rates, other)[0, 1]) < 0.06
    # the numbers are part of a run's result: 48 bits of sha256("0\\0hello"), whatever the version
    assert RandomRouter(PAIR).fit(arena).win_rate(["hello"])[0] == pytest.approx(0.1169855574890839, abs=1e-15)


def test_constant(arena):
    assert ConstantRouter(SAMPLE_PAIR, value=0.3).fit(arena).win_rate(["a", "b"]).tolist() == [0.3, 0.3]
    with pytest.raises(ParameterError, match=r"value must be a number from 0 to 1, got 1.5"):
        ConstantRouter(SAMPLE_PAIR, value=1.5).fit(arena)


def test_length_ranks_among_the_training_prompts_and_goes_on_beyond():
    rows = [("x" * length, "a", "b", "tie") for length in (10, 20, 20, 40)] + [("x" * 10, "b", "a", "tie")]
    router = PromptLengthRouter(ModelPair("a", "b")).fit(votes(*rows))
    # three distinct prompts of 10, 20 and 40 characters: middle ranks 1/6, 1/2, 5/6
    np.testing.assert_allclose(router.win_rate(["y" * 10, "y" * 20, "y" * 30, "y" * 40]), [1 / 6, 1 / 2, 2 / 3, 5 / 6])
    lengths = [0, 1, 5, 10, 11, 20, 39, 40, 41, 100, 10_000]
    assert (np.diff(router.win_rate(["y" * length for length in lengths])) > 0).all()


class TestPairOnlyRouters:
    def test_only_votes_between_the_strong_and_the_weak_tiers_count(self):
        battles = votes(
            ("one", "strong", "weak", "model_a"),
            ("two", "w1", "s1", "model_a"),
            ("three", "strong", "mid", "model_a"),
            ("four", "last", "strong", "model_a"),
            ("five", "s1", "strong", "model_a"),
            ("six", "weak", "w1", "model_a"),
        )
        router = KNNRouter(PAIR, encoder="hashing", tiers=TIERS, n_neighbors=(1,)).fit(battles)
        assert (router.n_votes_, router.strong_models_, router.weak_models_) == (2, ["s1", "strong"], ["weak", "w1"])
        assert router.win_rate(["one", "two"]).tolist() == [1.0, 0.0]

    def test_votes_on_one_prompt_are_averaged_by_weight(self):
        battles = votes(
            ("one", "strong", "weak", "model_a"),
            ("ONE ", "weak", "strong", "model_a"),
            ("one", "strong", "weak", "tie"),
            ("another", "strong", "weak", "model_b"),
        ).assign(weight=[3.0, 1.0, 4.0, 1.0])
        router = KNNRouter(PAIR, encoder="hashing", tiers=TIERS, n_neighbors=(1,)).fit(battles)
        np.testing.assert_allclose(router.win_rate(["one", "another"]), [(3 + 0 + 2) / 8, 0.0])

    def test_no_vote_between_the_tiers(self):
        with pytest.raises(DataError, match=r"no vote between the strong tiers \(s1, strong\) and the weak tier"):
            RidgeRouter(PAIR, encoder="hashing", tiers=TIERS).fit(
                votes(("one", "strong", "mid", "tie"), ("two", "mid", "weak", "tie"))
            )


def test_nearest_neighbours_equal_a_plain_loop(arena, mmlu):
    router = KNNRouter(SAMPLE_PAIR, encoder="hashing", n_neighbors=(7,)).fit(arena)
    sides = dict.fromkeys(router.strong_models_, "s") | dict.fromkeys(router.weak_models_, "w")
    a, b = arena["model_a"].map(sides), arena["model_b"].map(sides)
    forward, backward = (a == "s") & (b == "w"), (a == "w") & (b == "s")
    kept = arena[forward | backward]
    label = np.where(forward, result_for_a(arena), 1 - result_for_a(arena))[forward | backward]
    train = make_encoder("hashing").transform(kept["prompt"])
    for prompt in mmlu.prompts.iloc[:20]:
        cosine = train @ make_encoder("hashing").transform([prompt])[0]
        order = np.argsort(-cosine, kind="stable")
        if cosine[order[6]] - cosine[order[7]] < 1e-5:
            continue  # which of two equally near ones counts is open
        assert router.win_rate([prompt])[0] == pytest.approx(label[order[:7]].mean(), abs=1e-9)


def test_the_number_of_neighbours_and_the_penalty_are_chosen_from_those_offered(arena):
    assert KNNRouter(SAMPLE_PAIR, encoder="hashing", n_neighbors=(3, 30)).fit(arena).k_ in (3, 30)
    planted = Tiers(SAMPLE_MODELS["tier"].to_dict(), "planted")
    few = KNNRouter(SAMPLE_PAIR, encoder="hashing", n_neighbors=(10**6,), tiers=planted).fit(arena.head(500))
    assert 0 < few.k_ < few.n_votes_
    assert RidgeRouter(SAMPLE_PAIR, encoder="hashing", alphas=(2.0, 5.0)).fit(arena).alpha_ in (2.0, 5.0)
    with pytest.raises(ParameterError, match="n_neighbors must be a list of whole numbers from 1, got \\(0,\\)"):
        KNNRouter(SAMPLE_PAIR, encoder="hashing", n_neighbors=(0,)).fit(arena)


def test_one_training_prompt_is_enough_for_neighbours():
    router = KNNRouter(PAIR, encoder="hashing", tiers=TIERS).fit(votes(("one", "strong", "weak", "model_a")))
    assert router.win_rate(["anything"]).tolist() == [1.0]


def test_ridge_equals_the_normal_equations(arena):
    router = RidgeRouter(SAMPLE_PAIR, encoder="hashing:64", alphas=(3.0,)).fit(arena)
    rows = KNNRouter(SAMPLE_PAIR, encoder="hashing:64").fit(arena)  # holds the distinct prompts and their labels
    x, y, weight = rows.vectors_.astype(float), rows.label_, rows.weight_
    centre, mean = np.average(x, axis=0, weights=weight), np.average(y, weights=weight)
    gram = (x - centre).T * weight
    coefficients = np.linalg.solve(gram @ (x - centre) + 3.0 * np.eye(64), gram @ (y - mean))
    texts = ["What is 7 * 8?", "Prove it"]
    linear = (make_encoder("hashing:64").transform(texts) - centre) @ coefficients + mean
    np.testing.assert_allclose(router.win_rate(texts), clip_win_rate(linear), atol=1e-6)


def test_linear_predictions_are_brought_into_range_without_ties():
    score = np.linspace(-0.3, 1.3, 400)
    inside = clip_win_rate(score)
    assert (np.diff(inside) > 0).all()
    assert ((inside > 0) & (inside < 1)).all()
    middle = (score > 0.02) & (score < 0.98)
    np.testing.assert_array_equal(inside[middle], score[middle])


class TestWhoseVotesMakeTiers:
    def test_one_judge_is_chosen_and_named(self):
        people = votes(*[(f"p{n}", a, b, "tie") for n, (a, b) in enumerate([("strong", "weak"), ("mid", "weak")])])
        gold = votes(*[(f"g{n}", "strong", "weak", "tie") for n in range(9)])
        pooled = pd.concat([gold.assign(judge="gold", source="quiz"), people.assign(judge="human", source="arena")])
        name, chosen = tier_votes(pooled.reset_index(drop=True), PAIR)
        assert (name, len(chosen)) == ("human on arena", 2)

    def test_no_judge_saw_both(self):
        one = votes(("p", "strong", "mid", "tie")).assign(judge="x")
        other = votes(("p", "weak", "mid", "tie")).assign(judge="y")
        with pytest.raises(DataError, match=r"no single judge saw both 'strong' and 'weak'.*Judges: x, y"):
            tier_votes(pd.concat([one, other], ignore_index=True), PAIR)

    @pytest.mark.parametrize("source", [{}, {"source": "arena"}])
    @pytest.mark.parametrize("name", ["arena_user_{}", "{}", "w{:03}", "{:x}a{:x}b{:x}", 7, 7.0])
    def test_people_are_one_judge_whatever_their_ids(self, name, source):
        rng = np.random.default_rng(0)
        rows = [(f"p{n}", *rng.choice(["strong", "weak", "mid", "last"], 2, replace=False), "tie") for n in range(400)]
        who = rng.integers(150, size=400)
        ids = [name.format(*[id_] * 3) if isinstance(name, str) else name + id_ for id_ in who.tolist()]
        people = votes(*rows).assign(judge=ids, **source)
        graded = votes(*[(f"g{n}", "strong", "weak", "tie") for n in range(40)]).assign(judge="gold", **source)
        model = votes(*[(f"j{n}", "strong", "weak", "tie") for n in range(30)]).assign(judge="gpt-4", **source)
        pooled = pd.concat([graded, people, model], ignore_index=True)
        found, chosen = tier_votes(pooled, PAIR)
        assert (found, len(chosen)) == (f"human on {source.get('source', 'all votes')}", 400)
        assert judges_of(pooled).value_counts().to_dict() == {"human": 400, "gold": 40, "gpt-4": 30}

    def test_few_people_with_numbered_ids_are_one_judge_too(self):
        rows = [(f"p{n}", "strong", "weak", "tie") for n in range(60)]
        workers = votes(*rows).assign(judge=[f"annotator {n % 5}" for n in range(60)])
        assert set(judges_of(workers)) == {"human"}
        judges = {*judges_of(workers.assign(judge=[("gpt-3", "gpt-4", "qwen2", "reward-1")[n % 4] for n in range(60)]))}
        assert judges == {"gpt-3", "gpt-4", "qwen2", "reward-1"}
        models = workers.assign(judge=[f"m{n % 5}" for n in range(60)], model_a=[f"m{n % 5}" for n in range(60)])
        assert set(judges_of(models)) == {f"m{n}" for n in range(5)}

    def test_few_voters_with_plain_names_bring_a_warning_and_models_none(self):
        rows = [(f"p{n}", "strong", "weak", "tie") for n in range(60)]
        voters = votes(*rows).assign(judge=[("ann", "bob", "cy", "dee")[n % 4] for n in range(60)])
        with pytest.warns(UserWarning, match=r"15 votes of judge 'dee' alone, of 60 by 4 judges.*set judge='human'"):
            tier_votes(voters, PAIR)
        tier_votes(voters.assign(judge="human"), PAIR)
        tier_votes(voters.assign(judge=[f"gpt-{n % 4}" for n in range(60)]), PAIR)
        tier_votes(voters.assign(judge=["our rubric" if n % 3 else "second rubric" for n in range(60)]), PAIR)

    def test_a_grader_with_few_votes_in_one_source_and_many_in_another_is_no_crowd(self):
        crowd = votes(*[(f"p{n}", "strong", "weak", "tie") for n in range(300)]).assign(
            judge=[f"user {chr(97 + n % 20)}" for n in range(300)], source="arena"
        )
        own = votes(*[(f"q{n}", "strong", "mid", "tie") for n in range(50)]).assign(judge="our rubric", source="ours")
        both = pd.concat([crowd, own, own.head(4).assign(source="arena")], ignore_index=True)
        assert judges_of(both).value_counts().to_dict() == {"human": 300, "our rubric": 54}

    def test_votes_that_name_no_judge_are_a_judge_of_their_own(self):
        named = votes(*[(f"p{n}", "strong", "weak", "tie") for n in range(3)]).assign(judge="gpt-4", source=1)
        nameless = votes(*[(f"q{n}", "strong", "weak", "tie") for n in range(9)]).assign(
            judge=[None, "", " "] * 3, source=2
        )
        name, chosen = tier_votes(pd.concat([named, nameless], ignore_index=True), PAIR)
        assert (name, len(chosen)) == ("an unnamed judge on 2", 9)

    def test_votes_without_a_judge_are_one_set(self):
        name, chosen = tier_votes(votes(("p", "strong", "weak", "tie")), PAIR)
        assert (name, len(chosen)) == ("the votes given", 1)
