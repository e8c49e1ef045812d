"""What installs the package agrees with itself: pyproject.toml, constraints.txt, environment.yml, Makefile, CI."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import routellm_lab

ROOT = Path(routellm_lab.__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(line.partition("==")[0]): line.partition("==")[2]
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
}
IMPORTED_AS = {"sklearn": "scikit-learn", "IPython": "ipykernel", "yaml": "pyyaml"}
"""Packages by the name they are imported under, where it is another; or the dependency that brings them."""


def requirements() -> list[Requirement]:
    texts = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
    return [found for found in map(Requirement, texts) if found.name != "routellm-lab"]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_to_a_version_it_allows(requirement):
    assert Version(PINS[canonicalize_name(requirement.name)]) in requirement.specifier


def test_constraints_are_plain_pins():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
    assert PINS["torch"] == "2.13.0"


def test_no_pin_brings_cuda():
    assert not [name for name in PINS if name.startswith(("nvidia", "cuda", "triton"))]


def _outside_of_make():
    """The environment without what `make test` hands on to a make within."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}


def test_environment_file_installs_the_project_at_the_pinned_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-c constraints.txt", "-e .[all]"]}
    assert [entry.partition("=")[0] for entry in conda] == ["python", "pip"]
    version = conda[0].partition("=")[2]
    assert Version(version) in SpecifierSet(PROJECT["requires-python"])


def test_all_is_every_extra_that_users_need():
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.name == PROJECT["name"]
    assert everything.extras == set(EXTRAS) - {"all", "dev", "docs", "ray"}


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == routellm_lab.__version__ == citation["version"]
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_every_import_of_the_package_is_declared():
    declared = {canonicalize_name(requirement.name) for requirement in requirements()}
    undeclared = set()
    for path in (ROOT / "routellm_lab").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"routellm_lab"}:
                if canonicalize_name(IMPORTED_AS.get(name, name)) not in declared:
                    undeclared.add(f"{path.name}: {name}")
    assert not undeclared


def test_importing_the_package_loads_nothing_heavy():
    heavy = (
        "pandas",
        "numpy",
        "torch",
        "transformers",
        "sklearn",
        "scipy",
        "matplotlib",
        "papermill",
        "pandera",
        "typer",
    )
    code = f"import sys, routellm_lab; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_ci_runs_what_people_run():
    ci = ROOT / ".ci" / "run"
    assert os.access(ci, os.X_OK)
    assert ci.read_text().splitlines()[-1] == "exec make test"
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    assert steps == ["make run", "make test"]


def test_make_help_lists_the_targets():
    out = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("run", "lab", "test", "test-slow", "bench", "lint", "clean", "help"):
        assert re.search(rf"^  {target} +\S", out, flags=re.MULTILINE), target


def test_make_refuses_an_old_python(tmp_path):
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo Python 3.9.1; else exit 1; fi\n')
    old.chmod(0o755)
    command = ["make", "run", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: Python 3.11 or newer is needed" in done.stderr
    assert "Python 3.9.1" in done.stderr
    assert not (tmp_path / "venv").exists()


PRINTS = '#!/bin/bash\nprintf "[%s]" "$@"\n'


@pytest.fixture
def make(tmp_path):
    """Call make in a checkout with spaces and quotes in its path, whose command only prints what it is given."""
    checkout = tmp_path / 'my "own" checkout\'s'
    (checkout / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, checkout)
    command = checkout / ".venv" / "bin" / "routellm-lab"
    command.write_text(PRINTS)
    command.chmod(0o755)
    (checkout / ".venv" / ".workbook").touch()

    def call(*arguments, **environment):
        made = ["make", *arguments]
        found = subprocess.run(
            made, cwd=checkout, capture_output=True, text=True, check=False, env=_outside_of_make() | environment
        )
        assert found.returncode == 0, found.stderr
        return found.stdout.strip()

    return call


STANDARD = "[--profile][quick][--seed][0][--jobs][2]"
ODD_PATH = '/my  data/bob\'s "best" $HOME `x` (1) *'


def test_make_run_passes_paths_with_spaces_and_quotes_on(make):
    assert make("run") == f"[run]{STANDARD}"
    assert make("run", f"DATA={ODD_PATH}") == f"[run][--data][{ODD_PATH}]{STANDARD}"
    assert make("run", DATA=ODD_PATH) == f"[run][--data][{ODD_PATH}]{STANDARD}"
    assert make("train", f"DATA={ODD_PATH}") == f"[train][--data][{ODD_PATH}][--seed][0]"
    notebooks = """03 '/a b/04_x.ipynb' "it's.ipynb" """
    assert make("run", f"NOTEBOOKS={notebooks}") == f"[run]{STANDARD}[03][/a b/04_x.ipynb][it's.ipynb]"


def test_make_run_takes_parameters_with_spaces_and_quotes(make):
    given = {"model": ODD_PATH, "sizes": "[1, 2]", "label": '"3"', "map": '{"a": "b c"}', "last": "it's"}
    out = make("run", "PARAMETERS=" + " ".join(f"{name}={value}" for name, value in given.items()))
    assert sorted(
        out.removeprefix(f"[run]{STANDARD}").removeprefix("[-p][").removesuffix("]").split("][-p][")
    ) == sorted(f"{name}={value}" for name, value in given.items())


def test_make_shows_what_it_would_run_with_the_path_in_quotes(make):
    assert "--data '/my data/bob'\\''s'" in make("-n", "run", "DATA=/my data/bob's")


def test_make_test_says_that_it_installs_a_browser_before_it_does_and_can_be_told_not_to(make, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"id": "echo 0", "apt-get": f'echo "$@" >> "{tmp_path}/calls"; exit 1'}.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    for name in ("bash", "make"):
        (tools / name).symlink_to(shutil.which(name))
    out = make("browser", PATH=str(tools)).splitlines()
    assert out[0].startswith("Installing chromium and chromium-driver for the tests (apt-get); make test BROWSER=0")
    assert out[1].startswith("They could not be installed")
    assert (tmp_path / "calls").read_text() == "update\n"
    assert "not installed (BROWSER=0)" in make("browser", "BROWSER=0", PATH=str(tools))
    assert (tmp_path / "calls").read_text() == "update\n"
    assert "BROWSER=0" in make("help")
