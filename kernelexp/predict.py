"""``python -m kernelexp.predict RUN data.csv --out y.csv``: what a trained model says of new rows."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kernelexp.options import Parser

if TYPE_CHECKING:
    import pyarrow as pa

    from kernelexp.serving import KernelPredictor


def _arguments() -> argparse.Namespace:
    parser = Parser(
        prog="python -m kernelexp.predict",
        description="Predictions of a run's model for the rows of a file, written as a table.",
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="id or its start, name, or best:EXPERIMENT")
    add("data", type=Path, metavar="FILE",
        help="a table (.csv, .tsv, .parquet, .feather, .arrow), or inputs as an array (.npy)")  # fmt: skip
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="a .csv or .parquet file (default: the screen, as CSV)",
    )
    add("--outputs", action="store_true", help="of a classifier also its output for each class")
    add("--store", metavar="URI", help="default: $MLFLOW_TRACKING_URI or sqlite:///mlflow.db")
    return parser.parse_args()


def main() -> int:
    """Predict; 0, or 2 with one line of what is wrong."""
    given = _arguments()
    try:
        from kernelexp.loading import load

        _check_out(given.out, given.data)
        table = predictions(load(given.run, given.store), given.data, given.outputs)
        _write(table, given.out)
    except (ValueError, OSError, ImportError) as error:
        print(f"kernelexp.predict: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def predictions(model: KernelPredictor, data: Path, outputs: bool = False) -> pa.Table:
    """A row for each row of a file: the target as the training table calls it, else ``prediction``.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: in one line, for what the model cannot take.
    """
    import numpy as np
    import pyarrow as pa

    from kernelexp.data.table_file import read_table

    if not data.is_file():
        raise FileNotFoundError(f"{data}: no such file")
    if model.columns is not None:
        rows = read_table(data, model.columns.texts)
        inputs = model.columns.points(rows, str(data))
        if named := model.columns.unknown_in_words(rows):
            print(
                f"kernelexp.predict: {data}: not in training rows: {named}; counted as none of the known",
                file=sys.stderr,
            )
    elif data.suffix == ".npy":
        try:
            inputs = np.load(data, allow_pickle=False)
        except EOFError as error:
            raise ValueError(f"{data}: not a readable .npy file; write it anew") from error
    else:
        shape = ", ".join(map(str, model.preprocessing.shape))
        raise ValueError(f"{data}: the run was trained on arrays; must be a .npy file (m, {shape})")
    raw = model.outputs(inputs, str(data))
    found = raw.cpu().numpy()
    name = "prediction" if model.columns is None else model.columns.target
    if model.classes is None:
        several = found.shape[1] > 1
        return pa.table({f"{name}{i if several else ''}": y for i, y in enumerate(found.T)})
    columns = {name: pa.array(model.labels_of(raw).tolist())}
    if outputs:
        classes = model.labels if found.shape[1] > 1 else model.labels[1:]
        columns |= {f"output {label}": y for label, y in zip(classes, found.T, strict=True)}
    return pa.table(columns)


def _check_out(out: Path | None, data: Path) -> None:
    """Refuse a file that cannot be written, before anything is read."""
    if out is None:
        return
    if out.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--out {out}: must be a file whose name ends in .csv or .parquet")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: no folder {out.parent}; make it first, or name another")
    if out.is_dir():
        raise ValueError(f"--out {out}: is a folder; must be a file")
    if out.exists() and data.exists() and out.samefile(data):
        raise ValueError(f"--out {out}: is the file of rows, which would be lost; name another")


def _write(table: pa.Table, out: Path | None) -> None:
    from pyarrow import csv, parquet

    if out is None:
        csv.write_csv(table, sys.stdout.buffer)
    else:
        place = out.resolve()
        part = place.with_name(f"{place.name}.{os.getpid()}")  # a full disk leaves what was there
        try:
            (csv.write_csv if out.suffix == ".csv" else parquet.write_table)(table, part)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
