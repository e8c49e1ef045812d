"""Every figure says what it shows, on which data, and leaves no state behind."""

import dataclasses

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from routellm_lab import load_outcomes, plots
from routellm_lab.benchmarks.outcomes import Outcomes
from routellm_lab.costs import load_prices, log_answers
from routellm_lab.errors import DataError, ParameterError
from routellm_lab.evaluation import Bootstrap, Correlation, PairCostCurve, RoutingCurve, compare_all, comparison_table
from routellm_lab.evaluation.cost_quality import CostQualityCurve
from routellm_lab.evaluation.power import power_curve
from routellm_lab.policies import shares_over_time
from routellm_lab.preferences.models import ModelPair
from routellm_lab.studies import AdversarialSuffix, transfer_table

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
    return comparison_table(curves, bootstrap=Bootstrap(n_resamples=100), n_permutations=50)


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

PAIRS = pd.DataFrame(
    {
        "first": [("arena", "ridge"), ("arena", "ridge"), ("none", "random")],
        "second": [("none", "random"), ("arena+gold", "best_one"), ("arena+gold", "best_one")],
        "difference": [0.1, -0.05, -0.15],
        "p_holm": [0.01, 0.2, 0.03],
    }
)
ABLATION = pd.DataFrame(
    [
        ("ridge", "as here", "mmlu", 0.58, 0.0, np.nan, np.nan, np.nan),
        ("ridge", "as here", "gsm8k", 0.55, 0.0, np.nan, np.nan, np.nan),
        ("ridge", "fewer_tiers", "mmlu", 0.6, 0.02, 0.01, 0.03, 0.03),
        ("ridge", "fewer_tiers", "gsm8k", 0.56, 0.01, -0.03, 0.05, 1.0),
        ("ridge", "other encoder", "mmlu", 0.55, -0.03, -0.05, -0.01, 0.02),
        ("ridge", "other encoder", "gsm8k", 0.54, -0.01, -0.02, 0.01, 0.9),
        ("knn", "as here", "mmlu", 0.52, 0.0, np.nan, np.nan, np.nan),
        ("knn", "fewer neighbours", "mmlu", 0.56, 0.04, 0.01, 0.07, 0.06),  # without 0, but not after the correction
    ],
    columns=["router", "setting", "benchmark", "apgr", "difference", "low", "high", "p_holm"],
)
POWER = pd.DataFrame(
    {"questions": [100, 1000, 50], "needed": [400, 300, np.nan], "power_now": [0.3, 0.95, np.nan]}
    | {"sd_difference": [0.035, 0.02, np.nan]},
    index=["small", "large", "no such router"],
)
GROUPS = pd.DataFrame(
    {
        "benchmark": ["mmlu"] * 4 + ["mt_bench"] * 3,
        "similarity": [0.2, 0.3, 0.5, 0.6, 0.4, 0.7, 0.8],
        "apgr": [0.5, 0.52, 0.6, 0.56, 0.55, 0.62, np.nan],
        "random_sd": [0.02] * 6 + [np.nan],
        "prompts": [1000, 500, 200, 100, 20, 10, 8],
    }
)
VERDICTS = ["model_a", "tie", "model_b"]
CONFUSION = pd.DataFrame([[50, 5, 5], [10, 10, 0], [5, 5, 10]], index=VERDICTS, columns=VERDICTS)
AGREEMENT = pd.DataFrame(
    {
        "group": ["writing", "hard_maths", "coding"],
        "votes": [1200, 80, 300],
        "share": [0.7, 0.5, 0.8],
        "low": [0.68, 0.4, 0.75],
        "high": [0.72, 0.6, 0.85],
        "chance": [0.4, 0.38, np.nan],
    }
)
FLIPS = pd.DataFrame(
    [
        ("random", "typos", 200, 1.0, 0.5, 0.43, 0.57),
        ("random", "translated_word", 200, 0.4, 0.2, 0.15, 0.26),
        ("ridge", "typos", 200, 1.0, 0.1, 0.07, 0.15),
        ("ridge", "translated_word", 200, 0.4, 0.04, 0.02, 0.08),
        ("matrix_factorization", "typos", 200, 1.0, 0.0, 0.0, 0.02),
        ("matrix_factorization", "translated_word", 200, 0.4, 0.3, 0.24, 0.37),
    ],
    columns=["router", "perturbation", "prompts", "changed", "flips", "low", "high"],
)
SUFFIXES = {
    "random": AdversarialSuffix("poem animal", 0.5, 0.52, 0.49, (0.4, 0.6), 100, 0.5),
    "best_one": AdversarialSuffix("proof proof", 0.5, 0.9, 0.55, (0.3, 0.7), 100, 0.6),
}
CELLS = pd.DataFrame(
    [
        ("law", "law", 0.7, 0.05),
        ("law", "hard_maths", 0.58, 0.05),
        ("law", "art", np.nan, np.nan),
        ("hard_maths", "law", 0.35, 0.05),
        ("hard_maths", "hard_maths", 0.61, 0.05),
        ("hard_maths", "art", 0.9, 0.3),
    ],
    columns=["trained_on", "tested_on", "apgr", "random_sd"],
)
TRANSFER = pd.DataFrame(
    [
        ("large", "medium", "random", 0.05, 0.52, 0.4, 0.64, 1.4, 0.06),
        ("large", "medium", "best_one", 0.05, 0.58, 0.49, 0.67, 1.4, 0.06),
        ("large", "small", "random", 0.25, 0.49, 0.46, 0.52, 0.9, 0.01),
        ("large", "small", "best_one", 0.25, 0.62, 0.59, 0.65, 0.9, 0.01),
        ("medium", "small", "random", 0.2, 0.45, 0.42, 0.48, 0.95, 0.02),
        ("medium", "small", "best_one", 0.2, 0.6, np.nan, np.nan, 0.95, 0.02),
    ],
    columns=["strong", "weak", "router", "gap", "apgr", "low", "high", "ceiling", "random_sd"],
)
NOISE = pd.DataFrame(
    {
        "router": ["ridge"] * 3 + ["matrix_factorization"] * 3,
        "relabelled": [0.0, 0.25, 0.5] * 2,
        "achieved_share": [0.8, 0.5, 0.1, 0.7, 0.6, 0.3],
    }
)
POINTS = pd.DataFrame(
    {"label": ["bought_one", "other"], "share": [0.5, 1.0], "quality": [0.8, 0.7], "low": [0.75, np.nan], "high": 0.85}
)


