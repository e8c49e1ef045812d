"""No evaluation prompt in the training votes: not literally, not nearly, not in meaning."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from routellm_lab.columns import flag_column
from routellm_lab.errors import DataError, require_number
from routellm_lab.preferences.augment import battles_from_outcomes
from routellm_lab.preferences.battles import split_options, validate_battles
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.splits import prompt_ranks, sample_questions

if TYPE_CHECKING:
    from routellm_lab.benchmarks import Outcomes
    from routellm_lab.encoders import Encoder


def decontaminate(
    battles: pd.DataFrame,
    *evaluations: "Outcomes",
    encoder: "Encoder | None" = None,
    cosine: float = 0.95,
    jaccard: float = 0.8,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drop training votes whose prompt is, or nearly is, an evaluation prompt.

    Rules, the first that fits is named: the same ``prompt_key``; the same question, whatever its punctuation, asked
    with at least half of the evaluated question's options, or one of both without options (MMLU-Pro asks thousands of
    MMLU's), or marked by its source in a column ``overlaps_<evaluation>``; word-trigram
    MinHash similarity of at least ``jaccard`` (datasketch); and, with an encoder, cosine of at least ``cosine`` (the
    paper's rule, section 5.1, which drops evaluation prompts instead; here evaluation sets stay whole).

    Returns
    -------
    kept : DataFrame
        The votes left, fresh index.
    dropped : DataFrame
        One row per dropped prompt and benchmark: ``evaluation``, ``rule``, ``prompt_key``, ``votes``.

    Raises
    ------
    DataError
        When the votes break their contract, or nothing is left.
    """
    battles = validate_battles(battles)
    prompts = battles.dropna(subset="prompt").drop_duplicates("prompt_key").set_index("prompt_key")["prompt"]
    marked = {}
    for name in {outcomes.name for outcomes in evaluations}:
        if f"overlaps_{name}" in battles:
            rows = flag_column(battles[f"overlaps_{name}"], "battles")
            marked[name] = battles.loc[rows, "prompt_key"].dropna().unique()
    found = evaluated_prompts(prompts, *evaluations, encoder=encoder, cosine=cosine, jaccard=jaccard, marked=marked)
    dropped = pd.DataFrame(found, columns=["evaluation", "rule", "prompt_key"])
    dropped["votes"] = dropped["prompt_key"].map(battles["prompt_key"].value_counts()).astype(int)
    kept = battles[~battles["prompt_key"].isin(set(dropped["prompt_key"]))].reset_index(drop=True)
    if kept.empty:
        raise DataError("decontamination leaves no vote: the training prompts are the evaluation prompts")
    return kept, dropped


def evaluated_prompts(
    prompts: pd.Series,
    *evaluations: "Outcomes",
    encoder: "Encoder | None" = None,
    cosine: float = 0.95,
    jaccard: float = 0.8,
    marked: Mapping[str, Iterable[str]] | None = None,
) -> list[tuple[str, str, str]]:
    """The prompts that are, or nearly are, evaluation prompts, by the rules of `decontaminate`.

    Parameters
    ----------
    prompts : Series
        By prompt key.
    *evaluations : Outcomes
    encoder, cosine, jaccard
        See `decontaminate`.
    marked : dict of str to iterable of str, optional
        By evaluation, the keys of prompts that their source marks as the same question.

    Returns
    -------
    list of (str, str, str)
        Evaluation, rule and prompt key.
    """
    shingles = dict(zip(prompts.index.astype(str), map(_shingles, prompts), strict=True))
    vectors = None if encoder is None else encoder.transform(prompts)
    found: list[tuple[str, str, str]] = []
    for outcomes in evaluations:
        hits = dict.fromkeys(prompts.index[prompts.index.isin(set(outcomes.keys))], "same prompt")
        for key in (*_same_question(prompts, outcomes.prompts), *(marked or {}).get(outcomes.name, ())):
            hits.setdefault(key, "same question")
        for key in _near_duplicates(shingles, outcomes.prompts, jaccard):
            hits.setdefault(key, "near duplicate")
        if encoder is not None and vectors is not None:
            closest = closest_cosine(vectors, encoder.transform(outcomes.prompts.unique()))
            near = prompts[closest >= cosine]
            for key in near.index[encoder.readable(near)]:  # what it cannot read all looks alike
                hits.setdefault(key, "same meaning")
        found += [(outcomes.name, rule, key) for key, rule in hits.items()]
    return found


