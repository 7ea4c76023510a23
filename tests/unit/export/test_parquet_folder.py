"""Exports to Parquet: what other engines read, and that the target follows the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

import binance_archive_kit as bak
from binance_archive_kit.export import month_writer, parquet_folder
from tests.support.candles import day
from tests.support.stores import kline, other, put

GLOB = "market=*/**/*.parquet"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two months of candles of two symbols, and a feed without intervals."""
    root = tmp_path / "store"
    for symbol in ("QQAUSDT", "QQBUSDT"):
        for date in ("2025-06-30", "2025-07-01", "2025-07-02"):
            day(root, symbol, date, "1h")
        day(root, symbol, "2025-07-01", "4h")
    put(root, other("metrics", "QQAUSDT", "2025-07-01"), 288)
    return root


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def files_of(lake: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of each Parquet file of a target."""
    return {
        path.relative_to(lake).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(lake.rglob("*.parquet"))
    }


def scanned(root: Path, **choice: Any) -> pl.DataFrame:
    frame = bak.scan(root, "spot", "klines", **choice).collect()
    return frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def exported(lake: Path) -> pl.DataFrame:
    """Read the candles of a target, with the columns of a scan, in its order."""
    frame = pl.read_parquet(
        lake / "market=spot/data_type=klines/**/*.parquet",
        hive_partitioning=True,
        try_parse_hive_dates=False,
    )
    frame = frame.with_columns(pl.col(pl.Categorical).cast(pl.String))
    return frame.sort("symbol", "interval", "open_time")


def matches(root: Path, lake: Path, **choice: Any) -> bool:
    expected = scanned(root, **choice).sort("symbol", "interval", "open_time")
    return exported(lake).select(expected.columns).equals(expected)


# Reading it back


def test_rows_of_tables_are_exported(root: Path, lake: Path) -> None:
    store = bak.store(root)
    store.build()
    bak.to_parquet(store, lake)
    assert store.last_scan is not None
    assert store.last_scan.cached
    assert not store.last_scan.opened
    assert matches(root, lake)


def test_the_layout_is_known_to_other_engines(root: Path, lake: Path) -> None:
    result = bak.to_parquet(root, lake)
    assert list(files_of(lake)) == [
        "_sources.parquet",
        "market=futures_um/data_type=metrics/month=2025-07/part-0.parquet",
        "market=spot/data_type=klines/interval=1h/month=2025-06/part-0.parquet",
        "market=spot/data_type=klines/interval=1h/month=2025-07/part-0.parquet",
        "market=spot/data_type=klines/interval=4h/month=2025-07/part-0.parquet",
    ]
    assert (result.written, result.kept, result.removed) == (4, 0, 0)
    assert result.rows == 2 * (72 + 6) + 288
    assert result.bytes == sum((lake / file).stat().st_size for file in result.files["file"])
    assert "4 files written, 0 kept" in repr(result)
    assert "<table" in result._repr_html_()


def test_polars_reads_the_rows_of_a_scan(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake)
    assert matches(root, lake)
    schema = pl.read_parquet_schema(
        lake / "market=spot/data_type=klines/interval=1h/month=2025-07/part-0.parquet"
    )
    feed = bak.scan(root, "spot", "klines").collect_schema()
    own = {name: dtype for name, dtype in feed.items() if name not in ("market", "interval")}
    assert list(schema) == list(own)
    for name in ("open_time", "close_time", "open", "count", "date"):
        assert schema[name] == own[name]


def test_duckdb_reads_the_rows_of_a_scan(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake)
    feed = f"{lake}/market=spot/data_type=klines/**/*.parquet"
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        found = con.sql(
            f"SELECT symbol, interval, open_time, close, count, market, month "
            f"FROM read_parquet('{feed}', hive_partitioning = true) ORDER BY ALL"
        )
        types = dict(zip(found.columns, map(str, found.types), strict=True))
        rows = found.fetchall()
        july = con.sql(
            f"SELECT count(*) FROM read_parquet('{feed}', hive_partitioning = true) "
            "WHERE month = '2025-07' AND interval = '4h'"
        ).fetchall()
    assert types["open_time"] == "TIMESTAMP WITH TIME ZONE"
    assert (types["close"], types["count"], types["month"]) == ("DOUBLE", "BIGINT", "VARCHAR")
    expected = scanned(root).sort("symbol", "interval", "open_time")
    columns = ["symbol", "interval", "open_time", "close", "count", "market"]
    assert [row[:-1] for row in rows] == expected.select(columns).rows()
    assert {row[-1] for row in rows} == {"2025-06", "2025-07"}
    assert july == [(12,)]


def test_pyarrow_reads_the_rows_of_a_scan(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake)
    folder = lake / "market=spot" / "data_type=klines"
    table = ds.dataset(folder, partitioning="hive").to_table()
    expected = scanned(root).sort("symbol", "interval", "open_time")
    found = pl.DataFrame(table).with_columns(pl.col(pl.Categorical).cast(pl.String))
    found = found.sort("symbol", "interval", "open_time")
    assert str(table.schema.field("open_time").type) == "timestamp[us, tz=UTC]"
    assert found["close"].equals(expected["close"])
    assert found["interval"].equals(expected["interval"])
    table = ds.dataset(folder, partitioning="hive").to_table(filter=ds.field("interval") == "4h")
    assert table.num_rows == 12


def test_pandas_reads_the_rows_of_a_scan(root: Path, lake: Path) -> None:
    pd = pytest.importorskip("pandas")
    bak.to_parquet(root, lake)
    folder = lake / "market=spot" / "data_type=klines"
    expected = scanned(root).sort("symbol", "interval", "open_time")
    found = pd.read_parquet(folder).astype({"symbol": str, "interval": str})
    found = found.sort_values(["symbol", "interval", "open_time"])
    assert str(found["open_time"].dtype) == "datetime64[us, UTC]"
    assert found["close"].tolist() == expected["close"].to_list()
    assert found["interval"].tolist() == expected["interval"].to_list()


# The footer and the list of sources


def metadata(path: Path) -> dict[str, str]:
    found = pq.read_metadata(path).metadata
    prefix = "binance_archive_kit."
    return {
        key.decode().removeprefix(prefix): value.decode()
        for key, value in found.items()
        if key.decode().startswith(prefix)
    }


def test_the_footer_says_where_the_rows_come_from(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake)
    file = "market=spot/data_type=klines/interval=1h/month=2025-07/part-0.parquet"
    footer = metadata(lake / file)
    assert footer["version"] == bak.__version__
    assert footer["sources"] == "4"
    assert footer["verdict"] == "Complete: 100 % of the rows due are present (96 of 96)"
    sources = pl.read_parquet(lake / "_sources.parquet")
    own = sources.filter(pl.col("target") == file)
    assert set(own["sources_sha256"]) == {footer["sources_sha256"]}
    assert own["path"].to_list() == sorted(own["path"])
    assert own["rows"].to_list() == [24] * 4
    assert own["size"].to_list() == [(root / path).stat().st_size for path in own["path"]]
    whole = metadata(lake / "_sources.parquet")
    assert whole["sources"] == str(sources["path"].n_unique()) == "9"
    assert whole["version"] == bak.__version__


def test_gaps_are_in_the_verdict(root: Path, lake: Path) -> None:
    day(root, "QQBUSDT", "2025-07-02", "1h", edit=lambda lines: lines[:7] + lines[9:])
    result = bak.to_parquet(root, lake)
    rows = result.files.filter(~pl.col("complete")).rows(named=True)
    assert [row["month"] for row in rows] == ["2025-07"]
    assert rows[0]["verdict"].startswith(
        "Incomplete: 97.91 % of the rows due are present (94 of 96); 1 hole"
    )
    assert rows[0]["coverage"] == pytest.approx(94 / 96)
    assert not result.is_complete
    assert result.verdict.startswith("Incomplete: 1 of 4 files have gaps")
    assert "Incomplete" in metadata(lake / "_sources.parquet")["verdict"]


# Following the store


def test_an_unchanged_month_is_kept(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake)
    before = files_of(lake)
    result = bak.to_parquet(root, lake)
    assert (result.written, result.kept, result.removed) == (0, 4, 0)
    assert files_of(lake) == before
    assert not [path for path in lake.iterdir() if path.name == ".export.tmp"]


def test_only_the_months_of_changed_files_are_written(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake)
    before = files_of(lake)
    day(root, "QQCUSDT", "2025-07-01", "1h")
    day(root, "QQAUSDT", "2025-06-30", "1h", edit=lambda lines: lines[1:])
    result = bak.to_parquet(root, lake)
    assert (result.written, result.kept) == (2, 2)
    changed = {file for file, stamp in files_of(lake).items() if stamp != before[file]}
    assert changed == {
        "_sources.parquet",
        "market=spot/data_type=klines/interval=1h/month=2025-06/part-0.parquet",
        "market=spot/data_type=klines/interval=1h/month=2025-07/part-0.parquet",
    }
    assert matches(root, lake)


def test_months_without_files_are_removed_and_others_stay(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake)
    foreign = lake / "market=spot" / "data_type=klines" / "interval=1h" / "month=2025-06"
    (foreign / "notes.txt").write_text("mine")
    mine = lake / "market=spot" / "data_type=klines" / "interval=1h" / "month=2020-01"
    mine.mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(mine / "part-0.parquet")
    for path in root.rglob("*2025-06-30.zip"):
        path.unlink()
    for path in root.rglob("*4h*.zip"):
        path.unlink()
    result = bak.to_parquet(root, lake)
    assert (result.written, result.kept, result.removed) == (0, 2, 2)
    assert (foreign / "notes.txt").exists()
    assert not (foreign / "part-0.parquet").exists()
    assert (mine / "part-0.parquet").exists()
    assert not (lake / "market=spot" / "data_type=klines" / "interval=4h").exists()
    targets = set(pl.read_parquet(lake / "_sources.parquet")["target"])
    assert targets == set(result.files.filter(pl.col("state") != "removed")["file"])


def test_only_selected_folders_are_touched(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake, "spot", "klines", intervals="1h")
    assert matches(root, lake, intervals="1h")
    bak.to_parquet(root, lake, "spot", intervals="4h", start="2025-07-01")
    bak.to_parquet(root, lake, "futures_um")
    assert matches(root, lake)
    assert len(files_of(lake)) == 5
    for path in [*root.rglob("*2025-06-30.zip"), *root.rglob("*4h-2025*.zip")]:
        path.unlink()
    result = bak.to_parquet(root, lake, "spot", start="2025-07-01")
    # A month before the range, and a feed that is not selected, are as they were.
    assert result.files.filter(pl.col("state") == "removed")["interval"].to_list() == ["4h"]
    assert len(files_of(lake)) == 4
    assert set(pl.read_parquet(lake / "_sources.parquet")["target"]) == {*files_of(lake)} - {
        "_sources.parquet"
    }


def test_a_range_limits_the_rows_of_a_month(root: Path, lake: Path) -> None:
    limits = {"start": "2025-07-01 12:00", "end": datetime(2025, 7, 2, 3, tzinfo=UTC)}
    bak.to_parquet(root, lake, "spot", "klines", symbols="QQA*", **limits)
    assert matches(root, lake, symbols="QQAUSDT", **limits)
    assert bak.to_parquet(root, lake, "spot", "klines", symbols="QQA*", **limits).kept == 2
    # Another selection replaces the rows of its months.
    bak.to_parquet(root, lake, "spot", "klines", symbols="QQBUSDT")
    assert matches(root, lake, symbols="QQBUSDT")


def test_options_decide_the_rows(root: Path, lake: Path) -> None:
    put(root, kline("QQAUSDT", "2025-07"), 24 * 31, seed=3)
    bak.to_parquet(root, lake, "spot", "klines")
    assert matches(root, lake)
    result = bak.to_parquet(root, lake, "spot", "klines", prefer="monthly")
    assert matches(root, lake, prefer="monthly")
    assert result.written == 3
    counts = pl.read_parquet(lake / "_sources.parquet").filter(
        pl.col("path").str.contains("QQAUSDT-1h-2025-07")
    )
    assert counts["rows"].to_list() == [0, 0, 24 * 31]


def test_months_are_written_alone_or_together(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, name in ((1, "alone"), (1 << 30, "together")):
        monkeypatch.setattr(month_writer, "_TOGETHER", limit)
        bak.to_parquet(root, tmp_path / name)
    assert exported(tmp_path / "alone").equals(exported(tmp_path / "together"))


def test_row_groups_end_with_a_symbol(
    root: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(month_writer, "FEW_ROWS", 10)
    monkeypatch.setattr(month_writer, "MOST_ROWS", 30)
    bak.to_parquet(root, lake, "spot", "klines", intervals="1h")
    file = lake / "market=spot/data_type=klines/interval=1h/month=2025-07/part-0.parquet"
    found = pq.read_metadata(file)
    groups = [found.row_group(index).num_rows for index in range(found.num_row_groups)]
    assert groups == [30, 18, 30, 18]
    assert matches(root, lake, intervals="1h")


def test_a_month_that_may_have_rows_and_has_none_has_no_file(
    tmp_path: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"
    put(root, other("trades", "QQAUSDT", "2025-06-30"), 50)
    result = bak.to_parquet(root, lake)
    assert result.files["month"].to_list() == ["2025-06"]
    before = files_of(lake)
    # That the next month has no row is known, so that no file is read again.
    monkeypatch.setattr(parquet_folder, "write_months", lambda *args: pytest.fail("it writes"))
    assert bak.to_parquet(root, lake).kept == 1
    assert files_of(lake) == before


# Trouble


KILLED = """
    import os, signal, sys
    import binance_archive_kit as bak
    from binance_archive_kit.export import month_writer, parquet_folder

    root, lake, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    month_writer._TOGETHER = 1
    calls = 0

    def counted(path):
        global calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)

    import pathlib
    replace = pathlib.Path.replace

    def replace_or_die(self, target):
        counted(self)
        found = replace(self, target)
        counted(self)
        return found

    pathlib.Path.replace = replace_or_die
    bak.to_parquet(root, lake)
