"""The threshold explorer: its figures, and its page in a browser, alone and in a notebook."""

import dataclasses
import html
import json
import math
import re
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_lab import ModelPair, RoutingCurve, default_pair, load_outcomes
from routellm_lab.costs import count_tokens, load_prices
from routellm_lab.errors import DataError, MissingExtraError, ParameterError, RoutellmLabError
from routellm_lab.evaluation import Bootstrap, PairCostCurve
from routellm_lab.policies import ThresholdPolicy
from routellm_lab.workbook.explorer import MOST_SHOWN, MOST_TRAFFIC, POINT_COLUMNS, Explorer
from routellm_lab.workbook.explorer.chart import WIDE
from routellm_lab.workbook.explorer.formats import money
from routellm_lab.workbook.pages import clean_html

PAIR = ModelPair(strong="big-model", weak="small-model")
NOTE = "Prices are made up; tokens are counted."
HOSTILE = '</script><script>window.hacked = 1</script><img src="x" onerror="window.hacked = 2"> & <b>bold</b>'


def world(n=600, cutoffs=80, seed=0):
    """Points and questions of a simulated benchmark: a router that knows something about which questions are hard."""
    rng = np.random.default_rng(seed)
    hard = rng.uniform(size=n)
    win_rate = np.round(np.clip(0.35 + 0.4 * hard + rng.normal(0, 0.08, n), 0, 1), 4)
    strong = (rng.uniform(size=n) < 0.92 - 0.12 * hard).astype(float)
    weak = (rng.uniform(size=n) < 0.9 - 0.7 * hard).astype(float)
    strong_usd, weak_usd = rng.gamma(4, 0.0025, n), rng.gamma(4, 0.0001, n)
    taken = np.linspace(0, n, cutoffs).round().astype(int)
    order = np.sort(win_rate)[::-1]
    rows = []
    for threshold in [math.inf, *np.unique(order[taken[1:] - 1])[::-1]]:
        called = win_rate >= threshold
        score, usd = np.where(called, strong, weak), 1000 * np.where(called, strong_usd, weak_usd)
        half, half_usd = 1.96 * score.std() / math.sqrt(n), 1.96 * usd.std() / math.sqrt(n)
        share_paid = (usd.mean() - 1000 * weak_usd.mean()) / (1000 * (strong_usd.mean() - weak_usd.mean()))
        gap, dearest = strong.mean() - weak.mean(), 1000 * strong_usd.mean()
        found = {"share": (called.mean(), 0.02), "quality": (score.mean(), half), "dollars": (usd.mean(), half_usd)}
        found |= {"pgr": ((score.mean() - weak.mean()) / gap, 0.03)}
        found |= {"random_quality": (weak.mean() + share_paid * gap, half)}
        row = {"threshold": threshold}
        for name, (value, apart) in found.items():
            row |= {name: value, f"{name}_low": value - apart, f"{name}_high": value + apart}
        mix = 1000 * weak_usd.mean() + np.clip(found["pgr"][0], 0, 1) * (dearest - 1000 * weak_usd.mean())
        saved = {"saved": dearest - usd.mean(), "saving": 1 - usd.mean() / dearest, "mix_saving": 1 - usd.mean() / mix}
        for (name, value), unit in zip(saved.items(), (1, dearest, mix), strict=True):
            row |= {f"{name}_low": value - half_usd / unit, f"{name}_high": value + half_usd / unit}
        rows.append(row)
    questions = pd.DataFrame(
        {
            "prompt": [f"Question {number}: what is {number} times {number}?" for number in range(n)],
            "group": np.where(hard > 0.5, "algebra", "history"),
            "win_rate": win_rate,
            "strong_score": strong,
            "weak_score": weak,
        }
    )
    return pd.DataFrame(rows), questions


def explorer(**changes):
    points, questions = world()
    made = {"points": points, "pair": PAIR, "benchmark": "MMLU", "score_unit": "share correct", "simulated": True}
    return Explorer(**(made | {"note": NOTE, "questions": questions} | changes))


def plain(text):
    """HTML as its reader sees it, roughly."""
    return " ".join(html.unescape(re.sub(r"<[^<>]*>", " ", re.sub(r"(?s)<style>.*?</style>", "", text))).split())


def test_state_is_the_row_and_what_it_costs_a_month():
    ours = explorer(traffic=20_000)
    for position, row in enumerate(ours.points.to_dict("records")):
        state = ours.state(position)
        assert {name: state[name] for name in POINT_COLUMNS} == row
        assert state["month"] == pytest.approx(row["dollars"] * 20)
        assert state["month"] + state["saved_month"] == pytest.approx(ours.points["dollars"].iloc[-1] * 20)
        assert state["saving"] == pytest.approx(1 - row["dollars"] / ours.points["dollars"].iloc[-1])
    assert ours.state(3, traffic=1_000)["month"] == pytest.approx(ours.points["dollars"].iloc[3])
    assert ours.state(np.int64(3)) == ours.state(3)


