"""Utility routers: what score would each of k models reach on this prompt? Learned from graded answers, not votes.

They know no prices: what a model costs is weighed against its utility later, so that a new price needs no refit.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.encoders import as_texts
from routellm_lab.errors import DataError, ParameterError, listed, nearest, require_number, require_numbers
from routellm_lab.preferences.battles import validate_battles
from routellm_lab.preferences.difficulty import fit_difficulty
from routellm_lab.preferences.models import ModelPair
from routellm_lab.preferences.splits import prompt_ranks, split_by_prompt
from routellm_lab.routers.base import ManyModelRouter, sigmoid
from routellm_lab.routers.saving import RouterBase, Saved, saved_names, saved_number

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

_COUNTS = ("k_", "n_clusters_")
"""Fitted numbers that are whole."""

_AT_ONCE = 2048
"""Prompts whose neighbours are averaged at once: bounds the memory."""

_OWN_SHARE = 0.1
"""Prior variance of a new model's deviations from all mixes of the known ones, as a share of that which a model has in
`fit`: on MMLU-Pro and the sample, smaller shares are as good from 10 to 200 labels, and larger ones worse."""

_OWN_LEVEL = 0.1
"""Prior standard deviation of its level about that of such a mix, as a share of the range of the scores."""


class UtilityRouter(RouterBase, ABC):
    """Base of all utility routers. The constructor only stores; `fit` learns from outcomes; `utilities` answers.

    Missing scores are legal: a model is learned from the prompts on which it has one.

    Attributes
    ----------
    models_ : list of str
        In the order of the outcomes; models that were added come last.
    low_, high_ : float
        Range of the scores seen in `fit`; utilities stay within.
    """

    name: str = "utility"
    """What tables and plots call it."""

    _in_config = ("models_", "low_", "high_")

    _per_model: tuple[str, ...] = ()
    """Fitted arrays whose last axis is the models: all that is known of a model beside its name."""

    _shared: tuple[str, ...] = ()
    """What else is fitted: arrays and numbers."""

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
        self._fit(outcomes, scores)
        return self

    def utilities(self, prompts: Iterable[str]) -> pd.DataFrame:
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
            When the prompts are no list of texts, or a utility is NaN or infinite.
        """
        check_is_fitted(self, "models_")
        texts = as_texts(prompts)
        index = prompts.index if isinstance(prompts, pd.Series) else None
        values = self._usable(self._utilities(texts)) if texts else np.zeros((0, len(self.models_)))
        return pd.DataFrame(values.clip(self.low_, self.high_), index=index, columns=self.models_)

    def add_model(self, name: str, scores: pd.Series, prompts: pd.Series) -> Self:
        """A router that knows one more model, from a few labels; the models known so far keep their utilities.

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
        UtilityRouter
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
        for part in self._per_model:
            setattr(new, part, np.delete(getattr(self, part), place, axis=-1))
        new.models_ = [model for model in self.models_ if model != name]
        return new

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        learned = {name: getattr(self, name) for name in (*self._per_model, *self._shared)}
        arrays = {name: value for name, value in learned.items() if isinstance(value, np.ndarray)}
        return arrays, {name: value for name, value in learned.items() if name not in arrays}

    def _restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        for name in (*self._per_model, *self._shared):
            setattr(self, name, arrays[name] if name in arrays else saved_number(state[name], name in _COUNTS))

    def _sizes(self) -> Mapping[str, int]:
        width = self._width() if "encoder" in self._get_param_names() else {}
        return {"m": len(self.models_), **width, **({"f": width["d"] + 1} if width else {})}

    def _check_config(self) -> None:
        self.models_ = saved_names(self.models_)
        self.low_, self.high_ = saved_number(self.low_), saved_number(self.high_)
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
    def _fit(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        """Learn from outcomes whose scores (n, m) are known for every prompt and model at least once."""

    @abstractmethod
    def _utilities(self, texts: list[str]) -> np.ndarray:
        """Utilities of prompts, (n, m), not yet within the range."""

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        """What each of `_per_model` holds of a new model, without its last axis."""
        raise ParameterError(f"{type(self).__name__} cannot add a model to those of its votes; fit again with all")


class ConstantUtility(UtilityRouter):
    """Every model's mean score, whatever the prompt: the best single model, and what any other router has to beat.

    Attributes
    ----------
    mean_ : (m,) array
    """

    name = "constant"
    _per_model = ("mean_",)
    _arrays: ClassVar[Mapping[str, Saved]] = {"mean_": Saved("m")}

    def _fit(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        self.mean_ = np.nanmean(scores, axis=0)

    def _utilities(self, texts: list[str]) -> np.ndarray:
        return np.tile(self.mean_, (len(texts), 1))

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean_": np.array(scores.mean())}


class RidgeUtility(UtilityRouter):
    """Ridge regression of every model's score on the encoded prompt.

    Parameters
    ----------
    encoder : str or Encoder
    alphas : sequence of float
        Penalties to choose from, for each model, by the leave-one-prompt-out squared error.

    Attributes
    ----------
    alphas_ : (m,) array
        The chosen penalties.
    coefficients_ : (d + 1, m) array
        The last row is the intercept.
    """

    name = "ridge"
    _per_model = ("alphas_", "coefficients_")
    _shared = ("noise_",)
    _arrays: ClassVar[Mapping[str, Saved]] = {"alphas_": Saved("m"), "coefficients_": Saved("f", "m")}

    def __init__(self, encoder: Any = "static", alphas: Sequence[float] = PENALTIES) -> None:
        self.encoder = encoder
        self.alphas = alphas

    def _fit(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        from sklearn.linear_model import RidgeCV

        _check_positive(self, "alphas")
        vectors, known = self._encode(outcomes.prompts), ~np.isnan(scores)
        self.alphas_, self.coefficients_ = np.empty(scores.shape[1]), np.empty((vectors.shape[1] + 1, scores.shape[1]))
        error = 0.0
        # models with scores on the same prompts are solved at once
        patterns, pattern_of = np.unique(known, axis=1, return_inverse=True)
        for number, rows in enumerate(patterns.T):
            models = np.flatnonzero(pattern_of == number)
            if rows.sum() < 2:
                raise DataError(f"RidgeUtility: model {self.models_[models[0]]!r} has a single score; leave it out")
            targets = scores[np.ix_(rows, models)]
            ridge = RidgeCV(alphas=list(self.alphas), alpha_per_target=True).fit(vectors[rows], targets)
            self.alphas_[models] = ridge.alpha_
            self.coefficients_[:-1, models] = np.atleast_2d(ridge.coef_).T
            self.coefficients_[-1, models] = ridge.intercept_
            error += ((targets - ridge.predict(vectors[rows]).reshape(targets.shape)) ** 2).sum()
        self.noise_ = error / known.sum()

    def _utilities(self, texts: list[str]) -> np.ndarray:
        return self._features(texts) @ self.coefficients_

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        alpha = float(np.exp(np.log(self.alphas_).mean()))
        own = np.sqrt(self.noise_ / alpha * _OWN_SHARE) * np.eye(len(self.coefficients_))
        own[-1, -1] = _OWN_LEVEL * (self.high_ - self.low_)
        features = self._features(texts)
        return {
            "alphas_": np.array(alpha),
            "coefficients_": _one_more(self.coefficients_, own, features, scores, self.noise_),
        }


class LogisticUtility(UtilityRouter):
    """Logistic regression of every model's score, as a share of the range, on the encoded prompt.

    Parameters
    ----------
    encoder : str or Encoder
    penalties : sequence of float
        Of the squared coefficients (half of them), to choose from, for all models, by the held-out log loss.
    folds : int
        Parts of the prompts, by ``keys``, each of which is held out in turn.
    random_state : int

    Attributes
    ----------
    penalty_ : float
    coefficients_ : (d + 1, m) array
        Of the log-odds; the last row is the intercept.
    """

    name = "logistic"
    _per_model = ("coefficients_",)
    _shared = ("penalty_",)
    _arrays: ClassVar[Mapping[str, Saved]] = {"coefficients_": Saved("f", "m")}

    def __init__(
        self,
        encoder: Any = "static",
        penalties: Sequence[float] = (0.3, 1.0, 3.0, 10.0, 30.0),
        folds: int = 3,
        random_state: int = 0,
    ) -> None:
        self.encoder = encoder
        self.penalties = penalties
        self.folds = folds
        self.random_state = random_state

    def _fit(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        _check_positive(self, "penalties")
        parts = _training_parts(outcomes, self.folds, self.random_state)
        features, targets = self._features(outcomes.prompts), self._to_share(scores)
        penalty = [np.append(np.full(features.shape[1] - 1, float(value)), 1e-3) for value in self.penalties]
        losses = np.zeros(len(penalty))
        for train in parts if len(penalty) > 1 else ():
            start = None
            for place in np.argsort(self.penalties)[::-1]:
                start = _logistic(features[train], targets[train], penalty[place], start=start)
                logit = features[~train] @ start
                losses[place] += np.nansum(np.logaddexp(0, logit) - targets[~train] * logit)
        best = int(np.argmin(losses))
        self.penalty_ = float(self.penalties[best])
        self.coefficients_ = _logistic(features, targets, penalty[best])

    def _utilities(self, texts: list[str]) -> np.ndarray:
        return self._from_share(sigmoid(self._features(texts) @ self.coefficients_))

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        own = np.sqrt(_OWN_SHARE / self.penalty_) * np.eye(len(self.coefficients_))
        own[-1, -1] = 4 * _OWN_LEVEL  # log-odds have a slope of 4 at one half
        features = self._features(texts)
        return {"coefficients_": _one_more(self.coefficients_, own, features, self._to_share(scores))}


class NearestUtility(UtilityRouter):
    """Every model's mean score on the nearest prompts (cosine), its overall mean counted as one more of them.

    Parameters
    ----------
    encoder : str or Encoder
    neighbours : sequence of int
        Numbers of neighbours to choose from, for all models, by the squared error on held-out prompts.
    folds, random_state
        As in `LogisticUtility`.

    Attributes
    ----------
    k_ : int
        The chosen number of neighbours.
    """

    name = "nearest"
    _per_model = ("scores_",)
    _shared = ("vectors_", "k_")
    _arrays: ClassVar[Mapping[str, Saved]] = {"scores_": Saved("n", "m", gaps=True), "vectors_": Saved("n", "d")}

    def __init__(
        self,
        encoder: Any = "static",
        neighbours: Sequence[int] = (5, 10, 20, 40, 80, 160),
        folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.encoder = encoder
        self.neighbours = neighbours
        self.folds = folds
        self.random_state = random_state

    def _fit(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        _check_positive(self, "neighbours", whole=True)
        parts = _training_parts(outcomes, self.folds, self.random_state)
        vectors = self._encode(outcomes.prompts)
        most = int(parts.sum(axis=1).min())  # the smallest training part must hold as many prompts
        sizes = sorted({min(int(k), most) for k in self.neighbours})
        errors = np.zeros(len(sizes))
        for train in parts if len(sizes) > 1 else ():
            means = _neighbour_means(vectors[train], scores[train], vectors[~train], sizes)
            errors += [np.nansum((mean - scores[~train]) ** 2) for mean in means]
        self.k_ = sizes[int(np.argmin(errors))]
        self.vectors_, self.scores_ = vectors, scores

    def _sizes(self) -> Mapping[str, int]:
        if not 1 <= self.k_ <= len(self.vectors_):
            raise ValueError(f"{self.k_} neighbours of {len(self.vectors_)} prompts")
        return super()._sizes()

    def _utilities(self, texts: list[str]) -> np.ndarray:
        return _neighbour_means(self.vectors_, self.scores_, self._encode(texts), [self.k_])[0]

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        # the utility is a mean of scores, so that a mix of utilities is the utility of mixed scores
        graph = np.zeros((len(texts), len(self.vectors_)))
        np.put_along_axis(graph, _nearest(self.vectors_, self._encode(texts), self.k_), 1, axis=1)
        features = (graph + 1 / len(self.vectors_)) / (self.k_ + 1)
        mean = np.nanmean(self.scores_, axis=0)
        known, noise = np.where(np.isnan(self.scores_), mean, self.scores_), np.nanmean((self.scores_ - mean) ** 2)
        own = np.full((len(known), 1), _OWN_LEVEL * (self.high_ - self.low_))
        return {"scores_": _one_more(known, own, features, scores, float(noise))}


class ClusterUtility(UtilityRouter):
    """Every model's mean score in the prompt's cluster (k-means), shrunk towards its overall mean.

    The argmax is the best model of the cluster.

    Parameters
    ----------
    encoder : str or Encoder
    clusters : sequence of int
        Numbers of clusters to choose from by the squared error on held-out scores. The clusters themselves are made
        of all prompts, as they do not know scores.
    shrinkage : float
        How many scores the overall mean counts for, > 0.
    folds : int
        Parts of the prompts, by ``keys``, whose scores are held out in turn.
    random_state : int

    Attributes
    ----------
    n_clusters_ : int
    centres_ : (c, d) array
    means_ : (c, m) array
        Shrunk mean scores by cluster.
    sizes_ : (c,) array
        Training prompts by cluster.
    """

    name = "clusters"
    _per_model = ("means_",)
    _shared = ("centres_", "n_clusters_", "sizes_", "noise_")
    _arrays: ClassVar[Mapping[str, Saved]] = {
        "means_": Saved("c", "m"),
        "centres_": Saved("c", "d"),
        "sizes_": Saved("c", kind="int"),
    }

    def __init__(
        self,
        encoder: Any = "static",
        clusters: Sequence[int] = (5, 10, 20, 40, 80, 160),
        shrinkage: float = 10.0,
        folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.encoder = encoder
        self.clusters = clusters
        self.shrinkage = shrinkage
        self.folds = folds
        self.random_state = random_state

    def _fit(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        from sklearn.cluster import KMeans

        _check_positive(self, "clusters", whole=True)
        require_number("ClusterUtility: shrinkage", self.shrinkage, 0, inside=True)
        parts = _training_parts(outcomes, self.folds, self.random_state)
        vectors = self._encode(outcomes.prompts)
        distinct, best = len(np.unique(vectors, axis=0)), np.inf
        for size in sorted({min(int(c), distinct) for c in self.clusters}):
            kmeans = KMeans(size, n_init=1, random_state=self.random_state).fit(vectors)
            member = np.eye(size)[kmeans.labels_]
            error = 0.0
            for train in parts:
                means = self._shrunk_means(member[train], scores[train])
                error += float(np.nansum((member[~train] @ means - scores[~train]) ** 2))
            if error < best:
                best, self.n_clusters_, self.centres_ = error, size, kmeans.cluster_centers_
                self.means_, self.sizes_ = self._shrunk_means(member, scores), member.sum(axis=0).astype(int)
                self.noise_ = float(np.nanmean((member @ self.means_ - scores) ** 2))

    def _shrunk_means(self, member: np.ndarray, scores: np.ndarray) -> np.ndarray:
        total, count = member.T @ np.nan_to_num(scores), member.T @ ~np.isnan(scores)
        overall = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
        return (total + self.shrinkage * overall) / (count + self.shrinkage)

    def cluster_of(self, prompts: Iterable[str]) -> np.ndarray:
        """Number of the cluster of each prompt, (n,), counted from 0."""
        from sklearn.metrics import pairwise_distances_argmin

        check_is_fitted(self, "models_")
        texts = as_texts(prompts)
        return pairwise_distances_argmin(self._encode(texts), self.centres_) if texts else np.zeros(0, int)

    def _sizes(self) -> Mapping[str, int]:
        return {"c": self.n_clusters_, **super()._sizes()}

    def _utilities(self, texts: list[str]) -> np.ndarray:
        return self.means_[self.cluster_of(texts)]

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        features = np.eye(self.n_clusters_)[self.cluster_of(texts)]
        own = np.sqrt(self.noise_ / self.shrinkage * _OWN_SHARE) * np.eye(self.n_clusters_)
        level = np.full((self.n_clusters_, 1), _OWN_LEVEL * (self.high_ - self.low_))
        return {"means_": _one_more(self.means_, np.hstack([own, level]), features, scores, self.noise_)}


class ResponseTheoryUtility(UtilityRouter):
    """Item response theory: P(m is right on x) = sigmoid(a_m (theta_m - b(x))), the difficulty b told from the text.

    The difficulty of the training prompts comes from `routellm_lab.preferences.difficulty.fit_difficulty`, that of a
    new one from ridge regression on the encoded prompt. What is told from a text varies less than the difficulty
    itself; abilities and discriminations are therefore fitted again, on told difficulties of held-out prompts.

    Parameters
    ----------
    encoder : str or Encoder
    alphas : sequence of float
        Penalties of the ridge regression to choose from, by the leave-one-prompt-out squared error.
    folds : int
        Parts of the prompts, by ``keys``, whose difficulty is told by the others.
    random_state : int

    Attributes
    ----------
    coefficients_, intercept_ : (d,) array, float
        Of the difficulty, on the encoded prompt.
    response_ : (2, m) array
        a_m theta_m and a_m of every model.
    ability_, discrimination_ : Series
        theta_m and a_m, by model.
    explained_ : float
        Share of the variance of the difficulty that the text tells on held-out prompts.

    Notes
    -----
    One difficulty for all models: which of two models is better can differ between prompts only through their
    discriminations. At least two models are needed to tell difficulty from luck.
    """

    name = "response_theory"
    _per_model = ("response_",)
    _shared = ("coefficients_", "intercept_", "explained_")
    _arrays: ClassVar[Mapping[str, Saved]] = {"response_": Saved(2, "m"), "coefficients_": Saved("d")}

    def __init__(
        self, encoder: Any = "static", alphas: Sequence[float] = PENALTIES, folds: int = 5, random_state: int = 0
    ) -> None:
        self.encoder = encoder
        self.alphas = alphas
        self.folds = folds
        self.random_state = random_state

    def _fit(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        from sklearn.linear_model import RidgeCV
        from sklearn.model_selection import PredefinedSplit, cross_val_predict

        _check_positive(self, "alphas")
        parts = _training_parts(outcomes, self.folds, self.random_state)
        shares = pd.DataFrame(self._to_share(scores), outcomes.scores.index, outcomes.scores.columns)
        difficulty = fit_difficulty(replace(outcomes, scores=shares)).difficulty.to_numpy()
        vectors, ridge = self._encode(outcomes.prompts), RidgeCV(alphas=list(self.alphas))
        told = cross_val_predict(ridge, vectors, difficulty, cv=PredefinedSplit(parts.argmin(axis=0)))
        self.explained_ = float(1 - ((told - difficulty) ** 2).mean() / difficulty.var())
        ridge.fit(vectors, difficulty)
        self.coefficients_, self.intercept_ = ridge.coef_, float(ridge.intercept_)
        self.response_ = _logistic(_response_features(told), shares.to_numpy(), np.full(2, 1e-2))

    @property
    def ability_(self) -> pd.Series:
        """theta, (m,): the difficulty at which a model gets half of the range."""
        return pd.Series(self.response_[0] / self.response_[1], self.models_, name="ability")

    @property
    def discrimination_(self) -> pd.Series:
        """a, (m,): how sharply a model's scores fall with the difficulty told."""
        return pd.Series(self.response_[1], self.models_, name="discrimination")

    def difficulty(self, prompts: Iterable[str]) -> np.ndarray:
        """Difficulty told from the text, (n,): 0 is the mean and 1 the standard deviation of those measured."""
        check_is_fitted(self, "models_")
        texts = as_texts(prompts)
        return self._encode(texts) @ self.coefficients_ + self.intercept_ if texts else np.zeros(0)

    def _utilities(self, texts: list[str]) -> np.ndarray:
        return self._from_share(sigmoid(_response_features(self.difficulty(texts)) @ self.response_))

    def _new_columns(self, texts: list[str], scores: np.ndarray) -> dict[str, np.ndarray]:
        features, own = _response_features(self.difficulty(texts)), np.diag([4 * _OWN_LEVEL, 0.2])
        return {"response_": _one_more(self.response_, own, features, self._to_share(scores))}


