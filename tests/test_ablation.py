"""Ablation: every setting is fitted as asked, compared on the same questions and fits, and nothing else changes."""

import numpy as np
import pytest

from routellm_lab import default_pair, evaluate
from routellm_lab.errors import ParameterError
from routellm_lab.evaluation import evaluate_fits, fit_again, holm
from routellm_lab.routers import RandomRouter, RidgeRouter
from routellm_lab.studies import ablation

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
        def _fit(self, battles):
            raise AssertionError("fitted")

    with pytest.raises(ParameterError, match=r"setting 'b': Invalid parameter 'tiers'"):
        ablation({Slow(PAIR): {"a": {"random_state": 1}, "b": {"tiers": 3}}}, [arena], benchmarks)
    with pytest.raises(ParameterError, match="'as here' is the reference"):
        ablation({Slow(PAIR): {"as here": {}}}, [arena], benchmarks)
    with pytest.raises(ParameterError, match="needs settings"):
        ablation({Slow(PAIR): {}}, [arena], benchmarks)
    with pytest.raises(ParameterError, match="needs evaluations"):
        ablation({Slow(PAIR): {"a": {}}}, [arena], {})
