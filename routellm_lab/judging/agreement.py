"""How good is a judge? Two sets of votes on the same things: agreement, and biases of position and of length.

`match_votes` pairs the votes, the other functions read what it returns. Votes on one prompt are not independent: the
interval of a share is Clopper and Pearson's with the design effect of the prompts, the others are percentile intervals
of a bootstrap over prompts. Weights of votes play no part.
"""

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.evaluation.intervals import design_effect, share_interval
from routellm_lab.evaluation.significance import Difference
from routellm_lab.preferences.battles import WINNERS, answer_length, keys_of
from routellm_lab.preferences.splits import prompt_numbers
from routellm_lab.resampling import Bootstrap

_TURNED = {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}
FEW_VOTES = 10
"""Effective votes of either kind, equal or different verdicts, below which kappa's interval is not a bootstrap's."""
_SIGN = np.array([{"model_a": 1.0, "tie": 0.0, "model_b": -1.0}[winner] for winner in WINNERS])


@dataclass(frozen=True, eq=False)
class Agreement:
    """How often two judges give the same verdict.

    Attributes
    ----------
    confusion : DataFrame
        3 x 3 counts of votes: rows the first's winner, columns the second's, both in the order of `WINNERS`.
    share, low, high : float
        Share of votes with the same verdict, and its interval (Clopper and Pearson's, with the design effect of votes
        on the same prompts): where all votes agree it still has a lower end.
    kappa, kappa_low, kappa_high : float
        Cohen's kappa without weights: 0 is chance, 1 is perfect. NaN where both judges know only one and the same
        verdict, as chance alone would make them agree. Its bootstrap interval leaves such resamples out. Where fewer
        than `FEW_VOTES` agree or disagree, the ends of the share are carried over instead, at the observed agreement
        by chance.
    n, n_prompts : int
        Votes, and prompts. With a single prompt all intervals are NaN.
    confidence_level : float
        Of the intervals.
    """

    confusion: pd.DataFrame
    share: float
    low: float
    high: float
    kappa: float
    kappa_low: float
    kappa_high: float
    n: int
    n_prompts: int
    confidence_level: float = 0.95


@dataclass(frozen=True, kw_only=True)
class Bias(Difference):
    """A taste of the second judge that the first does not share to the same degree: second minus first, of n votes.

    Attributes
    ----------
    first, second : float
        Wins of the favoured side minus its losses, as a share of votes (ties count as votes), from -1 to 1.
    """

    first: float
    second: float


