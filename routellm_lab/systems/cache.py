"""A semantic cache in front of a router: what was asked before is not asked again.

A request that is, but for case and white space, one already answered gets that answer for nothing (exact hit). One that
is near it, by the cosine of the encodings, and has the same numbers gets the answer rewritten by a cheap model (near
hit). Any other is routed (miss). A near hit on another question is a wrong one: `choose_threshold` bounds their share.

What an encoder hardly sees is compared by rules: numbers with their signs, operators and units; words in another order;
negations; indentation; and what the encoder's vocabulary lacks. Beyond the rules and left to the encoder are: numbers
in words, one word in place of another (a name, a unit that is not listed, "largest" and "smallest"), upper and lower
case, and order and negation in other languages than English.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from routellm_lab.columns import flag_column, float_array, number_column, require_columns
from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.costs.prices import Price
from routellm_lab.costs.tokens import PER
from routellm_lab.encoders import MOST_UNKNOWN, Encoder, as_texts, make_encoder, unknown_shares
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.preferences.battles import prompt_key
from routellm_lab.resampling import mean_draws, percentile_interval
from routellm_lab.studies.robustness import perturb
from routellm_lab.systems.base import Played, played_choices, positions

THRESHOLDS = (*(round(0.5 + 0.02 * step, 2) for step in range(25)), 0.99)
"""Cosines that `choose_threshold` tries: fixed before any data is seen, so that its correction for them is exact."""

NEAR = ("polite preface", "filler", "translated word")
"""A near repeat is one of these perturbations, or none, and typos of its own: few are asked twice in the same words."""

_SEEDS = 1_000
_MOST_REQUESTS = 100_000_000
_DIGITS = re.compile(r"\d+")
_SIGNS = str.maketrans("−–×÷", "--*/")
_SIGN = r"[-+*/^=<>≤≥≠√~%$€£¥₹°]"
_NUMBER = re.compile(rf"(?:{_SIGN}\s*)*\d+(?:[.,]\d+)*(?:\s*{_SIGN})*")
_THOUSANDS = re.compile(r",(?=\d{3}(?:\D|$))")
_UNITS = {
    spelling: spellings.split()[0]
    for spellings in (
        "mm millimeter millimeters millimetre millimetres",
        "cm centimeter centimeters centimetre centimetres",
        "m meter meters metre metres",
        "km kilometer kilometers kilometre kilometres kms",
        "inch inches",
        "ft foot feet",
        "yd yard yards",
        "mile miles mi",
        "mg milligram milligrams",
        "g gram grams",
        "kg kilogram kilograms kilo kilos kgs",
        "oz ounce ounces",
        "lb lbs pound pounds",
        "ton tons tonne tonnes",
        "ml milliliter milliliters millilitre millilitres",
        "l liter liters litre litres",
        "gallon gallons gal",
        "pint pints",
        "cup cups",
        "ms millisecond milliseconds",
        "s second seconds sec secs",
        "min minute minutes mins",
        "h hour hours hr hrs",
        "day days",
        "week weeks",
        "month months",
        "year years yr yrs",
        "c celsius",
        "f fahrenheit",
        "k kelvin",
        "percent",
        "degree degrees",
        "radian radians",
        "cent cents",
        "dollar dollars usd",
        "euro euros eur",
        "gbp",
        "yen jpy",
        "kb kilobyte kilobytes",
        "mb megabyte megabytes",
        "gb gigabyte gigabytes",
        "tb terabyte terabytes",
        "am",
        "pm",
    )
    for spelling in spellings.split()
}
_WITH_UNIT = re.compile(r"\d\s*°?\s*([a-z]+)\b")
_NEGATION = re.compile(r"\b(?:not|no|never|none|nobody|nothing|neither|nor|without|cannot|except|\w+n['’]t)\b")
_INDENTED = re.compile(r"\n([ \t]+)(?=\S)")
_WORD = re.compile(r"\w+")
_MOST_NEW = 0.2


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
    same_numbers : bool
        Whether a near hit must have the same numbers in the same order: with their decimals, the signs and operators
        beside them, and units that do not contradict each other ("5 km" is neither "-5 km" nor "5 miles"). A sentence
        encoder hardly sees them: a question with another number in it is closer than the same question in other words,
        and no threshold tells the two apart. Numbers in words are left to the encoder.

    Notes
    -----
    Whatever the threshold, a near hit has as many negations as the request ("not", "never", "without"), the same
    indentation, the same parts that the encoder cannot read, and the words that both have in the same order if they are
    nearly all words of one of the two ("Does Anna owe Ben money?"). A request that the encoder cannot read (see
    `routellm_lab.encoders.Encoder.readable`) is never a near hit, and never has one. An exact hit may differ in case
    and white space, but for the indentation of lines, which is part of a program.
    """

    def __init__(self, threshold: float | None, encoder: "str | Encoder" = "static", same_numbers: bool = True) -> None:
        if threshold is not None and not _number_in(threshold, 0, 1):
            raise ParameterError(
                f"SemanticCache: threshold must be a cosine in (0, 1], or None for exact hits only, got {threshold!r}"
            )
        self.threshold = threshold
        self.encoder = encoder
        self.same_numbers = same_numbers
        self.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget all."""
        self._entries: list[tuple[str, Any]] = []
        self._row_of: dict[str, int] = {}
        self._places_with: dict[tuple, list[int]] = {}
        self._indexed: list[int] = []
        self._vectors = np.zeros((0, 0), np.float32)
        self._last: tuple[str | None, tuple | None] = None, None

    def get(self, prompt: str, vector: np.ndarray | None = None) -> Hit | None:
        """Look a request up.

        Parameters
        ----------
        prompt : str
        vector : (d,) array, optional
            Its encoding, where it is known already.

        Raises
        ------
        DataError
            When the prompt is not text, or the vector not of length 1 and of the dimensions of those in the cache.
        """
        (text,) = as_texts([prompt])
        row = self._row_of.get(_exactly(text))
        if row is not None:
            return Hit("exact", *self._entries[row], 1.0)
        if self.threshold is None:
            return None
        return self._nearest(text, vector, self.threshold)

    def add(self, prompt: str, answer: Any, vector: np.ndarray | None = None) -> None:
        """Keep the answer to a miss; an earlier answer to the same request is replaced. Raises as `get`."""
        (text,) = as_texts([prompt])
        key = _exactly(text)
        if key in self._row_of:
            self._entries[self._row_of[key]] = (text, answer)
            return
        if self.threshold is not None:
            known = None if vector is None else self._encoded(text, vector)
            asks = self._asks(text)
            if asks is not None:
                self._index(asks, self._encoded(text, None) if known is None else known)
        self._row_of[key] = len(self._entries)
        self._entries.append((text, answer))

    def _index(self, asks: tuple, vector: np.ndarray) -> None:
        """Let the entry that comes next be found by its vector."""
        place = len(self._indexed)
        if place == len(self._vectors):
            room = np.zeros((max(64, place), len(vector)), np.float32)
            self._vectors = np.concatenate([self._vectors.reshape(-1, len(vector)), room])
        self._vectors[place] = vector
        self._indexed.append(len(self._entries))
        self._places_with.setdefault(asks, []).append(place)

    def _nearest(self, text: str, vector: np.ndarray | None, threshold: float = -math.inf) -> Hit | None:
        """The nearest of those that may answer it, from a cosine on."""
        known = None if vector is None else self._encoded(text, vector)
        asks = self._asks(text)
        places = None if asks is None else self._places_with.get(asks)
        if not places:
            return None
        vector = self._encoded(text, None) if known is None else known
        cosines = (self._vectors[: len(self._indexed)] @ vector)[places]
        while (cosine := float(cosines[best := int(cosines.argmax())])) >= threshold and cosine > -math.inf:
            prompt, answer = self._entries[self._indexed[places[best]]]
            if not (_exchanged(text, prompt) or (self.same_numbers and _other_units(text, prompt))):
                return Hit("near", prompt, answer, float(np.clip(cosine, -1, 1)))
            cosines[best] = -math.inf
        return None

    def _asks(self, text: str) -> tuple | None:
        """What a request and one that may answer it have in common; None where the encoder cannot read it."""
        if self._last[0] != text:  # a miss is looked up and then added
            (unread,) = self._encoder().unread([text])
            asks = None
            if not unread or unknown_shares([text], [unread])[0] <= MOST_UNKNOWN:
                negations = len(_NEGATION.findall(text.lower()))
                asks = _numbers(text) if self.same_numbers else (), negations, _indents(text), unread
            self._last = text, asks
        return self._last[1]

    def _encoder(self) -> Encoder:
        return make_encoder(self.encoder)

    def _encoded(self, text: str, vector: np.ndarray | None) -> np.ndarray:
        if vector is None:
            vector = self._encoder().transform([text])[0]
        known, vector = self._vectors.shape[1], float_array(vector, "SemanticCache: vector").astype(np.float32)
        length = float(np.linalg.norm(vector))
        if vector.ndim != 1 or known not in (0, len(vector)) or not abs(length - 1) < 1e-3:
            raise DataError(
                f"SemanticCache: vector must have length 1 and shape ({known or 'd'},), a row of Encoder.transform; got"
                f" length {length:.3g}, shape {vector.shape}"
            )
        return vector


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
        Questions; of those that are the same but for case and white space one is used.
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
    _require_shares("labelled_pairs", near_share, changed_share)
    near_share, changed_share = float(near_share), float(changed_share)  # those of numpy may be of less precision
    texts = as_texts(prompts)
    if values is not None and not isinstance(values, Iterable):
        raise ParameterError(f"labelled_pairs: values must be a list, got {values!r}")
    answers = [None] * len(texts) if values is None else list(values)
    if len(answers) != len(texts):
        raise ParameterError(f"labelled_pairs: {len(texts)} prompts and {len(answers)} values; pass one of each")
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        first.setdefault(_exactly(text), row)
    if len(first) < 4:
        raise DataError(f"labelled_pairs: needs four different questions or more, got {len(first)}")
    rng, answer = np.random.default_rng(random_state), _codes(answers)
    source = rng.permutation(list(first.values())).tolist()
    kinds = rng.choice(
        ["near", "changed", "new"], len(source), p=[near_share, changed_share, max(0.0, 1 - near_share - changed_share)]
    )
    requests = _asked([texts[at] for at in source], kinds == "near", kinds == "changed", rng)
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
        if _exactly(text) in cache._row_of:
            continue
        hit = cache._nearest(text, vector)
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


def choose_threshold(pairs: pd.DataFrame, most_wrong: float = 0.05, delta: float = 0.1) -> CacheThreshold:
    """The lowest threshold, of `THRESHOLDS`, whose near hits are surely seldom wrong.

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
    for name, value in (("most_wrong", most_wrong), ("delta", delta)):
        if not _number_in(value, 0, 1) or value == 1:
            raise ParameterError(f"choose_threshold: {name} must be a number between 0 and 1, got {value!r}")
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
    same = pairs["same"].to_numpy(bool)
    for threshold in THRESHOLDS:
        hit = cosine >= threshold
        hits, wrong = int(hit.sum()), int((hit & ~same).sum())
        bound = _upper(wrong, hits, delta / len(THRESHOLDS))
        if bound <= most_wrong:
            found = float((hit & same).sum() / same.sum()) if same.any() else 0.0
            return CacheThreshold(threshold, most_wrong, delta, len(pairs), hits, wrong, bound, found)
    return CacheThreshold(None, most_wrong, delta, len(pairs), 0, 0, math.nan, 0.0)


