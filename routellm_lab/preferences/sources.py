"""Where battles come from: the simulated sample, a data folder, the Hub, or a file of the user."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from routellm_lab.columns import number_column, require_columns
from routellm_lab.errors import (
    DataError,
    MissingExtraError,
    ParameterError,
    RoutellmLabError,
    known_options,
    listed,
    nearest,
)
from routellm_lab.files import data_folder
from routellm_lab.preferences.battles import WINNERS, answer_length, models_of, validate_battles
from routellm_lab.settings import settings
from routellm_lab.tables import data_files, is_there, parse_json, read_table, table_kind

HUB_BATTLES = {"arena_human": "lmsys/lmsys-arena-human-preference-55k"}
"""Battles on the Hub, by the name they have in this package."""


def load_battles(name: str | Path, data: str | Path | None = None, **options: Any) -> pd.DataFrame:
    """Load one set of votes.

    Parameters
    ----------
    name : str or Path
        A set's name (``routellm-lab data`` lists them) or the path of a file that `read_table` reads: csv, jsonl
        (ndjson), json or parquet, all but parquet also gzipped. ``~`` is the home folder. Blank cells of a csv are
        null; a csv without any prompt is a vote-only set.
    data : str or Path, optional
        ``sample``, ``hub`` or a folder; by default what ``ROUTELLM_LAB_DATA`` says, else ``sample``.
    **options
        ``size`` (votes, up to 1,000,000) and ``seed`` for the sample; ``revision`` (default ``main``) and ``path``
        (a local copy in the source's format) for the hub.

    Returns
    -------
    DataFrame
        One row per vote (see `routellm_lab.preferences.battles`), with where it came from in ``.attrs``.

    Raises
    ------
    DataError
        When the file breaks the contract of battles; names the rows.
    ParameterError
        When the set or the folder does not exist.
    """
    path = Path(name)
    if table_kind(path) or path.parent != Path(".") or (path.suffix and is_there(path) and path.is_file()):
        _refuse_options(options, "a file")
        path = home_resolved(path)
        battles = validate_battles(_read_battles(path), where=str(name))
        stem = Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
        battles.attrs.update(name=stem, data=str(path))
        return battles
    root = str(settings().data if data is None else data)
    if root == "sample":
        from routellm_lab.preferences import sample

        _refuse_unknown(str(name), sample.BATTLE_SETS, root)
        battles = sample.sample_battles(str(name), **known_options(options, ("size", "seed"), "the sample"))
    elif root == "hub":
        _refuse_unknown(str(name), HUB_BATTLES, root)
        return _hub_battles(str(name), **known_options(options, ("revision", "path"), "the hub"))
    else:
        _refuse_options(options, "a data folder")
        files = data_files(data_folder(root, "battles"), ".parquet")
        _refuse_unknown(str(name), files, root)
        file = files[str(name)]
        battles = validate_battles(_read_battles(file), where=str(file))
    battles.attrs.update(name=str(name), data=root)
    return battles


def battle_names(data: str | Path | None = None) -> list[str]:
    """Names of the sets of votes in a data root; none of them is read."""
    root = str(settings().data if data is None else data)
    if root == "hub":
        return list(HUB_BATTLES)
    if root == "sample":
        from routellm_lab.preferences import sample

        return list(sample.BATTLE_SETS)
    return list(data_files(data_folder(root, "battles"), ".parquet"))


def list_battles(data: str | Path | None = None) -> pd.DataFrame:
    """The sets of votes in a data root: name, rows, models, prompts, note (why a set cannot be loaded)."""
    root = str(settings().data if data is None else data)
    if root == "hub":
        return pd.DataFrame([{"name": name, "note": f"Hub set {source}"} for name, source in HUB_BATTLES.items()])
    rows = []
    for name in battle_names(root):
        try:
            battles = load_battles(name, data=root)
        except RoutellmLabError as error:
            rows.append(unloaded(name, error))
            continue
        row = {"name": name, "rows": len(battles), "models": len(models_of(battles))}
        note = "simulated" if root == "sample" else ""
        rows.append(row | {"prompts": battles["prompt_key"].nunique(), "note": note})
    return pd.DataFrame(rows)


def unloaded(name: str, error: RoutellmLabError) -> dict[str, Any]:
    """The row of a list of sets for one that cannot be loaded."""
    return {"name": name, "rows": 0, "models": 0, "prompts": 0, "note": f"cannot be loaded: {error}"}


def with_answer_lengths(battles: pd.DataFrame, data: str | Path | None = None) -> pd.DataFrame:
    """Votes with the lengths of their answers, ``chars_a`` and ``chars_b``, where these can be found.

    Parameters
    ----------
    battles : DataFrame
    data : str or Path, optional
        A folder whose ``responses`` serve votes with ``variant_a`` and ``variant_b`` (AlpacaEval); by default what
        ``ROUTELLM_LAB_DATA`` says.

    Returns
    -------
    DataFrame
        A copy. The first that is known counts: the votes' own ``chars_a``, ``chars_b``; the text in ``response_a``,
        ``response_b``; the folder's ``response_chars`` of the same prompt, model and variant. In characters, at least
        1 (an empty answer); NaN where none is known.

    Raises
    ------
    DataError
        When the length of no answer is known.
    """
    battles = validate_battles(battles)
    told = {side: answer_length(battles, side) for side in ("a", "b")}
    root = str(settings().data if data is None else data)
    variants = {"variant_a", "variant_b"} <= set(battles)  # without, they may be other answers to the same prompt
    if variants and root not in ("sample", "hub") and any(chars.isna().any() for chars in told.values()):
        known = folder_responses(root, "response_chars")
        if known is not None:
            known = number_column(known, "responses", low=0)
            for side, chars in told.items():
                answers = pd.MultiIndex.from_frame(battles[["prompt_key", f"model_{side}", f"variant_{side}"]])
                found = known.reindex(answers.set_names(known.index.names)).to_numpy(float)
                told[side] = chars.fillna(pd.Series(found, index=battles.index))
    if all(chars.isna().all() for chars in told.values()):
        raise DataError(
            "answer lengths: none is known. Votes need chars_a and chars_b, or response_a and response_b, or variant_a "
            f"and variant_b with the folder that has their responses, data=...; they have {listed(battles.columns)}"
        )
    return battles.assign(chars_a=told["a"].clip(lower=1), chars_b=told["b"].clip(lower=1))


def folder_responses(root: str | Path, column: str) -> pd.Series | None:
    """One column of the answers in the ``responses`` of a data folder, by prompt_key, model and variant.

    Returns
    -------
    Series or None
        Of several answers with the same key the first; None without any file.

    Raises
    ------
    DataError
        When a file is damaged or lacks a column.
    """
    keys, parts = ["prompt_key", "model", "variant"], []
    for file in data_files(data_folder(root) / "responses", ".parquet").values():
        table = read_table(file)
        require_columns(table, [*keys, column], str(file))
        parts.append(table[[*keys, column]].dropna(subset=["prompt_key", "model"]))
    if not parts:
        return None
    return pd.concat(parts).drop_duplicates(keys).set_index(keys)[column]


def home_resolved(path: Path) -> Path:
    """The path with ``~`` as the home folder; as it is where no such user is known."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


_TEXTS = (
    "prompt model_a model_b winner response_a response_b judge source language battle_id source_id prompt_key".split()
)


def _read_battles(path: Path) -> pd.DataFrame:
    frame = read_table(path, text=_TEXTS)
    if table_kind(path) == ".csv" and "prompt" in frame and not frame["prompt"].isna().all():
        frame["prompt"] = frame["prompt"].fillna("")  # a gap among prompts is a mistake, not a vote without one
    return frame


def _refuse_options(options: dict, where: str) -> None:
    if options:
        raise ParameterError(f"{where} takes no options, got {listed(sorted(options))}")


def _refuse_unknown(name: str, known: Iterable[str], root: str) -> None:
    if name not in known:
        raise ParameterError(f"no battles {name!r} in {root!r}; nearest: {nearest(name, known)}")


def _hub_battles(name: str, revision: str = "main", path: str | Path | None = None) -> pd.DataFrame:
    source = HUB_BATTLES[name]
    frame, resolved = hub_frame(source, revision=revision, path=path)
    battles = validate_battles(arena_55k_battles(frame, where=source), where=source)
    battles.attrs.update(name=name, data="hub", source=source, revision=resolved)
    return battles


def hub_frame(source: str, revision: str = "main", path: str | Path | None = None) -> tuple[pd.DataFrame, str]:
    """The training split of a Hub set, and the commit that the revision stands for.

    Parameters
    ----------
    source : str
        The set's name on the Hub.
    revision : str
        Branch, tag or commit.
    path : str or Path, optional
        A local folder or file with the set in its own format, read instead; its revision is ``local``. Of a folder with
        a ``train.csv``, such as Kaggle's, only that is read.

    Raises
    ------
    MissingExtraError
        Without the packages of the ``hub`` extra.
    DataError
        When the Hub cannot be reached.
    """
    try:
        import datasets
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingExtraError("the hub needs: pip install 'routellm-lab[hub]'") from error
    try:
        if path is not None:
            path = home_resolved(Path(path))
            found = data_files(path, ".csv")
            found = {"train": found["train"]} if "train" in found else found  # Kaggle's folder has a test.csv as well
            files = [str(path)] if is_there(path) and path.is_file() else list(map(str, found.values()))
            if not files:
                raise DataError(f"{path}: no csv file of {source} in it")
            return datasets.load_dataset("csv", data_files=files, split="train").to_pandas(), "local"
        resolved = HfApi().dataset_info(source, revision=revision).sha or revision
        return datasets.load_dataset(source, split="train", revision=resolved).to_pandas(), resolved
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, DataError):
            raise
        if path is not None:
            raise DataError(f"{path}: not in the csv format of {source}: {error}") from error
        raise DataError(
            f"could not load {source} (revision {revision}) from the Hub: {error}. "
            "Offline, download it elsewhere and pass path=..., or use data='sample' or a folder."
        ) from error


