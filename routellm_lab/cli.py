"""The command line: ``routellm-lab run | new | train | list | status | report | data | route | cache``."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from routellm_lab.errors import ParameterError, RoutellmLabError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        "-d",
        help="Where votes and outcomes come from: 'sample' (simulated, needs nothing), 'hub' (public sources) or a "
        "folder with battles/ and outcomes/ (in the workbook, a relative path starts at its root). Default: "
        "ROUTELLM_LAB_DATA, else sample.",
        show_default=False,
    ),
]


def _version(asked: bool) -> None:
    if asked:
        import routellm_lab

        typer.echo(f"routellm-lab {routellm_lab.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Name the version and stop.")
    ] = False,
) -> None:
    """A research workbook on LLM routers: learn which prompts need the large model, measure it, decide with it.

    Start with `routellm-lab run` (all notebooks on simulated data, no network), then open the report that it names.
    """


RunName = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's id; by default the latest.")]


@app.command()
def run(
    notebooks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NOTEBOOK]...", help="Names or numbers (03); by default all. Also runs what they need."
        ),
    ] = None,
    data: Data = None,
    profile: Annotated[str, typer.Option(help="'quick' (minutes) or 'full' (all the data).")] = "quick",
    seed: Annotated[int, typer.Option(help="One seed, one result.")] = 0,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar="NAME=VALUE",
            help="A notebook's parameter, for every notebook that knows it; the value is JSON, else text. Repeatable.",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew and execute everything, even what is unchanged.")
    ] = False,
    run_id: Annotated[
        str | None,
        typer.Option("--run-id", help="The run's name; by default date, time and a hash.", show_default=False),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Notebooks executed at once.")] = 1,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            metavar="local|ray[://HOST:PORT]",
            help="Where they are executed: 'local', 'ray' (the Ray cluster of this machine, else one started on it) or "
            "'ray://HOST:PORT'. Default: ROUTELLM_LAB_ENGINE, else local.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Execute the notebooks without anybody watching, and write a report.

    An interrupted run goes on where it stopped when the same command is given again (without --fresh). Notebooks whose
    source, parameters, data, code and inputs are unchanged since an earlier complete run are taken over from it.
    """
    from routellm_lab.settings import settings
    from routellm_lab.workbook.runner import run_workbook

    try:
        result = run_workbook(
            notebooks=notebooks or None,
            data=settings().data if data is None else data,
            profile=profile,
            seed=seed,
            parameters=parse_parameters(parameter or []),
            fresh=fresh,
            run_id=run_id,
            jobs=jobs,
            engine=engine,
        )
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not result.ok:
        bad = [name for name, status in result.status.items() if status in ("failed", "blocked")]
        typer.echo(f"{len(bad)} of {len(result.status)} notebooks did not finish:", err=True)
        for name in bad:
            typer.echo(f"  {name}: {result.errors.get(name, 'blocked by a notebook that failed')}", err=True)
        raise typer.Exit(1)


@app.command()
def train(
    data: Data = None,
    gold_questions: Annotated[int, typer.Option(min=1, help="Graded MMLU questions in the set arena+gold.")] = 1500,
    seed: Annotated[int, typer.Option(help="One seed, one result.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train again whatever is there.")] = False,
    fits: Annotated[int, typer.Option(min=1, help="Fits of each router, with other seeds and gold questions.")] = 3,
) -> None:
    """Train the transformer routers on the three training sets, once, into data/routers.

    The notebooks load them from there. What is there already stays, and an interrupted training goes on where it was.
    On several GPUs or hosts, which share the workbook: `torchrun --nproc-per-node 4 -m routellm_lab train`.
    """
    from routellm_lab.routers.transformers.training import is_main_process
    from routellm_lab.settings import settings
    from routellm_lab.workbook.hashing import trained_index
    from routellm_lab.workbook.trained import train_routers

    root = settings().data if data is None else data
    total = 0.0
    for made in train_routers(root, gold_questions, seed, fresh, fits):
        if not is_main_process():
            continue
        total += made["seconds"]
        what = f"{made['seconds']:.0f} s, {made['prompts']:,} prompts, held-out loss {made['held_out_loss']:.4f}"
        typer.echo(f"{made['name']}: {what}{'' if made['trained'] else ' (trained earlier)'}")
    if is_main_process():
        typer.echo(f"{total / 60:.1f} minutes of training in {trained_index(settings().root, root).parent}")


