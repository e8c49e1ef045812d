"""Logged answers of many models on the same questions: how good each was, and what it cost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, ParameterError, listed
from routellm_lab.policies.cost import PER, Tokens, count_tokens
from routellm_lab.policies.prices import Prices


@dataclass(frozen=True, eq=False)
class AnswerLog:
    """Scores and dollars of every model on every question, with nothing missing. Made by `log_answers`.

    Attributes
    ----------
    outcomes : Outcomes
        Of these models and questions only.
    dollars : DataFrame
        (n, models) USD per answer.
    tokens : Tokens
        What the dollars rest on.
    excluded : dict of str to str
        Models of the outcomes that are not here, and why.
    dropped : int
        Questions left out because an answer is missing.
    """

    outcomes: Outcomes
    dollars: pd.DataFrame = field(repr=False)
    tokens: Tokens = field(repr=False)
    excluded: Mapping[str, str] = field(default_factory=dict)
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def models(self) -> list[str]:
        """Names of the models, cheapest first (by mean dollars)."""
        return list(self.dollars.columns)

    @property
    def prompts(self) -> pd.Series:
        """The questions, (n,), indexed by prompt id."""
        return self.outcomes.prompts

    @property
    def scores(self) -> np.ndarray:
        """(n, models) scores, in the order of `models`."""
        return self.outcomes.scores[self.models].to_numpy(float)

    @property
    def costs(self) -> np.ndarray:
        """(n, models) USD per answer."""
        return self.dollars.to_numpy(float)

    def answers(self, reader: str) -> pd.DataFrame:
        """Texts of the answers, (n, models), for what reads them.

        Parameters
        ----------
        reader : str
            Who needs them, for the message.

        Raises
        ------
        DataError
            When those of a model are not known, or one is missing.
        """
        responses, name = self.outcomes.responses, self.outcomes.name
        unknown = [model for model in self.models if responses is None or model not in responses]
        if responses is None or unknown:
            raise DataError(
                f"outcomes {name}: {reader} reads answers, and those of {listed(unknown, 5)} are not known, only their "
                "scores (column response); gsm8k and gsm8k_models have answers (in the sample gsm8k)"
            )
        texts = responses[self.models]
        missing = texts.isna().to_numpy(bool)
        if missing.any():
            row, column = np.argwhere(missing)[0].tolist()
            raise DataError(
                f"outcomes {name}: {int(missing.sum())} answers are missing, the first of {self.models[column]} to "
                f"{texts.index[row]}; leave such models out (AnswerLog.only) or such questions (AnswerLog.select)"
            )
        return texts

    def table(self) -> pd.DataFrame:
        """By model: mean ``score``, ``dollars`` per 1,000 questions, mean ``output_tokens`` and their basis."""
        return pd.DataFrame(
            {
                "score": self.outcomes.scores[self.models].mean(),
                "dollars": PER * self.dollars.mean(),
                "output_tokens": self.tokens.output.mean(),
                "output_basis": pd.Series(self.tokens.output_basis),
            }
        ).loc[self.models]

    def select(self, rows: Any) -> "AnswerLog":
        """The log of some questions (a boolean mask (n,) or prompt ids)."""
        outcomes = self.outcomes.select(rows)
        return replace(self, outcomes=outcomes, dollars=self.dollars.loc[outcomes.prompts.index])

    def only(self, models: Iterable[str]) -> "AnswerLog":
        """The log of some models.

        Raises
        ------
        ParameterError
            When there are none, or one is not here.
        """
        kept = list(dict.fromkeys(models))
        unknown = [model for model in kept if model not in self.dollars]
        if not kept or unknown:
            known = f"it has {listed(self.models)}"
            raise ParameterError(f"log of {self.outcomes.name}: no model {listed(unknown) or 'given'}; {known}")
        ordered = [model for model in self.models if model in kept]
        return replace(self, outcomes=_only(self.outcomes, ordered), dollars=self.dollars[ordered])


def log_answers(
    outcomes: Outcomes,
    prices: Prices,
    models: Iterable[str] | None = None,
    output_tokens: float | Mapping[str, float] | None = None,
    most_missing: float = 0.05,
) -> AnswerLog:
    """Scores and dollars of many models, from outcomes and prices.

    Parameters
    ----------
    outcomes : Outcomes
    prices : Prices
    models : iterable of str, optional
        All with scores by default: then those without a price, or with many scores missing, are left out and named in
        ``excluded``. Of models that are named here every one must have a price.
    output_tokens : float or dict, optional
        As in `count_tokens`, for models whose answers' lengths are not known.
    most_missing : float
        Share of missing scores from which a model is left out, in [0, 1); questions on which any of the others has no
        score or length are dropped, and counted.

    Raises
    ------
    ParameterError
        When a model that is named has no price or scores.
    DataError
        When no model or no question is left.
    """
    excluded: dict[str, str] = {}
    if models is None:
        asked = []
        for model in outcomes.models:
            missing = float(outcomes.scores[model].isna().mean())
            if model not in prices:
                excluded[model] = "no price"
            elif missing > most_missing:
                excluded[model] = f"{missing:.0%} of its scores are missing"
            else:
                asked.append(model)
    else:
        asked = list(dict.fromkeys(models))
    if not asked:
        raise DataError(f"outcomes {outcomes.name}: no model with a price is left of {listed(outcomes.models)}")
    tokens = count_tokens(outcomes, asked, output_tokens)
    dollars = pd.DataFrame(
        {
            model: (tokens.input[model] * prices[model].input + tokens.output[model] * prices[model].output) / 1e6
            for model in asked
        }
    )
    whole = (outcomes.scores[asked].notna() & dollars.notna()).all(axis=1)
    if not whole.any():
        raise DataError(f"outcomes {outcomes.name}: no question has an answer of all of {listed(asked)}")
    kept = _only(outcomes.select(whole.to_numpy()), asked)
    order = dollars[whole].mean().sort_values(kind="stable").index
    return AnswerLog(kept, dollars.loc[kept.prompts.index, order], tokens, excluded, int((~whole).sum()))


def _only(outcomes: Outcomes, models: list[str]) -> Outcomes:
    """The outcomes of some models, in that order."""
    parts: dict[str, Any] = {}
    for part in ("scores", "tokens", "responses", "answer_chars", "competence"):
        frame = getattr(outcomes, part)
        if frame is not None:
            parts[part] = frame[[model for model in models if model in frame]]
    return replace(outcomes, **parts)
