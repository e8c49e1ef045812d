"""Adaptation to a domain: a few labelled questions of it on top of a general router."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.encoders import make_encoder
from routellm_lab.engine import parallel
from routellm_lab.errors import DataError, ParameterError, listed, nearest, require_number
from routellm_lab.evaluation import metrics
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.inputs import checked_win_rates
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.splits import prompt_ranks
from routellm_lab.resampling import Bootstrap, defined

CHOICES = ("random", "diverse", "uncertain")
"""Which questions to label next. ``diverse``: the one farthest from all labelled ones (k-centre on the encodings; Sener
and Savarese 2018, arXiv 1708.00489, section 4). ``uncertain``: the one whose general win rate is nearest to the median
of the pool, which is the threshold at half of the calls."""

LABELS = (0, 25, 50, 100, 200, 500)

_ALPHAS = tuple(np.geomspace(1, 1e5, 11))


def residual_correction(general: Any, vectors: Any, labelled: Any, targets: Any) -> np.ndarray:
    """General predictions plus what some labels say is wrong with them: a ridge regression of the residuals.

    Parameters
    ----------
    general : (n,) or (n, k) array-like
        What a router fitted elsewhere says of each question: win rates, or expected scores of k models.
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
    over_constant : dict of (str, int) to list of (n,) arrays
        By choice and number of labels, per draw: what each held-out question brings over the best constant (see
        `adaptation_curve`), in the order of the curve's prompts.
    call_cost : float
        Score that a call of the strong model is charged there.
    simulated : bool
    """

    name: str
    domain: str
    pair: ModelPair
    labels: tuple[int, ...]
    curves: Mapping[tuple[str, int], list[RoutingCurve]] = field(repr=False)
    over_constant: Mapping[tuple[str, int], list[np.ndarray]] = field(repr=False)
    call_cost: float
    simulated: bool = False

    def summary(self, bootstrap: Bootstrap = Bootstrap(n_resamples=1000)) -> pd.DataFrame:
        """Means over the draws with intervals, against the general router and against labels chosen at random.

        Parameters
        ----------
        bootstrap : Bootstrap
            Every resample draws the questions of the domain anew, and the draws of labels.

        Returns
        -------
        DataFrame
            One row per choice and number of labels: ``choice``, ``labels``, ``apgr``, ``low``, ``high``; ``gain`` over
            the general router (APGR at 0 labels) with ``gain_low``, ``gain_high``, ``p_gain``; ``over_random`` (less
            the APGR of as many labels chosen at random; NaN where these were not asked for), ``over_random_low``,
            ``over_random_high``, ``p_over_random``; ``over_constant`` (score per question, calls charged, less that of
            the best constant) with ``over_constant_low``, ``over_constant_high``, ``p_over_constant``. p-values are
            two-sided and not corrected.

        Raises
        ------
        DataError
            When the strong model is not better in more than 5 % of the resamples.
        """
        keys = list(self.curves)
        values = np.array([[curve.apgr for curve in self.curves[key]] for key in keys]).mean(axis=1)
        ahead = np.array([[brought.mean() for brought in self.over_constant[key]] for key in keys]).mean(axis=1)
        draws, ahead_draws = self._resampled(bootstrap)
        low, high = bootstrap.interval(draws, f"{self.name}, {self.domain}")
        ahead_low, ahead_high = bootstrap.interval(ahead_draws)
        rows = []
        for at, (choice, labels) in enumerate(keys):
            row: dict[str, Any] = {"choice": choice, "labels": labels}
            row |= {"apgr": values[at], "low": low[at], "high": high[at]}
            for name, other in (("gain", (choice, 0)), ("over_random", ("random", labels))):
                known = other in self.curves
                against = keys.index(other) if known else at
                apart = draws[:, at] - draws[:, against]
                ends = bootstrap.interval(apart) if known else (np.nan, np.nan)
                p_value = bootstrap.p_value(apart) if known else np.nan
                row |= {name: values[at] - values[against] if known else np.nan}
                row |= {f"{name}_low": ends[0], f"{name}_high": ends[1], f"p_{name}": p_value}
            told = (ahead[at], ahead_low[at], ahead_high[at], bootstrap.p_value(ahead_draws[:, at]))
            names = ("over_constant", "over_constant_low", "over_constant_high", "p_over_constant")
            rows.append(row | dict(zip(names, told, strict=True)))
        return pd.DataFrame(rows)

    def _resampled(self, bootstrap: Bootstrap) -> tuple[np.ndarray, np.ndarray]:
        """Means over resampled draws, on resampled questions of the domain, (b, curves): APGR, and what is brought over
        the best constant. Resamples in which APGR is not defined are left out."""
        first = next(iter(self.curves.values()))
        ids = pd.Index(np.unique(np.concatenate([curve.prompt_ids for curve in first])))
        places = [ids.get_indexer(curve.prompt_ids) for curve in first]
        of_questions, of_draws = (
            bootstrap.replace(random_state=seed) for seed in np.random.SeedSequence(bootstrap.random_state).spawn(2)
        )
        found, brought = [], []
        for counts in of_questions.counts(len(ids)):
            drawn = [counts[:, at] for at in places]
            parts = [
                [metrics.apgr(curve.sweep(times)) for curve, times in zip(curves, drawn, strict=True)]
                for curves in self.curves.values()
            ]
            found.append(np.array(parts).transpose(2, 0, 1))
            parts = [
                [times @ values / np.maximum(times.sum(axis=1), 1) for values, times in zip(part, drawn, strict=True)]
                for part in self.over_constant.values()
            ]
            brought.append(np.array(parts).transpose(2, 0, 1))
        apgr, ahead = np.concatenate(found), np.concatenate(brought)
        weights = np.concatenate(list(of_draws.counts(len(first))))[:, None]
        # a draw on whose questions the strong model is not better in the resample has no say in it
        counted = weights * ~np.isnan(apgr)
        total = counted.sum(axis=2)
        summed = (np.nan_to_num(apgr) * counted).sum(axis=2)
        means = np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)
        return defined(means, f"{self.name}, {self.domain}"), (ahead * weights).sum(axis=2) / weights.sum(axis=2)


def labels_to_beat(summary: pd.DataFrame) -> pd.DataFrame:
    """How many labels it takes, by the intervals of `Adaptation.summary`.

    Parameters
    ----------
    summary : DataFrame
        One or several of them; with a column ``domain`` it distinguishes them.

    Returns
    -------
    DataFrame
        One row per domain and choice: ``domain`` (where there is one), ``choice``, and ``beats_random_router``,
        ``beats_best_constant``, ``beats_general``: the smallest number of labels tried from which on, with any more
        that were tried, APGR is significantly above .5, the score is significantly above that of the best
        constant, and APGR is significantly above that of the general router; NA where none is.
    """
    by = [column for column in ("domain", "choice") if column in summary]
    rows = []
    for key, part in summary.groupby(by, sort=False):
        sure = {
            "beats_random_router": part["low"] > 0.5,
            "beats_best_constant": part["over_constant_low"] > 0,
            "beats_general": part["gain_low"] > 0,
        }
        row = dict(zip(by, key, strict=True))
        rows.append(row | {name: _from_there_on(part["labels"], yes) for name, yes in sure.items()})
    counts = dict.fromkeys(("beats_random_router", "beats_best_constant", "beats_general"), "Int64")
    return pd.DataFrame(rows).astype(counts)


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
    call_cost: float | None = None,
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
    call_cost : float, optional
        Score that a call of the strong model must bring to be worth its price, for the best constant. By default what
        it brings on average over all of ``outcomes``, so that without a domain both constants are as good.
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
    A label is 1 where the strong model scores higher, 0 where the weak one does, and 1/2 else (`residual_correction`
    learns from it). Equal seeds give all choices equal pools and held-out questions: comparisons are paired.

    APGR asks for a ranking only. Against the best constant a router has to decide: it calls the strong model where the
    score that it expects to gain, the win rate turned from [0, 1] to [-1, 1] times the mean size of a difference, is
    above ``call_cost``. The best constant is to call the strong model always, or never, whichever is better on all
    questions of the pool, calls charged likewise: it knows more labels than the router.
    """
    win_rate = checked_win_rates(general_win_rates, outcomes)
    sizes = checked_labels(labels)
    choices = [choice] if isinstance(choice, str) else list(dict.fromkeys(choice))
    unknown = [one for one in choices if one not in CHOICES]
    if unknown or not choices:
        raise ParameterError(f"choice: no {listed(unknown) or 'choice given'}; use {listed(CHOICES)}")
    require_number("n_draws", n_draws, 1, whole=True)
    require_number("test_share", test_share, 0, 1, inside=True)
    domains = [domain] if isinstance(domain, str) else list(domain)
    groups = outcomes.groups.astype(str)
    for name in domains or [""]:
        if name not in set(groups):
            raise ParameterError(f"domain: no group {name!r} in {outcomes.name}; nearest: {nearest(name, set(groups))}")
    if call_cost is None:
        call_cost = float(outcomes.gap(pair).mean())
    else:
        require_number("call_cost", call_cost)
    inside = (groups.isin(domains) & outcomes.gap(pair).notna()).to_numpy()
    part, general = outcomes.select(inside), win_rate[inside]
    vectors = make_encoder(encoder).transform(part.prompts)
    title = " and ".join(domains)
    seeds = np.random.SeedSequence(random_state).spawn(2 * n_draws)
    held_out = [prompt_ranks(part.keys, seed) < test_share * part.keys.nunique() for seed in seeds[:n_draws]]
    smallest = min(int((~test).sum()) for test in held_out)
    if smallest < sizes[-1]:
        raise ParameterError(
            f"labels: {sizes[-1]} asked for, but the pool of {title} has {smallest} questions ({len(part)} less those "
            "held out); ask for fewer, or lower test_share"
        )
    tasks = [
        (part, pair, general, vectors, test, one, sizes, seed, call_cost)
        for one in choices
        for test, seed in zip(held_out, seeds[n_draws:], strict=True)
    ]
    done = parallel(_adapt, tasks, "adaptation", len(tasks))
    found = {
        (one, size): [drawn[at] for drawn in done[number * n_draws : (number + 1) * n_draws]]
        for number, one in enumerate(choices)
        for at, size in enumerate(sizes)
    }
    curves = {key: [curve for curve, _ in drawn] for key, drawn in found.items()}
    ahead = {key: [brought for _, brought in drawn] for key, drawn in found.items()}
    flat = next((curve for drawn in curves.values() for curve in drawn if curve.strong_mean <= curve.weak_mean), None)
    if flat is not None:
        raise DataError(
            f"{outcomes.name}, {title}: {pair.strong} is not better than {pair.weak} on the {len(flat)} held-out "
            "questions of a draw, so that APGR is undefined; take a wider domain, a larger test_share or another pair"
        )
    return Adaptation(outcomes.name, title, pair, tuple(sizes), curves, ahead, call_cost, outcomes.simulated)


