"""A few thousand damaged files and odd frames: reading them ends well or in the package's own errors."""

import gzip
import io
import json
import random
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from routellm_lab import ModelPair, decontaminate, load_battles, load_outcomes, load_prompts
from routellm_lab.benchmarks import list_outcomes, outcomes_from_frames, score_columns
from routellm_lab.costs import load_prices
from routellm_lab.errors import RoutellmLabError
from routellm_lab.preferences import (
    fit_ratings,
    list_battles,
    pool_battles,
    sample_questions,
    split_by_prompt,
    validate_battles,
)
from routellm_lab.preferences.ratings import Tiers
from routellm_lab.routers import KNNRouter

pytestmark = pytest.mark.slow

CASES = 400
N = 20
VOTES = pd.DataFrame(
    {
        "prompt": ["hi é", "a,b", "q\n", "x"] * 5,
        "model_a": "a",
        "model_b": "b",
        "winner": ["tie", "model_a", "model_b", "tie"] * 5,
        "weight": [1.0, 2, 3, 4] * 5,
        "preference_a": [0.5, None, 0.25, 0] * 5,
        "judge": "human",
        "source": range(N),
        "prompt_key": None,
        "response_a": "r",
        "chars_a": 3,
    }
)
IDS = [f"q{row}" for row in range(N)]
PROMPTS = pd.DataFrame({"prompt_id": IDS, "prompt": IDS, "group": "g", "contaminated": False, "prompt_key": None})
SCORES = pd.DataFrame(
    {"prompt_id": IDS, "model": "m", "score": [1.0, 0] * 10, "output_tokens": 3, "response": "t", "response_chars": 1}
)
PRICES = "model,input_usd_per_mtok,output_usd_per_mtok\na,1,2\nb,3,4\n"
PRICE_MAP = json.dumps({"a": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}})
CELLS = [None, "", 0, 1, -1, 1.5, np.nan, np.inf, 10**30, 10**400, "text", "\ud83d", [], [1], {"role": "user"}, True]
CELLS += [b"x", pd.NA, pd.NaT, pd.Timestamp("2024"), np.float64(2), np.array([1, 2]), "model_a", "a", "7", 1j, (1, 2)]
CELLS += [Decimal("1.5"), "x" * 100_000, object()]
PIECES = [b"[", b"{" * 50, b'"', b",", b"\n", b"\\ud83d", b"\0", b"1e999", b"NaN", b"null", b"9" * 5_000, b"-Infinity"]
PIECES += [b"\r", b'""', b'"weight": [1],', b"[" * 3_000, b'{"a":' * 990, b"\xff", b"\xef\xbb\xbf"]
TYPES = ["category", "string", "Int64", "boolean", "float32", "datetime64[ns]", "str", "bool"]


def damaged(content, draw):
    """The bytes with a few of them changed, gone or new; in texts mostly to other letters."""
    content, letters = bytearray(content), draw.random() < 0.8
    for _ in range(draw.choice([1, 1, 2, 4, 16])):
        at = draw.randrange(len(content) + 1)
        fresh = bytes(
            draw.randrange(32, 127) if letters else draw.randrange(256) for _ in range(draw.choice([1, 2, 8]))
        )
        match draw.randrange(4):
            case 0:
                content[at : at + len(fresh)] = fresh
            case 1:
                del content[at : at + draw.choice([1, 2, 8, 64])]
            case 2:
                content[at:at] = fresh
            case 3:
                content[at:at] = draw.choice(PIECES)
    return bytes(content)


def odd(frame, draw):
    """The frame with a column gone, renamed, of another type, or with a few cells of strangers."""
    frame = frame.copy()
    for _ in range(draw.choice([1, 1, 2])):
        column, cells = draw.choice(list(frame.columns)), [draw.choice(CELLS) for _ in range(3)]
        match draw.randrange(5):
            case 0:
                return frame.drop(columns=column)
            case 1:
                return frame.rename(columns={column: draw.choice([*frame.columns, 0, None, "new"])})
            case 2:
                frame[column] = pd.Series([cells[0]] * len(frame), dtype=object)
            case 3:
                try:
                    frame[column] = frame[column].astype(draw.choice(TYPES))
                except (ValueError, TypeError):
                    continue
            case 4:
                values = frame[column].astype(object).tolist()
                for cell in cells:
                    values[draw.randrange(len(values))] = cell
                frame[column] = pd.Series(values, dtype=object)
    return frame


def own_errors_only(read):
    """Whether it ended well; any error but the package's own is the test's."""
    try:
        read()
    except RoutellmLabError:
        return False
    return True


def parquet(frame, compression="snappy"):
    content = io.BytesIO()
    frame.to_parquet(content, compression=compression)
    return content.getvalue()


def use(battles):
    """What is done with votes that have passed."""
    battles = validate_battles(battles)
    pair, tiers = ModelPair("a", "b"), Tiers({"a": 0, "b": 1}, "given")
    benchmark = outcomes_from_frames("quiz", PROMPTS, SCORES)
    for read in (
        lambda: KNNRouter(pair, encoder="hashing:16", tiers=tiers).fit(battles).win_rate(["x"]),
        lambda: decontaminate(battles, benchmark),
        lambda: split_by_prompt(battles),
        lambda: fit_ratings(battles),
        lambda: pool_battles({"one": battles, "two": VOTES}),
    ):
        own_errors_only(read)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet", "csv.gz", "jsonl.gz"])
