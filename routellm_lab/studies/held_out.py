"""Benchmarks to choose and judge thresholds on: without a router's own labels, and in two halves."""

from collections.abc import Iterable

from routellm_lab.benchmarks import Outcomes, load_outcomes, outcome_names
from routellm_lab.errors import DataError, listed
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.splits import prompt_ranks
from routellm_lab.routers.recommended import GOLD, gold_prompt_ids

BENCHMARKS = ("mmlu", "gsm8k", "mt_bench")


def held_out_benchmarks(
    pair: ModelPair,
    data: str | None = None,
    gold_questions: int = 0,
    names: Iterable[str] = BENCHMARKS,
    random_state: int = 0,
) -> dict[str, Outcomes]:
    """The benchmarks that grade both models, without the questions that the recommended router learned from.

    Parameters
    ----------
    pair : ModelPair
    data : str, optional
        A data root.
    gold_questions : int
        As given to `routellm_lab.recommended_router`, with the same ``random_state``: these questions of MMLU are
        taken out.
    names : iterable of str
        Benchmarks; those that the data root has not, or that lack a model of the pair, are left out.
    random_state : int

    Returns
    -------
    dict of Outcomes
        By name.

    Raises
    ------
    DataError
        When the first of the names is not among them.
    """
    names, known = list(names), outcome_names(data)
    found = {name: load_outcomes(name, data=data) for name in names if name in known}
    graded = {name: outcomes for name, outcomes in found.items() if {pair.strong, pair.weak} <= set(outcomes.models)}
    if names[0] not in graded:
        raise DataError(
            f"{names[0]}: no scores of both {pair.strong} and {pair.weak} in this data; both are in: "
            f"{listed(graded) or 'none of ' + ', '.join(names)}"
        )
    if GOLD in graded and gold_questions:
        gold = graded[GOLD]
        graded[GOLD] = gold.select(~gold.prompts.index.isin(gold_prompt_ids(gold, gold_questions, random_state)))
    return graded


def halves(outcomes: Outcomes, random_state: int = 0) -> tuple[Outcomes, Outcomes]:
    """Two random halves of a benchmark; equal prompts are in the same half."""
    first = prompt_ranks(outcomes.keys, random_state) % 2 == 0
    return outcomes.select(first), outcomes.select(~first)
