"""Logged answers of many models on the same questions: how good each was, and what it cost."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.costs.prices import Prices
from routellm_lab.costs.tokens import PER, Tokens, count_tokens
from routellm_lab.errors import DataError, ParameterError, listed, require_names, require_number
from routellm_lab.resampling import Bootstrap, prompt_clusters


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
    priced_as : dict of str to str
        Models without a price of their own, and the model whose price is assumed for each.
    """

    outcomes: Outcomes
    dollars: pd.DataFrame = field(repr=False)
    tokens: Tokens = field(repr=False)
    excluded: Mapping[str, str] = field(default_factory=dict)
    dropped: int = 0
    priced_as: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __repr__(self) -> str:
        out = f"; left out: {listed(self.excluded, 3)}" if self.excluded else ""
        return f"AnswerLog({self.outcomes.name}: {len(self):,} questions, {len(self.models)} models{out})"

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
        """By model: mean ``score``, ``dollars`` per 1,000 questions, mean ``output_tokens`` and their basis, and
        ``priced_as`` (the model whose price is assumed; empty where it has its own)."""
        return pd.DataFrame(
            {
                "score": self.outcomes.scores[self.models].mean(),
                "dollars": PER * self.dollars.mean(),
                "output_tokens": self.tokens.output.loc[self.prompts.index, self.models].mean(),
                "output_basis": {model: self.tokens.output_basis[model] for model in self.models},
                "priced_as": {model: self.priced_as.get(model, "") for model in self.models},
            }
        ).loc[self.models]

    def resampled(self, bootstrap: Bootstrap) -> Iterator[np.ndarray]:
        """Bootstrap resamples of the questions, copies of a prompt together.

        Yields
        ------
        (b, n) array
            How often each question is drawn (`Bootstrap.counts`), scaled so that rows sum to n.
        """
        clusters = prompt_clusters(self.outcomes.keys)
        for counts in bootstrap.counts(len(self), clusters):
            yield counts if clusters is None else counts * (len(self) / counts.sum(axis=1, keepdims=True))

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
        kept = named_models(models, f"log of {self.outcomes.name}")
        unknown = [model for model in kept if model not in self.dollars]
        if unknown:
            known = f"it has {listed(self.models)}"
            raise ParameterError(f"log of {self.outcomes.name}: no model {listed(unknown)}; {known}")
        ordered = [model for model in self.models if model in kept]
        return replace(self, outcomes=_only(self.outcomes, ordered), dollars=self.dollars[ordered])

    def repriced(self, prices: Prices) -> "AnswerLog":
        """The same answers at other prices: what they would cost now.

        Parameters
        ----------
        prices : Prices
            Of every model here; one in ``priced_as`` goes on at the price of its stand-in.

        Raises
        ------
        ParameterError
            When a model has no price.
        """
        dollars = _dollars(self.tokens, prices, self.models, self.priced_as).loc[self.prompts.index]
        return replace(self, dollars=dollars[_cheapest_first(dollars)])


def named_models(models: Iterable[str], where: str) -> list[str]:
    """Names of models, each once.

    Raises
    ------
    ParameterError
        When there are none, or a single text was given, which would be read letter by letter.
    """
    names = list(dict.fromkeys(require_names(f"{where}: models", models)))
    if not names:
        raise ParameterError(f"{where}: no model given; name one or more")
    return names


def log_answers(
    outcomes: Outcomes,
    prices: Prices,
    models: Iterable[str] | None = None,
    output_tokens: float | Mapping[str, float] | None = None,
    most_missing: float = 0.05,
    priced_as: Mapping[str, str] | None = None,
) -> AnswerLog:
    """Scores and dollars of many models, from outcomes and prices.

    Parameters
    ----------
    outcomes : Outcomes
    prices : Prices
    models : iterable of str, optional
        All with scores by default: then those without a price, or with many scores or lengths of answers missing, are
        left out and named in ``excluded``. Of models that are named here every one must have a price.
    output_tokens : float or dict, optional
        As in `count_tokens`, for models whose answers' lengths are not known.
    most_missing : float
        Share of questions without a score or a length above which a model is left out, in [0, 1]; questions on which
        any of the others has none are dropped, and counted.
    priced_as : dict of str to str, optional
        For models without a price, one that has one and is assumed to cost as much; see ``AnswerLog.priced_as`` for
        those it served. Models that are not here, or have a price of their own, need none.

    Raises
    ------
    ParameterError
        When a model that is named has no price, or a parameter cannot be used.
    DataError
        When no model or no question is left, or a model that is named has no scores or lengths.
    """
    require_number("most_missing", most_missing, 0, 1)
    stand_ins = {model: other for model, other in (priced_as or {}).items() if model not in prices}
    excluded: dict[str, str] = {}
    if models is None:
        asked = []
        for model in outcomes.models:
            why = _unusable(outcomes, model, model in prices or model in stand_ins, output_tokens, most_missing)
            if why:
                excluded[model] = why
            else:
                asked.append(model)
    else:
        asked = named_models(models, f"outcomes {outcomes.name}")
    if not asked:
        none = listed([f"{model} ({why})" for model, why in excluded.items()], 5)
        raise DataError(
            f"outcomes {outcomes.name}: no model is left of {none}; add prices (load_prices(path=...) or priced_as), "
            "assume lengths with output_tokens, or raise most_missing"
        )
    tokens = count_tokens(outcomes, asked, output_tokens)
    stand_ins = {model: stand_ins[model] for model in asked if model in stand_ins}
    dollars = _dollars(tokens, prices, asked, stand_ins)
    whole = (outcomes.scores[asked].notna() & dollars.notna()).all(axis=1)
    if not whole.any():
        raise DataError(f"outcomes {outcomes.name}: no question has an answer of all of {listed(asked)}")
    kept = _only(outcomes.select(whole.to_numpy()), asked)
    order = _cheapest_first(dollars[whole])
    return AnswerLog(kept, dollars.loc[kept.prompts.index, order], tokens, excluded, int((~whole).sum()), stand_ins)


def _unusable(
    outcomes: Outcomes, model: str, priced: bool, output_tokens: float | Mapping[str, float] | None, most_missing: float
) -> str:
    """Why a model must be left out; empty when it need not."""
    if not priced:
        return "no price"
    no_score = outcomes.scores[model].isna()
    if no_score.mean() > most_missing:
        return f"{no_score.mean():.0%} of its scores are missing"
    try:
        unknown = count_tokens(outcomes, [model], output_tokens).output[model].isna()
    except DataError:  # nothing is known, and nothing assumed
        return "lengths unknown"
    too_many = (no_score | unknown).mean() > most_missing
    return f"lengths unknown on {unknown.mean():.0%} of the questions" if too_many else ""


def _dollars(tokens: Tokens, prices: Prices, models: list[str], priced_as: Mapping[str, str]) -> pd.DataFrame:
    """(n, models) USD per answer."""
    price = {model: prices[priced_as.get(model, model)] for model in models}
    return pd.DataFrame(
        {m: (tokens.input[m] * price[m].input + tokens.output[m] * price[m].output) / 1e6 for m in models}
    )


def _cheapest_first(dollars: pd.DataFrame) -> list[str]:
    return list(dollars.mean().sort_values(kind="stable").index)


def _only(outcomes: Outcomes, models: list[str]) -> Outcomes:
    """The outcomes of some models, in that order."""
    parts: dict[str, Any] = {}
    for part in ("scores", "tokens", "responses", "answer_chars", "competence"):
        frame = getattr(outcomes, part)
        if frame is not None:
            parts[part] = frame[[model for model in models if model in frame]]
    return replace(outcomes, **parts)
