"""Panels of models: majorities by hand, architectures that the text tells, and what logs cannot answer."""

import json

import numpy as np
import pandas as pd
import pytest
from test_cascade import log_of
from test_judge import KEY, VARIABLE, server  # noqa: F401  (a fixture)

from routellm_lab import load_battles, load_outcomes
from routellm_lab.costs import load_prices, log_answers
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.judging.endpoint import BudgetError
from routellm_lab.systems.best_of_n import best_of_n_gain
from routellm_lab.systems.mixture import layered_mixture
from routellm_lab.systems.panel_router import PanelRouter
from routellm_lab.systems.panels import majority, panel_gain_rows, panel_gains, sample_panels

USD = {"a": 1.0, "b": 2.0, "c": 4.0}


def said(*numbers):
    return [f"so the answer is {number}" for number in numbers]


def make_log():
    """Right answers are 1, 2, 3; of the last question nobody says the same."""
    scores = {"a": [1, 0, 1, 0], "b": [1, 1, 0, 1], "c": [0, 1, 0, 0]}
    return log_of(scores, USD, {"a": said(1, 9, 3, 7), "b": said(1, 2, 8, 4), "c": said(5, 2, 8, 6)})


def test_the_majority_answers_and_every_member_is_paid_in_one_round():
    log = make_log()
    played = majority(log, ["a", "b", "c"])
    assert played.quality.tolist() == [1, 1, 0, 0]  # of the last, the first in rank: a
    assert played.dollars == pytest.approx(log.costs.sum(axis=1))
    assert set(played.calls) == {3}
    assert set(played.rounds) == {1}
    ranked = majority(log, ["a", "b", "c"], train=log)  # b is best: of three answers its own counts
    assert ranked.quality.tolist() == [1, 1, 0, 1]
    alone = majority(log, ["b"])
    assert alone.quality.tolist() == log.outcomes.scores["b"].tolist()
    assert set(alone.rounds) == {1}


def test_a_panel_of_equal_models_gains_nothing():
    log = log_of({"a": [1, 0, 1], "b": [1, 0, 1], "c": [1, 0, 1]}, USD, {name: said(1, 2, 3) for name in "abc"})
    assert majority(log, ["a", "b", "c"]).quality.tolist() == majority(log, ["a"]).quality.tolist()


def test_random_panels_of_equal_models_gain_nothing_at_any_size():
    names = "abcdefgh"
    answers = {name: said(1, 2, 3, 4) for name in names}
    log = log_of({name: [1, 0, 1, 1] for name in names}, dict.fromkeys(names, 1.0), answers)
    table = panel_gains(log, log, n=10, bootstrap=Bootstrap(n_resamples=50))
    assert table["size"].tolist() == [1, 3, 5, 7]
    assert table["panels"].tolist() == [8, 10, 10, 8]
    figures = [f"over_{what}{end}" for what in ("mean", "best") for end in ("", "_low", "_high")]
    assert (table[[*figures, "ahead"]] == 0).all(axis=None)
    assert table["dollars"].tolist() == pytest.approx((table["size"] * 1000 * log.costs[:, 0].mean()).tolist())
    assert table["best_dollars"].tolist() == pytest.approx([1000 * log.costs[:, 0].mean()] * 4)


def test_random_panels_of_independent_models_gain_with_their_size():
    """Eight models, each right in 7 of 10 by itself, whose errors differ: a majority of k is right as often as
    counting says."""
    rng, n, names = np.random.default_rng(0), 2000, "abcdefgh"
    right = {name: rng.random(n) < 0.7 for name in names}
    answers = {
        name: [f"{row if ok else (number + 1) * 10_000 + row}" for row, ok in enumerate(right[name])]
        for number, name in enumerate(names)
    }
    log = log_of(right, dict.fromkeys(names, 1.0), answers)
    table = panel_gains(log, log, n=20, bootstrap=Bootstrap(n_resamples=200)).set_index("size")
    assert table.loc[1, ["over_mean_low", "over_mean_high", "over_best_low", "over_best_high"]].eq(0).all()
    assert table["over_mean"].is_monotonic_increasing
    of_two = 0.7**3 + 3 * 0.7**2 * 0.3 + 3 * 0.7 * 0.3**2 / 3  # two right, or one of three that all differ
    assert table.loc[3, "quality"] == pytest.approx(of_two, abs=0.02)
    for size in (3, 5, 7):
        assert 0 < table.loc[size, "over_best_low"] < table.loc[size, "over_best"] < table.loc[size, "over_mean"]
        assert table.loc[size, "over_best"] < table.loc[size, "over_best_high"]
    assert table.loc[7, "ahead"] == 1
    again = panel_gains(log, log, n=20, bootstrap=Bootstrap(n_resamples=200)).set_index("size")
    pd.testing.assert_frame_equal(table, again)


