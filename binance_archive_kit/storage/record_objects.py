"""Records of a store in object storage: their names, and their content as Parquet and JSON.

Each object is written once and never changed. What holds is the union of all of them; of two
records of one file, the later one counts. Each has a CRC-32 of its content, unless an older
version has written it: a changed byte may leave it readable, and another digest in it.
"""

from __future__ import annotations

import json
import re
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.storage.layout import PRIVATE
from binance_archive_kit.storage.proof import Proof

#: The folder of all records, and that of the documents of runs.
RECORDS = f"{PRIVATE}/records/"
RUNS = f"{RECORDS}runs/"
#: Of the objects; to be raised whenever they change.
VERSION = 1
#: Columns of a record: of a proof, whose stamp has a size and an inode; or, with a `reason`, of an
#: object that the archive lacks. `forgotten` deletes the earlier records of the same kind and key.
SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "size": pa.int64(),
        "inode": pa.int64(),
        "sha256": pa.string(),
        "etag": pa.string(),
        "proven_by": pa.string(),
        "proven_at": pa.string(),
        "recorded_at": pa.int64(),
        "reason": pa.string(),
        "detail": pa.string(),
        "forgotten": pa.bool_(),
    }
)
_VERSION = b"binance_archive_kit.records"
_REPLACES = b"binance_archive_kit.replaces"
_CRC = b"binance_archive_kit.crc"
#: The part of a document with its checksum: an object, as older versions expect of every part.
_CHECK = "check"
_PARTS = {"selections", "selected", "unfinished"}
_OTHER_CRC = "its checksum does not match"
_ID = r"\d{8}T\d{12}-[0-9a-f]{8}"
_NAME = re.compile(rf"([^/]+/(?:[^/]+/)+)([^/~]+)~([^/~]+)~({_ID})\.parquet")
_RUN = re.compile(rf"{_ID}\.json")
#: A symbol may have any character but those that no key can have.
_ESCAPES = {"~": "%7E", "%": "%25"}


class DamagedRecordError(Exception):
    """An object has no records; the message is the reason."""


class NewerRecordError(Exception):
    """An object was written by a newer version of this package; the message has its format."""


@dataclass(frozen=True, slots=True)
class RecordName:
    """The name of an object of proofs.

    Attributes
    ----------
    feed : str
        Market, partition and data type, as in keys; ends in ``/``.
    first, last : str
        The first and the last symbol in it.
    id : str
        Begins with the time of its creation (UTC).
    """

    feed: str
    first: str
    last: str
    id: str

    @classmethod
    def parse(cls, text: str) -> RecordName | None:
        """Parse the path of an object below `RECORDS`; None if it is no object of proofs."""
        found = _NAME.fullmatch(text)
        if found is None:
            return None
        feed, first, last, id_ = found.groups()
        return cls(feed, _unescaped(first), _unescaped(last), id_)

    def __str__(self) -> str:
        """Return the path below `RECORDS`."""
        return f"{self.feed}{_escaped(self.first)}~{_escaped(self.last)}~{self.id}.parquet"

    def may_have(self, symbols: Iterable[str]) -> bool:
        """Return whether one of some symbols may be among its own."""
        return any(self.first <= symbol <= self.last for symbol in symbols)


def is_run(name: str) -> bool:
    """Return whether a name is that of a run's document."""
    return bool(_RUN.fullmatch(name))


