"""Files that are no zips are read, files in the wrong place are named, damage is our error."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
import zipfile
import zlib
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit import errors
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.schemas import load_schemas, schema
from binance_archive_kit.errors import ArchiveKitWarning, ConfigurationError, FileError
from binance_archive_kit.storage.inventory import Form
from binance_archive_kit.storage.store import Store
from binance_archive_kit.storage.zips import BadMemberError, check_member
from tests.support.dialects import keys_of, write, zip_of
from tests.support.pieces import large
from tests.support.stores import (
    assert_same,
    csv_for,
    kline,
    naive_rows,
    other,
    promised,
    put,
    scan_rows,
    schema_of,
    view_of,
    view_rows,
)

FEEDS = sorted(load_schemas())
KEY = kline("BTCUSDT", "2025-07-01")


def place(root: Path, key: ObjectKey, ending: str, csv: bytes) -> str:
    """Put a csv into a store in one of its forms; return its path inside."""
    path = root / f"{str(key).removesuffix('.zip')}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    lower = ending.lower()
    path.write_bytes(
        zip_of(key, csv) if lower == ".zip" else gzip.compress(csv) if lower[-3:] == ".gz" else csv
    )
    return path.relative_to(root).as_posix()


# Forms


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".CSV", ".CSV.GZ", ".ZIP"])
@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: f"{feed[0]}-{feed[1]}")
def test_other_forms_are_read_as_the_zip(
    feed: tuple[str, str], ending: str, tmp_path: Path
) -> None:
    key = keys_of(schema(*feed))[0]  # type: ignore[arg-type]
    csv = csv_for(key)
    write(tmp_path / "zips", key, zip_of(key, csv))
    file = place(tmp_path / "other", key, ending, csv)
    expected = [
        (*row[:5], file, *row[6:])
        for row in promised(naive_rows(tmp_path / "zips", key), schema_of(key))
    ]
    store = bak.store(tmp_path / "other", cache=False)
    assert_same(scan_rows(bak.scan(store, *feed)), expected)
    with bak.connect(store) as con:
        assert_same(view_rows(con, view_of(key)), expected)
        assert con.sql(f"SELECT count(*) FROM {view_of(key)}").fetchall() == [(len(expected),)]
    usual, found = bak.coverage(tmp_path / "zips"), bak.coverage(tmp_path / "other")
    assert found.is_complete is usual.is_complete
    told = ["kind", "start", "end", "missing"]
    assert found.gaps.select(told).equals(usual.gaps.select(told))
    assert store.frame()["proven"].sum() == 0
    assert store.skipped() == []


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_beside_a_zip_nothing_else_is_read(ending: str, tmp_path: Path) -> None:
    put(tmp_path, KEY)
    place(tmp_path, KEY, ending, b"nothing of the kind")
    assert_same(
        scan_rows(bak.scan(tmp_path, "spot", "klines", cache=False)), naive_rows(tmp_path, KEY)
    )
    assert bak.store(tmp_path).skipped() == []


def test_a_zip_that_arrives_takes_the_place_of_the_csv(tmp_path: Path) -> None:
    place(tmp_path, KEY, ".csv", csv_for(KEY, seed=1))
    store = bak.store(tmp_path)
    count = bak.scan(store, "spot", "klines").select(pl.col("file").unique())
    assert count.collect().item().endswith(".csv")
    put(tmp_path, KEY)
    assert count.collect().item() == str(KEY)


def test_a_plan_takes_no_csv_for_the_zip(tmp_path: Path) -> None:
    place(tmp_path, KEY, ".csv", csv_for(KEY))
    place(tmp_path, ObjectKey.parse(str(KEY).replace("07-01", "07-02")), ".ZIP", csv_for(KEY))
    assert Store(tmp_path).inventory.frame([KEY.folder.prefix]).is_empty()


def test_a_large_csv_is_read_in_pieces(tmp_path: Path) -> None:
    key = other("trades", "BTCUSDT", "2025-07-15", "spot")
    row = csv_for(key, 1).decode().strip().split(",")
    csv = "".join(f"{at},{','.join(row[1:])}\n" for at in range(900_000)).encode()
    assert len(csv) > 33 << 20
    for ending in (".csv", ".csv.gz"):
        file = place(tmp_path / ending, key, ending, csv)
        found = bak.scan(tmp_path / ending, "spot", "trades", cache=False).collect()
        assert found["id"].equals(pl.Series("id", range(900_000)))
        assert found["file"].unique().to_list() == [file]


@pytest.mark.parametrize(
    ("ending", "spoil", "said"),
    [
        (".csv", lambda data: data[:-9], "cut off"),
        (".csv.gz", lambda data: data[:-9], "cut off"),
        (".csv.gz", lambda data: data[:-5] + b"?" + data[-4:], "no intact gzip"),
        (".csv.gz", lambda _: b"", "cut off"),
        (".csv.gz", lambda _: b"<html><body>503 Slow Down</body></html>", "no intact gzip"),
    ],
)
def test_a_bad_csv_is_told_with_what_to_do(
    ending: str, spoil: object, said: str, tmp_path: Path
) -> None:
    file = place(tmp_path, KEY, ending, csv_for(KEY))
    (tmp_path / file).write_bytes(spoil((tmp_path / file).read_bytes()))  # type: ignore[operator]
    with pytest.raises(FileError, match=rf"{said}.*unzip it again, or collect the zip") as told:
        bak.scan(tmp_path, "spot", "klines", cache=False).collect()
    assert told.value.file == file


def test_a_key_without_zeros_is_read_once(tmp_path: Path) -> None:
    """The archive has such keys."""
    key = kline("ADABKRW", "2020-08", "1d")
    odd = str(key).replace("2020-08", "2020-8")
    path = tmp_path / odd
    path.parent.mkdir(parents=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(odd.rpartition("/")[2].replace(".zip", ".csv"), csv_for(key, 31))
    path.write_bytes(packed.getvalue())
    lazy = bak.scan(tmp_path, "spot", "klines", cache=False)
    assert lazy.select(pl.len()).collect().item() == 31
    put(tmp_path, key, 30)
    found = lazy.collect()
    assert (found.height, found["file"].unique().to_list()) == (30, [str(key)])


# Files that are skipped

NAME = "BTCUSDT-1h-2025-07-15"
HOME = "data/spot/daily/klines/BTCUSDT/1h/"


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        (f"data/spot/daily/klines/{NAME}.zip", f"move it to {HOME}"),
        (f"data/spot/daily/klines/BTCUSDT/{NAME}.zip", f"move it to {HOME}"),
        (f"{HOME}2025-07-01_2025-07-31/{NAME}.zip", f"move it to {HOME}"),
        (f"spot/daily/klines/BTCUSDT/1h/{NAME}.zip", f"move it to {HOME}"),
        (f"{NAME}.zip", "move it to data/<market>/daily/<data type>/BTCUSDT/1h/"),
        (f"downloads/um/{NAME}.csv", "move it to data/<market>/daily/<data type>/BTCUSDT/1h/"),
        (f"data/spot/monthly/klines/BTCUSDT/1h/{NAME}.zip", f"move it to {HOME}"),
        (f"data/spot/daily/klines/ETHUSDT/1h/{NAME}.zip", f"move it to {HOME}"),
        (f"data/spot/daily/klines/BTCUSDT/1min/{NAME}.zip", f"move it to {HOME}"),
        (
            f"data/spot/daily/aggTrades/BTCUSDT/{NAME}.zip",
            "move it to data/spot/daily/<data type>/BTCUSDT/1h/",
        ),
        (f"{HOME}{NAME}.Zip", "let it end in .zip"),
        (f"{HOME}BTCUSDT-1h-2025-13-15.zip", "rename it"),
        ("data/spot/daily/klines/BTCUSDT/1M/BTCUSDT-1M-2025-07.zip", "intervals are 1s, 1m"),
        (f"{HOME}{NAME} (1).zip", "name it <SYMBOL>"),
        (
            "data/futures/um/daily/trades/BTCUSDT-trades-2025-07-15.zip",
            "move it to data/futures/um/daily/trades/BTCUSDT/",
        ),
    ],
)
def test_a_skipped_file_is_named_with_advice(path: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(zip_of(KEY, csv_for(KEY)))
    store = bak.store(tmp_path)
    [skipped] = store.skipped()
    assert skipped.path == path
    assert advice in skipped.advice
    assert "1 files skipped" in repr(store)
    assert path in store._repr_html_()
    with pytest.raises(ConfigurationError, match="1 files are skipped"):
        bak.scan(store, "spot", "klines").collect()


def test_advice_that_is_followed_helps(tmp_path: Path) -> None:
    wrong = tmp_path / f"data/spot/daily/klines/{NAME}.zip"
    key = kline("BTCUSDT", "2025-07-15")
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(zip_of(key, csv_for(key)))
    [skipped] = bak.store(tmp_path).skipped()
    home = tmp_path / skipped.advice.removeprefix("move it to ")
    home.mkdir(parents=True)
    wrong.rename(home / wrong.name)
    assert bak.store(tmp_path).skipped() == []
    assert bak.load_klines(tmp_path, "BTCUSDT", "1h").height == 24


@pytest.mark.parametrize(
    "path",
    ["results.csv", "data/mine.csv", "notebooks/backtest-2025-07-15.csv", "README.md", "a.zip"],
)
def test_what_is_not_the_archives_is_no_alarm(path: str, tmp_path: Path) -> None:
    put(tmp_path, KEY)
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(b"whatever")
    (tmp_path / "quarantine/data/spot").mkdir(parents=True)
    (tmp_path / "quarantine/data/spot/BTCUSDT-1h-2025-07-02.zip").write_bytes(b"")
    assert bak.store(tmp_path).skipped() == []


# Bombs and damage


def claiming(size: int, packed: bytes = b"\x03\x00") -> bytes:
    """A zip whose directory says a size, in zip64 fields."""
    name = KEY.member.encode()
    extra = struct.pack("<HHQQ", 1, 16, size, len(packed))
    crc = zlib.crc32(b"")
    local = struct.pack(
        "<4s5H3L2H", b"PK\3\4", 45, 0, 8, 0, 0, crc, 2**32 - 1, 2**32 - 1, len(name), 20
    )
    body = local + name + extra + packed
    entry = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 8, 0, 33, crc, 2**32 - 1, 2**32 - 1, len(name), 20,
        0, 0, 0, 0, 0,
    ) + name + extra  # fmt: skip
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(body), 0)
    return body + entry + end


@pytest.mark.parametrize("size", [2**60, 2**63 - 1, 2**64 - 1, 2**40, 5 << 30])
def test_a_zip_that_claims_too_much_is_rejected_at_once(size: int, tmp_path: Path) -> None:
    data = claiming(size)
    write(tmp_path, KEY, data)
    with pytest.raises(errors.UnreadableZip, match=r"its directory states|no readable zip"):
        bak.scan(tmp_path, "spot", "klines", cache=False).collect()
    with pytest.raises(BadMemberError):
        check_member(io.BytesIO(data), len(data), KEY.member)


def test_a_bomb_is_rejected_before_it_is_inflated(tmp_path: Path) -> None:
    """As much as 900 MB out of 900 KB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(8 << 20)
    crc, size, packed = 0, 0, []
    for _ in range(110):
        packed.append(packer.compress(zeros))
        crc, size = zlib.crc32(zeros, crc), size + len(zeros)
    body = b"".join([*packed, packer.flush()])
    name = KEY.member.encode()
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(body), size, len(name), 0)
    entry = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 33, crc, len(body), size, len(name),
        0, 0, 0, 0, 0, 0,
    ) + name  # fmt: skip
    at = len(local) + len(name) + len(body)
    data = local + name + body + entry
    data += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry), at, 0)
    write(tmp_path, KEY, data)
    with pytest.raises(errors.UnreadableZip, match="more than 200 times"):
        bak.scan(tmp_path, "spot", "klines", cache=False).collect()
    # One that hides its size is noticed when it has given more than it said.
    hidden = data.replace(struct.pack("<LL", len(body), size), struct.pack("<LL", len(body), 99))
    write(tmp_path, KEY, hidden)
    with pytest.raises(errors.UnreadableZip, match="recorded size"):
        bak.scan(tmp_path, "spot", "klines", cache=False).collect()
    path = place(tmp_path, KEY, ".csv.gz", b"")
    (tmp_path / str(KEY)).unlink()
    (tmp_path / path).write_bytes(gzip.compress(bytes(300 << 20)))
    with pytest.raises(FileError, match=r"more than .* bytes"):
        bak.scan(tmp_path, "spot", "klines", cache=False).collect()


