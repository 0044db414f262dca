"""What a column of a table has: numbers, texts or missing values; what may not be is one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

MISSING = "(missing)"
# As Arrow writes them.
TRUTHS = ("false", "true")
# Of so many different texts of a column so few may be no numbers: a mistake in a column of numbers, not levels.
_SEVERAL, _FEW_WORDS = 10, 0.2
# Words with digits in more than so many of the rows are no mistakes, but ends of a scale: <1, 10+.
_RARE = 0.01
# What Hydra reads as something else than a text.
_NO_WORDS = ("true", "false", "null", "nan", "inf")


def is_text(kind: pa.DataType) -> bool:
    """Whether it becomes levels: texts and truth values."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)
    )


def text_columns(schema: pa.Schema) -> list[str]:
    """Names of the columns of texts, which another file has to be read by; truth values are known by themselves."""
    return [
        field.name
        for field in schema
        if is_text(field.type) and not pa.types.is_boolean(field.type)
    ]


def is_number(kind: pa.DataType) -> bool:
    """Whether it is a number as it stands."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def as_texts(values: pa.ChunkedArray) -> pa.Array:
    """A column as texts, missing ones as ``(missing)``."""
    return pc.fill_null(pc.cast(values.combine_chunks(), pa.string()), MISSING)


def as_levels(values: pa.ChunkedArray, levels: Sequence[str]) -> pa.Array:
    """A column as texts, those that are truth values as training rows have them.

    One other word beside them, and True and False are read as the texts they are written as.
    """
    texts = as_texts(values)
    if not set(levels) <= {*TRUTHS, MISSING}:
        return texts
    lower = pc.utf8_lower(texts)
    return pc.if_else(pc.is_in(lower, pa.array(TRUTHS)), lower, texts)


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text  # which Python reads and Arrow does not


def _reads_as_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def refuse_bytes(name: str, values: pa.ChunkedArray, what: str) -> None:
    """Refuse a column of bytes, which is what Arrow makes of texts of another encoding.

    Raises:
        ValueError: in one line.
    """
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        raise ValueError(
            f"{what}: {name}: bytes that are not UTF-8; save the file as UTF-8, or leave the column out"
        )


def refuse_words_among_numbers(name: str, values: pa.ChunkedArray, what: str, do: str) -> None:
    """Refuse a column of texts nearly all of which are numbers: one mistake would make levels or labels of them all.

    ``do``: what is to be done.

    Raises:
        ValueError: in one line.
    """
    if not is_text(values.type):
        return
    found = pc.value_counts(pc.drop_null(pc.cast(values, pa.string()))).to_pylist()
    words = {
        each["values"]: each["counts"] for each in found if not _reads_as_number(each["values"])
    }
    if len(found) < _SEVERAL or len(words) > _FEW_WORDS * len(found):
        return
    for text, rows in words.items():
        if rows <= max(1, _RARE * len(values)) or not any(map(str.isdigit, text)):
            raise ValueError(f"{what}: {name}: {text!r} stands among numbers: correct it or {do}")


def refuse_no_numbers(name: str, values: pa.ChunkedArray, what: str) -> None:
    """Refuse a column that has to be of numbers and is not; the value that is named is one that is no number.

    Raises:
        ValueError: in one line.
    """
    if is_number(values.type) or pa.types.is_null(values.type):
        return
    if is_text(values.type) and values.null_count == len(values):  # missing, whatever their type
        return
    if not is_text(values.type):
        raise ValueError(f"{what}: {name}: {values.type}: must be numbers, as in training")
    texts = pc.unique(as_texts(values.drop_null())).to_pylist()
    odd = [text for text in texts if not _reads_as_number(text)]
    if not odd:  # of a file that has types
        raise ValueError(f"{what}: {name}: texts, as {texts[0]!r}: must be numbers, as in training")
    raise ValueError(f"{what}: {name}={odd[0]}: must be a number, as in training")


def refuse_no_texts(name: str, values: pa.ChunkedArray, levels: Sequence[str], what: str) -> None:
    """Refuse a column of numbers or dates where training rows have texts, if it has none of these: 7 for 007.

    Raises:
        ValueError: in one line.
    """
    if is_text(values.type) or values.null_count == len(values):
        return
    there = pc.unique(as_texts(values.drop_null())).to_pylist()
    if not set(there) & set(levels):
        raise ValueError(
            f"{what}: {name}={there[0]}: {values.type}: must be texts or truth values as in training, as {levels[0]!r}"
        )


def refuse_unordered(name: str, values: pa.ChunkedArray, what: str) -> None:
    """Refuse a column of times that has no order but the alphabet's, in which 01.02.2021 is before 02.01.2020.

    Raises:
        ValueError: in one line.
    """
    kind, example, do = str(values.type), "", "write dates as YYYY-MM-DD"
    if is_number(values.type) or pa.types.is_temporal(values.type):
        return
    if is_text(values.type):
        kind = "truth values" if pa.types.is_boolean(values.type) else "texts"
        texts = pc.unique(as_texts(values)).to_pylist()
        # One wrong date makes texts of them all: it is the one to be named.
        odd = [text for text in texts if not (_reads_as_number(text) or _reads_as_date(text))]
        example = f", as {(odd or texts)[0]!r}"
        if not odd:  # of a file that has types
            do = "make its type that of dates"
    raise ValueError(
        f"dataset.time={name}: must be a column of numbers or dates, in {what} it has {kind}{example}; {do}, or give "
        "a column of numbers"
    )


def count_missing(values: pa.ChunkedArray) -> int:
    """How many values are null or NaN."""
    missing: int = values.null_count
    if pa.types.is_floating(values.type):
        missing += pc.sum(pc.is_nan(values)).as_py() or 0
    return missing


def refuse_missing(name: str, values: pa.ChunkedArray, what: str, do: str) -> None:
    """Refuse a column ``name`` of ``what`` that has missing values; ``do``: what is to be done.

    Raises:
        ValueError: in one line.
    """
    if missing := count_missing(values):
        raise ValueError(f"{what}: {name}: {missing:,} of {len(values):,} values are missing; {do}")


def refuse_infinite(name: str, values: pa.ChunkedArray, what: str) -> None:
    """Refuse a column of numbers some of which are infinite.

    Raises:
        ValueError: in one line.
    """
    if pa.types.is_floating(values.type) and pc.any(pc.is_inf(values)).as_py():
        raise ValueError(f"{what}: {name}: has infinite values; correct them, or remove such rows")


def drop_option(name: str) -> str:
    """The setting that leaves a column out, as it is typed: a name that is no plain word in quotes, for Hydra and the shell."""
    word = re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII)
    if word and name.lower() not in _NO_WORDS:
        return f"dataset.drop=[{name}]"
    # Hydra takes a backslash for one, except before a quote.
    quoted = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), name)
    return '"' + re.sub(r'([\\"$`])', r"\\\1", f"dataset.drop=['{quoted}']") + '"'


def listed(names: Sequence[str]) -> str:
    """The first twelve."""
    return ", ".join(map(shown, list(names)[:12])) + (", ..." if len(names) > 12 else "")


def shown(name: str) -> str:
    """In quotes where it begins or ends with a blank, or is empty: else nobody sees that."""
    return name if name and name == name.strip() else repr(name)
