"""Splits by prompt: the same prompt never on both sides."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from routellm_lab.errors import DataError, require_number
from routellm_lab.preferences.battles import keys_of

if TYPE_CHECKING:
    from routellm_lab.benchmarks import Outcomes


def split_by_prompt(
    battles: pd.DataFrame, test_share: float = 0.1, random_state: int | None = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a training and a held-out part that share no ``prompt_key``.

    Parameters
    ----------
    battles : DataFrame
        Each vote without a prompt is a prompt of its own.
    test_share : float
        Share of the prompts (not of the votes) held out, in (0, 1).

    Raises
    ------
    DataError
        With fewer than two distinct prompts.
    """
    require_number("test_share", test_share, 0, 1, inside=True)
    codes = prompt_numbers(keys_of(battles))
    n_prompts = int(codes.max(initial=-1)) + 1
    if n_prompts < 2:
        raise DataError("cannot split: the votes have a single distinct prompt")
    n_test = min(max(1, round(test_share * n_prompts)), n_prompts - 1)
    held_out = np.zeros(n_prompts, bool)
    held_out[np.random.default_rng(random_state).permutation(n_prompts)[:n_test]] = True
    return np.flatnonzero(~held_out[codes]), np.flatnonzero(held_out[codes])


def prompt_numbers(keys: pd.Series) -> np.ndarray:
    """Numbers from 0 that are equal where prompt keys are, (n,); a row without a key has a number of its own."""
    numbers, known = pd.factorize(keys)
    alone = numbers < 0
    return np.where(alone, len(known) + alone.cumsum() - 1, numbers)


def prompt_ranks(keys: pd.Series, random_state: int | np.integer | np.random.SeedSequence | None = 0) -> np.ndarray:
    """The place of each prompt in a random order of the distinct ones, from 0; equal prompts share theirs.

    ``prompt_ranks(keys) % 5`` are five folds of like size.

    Parameters
    ----------
    keys : (n,) Series
        Prompt keys, or anything else that is the same for rows that belong together; a null row belongs to no other.
    random_state : int or SeedSequence, optional

    Returns
    -------
    (n,) array of int
    """
    codes = prompt_numbers(keys)
    return np.random.default_rng(random_state).permutation(int(codes.max(initial=-1)) + 1)[codes]


def sample_questions(outcomes: "Outcomes", size: int, random_state: int | None = 0) -> pd.Index:
    """Prompt ids of a random part of a benchmark, stratified by group, never splitting equal prompts.

    Prompts without a group are one more group.

    Parameters
    ----------
    outcomes : Outcomes
    size : int
        Questions wanted; an upper limit of the result (copies of a prompt come along whole).

    Returns
    -------
    Index
        Prompt ids in the order of the benchmark.
    """
    require_number("size", size, 1, len(outcomes) - 1, whole=True)
    rng = np.random.default_rng(random_state)
    frame = pd.DataFrame({"key": outcomes.keys, "group": pd.factorize(outcomes.groups)[0]})
    first = frame.drop_duplicates("key")
    copies = frame["key"].value_counts()
    order = first.iloc[rng.permutation(len(first))]
    # the r-th question of a group of g is wanted at time (r + u) / g: equal shares, whatever the cut
    rank = order.groupby("group").cumcount() + rng.random(len(order))
    wanted = order.assign(time=rank / order["group"].map(first["group"].value_counts())).sort_values("time")
    taken = wanted["key"][copies.loc[wanted["key"]].cumsum().to_numpy() <= size]
    return frame.index[frame["key"].isin(set(taken))]
