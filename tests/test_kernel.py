"""The kernel router against its formula, literally; what a set says, near and far; planted truth."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from routellm_lab import evaluate
from routellm_lab.encoders import Encoder, make_encoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import ModelPair, Tiers, pool_battles, prompt_key, soft_votes, validate_battles
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import KernelRouter, kernel, load_router
from routellm_lab.routers.baselines import clip_win_rate

PAIR = ModelPair("large", "small")
TIERS = Tiers({"large": 0, "small": 1}, "told")
ENCODER = "hashing:64"
WORDS = "river stone proof tax cloud verb heart engine market poem atom law".split()
OPTIONS = "\nA. one\nB. two\n(C) three\nAnswer:"
RESULT = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0}
UNSEEN = [
    "a proof on the heart",
    "tax",
    " ".join(["engine of the market"] * 5),
    "nothing of that kind",
    "atom law atom",
]


class Angles(Encoder):
    """Texts that are directions in the plane, in degrees."""

    spec = "angles"
    dimensions = 2

    def encode_texts(self, texts):
        angle = np.radians([float(text) for text in texts])
        return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


def random_votes(seed, size=60):
    """Votes with weights, ties, both sides, several on one prompt, some with options."""
    rng = np.random.default_rng(seed)
    prompts = [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(size * 2 // 3)]
    prompts = [text + OPTIONS * (number % 3 == 0) for number, text in enumerate(prompts)]
    turned = rng.random(size) < 0.4
    frame = {
        "prompt": rng.choice(prompts, size),
        "model_a": np.where(turned, "small", "large"),
        "model_b": np.where(turned, "large", "small"),
        "winner": rng.choice(list(RESULT), size),
        "weight": rng.uniform(0.2, 3, size),
    }
    return validate_battles(pd.DataFrame(frame))


def votes_on(texts, chance):
    """One soft vote on each text."""
    frame = pd.DataFrame({"prompt": texts, "model_a": "large", "model_b": "small", "winner": "tie"})
    return soft_votes(validate_battles(frame), np.asarray(chance))


def make(**options):
    return KernelRouter(PAIR, **{"encoder": ENCODER, "tiers": TIERS} | options)


@pytest.fixture(autouse=True)
def nothing_solved(monkeypatch):
    """Every test begins without the fits of those before it."""
    monkeypatch.setattr(kernel, "_SOLVED", {})


@pytest.fixture(scope="module")
def pool():
    return pool_battles({"one": random_votes(1), "two": random_votes(2, 40), "three": random_votes(3, 20)}, False)


def reference(battles, weights, texts, width, noise, length):
    """The formula of the docstring, prompt by prompt and entry by entry."""
    sets = {}
    for name in weights:
        told = {}
        for vote in battles[battles["set"] == name].itertuples():
            result = RESULT[vote.winner] if vote.model_a == "large" else 1 - RESULT[vote.winner]
            told.setdefault(vote.prompt_key, []).append((vote.prompt, result, vote.weight))
        sets[name] = [
            (votes[0][0].split("\n")[0], sum(r * w for _, r, w in votes) / sum(w for *_, w in votes), votes)
            for votes in told.values()
        ]
    every = dict.fromkeys([question for rows in sets.values() for question, *_ in rows] + list(texts))
    vectors = dict(zip(every, make_encoder(ENCODER).transform(list(every)).astype(float), strict=True))

    def k(x, other, logs):
        a, b = vectors[x], vectors[other]
        z = [np.clip((np.log1p(len(text)) - logs.mean()) / logs.std(), -3, 3) for text in (x, other)]
        return np.exp(-width * ((a - b) ** 2).sum()) * (1 + length * z[0] * z[1])

    total, levels = np.zeros(len(texts)), {}
    for name, rows in sets.items():
        asked, y = [question for question, *_ in rows], np.array([label for _, label, _ in rows])
        w = np.array([sum(weight for *_, weight in votes) for *_, votes in rows])
        levels[name] = (w * y).sum() / w.sum()
        logs = np.log1p([len(question) for question in asked])
        gram = np.array([[k(a, b, logs) for b in asked] for a in asked])
        duals = np.linalg.inv(gram + noise * np.diag(w.mean() / w)) @ (y - levels[name])
        total += weights[name] * np.array(
            [sum(k(x, q, logs) * d for q, d in zip(asked, duals, strict=True)) for x in texts]
        )
    return total + sum(weights[name] * levels[name] for name in weights) / sum(weights.values()), levels


@pytest.mark.parametrize(
    ("sets", "width", "noise", "length"),
    [
        (None, 1.0, 4.0, 0.0),
        (None, 0.5, 0.7, 0.3),
        ({"two": 1.0}, 3.0, 1.0, 0.0),
        ({"three": 0.5, "one": 2.0}, 1.0, 2.0, 0.8),
    ],
)
def test_win_rates_are_those_of_the_formula(pool, sets, width, noise, length):
    router = make(sets=sets, width=width, noise=noise, length=length).fit(pool)
    weights = sets or {"one": 1.0, "two": 1.0, "three": 1.0}
    texts = [*UNSEEN, " ".join(["stone"] * 3_000)]
    expected, levels = reference(pool, weights, texts, width, noise, length)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(router.win_rate(texts), clip_win_rate(expected), rtol=0, atol=1e-10)
    assert router.levels_ == pytest.approx(levels, abs=1e-12)
    assert router.weights_ == weights
    assert router.prompts_ == {name: pool.loc[pool["set"] == name, "prompt_key"].nunique() for name in levels}


def test_votes_without_the_column_are_one_set(pool):
    bare = pool.drop(columns="set")
    router = make(length=0.5).fit(bare)
    expected, _ = reference(bare.assign(set="votes"), {"votes": 1.0}, UNSEEN, 1.0, 4.0, 0.5)
    np.testing.assert_allclose(router.win_rate(UNSEEN), clip_win_rate(expected), rtol=0, atol=1e-10)
    assert list(router.prompts_) == ["votes"]


def test_sets_add_up(pool):
    def says(**sets):
        """What the sets say of each prompt beyond their level."""
        router = make(sets=sets, noise=2.0, length=0.3).fit(pool)
        rates = router.win_rate(UNSEEN)
        assert ((rates > 0.02) & (rates < 0.98)).all()  # as linear predictions go in: see squash
        level = sum(weight * router.levels_[name] for name, weight in sets.items()) / sum(sets.values())
        return rates - level

    one, two = says(one=1.0), says(two=1.0)
    assert min(np.ptp(one), np.ptp(two)) > 0.01
    np.testing.assert_allclose(says(one=1.0, two=1.0), one + two, atol=1e-12)
    np.testing.assert_allclose(says(one=0.5, two=1.5, three=0.0), 0.5 * one + 1.5 * two, atol=1e-12)


def test_far_from_its_prompts_a_set_says_next_to_nothing():
    near = [f"{angle:.1f}" for angle in np.linspace(-20, 20, 41)]
    votes = votes_on(near, np.linspace(0.1, 0.7, 41))
    router = make(encoder=Angles(), noise=0.1).fit(votes)
    level = router.levels_["votes"]
    assert level == pytest.approx(0.4)
    said = np.abs(router.win_rate(["-20", "20"]) - level)
    assert said.min() > 0.2
    distance = np.abs(router.win_rate(["90", "120", "180"]) - level)
    assert (np.diff(distance) < 0).all()
    assert distance[-1] < 0.1 * said.min()
    narrow = make(encoder=Angles(), noise=0.1, width=30.0).fit(votes)
    assert np.abs(narrow.win_rate(["-20", "20"]) - level).min() > 0.2
    np.testing.assert_allclose(narrow.win_rate(["90", "180", "270"]), level, atol=1e-6)
    other = pool_battles({"near": votes, "far": votes_on([f"{180 + number}" for number in range(9)], [0.4] * 9)})
    both = make(encoder=Angles(), noise=0.1, width=30.0).fit(other)  # a set without prompts nearby changes nothing
    np.testing.assert_allclose(both.win_rate(near), narrow.win_rate(near), atol=1e-6)


def test_a_source_that_grades_otherwise_is_no_difference_between_prompts():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 4)) + f" {number}" for number in range(80)]
    chance = rng.uniform(0.3, 0.6, 80)

    def rates(shift, by_set):
        votes = {"strict": votes_on(texts[:40], chance[:40]), "mild": votes_on(texts[40:], chance[40:] + shift)}
        pooled = pool_battles(votes, balance=False)
        return make(noise=1.0).fit(pooled if by_set else pooled.drop(columns="set")).win_rate(texts)

    moved = rates(0.3, True) - rates(0.0, True)
    np.testing.assert_allclose(moved, 0.15, atol=1e-9)  # the mean of the two levels moves, the order does not
    assert np.ptp(rates(0.3, False) - rates(0.0, False)) > 0.05  # as one set they would be compared


def test_more_votes_on_a_prompt_count_more():
    votes = votes_on(["river", "stone", "cloud"], [0.9, 0.1, 0.5])
    heavy = votes.assign(weight=votes["weight"] * np.repeat([9.0, 1.0, 1.0], 2))
    equal, more = (make().fit(part) for part in (votes, heavy))
    pull = [router.win_rate(["river"])[0] - router.levels_["votes"] for router in (equal, more)]
    # alone in its place (k = 1, its neighbours' k = exp(-2)) a prompt of weight W gets about 1 / (1 + noise / W)
    assert router_says(equal, 1.0) == pytest.approx(pull[0], abs=1e-9)
    assert router_says(more, 27 / 11) == pytest.approx(pull[1], abs=1e-9)
    assert more.levels_["votes"] > equal.levels_["votes"]


def router_says(router, weight):
    """What three mutually orthogonal prompts, results .9, .1, .5, say of the first, whose weight is ``weight``."""
    rest = (3 - weight) / 2
    gram = np.full((3, 3), np.exp(-2.0)) + np.eye(3) * (1 - np.exp(-2.0))
    y = np.array([0.9, 0.1, 0.5]) - router.levels_["votes"]
    duals = np.linalg.solve(gram + 4.0 * np.diag(1 / np.array([weight, rest, rest])), y)
    return gram[0] @ duals


class TestOnlyTheQuestionIsRead:
    def test_options_change_nothing(self, pool):
        router = make(length=0.5).fit(pool)
        listed = [text + OPTIONS for text in UNSEEN]
        np.testing.assert_array_equal(router.win_rate(listed), router.win_rate(UNSEEN))
        np.testing.assert_array_equal(router.win_rate([text + "\nAnswer:" for text in UNSEEN]), router.win_rate(UNSEEN))
        assert np.abs(router.win_rate([text + " river river" for text in UNSEEN]) - router.win_rate(UNSEEN)).min() > 0
        pd.testing.assert_frame_equal(router.familiarity(listed), router.familiarity(UNSEEN))

    def test_nor_do_those_of_the_training_prompts(self):
        rng = np.random.default_rng(1)
        texts = [" ".join(rng.choice(WORDS, 3)) + f" {number}" for number in range(30)]
        chance = rng.uniform(0.2, 0.8, 30)
        plain = make(length=0.5).fit(votes_on(texts, chance)).win_rate(UNSEEN)
        longer = [text + OPTIONS * (number % 2) for number, text in enumerate(texts)]
        np.testing.assert_allclose(make(length=0.5).fit(votes_on(longer, chance)).win_rate(UNSEEN), plain, atol=1e-12)

    def test_white_space_without_end_does_not_hold_the_router_up(self, pool):
        router = make().fit(pool)
        # a pattern that reads the run once for each of its places would be at this for hours
        rates = router.win_rate(["x" + "\n" * 10**6 + "x", "x" + " " * 10**6 + "x", "answer" + "\n " * 10**6 + "x"])
        assert np.isfinite(rates).all()


def test_planted_truth_is_found_and_noise_is_not(arena, mmlu):
    options = {"encoder": "hashing:256", "n_tiers": 4, "weak_tiers": "below", "length": 0.3}
    router = KernelRouter(SAMPLE_PAIR, **options).fit(arena)
    curve = evaluate(router, mmlu)
    assert curve.apgr > max(0.58, 0.5 + 4 * curve.random_sd)
    order = np.random.default_rng(0).permutation(len(arena))
    said = ["model_a", "model_b", "winner"]
    shuffled = arena.assign(**{name: arena[name].to_numpy()[order] for name in said})
    nothing = evaluate(KernelRouter(SAMPLE_PAIR, **options | {"tiers": router.tiers_}).fit(shuffled), mmlu)
    assert abs(nothing.apgr - 0.5) < 3 * nothing.random_sd


class TestSolvedOnce:
    """Sets that are fitted alike are fitted once in a process."""

    def test_only_the_weights_of_the_sets_may_differ(self, pool, monkeypatch):
        expected = make(sets={"one": 0.3, "two": 2.0}).fit(pool).win_rate(UNSEEN)
        kernel._SOLVED.clear()
        make(sets={"two": 1.0, "one": 1.0}).fit(pool)
        assert len(kernel._SOLVED) == 2
        monkeypatch.setattr(KernelRouter, "_solve", None)
        np.testing.assert_array_equal(make(sets={"one": 0.3, "two": 2.0}).fit(pool).win_rate(UNSEEN), expected)

    @pytest.mark.parametrize("name", ["width", "noise", "length", "encoder", "winner", "weight", "prompt"])
    def test_whatever_else_differs_is_solved_anew(self, pool, name):
        options = {"sets": {"two": 1.0}, "length": 0.2}
        single = votes = pool.drop_duplicates(["set", "prompt_key"]).reset_index(drop=True)  # weights move no label
        if name in ("winner", "weight"):
            votes = single.assign(**{name: single[name].to_numpy()[::-1]})
        elif name == "prompt":
            texts = single["prompt"].str.replace("river", "river ford")
            votes = single.assign(prompt=texts, prompt_key=texts.map(prompt_key))
        else:
            options[name] = "hashing:32" if name == "encoder" else 0.7
        expected = make(**options).fit(votes).win_rate(UNSEEN)
        kernel._SOLVED.clear()
        before = make(sets={"two": 1.0}, length=0.2).fit(single).win_rate(UNSEEN)
        np.testing.assert_array_equal(make(**options).fit(votes).win_rate(UNSEEN), expected)
        assert np.abs(before - expected).max() > 1e-4
        assert len(kernel._SOLVED) == 2

    def test_old_fits_make_room(self, pool, monkeypatch):
        monkeypatch.setattr(kernel, "_KEPT", 2)
        first = make(sets={"two": 1.0}).fit(pool).win_rate(UNSEEN)
        for noise in (1.0, 2.0, 3.0):
            make(sets={"two": 1.0}, noise=noise).fit(pool)
            assert len(kernel._SOLVED) <= 2
        np.testing.assert_array_equal(make(sets={"two": 1.0}).fit(pool).win_rate(UNSEEN), first)


def test_a_saved_router_keeps_its_sets(pool, tmp_path):
    router = make(sets={"three": 0.5, "two": 2}, length=0.4, width=2.0).fit(pool)
    loaded = load_router(router.save(tmp_path / "router"))
    np.testing.assert_array_equal(loaded.win_rate(UNSEEN), router.win_rate(UNSEEN))
    pd.testing.assert_frame_equal(loaded.familiarity(UNSEEN), router.familiarity(UNSEEN))
    assert loaded.sets == {"three": 0.5, "two": 2.0}
    for name in ("weights_", "levels_", "prompts_", "length_scales_"):
        assert getattr(loaded, name) == getattr(router, name)
    again = load_router(loaded.save(tmp_path / "again"))
    np.testing.assert_array_equal(again.win_rate(UNSEEN), router.win_rate(UNSEEN))
    refitted = loaded.fit(pool)
    np.testing.assert_array_equal(refitted.win_rate(UNSEEN), router.win_rate(UNSEEN))


class TestFamiliarity:
    def test_it_is_the_largest_cosine_to_each_set(self, pool, monkeypatch):
        router = make().fit(pool)
        train = {name: [text.split("\n")[0] for text in found["prompt"]] for name, found in pool.groupby("set")}
        texts = [*UNSEEN, train["two"][0]]
        told = router.familiarity(texts)
        assert told.shape == (len(texts), 3)
        assert told.columns.tolist() == ["one", "two", "three"]
        encode = make_encoder(ENCODER).transform
        for name, prompts in train.items():
            expected = (encode(texts) @ encode(prompts).T).max(axis=1)
            np.testing.assert_allclose(told[name], expected, atol=1e-6)
        assert told["two"].iloc[-1] == pytest.approx(1.0)
        assert router.familiarity(pool["prompt"]).to_numpy().max() == 1.0  # never a rounding error above
        rates = router.win_rate(texts)
        monkeypatch.setattr("routellm_lab.routers.kernel._CHUNK", 2)
        np.testing.assert_allclose(router.familiarity(texts), told, atol=1e-6)
        np.testing.assert_allclose(router.win_rate(texts), rates, atol=1e-12)

    @settings(max_examples=25)
    @given(st.lists(st.text(max_size=40), max_size=5))
    def test_any_text_has_one_in_range(self, pool, texts):
        told = make(sets={"two": 1.0}).fit(pool).familiarity(texts)
        assert told.shape == (len(texts), 1)
        assert ((told >= -1) & (told <= 1)).all(axis=None)

    def test_it_needs_a_fitted_router_and_texts(self, pool):
        with pytest.raises(NotFittedError):
            make().familiarity(["tax"])
        with pytest.raises(DataError, match="one bare string"):
            make().fit(pool).familiarity("tax")


class TestRefused:
    @pytest.mark.parametrize("name", ["width", "noise", "length"])
    @pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
    def test_numbers_that_make_no_kernel(self, pool, name, value):
        least = "from 0" if name == "length" else "above 0"
        with pytest.raises(ParameterError, match=f"KernelRouter: {name} must be a number {least}, got {value}"):
            make(**{name: value}).fit(pool)

    def test_no_width_and_no_noise(self, pool):
        for name in ("width", "noise"):
            with pytest.raises(ParameterError, match=f"{name} must be a number above 0, got 0"):
                make(**{name: 0}).fit(pool)
        assert make(length=0).fit(pool).prompts_

    @pytest.mark.parametrize("sets", [{}, {"one": np.nan}, {"one": 1.0, "two": np.inf}])
    def test_sets_without_a_weight(self, pool, sets):
        with pytest.raises(ParameterError, match="sets must map names of sets to numbers"):
            make(sets=sets).fit(pool)

    def test_sets_that_are_not_there(self, pool):
        with pytest.raises(DataError, match=r"no set five, four in the votes; .* holds one, three, two"):
            make(sets={"four": 1.0, "five": 1.0, "one": 1.0}).fit(pool)
        with pytest.raises(DataError, match=r"no set one in the votes; .* holds votes"):
            make(sets={"one": 1.0}).fit(pool.drop(columns="set"))

    def test_sets_without_a_vote_between_the_sides(self, pool):
        other = pool.assign(model_b=pool["model_b"].where(pool["set"] != "two", "third"))
        other["model_a"] = other["model_a"].where(other["set"] != "two", "large")
        options = {"tiers": Tiers({"large": 0, "small": 1, "third": 2}, "told")}
        with pytest.raises(DataError, match="set two has no vote between the strong and the weak side"):
            make(sets={"one": 1.0, "two": 1.0}, **options).fit(other)
        assert list(make(**options).fit(other).prompts_) == ["one", "three"]

    @pytest.mark.parametrize("bad", [{"width": "wide"}, {"noise": None}, {"sets": "one"}, {"sets": {"one": "much"}}])
    def test_what_is_no_number_at_all(self, pool, bad):
        with pytest.raises(ParameterError, match=f"KernelRouter: {next(iter(bad))} must"):
            make(**bad).fit(pool)

    def test_more_prompts_than_memory_holds(self, pool, monkeypatch):
        most = pool.loc[pool["set"] == "two", "prompt_key"].nunique()
        monkeypatch.setattr(kernel, "MOST_PROMPTS", most)
        assert make(sets={"two": 1.0}).fit(pool).prompts_ == {"two": most}
        monkeypatch.setattr(kernel, "MOST_PROMPTS", most - 1)
        with pytest.raises(ParameterError, match=f"set 'two' has {most} distinct prompts.*; sample {most - 1} of them"):
            make(sets={"two": 1.0}).fit(pool)

    @pytest.mark.parametrize("nameless", [None, 7])
    def test_votes_of_a_set_without_a_name(self, pool, nameless):
        names = pool["set"].astype(object)
        names.iloc[3] = nameless
        with pytest.raises(DataError, match="'set' of the votes must name the set of each, as text"):
            make().fit(pool.assign(set=names))


def test_a_prompt_in_two_sets_counts_in_both():
    votes = votes_on(["river", "stone"], [0.9, 0.3])
    router = make().fit(pool_battles({"one": votes, "two": votes}))
    assert router.prompts_ == {"one": 2, "two": 2}
    once = make().fit(votes)
    np.testing.assert_allclose(
        router.win_rate(UNSEEN) - once.levels_["votes"], 2 * (once.win_rate(UNSEEN) - once.levels_["votes"]), atol=1e-9
    )
    assert prompt_key("river") in set(votes["prompt_key"])