def test_figures_read_as_they_should():
    points, _ = world()
    row = {"threshold": 0.5, "share": 0.4125, "quality": 0.7345, "quality_low": 0.7, "quality_high": 0.75}
    row |= {"pgr": -0.0001, "dollars": 1234.565, "dollars_low": 1000.0, "dollars_high": 1500.0, "random_quality": 0.7}
    row |= {
        "share_low": 0.4,
        "share_high": 0.43,
        "pgr_low": -0.05,
        "pgr_high": 0.06,
        "saved_low": 600.0,
        "saved_high": 900.0,
        "saving_low": 0.3,
        "saving_high": 0.4,
        "mix_saving_low": -0.3,
        "mix_saving_high": -0.2,
    }
    points = pd.DataFrame([points.iloc[0].to_dict(), row, points.iloc[-1].to_dict()])
    ours = explorer(points=points, questions=None, strong_dollars=2_000, weak_dollars=1_000)
    assert ours.state(1, traffic=3_000)["shown"] == {
        "threshold": "0.500",
        "share": "41.3 %",
        "share_interval": "40.0 to 43.0 %",
        "quality": "0.735",
        "quality_interval": "0.700 to 0.750",
        "pgr": "0.0 %",
        "pgr_interval": "−5.0 to 6.0 %",
        "dollars": "$1,234.57",
        "dollars_interval": "$1,000.00 to $1,500.00",
        "traffic": "3,000",
        "month": "$3,704",
        "month_interval": "$3,000 to $4,500",
        "saving": "38.3 %",
        "saving_interval": "30.0 to 40.0 %",
        "mix_saving": "−23.5 %",
        "mix_saving_interval": "−30.0 to −20.0 %",
        "saved": "$2,296 ($1,800 to $2,700) less than the strong model always",
        "sentence": "Threshold 0.500: 41.3 % of the questions go to big-model, which recovers 0.0 % of the gap "
        "(−5.0 to 6.0 %).",
    }
    weak, strong = (explorer().state(position)["shown"] for position in (0, len(explorer()) - 1))
    assert (weak["threshold"], weak["sentence"]) == ("∞", "Every question goes to small-model.")
    assert (strong["saved"], strong["sentence"]) == (
        "as much as the strong model always",
        "Every question goes to big-model.",
    )


def test_the_strong_model_alone_may_cost_less_than_with_the_router():
    dearest = explorer().points["dollars"].iloc[-1]
    ours = explorer(strong_dollars=dearest * 0.99)
    last = ours.state(len(ours) - 1, traffic=1_000)
    assert last["saved_month"] == pytest.approx(-0.01 * dearest)
    assert last["shown"]["saved"].endswith(" more than the strong model always")
    assert last["shown"]["saving"] == "−1.0 %"


def test_thresholds_have_digits_enough_to_differ():
    points, _ = world()
    points.loc[1:, "threshold"] = 0.6 - np.arange(len(points) - 1) / 10_000
    ours = explorer(points=points, questions=None)
    assert ours.state(1)["shown"]["threshold"] == "0.6000"
    assert len({ours.state(position)["shown"]["threshold"] for position in range(len(ours))}) == len(ours)


@given(st.floats(0, 1.2), st.randoms())
@settings(max_examples=60)
def test_within_a_budget_is_the_largest_share_that_it_pays_for(where, random):
    points, _ = world(n=80, cutoffs=20)
    points["dollars"] *= [random.uniform(0.8, 1.2) for _ in range(len(points))]  # a dear answer may be a weak one
    ours = explorer(points=points, questions=None)
    low, high = points["dollars"].min(), points["dollars"].max()
    budget = low + where * (high - low)
    position = ours.within(budget)
    assert points["dollars"][position] <= budget
    assert (points["dollars"][position + 1 :] > budget).all()


def test_budgets_at_the_ends():
    ours = explorer(questions=None)
    assert ours.within(math.inf) == len(ours) - 1
    assert ours.within(ours.points["dollars"].min()) == 0


def test_questions_that_change_sides_are_those_between_the_thresholds():
    ours = explorer()
    _, questions = world()
    for before, position in ((10, 11), (40, 12), (0, len(ours) - 1), (len(ours) - 1, 0)):
        low, high = sorted(ours.points["threshold"][[before, position]])
        moved = ours.changed(before, position)
        between = questions[(questions["win_rate"] >= low) & (questions["win_rate"] < high)]
        assert set(moved.index) == set(between.index)
        assert moved["win_rate"].is_monotonic_decreasing
        assert set(moved["to"]) == {"strong" if position > before else "weak"}
    assert len(moved) == len(questions)
    assert ours.changed(5, 5).empty


