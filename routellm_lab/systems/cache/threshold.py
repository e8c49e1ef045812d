"""A cosine for the cache: labelled pairs of requests, and the lowest threshold whose hits are seldom wrong."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from routellm_lab.columns import number_column, require_columns
from routellm_lab.encoders import Encoder, as_texts, make_encoder
from routellm_lab.errors import DataError, ParameterError, require_number
from routellm_lab.evaluation.intervals import share_upper_limit
from routellm_lab.evaluation.verdict import Estimate
from routellm_lab.systems.base import value_codes
from routellm_lab.systems.cache.semantic import SemanticCache
from routellm_lab.systems.cache.texts import exact_key
from routellm_lab.systems.cache.traffic import require_shares, reworded

THRESHOLDS = (*(round(0.5 + 0.02 * step, 2) for step in range(25)), 0.99)
"""Cosines that `choose_threshold` tries: fixed before any data is seen, so that its correction for them is exact."""


def labelled_pairs(
    prompts: Iterable[str],
    values: Iterable[object] | None = None,
    encoder: "str | Encoder" = "static",
    near_share: float = 0.5,
    changed_share: float = 0.0,
    random_state: int = 0,
    same_numbers: bool = True,
) -> pd.DataFrame:
    """Requests beside the nearest of the questions in a cache that may answer them, and whether both ask the same.

    Every question gives one request: one in the cache is asked in other words (a near repeat, see `NEAR`) or with
    another number in it (a changed one); one that is not is asked as it is (a new question).

    Parameters
    ----------
    prompts : iterable of str, (n,)
        Questions; equal ones (up to case and white space) count once.
    values : iterable, (n,), optional
        Reference answers. A new question whose nearest has the same answer may be the same one in other words: it is
        left out, and counted in ``attrs["unclear"]``. Without values it counts as another question.
    encoder : str or Encoder
    near_share, changed_share : float
        Expected shares of the requests, together at most 1. What is promised of a threshold holds for
        traffic with these shares, reworded like this: `traffic_shares` reads them off a stream.
    random_state : int
    same_numbers : bool
        As in the `SemanticCache` that the threshold is for. A request that nothing in the cache may answer (because of
        its numbers, say) is a miss at any threshold: it is left out, and counted in ``attrs["alone"]``.

    Returns
    -------
    DataFrame
        ``prompt``, ``cached``, ``cosine``, ``kind`` (``near``, ``changed``, ``new``) and ``same``; exact hits left out.

    Raises
    ------
    ParameterError
        When the shares cannot be used or values and prompts differ in number.
    DataError
        When there are fewer than four different questions, or none comes to be in the cache.

    Notes
    -----
    Perturbations keep most words: people reword more, and are harder to recognise. Different questions of a benchmark
    are seldom as close as a template with another number in it, which is what ``changed_share`` is for. Pairs of logged
    requests, labelled by people, are better: any frame with ``cosine`` and ``same`` will do.
    """
    require_shares("labelled_pairs", near_share, changed_share)
    near_share, changed_share = float(near_share), float(changed_share)  # those of numpy may be of less precision
    texts = as_texts(prompts)
    if values is not None and not isinstance(values, Iterable):
        raise ParameterError(f"labelled_pairs: values must be a list, got {values!r}")
    answers = [None] * len(texts) if values is None else list(values)
    if len(answers) != len(texts):
        raise ParameterError(f"labelled_pairs: {len(texts)} prompts and {len(answers)} values; pass one of each")
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        first.setdefault(exact_key(text), row)
    if len(first) < 4:
        raise DataError(f"labelled_pairs: needs four different questions or more, got {len(first)}")
    rng, answer = np.random.default_rng(random_state), value_codes(answers)
    source = rng.permutation(list(first.values())).tolist()
    kinds = rng.choice(
        ["near", "changed", "new"], len(source), p=[near_share, changed_share, max(0.0, 1 - near_share - changed_share)]
    )
    requests = reworded([texts[at] for at in source], kinds == "near", kinds == "changed", rng)
    encode = make_encoder(encoder)
    cache = SemanticCache(1.0, encode, same_numbers)
    stored = [at for at, kind in zip(source, kinds, strict=True) if kind != "new"]
    if not stored:
        raise DataError(
            "labelled_pairs: all requests are new and the cache is empty; raise near_share or changed_share"
        )
    for at, vector in zip(stored, encode.transform([texts[at] for at in stored]), strict=True):
        cache.add(texts[at], at, vector)
    pairs, left_out = [], {"unclear": 0, "alone": 0}
    for text, vector, kind, at in zip(requests, encode.transform(requests), kinds.tolist(), source, strict=True):
        if text in cache:
            continue
        hit = cache.nearest(text, vector)
        if hit is None:
            left_out["alone"] += 1
        elif kind == "new" and answer[at] == answer[hit.answer] >= 0:
            left_out["unclear"] += 1
        else:
            pairs.append((text, hit.prompt, hit.cosine, kind, kind == "near" and hit.answer == at))
    told = pd.DataFrame(pairs, columns=["prompt", "cached", "cosine", "kind", "same"])
    told.attrs |= left_out
    return told


@dataclass(frozen=True)
class CacheThreshold:
    """A threshold with a promise: at most ``most_wrong`` of its near hits are wrong, with probability 1 - ``delta``.

    Attributes
    ----------
    threshold : float or None
        For `SemanticCache`; None where no threshold qualifies: exact hits only.
    most_wrong, delta : float
        What was asked for.
    pairs, hits, wrong : int
        Labelled pairs; those from the threshold on; and wrong ones among these.
    bound : float
        Clopper and Pearson's upper limit of the share, corrected for the thresholds tried; NaN without a threshold.
    found : float
        Share of the pairs that ask the same that hit.
    """

    threshold: float | None
    most_wrong: float
    delta: float
    pairs: int
    hits: int
    wrong: int
    bound: float
    found: float

    @property
    def abstains(self) -> bool:
        """Whether no threshold qualifies."""
        return self.threshold is None

    def __str__(self) -> str:
        promise = f"at most {self.most_wrong:.1%} of the hits are wrong hits"
        if self.threshold is None:
            return f"No threshold qualifies on {self.pairs:,} pairs for the promise that {promise}: exact hits only."
        return (
            f"From a cosine of {self.threshold:g} {promise}, with probability {1 - self.delta:.0%}: {self.wrong} of "
            f"{self.hits:,} hits on {self.pairs:,} pairs (bound {self.bound:.1%}); {self.found:.0%} of the repeats hit."
        )


def cache_sentences(threshold: CacheThreshold, caches: pd.DataFrame) -> list[str]:
    """What a cache saves and how often it is wrong: a decision first, then its reasons.

    Parameters
    ----------
    threshold : CacheThreshold
    caches : DataFrame
        As of `routellm_lab.systems.cache.caches_table`, three rows: exact hits only, near hits from the threshold, and
        near hits that ignore numbers.

    Returns
    -------
    list of str
        Four sentences or pairs of sentences.
    """
    exact, bounded, ignored = (caches.iloc[row] for row in range(3))

    def says(row: pd.Series, name: str, digits: int = 0) -> str:
        return f"{Estimate(row[name], row[f'{name}_low'], row[f'{name}_high']):.{digits}%}"

    promise = (
        f"at most {threshold.most_wrong:.0%} of the near hits are wrong, with probability {1 - threshold.delta:.0%}"
    )
    if not bounded["saving_low"] > 0:
        first = f"Do not put a cache in front of the router: it saves {says(bounded, 'saving')} of its dollars."
    elif threshold.threshold is None:
        first = (
            f"Put a cache in front of the router for exact repeats only: expect to save {says(bounded, 'saving')} of "
            f"its dollars on traffic like this. No threshold for near hits keeps the promise that {promise}."
        )
    else:
        first = (
            f"Put a cache in front of the router, with near hits from a cosine of {threshold.threshold:g} and the same "
            f"numbers: expect to save {says(bounded, 'saving')} of its dollars on traffic like this; {promise}."
        )
    near = (
        f"{says(bounded, 'near')} of the requests are near hits, of which {says(bounded, 'wrong_of_near', 1)} are wrong"
    )
    found = (
        f"On {threshold.pairs:,} labelled pairs {threshold.wrong} of {threshold.hits:,} near hits are wrong (upper "
        f"limit {threshold.bound:.1%}), and {threshold.found:.0%} of the repeats in other words are found"
    )
    none = f"no threshold qualifies on {threshold.pairs:,} labelled pairs"
    return [
        first,
        f"Exact repeats alone save {says(exact, 'saving')}: {says(exact, 'exact')} of this stream are exact repeats. "
        f"Quality is {says(bounded, 'quality', 1)} with the cache, {says(bounded, 'quality_without', 1)} without it.",
        f"{found}. On the stream {near}."
        if threshold.threshold is not None
        else f"It gives no wrong answers, because it has no near hits: {none}.",
        f"Keep the rule on numbers: without it, {says(ignored, 'wrong_of_near')} of the near hits answer another "
        f"question, and quality is {says(ignored, 'quality', 1)} instead of {says(ignored, 'quality_without', 1)}.",
    ]


def choose_threshold(pairs: pd.DataFrame, most_wrong: float = 0.05, delta: float = 0.1) -> CacheThreshold:
    """The lowest threshold, of `THRESHOLDS`, whose near hits have a bounded share of wrong ones.

    Parameters
    ----------
    pairs : DataFrame
        ``cosine`` of a request and its nearest in the cache, in [-1, 1], and ``same``: whether both ask the same, True
        or False (or 1 or 0). Drawn like the traffic, exact hits left out; see `labelled_pairs`.
    most_wrong : float
        Largest share of the near hits that may be wrong, in (0, 1).
    delta : float
        Probability of a broken promise, in (0, 1).

    Raises
    ------
    ParameterError
        When a number is outside (0, 1).
    DataError
        When a column is missing, there are no rows, or one has no such cosine or label.

    Notes
    -----
    The thresholds are fixed and, for independent pairs, the wrong hits at each are binomial: every one is tested at
    delta over their number (Bonferroni). It does not hold for a cache that is fuller than the one of the pairs, where
    more new questions meet a look-alike: of GSM8K's training questions, .3 % of the new have a cosine of .92 to one
    of 1,041 in the cache, .9 % to one of 2,945. All these have other numbers: ``same_numbers`` leaves none.
    """
    require_number("choose_threshold: most_wrong", most_wrong, 0, 1, inside=True)
    require_number("choose_threshold: delta", delta, 0, 1, inside=True)
    require_columns(pairs, ("cosine", "same"), "pairs")
    if pairs.empty:
        raise DataError("pairs: needs rows, each with a cosine and whether both ask the same; it has none")
    cosine = number_column(pairs["cosine"], "pairs").to_numpy()
    bad = ~(np.abs(cosine) <= 1 + 1e-6) | ~pairs["same"].isin([True, False]).to_numpy(bool)
    if bad.any():
        row = pairs.iloc[int(bad.argmax())]
        raise DataError(
            f"pairs: {int(bad.sum())} rows cannot be used, the first is row {row.name!r} with cosine "
            f"{row['cosine']}, same {row['same']!r}: a cosine is in [-1, 1], and same is True or False (or 1 or 0)"
        )
    table = threshold_table(pairs, delta)
    good = table[table["bound"] <= most_wrong]
    if good.empty:
        return CacheThreshold(None, most_wrong, delta, len(pairs), 0, 0, math.nan, 0.0)
    first = good.iloc[0]
    hits, wrong = int(first["hits"]), int(first["wrong"])
    bound, found = float(first["bound"]), float(first["found"])
    return CacheThreshold(float(first["threshold"]), most_wrong, delta, len(pairs), hits, wrong, bound, found)


def threshold_table(pairs: pd.DataFrame, delta: float = 0.1) -> pd.DataFrame:
    """Hits and wrong hits at every threshold that `choose_threshold` tries.

    Parameters
    ----------
    pairs : DataFrame
        ``cosine`` and ``same``, as in `choose_threshold`.
    delta : float
        Probability, in (0, 1), that the bound of any threshold is exceeded.

    Returns
    -------
    DataFrame
        One row per threshold of `THRESHOLDS`, rising: ``threshold``, ``hits`` (pairs from that cosine on), ``wrong``,
        ``wrong_share`` (NaN without a hit), ``bound`` (Clopper and Pearson's upper limit of that share, corrected for
        the thresholds tried; 1 without a hit) and ``found`` (share of the pairs that ask the same that hit; 0 when
        there are none).

    Examples
    --------
    >>> pairs = pd.DataFrame({"cosine": [0.6, 0.8, 0.9], "same": [False, True, True]})
    >>> threshold_table(pairs).query("threshold in (0.5, 0.7)")[["threshold", "hits", "wrong", "found"]]
        threshold  hits  wrong  found
    0         0.5     3      1    1.0
    10        0.7     2      0    1.0
    """
    cosine, same = pairs["cosine"].to_numpy(float), pairs["same"].to_numpy(bool)
    rows = []
    for threshold in THRESHOLDS:
        hit = cosine >= threshold
        hits, wrong = int(hit.sum()), int((hit & ~same).sum())
        bound = share_upper_limit(wrong, hits, delta / len(THRESHOLDS))
        found = float((hit & same).sum() / same.sum()) if same.any() else 0.0
        rows.append((threshold, hits, wrong, wrong / hits if hits else math.nan, bound, found))
    return pd.DataFrame(rows, columns=["threshold", "hits", "wrong", "wrong_share", "bound", "found"])