def adapt_domains(
    exams: Mapping[str, Outcomes],
    win_rates: Mapping[str, Any],
    pair: ModelPair,
    domains: Mapping[str, str],
    encoder: Any,
    labels: Iterable[int] = (25, 50, 100, 200, 500, 1000),
    bootstrap: Bootstrap = Bootstrap(n_resamples=300),
    **options: Any,
) -> pd.DataFrame:
    """`adaptation_curve` of several domains of several exams, one below the other.

    Parameters
    ----------
    exams : dict of Outcomes
    win_rates : dict of (n,) array-like
        Of the general router, by exam.
    pair : ModelPair
        Where an exam lacks the strong model, its best one is used.
    domains : dict of str to str
        A regular expression for the groups of each domain. A domain without groups in an exam is left out there.
    encoder : str or Encoder
    labels : iterable of int
        Only numbers below 65 % of a domain's questions are used; a domain that is too small for all is left out.
    bootstrap : Bootstrap
    **options
        Of `adaptation_curve`.

    Returns
    -------
    DataFrame
        As `Adaptation.summary`, with ``exam``, ``domain`` and ``pair``; without labels ``gain`` is NaN.

    Raises
    ------
    DataError
        When no domain is left.
    """
    parts = []
    for name, exam in exams.items():
        strong = pair.strong if pair.strong in exam.models else str(exam.scores.mean().idxmax())
        on = ModelPair(strong=strong, weak=pair.weak)
        for domain, pattern in domains.items():
            groups = sorted(exam.groups[exam.groups.str.contains(pattern)].unique())
            sizes = [size for size in labels if size < 0.65 * exam.groups.isin(groups).sum()]
            if groups and sizes:
                made = adaptation_curve(exam, on, win_rates[name], encoder, groups, sizes, **options)
                parts.append(made.summary(bootstrap).assign(exam=name, domain=domain, pair=str(on)))
    if not parts:
        raise DataError(f"adapt_domains: no domain of {listed(domains)} has enough questions in {listed(exams)}")
    found = pd.concat(parts, ignore_index=True)
    found.loc[found["labels"] == 0, ["gain", "gain_low", "gain_high", "p_gain"]] = np.nan
    return found