def test_words_on_questions_that_change_sides():
    ours = explorer()
    assert ours.changed_in_words(5, 5) == "No question changes sides here."
    moved = ours.changed(30, 10)
    strong, weak = ((moved["strong_score"] - moved["weak_score"]) * sign > 0 for sign in (1, -1))
    assert ours.changed_in_words(30, 10) == (
        f"{len(moved)} questions now go to small-model. The strong model scores higher on {strong.sum()} of "
        f"{len(moved)}, the weak model on {weak.sum()}, both the same on {len(moved) - strong.sum() - weak.sum()}. "
        f"Showing 20 of {len(moved)} below."
    )
    few = explorer(questions=QUESTIONS.assign(prompt=QUESTIONS["prompt"].where(QUESTIONS.index < 7, None)))
    assert few.changed_in_words(30, 10) == re.sub(
        "Showing 20", f"Showing {(moved.index < 7).sum()}", ours.changed_in_words(30, 10)
    )  # all are counted, whether their text is there or not
    assert few.changed_in_words(0, len(few) - 1).endswith(" Showing 7 of 600 below.")
    one = explorer(questions=ours.questions.head(1))
    assert one.changed_in_words(0, len(one) - 1).startswith("1 question now goes to big-model. ")


def without(frame, column):
    return frame.drop(columns=column)


def with_value(frame, row, column, value):
    changed = frame.astype({column: object})
    changed.loc[row, column] = value
    return changed


POINTS, QUESTIONS = world()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": without(POINTS, ["pgr", "share"])}, "points has no column share, pgr; it needs threshold, share"),
        ({"points": POINTS.head(1)}, "points has 1 row"),
        ({"points": POINTS.head(0)}, "points has 0 row"),
        ({"points": with_value(POINTS, 4, "quality_low", math.nan)}, "points: quality_low of row 4 is nan"),
        ({"points": with_value(POINTS, 4, "pgr", math.nan)}, "points: pgr of row 4 is nan"),
        ({"points": with_value(POINTS, 0, "threshold", math.nan)}, "points: threshold of row 0 is nan"),
        ({"points": with_value(POINTS, 2, "threshold", math.inf)}, "points: threshold of row 2 is inf"),
        ({"points": with_value(POINTS, 2, "dollars", "free")}, "points: dollars must be numbers"),
        ({"points": with_value(POINTS, 2, "dollars", -1)}, "dollars must not be negative"),
        ({"points": POINTS.iloc[1:]}, "threshold must fall from infinity"),
        ({"points": POINTS.iloc[:-1]}, "share must rise from 0, the weak model alone, to 1"),
        ({"questions": without(QUESTIONS, "group")}, "questions has no column group"),
        ({"questions": with_value(QUESTIONS, 3, "win_rate", math.nan)}, "questions: win_rate of row 3 is nan"),
        ({"questions": with_value(QUESTIONS, 3, "group", None)}, "questions: group of row 3 is None"),
        ({"traffic": 0}, "traffic must be a whole number from 1 to 1,000,000,000,000, got 0"),
        ({"traffic": 2.5}, "traffic must be a whole number"),
        ({"traffic": True}, "traffic must be a whole number"),
        ({"traffic": MOST_TRAFFIC + 1}, "traffic must be a whole number"),
        ({"confidence_level": 95}, "confidence_level must be a number between 0 and 1"),
        ({"strong_dollars": math.nan}, "strong_dollars must be US dollars"),
        ({"weak_dollars": -1}, "weak_dollars must be US dollars"),
    ],
)
def test_an_explorer_that_cannot_be_made_says_why(changes, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        explorer(**changes)


def test_questions_that_cannot_be_answered():
    ours = explorer(questions=None)
    for position in (-1, len(ours)):
        with pytest.raises(ParameterError, match=f"position must be one of 0 to {len(ours) - 1}"):
            ours.state(position)
    with pytest.raises(ParameterError, match="position must be a whole number"):
        ours.state(1.5)
    with pytest.raises(ParameterError, match="traffic must be a whole number"):
        ours.state(1, traffic=-5)
    for budget in (0.1, math.nan):
        with pytest.raises(ParameterError, match=r"budget must be at least 0\.\d+ US dollars") as caught:
            ours.within(budget)
    told = float(re.search(r"at least (\S+)", str(caught.value))[1])
    assert ours.within(told) == 0  # the way out is one
    assert told == pytest.approx(ours.points["dollars"].min(), abs=1e-5)
    with pytest.raises(ParameterError, match="make the Explorer with questions="):
        ours.changed(0, 1)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'routellm-lab[workbook]'")):
        explorer().page()


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    ours = explorer()
    path = ours.save(tmp_path / "new" / "explorer.html")
    text = path.read_text("utf-8")
    assert text == ours.page()
    assert [file.name for file in path.parent.iterdir()] == ["explorer.html"]
    assert not re.findall(r"https?:|//[a-z]|@import|url\(|src=", text)
    assert NOTE in text
    (tmp_path / "file").write_text("")
    with pytest.raises(RoutellmLabError, match=r"file: cannot be written: "):
        ours.save(tmp_path / "file" / "explorer.html")


def test_without_scripts_the_page_has_a_table_and_the_figures_of_one_cut_off():
    ours = explorer()
    page = ours.page()
    told = " ".join(re.findall(r"(?s)<noscript>(.*?)</noscript>", page))
    assert "Scripts are off here" in told
    assert told.count("<tr>") == 11
    for position in (0, len(ours) - 1):
        shown = ours.state(position)["shown"]
        for name in ("threshold", "share", "quality", "quality_interval", "pgr", "dollars", "month"):
            assert f"<td>{shown[name]}</td>" in told
    for name, text in ours.state(ours.start)["shown"].items():
        assert f'data-shown="{name}">{text}<' in page
    assert '<div id="controls" hidden>' in page


def test_simulated_data_is_said_to_be():
    assert "Threshold explorer: MMLU simulated data" in plain(re.search(r"(?s)<h1>.*?</h1>", explorer().page())[0])
    assert "imulated" not in explorer(simulated=False).page()


def test_the_page_of_a_large_benchmark_stays_small():
    points, questions = world(n=14_000, cutoffs=300)
    questions["prompt"] = "a long question " * 40
    assert len(explorer(points=points, questions=questions).page()) < 4e6


def hostile_explorer():
    return explorer(
        questions=QUESTIONS.assign(prompt=HOSTILE, group=HOSTILE),
        pair=ModelPair(strong=f"big {HOSTILE}", weak=f"small {HOSTILE}"),
        benchmark=HOSTILE,
        note=HOSTILE,
        score_unit=HOSTILE,
    )


@pytest.mark.parametrize("make", [explorer, hostile_explorer])
def test_a_notebook_shows_the_page_and_an_executed_copy_says_where_it_is(make):
    shown = make()._repr_html_()
    assert re.findall(r"<[a-z/]+", shown) == ["<iframe", "</iframe"]
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1]) == make().page()
    assert 'sandbox="allow-scripts"' in shown  # and nothing else: it cannot reach the notebook
    assert clean_html(shown) == "Open the explorer in JupyterLab, or the page that it was saved to."


