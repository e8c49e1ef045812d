"""Decontamination finds planted copies and leaves the rest."""

import zlib

import numpy as np
import pandas as pd
import pytest

from routellm_lab import decontaminate
from routellm_lab.benchmarks import outcomes_from_frames
from routellm_lab.encoders import Encoder
from routellm_lab.errors import DataError
from routellm_lab.preferences import largest_cosine, validate_battles

LONG = "A baker has 20 trays with 12 rolls each and sells three quarters of them before noon; how many rolls are left?"
OTHERS = ["Write a poem about autumn leaves in the old town", "Explain how a heat pump works to a child of ten"]


class PlantedMeanings(Encoder):
    """Texts that share their last word point the same way."""

    spec = "planted"
    dimensions = 512

    def _encode(self, texts):
        rows = np.zeros((len(texts), self.dimensions), np.float32)
        rows[range(len(texts)), [zlib.crc32(text.split()[-1].encode()) % self.dimensions for text in texts]] = 1
        return rows


def votes_on(*prompts):
    rows = [{"prompt": prompt, "model_a": "a", "model_b": "b", "winner": "tie"} for prompt in prompts]
    return validate_battles(pd.DataFrame(rows))


def benchmark(*prompts, name="quiz"):
    ids = [f"q{row}" for row in range(len(prompts))]
    frame = pd.DataFrame({"prompt_id": ids, "prompt": prompts})
    return outcomes_from_frames(name, frame, pd.DataFrame({"prompt_id": ids, "model": "m", "score": 1.0}))


def test_a_copy_up_to_case_and_white_space_is_dropped():
    battles = votes_on(*OTHERS, "what IS  7 * 8?\n", "What is 7 * 8?")
    kept, dropped = decontaminate(battles, benchmark("What is 7 * 8?"))
    assert kept["prompt"].tolist() == OTHERS
    assert kept.index.tolist() == [0, 1]
    assert dropped[["evaluation", "rule", "votes"]].to_numpy().tolist() == [["quiz", "same prompt", 2]]


def test_votes_without_keys_are_looked_at_as_well():
    raw = votes_on("What is 7 * 8?", LONG).drop(columns="prompt_key")
    kept, dropped = decontaminate(pd.concat([votes_on(*OTHERS), raw]), benchmark("What is 7 * 8?", LONG))
    assert kept["prompt"].tolist() == OTHERS
    assert dropped["votes"].tolist() == [1, 1]


@pytest.mark.parametrize("marks", [["True", "False"], [1.0, None], pd.array([True, None], "boolean")])
def test_a_mark_of_the_source_counts_in_whatever_form(marks):
    kept, dropped = decontaminate(votes_on(*OTHERS).assign(overlaps_quiz=marks), benchmark("What is 7 * 8?"))
    assert kept["prompt"].tolist() == OTHERS[1:]
    assert dropped["rule"].tolist() == ["same question"]


def test_a_near_duplicate_is_dropped_and_a_remote_one_kept():
    near = LONG.replace("rolls are left?", "rolls are left over?")
    remote = LONG.replace("A baker has 20 trays with 12 rolls", "A school has 9 rooms with 31 seats")
    kept, dropped = decontaminate(votes_on(*OTHERS, near, remote), benchmark(LONG, "Something else entirely, really"))
    assert kept["prompt"].tolist() == [*OTHERS, remote]
    assert dropped["rule"].tolist() == ["near duplicate"]


FOUR = "Which of these rivers ends in a desert?\nA. Okavango\nB. Danube\nC. Rhine\nD. Volga\nAnswer:"


def test_a_question_with_more_options_is_the_same_one():
    ten = FOUR.replace("\nAnswer:", "\nE. Elbe\nF. Oder\nG. Tagus\nH. Po\nI. Ebro\nJ. Loire\nAnswer:")
    another = "Which of these rivers ends in a desert?\nA. Amazon\nB. Congo\nC. Nile\nD. Tarim\nAnswer:"
    openly = "which of these rivers ends in a  desert?"
    kept, dropped = decontaminate(votes_on(*OTHERS, ten, another, openly), benchmark(FOUR), jaccard=0.99)
    assert kept["prompt"].tolist() == [*OTHERS, another]
    assert dropped["rule"].tolist() == ["same question"] * 2


def test_a_short_open_question_is_not_taken_for_another():
    kept, _ = decontaminate(votes_on(*OTHERS, "Is it true?"), benchmark("Is it true?\nA. yes\nB. no"), jaccard=0.99)
    assert len(kept) == 3


def test_rows_that_their_source_calls_copies_of_the_benchmark_are_dropped():
    battles = votes_on(*OTHERS, LONG).assign(overlaps_quiz=[False, None, True])
    kept, dropped = decontaminate(battles, benchmark("Something else entirely, really"))
    assert kept["prompt"].tolist() == OTHERS
    assert dropped["rule"].tolist() == ["same question"]
    assert len(decontaminate(battles, benchmark("Something else", name="other"))[0]) == 3


def test_largest_cosine_is_that_to_the_closest():
    encoder = PlantedMeanings()
    assert largest_cosine(["a b", "c d", "e f"], ["x b", "y f", "y f"], encoder).tolist() == [1, 0, 1]
    assert largest_cosine([], ["x"], encoder).shape == (0,)
    with pytest.raises(DataError, match="no other prompts"):
        largest_cosine(["a"], [], encoder)


def test_near_duplicates_are_found_among_many(mmlu, arena):
    long = [text for text in mmlu.prompts if len(text.split()) >= 14][:60]
    edited = [f"{text} Thanks." for text in long]
    kept, dropped = decontaminate(pd.concat([arena, votes_on(*edited)], ignore_index=True), mmlu)
    assert not set(kept["prompt"]) & set(edited)
    assert len(dropped) < 200  # templates of the sample are alike, but few as alike as that


def test_the_same_meaning_is_dropped_with_an_encoder():
    translated = "Combien de ponts traversent le fleuve?"
    battles, quiz = votes_on(*OTHERS, translated), benchmark("How many bridges cross le fleuve?")
    assert len(decontaminate(battles, quiz)[0]) == 3
    kept, dropped = decontaminate(battles, quiz, encoder=PlantedMeanings())
    assert kept["prompt"].tolist() == OTHERS
    assert dropped["rule"].tolist() == ["same meaning"]


def test_each_benchmark_is_named_and_votes_without_prompts_stay():
    battles = votes_on(*OTHERS, None)
    kept, dropped = decontaminate(battles, benchmark(OTHERS[0], name="one"), benchmark(*OTHERS, name="two"))
    assert kept["prompt"].isna().tolist() == [True]
    assert dropped["evaluation"].tolist() == ["one", "two", "two"]


def test_nothing_left_is_an_error():
    with pytest.raises(DataError, match="decontamination leaves no vote"):
        decontaminate(votes_on(*OTHERS), benchmark(*OTHERS))


def test_what_the_sample_plants_is_found(arena):
    from routellm_lab import load_outcomes

    whole = load_outcomes("mmlu", data="sample", contaminated="keep")
    planted = set(whole.keys[whole.details["contaminated"]])
    _, dropped = decontaminate(arena, whole)
    assert planted
    assert planted <= set(dropped.loc[dropped["rule"] == "same prompt", "prompt_key"])
    _, dropped = decontaminate(arena, load_outcomes("mmlu", data="sample"))
    assert not planted & set(dropped.loc[dropped["rule"] == "same prompt", "prompt_key"])