class RatedUtility(UtilityRouter):
    """A router that learns from votes, with its log-strengths as expected scores.

    Gold votes between random pairs of models (see `random_battles`) teach the router. Votes compare models and do not
    say how hard a prompt is: only a log-strength less the mean of all models on the prompt counts, and of that what
    differs from prompt to prompt. The utility is the model's mean score plus this difference times one slope, fitted to
    prompts that the router has not seen; then the router learns again from all. No model can be added.

    Parameters
    ----------
    router : ManyModelRouter
        Unfitted. Its ``pair`` is of no account: the best and the worst model take its place. A
        `SimilarityWeightedRouter` wants as many tiers as there are models: those of one tier are alike to it.
    pairs_per_prompt : int
        Votes on one prompt, at most.
    held_out : float
        Share of the prompts that the slope is fitted to, in (0, 1).
    random_state : int

    Attributes
    ----------
    router_ : ManyModelRouter
    slope_ : float
        Score per unit of log-strength, >= 0.
    """

    _per_model = ("mean_", "usual_")
    _shared = ("slope_",)
    _arrays: ClassVar[Mapping[str, Saved]] = {"mean_": Saved("m"), "usual_": Saved("m")}

    def __init__(
        self, router: ManyModelRouter, pairs_per_prompt: int = 20, held_out: float = 0.2, random_state: int = 0
    ) -> None:
        self.router = router
        self.pairs_per_prompt = pairs_per_prompt
        self.held_out = held_out
        self.random_state = random_state

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.router.name

    def _fit(self, outcomes: Outcomes, scores: np.ndarray) -> None:
        self.mean_ = np.nanmean(scores, axis=0)
        battles = random_battles(outcomes, self.pairs_per_prompt, self.random_state)
        train, rest = split_by_prompt(pd.DataFrame({"prompt_key": outcomes.keys}), self.held_out, self.random_state)
        learned = self._learn(battles[battles["prompt_key"].isin(outcomes.keys.iloc[train])])
        strength, targets = self._strength(learned, outcomes.prompts.iloc[rest]), scores[rest]
        known = ~np.isnan(targets)
        apart, above = strength - strength.mean(axis=0), targets - self.mean_
        # a negative slope would say that the votes mislead: then they count for nothing
        self.slope_ = max(float((apart * above)[known].sum() / max((apart[known] ** 2).sum(), 1e-12)), 0.0)
        self.router_ = self._learn(battles)
        self.usual_ = self._strength(self.router_, outcomes.prompts).mean(axis=0)

    def _learn(self, battles: pd.DataFrame) -> ManyModelRouter:
        best, worst = (self.models_[int(place)] for place in (np.argmax(self.mean_), np.argmin(self.mean_)))
        if best == worst:  # all are alike
            best, worst = self.models_[:2]
        router = clone(self.router).set_params(pair=ModelPair(best, worst)).fit(battles.reset_index(drop=True))
        silent = [model for model in self.models_ if model not in router.models_]
        if silent:
            raise DataError(f"RatedUtility: no vote on model {listed(silent)}; give more prompts, or leave it out")
        return router

    def _strength(self, router: ManyModelRouter, texts: Iterable[str]) -> np.ndarray:
        """Log-strengths less the mean of all models that the router knows, (n, m)."""
        utilities = router.utilities(texts)
        return utilities.sub(utilities.mean(axis=1), axis=0)[self.models_].to_numpy()

    def _encoder_identity(self) -> str | None:
        return self.router._encoder_identity()

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        (arrays, state), (inner, inner_state) = super()._state(), self.router_._state()
        router = {"router": self.router_, "pair_used": self.router_.pair_used_, "state": inner_state}
        return arrays | {f"router.{name}": value for name, value in inner.items()}, state | router

    def _restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        super()._restore(arrays, state)
        inner = {name.removeprefix("router."): value for name, value in arrays.items() if name.startswith("router.")}
        self.router_ = state["router"]
        self.router_.pair_used_ = state["pair_used"]
        if "encoder" in self.router.get_params():  # the one that was checked
            self.router_.set_params(encoder=self.router.encoder)
        self.router_._check()
        self.router_._check_config()
        self.router_._restore(inner, state["state"])
        if not set(self.models_) <= set(self.router_.models_):
            raise ValueError(f"no votes on model {listed(set(self.models_) - set(self.router_.models_))}")
        if self.router_._encoder_identity() != self._encoder_identity():
            raise ValueError("the router within was fitted on another encoder")

    def _declared(self, state: Mapping[str, Any]) -> Mapping[str, Saved] | None:
        if not isinstance(state["router"], ManyModelRouter):
            raise ValueError(f"{state['router']!r} is no router of many models")
        inner = state["router"]._declared(state["state"])
        if inner is None:
            return None
        return {**self._arrays, **{f"router.{name}": saved.within("router.") for name, saved in inner.items()}}

    def _sizes(self) -> Mapping[str, int]:
        return {**super()._sizes(), **{f"router.{name}": size for name, size in self.router_._sizes().items()}}

    def _utilities(self, texts: list[str]) -> np.ndarray:
        return self.mean_ + self.slope_ * (self._strength(self.router_, texts) - self.usual_)