def make_panels():
    rows = [("mmlu", 0.6), ("mmlu", 0.52), ("mt_bench", 0.7), ("mt_bench", 0.48)]
    table = pd.DataFrame(rows, columns=["benchmark", "apgr"]).assign(router=["ridge", "prompt_length"] * 2)
    table = table.assign(low=table["apgr"] - 0.04, high=table["apgr"] + 0.04, random_sd=0.02)
    return table.assign(single_low=table["low"] - 0.01, single_high=table["high"] + 0.01)


METRICS = {
    "routing_curves": lambda simulated: plots.routing_curves(
        {"ridge": curve_of(0.2), "matrix_factorization": curve_of(0.5)},
        simulated=simulated,
        bootstrap=Bootstrap(n_resamples=50),
    ),
    "routing_curves with points": lambda simulated: plots.routing_curves(
        {"ridge": curve_of(0.2)}, simulated=simulated, bootstrap=Bootstrap(n_resamples=50), points=POINTS
    ),
    "pairwise_matrix": lambda simulated: plots.pairwise_matrix(PAIRS, simulated=simulated, name="toy"),
    "heat_map": lambda simulated: plots.heat_map(CELLS, simulated=simulated, name="ridge"),
    "transfer_dots": lambda simulated: plots.transfer_dots(TRANSFER, simulated=simulated, name="toy"),
    "ablation_forest": lambda simulated: plots.ablation_forest(ABLATION, simulated=simulated),
    "power_curves": lambda simulated: plots.power_curves(
        POWER, chances=power_curve(POWER, 0.05, [20, 100, 2000]), simulated=simulated, name="a difference of .05"
    ),
    "similarity_scatter": lambda simulated: plots.similarity_scatter(GROUPS, simulated=simulated, name="ridge"),
    "confusion": lambda simulated: plots.confusion(CONFUSION, simulated=simulated, rows="people", columns="GPT-4"),
    "agreement_by": lambda simulated: plots.agreement_by(AGREEMENT, simulated=simulated, xlabel="votes shared"),
    "flip_rates": lambda simulated: plots.flip_rates(FLIPS, simulated=simulated, name="toy"),
    "adversarial_suffix": lambda simulated: plots.adversarial_suffix(SUFFIXES, simulated=simulated),
    "learning_curve by dose": lambda simulated: plots.learning_curve(NOISE, simulated=simulated, x="relabelled"),
    "apgr_panels": lambda simulated: plots.apgr_panels(make_panels(), name="toy", simulated=simulated),
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


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("simulated", [True, False])
def test_every_figure_is_titled_labelled_and_marked(name, simulated, tmp_path):
    settings_before, open_before = dict(mpl.rcParams), plt.get_fignums()
    figure = METRICS[name](simulated)
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == open_before
    assert dict(mpl.rcParams) == settings_before
    assert ("SIMULATED DATA" in texts(figure)) == simulated
    assert len(title(figure)) > 20
    assert any(axes.get_xlabel() for axes in figure.axes)
    figure.savefig(tmp_path / "figure.png", dpi=60)
    assert (tmp_path / "figure.png").stat().st_size > 5000


@pytest.mark.parametrize("name", METRICS)
def test_texts_lie_inside_the_figure_and_legends_off_the_data(name):
    figure = METRICS[name](True)
    figure.canvas.draw()
    frame = figure.bbox.padded(1)
    for text in [figure._suptitle, *figure.texts, *(axes.title for axes in figure.axes)]:
        box = text.get_window_extent()
        assert text.get_text() == "" or (box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1)
    assert figure.get_figwidth() == plots.WIDTH
    for legend in figure.legends:
        assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert all(axes.get_legend() is None for axes in figure.axes)


@pytest.mark.parametrize("name", [name for name in METRICS if name.split()[0] != "routing_curves"])
def test_whether_data_is_simulated_must_be_said(name):
    function = getattr(plots, name.split()[0])
    with pytest.raises(TypeError, match="simulated"):
        function(None)


def test_routing_curves_take_the_facts_from_the_curves():
    strong, weak = curve_of(0.2), curve_of(0.6, seed=1)
    figure = plots.routing_curves({"ridge": strong, "best_one": weak}, bootstrap=Bootstrap(n_resamples=50))
    few, many = weak.interval("cpt50", n_resamples=50)
    calls = f"{weak.cpt(0.5):.0%} [{few:.0%}, {many:.0%}]"
    assert title(figure) == f"Best one needs {calls} strong calls for half of the gap, random 50%"
    low, high = weak.interval("apgr", n_resamples=50)
    for shown in (f"best one {weak.apgr:.3f} [{low:.3f}, {high:.3f}]", "toy, 400 prompts, large / small"):
        assert shown in texts(figure)
    drawn = [line.get_xydata() for line in figure.axes[0].lines]
    for expected in (strong, weak, strong.oracle()):
        points = expected.to_frame()[["share", "quality"]].to_numpy()
        assert any(line.shape == points.shape and np.allclose(line, points) for line in drawn)
    assert "SIMULATED" not in texts(figure)
    simulated = plots.routing_curves({"ridge": curve_of(0.2, simulated=True)}, "bench", intervals=False, title="Mine")
    assert title(simulated) == "Mine"
    assert "SIMULATED DATA · bench" in texts(simulated)
    assert "[" not in texts(simulated)


def test_routing_curves_show_routers_known_at_one_share_only():
    figure = METRICS["routing_curves with points"](False)
    plain = plots.routing_curves({"ridge": curve_of(0.2)}, bootstrap=Bootstrap(n_resamples=50))
    marked = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert [line.get_xydata().tolist() for line in marked] == [[[0.5, 0.8]], [[1.0, 0.7]]]
    assert len({line.get_marker() for line in marked}) == len({line.get_color() for line in marked}) == 2
    bars = [line.get_xydata().tolist() for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert [[0.5, 0.75], [0.5, 0.85]] in bars
    # a marker each, and the bar of the one whose interval is known
    assert len(figure.axes[0].lines) == len(plain.axes[0].lines) + 3
    for label in ("bought one 80.0% at 50%", "other 70.0% at 100%", "points: quality at the share of strong calls"):
        assert label in texts(figure)
        assert label not in texts(plain)
    with pytest.raises(DataError, match=r"points.*missing quality"):
        plots.routing_curves({"ridge": curve_of(0.2)}, points=POINTS.drop(columns="quality"))
    with pytest.raises(DataError, match=r"points: share must be in \[0, 1\], got 50"):
        plots.routing_curves({"ridge": curve_of(0.2)}, points=POINTS.assign(share=50))


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
        f"2 of 2 routers are significantly better than random (Holm); highest APGR {best:.3f} "
        f"[{table['low'].iloc[2]:.3f}, {table['high'].iloc[2]:.3f}], matrix factorization on arena+gold"
    )
    assert "mmlu, 400 prompts" in texts(figure)
    crosses = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert crosses == [0.5, 0.6]
    hollow = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert hollow == [table["apgr"].iloc[0]]  # the only one that is not significant
    assert "the paper" in texts(figure)
    assert "the paper" not in texts(plots.apgr_forest(table.drop(columns="paper_apgr"), simulated=False))


def test_forest_says_when_nothing_beats_random():
    table = make_table(skills=(0, 0, 0)).assign(low=[0.4, 0.4, 0.3], high=[0.6, 0.6, 0.45], apgr=[0.5, 0.5, 0.4])
    nothing = "None of 2 routers is significantly better than random, 1 significantly worse"
    uncorrected = title(plots.apgr_forest(table.drop(columns="p_holm"), simulated=False))
    assert uncorrected == f"{nothing} (intervals, uncorrected)"
    assert title(plots.apgr_forest(table.assign(p_holm=[1.0, 1.0, 0.01]), simulated=False)) == f"{nothing} (Holm)"


def test_forest_leaves_an_unbounded_interval_out_of_its_title():
    table = make_table().assign(p_holm=0.01, low=np.nan, high=np.nan)
    best = table["apgr"].iloc[2]
    assert title(plots.apgr_forest(table, simulated=False)).endswith(
        f"highest APGR {best:.3f}, matrix factorization on arena+gold"
    )
    best_untrained = table.assign(apgr=[0.4, 0.6, 0.5], training=["none", "none", "arena"])
    assert title(plots.apgr_forest(best_untrained, simulated=False)).endswith("0.600, ridge without training")


def test_many_rows_stay_on_a_screen():
    table = pd.concat([make_table()] * 8, ignore_index=True)
    table["training"] = [f"set {number // 6}" for number in range(24)]
    assert plots.apgr_forest(table, simulated=False).get_figheight() < 6.5


def test_forest_does_not_count_what_holms_correction_takes_back():
    table = make_table().assign(p_holm=[1.0, 0.01, 0.06])
    assert title(plots.apgr_forest(table, simulated=False)).startswith("1 of 2 routers is significantly better")
    table = make_table()
    graded = plots.apgr_forest(table.assign(grading="score_lenient"), by="grading", simulated=False)
    assert "grading: score lenient" in texts(graded)
    assert "training:" not in texts(graded)
    with pytest.raises(DataError, match=r"apgr_forest.*missing random_sd"):
        plots.apgr_forest(table.drop(columns="random_sd"), simulated=False)


def test_ladder_names_the_pairs_distance_and_the_tiers():
    shown = texts(METRICS["rating_ladder"](False))
    assert title(METRICS["rating_ladder"](False)) == "large is rated 250 Elo points above small"
    assert "4 models in 2 tiers" in shown
    assert shown.count("tier 0") == shown.count("tier 1") == 1
    plain = plots.rating_ladder(RATINGS[["rating"]].reset_index(), simulated=False)
    assert title(plain) == "large leads 4 models that span 300 Elo points"
    assert "intervals" not in texts(plain)
    voted = RATINGS.assign(votes=[9, 5, 7, 1])
    few = plots.rating_ladder(voted, simulated=False, pair=PAIR, max_models=3)
    assert "the 3 with the most votes shown" in texts(few)
    assert [label.get_text() for label in few.axes[0].get_yticklabels()][:2] == ["large", "medium"]
    assert title(few) == "large is rated 250 Elo points above small"


def test_learning_curve_states_first_and_last():
    assert title(METRICS["learning_curve"](True)) == (
        "Matrix factorization: 5% of the achievable gain with 1,000 votes, 70% with 20,000"
    )
    frame = LEARNING.rename(columns={"achieved_share": "apgr"})
    assert title(plots.learning_curve(frame, simulated=True)) == (
        "Matrix factorization: 0.050 APGR with 1,000 votes, 0.700 with 20,000"
    )
    with pytest.raises(DataError, match="missing votes"):
        plots.learning_curve(frame.drop(columns="votes"), simulated=True)


def test_learning_curve_of_a_dose_is_linear_and_says_what_is_left():
    figure = METRICS["learning_curve by dose"](True)
    assert title(figure) == ("Ridge, at first the best, falls from 80% of the achievable gain at 0% to 10% at 50%")
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_xlabel()) == ("linear", "relabelled (%)")
    assert METRICS["learning_curve"](True).axes[0].get_xscale() == "log"
    own = NOISE.rename(columns={"achieved_share": "apgr", "router": "who"}).assign(relabelled=[0, 1000, 2000] * 2)
    figure = plots.learning_curve(own, simulated=False, x="relabelled", xlabel="votes relabelled", hue="who")
    assert title(figure).endswith("at first the best, falls from 0.800 APGR at 0 to 0.100 at 2,000")
    assert figure.axes[0].get_xlabel() == "votes relabelled"
    assert [line.get_label() for line in figure.legends[0].legend_handles] == ["ridge", "matrix factorization"]
    one = own[own["who"] == "ridge"].assign(apgr=[0.5, 0.55, 0.6])
    assert title(plots.learning_curve(one, simulated=False, x="relabelled", hue="who")) == (
        "Ridge goes from 0.500 APGR at 0 to 0.600 at 2,000"
    )


