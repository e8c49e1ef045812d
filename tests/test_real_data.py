"""What only the real data can show: all of it loads, and trivial routers score what was measured on it elsewhere."""

import csv
import hashlib
import io
import json

import numpy as np
import pandas as pd
import pytest
import reference
from pyarrow.parquet import read_metadata

from routellm_lab import (
    ModelPair,
    battles_from_outcomes,
    decontaminate,
    evaluate,
    load_battles,
    load_outcomes,
    load_prompts,
)
from routellm_lab.benchmarks import list_outcomes, score_columns
from routellm_lab.benchmarks.grading import final_number
from routellm_lab.preferences import PAPER_PAIR, fit_tiers, judges_of, list_battles, sample_questions
from routellm_lab.routers import PromptLengthRouter, RidgeRouter, gold_prompt_ids, recommended_sets, tier_votes

pytestmark = pytest.mark.real_data

MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"


def test_every_set_of_votes_loads_whole(real_folder):
    listed = list_battles(real_folder).set_index("name")
    assert {"arena_human", "alpacaeval_rejudged"} <= set(listed.index)
    for name in listed.index:
        rows = read_metadata(real_folder / "battles" / f"{name}.parquet").num_rows
        assert listed.loc[name, "rows"] == len(load_battles(name, data=real_folder)) == rows
    assert load_battles("arena_human_outcomes", data=real_folder)["prompt"].isna().all()


def test_every_benchmark_loads_whole(real_folder):
    listed = list_outcomes(real_folder).set_index("name")
    assert {"mmlu", "gsm8k", "gsm8k_models", "gsm8k_solutions", "gsm8k_train", "mt_bench", "mmlu_pro"} <= set(
        listed.index
    )
    for name, row in listed.iterrows():
        if row["note"] == "prompts only":
            assert len(load_prompts(name, data=real_folder)) == row["prompts"] > 0
            continue
        outcomes = load_outcomes(name, data=real_folder, contaminated="keep")
        assert (len(outcomes), len(outcomes.models)) == (row["prompts"], row["models"])
        assert outcomes.groups.notna().all()
    models = load_outcomes("gsm8k_models", data=real_folder)
    assert models.keys.isin(load_outcomes("gsm8k", data=real_folder, contaminated="keep").keys).all()


def test_tiers_of_people_put_the_stand_ins_in_order(real_folder):
    tiers = fit_tiers(load_battles("arena_human", data=real_folder)).including([PAPER_PAIR.strong, PAPER_PAIR.weak])
    strong, weak = tiers.pair(PAPER_PAIR)
    assert "gpt-4" in tiers.members(strong)
    assert "gpt-3.5-turbo" in tiers.members(weak)


def test_every_set_keeps_its_judges_when_people_are_looked_for(real_folder):
    names = list_battles(real_folder)["name"]
    pooled = pd.concat([load_battles(name, data=real_folder) for name in names], ignore_index=True)
    for votes in (pooled, pooled.drop(columns="source")):
        assert judges_of(votes).tolist() == pooled["judge"].tolist()
    assert set(pooled["judge"]) == {"gpt-4", "gpt-4-0613", "gpt-4-1106-preview", "gpt-4-turbo", "human"}
    assert tier_votes(pooled, PAPER_PAIR)[0].startswith("gpt-4-1106-preview on")


@pytest.mark.parametrize(("name", "apgr"), [("mmlu", 0.586), ("gsm8k", 0.598)])
def test_prompt_length_alone(real_folder, name, apgr):
    outcomes = load_outcomes(name, data=real_folder)
    router = PromptLengthRouter(PAPER_PAIR).fit(load_battles("arena_human", data=real_folder))
    assert evaluate(router, outcomes).apgr == pytest.approx(apgr, abs=0.002)


def test_ridge_on_a_tenth_of_the_gold_labels(real_folder, static_encoder):
    mmlu = load_outcomes("mmlu", data=real_folder)
    train = sample_questions(mmlu, 1_500, random_state=0)
    rest = mmlu.select(~mmlu.prompts.index.isin(train))
    router = RidgeRouter(PAPER_PAIR).fit(battles_from_outcomes(mmlu, PAPER_PAIR, prompts=train))
    assert 0.60 <= evaluate(router, rest).apgr <= 0.66


@pytest.mark.parametrize(
    ("model", "released", "regraded"), [(PAPER_PAIR.strong, 0.8567, 0.8886), (PAPER_PAIR.weak, 0.6384, 0.6391)]
)
def test_both_gradings_of_gsm8k(real_folder, model, released, regraded):
    outcomes = load_outcomes("gsm8k", data=real_folder, contaminated="keep")
    answers, references = outcomes.responses[model], outcomes.details["answer"]
    ours = [final_number(answer) == final_number(right) for answer, right in zip(answers, references, strict=True)]
    read = [tuple(map(reference.last_digits, both)) for both in zip(answers, references, strict=True)]
    theirs = [answer is not None and int(answer) == int(right) for answer, right in read]
    assert round(np.mean(ours), 4) == regraded
    assert round(np.mean(theirs), 4) == round(outcomes.scores[model].mean(), 4) == released
    other = load_outcomes("gsm8k", data=real_folder, contaminated="keep", score="score_regraded")
    assert round(other.scores[model].mean(), 4) == regraded


