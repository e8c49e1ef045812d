"""Hybrid LLM (Ding et al. 2024, arXiv 2404.14618): a router taught which questions are easy, by the gap in quality.

A question is easy where the weak model's answer is as good as the strong one's. With the gap H(x) = q(weak) - q(strong)
of some score q of answers, the label is P(easy):

=============  ==============================================================================================
deterministic  1 where H >= 0 for one answer of each model, else 0 (section 3.1)
probabilistic  P(H >= 0) over several answers (section 3.2, 10 samples of each model there)
transformed    P(H >= -t), t such that labels differ most from question to question (section 3.3)
=============  ==============================================================================================

RouteLLM's labels, P(strong wins) + P(tie) / 2, hold a tie for half a win of the strong model; here a tie is easy.

Limits. The paper's scores are BARTScore, here whatever the log has; its encoder is DeBERTa-v3-large, here what
`BertRouter` takes, or a ridge. Logs mostly hold one answer per model: then probabilistic labels are the deterministic
ones, unless several votes or gradings of a question stand in for samples, which is not what the paper did. Where
answers are right or wrong, a gap is -1, 0 or 1: t = 1 would make every question easy, t = 0 is chosen, and all three
kinds are one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.columns import number_column
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.preferences.augment import battles_from_outcomes, soft_votes
from routellm_lab.preferences.battles import validate_battles, vote_weights
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers.base import PairOnlyRouter, Router
from routellm_lab.routers.baselines import RidgeRouter
from routellm_lab.routers.saving.fields import NUMBER, Field, Nested
from routellm_lab.routers.transformers.bert import BertRouter
from routellm_lab.routers.transformers.training import Training
from routellm_lab.systems.base import preferred_for_a

LABELS = ("deterministic", "probabilistic", "transformed")

_CANDIDATES = 500
"""Values of t that are tried at most."""
_LEAST = 1e-6
"""Soft votes have a weight above 0 on either side."""


def hybrid_labels(
    gaps: np.ndarray, kind: str = "transformed", t: float | None = None, weights: np.ndarray | None = None
) -> np.ndarray:
    """How likely each question is easy, from the gaps in quality of its sampled answers.

    Parameters
    ----------
    gaps : (n,) or (n, k) array
        q(weak) - q(strong): one number per question, or k samples of it; NaN where a question has fewer.
    kind : {"deterministic", "probabilistic", "transformed"}
        The first one reads the first known sample alone.
    t : float, optional
        By how much the weak answer may be worse, >= 0, in the unit of the gaps, with ``kind="transformed"``; by default
        `largest_difference`.
    weights : array, optional
        Of the samples, in the shape of the gaps; equal by default.

    Returns
    -------
    (n,) array in [0, 1]
    """
    gaps, weights = _samples(gaps, weights)
    if kind not in LABELS:
        raise ParameterError(f"kind of labels must be one of {listed(LABELS)}, got {kind!r}")
    if t is not None:
        require_number("t", t, 0)
    if t is not None and kind != "transformed":
        raise ParameterError(f"t must be a number from 0, with transformed labels alone, got {t!r} with {kind!r}")
    if kind == "deterministic":
        first = np.isfinite(gaps).argmax(axis=1)
        return (gaps[np.arange(len(gaps)), first] >= 0).astype(float)
    if kind == "transformed" and t is None:
        t = largest_difference(gaps, weights)
    return _share(gaps, weights, t or 0.0)


def largest_difference(gaps: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The t at which the labels P(gap >= -t) differ most, on average over all pairs of questions (section 3.3).

    Parameters
    ----------
    gaps, weights
        As in `hybrid_labels`.

    Returns
    -------
    float
        The smallest one that reaches the maximum. Labels change only where -t is a gap, so these values are tried, or
        500 of them, evenly by rank.
    """
    gaps, weights = _samples(gaps, weights)
    candidates = np.unique(np.append(-gaps[gaps < 0], 0.0))
    if len(candidates) > _CANDIDATES:
        candidates = candidates[np.linspace(0, len(candidates) - 1, _CANDIDATES).astype(int)]
    rank = 2 * np.arange(1, len(gaps) + 1) - len(gaps) - 1
    # over the sorted labels, the sum of all |y_i - y_j| is twice that of rank times label
    apart = [rank @ np.sort(_share(gaps, weights, t)) for t in candidates]
    return float(candidates[np.argmax(np.round(apart, 9))])