def new_id() -> str:
    """Return a new id, which begins with the time (UTC)."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}"


def feed_of(prefix: str) -> tuple[str, str]:
    """Return feed and symbol of a key or a prefix of keys; empty where it names none.

    >>> feed_of("data/futures/um/daily/trades/BTCUSDT/BTCUSDT-trades-2025-07-15.zip")
    ('futures/um/daily/trades/', 'BTCUSDT')
    >>> feed_of("data/spot/"), feed_of("data/")
    (('spot/', ''), ('', ''))
    """
    parts = prefix.removeprefix("data/").split("/")
    for at, part in enumerate(parts[:-1]):
        if part in _PARTITIONS and at + 2 < len(parts):
            return f"{'/'.join(parts[: at + 2])}/", parts[at + 2] if at + 3 < len(parts) else ""
    return f"{'/'.join(parts[:-1])}/" if len(parts) > 1 else "", ""


_PARTITIONS = frozenset(Partition)


def table_of(proofs: Sequence[Proof], recorded_at: int) -> pa.Table:
    """Return records of proofs, sorted by key.

    Parameters
    ----------
    proofs : sequence of Proof
    recorded_at : int
        The time now, in nanoseconds since 1970 UTC.
    """
    rows = sorted(proofs, key=lambda proof: proof.key)
    columns = {
        "key": [row.key for row in rows],
        "size": [row.stamp.size for row in rows],
        "inode": [row.stamp.inode for row in rows],
        "sha256": [row.sha256 for row in rows],
        "etag": [row.etag for row in rows],
        "proven_by": [row.by.value for row in rows],
        "proven_at": [row.proven_at for row in rows],
        "recorded_at": [recorded_at] * len(rows),
        "reason": [None] * len(rows),
        "detail": [None] * len(rows),
        "forgotten": [False] * len(rows),
    }
    return pa.table(columns, SCHEMA)


def forgotten_table(keys: Iterable[str], recorded_at: int) -> pa.Table:
    """Return records that delete the proofs of some keys."""
    rows = [{"key": key, "recorded_at": recorded_at, "forgotten": True} for key in sorted(keys)]
    return pa.Table.from_pylist(rows, SCHEMA)


def missing_table(missing: Mapping[str, tuple[str, str] | None], recorded_at: int) -> pa.Table:
    """Return records of objects that the archive lacks: detail and reason by key.

    None deletes an earlier record: the archive has the object.
    """
    rows = [
        {
            "key": key,
            "recorded_at": recorded_at,
            "detail": value and value[0],
            "reason": value[1] if value else "",
            "forgotten": value is None,
        }
        for key, value in sorted(missing.items())
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def newest(tables: Iterable[pa.Table]) -> pa.Table:
    """Merge records: of each file and kind, the latest one, sorted by key.

    Those that delete earlier ones stay: an index may have the earlier ones.
    """
    table = pa.concat_tables(tables)
    table = table.append_column("kind", pc.is_null(table["reason"]))
    table = table.sort_by([(name, "ascending") for name in ("key", "kind", "recorded_at")])
    if len(table) > 1:
        keys, kinds = table["key"].combine_chunks(), table["kind"].combine_chunks()
        others = (pc.not_equal(each[:-1], each[1:]) for each in (keys, kinds))
        table = table.filter(pa.concat_arrays([pc.or_(*others), pa.array([True])]))
    return table.drop_columns("kind")


def name_of(table: pa.Table) -> RecordName:
    """Return a new name for records of one feed, which are sorted by key and not empty."""
    feed, first = feed_of(table["key"][0].as_py())
    # Keys sort by their bytes: of symbols of which one begins with the other, too.
    symbols = {feed_of(key)[1] for key in table["key"].to_pylist()}
    return RecordName(feed, min(symbols, default=first), max(symbols, default=first), new_id())


def encode(table: pa.Table, replaces: Sequence[str] = ()) -> bytes:
    """Return records as Parquet, with the names of the objects that these replace."""
    names = json.dumps(list(replaces)).encode()
    metadata = {_VERSION: str(VERSION), _REPLACES: names, _CRC: str(_crc_of(table, names))}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    return bytes(sink.getvalue())


def decode(data: bytes) -> tuple[pa.Table, list[str]]:
    """Return the records in Parquet, and the names of the objects that they replace.

    Raises
    ------
    DamagedRecordError
        If it has no records.
    NewerRecordError
        If a newer version has written it.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
        metadata = table.schema.metadata or {}
        version = int(metadata[_VERSION])
        replaces = json.loads(metadata[_REPLACES])
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, pa.ArrowException) else ""
        raise DamagedRecordError(reason or "it is not a Parquet file of records") from None
    if version > VERSION:
        raise NewerRecordError(str(version))
    try:
        table = table.select(SCHEMA.names).cast(SCHEMA).replace_schema_metadata(None)
        valid = all(isinstance(name, str) for name in replaces) and _is_valid(table)
        crc = str(_crc_of(table, metadata[_REPLACES])).encode()
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        raise DamagedRecordError("it has other columns than records")
    if metadata.get(_CRC, crc) != crc:
        raise DamagedRecordError(_OTHER_CRC)
    return table, replaces