# In a browser


class Page:
    """An explorer's page in the browser."""

    def __init__(self, driver, path, ours):
        self.driver, self.ours, self.url = driver, ours, ours.save(path).as_uri()
        self.emulate()
        driver.get_log("performance")
        driver.get(self.url)

    def __getitem__(self, name):
        return self.driver.find_element("id", name)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def emulate(self, width=1280, height=720, scheme="light"):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        features.append({"name": "prefers-reduced-motion", "value": "reduce"})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    @property
    def shown(self):
        return self.run(
            "return Object.fromEntries([...document.querySelectorAll('[data-shown]')].map("
            "place => [place.dataset.shown, place.textContent]))"
        )

    @property
    def questions(self):
        """Prompt and facts of every question shown."""
        return self.run(
            "return [...document.querySelectorAll('#questions li')].map(item => [item.querySelector('p').textContent,"
            " ...[...item.querySelectorAll('dd')].map(fact => fact.textContent)])"
        )

    def drag(self, *values):
        """What a pointer does: many inputs, one change."""
        self.run(
            "const [slider, values] = arguments; for (const value of values) { slider.value = value;"
            " slider.dispatchEvent(new Event('input')); } slider.dispatchEvent(new Event('change'));",
            self["slider"],
            values,
        )


@pytest.fixture
def opened(browser, tmp_path):
    """Opens pages; afterwards nothing must have gone wrong in them, nor have been asked for over a network."""
    pages = []

    def open_page(ours=None):
        pages.append(Page(browser, tmp_path / f"{len(pages)}.html", ours or explorer()))
        return pages[-1]

    yield open_page
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith("data:")} == {page.url for page in pages[-1:]}


def test_arrow_keys_show_the_state(opened):
    from selenium.webdriver.common.keys import Keys

    page = opened()
    position = page.ours.start
    assert page.shown == page.ours.state(position)["shown"]
    for key, step in ((Keys.ARROW_RIGHT, 1), (Keys.ARROW_UP, 1), (Keys.ARROW_LEFT, -1), (Keys.ARROW_DOWN, -1)) * 2:
        page["slider"].send_keys(key)
        position += step
        assert page.shown == page.ours.state(position)["shown"]
        assert page["value"].text == page.shown["threshold"]
        assert page["slider"].get_attribute("aria-valuetext") == (
            f"{page.shown['threshold']}, {page.shown['share']} strong calls"
        )
    for key, position in ((Keys.END, len(page.ours) - 1), (Keys.HOME, 0)):
        page["slider"].send_keys(key)
        assert page.shown == page.ours.state(position)["shown"]
        place = page.run(
            "const [point, end] = ['.point circle', arguments[0]].map(name => "
            "document.querySelector('.chart.wide ' + name).getBoundingClientRect());"
            "return [point.x + point.width / 2 - end.x - end.width / 2, point.y - end.y]",
            ".strong" if position else "rect.weak",
        )
        assert max(map(abs, place)) < 6  # the point lies on that model's mark