def test_damaged_files_of_votes(tmp_path, suffix):
    draw, file = random.Random(suffix), tmp_path / f"votes.{suffix}"
    kind = suffix.removesuffix(".gz")
    whole = {
        "csv": VOTES.to_csv(index=False).encode(),
        "jsonl": VOTES.to_json(orient="records", lines=True).encode(),
        "json": VOTES.to_json(orient="records").encode(),
        "parquet": b"",
    }[kind]
    ended_well = 0
    for number in range(CASES):
        content = parquet(VOTES, draw.choice([None, "snappy", "gzip"])) if kind == "parquet" else whole
        if suffix.endswith(".gz"):
            content = gzip.compress(damaged(content, draw)) if number % 2 else damaged(gzip.compress(content), draw)
        else:
            content = draw.randbytes(draw.randrange(300)) if number % 5 == 0 else damaged(content, draw)
        file.write_bytes(content)
        ended_well += own_errors_only(lambda: load_battles(file))
    assert ended_well < CASES


def test_a_damaged_folder(tmp_path):
    draw = random.Random("folder")
    for part in ("battles", "outcomes"):
        (tmp_path / part).mkdir()
    for number in range(CASES // 2):
        (tmp_path / "battles" / "votes.parquet").write_bytes(damaged(parquet(VOTES), draw))
        for part, frame in (("prompts", PROMPTS), ("scores", SCORES)):
            content = parquet(frame)
            content = damaged(content, draw) if number % 3 != ("prompts", "scores").index(part) else content
            (tmp_path / "outcomes" / f"quiz.{part}.parquet").write_bytes(content)
        for load in (load_outcomes, load_prompts, score_columns):
            own_errors_only(lambda load=load: load("quiz", data=tmp_path))
        assert list_battles(tmp_path)["name"].tolist() == ["votes"]  # never a traceback, nor an error
        assert list_outcomes(tmp_path)["name"].tolist() == ["quiz"]


@pytest.mark.parametrize("name", ["prices.csv", "prices.json"])
def test_damaged_prices(tmp_path, name):
    draw, whole = random.Random(name), PRICES if name.endswith("csv") else PRICE_MAP
    for _ in range(CASES):
        (tmp_path / name).write_bytes(damaged(whole.encode(), draw))
        own_errors_only(lambda: load_prices("sample", path=tmp_path / name))


def test_odd_frames():
    draw, used = random.Random("frames"), 0
    for _ in range(CASES):
        votes, prompts, scores = odd(VOTES, draw), odd(PROMPTS, draw), odd(SCORES, draw)
        used += own_errors_only(lambda votes=votes: use(votes))
        for frames in ((prompts, SCORES), (PROMPTS, scores), (prompts, scores)):
            own_errors_only(lambda frames=frames: sample_questions(outcomes_from_frames("quiz", *frames), 5))
    assert 0 < used < CASES


def arrays():
    """Columns of every type that parquet knows."""
    plain = {
        "list": [["a"]],
        "struct": [{"x": 1}],
        "bytes": [b"x"],
        "decimal": [Decimal("1.50")],
        "flags": [True, None],
        "times": [pd.Timestamp("2024")],
        "dates": [pd.Timestamp("2024").date()],
    }
    made = {name: pa.array(values * (N // len(values))) for name, values in plain.items()}
    made |= {
        "null": pa.nulls(N),
        "half": pa.array(np.ones(N, np.float16)),
        "large": pa.array(["z"] * N, pa.large_string()),
    }
    made |= {kind: pa.array([1] * N, getattr(pa, kind)("s")) for kind in ("duration", "time32", "timestamp")}
    made |= {"categories": pa.array(["a", "b"] * 10).dictionary_encode(), "byte": pa.array([1] * N, pa.uint8())}
    return made | {"map": pa.array([[("k", 1)]] * N, pa.map_(pa.string(), pa.int64()))}


@pytest.mark.parametrize("kind", sorted(arrays()))
def test_columns_of_every_type_of_parquet(tmp_path, kind):
    (tmp_path / "outcomes").mkdir()
    files = {part: tmp_path / "outcomes" / f"quiz.{part}.parquet" for part in ("prompts", "scores")}
    for frame, file in ((VOTES, tmp_path / "v.parquet"), (PROMPTS, files["prompts"]), (SCORES, files["scores"])):
        PROMPTS.to_parquet(files["prompts"])
        SCORES.to_parquet(files["scores"])
        table = pa.Table.from_pandas(frame, preserve_index=False)
        for at, column in enumerate(table.column_names):
            pyarrow.parquet.write_table(table.set_column(at, column, arrays()[kind]), file)
            if frame is VOTES:
                own_errors_only(lambda: use(load_battles(tmp_path / "v.parquet")))
            else:
                own_errors_only(lambda: load_outcomes("quiz", data=tmp_path))