@app.command("list")
def list_notebooks() -> None:
    """List the notebooks: what each asks, reads and writes."""
    from routellm_lab.workbook.notebooks import discover

    for notebook in discover().values():
        typer.echo(f"{notebook.name}\n    {notebook.question or notebook.title}")
        for word, artifacts in (("reads", notebook.reads), ("writes", notebook.writes)):
            if artifacts:
                typer.echo(f"    {word}: {', '.join(artifacts)}")


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="22_my_question (a notebook) or my_router.py (a router).")
    ],
) -> None:
    """Write a notebook into the workbook, or a router into a file, from a template that runs at once."""
    from routellm_lab.workbook.templates import new_notebook, new_router

    if name.endswith(".py"):
        typer.echo(f"{new_router(name)}: run it with python {name}")
    else:
        typer.echo(f"{new_notebook(name)}: run it with routellm-lab run {name[:2]}, or open it with make lab")


@app.command()
def status(run: RunName = None) -> None:
    """Show how far a run got, and which other runs there are."""
    from routellm_lab.workbook.report import slowest_cells
    from routellm_lab.workbook.runs import all_runs, get_run

    shown = get_run(run)
    told = shown.manifest
    typer.echo(f"Run {shown.id}: data {told['data']['name']}, profile {told['profile']}, seed {told['seed']}")
    for name, entry in shown.entries.items():
        seconds = f"{entry['seconds']:8.1f} s" if entry.get("seconds") is not None else ""
        memory = f"{entry['peak_mib']:8,} MiB" if entry.get("peak_mib") is not None else ""
        typer.echo(f"  {entry['status']:8} {name:32}{seconds}{memory}")
        if "error" in entry:
            typer.echo(f"           {entry['error']}")
    left_aside: list[str] = []
    for cell in slowest_cells(shown, most=1, left_aside=left_aside):
        typer.echo(
            f"Slowest cell: {cell['notebook']}, cell {cell['cell']} ({cell['heading'] or cell['code']}): "
            f"{cell['seconds']:.1f} s"
        )
    others = [other for other in all_runs(left_aside=left_aside) if other.id != shown.id]
    for other in others[:10]:
        finished = sum(entry["status"] in ("done", "reused") for entry in other.entries.values())
        name = other.manifest["data"]["name"]
        typer.echo(f"Earlier: {other.id}: data {name}, {finished} of {len(other.entries)} finished")
    for words in left_aside:
        typer.echo(f"Left aside: {words}", err=True)


@app.command()
def report(
    run: RunName = None,
    gallery: Annotated[
        str | None,
        typer.Option(
            "--gallery", metavar="DIR", help="Also copy the figures there, with a README.", show_default=False
        ),
    ] = None,
) -> None:
    """Rebuild a run's report, and those of its pages that are out of date, and name the report."""
    from routellm_lab.workbook.report import build_report, copy_gallery
    from routellm_lab.workbook.run_pages import refresh_pages
    from routellm_lab.workbook.runs import get_run

    shown = get_run(run)
    left_aside: list[str] = []
    refresh_pages(shown, left_aside)
    typer.echo(f"Report:  {build_report(shown, left_aside)}")
    for words in dict.fromkeys(left_aside):
        typer.echo(f"Left aside: {words}", err=True)
    if gallery is not None:
        copied = copy_gallery(shown, Path(gallery))
        typer.echo(f"Gallery: {Path(gallery) / 'README.md'} ({len(copied)} figures)")


