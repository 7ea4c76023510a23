"""The parsers of what comes from outside, as functions of bytes that check what they promise.

Each takes any bytes. It raises if the library raises anything but its own errors, or reads other
values than the standard library does. Tests, and the soak step `atheris`, call them.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import random
import re
import shutil
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

import binance_archive_kit as bak
from binance_archive_kit.archive.digests import read_digest
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.listing_pages import InvalidPage, parse_page
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.archive.schemas import Column, Schema
from binance_archive_kit.cli import main as command_line
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    BadChecksum,
    ConfigurationError,
    FileError,
)
from binance_archive_kit.reading.values import parse_flaws
from binance_archive_kit.storage.proof import read_checksum
from binance_archive_kit.storage.skipped import diagnose
from binance_archive_kit.storage.zips import BadMemberError, check_member
from binance_archive_kit.timestamps import parse_length, parse_time
from tests.support import zip_forms
from tests.support.answers import page
from tests.support.bucket import sidecar
from tests.support.dialects import write, zip_of
from tests.support.plain_pages import parse_plainly
from tests.support.stores import csv_for, kline, other, schema_of

#: A file whose columns are numbers, one with text, and one with bools.
CSV_KEYS = (
    kline("BTCUSDT", "2025-07-01", "1h"),
    other("liquidationSnapshot", "BTCUSD_PERP", "2023-07-01", "futures/cm"),
    other("trades", "BTCUSDT", "2025-07-01", "spot"),
)
_MEMBER = CSV_KEYS[0].member
_EPOCH = datetime(1970, 1, 1)
_LONE_RETURN = re.compile(rb"\r(?!\n)")


def keys(data: bytes) -> None:
    """A key is what it is parsed from, and advice on a file never raises."""
    text = data.decode(errors="surrogateescape")
    with suppress(ValueError):
        assert str(ObjectKey.parse(text)) == text
    folder, _, name = text.rpartition("/")
    diagnose(f"{folder}/", name)


def listings(data: bytes) -> None:
    """A page is what a plain parser of XML makes of it."""
    try:
        page = parse_page(data)
    except InvalidPage:
        found = None
    else:
        found = [*page.rows()], page.folders, page.truncated, page.following
    if data.count(b"<") < 50_000 and data.count(b"=") < 50_000:
        assert found == parse_plainly(data)


def checksums(data: bytes) -> None:
    """A digest has 64 hex digits, whether it is fetched or lies beside a file."""
    answers = [read_digest("data/x.zip", data)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.zip")
        path.with_name("x.zip.CHECKSUM").write_bytes(data)
        answers.append(read_checksum(path))  # type: ignore[arg-type]
    for answer in answers:
        if not isinstance(answer, BadChecksum):
            assert re.fullmatch("[0-9a-f]{64}", str(answer))


def configurations(data: bytes) -> None:
    """A configuration comes back from its JSON and its Python; all else is our error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArchiveKitWarning)
        try:
            config = bak.CollectionConfig.from_json(data.decode(errors="surrogateescape"))
        except ConfigurationError:
            return
        assert bak.CollectionConfig.from_json(config.to_json()) == config
        assert eval(config.to_python(), {"bak": bak}) == config


def flags(data: bytes) -> None:
    """A command line is understood or refused, before anything is done."""
    words = data.decode(errors="surrogateescape").split("\0")
    context = click.Context(command_line.cli)
    command = command_line.cli.commands.get(words[0], command_line.cli)
    with suppress(click.ClickException, click.exceptions.Exit, ConfigurationError):
        made = command.make_context(words[0], words[1:], parent=context)
        if words[0] in ("plan", "collect"):
            from binance_archive_kit.cli.options import config_from_options

            fields = bak.CollectionConfig.model_fields
            given = {n: v for n, v in made.params.items() if n in {*fields, "start", "end"}}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ArchiveKitWarning)
                config_from_options(None, **given)