def test_a_month_of_rows_that_are_all_alike_is_read(tmp_path: Path) -> None:
    key = other("trades", "BTCUSDT", "2025-07-15", "spot")
    row = csv_for(key, 1)
    csv = row * ((100 << 20) // len(row))
    path = write(tmp_path, key, zip_of(key, csv))
    assert path.stat().st_size < 1 << 20
    lazy = bak.scan(tmp_path, "spot", "trades", cache=False)
    rows = csv.count(b"\n")
    assert lazy.select(pl.len()).collect().item() == rows
    assert lazy.select("time").collect().height == rows


@st.composite
def damaged(draw: st.DrawFn) -> tuple[ObjectKey, str, bytes]:
    """Draw a file with some bytes flipped, inserted or cut: of its zip, or of its csv."""
    found = schema(*draw(st.sampled_from(FEEDS)))
    key = draw(st.sampled_from(keys_of(found)))
    ending = draw(st.sampled_from(list(Form)))
    csv = csv_for(key, draw(st.integers(0, 12)), draw(st.integers(0, 9)))
    inside = draw(st.booleans())
    data = csv if inside else _packed(key, ending, csv)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["flip", "cut", "insert", "drop"])):
            case "flip" if at < len(data):
                data = data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
            case "cut":
                data = data[:at]
            case "insert":
                more = draw(
                    st.sampled_from([b"\n", b",", b'"', b"\x00", b"9", b"-", b"e", b"\xff"])
                )
                data = data[:at] + more + data[at:]
            case "drop":
                data = data[:at] + data[at + draw(st.integers(1, 9)) :]
    return key, ending, _packed(key, ending, data) if inside else data


