"""Policies: what to do with a win rate. Thresholds, guarantees, calibration, online thresholds."""

from routellm_lab._moved import moved
from routellm_lab.policies.calibration import (  # not the module
    WinRateCalibrator,
    calibration,
    cross_calibrated,
    recalibration_table,
)
from routellm_lab.policies.drift import DriftStudy, drifting_stream, follow_drift
from routellm_lab.policies.guarantees import Guarantee, guarantee_missed, guarantee_pgr
from routellm_lab.policies.many_models import route_many
from routellm_lab.policies.online import OnlineThreshold, shares_over_time, threshold_transfer
from routellm_lab.policies.thresholds import ThresholdPolicy, policy_table

__all__ = [
    "Calibration",
    "DriftStudy",
    "Expectation",
    "Guarantee",
    "OnlineThreshold",
    "ThresholdPolicy",
    "WinRateCalibrator",
    "calibration",
    "cross_calibrated",
    "decisions_changed",
    "drifting_stream",
    "follow_drift",
    "guarantee_missed",
    "guarantee_pgr",
    "guarantee_table",
    "policy_table",
    "recalibration_table",
    "required_labels",
    "required_labels_pgr",
    "required_labels_table",
    "route_many",
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
        "evaluation.calibration": ["Calibration", "decisions_changed", "win_targets"],
        "evaluation.expectation": ["Expectation"],
        "evaluation.guarantees": ["guarantee_table", "verify_guarantee"],
        "evaluation.required_labels": ["required_labels", "required_labels_pgr", "required_labels_table"],
        "evaluation": ["PairCostCurve", "cost_savings", "share_interval"],
    },
)