def test_training_loss_finds_the_lowest_held_out_loss():
    figure = plots.training_loss(HISTORY.to_dict("records"), simulated=True)
    assert title(figure) == "Held-out loss falls from 0.693 to 0.640, lowest at epoch 2"
    rising = HISTORY.assign(held_out_loss=[0.5, 0.6, 0.7, 0.8])
    assert title(plots.training_loss(rising, simulated=True)).startswith("Held-out loss never falls below 0.500")
    with pytest.raises(DataError, match="loss"):
        plots.training_loss([{"epoch": 1, "accuracy": 0.5}], simulated=True)


def test_histogram_refuses_what_cannot_be_drawn():
    assert "Mf spreads prompts most: nine in ten win rates lie between 0.05 and 0.95" in title(
        METRICS["win_rate_histogram"](False)
    )
    for bad in ({}, {"ridge": []}, {"ridge": [0.5, np.nan]}):
        with pytest.raises(DataError, match="finite"):
            plots.win_rate_histogram(bad, simulated=False)


def test_heatmap_counts_the_pairs_that_never_met():
    battles = make_battles()
    assert title(METRICS["vote_heatmap"](False)) == "10% of the pairs of models were never compared in a vote"
    figure = plots.vote_heatmap(battles, simulated=False)
    mesh = figure.axes[0].collections[0].get_array()
    assert mesh.sum() == 2 * len(battles)
    assert "the 3 with the most votes shown" in texts(plots.vote_heatmap(battles, max_models=3, simulated=False))
    with pytest.raises(ParameterError, match="win_share"):
        plots.vote_heatmap(battles, "ties", simulated=False)


