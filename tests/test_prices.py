"""Prices: the package's own table, what is laid over it, and every way in which a table can be wrong."""

import json
from dataclasses import FrozenInstanceError

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from routellm_lab.costs.prices import COLUMNS, Price, Prices, load_prices, paper_prices
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.preferences.models import PAPER_PAIR
from routellm_lab.preferences.sample import SAMPLE_MODELS

GOOD = {"model": "a", "input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0, "as_of": "2026-01-31", "source": "x"}


def table(*rows):
    return pd.DataFrame([GOOD | row for row in rows], columns=list(COLUMNS))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data" / "outcomes").mkdir(parents=True)
    return tmp_path / "data"


def priced(prices, pair):
    return prices[pair.strong], prices[pair.weak]


def price_map(path, **entries):
    fields = ("litellm_provider", "input_cost_per_token", "output_cost_per_token")
    path.write_text(json.dumps({key: dict(zip(fields, entry, strict=True)) for key, entry in entries.items()}))
    return path


def test_a_table_is_read_back_model_by_model():
    prices = Prices(table({"model": "b"}, {"model": "a", "input_usd_per_mtok": 3}))
    assert list(prices) == ["a", "b"]
    assert len(prices) == 2
    assert "a" in prices
    assert "c" not in prices
    assert prices["a"] == Price("a", 3.0, 2.0, "2026-01-31", "x")
    assert repr(prices) == "Prices(2 models)"
    with pytest.raises(FrozenInstanceError):
        prices.other = 1


amounts = st.floats(min_value=1e-9, max_value=1e9)
row = st.tuples(amounts, amounts, st.dates().map(str) | st.just(""), st.text(max_size=20))


@examples(max_examples=50)
@given(st.dictionaries(st.text(min_size=1, max_size=12).filter(str.strip), row, max_size=8))
def test_prices_survive_the_way_through_their_table(rows):
    prices = Prices(pd.DataFrame([(model, *cells) for model, cells in rows.items()], columns=list(COLUMNS)))
    assert Prices(prices.to_frame()) == prices
    assert {model: (p.input, p.output, p.as_of, p.source) for model in prices for p in [prices[model]]} == rows
    assert prices.to_frame()["model"].tolist() == sorted(rows)


def test_prices_survive_a_csv(tmp_path):
    own = load_prices("sample")
    own.to_frame().to_csv(tmp_path / "mine.csv", index=False)
    assert load_prices("sample", path=tmp_path / "mine.csv") == own


def test_both_models_of_the_paper_are_known_and_the_strong_one_is_dearer():
    strong, weak = priced(load_prices("sample"), PAPER_PAIR)
    assert (strong.model, weak.model) == (PAPER_PAIR.strong, PAPER_PAIR.weak)
    assert (strong.input, strong.output) == (10, 30)
    assert strong.input + strong.output > 10 * (weak.input + weak.output)


def test_every_simulated_model_has_a_price_and_a_stronger_one_a_higher():
    prices = load_prices("sample")
    order = SAMPLE_MODELS["ability"].sort_values().index
    for side in ("input", "output"):
        assert pd.Series([getattr(prices[model], side) for model in order]).diff().iloc[1:].gt(0).all()
    assert all(prices[model].source == "simulated" for model in order)


def test_every_other_row_of_the_package_names_its_release_and_entry():
    frame = load_prices("sample").to_frame()
    real = frame[~frame["model"].isin(SAMPLE_MODELS.index)]
    assert 40 <= len(real) <= 100
    assert real["source"].str.fullmatch(r"LiteLLM 1\.110\.2, \S+").all()
    assert (real["source"].str.split("/|, ", regex=True).str[-1].str.lower() == real["model"]).all()
    assert real["as_of"].unique().tolist() == ["2026-11-20"]
    assert not real["source"].str.contains("anyscale").any()


def test_the_paper_s_prices_are_blended():
    strong, weak = priced(paper_prices(), PAPER_PAIR)
    assert (strong.input, strong.output, weak.input, weak.output) == (24.7, 24.7, 0.24, 0.24)
    assert {strong.source, weak.source} == {"RouteLLM, arXiv 2406.18665 v4, table 6"}


def test_a_file_of_yours_goes_over_the_folder_and_the_folder_over_the_package(folder, tmp_path, monkeypatch):
    strong, weak = PAPER_PAIR.strong, PAPER_PAIR.weak
    own = load_prices("sample")
    assert load_prices(folder) == load_prices("hub") == own  # a folder need not have prices
    rows = table({"model": strong, "source": "folder"}, {"model": weak, "source": "folder"})
    rows.to_csv(folder / "prices.csv", index=False)
    mine = tmp_path / "mine.csv"
    mine.write_text(f"model,input_usd_per_mtok,output_usd_per_mtok\n{weak},0.1,0.2\nnew,7,8\n")
    prices = load_prices(folder, path=mine)
    assert prices[strong] == Price(strong, 1, 2, "2026-01-31", "folder")
    assert prices[weak] == Price(weak, 0.1, 0.2, "", "mine.csv")
    assert prices["new"].output == 8
    assert prices["gpt-4"] == own["gpt-4"]
    assert set(prices) == {*own, "new"}
    assert load_prices("sample", path=str(mine))[strong] == own[strong]

    from routellm_lab.settings import settings

    monkeypatch.setenv("ROUTELLM_LAB_DATA", str(folder))
    settings.cache_clear()
    try:
        assert load_prices()[strong].source == "folder"
    finally:
        monkeypatch.undo()
        settings.cache_clear()


def test_a_price_map_gives_the_developer_s_price_else_the_cheapest_host_s(tmp_path):
    file = price_map(
        tmp_path / "model_prices_and_context_window.json",
        **{
            "gpt-x": ("openai", 1e-05, 3e-05),
            "azure/gpt-x": ("azure", 1e-06, 3e-06),
            "dear/org/Open-7B": ("dear", 6e-07, 6e-07),
            "cheap/Open-7B": ("cheap", 2e-07, 7e-07),
            "anyscale/org/Open-7B": ("anyscale", 1e-07, 1e-07),
            "free/Open-7B": ("free", 0.0, 0.0),
            "half/Open-7B": ("half", 1e-08, None),
            "free/only-free": ("free", 0, 0),
        },
    )
    prices = load_prices("sample", path=file)
    assert prices["gpt-x"] == Price("gpt-x", 10, 30, "", "model_prices_and_context_window.json, gpt-x")
    assert prices["open-7b"] == Price("open-7b", 0.2, 0.7, "", f"{file.name}, cheap/Open-7B")
    assert "only-free" not in prices


@pytest.mark.parametrize(
    ("cell", "told"), [(-1e-06, "-1e-06"), ("much", "'much'"), (True, "True"), (float("nan"), "nan")]
)
def test_a_bad_price_in_a_price_map_is_named(tmp_path, cell, told):
    file = price_map(tmp_path / "map.json", **{"host/a": ("host", 1e-06, cell)})
    with pytest.raises(DataError, match=rf"map\.json: entry 'host/a', output_cost_per_token: .* above 0.*{told}"):
        load_prices("sample", path=file)


@pytest.mark.parametrize("text", ["[]", "{}", '{"a": 1}', '{"a": {"output_cost_per_image": 0.1}}'])
def test_a_json_without_prices_per_token_is_refused(tmp_path, text):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(DataError, match=r"map\.json: no entry has input_cost_per_token, output_cost_per_token above 0"):
        load_prices("sample", path=tmp_path / "map.json")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "no such file"),
        ("gone.json", None, "no such file"),
        ("map.json", b"{", "not JSON"),
        ("map.json", b"[" * 100_000, "not JSON: nested too deeply"),
        ("n" * 300 + ".json", None, "cannot be read: File name too long"),
        ("n" * 300 + ".csv", None, "File name too long"),
        ("map.json", b'{"\xff": 1}', "not JSON"),
        ("prices.xlsx", b"", r"read from a \.csv with the columns model, .* not from \.xlsx"),
        ("prices", b"", "not from a file without suffix"),
        ("prices.csv", b"", "empty file"),
        ("prices.csv", b"model,input_usd_per_mtok\na,1\n", "no column output_usd_per_mtok; a table of prices has"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*{message}|{name}: {message}"):
        load_prices("sample", path=tmp_path / name)


@pytest.mark.parametrize("column", ["input_usd_per_mtok", "output_usd_per_mtok"])
@pytest.mark.parametrize("cell", ["-1", "0", "0.0", "free", "", "nan", "inf", "$3", "1,5"])
def test_a_bad_price_in_a_csv_is_named_by_file_row_and_column(folder, tmp_path, column, cell):
    table({"model": "fine"}, {column: cell}).to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(DataError, match=rf"mine\.csv: row 2 \(a\), column {column}: must be a number above 0"):
        load_prices("sample", path=tmp_path / "mine.csv")
    (tmp_path / "mine.csv").rename(folder / "prices.csv")
    with pytest.raises(DataError, match=r"prices\.csv: row 2 \(a\)"):
        load_prices(folder)


@pytest.mark.parametrize("cell", [None, float("nan"), pd.NA, True, "2 dollars"])
def test_a_bad_price_in_a_table_is_named(cell):
    with pytest.raises(DataError, match=r"prices: row 1 \(a\), column output_usd_per_mtok: must be a number above 0"):
        Prices(table({"output_usd_per_mtok": cell}))


@pytest.mark.parametrize("name", [None, "", " ", 7])
def test_a_model_needs_a_name(name):
    with pytest.raises(DataError, match="prices: row 2, column model: must be a model's name"):
        Prices(table({}, {"model": name}))


def test_a_date_is_one_or_empty():
    with pytest.raises(DataError, match=r"row 1 \(a\), column as_of: must be a date such as .* got 'last week'"):
        Prices(table({"as_of": "last week"}))
    assert Prices(table({"as_of": None, "source": None}))["a"] == Price("a", 1, 2, "", "")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(column):
    with pytest.raises(DataError, match=f"my table: no column {column}; a table of prices has model, "):
        Prices(table({}).drop(columns=column), where="my table")


def test_a_model_may_stand_twice_only_at_one_price():
    assert Prices(table({}, {"source": "y"}))["a"].source == "x"
    with pytest.raises(DataError, match="rows 1 and 3 have different prices for 'a', columns input_usd_per_mtok, "):
        Prices(table({}, {"model": "b"}, {"input_usd_per_mtok": 5.0}))


def test_an_unknown_model_is_named_with_its_neighbours_and_the_way_out():
    prices = load_prices("sample")
    with pytest.raises(ParameterError, match=r"no price for model 'gpt-4-1106'; nearest: gpt-4-1106-preview.*path="):
        prices["gpt-4-1106"]
    with pytest.raises(ParameterError, match="'no-such'"):
        prices["no-such"]


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="does not exist"):
        load_prices(tmp_path / "nowhere")


@pytest.mark.real_data
def test_the_prices_of_a_folder_go_over_the_package_s(real_folder):
    if not (real_folder / "prices.csv").is_file():
        pytest.skip(f"real data: no {real_folder / 'prices.csv'}")
    told = Prices(pd.read_csv(real_folder / "prices.csv", keep_default_na=False))
    own, both = load_prices("sample"), load_prices(real_folder)
    assert all(both[model] == (told if model in told else own)[model] for model in both)
    assert set(both) == {*own, *told}
    assert own[PAPER_PAIR.weak] != both[PAPER_PAIR.weak]
    assert both[PAPER_PAIR.strong].source == told[PAPER_PAIR.strong].source
