"""What systems report: played back on logged answers, side by side, with paired differences."""

import numpy as np
import pandas as pd
import pytest
from test_plots import make_log, title

from routellm_lab import ModelPair, plots
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap, holm
from routellm_lab.systems import (
    METRICS,
    Replay,
    System,
    best_settings,
    cheapest_match,
    compare_systems,
    count_significant,
    load_word_problems,
    mixed_at,
    paired_gains,
    replayed_choices,
    systems_table,
    verdicts,
)
from routellm_lab.systems.blender import Blender
from routellm_lab.systems.cascade import AutoMix, Cascade
from routellm_lab.systems.hybrid import HybridRouter
from routellm_lab.systems.panel_router import PanelRouter
from routellm_lab.systems.rankers import TextPairRanker


def test_one_call_per_question_is_paid_and_scored():
    log = make_log()
    cheap, dear = log.models[0], log.models[-1]
    mixed = np.where(np.arange(len(log)) % 2 == 0, cheap, dear)
    played = replayed_choices("mixed", log, mixed)
    assert played.quality.tolist() == [
        log.outcomes.scores.loc[row, m] for row, m in zip(log.prompts.index, mixed, strict=True)
    ]
    assert played.dollars.sum() == pytest.approx(log.costs[::2, 0].sum() + log.costs[1::2, -1].sum())
    assert (played.calls == 1).all()
    assert (played.rounds == 1).all()
    for wrong in (mixed[:-1], ["nobody"] * len(log)):
        with pytest.raises(DataError, match="mixed: needs one model of the log per question"):
            replayed_choices("mixed", log, wrong)


def test_systems_stand_side_by_side_with_paired_differences():
    log = make_log()
    alone = [replayed_choices(model, log, [model] * len(log)) for model in (log.models[0], log.models[-1])]
    table = systems_table(alone, Bootstrap(n_resamples=200))
    assert table["quality"].tolist() == pytest.approx([played.quality.mean() for played in alone])
    assert table["dollars"].tolist() == pytest.approx([1000 * played.dollars.mean() for played in alone])
    assert ((table["quality_low"] <= table["quality"]) & (table["quality"] <= table["quality_high"])).all()
    apart = compare_systems(*alone[::-1], bootstrap=Bootstrap(n_resamples=200))
    assert apart.difference == pytest.approx(table["quality"].iloc[1] - table["quality"].iloc[0])
    assert apart.low > 0
    assert compare_systems(*alone, what="dollars", bootstrap=Bootstrap(n_resamples=200)).high < 0
    wide, narrow = (
        compare_systems(*alone, bootstrap=Bootstrap(confidence_level=level, n_resamples=200)) for level in (0.99, 0.5)
    )
    assert wide.low < narrow.low < narrow.high < wide.high
    with pytest.raises(ParameterError, match="what must be one of quality, dollars, calls, rounds, got 'latency'"):
        compare_systems(*alone, what="latency")


@pytest.mark.parametrize("figure", METRICS)
@pytest.mark.parametrize("value", [np.inf, np.nan, -1.0])
def test_figures_that_are_none_are_refused(figure, value):
    log = make_log()
    one = replayed_choices("one", log, [log.models[0]] * len(log))
    figures = {name: getattr(one, name).copy() for name in METRICS}
    figures[figure][3] = value
    if figure == "quality" and value == -1:
        assert Replay("odd", one.prompt_ids, **figures).quality[3] == -1
        return
    with pytest.raises(DataError, match=f"odd: {figure} must be finite.* got {value} for {one.prompt_ids[3]}"):
        Replay("odd", one.prompt_ids, **figures)


def test_what_learns_from_a_log_and_is_played_on_one_is_a_system():
    for one in (Cascade(), AutoMix("a", "b", ["c"]), Blender(TextPairRanker(), ["a", "b"]), PanelRouter()):
        assert isinstance(one, System)
    for other in (TextPairRanker(), HybridRouter(ModelPair("a", "b"))):
        assert not isinstance(other, System)


