"""Votes with the texts of their answers, and graded answers as votes: what rankers learn from."""

from pathlib import Path

import numpy as np
import pandas as pd

from routellm_lab.benchmarks import default_pair, load_outcomes
from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.columns import text_column
from routellm_lab.costs.answer_log import AnswerLog, log_answers
from routellm_lab.costs.prices import load_prices
from routellm_lab.errors import DataError, listed
from routellm_lab.preferences.battles import models_of, validate_battles, with_prompts
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.sources import folder_responses, load_battles
from routellm_lab.settings import settings
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


def judged_by_one(votes: pd.DataFrame, name: str = "votes") -> tuple[Outcomes, str]:
    """Graded answers from the votes of one soft judge, and the opponent that most of them are against.

    Parameters
    ----------
    votes : DataFrame
        Votes with the judge's own probability (``preference_a``) are used, the others left out.
    name : str
        Of the outcomes.

    Returns
    -------
    outcomes : Outcomes
        As of `judged_answers`.
    opponent : str

    Raises
    ------
    DataError
        When no vote has a probability.
    """
    soft = votes[votes["preference_a"].notna()] if "preference_a" in votes else votes.iloc[:0]
    if soft.empty:
        raise DataError(f"{name}: no vote has the judge's own probability (preference_a); name a set that has it")
    opponent = str(soft["model_a"].mode()[0])
    return judged_answers(soft, opponent, name), opponent


def graded_with_gaps(data: str | Path, votes: str, pair: ModelPair | None = None) -> tuple[Outcomes, ModelPair]:
    """Answers whose grades differ by degrees, and a pair of models on them, for `HybridRouter`.

    Parameters
    ----------
    data : str or Path
        ``sample``: 800 questions of MT Bench, graded from 1 to 10. A folder: votes against one opponent, each answer
        graded by how likely the judge prefers it.
    votes : str
        The set of votes, in a folder.
    pair : ModelPair, optional
        Two graded models. By default, on the sample its own pair; in a folder the opponent as the strong model, and as
        the weak one the model that loses to it least.

    Returns
    -------
    Outcomes, ModelPair
    """
    if str(data) == "sample":
        return load_outcomes("mt_bench", data=data, size=800), pair or default_pair(data)
    graded, opponent = judged_by_one(load_battles(votes, data=data), votes)
    rates = graded.scores.mean()
    return graded, pair or ModelPair(strong=opponent, weak=str(rates[rates < 0.5].idxmax()))


def votes_with_answers(data: str | Path, votes: str, log: AnswerLog) -> tuple[pd.DataFrame, AnswerLog]:
    """Votes with both answers' texts for rankers to learn from, and the same answers graded, with prices.

    Parameters
    ----------
    data : str or Path
        A folder: the votes of a judge on open questions, and answers of models that have a price. ``sample`` has no
        such votes: there, right and wrong answers of ``log`` stand in.
    votes : str
        The set of votes, in a folder.
    log : AnswerLog
        With responses, for the sample.

    Returns
    -------
    votes : DataFrame
        With ``response_a`` and ``response_b``.
    log : AnswerLog
        Scores are 0 or 1 on the sample; in a folder, how likely the judge prefers an answer to that of one opponent,
        who is left out.
    """
    if str(data) == "sample":
        return answer_pairs(log), log
    answered = with_responses(load_battles(votes, data=data), data)
    graded, opponent = judged_by_one(answered, votes)
    judged = log_answers(graded, load_prices(data))
    return answered, judged.only(model for model in judged.models if model != opponent)
