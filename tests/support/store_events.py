"""Random events in a store, and its answers with and without columnar tables."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import polars as pl

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.query import table_builder
from binance_archive_kit.tables import merging
from tests.support.candles import STEPS, line
from tests.support.candles import at as time_of
from tests.support.dialects import zip_of
from tests.support.stores import csv_for, kline, other, view_of

_WEEKS = [time_of("2025-05-26") + n * timedelta(days=7) for n in range(14)]
_THREES = [time_of("2025-05-30") + n * timedelta(days=3) for n in range(30)]
_HOURS = [
    *(kline("BTCUSDT", f"2025-07-0{day}") for day in range(1, 6)),
    *(kline("币安USDT", f"2025-0{month}-01") for month in (6, 7, 8)),
    *(kline("AUSDT", f"2025-0{month}-{day}") for month in (6, 7) for day in ("01", "30")),
    *(kline(symbol, month) for symbol in ("BTCUSDT", "AUSDT") for month in ("2025-06", "2025-07")),
]
_LONG = [
    *(kline("BTCUSDT", f"2025-0{month}", step) for month in (6, 7, 8) for step in ("1w", "3d")),
    *(kline("BTCUSDT", f"{day:%Y-%m-%d}", "1w") for day in _WEEKS[1:9:2]),
    *(kline("BTCUSDT", f"{day:%Y-%m-%d}", "3d") for day in _THREES[4:16:3]),
]
#: Files of feeds with and without intervals, order, text as time, and repeated rows.
KEYS = [
    *_HOURS,
    *_LONG,
    *(other("trades", "BTCUSDT", f"2025-07-0{day}", "spot") for day in (1, 2, 3)),
    *(other("metrics", "BTCUSD_PERP", f"2025-07-0{day}", "futures/cm") for day in (1, 2)),
    *(other("liquidationSnapshot", "BTCUSDT", f"2023-06-2{day}") for day in (4, 5, 6)),
    *(other("EOHSummary", "BTCUSDT", f"2023-10-2{day}", "option") for day in (0, 1)),
]
Rows = list[tuple[Any, ...]]
#: How a bad file is raised, by a scan and by SQL.
_ERRORS = (bak.FileError, duckdb.Error)
_OPTIONS = [
    {"prefer": prefer, "on_error": on_error, "decimals": decimals}
    for prefer in ("daily", "monthly")
    for on_error in ("raise", "skip")
    for decimals in (False, True)
]
_CONDITIONS: list[tuple[str, Callable[[], pl.Expr]]] = [
    ("", lambda: pl.lit(value=True)),
    ("symbol = 'BTCUSDT'", lambda: pl.col("symbol") == "BTCUSDT"),
    ("symbol <> 'BTCUSDT'", lambda: pl.col("symbol") != "BTCUSDT"),
    ("interval = '1w'", lambda: pl.col("interval") == "1w"),
    ("interval IS NULL", lambda: pl.col("interval").is_null()),
    ("partition = 'daily'", lambda: pl.col("partition") == "daily"),
    ("market = 'spot'", lambda: pl.col("market") == "spot"),
    ("date = '2025-07-01'", lambda: pl.col("date") == pl.date(2025, 7, 1)),
    ("date < '2025-07-01'", lambda: pl.col("date") < pl.date(2025, 7, 1)),
    (
        "symbol = 'BTCUSDT' OR date >= '2025-07-02'",
        lambda: (pl.col("symbol") == "BTCUSDT") | (pl.col("date") >= pl.date(2025, 7, 2)),
    ),
    (
        "partition = 'monthly' OR symbol = 'AUSDT'",
        lambda: (pl.col("partition") == "monthly") | (pl.col("symbol") == "AUSDT"),
    ),
    (
        "file LIKE '%2025-07%'",
        lambda: pl.col("file").cast(pl.String).str.contains("2025-07", literal=True),
    ),
    (
        "date IN ('2025-07-01', '2025-06-30') AND symbol >= 'B'",
        lambda: (
            pl.col("date").cast(pl.String).is_in(["2025-07-01", "2025-06-30"])
            & (pl.col("symbol").cast(pl.String) >= "B")
        ),
    ),
]


def csv_of(key: ObjectKey, rows: int, seed: int) -> bytes:
    """Return a csv of invented rows; long candles may begin before their file."""
    interval = str(key.folder.interval)
    if interval not in ("1w", "3d"):
        return csv_for(key, rows, seed)
    step = STEPS[interval]
    times = [
        time
        for time in (_WEEKS if interval == "1w" else _THREES)
        if key.start <= (time if seed % 3 else time + step).date() <= key.end
        or key.start <= time.date() <= key.end
    ]
    if seed % 5 == 0:
        times = times[1:]
    return "".join(line(time, step, 100 + seed + n) for n, time in enumerate(times)).encode()


class World:
    """A store to which random things happen, and that is read with and without tables.

    Parameters
    ----------
    root : Path
    seed : int
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.events: list[str] = []
        self._dice = random.Random(seed)
        self._seed = 0
        self._away: list[tuple[Path, Path]] = []
        self._stores: dict[str, bak.OpenStore] = {}

    def path(self, key: ObjectKey) -> Path:
        return self.root / str(key)

    # Events

    def step(self) -> None:
        """Let something happen."""
        events = [self.add] * 6 + [self.replace, self.rewrite, self.delete, self.move_away] * 2
        events += [self.bring_back, self.spoil, self.add_form, self.mend, self.mend]
        events += [self.touch, self.build] * 2 + [self.reopen]
        self._dice.choice(events)()

    def add(self) -> None:
        self._put(self._dice.choice(KEYS))

    def replace(self) -> None:
        if (key := self._existing()) is not None:
            self._put(key)

    def rewrite(self) -> None:
        """Write other rows into the same file, of the same size if the zip allows it."""
        if (key := self._existing()) is None:
            return
        path = self.path(key)
        before = path.stat()
        data = path.read_bytes()
        new = self._zip(key)
        with path.open("r+b") as file:
            file.write(new)
            file.truncate()
        if len(new) == len(data):
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self._log("rewrite", key)

    def delete(self) -> None:
        if (key := self._existing()) is not None:
            self.path(key).unlink()
            self._log("delete", key)

    def move_away(self) -> None:
        if (key := self._existing()) is not None:
            hidden = self.root / f"away{len(self.events)}"
            self.path(key).rename(hidden)
            self._away.append((self.path(key), hidden))
            self._log("move away", key)

    def bring_back(self) -> None:
        if self._away:
            path, hidden = self._away.pop(self._dice.randrange(len(self._away)))
            path.parent.mkdir(parents=True, exist_ok=True)
            hidden.replace(path)
            self._log("bring back", path)

    def spoil(self) -> None:
        """Make a file invalid in one of several ways."""
        if (key := self._existing()) is None:
            return
        path = self.path(key)
        way = self._dice.randrange(5)
        data = path.read_bytes()
        if way == 0:
            data = b"<html>"
        elif way == 1:
            data = data[: len(data) // 2]
        elif way == 2 and len(data) > 60:
            data = bytes([*data[:60], data[60] ^ 1, *data[61:]])
        elif way == 3:
            csv = self._csv(key)
            data = zip_of(key, csv.replace(b"1", b"x", 3))
        else:
            lines = self._csv(key).splitlines(keepends=True)
            if lines:
                lines[-1] = lines[-1].rpartition(b",")[0] + b",oops\n"
            data = zip_of(key, b"".join(lines))
        path.write_bytes(data)
        self._log(f"spoil {way}", key)

    def mend(self) -> None:
        """Make a bad file good again."""
        bad = sorted(self._problems())
        if bad:
            name = self._dice.choice(bad)
            path = self.root / name
            if name.endswith(".zip"):
                key = next(key for key in KEYS if str(key) == name or self._loose(key) == path)
                path.write_bytes(self._zip(key))
            else:
                path.unlink()
            self._log("mend", name)

    def add_form(self) -> None:
        """Put the csv, or a zip with an unusual name, beside a file or instead of it."""
        key = self._dice.choice(KEYS)
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        way = self._dice.randrange(4)
        csv = self._csv(key)
        if way == 0:
            path.with_suffix(".csv").write_bytes(csv)
        elif way == 1:
            path.with_suffix(".csv.gz").write_bytes(gzip.compress(csv))
        elif way == 2:
            self._loose(key).write_bytes(zip_of(key, csv))
        else:
            for other_form in (".csv", ".csv.gz"):
                path.with_suffix(other_form).unlink(missing_ok=True)
            self._loose(key).unlink(missing_ok=True)
        self._log(f"form {way}", key)

    def touch(self) -> None:
        """Change the times of a file."""
        if (key := self._existing()) is not None:
            os.utime(self.path(key))
            self._log("touch", key)

    def build(self) -> None:
        way = self._dice.randrange(4)
        decimals = self._dice.random() < 0.3
        with many_merges(), warnings.catch_warnings(action="ignore"):
            if way == 0 and any(self._keys()):
                bak.store(self.root, decimals=decimals).build()
                bak.store(self.root, decimals=decimals).build(data_type=self._data_type())
            elif way == 1 and any(self._keys()):
                for data_type in {key.folder.data_type for key in self._keys()}:
                    bak.store(self.root, decimals=decimals).build(data_type=data_type)
            elif way == 2:
                for store in self._stores.values():
                    store.build()
        self._log(f"build {way} {decimals}")

    def kill(self) -> None:
        """Build in another process, and kill it."""
        program = f"""
            import sys
            import binance_archive_kit as bak
            from tests.support.store_events import many_merges
            store = bak.store({str(self.root)!r})
            print("go", flush=True)
            with many_merges():
                for data_type in {sorted({key.folder.data_type.value for key in self._keys()})!r}:
                    store.build(data_type=data_type)
        """
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        process.stdout.readline()
        with self._dice_wait(process):
            process.send_signal(signal.SIGKILL)
        process.stdout.close()
        self._log("kill")

    @contextmanager
    def _dice_wait(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        with suppress(subprocess.TimeoutExpired):
            process.wait(self._dice.random() * 0.3)
        yield
        process.wait()

    def reopen(self) -> None:
        self._stores.clear()
        self._log("reopen")

    # Answers

    def check(self) -> None:
        """Compare one answer with that of a store without tables."""
        if not any(self._keys()):
            return
        options = self._dice.choice(_OPTIONS)
        store = self._stores.setdefault(str(options), bak.store(self.root, **options))
        fresh = bak.store(self.root, cache=False, **options)
        key = self._dice.choice(list(self._keys()))
        where = self._dice.choice(_CONDITIONS)
        columns = self._columns(key)
        ask = self._dice.choice([scanned, queried, counted])
        self._log("check", f"{ask.__name__} {options} {where[0]!r} {columns} {view_of(key)}")
        expected = answer(ask, fresh, key, columns, where)
        found = answer(ask, store, key, columns, where)
        self._compare(found, expected, complete=columns is None)

    def _compare(self, found: Any, expected: Any, *, complete: bool) -> None:
        if isinstance(expected, _ERRORS) or isinstance(found, _ERRORS):
            bad = self._problems()
            assert isinstance(found, _ERRORS), f"{expected} was not raised"
            # A file that was found to be bad in one column is bad for all queries.
            assert isinstance(expected, _ERRORS) or not complete, found
            assert any(name in str(found) for name in bad), found
            return
        assert type(found) is type(expected), (found, expected)
        if isinstance(found, Exception):
            assert str(found) == str(expected)
            return
        for index, (one, two) in enumerate(zip(found, expected, strict=False)):
            assert one == two, f"row {index:,}: {one} is not {two}"
        assert len(found) == len(expected)

    def _columns(self, key: ObjectKey) -> list[str] | None:
        if self._dice.random() < 0.5:
            return None
        own = bak.scan(bak.store(self.root, cache=False), key.folder.market, key.folder.data_type)
        names = own.collect_schema().names()
        if self._dice.random() < 0.5:
            names = ["market", "symbol", "interval", "date", "partition", "file"]
        return self._dice.sample(names, self._dice.randrange(1, min(4, len(names))))

    def _problems(self) -> set[str]:
        """Return the files that a store without tables leaves out."""
        found: set[str] = set()
        for decimals in (False, True):
            store = bak.store(self.root, cache=False, on_error="skip", decimals=decimals)
            for market, data_type in {(k.folder.market, k.folder.data_type) for k in KEYS}:
                for prefer in ("daily", "monthly"):
                    store = bak.store(
                        self.root, cache=False, on_error="skip", decimals=decimals, prefer=prefer
                    )
                    with warnings.catch_warnings(action="ignore"):
                        try:
                            bak.scan(store, market, data_type).collect()
                        except bak.ConfigurationError:
                            continue
                    found |= store.problems.keys()
        return found

    # Files

    def _put(self, key: ObjectKey) -> None:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(self._zip(key))
        new.replace(path)
        self._log("put", key)

    def _zip(self, key: ObjectKey) -> bytes:
        return zip_of(key, self._csv(key))

    def _csv(self, key: ObjectKey) -> bytes:
        self._seed += 1
        whole = key.folder.partition == "monthly" and self._dice.random() < 0.5
        rows = 744 if whole else self._dice.choice([0, 1, 3, 24, 24])
        return csv_of(key, rows, self._seed)

    def _loose(self, key: ObjectKey) -> Path:
        return self.path(key).with_name(self.path(key).name.replace("-0", "-"))

    def _keys(self) -> Iterator[ObjectKey]:
        for key in KEYS:
            forms = (".zip", ".csv", ".csv.gz")
            if any(self.path(key).with_suffix(form).exists() for form in forms):
                yield key

    def _existing(self) -> ObjectKey | None:
        keys = [key for key in KEYS if self.path(key).exists()]
        return self._dice.choice(keys) if keys else None

    def _data_type(self) -> str:
        return self._dice.choice(list(self._keys())).folder.data_type.value

    def _log(self, *words: object) -> None:
        self.events.append(" ".join(map(str, words)))


@contextmanager
def many_merges() -> Iterator[None]:
    """Merge parts early."""
    with mock.patch.multiple(merging, _MANY=4, _FEW=2):
        yield


@contextmanager
def eager_builds(files: int = 3) -> Iterator[None]:
    """Build tables when a few files are read again."""
    with mock.patch.object(table_builder, "_MANY_FILES", files), many_merges():
        yield


Ask = Callable[[bak.OpenStore, ObjectKey, list[str] | None, Any], Rows]


def answer(
    ask: Ask, store: bak.OpenStore, key: ObjectKey, columns: list[str] | None, where: Any
) -> Rows | Exception:
    """Return the answer to a query, or the error that it raises."""
    with warnings.catch_warnings(action="ignore"):
        try:
            return ask(store, key, columns, where)
        except (bak.ArchiveKitError, duckdb.Error) as error:
            return error


def scanned(store: bak.OpenStore, key: ObjectKey, columns: list[str] | None, where: Any) -> Rows:
    frame = bak.scan(store, key.folder.market, key.folder.data_type)
    if where[0]:
        frame = frame.filter(where[1]())
    return frame.select(columns or pl.all()).collect().rows()


def queried(store: bak.OpenStore, key: ObjectKey, columns: list[str] | None, where: Any) -> Rows:
    names = ", ".join(columns or ["*"])
    condition = f" WHERE {where[0]}" if where[0] else ""
    with closing(bak.connect(store)) as con:
        return con.sql(f"SELECT {names} FROM {view_of(key)}{condition}").fetchall()


def counted(store: bak.OpenStore, key: ObjectKey, columns: list[str] | None, where: Any) -> Rows:
    names = ", ".join(columns or ["symbol"])
    condition = f" WHERE {where[0]}" if where[0] else ""
    with closing(bak.connect(store)) as con:
        return con.sql(
            f"SELECT {names}, count(*) FROM {view_of(key)}{condition} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
