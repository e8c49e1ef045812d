"""The cache itself: answers by request, found again exactly or nearly."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from routellm_lab.columns import float_array
from routellm_lab.encoders import MOST_UNKNOWN, Encoder, as_texts, make_encoder, unknown_shares
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.systems.cache.texts import NEGATION, exact_key, exchanged, indents, numbers, other_units


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
        number = isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool)
        if threshold is not None and not (number and 0 < threshold <= 1):
            raise ParameterError(
                f"SemanticCache: threshold must be a cosine in (0, 1], or None for exact hits only, got {threshold!r}"
            )
        self.threshold = threshold
        self.encoder = encoder
        self.same_numbers = same_numbers
        self.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, prompt: str) -> bool:
        """Whether the very request was answered."""
        return exact_key(prompt) in self._row_of

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
        row = self._row_of.get(exact_key(text))
        if row is not None:
            return Hit("exact", *self._entries[row], 1.0)
        if self.threshold is None:
            return None
        return self.nearest(text, vector, self.threshold)

    def add(self, prompt: str, answer: Any, vector: np.ndarray | None = None) -> None:
        """Keep the answer to a miss; an earlier answer to the same request is replaced. Raises as `get`."""
        (text,) = as_texts([prompt])
        key = exact_key(text)
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

    def nearest(self, text: str, vector: np.ndarray | None, threshold: float = -math.inf) -> Hit | None:
        """The nearest request that may answer this one, from a cosine on; exact or not."""
        known = None if vector is None else self._encoded(text, vector)
        asks = self._asks(text)
        places = None if asks is None else self._places_with.get(asks)
        if not places:
            return None
        vector = self._encoded(text, None) if known is None else known
        cosines = (self._vectors[: len(self._indexed)] @ vector)[places]
        while (cosine := float(cosines[best := int(cosines.argmax())])) >= threshold and cosine > -math.inf:
            prompt, answer = self._entries[self._indexed[places[best]]]
            if not (exchanged(text, prompt) or (self.same_numbers and other_units(text, prompt))):
                return Hit("near", prompt, answer, float(np.clip(cosine, -1, 1)))
            cosines[best] = -math.inf
        return None

    def _asks(self, text: str) -> tuple | None:
        """What a request and one that may answer it have in common; None where the encoder cannot read it."""
        if self._last[0] != text:  # a miss is looked up and then added
            (unread,) = self._encoder().unread([text])
            asks = None
            if not unread or unknown_shares([text], [unread])[0] <= MOST_UNKNOWN:
                negations = len(NEGATION.findall(text.lower()))
                asks = numbers(text) if self.same_numbers else (), negations, indents(text), unread
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
