"""The contract of all routers, as a check that anybody can run on one: ours, or one that was written elsewhere."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.routers.base import sigmoid
from routellm_lab.routers.saving import RouterBase, load_router

_ODD = ["", "x", "\0", "😀", "مرحبا", "\ud800", "word " * 200_000]
"""Prompts that must be answered like any other."""


def check_router(
    router: Any,
    training: pd.DataFrame | Outcomes,
    prompts: Sequence[str] | None = None,
    *,
    tolerance: float = 1e-6,
    saved: bool = True,
) -> None:
    """Check that a router keeps the contract of this package, whoever wrote it.

    A router learns from votes and has `win_rate`, or learns from outcomes and has `expected_scores`. Either way: the
    constructor only stores its parameters, `fit` returns the router and changes neither parameters nor data, answers
    are finite and in range, one per prompt and the same alone as in a batch, the same data give the same router,
    `route` names models, what is no list of prompts is refused, and a saved router comes back with the same answers.

    Parameters
    ----------
    router : estimator
        Unfitted.
    training : DataFrame or Outcomes
        What it is fitted on: battles for a router with `win_rate`, outcomes for one with `expected_scores`.
    prompts : sequence of str, optional
        At least three different ones; the first 20 of the training data by default.
    tolerance : float
        How far the answer to a prompt may be from the one in a batch.
    saved : bool
        Whether `save` and `load` are checked, too.

    Raises
    ------
    AssertionError
        When the router breaks the contract: names the router and the rule.

    Examples
    --------
    >>> from routellm_lab import load_battles
    >>> from routellm_lab.preferences.sample import SAMPLE_PAIR
    >>> from routellm_lab.routers import PromptLengthRouter, check_router
    >>> check_router(PromptLengthRouter(SAMPLE_PAIR), load_battles("arena_human", data="sample").head(200))
    """
    _check_unfitted(router)
    fitted = _check_fit(router, training)
    if prompts is None:
        known = training.prompts if isinstance(training, Outcomes) else training["prompt"]
        prompts = known.dropna().drop_duplicates().head(20).tolist()
    answer = _answers_of(fitted)
    _check_answers(fitted, answer, list(prompts), tolerance)
    _check_refusals(fitted, answer)
    _check_route(fitted, answer, list(prompts))
    again = _answers_of(clone(router).fit(training))
    _require(_equal(again(prompts), answer(prompts)), router, "two fits on the same data must answer the same")
    if saved:
        _check_saving(fitted, answer, list(prompts))


def _require(kept: Any, router: Any, broken: str) -> None:
    if not kept:
        raise AssertionError(f"{type(router).__name__}: {broken}")


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Up to the last digits, which depend on where an array lies in memory."""
    return np.allclose(one, other, rtol=0, atol=1e-12)


def _refuses(router: Any, errors: type[Exception], what: str, use: Callable[..., Any], *arguments: Any) -> None:
    try:
        use(*arguments)
    except errors:
        return
    except Exception as error:
        raise AssertionError(f"{type(router).__name__}: {what}, with {type(error).__name__}: {error}") from error
    _require(False, router, what)


def _answers_of(router: Any) -> Callable[[Any], np.ndarray]:
    """The router's answers as an array, (n,) win rates or (n, models) scores."""
    if hasattr(router, "win_rate"):
        return router.win_rate
    return lambda prompts: router.expected_scores(prompts).to_numpy()


def _check_unfitted(router: Any) -> None:
    kinds = hasattr(router, "win_rate") + hasattr(router, "expected_scores")
    _require(kinds == 1, router, "must have either win_rate or expected_scores")
    copy, parameters = clone(router), router.get_params(deep=False)
    _require(vars(copy).keys() == parameters.keys(), router, "the constructor must store its parameters, nothing else")
    _require(repr(copy.get_params(deep=False)) == repr(parameters), router, "a clone has other parameters")
    for name in ("route", "win_rate" if hasattr(router, "win_rate") else "expected_scores"):
        _refuses(copy, NotFittedError, f"{name} before fit must raise NotFittedError", getattr(copy, name), ["a"])
    if hasattr(copy, "save"):
        with tempfile.TemporaryDirectory() as folder:
            _refuses(copy, NotFittedError, "save before fit must raise NotFittedError", copy.save, f"{folder}/router")
            _require(not any(Path(folder).iterdir()), router, "save before fit must write nothing")


def _check_fit(router: Any, training: Any) -> Any:
    fitted = clone(router)
    parameters, before = repr(fitted.get_params(deep=False)), _content(training)
    _require(fitted.fit(training) is fitted, router, "fit must return the router itself")
    _require(repr(fitted.get_params(deep=False)) == parameters, router, "fit must not change parameters")
    _require(before.equals(_content(training)), router, "fit must not change its data")
    if isinstance(training, Outcomes):
        what, wrong = "fit on scores that are no Outcomes must raise ParameterError", training.scores
        _refuses(router, ParameterError, what, clone(router).fit, wrong)
    else:
        what = "fit on votes without winner, or without prompts, must raise DataError"
        for wrong in (training.drop(columns="winner"), training.assign(prompt=None, prompt_key=None)):
            _refuses(router, DataError, what, clone(router).fit, wrong)
    return fitted