"""


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 9, 10])
def test_a_killed_export_is_completed_by_the_next_one(root: Path, lake: Path, count: int) -> None:
    script = textwrap.dedent(KILLED)
    arguments = [sys.executable, "-c", script, str(root), str(lake), str(count)]
    bak.to_parquet(root, lake, "spot", intervals="4h")
    day(root, "QQAUSDT", "2025-07-01", "4h", edit=lambda lines: lines[1:])
    killed = subprocess.run(arguments, check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    # Whatever is there can be read, and its sources are listed.
    sources = pl.read_parquet(lake / "_sources.parquet")
    for path in lake.glob(GLOB):
        footer = metadata(path)
        own = sources.filter(
            pl.col("target") == path.relative_to(lake).as_posix(),
            pl.col("sources_sha256") == footer["sources_sha256"],
        )
        assert own.height == int(footer["sources"])
    # Another export in between keeps the sources of what it does not touch.
    bak.to_parquet(root, lake, "futures_um")
    bak.to_parquet(root, lake)
    assert matches(root, lake)
    assert not (lake / ".export.tmp").exists()
    sources = pl.read_parquet(lake / "_sources.parquet")
    assert not sources["rows"].has_nulls()
    assert sources["rows"].sum() == sum(pq.read_metadata(each).num_rows for each in lake.glob(GLOB))


def test_an_invalid_file_leaves_the_months_before_it(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake)
    before = files_of(lake)
    put(root, kline("QQAUSDT", "2025-07-02"), edit=lambda csv: csv[:200] + b",".join([csv[:9]] * 3))
    with pytest.raises(bak.FileError):
        bak.to_parquet(root, lake)
    after = files_of(lake)
    assert {file: after[file] for file in before if file != "_sources.parquet"} == {
        file: stamp for file, stamp in before.items() if file != "_sources.parquet"
    }
    assert not (lake / ".export.tmp").exists()
    with pytest.warns(bak.ArchiveKitWarning, match="left out"):
        result = bak.to_parquet(root, lake, on_error="skip")
    assert "invalid" in result.verdict or not result.is_complete


def test_a_foreign_file_is_not_replaced(root: Path, lake: Path) -> None:
    folder = lake / "market=spot" / "data_type=klines" / "interval=1h" / "month=2025-07"
    folder.mkdir(parents=True)
    pl.DataFrame({"a": [1]}).write_parquet(folder / "part-0.parquet")
    with pytest.raises(bak.StoreError, match=r"part-0.parquet is not a file of an export"):
        bak.to_parquet(root, lake)
    assert pl.read_parquet(folder / "part-0.parquet").columns == ["a"]


def test_a_damaged_list_of_sources_is_written_anew(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake)
    before = pl.read_parquet(lake / "_sources.parquet")
    (lake / "_sources.parquet").write_bytes(b"damaged")
    assert bak.to_parquet(root, lake).kept == 4
    assert pl.read_parquet(lake / "_sources.parquet").equals(before)


@pytest.mark.parametrize("name", ["lake [1]", "lake *"])
def test_the_name_of_a_target_is_no_pattern(root: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "lake 1").mkdir()
    lake = tmp_path / name
    assert bak.to_parquet(root, lake).written == 4
    assert bak.to_parquet(root, lake).kept == 4
    sources = pq.read_table(lake / "_sources.parquet")
    assert set(sources["rows"].to_pylist()) == {6, 24, 288}


def test_names_may_come_from_a_generator(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake)
    for date in ("2025-06-30", "2025-07-01", "2025-07-02"):
        for symbol in ("QQAUSDT", "QQBUSDT"):
            (root / str(kline(symbol, date))).unlink()
    result = bak.to_parquet(root, lake, "spot", "klines", intervals=(each for each in ["4h"]))
    assert (result.kept, result.removed) == (1, 0)


def test_two_exports_to_one_target_exclude_each_other(root: Path, lake: Path) -> None:
    lake.mkdir()
    with (
        FileLock(lake / ".export.lock"),
        pytest.raises(bak.StoreError, match="another export is at work"),
    ):
        bak.to_parquet(root, lake)


def test_a_target_in_the_store_is_refused(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    for target in (root, root / "lake", root / "data" / "x" / "y", link / "lake", link):
        with pytest.raises(bak.ConfigurationError, match=r"target: .* (inside|itself)"):
            bak.to_parquet(root, target)
    assert not (root / "lake").exists()
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(bak.ConfigurationError, match="is not a folder"):
        bak.to_parquet(root, file)


def test_a_link_out_of_the_target_is_not_followed(root: Path, lake: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    lake.mkdir()
    (lake / "market=spot").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(bak.StoreError, match="leads out of"):
        bak.to_parquet(root, lake, "spot")
    assert not [*(tmp_path / "elsewhere").iterdir()]


def test_files_behind_a_link_out_of_the_target_are_not_removed(root: Path, lake: Path) -> None:
    bak.to_parquet(root, lake, "spot")
    before = files_of(lake)
    moved = (lake / "market=spot").rename(lake.parent / "elsewhere")
    (lake / "market=spot").symlink_to(moved)
    for symbol in ("QQAUSDT", "QQBUSDT"):
        (root / str(kline(symbol, "2025-06-30"))).unlink()
    with pytest.raises(bak.StoreError, match="leads out of"):
        bak.to_parquet(root, lake, "spot")
    files = {name.replace("market=spot", "elsewhere") for name in before}
    assert {*files_of(lake.parent)} >= files - {"_sources.parquet"}


def test_a_full_disk_is_noticed_before(
    root: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(bak.DiskSpaceError, match="10 B are free"):
        bak.to_parquet(root, lake)
    assert not [*lake.glob(GLOB)]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_target_that_cannot_be_written_is_named(root: Path, lake: Path) -> None:
    lake.mkdir()
    lake.chmod(0o500)
    with pytest.raises(bak.StoreError, match="permission"):
        bak.to_parquet(root, lake)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"market": "sopt"}, "market: 'sopt' is not valid; did you mean 'spot'"),
        ({"market": "options"}, "has no options; it has spot_klines"),
        ({"data_type": "trades"}, "has no trades"),
        ({"symbols": "QQAUSDTT"}, "symbols: 'QQAUSDTT' is not valid; did you mean 'QQAUSDT'"),
        ({"symbols": "*EUR"}, "matches none"),
        ({"intervals": "1m"}, "interval.*: '1m' is not valid"),
        ({"intervals": "2x"}, "interval.*: '2x' is not valid"),
        ({"start": "2025-08-01", "end": "2025-07-01"}, "start: 2025-08-01 is not before end"),
        ({"target": ""}, "target: '' is empty"),
        ({"target": "s3://bucket/x"}, "target: .* is a URL"),
        ({"compression": "gzip"}, "compression"),
    ],
)
def test_invalid_arguments_are_errors(
    root: Path, lake: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(bak.ConfigurationError, match=message):
        bak.to_parquet(root, **{"target": lake, **change})
    assert not lake.exists()


def test_a_folder_without_files_is_not_exported(tmp_path: Path, lake: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(bak.ConfigurationError, match="has no file of the archive; collect some"):
        bak.to_parquet(tmp_path / "store", lake)
    assert not lake.exists()


def test_an_empty_selection_exports_nothing(root: Path, lake: Path) -> None:
    result = bak.to_parquet(root, lake, start="2030-01-01")
    assert result.files.height == 0
    assert result.verdict.startswith("Nothing exported")
    assert json.loads(pq.read_metadata(lake / "_sources.parquet").metadata[
        b"binance_archive_kit.empty"]) == {}  # fmt: skip