def gap_battles(
    gradings: Outcomes | Iterable[Outcomes],
    pair: ModelPair,
    prompts: Any = None,
    score: Callable[[list[str], list[str]], np.ndarray] | None = None,
) -> pd.DataFrame:
    """Votes with the gap in quality behind them, for `HybridRouter`.

    Parameters
    ----------
    gradings : Outcomes or iterable of Outcomes
        Several of the same questions (other samples, or other graders) become several votes on each.
    pair : ModelPair
    prompts : boolean mask or list of prompt ids, optional
        Which prompts become votes; all by default.
    score : function, optional
        From n questions and n answers to (n,) numbers, such as BARTScore: grades the responses of both models anew.

    Returns
    -------
    DataFrame
        As of `battles_from_outcomes`, with ``quality_gap``: q(strong) - q(weak), in the unit of the scores.
    """
    parts = []
    for graded in [gradings] if isinstance(gradings, Outcomes) else gradings:
        outcomes = graded if score is None else _scored(graded, pair, score)
        battles = battles_from_outcomes(outcomes, pair, prompts)
        parts.append(battles.assign(quality_gap=outcomes.gap(pair).loc[battles["battle_id"]].to_numpy()))
    if not parts:
        raise ParameterError("gap_battles: no gradings given")
    return validate_battles(pd.concat(parts, ignore_index=True), where=f"gaps of {pair}")


def _scored(outcomes: Outcomes, pair: ModelPair, score: Callable[[list[str], list[str]], np.ndarray]) -> Outcomes:
    models = [pair.strong, pair.weak]
    kept = outcomes.responses
    if kept is None or any(model not in kept or kept[model].isna().any() for model in models):
        raise DataError(f"outcomes {outcomes.name}: a score needs responses of both {listed(models)}, on every prompt")
    texts = outcomes.prompts.tolist()
    scores = {model: np.asarray(score(texts, kept[model].tolist()), float) for model in models}
    return replace(outcomes, scores=pd.DataFrame(scores, index=outcomes.prompts.index))