def match_votes(first: pd.DataFrame, second: pd.DataFrame, by: tuple[str, str] | None = None) -> pd.DataFrame:
    """Pairs of votes on the same thing.

    Parameters
    ----------
    first, second : DataFrame
        Battles of the two judges.
    by : (str, str), optional
        The columns of first and of second with the id of a vote. By default votes match with the same ``prompt_key``
        and the same two models, in either order, and where both sets have ``variant_a`` and ``variant_b`` the same two
        variants; that the answers are the same is then up to the sets.

    Returns
    -------
    DataFrame
        One row per pair, in the order of first, with a fresh index: ``prompt_key``, ``model_a``, ``model_b``; the
        winners ``first`` and ``second``, both as seen with the first's sides; ``swapped``, whether the second judge saw
        the sides the other way round; and if known ``chars_a``, ``chars_b``, lengths of the answers in characters (from
        these columns or from ``response_a``, ``response_b``; the first's where both know). Several votes on one thing
        are matched one to one, in order; what is left over is left out.

    Raises
    ------
    DataError
        When nothing matches, a column of ``by`` is missing, or one id stands for other models in the second set.
    """
    left, right = (_sides(frame, by is None) for frame in (first, second))
    if by is None:
        keys = ["prompt_key", "low", "high"]
        if all({"variant_a", "variant_b"} <= set(frame) for frame in (first, second)):
            keys += ["variant_low", "variant_high"]
    else:
        keys = ["id"]
        for frame, table, column in zip((first, second), (left, right), by, strict=True):
            if column not in frame:
                raise DataError(f"match_votes: no column {column!r} to match by; there are {listed(frame.columns)}")
            table["id"] = frame[column].astype("str").to_numpy()
    tables = [table.dropna(subset=keys) for table in (left, right)]
    tables = [table.assign(turn=table.groupby(keys).cumcount()) for table in tables]
    pairs = tables[0].merge(tables[1], on=[*keys, "turn"], suffixes=("", "_second"))
    if pairs.empty:
        way = "share no prompt with the same two models; pass by=(column, column)" if by is None else "share no id"
        raise DataError(f"match_votes: the {len(first)} and {len(second)} votes {way}, or compare other sets")
    if by is not None:
        other = (pairs[["low", "high"]].to_numpy() != pairs[["low_second", "high_second"]].to_numpy()).any(axis=1)
        if other.any():
            raise DataError(f"match_votes: by {by!r}: other models in the second set: {listed(pairs['id'][other])}")
        pairs["prompt_key"] = pairs["prompt_key"].fillna(pairs["prompt_key_second"])
    swapped = pairs["flipped"] != pairs["flipped_second"]
    matched = pairs[["prompt_key", "model_a", "model_b"]].assign(
        first=pairs["winner"],
        second=pairs["winner_second"].mask(swapped, pairs["winner_second"].replace(_TURNED)),
        swapped=swapped,
    )
    if pairs[["chars_a", "chars_a_second"]].notna().any(axis=None):
        a, b = pairs["chars_a_second"], pairs["chars_b_second"]
        matched["chars_a"] = pairs["chars_a"].fillna(a.where(~swapped, b))
        matched["chars_b"] = pairs["chars_b"].fillna(b.where(~swapped, a))
    return matched


def _sides(frame: pd.DataFrame, keyed: bool) -> pd.DataFrame:
    """What matching needs of one set, with a key of the two models (and variants) that knows no order."""
    keys = keys_of(frame)
    if keyed and keys.isna().all():
        raise DataError(f"match_votes: all {len(frame)} prompts are null; match by ids, by=(column, column)")
    sides = frame[["model_a", "model_b", "winner"]].assign(prompt_key=keys).reset_index(drop=True)
    flipped = sides["flipped"] = sides["model_a"] > sides["model_b"]
    sides["low"], sides["high"] = sides[["model_a", "model_b"]].min(axis=1), sides[["model_a", "model_b"]].max(axis=1)
    if {"variant_a", "variant_b"} <= set(frame):
        a, b = (frame[name].reset_index(drop=True) for name in ("variant_a", "variant_b"))
        sides["variant_low"], sides["variant_high"] = a.mask(flipped, b), b.mask(flipped, a)
    for side in ("a", "b"):
        sides[f"chars_{side}"] = answer_length(frame, side).to_numpy()
    return sides


def agreement(matched: pd.DataFrame, bootstrap: Bootstrap = Bootstrap()) -> Agreement:
    """Share of equal verdicts and Cohen's kappa of votes from `match_votes` (DataError: none, or an unknown winner)."""
    first, second = _numbers(matched, "first"), _numbers(matched, "second")
    total, draws = _resampled(matched, np.eye(9)[3 * first + second], bootstrap)
    level = bootstrap.confidence_level
    share, kappa = (float(values[0]) for values in _share_and_kappa(total[None]))
    prompts, n, same = _prompt_numbers(matched), len(matched), int((first == second).sum())
    low, high = bootstrap.interval_of_defined(_share_and_kappa(draws)[1]).tolist()
    ends = kappa_ends = (low, high)
    if prompts.max() > 0:  # one prompt says nothing about others
        effect = design_effect(first == second, prompts)
        ends = share_interval(same, n, level, effect)
        if min(same, n - same) / effect < FEW_VOTES and not np.isnan(kappa):
            chance = _chance(total)
            kappa_ends = ((ends[0] - chance) / (1 - chance), (ends[1] - chance) / (1 - chance))
    index, columns = pd.Index(WINNERS, name="first"), pd.Index(WINNERS, name="second")
    confusion = pd.DataFrame(total.reshape(3, 3).astype(int), index, columns)
    return Agreement(confusion, share, *ends, kappa, *kappa_ends, n, int(prompts.max() + 1), level)


