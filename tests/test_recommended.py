"""The recommended router on the sample: what it may learn from, what is kept, what its card says, how good it is."""

import errno
import html
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from routellm_lab import ModelPair, evaluate, files, load_outcomes, recommended_router
from routellm_lab.encoders import HashingEncoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import PAPER_PAIR
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import RECIPE, KernelRouter, load_router, recommended
from routellm_lab.routers.recommended import gold_prompt_ids, recommended_sets, router_card
from routellm_lab.settings import settings

ENCODER = "hashing:256"
GOLD = 300
STRANGER = ModelPair(SAMPLE_PAIR.strong, "sim-nobody")


class Trained(Exception):
    """Raised in place of training."""


@cache
def sample(name):
    return load_outcomes(name, data="sample")


@pytest.fixture(scope="module", autouse=True)
def sample_once():
    """The sample is simulated once: most of the time would go into it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            recommended,
            "load_outcomes",
            lambda name, data: sample(name) if data == "sample" else load_outcomes(name, data=data),
        )
        yield


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """An empty cache of this file's own; the router with gold questions is the first in it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("recommended")
        patch.setenv("ROUTELLM_LAB_CACHE", str(folder))
        patch.delenv("ROUTELLM_LAB_DATA", raising=False)
        settings.cache_clear()
        yield folder
    settings.cache_clear()


@pytest.fixture(scope="module")
def sets():
    return recommended_sets(SAMPLE_PAIR, "sample", gold_questions=GOLD, encoder=ENCODER)


@pytest.fixture(scope="module")
def blind():
    """The sets without gold questions."""
    return recommended_sets(SAMPLE_PAIR, "sample", gold_questions=0, encoder=ENCODER)


@pytest.fixture(scope="module")
def router(own_cache):
    return recommended_router(gold_questions=GOLD, encoder=ENCODER)


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*_, **__):
        raise Trained

    monkeypatch.setattr(KernelRouter, "fit", refuse)
    monkeypatch.setattr(recommended, "recommended_sets", refuse)


@pytest.fixture(scope="module")
def left(mmlu):
    """MMLU without the gold questions: what may be evaluated on."""
    return mmlu.select(~mmlu.prompts.index.isin(gold_prompt_ids(mmlu, GOLD)))


def keys(votes):
    return set(votes["prompt_key"])


class TestSets:
    def test_no_question_that_is_evaluated_is_in_them(self, sets, left):
        found, _ = sets
        assert set(found) == {"gold", "difficulty"}
        for evaluated in (left, *(sample(name) for name in ("gsm8k", "mt_bench"))):
            for votes in found.values():
                assert not keys(votes) & set(evaluated.keys), evaluated.name

    def test_gold_is_the_named_part_of_mmlu(self, sets, mmlu):
        found, dropped = sets
        ids = gold_prompt_ids(mmlu, GOLD)
        assert 0.95 * GOLD < len(ids) <= GOLD
        gone = set(dropped.loc[dropped["set"] == "gold", "prompt_key"])
        assert keys(found["gold"]) == set(mmlu.keys[ids]) - gone
        assert len(gone) < 0.05 * GOLD
        gap = mmlu.gap(SAMPLE_PAIR)[found["gold"]["battle_id"]].to_numpy()
        won = found["gold"]["winner"].map({"model_a": 1, "tie": 0, "model_b": -1})
        assert (won == np.sign(gap)).all()
        shares = mmlu.groups[ids].value_counts(normalize=True) - mmlu.groups.value_counts(normalize=True)
        assert shares.abs().max() < 0.01

    def test_the_planted_overlap_is_dropped_and_named(self, sets):
        found, dropped = sets
        pro = sample("mmlu_pro")
        for name in ("gsm8k", "mt_bench"):
            planted = set(pro.keys) & set(sample(name).keys)
            assert len(planted) > 10
            rows = dropped[(dropped["evaluation"] == name) & (dropped["rule"] == "same prompt")]
            assert set(rows["prompt_key"]) == planted
            assert set(rows["set"]) == {"difficulty"}
        assert keys(found["difficulty"]) == set(pro.keys) - set(
            dropped.loc[dropped["set"] == "difficulty", "prompt_key"]
        )
        assert len(keys(found["difficulty"])) > 0.9 * len(pro)

    def test_without_gold_questions_there_is_only_difficulty(self, blind, mmlu):
        found, dropped = blind
        assert list(found) == ["difficulty"]
        assert set(dropped["set"]) == {"difficulty"}
        for name in ("mmlu", "gsm8k", "mt_bench"):
            assert not keys(found["difficulty"]) & set(sample(name).keys)

    def test_a_pair_without_grades_learns_from_difficulty_alone(self, blind):
        found, _ = recommended_sets(STRANGER, "sample", gold_questions=GOLD, encoder=ENCODER)
        assert list(found) == ["difficulty"]
        assert set(found["difficulty"]["model_b"]) == {"sim-nobody"}
        names = ["model_a", "model_b"]
        pd.testing.assert_frame_equal(
            found["difficulty"].drop(columns=names), blind[0]["difficulty"].drop(columns=names)
        )

    def test_the_seed_chooses_the_gold_questions(self, mmlu):
        first, again, other = (gold_prompt_ids(mmlu, GOLD, seed) for seed in (0, 0, 1))
        assert first.equals(again)
        assert len(first.intersection(other)) < GOLD / 2

    def test_at_most_half_of_a_benchmark_is_gold(self, mmlu):
        ids = gold_prompt_ids(mmlu, 10**6)
        assert 0.45 * len(mmlu) < len(ids) <= len(mmlu) // 2
        with pytest.raises(ParameterError, match="gold_questions must be 0 or more, got -1"):
            recommended_sets(SAMPLE_PAIR, "sample", gold_questions=-1, encoder=ENCODER)


