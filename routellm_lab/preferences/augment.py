"""More votes than people cast: graded answers as battles, votes redrawn with a judge's errors, several sets as one.

The judge itself, a model that says which of two answers is better, is in `routellm_lab.preferences.judge`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.preferences.battles import VOTE_DETAILS, WINNERS, validate_battles, vote_weights
from routellm_lab.preferences.models import ModelPair

if TYPE_CHECKING:
    from routellm_lab.benchmarks import Outcomes


def battles_from_outcomes(
    outcomes: "Outcomes", pair: ModelPair, prompts=None, weight: float | None = None
) -> pd.DataFrame:
    """Gold votes: the higher score wins, equal scores tie (the paper's D_gold, section 4.1).

    Parameters
    ----------
    outcomes : Outcomes
    pair : ModelPair
        ``model_a`` is the strong, ``model_b`` the weak model.
    prompts : boolean mask or list of prompt ids, optional
        Which prompts become votes; all by default. Those with a missing score are left out.
    weight : float, optional
        Weight of every vote.

    Returns
    -------
    DataFrame
        Battles with ``judge`` "gold", the benchmark as ``source``, and the benchmark's columns ``overlaps_...``, which
        `decontaminate` heeds.
    """
    part = outcomes if prompts is None else outcomes.select(prompts)
    gap = part.gap(pair).dropna()
    if gap.empty:
        raise DataError(f"outcomes {outcomes.name}: {pair} have no prompt in common")
    battles = pd.DataFrame(
        {
            "battle_id": gap.index,
            "prompt": part.prompts.loc[gap.index],
            "prompt_key": part.keys.loc[gap.index],
            "model_a": pair.strong,
            "model_b": pair.weak,
            "winner": (gap > 0).map({True: "model_a", False: "model_b"}).where(gap != 0, "tie"),
            "judge": "gold",
            "source": outcomes.name,
        }
    )
    if part.details is not None:
        battles = battles.join(part.details.filter(like="overlaps_"), on="battle_id")
    if weight is not None:
        battles["weight"] = float(weight)
    return validate_battles(battles, where=f"gold votes of {outcomes.name}")


def pool_battles(sets: Mapping[str, pd.DataFrame], balance: bool = True) -> pd.DataFrame:
    """Several vote sets as one, each named in the column ``set``.

    Parameters
    ----------
    sets : dict of str to DataFrame
        Battles by name.
    balance : bool
        Give every set the same total weight, so that a large one does not drown a small one; otherwise votes keep
        their own weights in proportion. Either way all are rescaled to average 1.

    Returns
    -------
    DataFrame
        Battles with a ``weight`` column.
    """
    if not sets:
        raise ParameterError("pool_battles: no sets given")
    parts = []
    for name, battles in sets.items():
        weight = vote_weights(battles)
        parts.append(battles.assign(set=name, weight=weight / weight.sum() if balance else weight))
    pooled = pd.concat(parts, ignore_index=True)
    pooled["weight"] *= len(pooled) / pooled["weight"].sum()
    return validate_battles(pooled, where=" + ".join(sets))


def relabel_as(
    battles: pd.DataFrame, confusion: pd.DataFrame, share: float = 1.0, random_state: int = 0
) -> pd.DataFrame:
    """Votes redrawn as a judge with these errors would cast them.

    Parameters
    ----------
    battles : DataFrame
        Votes taken as true.
    confusion : DataFrame
        Counts or shares of the judge's winner (columns) by the true one (rows): model_a, model_b, tie. A label that
        is not there counts 0.
    share : float
        Share of the votes that are redrawn, each by chance. With one seed, those of a smaller share are among those
        of a larger one.
    random_state : int

    Returns
    -------
    DataFrame
        Battles with the new ``winner`` and without ``preference_a``, ``both_bad`` and ``consistent``, which belong to
        the old one; everything else as it was.

    Raises
    ------
    ParameterError
        For other labels, counts that are none, a winner of the votes without counts, or a share outside [0, 1].

    Notes
    -----
    The vote of a person is itself a noisy draw, and P(judge | person) holds that noise. Votes of people redrawn by a
    table that was measured against people have it twice, so that what this costs a router is an upper bound. For the
    sample, whose chances are known, see `routellm_lab.preferences.sample.recast_votes`.
    """
    battles = validate_battles(battles)
    if not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise ParameterError(f"share must be in [0, 1], got {share!r}")
    for axis, labels in (("rows", confusion.index), ("columns", confusion.columns)):
        if not set(labels) <= set(WINNERS) or not labels.is_unique:
            raise ParameterError(f"confusion: {axis} must be {listed(WINNERS)}, got {listed(labels)}")
    table = confusion.reindex(index=list(WINNERS), columns=list(WINNERS), fill_value=0)
    table = table.apply(pd.to_numeric, errors="coerce").astype(float)
    if not (np.isfinite(table) & (table >= 0)).all(axis=None):
        raise ParameterError("confusion: counts must be numbers, finite and not below 0")
    empty = [label for label in WINNERS if not table.loc[label].sum() and (battles["winner"] == label).any()]
    if empty:
        raise ParameterError(f"confusion: no counts in row {listed(empty)}, and there are such votes to redraw")
    rng = np.random.default_rng(random_state)
    redrawn, drawn = rng.random(len(battles)) < share, rng.random(len(battles))
    true = battles["winner"].to_numpy()
    winner = true.astype(object)
    for label in battles["winner"].unique():
        rows, edges = redrawn & (true == label), table.loc[label].cumsum().to_numpy()
        winner[rows] = np.array(WINNERS)[np.searchsorted(edges / edges[-1], drawn[rows], side="right")]
    redrawn_votes = battles.drop(columns=list(VOTE_DETAILS), errors="ignore").assign(winner=winner)
    return validate_battles(redrawn_votes, where="votes redrawn")