def test_matrix_of_routers_is_sorted_and_marks_what_is_told_apart():
    figure = METRICS["pairwise_matrix"](False)
    assert title(figure) == (
        "2 of 3 pairs of routers differ significantly (Holm); arena+gold: best one is better than 1 of 2 others"
    )
    axes = figure.axes[0]
    ranked = [label.get_text() for label in axes.get_yticklabels()]
    assert ranked == ["arena+gold: best one  1", "arena: ridge  2", "random  3"]
    mesh, dots = axes.collections
    assert mesh.get_array().filled(0).ravel().tolist() == [0, 0.05, 0.15, -0.05, 0, 0.1, -0.15, -0.1, 0]
    assert mesh.norm.vmin == -mesh.norm.vmax == -0.15
    assert sorted(dots.get_offsets().tolist()) == [[0.5, 2.5], [1.5, 2.5], [2.5, 0.5], [2.5, 1.5]]
    none = plots.pairwise_matrix(PAIRS.assign(p_holm=0.05), simulated=False, labels={("arena", "ridge"): "my_ridge"})
    assert title(none) == "None of 3 pairs of routers differs significantly (Holm)"
    assert "my ridge 2" in texts(none)
    assert len(none.axes[0].collections[1].get_offsets()) == 0


def test_matrix_of_routers_takes_what_compare_all_makes():
    skills = (0.1, 0.9, 0.5, 0.3)
    curves = {f"r{number}": curve_of(skill, number) for number, skill in enumerate(skills)}
    figure = plots.pairwise_matrix(compare_all(curves, n_resamples=300), simulated=False)
    by_apgr = sorted(curves, key=lambda name: -curves[name].apgr)
    assert [label.get_text().split()[0] for label in figure.axes[0].get_yticklabels()] == by_apgr
    first = figure.axes[0].collections[0].get_array().filled(0).reshape(4, 4)[0]
    np.testing.assert_allclose(first, [curves[by_apgr[0]].apgr - curves[name].apgr for name in by_apgr])


