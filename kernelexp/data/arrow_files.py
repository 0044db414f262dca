"""Files of tables by Arrow; large ones by way of a file of Arrow's own format, which is mapped and not read."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
from pyarrow import csv, feather, parquet

from kernelexp.data.large import LARGE, unnamed

# Bytes of a CSV file parsed together; by the first such part columns are known for numbers, texts or dates.
_BLOCK = 1 << 23
# What Arrow itself parses together.
_USUAL = 1 << 20
# A file's columns, and its rows part by part, while it is open.
_Parts: TypeAlias = AbstractContextManager[tuple[pa.Schema, Iterable[pa.RecordBatch]]]


def read_csv(path: Path, texts: Collection[str] = (), delimiter: str = ",") -> pa.Table:
    """A CSV file; ``texts``: columns that are read as they are written, where 007 would be taken for 7."""
    try:
        return _read_csv(path, texts, csv.ParseOptions(delimiter=delimiter))
    except pa.ArrowInvalid:  # perhaps a line that ends within quotes, which Arrow is slower with
        parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        return _read_csv(path, texts, parse)


def _read_csv(path: Path, texts: Collection[str], parse: csv.ParseOptions) -> pa.Table:
    # Also a text may be missing: what is empty, NA, null and the like.
    kinds = dict.fromkeys(texts, pa.string())
    convert = csv.ConvertOptions(strings_can_be_null=True, column_types=kinds)
    # The names alone of 60,000 columns are more than Arrow's own block.
    with path.open("rb") as file:
        header = len(file.readline(LARGE))
    whole = csv.ReadOptions(block_size=max(_USUAL, 2 * header))

    @contextmanager
    def parts() -> Iterator[tuple[pa.Schema, Iterable[pa.RecordBatch]]]:
        read = csv.ReadOptions(block_size=max(_BLOCK, 2 * header))
        with csv.open_csv(path, read, parse, convert) as reader:
            yield reader.schema, reader

    return _read(path, parts, lambda: csv.read_csv(path, whole, parse, convert))


def read_parquet(path: Path) -> pa.Table:
    """A Parquet file."""

    @contextmanager
    def parts() -> Iterator[tuple[pa.Schema, Iterable[pa.RecordBatch]]]:
        with parquet.ParquetFile(path) as file:
            yield file.schema_arrow, file.iter_batches()

    return _read(path, parts, lambda: parquet.read_table(path))


# With the columns that are texts: files of most kinds say themselves what they have.
READERS: dict[str, Callable[[Path, Collection[str]], pa.Table]] = {
    ".csv": read_csv,
    ".tsv": lambda path, texts: read_csv(path, texts, "\t"),
    ".parquet": lambda path, texts: read_parquet(path),
    ".feather": lambda path, texts: feather.read_table(path),  # mapped, where it is not compressed
    ".arrow": lambda path, texts: feather.read_table(path),
}


def _read(path: Path, parts: Callable[[], _Parts], whole: Callable[[], pa.Table]) -> pa.Table:
    """A large file part by part, where its columns are the same all along; else, and a small one, as a whole."""
    if path.stat().st_size >= LARGE:
        try:
            with parts() as (schema, batches):
                return _mapped(schema, batches)
        except (pa.ArrowInvalid, OSError):
            # Whole numbers in the first part alone, levels that differ by part: all has to be looked at; or no file can
            # be written.
            pass
    return whole()


def _mapped(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    handle, path = unnamed()
    try:
        with os.fdopen(handle, "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    finally:
        path.unlink()