def test_the_lenient_grading_widens_the_gap_of_gsm8k(real_folder):
    assert score_columns("gsm8k", real_folder) == ["score", "score_regraded", "score_lenient"]
    gaps = [
        load_outcomes("gsm8k", data=real_folder, contaminated="keep", score=column).gap(PAPER_PAIR).mean()
        for column in score_columns("gsm8k", real_folder)
    ]
    assert np.round(gaps, 3).tolist() == [0.218, 0.249, 0.305]


def test_no_question_of_mmlu_is_left_in_mmlu_pro(real_folder):
    pro, mmlu = (load_outcomes(name, data=real_folder) for name in ("mmlu_pro", "mmlu"))
    votes = battles_from_outcomes(pro, ModelPair("gpt-4o-2024-05-13", "mixtral-8x7b-instruct-v0.1"))
    kept, dropped = decontaminate(votes, mmlu)
    taken = pro.details["overlaps_mmlu"].astype(bool)
    assert not taken.loc[kept["battle_id"]].any()
    assert taken.loc[votes["battle_id"]].sum() == dropped["votes"].sum() == 6_810
    without_flag, _ = decontaminate(votes.drop(columns="overlaps_mmlu"), mmlu)
    assert taken.loc[without_flag["battle_id"]].sum() <= 20  # read from the text alone


def test_the_recommended_labels_hold_no_question_that_is_evaluated(real_folder, static_encoder):
    sets, dropped = recommended_sets(PAPER_PAIR, real_folder, encoder="static")
    names = ("mmlu", "gsm8k", "mt_bench")
    benchmarks = {name: load_outcomes(name, data=real_folder, contaminated="keep") for name in names}
    gold = gold_prompt_ids(load_outcomes("mmlu", data=real_folder), 1_500)
    assert 1_400 < len(gold) <= 1_500
    benchmarks["mmlu"] = benchmarks["mmlu"].select(~benchmarks["mmlu"].prompts.index.isin(gold))
    for name, outcomes in benchmarks.items():
        for votes in sets.values():
            assert not votes["prompt_key"].isin(set(outcomes.keys)).any(), name
    assert set(sets["gold"]["battle_id"]) < set(gold)
    assert len(sets["gold"]) > 1_200
    pro = load_outcomes("mmlu_pro", data=real_folder)
    used = set(sets["difficulty"]["battle_id"].str.removesuffix("-a").str.removesuffix("-b"))
    taken = pro.details["overlaps_mmlu"].astype(bool)
    assert taken.sum() == 6_810
    assert not taken[list(used)].any()
    assert not set(pro.keys[taken]) & set(sets["difficulty"]["prompt_key"])
    assert len(used) == (~taken).sum() - (dropped["set"] == "difficulty").sum()
    assert len(used) > 5_200


def test_the_released_gsm8k_file_reads_as_the_folder_does(real_folder, tmp_path):
    folder = load_outcomes("gsm8k", data=real_folder, contaminated="keep")
    names = {MIXTRAL: PAPER_PAIR.weak, PAPER_PAIR.strong: PAPER_PAIR.strong}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["prompt", *names, *(f"{name}_response" for name in names)])
    for row, prompt in folder.prompts.items():
        right = [bool(folder.scores.loc[row, model]) for model in names.values()]
        writer.writerow([prompt, *right, *(folder.responses.loc[row, model] for model in names.values())])
    content = text.getvalue().encode()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert blob == "1f777d8bfd7a9157ca19cc1f0687136491fcf1a1"  # git's name of the file in the paper's repository
    target = tmp_path / "routellm" / "evals" / "gsm8k"
    target.mkdir(parents=True)
    (target / "gsm8k_responses.csv").write_bytes(content)
    tests = zip(folder.prompts, folder.details["answer"], strict=True)
    flagged = folder.prompts[folder.details["contaminated"]]
    for name, rows in {
        "test.jsonl": [{"question": question, "answer": answer} for question, answer in tests],
        "contaminated_prompts.jsonl": [{"eval_prompt": prompt} for prompt in flagged],
    }.items():
        (target / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for score in ("score", "score_regraded"):
        hub = load_outcomes("gsm8k", data="hub", path=tmp_path, score=score)
        ours = load_outcomes("gsm8k", data=real_folder, score=score)
        assert hub.dropped == ours.dropped == 12
        assert hub.prompts.tolist() == ours.prompts.tolist()
        np.testing.assert_array_equal(hub.scores[ours.models], ours.scores)
