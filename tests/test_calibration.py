"""Calibration: planted truth, literal loops, and what a map of the win rates may and may not change."""

import warnings
from dataclasses import replace

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from routellm_lab import plots
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap, Estimate, RoutingCurve
from routellm_lab.evaluation.calibration import calibration, decisions_changed, win_targets
from routellm_lab.policies.calibration import METHODS, WinRateCalibrator, cross_calibrated, recalibration_table
from routellm_lab.preferences.models import ModelPair

PAIR = ModelPair(strong="large", weak="small")


def curve_of(win_rate, target, **options):
    """A curve of 0/1 scores with these targets; ties are right both."""
    target = np.asarray(target, float)
    ids = pd.Index([f"q{number}" for number in range(len(target))])
    return RoutingCurve(win_rate, target >= 0.5, target <= 0.5, ids, PAIR, **{"name": "toy", **options})


def world(n=2000, slope=1.0, shift=0.0, ties=0.6, seed=0):
    """Win rates, and targets whose expectation is their logit times ``slope`` plus ``shift``."""
    rng = np.random.default_rng(seed)
    win_rate = rng.beta(4, 4, n)
    truth = expit(slope * logit(win_rate) + shift)
    half, lot = np.minimum(ties / 2, np.minimum(truth, 1 - truth)), rng.random(n)
    return curve_of(win_rate, ((lot < truth - half) + (lot < truth + half).astype(float)) / 2)


small_worlds = st.builds(
    world, st.integers(30, 120), st.floats(0.2, 2), st.floats(-1, 1), st.floats(0, 1), st.integers(0, 10_000)
)


def test_targets_are_one_a_half_and_none():
    curve = RoutingCurve([0.1, 0.2, 0.3], [9.5, 4, 1], [7, 4, 2.5], pd.RangeIndex(3), PAIR)
    assert win_targets(curve).tolist() == [1, 0.5, 0]


# -- measuring ---------------------------------------------------------------------------------------------------------


def test_win_rates_that_are_true_are_found_calibrated():
    found = [calibration(world(600, seed=seed), bootstrap=Bootstrap(n_resamples=200)) for seed in range(40)]
    assert np.mean([one.miscalibrated for one in found]) <= 0.1
    assert all((one.ece.low == 0) == (not one.miscalibrated) for one in found)
    # without ties in the simulated targets, the range would lie a third too high
    assert np.mean([one.ece.value for one in found]) == pytest.approx(
        np.mean([one.ece_null.value for one in found]), rel=0.1
    )


@pytest.mark.parametrize(("slope", "shift", "way"), [(0.4, 0, "neither"), (1, 0.6, "too low"), (1, -0.6, "too high")])
def test_win_rates_that_are_distorted_are_found_out_by_their_planted_error(slope, shift, way):
    curve = world(4000, slope, shift)
    found = calibration(curve, bootstrap=Bootstrap(n_resamples=300))
    planted = expit(slope * logit(curve.win_rate) + shift)
    error = pd.Series(curve.win_rate - planted).groupby(pd.qcut(curve.win_rate, 10, labels=False)).mean().abs().mean()
    assert found.miscalibrated
    assert found.ece.low <= error <= found.ece.high
    assert found.bias.low <= (curve.win_rate - planted).mean() <= found.bias.high
    assert str(found).startswith("Miscalibrated: ECE 0.")
    assert f"on average {way}" in str(found)
    assert str(calibration(world(500), bootstrap=Bootstrap(n_resamples=100))).startswith(
        "No miscalibration beyond chance: ECE 0.0"
    )


def test_the_interval_of_the_ece_holds_the_truth_where_a_percentile_interval_would_not():
    held, percentile = [], []
    for seed in range(60):
        curve = world(500, 0.7, ties=0, seed=seed)
        found = calibration(curve, bootstrap=Bootstrap(n_resamples=200))
        truth = pd.Series(curve.win_rate - expit(0.7 * logit(curve.win_rate)))
        rows = [literal(curve, counts)[0] for counts in np.concatenate(list(Bootstrap(n_resamples=40).counts(500)))]
        error = truth.groupby(pd.qcut(curve.win_rate, 10, labels=False)).mean().abs().mean()
        held.append(found.ece.low <= error <= found.ece.high)
        percentile.append(np.quantile(rows, 0.025) <= error)
    assert np.mean(held) >= 0.85
    assert np.mean(percentile) < 0.7


