"""Maps from win rates to calibrated win rates, learned on questions whose outcome is known."""

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from routellm_lab._moved import moved
from routellm_lab.columns import float_array
from routellm_lab.errors import DataError, ParameterError, listed, require_number
from routellm_lab.evaluation.calibration import calibration, decisions_changed, isotonic_map, win_targets
from routellm_lab.evaluation.curve import RoutingCurve
from routellm_lab.evaluation.groups import matched_groups
from routellm_lab.evaluation.verdict import flattened
from routellm_lab.resampling import Bootstrap

__getattr__ = moved(__name__, {"evaluation.calibration": ["Calibration"]})

METHODS = ("isotonic", "sigmoid")

_MARGIN = 1e-6
"""Win rates are kept this far from 0 and 1 before their logit is taken."""


class WinRateCalibrator(BaseEstimator):
    """A map from win rates to calibrated win rates, learned on questions whose outcome is known.

    Parameters
    ----------
    method : {"isotonic", "sigmoid"}
        ``isotonic``: the increasing function closest to the targets, linear between the prompts. It takes any shape,
        needs many prompts, and ties those that it cannot tell apart. ``sigmoid``: logistic regression on the logit of
        the win rate (Platt scaling). It has two parameters, and ties nothing but win rates within 1e-6 of 0 or 1.

    Attributes
    ----------
    n_prompts_ : int
    isotonic_ : IsotonicRegression
        Of the method ``isotonic``.
    slope_, intercept_ : float
        Of the method ``sigmoid``: logit of the calibrated win rate = intercept + slope * logit of the given one. Below
        1, the win rates are too extreme; below 0, they rank the wrong way round, and the map turns them over (an
        isotonic one is nearly constant then).
    """

    def __init__(self, method: str = "isotonic") -> None:
        self.method = method

    def fit(self, win_rates: Any, targets: Any = None) -> "WinRateCalibrator":
        """Learn the map.

        Parameters
        ----------
        win_rates : RoutingCurve or array-like (n,)
            In [0, 1].
        targets : array-like (n,), optional
            In [0, 1], such as those of `win_targets`; not with a curve, which has its own.

        Raises
        ------
        ParameterError
            When ``method`` is unknown, or ``targets`` are missing or given twice.
        DataError
            When there are fewer than two prompts, or values outside [0, 1].

        Warns
        -----
        UserWarning
            When all win rates are equal: the map is then the mean target, whatever the win rate.
        """
        if self.method not in METHODS:
            raise ParameterError(f"method must be one of {listed(METHODS)}, got {self.method!r}")
        where = "WinRateCalibrator"
        if isinstance(win_rates, RoutingCurve) != (targets is None):
            raise ParameterError(f"{where}: pass fit(curve), or fit(win_rates, targets)")
        if isinstance(win_rates, RoutingCurve):
            where += f" on {win_rates.name}"
            win_rates, targets = win_rates.win_rate, win_targets(win_rates)
        values, targets = _checked(win_rates, targets, where)
        if len(values) < 2:
            raise DataError(f"{where}: one prompt is too few to learn from; pass two or more")
        if np.ptp(values) == 0:
            warnings.warn(
                f"{where}: all {len(values)} win rates are {values[0]:g}; every win rate becomes the mean target, "
                f"{targets.mean():.3f}",
                UserWarning,
                stacklevel=2,
            )
        if self.method == "isotonic":
            self.isotonic_ = isotonic_map(values, targets)
        else:
            self.slope_, self.intercept_ = _sigmoid(values, targets)
        self.n_prompts_ = len(values)
        return self

    def transform(self, win_rates: Any) -> np.ndarray:
        """Calibrated win rates.

        Parameters
        ----------
        win_rates : array-like (n,)
            In [0, 1].

        Returns
        -------
        (n,) array
            In [0, 1].
        """
        check_is_fitted(self, "n_prompts_")
        values, _ = _checked(win_rates, win_rates, "WinRateCalibrator")
        if self.method == "isotonic":
            return self.isotonic_.predict(values)
        return expit(self.intercept_ + self.slope_ * _logit(values))