def test_figures_of_python_and_of_the_page_are_the_same(opened):
    page = opened(explorer(strong_dollars=7.5))
    rng = np.random.default_rng(1)
    for position in rng.integers(0, len(page.ours), 12):
        traffic = int(10 ** rng.uniform(0, 12))
        page.run("traffic.value = arguments[0]; showMoney();", traffic)
        page.drag(int(position))
        assert page.shown == page.ours.state(position, traffic)["shown"]
    amounts = [0, 0.005, 0.125, 99.994, 99.995, 100, 1e3 - 0.5, 1e6, 2.5e12, *(10 ** rng.uniform(-3, 12, 200))]
    assert page.run("return arguments[0].map(money)", amounts) == [money(amount) for amount in amounts]


def test_typing_a_traffic(opened):
    from selenium.webdriver.common.keys import Keys

    page = opened()
    page["traffic"].send_keys(Keys.CONTROL, "a")
    page["traffic"].send_keys("2500000")
    assert page.shown == page.ours.state(page.ours.start, 2_500_000)["shown"]
    for refused in ("0", "1.5", "", str(MOST_TRAFFIC + 1)):
        page["traffic"].send_keys(Keys.CONTROL, "a")
        page["traffic"].send_keys(Keys.DELETE, refused)
        assert page["refusal"].text == "A whole number from 1 to 1,000,000,000,000, please."
        assert page["traffic"].get_attribute("aria-invalid") == "true"
        assert page.shown["month"] == "–"
    page["traffic"].send_keys(Keys.CONTROL, "a")
    page["traffic"].send_keys("12")
    assert page["refusal"].text == ""
    assert page.shown == page.ours.state(page.ours.start, 12)["shown"]


def test_the_switch_moves_along_budgets(opened):
    from selenium.webdriver.common.keys import Keys

    page = opened()
    ours, low, high = page.ours, page.ours.points["dollars"].min(), page.ours.points["dollars"].max()
    page["by-threshold"].send_keys(Keys.ARROW_RIGHT)
    assert page["slider-name"].text == "Budget"
    budgets = np.linspace(low, high, 101)
    step = int(page["slider"].get_attribute("value"))
    assert budgets[step] >= ours.points["dollars"][ours.start] > budgets[step - 1]
    for key, move in (
        (Keys.ARROW_RIGHT, 1),
        (Keys.PAGE_UP, 10),
        (Keys.HOME, -101),
        (Keys.ARROW_RIGHT, 1),
        (Keys.END, 101),
    ):
        page["slider"].send_keys(key)
        step = min(max(step + move, 0), 100)
        assert page.shown == ours.state(ours.within(budgets[step]))["shown"]
        assert page["value"].text == f"${budgets[step]:.2f} per 1,000 questions"
    page["by-budget"].send_keys(Keys.ARROW_LEFT)
    assert page["slider-name"].text == "Threshold on the win rate"
    assert page["slider"].get_attribute("value") == str(len(ours) - 1)
    page["slider"].send_keys(Keys.ARROW_LEFT)
    assert page.shown == ours.state(len(ours) - 2)["shown"]


def test_tab_reaches_every_control(opened):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page = opened()
    reached = []
    for _ in range(3):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        outline = "getComputedStyle(document.activeElement.closest('label') ?? document.activeElement).outlineWidth"
        reached.append(page.run(f"return [document.activeElement.id, {outline}]"))
    assert reached == [[name, "3px"] for name in ("by-threshold", "traffic", "slider")]


def test_questions_that_change_sides_in_the_page(opened):
    from selenium.webdriver.common.keys import Keys

    page = opened()
    ours, at = page.ours, page.ours.start
    assert page["sides"].text.startswith("Move the slider")
    page["slider"].send_keys(Keys.ARROW_RIGHT)

    def check(before, position):
        moved = ours.changed(before, position)
        assert page["sides"].text == ours.changed_in_words(before, position)
        assert page.questions == [
            [row["prompt"], row["to"], row["group"], f"{row['win_rate']:.3f}"]
            + [f"{row[name]:g}" for name in ("strong_score", "weak_score")]
            for row in moved.head(MOST_SHOWN).to_dict("records")
        ]

    check(at, at + 1)
    page["slider"].send_keys(Keys.ARROW_LEFT)
    check(at + 1, at)
    page.drag(at - 1, at - 9, at - 20)  # all since it was taken hold of, not since the last step
    check(at, at - 20)
    page.drag(len(ours) - 1)
    check(at - 20, len(ours) - 1)
    page.drag(0)
    check(len(ours) - 1, 0)


def test_without_questions_the_page_says_so(opened):
    page = opened(explorer(questions=None))
    page.drag(3)
    assert page["sides"].text == "There are no single questions here, only their means."
    assert page.questions == []


