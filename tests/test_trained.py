"""The paper's training sets, and the transformer routers trained on them once for all notebooks."""

import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import tiny
from typer.testing import CliRunner

from routellm_lab.cli import app
from routellm_lab.errors import ParameterError, RoutellmLabError
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import BertRouter, CausalLMRouter, Training
from routellm_lab.settings import settings
from routellm_lab.studies import paper_training_sets, training_sets
from routellm_lab.workbook import three_classes_changes, train_routers, trained, trained_routers
from routellm_lab.workbook.hashing import trained_index
from routellm_lab.workbook.trained import KINDS, THREE_CLASSES

EVERY = ("arena", "arena+judge", "arena+gold")
FITS = 2


def made_names(fits):
    return [
        f"{training}/{kind}/{fit}"
        for fit in range(fits)
        for training in EVERY
        for kind in (*KINDS, *([THREE_CLASSES] if training == "arena+gold" else []))
    ]


MADE = made_names(1)


@pytest.fixture(scope="module")
def sets():
    return paper_training_sets("sample", SAMPLE_PAIR, gold_questions=150, encoder="hashing:256", n_draws=2)


def test_gold_questions_are_labels_and_never_evaluated(sets):
    assert set(sets.given) == set(sets.clean) == {"arena", "arena+judge", "arena+gold"}
    assert 0 < len(sets.gold) <= 150
    gold = set(sets.gold["prompt_key"])
    assert gold <= set(sets.given["arena+gold"]["prompt_key"])
    assert not gold & set(sets.evaluations["mmlu"].keys)
    assert gold <= set(sets.benchmarks["mmlu"].keys)
    assert len(sets.evaluations["mmlu"]) + len(gold) <= len(sets.benchmarks["mmlu"])


def test_gold_questions_are_drawn_again_and_never_scored(sets):
    assert len(sets.draws("arena")) == 1
    first, second = sets.draws("arena+gold")
    assert first is sets.clean["arena+gold"]
    keys = sets.left_out("mmlu")
    assert keys[0] != keys[1]
    assert sets.left_out("gsm8k") == [set()]
    for votes, gold in zip((first, second), keys, strict=True):
        assert len(gold & set(votes["prompt_key"])) > 0.8 * len(gold)  # near copies of other questions are dropped
        assert not set(votes["prompt_key"]) & (set(sets.benchmarks["mmlu"].keys) - gold)
    with pytest.raises(ParameterError, match="n_draws must be a whole number"):
        paper_training_sets("sample", SAMPLE_PAIR, n_draws=0)


def test_no_evaluated_prompt_is_trained_on(sets):
    for name, votes in sets.clean.items():
        for outcomes in sets.evaluations.values():
            assert not set(outcomes.keys) & set(votes["prompt_key"])
        assert len(votes) == len(sets.given[name]) - sets.dropped[name].drop_duplicates("prompt_key")["votes"].sum()


def test_a_data_root_without_judges_has_no_set_of_theirs(monkeypatch):
    monkeypatch.setattr(training_sets, "battle_names", lambda data: ["arena_human"])
    few = paper_training_sets("sample", SAMPLE_PAIR, gold_questions=150, encoder="hashing:64")
    assert set(few.given) == set(few.clean) == {"arena", "arena+gold"}


def test_votes_without_gold_are_clean_of_the_gold_questions_too(sets):
    whole = set(sets.benchmarks["mmlu"].keys)
    assert not whole & set(sets.clean["arena"]["prompt_key"])
    assert not whole & set(sets.clean["arena+judge"]["prompt_key"])


def draws_of(sets):
    return {name: sets.draws(name) for name in sets.clean}


@pytest.fixture
def small(sets, monkeypatch, tmp_path):
    """Few votes, tiny models, a workbook of their own."""
    monkeypatch.setenv("ROUTELLM_LAB_ROOT", str(tmp_path))
    settings.cache_clear()
    yield make_small(monkeypatch, sets, tiny("encoder"), tiny("decoder"))
    monkeypatch.undo()
    settings.cache_clear()


