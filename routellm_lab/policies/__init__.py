"""Policies: what to do with a win rate. Prices and dollars, thresholds, promises, drift, calibration."""

from routellm_lab.evaluation.intervals import share_interval
from routellm_lab.policies.answers import AnswerLog, log_answers
from routellm_lab.policies.calibration import (
    Calibration,
    WinRateCalibrator,
    calibration,
    cross_calibrated,
    decisions_changed,
    win_targets,
)
from routellm_lab.policies.cost import CostCurve, Tokens, cost_savings, count_tokens
from routellm_lab.policies.drift import OnlineThreshold, shares_over_time, threshold_transfer
from routellm_lab.policies.guarantees import (
    Guarantee,
    guarantee_missed,
    guarantee_pgr,
    labels_needed,
    labels_needed_pgr,
    promise_table,
    verify_guarantee,
)
from routellm_lab.policies.prices import Price, Prices, load_prices, paper_prices
from routellm_lab.policies.thresholds import Expectation, ThresholdPolicy, policy_table

__all__ = [
    "AnswerLog",
    "Calibration",
    "CostCurve",
    "Expectation",
    "Guarantee",
    "OnlineThreshold",
    "Price",
    "Prices",
    "ThresholdPolicy",
    "Tokens",
    "WinRateCalibrator",
    "calibration",
    "cost_savings",
    "count_tokens",
    "cross_calibrated",
    "decisions_changed",
    "guarantee_missed",
    "guarantee_pgr",
    "labels_needed",
    "labels_needed_pgr",
    "load_prices",
    "log_answers",
    "paper_prices",
    "policy_table",
    "promise_table",
    "share_interval",
    "shares_over_time",
    "threshold_transfer",
    "verify_guarantee",
    "win_targets",
]