def largest_cosine(prompts: Iterable[str], others: Iterable[str], encoder: "Encoder") -> np.ndarray:
    """Cosine of each prompt to the closest of the others.

    Its mean over the prompts of a benchmark, with training prompts as the others, is the similarity of the paper's
    Table 5.

    Parameters
    ----------
    prompts : iterable of str, (n,)
    others : iterable of str
        At least one; those that repeat are looked at once.
    encoder : Encoder

    Returns
    -------
    (n,) array in [-1, 1]
    """
    distinct = list(dict.fromkeys(others))
    if not distinct:
        raise DataError("largest_cosine: no other prompts to compare with")
    return closest_cosine(encoder.transform(prompts), encoder.transform(distinct))


def closest_cosine(these: np.ndarray, those: np.ndarray, batch: int = 2048) -> np.ndarray:
    """Cosine of each of ``these`` unit vectors (n, d) to the closest of ``those`` (m, d): (n,)."""
    best = [(these[start : start + batch] @ those.T).max(axis=1) for start in range(0, len(these), batch)]
    return np.concatenate(best) if best else np.zeros(0, np.float32)


@dataclass(frozen=True)
class GoldSplit:
    """Graded questions of a benchmark to train on, and others to evaluate on. Made by `gold_split`.

    Attributes
    ----------
    votes : DataFrame
        Gold votes, see `battles_from_outcomes`; none on a copy or near copy of an evaluated question.
    evaluation : Outcomes
        Questions that are neither trained on nor copies of those.
    dropped : DataFrame
        What decontamination took out of the votes (see `decontaminate`).
    """

    votes: pd.DataFrame = field(repr=False)
    evaluation: "Outcomes"
    dropped: pd.DataFrame = field(repr=False)


def gold_split(
    outcomes: "Outcomes",
    pair: ModelPair,
    questions: int | pd.Index,
    *others: "Outcomes",
    evaluated: int | None = None,
    encoder: "Encoder | None" = None,
    random_state: int = 0,
) -> GoldSplit:
    """Draw graded questions as gold votes, set others aside to evaluate on, and drop near copies of these.

    Parameters
    ----------
    outcomes : Outcomes
    pair : ModelPair
        Whose grades are the labels.
    questions : int or Index
        How many to train on, drawn by `sample_questions`, or their prompt ids.
    *others : Outcomes
        Further benchmarks that will be evaluated on.
    evaluated : int, optional
        How many of the other questions to evaluate on, drawn in the same way; all by default. Dropped
        questions are replaced by questions that are in neither part.
    encoder : Encoder, optional
        Whose cosine of .95 or more counts as the same prompt (see `decontaminate`).
    random_state : int
        Of all draws.

    Returns
    -------
    GoldSplit

    Raises
    ------
    DataError
        When no question is left on one of the two sides.
    """
    wanted = len(questions) if isinstance(questions, pd.Index) else questions
    require_number("questions", wanted, 1, len(outcomes) - 1, whole=True)
    ids = questions if isinstance(questions, pd.Index) else sample_questions(outcomes, wanted, random_state)
    rest = ~outcomes.keys.isin(set(outcomes.keys[ids])).to_numpy()
    if not rest.any():
        raise DataError(f"outcomes {outcomes.name}: no question is left to evaluate on; train on fewer")
    whole = evaluation = outcomes.select(rest)
    if evaluated is not None and evaluated < len(whole):
        evaluation = whole.select(sample_questions(whole, evaluated, random_state))
    votes = battles_from_outcomes(outcomes, pair, ids)
    kept, dropped = decontaminate(votes, evaluation, *others, encoder=encoder)
    spare = whole.prompts.index[~whole.keys.isin(set(evaluation.keys)).to_numpy()]
    if len(kept) < len(votes) and len(spare):
        spare = spare[np.argsort(prompt_ranks(whole.keys[spare], random_state), kind="stable")]
        with suppress(DataError):  # all spare questions are near copies, too, or have no grades
            more, _ = decontaminate(battles_from_outcomes(whole, pair, spare), evaluation, *others, encoder=encoder)
            kept = pd.concat([kept, more.head(len(votes) - len(kept))], ignore_index=True)
    return GoldSplit(kept, evaluation, dropped)


