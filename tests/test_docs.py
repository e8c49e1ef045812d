"""The documentation: every example runs and prints what its page says, and every link leads somewhere.

After a change of an example, ``ROUTELLM_LAB_UPDATE_DOCS=1 pytest tests/test_docs.py`` writes its output into the page.
"""

import io
import os
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import routellm_lab

ROOT = Path(routellm_lab.__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "api", "notebooks"} & set(path.parts))
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```(?:\n\n```text\n(?P<printed>.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*")
WITH_EXAMPLES = [path for path in (*PAGES, ROOT / "README.md") if EXAMPLE.search(path.read_text("utf-8"))]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def same(printed: str, shown: str) -> bool:
    """Equal words, and numbers that are equal up to the last digits of another processor."""
    if NUMBER.sub("#", printed).split() != NUMBER.sub("#", shown).split():
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    return all(number(one) == pytest.approx(number(other), rel=0.05, abs=0.02) for one, other in pairs)


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_run_in_an_empty_folder_and_print_what_the_page_says(page, tmp_path, monkeypatch, static_encoder):
    monkeypatch.chdir(tmp_path)
    text, names = page.read_text("utf-8"), {"__name__": "example"}
    for example in EXAMPLE.finditer(text):
        out = io.StringIO()
        with redirect_stdout(out):
            exec(compile(example["code"], str(page), "exec"), names)
        printed = "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
        if os.environ.get("ROUTELLM_LAB_UPDATE_DOCS"):
            shown = example[0].replace(f"```text\n{example['printed']}```", f"```text\n{printed}```")
            page.write_text(page.read_text("utf-8").replace(example[0], shown), "utf-8")
        else:
            assert same(printed, example["printed"] or ""), printed


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    for target in re.findall(r"\{doc\}`([^`]+)`", text):
        assert (page.parent / f"{target}.md").exists() or target == "gallery", target


def test_a_name_in_all_exists():
    from importlib import import_module
    from pkgutil import walk_packages

    for module in walk_packages(routellm_lab.__path__, "routellm_lab."):
        if not module.name.endswith("__main__"):
            home = import_module(module.name)
            missing = [name for name in getattr(home, "__all__", ()) if not hasattr(home, name)]
            assert not missing, f"{module.name}: {missing}"


def test_public_functions_and_classes_say_what_they_do():
    from importlib import import_module

    silent = []
    for room in (DOCS / "conf.py").read_text("utf-8").split('ROOMS = (\n    "')[1].split('"')[0].split():
        home = import_module(f"routellm_lab.{room}")
        silent += [
            f"{room}.{name}"
            for name in home.__all__
            if callable(getattr(home, name)) and not getattr(home, name).__doc__
        ]
    assert not silent


def test_objects_explain_themselves_in_one_line(mmlu, arena):
    from routellm_lab import ThresholdPolicy, default_pair, evaluate
    from routellm_lab.costs import load_prices, log_answers
    from routellm_lab.routers import PromptLengthRouter

    router = PromptLengthRouter(default_pair("sample")).fit(arena)
    curve = evaluate(router, mmlu)
    shown = [
        mmlu,
        curve,
        ThresholdPolicy.for_share(curve, 0.5),
        log_answers(mmlu, load_prices("sample"), output_tokens=5),
    ]
    for one in (*shown, router):
        assert len(repr(one)) < 160
        assert "\n" not in repr(one)
    assert f"{curve.apgr:.3f}" in repr(curve)
    assert "1,995 prompts" in repr(mmlu)
    assert curve.plot().axes


def test_errors_say_what_to_do_next(mmlu):
    import numpy as np

    from routellm_lab import evaluate
    from routellm_lab.encoders import make_encoder
    from routellm_lab.errors import ParameterError

    with pytest.raises(ParameterError, match=r"of win rates: RoutingCurve\.from_win_rates"):
        evaluate(np.ones(len(mmlu)), mmlu)
    with pytest.raises(ParameterError, match="did you mean 'minilm'"):
        make_encoder("minlm").transform(["a"])


def modules_with_examples():
    package = ROOT / "routellm_lab"
    paths = (path for path in sorted(package.rglob("*.py")) if ">>> " in path.read_text("utf-8"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_docstrings(name, static_encoder, tmp_path, monkeypatch):
    import doctest
    from importlib import import_module

    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
