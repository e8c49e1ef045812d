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
    answers : bool
        Whether the text of every answer is simulated too, with the number that it ends in.
    """

    size: int
    domains: Mapping[str, float]
    languages: Mapping[str, float]
    scoring: Literal["right", "judge"] = "right"
    contaminated: int = 0
    answers: bool = False


OUTCOME_SETS = {
    "mmlu": OutcomeSet(2_000, dict.fromkeys(world.DOMAINS, 1.0), {"en": 0.94, "es": 0.03, "de": 0.03}, contaminated=5),
    "gsm8k": OutcomeSet(
        1_000,
        {"arithmetic": 0.55, "algebra": 0.35, "economics": 0.1},
        {"en": 0.94, "es": 0.03, "de": 0.03},
        contaminated=4,
        answers=True,
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
HEDGED = {"right": 0.15, "wrong": 0.6}
"""Share of answers in which the model doubts itself: what a scorer of answers can learn. The rest of the text says
nothing about the score, but for its length, which follows difficulty."""
FAVOURITE_ERROR = 0.5
"""Share of the wrong answers to a question that give the same wrong number: how far a majority can be misled."""
ANSWER_CHARACTERS = 400
"""Most characters of a simulated answer; below that 4 per token."""

_STEPS = (
    "First, {a} and {b} make {sum}.", "Take {a} times {c}, which is {product}.", "There are {a} in each of {c} groups.",
    "Adding {b} to {a} gives {sum}.", "That leaves {a} of the {sum}.", "So {c} of them cost {product} in all.",
    "Next, the {b} from before are taken away from {sum}.", "The question gives {a} and {b}.",
    "Each one counts {c} times.", "Now we know that {product} is {a} times {c}.", "Half of {twice} is {a}.",
    "This step needs {a} and {c} only.",
)  # fmt: skip
_HEDGES = (
    "Wait, let me recheck that.", "Hmm, I am not sure about this step.", "Actually, that may be a mistake.",
    "I might have misread the question.", "Perhaps it should be done the other way round.", "I will guess here.",
)  # fmt: skip


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
        With ``answers`` also ``responses`` and, in ``details``, the reference number ``answer_value``.

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
    tokens = _answer_lengths(competence, read["difficulty"], rng)
    details = read[["language", "difficulty"]].assign(contaminated=prompts["contaminated"])
    responses = None
    if kind.answers:
        answer_rng = world.stream(seed, name, "answers")  # its own: scores and tokens do not depend on the texts
        details["answer_value"], responses = _answers(scores, tokens, answer_rng)
    return Outcomes(
        name=name,
        prompts=prompts["prompt"],
        scores=scores,
        groups=read["domain"],
        keys=prompts["prompt_key"],
        score_unit="share correct" if kind.scoring == "right" else "judge score, 1-10",
        tokens=tokens,
        responses=responses,
        competence=competence,
        details=details,
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


def _answers(scores: pd.DataFrame, tokens: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.Series, pd.DataFrame]:
    """The reference number of each question, and what every model wrote: steps, perhaps a doubt, ``#### number``."""
    n = len(scores)
    reference = rng.integers(12, 400, n)
    errors = np.stack([reference + 1, reference - 1, reference + 10, 2 * reference, 10 * reference], axis=1)
    errors = rng.permuted(errors, axis=1)  # the first is the question's favourite
    right = scores.to_numpy() == 1
    other = rng.integers(1, errors.shape[1], right.shape)
    which = np.where(rng.random(right.shape) < FAVOURITE_ERROR, 0, other)
    number = np.where(right, reference[:, None], np.take_along_axis(errors, which, axis=1))
    hedged = rng.random(right.shape) < np.where(right, HEDGED["right"], HEDGED["wrong"])
    hedge = rng.integers(len(_HEDGES), size=right.shape)
    steps = _steps(rng)
    start = rng.integers(len(steps), size=right.shape)
    room = np.minimum(4 * tokens.to_numpy(), ANSWER_CHARACTERS)
    texts = [
        _answer(steps, int(first), float(most), _HEDGES[doubt] if doubts else None, int(value))
        for first, most, doubts, doubt, value in zip(
            start.flat, room.flat, hedged.flat, hedge.flat, number.flat, strict=True
        )
    ]
    table = np.array(texts, dtype=object).reshape(right.shape)
    responses = pd.DataFrame(table, index=scores.index, columns=scores.columns, dtype="str")
    return pd.Series(reference, index=scores.index).astype("str"), responses


def _steps(rng: np.random.Generator, size: int = 1_009) -> list[str]:
    steps = []
    for a, b, c in rng.integers(2, 60, (size, 3)).tolist():
        pattern = _STEPS[int(rng.integers(len(_STEPS)))]
        steps.append(pattern.format(a=a, b=b, c=c, sum=a + b, product=a * c, twice=2 * a))
    return steps


def _answer(steps: list[str], first: int, most: float, doubt: str | None, number: int) -> str:
    """As many of the steps, from the first on, as there is room for; a doubt stands before the last of them."""
    end = f"#### {number}"
    room = most - len(end) - 1 - (0 if doubt is None else len(doubt) + 1)
    written: list[str] = []
    for at in range(first, first + len(steps)):
        step = steps[at % len(steps)]
        room -= len(step) + 1
        if room < 0:
            break
        written.append(step)
    if doubt is not None:
        written.insert(len(written) - 1 if written else 0, doubt)
    return " ".join(written) + "\n" + end
