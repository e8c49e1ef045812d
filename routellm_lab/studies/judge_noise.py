"""What do a judge's errors cost a router? Votes of the sample's people, cast again by others: simulated, as only there
the truth is known."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from routellm_lab.benchmarks import default_pair, load_outcomes
from routellm_lab.evaluation import best_possible, evaluate
from routellm_lab.judging import agreement, match_votes
from routellm_lab.preferences import relabel_as
from routellm_lab.preferences.sample import recast_votes
from routellm_lab.resampling import Bootstrap

PEOPLE, JUDGE, TABLE = "other people", "a judge", "the table (bound)"
"""Who casts the votes again: see `recast`."""


def recast(people: pd.DataFrame, confusion: pd.DataFrame, random_state: int = 0) -> dict[str, pd.DataFrame]:
    """The votes of the sample's people, all of them cast again by others.

    Parameters
    ----------
    people : DataFrame
        Votes of ``arena_human`` of the sample.
    confusion : DataFrame
        Counts of a judge's verdicts by those of people, as `Agreement.confusion`.
    random_state : int

    Returns
    -------
    dict of str to DataFrame
        By other people; by the sample's judge, who errs and has a taste for place and length; and by the table of
        counts. That one is an upper bound of the judge's errors: people's votes are noisy themselves, and the table
        holds that noise, so that it counts twice.
    """
    return {
        PEOPLE: recast_votes(people, "arena_human", 1.0, random_state),
        JUDGE: recast_votes(people, "arena_rejudged", 1.0, random_state),
        TABLE: relabel_as(people, confusion, 1.0, random_state=random_state),
    }


def agreement_table(first: pd.DataFrame, others: Mapping[str, pd.DataFrame], bootstrap: Bootstrap) -> pd.DataFrame:
    """How far other votes on the same answers agree with the first.

    Returns
    -------
    DataFrame
        One row per entry of ``others``: ``who``, ``votes``, ``share``, ``low``, ``high``, ``kappa``, ``kappa_low``,
        ``kappa_high`` (see `routellm_lab.judging.Agreement`).
    """
    rows = []
    for who, votes in others.items():
        agreed = agreement(match_votes(first, votes), bootstrap)
        row = {name: getattr(agreed, name) for name in ("share", "low", "high", "kappa", "kappa_low", "kappa_high")}
        rows.append({"who": who, "votes": agreed.n} | row)
    return pd.DataFrame(rows)


def votes_lost(
    people: pd.DataFrame,
    cast: Mapping[str, pd.DataFrame],
    kinds: Sequence[Any],
    encoder: str = "static",
    bootstrap: Bootstrap = Bootstrap(),
) -> pd.DataFrame:
    """How much of what is achievable routers lose when their votes are cast by others.

    Parameters
    ----------
    people : DataFrame
        The votes as they were, on the sample.
    cast : dict of str to DataFrame
        The same votes cast again, by who cast them.
    kinds : list of Router classes
        Built with the sample's pair and the encoder.
    encoder : str
    bootstrap : Bootstrap
        Of the questions of the sample's MMLU, the same for all.

    Returns
    -------
    DataFrame
        One row per router and caster: ``router``, ``who``, ``achieved`` (share of the achievable gain in APGR with the
        votes cast again), ``lost`` (the share with the people's votes minus that), ``low``, ``high`` (of the loss, by
        a paired bootstrap) and ``p_value``.
    """
    world, pair = load_outcomes("mmlu", data="sample"), default_pair("sample")
    gain, rows = best_possible(world, pair).apgr - 0.5, []
    for kind in kinds:
        before = evaluate(kind(pair, encoder).fit(people), world)
        for who, votes in cast.items():
            after = evaluate(kind(pair, encoder).fit(votes), world)
            loss = before.compare(after, bootstrap=bootstrap)
            ends = {"lost": loss.difference / gain, "low": loss.low / gain, "high": loss.high / gain}
            achieved = {"achieved": (after.apgr - 0.5) / gain}
            rows.append({"router": kind.name, "who": who} | achieved | ends | {"p_value": loss.p_value})
    return pd.DataFrame(rows)