def test_the_page_works_in_a_notebook(browser, tmp_path):
    ours = explorer()
    host = tmp_path / "notebook.html"
    host.write_text(f"<!doctype html><meta charset=utf-8><body>{ours._repr_html_()}", "utf-8")
    browser.get_log("browser")
    browser.get(host.as_uri())
    browser.switch_to.frame(0)
    try:
        assert browser.execute_script("return window.origin") == "null"
        read = "return [...document.querySelectorAll('[data-shown]')].map(at => [at.dataset.shown, at.textContent])"
        assert dict(browser.execute_script(read)) == ours.state(ours.start)["shown"]
        browser.execute_script("slider.value = 3; slider.dispatchEvent(new Event('input'));")
        assert dict(browser.execute_script(read)) == ours.state(3)["shown"]
    finally:
        browser.switch_to.default_content()
    assert browser.get_log("browser") == []


def test_hostile_text_is_shown_and_not_run(opened):
    ours = hostile_explorer()
    page = opened(ours)
    page.drag(3, 30)
    assert [question[0] for question in page.questions] == [HOSTILE] * MOST_SHOWN
    assert page.shown == ours.state(30)["shown"]
    assert HOSTILE in page.driver.title
    assert page.run("return window.hacked ?? null") is None
    assert page.run("return document.querySelectorAll('img, b').length") == 0
    assert page.run("return document.scripts.length") == 2


CONTRASTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => channels(colour).slice(0, 3).map((part) => part / 255)
  .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
const behind = (element) => {
  for (let place = element; place; place = place.parentElement) {
    const colour = getComputedStyle(place).backgroundColor;
    if ((channels(colour)[3] ?? 1) === 1) return colour;
  }
};
return [...document.body.querySelectorAll('*')]
  .filter((element) => element.checkVisibility() && !element.matches('script, noscript'))
  .filter((element) => element.matches('input[type=number]') ||
    [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()))
  .map((element) => {
    const style = getComputedStyle(element);
    const [light, dark] = [element.closest('svg') ? style.fill : style.color, behind(element)]
      .map(luminance).sort((a, b) => b - a);
    return [element.textContent, (light + 0.05) / (dark + 0.05)];
  });
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_reads_well(opened, scheme, width):
    page = opened(explorer(pair=ModelPair(strong="gpt-4-1106-preview", weak="mixtral-8x7b-instruct-v0.1")))
    page.emulate(width=width, scheme=scheme)
    page.drag(20)
    place = "return document.querySelector(arguments[0]).getBoundingClientRect()"
    if width == 1280:
        assert page.run(place, ".figures")["bottom"] <= 720  # the whole of it, questions counted, without scrolling
    else:  # whoever reads the questions still moves the slider, and sees what that does
        page.run("window.scrollTo(0, document.body.scrollHeight)")
        assert 0 <= page.run(place, "#slider")["top"] < page.run(place, "#summary")["bottom"] <= 160
        shown = page.ours.state(20)["shown"]
        assert page["summary"].text == (
            f"{shown['share']} strong, quality {shown['quality']}, {shown['dollars']} per 1,000"
        )
    page.run("traffic.value = 0; showMoney();")  # a refusal is text as well
    found = page.run(CONTRASTS)
    assert len(found) > 60
    assert [(text, ratio) for text, ratio in found if ratio < 4.5] == []
    assert page.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(246, 248, 250)" if scheme == "light" else "rgb(13, 17, 23)"
    )
    assert page.run("return document.documentElement.scrollWidth") <= width
    chart = page.run("return [...document.querySelectorAll('figure > svg')].map(chart => chart.checkVisibility())")
    assert chart == [width == 1280, width == 400]
    assert page.run("return getComputedStyle(document.querySelector('.point')).transitionDuration") == "0s"


def test_the_models_alone_are_marked_at_their_own_dollars(opened):
    page = opened(explorer(strong_dollars=8.0, weak_dollars=0.2))
    page.drag(0)
    weak, strong, at = page.run(
        "return ['rect.weak', 'path.strong', '.point circle'].map(name => document.querySelector('.chart.wide ' + name)"
        ".getBoundingClientRect()).map(box => box.x + box.width / 2)"
    )
    apart = (page.ours.points["dollars"][0] - 0.2) / (8.0 - 0.2)  # the router is paid for where no call is strong
    assert (at - weak) / (strong - weak) == pytest.approx(apart, abs=0.003)
    assert apart > 0.02


def sample_costs(outcomes, win_rates, pair=None):
    pair = pair or default_pair("sample")
    prices = load_prices("sample")
    curve = RoutingCurve.from_win_rates(win_rates, outcomes, pair)
    return PairCostCurve.from_tokens(curve, count_tokens(outcomes, (pair.strong, pair.weak)), prices, 50.0)


