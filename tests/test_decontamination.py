"""Decontamination finds planted copies and leaves the rest."""

import zlib

import numpy as np
import pandas as pd
import pytest

from routellm_lab import ModelPair, decontaminate
from routellm_lab.benchmarks import outcomes_from_frames
from routellm_lab.encoders import Encoder
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences import gold_split, largest_cosine, validate_battles

LONG = "A baker has 20 trays with 12 rolls each and sells three quarters of them before noon; how many rolls are left?"
PAIR = ModelPair("strong", "weak")
OTHERS = ["Write a poem about autumn leaves in the old town", "Explain how a heat pump works to a child of ten"]


class PlantedMeanings(Encoder):
    """Texts that share their last word point the same way."""

    spec = "planted"
    dimensions = 512

    def encode_texts(self, texts):
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


NEON = "The red glow in a neon tube{end}\nA. fluorescence{stop}\nB. {other}{stop}\nC. de-excitation{stop}\nAnswer:"


def test_punctuation_does_not_make_another_question():
    asked = NEON.format(end=" is a result of:", stop=".", other="Coherence")
    plain = NEON.format(end=" is a result of", stop="", other="coherence")
    for prompt, quiz in ((plain, asked), (asked, plain)):
        _, dropped = decontaminate(votes_on(*OTHERS, prompt), benchmark(quiz), jaccard=1.0)
        assert dropped["rule"].tolist() == ["same question"]
    half = "Which number is the smallest one of these?\nA. {}\nB. {}\nC. {}\nD. {}"
    for options, dropped in (
        (("1.5", "2.5", "8", "9"), 1),  # two of four
        (("15", "25", "3.5.", "7"), 0),  # one: 15 is not 1.5
        (("?", "!", "8", "9"), 0),
    ):
        quiz = benchmark(half.format("1.5", "2.5", "3.5", "4.5"))
        found = decontaminate(votes_on(*OTHERS, half.format(*options)), quiz, jaccard=1.0)[1]
        assert len(found) == dropped


def graded_benchmark(*prompts):
    ids = [f"q{row:03d}" for row in range(len(prompts))]
    frame = pd.DataFrame({"prompt_id": ids, "prompt": prompts})
    rows = {"prompt_id": np.repeat(ids, 2), "model": ["strong", "weak"] * len(ids), "score": [1.0, 0.0] * len(ids)}
    return outcomes_from_frames("exam", frame, pd.DataFrame(rows))


@pytest.mark.parametrize("evaluated", [None, 20])
def test_gold_questions_are_no_near_copies_of_the_evaluated_ones(evaluated):
    """Questions come in pairs that differ by a comma and a word; an encoder sees pairs that share their last word."""
    words = np.random.default_rng(0).permutation([f"{a}{b}" for a in "bcdfghklmn" for b in ("ar", "em", "il", "ot")])
    texts = [
        f"{word} " * 4 + f"how many {word} are there in the {word} of {word}{row}" for row, word in enumerate(words)
    ]
    exam = graded_benchmark(*texts, *(text.replace(" how", ", how") + "?" for text in texts), *OTHERS)
    split = gold_split(exam, PAIR, 12, evaluated=evaluated, encoder=PlantedMeanings(), random_state=1)
    assert len(split.dropped) > 2
    assert not set(split.votes["prompt_key"]) & set(split.evaluation.keys)
    assert decontaminate(split.votes, split.evaluation, encoder=PlantedMeanings())[1].empty
    assert (split.votes["judge"] == "gold").all()
    if evaluated is None:
        assert len(split.evaluation) == len(exam) - 12
        assert len(split.votes) == 12 - len(split.dropped)
    else:  # others take the place of those dropped
        assert (len(split.evaluation), len(split.votes)) == (20, 12)
        assert split.votes["prompt_key"].is_unique
    again = gold_split(exam, PAIR, 12, evaluated=evaluated, encoder=PlantedMeanings(), random_state=1)
    pd.testing.assert_frame_equal(again.votes, split.votes)


def test_gold_questions_may_be_named_and_other_benchmarks_kept_clear_of():
    exam = graded_benchmark(*OTHERS, LONG, "What is 7 * 8?", "Name three rivers of Asia")
    ids = exam.prompts.index[[0, 2, 3]]
    split = gold_split(exam, PAIR, ids, benchmark(OTHERS[0].upper()))
    assert split.votes["prompt"].tolist() == [LONG, "What is 7 * 8?"]
    assert split.evaluation.prompts.tolist() == [OTHERS[1], "Name three rivers of Asia"]
    assert split.dropped[["evaluation", "rule"]].to_numpy().tolist() == [["quiz", "same prompt"]]
    with pytest.raises(ParameterError, match="questions must be a whole number from 1 to 4"):
        gold_split(exam, PAIR, 5)
    with pytest.raises(DataError, match="no question is left to evaluate on"):
        gold_split(graded_benchmark("same", "Same", "SAME"), PAIR, exam.prompts.index[:1].map(lambda _: "q000"))
