"""Rankers: which of two answers to a question is better, learned from votes with answers."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from routellm_lab.encoders import as_texts, make_encoder
from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.preferences.battles import models_of, validate_battles, vote_weights, with_prompts
from routellm_lab.resampling import Bootstrap
from routellm_lab.routers.base import sigmoid
from routellm_lab.systems.scorer import feature_scale, fit_logistic

ANSWERS = ("response_a", "response_b")
"""Columns of the answers' texts."""
_FAVOUR = 10.0
"""Two plain features beside hundreds of a vector: so much larger they are made, which a penalty heeds."""


class Ranker(BaseEstimator):
    """Base of the rankers: `fit` learns from votes with answers, `chance` says which of two answers is better.

    The order of two answers does not count: P(A is better) + P(B is better) = 1.
    """

    def fit(self, battles: pd.DataFrame) -> Self:
        """Learn from votes with ``response_a`` and ``response_b``; ties are left out.

        Raises
        ------
        DataError
            When answers are missing, or no vote has a winner.
        """
        self._fit(decided_votes(battles))
        return self

    def chance(self, questions: Iterable[str], first: Iterable[str], second: Iterable[str]) -> np.ndarray:
        """P(first is better than second), (n,)."""
        check_is_fitted(self)
        texts = [as_texts(part) for part in (questions, first, second)]
        if len(set(map(len, texts))) != 1:
            raise ParameterError(f"as many questions as answers on either side, got {listed(map(len, texts))}")
        return sigmoid(self._logits(*texts)) if texts[0] else np.zeros(0)

    def scores(self, questions: Sequence[str], answers: np.ndarray) -> np.ndarray:
        """Sum of each answer's logits over all the others to its question (MaxLogits).

        Parameters
        ----------
        questions : sequence of str, (n,)
        answers : (n, k) array of str

        Returns
        -------
        (n, k) array
        """
        check_is_fitted(self)
        found = np.zeros(answers.shape)
        for one, other in itertools.combinations(range(answers.shape[1]), 2):
            logits = self._logits(list(questions), answers[:, one].tolist(), answers[:, other].tolist())
            found[:, one] += logits
            found[:, other] -= logits
        return found

    def _fit(self, votes: pd.DataFrame) -> None:
        """Learn from votes without ties."""
        raise NotImplementedError

    def _logits(self, questions: list[str], first: list[str], second: list[str]) -> np.ndarray:
        """log P(first is better) / P(second is better), (n,)."""
        raise NotImplementedError


class TextPairRanker(Ranker):
    """A ranker that trains in seconds: a logistic regression on the difference of two answers' features.

    Features of an answer: its vector, its cosine with the question, the logarithm of its length; the last two are
    hardly penalised. Each answer is judged by itself: a scorer rather than the paper's joint reading of both.

    Parameters
    ----------
    encoder : str or Encoder
    penalties : sequence of float
        Inverse strengths C to choose from, by cross-validated loss over prompts.
    random_state : int

    Attributes
    ----------
    C_ : float
        The chosen one.
    coefficients_ : (d,) array
        The last one is that of the length.
    """

    def __init__(
        self, encoder: Any = "static", penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0), random_state: int = 0
    ) -> None:
        self.encoder = encoder
        self.penalties = penalties
        self.random_state = random_state

    def _fit(self, votes: pd.DataFrame) -> None:
        questions = votes["prompt"].tolist()
        apart = self._features(questions, votes["response_a"].tolist())
        apart -= self._features(questions, votes["response_b"].tolist())
        won = (votes["winner"] == "model_a").to_numpy()
        groups, weight = (np.tile(votes[column].to_numpy(), 2) for column in ("prompt_key", "weight"))
        # a pair and its reverse say the same, and both classes occur in every fold
        self.C_, self.coefficients_, _ = fit_logistic(
            np.vstack([apart, -apart]),
            np.append(won, ~won),
            weight / 2,
            groups,
            scale=feature_scale(apart, 2, _FAVOUR),
            penalties=self.penalties,
            random_state=self.random_state,
            who="TextPairRanker",
            intercept=False,
        )

    def _features(self, questions: list[str], answers: list[str]) -> np.ndarray:
        encoder = make_encoder(self.encoder)
        asked, said = (encoder.transform(texts).astype(float) for texts in (questions, answers))
        return np.column_stack([said, (asked * said).sum(axis=1), np.log1p([len(text) for text in answers])])

    def _logits(self, questions: list[str], first: list[str], second: list[str]) -> np.ndarray:
        return (self._features(questions, first) - self._features(questions, second)) @ self.coefficients_