# not where a digit follows: 1.5, 1,000 and 3:2 are other numbers than 15, 1000 and 32
_PUNCTUATION = re.compile(r"""[.,;:!?"'\u2018\u2019\u201c\u201d]+(?!\d)""")


def _folded(text: str) -> str:
    """Text with case and white space folded and without punctuation; with it where there is nothing else."""
    lower = text.lower()
    return " ".join(_PUNCTUATION.sub("", lower).split()) or " ".join(lower.split())


def _question(text: str) -> tuple[str, frozenset[str]]:
    """A prompt as its question and its options (none in an open one), see `_folded`."""
    stem, *options = map(_folded, split_options(text))
    return stem, frozenset(options)


def _same_question(prompts: pd.Series, evaluation: pd.Series, shortest: int = 30) -> list[str]:
    """Keys of the prompts that ask an evaluated question with at least half of its options, or one of both openly.

    The half is of the evaluated question's options: of four at least two are the same. Many questions begin alike
    ("Which of these is true?"): without options in common they are others. An open question of fewer than ``shortest``
    characters says too little.
    """
    asked: dict[str, list[frozenset[str]]] = {}
    for stem, options in map(_question, evaluation.unique()):
        asked.setdefault(stem, []).append(options)
    hits = []
    for key, text in prompts.items():
        stem, options = _question(text)
        for other in asked.get(stem, ()):
            open_question = (not options or not other) and len(stem) >= shortest
            if open_question or (other and len(options & other) * 2 >= len(other)):
                hits.append(str(key))
                break
    return hits


def _shingles(text: str) -> set[bytes]:
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + 3]).encode() for i in range(max(1, len(words) - 2))}


def _near_duplicates(shingles_of: dict[str, set[bytes]], evaluation: pd.Series, jaccard: float) -> list[str]:
    from datasketch import MinHash, MinHashLSH

    evaluation_shingles = [_shingles(text) for text in evaluation.unique()]
    # only texts that share a trigram with an evaluation prompt can be near: hashing the rest would be wasted
    vocabulary = set().union(*evaluation_shingles)
    index = MinHashLSH(threshold=max(jaccard - 0.2, 0.1), num_perm=128)  # wide net: exact similarity decides below
    train_shingles = {
        key: shingles for key, shingles in shingles_of.items() if len(shingles & vocabulary) >= jaccard * len(shingles)
    }
    if not train_shingles:
        return []
    near_vocabulary = set().union(*train_shingles.values())
    candidates = [s for s in evaluation_shingles if len(s & near_vocabulary) >= jaccard * len(s)]
    for number, minhash in enumerate(MinHash.bulk(candidates, num_perm=128, seed=1)):
        index.insert(number, minhash)
    hits = []
    for (key, shingles), minhash in zip(
        train_shingles.items(), MinHash.bulk(train_shingles.values(), num_perm=128, seed=1), strict=True
    ):
        near = (candidates[number] for number in index.query(minhash))
        if any(len(shingles & other) >= jaccard * len(shingles | other) for other in near):
            hits.append(key)
    return hits