def _content(training: Any) -> pd.DataFrame:
    if isinstance(training, Outcomes):
        return training.scores.assign(prompt=training.prompts)
    return training.copy()


def _check_answers(router: Any, answer: Callable[[Any], np.ndarray], prompts: list[str], tolerance: float) -> None:
    given = answer(prompts)
    models = () if hasattr(router, "win_rate") else (len(router.models_),)
    low, high = (0.0, 1.0) if hasattr(router, "win_rate") else (router.low_, router.high_)
    for texts, answers in ((prompts, given), (_ODD, answer(_ODD)), ([], answer([]))):
        good = isinstance(answers, np.ndarray) and answers.dtype == float
        _require(good and answers.shape == (len(texts), *models), router, "must give one float64 answer per prompt")
        inside = np.isfinite(answers) & (answers >= low) & (answers <= high)
        _require(inside.all(), router, f"answers must be finite and from {low:g} to {high:g}")
    single = np.concatenate([answer([prompt]) for prompt in prompts])
    order = np.random.default_rng(0).permutation(len(prompts))
    for other, expected, what in (
        (single, given, "a batch must answer as its prompts one by one"),
        (answer([prompts[row] for row in order]), given[order], "the order of the prompts must not matter"),
        (answer(prompts * 2), np.concatenate([given, given]), "a repeated prompt must have the same answer"),
        (answer(pd.Series(prompts, range(7, 7 + len(prompts)))), given, "a Series is a list of prompts"),
        (answer(iter(prompts)), given, "an iterator is a list of prompts"),
    ):
        _require(np.allclose(other, expected, rtol=0, atol=tolerance), router, what)
    if hasattr(router, "log_strengths"):
        strengths, pair = router.log_strengths(prompts), router.pair_used_
        _require(list(strengths) == list(router.models_), router, "log_strengths must have a column per model")
        rates = sigmoid((strengths[pair.strong] - strengths[pair.weak]).to_numpy())
        same = np.allclose(rates, given, rtol=0, atol=tolerance)
        _require(same, router, "win rates must be sigmoids of differences in log-strength")
    if models:
        frame = router.expected_scores(pd.Series(prompts, range(7, 7 + len(prompts))))
        named = list(frame) == list(router.models_) and list(frame.index) == list(range(7, 7 + len(prompts)))
        _require(named, router, "expected_scores must have a column per model, and keep the index of a Series")


def _check_refusals(router: Any, answer: Callable[[Any], np.ndarray]) -> None:
    frame = pd.DataFrame({"prompt": ["a", "b"]})
    for wrong in ("one bare string", ["fine", None], [1, 2], frame, {"a": 1}, {"a", "b"}, None):
        for use in (answer, router.route):
            _refuses(router, DataError, f"{wrong!r} is no list of prompts and must raise DataError", use, wrong)


def _check_route(router: Any, answer: Callable[[Any], np.ndarray], prompts: list[str]) -> None:
    given = answer(prompts)
    _require(router.route([]).shape == (0,), router, "no prompts must be routed to no models")
    if not hasattr(router, "win_rate"):
        expected = np.array(router.models_, dtype=object)[given.argmax(axis=1)]
        _require(list(router.route(prompts)) == list(expected), router, "route must name the highest expected score")
        return
    for threshold in (0.0, float(np.median(given)), float("inf")):
        expected = np.where(given >= threshold, router.pair.strong, router.pair.weak)
        what = "route must name the strong model where the win rate is at least the threshold"
        _require(list(router.route(prompts, threshold)) == list(expected), router, what)
    for wrong in (None, "half", float("nan"), 1.01, -0.1, True, 50):
        what = f"{wrong!r} is no threshold and must raise ParameterError"
        _refuses(router, ParameterError, what, router.route, prompts, wrong)


def _check_saving(router: Any, answer: Callable[[Any], np.ndarray], prompts: list[str]) -> None:
    given = answer(prompts)
    with tempfile.TemporaryDirectory() as parent:
        folder = router.save(Path(parent) / "deep" / "router")
        loads = [type(router).load] + ([load_router] if isinstance(router, RouterBase) else [])
        for load in loads:
            loaded = load(folder)
            loaded.cached = False  # what was said earlier must not stand in for what is loaded
            same = type(loaded) is type(router) and loaded.get_params().keys() == router.get_params().keys()
            _require(same, router, "a saved router must come back as one of its kind, with its parameters")
            _require(_equal(_answers_of(loaded)(prompts), given), router, "a saved router must answer the same")
        again = load(loaded.save(folder))
        _require(_equal(_answers_of(again)(prompts), given), router, "saved twice, it must answer the same")
        for file in sorted(Path(folder).glob("*.safetensors")):
            content = bytearray(file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(bytes(content))
            _refuses(router, DataError, f"a changed {file.name} must raise DataError", type(router).load, folder)