def cross_calibrated(
    curve: RoutingCurve,
    method: str = "isotonic",
    n_folds: int = 5,
    groups: pd.Series | None = None,
    random_state: int | None = 0,
) -> RoutingCurve:
    """The curve with each win rate calibrated on the other prompts, so that none is judged by its own outcome.

    Parameters
    ----------
    curve : RoutingCurve
    method : {"isotonic", "sigmoid"}
        See `WinRateCalibrator`.
    n_folds : int
    groups : Series, optional
        Of each prompt, indexed by prompt id; a group stays in one fold. ``outcomes.keys`` keeps copies of a prompt
        together. By default every prompt is by itself.
    random_state : int, optional
        Of the folds.

    Returns
    -------
    RoutingCurve
        The folds have maps of their own, so that prompts of different folds whose win rates are close may change places
        even by increasing maps.

    Raises
    ------
    ParameterError
        When ``method`` is unknown or ``n_folds`` is below 2.
    DataError
        When there are fewer prompts, or groups, than folds, or the groups lack prompts.
    """
    require_number("n_folds", n_folds, 2, whole=True)
    group = np.arange(len(curve))
    if groups is not None:
        own = matched_groups(curve.prompt_ids, groups, curve.name)
        if own.isna().any():
            raise DataError(f"groups: missing for {int(own.isna().sum())} of {len(own)} prompts; fill them")
        group = pd.factorize(own)[0]
    count = int(group.max()) + 1
    if count < n_folds:
        raise DataError(
            f"{curve.name}: {count} {'prompts' if groups is None else 'groups of prompts'} are too few for "
            f"{n_folds} folds; use fewer folds or more prompts"
        )
    fold = (np.random.default_rng(random_state).permutation(count) % n_folds)[group]
    target, win_rate = win_targets(curve), np.empty(len(curve))
    for number in range(n_folds):
        own_fold = fold == number
        calibrator = WinRateCalibrator(method).fit(curve.win_rate[~own_fold], target[~own_fold])
        win_rate[own_fold] = calibrator.transform(curve.win_rate[own_fold])
    return replace(curve, win_rate=win_rate)


def recalibration_table(
    curve: RoutingCurve,
    share: float,
    threshold: float = 0.5,
    methods: Iterable[str] = METHODS,
    groups: pd.Series | None = None,
    bootstrap: Bootstrap = Bootstrap(),
    random_state: int | None = 0,
) -> pd.DataFrame:
    """What recalibration changes: the calibration error, and the decisions at a fixed threshold and a fixed share.

    Parameters
    ----------
    curve : RoutingCurve
    share : float
        Of strong calls, in [0, 1].
    threshold : float
        On win rates.
    methods : iterable of {"isotonic", "sigmoid"}
    groups, random_state
        As in `cross_calibrated`.
    bootstrap : Bootstrap
        Of the prompts.

    Returns
    -------
    DataFrame
        One row per method and rule: ``method``, ``ece`` (with ``_low``, ``_high``) after recalibration, and the columns
        of `routellm_lab.policies.decisions_changed`.
    """
    rows = []
    for method in methods:
        after = cross_calibrated(curve, method, groups=groups, random_state=random_state)
        error = flattened({"ece": calibration(after, bootstrap=bootstrap).ece})
        for changed in (
            decisions_changed(curve, after, threshold=threshold, bootstrap=bootstrap),
            decisions_changed(curve, after, share=share, bootstrap=bootstrap),
        ):
            rows.append({"method": method} | error | changed.iloc[0].to_dict())
    return pd.DataFrame(rows)


def _sigmoid(win_rate: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of fractional targets on the logits."""
    from sklearn.linear_model import LogisticRegression

    logits = _logit(win_rate)
    centre = np.median(logits)  # equal logits are then exactly 0, and their slope stays 0
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(
        np.tile(logits - centre, 2)[:, None],
        np.repeat([1, 0], len(target)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    slope = float(model.coef_[0, 0])
    return slope, float(model.intercept_[0] - slope * centre)


def _logit(win_rate: np.ndarray) -> np.ndarray:
    return logit(win_rate.clip(_MARGIN, 1 - _MARGIN))


def _checked(win_rates: Any, targets: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Win rates and targets as flat arrays of equal length, of numbers in [0, 1]."""
    found = []
    for name, given in (("win rates", win_rates), ("targets", targets)):
        values = float_array(given, f"{where}: {name}")
        if values.ndim != 1 or not values.size:
            raise DataError(f"{where}: {name} must be a flat list with one number or more, got shape {values.shape}")
        bad = ~((values >= 0) & (values <= 1))
        if bad.any():
            raise DataError(
                f"{where}: {name} must be in [0, 1], but {int(bad.sum())} of {len(values)} are not, such as "
                f"{values[bad][0]:g}"
            )
        found.append(values)
    if len(found[0]) != len(found[1]):
        raise DataError(f"{where}: {len(found[0])} win rates, but {len(found[1])} targets; pass one of each per prompt")
    return found[0], found[1]