class TestFolders:
    """Data roots that hold less than the sample."""

    @pytest.fixture
    def write(self, tmp_path):
        (tmp_path / "outcomes").mkdir()

        def write(name, size, scores=True, **details):
            outcomes = load_outcomes(name, data="sample", size=size, contaminated="drop")
            prompts = pd.DataFrame({"prompt": outcomes.prompts, "group": outcomes.groups, **details}).reset_index()
            prompts.to_parquet(tmp_path / "outcomes" / f"{name}.prompts.parquet")
            if scores:
                long = outcomes.scores.reset_index().melt("prompt_id", var_name="model", value_name="score")
                long.to_parquet(tmp_path / "outcomes" / f"{name}.scores.parquet")
            return outcomes

        write.folder = tmp_path
        return write

    def test_one_set_is_enough(self, write):
        write("mmlu_pro", 150)
        found, dropped = recommended_sets(SAMPLE_PAIR, write.folder, encoder=ENCODER)
        assert list(found) == ["difficulty"]
        assert len(keys(found["difficulty"])) == 150
        assert dropped.empty
        write("mmlu", 120)
        found, _ = recommended_sets(SAMPLE_PAIR, str(write.folder), encoder=ENCODER)
        assert list(found) == ["gold", "difficulty"]
        assert 50 < len(found["gold"]) <= 60

    def test_neither_is_an_error_that_says_what_to_do(self, write):
        write("gsm8k", 50)
        message = "no labels: of mmlu, 1500 grades of .* and it has none, and there are no outcomes of mmlu_pro; use "
        with pytest.raises(DataError, match=message):
            recommended_sets(SAMPLE_PAIR, write.folder, encoder=ENCODER)
        write("mmlu", 60)
        write("mmlu_pro", 60, scores=False)
        for pair, questions in ((SAMPLE_PAIR, 0), (PAPER_PAIR, 30)):
            with pytest.raises(DataError, match="no labels: of mmlu"):
                recommended_sets(pair, write.folder, gold_questions=questions, encoder=ENCODER)

    def test_questions_marked_as_anothers_do_not_shape_the_labels(self, write):
        outcomes = load_outcomes("mmlu_pro", data="sample", size=200)
        marked = np.arange(200) % 4 == 0
        write("mmlu", 60)
        write("mmlu_pro", 200, overlaps_mmlu=marked, overlaps_other=~marked)
        found, dropped = recommended_sets(SAMPLE_PAIR, write.folder, gold_questions=0, encoder=ENCODER)
        assert not keys(found["difficulty"]) & set(outcomes.keys[marked])
        assert set(dropped["rule"]) <= {"near duplicate", "same meaning"}  # the marked were never there to drop
        kept = outcomes.select(~marked)
        alone = recommended.battles_from_difficulty(kept, SAMPLE_PAIR, topic_share=RECIPE["topic_share"])
        alone = alone[~alone["prompt_key"].isin(set(dropped["prompt_key"]))]
        np.testing.assert_allclose(found["difficulty"]["weight"], alone["weight"])

    def test_other_data_are_another_router(self, write, own_cache, monkeypatch):
        write("mmlu_pro", 120)
        first = recommended_router(SAMPLE_PAIR, write.folder, gold_questions=0, encoder=ENCODER)
        assert first.prompts_ == {"difficulty": 120}
        write("mmlu_pro", 121)
        assert recommended_router(SAMPLE_PAIR, write.folder, gold_questions=0, encoder=ENCODER).prompts_ == {
            "difficulty": 121
        }
        write("mmlu_pro", 120)
        monkeypatch.setattr(KernelRouter, "fit", None)
        assert recommended_router(SAMPLE_PAIR, write.folder, gold_questions=0, encoder=ENCODER).prompts_ == {
            "difficulty": 120
        }

    def test_a_pair_without_grades_is_told_so(self, write, own_cache):
        write("mmlu_pro", 60)
        with pytest.warns(UserWarning, match="mmlu has no grades of both 'sim-granite' and 'sim-nobody'"):
            router = recommended_router(STRANGER, write.folder, encoder=ENCODER)
        assert router.pair_used_ == STRANGER
        assert list(router.prompts_) == ["difficulty"]

    def test_a_damaged_cache_is_replaced(self, write, own_cache):
        write("mmlu_pro", 61)
        options = {"data": write.folder, "gold_questions": 0, "encoder": ENCODER}
        before = set((own_cache / "recommended").glob("*"))
        first = recommended_router(SAMPLE_PAIR, **options)
        (folder,) = set((own_cache / "recommended").glob("*")) - before
        (folder / "weights.safetensors").write_bytes(b"cut")
        prompts = sample("mmlu_pro").prompts.head(9)
        np.testing.assert_array_equal(
            recommended_router(SAMPLE_PAIR, **options).win_rate(prompts), first.win_rate(prompts)
        )
        np.testing.assert_array_equal(load_router(folder).win_rate(prompts), first.win_rate(prompts))

    def test_a_full_disk_does_not_stop_it(self, write, own_cache, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        write("mmlu_pro", 62)
        monkeypatch.setattr(files, "_put_in_place", full)
        with pytest.warns(UserWarning, match="not kept for the next time: .*No space left on device"):
            router = recommended_router(SAMPLE_PAIR, write.folder, gold_questions=0, encoder=ENCODER)
        assert router.prompts_ == {"difficulty": 62}

    def test_an_encoder_without_a_name_serves_and_is_not_kept(self, write, own_cache):
        class Own(HashingEncoder):
            spec = "an encoder of my own"

        write("mmlu_pro", 62)
        with pytest.warns(UserWarning, match="not kept for the next time: .*give the router an encoder by name"):
            router = recommended_router(SAMPLE_PAIR, write.folder, gold_questions=0, encoder=Own(64))
        assert np.isfinite(router.win_rate(["one"])).all()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"pair": "gpt-4"}, "pair must be a ModelPair.*got 'gpt-4'"),
            ({"gold_questions": -1}, "gold_questions must be a whole number of 0 or more, got -1"),
            ({"gold_questions": 1.5}, "gold_questions must be a whole number of 0 or more, got 1.5"),
            ({"gold_questions": True}, "gold_questions must be a whole number of 0 or more, got True"),
            ({"gold_questions": "15"}, "gold_questions must be a whole number of 0 or more, got '15'"),
            ({"pair": ("a", "b")}, r"pair must be a ModelPair.*got \('a', 'b'\)"),
        ],
    )
    def test_what_cannot_be_asked_for(self, own_cache, no_training, options, message):
        with pytest.raises(ParameterError, match=message):
            recommended_router(encoder=ENCODER, **options)


