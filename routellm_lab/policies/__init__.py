"""Policies: what to do with a win rate. Thresholds, guarantees, calibration, online thresholds."""

from routellm_lab._moved import moved
from routellm_lab.policies.calibration import (
    Calibration,
    WinRateCalibrator,
    calibration,
    cross_calibrated,
    decisions_changed,
    win_targets,
)
from routellm_lab.policies.guarantees import (
    Guarantee,
    guarantee_missed,
    guarantee_pgr,
    labels_needed,
    labels_needed_pgr,
    promise_table,
    verify_guarantee,
)
from routellm_lab.policies.online import OnlineThreshold, shares_over_time, threshold_transfer
from routellm_lab.policies.thresholds import Expectation, ThresholdPolicy, policy_table

__all__ = [
    "Calibration",
    "Expectation",
    "Guarantee",
    "OnlineThreshold",
    "ThresholdPolicy",
    "WinRateCalibrator",
    "calibration",
    "cross_calibrated",
    "decisions_changed",
    "guarantee_missed",
    "guarantee_pgr",
    "labels_needed",
    "labels_needed_pgr",
    "policy_table",
    "promise_table",
    "shares_over_time",
    "threshold_transfer",
    "verify_guarantee",
    "win_targets",
]

__getattr__ = moved(
    __name__,
    {
        "costs": [
            "AnswerLog",
            "Price",
            "Prices",
            "Tokens",
            "count_tokens",
            "load_prices",
            "log_answers",
            "paper_prices",
        ],
        "evaluation": ["CostCurve", "cost_savings", "share_interval"],
    },
)
