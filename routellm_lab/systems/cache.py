"""A semantic cache in front of a router: what was asked before is not asked again.

A request that is, but for case and white space, one already answered gets that answer for nothing (exact hit). One that
is near it, by the cosine of the encodings, gets the answer rewritten by a cheap model (near hit). Any other is routed
(miss). A near hit on another question is a wrong one: `choose_threshold` bounds their share.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from routellm_lab.encoders import Encoder, as_texts, make_encoder
from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.evaluation.robustness import perturb
from routellm_lab.evaluation.significance import percentile_interval, resample_counts
from routellm_lab.policies.answers import AnswerLog
from routellm_lab.policies.cost import PER
from routellm_lab.policies.prices import Price
from routellm_lab.preferences.battles import prompt_key
from routellm_lab.systems.base import Played

THRESHOLDS = (*(round(0.5 + 0.02 * step, 2) for step in range(25)), 0.99)
"""Cosines that `choose_threshold` tries: fixed before any data is seen, so that its correction for them is exact."""

NEAR = ("polite preface", "filler", "translated word")
"""A near repeat is one of these perturbations, or none, and typos of its own: few are asked twice in the same words."""

_SEEDS = 1_000


@dataclass(frozen=True)
class Hit:
    """What the cache has for a request.

    Attributes
    ----------
    kind : {"exact", "near"}
    prompt : str
        The request that was answered.
    answer : object
        What was stored with it.
    cosine : float
        Between the two requests; 1 for an exact hit.
    """

    kind: Literal["exact", "near"]
    prompt: str
    answer: Any
    cosine: float


class SemanticCache:
    """Answers by request, found again exactly or nearly.

    Only answers to misses belong in it: rewritten ones would let errors travel from hit to hit.

    Parameters
    ----------
    threshold : float or None
        Cosine from which a request is near an earlier one, in (0, 1]; None: exact hits only.
    encoder : str or Encoder
    capacity : int, optional
        Most answers kept; the one unused for longest goes first. By default all are kept (1 KB each with the static
        encoder, beside the texts).
    """

    def __init__(
        self, threshold: float | None, encoder: "str | Encoder" = "static", capacity: int | None = None
    ) -> None:
        if threshold is not None and not _number_in(threshold, 0, 1):
            raise ParameterError(
                f"SemanticCache: threshold must be a cosine in (0, 1], or None for exact hits only, got {threshold!r}"
            )
        if capacity is not None and not _whole(capacity):
            raise ParameterError(f"SemanticCache: capacity must be a whole number from 1, or None, got {capacity!r}")
        self.threshold = threshold
        self.encoder = encoder
        self.capacity = capacity
        self.clear()

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """Forget all."""
        self._rows: OrderedDict[str, int] = OrderedDict()  # key -> row of the vectors, least recently used first
        self._entries: list[tuple[str, str, Any]] = []
        self._vectors = np.zeros((0, 0), np.float32)

    def get(self, prompt: str, vector: np.ndarray | None = None) -> Hit | None:
        """Look a request up; a hit counts as a use.

        Parameters
        ----------
        prompt : str
        vector : (d,) array, optional
            Its encoding, where it is known already.
        """
        key = prompt_key(prompt)
        if key in self._rows:
            self._rows.move_to_end(key)
            _, found, answer = self._entries[self._rows[key]]
            return Hit("exact", found, answer, 1.0)
        if self.threshold is None or not self._rows:
            return None
        cosines = self._vectors[: len(self._entries)] @ self._encoded(prompt, vector)
        row = int(cosines.argmax())
        if cosines[row] < self.threshold:
            return None
        key, found, answer = self._entries[row]
        self._rows.move_to_end(key)
        return Hit("near", found, answer, float(cosines[row]))

    def add(self, prompt: str, answer: Any, vector: np.ndarray | None = None) -> None:
        """Keep the answer to a miss; an earlier answer to the same request is replaced."""
        key = prompt_key(prompt)
        if key in self._rows:
            row = self._rows.pop(key)
        elif self.capacity is not None and len(self._rows) >= self.capacity:
            _, row = self._rows.popitem(last=False)
        else:
            row = len(self._entries)
            self._entries.append((key, prompt, answer))
        self._rows[key] = row
        self._entries[row] = (key, prompt, answer)
        if self.threshold is None:
            return
        encoded = self._encoded(prompt, vector)
        if row >= len(self._vectors):
            room = np.zeros((max(64, row), len(encoded)), np.float32)
            self._vectors = np.concatenate([self._vectors.reshape(-1, len(encoded)), room])
        self._vectors[row] = encoded

    def _encoded(self, prompt: str, vector: np.ndarray | None) -> np.ndarray:
        return make_encoder(self.encoder).transform([prompt])[0] if vector is None else vector


def labelled_pairs(
    prompts: Iterable[str],
    values: Iterable[object] | None = None,
    encoder: "str | Encoder" = "static",
    near_share: float = 0.5,
    changed_share: float = 0.0,
    random_state: int = 0,
) -> pd.DataFrame:
    """Requests beside the nearest of the questions in a cache, and whether both ask the same.

    Half of the questions, at random, are in the cache. Each of the others gives one request: as it is (a new question),
    or in its place one in the cache, in other words (a near repeat, see `NEAR`) or with another number in it (a changed
    one).

    Parameters
    ----------
    prompts : iterable of str, (n,)
        Questions; of those that are the same but for case and white space one is used.
    values : iterable, (n,), optional
        Reference answers. A new question whose nearest has the same answer may be the same one in other words: it is
        left out, and counted in ``attrs["unclear"]``. Without values it counts as another question.
    encoder : str or Encoder
    near_share, changed_share : float
        Expected shares of the requests, together at most 1. What is promised of a threshold holds for traffic with
        these shares, reworded like this.
    random_state : int

    Returns
    -------
    DataFrame
        ``prompt``, ``cached``, ``cosine``, ``kind`` (``near``, ``changed``, ``new``) and ``same``.

    Raises
    ------
    ParameterError
        When the shares cannot be used or values and prompts differ in number.
    DataError
        When there are fewer than four different questions.

    Notes
    -----
    Perturbations keep most words: people reword more, and are harder to recognise. Different questions of a benchmark
    are seldom as close as a template with another number in it, which is what ``changed_share`` is for. Pairs of logged
    requests, labelled by people, are better: any frame with ``cosine`` and ``same`` will do.
    """
    if not (_share(near_share) and _share(changed_share) and near_share + changed_share <= 1):
        raise ParameterError(
            "labelled_pairs: near_share and changed_share must be shares of together at most 1, got "
            f"{near_share!r}, {changed_share!r}"
        )
    texts = as_texts(prompts)
    answers = [None] * len(texts) if values is None else list(values)
    if len(answers) != len(texts):
        raise ParameterError(f"labelled_pairs: {len(texts)} prompts and {len(answers)} values; pass one of each")
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        first.setdefault(prompt_key(text), row)
    if len(first) < 4:
        raise DataError(f"labelled_pairs: needs four different questions or more, got {len(first)}")
    rng = np.random.default_rng(random_state)
    order = rng.permutation(list(first.values()))
    cached, others = order[: len(order) // 2], order[len(order) // 2 :]
    kinds = rng.choice(
        ["near", "changed", "new"], len(others), p=[near_share, changed_share, 1 - near_share - changed_share]
    )
    source: np.ndarray = np.where(kinds == "new", others, rng.choice(cached, len(others)))
    requests = _reworded([texts[at] for at in source], kinds == "near", rng)
    for row in np.flatnonzero(kinds == "changed").tolist():
        requests[row] = _with_another_number(requests[row], rng)
    same_key = [prompt_key(request) == prompt_key(texts[at]) for request, at in zip(requests, source, strict=True)]
    kept = (kinds == "new") | ~np.array(same_key)  # nothing to change in it: an exact hit
    encode = make_encoder(encoder)
    vectors, keys = encode.transform(requests), encode.transform([texts[at] for at in cached])
    nearest = np.concatenate(
        [(part @ keys.T).argmax(axis=1) for part in np.array_split(vectors, len(vectors) // 2048 + 1)]
    )
    cosine = np.einsum("nd,nd->n", vectors, keys[nearest])
    found = cached[nearest]
    same = (kinds == "near") & (found == source)
    unclear = np.array(
        [
            kind == "new" and answers[at] is not None and answers[at] == answers[other]
            for kind, at, other in zip(kinds, source, found, strict=True)
        ]
    )
    pairs = pd.DataFrame(
        {"prompt": requests, "cached": [texts[at] for at in found], "cosine": cosine, "kind": kinds, "same": same}
    )
    pairs = pairs[kept & ~unclear].reset_index(drop=True)
    pairs.attrs["unclear"] = int((kept & unclear).sum())
    return pairs


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


def choose_threshold(pairs: pd.DataFrame, most_wrong: float = 0.05, delta: float = 0.1) -> CacheThreshold:
    """The lowest threshold, of `THRESHOLDS`, whose near hits are surely seldom wrong.

    Parameters
    ----------
    pairs : DataFrame
        ``cosine`` of a request and its nearest in the cache, and ``same``: whether both ask the same. Drawn like the
        traffic (see `labelled_pairs` for what else can be had), exact hits left out.
    most_wrong : float
        Largest share of the near hits that may be wrong, in (0, 1).
    delta : float
        Probability of a broken promise, in (0, 1).

    Raises
    ------
    ParameterError
        When a number is outside (0, 1).
    DataError
        When a column is missing, empty or not usable.

    Notes
    -----
    The thresholds are fixed and, for independent pairs, the wrong hits at each are binomial: every one is tested at
    delta over their number (Bonferroni). It does not hold for a cache that is fuller than the one of the pairs.
    """
    for name, value in (("most_wrong", most_wrong), ("delta", delta)):
        if not _number_in(value, 0, 1) or value == 1:
            raise ParameterError(f"choose_threshold: {name} must be a number between 0 and 1, got {value!r}")
    if missing := [column for column in ("cosine", "same") if column not in pairs]:
        raise DataError(f"pairs: missing column {listed(missing)}; it has {listed(pairs.columns)}")
    if pairs.empty or pairs[["cosine", "same"]].isna().any(axis=None):
        raise DataError("pairs: needs rows, each with a cosine and whether both ask the same; some are missing")
    cosine, same = pairs["cosine"].to_numpy(float), pairs["same"].to_numpy(bool)
    for threshold in THRESHOLDS:
        hit = cosine >= threshold
        hits, wrong = int(hit.sum()), int((hit & ~same).sum())
        bound = _upper(wrong, hits, delta / len(THRESHOLDS))
        if bound <= most_wrong:
            found = float((hit & same).sum() / same.sum()) if same.any() else 0.0
            return CacheThreshold(threshold, most_wrong, delta, len(pairs), hits, wrong, bound, found)
    return CacheThreshold(None, most_wrong, delta, len(pairs), 0, 0, math.nan, 0.0)


def zipf_stream(
    prompts: pd.Series, n: int, exponent: float = 1.0, near_share: float = 0.3, random_state: int = 0
) -> pd.DataFrame:
    """Requests in which some questions come again and again: the k-th most popular with weight k ^ -exponent.

    Parameters
    ----------
    prompts : Series of str
        Questions by id. Which are popular is drawn.
    n : int
        Requests.
    exponent : float
        From 0 (all alike).
    near_share : float
        Share of the repeats that are asked in other words (see `NEAR`), in [0, 1]. A text without a word to misspell
        may stay an exact repeat.
    random_state : int

    Returns
    -------
    DataFrame
        One row per request: ``prompt_id`` (of the question), ``prompt`` (as asked), ``repeat`` (whether the question
        came before) and ``near`` (whether it is asked in other words).
    """
    if not _whole(n):
        raise ParameterError(f"zipf_stream: n must be a whole number from 1, got {n!r}")
    if exponent != 0 and (not _number_in(exponent, 0, math.inf) or exponent == math.inf):
        raise ParameterError(f"zipf_stream: exponent must be a number from 0, got {exponent!r}")
    if not _share(near_share):
        raise ParameterError(f"zipf_stream: near_share must be in [0, 1], got {near_share!r}")
    if not len(prompts):
        raise DataError("zipf_stream: no prompts")
    rng = np.random.default_rng(random_state)
    weight = np.arange(1, len(prompts) + 1, dtype=float) ** -exponent
    source = rng.permutation(len(prompts))[rng.choice(len(prompts), n, p=weight / weight.sum())]
    repeat = pd.Series(source).duplicated().to_numpy()
    texts = as_texts(prompts)
    asked = _reworded([texts[at] for at in source], repeat & (rng.random(n) < near_share), rng)
    near = [text != texts[at] for text, at in zip(asked, source, strict=True)]
    ids = prompts.index[source]
    return pd.DataFrame({"prompt_id": ids, "prompt": pd.array(asked, dtype="str"), "repeat": repeat, "near": near})


@dataclass(frozen=True, eq=False)
class CachedStream:
    """A stream played through a cache, beside the same without one.

    Attributes
    ----------
    requests : DataFrame
        One row per request: ``prompt_id``, ``kind`` (``exact``, ``near``, ``miss``), ``cosine`` (of a hit), ``wrong``
        (a near hit on another question), ``dollars``, ``score``, and ``dollars_without``, ``score_without``: routed
        without a cache.
    """

    requests: pd.DataFrame = field(repr=False)

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def played(self) -> Played:
        """As a system: requests are its questions, by their number in the stream."""
        rows = self.requests
        calls = (rows["kind"] != "exact").to_numpy(float)
        index = pd.RangeIndex(len(rows), name="request")
        return Played("cache", index, rows["score"].to_numpy(), rows["dollars"].to_numpy(), calls, calls)

    def table(self, level: float = 0.95, n_resamples: int = 2000, random_state: int | None = 0) -> pd.DataFrame:
        """Shares of the requests and what they bring.

        Returns
        -------
        DataFrame
            Indexed by figure: ``exact``, ``near``, ``wrong`` (shares of the requests), ``wrong_of_near``, ``saving``
            (share of the dollars), ``quality``, ``quality_without``, ``dollars``, ``dollars_without`` (USD per 1,000
            requests); columns ``value``, ``low``, ``high``. The bootstrap draws questions, each with all its requests:
            a popular one counts much, and intervals are wide. It takes the cache's contents as they were.
            ``wrong_of_near`` and ``saving`` are NaN where there is nothing to divide by.
        """
        rows = self.requests
        sums = rows[["dollars", "dollars_without", "score", "score_without", "wrong"]].assign(n=1.0)
        sums = sums.assign(exact=rows["kind"] == "exact", near=rows["kind"] == "near").astype(float)
        by_question = sums.groupby(rows["prompt_id"].to_numpy()).sum()
        matrix = by_question.to_numpy()
        drawn = np.concatenate([c @ matrix for c in resample_counts(len(matrix), n_resamples, random_state)])
        draws = _figures(pd.DataFrame(drawn, columns=by_question.columns))
        values = _figures(by_question.sum().to_frame().T).iloc[0]
        out = pd.DataFrame({"value": values, "low": np.nan, "high": np.nan}).rename_axis("figure")
        for name in out.index[values.notna()]:
            low, high = percentile_interval(draws[[name]].dropna().to_numpy(), level)[:, 0]
            out.loc[name, ["low", "high"]] = low, high
        return out


def play_stream(
    stream: pd.DataFrame,
    cache: SemanticCache,
    log: AnswerLog,
    decisions: "str | Sequence[str] | pd.Series",
    rewriter: Price,
    values: pd.Series | None = None,
) -> CachedStream:
    """Play a stream through an empty cache, on logged answers.

    Parameters
    ----------
    stream : DataFrame
        ``prompt_id`` (a question of the log) and ``prompt`` (as asked), such as of `zipf_stream`.
    cache : SemanticCache
        Emptied first.
    log : AnswerLog
        Scores and dollars of misses.
    decisions : str, or (n,) models in the order of the log
        The router's choice per question; a question in other words is taken to be routed, and answered, alike.
    rewriter : Price
        Of the cheap model of near hits: it reads the request and the stored answer and writes as much as that answer
        has. A right near hit keeps the stored answer's score, which assumes that rewriting does no harm.
    values : Series, optional
        Reference answers by prompt id; by default ``answer_value`` of the log's details, where it has that. A wrong
        near hit scores 0, unless the reference answers of both questions are the same: then as the stored answer does.
        Without values always 0.

    Returns
    -------
    CachedStream
        Looking something up is taken to cost nothing (a fraction of a millisecond on one core).

    Raises
    ------
    DataError, ParameterError
        When the stream has a question that is not in the log, or decisions do not fit the log.
    """
    if missing := [column for column in ("prompt_id", "prompt") if column not in stream]:
        raise DataError(f"stream: missing column {listed(missing)}; it has {listed(stream.columns)}")
    if stream.empty:
        raise DataError("stream: no requests")
    ids = log.prompts.index
    source = ids.get_indexer(pd.Index(stream["prompt_id"]))
    if (source < 0).any():
        unknown = stream["prompt_id"][source < 0].unique()
        raise DataError(f"stream: questions that are not in the log of {log.outcomes.name}: {listed(unknown, 5)}")
    model = _decided(decisions, log)
    at = np.arange(len(log))
    score, dollars = log.scores[at, model], log.costs[at, model]
    written = log.tokens.output.loc[ids, log.models].to_numpy(float)[at, model]
    read = log.tokens.input.loc[ids, log.models].to_numpy(float)[at, model]
    rewriting = ((read + written) * rewriter.input + written * rewriter.output) / 1e6
    details = log.outcomes.details
    if values is None and details is not None and "answer_value" in details:
        values = details["answer_value"]
    value = None if values is None else values.reindex(ids).to_numpy(object)

    texts = as_texts(stream["prompt"])
    row_of: dict[str, int] = {}
    rows = [row_of.setdefault(text, len(row_of)) for text in texts]
    vectors = None if cache.threshold is None else make_encoder(cache.encoder).transform(row_of)
    cache.clear()
    played: list[tuple] = []
    for text, row, question in zip(texts, rows, source.tolist(), strict=True):
        vector = None if vectors is None else vectors[row]
        hit = cache.get(text, vector)
        if hit is None:
            cache.add(text, question, vector)
            played.append(("miss", math.nan, False, dollars[question], score[question]))
        else:
            stored = hit.answer
            wrong = hit.kind == "near" and stored != question
            fits = not wrong or (value is not None and pd.notna(value[question]) and value[stored] == value[question])
            cost = 0.0 if hit.kind == "exact" else rewriting[stored]
            played.append((hit.kind, hit.cosine, wrong, cost, score[stored] if fits else 0.0))
    requests = pd.DataFrame(played, columns=["kind", "cosine", "wrong", "dollars", "score"])
    requests.insert(0, "prompt_id", stream["prompt_id"].to_numpy())
    return CachedStream(requests.assign(dollars_without=dollars[source], score_without=score[source]))


def _figures(sums: pd.DataFrame) -> pd.DataFrame:
    n, near = sums["n"], sums["near"]
    return pd.DataFrame(
        {
            "exact": sums["exact"] / n,
            "near": near / n,
            "wrong": sums["wrong"] / n,
            "wrong_of_near": sums["wrong"] / near.where(near > 0),
            "saving": 1 - sums["dollars"] / sums["dollars_without"].where(sums["dollars_without"] > 0),
            "quality": sums["score"] / n,
            "quality_without": sums["score_without"] / n,
            "dollars": PER * sums["dollars"] / n,
            "dollars_without": PER * sums["dollars_without"] / n,
        }
    )


def _decided(decisions: "str | Sequence[str] | pd.Series", log: AnswerLog) -> np.ndarray:
    """Number of the model for each question of the log."""
    if isinstance(decisions, str):
        names = [decisions] * len(log)
    elif isinstance(decisions, pd.Series):
        names = list(decisions.reindex(log.prompts.index))
    else:
        names = list(decisions)
    if len(names) != len(log):
        raise ParameterError(f"decisions: one model per question of the log ({len(log)}), got {len(names)}")
    number = pd.Index(log.models).get_indexer(pd.Index(names, dtype=object))
    if (number < 0).any():
        unknown = dict.fromkeys(name for name, found in zip(names, number, strict=True) if found < 0)
        raise ParameterError(f"decisions: no model {listed(unknown, 5)} in the log; it has {listed(log.models)}")
    return number


def _reworded(texts: list[str], which: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Some of the texts asked in other words (see `NEAR`)."""
    manner, seed = rng.integers(len(NEAR) + 1, size=len(texts)), rng.integers(_SEEDS, size=len(texts))
    out = list(texts)
    for row in np.flatnonzero(which).tolist():
        for name in (*NEAR[manner[row] : manner[row] + 1], "typos"):
            (out[row],) = perturb([out[row]], name, int(seed[row]))
    return out


def _with_another_number(text: str, rng: np.random.Generator) -> str:
    """One number of a text made larger; a text without one stays as it is."""
    found = list(re.finditer(r"\d+", text))
    if not found:
        return text
    one = found[int(rng.integers(len(found)))]
    return f"{text[: one.start()]}{int(one[0]) + int(rng.integers(1, 10))}{text[one.end() :]}"


def _upper(wrong: int, n: int, level: float) -> float:
    """Clopper and Pearson's upper limit of a share; 1 without a draw."""
    return 1.0 if wrong >= n else float(stats.beta.ppf(1 - level, wrong + 1, n - wrong))


def _number_in(value: object, low: float, high: float) -> bool:
    """Whether a number is in (low, high]."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return number and bool(low < value <= high)  # type: ignore[operator]


def _whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)


def _share(value: object) -> bool:
    return not isinstance(value, bool) and (value == 0 or _number_in(value, 0, 1))
