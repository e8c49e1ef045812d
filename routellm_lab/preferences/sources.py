"""Where battles come from: the simulated sample, a data folder, the Hub, or a file of one's own."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from routellm_lab.errors import DataError, MissingExtraError, ParameterError, known_options, listed, nearest
from routellm_lab.files import TABLE_SUFFIXES, data_folder, read_table
from routellm_lab.preferences.battles import WINNERS, answer_length, models_of, validate_battles
from routellm_lab.settings import settings

HUB_BATTLES = {"arena_human": "lmsys/lmsys-arena-human-preference-55k"}
"""Battles on the Hub, by the name they have in this package."""


def load_battles(name: str | Path, data: str | Path | None = None, **options: Any) -> pd.DataFrame:
    """Load one set of votes.

    Parameters
    ----------
    name : str or Path
        A set's name (``routellm-lab data`` lists them) or the path of a csv, jsonl or parquet file.
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
    if path.suffix in TABLE_SUFFIXES or path.parent != Path("."):
        _refuse_options(options, "a file")
        battles = validate_battles(_read_battles(path), where=str(name))
        battles.attrs.update(name=path.stem, data=str(path))
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
        file = data_folder(root, "battles", f"{name}.parquet")
        if not file.is_file():
            _refuse_unknown(str(name), [found.stem for found in file.parent.glob("*.parquet")], root)
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
    return sorted(file.stem for file in data_folder(root, "battles").glob("*.parquet"))


def list_battles(data: str | Path | None = None) -> pd.DataFrame:
    """The sets of votes in a data root: name, rows, models, prompts, note."""
    root = str(settings().data if data is None else data)
    if root == "hub":
        return pd.DataFrame([{"name": name, "note": f"Hub set {source}"} for name, source in HUB_BATTLES.items()])
    rows = []
    for name in battle_names(root):
        battles = load_battles(name, data=root)
        row = {"name": name, "rows": len(battles), "models": len(models_of(battles))}
        note = "simulated" if root == "sample" else ""
        rows.append(row | {"prompts": battles["prompt_key"].nunique(), "note": note})
    return pd.DataFrame(rows)


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
    told = {side: answer_length(battles, side) for side in ("a", "b")}
    root = str(settings().data if data is None else data)
    variants = {"variant_a", "variant_b"} <= set(battles)  # without, they may be other answers to the same prompt
    if variants and root not in ("sample", "hub") and any(chars.isna().any() for chars in told.values()):
        keys = ["prompt_key", "model", "variant"]
        files = sorted((data_folder(root) / "responses").glob("*.parquet"))
        for known in (read_table(file).set_index(keys)["response_chars"] for file in files):
            for side, chars in told.items():
                answers = pd.MultiIndex.from_frame(battles[["prompt_key", f"model_{side}", f"variant_{side}"]])
                found = known.reindex(answers.set_names(keys)).to_numpy(float)
                told[side] = chars.fillna(pd.Series(found, index=battles.index))
    if all(chars.isna().all() for chars in told.values()):
        raise DataError(
            "answer lengths: none is known. Votes need chars_a and chars_b, or response_a and response_b, or variant_a "
            f"and variant_b with the folder that has their responses, data=...; they have {listed(battles.columns)}"
        )
    return battles.assign(chars_a=told["a"].clip(lower=1), chars_b=told["b"].clip(lower=1))


def _read_battles(path: Path) -> pd.DataFrame:
    frame = read_table(path, text=("prompt", "model_a", "model_b", "winner", "response_a", "response_b"))
    if path.suffix == ".csv" and "prompt" in frame and (frame["prompt"] == "").all():
        frame["prompt"] = pd.Series([None] * len(frame), dtype="str")  # csv has no null: a vote-only set
    for column in ("preference_a", "weight"):
        if path.suffix == ".csv" and column in frame:
            frame[column] = frame[column].replace("", None)
    return frame


def _refuse_options(options: dict, where: str) -> None:
    if options:
        raise ParameterError(f"{where} takes no options, got {listed(sorted(options))}")


def _refuse_unknown(name: str, known, root: str) -> None:
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
        A local folder or file with the set in its own format, read instead; its revision is ``local``.

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
            path = Path(path)
            files = [str(path)] if path.is_file() else sorted(map(str, path.glob("*.csv")))
            if not files:
                raise DataError(f"{path}: no csv file of {source} in it")
            return datasets.load_dataset("csv", data_files=files, split="train").to_pandas(), "local"
        resolved = HfApi().dataset_info(source, revision=revision).sha or revision
        return datasets.load_dataset(source, split="train", revision=resolved).to_pandas(), resolved
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, DataError):
            raise
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
    needed = ["id", "model_a", "model_b", "prompt", "response_a", "response_b", *flags]
    missing = [column for column in needed if column not in frame]
    if missing:
        raise DataError(f"{where}: missing column {listed(missing)}; it has {listed(frame.columns)}")
    bad = frame.index[frame[flags].sum(axis=1) != 1]
    if len(bad):
        raise DataError(f"{where}: not exactly one winner in row {listed(row + 1 for row in bad)}")
    turns = {column: _turns(frame[column], column, where) for column in ("prompt", "response_a", "response_b")}
    battles = pd.DataFrame(
        {
            "battle_id": frame["id"].astype(str),
            "prompt": [_first(values).strip() for values in turns["prompt"]],
            "model_a": frame["model_a"],
            "model_b": frame["model_b"],
            "winner": frame[flags].set_axis(list(WINNERS), axis=1).idxmax(axis=1),
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
            values = json.loads(text) if isinstance(text, str) else None
        except json.JSONDecodeError:
            values = None
        if not isinstance(values, list):
            raise DataError(f"{where}: column {name}, row {row} is not a JSON list of turns")
        parsed.append(values)
    return parsed


def _first(values: list) -> str:
    return values[0] if values and isinstance(values[0], str) else ""
