"""The command line: what a stranger sees, and how it fails."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from workbooks import PARAMETERS, write_notebook

from routellm_lab import cli
from routellm_lab.errors import ParameterError
from routellm_lab.settings import settings

COMMANDS = ("run", "list", "status", "report", "data", "route", "cache")
FIGURE = "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\nrun.show(figure, 'empty')"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A workbook with one notebook that always works and one that raises on demand."""
    root = tmp_path_factory.mktemp("workbook")
    write_notebook(
        root, "01_fine", "run.path('a.json').write_text('1')", FIGURE, "run.record(one=1)", writes=["a.json"]
    )
    more = PARAMETERS + "\nfails: bool = False\nlabel: str = 'none'"
    write_notebook(root, "02_moody", "if fails:\n    raise RuntimeError(label)", reads=["a.json"], parameters=more)
    return root


@pytest.fixture
def call(root, monkeypatch, capsys):
    """Call the command line in this process; exit code, output, errors."""
    monkeypatch.setenv("ROUTELLM_LAB_ROOT", str(root))
    monkeypatch.delenv("ROUTELLM_LAB_DATA", raising=False)
    monkeypatch.chdir(root)

    def run(*arguments):
        settings.cache_clear()
        monkeypatch.setattr(sys, "argv", ["routellm-lab", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    yield run
    settings.cache_clear()


def test_help_names_every_command(call):
    code, out, _ = call("--help")
    assert code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0
    assert "Usage: routellm-lab" in out


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom routellm_lab import cli\nsys.argv = ['routellm-lab', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "heavy = ('pandas', 'numpy', 'torch', 'papermill', 'sklearn', 'nbformat')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_the_module_is_the_command():
    out = subprocess.run([sys.executable, "-m", "routellm_lab", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: python -m routellm_lab" in out.stdout


def test_list_shows_questions_and_artifacts(call):
    code, out, _ = call("list")
    assert code == 0
    assert "01_fine\n    What does 01_fine do?\n    writes: a.json\n" in out
    assert "02_moody\n    What does 02_moody do?\n    reads: a.json\n" in out


def test_before_the_first_run_the_way_to_one_is_named(call):
    for command in ("status", "report"):
        code, _, err = call(command)
        assert code == 1
        assert err.startswith("error: no run in ")
        assert "routellm-lab run" in err


def test_run_status_report_and_gallery(call, root):
    code, out, _ = call("run", "--run-id", "mine", "--seed", "3")
    assert code == 0
    assert out.splitlines()[0] == "Run mine: sample (simulated votes with planted truth), profile quick, seed 3"
    assert "Report:  data/runs/mine/report.html" in out
    assert "Figures: data/runs/mine/figures (1)" in out
    assert json.loads((root / "data/runs/mine/metrics.json").read_text()) == {"01_fine": {"one": 1}, "02_moody": {}}

    code, out, _ = call("status")
    assert code == 0
    assert out.startswith("Run mine: data sample, profile quick, seed 3\n  done     01_fine")
    assert re.search(r"^  done +02_moody +[\d.]+ s +[\d,]+ MiB$", out, flags=re.MULTILINE)
    assert re.search(r"^Slowest cell: 0\w+, cell \d+ \(.+\): [\d.]+ s$", out, flags=re.MULTILINE)

    (root / "data/runs/mine/report.html").unlink()
    code, out, _ = call("report", "mine", "--gallery", "pictures")
    assert code == 0
    assert (root / "data/runs/mine/report.html").is_file()
    assert sorted(path.name for path in (root / "pictures").iterdir()) == ["README.md", "empty.json", "empty.png"]

    code, out, err = call("run", "-p", "fails=true", "-p", "label=bad day", "--seed", "3")
    assert code == 1
    assert "[1/2] 01_fine: unchanged since run mine" in out
    assert "02_moody: FAILED, cell 4 at `raise RuntimeError(label)`: RuntimeError: bad day" in out
    assert err == (
        "1 of 2 notebooks did not finish:\n  02_moody: cell 4 at `raise RuntimeError(label)`: RuntimeError: bad day\n"
    )
    code, out, _ = call("status")
    assert "failed   02_moody" in out
    assert "RuntimeError: bad day" in out
    assert "Earlier: mine: data sample, 2 of 2 finished" in out

    code, _, err = call("status", "mime")
    assert code == 1
    assert "no run 'mime'" in err
    assert "nearest: mine" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "03_nothing"], "no notebook '03_nothing'; nearest: "),
        (["run", "-p", "sise=3"], "parameter 'sise' is not in 01_fine, 02_moody"),
        (["run", "-p", "fails=3"], "parameter 'fails' of 02_moody must be bool, got 3"),
        (["run", "-p", "label=3"], "must be str, got 3; for text write -p 'label=\"3\"'"),
        (["run", "-p", "fails"], "-p 'fails': write -p name=value"),
        (["run", "-p", "fails=true", "-p", "fails=false"], "-p fails is given twice"),
        (["run", "--data", "nowhere"], "data folder 'nowhere' does not exist"),
        (["run", "--profile", "slow"], "no profile 'slow'; there are: quick, full"),
        (["run", "--seed", "-1"], "seed must be"),
        (["data", "--data", "nowhere"], "data folder 'nowhere' does not exist"),
        (["route", "Hello", "--router", "nowhere"], "no router: nowhere is not a folder"),
    ],
)
def test_bad_input_gets_one_message_and_exit_code_1(call, root, arguments, message):
    before = sorted(root.rglob("*"))
    code, out, err = call(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [["walk"], ["run", "--speed", "3"], ["run", "--seed", "x"], ["route"], ["route", "Hello", "--threshold", "1.5"]],
)
def test_usage_errors_exit_with_2(call, arguments):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert "Usage:" in err


def test_route_without_a_router_says_how_to_make_one(call):
    code, _, err = call("route", "Hello")
    assert code == 1
    assert "routellm-lab run" in err
    assert "--router DIR" in err


def test_route_prints_one_model_per_prompt(call, tmp_path):
    import pandas as pd

    from routellm_lab import ModelPair
    from routellm_lab.routers import ConstantRouter

    votes = pd.DataFrame({"prompt": ["Hi"], "model_a": ["large"], "model_b": ["small"], "winner": ["model_a"]})
    router = ConstantRouter(pair=ModelPair(strong="large", weak="small"), value=0.6)
    router.fit(votes).save(tmp_path / "router")
    saved = ["--router", str(tmp_path / "router")]
    assert call("route", "Hello", "What is 7 * 8?", *saved)[:2] == (0, "large\nlarge\n")
    assert call("route", "Hello", *saved, "--threshold", "0.61")[:2] == (0, "small\n")
    assert call("route", "Hello", *saved, "--verbose")[:2] == (0, "large\t0.600\n")


def test_data_lists_votes_and_benchmarks_of_a_folder(call, tmp_path):
    import pandas as pd

    for part in ("battles", "outcomes"):
        (tmp_path / part).mkdir()
    votes = {"prompt": ["a", "b"], "model_a": ["x", "x"], "model_b": ["y", "z"], "winner": ["model_a", "tie"]}
    pd.DataFrame(votes).to_parquet(tmp_path / "battles" / "mine.parquet")
    pd.DataFrame({"prompt_id": ["1"], "prompt": ["a"]}).to_parquet(tmp_path / "outcomes" / "exam.prompts.parquet")
    scores = {"prompt_id": ["1", "1"], "model": ["x", "y"], "score": [1.0, 0.0]}
    pd.DataFrame(scores).to_parquet(tmp_path / "outcomes" / "exam.scores.parquet")
    code, out, _ = call("data", "--data", str(tmp_path))
    assert code == 0
    mine = next(line for line in out.splitlines() if "mine" in line).split()
    assert mine[:4] == ["mine", "2", "3", "2"]
    exam = next(line for line in out.splitlines() if "exam" in line).split()
    assert exam[:4] == ["exam", "2", "2", "1"]


def test_parameters_are_json_or_text():
    given = ["a=1", "b=1.5", "c=true", "d=null", "e=[1, 2]", "f=some text", 'g="3"', "h=x=y", "i="]
    assert cli.parse_parameters(given) == {
        "a": 1,
        "b": 1.5,
        "c": True,
        "d": None,
        "e": [1, 2],
        "f": "some text",
        "g": "3",
        "h": "x=y",
        "i": "",
    }
    with pytest.raises(ParameterError, match="name=value"):
        cli.parse_parameters(["a b=3"])


def test_the_cache_says_what_it_holds_and_is_cleared(call, tmp_path, monkeypatch):
    from routellm_lab.encoders import VectorCache, through_cache

    monkeypatch.setenv("ROUTELLM_LAB_CACHE", str(tmp_path))
    settings.cache_clear()
    texts = [str(number) for number in range(1000)]
    through_cache("one", texts, lambda texts: np.ones((len(texts), 64), np.float32), "my encoder")
    code, out, _ = call("cache")
    assert code == 0
    size = VectorCache("one").path.stat().st_size / 1e6
    row, total = out.splitlines()
    assert re.fullmatch(rf" +{size:.1f} MB +1,000 texts   used [-\d]+ [:\d]+   my encoder", row)
    assert total.endswith(f" {size:.1f} MB of at most 4 GB in {tmp_path / 'encodings'}")
    assert call("cache", "--clear")[1].startswith("Freed 0.")
    assert " 0 texts " in call("cache")[1]
