"""Tables as notebooks show them, and the conclusion of a notebook."""

import json

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbooks import write_notebook

from routellm_lab.errors import ParameterError
from routellm_lab.workbook import run_workbook, show_table, start
from routellm_lab.workbook.metrics import CONCLUSION_MIME, conclusion_of
from routellm_lab.workbook.pages import clean_html

FRAME = pd.DataFrame(
    {
        "router": ["ridge", "kNN"],
        "apgr": [0.7004, -0.0001],
        "low": [0.65, np.nan],
        "high": [0.75, np.nan],
        "n": [1200, 3],
    }
)


def test_an_interval_is_one_cell_and_zero_has_no_sign():
    table = show_table(FRAME, {"router": "router", "APGR": ("apgr", "low", "high"), "prompts": "n"})
    assert table.cells.to_numpy().tolist() == [["ridge", "0.700 [0.650, 0.750]", "1,200"], ["kNN", "0.000", "3"]]
    assert table.numeric == (False, True, True)


@pytest.mark.parametrize(
    ("value", "options", "shown"),
    [
        (np.inf, {}, "out of reach"),
        (-np.inf, {}, "out of reach"),
        (np.nan, {}, "–"),
        (None, {}, "–"),
        (pd.NA, {}, "–"),
        (True, {}, "yes"),
        (np.int64(12345), {}, "12,345"),
        (12345.678, {}, "12,346"),
        (0.256, {"percent": ["x"]}, "26%"),
        (-0.001, {"percent": ["x"]}, "0%"),
        (0.0004, {"p_values": ["x"]}, "<0.001"),
        (0.04321, {"p_values": ["x"]}, "0.043"),
        ("two\nlines", {}, "two lines"),
    ],
)
def test_each_kind_of_value(value, options, shown):
    frame = pd.DataFrame({"x": pd.Series([value], dtype=object)})
    assert show_table(frame, **options).cells.loc[0, "x"] == shown


def test_a_named_index_is_shown_and_row_numbers_are_not():
    assert list(show_table(FRAME).cells) == list(FRAME)
    assert next(iter(show_table(FRAME.set_index("router")).cells)) == "router"
    assert list(show_table(FRAME.set_index(["router", "n"])).cells) == ["router", "n", "apgr", "low", "high"]
    assert show_table(pd.Series({"a": 1.0}).to_frame("mean")).cells.to_numpy().tolist() == [["a", "1.000"]]


def test_long_tables_are_folded_and_nothing_in_them_is_markup():
    frame = pd.DataFrame({"<b>name</b>": ["<script>alert(1)</script>"] * 20})
    shown = show_table(frame, max_rows=5, caption="a <i>caption</i>")._repr_html_()
    assert shown.count("<td") == 20
    assert "15 more rows" in shown
    assert "<script" not in shown
    assert "<i>" not in shown
    assert "&lt;b&gt;name" in shown
    assert clean_html(shown).count("<td") == 20


def test_numbers_stay_on_one_line_and_an_empty_table_says_so():
    columns = {"router": "router", "APGR": ("apgr", "low", "high")}
    cleaned = clean_html(show_table(FRAME, columns)._repr_html_())
    assert cleaned.count("white-space") == 2
    assert '<td style="text-align:right; white-space:nowrap;">0.700 [0.650, 0.750]</td>' in cleaned
    nothing = show_table(FRAME.iloc[:0], columns, caption="None here")
    assert nothing._repr_html_() == "<p><em>None here</em></p><p>No rows.</p>"
    assert repr(nothing) == "None here\nNo rows."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": ["router", "aprg"]}, "no column 'aprg' in the table; nearest: apgr"),
        ({"columns": {"APGR": ("apgr", "low", "hi")}}, "no column 'hi'"),
        ({"percent": ["shares"]}, "no column 'shares' is shown"),
    ],
)
def test_columns_that_are_not_there_are_named(arguments, message):
    with pytest.raises(ParameterError, match=message):
        show_table(FRAME, **arguments)


def test_nine_columns_are_refused():
    with pytest.raises(ParameterError, match=r"9 columns.*at most 8: choose with columns="):
        show_table(pd.DataFrame(np.ones((2, 9))))


@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()), min_size=1))
def test_every_value_is_shown_as_one_line(values):
    table = show_table(pd.DataFrame({"x": pd.Series(values, dtype=object)}))
    assert len(table.cells) == len(values)
    assert not table.cells["x"].str.contains("\n|nan|inf|<NA>").any() or any(isinstance(v, str) for v in values)


def test_a_conclusion_is_kept_in_the_executed_notebook(tmp_path):
    write_notebook(tmp_path, "01_a", "run.conclude('Deploy <b>it</b>.', 'Two', 'Three')", "run.record(one=1)")
    result = run_workbook(root=tmp_path)
    assert result.errors == {}
    executed = nbformat.read(result.folder / "notebooks" / "01_a.ipynb", as_version=4)
    assert conclusion_of(executed) == ["Deploy <b>it</b>.", "Two", "Three"]
    page = (result.folder / "html" / "01_a.html").read_text()
    assert "<b>it</b>" not in page
    executed.cells[-2].outputs[0].data[CONCLUSION_MIME] = {"not": "a list"}
    assert conclusion_of(json.loads(nbformat.writes(executed))) == []


@pytest.mark.parametrize("bullets", [(), ("one", "two"), ("1", "2", " "), tuple("123456")])
def test_a_conclusion_has_three_to_five_bullets(tmp_path, monkeypatch, bullets):
    from routellm_lab.settings import settings

    write_notebook(tmp_path, "01_a")
    monkeypatch.setenv("ROUTELLM_LAB_ROOT", str(tmp_path))
    settings.cache_clear()
    try:
        with pytest.raises(ParameterError, match="three to five bullets"):
            start("01_a").conclude(*bullets)
    finally:
        settings.cache_clear()