def _crc_of(table: pa.Table, replaces: bytes) -> int:
    """Return the CRC-32 of records, and of the names that they replace in JSON."""
    crc = zlib.crc32(replaces)
    for column in table.columns:
        values = pc.fill_null(column.cast(pa.string()), "\0").to_pylist()
        crc = zlib.crc32("\n".join(values).encode(), crc)
    return crc


def _is_valid(table: pa.Table) -> bool:
    """Return whether all values are those of records."""
    names = ("key", "recorded_at", "forgotten")
    if any(table[name].null_count for name in names):
        return False
    proofs = table.filter(pc.and_(pc.invert(table["forgotten"]), pc.is_null(table["reason"])))
    needed = ("size", "inode", "sha256", "proven_by", "proven_at")
    return not any(proofs[name].null_count for name in needed) and bool(
        pc.all(pc.equal(pc.utf8_length(proofs["sha256"]), 64), min_count=0).as_py()
        and pc.all(pc.greater_equal(proofs["size"], 0), min_count=0).as_py()
        and pc.all(pc.starts_with(table["key"], "data/"), min_count=0).as_py()
    )


def decode_document(data: bytes) -> dict[str, dict[str, object]]:
    """Return the document of a run: objects by the names of their parts.

    Raises
    ------
    DamagedRecordError
        If it is not such a document.
    NewerRecordError
        If a newer version has written it.
    """
    try:
        document = json.loads(data)
        version, check = document.pop("version"), document.pop(_CHECK, None)
        if isinstance(version, int) and version > VERSION:
            raise NewerRecordError(str(version))
        valid = version == VERSION and all(map(_is_part, document.items()))
        # Of the name of the checksum, too, a byte may have changed.
        valid &= check is not None or document.keys() <= _PARTS
        is_sound = check in (None, _check_of(document))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        valid = False
    if not valid:
        raise DamagedRecordError("it is not the JSON document of a run")
    if not is_sound:
        raise DamagedRecordError(_OTHER_CRC)
    return document  # type: ignore[no-any-return]


def _is_part(part: tuple[str, object]) -> bool:
    """Return whether a part of a document has the values that its name promises."""
    name, values = part
    if not isinstance(values, dict):
        return False
    if name == "unfinished":
        return all(isinstance(value, str | None) for value in values.values())
    return name != "selected" or all(map(_is_pair, values.values()))


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and [type(each) for each in value] == [str, str]


def encode_document(document: dict[str, dict[str, object]]) -> bytes:
    """Return the document of a run as JSON."""
    content = {"version": VERSION, _CHECK: _check_of(document), **document}
    return json.dumps(content, ensure_ascii=False).encode()


def _check_of(document: dict[str, dict[str, object]]) -> dict[str, int]:
    return {"crc32": zlib.crc32(json.dumps(document, sort_keys=True).encode())}


def _escaped(symbol: str) -> str:
    return "".join(_ESCAPES.get(letter, letter) for letter in symbol)


def _unescaped(text: str) -> str:
    return text.replace("%7E", "~").replace("%25", "%")
