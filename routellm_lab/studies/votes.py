"""What a set of votes says about models: who wins between two tiers, how sure the order is, in numbers and words."""

import pandas as pd

from routellm_lab.evaluation.intervals import design_effect, share_interval
from routellm_lab.evaluation.verdict import UNKNOWN, Estimate
from routellm_lab.preferences import ModelPair
from routellm_lab.preferences.battles import keys_of, results_between
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.preferences.splits import prompt_numbers
from routellm_lab.resampling import Bootstrap


def tie_share(battles: pd.DataFrame, confidence_level: float = 0.95) -> Estimate:
    """Share of the votes that are ties, with Clopper and Pearson's interval and the design effect of the prompts."""
    ties, prompts = (battles["winner"] == "tie").to_numpy(), prompt_numbers(keys_of(battles))
    effect = design_effect(ties, prompts)
    return Estimate(float(ties.mean()), *share_interval(int(ties.sum()), len(ties), confidence_level, effect))


def tier_record(
    battles: pd.DataFrame, tiers: Tiers, pair: ModelPair, bootstrap: Bootstrap = Bootstrap()
) -> tuple[Estimate, int]:
    """How often the strong model's tier wins against the weak model's tier.

    Parameters
    ----------
    battles : DataFrame
    tiers : Tiers
    pair : ModelPair
        In names that the tiers hold.
    bootstrap : Bootstrap
        Of the prompts.

    Returns
    -------
    won : Estimate
        Share of the votes that the strong tier won; a tie counts one half.
        NaN without a vote.
    votes : int
        Between the two tiers.

    Raises
    ------
    DataError
        When both models share a tier.
    """
    strong, weak = tiers.pair(pair)
    between = results_between(battles, tiers.members(strong), tiers.members(weak))
    if between.empty:
        return UNKNOWN, 0
    prompts = prompt_numbers(keys_of(battles.loc[between.index]))
    draws = bootstrap.means(between.to_numpy(float), prompts)
    return Estimate(float(between.mean()), *bootstrap.interval(draws).tolist()), len(between)


def separated_neighbours(ratings: pd.DataFrame) -> int:
    """Number of neighbours in the order of ratings whose intervals do not touch (without a correction).

    Parameters
    ----------
    ratings : DataFrame
        Made by `fit_ratings` with a bootstrap: ``low`` and ``high``, strongest first.
    """
    return int((ratings["low"].to_numpy()[:-1] > ratings["high"].to_numpy()[1:]).sum())


def vote_sentences(
    name: str,
    battles: pd.DataFrame,
    ratings: pd.DataFrame,
    tiers: Tiers,
    asked: ModelPair,
    used: ModelPair,
    clean: pd.DataFrame,
    bootstrap: Bootstrap = Bootstrap(),
) -> list[str]:
    """What a set of votes is good for, in sentences.

    Parameters
    ----------
    name : str
        Of the vote set.
    battles, ratings, tiers
        The votes, and `fit_ratings` (with intervals) and `fit_tiers` of them.
    asked, used : ModelPair
        The pair that was asked for, and the one in names that the votes know (`resolve_pair`).
    clean : DataFrame
        The votes after decontamination.
    bootstrap : Bootstrap
        Of the prompts.

    Returns
    -------
    list of str
        Four; the first says whether the strong tier wins significantly more than half of its votes.
    """
    (won, votes), (strong, weak) = tier_record(battles, tiers, used, bootstrap), tiers.pair(used)
    tie, width = tie_share(battles, bootstrap.confidence_level), (ratings["high"] - ratings["low"]).median()
    sides = f"tier {strong} ({used.strong}) and tier {weak} ({used.weak})"
    record = f"in {votes:,} votes between {sides} the stronger tier won {won:.0%}, ties counted half"
    if won.low > 0.5:
        decision = f"Yes: use {name} for this pair; {record}, significantly more than half."
    elif votes:
        decision = f"No: do not rely on {name} alone for this pair; {record}, not significantly more than half."
    else:
        decision = f"No: do not rely on {name} alone for this pair; no vote is between {sides}."
    direct = len(results_between(battles, [used.strong], [used.weak]))
    stand_in = (
        f"Both models of the pair {asked} have votes of their own."
        if asked == used
        else f"The pair {asked} has no votes of its own: {used} stands in for it."
    )
    left_out = len(battles) - len(clean)
    share = left_out / max(len(battles), 1)
    neighbours = len(ratings) - 1
    return [
        decision,
        f"Use tiers, not single models: {direct:,} votes compare the two models themselves. The median 95% interval of "
        f"a rating is {width:.0f} Elo points wide, and {separated_neighbours(ratings)} of {neighbours} neighbours in "
        "the ranking have intervals that do not overlap (uncorrected).",
        f"Keep the ties: they are {tie:.0%} of {len(battles):,} votes, and each says that two models are close.",
        f"{stand_in} Decontamination leaves out {left_out:,} of {len(battles):,} votes "
        f"({'less than 0.1%' if 0 < share < 0.001 else f'{share:.1%}'}).",
    ]
