"""Cold start: how many labelled answers a new model needs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.engine import parallel
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.resampling import Bootstrap
from routellm_lab.routers.scores.base import ScoreRouter
from routellm_lab.studies.adaptation import checked_labels


def cold_start_curve(
    train: Outcomes,
    test: Outcomes,
    routers: Mapping[str, ScoreRouter],
    labels: Iterable[int] = (10, 50, 200),
    newcomers: int = 8,
    n_draws: int = 10,
    bootstrap: Bootstrap = Bootstrap(),
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Cold start: how well a new model's scores are estimated from a few labelled answers and from the other models.

    Each of some models is the newcomer once. The routers are fitted on the other models alone, and add it from labelled
    answers to training questions (`ScoreRouter.add_model`).

    Parameters
    ----------
    train, test : Outcomes
        Of the same models; questions to learn from, and to be judged by.
    routers : dict of ScoreRouter
        By name; fitted or not, they stay as they are.
    labels : iterable of int
        How many answers of the newcomer are labelled, from 1. Each set of labels holds the smaller ones.
    newcomers : int
        Models drawn, each to be the newcomer; all of them where there are fewer.
    n_draws : int
        Sets of labels per newcomer, the same for all routers.
    bootstrap : Bootstrap
        Every resample draws the newcomers anew, and the sets of labels of each.
    random_state : int, optional
        Of the newcomers and of the sets of labels.

    Returns
    -------
    DataFrame
        One row per router and number of labels: ``router``, ``labels``, ``gain`` (Brier score of the mean of the
        labels, which knows nothing of the question, less that of the expected scores), ``low``, ``high``, ``p_value``
        (not corrected), ``newcomers``; ``brier``, the Brier score of the expected scores, with ``brier_low``,
        ``brier_high``; ``above_most``, the Brier score less that with the largest number of labels, with
        ``above_most_low``, ``above_most_high`` (paired; NaN for that number itself).

    Raises
    ------
    ParameterError
        When a number is out of its range, there are no routers, or fewer questions than labels.
    DataError
        When there are fewer than three models, or test lacks one.
    """
    sizes = [size for size in checked_labels(labels) if size]
    for name, value in (("newcomers", newcomers), ("n_draws", n_draws)):
        require_number(name, value, 1, whole=True)
    if not routers or not sizes:
        raise ParameterError("cold_start_curve: name one router or more, and one number of labels or more above 0")
    if len(train.models) < 3 or not set(train.models) <= set(test.models):
        raise DataError(
            f"cold_start_curve: needs three models or more, the same in both parts; got {listed(train.models)}"
        )
    of_models, of_labels = np.random.SeedSequence(random_state).spawn(2)
    of_resamples = np.random.SeedSequence(bootstrap.random_state).spawn(3)[2]  # not the draws of the two before
    arrived = np.random.default_rng(of_models).permutation(train.models)[:newcomers].tolist()
    tasks = [
        (train, test, dict(routers), name, sizes, n_draws, seed)
        for name, seed in zip(arrived, of_labels.spawn(len(arrived)), strict=True)
    ]
    measured = np.array(parallel(_arrive, tasks, "new models", len(tasks)))  # (newcomers, draws, 2, routers, sizes)
    rng, k = np.random.default_rng(of_resamples), len(arrived)
    drawn = np.empty((bootstrap.n_resamples, *measured.shape[2:]))
    for at in range(bootstrap.n_resamples):
        models = rng.integers(k, size=k)
        drawn[at] = measured[models[:, None], rng.integers(n_draws, size=(k, n_draws))].mean(axis=(0, 1))
    gains, errors = measured.mean(axis=(0, 1))
    more, more_drawn = errors - errors[:, -1:], drawn[:, 1] - drawn[:, 1, :, -1:]
    rows = []
    for i, router in enumerate(routers):
        for j, size in enumerate(sizes):
            low, high = bootstrap.interval(drawn[:, 0, i, j])
            row = {"router": router, "labels": size, "gain": gains[i, j], "low": low, "high": high}
            row |= {"p_value": bootstrap.p_value(drawn[:, 0, i, j]), "newcomers": k}
            for name, value, draws in (
                ("brier", errors[i, j], drawn[:, 1, i, j]),
                ("above_most", more[i, j], more_drawn[:, i, j]),
            ):
                low, high = bootstrap.interval(draws)
                row |= {name: value, f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    found = pd.DataFrame(rows)
    found.loc[found["labels"] == sizes[-1], ["above_most", "above_most_low", "above_most_high"]] = np.nan
    return found


def _arrive(
    train: Outcomes,
    test: Outcomes,
    routers: dict[str, ScoreRouter],
    newcomer: str,
    sizes: list[int],
    n_draws: int,
    seed: np.random.SeedSequence,
) -> np.ndarray:
    """(draws, 2, routers, sizes), of one newcomer: what its expected scores gain over the mean of its labels, and their
    Brier score."""
    from sklearn.base import clone

    rest = replace(train, scores=train.scores.drop(columns=newcomer))
    fitted = [clone(router).fit(rest) for router in routers.values()]
    known, truth = train.of(newcomer).dropna(), test.of(newcomer).dropna()
    if len(known) < sizes[-1]:
        raise ParameterError(f"labels: {sizes[-1]} asked for, but {newcomer} has {len(known)} scores to draw from")
    rng, asked = np.random.default_rng(seed), test.prompts.loc[truth.index]
    measured = np.empty((n_draws, 2, len(fitted), len(sizes)))
    for draw in range(n_draws):
        order = known.iloc[rng.permutation(len(known))[: sizes[-1]]]
        for j, size in enumerate(sizes):
            few = order.iloc[:size]
            blind = ((few.mean() - truth) ** 2).mean()
            for i, router in enumerate(fitted):
                expected = router.add_model(newcomer, few, train.prompts).expected_scores(asked)[newcomer]
                error = ((expected - truth) ** 2).mean()
                measured[draw, :, i, j] = blind - error, error
    return measured