def test_heat_map_greys_what_may_be_luck_and_frames_what_is_alike():
    figure = METRICS["heat_map"](False)
    assert title(figure) == (
        "2 of 5 cells lie above the range of a random router, 1 below; highest: 0.700 (trained on law, tested on law)"
    )
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["law", "hard maths", "art"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["law", "hard maths"]
    mesh = axes.collections[0]
    np.testing.assert_array_equal(mesh.get_array().filled(np.nan).ravel(), [0.7, np.nan, np.nan, 0.35, 0.61, np.nan])
    # the scale is that of the sure cells, as far to either side of .5
    assert (mesh.norm.vmin, mesh.norm.vmax) == pytest.approx((0.3, 0.7))
    grey = [patch.get_xy() for patch in axes.patches if patch.get_fill()]
    assert grey == [(1, 0), (2, 1)]
    assert [patch.get_xy() for patch in axes.patches if not patch.get_fill()] == [(0, 0), (1, 1)]
    written = {text.get_text(): text.get_color() == plots.MUTED for text in axes.texts}
    assert written == {"0.700": False, "0.350": False, "0.610": False, "0.580": True, "0.900": True}
    assert "ridge, framed: trained on and tested on are the same" in texts(figure)
    assert "grey: less than 2 standard deviations of a random router" in texts(figure)


def test_heat_map_orders_equal_names_alike_and_takes_any_metric():
    square = CELLS[CELLS["tested_on"] != "art"].iloc[[1, 0, 2, 3]].drop(columns="random_sd")
    square = square.assign(kappa=[0.1, -0.2, 0.3, 0.0])
    options = {"xlabel": "second", "ylabel": "first", "centre": 0.0}
    figure = plots.heat_map(square, value="kappa", simulated=False, **options)
    assert title(figure) == "From -0.200 (first law, second law) to 0.300 (first hard maths, second law)"
    axes = figure.axes[0]
    names = ["law", "hard maths"]
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert axes.collections[0].get_array().ravel().tolist() == [-0.2, 0.1, 0.3, 0.0]
    assert (axes.get_xlabel(), axes.get_ylabel(), figure.axes[-1].get_ylabel()) == ("second", "first", "kappa")
    assert not figure.legends
    nothing = plots.heat_map(CELLS.assign(random_sd=1.0), simulated=False)
    assert title(nothing) == "None of 5 cells lies outside the range of a random router"
    worse = plots.heat_map(CELLS.assign(apgr=CELLS["apgr"] - 0.4), simulated=False)
    assert title(worse) == (
        "0 of 5 cells lie above the range of a random router, 4 below; "
        "lowest: -0.050 (trained on hard maths, tested on law)"
    )


def test_heat_map_of_many_columns_is_not_written_over():
    many = pd.DataFrame({"trained_on": "all", "tested_on": range(21), "apgr": 0.6, "random_sd": [0.01] * 20 + [0.2]})
    axes = plots.heat_map(many, simulated=False).axes[0]
    assert not [text for text in axes.texts if text.get_text()]
    assert [text.get_text() for text in plots.heat_map(many.iloc[1:], simulated=False).axes[0].texts] == ["0.60"] * 20


def test_heat_map_refuses_what_is_no_grid():
    with pytest.raises(DataError, match="apgr of trained_on by tested_on: a cell has two rows"):
        plots.heat_map(pd.concat([CELLS, CELLS.iloc[:1]]), simulated=False)
    with pytest.raises(DataError, match="every cell is NaN"):
        plots.heat_map(CELLS.assign(apgr=np.nan), simulated=False)
    with pytest.raises(DataError, match=r"heat_map.*missing kappa"):
        plots.heat_map(CELLS, value="kappa", simulated=False)


def test_transfer_is_sorted_by_gap_and_hollow_where_unsure():
    figure = METRICS["transfer_dots"](False)
    assert title(figure) == (
        "Better than random on how many of 3 pairs: best one 1; each by its own interval, uncorrected"
    )
    axes = figure.axes[0]
    pairs = [label.get_text() for label in axes.get_yticklabels()]
    assert pairs == ["large\n/ small  (+0.25)", "medium\n/ small  (+0.2)", "large\n/ medium  (+0.05)"]
    lines = [(line.get_xdata().tolist(), line) for line in axes.lines[1:]]
    assert axes.get_xlim()[1] < 0.9  # the oracle would squash the rest
    points = {x[0]: line for x, line in lines if line.get_marker() != "None"}
    assert {apgr: round(line.get_ydata()[0]) for apgr, line in points.items()} == {
        0.52: 2,
        0.58: 2,
        0.49: 0,
        0.62: 0,
        0.45: 1,
        0.6: 1,
    }
    # significantly better, or significantly worse
    assert [apgr for apgr, line in points.items() if line.get_markerfacecolor() != "white"] == [0.62, 0.45]
    bars = [x for x, line in lines if line.get_marker() == "None" and line.get_color() != plots.INK]
    np.testing.assert_array_equal(bars, TRANSFER[["low", "high"]])
    assert axes.lines[0].get_xdata()[0] == 0.5
    bands = [band.get_paths()[0].get_extents() for band in axes.collections]
    np.testing.assert_allclose([band.x1 - 0.5 for band in bands], 1.95996 * np.array([0.01, 0.02, 0.06]), rtol=1e-4)
    assert "toy, 3 pairs, in brackets" in texts(figure)


def test_transfer_does_not_praise_chance():
    unsure = TRANSFER.assign(low=0.4)
    assert title(plots.transfer_dots(unsure, simulated=False)) == (
        "No router is better than random on any of 3 pairs, each by its own interval, uncorrected"
    )
    two = TRANSFER.replace({"router": {"random": "knn"}}).assign(low=[0.51, 0.49, 0.46, 0.59, 0.42, 0.55])
    assert title(plots.transfer_dots(two, simulated=False)) == (
        "Better than random on how many of 3 pairs: best one 2, knn 1; each by its own interval, uncorrected"
    )
    none = plots.transfer_dots(TRANSFER[TRANSFER["router"] == "random"], simulated=False)
    assert title(none).startswith("No router is better than random on any of 3 pairs")
    with pytest.raises(DataError, match=r"transfer_dots.*missing gap"):
        plots.transfer_dots(TRANSFER.drop(columns="gap"), simulated=False)


def test_transfer_fills_what_is_significant_after_correction():
    corrected = TRANSFER.assign(p_holm=[1, 0.01, 1, 0.02, 0.03, 0.2])
    figure = plots.transfer_dots(corrected, simulated=False)
    assert title(figure) == "Better than random on how many of 3 pairs: best one 2; after Holm's correction"
    points = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", None)]
    filled = [line.get_xdata()[0] for line in points if line.get_markerfacecolor() != "white"]
    assert filled == [0.58, 0.62, 0.45]
    assert "hollow: not significant" in texts(figure)


def test_transfer_dots_and_heat_maps_take_what_the_package_makes():
    ids = pd.Index([f"q{number}" for number in range(120)])
    rng, text = np.random.default_rng(0), pd.Series(ids, index=ids)
    chances = {"large": 0.9, "medium": 0.7, "small": 0.4}
    scores = pd.DataFrame({model: (rng.random(120) < chance) * 1.0 for model, chance in chances.items()}, index=ids)
    pairs = [PAIR, ModelPair("medium", "small"), ModelPair("large", "medium")]
    outcomes = Outcomes("toy", text, scores, text, text)
    table = transfer_table(
        {"ridge": rng.random(120), "knn": rng.random(120)}, outcomes, pairs, bootstrap=Bootstrap(n_resamples=50)
    )
    points = [line.get_xdata()[0] for line in plots.transfer_dots(table, simulated=True).axes[0].lines]
    assert set(table["apgr"]) <= set(points)
    named = table.assign(pair=table["strong"] + " / " + table["weak"], apgr=table["apgr"] + 1)
    cells = plots.heat_map(named, "router", "pair", simulated=True).axes[0].collections[0].get_array()
    assert cells.ravel().tolist() == named["apgr"].tolist()


def test_panels_share_their_rows_and_mark_one_router():
    table = make_panels()
    figure = plots.apgr_panels(table, simulated=False, marked="ridge")
    assert [axes.get_xlabel() for axes in figure.axes] == ["mmlu: APGR", "mt bench: APGR"]
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == ["ridge", "prompt length"]
    for axes, (_, part) in zip(figure.axes, table.groupby("benchmark"), strict=True):
        points = [line for line in axes.lines if line.get_marker() != "None"]
        assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in points] == list(
            zip(part["apgr"], (0, 1), strict=True)
        )
        assert len({line.get_color() for line in points}) == 2
    assert title(plots.apgr_panels(table, simulated=False, title="Mine")) == "Mine"
    with pytest.raises(DataError, match="at most 4"):
        plots.apgr_panels(
            table.assign(benchmark=list("abcd")).pipe(lambda t: pd.concat([t, t.assign(benchmark="e")])),
            simulated=False,
        )
    with pytest.raises(DataError, match=r"apgr_panels.*missing random_sd"):
        plots.apgr_panels(table.drop(columns="random_sd"), simulated=False)