def _chance(table: np.ndarray) -> float:
    """Share of equal verdicts that two judges with these margins would have by chance, from (9,) counts."""
    table = table.reshape(3, 3) / table.sum()
    return float(table.sum(axis=1) @ table.sum(axis=0))


def agreed_share(confusion: pd.DataFrame) -> tuple[float, float]:
    """Share of the votes on which two judges agree, and the share on which they would by chance.

    Parameters
    ----------
    confusion : DataFrame
        Counts; verdicts of the first judge down, of the second across. Verdicts of the same name agree.

    Raises
    ------
    DataError
        When there are no votes, a count is negative, or no verdict has the same name.
    """
    counts = confusion.astype(float)
    both = [verdict for verdict in counts.index if verdict in counts.columns]
    total = float(counts.to_numpy().sum())
    if not both or not total > 0 or (counts.to_numpy() < 0).any():
        raise DataError(
            f"confusion: needs counts of verdicts that both judges give; rows {listed(counts.index)}, "
            f"columns {listed(counts.columns)}, {total:g} votes"
        )
    agreed = sum(counts.loc[verdict, verdict] for verdict in both) / total
    return agreed, sum(counts.loc[verdict].sum() * counts[verdict].sum() for verdict in both) / total**2


def _numbers(matched: pd.DataFrame, judge: str) -> np.ndarray:
    """Places in `WINNERS` of the verdicts of one judge."""
    numbers = pd.Index(WINNERS).get_indexer(pd.Index(matched[judge]))
    if (numbers < 0).any():
        unknown = listed(sorted({repr(label) for label in matched[judge][numbers < 0]}))
        raise DataError(f"matched votes: unknown winner {unknown} in {judge}; a winner is {listed(WINNERS)}")
    return numbers


