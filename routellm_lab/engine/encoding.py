"""Many prompts encoded a batch at a time: their source, the column of vectors, and where it goes."""

import contextlib
import copy
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routellm_lab.encoders import Encoder, SentenceEncoder, as_texts
from routellm_lab.engine.cluster import RETRIES, clear, own_errors, require_shared
from routellm_lab.errors import ParameterError, listed
from routellm_lab.tables import data_files, parquet_columns

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

VECTOR = "vector"
"""The column of the encodings."""
_ROWS = 4096
"""Prompts encoded at once: a few megabytes of vectors, thousands of times what handing them over costs."""


def source_of(prompts: Any, column: str) -> "pa.Table | list[str]":
    """A table of the given texts, or the names of the given files, which are fit to be encoded into one table."""
    import pyarrow as pa
    import pyarrow.parquet

    given: Any = [prompts] if isinstance(prompts, Path) else prompts if isinstance(prompts, str) else list(prompts)
    if not given or not all(isinstance(path, Path) for path in given):
        return pa.table({column: pa.array(as_texts(given), pa.large_string())})
    found = [list(data_files(path, ".parquet").values()) if path.is_dir() else [path] for path in given]
    files = [path.absolute() for paths in found for path in paths]
    if not files:
        raise ParameterError(f"prompts: no *.parquet in {given[0]}")
    first: set[tuple[str, str]] = set()
    for file in files:
        names = parquet_columns(file)
        if column not in names:
            raise ParameterError(f"{file}: has no column {column!r}; name that of the prompts with column=")
        if VECTOR in names:
            raise ParameterError(f"{file}: has a column {VECTOR!r} already, that of the encodings; drop or rename it")
        columns = {(field.name, str(field.type)) for field in pyarrow.parquet.read_schema(file)}
        first = first or columns
        if columns != first:
            other = sorted({name for name, _ in columns ^ first})
            raise ParameterError(
                f"{file}: differs from {files[0]} in {listed(other)}; give all files the same columns of the same "
                "types, or encode them apart"
            )
    return [str(file) for file in files]


class Vectors:
    """Adds the column of vectors to a table."""

    def __init__(self, encoder: Encoder, column: str) -> None:
        if not isinstance(encoder, SentenceEncoder):
            _ = encoder.dimensions  # loads the model, which then travels: workers need not distil their own
        self.encoder = copy.copy(encoder)
        self.encoder.cached = False  # a file that all workers write to would be slower than encoding again
        self.column = column

    def __call__(self, table: "pa.Table") -> "pa.Table":
        import pyarrow as pa

        vectors = self.encoder.transform(table.column(self.column).to_pylist())
        flat = pa.array(vectors.ravel(), pa.float32())
        return table.append_column(VECTOR, pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))


def encode_here(source: "pa.Table | list[str]", vectors: Vectors) -> "Iterator[pa.Table]":
    """Tables with the column of vectors, one after the other."""
    import pyarrow as pa

    return map(vectors, _parts(source) if isinstance(source, pa.Table) else _rows(source))


def _parts(table: "pa.Table") -> "list[pa.Table]":
    """A table in parts, one at least."""
    return [table.slice(start, _ROWS) for start in range(0, max(len(table), 1), _ROWS)]


def _rows(files: list[str]) -> "Iterator[pa.Table]":
    """The rows of parquet files, a part at a time."""
    import pyarrow as pa
    import pyarrow.dataset

    for batch in pyarrow.dataset.dataset(files, format="parquet").to_batches(batch_size=_ROWS):
        yield pa.Table.from_batches([batch])


def write_tables(tables: "Iterator[pa.Table]", path: Path) -> None:
    """Tables as one parquet file."""
    import pyarrow.parquet

    writer = None
    with contextlib.ExitStack() as stack:
        for table in tables:
            writer = writer or stack.enter_context(pyarrow.parquet.ParquetWriter(path, table.schema))
            writer.write_table(table)


def stacked(tables: "Iterator[pa.Table]") -> "np.ndarray":
    """The vectors of tables, (n, d)."""
    import numpy as np

    parts = []
    for table in tables:
        vectors = table.column(VECTOR).combine_chunks()
        parts.append(vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, vectors.type.list_size))
    return np.concatenate(parts)


def encode_on_cluster(
    source: "pa.Table | list[str]", vectors: Vectors, folder: Path | None, cores: int
) -> "Iterator[pa.Table]":
    """Tables with the column of vectors, encoded by Ray Data; with a folder they are written there instead."""
    import ray

    if isinstance(vectors.encoder, SentenceEncoder):
        vectors.encoder._model = None  # large, and each worker loads its own for its own device
    # Ray Data does not run through Ray's client: it is driven by a task on the cluster
    task = ray.remote(_encode_on_ray).options(num_cpus=0, max_retries=RETRIES)
    with own_errors(all_from_ray=True):
        return iter(ray.get(task.remote(source, vectors, folder, cores)))


def _encode_on_ray(
    source: "pa.Table | list[str]", vectors: Vectors, folder: Path | None, cores: int
) -> "list[pa.Table]":
    """Runs in a task of the cluster: a streaming pipeline of Ray Data."""
    import pyarrow as pa
    import ray.data

    for path in [*([] if isinstance(source, pa.Table) else source), *([] if folder is None else [folder])]:
        require_shared(Path(path))
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    if isinstance(source, pa.Table):
        dataset = ray.data.from_arrow(_parts(source))
    else:  # Ray's own reader needs a client for HTTP
        files = ray.data.from_items([{"file": file} for file in source], override_num_blocks=len(source))
        dataset = files.map_batches(_read, batch_format="pyarrow", batch_size=1)
    gpus = ray.cluster_resources().get("GPU", 0) if isinstance(vectors.encoder, SentenceEncoder) else 0
    encoded = dataset.map_batches(
        Vectors,  # made once per worker
        fn_constructor_args=[vectors.encoder, vectors.column],
        batch_format="pyarrow",
        batch_size=_ROWS,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=int(gpus) or cores),
        num_gpus=1 if gpus else None,
    )
    if folder is None:
        return list(encoded.iter_batches(batch_size=None, batch_format="pyarrow"))
    own = folder / uuid.uuid4().hex  # whatever is still being written for an attempt that died stays out of it
    own.mkdir()
    encoded.write_parquet(str(own), try_create_dir=False)
    clear(folder, [own.name])
    for number, part in enumerate(sorted(own.iterdir())):  # Ray's names are in the order of the rows
        part.rename(folder / f"part-{number:06d}.parquet")
    own.rmdir()
    return []


def _read(named: "pa.Table") -> "Iterator[pa.Table]":
    return _rows(named.column("file").to_pylist())