def literal(curve, counts, n_bins=10):
    """ECE, Brier score and bias, prompt by prompt, each as often as it is drawn; no two win rates are equal."""
    target, n = win_targets(curve), len(curve)
    order = sorted(range(n), key=lambda row: curve.win_rate[row])
    sums, brier, bias = {}, 0.0, 0.0
    for place, row in enumerate(order):
        for _ in range(int(counts[row])):
            error = curve.win_rate[row] - target[row]
            number = int((place + 0.5) * n_bins / n)
            sums[number] = sums.get(number, 0.0) + error
            brier, bias = brier + error**2 / n, bias + error / n
    return sum(abs(total) for total in sums.values()) / n, brier, bias


def test_values_and_intervals_are_those_of_a_literal_loop():
    curve = world(83, 0.5)
    found = calibration(curve, 7, Bootstrap(confidence_level=0.9, n_resamples=60, random_state=3))
    once = literal(curve, np.ones(83), 7)
    np.testing.assert_allclose([found.ece.value, found.brier.value, found.bias.value], once)
    draws = np.array(
        [literal(curve, row, 7) for row in np.concatenate(list(Bootstrap(n_resamples=60, random_state=3).counts(83)))]
    )
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    np.testing.assert_allclose([found.brier.low, found.brier.high], [low[1], high[1]])
    np.testing.assert_allclose([found.bias.low, found.bias.high], [low[2], high[2]])
    assert found.ece.high == pytest.approx(high[0] - (draws[:, 0].mean() - once[0]))
    floor = max(0, 2 * once[0] - high[0]) if found.miscalibrated else 0
    assert found.ece.low == pytest.approx(floor)
    assert (found.n, found.confidence_level) == (83, 0.9)


@settings(max_examples=25)
@given(small_worlds, st.integers(1, 12))
def test_parts_add_up(curve, n_bins):
    found = calibration(curve, n_bins, Bootstrap(n_resamples=20))
    assert found.brier.value == pytest.approx(found.miscalibration - found.discrimination + found.uncertainty)
    assert found.miscalibration >= -1e-12
    assert found.discrimination >= -1e-12
    assert 0 <= found.ece.low <= found.ece.value <= found.ece.high
    assert found.ece_null.low <= found.ece_null.value <= found.ece_null.high
    assert found.bias.value == pytest.approx(found.mean_win_rate.value - found.mean_target.value)
    assert abs(found.bias.value) <= found.ece.value + 1e-12
    bins = found.bins
    assert bins.columns.tolist() == ["from", "to", "n", "win_rate", "target", "low", "high"]
    assert bins["n"].sum() == len(curve)
    assert bins["n"].max() - bins["n"].min() <= 1
    assert (bins["from"].to_numpy()[1:] > bins["to"].to_numpy()[:-1]).all()
    assert np.average(bins["target"], weights=bins["n"]) == pytest.approx(found.mean_target.value)
    weighted = np.average((bins["win_rate"] - bins["target"]).abs(), weights=bins["n"])
    assert weighted == pytest.approx(found.ece.value)


def test_tied_win_rates_share_a_bin():
    found = calibration(curve_of([0.2] * 50 + [0.8] * 30, [0.0] * 50 + [1.0] * 30), bootstrap=Bootstrap(n_resamples=20))
    assert found.bins["n"].tolist() == [50, 30]
    assert found.bins["from"].tolist() == found.bins["to"].tolist() == [0.2, 0.8]
    assert found.ece.value == pytest.approx(0.2)
    one = calibration(curve_of([0.5] * 40, [0.0, 1.0] * 20), bootstrap=Bootstrap(n_resamples=20))
    assert one.bins["n"].tolist() == [40]
    assert one.ece.value == 0


def test_one_row_tells_all_but_the_bins():
    found = calibration(world(100), bootstrap=Bootstrap(n_resamples=20))
    row = found.row()
    assert isinstance(found.ece, Estimate)
    assert [row["ece"], row["ece_low"], row["ece_high"]] == list(found.ece)
    assert (row["n"], row["uncertainty"], row["miscalibrated"]) == (100, found.uncertainty, found.miscalibrated)
    assert "bins" not in row


def test_equal_seeds_give_equal_results():
    curve = world(200)
    first, second, other = (
        calibration(curve, bootstrap=Bootstrap(n_resamples=50, random_state=seed)) for seed in (1, 1, 2)
    )
    assert first == second
    pd.testing.assert_frame_equal(first.bins, second.bins)
    assert first.brier.low != other.brier.low
    assert first.ece_null != other.ece_null
    crossed = [cross_calibrated(curve, random_state=seed).win_rate for seed in (1, 1, 2)]
    np.testing.assert_array_equal(crossed[0], crossed[1])
    assert (crossed[0] != crossed[2]).any()


