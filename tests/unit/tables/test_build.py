"""Whatever happens to files, builds and parts, tables have the rows of unchanged files only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binance_archive_kit.errors import DiskSpaceError, StoreError
from binance_archive_kit.reading.chunks import Chunk
from binance_archive_kit.reading.file_stats import FileTask
from binance_archive_kit.tables import merging
from binance_archive_kit.tables.manifest import FeedFolder
from binance_archive_kit.tables.part_writer import PartWriter
from binance_archive_kit.tables.tables import Tables
from tests.support.stores import kline
from tests.support.table_files import FEED, Files, feed_folder, rows_by_file

LIMIT = 1 << 30
DAYS = [f"2025-{month}-0{day}" for month in ("06", "07") for day in range(1, 5)]


class Killed(BaseException):
    """Ends a build without its cleaning up."""


def kill_after(files: Files, chunks: int) -> Callable[[Sequence[FileTask]], Iterator[Chunk]]:
    def read(tasks: Sequence[FileTask]) -> Iterator[Chunk]:
        for number, chunk in enumerate(files.read(tasks)):
            if number >= chunks:
                raise Killed
            yield chunk
        raise Killed

    return read


def killed_build(tables: Tables, files: Files, chunks: int) -> None:
    left = mock.patch.multiple(PartWriter, remove=lambda self: self._writer.abort())
    with left, pytest.raises(Killed):
        tables.build(
            FEED,
            files.pending(tables.snapshot(FEED)),
            kill_after(files, chunks),
            is_current=files.is_current,
            done=lambda n: None,
        )


def check(tables: Tables, files: Files) -> int:
    """Compare all rows; return the number of files that the tables have."""
    found, expected = rows_by_file(tables, files), files.expected()
    for path, frame in found.items():
        assert frame.equals(expected[path]), path
    return len(found)


keys = st.builds(kline, st.sampled_from(["AUSDT", "BUSDT"]), st.sampled_from(DAYS))
steps = st.one_of(
    st.tuples(st.just("put"), keys, st.integers(0, 9)),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("build"), st.integers(1, 5)),
    st.tuples(st.just("kill"), st.integers(0, 3)),
    st.tuples(st.just("discard"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["clear", "trim", "another process"])),
)


@settings(max_examples=80)
@given(
    st.lists(steps, min_size=5, max_size=40),
    st.integers(0, 3),
    st.sampled_from([3000, LIMIT]),
)
def test_any_sequence_of_events(events: list[tuple[object, ...]], joined: int, large: int) -> None:
    folder = Path(tempfile.mkdtemp())
    files, tables = Files(joined=joined), Tables(folder, LIMIT)
    patch = mock.patch.multiple(merging, _MANY=3, _FEW=2, MOST=large)
    try:
        with patch:
            for event in events:
                match event:
                    case "put", key, rows:
                        files.put(key, rows, 2000)
                    case "delete", key if str(key) in files.tasks:
                        files.delete(str(key))
                    case "build", some:
                        files.build(tables, files.pending(tables.snapshot(FEED))[:some])
                    case "kill", chunks if files.pending(tables.snapshot(FEED)):
                        killed_build(tables, files, chunks)
                    case "discard", index if tables.snapshot(FEED).parts:
                        parts = tables.snapshot(FEED).parts
                        tables.discard(FEED, parts[index % len(parts)].name)
                    case ("clear",):
                        tables.clear()
                    case ("trim",):
                        Tables(folder, 20_000).trim()
                    case ("another process",):
                        tables = Tables(folder, LIMIT)
                check(tables, files)
            files.build(tables)
            assert check(tables, files) == len(files.tasks)
            names = {part.name for part in tables.snapshot(FEED).parts}
            if files.tasks:
                on_disk = {
                    path.name.split(".")[0] for path in feed_folder(folder).glob("*.parquet")
                }
                assert on_disk == names
    finally:
        shutil.rmtree(folder)


def test_many_small_additions_are_merged(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    for number in range(40):
        files.put(kline(f"S{number % 7}USDT", f"2025-07-{number // 2 + 1:02}"), 10)
        report = files.build(tables)
        assert report.written == (report.rows if number != 31 else 330)
    assert check(tables, files) == 40
    assert [part.rows for part in tables.snapshot(FEED).parts] == [320, *[10] * 8]


def test_nothing_to_do_writes_nothing(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.fill(["AUSDT"], DAYS)
    files.build(tables)
    before = tables.snapshot(FEED)
    assert files.build(tables).written == 0
    assert tables.snapshot(FEED) is before


def test_parts_are_split_by_period_and_size(tmp_path: Path) -> None:
    files, tables = Files(joined=1), Tables(tmp_path, LIMIT)
    for symbol in ("AUSDT", "BUSDT", "CUSDT"):
        for day in DAYS:
            files.put(kline(symbol, day), 20_000, 8 << 20)
    with mock.patch.multiple("binance_archive_kit.tables.build", MOST=100_000):
        files.build(tables)
    parts = tables.snapshot(FEED).parts
    assert {part.period for part in parts} == {""}
    assert len(parts) > 1
    for day in DAYS:
        files.put(kline("DUSDT", day), 10, 100 << 20)
    files.build(tables)
    assert {part.period for part in tables.snapshot(FEED).parts} == {"", "2025-06", "2025-07"}
    assert check(tables, files) == len(files.tasks)


def test_done_counts_files(tmp_path: Path) -> None:
    files, counts = Files(joined=0), []
    files.fill(["AUSDT", "BUSDT"], DAYS)
    Tables(tmp_path, LIMIT).build(
        FEED, [*files.tasks.values()], files.read, is_current=files.is_current, done=counts.append
    )
    assert sum(counts) == 16


def test_an_error_of_the_reader_leaves_no_part(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.fill(["AUSDT"], DAYS)
    with pytest.raises(Killed):
        tables.build(
            FEED,
            [*files.tasks.values()],
            kill_after(files, 1),
            is_current=files.is_current,
            done=lambda n: None,
        )
    assert not list(tmp_path.rglob("*.parquet"))


def test_space_is_checked_first(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.put(kline("AUSDT", DAYS[0]), 10, 10_000_000)
    usage = namedtuple("usage", "total used free")(1, 1, 9_999_999)
    with mock.patch("shutil.disk_usage", return_value=usage):
        with pytest.raises(DiskSpaceError, match=r"need about 9.5 MB, and 9.5 MB are free"):
            files.build(tables)
        files.put(kline("AUSDT", DAYS[0]), 10, 1000)
        assert files.build(tables).files == 1


def test_a_full_disk_leaves_no_part(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.fill(["AUSDT"], DAYS)
    full = OSError(28, "No space left on device")
    with (
        mock.patch.object(PartWriter, "finish", side_effect=full),
        pytest.raises(DiskSpaceError, match="no space"),
    ):
        files.build(tables)
    assert not list(tmp_path.rglob("*.parquet"))
    assert check(tables, files) == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"")
    files, tables = Files(), Tables(tmp_path / "t", LIMIT)
    files.fill(["AUSDT"], DAYS)
    with pytest.raises(StoreError):
        files.build(tables)
    assert tables.use().parts == 0


def test_builders_wait_or_leave(tmp_path: Path) -> None:
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.fill(["AUSDT"], DAYS)
    with FeedFolder.of(tmp_path, FEED).building(wait=True) as is_alone:
        assert is_alone
        assert files.build(tables, wait=False).files == 0
        waiting = threading.Thread(target=lambda: files.build(tables))
        waiting.start()
        time.sleep(0.2)
        assert waiting.is_alive()
    waiting.join(20)
    assert check(tables, files) == 8


BUILDER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from binance_archive_kit.tables.tables import Tables
    from tests.support.table_files import FEED, Files

    root, pause, *symbols = sys.argv[1:]
    files = Files(joined=1)
    files.fill(symbols, {days}, 50)
    tables = Tables(Path(root), 1 << 30)

    def read(tasks):
        print("reading", flush=True)
        for chunk in files.read(tasks):
            time.sleep(float(pause))
            yield chunk

    while tasks := files.pending(tables.snapshot(FEED)):
        tables.build(FEED, tasks[:3], read, is_current=lambda e: e["path"].is_not_null(),
                     done=lambda n: None)
    """
).replace("{days}", repr(DAYS))


