"""What the best of n samples by a ranker gains over one answer of the same model, in votes."""

from collections.abc import Mapping

import pandas as pd

from routellm_lab.errors import DataError, listed
from routellm_lab.preferences.battles import validate_battles
from routellm_lab.preferences.models import judges_of
from routellm_lab.resampling import Bootstrap
from routellm_lab.systems.base import preferred_for_a

BEST_OF_N = {
    "pairrm-tulu-2-13b": ("tulu-2-dpo-13b", "PairRM"),
    "pairrm-tulu-2-70b": ("tulu-2-dpo-70b", "PairRM"),
    "pairrm-zephyr-7b-beta": ("zephyr-7b-beta", "PairRM"),
    "ultralm-13b-v2.0-best-of-16": ("ultralm-13b-v2.0", "UltraRM"),
}
"""Runs of AlpacaEval that are the best of 16 samples: the model sampled, and who ranked (as AlpacaEval's leaderboard
describes them)."""


def best_of_n_gain(
    battles: pd.DataFrame,
    runs: Mapping[str, tuple[str, str]] = BEST_OF_N,
    bootstrap: Bootstrap = Bootstrap(),
) -> pd.DataFrame:
    """What the best of n samples by a ranker wins over one answer of the same model, against a common opponent.

    Parameters
    ----------
    battles : DataFrame
        Such as ``load_battles("alpacaeval_judge", data=folder)``.
    runs : mapping of str to (str, str)
        Best-of-n run to the model it samples and the ranker.

    Returns
    -------
    DataFrame
        One row per run, judge and opponent that both met: ``base``, ``best_of_n``, ``ranker``, ``judge``,
        ``opponent``, ``base_win_rate``, ``best_win_rate`` (``preference_a`` where the judge is soft, else wins + ties /
        2), ``gain`` with ``low`` and ``high`` (paired bootstrap over prompts) and ``n`` (prompts that both answered).

    Raises
    ------
    DataError
        When no run of ``runs`` meets an opponent that its model meets as well: of the sets here only
        ``alpacaeval_judge`` in a data folder has such runs, the sample has none.

    Notes
    -----
    A run also pays n samples and n rankings, which no log holds: in tokens it costs n times its base model.
    """
    battles = validate_battles(battles)
    won = preferred_for_a(battles)
    judge = judges_of(battles) if "judge" in battles else pd.Series("", battles.index)
    votes = pd.DataFrame({"judge": judge, "prompt_key": battles["prompt_key"]})
    sides = (
        votes.assign(model=battles["model_a"], opponent=battles["model_b"], won=won),
        votes.assign(model=battles["model_b"], opponent=battles["model_a"], won=1 - won),
    )
    asked = {*runs, *(base for base, _ in runs.values())}
    both = pd.concat(sides)
    mean = both[both["model"].isin(asked)].groupby(["judge", "opponent", "prompt_key", "model"])["won"].mean()
    rates = mean.unstack("model")
    rows = []
    for run, (base, ranker) in runs.items():
        if run not in rates or base not in rates:
            continue
        for (name, opponent), met in rates[[base, run]].dropna().groupby(level=["judge", "opponent"]):
            apart = (met[run] - met[base]).to_numpy()
            low, high = bootstrap.interval(bootstrap.crossed_means(apart[None]))
            means = met[base].mean(), met[run].mean(), apart.mean()
            rows.append((base, run, ranker, name, opponent, *means, low, high, len(apart)))
    if not rows:
        raise DataError(
            f"best_of_n_gain: no vote on {listed(runs)} beside votes on its base model against the same opponent; "
            "load_battles('alpacaeval_judge', data=FOLDER) has some, the sample has none"
        )
    columns = "base best_of_n ranker judge opponent base_win_rate best_win_rate gain low high n".split()
    return pd.DataFrame(rows, columns=columns)
