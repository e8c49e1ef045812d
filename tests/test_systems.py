"""What systems report: played back on logged answers, side by side, with paired differences."""

import numpy as np
import pandas as pd
import pytest
from test_plots import make_log, title

from routellm_lab import ModelPair, plots
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap
from routellm_lab.systems import (
    METRICS,
    Replay,
    System,
    cheapest_match,
    compare_systems,
    mixed_at,
    paired_gains,
    replayed_choices,
    systems_table,
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


def test_the_picture_of_systems_names_the_best():
    log = make_log()
    played = [replayed_choices(model, log, [model] * len(log)) for model in log.models[-3:]]
    table = systems_table(played, Bootstrap(n_resamples=100)).assign(family=["a", "a", "b"])
    best = table.loc[table["quality"].idxmax(), "system"]
    for x in ("dollars", "rounds"):
        figure = plots.systems(table, x, simulated=True, alone=table)
        assert title(figure).lower().startswith(f"{best} has the highest mean")
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == ["single models", "a", "b"]
    with pytest.raises(DataError, match="systems"):
        plots.systems(table.drop(columns="family"), simulated=True)


def test_the_picture_of_systems_claims_what_is_paired():
    rows = [("a", "dear", 0.9, 2.0, -0.01), ("a", "cheap", 0.88, 0.5, 0.004), ("b", "best", 0.91, 1.0, 0.006)]
    frame = pd.DataFrame(rows, columns=["family", "system", "quality", "dollars", "gain"])
    for part, half in (("quality", 0.02), ("dollars", 0.1), ("gain", 0.01)):
        frame = frame.assign(**{f"{part}_low": frame[part] - half, f"{part}_high": frame[part] + half})
    unpaired = frame.iloc[:1].assign(system="stream", gain=np.nan, gain_low=np.nan, gain_high=np.nan)
    frame = pd.concat([frame, unpaired], ignore_index=True)
    frame = frame.assign(rounds=frame["dollars"], rounds_low=1.0, rounds_high=2.0)
    alone = pd.DataFrame({"system": ["one", "big"], "quality": [0.7, 0.9], "dollars": [0.1, 2.0], "rounds": 1.0})
    told = title(plots.systems(frame, simulated=True, alone=alone, best="big"))
    assert told == (
        "None of 3 settings beat big alone, each by its own interval; seen afterwards, cheap reaches it (+0.004 "
        "[-0.006, +0.014]) at 25% of its cost"
    )
    all_sure = frame.assign(gain_low=frame["gain_low"].abs())
    sure = title(plots.systems(all_sure, simulated=True, alone=alone, best="big"))
    assert sure.startswith("3 of 3 settings beat big alone, each by its own interval")
    below = title(plots.systems(frame.assign(gain=frame["gain"] - 0.1), simulated=True, alone=alone, best="big"))
    assert "best comes nearest (-0.094" in below
    assert "cheap reaches it" in title(plots.systems(frame, "rounds", simulated=True, alone=alone, best="big"))
    same = frame.iloc[:1].assign(system="big again", dollars=0.01, gain=0.0, gain_low=0.0, gain_high=0.0)
    assert cheapest_match(pd.concat([same, frame], ignore_index=True))["system"] == "cheap"
    with pytest.raises(DataError, match="no setting decides otherwise than the single model"):
        cheapest_match(same)
    with pytest.raises(DataError, match="systems"):
        plots.systems(frame.drop(columns="gain"), simulated=True, alone=alone, best="big")
