"""What votes say in sentences, and what can replace them."""

import numpy as np
import pandas as pd
import pytest
from test_first_router import PAIR, curve

from routellm_lab.errors import DataError
from routellm_lab.evaluation import Correlation
from routellm_lab.judging import agreement, bias_table, judges_compared, placeholder_answers, position_bias
from routellm_lab.preferences import ModelPair, validate_battles
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.resampling import Bootstrap
from routellm_lab.studies.augmentation import augmentation_sentences, tie_estimate
from routellm_lab.studies.contamination import CopiesEffect, similarity_title
from routellm_lab.studies.votes import separated_neighbours, tie_share, tier_record, vote_sentences

BOOTSTRAP = Bootstrap(n_resamples=200, random_state=0)
TIERS = Tiers({"big": 0, "huge": 0, "small": 1, "tiny": 2}, source="mine")
RATINGS = pd.DataFrame(
    {"rating": [1200.0, 1190, 1000, 900], "low": [1150.0, 1150, 950, 890], "high": [1250.0, 1240, 1050, 910]},
    index=["huge", "big", "small", "tiny"],
)


def votes(wins: int, losses: int, ties: int = 0) -> pd.DataFrame:
    """Votes between the two upper tiers."""
    winner = ["model_a"] * wins + ["model_b"] * losses + ["tie"] * ties
    prompts = [f"prompt {number}" for number in range(len(winner))]
    return validate_battles(pd.DataFrame({"prompt": prompts, "model_a": "big", "model_b": "small", "winner": winner}))


def test_the_record_of_a_tier_counts_ties_half():
    won, count = tier_record(votes(60, 20, 20), TIERS, PAIR, BOOTSTRAP)
    assert (won.value, count) == (pytest.approx(0.7), 100)
    assert won.low < 0.7 < won.high
    nothing, none = tier_record(votes(60, 20), TIERS, ModelPair("big", "tiny"), BOOTSTRAP)
    assert none == 0
    assert np.isnan(nothing.value)
    with pytest.raises(DataError, match="share tier"):
        tier_record(votes(60, 20), TIERS, ModelPair("big", "huge"), BOOTSTRAP)


def test_ties_and_neighbours():
    share = tie_share(votes(60, 20, 20))
    assert share.low < share.value == 0.2 < share.high
    assert separated_neighbours(RATINGS) == 2


@pytest.mark.parametrize(
    ("battles", "pair", "begins"),
    [
        (votes(80, 20), PAIR, "Yes: use mine for this pair; in 100 votes between tier 0 (big) and tier 1 (small)"),
        (votes(50, 50), PAIR, "No: do not rely on mine alone for this pair; in 100 votes"),
        (votes(50, 50), ModelPair("big", "tiny"), "No: do not rely on mine alone for this pair; no vote is between"),
    ],
)
def test_sentences_on_votes_decide_by_the_record(battles, pair, begins):
    told = vote_sentences("mine", battles, RATINGS, TIERS, pair, pair, battles.iloc[:90], BOOTSTRAP)
    assert told[0].startswith(begins)
    assert "2 of 3 neighbours" in told[1]
    assert f"{100 * (pair.weak == 'small')} votes compare the two models themselves" in told[1]
    assert "have votes of their own" in told[3]
    assert "leaves out 10 of 100 votes (10.0%)" in told[3]
    asked = ModelPair("gigantic", "minute")
    told = vote_sentences("mine", battles, RATINGS, TIERS, asked, pair, battles, BOOTSTRAP)
    assert f"The pair {asked} has no votes of its own: {pair} stands in for it" in told[3]


def matched() -> pd.DataFrame:
    """Votes of two judges, of whom the second likes the first answer."""
    rng = np.random.default_rng(0)
    first = rng.choice(["model_a", "model_b", "tie"], 400)
    second = np.where(rng.random(400) < 0.5, "model_a", first)
    keys = [str(number) for number in range(400)]
    frame = pd.DataFrame({"prompt_key": keys, "model_a": "x", "model_b": "y", "first": first, "second": second})
    return frame.assign(swapped=False, chars_a=rng.integers(1, 99, 400), chars_b=200)


def test_biases_in_rows_are_those_of_the_functions():
    table, bias = bias_table(matched(), BOOTSTRAP), position_bias(matched(), BOOTSTRAP)
    assert list(table["preference"]) == ["for the answer shown first", "for the longer answer"]
    assert table.loc[0, "difference"] == bias.difference
    assert table.loc[0, "votes"] == bias.n == 400


def test_judges_are_compared_where_they_judged_the_same():
    one = votes(6, 3, 1)
    sets = [one.assign(source="a/strict"), one.assign(source="a/kind"), one.assign(source="a/other", model_a="huge")]
    table = judges_compared(pd.concat(sets), BOOTSTRAP)
    assert table[["first", "second", "votes", "share"]].values.tolist() == [["kind", "strict", 10, 1.0]]
    assert judges_compared(sets[0], BOOTSTRAP).empty


def test_placeholders_are_as_long_as_the_answers():
    pairs = votes(2, 0).assign(chars_a=[1, 2], chars_b=[3, 0])
    assert placeholder_answers(pairs)["response_a"].tolist() == [".", ".."]
    assert placeholder_answers(pairs)["response_b"].tolist() == ["...", ""]
    known = votes(1, 0).assign(response_a="x", response_b="y")
    assert placeholder_answers(known) is known
    with pytest.raises(DataError, match="no lengths of answers"):
        placeholder_answers(votes(1, 0))


@pytest.mark.parametrize("copies", [3, 30])
@pytest.mark.parametrize(
    ("loss", "verb"),
    [
        (0.2, "Use grades where answers can be graded, and a judge's votes elsewhere"),
        (0.6, "Use grades where answers can be graded, and do not replace"),
    ],
)
def test_sentences_on_what_replaces_votes(copies, loss, verb):
    lost = pd.DataFrame(
        {
            "router": ["ridge"] * 2,
            "who": ["a judge", "other people"],
            "lost": [loss, 0.05],
            "low": [loss - 0.1, -0.1],
            "high": [loss + 0.1, 0.1],
        }
    )
    difference = curve(0.5).compare(curve(0.4), bootstrap=BOOTSTRAP)
    effect = CopiesEffect({}, difference, copies, pd.DataFrame())
    related = Correlation(rho=0.5, low=0.2, high=0.8, p_value=0.01, n=9)
    judge, biases = agreement(matched(), BOOTSTRAP), bias_table(matched(), BOOTSTRAP)
    told = augmentation_sentences(votes(3, 1, 6), judge, biases, lost, effect, related)
    assert told[0].startswith(verb)
    assert f"{loss:.0%} [" in told[0]
    assert "60% [" in told[1]
    assert "prefers the answer shown first significantly more" in told[2]
    assert ("too few" in told[3]) == (copies < 10)
    assert told[4].startswith("Choose votes that are close to your prompts")
    assert tie_estimate(votes(3, 1, 6)).value == 0.6


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.1, 0.9, "better"), (-0.9, -0.1, "worse"), (-1, 1, "no clear relation")]
)
def test_the_title_of_similarity_says_which_way(low, high, words):
    rho = (low + high) / 2
    assert words in similarity_title(Correlation(rho=rho, low=low, high=high, p_value=0.1, n=9))