def _share_and_kappa(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of equal verdicts and kappa of each table, from (b, 9) counts."""
    tables = tables.reshape(-1, 3, 3)
    n, same = tables.sum(axis=(1, 2)), tables.trace(axis1=1, axis2=2)
    chance = (tables.sum(axis=2) * tables.sum(axis=1)).sum(axis=1)
    room = n**2 - chance  # whole numbers: exactly 0 where kappa is undefined
    return same / n, np.where(room > 0, (n * same - chance) / np.where(room > 0, room, 1), np.nan)


def _resampled(matched: pd.DataFrame, values: np.ndarray, bootstrap: Bootstrap) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the columns of ``values`` (n, k): over all votes, (k,), and over resamples of prompts, (b, k)."""
    if matched.empty:
        raise DataError("no matched votes to compare; match_votes makes them")
    prompts = _prompt_numbers(matched)
    sums = np.zeros((prompts.max() + 1, values.shape[1]))
    np.add.at(sums, prompts, values)
    draws = np.concatenate([counts @ sums for counts in bootstrap.counts(len(sums))])
    if len(sums) < 2:  # one prompt says nothing about others
        draws[:] = np.nan
    return sums.sum(axis=0), draws


def _prompt_numbers(matched: pd.DataFrame) -> np.ndarray:
    """Number of the prompt of each vote; a vote without a prompt is one of its own."""
    return prompt_numbers(matched["prompt_key"])


def agreement_by(
    matched: pd.DataFrame,
    groups: pd.Series | str,
    bins: int | None = None,
    bootstrap: Bootstrap = Bootstrap(),
) -> pd.DataFrame:
    """Agreement in each group of votes.

    Parameters
    ----------
    matched : DataFrame
    groups : Series or str
        Group of every vote, in the order of ``matched``, or the name of a column; votes without a group are left out.
    bins : int, optional
        Number of groups of about equal size to cut numbers into. See `length_groups` for groups by difference in
        length.
    bootstrap : Bootstrap
        Of the prompts of each group.

    Returns
    -------
    DataFrame
        One row per group: ``group``, ``votes``, ``share``, ``low``, ``high``, ``kappa``, ``kappa_low``, ``kappa_high``
        (see `Agreement`).

    Raises
    ------
    ParameterError
        When there is not one group per vote.
    DataError
        When no vote has a group.
    """
    if isinstance(groups, str):
        if groups not in matched:
            raise DataError(f"agreement_by: no column {groups!r}; there are {listed(matched.columns)}")
        groups = matched[groups]
    if len(groups) != len(matched):
        raise ParameterError(f"agreement_by: {len(groups)} groups for {len(matched)} votes; give one per vote")
    groups = pd.Series(groups).reset_index(drop=True)
    if bins is not None:
        groups = _quantile_groups(groups, bins, " to ")
    rows = []
    for group, part in matched.reset_index(drop=True).groupby(groups, observed=True):
        found = agreement(part, bootstrap)
        row = {name: getattr(found, name) for name in ("share", "low", "high", "kappa", "kappa_low", "kappa_high")}
        rows.append({"group": group, "votes": found.n} | row)
    if not rows:
        raise DataError("agreement_by: no vote has a group")
    return pd.DataFrame(rows)


def length_ratio(matched: pd.DataFrame) -> pd.Series:
    """``log2(chars_a / chars_b)`` of every vote; an empty answer counts as one character. DataError without lengths."""
    if not {"chars_a", "chars_b"} <= set(matched):
        raise DataError("no lengths of answers; match votes that have chars_a and chars_b or response_a and response_b")
    a, b = (matched[side].clip(lower=1).to_numpy(float) for side in ("chars_a", "chars_b"))
    return pd.Series(np.log2(a / b), index=matched.index, name="length_ratio")


def length_groups(matched: pd.DataFrame, bins: int = 4) -> pd.Series:
    """How many times as long the longer answer is, in ``bins`` groups of about equal size ("1.0-1.3 times")."""
    return _quantile_groups(2 ** length_ratio(matched).abs(), bins, "-", " times")


def _quantile_groups(values: pd.Series, bins: int, between: str, unit: str = "") -> pd.Series:
    require_number("bins", bins, 1, whole=True)
    numbers = values.to_numpy(float)
    if np.isnan(numbers).all():
        raise DataError(f"no numbers in {values.name!r} to make groups of")
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, bins + 1)))
    if len(edges) == 1:
        edges = np.repeat(edges, 2)
    digits = next((d for d in range(1, 12) if len(set(edges.round(d))) == len(edges)), 1)
    labels = [f"{low:.{digits}f}{between}{high:.{digits}f}{unit}" for low, high in pairwise(edges)]
    codes = np.where(np.isnan(numbers), -1, np.searchsorted(edges[1:-1], numbers))
    return pd.Series(
        pd.Categorical.from_codes(codes, pd.Index(labels), ordered=True), index=values.index, name=values.name
    )


def position_bias(matched: pd.DataFrame, bootstrap: Bootstrap = Bootstrap()) -> Bias:
    """How much more often the second judge names the answer shown first (A) than the first judge does.

    Only votes that both saw with the same sides count (else DataError): on swapped ones the better answer and the
    place are not distinguished.
    """
    same = matched[~matched["swapped"]]
    if same.empty:
        raise DataError(f"position_bias: all {len(matched)} matched votes were shown with swapped sides")
    return _bias(same, np.ones(len(same)), bootstrap)