def random_battles(outcomes: Outcomes, pairs_per_prompt: int = 20, random_state: int = 0) -> pd.DataFrame:
    """Gold votes between random pairs of models: the higher score wins, equal ones tie.

    Parameters
    ----------
    outcomes : Outcomes
    pairs_per_prompt : int
        Different pairs on each prompt, at most; those with a missing score are left out.
    random_state : int

    Returns
    -------
    DataFrame
        Battles with ``judge`` "gold" and the benchmark as ``source``.

    Raises
    ------
    DataError
        When no prompt has the scores of two models.
    """
    require_number("pairs_per_prompt", pairs_per_prompt, 1, whole=True)
    scores, rng = outcomes.scores.to_numpy(float), np.random.default_rng(random_state)
    a, b = np.triu_indices(scores.shape[1], 1)
    if not len(a):
        raise DataError(f"outcomes {outcomes.name}: votes need the scores of at least 2 models")
    drawn = rng.random((len(scores), len(a)))
    drawn[np.isnan(scores[:, a]) | np.isnan(scores[:, b])] = np.inf
    pair = np.argsort(drawn, axis=1)[:, :pairs_per_prompt]
    row, place = np.nonzero(np.isfinite(np.take_along_axis(drawn, pair, axis=1)))
    if not len(row):
        raise DataError(f"outcomes {outcomes.name}: no prompt has the scores of two models")
    a, b = a[pair[row, place]], b[pair[row, place]]
    turned = rng.random(len(row)) < 0.5  # neither side belongs to the models that are listed first
    a, b = np.where(turned, b, a), np.where(turned, a, b)
    gap, names = scores[row, a] - scores[row, b], np.array(outcomes.models, dtype=object)
    battles = pd.DataFrame(
        {
            "prompt": outcomes.prompts.to_numpy()[row],
            "prompt_key": outcomes.keys.to_numpy()[row],
            "model_a": names[a],
            "model_b": names[b],
            "winner": np.select([gap > 0, gap < 0], ["model_a", "model_b"], "tie"),
            "judge": "gold",
            "source": outcomes.name,
        }
    )
    return validate_battles(battles, where=f"votes of random pairs on {outcomes.name}")