def test_gains_over_one_model_and_over_a_router_at_the_same_cost():
    log = make_log()
    low, middle, high = (log.models[at] for at in (0, len(log.models) // 2, -1))
    alone = {model: replayed_choices(model, log, [model] * len(log)) for model in log.models}
    half = replayed_choices("half", log, np.where(np.arange(len(log)) % 2 == 0, low, middle))
    again = replayed_choices("half again", log, np.where(np.arange(len(log)) % 2 == 0, low, middle))
    router = [alone[low], alone[middle]]
    found = paired_gains({"own": [half, again], "dear": [alone[high]]}, router, alone[high], Bootstrap(n_resamples=200))
    assert found["system"].tolist() == ["half", high]  # what decides alike stands here once
    own, dear = found.to_dict("records")
    cost = 1000 * half.dollars.mean()
    expected = compare_systems(half, mixed_at(router, cost), bootstrap=Bootstrap(n_resamples=200))
    assert (own["over_router"], own["over_router_low"]) == (expected.difference, expected.low)
    assert own["dollars"] == pytest.approx(cost)
    assert own["gain"] == pytest.approx(half.quality.mean() - alone[high].quality.mean())
    assert (dear["gain"], dear["gain_low"], dear["gain_high"], dear["gain_p"]) == (0, 0, 0, 1)
    assert np.isnan([dear["over_router"], dear["over_router_low"], dear["over_router_p"]]).all()  # dearer than all
    (edge,) = paired_gains({"own": [alone[middle]]}, router, alone[high], Bootstrap(n_resamples=50)).to_dict("records")
    assert edge["over_router"] == 0


def test_a_mix_of_settings_costs_what_was_asked():
    log = make_log()
    low, high = (replayed_choices(model, log, [model] * len(log)) for model in (log.models[0], log.models[-1]))
    costs = [1000 * played.dollars.mean() for played in (low, high)]
    middle = mixed_at([high, low], sum(costs) / 2)
    assert 1000 * middle.dollars.mean() == pytest.approx(sum(costs) / 2)
    assert middle.quality.mean() == pytest.approx((low.quality.mean() + high.quality.mean()) / 2)
    for asked, end in ((0.0, low), (1e9, high)):
        assert mixed_at([low, high], asked).quality.tolist() == end.quality.tolist()
    assert mixed_at([low], 1.0).quality.tolist() == low.quality.tolist()


def test_systems_on_other_questions_are_refused():
    log = make_log()
    one = replayed_choices("one", log, [log.models[0]] * len(log))
    part = log.select(log.prompts.index[:10])
    with pytest.raises(DataError, match="one and two were played on other questions"):
        systems_table([one, replayed_choices("two", part, [log.models[0]] * 10)])
    with pytest.raises(DataError, match="no systems"):
        systems_table([])
    with pytest.raises(DataError, match="odd: calls must be one number per question"):
        Replay("odd", one.prompt_ids, one.quality, one.dollars, one.calls[:3], one.rounds)


def make_gains(rows, **more):
    """A table as of `paired_gains`: (family, system, dollars, gain over the router, its corrected p-value)."""
    frame = pd.DataFrame(rows, columns=["family", "system", "dollars", "over_router", "over_router_p_holm"])
    frame = frame.assign(quality=0.9, calls=frame["dollars"] + 1, rounds=1.5, gain=frame["over_router"] - 0.01, **more)
    frame["gain_p_holm"] = 1.0
    for value in ("over_router", "gain"):
        frame = frame.assign(**{f"{value}_low": frame[value] - 0.02, f"{value}_high": frame[value] + 0.02})
    return frame


GAINS = make_gains(
    [
        ("cascade", "cascade within 1 USD", 1.0, 0.05, 0.01),
        ("cascade", "cascade within 2 USD", 2.0, 0.03, 0.2),
        ("panel", "panel of 2: a, b", 0.5, -0.04, 0.02),
        ("panel", "panel of 3: a, b, c", 9.0, np.nan, np.nan),
    ]
)
BIG = pd.Series({"system": "big", "quality": 0.95, "quality_low": 0.9, "quality_high": 1.0, "dollars": 4.0})


def test_gains_are_corrected_over_the_rows_of_their_table():
    log = make_log()
    low, middle, high = (log.models[at] for at in (0, len(log.models) // 2, -1))
    alone = {model: replayed_choices(model, log, [model] * len(log)) for model in (low, middle, high)}
    families = {"own": [alone[middle]], "dear": [alone[high]]}
    found = paired_gains(families, [alone[low], alone[middle]], alone[low], Bootstrap(n_resamples=200))
    assert found["gain_p_holm"].tolist() == holm(found["gain_p"]).tolist()
    assert found["over_router_p_holm"].isna().tolist() == [False, True]  # nothing to correct where nothing is compared


def test_settings_count_as_significant_after_the_correction_only():
    counts = count_significant(GAINS)
    assert counts == {"compared": 3, "better": 1, "worse": 1, "better_uncorrected": 2, "worse_uncorrected": 1}
    assert count_significant(GAINS, confidence_level=0.7)["better"] == 2
    assert count_significant(GAINS, "gain")["better"] == 0
    assert best_settings(GAINS)["system"].tolist() == ["cascade within 1 USD", "panel of 2: a, b"]
    with pytest.raises(DataError, match="over_router_p_holm"):
        count_significant(GAINS.drop(columns="over_router_p_holm"))


def test_a_decision_is_for_a_system_only_where_one_is_significantly_better():
    assert verdicts.decision(GAINS, "cascade") == (
        "Use cascade within 1 USD where 1 USD per 1,000 questions may be spent: expect +0.050 [+0.030, +0.070] of "
        "quality over the one-call router at that cost. Of 3 settings, 1 is significantly better at the same cost "
        "and 1 is significantly worse (paired bootstrap, Holm)."
    )
    luck = GAINS.assign(over_router_p_holm=[0.2, 0.3, 0.02, np.nan])
    refused = verdicts.decision(luck, "cascade")
    assert refused.startswith("Do not replace the one-call router by a cascade: at the same cost no setting of 3 is ")
    assert "better and 1 is significantly worse" in refused
    best = "differs by +0.050 [+0.030, +0.070] of quality (cascade within 1 USD; uncorrected)."
    assert refused.endswith(f"The best one, chosen afterwards, {best}")
    assert "significantly better or worse" in verdicts.decision(luck.assign(over_router_p_holm=1.0), "cascade")
    with pytest.raises(DataError, match="no cascade costs what the router can cost"):
        verdicts.decision(GAINS.iloc[3:], "cascade")


def test_titles_and_sentences_say_what_is_significant_and_what_was_chosen_afterwards():
    assert verdicts.router_title(GAINS) == (
        "1 of 3 settings is significantly better than one call at the same cost: cascade within 1 USD, "
        "+0.050 [+0.030, +0.070]"
    )
    none = GAINS.assign(over_router_p_holm=1.0)
    assert verdicts.router_title(none).endswith("is significantly better or worse than one call at the same cost")
    assert verdicts.best_model_title(GAINS, BIG) == (
        "No setting is significantly better than big alone; seen afterwards, cascade within 1 USD reaches it for 25% "
        "of its cost"
    )
    below = GAINS.assign(gain=[-0.1, -0.05, -0.2, np.nan])
    told = verdicts.against_best_model(below.assign(gain_low=below["gain"] - 0.01, gain_high=below["gain"] + 0.01), BIG)
    assert told.startswith(
        "No setting is significantly better than big alone, whose quality is 0.950 [0.900, 1.000] (Holm"
    )
    assert "Chosen afterwards, cascade within 2 USD comes nearest to its quality: -0.050" in told
    assert "wait for 1.50 to 1.50 calls" in verdicts.cascade_waits(GAINS)
    assert "No setting waits" in verdicts.cascade_waits(GAINS.assign(rounds=1.0))


def test_what_a_run_records_of_gains():
    found = verdicts.gain_metrics(GAINS, BIG)
    assert found["settings"] == 4
    assert (found["better_than_router_holm"], found["better_than_router_uncorrected"]) == (1, 2)
    assert (found["worse_than_router_holm"], found["outside_the_router_costs"]) == (1, 1)
    assert (found["nearest_to_best"], found["nearest_share_of_cost"]) == ("cascade within 1 USD", 0.25)


def test_gains_for_readers_have_short_names_and_nothing_compared_with_itself():
    same = GAINS.assign(gain=[0.01, 0.0, 0.02, 0.0], gain_low=[0.0, 0.0, 0.01, 0.0], gain_high=[0.1, 0.0, 0.03, 0.0])
    shown = verdicts.gains_for_readers(same.iloc[[1, 0, 3, 2]])
    assert shown["system"].tolist() == ["cascade within 1 USD", "cascade within 2 USD", "panel of 2", "panel of 3"]
    assert shown["gain"].isna().tolist() == [False, True, False, True]


def test_panels_and_rankers_in_sentences():
    sampled = pd.DataFrame({"size": [1, 7], "panels": [3, 50], "dollars": [1.0, 6.0], "best_dollars": [1.0, 2.0]})
    sampled = sampled.assign(
        over_best=[0.0, -0.02], over_best_low=[0.0, -0.03], over_best_high=[0.0, -0.01], ahead=0.06
    )
    assert verdicts.panel_title(sampled).endswith("scores 0.020 [0.010, 0.030] below its best member")
    assert (
        "-0.020 [-0.030, -0.010] of quality over the panel's best member, at 3.0 times its cost; 6% of 50 panels"
        in (verdicts.panel_sentence(sampled))
    )
    rows = [("text", "ranker", 0.8, 0.0), ("text", "longer answer", 0.6, 0.2), ("text", "better model", 0.9, -0.1)]
    agreed = pd.DataFrame(rows, columns=["ranker", "judged by", "accuracy", "ahead"])
    agreed = agreed.assign(low=0.5, high=1.0, ahead_low=agreed["ahead"] - 0.1, ahead_high=agreed["ahead"] + 0.1)
    assert verdicts.ranker_sentence(agreed) == (
        "Agreement with held-out verdicts: the text ranker with 80% [50%, 100%], the longer answer with 60% [50%, "
        "100%]. The text ranker's lead over the rule that the longer answer wins is "
        "+0.200 [+0.100, +0.300] (uncorrected)."
    )
    picking = GAINS.assign(gain_p_holm=[0.01, 0.2, 1.0, 1.0]).iloc[:3]
    assert "1 of 3 is significantly different" in verdicts.picking_sentence(picking, "a")
    assert "none is significantly different" in verdicts.picking_sentence(picking.iloc[1:], "a")


def test_the_lead_of_one_router_in_a_sentence():
    rows = [("ours", 0.7, np.nan, np.nan), ("other", 0.6, 0.1, 0.01), ("third", 0.69, 0.01, 0.5)]
    leads = pd.DataFrame(rows, columns=["router", "apgr", "lead", "p_holm"]).assign(low=0.5, high=0.8)
    leads = leads.assign(lead_low=leads["lead"] - 0.05, lead_high=leads["lead"] + 0.05)
    told = verdicts.lead_sentence(leads, "ours", "a / b")
    assert told.startswith("ours has an APGR of 0.700 [0.500, 0.800] on a / b: significantly better than 1 of 2 other")
    assert told.endswith("The largest difference is +0.100 [+0.050, +0.150] (other).")
    assert "not significantly different from any" in verdicts.lead_sentence(leads.assign(p_holm=1.0), "ours", "a / b")


def test_the_word_problems_of_the_sample_are_cut_in_halves_and_priced():
    problems = load_word_problems("sample", steps=4)
    assert not set(problems.train.outcomes.keys) & set(problems.test.outcomes.keys)
    assert len(problems.train) + len(problems.test) == len(problems.log)
    prices = problems.prices
    assert problems.best == problems.train.table()["score"].idxmax()
    assert prices[problems.front].is_monotonic_increasing
    assert prices[problems.front[-1]] <= prices[problems.best]
    assert set(problems.front) <= set(problems.singles.index[problems.singles["pareto"]])
    assert (prices[problems.cheap] <= prices[problems.best] / 10).all()
    assert problems.budgets[[0, -1]].tolist() == pytest.approx([1.5 * prices.min(), prices[problems.best]])
    assert not {problems.best, problems.small} & set(problems.near_small())
    assert problems.models_table(Bootstrap(n_resamples=20))["system"].tolist() == problems.log.models


def test_word_problems_take_other_models_and_refuse_unknown_ones():
    given = load_word_problems("sample", strong="sim-granite", weak="sim-pebble")
    assert given.pair == ModelPair("sim-granite", "sim-pebble")
    assert given.budgets[-1] == pytest.approx(given.prices["sim-granite"])
    with pytest.raises(ParameterError, match=r"no model 'sim-granit' \(nearest: sim-granite,"):
        load_word_problems("sample", strong="sim-granit")
    with pytest.raises(ParameterError):
        load_word_problems("sample", strong="sim-granite", weak="sim-granite")


def test_a_router_that_knows_everything_calls_within_its_budgets():
    problems = load_word_problems("sample")

    class Knows:
        def expected_scores(self, prompts):
            return problems.log.outcomes.scores.loc[prompts.index]

    decisions = problems.route(Knows(), 6)
    assert decisions.shape == (len(problems.test), 6)
    assert decisions.index.equals(problems.test.prompts.index)
    spent = [1000 * replayed_choices("knows", problems.test, chosen).dollars.mean() for _, chosen in decisions.items()]
    assert spent == sorted(spent)
    best = problems.alone(problems.best)
    assert replayed_choices("knows", problems.test, decisions.iloc[:, -1]).quality.mean() >= best.quality.mean()


def make_table():
    log = make_log()
    alone = [replayed_choices(model, log, [model] * len(log)) for model in log.models]
    return systems_table(alone, Bootstrap(n_resamples=100))


def test_the_picture_of_systems_shows_families_the_router_and_the_best_model():
    models = make_table()
    frame = models.iloc[-3:].assign(family=["a", "a", "b"])
    router, best = models.iloc[[0, 5, -1]], models["system"].iloc[-1]
    figure = plots.systems(frame, router, models, simulated=True, title="A finding", best=best)
    assert title(figure) == "A finding"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["router, one call", f"{best} alone"]
    assert labels[-2:] == ["a", "b"]
    low = models.iloc[:3].assign(quality=-1.0)
    crowded = plots.systems(frame, router, pd.concat([low, models.iloc[3:]]), simulated=True, title="x", best=best)
    assert "single models (3 lie lower)" in [text.get_text() for text in crowded.legends[0].get_texts()]
    with pytest.raises(DataError, match="systems"):
        plots.systems(frame.drop(columns="family"), router, models, simulated=True, title="x", best=best)


def test_the_picture_of_gains_fills_what_is_significant_and_counts_what_is_left_out():
    figure = plots.system_gains(GAINS, simulated=False, title="A finding", xlabel="gain")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:2] == ["cascade", "within 1 USD (costs 1, 2.0 calls)"]
    assert len(labels) == 5  # two headers, three settings
    filled = [line.get_markerfacecolor() != "white" for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert filled == [True, False, True]
    assert "left out: 1 of a cost" in figure.legends[0].get_title().get_text()
    with pytest.raises(DataError, match="system_gains"):
        plots.system_gains(GAINS.iloc[3:], simulated=False, title="x", xlabel="gain")


def test_the_cheapest_match_is_not_the_model_itself():
    same = GAINS.iloc[:1].assign(system="big again", dollars=0.01, gain=0.0, gain_low=0.0, gain_high=0.0)
    assert cheapest_match(pd.concat([same, GAINS], ignore_index=True))["system"] == "cascade within 1 USD"
    assert cheapest_match(GAINS.assign(gain=GAINS["gain"] - 1))["system"] == "cascade within 1 USD"  # the nearest
    with pytest.raises(DataError, match="no setting decides otherwise than the single model"):
        cheapest_match(same)
