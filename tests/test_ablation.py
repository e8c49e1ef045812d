"""Ablation: every setting is fitted as told, compared on the same resamples, and nothing else changes."""

import numpy as np
import pytest

from routellm_lab import default_pair, evaluate
from routellm_lab.errors import ParameterError
from routellm_lab.evaluation import ablation
from routellm_lab.routers import RandomRouter, RidgeRouter

PAIR = default_pair("sample")


@pytest.fixture(scope="module")
def benchmarks(mmlu):
    place = np.arange(len(mmlu))
    return {"mmlu": mmlu.select(place < 400), "rest": mmlu.select((place >= 400) & (place < 700))}


def test_each_row_is_a_fit_of_its_own(arena, benchmarks):
    router = RidgeRouter(PAIR, encoder="hashing:64")
    before = router.get_params()
    settings = {"one penalty": {"alphas": (5.0,)}, "fewer tiers": {"n_tiers": 5}}
    frame = ablation(router, settings, arena, benchmarks, n_resamples=100, random_state=3, level=0.9)
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
            curve = evaluate(fitted, outcomes)
            told = curve.compare(evaluate(plain, outcomes), n_resamples=100, random_state=3, level=0.9)
            assert row["apgr"] == curve.apgr
            assert (row["difference"], row["low"], row["high"], row["p_value"]) == (
                told.difference,
                told.low,
                told.high,
                told.p_value,
            )
            assert row["difference"] != 0
    reference = frame[frame["setting"] == "as here"]
    assert (reference["difference"] == 0).all()
    assert reference[["low", "high", "p_value"]].isna().all().all()
    assert reference["apgr"].tolist() == [evaluate(plain, outcomes).apgr for outcomes in benchmarks.values()]


def test_fitted_routers_serve_as_settings_and_as_reference(arena, benchmarks):
    first, second = (RandomRouter(PAIR, random_state=seed).fit(arena) for seed in (1, 2))
    frame = ablation(
        RandomRouter(PAIR, random_state=1), {"other seed": second}, arena, benchmarks, reference=second, n_resamples=20
    )
    assert (frame["difference"] == 0).all()
    frame = ablation(
        RandomRouter(PAIR, random_state=1), {"other seed": second}, arena, benchmarks, reference=first, n_resamples=20
    )
    expected = [evaluate(second, outcomes).apgr - evaluate(first, outcomes).apgr for outcomes in benchmarks.values()]
    assert frame.loc[frame["setting"] == "other seed", "difference"].tolist() == expected


def test_an_unknown_parameter_is_found_before_any_fit(arena, benchmarks):
    class Slow(RandomRouter):
        def _fit(self, battles):
            raise AssertionError("fitted")

    with pytest.raises(ParameterError, match=r"setting 'b': Invalid parameter 'tiers'"):
        ablation(Slow(PAIR), {"a": {"random_state": 1}, "b": {"tiers": 3}}, arena, benchmarks)
    with pytest.raises(ParameterError, match="'as here' is the reference"):
        ablation(Slow(PAIR), {"as here": {}}, arena, benchmarks)
    with pytest.raises(ParameterError, match="needs settings"):
        ablation(Slow(PAIR), {}, arena, benchmarks)
    with pytest.raises(ParameterError, match="needs evaluations"):
        ablation(Slow(PAIR), {"a": {}}, arena, {})