def builder(root: Path, pause: float, *symbols: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, str(root), str(pause), *symbols]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def paths(tables: Tables) -> set[str]:
    return set(tables.snapshot(FEED).entries()["path"])


def test_two_processes_build_at_once(tmp_path: Path) -> None:
    runs = [builder(tmp_path, 0.0, "AUSDT"), builder(tmp_path, 0.0, "BUSDT", "CUSDT")]
    for run in runs:
        run.communicate()
        assert run.returncode == 0
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.fill(["AUSDT", "BUSDT", "CUSDT"], DAYS, 50)
    found = rows_by_file(tables, files, ["open_time", "symbol", "file"])
    assert found.keys() == files.tasks.keys()
    expected = files.expected(["open_time", "symbol", "file"])
    assert all(found[path].equals(expected[path]) for path in found)


@pytest.mark.skipif(os.name == "nt", reason="no such signal")
def test_a_killed_process_leaves_nothing_wrong(tmp_path: Path) -> None:
    run = builder(tmp_path, 0.05, "AUSDT")
    assert run.stdout is not None
    for _ in range(3):
        run.stdout.readline()
    time.sleep(0.07)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    files, tables = Files(), Tables(tmp_path, LIMIT)
    files.fill(["AUSDT"], DAYS, 50)
    assert len(paths(tables)) == check_times(tables, files) == 6
    listed = {part.name for part in tables.snapshot(FEED).parts}
    on_disk = {path.name.split(".")[0] for path in tmp_path.rglob("*.parquet")}
    assert on_disk > listed
    assert files.build(tables, wait=False).files == 2
    assert check_times(tables, files) == 8
    listed = {part.name for part in tables.snapshot(FEED).parts}
    assert listed == {path.name.split(".")[0] for path in tmp_path.rglob("*.parquet")}


def check_times(tables: Tables, files: Files) -> int:
    found = rows_by_file(tables, files, ["open_time", "file"])
    expected = files.expected(["open_time", "file"])
    assert all(frame.equals(expected[path]) for path, frame in found.items())
    return len(found)


def test_clearing_during_a_build(tmp_path: Path) -> None:
    files, tables = Files(joined=1), Tables(tmp_path / "t", LIMIT)
    files.fill(["AUSDT"], DAYS)

    def read(tasks: Sequence[FileTask]) -> Iterator[Chunk]:
        for chunk in files.read(tasks):
            yield chunk
            tables.clear()

    tables.build(
        FEED, [*files.tasks.values()], read, is_current=files.is_current, done=lambda n: None
    )
    assert check(tables, files) == 0
    files.build(tables)
    assert check(tables, files) == 8
    assert isinstance(tables.snapshot(FEED).entries(), pl.DataFrame)
