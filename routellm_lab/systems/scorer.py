"""Is this answer right? A score of one question and one answer: what a cascade stops by.

FrugalGPT (Chen et al. 2023, arXiv 2305.05176, section 4) fine-tunes DistilBERT to tell right answers from wrong ones
and reads nothing but the question and the answer, not who gave it. `CrossEncoderScorer` is that, with a smaller
encoder; `TextScorer` is a logistic regression that trains in seconds.

Limits. Neither can solve the question: they know what answers that were wrong looked like. Trained on one kind of
question and answer, their scores mean little for another.
"""

import re
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.encoders import make_encoder
from routellm_lab.errors import DataError, require_number, require_numbers
from routellm_lab.preferences.battles import validate_battles
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers.base import sigmoid
from routellm_lab.routers.transformers.bert import BertRouter
from routellm_lab.routers.transformers.training import Training

_HEDGES = re.compile(
    r"\b(?:not (?:sure|certain|clear)|unsure|uncertain|unclear|maybe|perhaps|may be|might|mistake|recheck|hmm|wait"
    r"|cannot|can't|approximately|assum\w+)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_ENDS_IN_NUMBER = re.compile(r"\d\W*$")
_EQUATION = re.compile(r"(?<![\d.*/+-])(\d+(?:\.\d+)?) ?([-+*/x×÷]) ?\$?(\d+(?:\.\d+)?) ?= ?\$?(\d+(?:\.\d+)?)")
_FAVOUR = 3.0
"""So much larger than a coordinate of a vector a plain feature is made, for the penalty to heed it less."""


class AnswerScorer(BaseEstimator):
    """Base of the scorers: `fit` learns from graded answers, `score` says how likely each answer is right."""

    def fit(self, log: AnswerLog) -> Self:
        """Learn from all answers of a log, whoever gave them. A score between 0 and 1 is right in part.

        Raises
        ------
        DataError
            When answers are not known, scores are not in [0, 1], or all answers are right, or all wrong.
        """
        questions, answers = _texts(log)
        right = log.scores.ravel()
        if right.min() < 0 or right.max() > 1:
            raise DataError(
                f"outcomes {log.outcomes.name}: a scorer needs scores in [0, 1], got {log.outcomes.score_unit}"
            )
        if np.ptp(right) == 0:
            raise DataError(
                f"outcomes {log.outcomes.name}: the scores of all {right.size} answers are {right[0]:g}, so there is "
                "nothing to learn; train on more questions or other models"
            )
        self._fit(questions, answers, right)
        return self

    def score(self, log: AnswerLog) -> np.ndarray:
        """P(the answer is right), (n, models) in [0, 1], in the order of ``log.models``.

        Raises
        ------
        DataError
            When answers are not known.
        """
        check_is_fitted(self)
        return np.clip(self._score(*_texts(log)), 0, 1).reshape(len(log), -1)

    def _fit(self, questions: list[str], answers: list[str], right: np.ndarray) -> None:
        """Learn from n questions, their n * k answers (of one question side by side) and how right each is."""
        raise NotImplementedError

    def _score(self, questions: list[str], answers: list[str]) -> np.ndarray:
        raise NotImplementedError


class TextScorer(AnswerScorer):
    """A logistic regression on the vectors of question and answer and a few plain features of them.

    The features: cosine of the two, logarithms of both lengths, of the lines and of the numbers in the answer, its
    hedges ("not sure", "maybe"), whether it ends in a number, whether its written sums (``3 * 4 = 12``) are wrong.

    Parameters
    ----------
    encoder : str or Encoder
    penalties : sequence of float
        Inverse strengths C to choose from, by cross-validated loss over questions.
    random_state : int

    Attributes
    ----------
    C_ : float
        The chosen one.
    coefficients_ : (d + 1,) array
        The last one is the intercept.
    """

    def __init__(
        self, encoder: Any = "static", penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1), random_state: int = 0
    ) -> None:
        self.encoder = encoder
        self.penalties = penalties
        self.random_state = random_state

    def _fit(self, questions: list[str], answers: list[str], right: np.ndarray) -> None:
        features = self._features(questions, answers)
        centre = features.mean(axis=0)
        group = np.repeat(np.arange(len(questions)), len(answers) // len(questions))
        # an answer that is right in part counts in part on either side
        weight = np.concatenate([right, 1 - right])
        kept = weight > 0
        self.C_, weights, intercept = fit_logistic(
            np.tile(features - centre, (2, 1))[kept],
            np.repeat([True, False], len(right))[kept],
            weight[kept],
            np.tile(group, 2)[kept],
            scale=feature_scale(features - centre, _PLAIN, _FAVOUR),
            penalties=self.penalties,
            random_state=self.random_state,
            who="TextScorer",
        )
        self.coefficients_ = np.append(weights, intercept - weights @ centre)

    def _score(self, questions: list[str], answers: list[str]) -> np.ndarray:
        return sigmoid(self._features(questions, answers) @ self.coefficients_[:-1] + self.coefficients_[-1])

    def _features(self, questions: list[str], answers: list[str]) -> np.ndarray:
        encoder = make_encoder(self.encoder)
        each = len(answers) // len(questions)
        asked = np.repeat(encoder.transform(questions).astype(float), each, axis=0)
        said = encoder.transform(answers).astype(float)
        lengths = np.repeat(np.log1p([len(text) for text in questions]), each)
        plain = np.array([_plain(text) for text in answers])
        return np.column_stack([asked, said, (asked * said).sum(axis=1), lengths, plain])


def fit_logistic(
    features: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    groups: np.ndarray,
    *,
    scale: np.ndarray,
    penalties: Sequence[float],
    random_state: int,
    who: str,
    intercept: bool = True,
) -> tuple[float, np.ndarray, float]:
    """A logistic regression whose penalty is chosen by cross-validated loss over groups.

    Parameters
    ----------
    features : (n, d) array
    label : (n,) array of bool
    weight : (n,) array
    groups : (n,) array
        Rows of one group are in one fold.
    scale : (d,) array
        What the features are divided by before they are penalised.
    penalties : sequence of float
        Inverse strengths C, above 0.
    random_state : int
        Of the folds.
    who : str
        For messages.
    intercept : bool

    Returns
    -------
    C : float
    weights : (d,) array
        Of the features as they came.
    intercept : float

    Raises
    ------
    ParameterError
        When no penalty can be used.
    DataError
        When there are fewer than three groups.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold

    numbers = require_numbers(f"{who}: penalties", penalties, 0, inside=True)
    if len(pd.unique(groups)) < 3:
        raise DataError(f"{who}: needs three questions or more, to choose its penalty")
    search = GridSearchCV(
        LogisticRegression(fit_intercept=intercept, max_iter=500),
        {"C": numbers},
        scoring="neg_log_loss",
        cv=GroupKFold(3, shuffle=True, random_state=random_state),
    )
    search.fit(features / scale, label, groups=groups, sample_weight=weight)
    best = search.best_estimator_
    return float(search.best_params_["C"]), best.coef_[0] / scale, float(best.intercept_[0]) if intercept else 0.0


def feature_scale(centred: np.ndarray, plain: int, favour: float) -> np.ndarray:
    """Root mean square of each column, the last few so much smaller that the penalty heeds them less."""
    scale = np.sqrt((centred**2).mean(axis=0)) + 1e-9
    scale[-plain:] /= favour
    return scale


class CrossEncoderScorer(AnswerScorer):
    """An encoder that reads question and answer at once, fine-tuned to tell right from wrong, as in the paper.

    Trained by `BertRouter`, on "right" against "wrong" instead of strong against weak.

    Parameters
    ----------
    model : str
        ``minilm`` (at hand offline), a name on the Hub or a folder.
    training : Training
        Of a longer text the middle is lost: the start of the question and the end of the answer are kept. Answers held
        out are of questions that are trained on.
    max_pairs : int
        Questions with an answer that are trained on, drawn at random.
    random_state : int

    Attributes
    ----------
    router_ : BertRouter
        What was trained; its ``history_`` has the losses.
    """

    def __init__(
        self,
        model: str = "minilm",
        training: Training = Training(evaluations=4),  # noqa: B008
        max_pairs: int = 2_000,
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.training = training
        self.max_pairs = max_pairs
        self.random_state = random_state

    def _fit(self, questions: list[str], answers: list[str], right: np.ndarray) -> None:
        require_number("max_pairs", self.max_pairs, 2, whole=True)
        drawn = np.random.default_rng(self.random_state).permutation(len(answers))[: self.max_pairs]
        votes = pd.DataFrame({"prompt": _joined(questions, answers), "score": right}).iloc[np.sort(drawn)]
        votes = votes.assign(model_a="right", model_b="wrong", winner="model_a")
        flipped = votes.assign(winner="model_b", weight=1 - votes["score"])
        votes = pd.concat([votes.assign(weight=votes["score"]), flipped]).query("weight > 0").drop(columns="score")
        self.router_ = BertRouter(
            ModelPair("right", "wrong"),
            model=self.model,
            training=self.training,
            tiers=Tiers({"right": 0, "wrong": 1}, "grades of answers"),
            random_state=self.random_state,
        ).fit(validate_battles(votes, where="graded answers"))

    def _score(self, questions: list[str], answers: list[str]) -> np.ndarray:
        return self.router_.win_rate(_joined(questions, answers))


def _joined(questions: list[str], answers: list[str]) -> list[str]:
    """Question and answer as one text, with the separator of BERT's tokenizers (to others it is text)."""
    each = len(answers) // len(questions)
    return [f"{questions[row // each]} [SEP] {answer}" for row, answer in enumerate(answers)]


def _plain(answer: str) -> list[float]:
    wrong = checked = 0
    for left, sign, right, result in _EQUATION.findall(answer):
        a, b = float(left), float(right)
        exact = {"+": a + b, "-": a - b, "/": a / b if b else 0.0, "÷": a / b if b else 0.0}.get(sign, a * b)
        checked += 1
        wrong += abs(exact - float(result)) > 0.01 * abs(exact) + 1e-9  # rounding is no mistake
    return [
        float(np.log1p(len(answer))),
        float(np.log1p(answer.count("\n"))),
        float(np.log1p(len(_NUMBER.findall(answer)))),
        float(len(_HEDGES.findall(answer))),
        float(_ENDS_IN_NUMBER.search(answer) is not None),
        float(checked > 0),
        float(wrong > 0),
    ]


_PLAIN = len(_plain("")) + 2


def _texts(log: AnswerLog) -> tuple[list[str], list[str]]:
    """The n questions, and the n * models answers, those of one question side by side."""
    return log.prompts.tolist(), log.answers("a scorer").to_numpy(object).ravel().tolist()
