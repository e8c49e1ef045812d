"""Imports: fast, one way, and the names that others rely on; and no text of real data anywhere in the repository."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import routellm_lab.preferences

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "routellm_lab"
HEAVY = ["torch", "sklearn", "pandas", "scipy", "pandera", "transformers", "datasets", "matplotlib", "evalica"]
LAYERS = [
    {"errors", "settings", "columns", "tables", "files", "bars", "resampling", "_moved"},
    {"encoders"},
    {"preferences"},
    {"benchmarks"},
    {"paper", "costs"},
    {"engine"},
    {"routers"},
    {"evaluation"},
    {"judging"},
    {"studies"},
    {"policies"},
    {"systems"},
    {"serving"},
    {"plots"},
    {"workbook"},
    {"cli", "__main__"},
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

PUBLIC = """
from routellm_lab import ModelPair, Outcomes, RoutingCurve, evaluate, load_battles, load_outcomes, load_prompts
from routellm_lab import battles_from_outcomes, decontaminate, default_pair, fit_ratings, fit_tiers, load_router
from routellm_lab import recommended_router
from routellm_lab.routers import (ConstantRouter, KernelRouter, KNNRouter, MatrixFactorizationRouter,
                                  PromptLengthRouter, RandomRouter, RidgeRouter, SimilarityWeightedRouter)
"""


def loaded_by(code):
    code += "\nimport json, sys\nprint(json.dumps([name for name in sys.modules if '.' not in name]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["routellm_lab", "routellm_lab.cli"])
def test_a_light_import_loads_nothing_heavy(module):
    assert not loaded_by(f"import {module}") & set(HEAVY)


def test_data_and_evaluation_load_without_torch():
    assert not loaded_by("from routellm_lab import evaluate, load_battles, load_outcomes") & {"torch", "transformers"}


def test_public_names_are_there_and_listed():
    loaded_by(PUBLIC)
    import routellm_lab

    assert set(routellm_lab.__all__) <= set(dir(routellm_lab))
    assert all(getattr(routellm_lab, name) is not None for name in routellm_lab.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        routellm_lab.nonsense  # noqa: B018


def test_names_of_version_0_1_still_work():
    from routellm_lab.benchmarks.grading import last_number
    from routellm_lab.evaluation import paper_training_sets
    from routellm_lab.evaluation.agreement import agreement
    from routellm_lab.judging import judge_battles
    from routellm_lab.policies.answers import log_answers
    from routellm_lab.policies.cost import CostCurve, count_tokens
    from routellm_lab.policies.prices import Prices
    from routellm_lab.preferences import ModelPair
    from routellm_lab.preferences import judge_battles as old
    from routellm_lab.routers import KNNRouter, RidgeScores, RidgeUtility
    from routellm_lab.systems.panels import majority

    assert all(
        map(callable, (last_number, paper_training_sets, agreement, log_answers, count_tokens, Prices, majority))
    )
    assert (old, RidgeUtility, CostCurve.__name__) == (judge_battles, RidgeScores, "PairCostCurve")
    assert KNNRouter(ModelPair("a", "b"), neighbours=(7,)).get_params()["n_neighbors"] == (7,)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        routellm_lab.preferences.nonsense  # noqa: B018


def imported(tree):
    """Names of the package's modules that a module imports, but for those that only type checkers read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "routellm_lab":
            yield from (f"routellm_lab.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module


def test_imports_point_one_way():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 30
    for file in files:
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        if parts == ("__init__",):
            continue  # its names load on first use
        own = LAYER[parts[0]]  # a new module needs its place in the order
        for name in imported(ast.parse(file.read_text(encoding="utf-8"))):
            top, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            drawn = (parts, other) == (("evaluation", "curve"), "plots")  # RoutingCurve.plot, when it is called
            if top == "routellm_lab" and other and not drawn and not other.startswith("__version__"):
                assert LAYER[other] <= own, f"{file.relative_to(ROOT)} imports {name}, which comes after it"


def test_the_test_of_imports_would_see_a_wrong_one():
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from routellm_lab.routers import a\n"
    assert list(imported(ast.parse(source + "def f():\n    from routellm_lab.plots import b\n"))) == [
        "typing",
        "routellm_lab.plots",
    ]


def texts_of_the_repository():
    """Text of every tracked file, white space folded; the sources and outputs of notebooks as the reader sees them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for file in (ROOT / name for name in listed.stdout.splitlines()):
        if not file.is_file():
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if file.suffix in (".j2", ".html"):
            text = re.sub(r"<[^<>]*>", " ", text)  # every page of the Web begins with the same tags
        if file.suffix in (".ipynb", ".json", ".html"):
            text = text.replace('\\n",', "\n").replace("\\n", "\n").replace('\\"', '"')
        yield file.relative_to(ROOT), " ".join(text.split())


WINDOW, STRIDE = 60, 20


def windows(text):
    """Every 20th window of 60 characters: text that repeats 80 characters of another repeats one of its windows."""
    return {text[start : start + WINDOW] for start in range(0, max(len(text) - WINDOW, 0) + 1, STRIDE)}


def real_texts(folder):
    import pandas as pd

    for file in sorted(folder.rglob("*.parquet")):
        frame = pd.read_parquet(file)
        for column in {"prompt", "prompt_turn_2", "answer", "response", "response_a", "response_b"} & set(frame):
            yield from frame[column].dropna().unique()


def found_in_repository(sources, texts):
    """Windows of real texts that occur in the repository's text at any place."""
    inside = {}
    for file, text in texts:
        for start in range(max(len(text) - WINDOW, -1) + 1):
            inside.setdefault(text[start : start + WINDOW], file)
    hits = {}
    for source in sources:
        for window in windows(" ".join(source.split())):
            if len(window) == WINDOW and window in inside and len(set(window)) > 12:
                hits[window] = str(inside[window])
    return hits


def test_the_search_finds_a_planted_text():
    real = "How many of the seventeen lighthouses along the northern shore are painted in stripes of red, and why?"
    planted = [(Path("README.md"), "Some words before. " + real[7:95] + " and after")]
    assert found_in_repository([real], planted)
    assert not found_in_repository([real], [(Path("README.md"), real[:50] + " but " + real[50:80])])


@pytest.mark.real_data
def test_no_text_of_real_data_is_in_the_repository(real_folder):
    assert found_in_repository(real_texts(real_folder), texts_of_the_repository()) == {}