def matrices(data: bytes) -> None:
    """A matrix is one in the documented form, or our error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "matrix.json")
        path.write_bytes(data)
        with suppress(ConfigurationError):
            load_matrix(path)


def times(data: bytes) -> None:
    """A time or a length is understood, or a ValueError says why not."""
    text = data.decode(errors="surrogateescape")
    with suppress(ValueError):
        parse_time(text)
    parse_length(text)
    with suppress(ValueError, TypeError):
        parse_flaws(text)


def zips(data: bytes) -> None:
    """What is read of a zip is what `zipfile` reads, and all that this reads is read."""
    found, usual = None, False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) == 1:
                found = archive.read(infos[0])
                [info] = infos
                usual = (
                    (info.filename, info.file_size) == (_MEMBER, len(found))
                    and info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                    and _is_whole(data, info, found)
                )
    except (
        *(zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError),
        *(zlib.error, struct.error, OverflowError, lzma.LZMAError),
    ):
        pass
    try:
        member = check_member(io.BytesIO(data), len(data), _MEMBER)
    except BadMemberError as error:
        if usual:
            raise AssertionError("zipfile reads it") from error
        return
    packed = data[member.start : member.start + member.compressed]
    text = zlib.decompress(packed, -15) if member.method else packed
    assert (len(text), zlib.crc32(text)) == (member.size, member.crc)
    # Zipfile reads none whose name before its bytes is another one than in the directory.
    assert found in (None, text)


def _is_whole(data: bytes, info: zipfile.ZipInfo, text: bytes) -> bool:
    """Return whether all packed bytes are there, and are this text; `zipfile` reads some more."""
    name, extra = struct.unpack("<2H", data[info.header_offset + 26 : info.header_offset + 30])
    start = info.header_offset + 30 + name + extra
    packed = data[start : start + info.compress_size]
    if len(packed) < info.compress_size or not info.compress_type:
        return packed == text
    inflater = zlib.decompressobj(-15)
    return inflater.decompress(packed) == text and inflater.eof


def csvs(data: bytes) -> None:
    """What is read of a csv is what `csv` reads; what that reads without doubt is read."""
    for key in CSV_KEYS:
        check_csv(key, data)


def check_csv(key: ObjectKey, text: bytes) -> str:
    """Read a csv as a file of the store, and by the standard library; return how it ended."""
    expected, sure = plain_rows(key, text)
    folder = tempfile.mkdtemp()
    try:
        write(Path(folder), key, zip_of(key, text))
        scan = bak.scan(folder, key.folder.market, key.folder.data_type, cache=False)
        try:
            frame = scan.collect()
        except FileError as error:
            if sure:
                raise AssertionError(f"csv reads {expected}") from error
            return error.reason
    finally:
        shutil.rmtree(folder)
    own = frame.drop("market", "symbol", "interval", "date", "partition", "file")
    found = [tuple(map(_naive, row)) for row in own.rows()]
    if _LONE_RETURN.search(text):
        return "read"  # an end of a line for some, nothing for others
    assert expected is not None, f"{found} are read of what has no rows for csv"
    assert repr(sorted(found, key=repr)) == repr(sorted(expected, key=repr))
    return "sure" if sure else "read"


def plain_rows(key: ObjectKey, text: bytes) -> tuple[list[tuple[Any, ...]] | None, bool]:
    """Read a csv by the standard library.

    Returns
    -------
    (list of tuple or None, bool)
        The rows; None if they are not those of the feed. Whether there is no doubt about them:
        no quotes, no blank lines, no times of another unit or day.
    """
    schema = schema_of(key)
    names = [column.name for column in schema.columns]
    try:
        decoded = text.decode().removeprefix("\ufeff").lstrip(" \t\r\n")
        first_line, _, rest = decoded.partition("\n")
        header = first_line.split(",")
        strange = sum(
            _folded(word) != _folded(name) for word, name in zip(header, names, strict=False)
        )
        # Another name of one column is reported.
        headed = len(header) == len(names) and strange < 2
        cells = csv.reader(io.StringIO(rest if headed else decoded, newline=""), strict=True)
        lines = [row for row in cells if "".join(row).strip()]
        rows = [
            tuple(
                _value(column, cell)
                for column, cell in zip(schema.columns, row, strict=True)
                if not column.dropped
            )
            for row in lines
        ]
    except (ValueError, csv.Error, OverflowError, KeyError):
        return None, False
    at = [column.column for column in schema.kept].index(schema.time.column)
    first = datetime.combine(key.start, datetime.min.time())
    midnight = first + timedelta(days=1)
    sure = (
        not (headed and header != names)
        and not any(letter in text for letter in b'"\r')
        and text.endswith(b"\n")
        and all(row[at] is not None and first <= row[at] < midnight for row in rows)
        and len({len(cell) > 15 for row in lines for cell in _times(schema, row)}) < 2
        and not any(cell != cell.strip() for row in lines for cell in row)
    )
    # A row of the midnight after its days is the next file's.
    return [row for row in rows if row[at] != midnight], sure


def _folded(word: str) -> str:
    return "".join(filter(str.isalnum, word.casefold()))


def _times(schema: Schema, row: list[str]) -> list[str]:
    return [
        cell for column, cell in zip(schema.columns, row, strict=True) if column.dtype == "time"
    ]


def _value(column: Column, cell: str) -> Any:
    if not cell or (column.dtype != "text" and not cell.strip()):
        return None
    if column.dtype != "text" and (not cell.isascii() or "_" in cell):
        raise ValueError(cell)
    match column.dtype:
        case "time":
            number = int(cell)
            return _EPOCH + timedelta(microseconds=number if number >= 10**14 else number * 1_000)
        case "int64":
            number = int(cell)
            if not -(2**63) <= number < 2**63:
                raise OverflowError
            return number
        case "float64":
            return float(cell)
        case "bool":
            return {"true": True, "false": False}[cell.lower()]
    return cell


def _naive(value: Any) -> Any:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


PARSERS: dict[str, Callable[[bytes], None]] = {
    parser.__name__: parser
    for parser in (
        *(keys, listings, checksums, configurations, flags, matrices, times, zips, csvs),
    )
}

_KEY = str(CSV_KEYS[0])
_CONFIG = {
    "markets": ["spot"],
    "symbols": {"spot": ["BTCUSDT"]},
    "data_types": ["klines"],
    "intervals": {"klines": ["1h"]},
    "date_range": {"start": "-7d", "end": "yesterday"},
    "output_directory": "data",
}
_FLAGS = "plan --markets spot --symbols spot=A,B --data-types klines --start -7d --no-listing"
_MATRIX = {"availability_matrix": [{"market": "spot", "data_type": "klines", "intervals": []}]}
#: Valid inputs of each parser.
SEEDS: dict[str, list[bytes]] = {
    "keys": [str(each).encode() for each in CSV_KEYS],
    "listings": [page([_KEY, f"{_KEY}.CHECKSUM"]), page(folders=["data/"], truncated=True)],
    "checksums": [sidecar("x.zip", b"x"), b"SHA256 (x.zip) = " + b"0" * 64],
    "configurations": [json.dumps(_CONFIG).encode()],
    "flags": [f"{_FLAGS} --output-directory data".replace(" ", "\0").encode()],
    "matrices": [json.dumps(_MATRIX).encode()],
    "times": [b"2025-07-01T12:00:00+02:00", b"-7d", b"15m"],
    "zips": [make(name=_MEMBER) for make in (zip_forms.plain, zip_forms.streamed)]
    + [zip_forms.plain(method=zipfile.ZIP_STORED, name=_MEMBER)],
    "csvs": [csv_for(each, 3) for each in CSV_KEYS],
}
_TOKENS = (
    *(
        ",",
        ",,",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        '"',
        '""',
        "'",
        " ",
        "\t",
        "0",
        "9",
        "-",
        "+",
        ".",
        "e5",
    ),
    *(
        "nan",
        "inf",
        "NULL",
        "True",
        "FALSE",
        "\ufeff",
        "\0",
        "é",
        "１",
        "1e400",
        "9223372036854775808",
    ),
    *(
        "1751328000000",
        "1751328000000000",
        "#",
        "\x1a",
        "\x85",
        "\u2028",
        "-0",
        ".5",
        "5.",
        "<",
        "&",
        "]",
    ),
    *("{", "}", "[", "null", "%FF", "%2F", "../", "*", "PK\1\2", "PK\3\4", "PK\5\6", "\xff\xff"),
)


def spoil(data: bytes, dice: random.Random) -> bytes:
    """Change some bytes of a valid input, as accidents and attackers do."""
    for _ in range(dice.randint(0, 3)):
        at = dice.randint(0, len(data))
        match dice.randrange(6):
            case 0 | 1:
                data = data[:at] + dice.choice(_TOKENS).encode("utf-8") + data[at:]
            case 2:
                data = data[:at] + data[at + dice.randint(1, 9) :]
            case 3:
                data = (
                    data[:at] + dice.randbytes(dice.randint(1, 8)) + data[at + dice.randint(0, 8) :]
                )
            case 4:
                # Where zips have their directory.
                end = max(0, len(data) - dice.randint(1, 70))
                data = data[:end] + dice.randbytes(1) + data[end + 1 :]
            case 5:
                cells = data.split(b",")
                cells[dice.randrange(len(cells))] = dice.choice(_TOKENS).encode("utf-8")
                data = b",".join(cells)
    return data


def feed(name: str, seed: int, number: int) -> None:
    """Give a parser its random input of a number."""
    dice = random.Random(f"{seed} {name} {number}")
    data = spoil(dice.choice(SEEDS[name]), dice)
    try:
        PARSERS[name](data)
    except Exception as error:
        raise AssertionError(f"{name} of {data!r}") from error