def test_gains_of_panels_as_rows_for_a_plot():
    log = make_log()
    table = panel_gains(log, log, [1, 3], n=5, bootstrap=Bootstrap(n_resamples=50))
    rows = panel_gain_rows(table)
    assert rows["panel"].tolist() == ["panel of 3", "panel of 3"]
    assert rows["compared with"].tolist() == ["its mean member", "its best member"]
    assert rows["value"].tolist() == table.loc[1, ["over_mean", "over_best"]].tolist()
    assert rows["high"].tolist() == table.loc[1, ["over_mean_high", "over_best_high"]].tolist()


def test_the_best_member_is_the_one_of_the_training_part():
    log = make_log()
    other = log_of({"a": [0, 0], "b": [0, 0], "c": [1, 1]}, USD)
    (row,) = panel_gains(log, other, (3,), bootstrap=Bootstrap(n_resamples=50)).to_dict("records")
    member = log.outcomes.scores.mean()
    assert row["over_best"] == pytest.approx(row["quality"] - member["c"])
    assert row["over_mean"] == pytest.approx(row["quality"] - member.mean())
    with pytest.raises(ParameterError, match="no model c"):
        panel_gains(log, other.only(["a", "b"]), (3,))


def test_a_panel_on_the_sample_beats_its_mean_member():
    log = log_answers(load_outcomes("gsm8k", data="sample"), load_prices("sample"))
    panel = log.models[4:9]
    played = majority(log, panel, log)
    assert played.quality.mean() > log.outcomes.scores[panel].mean().mean() + 0.05


@pytest.mark.parametrize(
    ("panel", "error", "message"),
    [
        ([], ParameterError, "a panel has 1 to 7 models, got 0"),
        ([*"abcdefgh"], ParameterError, "a panel has 1 to 7 models, got 8: a, b"),
        (["a", "a"], ParameterError, "panel a, a: a model is named twice"),
        (["a", "x"], ParameterError, "log of toy: no model x; it has a, b, c"),
        ("abc", ParameterError, r"one bare string; wrap it in a list: \['abc'\]"),
    ],
)
def test_panels_that_make_no_sense_are_refused(panel, error, message):
    with pytest.raises(error, match=message):
        majority(make_log(), panel)


def test_an_answer_without_a_number_has_no_vote():
    scores = {"a": [0, 0], "b": [1, 0], "c": [0, 1]}
    log = log_of(scores, USD, {"a": ["none", "none"], "b": said(4, "?"), "c": ["none", "no idea"]})
    assert majority(log, ["a", "b", "c"]).quality.tolist() == [1, 0]  # of the last, the first in rank


def test_a_missing_answer_is_named():
    log = log_of({"a": [1, 0], "b": [1, 1]}, USD, {"a": said(1, 2), "b": ["so 1", None]})
    with pytest.raises(DataError, match=r"1 answers are missing, the first of b to q1; .*AnswerLog.select"):
        majority(log, ["a", "b"])
    assert majority(log, ["b"]).quality.tolist() == [1, 1]  # alone it needs no vote


def test_answers_that_are_not_known_are_refused():
    log = log_answers(load_outcomes("mmlu_pro", data="sample"), load_prices("sample"))
    with pytest.raises(DataError, match="answers"):
        majority(log, log.models[:3])


