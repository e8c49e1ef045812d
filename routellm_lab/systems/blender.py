"""LLM-Blender (Jiang et al. 2023, arXiv 2306.02561): ask a whole panel, compare its answers pairwise, give the best.

A ranker reads a question and two answers and says which is better (section 3 of the paper); the answer that is better
by the most, over all the others, is taken (MaxLogits). All models of the panel are paid, side by side.

Limits. The paper ranks with DeBERTa-v3-large, trained on 100,000 questions with 11 answers each; here it is an encoder
of a twentieth of the size, a few hundred or thousand pairs, and the verdicts of one judge or grader. Its second half,
GenFuser, writes a new answer from the best three (section 4): logs hold no such answers (`Blender.fuse` has a hook for
a live model). The ranker itself is counted as free.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, clone

from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.encoders import as_texts
from routellm_lab.errors import ParameterError
from routellm_lab.systems.answers import answer_pairs
from routellm_lab.systems.base import Replay
from routellm_lab.systems.rankers import Ranker


class Blender(BaseEstimator):
    """A panel of models that all answer, and a ranker that picks one of the answers: a `System`.

    Parameters
    ----------
    ranker : Ranker
        `fit` trains a clone of it on the panel's answers; one that is fitted already (on votes) may be played at once.
    panel : sequence of str
        Two models or more.

    Attributes
    ----------
    ranker_ : Ranker
    """

    ranker_: Ranker

    def __init__(self, ranker: Ranker, panel: Sequence[str]) -> None:
        self.ranker = ranker
        self.panel = panel

    def fit(self, log: AnswerLog) -> Self:
        """Train the ranker on the panel's graded answers, pair by pair (`answer_pairs`)."""
        self.ranker_ = clone(self.ranker).fit(answer_pairs(self._panel(log)))
        return self

    def play(self, log: AnswerLog) -> Replay:
        """Play back on logged answers: all models of the panel are called and paid, side by side.

        Raises
        ------
        DataError
            When the log has not all the answers' texts.
        """
        part = self._panel(log)
        scores = self._fitted().scores(part.prompts.tolist(), part.answers("a ranker").to_numpy(object))
        n, k = scores.shape
        quality = part.scores[np.arange(n), scores.argmax(axis=1)]  # of equals the cheapest
        return Replay(f"blender of {k}", part.prompts.index, quality, part.costs.sum(axis=1), np.full(n, k), np.ones(n))

    def fuse(
        self,
        questions: Iterable[str],
        answers: np.ndarray,
        client: Callable[[str, list[str]], str],
        most: int = 3,
    ) -> list[str]:
        """New answers that a live model writes from the best of each question's (GenFuser's place, section 4).

        Parameters
        ----------
        questions : iterable of str, (n,)
        answers : (n, k) array of str
        client : function
            From a question and its best answers, best first, to an answer; such as a call of an `Endpoint`. No log can
            grade what it writes, so that `play` takes the best answer as it is.
        most : int
            Answers that it sees.
        """
        texts = as_texts(questions)
        best = np.argsort(-self._fitted().scores(texts, answers), axis=1, kind="stable")[:, :most]
        return [client(text, [str(answers[row, at]) for at in best[row]]) for row, text in enumerate(texts)]

    def _fitted(self) -> Ranker:
        return self.ranker_ if hasattr(self, "ranker_") else self.ranker

    def _panel(self, log: AnswerLog) -> AnswerLog:
        if isinstance(self.panel, str) or len(set(self.panel)) < 2:
            raise ParameterError(f"Blender: panel must name two models or more, got {self.panel!r}")
        return log.only(self.panel)