def test_the_forest_draws_the_interval_of_a_single_fit():
    table = make_table().assign(single_low=lambda t: t["low"] - 0.05, single_high=lambda t: t["high"] + 0.05)
    with_thin, without = (
        plots.apgr_forest(frame, simulated=False)
        for frame in (table, table.drop(columns=["single_low", "single_high"]))
    )
    assert len(with_thin.axes[0].lines) == len(without.axes[0].lines) + len(table)
    assert "interval of one fit" in texts(with_thin)
    assert "interval of one fit" not in texts(without)


def test_ablation_counts_what_is_significant_after_the_correction():
    figure = METRICS["ablation_forest"](False)
    assert title(figure) == (
        "2 of 5 differences in APGR are significant (Holm); largest: ridge, other encoder on mmlu, "
        "-0.030 [-0.050, -0.010]"
    )
    assert [axes.get_xlabel() for axes in figure.axes] == ["mmlu", "gsm8k"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "ridge:",
        "as here",
        "fewer tiers",
        "other encoder",
        "knn:",
        "as here",
        "fewer neighbours",
    ]
    # the line at 0; a marker for each reference, a bar and a marker for each setting
    assert [len(axes.lines) for axes in figure.axes] == [1 + 2 + 2 * 3, 1 + 1 + 2 * 2]
    hollow = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert hollow == [0, 0, 0.04]
    assert "APGR 0.580" in texts(figure)
    corrected = ABLATION.assign(p_holm=ABLATION["p_holm"] + 0.05)
    assert (
        title(plots.ablation_forest(corrected, simulated=False))
        == "None of 5 differences in APGR is significant (Holm)"
    )
    with pytest.raises(DataError, match="missing low"):
        plots.ablation_forest(ABLATION.drop(columns="low"), simulated=False)


def test_scatter_states_the_correlation():
    figure = METRICS["similarity_scatter"](False)
    assert title(figure).startswith("APGR rises with similarity: Spearman's rho +0.94, 95% interval [")
    axes = figure.axes[0]
    bars, *clouds = axes.collections
    assert len(bars.get_segments()) == 6
    np.testing.assert_allclose(
        bars.get_segments()[0], [[0.2, 0.5 - 1.95996 * 0.02], [0.2, 0.5 + 1.95996 * 0.02]], atol=1e-6
    )
    assert [len(cloud.get_offsets()) for cloud in clouds] == [4, 2]
    areas = clouds[0].get_sizes()
    assert (np.diff(areas) < 0).all()
    assert axes.lines[0].get_ydata()[0] == 0.5
    for shown in ("ridge, 6 groups, p = ", "larger points: more prompts, up to 1,000", "mt bench", "random router"):
        assert shown in texts(figure)
    told = Correlation(rho=-0.2, low=-0.5, high=0.1, p_value=0.3, n=6, confidence_level=0.9)
    plain = GROUPS[["benchmark", "similarity", "apgr"]].rename(columns={"similarity": "votes_near"})
    figure = plots.similarity_scatter(plain, "votes_near", simulated=False, correlation=told)
    assert title(figure) == (
        "APGR has no clear relation to votes near: Spearman's rho -0.20, 90% interval [-0.50, +0.10]"
    )
    assert "area" not in texts(figure)
    falls = Correlation(rho=-0.5, low=-0.8, high=-0.1, p_value=0.01, n=6)
    assert "falls with" in title(plots.similarity_scatter(GROUPS, simulated=False, correlation=falls))
    with pytest.raises(DataError, match="missing rows"):
        plots.similarity_scatter(GROUPS.assign(apgr=np.nan), simulated=False)


