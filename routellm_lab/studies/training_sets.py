"""The paper's three training sets, and what may be evaluated after each: all routers see the same."""

from dataclasses import dataclass, field

import pandas as pd

from routellm_lab.benchmarks import Outcomes, load_outcomes
from routellm_lab.encoders import make_encoder
from routellm_lab.errors import require_number
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
        The votes before decontamination; of ``arena+gold`` the first draw.
    clean : dict of str to DataFrame
        The votes to train on; of ``arena+gold`` the first draw.
    dropped : dict of str to DataFrame
        What decontamination took out (see `decontaminate`).
    gold_labels : list of DataFrame
        The graded questions of each draw, as battles.
    gold_draws : list of DataFrame
        ``arena+gold`` of each draw, to train on.
    benchmarks : dict of str to Outcomes
        Whole.
    evaluations : dict of str to Outcomes
        The same without the gold questions of the first draw.
    """

    given: dict[str, pd.DataFrame] = field(repr=False)
    clean: dict[str, pd.DataFrame] = field(repr=False)
    dropped: dict[str, pd.DataFrame] = field(repr=False)
    gold_labels: list[pd.DataFrame] = field(repr=False)
    gold_draws: list[pd.DataFrame] = field(repr=False)
    benchmarks: dict[str, Outcomes]
    evaluations: dict[str, Outcomes]

    @property
    def gold(self) -> pd.DataFrame:
        """The graded questions of the first draw."""
        return self.gold_labels[0]

    def draws(self, name: str) -> list[pd.DataFrame]:
        """The votes to train on, one frame per draw of the gold questions; one frame for a set without them."""
        return self.gold_draws if name == "arena+gold" else [self.clean[name]]

    def left_out(self, benchmark: str, training: str = "arena", n_draws: int | None = None) -> list[set[str]]:
        """For each draw, the prompt keys of the gold questions, which are not evaluated; none outside of MMLU.

        Fits on ``arena+gold`` may be there for the first ``n_draws`` alone; they are evaluated after those.
        """
        if benchmark != "mmlu":
            return [set()]
        last = n_draws if training == "arena+gold" else None
        return [set(gold["prompt_key"]) for gold in self.gold_labels[:last]]


def paper_training_sets(
    data: str,
    pair: ModelPair,
    gold_questions: int = 1500,
    encoder: str = "static",
    random_state: int = 0,
    n_draws: int = 1,
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
        Of the choice of gold questions; draw k (from 0) takes ``random_state + k``.
    n_draws : int
        How often the gold questions are drawn, to see how much depends on the draw.
    """
    require_number("n_draws", n_draws, low=1, whole=True)
    benchmarks = {name: load_outcomes(name, data=data) for name in BENCHMARKS}
    mmlu, encode = benchmarks["mmlu"], make_encoder(encoder)
    gold = [
        battles_from_outcomes(mmlu, pair, sample_questions(mmlu, gold_questions, random_state=random_state + draw))
        for draw in range(n_draws)
    ]
    arena = load_battles("arena_human", data=data)
    judges = {name: load_battles(name, data=data) for name in JUDGES if name in battle_names(data)}
    given = {"arena": arena}
    if judges:
        given["arena+judge"] = pool_battles({"arena_human": arena, **judges})
    # without gold labels a router may be evaluated on the gold questions as well
    cleaned = {name: decontaminate(votes, *benchmarks.values(), encoder=encode) for name, votes in given.items()}
    with_gold = [pool_battles({"arena_human": arena, "gold": labels}, balance=False) for labels in gold]
    gold_draws = []
    for votes, labels in zip(with_gold, gold, strict=True):
        rest = {**benchmarks, "mmlu": mmlu.select(~mmlu.keys.isin(set(labels["prompt_key"])).to_numpy())}
        gold_draws.append(decontaminate(votes, *rest.values(), encoder=encode))
        if len(gold_draws) == 1:
            evaluations = rest
    given["arena+gold"], cleaned["arena+gold"] = with_gold[0], gold_draws[0]
    clean, dropped = ({name: both[part] for name, both in cleaned.items()} for part in (0, 1))
    return TrainingSets(given, clean, dropped, gold, [votes for votes, _ in gold_draws], benchmarks, evaluations)
