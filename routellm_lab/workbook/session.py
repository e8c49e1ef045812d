"""What a notebook talks to: where it runs, what it records, shows, writes and reads."""

import html
import io
import json
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from routellm_lab.errors import DataError, ParameterError, RoutellmLabError, escape_markdown, listed, nearest
from routellm_lab.files import disk_errors, inside, read_json, replacing, require_real
from routellm_lab.settings import settings
from routellm_lab.workbook.execute import SOURCE, SPEC
from routellm_lab.workbook.hashing import data_name, describe_data, same_data
from routellm_lab.workbook.metrics import CONCLUSION_MIME, METRICS_MIME, clean_metrics
from routellm_lab.workbook.runs import FIGURE_NAME, latest_folder

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from routellm_lab.preferences import ModelPair
    from routellm_lab.workbook.notebooks import Notebook

PROFILES = ("quick", "full")
FIGURE_DPI = 150
INTERACTIVE = "interactive"
"""The name of the run that notebooks belong to when a person runs them."""

_FIGURE_NAME = re.compile(FIGURE_NAME)
Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Session:
    """A notebook's part in a run. Made by `start`.

    Attributes
    ----------
    notebook : Notebook
        The notebook on disk, with what it declares to read and write.
    data, profile : str
        What ``start`` was given.
    seed : int
    folder : Path
        The run's folder.
    stage : Path
        Where this notebook writes: a folder aside while the runner runs it, else the run's folder.
    metrics : dict
        What has been recorded so far.
    """

    notebook: "Notebook"
    data: str
    profile: str
    seed: int
    folder: Path
    stage: Path
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return self.folder.name

    @property
    def simulated(self) -> bool:
        """Whether the data is simulated."""
        return self.data == "sample"

    @cached_property
    def rng(self) -> "np.random.Generator":
        """A random generator seeded with the notebook's name and seed."""
        import numpy as np

        return np.random.default_rng([self.seed, *self.notebook.name.encode()])

    def choose(self, *, quick: Choice, full: Choice) -> Choice:
        """The value for this run's profile."""
        return quick if self.profile == "quick" else full

    def plain(self, text: object) -> str:
        """Text from data, such as a model's name, for a sentence in Markdown: shown as it is, never as markup."""
        return escape_markdown(text)

    def record(self, **metrics: Any) -> None:
        """Record metrics of this notebook and show them as a table.

        Parameters
        ----------
        **metrics
            Finite numbers, text, truth values or None; NumPy scalars are converted and floats rounded to six
            significant digits.

        Raises
        ------
        ParameterError
            When a value is not finite or not a scalar; names the metric.
        """
        from IPython.display import display

        cleaned = clean_metrics(metrics)
        self.metrics.update(cleaned)
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(_shown(value))}</td></tr>"
            for name, value in cleaned.items()
        )
        text = "\n".join(f"{name}: {_shown(value)}" for name, value in cleaned.items())
        table = (
            f"<details><summary>{len(cleaned)} metrics recorded</summary><table><tbody>{rows}</tbody></table></details>"
        )
        display({METRICS_MIME: cleaned, "text/html": table, "text/plain": text}, raw=True)

    def pair(self, strong: str = "", weak: str = "") -> "ModelPair":
        """The pair that this notebook routes between: the data root's own, but for the models that are named.

        Raises
        ------
        ParameterError
            When both are the same model.
        """
        from routellm_lab.benchmarks import default_pair

        return default_pair(self.data, strong, weak)

    def conclude(self, *bullets: str) -> None:
        """Show what was learned as a list, and keep it for the report, which shows the first of them first.

        Parameters
        ----------
        *bullets : str
            Three to five sentences. The first answers the notebook's question. Plain text: markup is shown as it is.

        Raises
        ------
        ParameterError
            When there are fewer than three or more than five, or one is empty.
        """
        from IPython.display import display

        lines = [" ".join(str(bullet).split()) for bullet in bullets]
        if not 3 <= len(lines) <= 5 or not all(lines):
            raise ParameterError(f"a notebook ends in three to five bullets that are not empty, got {len(lines)}")
        shown = "\n".join(f"- {escape_markdown(line)}" for line in lines)
        display({CONCLUSION_MIME: lines, "text/markdown": shown, "text/plain": "\n".join(lines)}, raw=True)

    def show(self, figure: "Figure", name: str, title: str | None = None, simulated: bool | None = None) -> None:
        """Show a figure and save it as ``<name>.png`` with a JSON sidecar that says where it comes from.

        Parameters
        ----------
        figure : matplotlib Figure
        name : str
            Lower-case letters, digits, ``_`` and ``-``.
        title : str, optional
            The caption; by default the figure's own title.
        simulated : bool, optional
            Whether it shows simulated data, where that differs from the run's.

        Raises
        ------
        ParameterError
            When the name is not usable as a file's name.
        """
        from IPython.display import Image, display

        if not _FIGURE_NAME.fullmatch(name):
            raise ParameterError(f"figure name {name!r}: use lower-case letters, digits, _ and -")
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=FIGURE_DPI, bbox_inches="tight", metadata={"Software": None})
        sidecar = {
            "name": name,
            "title": title or _title(figure) or name,
            "notebook": self.notebook.name,
            "run": self.run_id,
            "data": data_name(self.data),
            "simulated": self.simulated if simulated is None else simulated,
            "profile": self.profile,
            "seed": self.seed,
        }
        path = self.stage / "figures" / f"{name}.png"
        with disk_errors(path), replacing(path) as aside:
            aside.write_bytes(drawn.getvalue())
        with disk_errors(path), replacing(path.with_suffix(".json")) as aside:
            aside.write_text(json.dumps(sidecar, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
        width = int(figure.get_figwidth() * 96)
        display(Image(drawn.getvalue(), format="png", width=width, alt=sidecar["title"]))
        _close(figure)

    def path(self, name: str) -> Path:
        """Where to write an artifact that later notebooks read: a file, or a folder that the caller makes.

        Raises
        ------
        ParameterError
            When this notebook does not declare it under ``writes``.
        """
        if name not in self.notebook.writes:
            raise ParameterError(
                f"{self.notebook.name} does not declare {name!r} under 'writes' in its metadata (routellm_lab); "
                f"declared are: {listed(self.notebook.writes) or 'none'}"
            )
        target = self._artifacts(self.stage) / name
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def read(self, name: str) -> Path:
        """The path of an artifact that this or an earlier notebook wrote.

        Raises
        ------
        ParameterError
            When this notebook does not declare it under ``reads`` (or ``writes``).
        DataError
            When there is a link or special file in its place.
        RoutellmLabError
            When it is not there; names the notebook that writes it.
        """
        declared = (*self.notebook.reads, *self.notebook.writes)
        if name not in declared:
            raise ParameterError(
                f"{self.notebook.name} does not declare {name!r} under 'reads' in its metadata (routellm_lab); "
                f"nearest: {nearest(name, declared) or 'none'}"
            )
        places = [self._artifacts(self.stage), self._artifacts(self.folder)]
        latest = self._latest()
        if latest is not None:
            places.append(latest / "artifacts")
        for place in places:
            require_real(place, deep=False)
            if inside(place, name).exists():
                require_real(place / name)
                return place / name
        from routellm_lab.workbook.notebooks import discover

        writer = next((other.name for other in discover().values() if name in other.writes), None)
        way_out = f"run {writer} first" if writer else "no notebook writes it"
        raise RoutellmLabError(f"artifact {name} of data {data_name(self.data)!r} is not there: {way_out}")

    def _artifacts(self, place: Path) -> Path:
        """A run has one data root; a person changes it at will, and must not read what was made from another."""
        folder = place / "artifacts"
        return folder / data_name(self.data) if self.run_id == INTERACTIVE else folder

    def _latest(self) -> Path | None:
        """The latest run, of which a person may read what was made from the same data."""
        if self.run_id != INTERACTIVE:
            return None
        try:
            latest = latest_folder(self.folder.parent)
            manifest = {} if latest is None else read_json(latest / "manifest.json")
            return latest if manifest["data"]["name"] == data_name(self.data) else None
        except (DataError, KeyError, TypeError):  # no run that can be read from
            return None


def start(name: str, data: str = "sample", profile: str = "quick", seed: int = 0) -> Session:
    """Begin a notebook: say which data it uses and give it a place in a run.

    Parameters
    ----------
    name : str
        The notebook's own name, such as ``03_similarity_weighted``.
    data : str
        ``sample``, ``hub`` or a folder.
    profile : str
        ``quick`` (minutes) or ``full``.
    seed : int
        Not negative.

    Returns
    -------
    Session

    Raises
    ------
    ParameterError
        When the notebook, profile or folder does not exist, the seed is not a whole number, or the runner executes
        another notebook, or this one on other data, with another profile or seed.
    """
    from routellm_lab.workbook import hints
    from routellm_lab.workbook.notebooks import read_notebook

    check_run_options(profile, seed)
    data = str(data)
    if data not in ("sample", "hub"):
        from routellm_lab.files import data_folder

        data_folder(data)
    here = settings()
    folder = here.runs_dir / INTERACTIVE if here.run_dir is None else here.run_dir
    stage = stage_of(folder, name)
    if here.notebook is not None:
        _check_asked(stage, name, here.notebook, {"data": data, "profile": profile, "seed": seed})
    path = here.notebooks_dir / f"{name}.ipynb"
    if (stage / SOURCE).is_file():
        path = stage / SOURCE
    elif not path.is_file():
        raise ParameterError(_not_there(name, here.notebooks_dir))
    notebook = replace(read_notebook(path), name=name)
    session = Session(notebook, data, profile, seed, folder, stage if stage.is_dir() else folder)
    _set_theme()
    hints.install()
    print(f"Data: {describe_data(data)} | profile: {profile} | seed: {seed} | run: {session.run_id}")
    return session


def _not_there(name: str, folder: Path) -> str:
    """What is wrong with a name that `start` was given, and what to do."""
    known = sorted(path.stem for path in folder.glob("*.ipynb"))
    if fitting := [other for other in known if other.startswith(f"{name}_") or f"{other}.ipynb" == name]:
        return f"start() needs the notebook's whole name, got {name!r}; did you mean {listed(fitting)}?"
    return (
        f"no notebook {name!r}; nearest: {nearest(name, known) or 'none'}. start() looked for {name}.ipynb in "
        f"{folder}: save your notebook there under this name (File > Save Notebook As), or pass the name that it has"
    )


def _check_asked(stage: Path, name: str, executed: str, given: dict[str, Any]) -> None:
    """Refuse a notebook's name, data, profile or seed that are not those which the run records."""
    if name != executed:
        raise ParameterError(f"start({name!r}) in {executed}: give this notebook's own name")
    asked = read_json(stage / SPEC)["run"]
    for key, value in given.items():
        same = same_data(value, asked[key]) if key == "data" else value == asked[key]
        if not same:
            first, second = (describe_data(one) if key == "data" else repr(one) for one in (value, asked[key]))
            raise ParameterError(
                f"start() was given {key} {first}, but the run's is {second}: pass the parameters on, "
                f"start({name!r}, data=data, profile=profile, seed=seed)"
            )


def check_run_options(profile: str, seed: int) -> None:
    """Refuse a profile that does not exist, or a seed that is no seed.

    Raises
    ------
    ParameterError
    """
    if profile not in PROFILES:
        raise ParameterError(f"no profile {profile!r}; there are: {listed(PROFILES)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ParameterError(f"seed must be a whole number that is not negative, got {seed!r}")


def stage_of(run_folder: Path, notebook: str) -> Path:
    """The folder aside in which a notebook of a run works until it is finished."""
    return run_folder / ".work" / notebook


def _set_theme() -> None:
    from routellm_lab import plots

    plots.set_theme()


def _title(figure: "Figure") -> str:
    titles = [figure.get_suptitle(), *(axes.get_title(loc) for axes in figure.axes for loc in ("center", "left"))]
    return next((" ".join(title.split()) for title in titles if title), "")


def _close(figure: "Figure") -> None:
    import matplotlib.pyplot as plt

    plt.close(figure)  # shown once already: the inline backend would show it again at the end of the cell


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
