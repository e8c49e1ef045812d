"""A stream of requests played through a cache in front of a router, on logged answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from routellm_lab.columns import require_columns
from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.costs.prices import Price
from routellm_lab.costs.tokens import PER
from routellm_lab.encoders import as_texts, make_encoder
from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.resampling import Bootstrap
from routellm_lab.systems.base import Replay, positions, replayed_choices, value_codes
from routellm_lab.systems.cache.semantic import SemanticCache


@dataclass(frozen=True, eq=False)
class CachedStream:
    """A stream played through a cache, beside the same without one.

    Attributes
    ----------
    name : str
    requests : DataFrame
        One row per request: ``prompt_id``, ``kind`` (``exact``, ``near``, ``miss``), ``cosine`` (of a hit), ``wrong``
        (a near hit on another question), ``dollars``, ``score``, and ``dollars_without``, ``score_without``: routed
        without a cache.
    """

    name: str
    requests: pd.DataFrame = field(repr=False)

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def played(self) -> Replay:
        """As a system: requests are its questions, by their number in the stream.

        Beside `without` it fits in `systems_table` and `compare_systems`. Their bootstrap draws requests, though: for
        intervals over questions, which are wider, see `table`.
        """
        calls = (self.requests["kind"] != "exact").to_numpy(float)
        return self._played(self.name, "score", "dollars", calls)

    @property
    def without(self) -> Replay:
        """The same requests, every one routed."""
        return self._played("no cache", "score_without", "dollars_without", np.ones(len(self)))

    def _played(self, name: str, score: str, dollars: str, calls: np.ndarray) -> Replay:
        index = pd.RangeIndex(len(self), name="request")
        return Replay(name, index, self.requests[score].to_numpy(), self.requests[dollars].to_numpy(), calls, calls)

    def table(self, bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
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
        drawn = bootstrap.means(by_question.to_numpy())
        draws = _figures(pd.DataFrame(drawn, columns=by_question.columns))
        values = _figures(by_question.sum().to_frame().T).iloc[0]
        out = pd.DataFrame({"value": values, "low": np.nan, "high": np.nan}).rename_axis("figure")
        for name in out.index[values.notna()]:
            out.loc[name, ["low", "high"]] = bootstrap.interval_of_defined(draws[name].to_numpy())
        return out


def caches_table(streams: Mapping[str, CachedStream], bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
    """Caches side by side, on one stream.

    Parameters
    ----------
    streams : mapping of str to CachedStream
    bootstrap : Bootstrap
        Of the questions, each with all its requests.

    Returns
    -------
    DataFrame
        One row per cache: ``cache``, and each figure of `CachedStream.table` with ``_low`` and ``_high``.

    Raises
    ------
    ParameterError
        When there are none.
    """
    if not streams:
        raise ParameterError("caches_table: no streams given")
    rows = []
    for name, stream in streams.items():
        row: dict[str, object] = {"cache": name}
        for figure, (value, low, high) in stream.table(bootstrap).iterrows():
            row |= {str(figure): value, f"{figure}_low": low, f"{figure}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def play_stream(
    stream: pd.DataFrame,
    cache: SemanticCache,
    log: AnswerLog,
    decisions: "str | Sequence[str] | np.ndarray | pd.Series",
    rewriter: Price,
    values: pd.Series | None = None,
) -> CachedStream:
    """Play a stream through an empty cache in front of a router, on logged answers.

    Parameters
    ----------
    stream : DataFrame
        ``prompt_id`` (a question of the log), ``prompt`` (as asked) and, where some are, ``changed`` (whether it is
        another question by its numbers), such as of `zipf_stream`.
    cache : SemanticCache
        Emptied first.
    log : AnswerLog
        Scores and dollars of misses.
    decisions : str, (n,) models in the order of the log, or a Series of them by prompt id
        The router's choice per question, such as of `routellm_lab.policies.many_models.route_many`. A question in
        other words or with another number is taken to be routed, and answered, alike.
    rewriter : Price
        Of the cheap model of near hits: it reads the request and the stored answer and writes as much as that answer
        has. A right near hit keeps the stored answer's score, which assumes that rewriting does no harm.
    values : Series, optional
        Reference answers by prompt id; by default ``answer_value`` of the log's details, where it has that. A wrong
        near hit scores 0, unless the reference answers of both questions are the same: then as the stored answer does.
        Without values, and for changed questions, always 0.

    Returns
    -------
    CachedStream
        Looking something up is taken to cost nothing (a fraction of a millisecond on one core).

    Raises
    ------
    DataError
        When the stream has a question that is not in the log, or decisions do not fit the log.
    """
    require_columns(stream, ("prompt_id", "prompt"), "stream")
    if stream.empty:
        raise DataError("stream: no requests")
    ids = log.prompts.index
    source = positions(ids, stream["prompt_id"])
    if (source < 0).any():
        unknown = dict.fromkeys(map(str, stream["prompt_id"][source < 0]))
        raise DataError(f"stream: questions that are not in the log of {log.outcomes.name}: {listed(unknown, 5)}")
    models = [decisions] * len(log) if isinstance(decisions, str) else decisions
    models = models.reindex(ids).to_numpy() if isinstance(models, pd.Series) else models
    routed = replayed_choices("decisions", log, models)
    score, dollars = routed.quality[source], routed.dollars[source]
    at, column = np.arange(len(log)), positions(log.models, models)
    read, written = (
        tokens.loc[ids, log.models].to_numpy(float)[at, column] for tokens in (log.tokens.input, log.tokens.output)
    )
    rewriting = (((read + written) * rewriter.input + written * rewriter.output) / 1e6)[source]
    details = log.outcomes.details
    if values is None and details is not None and "answer_value" in details:
        values = details["answer_value"]
    texts = as_texts(stream["prompt"])
    changed = stream["changed"] if "changed" in stream else pd.Series(False, stream.index)
    if not changed.isin([True, False]).all():
        raise DataError("stream: changed must be True or False for every request")
    asks = [(number, text if other else "") for number, text, other in zip(source, texts, changed, strict=True)]
    value = (
        np.full(len(stream), -1) if values is None else np.where(changed, -1, value_codes(values.reindex(ids))[source])
    )

    row_of: dict[str, int] = {}
    rows = [row_of.setdefault(text, len(row_of)) for text in texts]
    vectors = None if cache.threshold is None else make_encoder(cache.encoder).transform(list(row_of))
    cache.clear()
    played: list[tuple] = []
    for number, (text, row) in enumerate(zip(texts, rows, strict=True)):
        vector = None if vectors is None else vectors[row]
        hit = cache.get(text, vector)
        if hit is None:
            cache.add(text, number, vector)
            played.append(("miss", math.nan, False, dollars[number], score[number]))
        else:
            stored = hit.answer
            wrong = hit.kind == "near" and asks[stored] != asks[number]
            fits = not wrong or value[number] == value[stored] >= 0
            cost = 0.0 if hit.kind == "exact" else rewriting[stored]
            played.append((hit.kind, hit.cosine, wrong, cost, score[stored] if fits else 0.0))
    requests = pd.DataFrame(played, columns=["kind", "cosine", "wrong", "dollars", "score"])
    requests.insert(0, "prompt_id", stream["prompt_id"].to_numpy())
    name = "cache, exact hits" if cache.threshold is None else f"cache, cosine from {cache.threshold:g}"
    return CachedStream(name, requests.assign(dollars_without=dollars, score_without=score))


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