def test_panels_are_drawn_without_doubles_and_by_seed():
    log = make_log()
    panels = sample_panels(log, (1, 2, 3), n=20)
    assert len(panels) == len(set(panels)) == 7
    big = log_answers(load_outcomes("gsm8k", data="sample"), load_prices("sample"))
    assert sample_panels(big, (3, 5), 10) == sample_panels(big, (3, 5), 10)
    assert sample_panels(big, (3,), 10, random_state=1) != sample_panels(big, (3,), 10)
    with pytest.raises(ParameterError, match="sizes"):
        sample_panels(log, (5,))


def test_the_router_asks_a_panel_only_where_the_text_says_that_it_pays():
    rng = np.random.default_rng(0)
    n = 300
    hard = rng.random(n) < 0.5
    right = np.arange(n) + 1000
    cheap = np.where(hard, rng.random(n) < 0.5, True)
    members = {name: np.where(hard, rng.random(n) < 0.8, True) for name in "bc"}
    scores = {"a": cheap} | members
    answers = {
        name: [f"{value if ok else -value - ord(name)}" for value, ok in zip(right, scores[name], strict=True)]
        for name in scores
    }
    log = log_of(scores, {"a": 0.1, "b": 1.0, "c": 1.0}, answers)
    texts = pd.Series(np.where(hard, "prove the lemma of rings", "add two apples"), log.prompts.index, dtype="str")
    texts = texts + " " + pd.Series(range(n), log.prompts.index).astype(str)
    log = type(log)(**{**vars(log), "outcomes": type(log.outcomes)(**{**vars(log.outcomes), "prompts": texts})})
    router = PanelRouter(panels=[("a", "b", "c")], cost_weight=0.05, encoder="hashing").fit(log)
    chosen = router.choose(log.prompts)
    dear = np.array([len(panel) > 1 or panel != ("a",) for panel in chosen])
    assert dear[hard].mean() > 0.9
    assert dear[~hard].mean() < 0.1
    played = router.play(log)
    assert played.quality.mean() > cheap.mean()
    assert played.calls.tolist() == [len(panel) for panel in chosen]
    assert set(played.rounds) == {1}
    assert len(router.architectures_) == 4
    router.cost_weight = 1e6
    assert set(router.choose(log.prompts)) == {("a",)}


def test_a_router_spends_its_budget_on_architectures_of_several_sizes():
    log = log_answers(load_outcomes("gsm8k", data="sample"), load_prices("sample"))
    router, lams = PanelRouter(sample_panels(log, (3, 5), 8), encoder="hashing:128").fit(log), []
    for budget in (0.3, 2.0, 8.0):
        router.cost_weight = router.cost_weight_at(budget, log.prompts)
        lams.append(router.cost_weight)
        assert 1000 * router.play(log).dollars.mean() == pytest.approx(budget, rel=0.25)
    assert lams[0] > lams[1] > lams[2] > 0
    router.cost_weight = lams[1]
    assert len({len(panel) for panel in router.choose(log.prompts)}) >= 3
    assert router.cost_weight_at(1000.0, log.prompts) == 0
    for budget in (1e-6, np.nan, np.inf):
        with pytest.raises(ParameterError, match=r"cheapest architectures cost 0\.\d+ USD .* the budget must be above"):
            router.cost_weight_at(budget, log.prompts)


def test_a_router_says_what_it_lacks():
    log = make_log()
    with pytest.raises(ParameterError, match="not fitted"):
        PanelRouter(encoder="hashing").cost_weight_at(1.0, ["x"])
    with pytest.raises(ParameterError, match="not fitted"):
        PanelRouter(encoder="hashing").choose(["x"])
    with pytest.raises(ParameterError, match="cost_weight must be a number from 0"):
        PanelRouter(cost_weight=-1).fit(log)
    with pytest.raises(ParameterError, match="no model x"):
        PanelRouter(panels=[("a", "x")]).fit(log)
    with pytest.raises(ParameterError, match="no model c"):
        majority(log, ["a", "c"], train=log.only(["a", "b"]))