class TestCache:
    def test_the_second_call_reads_the_folder(self, router, own_cache, no_training, left):
        folders = list((own_cache / "recommended").iterdir())
        again = recommended_router(SAMPLE_PAIR, "sample", gold_questions=GOLD, encoder=ENCODER)
        np.testing.assert_array_equal(again.win_rate(left.prompts), router.win_rate(left.prompts))
        assert np.ptp(router.win_rate(left.prompts)) > 0.1
        assert router_card(again) == router_card(router)
        assert list((own_cache / "recommended").iterdir()) == folders

    @pytest.mark.parametrize(
        "change",
        [
            {"fresh": True},
            {"gold_questions": GOLD + 1},
            {"random_state": 1},
            {"encoder": "hashing:128"},
            {"pair": ModelPair("sim-everest", SAMPLE_PAIR.weak)},
        ],
    )
    def test_anything_else_is_trained(self, router, no_training, change):
        with pytest.raises(Trained):
            recommended_router(**{"gold_questions": GOLD, "encoder": ENCODER} | change)

    def test_another_recipe_is_trained(self, router, no_training, monkeypatch):
        monkeypatch.setitem(recommended.RECIPE, "length", 0.1)
        with pytest.raises(Trained):
            recommended_router(gold_questions=GOLD, encoder=ENCODER)

    def test_a_seed_is_a_router(self, router, sets, own_cache, left):
        def written():
            return {file: file.stat().st_mtime_ns for file in (own_cache / "recommended").glob("*/config.json")}

        before = written()
        fresh = recommended_router(gold_questions=GOLD, encoder=ENCODER, fresh=True)
        np.testing.assert_array_equal(fresh.win_rate(left.prompts), router.win_rate(left.prompts))
        (replaced,) = (file for file, time in written().items() if time != before[file])
        np.testing.assert_array_equal(
            load_router(replaced.parent).win_rate(left.prompts), router.win_rate(left.prompts)
        )


