"""Hostile files and names are read as they are or refused, in bounded time and memory."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import ArchiveKitWarning, ConfigurationError
from tests.support.bucket import with_sidecars
from tests.support.dialects import write, zip_of
from tests.support.s3_server import LocalS3
from tests.support.stores import csv_for, kline, schema_of

KEY = kline("BTCUSDT", "2025-07-01")
_GOOD, _HEADER = csv_for(KEY), schema_of(KEY).header_line.encode() + b"\n"
_ROWS = _GOOD.splitlines(keepends=True)
_SIZE = 24 << 20
#: Small zips of much text, and the rows that they have; none if they are refused.
CONTENTS = {
    "newlines": (b"\n" * _SIZE, 0),
    "newlines before the rows": (b"\n" * _SIZE + _GOOD, 24),
    "newlines among the rows": (_ROWS[0] + b"\n" * _SIZE + b"".join(_ROWS[1:]), 24),
    "newlines after the rows": (_GOOD + b"\r\n" * (_SIZE // 2), 24),
    "newlines after the header": (_HEADER + b"\n" * _SIZE + _GOOD, 24),
    "blanks": (b" " * _SIZE, None),
    "commas": (b"," * _SIZE, None),
    "quotes": (b'"' * _SIZE, None),
    "one number": (b"1" * _SIZE, None),
    "one word": (b"a" * _SIZE, None),
    "no text": (bytes(_SIZE), None),
}
_CHILD = """
import resource, sys
import polars as pl
import binance_archive_kit as bak
from binance_archive_kit.errors import FileError
for folder in sys.argv[1:]:
    scan = bak.scan(folder, "spot", "klines", cache=False)
    for ask in (scan.select(pl.len()), scan):
        try:
            found = ask.collect()
        except FileError as error:
            print(None)
        else:
            print(found.item() if ask is not scan else found.height)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_small_zips_of_much_text_take_little_memory(tmp_path: Path) -> None:
    expected = []
    for name, (text, rows) in CONTENTS.items():
        write(tmp_path / name, KEY, zip_of(KEY, text))
        expected += [str(rows)] * 2
    # Once they took up to 16 GB, and minutes.
    *found, peak = subprocess.run(
        [sys.executable, "-c", _CHILD, *(str(tmp_path / name) for name in CONTENTS)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.split()
    assert found == expected
    assert int(peak) < 1_500_000


def test_very_many_columns_are_read(tmp_path: Path) -> None:
    names = b",".join(b"x%d" % number for number in range(20_000))
    header = _HEADER[:-1] + b"," + names + b"\n"
    text = header + b"".join(row[:-1] + b",1" * 20_000 + b"\n" for row in _ROWS)
    write(tmp_path, KEY, zip_of(KEY, text))
    write(tmp_path / "plain", KEY, zip_of(KEY, _GOOD))
    scans = [
        bak.scan(root, "spot", "klines", cache=False) for root in (tmp_path, tmp_path / "plain")
    ]
    assert scans[0].collect().equals(scans[1].collect())


#: Symbols that mean something in SQL, HTML, sheets, shells, formats, paths and Matplotlib.
SYMBOLS = [
    *("$X^2$USDT", "=HYPERLINK(1;2)", "+1+1", "@SUM(1)", "-RF", "--", "__PROTO__", "_HIDDENUSDT"),
    *("CON", "NUL.TXT", "A.", "A..B", ";RM", "$(TOUCH,X)", "${HOME}", "%S%N", "{0.__CLASS__}"),
    *("\u202eTDSU", "E\u0301USDT", "\u00c9USDT", "界" * 70, "&AMP;USDT", "#FRAG", "A&B=C"),
    *(
        "%2F..%2F",
        "~ROOT",
        "!X",
        "\u200b",
        "\U0001f600USDT",
        "X.ZIP",
        "X.CSV",
        "X.CHECKSUM",
        "DATA",
    ),
    *("NULL", "NAN", "1H", "SLOWDOWN", "NOSUCHKEY"),
]


def test_symbols_that_mean_something_elsewhere_are_only_symbols(tmp_path: Path) -> None:
    zips = {
        str(key): zip_of(key, csv_for(key)) for key in (kline(s, "2025-07-01") for s in SYMBOLS)
    }
    store = tmp_path / "store"
    with LocalS3(with_sidecars(zips)) as server:
        result = bak.collect(
            markets=["spot"],
            symbols="*",
            data_types=["klines"],
            intervals={"klines": ["1h"]},
            start="2025-07-01",
            end="2025-07-01",
            output_directory=store,
            endpoint_url=server.url,
        )
    assert result.outcome == "complete"
    found = {path.relative_to(store).as_posix() for path in (store / "data").rglob("*.zip")}
    assert {name for name in found if (store / name).is_file()} == set(zips)
    opened = bak.store(store, cache=False)
    assert set(opened.frame()["symbol"]) == set(SYMBOLS)
    assert opened.skipped() == []
    with bak.connect(opened) as con:
        for symbol in SYMBOLS:
            rows = bak.scan(opened, "spot", "klines", symbols=[symbol]).collect()
            assert (rows.height, set(rows["symbol"])) == (24, {symbol})
            where = f"symbol IN ('{symbol}', '\"', 'NOTHING')"
            [(count,)] = con.sql(f"SELECT count(*) FROM spot_klines WHERE {where}").fetchall()
            assert count == 24
    built = bak.store(store)
    built.build()
    with bak.connect(built) as con:
        where = f"symbol IN ('{'界' * 70}', 'X')"
        assert con.sql(f"SELECT count(close) FROM spot_klines WHERE {where}").fetchall() == [(24,)]
    report = bak.coverage(opened)
    assert set(report.streams["symbol"]) == set(SYMBOLS)
    assert "&AMP;USDT" not in report._repr_html_()
    bak.to_parquet(opened, tmp_path / "lake")
    lake = pl.scan_parquet(tmp_path / "lake/market=*/**/*.parquet").select("symbol").collect()
    assert set(lake["symbol"].cast(pl.String)) == set(SYMBOLS)


@pytest.mark.parametrize(
    "name",
    ["a[1]b", "a{x,y}*", "it's", "<b>x</b>", "a'; DROP TABLE x; --", "100%41#?", "{0}%s", "é ."],
)
def test_a_store_may_have_any_name(name: str, tmp_path: Path) -> None:
    root = tmp_path / name
    write(root, KEY, zip_of(KEY, _GOOD))
    store = bak.store(root)
    store.build()
    with bak.connect(bak.store(root)) as con:
        assert con.sql("SELECT count(*) FROM spot_klines").fetchall() == [(24,)]
    for html in (store._repr_html_(), bak.coverage(root)._repr_html_()):
        assert "<b>x</b>" not in html
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArchiveKitWarning)
        lake = tmp_path / "lakes" / name
        assert [bak.to_parquet(root, lake).written for _ in (1, 2)] == [1, 0]


def test_a_database_whose_path_duckdb_would_cut_is_refused(tmp_path: Path) -> None:
    write(tmp_path, KEY, zip_of(KEY, _GOOD))
    with pytest.raises(ConfigurationError, match=r"^database: .*'\?'"):
        bak.connect(tmp_path, database=tmp_path / "mine?.duckdb")