def test_confusion_states_the_agreement():
    figure = METRICS["confusion"](False)
    assert title(figure) == "People and GPT-4 agree on 70% of 100 votes"
    # margins 60, 20, 20 and 65, 20, 15
    assert "by chance they would on 46%" in texts(figure)
    assert "50 83% 5 8% 5 8% 10 50%" in texts(figure)
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("GPT-4", "people")
    assert [patch.get_xy() for patch in figure.axes[0].patches] == [(0, 0), (1, 1), (2, 2)]
    unlike = CONFUSION.rename(columns={"tie": "both_bad"})
    figure = plots.confusion(unlike, simulated=False, rows="people", columns="GPT-4")
    assert title(figure) == "People and GPT-4 agree on 60% of 100 votes"
    empty = CONFUSION.mul([1, 0, 1], axis=0)
    assert "80 votes" in title(plots.confusion(empty, simulated=False, rows="people", columns="GPT-4"))
    for bad in (CONFUSION * 0, CONFUSION - 20, CONFUSION.set_axis(list("abc"), axis=1)):
        with pytest.raises(DataError, match="confusion: needs counts"):
            plots.confusion(bad, simulated=False, rows="people", columns="GPT-4")


def test_agreement_names_the_highest_and_the_lowest_group():
    figure = METRICS["agreement_by"](False)
    assert title(figure) == "Agreement is highest in coding, 80%, and lowest in hard maths, 50%"
    axes = figure.axes[0]
    assert axes.get_xlabel() == "votes shared (%)"
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "writing  (1,200)",
        "hard maths  (80)",
        "coding  (300)",
    ]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"] == [0.7, 0.5, 0.8]
    chance = [line.get_xdata()[0] for line in axes.lines if line.get_color() == "#888888"]
    assert chance[:2] == [0.4, 0.38]
    assert "by chance" in texts(figure)
    plain = plots.agreement_by(AGREEMENT.drop(columns="chance").head(1), simulated=False, xlabel="votes shared")
    assert title(plain) == "Agreement is 70% in writing"
    assert "by chance" not in texts(plain)
    with pytest.raises(DataError, match="missing votes"):
        plots.agreement_by(AGREEMENT.drop(columns="votes"), simulated=False, xlabel="votes shared")


def test_flips_name_the_worst_case_and_the_most_stable_router():
    figure = METRICS["flip_rates"](False)
    assert title(figure) == (
        "Besides random, up to 30% of the decisions flip (matrix factorization, translated word); "
        "the most stable router, ridge, flips at most 10%"
    )
    axes = figure.axes[0]
    assert axes.get_xlabel() == "decisions flipped (% of prompts)"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["typos  (100%)", "translated word  (40%)"]
    points = [line for line in axes.lines if line.get_marker() != "None"]
    bars = [line for line in axes.lines if line.get_marker() == "None"]
    assert [point.get_xdata()[0] for point in points] == FLIPS["flips"].tolist()
    assert [list(bar.get_xdata()) for bar in bars] == FLIPS[["low", "high"]].to_numpy().tolist()
    heights = [point.get_ydata()[0] for point in points]
    assert [round(height) for height in heights] == [0, 1] * 3
    assert heights[0] < heights[2] < heights[4]
    assert len({(point.get_color(), point.get_marker()) for point in points}) == 3
    assert axes.get_xlim()[0] < 0
    assert "toy, 200 prompts" in texts(figure)
    one = plots.flip_rates(FLIPS[FLIPS["router"] == "ridge"], simulated=False)
    assert title(one) == "Up to 10% of the decisions flip (ridge, typos)"
    none = plots.flip_rates(FLIPS[FLIPS["router"] == "random"], simulated=False)
    assert title(none) == "Up to 50% of the decisions flip (random, typos)"
    assert title(plots.flip_rates(FLIPS, simulated=False, title="Mine")) == "Mine"
    with pytest.raises(DataError, match=r"flip_rates.*missing changed"):
        plots.flip_rates(FLIPS.drop(columns="changed"), simulated=False)


def test_a_suffix_is_named_only_where_it_beats_the_best_random_one():
    figure = METRICS["adversarial_suffix"](False)
    assert title(figure) == "2 appended words raise the strong calls (best one) from 50% to 90%, random words to 55%"
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "random\n“poem animal”",
        "best one\n“proof proof”",
    ]
    points = [line for line in axes.lines if line.get_marker() != "None"]
    assert [point.get_xdata()[0] for point in points] == [0.5, 0.49, 0.52, 0.5, 0.55, 0.9]
    bars = [tuple(line.get_xdata()) for line in axes.lines if line.get_marker() == "None"]
    assert bars[1::3] == [(0.4, 0.6), (0.3, 0.7)]
    assert bars[5] == SUFFIXES["best_one"].after_interval
    assert "100 held-out prompts" in texts(figure)
    unlucky = {"random": SUFFIXES["random"]}
    assert title(plots.adversarial_suffix(unlucky, simulated=False)) == (
        "No suffix brings significantly more strong calls than the best of the random ones"
    )
    with pytest.raises(ParameterError, match="no suffix"):
        plots.adversarial_suffix({}, simulated=False)


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


def test_benchmark_ratios_tell_which_are_slower_than_their_reference():
    rows = [("a", 100.0, 10.0), ("b", 5.0, 10.0), ("c", 3.0, np.nan)]
    frame = pd.DataFrame(rows, columns=["name", "ours", "reference"]).assign(unit="prompts/s")
    frame["ratio"] = frame["ours"] / frame["reference"]
    figure = plots.benchmark_ratios(frame, detail="2 cores")
    assert figure.get_suptitle().startswith("1 of 2 hot paths are at least as fast")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b", "a"]
    assert {text.get_text() for text in figure.axes[0].texts} == {"10 times (100 prompts/s)", "0.5 times (5 prompts/s)"}
    with pytest.raises(DataError, match="no row has a reference"):
        plots.benchmark_ratios(frame[2:])