def _one_more(
    known: np.ndarray, own: np.ndarray, features: np.ndarray, scores: np.ndarray, noise: float | None = None
) -> np.ndarray:
    """Parameters of one more model, (p,): the mode of the posterior under a normal prior with mean and covariance of
    the known models' parameters (p, m), and own deviations along the columns of ``own`` (p, q), of variance 1.

    The utility is ``features @ parameters``, (n,): with normal errors of variance ``noise``, or, without one, the
    log-odds of a score in [0, 1].
    """
    from sklearn.linear_model import Ridge

    mean = known.mean(axis=1)
    axes = np.hstack([(known - mean[:, None]) / np.sqrt(known.shape[1]), own])
    along, expected = features @ axes, features @ mean
    if noise is None:
        weights = _logistic(along, scores[:, None], np.ones(axes.shape[1]), offset=expected[:, None])[:, 0]
    else:
        weights = Ridge(alpha=max(noise, 1e-9), fit_intercept=False).fit(along, scores - expected).coef_
    return mean + axes @ weights


def _logistic(
    features: np.ndarray,
    targets: np.ndarray,
    penalty: np.ndarray,
    start: np.ndarray | None = None,
    offset: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Logistic regressions on the same features (n, p) of several targets (n, m) in [0, 1], NaN where missing, all at
    once by L-BFGS: coefficients (p, m). ``penalty`` (p,) is of half their squares, ``offset`` part of the log-odds."""
    from scipy.optimize import minimize

    known, share = ~np.isnan(targets), np.nan_to_num(targets)
    size = (features.shape[1], targets.shape[1])
    step = 1 / np.sqrt((features**2).sum(axis=0) / 4 + penalty)[:, None]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        weights = step * values.reshape(size)
        logit = features @ weights + offset
        misfit = np.where(known, np.logaddexp(0, logit) - share * logit, 0).sum()
        gradient = features.T @ np.where(known, sigmoid(logit) - share, 0) + penalty[:, None] * weights
        return float(misfit + (penalty[:, None] * weights**2).sum() / 2), (step * gradient).ravel()

    first = np.zeros(size) if start is None else start / step
    fit = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-9})
    return step * fit.x.reshape(size)


def _nearest(known: np.ndarray, vectors: np.ndarray, size: int) -> np.ndarray:
    """Rows of the nearest known unit vectors by cosine, nearest first, (n, size). Of those equally near within 1e-6 the
    first come first: copies of a prompt are common, and rounding must not choose among them."""
    rank = np.rint(vectors @ known.T * 1e6).astype(np.int64) * -len(known) + np.arange(len(known))
    order = np.argpartition(rank, size - 1, axis=1)[:, :size]
    return np.take_along_axis(order, np.take_along_axis(rank, order, axis=1).argsort(axis=1), axis=1)


def _neighbour_means(
    known: np.ndarray, scores: np.ndarray, vectors: np.ndarray, sizes: Sequence[int]
) -> list[np.ndarray]:
    """Mean scores (n, m) on the nearest known prompts, for ascending numbers of them; every model's overall mean
    counts as one more."""
    there, filled = ~np.isnan(scores), np.nan_to_num(scores)
    mean = filled.sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    means = [np.empty((len(vectors), scores.shape[1])) for _ in sizes]
    for start in range(0, len(vectors), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        order = _nearest(known, vectors[rows], sizes[-1])
        total, count = mean.copy(), np.ones_like(mean)
        for place, (low, high) in enumerate(pairwise([0, *sizes])):
            total = total + filled[order[:, low:high]].sum(axis=1)
            count = count + there[order[:, low:high]].sum(axis=1)
            means[place][rows] = total / count
    return means


def _response_features(difficulty: np.ndarray) -> np.ndarray:
    """What the log-odds a theta - a b are linear in, (n, 2)."""
    return np.column_stack([np.ones(len(difficulty)), -difficulty])


def _training_parts(outcomes: Outcomes, folds: int, random_state: int) -> np.ndarray:
    """Which prompts are learned from while the others are held out, (folds, n) bool: equal prompts held out together,
    each once, in parts of like size."""
    require_number("folds", folds, 2, whole=True)
    if (distinct := outcomes.keys.nunique()) < folds:
        raise DataError(
            f"outcomes {outcomes.name}: {distinct} distinct prompts with scores for folds={folds}; give more prompts, "
            "or fewer folds"
        )
    return prompt_ranks(outcomes.keys, random_state) % folds != np.arange(folds)[:, None]


def _check_positive(router: UtilityRouter, name: str, whole: bool = False) -> None:
    """Refuse what is no list, range or array of numbers above 0."""
    require_numbers(f"{type(router).__name__}: {name}", getattr(router, name), 0, whole=whole, inside=True)
