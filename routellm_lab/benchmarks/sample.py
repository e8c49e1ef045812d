"""Simulated benchmarks: outcomes that follow the law of `routellm_lab.preferences.sample`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import ParameterError, nearest
from routellm_lab.preferences import sample as world


@dataclass(frozen=True)
class OutcomeSet:
    """One simulated benchmark.

    Attributes
    ----------
    size : int
        Questions when no size is asked for.
    domains : mapping
        How often each domain is asked about, relative to each other.
    languages : mapping
        Share of each language.
    scoring : {"right", "judge"}
        Right or wrong, or a judge's mean over two turns, from 1 to 10.
    contaminated : int
        Questions planted in the votes of ``arena_human`` of the same seed, for decontamination to find.
    """

    size: int
    domains: Mapping[str, float]
    languages: Mapping[str, float]
    scoring: Literal["right", "judge"] = "right"
    contaminated: int = 0


OUTCOME_SETS = {
    "mmlu": OutcomeSet(2_000, dict.fromkeys(world.DOMAINS, 1.0), {"en": 0.94, "es": 0.03, "de": 0.03}, contaminated=5),
    "gsm8k": OutcomeSet(
        1_000,
        {"arithmetic": 0.55, "algebra": 0.35, "economics": 0.1},
        {"en": 0.94, "es": 0.03, "de": 0.03},
        contaminated=4,
    ),
    "mt_bench": OutcomeSet(80, dict.fromkeys(world.DOMAINS, 1.0), {"en": 1.0}, scoring="judge", contaminated=2),
    "mmlu_pro": OutcomeSet(
        1_200, {**dict.fromkeys(world.DOMAINS, 1.0), "arithmetic": 2.0, "algebra": 2.0}, {"en": 1.0}
    ),
}
"""The simulated benchmarks, by the names of their counterparts in a data folder."""

MAX_SIZE = 50_000
"""Most questions that one call simulates."""
JUDGE_CONCENTRATION = 30.0
"""How little a judge's score varies about its mean (the sum of the parameters of a beta distribution)."""


def sample_outcomes(name: str, seed: int = 0, size: int | None = None) -> Outcomes:
    """Simulate one benchmark: every model of the sample on its questions.

    Parameters
    ----------
    name : str
        One of `OUTCOME_SETS`.
    seed : int
    size : int, optional
        Questions, up to `MAX_SIZE`; the set's own number by default.

    Returns
    -------
    Outcomes
        With ``tokens``, ``competence`` and ``details`` (``language``, ``difficulty`` in logits, ``contaminated``).
        Right-or-wrong scores are 1 with the competence as probability; judge scores have mean 1 + 9 x competence.

    Raises
    ------
    ParameterError
        When the set does not exist or size or seed cannot be used.
    """
    if name not in OUTCOME_SETS:
        raise ParameterError(f"no simulated outcomes {name!r}; nearest: {nearest(name, OUTCOME_SETS)}")
    kind = OUTCOME_SETS[name]
    size = world.checked_size(kind.size if size is None else size, MAX_SIZE)
    rng = world.stream(seed, name, "outcomes")
    planted = _planted(name, seed, min(kind.contaminated, size // 10))
    prompts = _questions(name, seed, size - len(planted))
    prompts = pd.concat([prompts.assign(contaminated=False), planted.assign(contaminated=True)])
    prompts = prompts.iloc[rng.permutation(size)].reset_index(drop=True)
    prompts.index = pd.Index([f"{name}-{number:05d}" for number in range(size)], name="prompt_id")
    read = world.read_prompts(prompts["prompt"]).set_index(prompts.index)
    competence = world.competence(prompts["prompt"])
    scores = _right(competence, rng) if kind.scoring == "right" else _judged(competence, rng)
    return Outcomes(
        name=name,
        prompts=prompts["prompt"],
        scores=scores,
        groups=read["domain"],
        keys=prompts["prompt_key"],
        score_unit="share correct" if kind.scoring == "right" else "judge score, 1-10",
        tokens=_answer_lengths(competence, read["difficulty"], rng),
        competence=competence,
        details=read[["language", "difficulty"]].assign(contaminated=prompts["contaminated"]),
        data="sample",
    )


@lru_cache(maxsize=8)
def _questions(name: str, seed: int, size: int) -> pd.DataFrame:
    kind = OUTCOME_SETS[name]

    def own(number: int) -> bool:
        return number in world.RESERVED[name]

    return world.simulate_prompts(name, size, seed, dict(kind.domains), dict(kind.languages), own, unique=True)[0]


@lru_cache(maxsize=8)
def _planted(name: str, seed: int, size: int) -> pd.DataFrame:
    """The first questions of the arena votes that would fit the benchmark."""
    kind = OUTCOME_SETS[name]
    votes = world.sample_battles("arena_human", size=1_000, seed=seed)
    codes = {language: code for code, language in world.LANGUAGES.items()}
    fits = votes["domain"].isin(kind.domains) & votes["language"].map(codes).isin(kind.languages)
    return votes.loc[fits, ["prompt", "prompt_key"]].drop_duplicates("prompt_key").head(size)


def _right(competence: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return (competence > rng.random(competence.shape)).astype(float)


def _judged(competence: pd.DataFrame, rng: np.random.Generator, turns: int = 2) -> pd.DataFrame:
    """Mean over the turns of whole marks from 1 to 10; rounding at random keeps the mean exact."""
    chance = competence.to_numpy().clip(1e-6, 1 - 1e-6)
    quality = rng.beta(JUDGE_CONCENTRATION * chance, JUDGE_CONCENTRATION * (1 - chance), (turns, *chance.shape))
    marks = np.floor(1 + 9 * quality + rng.random(quality.shape)).clip(1, 10)
    return pd.DataFrame(marks.mean(axis=0), index=competence.index, columns=competence.columns)


def _answer_lengths(competence: pd.DataFrame, difficulty: pd.Series, rng: np.random.Generator) -> pd.DataFrame:
    """Output tokens: longer for harder prompts, by each model's verbosity, with log-normal spread."""
    verbosity = world.SAMPLE_MODELS.loc[competence.columns, "verbosity"].to_numpy()
    mean = np.log(180 * verbosity) + 0.15 * difficulty.to_numpy()[:, None]
    tokens = np.exp(mean + rng.normal(0, 0.3, competence.shape)).round().clip(1)
    return pd.DataFrame(tokens, index=competence.index, columns=competence.columns)
