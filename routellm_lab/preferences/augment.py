"""More votes than people cast: graded answers as battles, and several sets as one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences.battles import validate_battles, vote_weights
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
        Battles with ``judge`` "gold" and the benchmark as ``source``.
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
        Give every set the same total weight, so that a large one does not drown a small one; otherwise every vote
        keeps its own. Weights average 1.

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