def length_bias(matched: pd.DataFrame, bootstrap: Bootstrap = Bootstrap()) -> Bias:
    """How much more often the second judge names the longer answer than the first judge does.

    Votes with answers of equal or unknown length are left out (DataError when none is left). The values of one judge
    are no bias by themselves: a longer answer may be the better one.
    """
    longer = np.sign(length_ratio(matched).to_numpy())
    differ = np.abs(longer) == 1
    if not differ.any():
        raise DataError("length_bias: no vote with two answers of known and different length")
    return _bias(matched[differ], longer[differ], bootstrap)


def _bias(matched: pd.DataFrame, favoured: np.ndarray, bootstrap: Bootstrap) -> Bias:
    """``favoured`` is 1 where the taste is for A, -1 where it is for B.

    Where fewer than `FEW_VOTES` verdicts differ, a bootstrap is too narrow, [0, 0] for equal judges: then the interval
    also covers the upper limit of the share of different verdicts, and the p-value is at least that of a sign test.
    """
    scores = [_SIGN[_numbers(matched, judge)] * favoured for judge in ("first", "second")]
    total, draws = _resampled(matched, np.column_stack([*scores, np.ones(len(matched))]), bootstrap)
    level = bootstrap.confidence_level
    first, second = (float(value / total[2]) for value in total[:2])
    differences = (draws[:, 1] - draws[:, 0]) / draws[:, 2]
    low, high = bootstrap.interval_of_defined(differences).tolist()
    p_value = np.nan if np.isnan(low) else bootstrap.p_value(differences)
    steps = np.abs(scores[1] - scores[0])
    count, effect = int((steps > 0).sum()), design_effect(steps > 0, _prompt_numbers(matched))
    if not np.isnan(low) and count / effect < FEW_VOTES:
        largest = float(steps.max()) or 2.0
        room = largest * (share_interval(count, len(matched), level, effect)[1] - count / len(matched))
        low, high = min(low, second - first - room), max(high, second - first + room)
        p_value = max(p_value, float(binomtest(int((scores[1] > scores[0]).sum()), count).pvalue) if count else 1.0)
    return Bias(second - first, low, high, p_value, len(matched), level, first=first, second=second)


def bias_table(matched: pd.DataFrame, bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
    """`position_bias` and `length_bias` in rows.

    Returns
    -------
    DataFrame
        ``preference`` (in words), ``first``, ``second`` (wins of the favoured side minus its losses, by judge),
        ``difference``, ``low``, ``high``, ``p_value`` and ``votes``.
    """
    biases = {
        "for the answer shown first": position_bias(matched, bootstrap),
        "for the longer answer": length_bias(matched, bootstrap),
    }
    names = ("first", "second", "difference", "low", "high", "p_value")
    return pd.DataFrame(
        [
            {"preference": words} | {name: getattr(bias, name) for name in names} | {"votes": bias.n}
            for words, bias in biases.items()
        ]
    )


def judges_compared(votes: pd.DataFrame, bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
    """Agreement of every two judges of a set that judged the same answers.

    Parameters
    ----------
    votes : DataFrame
        Battles with a column ``source``; what follows its last slash names the judge.
    bootstrap : Bootstrap
        Of the prompts.

    Returns
    -------
    DataFrame
        One row per two judges with a prompt and both models in common, in the order of names: ``first``, ``second``,
        ``votes``, ``share``, ``low``, ``high``, ``kappa``, ``kappa_low``, ``kappa_high`` (see `Agreement`). Without
        such judges no rows.
    """
    names = ("share", "low", "high", "kappa", "kappa_low", "kappa_high")
    shared, rows = ["prompt_key", "model_a", "model_b"], []
    by_judge = {str(name).split("/")[-1]: part for name, part in votes.groupby("source")}
    for first, second in combinations(by_judge, 2):
        if len(by_judge[first][shared].merge(by_judge[second][shared])):
            same = agreement(match_votes(by_judge[first], by_judge[second]), bootstrap)
            row = {"first": first, "second": second, "votes": same.n}
            rows.append(row | {name: getattr(same, name) for name in names})
    return pd.DataFrame(rows, columns=["first", "second", "votes", *names])