class TestRouter:
    def test_it_is_the_recipe(self, router, sets):
        assert isinstance(router, KernelRouter)
        assert router.pair == router.pair_used_ == SAMPLE_PAIR
        assert router.weights_ == RECIPE["sets"]
        assert router.length == RECIPE["length"]
        assert router.prompts_ == {name: len(keys(votes)) for name, votes in sets[0].items()}

    def test_it_beats_a_random_router_on_questions_it_never_saw(self, router, left):
        curve = evaluate(router, left)
        assert curve.apgr > 0.6
        assert curve.p_value_vs_random(n_permutations=500) < 0.05
        for name in ("gsm8k", "mt_bench"):
            assert evaluate(router, sample(name)).apgr > 0.52

    def test_so_does_one_that_never_saw_the_benchmark(self, own_cache, mmlu):
        router = recommended_router(gold_questions=0, encoder=ENCODER)
        curve = evaluate(router, mmlu)
        assert curve.apgr > 0.6
        assert curve.p_value_vs_random(n_permutations=500) < 0.05
        assert list(router.prompts_) == ["difficulty"]

    def test_the_card_names_pair_sets_and_counts(self, router, own_cache):
        card = router_card(router)
        assert card.startswith("# Router for sim-granite and sim-pebble\n")
        for name, count in router.prompts_.items():
            (row,) = (line for line in card.splitlines() if line.startswith(f"| {name} |"))
            assert row.endswith(f" | {count:,} | 1 |")
        assert f"`{ENCODER}`" in card
        assert "never saw" not in card
        assert "new benchmarks are the fairer test" in card  # what notebook 09 admits
        blind = router_card(recommended_router(gold_questions=0, encoder=ENCODER))
        assert "It never saw mmlu." in blind
        assert "| difficulty |" in blind
        assert "| gold |" not in blind


def test_a_card_shows_models_names_as_they_are():
    pair = ModelPair(strong="<img src=x onerror=alert(1)>", weak="a_b_c [x](javascript:alert(1))")
    made = {"pair": pair, "encoder": "hashing:64", "width": 1.0, "noise": 1.0, "length": 0.0}
    card = router_card(SimpleNamespace(**made, prompts_={"a | b": 3}, weights_={"a | b": 1.0}))
    assert "<img" not in card
    assert "](javascript" not in card
    assert "| a &#124; b | votes | 3 | 1 |" in card
    assert html.unescape(card).startswith(f"# Router for {pair.strong} and {pair.weak}\n")