@pytest.fixture(scope="module")
def asked():
    outcomes = load_outcomes("mmlu", data="sample")
    return outcomes.select(outcomes.prompts.index[:200])


def test_a_curve_in_dollars_can_be_explored_with_its_questions(asked):
    costs = sample_costs(asked, np.linspace(0, 1, 200))
    curve = costs.curve
    explorer = Explorer.from_costs(costs, asked, traffic=5000, most_points=21, most_texts=50, source="a part")
    assert len(explorer) == 21
    assert explorer.simulated
    assert (explorer.strong_dollars, explorer.weak_dollars) == (costs.strong_dollars, costs.weak_dollars)
    assert "Measured on 200 questions of mmlu, a part." in plain(explorer.page())
    assert explorer.questions["prompt"].notna().sum() == 50
    assert set(explorer.questions["prompt"].dropna()) <= set(asked.prompts)
    for before, position in ((0, 20), (4, 12)):  # all are counted: the share of strong calls says how many there are
        moved = explorer.points["share"][position] - explorer.points["share"][before]
        assert len(explorer.changed(before, position)) == round(200 * moved)
    row = explorer.state(10)
    called = curve.win_rate >= row["threshold"]
    assert row["share"] == pytest.approx(called.mean())
    assert row["dollars"] == pytest.approx(1000 * (np.where(called, costs.strong, costs.weak).mean() + costs.router))
    assert row["month"] == pytest.approx(5 * row["dollars"])
    assert row["saving"] == pytest.approx(1 - row["dollars"] / costs.strong_dollars)
    assert Explorer.from_costs(costs).questions is None


def test_intervals_of_a_curve_in_dollars_are_those_of_its_policy(asked):
    costs = sample_costs(asked, np.random.default_rng(0).uniform(size=200))
    ours = Explorer.from_costs(costs, most_points=5, bootstrap=Bootstrap(0.9, 1000))
    for row in ours.points.to_dict("records"):
        told = ThresholdPolicy(costs.curve.pair, row["threshold"], "by hand").expect(
            costs, Bootstrap(confidence_level=0.9, n_resamples=1000)
        )
        for name in ("share", "pgr", "saving"):
            expected = getattr(told, name)
            assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(expected[1:], abs=1e-9)


@pytest.fixture(scope="module")
def priced(asked):
    """An explorer of a router that knows something, whose tokens and prices are known."""
    pair, rng = default_pair("sample"), np.random.default_rng(0)
    gap = (asked.of(pair.strong) - asked.of(pair.weak)).to_numpy()
    return sample_costs(asked, np.round(np.clip(0.5 + 0.1 * gap + rng.normal(0, 0.15, len(gap)), 0, 1), 4))


PRICES, TOKENS = (0.8, 9.5, 0.2, 2.5), (60.0, 150.0, 80.0, 260.0)


def other_prices(costs, prices, tokens):
    """The curve in dollars at other prices and tokens, from every question."""
    used = costs.use.tokens * np.array(tokens) / costs.use.tokens.mean(axis=0) * np.array(prices) / 1e6
    return dataclasses.replace(costs, strong=used[:, :2].sum(axis=1), weak=used[:, 2:].sum(axis=1), use=None)


def test_other_prices_give_the_dollars_of_every_question_and_nearly_its_intervals(priced):
    ours, bootstrap = Explorer.from_costs(priced, most_points=21), Bootstrap(n_resamples=1000)
    same = ours.repriced(ours.tokens.prices, ours.tokens.tokens)
    pd.testing.assert_frame_equal(same.points, ours.points, rtol=1e-9)  # at the listed prices it is the bootstrap
    exact = Explorer.from_costs(other_prices(priced, PRICES, TOKENS), most_points=21, bootstrap=bootstrap)
    approximate = ours.repriced(PRICES, TOKENS)
    assert approximate.strong_dollars == pytest.approx(exact.strong_dollars)
    assert approximate.weak_dollars == pytest.approx(exact.weak_dollars)
    assert approximate.points["dollars"].to_numpy() == pytest.approx(exact.points["dollars"].to_numpy())
    for row, right in zip(approximate.rows[4:-1], exact.rows[4:-1], strict=True):
        for name in ("dollars", "saved", "saving", "mix_saving"):
            width = right[f"{name}_high"] - right[f"{name}_low"]
            assert row[name] == pytest.approx(right[name])
            for end in ("low", "high"):
                assert abs(row[f"{name}_{end}"] - right[f"{name}_{end}"]) < 0.12 * width, name


@pytest.mark.parametrize(
    ("prices", "tokens", "message"),
    [
        ((0, 1, 1, 1), TOKENS, "prices must be four numbers above 0"),
        (PRICES, (1, 2, 3), "tokens must be four numbers above 0"),
        (PRICES, (1, 2, 3, math.nan), "tokens must be four numbers above 0"),
        ((0.1, 0.1, 5, 5), TOKENS, "there is nothing to save"),
    ],
)
def test_prices_that_cannot_be_used(priced, prices, tokens, message):
    with pytest.raises(ParameterError, match=message):
        Explorer.from_costs(priced, most_points=5).repriced(prices, tokens)


