"""Domain adaptation with little data: a few labelled questions of one domain on top of a general router."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.encoders import make_encoder
from routellm_lab.engine import parallel
from routellm_lab.errors import DataError, ParameterError, listed, nearest
from routellm_lab.evaluation import metrics
from routellm_lab.evaluation.curve import RoutingCurve, checked_win_rates
from routellm_lab.evaluation.significance import bootstrap_p_value, defined, percentile_interval, resample_counts
from routellm_lab.preferences.models import ModelPair

CHOICES = ("random", "diverse", "uncertain")
"""Which questions to label next. ``diverse``: the one farthest from all labelled ones (k-centre on the encodings; Sener
and Savarese 2018, arXiv 1708.00489, section 4). ``uncertain``: the one whose general win rate is nearest to the median
of the pool, which is the threshold at half of the calls."""

LABELS = (0, 25, 50, 100, 200, 500)

_ALPHAS = tuple(np.geomspace(1, 1e5, 11))


def adapted(general: Any, vectors: Any, labelled: Any, targets: Any) -> np.ndarray:
    """General predictions plus what some labels say is wrong with them: a ridge regression of the residuals.

    Parameters
    ----------
    general : (n,) or (n, k) array-like
        What a router fitted elsewhere says of each question: win rates, or utilities of k models.
    vectors : (n, d) array-like
        Encoded questions.
    labelled : (m,) array-like of int
        Rows with a label; none leaves ``general`` as it is.
    targets : (m,) or (m, k) array-like
        Their labels, in the unit of ``general``.

    Returns
    -------
    Array like ``general``; not clipped.

    Notes
    -----
    The general prediction is an offset, so that all weights shrink towards it, and once more a feature, so that its
    scale can change. The penalty, from 1 to 100,000, has the least squared error when each label is left out in turn.
    """
    from sklearn.linear_model import RidgeCV

    start, rows = np.asarray(general, float), np.asarray(labelled, int)
    if len(rows) == 0:
        return start.copy()
    columns = start.reshape(len(start), -1)
    truth = np.asarray(targets, float).reshape(len(rows), -1)
    spread = columns.std(axis=0)
    scaled = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1)
    found = columns.copy()
    for j, residual in enumerate((truth - columns[rows]).T):
        features = np.column_stack([scaled[:, j], np.asarray(vectors, float)])
        if len(rows) > 1:  # a single label has no other to choose the penalty by, and moves every question alike
            found[:, j] += RidgeCV(alphas=_ALPHAS).fit(features[rows], residual).predict(features)
    return found.reshape(start.shape)


@dataclass(frozen=True, eq=False)
class Adaptation:
    """Routing curves on the held-out questions of a domain, by choice of questions, number of labels and draw.

    Made by `adaptation_curve`.

    Attributes
    ----------
    name : str
        The benchmark.
    domain : str
    pair : ModelPair
    labels : tuple of int
    curves : dict of (str, int) to list of RoutingCurve
        By choice and number of labels; a curve per draw. Within a draw all are of the same questions.
    simulated : bool
    """

    name: str
    domain: str
    pair: ModelPair
    labels: tuple[int, ...]
    curves: Mapping[tuple[str, int], list[RoutingCurve]] = field(repr=False)
    simulated: bool = False

    @property
    def choices(self) -> list[str]:
        return list(dict.fromkeys(choice for choice, _ in self.curves))

    def frame(self) -> pd.DataFrame:
        """One row per curve: ``choice``, ``labels``, ``draw``, ``apgr``, ``prompts`` (held out)."""
        return pd.DataFrame(
            [
                {"choice": choice, "labels": labels, "draw": draw, "apgr": curve.apgr, "prompts": len(curve)}
                for (choice, labels), curves in self.curves.items()
                for draw, curve in enumerate(curves)
            ]
        )

    def summary(self, level: float = 0.95, n_resamples: int = 1000, random_state: int | None = 0) -> pd.DataFrame:
        """Means over the draws with intervals, against the general router and against labels chosen at random.

        Parameters
        ----------
        level : float
        n_resamples : int
            Every one draws the questions of the domain anew, and the draws of labels.
        random_state : int, optional

        Returns
        -------
        DataFrame
            One row per choice and number of labels: ``choice``, ``labels``, ``apgr``, ``low``, ``high``; ``gain`` over
            the general router (APGR at 0 labels) with ``gain_low``, ``gain_high``, ``p_gain``; ``over_random`` (less
            the APGR of as many labels chosen at random; NaN where these were not asked for), ``over_random_low``,
            ``over_random_high``, ``p_over_random``. p-values are two-sided and not corrected.

        Raises
        ------
        DataError
            When the strong model is not better in more than 5 % of the resamples.
        """
        keys = list(self.curves)
        values = np.array([[curve.apgr for curve in self.curves[key]] for key in keys]).mean(axis=1)
        draws = self._resampled(n_resamples, random_state)
        low, high = percentile_interval(draws, level, f"{self.name}, {self.domain}")
        rows = []
        for at, (choice, labels) in enumerate(keys):
            row: dict[str, Any] = {"choice": choice, "labels": labels}
            row |= {"apgr": values[at], "low": low[at], "high": high[at]}
            for name, other in (("gain", (choice, 0)), ("over_random", ("random", labels))):
                known = other in self.curves
                against = keys.index(other) if known else at
                apart = draws[:, at] - draws[:, against]
                ends = percentile_interval(apart[:, None], level)[:, 0] if known else (np.nan, np.nan)
                p_value = bootstrap_p_value(apart) if known else np.nan
                row |= {name: values[at] - values[against] if known else np.nan}
                row |= {f"{name}_low": ends[0], f"{name}_high": ends[1], f"p_{name}": p_value}
            rows.append(row)
        return pd.DataFrame(rows)

    def labels_needed(self, **options: Any) -> pd.DataFrame:
        """How many labels it takes, by the intervals of `summary` (to which the options go).

        Returns
        -------
        DataFrame
            One row per choice: ``choice``, ``beats_random_router`` and ``beats_general``: the smallest number of
            labels tried from which on, with any more that were tried, APGR is surely above .5, and surely above that of
            the general router; NA where none is.
        """
        rows = []
        for choice, part in self.summary(**options).groupby("choice", sort=False):
            sure = {"beats_random_router": part["low"] > 0.5, "beats_general": part["gain_low"] > 0}
            rows.append({"choice": choice, **{name: _from_there_on(part["labels"], yes) for name, yes in sure.items()}})
        return pd.DataFrame(rows).astype(dict.fromkeys(("beats_random_router", "beats_general"), "Int64"))

    def _resampled(self, n_resamples: int, random_state: int | None) -> np.ndarray:
        """Mean APGR over resampled draws, on resampled questions of the domain, (b, curves)."""
        first = next(iter(self.curves.values()))
        ids = pd.Index(np.unique(np.concatenate([curve.prompt_ids for curve in first])))
        places = [ids.get_indexer(curve.prompt_ids) for curve in first]
        of_questions, of_draws = np.random.SeedSequence(random_state).spawn(2)
        found = []
        for counts in resample_counts(len(ids), n_resamples, of_questions):
            parts = [
                [metrics.apgr(curve.sweep(counts[:, at])) for curve, at in zip(curves, places, strict=True)]
                for curves in self.curves.values()
            ]
            found.append(np.array(parts).transpose(2, 0, 1))
        apgr = np.concatenate(found)
        weights = np.concatenate(list(resample_counts(len(first), n_resamples, of_draws)))[:, None]
        # a draw on whose questions the strong model is not better in the resample has no say in it
        weights = weights * ~np.isnan(apgr)
        total = weights.sum(axis=2)
        summed = (np.nan_to_num(apgr) * weights).sum(axis=2)
        means = np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)
        return defined(means, f"{self.name}, {self.domain}")


def adaptation_curve(
    outcomes: Outcomes,
    pair: ModelPair,
    general_win_rates: Any,
    encoder: Any,
    domain: str | Sequence[str],
    labels: Iterable[int] = LABELS,
    choice: str | Sequence[str] = "random",
    n_draws: int = 20,
    test_share: float = 0.3,
    random_state: int | None = 0,
) -> Adaptation:
    """Add labelled questions of one domain to a general router, and evaluate on the rest of that domain.

    Parameters
    ----------
    outcomes : Outcomes
    pair : ModelPair
    general_win_rates : (n,) array-like in [0, 1]
        Of every prompt of ``outcomes``, by a router that was fitted without this domain.
    encoder : str or Encoder
    domain : str or list of str
        Of ``outcomes.groups``; several are taken as one.
    labels : iterable of int
        How many to add; 0, the general router, always comes along. Each set of labels holds the smaller ones.
    choice : str or list of str
        One or several of `CHOICES`.
    n_draws : int
        Splits of the domain into a pool to label from and held-out questions.
    test_share : float
        Of the questions held out, in (0, 1). Copies of a question stay together.
    random_state : int, optional

    Returns
    -------
    Adaptation

    Raises
    ------
    ParameterError
        When the domain or a choice is not known, the pool is smaller than the largest number of labels, or a number
        is out of its range.
    DataError
        When win rates break their contract, or the strong model is not better on held-out questions.

    Notes
    -----
    A label is 1 where the strong model scores higher, 0 where the weak one does, and 1/2 else (`adapted` learns from
    it). Equal seeds give all choices equal pools and held-out questions: comparisons are paired.
    """
    win_rate = checked_win_rates(general_win_rates, outcomes)
    sizes = _checked_labels(labels)
    choices = [choice] if isinstance(choice, str) else list(dict.fromkeys(choice))
    unknown = [one for one in choices if one not in CHOICES]
    if unknown or not choices:
        raise ParameterError(f"choice: no {listed(unknown) or 'choice given'}; use {listed(CHOICES)}")
    if not isinstance(n_draws, (int, np.integer)) or n_draws < 1:
        raise ParameterError(f"n_draws must be a whole number from 1, got {n_draws!r}")
    if not 0 < test_share < 1:
        raise ParameterError(f"test_share must be between 0 and 1, got {test_share!r}")
    domains = [domain] if isinstance(domain, str) else list(domain)
    groups = outcomes.groups.astype(str)
    for name in domains or [""]:
        if name not in set(groups):
            raise ParameterError(f"domain: no group {name!r} in {outcomes.name}; nearest: {nearest(name, set(groups))}")
    inside = (groups.isin(domains) & outcomes.gap(pair).notna()).to_numpy()
    part, general = outcomes.select(inside), win_rate[inside]
    vectors = make_encoder(encoder).transform(part.prompts)
    code = pd.factorize(part.keys)[0]
    title = " and ".join(domains)
    seeds = np.random.SeedSequence(random_state).spawn(2 * n_draws)
    held_out = [
        np.random.default_rng(seed).permutation(code.max() + 1)[code] < test_share * (code.max() + 1)
        for seed in seeds[:n_draws]
    ]
    smallest = min(int((~test).sum()) for test in held_out)
    if smallest < sizes[-1]:
        raise ParameterError(
            f"labels: {sizes[-1]} asked for, but the pool of {title} has {smallest} questions ({len(part)} less those "
            "held out); ask for fewer, or lower test_share"
        )
    tasks = [
        (part, pair, general, vectors, test, one, sizes, seed)
        for one in choices
        for test, seed in zip(held_out, seeds[n_draws:], strict=True)
    ]
    done = parallel(_adapt, tasks, "adaptation", len(tasks))
    curves = {
        (one, size): [found[at] for found in done[number * n_draws : (number + 1) * n_draws]]
        for number, one in enumerate(choices)
        for at, size in enumerate(sizes)
    }
    flat = next((curve for found in curves.values() for curve in found if curve.strong_mean <= curve.weak_mean), None)
    if flat is not None:
        raise DataError(
            f"{outcomes.name}, {title}: {pair.strong} is not better than {pair.weak} on the {len(flat)} held-out "
            "questions of a draw, so that APGR is undefined; take a wider domain, a larger test_share or another pair"
        )
    return Adaptation(outcomes.name, title, pair, tuple(sizes), curves, outcomes.simulated)


def _adapt(
    part: Outcomes,
    pair: ModelPair,
    general: np.ndarray,
    vectors: np.ndarray,
    test: np.ndarray,
    choice: str,
    sizes: list[int],
    seed: np.random.SeedSequence,
) -> list[RoutingCurve]:
    """The curves on the held-out questions of one draw, one per number of labels."""
    pool = np.flatnonzero(~test)
    targets = (1 + np.sign(part.gap(pair).to_numpy(float))) / 2
    order = pool[_order(choice, vectors[pool], general[pool], sizes[-1], np.random.default_rng(seed))]
    rest = part.select(test)
    curves = []
    for size in sizes:
        rows = order[:size]
        found = adapted(general, vectors, rows, targets[rows])[test]
        # only the ranking counts; clipping would tie what lies outside
        _, rank = np.unique(found, return_inverse=True)
        curves.append(_curve(rank / max(rank.max(), 1), rest, pair))
    return curves


def _curve(win_rate: np.ndarray, outcomes: Outcomes, pair: ModelPair) -> RoutingCurve:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="all .* win rates", category=UserWarning)  # a constant is a start too
        return RoutingCurve.from_win_rates(win_rate, outcomes, pair)


def _order(choice: str, vectors: np.ndarray, general: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Positions in the pool in the order in which they are labelled; at least the first ``size``."""
    shuffled = rng.permutation(len(vectors))
    if choice == "random" or size == 0:
        return shuffled
    if choice == "uncertain":
        return shuffled[np.argsort(np.abs(general - np.median(general))[shuffled], kind="stable")]
    chosen = [int(shuffled[0])]
    far = np.full(len(vectors), np.inf)
    while len(chosen) < size:
        far = np.minimum(far, ((vectors - vectors[chosen[-1]]) ** 2).sum(axis=1))
        far[chosen] = -1
        chosen.append(int(far.argmax()))
    return np.array(chosen)


def _from_there_on(labels: pd.Series, sure: pd.Series) -> Any:
    doubtful = labels[~sure]
    later = labels[labels > doubtful.max()] if len(doubtful) else labels
    return later.min() if len(later) else pd.NA


def _checked_labels(labels: Iterable[int]) -> list[int]:
    sizes = list(labels)
    bad = [size for size in sizes if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0]
    if bad or not sizes:
        raise ParameterError(f"labels must be whole numbers from 0, got {listed(bad) or 'none'}")
    return sorted({0, *map(int, sizes)})