def test_what_cannot_be_measured_is_refused():
    curve = world(20)
    for bad in (0, 21, 2.5, True):
        with pytest.raises(ParameterError, match=r"n_bins .* on toy\) must be a whole number from 1 to 20, got"):
            calibration(curve, bad)
    with pytest.raises(ParameterError, match="level"):
        calibration(curve, 5, Bootstrap(confidence_level=95))


# -- repairing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("slope", "shift"), [(0.4, 0.5), (2.0, -0.5)])
def test_a_planted_distortion_is_recovered(method, slope, shift):
    curve, fresh = world(8000, slope, shift), world(4000, slope, shift, seed=1)
    calibrator = WinRateCalibrator(method).fit(curve)
    at = np.linspace(0.2, 0.8, 13)
    np.testing.assert_allclose(calibrator.transform(at), expit(slope * logit(at) + shift), atol=0.05)
    before = calibration(fresh, bootstrap=Bootstrap(n_resamples=200))
    after = calibration(
        replace(fresh, win_rate=calibrator.transform(fresh.win_rate)), bootstrap=Bootstrap(n_resamples=200)
    )
    assert before.miscalibrated
    assert after.ece.value < before.ece.value / 2
    assert after.ece.value < 2 * after.ece_null.high
    assert after.brier.value < before.brier.value
    crossed = calibration(cross_calibrated(curve, method), bootstrap=Bootstrap(n_resamples=200))
    assert crossed.ece.value < 2 * crossed.ece_null.high


def test_the_sigmoid_finds_slope_and_intercept():
    calibrator = WinRateCalibrator("sigmoid").fit(world(20_000, 0.4, 0.5, ties=0))
    assert calibrator.slope_ == pytest.approx(0.4, abs=0.05)
    assert calibrator.intercept_ == pytest.approx(0.5, abs=0.05)
    # fractional targets: the exact map is found from its own values
    at = np.linspace(0.01, 0.99, 99)
    exact = WinRateCalibrator("sigmoid").fit(at, expit(0.4 * logit(at) + 0.5))
    assert (exact.slope_, exact.intercept_) == (pytest.approx(0.4, abs=1e-4), pytest.approx(0.5, abs=1e-4))
    turned = WinRateCalibrator("sigmoid").fit(at, 1 - at)
    assert turned.slope_ == pytest.approx(-1, abs=1e-4)


@settings(max_examples=40)
@given(small_worlds)
def test_isotonic_is_increasing_and_the_best_on_its_own_prompts(curve):
    fitted = WinRateCalibrator().fit(curve)
    mapped = fitted.transform(np.linspace(0, 1, 101))
    assert (np.diff(mapped) >= 0).all()
    assert ((mapped >= 0) & (mapped <= 1)).all()
    target = win_targets(curve)
    own = ((fitted.transform(curve.win_rate) - target) ** 2).mean()
    assert own <= ((curve.win_rate - target) ** 2).mean() + 1e-12
    sigmoid = WinRateCalibrator("sigmoid").fit(curve)
    if sigmoid.slope_ > 0:
        assert own <= ((sigmoid.transform(curve.win_rate) - target) ** 2).mean() + 1e-12
    found = calibration(curve, 5, Bootstrap(n_resamples=5))
    assert found.miscalibration == pytest.approx(found.brier.value - own)


@settings(max_examples=40)
@given(small_worlds, st.floats(0, 1))
def test_an_increasing_sigmoid_changes_nothing_at_a_fixed_share(curve, share):
    calibrator = WinRateCalibrator("sigmoid").fit(curve)
    assume(calibrator.slope_ > 0.01)
    after = replace(curve, win_rate=calibrator.transform(curve.win_rate))
    assume(len(np.unique(after.win_rate)) == len(np.unique(curve.win_rate)))  # none so close that rounding ties them
    row = decisions_changed(curve, after, share=share, bootstrap=Bootstrap(n_resamples=10)).iloc[0]
    assert row[["flips", "flips_high", "difference", "difference_low", "difference_high"]].tolist() == [0] * 5
    assert row["quality_after"] == pytest.approx(curve.quality(share))