def _adapt(
    part: Outcomes,
    pair: ModelPair,
    general: np.ndarray,
    vectors: np.ndarray,
    test: np.ndarray,
    choice: str,
    sizes: list[int],
    seed: np.random.SeedSequence,
    call_cost: float,
) -> list[tuple[RoutingCurve, np.ndarray]]:
    """By number of labels, on the held-out questions of one draw: the curve, and what each question brings over the
    best constant."""
    pool = np.flatnonzero(~test)
    gap = part.gap(pair).to_numpy(float)
    targets = (1 + np.sign(gap)) / 2
    order = pool[_order(choice, vectors[pool], general[pool], sizes[-1], np.random.default_rng(seed))]
    rest = part.select(test)
    size_of_one = np.abs(gap[pool])[gap[pool] != 0].mean() if gap[pool].any() else 0.0
    constant = gap[pool].mean() > call_cost
    made = []
    for size in sizes:
        rows = order[:size]
        found = residual_correction(general, vectors, rows, targets[rows])[test]
        # only the ranking counts; clipping would tie what lies outside
        _, rank = np.unique(found, return_inverse=True)
        called = (2 * found - 1) * size_of_one > call_cost
        brought = (called.astype(float) - constant) * (gap[test] - call_cost)
        made.append((_curve(rank / max(rank.max(), 1), rest, pair), brought))
    return made


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


def checked_labels(labels: Iterable[int]) -> list[int]:
    """The numbers of labels, ascending, with 0.

    Raises
    ------
    ParameterError
        When one is not a whole number from 0, or there are none.
    """
    sizes = list(labels)
    bad = [size for size in sizes if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0]
    if bad or not sizes:
        raise ParameterError(f"labels must be whole numbers from 0, got {listed(bad) or 'none'}")
    return sorted({0, *map(int, sizes)})
