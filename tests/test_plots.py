"""Every figure says what it shows, on which data, and leaves no state behind."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from routellm_lab import plots
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import RoutingCurve, comparison_table
from routellm_lab.preferences.models import ModelPair

PAIR = ModelPair(strong="large", weak="small")


def curve_of(skill, seed=0, n=400, **options):
    rng = np.random.default_rng(0)
    strong, weak = (rng.random(n) < 0.85).astype(float), (rng.random(n) < 0.6).astype(float)
    noise = np.random.default_rng(seed).random(n)
    win_rate = skill * (strong - weak + 1) / 2 + (1 - skill) * noise
    return RoutingCurve(win_rate, strong, weak, pd.RangeIndex(n), PAIR, **{"name": "toy", **options})


def make_table(skills=(0.0, 0.3, 0.5)):
    names = [("none", "random"), ("arena", "ridge"), ("arena+gold", "matrix_factorization")]
    curves = {key: curve_of(skill, seed) for seed, (key, skill) in enumerate(zip(names, skills, strict=True))}
    return comparison_table(curves, n_resamples=100, n_permutations=50)


def make_battles():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (2, 400))
    battles = pd.DataFrame({"model_a": [f"m{i}" for i in a], "model_b": [f"m{i}" for i in b]})
    battles["winner"] = rng.choice(["model_a", "model_b", "tie"], 400)
    return battles[(a != b) & (a + b != 1)].reset_index(drop=True)  # m0 and m1 never meet


RATINGS = pd.DataFrame(
    {"rating": [1200.0, 1100, 950, 900], "low": [1180.0, 1080, 930, 880], "high": [1220.0, 1120, 970, 920]},
    index=pd.Index(["large", "medium", "small", "tiny"], name="model"),
)
LEARNING = pd.DataFrame(
    {
        "router": ["ridge"] * 3 + ["matrix_factorization"] * 3,
        "votes": [1000, 5000, 20_000] * 2,
        "achieved_share": [0.1, 0.3, 0.4, 0.05, 0.5, 0.7],
    }
)
HISTORY = pd.DataFrame(
    {"epoch": range(4), "train_loss": [np.nan, 0.66, 0.6, 0.5], "held_out_loss": [0.693, 0.67, 0.64, 0.65]}
)

FIGURES = {
    "routing_curves": lambda simulated: plots.routing_curves(
        {"ridge": curve_of(0.2), "matrix_factorization": curve_of(0.5)}, simulated=simulated, n_resamples=50
    ),
    "apgr_forest": lambda simulated: plots.apgr_forest(make_table(), name="toy", simulated=simulated),
    "rating_ladder": lambda simulated: plots.rating_ladder(
        RATINGS, {"large": 0, "medium": 0, "small": 1, "tiny": 1}, simulated=simulated, name="votes", pair=PAIR
    ),
    "learning_curve": lambda simulated: plots.learning_curve(LEARNING, simulated=simulated, name="toy"),
    "training_loss": lambda simulated: plots.training_loss(HISTORY, simulated=simulated),
    "win_rate_histogram": lambda simulated: plots.win_rate_histogram(
        {"ridge": np.linspace(0.4, 0.6, 99), "mf": np.linspace(0, 1, 99)}, simulated=simulated, pair=PAIR
    ),
    "vote_heatmap": lambda simulated: plots.vote_heatmap(make_battles(), simulated=simulated, name="votes"),
    "vote_heatmap of shares": lambda simulated: plots.vote_heatmap(make_battles(), "win_share", simulated=simulated),
}


def texts(figure):
    found = [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_visible()]
    return " ".join(" ".join(found).split())


def title(figure):
    return " ".join(figure.get_suptitle().split())


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("simulated", [True, False])
def test_every_figure_is_titled_labelled_and_marked(name, simulated, tmp_path):
    settings_before, open_before = dict(mpl.rcParams), plt.get_fignums()
    figure = FIGURES[name](simulated)
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == open_before
    assert dict(mpl.rcParams) == settings_before
    assert ("SIMULATED DATA" in texts(figure)) == simulated
    assert len(title(figure)) > 20
    assert any(axes.get_xlabel() for axes in figure.axes)
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


@pytest.mark.parametrize("name", FIGURES)
def test_texts_lie_inside_the_figure_and_legends_off_the_data(name):
    figure = FIGURES[name](True)
    figure.canvas.draw()
    frame = figure.bbox.padded(1)
    for text in [figure._suptitle, *figure.texts, *(axes.title for axes in figure.axes)]:
        box = text.get_window_extent()
        assert text.get_text() == "" or (box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1)
    assert figure.get_figwidth() == plots.WIDTH
    for legend in figure.legends:
        assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert all(axes.get_legend() is None for axes in figure.axes)


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in ("routing_curves",)])
def test_whether_data_is_simulated_must_be_said(name):
    function = getattr(plots, name.split()[0])
    with pytest.raises(TypeError, match="simulated"):
        function(None)


def test_routing_curves_take_the_facts_from_the_curves():
    strong, weak = curve_of(0.2), curve_of(0.6, seed=1)
    figure = plots.routing_curves({"ridge": strong, "best_one": weak}, n_resamples=50)
    assert title(figure) == f"Best one needs {weak.cpt(0.5):.0%} strong calls for half of the gap, a random router 50%"
    low, high = weak.interval("apgr", n_resamples=50)
    for shown in (f"best one {weak.apgr:.3f} [{low:.3f}, {high:.3f}]", "toy, 400 prompts, large / small"):
        assert shown in texts(figure)
    drawn = [line.get_xydata() for line in figure.axes[0].lines]
    for expected in (strong, weak, strong.oracle()):
        points = expected.frame()[["share", "quality"]].to_numpy()
        assert any(line.shape == points.shape and np.allclose(line, points) for line in drawn)
    assert "SIMULATED" not in texts(figure)
    simulated = plots.routing_curves({"ridge": curve_of(0.2, simulated=True)}, "bench", intervals=False, title="Mine")
    assert title(simulated) == "Mine"
    assert "SIMULATED DATA · bench" in texts(simulated)
    assert "[" not in texts(simulated)


def test_routing_curves_do_not_praise_chance():
    figure = plots.routing_curves({"a": curve_of(0, seed=3), "b": curve_of(0, seed=4)}, intervals=False)
    assert title(figure).startswith("No router stands out from random")


def test_routing_curves_of_different_benchmarks_are_refused():
    with pytest.raises(DataError, match="other differ in benchmark or pair from ridge"):
        plots.routing_curves({"ridge": curve_of(0.2), "other": curve_of(0.2, name="mmlu")})
    with pytest.raises(ParameterError, match="no curves"):
        plots.routing_curves({})


def test_forest_counts_the_routers_that_beat_random():
    table = make_table()
    table["paper_apgr"], table["p_holm"] = [0.5, np.nan, 0.6], [1.0, 0.01, 0.01]
    figure = plots.apgr_forest(table, simulated=False, name="mmlu")
    best = table["apgr"].iloc[2]
    assert title(figure) == (
        f"2 of 2 routers beat a random one; best: matrix factorization on arena+gold, APGR {best:.3f}"
    )
    assert "mmlu, 400 prompts" in texts(figure)
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata()[0] for line in hollow] == [0.5, 0.6]
    assert "the paper" in texts(figure)
    assert "the paper" not in texts(plots.apgr_forest(table.drop(columns="paper_apgr"), simulated=False))


def test_forest_says_when_nothing_beats_random():
    table = make_table(skills=(0, 0, 0)).assign(low=[0.4, 0.4, 0.3], high=[0.6, 0.6, 0.45], apgr=[0.5, 0.5, 0.4])
    nothing = "None of 2 routers beats a random one, 1 is worse"
    assert title(plots.apgr_forest(table.drop(columns="p_holm"), simulated=False)) == nothing
    assert title(plots.apgr_forest(table.assign(p_holm=[1.0, 1.0, 0.01]), simulated=False)) == nothing


def test_forest_does_not_count_what_holms_correction_takes_back():
    table = make_table().assign(p_holm=[1.0, 0.01, 0.06])
    assert title(plots.apgr_forest(table, simulated=False)).startswith("1 of 2 routers beat a random one")
    table = make_table()
    with pytest.raises(DataError, match=r"apgr_forest.*missing random_sd"):
        plots.apgr_forest(table.drop(columns="random_sd"), simulated=False)


def test_ladder_names_the_pairs_distance_and_the_tiers():
    shown = texts(FIGURES["rating_ladder"](False))
    assert title(FIGURES["rating_ladder"](False)) == "large stands 250 Elo points above small"
    assert "4 models in 2 tiers" in shown
    assert shown.count("tier 0") == shown.count("tier 1") == 1
    plain = plots.rating_ladder(RATINGS[["rating"]].reset_index(), simulated=False)
    assert title(plain) == "large leads 4 models that span 300 Elo points"
    assert "intervals" not in texts(plain)


def test_learning_curve_states_first_and_last():
    assert title(FIGURES["learning_curve"](True)) == (
        "Matrix factorization: 5% of the achievable gain with 1,000 votes, 70% with 20,000"
    )
    frame = LEARNING.rename(columns={"achieved_share": "apgr"})
    assert title(plots.learning_curve(frame, simulated=True)) == (
        "Matrix factorization: 0.050 APGR with 1,000 votes, 0.700 with 20,000"
    )
    with pytest.raises(DataError, match="missing votes"):
        plots.learning_curve(frame.drop(columns="votes"), simulated=True)


def test_training_loss_finds_the_lowest_held_out_loss():
    figure = plots.training_loss(HISTORY.to_dict("records"), simulated=True)
    assert title(figure) == "Held-out loss falls from 0.693 to 0.640, lowest at epoch 2"
    rising = HISTORY.assign(held_out_loss=[0.5, 0.6, 0.7, 0.8])
    assert title(plots.training_loss(rising, simulated=True)).startswith("Held-out loss never falls below 0.500")
    with pytest.raises(DataError, match="loss"):
        plots.training_loss([{"epoch": 1, "accuracy": 0.5}], simulated=True)


def test_histogram_refuses_what_cannot_be_drawn():
    assert "Mf spreads prompts most: nine in ten win rates lie between 0.05 and 0.95" in title(
        FIGURES["win_rate_histogram"](False)
    )
    for bad in ({}, {"ridge": []}, {"ridge": [0.5, np.nan]}):
        with pytest.raises(DataError, match="finite"):
            plots.win_rate_histogram(bad, simulated=False)


def test_heatmap_counts_the_pairs_that_never_met():
    battles = make_battles()
    assert title(FIGURES["vote_heatmap"](False)) == "10% of the pairs of models never met"
    figure = plots.vote_heatmap(battles, simulated=False)
    mesh = figure.axes[0].collections[0].get_array()
    assert mesh.sum() == 2 * len(battles)
    assert "the 3 with the most votes shown" in texts(plots.vote_heatmap(battles, max_models=3, simulated=False))
    with pytest.raises(ParameterError, match="win_share"):
        plots.vote_heatmap(battles, "ties", simulated=False)


def test_a_failing_figure_leaves_nothing_open():
    before = plt.get_fignums()
    broken = RATINGS.assign(rating="high")
    with pytest.raises(TypeError):
        plots.rating_ladder(broken, simulated=False)
    assert plt.get_fignums() == before


def test_theme_can_be_made_the_default():
    with mpl.rc_context():
        plots.set_theme()
        assert not mpl.rcParams["axes.spines.top"]
        assert mpl.colors.to_hex(mpl.rcParams["axes.prop_cycle"].by_key()["color"][0]) == plots.PALETTE[0]
