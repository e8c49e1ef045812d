"""Odd prompts, votes, win rates, scores and arguments: every call ends well or in the package's own errors.

Each case has a seed of its own, which a failure names: ``case_of_curves(np.random.default_rng(seed))`` runs it again.
A few dozen of each part run in the fast tier, a few thousand in the slow one.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from odd_values import (
    CELLS,
    NAMES,
    NUMBERS,
    TEXTS,
    given,
    odd_frame,
    odd_numbers,
    odd_prompts,
    outcome,
    pick,
    run_cases,
)
from test_router_contract import OPTIONS, TRANSFORMERS, make

from routellm_lab import ModelPair, load_battles, load_outcomes
from routellm_lab.costs import Prices, count_tokens, load_prices, log_answers
from routellm_lab.evaluation import (
    Bootstrap,
    PairCostCurve,
    RoutingCurve,
    apgr_by_group,
    compare_all,
    compare_recipes,
    comparison_table,
    evaluate,
    evaluate_fits,
    holm,
    rank_correlation,
    required_questions,
    share_interval,
    should_route,
)
from routellm_lab.evaluation.calibration import decisions_changed
from routellm_lab.evaluation.cost_quality import CostQualityCurve
from routellm_lab.evaluation.guarantees import guarantee_table, verify_guarantee
from routellm_lab.evaluation.many_models import (
    at_budget,
    best_single_model,
    many_table,
    many_tests,
    pareto_models,
    single_models,
)
from routellm_lab.evaluation.model_panels import panel_against, panel_usage
from routellm_lab.evaluation.required_labels import required_labels, required_labels_pgr
from routellm_lab.policies import (
    OnlineThreshold,
    ThresholdPolicy,
    WinRateCalibrator,
    calibration,
    cross_calibrated,
    guarantee_missed,
    guarantee_pgr,
    policy_table,
    shares_over_time,
    threshold_transfer,
)
from routellm_lab.policies.many_models import route_many
from routellm_lab.preferences.sample import SAMPLE_PAIR
from routellm_lab.routers import ManyModelRouter
from routellm_lab.systems.cache import (
    SemanticCache,
    choose_threshold,
    labelled_pairs,
    play_stream,
    traffic_shares,
    zipf_stream,
)

CHEAP = [kind for kind in OPTIONS if kind not in TRANSFORMERS]
QUICK = {"encoder": "hashing:32", "epochs": 2, "dimensions": 4}
PAIRS = [SAMPLE_PAIR, ModelPair(SAMPLE_PAIR.weak, SAMPLE_PAIR.strong), ModelPair("x", "y"), None, "gpt-4", 3]
SEEDS = [0, 1, None, np.int64(3)]
SHARES = [*NUMBERS, [0.1, 0.2], np.linspace(0, 1, 3), pd.Series([0.5]), "half", [[0.5]], [0.5, None], np.array(["x"])]
ARGUMENTS = {
    "confidence_level": (0.9, NUMBERS),
    "bootstrap": (Bootstrap(0.9, 20), [Bootstrap(0.9, 1), Bootstrap(1e-9, 30), Bootstrap(1 - 1e-9, 7, None)]),
    "x": (0.5, NUMBERS),
    "share": (0.5, SHARES),
    "shares": ([0.2, 0.5], SHARES),
    "metric": ("cpt50", NAMES),
    "names": (["apgr", "pgr50"], [NAMES, ["cpt200"], [], "apgr", None, 3, [3], [None]]),
    "n_resamples": (20, [value for value in NUMBERS if not isinstance(value, (int, float)) or abs(value) < 99]),
    "n_permutations": (20, [value for value in NUMBERS if not isinstance(value, (int, float)) or abs(value) < 99]),
    "n_draws": (2, [value for value in NUMBERS if not isinstance(value, (int, float)) or abs(value) < 9]),
    "random_state": (0, SEEDS),
    "extra_variance": (0.0, NUMBERS),
    "extra_df": (3.0, NUMBERS),
    "power": (0.8, NUMBERS),
    "first": (0.7, NUMBERS),
    "second": (0.8, NUMBERS),
    "difference": (None, NUMBERS),
    "price_strong": (10.0, NUMBERS),
    "price_weak": (1.0, NUMBERS),
    "tolerance": (0.95, NUMBERS),
    "minimum": (5, NUMBERS),
    "quality": (0.6, NUMBERS),
    "pgr": (0.5, NUMBERS),
    "missed": (0.1, NUMBERS),
    "alpha": (0.1, NUMBERS),
    "delta": (0.1, NUMBERS),
    "gap": (0.2, NUMBERS),
    "of": ("all", [*NAMES, "weak"]),
    "bound": (None, NUMBERS),
    "dollars": (1.0, NUMBERS),
    "most": (20, NUMBERS),
    "cost_weight": (0.1, NUMBERS),
    "n_bins": (3, NUMBERS),
    "n_folds": (3, NUMBERS),
    "method": ("sigmoid", [*NAMES, "isotonic"]),
    "block": (7, NUMBERS),
    "window": (5, NUMBERS),
    "step": (0.01, NUMBERS),
    "n_labels": (20, NUMBERS),
    "held_out": (False, [True]),
    "threshold": (0.5, NUMBERS),
    "most_wrong": (0.2, NUMBERS),
    "near_share": (0.5, NUMBERS),
    "changed_share": (0.1, NUMBERS),
    "exponent": (1.0, NUMBERS),
    "procedure": ("sequence", [*NAMES, "bonferroni"]),
    "count": (3, NUMBERS),
    "n": (9, NUMBERS),
    "characters_per_token": (4.0, NUMBERS),
    "output_tokens": (None, [*NUMBERS, {"x": 3}, {}]),
    "router_usd_per_million": (1.0, NUMBERS),
}


def arguments(draw, function, **more):
    return given(draw, function, ARGUMENTS | more)


def call(draw, function, *before, **more):
    """What a call with arguments that are now and then odd gives; None after an error of the package."""
    chosen = arguments(draw, function, **more)
    return outcome(lambda: function(*before, **chosen))


def members(cases, seeds):
    """A case of tests: a few in the fast tier, many in the slow one."""
    few, many = seeds
    return pytest.mark.parametrize(
        ("case", "seeds"),
        [
            *(pytest.param(case, range(few), id=f"{case.__name__}-few") for case in cases),
            *(pytest.param(case, range(few, many), id=f"{case.__name__}", marks=pytest.mark.slow) for case in cases),
        ],
    )


def finite(value: Any) -> bool:
    return bool(np.isfinite(np.asarray(value, float)).all())


# --------------------------------------------------------------------------------------------------------- routers


@lru_cache
def votes():
    return load_battles("arena_human", data="sample", size=300)


@lru_cache
def router(kind):
    return quick(kind).fit(votes())


def quick(kind):
    return make(kind, **{name: value for name, value in QUICK.items() if name in OPTIONS[kind]})


def case_of_prompts(draw):
    fitted = router(pick(draw, CHEAP))
    state, threshold = draw.bit_generator.state, pick(draw, NUMBERS)
    count = None

    def prompts():  # a generator can be read once only
        draw.bit_generator.state = state
        return odd_prompts(draw)

    rates = outcome(lambda: fitted.win_rate(prompts()))
    if rates is not None:
        count = len(rates)
        assert rates.dtype == float
        assert ((rates >= 0) & (rates <= 1)).all()
    routed = outcome(lambda: fitted.route(prompts(), 0.5))
    assert (routed is None) == (rates is None)
    assert count is None or (len(routed) == count and set(routed) <= {SAMPLE_PAIR.strong, SAMPLE_PAIR.weak})
    outcome(lambda: fitted.route(prompts(), threshold))
    if isinstance(fitted, ManyModelRouter):
        utilities = outcome(lambda: fitted.log_strengths(prompts()))
        assert (utilities is None) == (rates is None)
        assert utilities is None or (finite(utilities) and len(utilities) == count)
        outcome(lambda: fitted.win_rate(prompts(), pick(draw, PAIRS)))


def case_of_votes(draw):
    few = votes().sample(int(draw.integers(5, 60)), random_state=int(draw.integers(99)))
    odd = odd_frame(draw, few)
    if draw.random() < 0.3 and isinstance(odd, pd.DataFrame) and odd.shape[1] and odd.columns.is_unique:
        odd = odd_frame(draw, odd)
    unfitted = quick(pick(draw, CHEAP))
    fitted = outcome(lambda: unfitted.fit(odd))
    if fitted is not None:
        rates = outcome(lambda: fitted.win_rate(TEXTS))
        assert rates is None or ((rates >= 0) & (rates <= 1)).all()


@members([case_of_prompts, case_of_votes], (40, 3_000))
def test_routers(case, seeds):
    run_cases(case, seeds)


# ---------------------------------------------------------------------------------------------------------- curves


@lru_cache
def outcomes():
    whole = load_outcomes("mmlu", data="sample")
    return whole.select(whole.prompts.index[:60])


@lru_cache
def good_rates():
    gap = outcomes().gap(SAMPLE_PAIR).to_numpy()
    return np.clip(0.5 + 0.2 * gap + 0.3 * np.random.default_rng(0).standard_normal(len(gap)), 0, 1)


def odd_outcomes(draw):
    """Outcomes with a few scores missing, equal, huge, or with prompts that repeat; now and then as they are."""
    whole = outcomes()
    scores = whole.scores.copy()
    column = pick(draw, [SAMPLE_PAIR.strong, SAMPLE_PAIR.weak])
    match draw.integers(9):
        case 0:
            scores.loc[draw.choice(scores.index, 20), column] = np.nan
        case 1:
            scores[column] = pick(draw, [0.0, 1.0, 1e308, -1e308, 1e-320, 7.0])
        case 2:
            scores[column] = 1 - scores[column]
        case 3:
            scores *= pick(draw, [1e300, 1e-300, -1, 10, 1e-17])
        case 4:
            return replace(whole, scores=scores, keys=whole.keys.mask(draw.random(60) < 0.5, "same"))
        case 5:
            return whole.select(whole.prompts.index[: draw.integers(1, 5)])
        case 6:
            scores[column] = draw.standard_cauchy(60)
    return outcome(lambda: replace(whole, scores=scores)) or whole


def odd_curve(draw):
    """A curve of odd win rates and scores; None where it was refused."""
    benchmark = odd_outcomes(draw)
    rates = good_rates()[: len(benchmark)]
    if draw.random() < 0.5:
        rates = odd_numbers(draw, rates)
    pair = SAMPLE_PAIR if draw.random() < 0.9 else pick(draw, PAIRS[1:3])
    return outcome(lambda: RoutingCurve.from_win_rates(rates, benchmark, pair))


def check(result, allowed=()):
    """No number of a result is NaN but in the columns (or of the names) where it has a meaning."""
    if isinstance(result, float):
        assert not np.isnan(result)
    elif isinstance(result, tuple):
        for value in result:
            check(value, allowed)
    elif isinstance(result, dict):
        for name, value in result.items():
            if name not in allowed:
                check(value, allowed)
    elif isinstance(result, pd.DataFrame):
        for name in result.columns:
            assert name in allowed or not result[name].isna().any(), name
    elif isinstance(result, np.ndarray) and result.dtype.kind == "f":
        assert not np.isnan(result).any()


PARTS = "strong_mean weak_mean strong_better weak_better apgr apgr_paper random_sd independent_prompts".split()
METHODS = "value cpt quality pgr to_frame oracle random_band summary interval intervals p_value_vs_random".split()


def case_of_curves(draw):
    curve = odd_curve(draw)
    if curve is None:
        return
    for name in PARTS:
        check(outcome(lambda name=name: getattr(curve, name)))
    for name in METHODS:
        check(call(draw, getattr(curve, name)), allowed=["pgr"])
    groups = pd.Series(draw.integers(3, size=60).astype(str), outcomes().prompts.index)
    if draw.random() < 0.5:
        groups = pick(draw, [groups[:10], groups.mask(groups == "0"), pd.Series(dtype=object), None, "x", list(groups)])
    call(draw, apgr_by_group, curve, groups)
    check(call(draw, should_route, curve))
    call(draw, required_questions, curve)
    other = odd_curve(draw) if draw.random() < 0.5 else curve.oracle()
    if other is not None:
        check(call(draw, curve.compare, other))
        outcome(lambda: curve.aligned(other.prompt_ids))
        curves = {("mmlu", "one"): curve, ("mmlu", "two"): other}
        check(call(draw, compare_all, curves))
        call(draw, comparison_table, curves)


def case_of_refits(draw):
    draws, seeds = int(draw.integers(1, 4)), int(draw.integers(1, 4))
    benchmark = odd_outcomes(draw)
    good = good_rates()[: len(benchmark)]
    rates = [[odd_numbers(draw, good) if draw.random() < 0.1 else good for _ in range(seeds)] for _ in range(draws)]
    fits = [[Given(rate) for rate in row] for row in rates]
    left_out = pick(
        draw,
        [((),), [list(benchmark.keys[:3])] * draws, [list(benchmark.keys)] * draws, [["nobody"], []], [[None]], []],
    )
    made = outcome(lambda: evaluate_fits(fits, benchmark, left_out))
    if made is None:
        return
    check(call(draw, made.apgr))
    check(call(draw, made.compare, made))
    check(call(draw, compare_recipes, {"one": made, "two": made}))
    call(draw, comparison_table, {("mmlu", "one"): made})
    outcome(lambda: made.rescored(odd_outcomes(draw)))


class Given:
    """A router of given win rates."""

    pair = SAMPLE_PAIR

    def __init__(self, rates):
        self.rates = rates

    def win_rate(self, prompts):
        return self.rates


def case_of_metrics(draw):
    outcome(lambda: evaluate(Given(odd_numbers(draw, good_rates())), odd_outcomes(draw), pick(draw, PAIRS)))
    numbers = odd_numbers(draw, draw.random(9))
    check(outcome(lambda: holm(numbers)))
    made = call(draw, Bootstrap)
    if made is not None:
        check(outcome(lambda: made.interval(made.means(draw.random(9)))))
    check(call(draw, rank_correlation, x=(numbers, [numbers]), y=(draw.random(9), [odd_numbers(draw, draw.random(9))])))


@members([case_of_curves, case_of_refits, case_of_metrics], (20, 1_500))
def test_curves(case, seeds):
    run_cases(case, seeds)


# -------------------------------------------------------------------------------------------------------- policies


@lru_cache
def prices():
    return load_prices("sample")


@lru_cache
def log():
    return log_answers(outcomes(), prices())


def odd_questions(draw):
    """A curve, with dollars or without, now and then an odd one; None where it was refused."""
    curve = (
        odd_curve(draw) if draw.random() < 0.5 else RoutingCurve.from_win_rates(good_rates(), outcomes(), SAMPLE_PAIR)
    )
    if curve is None or draw.random() < 0.3:
        return curve
    if draw.random() < 0.5:
        tokens = count_tokens(outcomes(), outcomes().models)
        return call(draw, PairCostCurve.from_tokens, curve, tokens, prices())
    costs = draw.random(len(curve)) + 0.1
    dear = odd_numbers(draw, costs * 9) if draw.random() < 0.5 else costs * 9
    return outcome(lambda: PairCostCurve(curve, dear, costs, pick(draw, [0.0, *NUMBERS])))


def case_of_thresholds(draw):
    questions = odd_questions(draw)
    rates = odd_numbers(draw, draw.random(int(draw.integers(1, 40))))
    made = [
        call(draw, ThresholdPolicy.for_share, rates, pair=(SAMPLE_PAIR, PAIRS)),
        call(draw, ThresholdPolicy, threshold=(0.5, NUMBERS), pair=(SAMPLE_PAIR, PAIRS), rule=("mine", ["mine"])),
    ]
    if questions is not None:
        made.append(call(draw, ThresholdPolicy.for_share, questions))
        made.append(call(draw, ThresholdPolicy.for_budget, questions))
        for target in ("quality", "pgr"):
            made.append(
                call(
                    draw,
                    ThresholdPolicy.for_quality,
                    questions,
                    **{other: (None, [None]) for other in {"quality", "pgr"} - {target}},
                )
            )
        for target in ("missed", "pgr"):
            made.append(
                call(
                    draw,
                    ThresholdPolicy.guaranteed,
                    questions,
                    **{other: (None, [None]) for other in {"missed", "pgr"} - {target}},
                )
            )
    for policy in made:
        if policy is None:
            continue
        answers = outcome(lambda policy=policy: policy.decide(rates))
        assert answers is None or set(answers) <= {policy.pair.strong, policy.pair.weak}
        assert outcome(policy.explain)
        if questions is not None:
            call(draw, policy.expect, questions)
            outcome(lambda policy=policy: policy.explain(questions))
    if questions is not None and made[0] is not None:
        outcome(lambda: policy_table({"one": made[0]}, questions))


def case_of_costs(draw):
    questions = odd_questions(draw)
    if not isinstance(questions, PairCostCurve):
        return
    names = (["dollars50", "ratio80"], [NAMES, ["saving0"], [], "saving50", None, 3])
    check(outcome(questions.to_frame), allowed=["pgr"])
    check(call(draw, questions.dollars))
    check(call(draw, questions.random_quality))
    check(call(draw, questions.value, metric=("saving50", NAMES)))
    check(call(draw, questions.intervals, names=names))
    check(call(draw, questions.points), allowed=["pgr"])
    call(draw, count_tokens, outcomes(), outcomes().models)


def case_of_promises(draw):
    curve = odd_curve(draw)
    check(call(draw, required_labels, missed=(0.01, NUMBERS), power=(0.8, [0.1, 0.9, 0, 1, None])))
    check(call(draw, required_labels_pgr))
    check(call(draw, share_interval))
    if curve is None:
        return
    for rule in (guarantee_missed, guarantee_pgr):
        found = call(draw, rule, curve)
        assert found is None or str(found)
    rule = lambda labelled: guarantee_missed(labelled, 0.3, of="all")  # noqa: E731
    groups = pick(draw, [None, outcomes().keys, outcomes().keys[:9], "x", pd.Series(dtype=object)])
    call(draw, verify_guarantee, curve, rule, groups=(None, [groups]))
    call(draw, guarantee_table, {"mmlu": curve}, {"one": rule}, [20, 30])


def case_of_calibration(draw):
    curve = odd_curve(draw)
    rates, targets = draw.random(20), draw.integers(3, size=20) / 2
    fitted = outcome(
        lambda: WinRateCalibrator(pick(draw, ["isotonic", "sigmoid", *NAMES])).fit(
            odd_numbers(draw, rates), odd_numbers(draw, targets)
        )
    )
    for method in ("isotonic", "sigmoid"):
        learned = outcome(lambda method=method: WinRateCalibrator(method).fit(rates, odd_numbers(draw, targets)))
        fitted = learned or fitted
    if fitted is not None:
        mapped = outcome(lambda: fitted.transform(odd_numbers(draw, rates)))
        assert mapped is None or ((mapped >= 0) & (mapped <= 1)).all()
    if curve is None:
        return
    outcome(lambda: WinRateCalibrator("isotonic").fit(curve))
    found = call(draw, calibration, curve)
    assert found is None or str(found)
    groups = pick(draw, [outcomes().keys, outcomes().keys[:9], "x", pd.Series(dtype=object), 3])
    crossed = call(draw, cross_calibrated, curve, groups=(None, [groups]))
    if crossed is not None:
        call(draw, decisions_changed, curve, crossed)


def case_of_drift(draw):
    online = call(draw, OnlineThreshold, pair=(SAMPLE_PAIR, PAIRS))
    if online is not None:
        outcome(lambda: online.seed(odd_numbers(draw, draw.random(9))))
        for _ in range(3):
            told = outcome(lambda: online.follow(odd_numbers(draw, draw.random(9))))
            check(told)
            outcome(lambda: online.decide(odd_numbers(draw, draw.random(9))))
    called = pick(
        draw, [draw.random(9) < 0.5, odd_numbers(draw, draw.random(9)), ["gpt-4"], [True, None], True, None, [[True]]]
    )
    check(call(draw, shares_over_time, called))
    curves = {"one": odd_curve(draw), "two": odd_curve(draw)}
    call(draw, threshold_transfer, {name: curve for name, curve in curves.items() if curve is not None})


def case_of_prices(draw):
    rows = [("a", 1.0, 2.0, "2024-06-26", "me"), ("b", 3.0, 4.0, "", "me")]
    table = pd.DataFrame(rows, columns=["model", "input_usd_per_mtok", "output_usd_per_mtok", "as_of", "source"])
    made = outcome(lambda: Prices(odd_frame(draw, table)))
    for model in () if made is None else made:
        assert 0 < made[model].input < np.inf
    outcome(lambda: prices()[pick(draw, NAMES)])
    call(
        draw,
        log_answers,
        outcomes(),
        prices(),
        models=(None, [["x"], "x", [], [None], None, outcomes().models[:2]]),
        most_missing=(0.05, NUMBERS),
    )


def case_of_many_models(draw):
    answers = log()
    worth = pd.DataFrame(draw.random((len(answers), len(answers.models))), answers.prompts.index, answers.models)
    if draw.random() < 0.5:
        worth = odd_frame(draw, worth)
    priced = pick(
        draw,
        [
            None,
            None,
            {},
            answers.table()["dollars"],
            answers.table()["dollars"] * -1,
            dict.fromkeys(answers.models, pick(draw, NUMBERS)),
            3,
        ],
    )
    outcome(lambda: route_many(worth, priced, pick(draw, NUMBERS)))
    panel = (None, [answers.models[:2], [], ["x"], "x", [None], [["a"]], 3, answers.models * 2])
    best = (best_single_model(answers), [*NAMES, answers.models[0]])
    options = {
        "models": panel,
        "best": best,
        "prices": (None, [priced]),
        "metric": ("aiq", [*NAMES, "quality", "saved", "dollars"]),
    }
    curve = call(draw, CostQualityCurve.from_scores, answers, worth, **options)
    for made in (
        curve,
        call(draw, CostQualityCurve.oracle, answers, **options),
        call(draw, CostQualityCurve.random_mix, answers, **options),
    ):
        if made is None:
            continue
        check(outcome(made.hull))
        call(draw, made.value, **options)
        call(draw, made.quality_at)
        call(draw, made.dollars_for)
        call(draw, made.cost_weight_at)
        call(draw, made.points, dollars=(None, [*NUMBERS, [1.0, 2.0]]))
        call(draw, at_budget, {"one": made})
    routers = pick(draw, [{"one": worth}, {"one": worth, "two": curve}, {}, {"one": None}, {"one": "x"}])
    call(draw, many_table, answers, routers, **options)
    call(draw, many_tests, answers, routers, **options, against=(None, NAMES))
    call(draw, panel_usage, answers, worth, **options, minimum=(2, NUMBERS))
    call(
        draw,
        panel_against,
        answers,
        answers.models[:2],
        worth,
        pick(draw, [answers.models[2:4], [], "x", [None]]),
        **options,
    )
    call(draw, single_models, answers)
    assert pareto_models(answers)


def case_of_the_cache(draw):
    cache = call(
        draw,
        SemanticCache,
        encoder=("hashing:32", ["hashing:0", "", None, 3, "hashing:x"]),
        same_numbers=(True, [False]),
    )
    for _ in range(8):
        text = pick(draw, [*TEXTS, *TEXTS, *CELLS])
        vector = pick(
            draw, [None, None, None, np.eye(32)[0], np.zeros(32), np.eye(3)[0], [[1.0]], "x", np.full(32, np.nan), 3]
        )
        if cache is not None:
            outcome(lambda text=text, vector=vector: cache.add(text, "answer", vector))
            hit = outcome(lambda text=text, vector=vector: cache.get(text, vector))
            assert hit is None or -1 <= hit.cosine <= 1
    texts = [pick(draw, TEXTS) for _ in range(8)] if draw.random() < 0.5 else odd_prompts(draw)
    pairs = call(
        draw,
        labelled_pairs,
        texts,
        encoder=("hashing:32", ["hashing:32"]),
        values=(None, [list(range(8)), [1], CELLS[:8], 3]),
    )
    known = pd.DataFrame({"cosine": draw.random(40), "same": draw.random(40) < 0.8})
    for frame in (pairs, odd_frame(draw, known)):
        chosen = call(draw, choose_threshold, frame)
        assert chosen is None or str(chosen)
    stream = call(draw, zipf_stream, outcomes().prompts)
    if stream is not None and len(stream):
        odd = odd_frame(draw, stream)
        outcome(lambda: traffic_shares(odd))
        plain = SemanticCache(0.9, "hashing:32")
        model = pick(draw, [log().models[0], *NAMES, log().models])
        outcome(lambda: play_stream(odd, plain, log(), model, prices()[log().models[0]]))


POLICIES = [case_of_thresholds, case_of_costs, case_of_promises, case_of_calibration, case_of_drift, case_of_prices]
POLICIES += [case_of_many_models, case_of_the_cache]


@members(POLICIES, (10, 600))
def test_policies(case, seeds):
    run_cases(case, seeds)
