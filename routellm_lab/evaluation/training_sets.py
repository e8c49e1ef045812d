"""The paper's three training sets, and what may be evaluated after each: all routers see the same."""

from dataclasses import dataclass, field

import pandas as pd

from routellm_lab.benchmarks import Outcomes, load_outcomes
from routellm_lab.encoders import make_encoder
from routellm_lab.preferences import (
    ModelPair,
    battle_names,
    battles_from_outcomes,
    decontaminate,
    load_battles,
    pool_battles,
    sample_questions,
)

JUDGES = ("alpacaeval_judge", "alpacaeval_rejudged", "elobench_judge")
BENCHMARKS = ("mt_bench", "gsm8k", "mmlu")


@dataclass(frozen=True)
class TrainingSets:
    """Votes by training set (``arena``, ``arena+judge``, ``arena+gold``), and the benchmarks. Made by
    `paper_training_sets`. A data root without votes of judges has no ``arena+judge``.

    Attributes
    ----------
    given : dict of str to DataFrame
        The votes before decontamination.
    clean : dict of str to DataFrame
        The votes to train on.
    dropped : dict of str to DataFrame
        What decontamination took out (see `decontaminate`).
    gold : DataFrame
        The graded questions of ``arena+gold``, as battles.
    benchmarks : dict of str to Outcomes
        Whole.
    evaluations : dict of str to Outcomes
        The same without the gold questions, which are never evaluated.
    """

    given: dict[str, pd.DataFrame] = field(repr=False)
    clean: dict[str, pd.DataFrame] = field(repr=False)
    dropped: dict[str, pd.DataFrame] = field(repr=False)
    gold: pd.DataFrame = field(repr=False)
    benchmarks: dict[str, Outcomes]
    evaluations: dict[str, Outcomes]


def paper_training_sets(
    data: str, pair: ModelPair, gold_questions: int = 1500, encoder: str = "static", random_state: int = 0
) -> TrainingSets:
    """D_arena, D_arena + D_judge and D_arena + D_gold (sections 4.1 and 5.1 of the paper) from a data root.

    Stand-ins, not copies: the paper takes MMLU's validation questions as gold labels, here a part of the test questions
    is set aside for it; votes of judges are those that the data root has of `JUDGES`.

    Parameters
    ----------
    data : str
        ``sample``, ``hub`` or a folder.
    pair : ModelPair
        Whose grades are the gold labels.
    gold_questions : int
        MMLU questions that serve as labels.
    encoder : str
        Whose cosine of .95 or more counts as the same prompt.
    random_state : int
        Of the choice of gold questions.
    """
    benchmarks = {name: load_outcomes(name, data=data) for name in BENCHMARKS}
    mmlu = benchmarks["mmlu"]
    gold = battles_from_outcomes(mmlu, pair, sample_questions(mmlu, gold_questions, random_state=random_state))
    left = ~mmlu.keys.isin(set(gold["prompt_key"]))
    evaluations = {**benchmarks, "mmlu": mmlu.select(left.to_numpy())}
    arena = load_battles("arena_human", data=data)
    judges = {name: load_battles(name, data=data) for name in JUDGES if name in battle_names(data)}
    given = {"arena": arena}
    if judges:
        given["arena+judge"] = pool_battles({"arena_human": arena, **judges})
    given["arena+gold"] = pool_battles({"arena_human": arena, "gold": gold}, balance=False)
    clean, dropped = {}, {}
    for name, votes in given.items():
        # without gold labels a router may be evaluated on the gold questions as well
        evaluated = evaluations if name == "arena+gold" else benchmarks
        clean[name], dropped[name] = decontaminate(votes, *evaluated.values(), encoder=make_encoder(encoder))
    return TrainingSets(given, clean, dropped, gold, benchmarks, evaluations)
