"""Ablation: every setting is fitted as asked, compared on the same questions and fits, and nothing else changes."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from routellm_lab import default_pair, evaluate
from routellm_lab.errors import ParameterError
from routellm_lab.evaluation import evaluate_fits, fit_again, holm
from routellm_lab.routers import RandomRouter, RidgeRouter
from routellm_lab.studies import ablation, ablation_findings, paper_changes

PAIR = default_pair("sample")


@pytest.fixture(scope="module")
def benchmarks(mmlu):
    place = np.arange(len(mmlu))
    return {"mmlu": mmlu.select(place < 400), "rest": mmlu.select((place >= 400) & (place < 700))}


def test_each_row_is_a_fit_of_its_own(arena, benchmarks):
    router = RidgeRouter(PAIR, encoder="hashing:64")
    before = router.get_params()
    settings = {"one penalty": {"alphas": (5.0,)}, "fewer tiers": {"n_tiers": 5}}
    frame = ablation({router: settings}, [arena], benchmarks, confidence_level=0.9)
    assert router.get_params() == before
    assert not hasattr(router, "alpha_")
    assert frame[["setting", "benchmark"]].apply(tuple, axis=1).tolist() == [
        (setting, benchmark) for setting in ("as here", *settings) for benchmark in benchmarks
    ]
    assert set(frame["router"]) == {"ridge"}
    plain = RidgeRouter(PAIR, encoder="hashing:64").fit(arena)
    for name, setting in settings.items():
        fitted = RidgeRouter(PAIR, encoder="hashing:64", **setting).fit(arena)
        for benchmark, outcomes in benchmarks.items():
            row = frame[(frame["setting"] == name) & (frame["benchmark"] == benchmark)].iloc[0]
            here, other = (evaluate_fits([[each]], outcomes) for each in (plain, fitted))
            found = other.compare(here, 0.9)
            assert row["apgr"] == evaluate(fitted, outcomes).apgr
            assert row[["difference", "low", "high", "p_value"]].tolist() == [
                found.value,
                found.low,
                found.high,
                found.p_value,
            ]
            assert row["difference"] != 0
    reference = frame[frame["setting"] == "as here"]
    assert (reference["difference"] == 0).all()
    assert reference[["low", "high", "p_value", "p_holm"]].isna().all().all()
    assert reference["apgr"].tolist() == [evaluate(plain, outcomes).apgr for outcomes in benchmarks.values()]
    tested = frame[frame["setting"] != "as here"]
    np.testing.assert_array_equal(tested["p_holm"], holm(tested["p_value"]))


def test_settings_are_paired_by_draw_and_seed(arena, benchmarks):
    draws, router = [arena.head(1200), arena.tail(1200)], RandomRouter(PAIR)
    frame = ablation({router: {"the same": {}}}, draws, benchmarks, seeds=range(4))
    assert (frame["difference"] == 0).all()
    assert (frame["fits"] == 8).all()
    assert frame.loc[frame["setting"] == "the same", "p_value"].tolist() == [1, 1]
    mean = evaluate_fits(fit_again(router, draws, range(4)), benchmarks["mmlu"]).apgr_of_fits.mean()
    assert frame["apgr"].iloc[0] == pytest.approx(mean)


def test_fitted_routers_serve_as_settings_and_as_reference(arena, benchmarks):
    first, second = ([[RandomRouter(PAIR, random_state=seed).fit(arena)]] for seed in (1, 2))
    router = RandomRouter(PAIR, random_state=1)
    frame = ablation({router: {"other seed": second}}, [arena], benchmarks, references={router: second})
    assert (frame["difference"] == 0).all()
    frame = ablation({router: {"other seed": second}}, [arena], benchmarks, references={router: first})
    expected = [
        evaluate(second[0][0], outcomes).apgr - evaluate(first[0][0], outcomes).apgr for outcomes in benchmarks.values()
    ]
    assert frame.loc[frame["setting"] == "other seed", "difference"].tolist() == expected


def test_an_unknown_parameter_is_found_before_any_fit(arena, benchmarks):
    class Slow(RandomRouter):
        def learn(self, battles):
            raise AssertionError("fitted")

    with pytest.raises(ParameterError, match=r"setting 'b': Invalid parameter 'tiers'"):
        ablation({Slow(PAIR): {"a": {"random_state": 1}, "b": {"tiers": 3}}}, [arena], benchmarks)
    with pytest.raises(ParameterError, match="'as here' is the reference"):
        ablation({Slow(PAIR): {"as here": {}}}, [arena], benchmarks)
    with pytest.raises(ParameterError, match="needs settings"):
        ablation({Slow(PAIR): {}}, [arena], benchmarks)
    with pytest.raises(ParameterError, match="needs evaluations"):
        ablation({Slow(PAIR): {"a": {}}}, [arena], {})


def test_the_changes_of_the_paper_can_all_be_set(arena):
    changes = paper_changes(PAIR, "hashing:64", arena)
    assert [router.name for router in changes] == ["similarity_weighted", "matrix_factorization"]
    for router, settings in changes.items():
        before = router.get_params(deep=False)
        for name, setting in settings.items():
            after = clone(router).set_params(**setting).get_params(deep=False)
            changed = {key for key in setting if after[key] is not before[key] and str(after[key]) != str(before[key])}
            assert changed, name


def made(*rows):
    frame = pd.DataFrame(rows, columns=["router", "setting", "benchmark", "difference", "p_holm"])
    reference = frame["setting"] == "as here"
    return frame.assign(
        low=(frame["difference"] - 0.01).mask(reference),
        high=(frame["difference"] + 0.01).mask(reference),
        detectable=np.where(reference, np.nan, 0.03),
    )


POWER = pd.DataFrame(
    {"questions": [500, 80], "needed": [400, np.nan], "power_now": [0.85, np.nan]}, index=["MMLU", "MT Bench"]
)


def test_findings_name_the_largest_significant_change_of_each_kind():
    frame = made(
        ("knn", "as here", "MMLU", 0, np.nan),
        ("knn", "more_data", "MMLU", 0.05, 0.01),
        ("knn", "less", "MMLU", -0.04, 0.04),
        ("knn", "least", "MMLU", -0.06, 0.03),
        ("knn", "tiny", "MMLU", -0.004, 0.04),
        ("knn", "wild", "MMLU", 0.2, 0.9),
    )
    first, second, third, small, last = ablation_findings(frame, POWER, 0.75, 0.8)
    assert first.startswith("Consider knn with more_data on MMLU (APGR +0.050 [+0.040, +0.060]): the only significant")
    assert second.startswith("Do not use knn with least on MMLU (APGR -0.060 [-0.070, -0.050]): the largest of 2 sign")
    assert "significant losses of 0.01 or more in 5 tests (Holm)" in second
    assert "finds 80% of the time is 0.030 on MMLU (median" in third
    assert small.endswith("1 of 4 significant differences are smaller than 0.01 APGR.")
    assert last.endswith("of APGR 0.75 and 0.80, 80% of the time: MMLU 400 (has 500, chance now 85%).")


def test_findings_say_when_nothing_is_significant():
    frame = made(("knn", "as here", "MMLU", 0, np.nan), ("knn", "more", "MMLU", 0.05, 0.2))
    lines = ablation_findings(frame, POWER.tail(1), 0.75, 0.8)
    assert (
        lines[0] == "Keep the routers as they are here: no significant improvement of 0.01 or more in 1 tests (Holm)."
    )
    assert lines[1] == "No change is a significant loss of 0.01 or more in 1 tests (Holm)."
    assert lines[3].startswith("No ranking of these benchmarks has an APGR of 0.75 and of 0.8")