def make_costs(skill=0.5, router=0.0):
    rng = np.random.default_rng(1)
    return PairCostCurve(
        curve_of(skill), rng.uniform(0.005, 0.02, 400), rng.uniform(0.0001, 0.001, 400), router, "a list"
    )


def test_cost_curves_tell_what_is_saved_beside_a_random_mix():
    figure = plots.cost_curves({"good": make_costs(), "none": make_costs(0.0)}, bootstrap=Bootstrap(n_resamples=100))
    assert title(figure).startswith("Good: half of the quality gap costs ")
    assert "with a random mix" in title(figure)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "cost (USD per 1,000 questions)"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any(label.startswith("good") and "[" in label for label in labels)
    assert {"random mix of both models", "oracle"} <= set(labels)
    with pytest.raises(DataError, match="differ in benchmark, prices or tokens"):
        plots.cost_curves({"a": make_costs(), "b": dataclasses.replace(make_costs(), basis="another list")})
    with pytest.raises(ParameterError, match="no curves"):
        plots.cost_curves({})


def test_interval_dots_draw_a_marker_with_its_interval_per_row():
    frame = pd.DataFrame(
        {"what": ["x", "x", "y"], "how": ["a", "b", "a"], "value": [1.0, 2, 3], "low": [0.5, 1, np.nan]}
    ).assign(high=[1.5, 3, np.nan])
    options = {"simulated": True, "title": "A finding", "xlabel": "times", "reference": 1, "reference_label": "even"}
    figure = plots.dot_plot(frame, "what", "how", **options)
    assert title(figure) == "A finding"
    assert "SIMULATED" in figure.axes[0].get_title(loc="left")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "even"]
    ratios = plots.dot_plot(frame, "what", "how", log=True, heading="measured", **options)
    assert ratios.axes[0].get_xscale() == "log"
    assert [tick.get_text() for tick in ratios.axes[0].get_xticklabels()] == ["0.5", "0.7", "1", "1.5", "2", "3"]
    assert ratios.legends[0].get_title().get_text() == "measured"
    many = pd.concat([frame.assign(what=f"{number}") for number in range(40)])
    assert plots.dot_plot(many, "what", "how", **options).get_figheight() <= 6.5
    with pytest.raises(DataError, match="dot_plot"):
        plots.dot_plot(frame.drop(columns="low"), "what", "how", **options)


def test_shares_over_time_stand_beside_what_was_asked_for():
    shares = shares_over_time(np.tile([True, False], 300), block=100)
    figure = plots.share_over_time({"fixed": shares}, 0.5, simulated=False, title="It keeps", changes={"new": 300})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fixed", "asked for: 50%"]
    assert "new" in [text.get_text() for text in figure.axes[0].texts]


def test_promises_tell_the_one_that_is_broken_most():
    frame = pd.DataFrame({"promise": ["a", "a", "b"], "labels": [100, 1000, 100], "broken": [0.05, 0.12, 0.08]})
    frame = frame.assign(broken_low=0.01, broken_high=0.2, weak_share=0.5, weak_low=0.4, weak_high=0.6, abstained=0.1)
    figure = plots.promises(frame, 0.1, simulated=False)
    assert title(figure).startswith("The promise broken most often fails in 12.0% [1.0%, 20.0%] of the draws; 10% is")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "allowed: 10%"]
    assert len(figure.axes) == 3


def make_log():
    outcomes = load_outcomes("mmlu_pro", data="sample")
    return log_answers(outcomes.select(outcomes.prompts.index[:300]), load_prices("sample"))


def test_routers_among_many_models_stand_beside_the_models_their_mix_and_the_oracle():
    log = make_log()
    knows = CostQualityCurve.from_scores(log, 0.5 * log.outcomes.scores[log.models] + 0.5 * log.outcomes.competence)
    figure = plots.cost_quality({"knows": knows}, bootstrap=Bootstrap(n_resamples=50))
    assert title(figure).startswith("Knows lies")
    assert "above the best random mix" in title(figure)
    assert "SIMULATED" in figure.axes[0].get_title(loc="left")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any(label.startswith("best random mix of models") for label in labels)
    assert {"oracle", "single models"} <= set(labels)
    with pytest.raises(ParameterError, match="no curves"):
        plots.cost_quality({})
    with pytest.raises(DataError, match="of other questions"):
        plots.cost_quality({"a": knows, "b": CostQualityCurve.oracle(log.select(log.prompts.index[:100]))})


def test_the_map_of_a_panel_names_its_specialist():
    frame = pd.DataFrame(
        {
            "group": ["law", "law", "math", "math", "all", "all"],
            "model": ["a", "b"] * 3,
            "share": [0.2, 0.8, 0.9, 0.1, 0.5, 0.5],
        }
    )
    figure = plots.usage_map(frame, simulated=False)
    assert title(figure) in (
        "The router sends 90% of math and 20% of law to a",
        "The router sends 80% of law and 10% of math to b",
    )
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["law", "math", "all"]


def test_power_counts_the_benchmarks_that_are_large_enough():
    figure = METRICS["power_curves"](False)
    assert title(figure) == "1 of 2 benchmarks has enough questions to find this difference (80% power)"
    assert "small: has 100, needs 400" in texts(figure)
    assert "no such router" not in texts(figure)
    marks = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() in ("o", "s")]
    assert marks == [100, 1000]
    nothing = plots.power_curves(POWER.tail(1), chances=power_curve(POWER, 0.05, [20]), simulated=False)
    assert title(nothing).startswith("No benchmark here has rankings")
