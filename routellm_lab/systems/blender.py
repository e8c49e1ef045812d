"""LLM-Blender (Jiang et al. 2023, arXiv 2306.02561): ask a whole panel, compare its answers pairwise, give the best.

A ranker reads a question and two answers and says which is better (section 3 of the paper); the answer that is better
by the most, over all the others, is taken (MaxLogits). All models of the panel are paid, side by side.

Limits. The paper ranks with DeBERTa-v3-large, trained on 100,000 questions with 11 answers each; here it is an encoder
of a twentieth of the size, a few hundred or thousand pairs, and the verdicts of one judge or grader. Its second half,
GenFuser, writes a new answer from the best three (section 4): logs hold no such answers (`Blender.fuse` has a hook for
a live model). The ranker itself is counted as free.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.columns import text_column
from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.encoders import as_texts, make_encoder
from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.preferences.battles import models_of, score_a, validate_battles, vote_weights, with_prompts
from routellm_lab.preferences.sources import folder_responses
from routellm_lab.preferences.splits import split_by_prompt
from routellm_lab.resampling import mean_draws, percentile_interval
from routellm_lab.routers.base import sigmoid
from routellm_lab.routers.transformers.base import Inputs, load_pretrained
from routellm_lab.routers.transformers.training import Training, device, fine_tune, probe, seeded
from routellm_lab.settings import settings
from routellm_lab.systems.base import Played
from routellm_lab.systems.scorer import feature_scale, fit_logistic

if TYPE_CHECKING:
    from routellm_lab.routers.transformers.classifier import PooledClassifier

_TEXTS = ("response_a", "response_b")
_FAVOUR = 10.0
"""Two plain features beside hundreds of a vector: so much larger they are made, which a penalty heeds."""
_PAIRS_AT_ONCE = 32
_MAX_CHARACTERS = 20_000
"""Of a longer text only so many are tokenized, from both ends."""


def with_responses(battles: pd.DataFrame, data: str | Path | None = None) -> pd.DataFrame:
    """Votes with the text of their answers, ``response_a`` and ``response_b``, from the responses of a data folder.

    Parameters
    ----------
    battles : DataFrame
        With ``variant_a`` and ``variant_b`` (AlpacaEval).
    data : str or Path, optional
        A folder with ``responses``; by default what ``ROUTELLM_LAB_DATA`` says.

    Returns
    -------
    DataFrame
        A copy; null where no text is known, a text of the votes' own stays.
    """
    battles = validate_battles(battles)
    missing = {"variant_a", "variant_b"} - set(battles)
    if missing:
        raise DataError(f"with_responses: no column {listed(sorted(missing))} says which answers the votes are on")
    known = folder_responses(str(settings().data if data is None else data), "response")
    if known is None:
        raise DataError(f"with_responses: {data!r} has no responses/*.parquet; name a data folder that has them")
    known = text_column(known, "responses")
    found = {}
    for side in ("a", "b"):
        answers = pd.MultiIndex.from_frame(battles[["prompt_key", f"model_{side}", f"variant_{side}"]])
        texts = known.reindex(answers.set_names(known.index.names)).set_axis(battles.index)
        own = battles.get(f"response_{side}")
        found[f"response_{side}"] = texts if own is None else own.astype("str").fillna(texts)
    return battles.assign(**found)


def answer_pairs(log: AnswerLog) -> pd.DataFrame:
    """Graded answers as votes: of every two answers to a question, the one with the higher score wins; none tie.

    Parameters
    ----------
    log : AnswerLog
        With responses; `AnswerLog.only` and `select` narrow it.

    Returns
    -------
    DataFrame
        Battles with ``response_a`` and ``response_b``; ``judge`` is "gold". The cheaper model is A.

    Raises
    ------
    DataError
        When the log keeps no answers, or no two scores differ.
    """
    scores, answers, names = log.scores, log.answers("a ranker").to_numpy(object), np.array(log.models)
    first, second = np.triu_indices(len(names), 1)
    row, pair = np.nonzero(scores[:, first] != scores[:, second])
    if not len(row):
        raise DataError(
            f"log of {log.outcomes.name}: all answers to a question have one score: there is nothing to rank"
        )
    a, b = first[pair], second[pair]
    battles = pd.DataFrame(
        {
            "prompt": log.prompts.to_numpy()[row],
            "prompt_key": log.outcomes.keys.to_numpy()[row],
            "model_a": names[a],
            "model_b": names[b],
            "winner": np.where(scores[row, a] > scores[row, b], "model_a", "model_b"),
            "judge": "gold",
            "source": log.outcomes.name,
            "response_a": answers[row, a],
            "response_b": answers[row, b],
        }
    )
    return validate_battles(battles, where=f"pairs of answers of {log.outcomes.name}")


def judged_answers(battles: pd.DataFrame, opponent: str, name: str = "votes") -> Outcomes:
    """Votes against one opponent as graded answers: how likely each answer is preferred to the opponent's.

    Parameters
    ----------
    battles : DataFrame
        Of one judge, as that is what scores mean; votes without the opponent are left out.
    opponent : str
        Such as AlpacaEval's baseline.
    name : str
        Of the outcomes.

    Returns
    -------
    Outcomes
        (prompts, models), the opponent first with a score of .5 throughout. A score is the judge's own probability
        (``preference_a``) where it gives one, else 1, .5 or 0 by the winner; of several votes the mean. ``responses``
        are of the first vote, where the votes have texts (`with_responses`).

    Raises
    ------
    DataError
        When no vote is on the opponent.
    """
    votes = with_prompts(validate_battles(battles))
    preferred = pd.Series(score_a(votes), index=votes.index)
    if "preference_a" in votes:
        preferred = votes["preference_a"].fillna(preferred)
    sides = []
    for side, other, scores in (("a", "b", preferred), ("b", "a", 1 - preferred)):
        parts = {"prompt_key": votes["prompt_key"], "model": votes[f"model_{side}"], "score": scores}
        texts = {
            part: votes.get(f"response_{at}", pd.Series(None, votes.index, dtype="str"))
            for part, at in (("said", side), ("opposed", other))
        }
        sides.append(pd.DataFrame(parts | texts)[votes[f"model_{other}"] == opponent])
    rows = pd.concat(sides)
    if rows.empty:
        raise DataError(f"judged_answers: no vote on {opponent}; the votes have {listed(models_of(votes), 8)}")
    prompts = votes.drop_duplicates("prompt_key").set_index("prompt_key")["prompt"]
    graded = rows.groupby(["prompt_key", "model"])["score"].mean().unstack("model")
    said = rows.groupby(["prompt_key", "model"])["said"].first().unstack("model")
    prompts = prompts[prompts.index.isin(graded.index)].rename_axis("prompt_id")
    graded.insert(0, opponent, 0.5)
    said.insert(0, opponent, rows.groupby("prompt_key")["opposed"].first())
    responses = pd.DataFrame({model: said[model].reindex(prompts.index) for model in said if said[model].notna().any()})
    return Outcomes(
        name,
        prompts,
        pd.DataFrame({model: graded[model].reindex(prompts.index) for model in graded}),
        pd.Series("all", index=prompts.index),
        pd.Series(prompts.index, index=prompts.index),
        score_unit=f"preferred to {opponent}",
        responses=None if responses.empty else responses,
        answer_chars=None if responses.empty else responses.apply(lambda texts: texts.str.len().astype(float)),
    )


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
        self._fit(_decided(battles))
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


class PairRanker(Ranker):
    """A cross-encoder that reads the question and both answers at once, fine-tuned on the votes.

    The head reads the mean of A's token vectors less that of B's. Each vote is shown in an order drawn at random; a
    logit is half the difference of those in both orders.

    Parameters
    ----------
    model : str
        ``minilm`` (at hand offline), a name on the Hub or a folder.
    training : Training
        A question gets a quarter of ``max_tokens`` at most, each answer half of the rest; what is longer loses its
        middle. A training that is killed starts anew.
    random_state : int

    Attributes
    ----------
    history_ : DataFrame
        ``step``, ``epoch``, ``train_loss``, ``held_out_loss`` (nats per pair).
    """

    def __init__(
        self,
        model: str = "minilm",
        training: Training = Training(max_tokens=256, batch_size=16, epochs=1, evaluations=4),  # noqa: B008
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.training = training
        self.random_state = random_state

    def _fit(self, votes: pd.DataFrame) -> None:
        with seeded(self.random_state):
            backbone, tokenizer = load_pretrained("AutoModel", self.model, self.training.dropout)
            if tokenizer.sep_token_id is None or tokenizer.pad_token_id is None:
                raise ParameterError(f"model {self.model!r}: PairRanker needs an encoder with CLS, SEP and pad tokens")
            most = getattr(backbone.config, "max_position_embeddings", self.training.max_tokens)
            if self.training.max_tokens > most:
                raise ParameterError(
                    f"Training: max_tokens {self.training.max_tokens}, but {self.model!r} reads {most}"
                )
            if getattr(backbone, "pooler", None) is not None:
                backbone.pooler = None  # not read here
            self.network_ = _pair_classifier()(backbone, tokenizer.sep_token_id)
        self.inputs_ = Inputs(tokenizer, self.training.max_tokens, "right")
        turned = np.random.default_rng(self.random_state).random(len(votes)) < 0.5
        first, second = (votes[side].mask(turned, votes[other]) for side, other in (_TEXTS, _TEXTS[::-1]))
        won = ((votes["winner"] == "model_a").to_numpy() != turned).astype(np.float32)
        weight = (votes["weight"] / votes["weight"].mean()).to_numpy(np.float32)
        rows = self._encode(votes["prompt"].tolist(), first.tolist(), second.tolist())
        examples = [
            {"input_ids": ids, "target": target, "weight": each}
            for ids, target, each in zip(rows, won[:, None], weight, strict=True)
        ]
        parts = split_by_prompt(votes, self.training.held_out, self.random_state)
        train, held_out = ([examples[row] for row in part] for part in parts)
        folder = settings().cache_dir / "training"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch, seeded(self.random_state):
            if self.training.probe_first:
                probe(self.network_, train, self.inputs_.batch)
            self.history_ = fine_tune(
                self.network_, train, held_out, self.inputs_.batch, self.training, Path(scratch), self.random_state
            )

    def _encode(self, questions: list[str], first: list[str], second: list[str]) -> list[list[int]]:
        """Token ids: [CLS] question [SEP] first [SEP] second [SEP]."""
        tokenizer, half = self.inputs_.tokenizer, _MAX_CHARACTERS // 2
        room, sep = self.training.max_tokens - 4, tokenizer.sep_token_id

        def ids(texts: list[str]) -> list[list[int]]:
            cut = [text if len(text) <= 2 * half else text[:half] + text[-half:] for text in texts]
            found = tokenizer(cut, add_special_tokens=False, verbose=False)["input_ids"]
            return [[token for token in row if token != sep] for row in found]  # an answer may spell [SEP]

        rows = []
        for question, a, b in zip(ids(questions), ids(first), ids(second), strict=True):
            asked = _without_middle(question, room // 4)
            each = (room - len(asked)) // 2
            answers = [*_without_middle(a, each), sep, *_without_middle(b, each), sep]
            rows.append([tokenizer.cls_token_id, *asked, sep, *answers])
        return rows

    def _logits(self, questions: list[str], first: list[str], second: list[str]) -> np.ndarray:
        import torch

        rows = self._encode(questions * 2, first + second, second + first)
        network = self.network_.eval().to(device())
        order, out = sorted(range(len(rows)), key=lambda row: len(rows[row])), np.empty(len(rows))
        with torch.inference_mode():
            for start in range(0, len(order), _PAIRS_AT_ONCE):
                part = order[start : start + _PAIRS_AT_ONCE]
                batch = self.inputs_.batch([{"input_ids": rows[row]} for row in part])
                moved = {name: value.to(device()) for name, value in batch.items()}
                out[part] = network(**moved)["logits"][:, 0].float().cpu().numpy()
        return (out[: len(questions)] - out[len(questions) :]) / 2


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


def ranker_accuracy(
    ranker: Ranker, battles: pd.DataFrame, level: float = 0.95, n_resamples: int = 2000, random_state: int | None = 0
) -> pd.DataFrame:
    """How often a ranker agrees with votes that it has not seen, beside rules that read nothing.

    Parameters
    ----------
    ranker : Ranker
    battles : DataFrame
        With ``response_a`` and ``response_b``; on other prompts than it was trained on. Ties are left out.
    level, n_resamples, random_state
        Of the bootstrap over the prompts: votes on one prompt are not independent.

    Returns
    -------
    DataFrame
        Rows ``ranker``, ``longer answer`` and ``better model`` (of each pair of models the one that wins more of these
        very votes: an advantage that no ranker has). ``accuracy``, ``low``, ``high``; ``ahead``, ``ahead_low``,
        ``ahead_high`` (the ranker less this row, on the same resamples).
    """
    votes = _decided(battles)
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
    drawn = mean_draws(np.column_stack([sums, sizes]), n_resamples, random_state)
    draws = drawn[:, :-1] / drawn[:, -1:]
    accuracy, (low, high) = hits.mean(axis=0), percentile_interval(draws, level)
    ahead_low, ahead_high = percentile_interval(draws[:, :1] - draws, level)
    found = {"accuracy": accuracy, "low": low, "high": high, "ahead": accuracy[0] - accuracy}
    found |= {"ahead_low": ahead_low, "ahead_high": ahead_high}
    return pd.DataFrame(found, index=pd.Index(guesses, name="judged by"))


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

    def play(self, log: AnswerLog) -> Played:
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
        return Played(f"blender of {k}", part.prompts.index, quality, part.costs.sum(axis=1), np.full(n, k), np.ones(n))

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


def _decided(battles: pd.DataFrame) -> pd.DataFrame:
    """Votes with a winner and both texts, with a ``weight``."""
    votes = with_prompts(validate_battles(battles))
    way = "with_responses adds them from a data folder, answer_pairs makes votes of graded answers"
    missing = [column for column in _TEXTS if column not in votes]
    if missing:
        raise DataError(f"a ranker reads answers: missing column {listed(missing)}; {way}")
    votes = votes[votes["winner"] != "tie"].reset_index(drop=True)
    if votes.empty:
        raise DataError(f"a ranker learns from votes with a winner; all {len(battles)} are ties")
    bad = votes[list(_TEXTS)].isna().any(axis=1)
    if bad.any():
        raise DataError(
            f"a ranker reads answers: {int(bad.sum())} of {len(votes)} votes lack one "
            f"(models: {listed(models_of(votes[bad]), 5)}); leave them out, or {way}"
        )
    return votes.assign(weight=vote_weights(votes))


def _without_middle(ids: list[int], room: int) -> list[int]:
    tail = room // 2
    return ids if len(ids) <= room else ids[: room - tail] + ids[len(ids) - tail :]


@lru_cache(maxsize=1)
def _pair_classifier() -> "Callable[[Any, int], PooledClassifier]":  # built on first use: torch is slow to import
    import torch

    from routellm_lab.routers.transformers.classifier import PooledClassifier

    class PairClassifier(PooledClassifier):
        """One logit from the mean of A's token vectors less the mean of B's, each in sight of the other."""

        def __init__(self, backbone: Any, sep: int) -> None:
            super().__init__(backbone, "mean", 1)
            self.sep = sep

        def pool(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            part = (input_ids == self.sep).cumsum(1) * attention_mask  # 1 from the question's end on, 2 from A's

            def mean(number: int) -> torch.Tensor:
                inside = (part == number)[..., None].to(hidden.dtype)
                return (hidden * inside).sum(1) / inside.sum(1)

            return mean(1) - mean(2)

    return PairClassifier
