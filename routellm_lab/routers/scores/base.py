"""What every score router is: an estimator that turns prompts into the expected score of each model."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.encoders import as_texts
from routellm_lab.errors import DataError, ParameterError, listed, nearest, require_numbers
from routellm_lab.routers.saving import RouterBase
from routellm_lab.routers.saving.fields import NAMES, NUMBER, Array, Field


class ScoreRouter(RouterBase, ABC):
    """Base of all score routers. The constructor only stores; `fit` learns from outcomes; `expected_scores` answers.

    Missing scores are legal: a model is learned from the prompts on which it has one.

    Attributes
    ----------
    models_ : list of str
        In the order of the outcomes; models that were added come last.
    low_, high_ : float
        Range of the scores seen in `fit`; expected scores stay within.
    """

    name: str = "scores"
    """What tables and plots call it."""

    saved: ClassVar[Mapping[str, Field]] = {"models_": NAMES, "low_": NUMBER, "high_": NUMBER}

    models_: list[str]
    low_: float
    high_: float

    def fit(self, outcomes: Outcomes, y: Any = None) -> Self:
        """Learn from graded answers.

        Parameters
        ----------
        outcomes : Outcomes
            Prompts without any score are left out.

        Raises
        ------
        DataError
            When a model has no score, or there are too few prompts.
        ParameterError
            For something else than outcomes, or a parameter that cannot be used.
        """
        if not isinstance(outcomes, Outcomes):
            raise ParameterError(f"outcomes must be Outcomes (see load_outcomes), got {type(outcomes).__name__}")
        known = outcomes.scores.notna()
        bare = [model for model in outcomes.models if not known[model].any()]
        if bare or not outcomes.models:
            raise DataError(
                f"outcomes {outcomes.name}: no score of model {listed(bare) or '(none given)'}; leave it out"
            )
        outcomes = outcomes.select(known.any(axis=1).to_numpy())
        scores = outcomes.scores.to_numpy(float)
        self.models_ = outcomes.models
        self.low_, self.high_ = float(np.nanmin(scores)), float(np.nanmax(scores))
        self.learn(outcomes, scores)
        return self

    def expected_scores(self, prompts: Iterable[str]) -> pd.DataFrame:
        """The score to expect of each model on each prompt.

        Parameters
        ----------
        prompts : iterable of str, (n,)
            The index of a Series is kept.

        Returns
        -------
        (n, models) DataFrame
            In the unit of the scores, within their range.

        Raises
        ------
        DataError
            When the prompts are no list of texts, or an expected score is NaN or infinite.
        """
        check_is_fitted(self, "models_")
        texts = as_texts(prompts)
        index = prompts.index if isinstance(prompts, pd.Series) else None
        values = self._usable(self.compute_expected_scores(texts)) if texts else np.zeros((0, len(self.models_)))
        return pd.DataFrame(values.clip(self.low_, self.high_), index=index, columns=self.models_)

    def route(self, prompts: Iterable[str], models: Sequence[str] | None = None) -> np.ndarray:
        """The model with the highest expected score for each prompt, whatever it costs; of equal ones the first.

        Prices come in with `routellm_lab.policies.route_many`.

        Parameters
        ----------
        prompts : iterable of str, (n,)
        models : sequence of str, optional
            To choose from; all by default.

        Returns
        -------
        (n,) array of str

        Raises
        ------
        ParameterError
            When there is no model to choose from, or an unknown one.
        DataError
            As `expected_scores` does.
        """
        check_is_fitted(self, "models_")
        chosen = self.models_ if models is None else list(models)
        unknown = [name for name in chosen if name not in self.models_]
        if unknown or not chosen:
            raise ParameterError(f"models: {listed(unknown) or 'none given'}; the router knows {listed(self.models_)}")
        scores = self.expected_scores(prompts)[chosen].to_numpy()
        return np.array(chosen, dtype=object)[scores.argmax(axis=1)].astype(str)

    def add_model(self, name: str, scores: pd.Series, prompts: pd.Series) -> Self:
        """A router that knows one more model, from a few labels; the models known so far keep their expected scores.

        Nothing is fitted again: the new model is taken for one more draw from those known, about their mean and
        with their covariance, and its labels correct that (empirical Bayes; Efron & Morris 1975). With few labels it
        is therefore close to a mix of the known models.

        Parameters
        ----------
        name : str
        scores : Series
            Scores of the new model, by prompt id; missing ones are left out.
        prompts : Series of str
            By prompt id; more than those in ``scores`` are no harm.

        Returns
        -------
        ScoreRouter
            A new one; this one is unchanged.

        Raises
        ------
        ParameterError
            For a name that is taken, or a router that cannot add models.
        DataError
            For scores without a prompt, outside the range seen in `fit`, or none at all.
        """
        check_is_fitted(self, "models_")
        if name in self.models_:
            raise ParameterError(f"name: {name!r} is among the models already; drop_model it first, or rename it")
        if not isinstance(scores, pd.Series) or not isinstance(prompts, pd.Series):
            raise ParameterError("scores and prompts must be Series by prompt id: outcomes.of(model), outcomes.prompts")
        scores = scores.dropna().astype(float)
        if scores.empty or scores.index.has_duplicates:
            raise DataError(f"scores of {name!r}: needs one score or more, each of another prompt id")
        unknown = scores.index.difference(prompts.index)
        if len(unknown):
            raise DataError(f"scores of {name!r}: no such prompt id in prompts: {listed(unknown)}")
        if not scores.between(self.low_, self.high_).all():
            raise DataError(
                f"scores of {name!r}: must be from {self.low_:g} to {self.high_:g}, the range the router was fitted "
                "on; rescale them, or fit again with all models"
            )
        columns = self._new_columns(as_texts(prompts.loc[scores.index]), scores.to_numpy())
        new = copy.copy(self)
        for part, column in columns.items():
            setattr(new, part, np.concatenate([getattr(self, part), column[..., None]], axis=-1))
        new.models_ = [*self.models_, name]
        return new

    def drop_model(self, name: str) -> Self:
        """A router without this model; nothing is fitted again, and this one is unchanged.

        Raises
        ------
        ParameterError
            For an unknown model, or the last one.
        """
        check_is_fitted(self, "models_")
        if name not in self.models_:
            raise ParameterError(f"name: no model {name!r}; nearest: {nearest(name, self.models_)}")
        if len(self.models_) == 1:
            raise ParameterError(f"name: {name!r} is the only model left; add_model another one first")
        new, place = copy.copy(self), self.models_.index(name)
        for part in self._per_model():
            setattr(new, part, np.delete(getattr(self, part), place, axis=-1))
        new.models_ = [model for model in self.models_ if model != name]
        return new

    @classmethod
    def _per_model(cls) -> list[str]:
        """Fitted arrays whose last axis is the models: all that is known of a model beside its name."""
        return [name for name, field in cls._fields().items() if isinstance(field, Array) and field.sizes[-1] == "m"]

    def check_learned(self) -> None:
        super().check_learned()
        if not self.models_ or self.low_ > self.high_:
            raise ValueError(f"{len(self.models_)} models, with scores from {self.low_} to {self.high_}")

    def _encode(self, prompts: Iterable[str]) -> np.ndarray:
        return super()._encode(prompts).astype(float)

    def _features(self, prompts: Iterable[str]) -> np.ndarray:
        """Encoded prompts and a column of ones, (n, d + 1)."""
        vectors = self._encode(prompts)
        return np.column_stack([vectors, np.ones(len(vectors))])

    def _to_share(self, scores: np.ndarray) -> np.ndarray:
        """Scores as shares of the range, in [0, 1]."""
        return (scores - self.low_) / ((self.high_ - self.low_) or 1.0)

    def _from_share(self, share: np.ndarray) -> np.ndarray:
        return self.low_ + share * (self.high_ - self.low_)

    @abstractmethod
    def learn(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        """Learn from outcomes whose scores (n, m) are known for every prompt and model at least once."""

    @abstractmethod
    def compute_expected_scores(self, texts: list[str]) -> np.ndarray:
        """Expected scores of prompts, (n, m), not yet within the range."""

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        """What each array of `_per_model` holds of a new model, without its last axis."""
        raise ParameterError(f"{type(self).__name__} cannot add a model to those of its votes; fit again with all")


def check_positive(router: ScoreRouter, name: str, whole: bool = False) -> None:
    """Refuse what is no list, range or array of numbers above 0."""
    require_numbers(f"{type(router).__name__}: {name}", getattr(router, name), 0, whole=whole, inside=True)
