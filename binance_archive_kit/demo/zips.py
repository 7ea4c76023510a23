"""Write the rows of a folder as zips with their checksums, as the archive does."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from datetime import date
from typing import cast

import polars as pl

from binance_archive_kit.archive.enums import Market, Partition
from binance_archive_kit.archive.keys import Folder, ObjectKey
from binance_archive_kit.archive.schemas import schema
from binance_archive_kit.demo.flaws import PLANTED

#: The csv text of a file.
Text = tuple[ObjectKey, str]
#: Bytes of csv above which a file counts as large.
_LARGE = 1 << 20


def _has_header(key: ObjectKey) -> bool:
    """Return whether a file has a header; some feeds have one since 2022-08-11."""
    rule = schema(key.folder.market, key.folder.data_type).header
    return rule == "present" or (rule == "detect" and key.start >= date(2022, 8, 11))


def texts_of(folder: Folder, rows: pl.DataFrame) -> Iterator[Text]:
    """Split the rows of a folder into the csv texts of its files, with their flaws."""
    planted = {flaw.key: flaw for flaw in PLANTED}
    start = pl.col("time").dt.date()
    if folder.partition is Partition.MONTHLY:
        start = start.dt.month_start()
    for (first,), part in rows.group_by(start.alias("start"), maintain_order=True):
        key = ObjectKey(folder, cast(date, first))
        flaw = planted.get(str(key))
        lines = part["line"]
        match flaw.kind if flaw else None:
            case "missing_file":
                continue
            case "placeholder":
                lines = lines.clear()
            case "truncated" if flaw:
                lines = lines.filter(part["time"] < flaw.start.replace(tzinfo=None))
            case "doubled_rows":
                lines = lines.gather([row for row in range(len(lines)) for _ in (1, 2)])
        texts = lines.to_list()
        if _has_header(key):
            texts.insert(0, schema(folder.market, folder.data_type).header_line)
        yield key, "\n".join(texts) + "\n"


def zip_of(key: ObjectKey, text: str) -> bytes:
    """Zip a csv as the archive does, with a fixed time so that the bytes never change."""
    member = zipfile.ZipInfo(key.member, (2025, 8, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3  # Unix, on whatever system this runs
    member.external_attr = 0o644 << 16
    buffer = io.BytesIO()
    data = text.encode()
    with zipfile.ZipFile(buffer, "w") as archive:
        # The archive's level is slow for the few large files.
        archive.writestr(member, data, compresslevel=6 if len(data) < _LARGE else 1)
    return buffer.getvalue()


def checksum_of(key: ObjectKey, data: bytes) -> bytes:
    """Return the text of the ``.CHECKSUM`` object of a zip."""
    # Spot sidecars end without a newline.
    end = "" if key.folder.market is Market.SPOT else "\n"
    return f"{hashlib.sha256(data).hexdigest()}  {key.name}{end}".encode()