@app.command()
def data(data: Data = None) -> None:
    """List the sets of votes and the benchmarks that a data root holds."""
    from routellm_lab.benchmarks.sources import list_outcomes
    from routellm_lab.preferences.sources import list_battles
    from routellm_lab.settings import settings

    root = settings().data if data is None else data
    for heading, table in (("Battles (votes)", list_battles(root)), ("Outcomes (benchmarks)", list_outcomes(root))):
        text = table.to_string(index=False, na_rep="") if len(table) else "none"
        typer.echo(f"{heading} in {root}\n{text}\n")


@app.command()
def route(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="One or more prompts.")],
    router: Annotated[
        str | None,
        typer.Option(
            "--router",
            metavar="DIR",
            help="A saved router; by default the matrix factorization of the latest run.",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="DIR",
            help="The folder of the router's encoder, where it has one of its own.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The strong model is called from this win rate on.")
    ] = 0.5,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print the win rate as well.")] = False,
) -> None:
    """Print, for each prompt, the name of the model that should answer it."""
    from routellm_lab.settings import settings

    if router is None:
        from routellm_lab.files import require_real
        from routellm_lab.workbook.runs import latest_folder

        latest = latest_folder(settings().runs_dir) or settings().runs_dir / "none"
        for part in (latest, latest / "artifacts"):
            require_real(part, deep=False)
        folder = latest / "artifacts" / "matrix_factorization"
        require_real(folder)
    else:
        folder = Path(router)
    if not folder.is_dir():
        where = f"{router} is not a folder" if router is not None else "the latest run holds no matrix factorization"
        raise ParameterError(
            f"no router: {where}. Make one with `routellm-lab run 04`, or save one of your own with "
            "`router.save(DIR)` and name it with --router DIR."
        )
    from routellm_lab.routers import Router

    loaded = Router.load(folder, encoder)
    names = loaded.route(prompts, threshold=threshold)
    win_rates = loaded.win_rate(prompts) if verbose else [None] * len(prompts)
    for name, win_rate in zip(names, win_rates, strict=True):
        typer.echo(name if win_rate is None else f"{name}\t{win_rate:.3f}")


@app.command()
def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove all encodings; they are made again as needed.")
    ] = False,
) -> None:
    """Show what the cache of encodings holds, encoder by encoder, and what it takes on disk.

    It is kept within ROUTELLM_LAB_CACHE_LIMIT_GB: encodings of encoders that were not used for the longest time go
    first. --clear leaves the static encoder, which takes a while to be made, where it is.
    """
    from routellm_lab.encoders.cache import cache_files, clear_cache
    from routellm_lab.settings import settings

    folder, limit = settings().cache_dir / "encodings", settings().cache_limit_gb
    if clear:
        typer.echo(f"Freed {clear_cache() / 1e6:,.1f} MB in {folder}")
        return
    files = cache_files()
    for file in files:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.used))
        typer.echo(f"{file.size / 1e6:10,.1f} MB{file.vectors:12,} texts   used {used}   {file.label}")
    typer.echo(f"{sum(file.size for file in files) / 1e6:10,.1f} MB of at most {limit:g} GB in {folder}")


def parse_parameters(given: list[str]) -> dict[str, Any]:
    """Parameters from ``name=value`` texts; the value is JSON, else text.

    Raises
    ------
    ParameterError
        Without a name and ``=``, or when a name is given twice.
    """
    parsed: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ParameterError(f"-p {text!r}: write -p name=value")
        if name in parsed:
            raise ParameterError(f"-p {name} is given twice")
        try:
            parsed[name] = json.loads(value)
        except (ValueError, RecursionError):
            parsed[name] = value
    return parsed


def main() -> None:
    """Run the command line; errors of this package become one message and exit code 1."""
    try:
        app()
    except RoutellmLabError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