@pytest.mark.parametrize("method", METHODS)
def test_equal_win_rates_become_the_mean_target(method):
    with pytest.warns(UserWarning, match=r"all 3 win rates are 0\.3; every win rate becomes the mean target, 0\.667"):
        calibrator = WinRateCalibrator(method).fit([0.3] * 3, [0, 1, 1])
    np.testing.assert_allclose(calibrator.transform([0, 0.3, 1]), 2 / 3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("targets", [[0, 0, 1, 1], [1, 1, 1, 1], [0, 0.5, 0.5, 1]])
def test_targets_that_are_told_apart_and_win_rates_at_the_ends_give_no_trouble(method, targets):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = WinRateCalibrator(method).fit([0, 0.1, 0.9, 1], targets).transform([0, 0.1, 0.5, 1])
    assert np.isfinite(mapped).all()
    assert ((mapped >= 0) & (mapped <= 1)).all()
    assert mapped[-1] == pytest.approx(1, abs=0.05)


def test_the_calibrator_is_an_estimator():
    calibrator = clone(WinRateCalibrator("sigmoid"))
    assert calibrator.get_params() == {"method": "sigmoid"}
    assert repr(calibrator) == "WinRateCalibrator(method='sigmoid')"
    with pytest.raises(NotFittedError):
        calibrator.transform([0.5])
    curve = world(50)
    from_curve = calibrator.fit(curve).transform(curve.win_rate)
    series = pd.Series(curve.win_rate)
    np.testing.assert_array_equal(clone(calibrator).fit(series, win_targets(curve)).transform(series), from_curve)
    assert calibrator.n_prompts_ == 50


def test_what_cannot_be_calibrated_is_refused():
    curve = world(30)
    for wrong in (lambda: WinRateCalibrator("platt").fit(curve), lambda: cross_calibrated(curve, "platt")):
        with pytest.raises(ParameterError, match="method must be one of isotonic, sigmoid, got 'platt'"):
            wrong()
    for arguments in ((curve, [1.0] * 30), (curve.win_rate,)):
        with pytest.raises(ParameterError, match=r"pass fit\(curve\), or fit\(win_rates, targets\)"):
            WinRateCalibrator().fit(*arguments)
    with pytest.raises(DataError, match="one prompt is too few"):
        WinRateCalibrator().fit([0.5], [1])
    with pytest.raises(DataError, match="2 win rates, but 1 targets"):
        WinRateCalibrator().fit([0.5, 0.6], [1])
    with pytest.raises(DataError, match=r"targets must be in \[0, 1\], but 1 of 2 are not, such as 7"):
        WinRateCalibrator().fit([0.5, 0.6], [1, 7])
    fitted = WinRateCalibrator().fit(curve)
    for bad in ([-0.1], [np.nan], [0.5, 1.01]):
        with pytest.raises(DataError, match=r"win rates must be in \[0, 1\], but 1 of"):
            fitted.transform(bad)
    for bad in ([], 0.5, [[0.5]]):
        with pytest.raises(DataError, match="flat list"):
            fitted.transform(bad)


# -- across folds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_no_prompt_is_calibrated_by_its_own_outcome_or_that_of_its_copies(method):
    curve = world(60)
    groups = pd.Series(np.arange(60) // 2, index=curve.prompt_ids)
    crossed = cross_calibrated(curve, method, groups=groups.sample(frac=1, random_state=0))
    strong, weak = curve.strong_scores.copy(), curve.weak_scores.copy()
    strong[:2] = win_targets(curve)[:2] < 0.5  # a win of the weak model becomes one of the strong, all else one of weak
    weak[:2] = 1 - strong[:2]
    other = cross_calibrated(replace(curve, strong_scores=strong, weak_scores=weak), method, groups=groups)
    np.testing.assert_array_equal(crossed.win_rate[:2], other.win_rate[:2])
    assert (crossed.win_rate != other.win_rate).any()
    assert (crossed.name, crossed.pair, len(crossed)) == (curve.name, curve.pair, 60)
    np.testing.assert_array_equal(crossed.strong_scores, curve.strong_scores)


def test_each_fold_is_mapped_by_the_others():
    curve = world(40)
    crossed = cross_calibrated(curve, "sigmoid", n_folds=40)
    for row in (0, 17, 39):
        rest = np.arange(40) != row
        alone = WinRateCalibrator("sigmoid").fit(curve.win_rate[rest], win_targets(curve)[rest])
        assert crossed.win_rate[row] == alone.transform(curve.win_rate[[row]])[0]


def test_folds_that_cannot_be_made_are_refused():
    curve = world(10)
    for bad in (1, 2.5, True):
        with pytest.raises(ParameterError, match="n_folds must be a whole number from 2, got"):
            cross_calibrated(curve, n_folds=bad)
    with pytest.raises(DataError, match="toy: 10 prompts are too few for 11 folds"):
        cross_calibrated(curve, n_folds=11)
    groups = pd.Series(["a", "b"] * 5, index=curve.prompt_ids)
    with pytest.raises(DataError, match="2 groups of prompts are too few for 5 folds"):
        cross_calibrated(curve, groups=groups)
    with pytest.raises(DataError, match="groups lack 1 of 10 prompts"):
        cross_calibrated(curve, groups=groups.iloc[1:])
    with pytest.raises(DataError, match="groups: missing for 1 of 10"):
        cross_calibrated(curve, groups=groups.where(groups.index != "q3"))


# -- deciding ----------------------------------------------------------------------------------------------------------


def test_decisions_at_a_threshold_move_with_the_win_rates():
    before = curve_of([0.1, 0.4, 0.5, 0.8], [0.0, 1.0, 0.5, 1.0])
    after = replace(before, win_rate=[0.2, 0.5, 0.4, 0.9])
    frame = decisions_changed(before, after, threshold=0.5, bootstrap=Bootstrap(n_resamples=50))
    assert len(frame) == 1
    row = frame.iloc[0].to_dict()
    assert row["rule"] == "win rate >= 0.5"
    assert (row["strong_before"], row["strong_after"]) == (0.5, 0.5)
    assert (row["flips"], row["to_strong"], row["to_weak"]) == (0.5, 0.25, 0.25)
    # the second question is gained, the third is a tie
    assert (row["quality_before"], row["quality_after"], row["difference"]) == (0.75, 1.0, 0.25)
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert row["flips_low"] <= row["flips"] <= row["flips_high"]
    assert (row["distinct_before"], row["distinct_after"], row["prompts"]) == (4, 4, 4)


def test_ties_that_a_map_makes_are_decided_by_lot():
    before = curve_of([0.1, 0.4, 0.6, 0.8], [0.0, 1.0, 0.5, 1.0])
    after = replace(before, win_rate=[0.1, 0.5, 0.5, 0.5])
    row = decisions_changed(before, after, share=0.5, bootstrap=Bootstrap(n_resamples=50)).iloc[0]
    assert row["rule"] == "50% strong calls"
    assert (row["strong_before"], row["strong_after"], row["distinct_after"]) == (0.5, 0.5, 2)
    # each of the upper three is now strong with a chance of 2/3: -1/3, -1/3, +2/3
    assert row["flips"] == pytest.approx(1 / 3)
    assert row["to_strong"] == pytest.approx(row["to_weak"]) == pytest.approx(1 / 6)


@settings(max_examples=25)
@given(small_worlds, st.floats(0, 1), st.sampled_from(METHODS))
def test_quality_at_a_share_is_that_of_the_curve(curve, share, method):
    after = cross_calibrated(curve, method)
    row = decisions_changed(curve, after, share=share, bootstrap=Bootstrap(n_resamples=5)).iloc[0]
    assert row["strong_before"] == pytest.approx(share)
    assert row["strong_after"] == pytest.approx(share)
    assert row["quality_before"] == pytest.approx(curve.quality(share))
    assert row["quality_after"] == pytest.approx(after.quality(share))
    assert row["flips"] == pytest.approx(row["to_strong"] + row["to_weak"])
    shuffled = after.aligned(after.prompt_ids[::-1])
    pd.testing.assert_frame_equal(
        decisions_changed(curve, shuffled, share=share, bootstrap=Bootstrap(n_resamples=5)),
        pd.DataFrame([row.to_dict()]),
    )


def test_intervals_of_a_change_are_those_of_a_literal_loop():
    curve = world(40, 0.4, 0.5)
    after = cross_calibrated(curve, "sigmoid")
    row = decisions_changed(
        curve, after, threshold=0.5, bootstrap=Bootstrap(confidence_level=0.8, n_resamples=30, random_state=4)
    ).iloc[0]
    changes = (after.win_rate >= 0.5).astype(int) - (curve.win_rate >= 0.5)
    gap = curve.strong_scores - curve.weak_scores
    draws = []
    for counts in np.concatenate(list(Bootstrap(n_resamples=30, random_state=4).counts(40))):
        rows = np.repeat(np.arange(40), counts.astype(int))
        draws.append([np.abs(changes[rows]).mean(), (changes * gap)[rows].mean()])
    (flips_low, low), (flips_high, high) = np.quantile(draws, [0.1, 0.9], axis=0)
    np.testing.assert_allclose(row[["flips_low", "flips_high"]].astype(float), [flips_low, flips_high])
    np.testing.assert_allclose(row[["difference_low", "difference_high"]].astype(float), [low, high])


def test_decisions_that_cannot_be_compared_are_refused():
    curve = world(30)
    for both in ({}, {"threshold": 0.5, "share": 0.5}):
        with pytest.raises(ParameterError, match=r"pass threshold=.* or share=.*, one of the two"):
            decisions_changed(curve, curve, **both)
    with pytest.raises(ParameterError, match="share must be a number from 0 to 1, got 30"):
        decisions_changed(curve, curve, share=30)
    for bad in ("half", np.nan, True):
        with pytest.raises(ParameterError, match="threshold must be a number"):
            decisions_changed(curve, curve, threshold=bad)
    with pytest.raises(DataError, match="not on the same prompts"):
        decisions_changed(curve, world(31), share=0.5)


def test_the_table_of_recalibration_has_a_row_per_method_and_rule():
    bootstrap, curve = Bootstrap(n_resamples=50), world(slope=0.4)
    table = recalibration_table(curve, 0.3, bootstrap=bootstrap)
    assert table[["method", "rule"]].to_numpy().tolist() == [
        ["isotonic", "win rate >= 0.5"],
        ["isotonic", "30% strong calls"],
        ["sigmoid", "win rate >= 0.5"],
        ["sigmoid", "30% strong calls"],
    ]
    after = cross_calibrated(curve, "sigmoid")
    assert table["ece"].iloc[-1] == calibration(after, bootstrap=bootstrap).ece.value
    assert table["flips"].iloc[-1] == decisions_changed(curve, after, share=0.3, bootstrap=bootstrap)["flips"].item()


# -- drawing -----------------------------------------------------------------------------------------------------------


def texts(figure):
    found = [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_visible()]
    return " ".join(" ".join(found).split())


def title(figure):
    return " ".join(figure.get_suptitle().split())


def test_the_diagram_shows_every_bin_and_says_who_is_off():
    found = {
        "ridge": calibration(world(), bootstrap=Bootstrap(n_resamples=100)),
        "best_one": calibration(world(shift=0.6, seed=1), bootstrap=Bootstrap(n_resamples=100)),
    }
    figure = plots.reliability_diagram(found, simulated=True, name="mmlu")
    worst = found["best_one"]
    assert title(figure) == (
        "1 of 2 sets of win rates is miscalibrated, most of all best one: off by "
        f"{worst.ece:.3f} ({worst.ece_null.value:.3f} by chance), too low on average"
    )
    shown = texts(figure)
    for label in (f"best one {worst.ece:.3f}", "calibrated", "SIMULATED DATA · mmlu, 2,000 prompts", "95% interval"):
        assert label in shown
    axes = figure.axes[0]
    drawn = [line.get_xydata() for line in axes.lines if line.get_marker() != "None"]
    for one, points in zip(found.values(), drawn, strict=True):
        np.testing.assert_array_equal(points, one.bins[["win_rate", "target"]])
    assert axes.get_xlim() == axes.get_ylim()
    assert len({line.get_marker() for line in figure.legends[0].legend_handles}) == 3
    for legend in figure.legends:
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_the_diagram_of_one_router_praises_no_chance():
    plain, off = (calibration(world(slope=slope), bootstrap=Bootstrap(n_resamples=100)) for slope in (1, 0.4))
    figure = plots.reliability_diagram({"best_one": plain}, simulated=False)
    assert title(figure) == ("Best one: predicted win rates no further from the observed ones than chance explains")
    assert "SIMULATED" not in texts(figure)
    assert title(plots.reliability_diagram({"a": plain, "b": plain}, simulated=False)).startswith(
        "All 2 sets: predicted"
    )
    expected = f"B: win rates are off by {off.ece:.3f} ({off.ece_null.value:.3f} by chance)"
    assert title(plots.reliability_diagram({"b": off}, simulated=False)) == expected
    assert title(plots.reliability_diagram({"b": off}, simulated=False, title="Mine")) == "Mine"
    with pytest.raises(ParameterError, match="no calibration given"):
        plots.reliability_diagram({}, simulated=False)