def test_best_of_n_is_paired_over_prompts():
    rng = np.random.default_rng(0)
    rows = []
    for row in range(200):
        for model, rate in (("base", 0.4), ("pairrm-base", 0.6)):
            rows.append((f"question {row}", "reference", model, "model_b" if rng.random() < rate else "model_a"))
    battles = pd.DataFrame(rows, columns=["prompt", "model_a", "model_b", "winner"]).assign(judge="j")
    table = best_of_n_gain(battles, {"pairrm-base": ("base", "PairRM")}, Bootstrap(n_resamples=200))
    (row,) = table.to_dict("records")
    assert row["n"] == 200
    assert row["low"] < 0.2 < row["high"]
    assert row["gain"] == pytest.approx(row["best_win_rate"] - row["base_win_rate"])
    people = battles.assign(judge=[f"worker_{row % 90}" for row in range(len(battles))])
    (pooled,) = best_of_n_gain(people, {"pairrm-base": ("base", "PairRM")}, Bootstrap(n_resamples=200)).to_dict(
        "records"
    )
    assert (pooled["judge"], pooled["n"], pooled["gain"]) == ("human", 200, row["gain"])
    with pytest.raises(DataError, match="sample has none"):
        best_of_n_gain(load_battles("alpacaeval_judge", data="sample"))


def proposals(question):
    return "proposal: 4" if "<proposal_1>" not in question else f"joined {question.count('<proposal_')}"


def test_a_layered_mixture_asks_all_pays_once_and_goes_on(server, tmp_path):  # noqa: F811
    server.judge = proposals
    endpoints = {name: server.endpoint() for name in ("one", "two", "chief")}
    asked = ["What is 2 + 2?", "What is 3 + 1?"]
    paid = tmp_path / "paid.jsonl"
    answers = layered_mixture(endpoints, ["one", "two"], "chief", asked, paid, budget_usd=1.0, layers=2)
    assert answers["answer"].tolist() == ["joined 2"] * 2
    assert answers["proposals"].tolist() == [2, 2]
    assert answers["calls"].tolist() == [5, 5]
    assert answers["rounds"].tolist() == [3, 3]
    assert answers["dollars"].tolist() == pytest.approx([5 * (50 * 10 + 20 * 30) / 1e6] * 2)
    assert len(server.asked) == 10
    assert KEY not in paid.read_text()
    again = layered_mixture(endpoints, ["one", "two"], "chief", asked, paid, budget_usd=1.0, layers=2)
    pd.testing.assert_frame_equal(again, answers)
    assert len(server.asked) == 10
    with pytest.raises(BudgetError):
        layered_mixture(endpoints, ["one"], "chief", ["Another question?"], paid, budget_usd=0.01)
    with pytest.raises(ParameterError, match="no endpoint for three"):
        layered_mixture(endpoints, ["three"], "chief", asked, paid, budget_usd=1.0)
    assert VARIABLE not in paid.read_text()


def test_a_mixture_counts_what_it_paid(server, tmp_path):  # noqa: F811
    """Drafts that stay the same, a refused question and a budget that ends half-way: the figures are the file's."""
    server.judge, server.refused = (lambda _: "the same"), "bad"
    endpoints = {name: server.endpoint(concurrency=1) for name in ("one", "chief")}
    asked, paid = ["A good one?", "A bad one?"], tmp_path / "paid.jsonl"
    with pytest.raises(BudgetError, match="are spent"):
        layered_mixture(endpoints, ["one"], "chief", asked, paid, budget_usd=0.01, layers=3)
    assert len(server.asked) == 2  # the first layer fits
    table = layered_mixture(endpoints, ["one"], "chief", asked, paid, budget_usd=1.0, layers=3)
    assert len(server.asked) == 5  # four of the good question, none twice, and one refusal
    lines = [json.loads(line) for line in paid.read_text().splitlines()]
    assert table["dollars"].sum() == pytest.approx(sum(line["cost_usd"] for line in lines))
    assert table["answer"].isna().tolist() == [False, True]
    assert table["calls"].tolist() == [4, 1]
    assert table["rounds"].tolist() == [4, 1]
    with pytest.raises(ParameterError, match="layers must be a whole number"):
        layered_mixture(endpoints, ["one"], "chief", asked, paid, budget_usd=1.0, layers=0)
    (tmp_path / "other.jsonl").write_text(json.dumps({"reply": "x", "cost_usd": 0.1}) + "\n")
    with pytest.raises(DataError, match="no reply of layered_mixture"):
        layered_mixture(endpoints, ["one"], "chief", asked, tmp_path / "other.jsonl", budget_usd=1.0)
