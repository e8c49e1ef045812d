"""Votes with the texts of their answers, and graded answers as votes: what rankers learn from."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.columns import text_column
from routellm_lab.costs.answer_log import AnswerLog
from routellm_lab.errors import DataError, listed
from routellm_lab.preferences.battles import models_of, validate_battles, with_prompts
from routellm_lab.preferences.sources import folder_responses
from routellm_lab.settings import settings

if TYPE_CHECKING:
    pass

from routellm_lab.systems.base import preferred_for_a


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
    preferred = preferred_for_a(votes)
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