def arena_55k_battles(frame: pd.DataFrame, where: str = "arena-55k") -> pd.DataFrame:
    """Convert lmsys-arena-human-preference-55k to battles.

    Parameters
    ----------
    frame : DataFrame
        id, model_a, model_b, prompt and response_a / response_b (JSON lists of turns), winner_model_a,
        winner_model_b, winner_tie (0 or 1, exactly one of them 1).

    Notes
    -----
    Keeps the first turn. Rows whose first prompt is null or blank are left out, as are models against themselves;
    ``.attrs["left_out"]`` counts them.
    """
    flags = ["winner_model_a", "winner_model_b", "winner_tie"]
    require_columns(frame, ["id", "model_a", "model_b", "prompt", "response_a", "response_b", *flags], where)
    frame = frame.reset_index(drop=True)
    won = pd.DataFrame({flag: number_column(frame[flag], where) for flag in flags})
    bad = frame.index[(won.sum(axis=1) != 1) | ~won.isin([0, 1]).all(axis=1)]
    if len(bad):
        raise DataError(f"{where}: not exactly one winner in row {listed(row + 1 for row in bad)}")
    turns = {column: _turns(frame[column], column, where) for column in ("prompt", "response_a", "response_b")}
    battles = pd.DataFrame(
        {
            "battle_id": frame["id"].astype(str),
            "prompt": [_first(values).strip() for values in turns["prompt"]],
            "model_a": frame["model_a"],
            "model_b": frame["model_b"],
            "winner": won.set_axis(list(WINNERS), axis=1).idxmax(axis=1),
            "judge": "human",
            "source": "lmsys-arena-human-preference-55k",
            "n_turns": [len(values) for values in turns["prompt"]],
            "response_a": [_first(values) for values in turns["response_a"]],
            "response_b": [_first(values) for values in turns["response_b"]],
        }
    )
    kept = (battles["prompt"] != "") & (battles["model_a"] != battles["model_b"])
    battles = battles[kept].reset_index(drop=True)
    battles.attrs["left_out"] = int((~kept).sum())
    return battles


def _turns(column: pd.Series, name: str, where: str) -> list[list]:
    parsed = []
    for row, text in enumerate(column, start=1):
        try:
            values = parse_json(text, name) if isinstance(text, str) else None
        except DataError:
            values = None
        if not isinstance(values, list):
            raise DataError(f"{where}: column {name}, row {row} is not a JSON list of turns")
        parsed.append(values)
    return parsed


def _first(values: list) -> str:
    return values[0] if values and isinstance(values[0], str) else ""
