"""Findings as sentences: each says what the numbers say, also where they are bad."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_cost import PAIR, costs_of, curve_of

from routellm_lab.evaluation import Bootstrap, Estimate
from routellm_lab.evaluation.expectation import Expectation
from routellm_lab.evaluation.significance import Difference
from routellm_lab.policies import ThresholdPolicy, advice, calibration, recalibration_table
from routellm_lab.policies.drift import DriftStudy

FEW = Bootstrap(n_resamples=100)
RNG = np.random.default_rng


def around(value: float, half: float = 0.01) -> Estimate:
    return Estimate(value, value - half, value + half)


POLICY = ThresholdPolicy(PAIR, 0.55, "80% of the gap")
EXPECTED = Expectation(
    "exam", 100, around(0.4), around(0.8), around(0.9), around(0.6), around(0.8), around(1.5), around(0.38),
    saving_over_mix=around(0.2),
)  # fmt: skip


def test_a_threshold_is_advised_with_what_it_gives():
    text = advice.threshold_advice(POLICY, EXPECTED)
    assert text.startswith(
        "Set the threshold to 0.550; expect 40% [39%, 41%] strong calls, 80% [79%, 81%] of the gap, "
    )
    assert "1.50 [1.49, 1.51] USD per 1,000 questions. This saves 38% [37%, 39%] against strong alone" in text
    assert text.endswith("and 20% [19%, 21%] against a random mix of equal quality.")
    better, even = Difference(0.1, 0.05, 0.15, 0.001, 100), Difference(0.0, -0.05, 0.05, 0.9, 100)
    assert advice.threshold_advice(POLICY, EXPECTED, better) == text
    assert advice.threshold_advice(POLICY, EXPECTED, even).startswith(
        "Try prompt length first: this router does not save significantly more."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"saving": around(0.0)}, "Do not route with the threshold 0.55"),
        ({"saving_over_mix": around(0.0)}, "but not significantly against a random mix of equal quality: 0% [-1%, 1%]"),
        ({"saving_over_mix": around(-0.2)}, "but costs 20% [19%, 21%] more than a random mix"),
        ({"pgr": Estimate(np.nan, np.nan, np.nan)}, "strong calls, 1.50"),
    ],
)
def test_a_threshold_that_gains_nothing_is_not_praised(changes, words):
    assert words in advice.threshold_advice(POLICY, replace(EXPECTED, **changes))


def test_a_router_is_compared_with_a_simpler_one_on_the_same_questions():
    costs = costs_of(RNG(0), 400)
    knows, opposite = (
        costs.oracle(),
        replace(costs, curve=replace(costs.curve, win_rate=1 - costs.curve.oracle().win_rate)),
    )
    assert "the router saves significantly more than length" in advice.baseline_advice(
        knows, opposite, "length", 0.5, FEW
    )
    assert "so prefer it at this quality" in advice.baseline_advice(opposite, knows, "length", 0.5, FEW)
    assert "length is not significantly different (router minus length: +0 [+0, +0] points)" in advice.baseline_advice(
        costs, costs, "length", 0.5, FEW
    )


def test_cases_cheaper_than_a_random_mix_are_counted_in_dollars():
    rows = [
        ("exam, 50% of the gap", "in calls", 2.0, 1.5, 3.0),
        ("exam, 50% of the gap", "in dollars, mine", 1.3, 1.1, 1.5),
    ]
    rows.append(("exam, 80% of the gap", "in dollars, mine", 1.1, 0.9, 1.2))
    text = advice.mix_advice(pd.DataFrame(rows, columns=["what", "measure", "value", "low", "high"]))
    assert "a random mix costs 1.30 [1.10, 1.50] times as much as the router, with mine" in text
    assert "significantly cheaper in 1 of 2 combinations" in text


def test_the_worst_transfer_of_a_threshold_is_told():
    names = ["chosen_on", "applied_to", "share", "low", "high"]
    moved = pd.DataFrame(
        [("a", "a", 0.5, 0.4, 0.6), ("a", "my_exam", 0.9, 0.8, 0.95), ("my_exam", "a", 0.3, 0.2, 0.4)], columns=names
    )
    expected = "A threshold that sends 50% of a to the strong model sends 90% [80%, 95%] of my exam to it"
    assert advice.transfer_finding(moved, 0.5) == expected
    assert advice.transfer_finding(moved[:1], 0.5).startswith("One benchmark only")


def test_a_promise_is_advised_with_its_threshold_or_refused_with_the_reason():
    curve = curve_of(RNG(1), 600)
    curve = replace(curve, win_rate=np.clip(0.5 + 0.4 * curve.gap + 0.1 * RNG(2).random(600), 0, 1))
    policy = ThresholdPolicy.guaranteed(curve, missed=0.1, of="all", fallback="strong")
    text = advice.promise_advice(policy, curve, FEW)
    assert text.startswith(
        "Promise at most 10.0% of all questions missed, with probability 90%: "
        f"set the threshold to {policy.threshold:.3f}"
    )
    assert text.endswith("missed (promise kept).")
    loose = replace(policy, threshold=1.0, guarantee=replace(policy.guarantee, threshold=1.0))
    assert "(promise broken)" in advice.promise_advice(loose, curve, FEW)
    gap = ThresholdPolicy.guaranteed(curve, pgr=0.5, fallback="strong")
    assert "Promise at least 50% of the gap" in advice.promise_advice(gap, curve, FEW)
    few = ThresholdPolicy.guaranteed(curve_of(RNG(1), 8), missed=0.05, fallback="strong")
    text = advice.promise_advice(few, curve, FEW)
    assert text.startswith("Promise nothing with these labels, and call strong always. The reason:")
    assert "too few to promise" in text


def test_broken_promises_and_labels_are_counted():
    kept = pd.DataFrame(
        {
            "benchmark": "exam",
            "promise": ["a", "b"],
            "labels": [100, 300],
            "broken": [0.2, 0.05],
            "abstained": [0.0, 1.0],
        }
    ).assign(broken_low=[0.15, 0.01], broken_high=[0.25, 0.1])
    text = advice.promises_advice(kept, 0.1)
    assert text.startswith("1 of 2 combinations")
    assert "The highest rate is 20.0% [15.0%, 25.0%]: a, exam, 100 labels." in text
    assert advice.promises_advice(kept[1:], 0.1).startswith("None of 1 combinations")
    needed = pd.DataFrame({"promise": ["at most 5% are missed"], "counted": ["all"], "least": [30], "likely": [203.0]})
    text = advice.labels_advice(needed, kept)
    assert text.startswith("Label at least 30 questions to promise that at most 5% are missed, and about 203 where")
    assert text.endswith("In more than 90% of the draws no threshold qualifies for: b (exam, up to 300 labels).")


@pytest.mark.parametrize(
    ("fixed", "online", "words"),
    [
        (0.8, 0.51, "Use an online threshold where the traffic changes"),
        (0.5, 0.5, "A fixed threshold kept its share here"),
        (0.8, 0.9, "Neither kind of threshold kept its share here"),
    ],
)
def test_an_online_threshold_is_advised_where_it_helps(fixed, online, words):
    drift = DriftStudy(0.5, {}, {"fixed": around(fixed), "online": around(online)}, {}, pd.DataFrame())
    assert advice.drift_advice(drift).startswith(f"{words}. Asked for 50% strong calls")


def test_calibration_is_judged_against_chance():
    rng = RNG(0)
    curve = curve_of(rng, 2000)
    off = replace(curve, win_rate=0.9 + 0.1 * curve.win_rate)
    text = advice.calibration_advice(
        "exam", calibration(off, bootstrap=FEW), recalibration_table(off, 0.5, bootstrap=FEW)
    )
    assert text.startswith("Do not read win rates as probabilities: on exam they are off by")
    assert "Recalibration (isotonic) changes" in text
    assert text.endswith("with the rule \u201c50% strong calls\u201d.")
    fair = rng.random(2000)
    won = (rng.random(2000) < fair).astype(float)
    good = replace(curve, win_rate=fair, strong_scores=won, weak_scores=1 - won)
    text = advice.calibration_advice(
        "exam", calibration(good, bootstrap=FEW), recalibration_table(off, 0.5, bootstrap=FEW)
    )
    assert "no more than chance explains" in text
