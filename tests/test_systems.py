"""What systems report: played back on logged answers, side by side, with paired differences."""

import numpy as np
import pytest
from test_plots import make_log, title

from routellm_lab import plots
from routellm_lab.errors import DataError
from routellm_lab.systems import Played, compare_systems, mixed_at, played_choices, systems_table


def test_one_call_per_question_is_paid_and_scored():
    log = make_log()
    cheap, dear = log.models[0], log.models[-1]
    mixed = np.where(np.arange(len(log)) % 2 == 0, cheap, dear)
    played = played_choices("mixed", log, mixed)
    assert played.quality.tolist() == [
        log.outcomes.scores.loc[row, m] for row, m in zip(log.prompts.index, mixed, strict=True)
    ]
    assert played.dollars.sum() == pytest.approx(log.costs[::2, 0].sum() + log.costs[1::2, -1].sum())
    assert (played.calls == 1).all()
    assert (played.rounds == 1).all()
    for wrong in (mixed[:-1], ["nobody"] * len(log)):
        with pytest.raises(DataError, match="mixed: needs one model of the log per question"):
            played_choices("mixed", log, wrong)


def test_systems_stand_side_by_side_with_paired_differences():
    log = make_log()
    alone = [played_choices(model, log, [model] * len(log)) for model in (log.models[0], log.models[-1])]
    table = systems_table(alone, n_resamples=200)
    assert table["quality"].tolist() == pytest.approx([played.quality.mean() for played in alone])
    assert table["dollars"].tolist() == pytest.approx([1000 * played.dollars.mean() for played in alone])
    assert ((table["quality_low"] <= table["quality"]) & (table["quality"] <= table["quality_high"])).all()
    apart = compare_systems(*alone[::-1], n_resamples=200)
    assert apart.difference == pytest.approx(table["quality"].iloc[1] - table["quality"].iloc[0])
    assert apart.low > 0
    assert compare_systems(*alone, what="dollars", n_resamples=200).high < 0


def test_a_mix_of_settings_costs_what_was_asked():
    log = make_log()
    low, high = (played_choices(model, log, [model] * len(log)) for model in (log.models[0], log.models[-1]))
    costs = [1000 * played.dollars.mean() for played in (low, high)]
    middle = mixed_at([high, low], sum(costs) / 2)
    assert 1000 * middle.dollars.mean() == pytest.approx(sum(costs) / 2)
    assert middle.quality.mean() == pytest.approx((low.quality.mean() + high.quality.mean()) / 2)
    for asked, end in ((0.0, low), (1e9, high)):
        assert mixed_at([low, high], asked).quality.tolist() == end.quality.tolist()
    assert mixed_at([low], 1.0).quality.tolist() == low.quality.tolist()


def test_systems_on_other_questions_are_refused():
    log = make_log()
    one = played_choices("one", log, [log.models[0]] * len(log))
    part = log.select(log.prompts.index[:10])
    with pytest.raises(DataError, match="one and two were played on other questions"):
        systems_table([one, played_choices("two", part, [log.models[0]] * 10)])
    with pytest.raises(DataError, match="no systems"):
        systems_table([])
    with pytest.raises(DataError, match="odd: calls must be one number per question"):
        Played("odd", one.prompt_ids, one.quality, one.dollars, one.calls[:3], one.rounds)


def test_the_picture_of_systems_names_the_best():
    log = make_log()
    played = [played_choices(model, log, [model] * len(log)) for model in log.models[-3:]]
    table = systems_table(played, n_resamples=100).assign(family=["a", "a", "b"])
    best = table.loc[table["quality"].idxmax(), "system"]
    for x in ("dollars", "rounds"):
        figure = plots.systems(table, x, simulated=True, alone=table)
        assert title(figure).lower().startswith(f"{best} is best")
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == ["single models", "a", "b"]
    with pytest.raises(DataError, match="systems"):
        plots.systems(table.drop(columns="family"), simulated=True)