def zipf_stream(
    prompts: pd.Series,
    n: int,
    exponent: float = 1.0,
    near_share: float = 0.3,
    random_state: int = 0,
    changed_share: float = 0.0,
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
    near_share, changed_share : float
        Shares of the repeats that are asked in other words (see `NEAR`) and with another number in them, together at
        most 1; the others are exact repeats. A text without a word to misspell or without a number may stay one.
    random_state : int

    Returns
    -------
    DataFrame
        One row per request: ``prompt_id`` (of the question), ``prompt`` (as asked), ``repeat`` (whether the question
        came before), ``near`` (whether it is asked in other words) and ``changed`` (with another number, which makes it
        another question).

    Raises
    ------
    ParameterError
        When prompts are no Series, or a number cannot be used.
    DataError
        When there are no prompts.
    """
    if not isinstance(prompts, pd.Series):
        raise ParameterError(
            f"zipf_stream: prompts must be a Series by prompt id, such as log.prompts, got {type(prompts).__name__}"
        )
    require_number("zipf_stream: n", n, 1, _MOST_REQUESTS, whole=True)
    require_number("zipf_stream: exponent", exponent, 0)
    _require_shares("zipf_stream", near_share, changed_share)
    if not len(prompts):
        raise DataError("zipf_stream: no prompts")
    rng, texts = np.random.default_rng(random_state), as_texts(prompts)
    weight = np.arange(1, len(texts) + 1, dtype=float) ** -exponent
    source = rng.permutation(len(texts))[rng.choice(len(texts), n, p=weight / weight.sum())]
    repeat, manner = pd.Series(source).duplicated().to_numpy(), rng.random(n)
    near = repeat & (manner < near_share)
    changed = repeat & ~near & (manner < near_share + changed_share)
    asked = _asked([texts[at] for at in source], near, changed, rng)
    other = np.array([text != texts[at] for text, at in zip(asked, source, strict=True)])
    stream = pd.DataFrame({"prompt_id": prompts.index[source], "prompt": pd.array(asked, dtype="str")})
    return stream.assign(repeat=repeat, near=near & other, changed=changed & other)


def traffic_shares(stream: pd.DataFrame) -> dict[str, float]:
    """``near_share`` and ``changed_share`` of a stream's requests, for `labelled_pairs`.

    The rest, exact repeats included, counts as new: a new question that is wrongly hit is not kept, and every repeat of
    it is a wrong hit again. With the share of first requests in its place the promise of a threshold would break.
    """
    require_columns(stream, ("near", "changed"), "stream")
    if stream.empty:
        raise DataError("stream: no requests")
    return {f"{kind}_share": float(flag_column(stream[kind], "stream").mean()) for kind in ("near", "changed")}


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
    def played(self) -> Played:
        """As a system: requests are its questions, by their number in the stream.

        Beside `without` it fits in `systems_table` and `compare_systems`. Their bootstrap draws requests, though: for
        intervals over questions, which are wider, see `table`.
        """
        calls = (self.requests["kind"] != "exact").to_numpy(float)
        return self._played(self.name, "score", "dollars", calls)

    @property
    def without(self) -> Played:
        """The same requests, every one routed."""
        return self._played("no cache", "score_without", "dollars_without", np.ones(len(self)))

    def _played(self, name: str, score: str, dollars: str, calls: np.ndarray) -> Played:
        index = pd.RangeIndex(len(self), name="request")
        return Played(name, index, self.requests[score].to_numpy(), self.requests[dollars].to_numpy(), calls, calls)

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
        drawn = mean_draws(by_question.to_numpy(), n_resamples, random_state)
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
        The router's choice per question, such as of `routellm_lab.policies.many_models.route_many`. A question in other words
        or with another number is taken to be routed, and answered, alike.
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
    routed = played_choices("decisions", log, models)
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
    value = np.full(len(stream), -1) if values is None else np.where(changed, -1, _codes(values.reindex(ids))[source])

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


def _asked(texts: list[str], near: np.ndarray, changed: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Some of the texts in other words (see `NEAR`), some with another number, where they have one."""
    manner, seed = rng.integers(len(NEAR) + 1, size=len(texts)), rng.integers(_SEEDS, size=len(texts))
    out = list(texts)
    for row in np.flatnonzero(near).tolist():
        for name in (*NEAR[manner[row] : manner[row] + 1], "typos"):
            (out[row],) = perturb([out[row]], name, int(seed[row]))
    for row in np.flatnonzero(changed).tolist():
        text, ends = texts[row], [found.end() for found in _DIGITS.finditer(texts[row])]
        if ends:
            end = ends[seed[row] % len(ends)]
            digit = (int(text[end - 1]) + int(rng.integers(1, 10))) % 10
            out[row] = f"{text[: end - 1]}{digit}{text[end:]}"
    return out


def _exactly(text: str) -> str:
    """Equal for requests that are the same but for case and white space, the indentation of lines excepted."""
    indents = _indents(text)
    return f"{prompt_key(text)} {indents}" if indents else prompt_key(text)


def _indents(text: str) -> tuple[tuple[int, int], ...]:
    """Each indented line behind the first: its number among those with text, and its indentation."""
    if not _INDENTED.search(text):
        return ()
    lines = [line.expandtabs() for line in text.strip().splitlines() if line.strip()]
    widths = [len(line) - len(line.lstrip()) for line in lines]
    return tuple((number, width) for number, width in enumerate(widths) if width and number)


def _numbers(text: str) -> tuple[str, ...]:
    """The numbers of a text with the signs and operators beside them, without white space and thousands separators."""
    return tuple(_THOUSANDS.sub("", "".join(found[0].split())) for found in _NUMBER.finditer(text.translate(_SIGNS)))


def _other_units(text: str, other: str) -> bool:
    """Whether a number has a unit in one text and another one in the other; both have the same numbers."""
    units = [[_UNITS.get(word) for word in _after_numbers(each.lower())] for each in (text, other)]
    return any(one != two and one and two for one, two in zip(*units, strict=False))


def _after_numbers(text: str) -> list[str]:
    """The word behind each number, empty where there is none."""
    return [word[1] if (word := _WITH_UNIT.match(text, number.end() - 1)) else "" for number in _DIGITS.finditer(text)]


def _exchanged(text: str, other: str) -> bool:
    """Whether nearly all words of one text are in the other, in another order."""
    one, two = _WORD.findall(text.lower()), _WORD.findall(other.lower())
    counts, others = Counter(one), Counter(two)
    if (counts & others).total() < (1 - _MOST_NEW) * min(len(one), len(two)):
        return False
    once = {word for word, count in counts.items() if count == others[word] == 1}
    return [word for word in one if word in once] != [word for word in two if word in once]


def _codes(values: Iterable[object]) -> np.ndarray:
    """Numbers that are equal where values are, -1 where one is missing."""
    return pd.factorize(pd.Series(list(values), dtype=object))[0]


def _upper(wrong: int, n: int, level: float) -> float:
    """Clopper and Pearson's upper limit of a share; 1 without a draw."""
    return 1.0 if wrong >= n else float(stats.beta.ppf(1 - level, wrong + 1, n - wrong))


def _number_in(value: object, low: float, high: float) -> bool:
    """Whether a number is in (low, high]."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return number and bool(low < value <= high)  # type: ignore[operator]


def _require_shares(where: str, *shares: float) -> None:
    valid = all(_number_in(share, -math.inf, 1) and share >= 0 for share in shares)
    if not valid or sum(shares) > 1:
        raise ParameterError(
            f"{where}: near_share and changed_share must be shares of together at most 1, got {listed(shares)}"
        )
