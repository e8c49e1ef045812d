"""Robustness: perturbations keep what is asked, flips are those that Router.route shows, planted words are found."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_lab import default_pair
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.routers import ConstantRouter, KNNRouter, PromptLengthRouter, RandomRouter, RidgeRouter
from routellm_lab.studies import PERTURBATIONS, SUFFIX_WORDS, adversarial_suffix, flip_rates, perturb
from routellm_lab.studies.robustness import _TRANSLATIONS, worst_flips

PAIR = default_pair("sample")
KEEPS_FORM = ("typos", "polite preface", "filler", "translated word")


class Toy:
    """A router whose win rate is a function of the text; it remembers what it was asked."""

    name = "toy"

    def __init__(self, score):
        self.score, self.calls = score, []

    def win_rate(self, prompts):
        self.calls.append(list(prompts))
        return np.array([self.score(text) for text in self.calls[-1]], float)


def number_in(text):
    return int(re.search(r"\d+", text)[0])


words = st.text("abcdefghij", min_size=1, max_size=8)
questions = st.lists(words, min_size=1, max_size=40).map(" ".join)
prompts_of_any_kind = st.lists(st.text(max_size=60) | questions, max_size=6)
options = st.lists(words, min_size=2, max_size=4).map(
    lambda found: "".join(f"\n{letter}. {text}" for letter, text in zip("ABCD", found, strict=False)) + "\nAnswer:"
)


@settings(max_examples=40)
@given(prompts_of_any_kind, st.sampled_from(sorted(PERTURBATIONS)), st.integers(0, 99))
def test_a_prompt_is_perturbed_alike_in_any_company(prompts, name, seed):
    changed = perturb(prompts, name, seed)
    assert len(changed) == len(prompts)
    assert perturb(prompts[::-1], name, seed) == changed[::-1]
    assert [perturb([prompt], name, seed)[0] for prompt in prompts] == changed


@pytest.mark.parametrize("name", ["typos", "polite preface", "filler", "translated word"])
def test_another_seed_perturbs_in_another_way(name):
    prompts = [f"Explain the history of building number {number} in some detail" for number in range(20)]
    assert perturb(prompts, name, 1) != perturb(prompts, name, 2)


@settings(max_examples=50)
@given(questions)
def test_typos_swap_two_letters_in_one_word_in_ten(question):
    before, after = question.split(" "), perturb([question], "typos")[0].split(" ")
    assert len(before) == len(after)
    wrong = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    can_change = [word for word in before if len(word) >= 4 and len(set(word[1:])) > 1]
    assert len(wrong) == min(max(1, round(len(before) / 10)), len(can_change))
    for old, new in wrong:
        at = next(place for place in range(len(old)) if old[place] != new[place])
        assert at > 0
        assert len(old) >= 4
        assert new == old[:at] + old[at + 1] + old[at] + old[at + 2 :]


@settings(max_examples=40)
@given(questions.map("Explain {}".format), options, st.sampled_from(KEEPS_FORM))
def test_options_and_the_closing_answer_line_are_kept(question, form, name):
    changed = perturb([question + form], name)[0]
    assert changed != question + form
    assert changed.endswith(form)
    assert changed.count("\n") == form.count("\n")
    if name == "filler":
        assert re.fullmatch(re.escape(question) + r" [^\n]+\.", changed.removesuffix(form))


def test_what_is_appended_stands_before_the_options_and_a_closing_answer():
    for prompt, end in (
        ("2 + 2 is\nA. 3\nB. 4\nAnswer:", r"2 \+ 2 is [^\n]+\.\nA\. 3\nB\. 4\nAnswer:"),
        ("2 + 2 is\nAnswer: ", r"2 \+ 2 is [^\n]+\.\nAnswer: "),
        ("\n Answer:", r" [^\n]+\.\n Answer:"),
        ("2 + 2 is? answer:", r"2 \+ 2 is\? [^\n]+\. answer:"),
        ("Answer: 4. Why?", r"Answer: 4\. Why\? [^\n]+\."),
        ("Count:\none\ntwo", r"Count:\none\ntwo [^\n]+\."),
        ("Count", r"Count [^\n]+\."),
    ):
        assert re.fullmatch(rf"(?s:.*){end}", perturb([prompt], "filler")[0]), prompt


def test_fillers_ask_nothing_and_vary():
    fillers = {text.split(" ", 1)[1] for text in perturb([f"x{row}" for row in range(60)], "filler")}
    assert len(fillers) >= 3
    for filler in fillers:
        assert "?" not in filler
        assert not set(re.findall("[a-z]+", filler.lower())) & set(_TRANSLATIONS)
        assert perturb([filler], "translated word") == [filler]


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("typos", "1 + 1 = 2, or is it so?"),
        ("typos", "2 + 2\nA. four\nB. five\nAnswer:"),
        ("typos", "naaa oooo"),
        ("upper case", "WHY 7?"),
        ("lower case", "why 7?"),
        ("translated word", "Show the somehow unwritten"),
        ("translated word", "What's up"),
        ("translated word", "Wr\u0131te \u017fuggest find_all"),
        ("translated word", "The opposite of lose:\nA. find\nB. give\nAnswer:"),
        ("translated word", ""),
    ],
)
def test_a_prompt_with_nothing_to_change_is_left_alone(name, prompt):
    assert perturb([prompt], name) == [prompt]


def test_the_first_word_that_asks_is_translated_in_its_own_case():
    def seen(prompt):
        return {perturb([prompt], "translated word", seed)[0] for seed in range(20)}

    assert seen("Explain what it is") == {"Erkläre what it is", "Explica what it is"}
    assert seen("Now tell WHY, or find out why") == {
        "Now tell WARUM, or find out why",
        "Now tell POR QUÉ, or find out why",
    }
    assert seen("and how?") == {"and wie?", "and cómo?"}
    for word in _TRANSLATIONS:
        assert f"{word} x" not in seen(f"{word} x"), word
        assert len(seen(f"{word} x")) == 2


def test_unknown_perturbations_and_bare_strings_are_refused():
    with pytest.raises(ParameterError, match=r"no perturbation 'typo'; nearest: typos"):
        perturb(["x"], "typo")
    with pytest.raises(DataError, match="one bare string"):
        perturb("x", "typos")


CAPITALS = [f"please tell me all about the item number {row}" + " NASA" * (row % 10) for row in range(200)]


def test_a_router_that_counts_capitals_flips_by_case_only():
    def shouting(text):
        count = sum(word.isupper() and len(word) > 1 for word in text.split())
        return count / (count + 10)

    frame = flip_rates({"toy": Toy(shouting)}, CAPITALS).set_index("perturbation")
    assert frame.index.tolist() == list(PERTURBATIONS)
    assert (frame["prompts"] == 200).all()
    assert (frame["call_share_before"] == 0.5).all()
    quiet = frame.loc[["typos", "polite preface", "filler", "translated word"]]
    assert (quiet[["flips", "to_strong", "to_weak"]] == 0).all(axis=None)
    np.testing.assert_allclose(quiet["rank_correlation"], 1)
    upper, lower = frame.loc["upper case"], frame.loc["lower case"]
    assert upper[["changed", "flips", "to_strong", "to_weak", "call_share"]].tolist() == [1, 0.5, 0.5, 0, 1]
    assert lower[["changed", "flips", "to_strong", "to_weak", "call_share"]].tolist() == [0.9, 0.5, 0, 0.5, 0]
    assert np.isnan(lower["rank_correlation"])
    assert frame.loc["translated word", "changed"] == 0


def test_a_row_says_what_route_does(arena, mmlu):
    prompts = mmlu.prompts.iloc[:150].tolist()
    routers = {
        "random": RandomRouter(PAIR),
        "length": PromptLengthRouter(PAIR),
        "ridge": RidgeRouter(PAIR, encoder="hashing:64"),
        "knn": KNNRouter(PAIR, encoder="hashing:64", n_neighbors=(20,)),
    }
    for router in routers.values():
        router.fit(arena)
    frame = flip_rates(routers, prompts, share=0.3, confidence_level=0.9, random_state=4)
    assert frame[["router", "perturbation"]].apply(tuple, axis=1).tolist() == list(
        itertools.product(routers, PERTURBATIONS)
    )
    z = 1.6448536269514722
    for row in frame.itertuples():
        others = perturb(prompts, row.perturbation, 4)
        router = routers[row.router]
        before = router.route(prompts, row.threshold) == PAIR.strong
        after = router.route(others, row.threshold) == PAIR.strong
        assert row.flips == np.mean(before != after) == pytest.approx(row.to_strong + row.to_weak)
        assert (row.to_strong, row.to_weak) == (np.mean(after & ~before), np.mean(before & ~after))
        assert (row.call_share_before, row.call_share) == (before.mean(), after.mean())
        assert row.changed == np.mean([text != other for text, other in zip(prompts, others, strict=True)])
        middle, half = row.flips + z**2 / 300, z * math.sqrt(row.flips * (1 - row.flips) / 150 + z**2 / 90_000)
        assert (row.low, row.high) == pytest.approx(
            ((middle - half) / (1 + z**2 / 150), (middle + half) / (1 + z**2 / 150))
        )
        ranks = [pd.Series(router.win_rate(texts)).rank() for texts in (prompts, others)]
        assert row.rank_correlation == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert frame.loc[frame["router"] != "knn", "call_share_before"].tolist() == pytest.approx([0.3] * 18, abs=0.02)
    length = frame[frame["router"] == "length"].set_index("perturbation")
    assert (length.loc[["filler", "polite preface"], "to_strong"] > 0.3).all()
    assert (length["to_weak"] == 0).all()
    assert (length.loc[["typos", "lower case"], "flips"] == 0).all()


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_a_random_router_flips_as_often_as_unrelated_decisions_do(share):
    prompts = [f"Which number comes after {number}, and what is it good for?" for number in range(1000)]
    router = RandomRouter(PAIR)
    router.pair_used_ = PAIR
    frame = flip_rates({"random": router}, prompts, share=share)
    assert (frame["changed"] == 1).all()
    np.testing.assert_allclose(frame["flips"], 2 * share * (1 - share), atol=0.06)
    np.testing.assert_allclose(frame["rank_correlation"], 0, atol=0.12)
    assert len(frame["flips"].unique()) > 3


def test_tied_prompts_go_the_same_way_whatever_the_last_digits():
    levels = np.repeat([0.2, 0.5, 0.8], [30, 45, 25])
    prompts = [f"Item {row}" for row in range(100)]
    noise = np.random.default_rng(0)

    def tied(text):
        return levels[number_in(text)] + 1e-12 * noise.normal()

    before, after = ([tied(text) for text in prompts] for _ in range(2))
    median = np.median(before)
    assert (np.greater_equal(before, median) != np.greater_equal(after, median)).any()  # a threshold within the ties
    frame = flip_rates({"toy": Toy(tied)}, prompts, ["upper case", "filler"])
    assert (frame["flips"] == 0).all()
    assert (frame["call_share_before"] == 0.7).all()  # 25 % and 70 % can be had: 70 % is nearer to half
    assert frame["threshold"].tolist() == pytest.approx([0.35] * 2)
    assert flip_rates({"toy": Toy(tied)}, prompts, ["filler"], share=0.4)["call_share_before"].tolist() == [0.25]


def test_close_win_rates_are_told_apart_where_all_are_close():
    narrow = Toy(lambda text: 0.5 + 1e-8 * number_in(text))
    frame = flip_rates({"toy": narrow}, [f"Item {row}" for row in range(1000)], ["upper case"])
    assert frame[["call_share_before", "flips"]].to_numpy().tolist() == [[0.5, 0]]


def test_only_prompts_that_changed_are_asked_again():
    prompts = [*(f"item {row}" for row in range(5)), *(f"Item {row}" for row in range(5, 9))]
    toy = Toy(number_in)
    frame = flip_rates({"toy": toy}, iter(prompts), ["lower case"])
    assert toy.calls == [prompts, [f"item {row}" for row in range(5, 9)]]
    assert frame["changed"].tolist() == [pytest.approx(4 / 9)]


def test_flip_rates_refuse_what_cannot_be_routed(arena):
    prompts, toy = ["Item 1", "Item 2"], {"toy": Toy(number_in)}
    constant = {"flat": ConstantRouter(PAIR, 0.25).fit(arena)}
    with pytest.raises(ParameterError, match=r"flat: the win rate of all 2 prompts is 0\.25.*leave this router out"):
        flip_rates(constant, prompts)
    with pytest.raises(ParameterError, match="needs routers"):
        flip_rates({}, prompts)
    with pytest.raises(ParameterError, match="needs perturbations"):
        flip_rates(toy, prompts, [])
    with pytest.raises(ParameterError, match="no perturbation 'noise'"):
        flip_rates(toy, prompts, ["noise"])
    for option in ({"share": 0}, {"share": 1}, {"share": float("nan")}, {"confidence_level": 95}):
        with pytest.raises(ParameterError, match=f"{next(iter(option))} must be a number between 0 and 1"):
            flip_rates(toy, prompts, **option)
    with pytest.raises(DataError, match="no prompts"):
        flip_rates(toy, [])
    with pytest.raises(DataError, match="bad: win_rate must give one finite number"):
        flip_rates({"bad": Toy(lambda text: np.nan)}, prompts)


PROMPTS = [f"Item {row} of the list" for row in range(200)]


def by_words(weights, scale=0.01):
    """Win rates by the number in a prompt, and by which words it holds; how often does not count."""

    def score(text):
        return scale * number_in(text) / len(PROMPTS) + sum(weights.get(word, 0) for word in set(text.split()))

    return Toy(score)


@pytest.mark.parametrize(("word", "seed"), [(SUFFIX_WORDS[0], 0), ("treaty", 26), (SUFFIX_WORDS[-1], 2)])
def test_the_one_word_that_counts_is_found(word, seed):
    found = adversarial_suffix(by_words({word: 0.9}), PROMPTS, random_state=seed)
    assert word in found.suffix.split()
    assert len(found.suffix.split()) == 3
    assert (found.after, found.n) == (1, 100)
    assert 0.3 < found.before < 0.7
    # one random suffix in twenty holds the word
    assert found.before <= round(found.random, 9) < 0.8
    assert found.random_range[0] == found.before
    assert found.random_range[1] in (found.before, 1)
    assert found.after_interval == pytest.approx((1 / (1 + 1.959964**2 / 100), 1), abs=1e-6)
    assert found.before_interval[0] < found.before < found.before_interval[1]


def test_word_by_word_finds_the_best_suffix_where_words_add_up():
    rng = np.random.default_rng(1)
    weights = dict(zip("abcdefgh", rng.normal(0, 0.2, 8), strict=True))
    found = adversarial_suffix(by_words(weights), PROMPTS, words=tuple(weights), length=3)
    best = max(itertools.combinations(weights, 3), key=lambda chosen: sum(weights[word] for word in chosen))
    assert set(found.suffix.split()) == set(best)
    harmful = dict.fromkeys("abc", -1.0) | {"d": -0.5}
    found = adversarial_suffix(by_words(harmful), PROMPTS, words=tuple(harmful), length=2)
    assert (found.suffix, found.after, found.random) == ("d d", 0, 0)


def test_a_suffix_is_searched_in_batches_and_tried_on_other_prompts():
    toy = by_words({"poem": 0.5})
    asked = [f"{prompt}\nA. poem\nB. ode\nAnswer:" for prompt in PROMPTS]
    found = adversarial_suffix(
        toy, asked * 2, ["poem", "sonnet", "poem"], length=2, share=0.25, held_out=0.3, n_random=4
    )
    search, first, second, tried = toy.calls
    assert (len(search), found.n) == (140, 60)
    # three in four search prompts go to the weak model; a word that is given twice is one word
    assert len(first) == len(second) == 2 * 105
    assert len(tried) == (2 + 4) * 60
    number = [set(map(number_in, texts)) for texts in (search, first, second, tried)]
    assert number[0] | number[3] == set(range(200))
    assert not number[0] & number[3]
    assert number[1] == number[2] < number[0]
    assert min(number[0] - number[1]) > max(number[1])
    assert all(text.endswith(" poem\nA. poem\nB. ode\nAnswer:") for text in first[:105])
    assert tried[:60] == [text for text in tried[:60] if text in asked]
    assert all(text.endswith(f" {found.suffix}\nA. poem\nB. ode\nAnswer:") for text in tried[60:120])


def test_random_suffixes_are_averaged_over_their_draws():
    toy = by_words({"poem": 0.5, "dull": -0.5})
    found = adversarial_suffix(toy, PROMPTS, ["poem", "dull", "other"], length=1, n_random=30)
    calls = (np.array([toy.score(text) for text in toy.calls[-1]]) >= found.threshold).reshape(32, 100).mean(axis=1)
    assert (found.before, found.after) == (calls[0], calls[1]) != (found.random, 1)
    assert found.random == pytest.approx(calls[2:].mean())
    assert found.random_range == (0, 1)


def test_a_router_that_does_not_read_cannot_be_bought():
    prompts = [f"Which number comes after {number}?" for number in range(1000)]
    router = RandomRouter(PAIR)
    router.pair_used_ = PAIR
    found = adversarial_suffix(router, prompts)
    assert found == adversarial_suffix(router, prompts)
    for share in (found.before, found.after, found.random):
        assert share == pytest.approx(0.5, abs=0.07)
    other = adversarial_suffix(router, prompts, random_state=1)
    assert other.suffix != found.suffix


def test_hashed_words_can_be_bought_and_random_ones_do_not(arena, mmlu):
    router = RidgeRouter(PAIR, encoder="hashing:64").fit(arena)
    found = adversarial_suffix(router, mmlu.prompts.iloc[:200])
    assert found.after_interval[0] > found.random_range[1] > found.before
    assert abs(found.random - found.before) < 0.2


def test_adversarial_suffix_refuses_what_cannot_be_searched():
    toy = by_words({})
    for option, message in (
        ({"words": "poem"}, "one bare string"),
        ({"words": []}, "needs words"),
        ({"length": 0}, "length must be a whole number from 1"),
        ({"n_random": 2.5}, "n_random must be a whole number from 1"),
        ({"held_out": 1}, "held_out must be a number between 0 and 1"),
        ({"share": -1}, "share must be a number between 0 and 1"),
        ({"confidence_level": 1}, "confidence_level must be a number between 0 and 1"),
    ):
        with pytest.raises(ParameterError, match=message):
            adversarial_suffix(toy, PROMPTS, **option)
    with pytest.raises(DataError, match="three different prompts or more, got 2"):
        adversarial_suffix(toy, ["Item 1", "Item 2"] * 5)
    with pytest.raises(ParameterError, match=r"toy: the win rate of all 100 prompts is 0\.5"):
        adversarial_suffix(Toy(lambda text: 0.5), PROMPTS)
    assert toy.calls == []
    assert adversarial_suffix(toy, PROMPTS[:3], held_out=0.9).n == 1


def test_worst_flips_are_the_largest_of_each_router():
    table = pd.DataFrame({"router": ["b", "b", "a", "a"], "flips": [0.1, 0.3, 0.2, 0.0]})
    assert worst_flips(table).to_dict() == {"b": 0.3, "a": 0.2}