class HybridRouter(Router):
    """A router of one pair that learns how likely the weak model is no worse (or worse by at most t).

    Learns from the votes between the two models of the pair alone. The gap of a vote is that of the column
    ``quality_gap`` (see `gap_battles`), else twice ``preference_a`` less 1, else 1, 0 or -1 by the winner; several
    votes on a prompt are samples of its gap. Its win rate is 1 - P(easy).

    Parameters
    ----------
    pair : ModelPair
    labels : {"deterministic", "probabilistic", "transformed"}
    t : float, optional
        As in `hybrid_labels`.
    model : str
        An encoder to fine-tune, as in `BertRouter`; or ``static``, ``hashing``: a ridge on its vectors (`RidgeRouter`).
    training : Training
    stand_ins : mapping, optional
        As in `RidgeRouter`.
    random_state : int

    Attributes
    ----------
    t_ : float
        By how much the weak answer may be worse; 0 unless the labels are transformed.
    labels_ : Series
        P(easy) of each training prompt, by ``prompt_key``; not kept by `save`.
    router_ : BertRouter or RidgeRouter
        What learned them.
    """

    name = "hybrid"
    saved: ClassVar[Mapping[str, Field]] = {"t_": NUMBER, "router_": Nested("_learner")}
    unsaved = ("labels_",)
    _file_endings = BertRouter._file_endings
    router_: PairOnlyRouter

    def __init__(
        self,
        pair: ModelPair,
        labels: str = "transformed",
        t: float | None = None,
        model: str = "minilm",
        training: Training = Training(),  # noqa: B008
        stand_ins: Mapping | None = None,
        random_state: int = 0,
    ) -> None:
        self.pair = pair
        self.labels = labels
        self.t = t
        self.model = model
        self.training = training
        self.stand_ins = stand_ins
        self.random_state = random_state

    def learn(self, battles: pd.DataFrame) -> None:
        votes = self._votes(battles)
        prompts = votes.drop_duplicates("prompt_key").reset_index(drop=True)
        table = votes.pivot(index="prompt_key", columns="sample", values=["gap", "weight"]).loc[prompts["prompt_key"]]
        gaps, weights = table["gap"].to_numpy(float), table["weight"].to_numpy(float)
        self.t_ = 0.0
        if self.labels == "transformed":
            self.t_ = largest_difference(gaps, weights) if self.t is None else float(self.t)
        easy = hybrid_labels(gaps, self.labels, self.t, weights)
        if np.ptp(easy) == 0:
            raise DataError(
                f"HybridRouter: {self.labels} labels of all {len(easy)} prompts are {easy[0]:g}, so there is nothing "
                "to learn; use labels='transformed' without a t, or a pair whose gap changes sign"
            )
        self.labels_ = pd.Series(easy, index=prompts["prompt_key"])
        total = np.nansum(weights, axis=1)
        plain = prompts[["prompt", "prompt_key"]].assign(
            model_a=self.pair_used_.strong, model_b=self.pair_used_.weak, weight=total
        )
        soft = soft_votes(plain, np.clip(1 - easy, _LEAST, 1 - _LEAST), where="hybrid labels")
        self.router_ = self._learner(self.pair_used_).fit(soft)

    def _votes(self, battles: pd.DataFrame) -> pd.DataFrame:
        """The votes between the two models: ``prompt_key``, ``prompt``, ``gap``, ``weight``, ``sample`` (a number)."""
        strong, weak = self.pair_used_.strong, self.pair_used_.weak
        forward = (battles["model_a"] == strong) & (battles["model_b"] == weak)
        between = forward | ((battles["model_a"] == weak) & (battles["model_b"] == strong))
        if not between.any():
            raise DataError(f"HybridRouter: no vote between {strong} and {weak}; it learns from no other models' votes")
        if "quality_gap" in battles:
            gap = number_column(battles["quality_gap"], "HybridRouter: battles")
            if gap[between].isna().any():
                raise DataError(
                    f"HybridRouter: {int(gap[between].isna().sum())} votes have no quality_gap, and a winner is on "
                    "another scale; leave them out, or the column"
                )
        else:
            gap = 2 * preferred_for_a(battles) - 1
        votes = battles[["prompt_key", "prompt"]].assign(gap=gap.where(~forward, -gap), weight=vote_weights(battles))
        votes = votes[between]
        return votes.assign(sample=votes.groupby("prompt_key").cumcount())

    def _learner(self, pair: ModelPair) -> PairOnlyRouter:
        tiers = Tiers({pair.strong: 0, pair.weak: 1}, "the pair")
        if str(self.model).partition(":")[0] in ("static", "hashing"):
            return RidgeRouter(pair, encoder=self.model, tiers=tiers)
        return BertRouter(pair, self.model, training=self.training, tiers=tiers, random_state=self.random_state)

    def compute_win_rate(self, texts: list[str]) -> np.ndarray:
        return self.router_.compute_win_rate(texts)

    def check_learned(self) -> None:
        super().check_learned()
        if self.router_.pair != self.pair_used_:
            raise ValueError(f"what learned {self.router_.pair} serves no other pair")

    def _encoder_parameter(self) -> str | None:
        return "model" if self._learner(self.pair)._encoder_parameter() else None

    def _encoder_identity(self) -> str | None:
        return self._learner(self.pair)._encoder_identity()


def _samples(gaps: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Gaps and their weights, (n, k) each; a missing gap has the weight 0."""
    gaps = np.asarray(gaps, float)
    gaps = gaps[:, None] if gaps.ndim == 1 else gaps
    if gaps.ndim != 2 or not len(gaps) or not np.isfinite(gaps).any(axis=1).all() or np.isinf(gaps).any():
        raise DataError("gaps must be finite numbers, shape (n,) or (n, samples), with one or more for every question")
    weights = np.ones_like(gaps) if weights is None else np.asarray(weights, float).reshape(gaps.shape)
    return gaps, np.where(np.isfinite(gaps), weights, 0.0)


def _share(gaps: np.ndarray, weights: np.ndarray, t: float) -> np.ndarray:
    """Weighted share of each question's gaps that are -t or more, (n,)."""
    return (weights * (gaps >= -t)).sum(axis=1) / weights.sum(axis=1)