def make_small(monkeypatch, sets, encoder, decoder):
    """Train on few votes and from these tiny models; returns the training sets."""
    draws = [votes.tail(600).reset_index(drop=True) for votes in sets.gold_draws]
    clean = {name: votes.tail(600).reset_index(drop=True) for name, votes in sets.clean.items()}
    few = replace(sets, clean=clean | {"arena+gold": draws[0]}, gold_draws=draws)
    training = Training(max_steps=2, evaluations=1, max_tokens=32)

    def routers(pair, _, seed):
        shared = {"weak_tiers": "below", "n_tiers": 4, "training": training, "random_state": seed}
        return {
            "bert": BertRouter(pair, encoder, **shared),
            "causal_llm": CausalLMRouter(pair, decoder, instruction="{prompt}:", **shared),
            "bert_three_classes": BertRouter(pair, encoder, head="three_classes", tie_share=0.0, **shared),
        }

    monkeypatch.setattr(trained, "paper_training_sets", lambda *_, **__: few)
    monkeypatch.setattr(trained, "transformer_routers", routers)
    monkeypatch.setattr(trained, "_DECODER_STEPS", 2)
    return few


def test_routers_are_trained_once_and_found_by_the_votes_they_saw(small):
    assert trained_routers("sample", draws_of(small)) == (
        {},
        {(training, kind): "not trained yet" for training in small.clean for kind in KINDS},
    )
    made = list(train_routers("sample", fits=FITS))
    assert [one["name"] for one in made] == ["decoder", *made_names(FITS)]
    assert all(one["trained"] and one["seconds"] >= 0 and one["prompts"] for one in made)
    routers, missing = trained_routers("sample", draws_of(small))
    assert not missing
    assert set(routers) == {(training, kind) for training in small.clean for kind in KINDS}
    shapes = {key: (len(rows), len(rows[0])) for key, rows in routers.items()}
    assert shapes["arena", "bert"] == (1, FITS)  # a column per seed
    assert shapes["arena+gold", "causal_llm"] == (FITS, 1)  # a row per draw
    first_draw, _ = trained_routers("sample", {"arena+gold": small.draws("arena+gold")[:1]})
    assert len(first_draw["arena+gold", "bert"]) == len(first_draw["arena+gold", "bert"][0]) == 1
    assert routers["arena", "bert"][0][0].win_rate(["What is 7 * 8?"]).shape == (1,)
    variants, missing = trained_routers("sample", draws_of(small), [THREE_CLASSES])
    assert variants["arena+gold", THREE_CLASSES][0][0].head == "three_classes"
    assert set(missing) == {("arena", THREE_CLASSES), ("arena+judge", THREE_CLASSES)}

    changes, references = three_classes_changes("sample", small.draws("arena+gold"))
    ((bert, settings),) = changes.items()
    assert references == {bert: references[bert]}
    assert [[router.tie_share for row in rows for router in row] for rows in settings.values()] == [
        [0.5] * FITS,
        [0.0] * FITS,
    ]

    other = ModelPair("sim-granite", "sim-basalt")
    none, why = trained_routers("sample", draws_of(small), pair=other)
    assert none == {}
    assert set(why.values()) == {f"trained for another pair, {SAMPLE_PAIR}"}
    assert three_classes_changes("sample", small.draws("arena+gold"), other) == ({}, {})

    again = list(train_routers("sample", fits=FITS))
    assert [one["name"] for one in again] == made_names(FITS)
    assert not any(one["trained"] for one in again)
    assert any(one["trained"] for one in train_routers("sample", fresh=True, fits=FITS))


def test_the_command_line_says_what_it_trained_and_what_it_kept(small):
    runner, command = CliRunner(), ["train", "--data", "sample", "--fits", "1"]
    lines = runner.invoke(app, command, catch_exceptions=False).output.splitlines()
    assert len(lines) == 2 + len(MADE)
    assert lines[0].startswith("decoder: ")
    assert re.fullmatch(r"arena/bert/0: \d+ s, \d+ prompts, held-out loss \d\.\d{4}", lines[1])
    assert re.search(r"minutes of training in .*routers/sample$", lines[-1])
    again = runner.invoke(app, command, catch_exceptions=False).output.splitlines()
    assert len(again) == len(lines) - 1
    assert all(line.endswith("(trained earlier)") for line in again[:-1])


