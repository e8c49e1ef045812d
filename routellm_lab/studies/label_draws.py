"""The labels of the recommended router, drawn several times, and what may be evaluated after each draw."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from routellm_lab.benchmarks import Outcomes, load_outcomes, score_columns
from routellm_lab.errors import DataError, require_number
from routellm_lab.preferences import ModelPair, Tiers, battles_from_outcomes, sample_questions
from routellm_lab.routers import KernelRouter, gold_prompt_ids, recommended_router, recommended_sets
from routellm_lab.routers.recommended import DIFFICULTY, EVALUATED, GOLD
from routellm_lab.studies.transfer import unseen_prompts


@dataclass(frozen=True, eq=False)
class LabelDraws:
    """Labels by draw, and benchmarks that they are clean of. Made by `label_draws`.

    Attributes
    ----------
    pair : ModelPair
    data : str
    encoder : str or Encoder
    gold_questions : int
    random_state : int
        Draw k (from 0) takes ``random_state + k``.
    sets : tuple of dict of str to DataFrame
        For each draw the votes of the sets "gold" and "difficulty" (see `recommended_sets`).
    dropped : DataFrame
        What decontamination took out in the first draw.
    benchmarks : dict of str to Outcomes
        Whole.
    gold : tuple of Outcomes
        For each draw the graded questions that serve as labels, which must not be evaluated.
    """

    pair: ModelPair
    data: str
    encoder: Any
    gold_questions: int
    random_state: int
    sets: tuple[dict[str, pd.DataFrame], ...] = field(repr=False)
    dropped: pd.DataFrame = field(repr=False)
    benchmarks: dict[str, Outcomes] = field(repr=False)
    gold: tuple[Outcomes, ...] = field(repr=False)

    @property
    def n_draws(self) -> int:
        return len(self.sets)

    @cached_property
    def evaluations(self) -> dict[str, Outcomes]:
        """The benchmarks without the gold questions of the first draw."""
        whole = self.benchmarks[GOLD]
        return self.benchmarks | {GOLD: whole.select(~whole.keys.isin(set(self.gold[0].keys)).to_numpy())}

    @cached_property
    def gradings(self) -> dict[str, Outcomes]:
        """The benchmarks, and GSM8K as it was graded again where the data root has that."""
        if "score_regraded" not in score_columns("gsm8k", self.data):
            return dict(self.benchmarks)
        again = load_outcomes("gsm8k", data=self.data, score="score_regraded")
        return self.benchmarks | {"gsm8k, re-graded": again}

    @cached_property
    def difficulty_questions(self) -> Outcomes:
        """The questions with a difficulty label, and which of the many models was right on them."""
        outcomes = load_outcomes(DIFFICULTY, data=self.data)
        return outcomes.select(outcomes.keys.isin(self.sets[0]["difficulty"]["prompt_key"]).to_numpy())

    @property
    def other_pair(self) -> ModelPair:
        """The best model on the difficulty questions and the weak model of the pair, or else the worst model."""
        means = self.difficulty_questions.scores.mean()
        weak = self.pair.weak if self.pair.weak in means else str(means.idxmin())
        return ModelPair(str(means.drop(weak).idxmax()), weak)

    @property
    def router_options(self) -> dict[str, Any]:
        """What every router on these labels is built with: the encoder, and the two models as the only tiers."""
        tiers = Tiers({self.pair.strong: 0, self.pair.weak: 1}, source=f"{self.pair}, as given")
        return {"encoder": self.encoder, "tiers": tiers}

    def label_counts(self) -> pd.DataFrame:
        """Label sets of the first draw: ``label set``, ``prompts``, ``strong wins``, ``ties`` (shares by weight)."""
        rows = []
        for name, votes in self.sets[0].items():
            weight = votes["weight"] if "weight" in votes else pd.Series(1.0, index=votes.index)
            share = weight.groupby(votes["winner"]).sum() / weight.sum()
            row = {"label set": name, "prompts": votes["prompt_key"].nunique()}
            rows.append(row | {"strong wins": share.get("model_a", 0.0), "ties": share.get("tie", 0.0)})
        return pd.DataFrame(rows)

    def left_out(self, benchmark: str) -> list[set[str]]:
        """For each draw, the prompt keys of the gold questions; none outside of the benchmark that they are from."""
        return [set(part.keys) for part in self.gold] if benchmark == GOLD else [set()]

    def recommended(self, draw: int = 0, *, gold: bool = True) -> KernelRouter:
        """The recommended router on the labels of a draw; without the gold labels if ``gold`` is False."""
        return recommended_router(
            self.pair,
            self.data,
            gold_questions=self.gold_questions if gold else 0,
            encoder=self.encoder,
            random_state=self.random_state + draw,
        )

    def unseen(self, name: str, most: int, random_state: int = 0) -> Outcomes:
        """Questions of an outcome table on which, or nearly on which, the first draw has no label.

        Parameters
        ----------
        name : str
            Of outcomes of the data root.
        most : int
            Questions at most, sampled by group.
        random_state : int
            Of the sample.
        """
        seen = pd.concat(
            [battles_from_outcomes(self.gold[0], self.pair), self.sets[0]["difficulty"]], ignore_index=True
        )
        part = load_outcomes(name, data=self.data)
        part = part.select(unseen_prompts(part, seen))
        return part.select(sample_questions(part, min(most, len(part) - 1), random_state))


def label_draws(
    pair: ModelPair,
    data: str,
    *,
    gold_questions: int = 1500,
    encoder: Any = "minilm",
    n_draws: int = 1,
    random_state: int = 0,
) -> LabelDraws:
    """Draw the gold questions several times: results depend on which questions happened to serve as labels.

    Parameters
    ----------
    pair : ModelPair
    data : str
        ``sample`` or a folder.
    gold_questions : int
        Questions of MMLU whose grades serve as labels, 1 or more.
    encoder : str or Encoder
        Whose cosine of .95 or more counts as the same prompt.
    n_draws : int
    random_state : int

    Returns
    -------
    LabelDraws

    Raises
    ------
    DataError
        When the data root has no grades of both models on MMLU, or no outcomes of many models.

    Examples
    --------
    >>> from routellm_lab import default_pair
    >>> labels = label_draws(default_pair("sample"), "sample", gold_questions=50, encoder="hashing")
    >>> len(labels.gold[0]), len(labels.evaluations["mmlu"])
    (50, 1945)
    """
    require_number("n_draws", n_draws, 1, whole=True)
    require_number("gold_questions", gold_questions, 1, whole=True)
    seeds = range(random_state, random_state + n_draws)
    found = [
        recommended_sets(pair, data, gold_questions=gold_questions, encoder=encoder, random_state=seed)
        for seed in seeds
    ]
    benchmarks = {name: load_outcomes(name, data=data) for name in EVALUATED[::-1]}
    if "gold" not in found[0][0]:
        raise DataError(
            f"{GOLD} has no grades of both {pair.strong!r} and {pair.weak!r}, which are the gold labels; choose a pair "
            f"of {benchmarks[GOLD].models}"
        )
    if "difficulty" not in found[0][0]:
        raise DataError(f"no outcomes of {DIFFICULTY} in data {data!r}: use data='sample' or a folder that has them")
    mmlu = benchmarks[GOLD]
    gold = tuple(mmlu.select(gold_prompt_ids(mmlu, gold_questions, seed)) for seed in seeds)
    sets, dropped = tuple(sets for sets, _ in found), found[0][1]
    return LabelDraws(pair, data, encoder, gold_questions, random_state, sets, dropped, benchmarks, gold)