def ranker_accuracy(ranker: Ranker, battles: pd.DataFrame, bootstrap: Bootstrap = Bootstrap()) -> pd.DataFrame:
    """How often a ranker agrees with votes that it has not seen, beside rules that read nothing.

    Parameters
    ----------
    ranker : Ranker
    battles : DataFrame
        With ``response_a`` and ``response_b``; on other prompts than it was trained on. Ties are left out.
    bootstrap : Bootstrap
        Of the prompts: votes on one prompt are not independent.

    Returns
    -------
    DataFrame
        Rows ``ranker``, ``longer answer`` and ``better model`` (of each pair of models the one that wins more of these
        very votes: an advantage that no ranker has). ``accuracy``, ``low``, ``high``; ``ahead``, ``ahead_low``,
        ``ahead_high`` (the ranker less this row, on the same resamples).
    """
    votes = decided_votes(battles)
    won = (votes["winner"] == "model_a").to_numpy()
    straight = (votes["model_a"] < votes["model_b"]).to_numpy()
    pairs = [votes[["model_a", "model_b"]].min(axis=1), votes[["model_a", "model_b"]].max(axis=1)]
    better = pd.Series(np.where(won == straight, 1.0, -1.0)).groupby(pairs).transform("mean").to_numpy()
    guesses = {
        "ranker": ranker.chance(votes["prompt"], votes["response_a"], votes["response_b"]) - 0.5,
        "longer answer": (votes["response_a"].str.len() - votes["response_b"].str.len()).to_numpy(),
        "better model": np.where(straight, better, -better),
    }
    # half a point for no opinion
    hits = np.column_stack([np.where(guess == 0, 0.5, (guess > 0) == won) for guess in guesses.values()])
    codes = pd.factorize(votes["prompt_key"])[0]
    sums, sizes = np.stack([np.bincount(codes, each) for each in hits.T], axis=1), np.bincount(codes)
    drawn = bootstrap.means(np.column_stack([sums, sizes]))
    draws = drawn[:, :-1] / drawn[:, -1:]
    accuracy, (low, high) = hits.mean(axis=0), bootstrap.interval(draws)
    ahead_low, ahead_high = bootstrap.interval(draws[:, :1] - draws)
    found = {"accuracy": accuracy, "low": low, "high": high, "ahead": accuracy[0] - accuracy}
    found |= {"ahead_low": ahead_low, "ahead_high": ahead_high}
    return pd.DataFrame(found, index=pd.Index(guesses, name="judged by"))


def decided_votes(battles: pd.DataFrame) -> pd.DataFrame:
    """Votes with a winner and both texts, with a ``weight``."""
    votes = with_prompts(validate_battles(battles))
    way = "with_responses adds them from a data folder, answer_pairs makes votes of graded answers"
    missing = [column for column in ANSWERS if column not in votes]
    if missing:
        raise DataError(f"a ranker reads answers: missing column {listed(missing)}; {way}")
    votes = votes[votes["winner"] != "tie"].reset_index(drop=True)
    if votes.empty:
        raise DataError(f"a ranker learns from votes with a winner; all {len(battles)} are ties")
    bad = votes[list(ANSWERS)].isna().any(axis=1)
    if bad.any():
        raise DataError(
            f"a ranker reads answers: {int(bad.sum())} of {len(votes)} votes lack one "
            f"(models: {listed(models_of(votes[bad]), 5)}); leave them out, or {way}"
        )
    return votes.assign(weight=vote_weights(votes))