def test_without_tokens_there_are_no_fields_for_prices(priced):
    assert explorer().tokens is None
    assert 'id="prices"' not in explorer().page()
    with pytest.raises(ParameterError, match="no tokens to price"):
        explorer().repriced(PRICES, TOKENS)
    assert 'id="price-3"' in Explorer.from_costs(priced, most_points=5).page()


def enter(page, **values):
    """Type numbers into the fields for prices and tokens, as ``price_0=1.5``."""
    for name, value in values.items():
        page.run(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'));",
            page[name.replace("_", "-")],
            value,
        )


def test_a_page_at_own_prices_shows_what_python_finds(opened, priced):
    ours = Explorer.from_costs(priced, most_points=31, traffic=40_000)
    page, own = opened(ours), ours.repriced(PRICES, TOKENS)
    page.run("document.querySelector('#prices').open = true")
    assert page["whose"].text == "the listed prices"
    enter(page, **{f"price_{kind}": PRICES[kind] for kind in range(4)})
    enter(page, **{f"tokens_{kind}": TOKENS[kind] for kind in range(4)})
    assert page["whose"].text == "your own prices"
    for position in (0, 1, 9, 20, len(ours) - 2, len(ours) - 1):
        page.drag(position)
        assert page.shown == own.state(position)["shown"]
        place = page.run("return document.querySelector('.chart.wide .point').style.transform")
        x, y = (float(number) for number in re.findall(r"[\d.]+", place))
        assert (x, y) == pytest.approx(WIDE.marker(own, position)[:2], abs=0.11)
    page.run("document.querySelector('#by-budget').click()")
    for step in (0, 40, 100):
        page.drag(step)
        assert page.shown == own.state(own.budgets[step][1])["shown"]
        assert page["value"].text == f"{own.budgets[step][0]} per 1,000 questions"
    page.run("document.querySelector('#by-threshold').click(); document.querySelector('#listed').click()")
    page.drag(9)
    assert page["whose"].text == "the listed prices"
    assert page.shown == ours.state(9)["shown"]


def test_a_page_refuses_prices_at_which_nothing_is_saved(opened, priced):
    ours = Explorer.from_costs(priced, most_points=31)
    page = opened(ours)
    page.run("document.querySelector('#prices').open = true; document.querySelector('#by-budget').click()")
    enter(page, price_0=0.001, price_1=0.001)
    assert "there is nothing to save" in page["price-refusal"].text
    page.drag(3)
    assert {page.shown[name] for name in ("dollars", "month", "saving", "mix_saving")} == {"–"}
    assert page.shown["share"] == ours.state(3)["shown"]["share"]
    for odd in ("", "-1", "0"):
        enter(page, price_0=odd)
        assert page["price-refusal"].text == "Numbers above 0, please."
        assert page["price-0"].get_attribute("aria-invalid") == "true"
    page["listed"].click()
    page.drag(3)
    assert page["price-refusal"].text == ""
    assert page.shown == ours.state(3)["shown"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_fields_for_prices_read_well_and_tab_reaches_them(opened, priced, scheme):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page = opened(Explorer.from_costs(priced, most_points=31))
    page.emulate(width=400, scheme=scheme)
    page["slider"].send_keys(Keys.TAB)
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()  # opens them
    reached = []
    for _ in range(9):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        reached.append(page.run("return document.activeElement.id"))
    fields = [[f"price-{kind}", f"price-{kind + 1}", f"tokens-{kind}", f"tokens-{kind + 1}"] for kind in (0, 2)]
    assert reached == [*fields[0], *fields[1], "listed"]
    enter(page, price_0=0)
    assert [(text, ratio) for text, ratio in page.run(CONTRASTS) if ratio < 4.5] == []
    assert page.run("return document.documentElement.scrollWidth") <= 400


def test_a_strong_model_that_is_not_significantly_better_has_no_pgr(asked):
    pair = default_pair("sample")
    equal = dataclasses.replace(asked, scores=asked.scores.assign(**{pair.strong: asked.of(pair.weak)}))
    ours = Explorer.from_costs(sample_costs(equal, np.linspace(0, 1, 200)), equal, most_points=11)
    shown = ours.state(5)["shown"]
    assert (shown["pgr"], shown["pgr_interval"]) == ("–", "the strong model is not significantly better")
    assert "the strong model is not significantly better" in plain(ours.page())


def test_win_rates_that_rank_nothing_are_refused(asked):
    with pytest.warns(UserWarning, match="they rank nothing"):
        costs = sample_costs(asked, np.full(200, 0.5))
    with pytest.raises(DataError, match="a threshold can only send all questions to one model"):
        Explorer.from_costs(costs, asked)
