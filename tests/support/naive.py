"""What a file of the archive holds, cell by cell, read by the standard library alone.

Slow and plain, so that it can be believed: the views must give what `read` gives.
"""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.schemas import Column, Schema, Time, load_schemas

Cell = object
#: Own columns that say what the path says.
SAID_BY_THE_PATH = ("symbol", "date")
#: A count since 1970 of this size and more is of microseconds: in ms it is the year 5138.
MICROSECONDS_FROM = 10**14

_EPOCH = datetime(1970, 1, 1)
_BOOLEANS = {"true": True, "false": False}


def read(path: Path, key: ObjectKey) -> list[dict[str, Cell]]:
    """Read every row of a zip, in the order of the file.

    Parameters
    ----------
    path : Path
    key : ObjectKey
        What the file is, wherever it lies.

    Returns
    -------
    list of dict
        By column: first those that the path tells (`market`, `symbol`, `interval`, `date`,
        `partition`, `file`), then the file's own under our names, then the made time if there
        is one. Times are naive and mean UTC; `date` is the day of the row's main time, which
        need not be one of the file's.
    """
    return read_bytes(path.read_bytes(), key)


def read_bytes(body: bytes, key: ObjectKey) -> list[dict[str, Cell]]:
    """Read every row of a zip in memory."""
    schema = load_schemas()[key.folder.market, key.folder.data_type]
    return [_row(schema, key, cells) for cells in _lines(body, key)]


def columns(schema: Schema) -> list[str]:
    """Name the columns of `read`, in their order."""
    own = [column.column for column in schema.columns if _is_shown(column)]
    made = [schema.time.column] if schema.time.made_from else []
    return ["market", "symbol", "interval", "date", "partition", "file", *own, *made]


def _lines(body: bytes, key: ObjectKey) -> list[list[str]]:
    """Split a file into its cells, the header left out."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.namelist() == [key.member]
        text = archive.read(key.member).decode("utf-8")
    lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    headed = text[:1] not in "-0123456789"
    return lines[1:] if headed else lines


def _row(schema: Schema, key: ObjectKey, cells: list[str]) -> dict[str, Cell]:
    own = {
        column.column: _value(column, text, schema.time)
        for column, text in zip(schema.columns, cells, strict=True)
    }
    shown = {column.column: own[column.column] for column in schema.columns if _is_shown(column)}
    if schema.time.made_from:
        text = " ".join(str(own[part]) for part in schema.time.made_from)
        shown[schema.time.column] = datetime.strptime(text, schema.time.format or "")
    time = shown[schema.time.column]
    assert isinstance(time, datetime)
    stream = key.folder
    return {
        "market": stream.market.value,
        "symbol": stream.symbol,
        "interval": stream.interval.value if stream.interval else None,
        "date": time.date(),
        "partition": stream.partition.value,
        "file": str(key),
        **shown,
    }


def _is_shown(column: Column) -> bool:
    return not column.dropped and column.column not in SAID_BY_THE_PATH


def _value(column: Column, text: str, time: Time) -> Cell:
    if not text:
        return None
    match column.dtype:
        case "time":
            return _time(text, time)
        case "float64":
            return float(text)
        case "int64":
            return int(text)
        case "bool":
            return _BOOLEANS[text.lower()]
        case "text":
            return text


def _time(text: str, time: Time) -> datetime:
    if time.format:
        return datetime.strptime(text, time.format)
    count = int(text)
    return _EPOCH + timedelta(microseconds=count if count >= MICROSECONDS_FROM else count * 1_000)