def test_an_interrupted_training_keeps_what_was_finished(small):
    begun = train_routers("sample", fits=1)
    done = [next(begun)["name"] for _ in range(3)]
    begun.close()
    rest = [one["name"] for one in train_routers("sample", fits=1) if one["trained"]]
    assert len(rest) == 1 + len(MADE) - len(done)
    assert not set(rest) & set(done)


def test_routers_of_other_votes_or_damaged_ones_are_named_and_not_used(small):
    list(train_routers("sample", fits=1))
    other = {**draws_of(small), "arena": [small.clean["arena"].head(100)]}
    routers, missing = trained_routers("sample", other)
    assert {missing["arena", kind] for kind in KINDS} == {"trained on other votes"}
    assert ("arena+gold", "bert") in routers

    index = trained_index(settings().root, "sample")
    (index.parent / "arena+gold" / "bert" / "0" / "weights.safetensors").write_bytes(b"")
    routers, missing = trained_routers("sample", draws_of(small))
    assert "changed or truncated" in missing["arena+gold", "bert"]
    assert ("arena+gold", "causal_llm") in routers
    index.write_text(json.dumps({})[:1])
    with pytest.raises(RoutellmLabError, match=r"trained\.json: damaged; remove it"):
        trained_routers("sample", draws_of(small))


def test_a_second_training_waits_for_the_first_and_finds_its_routers(small, capsys):
    first = train_routers("sample", fits=1)
    begun = [next(first)["name"]]
    second: list[dict] = []
    waiting = threading.Thread(target=lambda: second.extend(train_routers("sample", fits=1)))
    waiting.start()
    waiting.join(1)
    assert waiting.is_alive()
    begun += [made["name"] for made in first]
    waiting.join(60)
    assert begun == ["decoder", *MADE]
    assert [made["name"] for made in second if not made["trained"]] == MADE
    assert set(json.loads(trained_index(settings().root, "sample").read_text())) == set(begun)
    assert f"Waiting for another process (pid {os.getpid()})" in capsys.readouterr().err


def test_a_link_among_the_routers_is_not_trained_through_nor_loaded(small, tmp_path):
    list(train_routers("sample", fits=1))
    folder = trained_index(settings().root, "sample").parent
    (folder / "arena").rename(tmp_path / "elsewhere")
    (folder / "arena").symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere" / "bert" / "0" / "config.json").read_bytes()
    with pytest.raises(RoutellmLabError, match="arena: is a link"):
        next(train_routers("sample", fresh=True, fits=1))
    routers, missing = trained_routers("sample", draws_of(small))
    assert "is a link" in missing["arena", "bert"]
    assert ("arena+gold", "bert") in routers
    assert (tmp_path / "elsewhere" / "bert" / "0" / "config.json").read_bytes() == before


TWO = """
import sys

import pytest
import test_trained
from routellm_lab.cli import app
from routellm_lab.evaluation import paper_training_sets
from routellm_lab.preferences.sample import SAMPLE_PAIR

with pytest.MonkeyPatch.context() as patch:
    sets = paper_training_sets("sample", SAMPLE_PAIR, gold_questions=150, encoder="hashing:256")
    test_trained.make_small(patch, sets, *sys.argv[1:])
    app(["train", "--data", "sample", "--fits", "1"])
"""


def test_two_processes_train_the_same_routers_and_one_of_them_writes(small, tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "ROUTELLM_LAB_ROOT": str(tmp_path / "two")}
    environment["ROUTELLM_LAB_CACHE"] = str(settings().cache_dir)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "two.py"), tiny("encoder"), tiny("decoder")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == ["decoder", *made_names(1)]

    alone = {made["name"]: made for made in train_routers("sample", fits=1)}
    index = json.loads(trained_index(tmp_path / "two", "sample").read_text())
    for name in made_names(1):
        assert index[name]["hash"] == alone[name]["hash"]
        assert index[name]["held_out_loss"] == pytest.approx(alone[name]["held_out_loss"], abs=2e-3)