def _packed(key: ObjectKey, ending: str, csv: bytes) -> bytes:
    if ending == Form.ZIP:
        return zip_of(key, csv)
    return gzip.compress(csv, mtime=0) if ending == Form.GZIP else csv


@settings(max_examples=300)
@given(damaged())
def test_damage_is_our_error_or_none_and_all_ways_to_read_agree(
    drawn: tuple[ObjectKey, str, bytes],
) -> None:
    key, ending, data = drawn
    market, data_type = key.folder.market, key.folder.data_type
    with TemporaryDirectory() as folder:
        path = Path(folder, f"{str(key).removesuffix('.zip')}{ending}")
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        outcomes = []
        for cut in (False, True):
            with large(1 << 20) if cut else nullcontext():
                try:
                    frame = bak.scan(folder, market, data_type, cache=False).collect()
                    outcomes.append((None, scan_rows(frame)))
                except FileError:
                    outcomes.append((True, []))
        assert outcomes[0] == outcomes[1] or _has_nan(outcomes)
        # Skipping gives what raising gives: the rows of the file, or none.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ArchiveKitWarning)
            store = bak.store(folder, cache=False, on_error="skip")
            count = bak.scan(store, market, data_type).select(pl.len()).collect().item()
        assert count == len(outcomes[0][1])


def _has_nan(outcomes: list[tuple[object, list[tuple[object, ...]]]]) -> bool:
    return repr(outcomes[0]) == repr(outcomes[1])
