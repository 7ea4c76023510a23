"""Collect, build, query and clean for 45 minutes, with random faults and kills.

One process works on a store in a folder and on one in a bucket in turn. Meanwhile the archive
publishes files and issues some again, its server answers wrongly, s5cmd and child processes are
killed. After each round the store must be that of the archive, byte for byte, and its answers those
of the standard library; and no memory, descriptor, thread, process or file may be left behind.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import mean
from typing import Any

import polars as pl

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.reading.feed_table import view_name
from binance_archive_kit.storage.bucket import Bucket
from tests.support import naive
from tests.support.bucket import sidecar
from tests.support.checks import assert_no_downloader, assert_nothing_staged, flip
from tests.support.dialects import zip_of
from tests.support.held import assert_nothing_spooled
from tests.support.planted import HOUR, MINUTE, at, csv_at
from tests.support.resources import Held, children, files_below, settled, without_reserves
from tests.support.s3_bucket import BUCKET, object_storage, s3_environment
from tests.support.s3_server import Fault, LocalS3, Request
from tests.support.stores import kline, other

SECONDS = 2700.0
#: MB that the process may hold more at the end than after its first third.
_GROWTH = 20.0
#: Rounds until a store is deleted and begun again.
_ERA = 8
_FIRST, _LAST = date(2025, 6, 1), date(2025, 7, 31)
_DAY = timedelta(days=1)
_CANDLES = {"spot": ["AUSDT", "BUSDT", "CUSDT", "币安USDT"], "futures/um": ["AUSDT", "EUSDT"]}
_TRADES, _FUNDING = ["AUSDT", "DUSDT"], ["AUSDT", "EUSDT"]
#: The column whose values are compared.
_VALUES = {"klines": "open", "aggTrades": "price", "fundingRate": "last_funding_rate"}
_CHILD = """
import sys, warnings
import binance_archive_kit as bak
work, root, url, end = sys.argv[1:]
warnings.simplefilter("ignore")
import polars, duckdb
from binance_archive_kit.collection import collect
from tests.soak.soak import fields
print("go", flush=True)
if work == "collect":
    bak.collect(**fields(root, url, end))
elif work == "update":
    bak.update(root, end=end, endpoint_url=url)
elif work == "build":
    bak.store(root).build()
elif work == "coverage":
    bak.coverage(root)
else:
    bak.verify(root)
"""


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    without_reserves()
    warnings.simplefilter("ignore", bak.ArchiveKitWarning)
    shutil.rmtree(folder, ignore_errors=True)
    temporary, cache = folder / "tmp", folder / "cache"
    for each in (temporary, cache):
        each.mkdir(parents=True)
    os.environ |= {"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(cache)}
    until = time.monotonic() + seconds
    dice = random.Random(seed)
    held: list[Held] = []
    counts: Counter[str] = Counter()
    number = 0
    with object_storage() as endpoint, _Archive(dice) as archive:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ |= s3_environment(endpoint)
        # Each kind once, so that all is imported and all caches are filled.
        while number < 4 or time.monotonic() < until:
            era, kind = number // (2 * _ERA), number % 2
            if number % (2 * _ERA) == 0:
                places: list[_Place] = [_Local(folder / f"store{era}"), _Remote(f"era{era}")]
                archive.begin_again()
            work = _Round(places[kind], archive, dice, counts)
            try:
                work.run()
            except Exception:
                print(f"round {number + 1}:", *work.events, sep="\n  ", file=sys.stderr)
                raise
            assert not (left := files_below([temporary])), left
            assert_nothing_spooled(cache)
            if number % (2 * _ERA) == 2 * _ERA - 1:
                for place in places:
                    place.delete()
                shutil.rmtree(cache)
                cache.mkdir()
            held.append(settled(held[3]) if number > 3 else Held.now())
            number += 1
            if number > 4:
                assert not held[-1].more_than(held[3]), held[-1].more_than(held[3])
            if number % 10 == 0 or number < 5:
                yield f"{number} rounds: {held[-1]}, {_size(cache)}"
    third = max(1, number // 3)
    early, late = (
        mean(each.memory for each in some) for some in (held[third : 2 * third], held[-third:])
    )
    done = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    yield f"{number} rounds: {done}"
    figures = ", ".join(f"{each.memory:,.0f}" for each in held[:: max(1, number // 10)])
    yield (
        f"{number} rounds, {sum(counts.values()):,} operations; memory {figures} MB, middle third "
        f"{early:,.0f}, last third {late:,.0f}; {held[3].files.total()} -> "
        f"{held[-1].files.total()} files, {held[3].tasks} -> {held[-1].tasks} threads"
    )
    assert late - early <= _GROWTH, f"it holds {late - early:,.0f} MB more in the last third"


def _size(folder: Path) -> str:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return f"cache {len(paths)} files, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB"


def fields(root: str, url: str, end: str, **changes: Any) -> dict[str, Any]:
    """Return the fields of a configuration that asks for all that the archive has."""
    return {
        "markets": ["spot", "futures_um"],
        "symbols": sorted({*_CANDLES["spot"], *_CANDLES["futures/um"], *_TRADES, *_FUNDING}),
        "data_types": ["klines", "aggTrades", "fundingRate"],
        "intervals": {"klines": ["1h"]},
        "date_range": {"start": str(_FIRST), "end": end},
        "output_directory": root,
        "endpoint_url": url,
        "timeout_seconds": 5,
        # s5cmd backs off longer with every retry; the library tries again by itself.
        "s5cmd_extra_args": ["--retry-count=1"],
    } | changes


# The archive


class _Archive:
    """The archive: what it has issued so far, and its server; a context manager.

    Attributes
    ----------
    zips : dict of str to bytes
        The current issue of each published zip, by key.
    issued : dict of str to set of bytes
        All issues of each.
    today : date
        Last published day.
    faults : float
        Share of the requests that are answered wrongly.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._objects: dict[str, bytes] = {}
        self._times: dict[str, datetime] = {}
        self.zips: dict[str, bytes] = {}
        self.issued: dict[str, set[bytes]] = defaultdict(set)
        self.faults = 0.0
        self.today = _FIRST
        self.wrong = 0
        self.server = LocalS3(self._objects, fault=self._fault, modified=self._times, log=False)

    def __enter__(self) -> _Archive:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    @property
    def url(self) -> str:
        return self.server.url

    def begin_again(self) -> None:
        """Start with a few days and the months of funding."""
        self.today = _FIRST - _DAY
        for each in (self.zips, self.issued, self._objects, self._times):
            each.clear()
        for month in ("2025-06", "2025-07"):
            for symbol in _FUNDING:
                folder = f"data/futures/um/monthly/fundingRate/{symbol}"
                self.issue(ObjectKey.parse(f"{folder}/{symbol}-fundingRate-{month}.zip"))
        self.publish(5)

    def publish(self, days: int) -> None:
        for _ in range(min(days, (_LAST - self.today).days)):
            self.today += _DAY
            for market, symbols in _CANDLES.items():
                for symbol in symbols:
                    # Some days are absent.
                    if self._dice.random() < 0.97:
                        self.issue(kline(symbol, str(self.today), "1h", market))
            for symbol in _TRADES:
                self.issue(other("aggTrades", symbol, str(self.today), "spot"))

    def issue(self, key: ObjectKey) -> None:
        """Issue a file, or issue it again with other rows."""
        feed = key.folder.data_type
        begin, count = at(str(key.start)), (key.end - key.start).days + 1
        step = {"klines": HOUR, "aggTrades": 20 * MINUTE, "fundingRate": 8 * HOUR}[feed]
        times = [begin + index * step for index in range(24 * HOUR * count // step)]
        if feed == "klines" and self._dice.random() < 0.2:
            hole = self._dice.randrange(len(times))
            del times[hole : hole + self._dice.randrange(1, 5)]
        values = [self._dice.randrange(1, 10 ** self._dice.choice((2, 9))) for _ in times]
        first = self._dice.randrange(10**6)
        body = zip_of(key, csv_at(key, times, ids=range(first, first + len(times)), value=values))
        name = str(key)
        # The checksum first: requests meanwhile may see the two of different issues.
        self._objects[f"{name}.CHECKSUM"] = sidecar(name, body)
        self._objects[name] = self.zips[name] = body
        self._times[name] = datetime(2025, 8, 1, tzinfo=UTC) + len(self.issued[name]) * _DAY
        self.issued[name].add(body)

    def issue_again(self) -> None:
        for name in self._dice.sample(sorted(self.zips), 3):
            self.issue(ObjectKey.parse(name))

    def wanted(self, symbols: set[str], first: date, last: date) -> dict[str, bytes]:
        """Return the published zips of some symbols that have days of a period."""
        found = {}
        for name, body in self.zips.items():
            key = ObjectKey.parse(name)
            if key.folder.symbol in symbols and key.start <= last and key.end >= first:
                found[name] = body
        return found

    @contextmanager
    def faulty(self, share: float) -> Iterator[None]:
        self.faults = share
        try:
            yield
        finally:
            self.faults = 0.0

    def _fault(self, request: Request) -> Fault | None:
        # On the thread of the server: the order of its numbers depends on the clients.
        if not self.faults or random.random() >= self.faults:
            return None
        self.wrong += 1
        body = len(self._objects.get(request.key, b"")) or 100
        return random.choice(
            [
                Fault(status=503),
                Fault(status=500),
                Fault(status=429),
                Fault(status=404),
                Fault(status=403),
                Fault(cut_after=0),
                Fault(cut_after=random.randrange(body)),
                Fault(flip=random.randrange(body)),
                Fault(body=b"<html>Down for maintenance</html>"),
                Fault(body=b""),
                Fault(delay=random.random()),
                Fault(bytes_per_second=2_000),
                *([Fault(hang_after=random.choice((0, 10)))] if random.random() < 0.2 else []),
            ]
        )


# The stores


class _Place:
    """A store, looked at and disturbed from outside."""

    def __init__(self, root: str) -> None:
        self.root = root

    def files(self) -> dict[str, bytes]:
        raise NotImplementedError

    def remove(self, keys: list[str]) -> None:
        raise NotImplementedError

    def spoil(self, key: str) -> None:
        """Change a byte behind the back of the store."""
        raise NotImplementedError

    def check_nothing_left(self) -> None:
        raise NotImplementedError

    def delete(self) -> None:
        raise NotImplementedError


class _Local(_Place):
    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self._folder = folder

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self._folder).as_posix(): path.read_bytes()
            for path in (self._folder / "data").rglob("*")
            if path.is_file()
        }

    def remove(self, keys: list[str]) -> None:
        for key in keys:
            (self._folder / key).unlink()

    def spoil(self, key: str) -> None:
        flip(self._folder / key)

    def check_nothing_left(self) -> None:
        assert_nothing_staged(self._folder)
        odd = {
            path.name
            for path in self._folder.rglob("*")
            if path.is_file() and path.suffix in (".new", ".tmp", ".part")
        }
        assert not odd, odd

    def delete(self) -> None:
        shutil.rmtree(self._folder)


class _Remote(_Place):
    def __init__(self, name: str) -> None:
        super().__init__(f"s3://{BUCKET}/{name}")

    @property
    def _bucket(self) -> Bucket:
        return Bucket.parse(self.root)

    def files(self) -> dict[str, bytes]:
        bucket = self._bucket
        return {found.key: bucket.read(found.key) for found in bucket.list("data/")}

    def remove(self, keys: list[str]) -> None:
        self._bucket.remove(keys)

    def spoil(self, key: str) -> None:
        body = bytearray(self._bucket.read(key))
        body[len(body) // 2] ^= 1
        self._bucket.write(key, bytes(body))

    def check_nothing_left(self) -> None:
        names = [found.key for found in self._bucket.list("")]
        odd = [name for name in names if name.endswith((".new", ".tmp", ".part"))]
        assert not odd, odd

    def delete(self) -> None:
        self._bucket.remove([found.key for found in self._bucket.list("")])


# The work


class _Round:
    """Some random work with faults, then a healing run, and the comparison of all answers."""

    def __init__(
        self, place: _Place, archive: _Archive, dice: random.Random, counts: Counter[str]
    ) -> None:
        self._place = place
        self._archive = archive
        self._dice = dice
        self._counts = counts
        self._spoiled: set[str] = set()
        #: Whether files were removed behind the back of the store.
        self._removed = False
        self.events: list[str] = []

    @property
    def _end(self) -> str:
        return str(self._archive.today)

    def run(self) -> None:
        works: list[Callable[[], None]] = [
            *[self.collect_some] * 3,
            *[self.collect_and_kill_s5cmd] * 2,
            *[self.kill_a_child] * 2,
            *[self.issue_again] * 2,
            self.publish_and_update,
            self.delete,
            self.spoil,
            self.build,
            self.verify,
            self.clear_cache,
            self.report,
        ]
        for work in self._dice.choices(works, k=5):
            self._note(work.__name__)
            work()
            self.check_files()
        self.heal()
        self.check_rows()
        # Queries of a bucket do not list it: they follow the records until it is verified.
        if isinstance(self._place, _Local) and self._dice.random() < 0.3:
            self.delete()
            self.check_rows()

    def _note(self, event: str) -> None:
        self.events.append(event)
        self._counts[event] += 1

    # Work

    def collect_some(self) -> None:
        """Collect some symbols and days from a server that may answer wrongly."""
        with self._archive.faulty(self._dice.choice((0, 0.02, 0.1, 0.3))):
            self._collect()

    def _collect(self) -> None:
        symbols = set(self._dice.sample(fields("", "", "")["symbols"], self._dice.randrange(1, 5)))
        first = self._archive.today - self._dice.randrange(1, 20) * _DAY
        first = max(first, _FIRST)
        wanted = self._archive.wanted(symbols, first, self._archive.today)
        more = {
            "symbols": sorted(symbols),
            "date_range": {"start": str(first), "end": self._end},
            "max_parallel_downloads": self._dice.choice((1, 4, 32)),
            "force_redownload": self._dice.random() < 0.1,
        }
        self.events.append(f"  {more}, faults {self._archive.faults}")
        had_no_faults = not self._archive.faults
        try:
            result = bak.collect(**fields(self._place.root, self._archive.url, self._end, **more))
        except bak.ArchiveKitError as error:
            if had_no_faults:
                raise
            self.events.append(f"  {type(error).__name__}: {error}")
            return
        self._check_result(result, wanted, had_no_faults)

    def _check_result(
        self, result: bak.CollectionResult, wanted: dict[str, bytes], had_no_faults: bool
    ) -> None:
        """Compare what a result says with the files."""
        self.events.append(f"  {str(result).partition(chr(10))[0]}")
        held = self._place.files()
        prefix = f"{self._place.root}/"
        said = {path.removeprefix(prefix) for path in map(str, result.output_files)}
        failed = {failure.key for failure in result.failures}
        assert not said & failed
        assert said <= held.keys(), said - held.keys()
        wrong = [key for key in said if held[key] not in self._archive.issued[key]]
        # A medium that changes bytes under an unchanged stamp is found by `verify` alone.
        assert set(wrong) <= self._spoiled, wrong
        if had_no_faults:
            assert result.outcome == "complete", result
            assert said == wanted.keys(), said ^ wanted.keys()
            old = {key for key in said if held[key] != wanted[key]}
            assert old <= self._spoiled, old
        self._spoiled -= {key for key in said if held[key] == wanted.get(key)}

    def collect_and_kill_s5cmd(self) -> None:
        """Kill s5cmd while it downloads."""
        ended = threading.Event()

        def kill() -> None:
            for _ in range(self._dice.randrange(1, 4)):
                if ended.wait(self._dice.uniform(0.05, 0.6)):
                    return
                for pid, name in children().items():
                    if name == "s5cmd":
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                            self._counts["kills of s5cmd"] += 1

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with self._archive.faulty(0.02):
                self._collect()
        finally:
            ended.set()
            killer.join()

    def kill_a_child(self) -> None:
        """Kill another process that works on the store."""
        work = self._dice.choice(["collect"] * 4 + ["update", "build", "coverage", "verify"])
        command = [sys.executable, "-c", _CHILD, work, self._place.root, self._archive.url]
        self.events.append(f"  {work}")
        with subprocess.Popen(
            [*command, self._end], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as child:
            assert child.stdout is not None
            said = child.stdout.readline()
            time.sleep(self._dice.random() ** 2 * 2)
            number = self._dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            child.send_signal(number)
        assert said == "go\n"
        self._counts["kills of children"] += child.returncode < 0
        assert_no_downloader(self._archive.url, within=20)

    def issue_again(self) -> None:
        self._archive.issue_again()

    def publish_and_update(self) -> None:
        """Let the archive publish some days, and bring the store up to date."""
        before = self._place.files()
        if not before or self._spoiled:
            return
        self._archive.publish(self._dice.randrange(1, 4))
        faults = self._dice.choice((0, 0, 0.1))
        try:
            with self._archive.faulty(faults):
                result = bak.update(
                    self._place.root, end=self._archive.today, endpoint_url=self._archive.url
                )
        except bak.ArchiveKitError as error:
            if not faults:
                raise
            self.events.append(f"  {error}")
            return
        self.events.append(f"  {str(result).partition(chr(10))[0]}")
        if faults:
            return
        assert result.outcome == "complete", result
        last: dict[Any, date] = {}
        for key in map(ObjectKey.parse, before):
            last[key.folder] = max(key.end, last.get(key.folder, key.end))
        held = self._place.files()
        for name, body in self._archive.zips.items():
            key = ObjectKey.parse(name)
            if (
                key.folder in last
                and key.start > last[key.folder]
                and key.end <= self._archive.today
            ):
                assert held[name] == body, name

    def delete(self) -> None:
        """Delete files: by `prune`, or behind the back of the store."""
        held = sorted(self._place.files())
        if not held:
            return
        key = ObjectKey.parse(self._dice.choice(held))
        if isinstance(self._place, _Local) and self._dice.random() < 0.7:
            choice = {
                "market": str(key.folder.market),
                "data_type": str(key.folder.data_type),
                "start": key.start,
                "end": key.end + self._dice.randrange(4) * _DAY,
            }
            self.events.append(f"  {choice}")
            bak.prune(self._place.root, dry_run=False, **choice)  # type: ignore[arg-type]
            gone = [
                each
                for each in map(ObjectKey.parse, held)
                if (each.folder.market, each.folder.data_type)
                == (key.folder.market, key.folder.data_type)
                and choice["start"] <= each.start  # type: ignore[operator]
                and each.end <= choice["end"]  # type: ignore[operator]
            ]
            assert self._place.files().keys() == {*held} - {*map(str, gone)}
            self._spoiled -= {*map(str, gone)}
        else:
            some = self._dice.sample(held, min(3, len(held)))
            self.events.append(f"  {some}")
            self._place.remove(some)
            self._removed = True
            self._spoiled -= {*some}

    def spoil(self) -> None:
        """Change bytes behind the back of the store."""
        held = sorted(self._place.files())
        for key in self._dice.sample(held, min(2, len(held))):
            self._place.spoil(key)
            self._spoiled.add(key)
            self.events.append(f"  {key}")

    def build(self) -> None:
        if self._place.files():
            with suppress(bak.FileError if self._spoiled else ()):
                bak.store(self._place.root).build()

    def verify(self) -> None:
        """Hash all files again: what is wrong is found, and nothing else."""
        held = self._place.files()
        if not held:
            return
        found = bak.verify(self._place.root)
        wrong = {key for key, body in held.items() if body not in self._archive.issued[key]}
        said = {
            key for key, reason in found.frame.select("key", "reason").rows() if reason != "gone"
        }
        self.events.append(f"  {said}")
        assert said == wrong, (said, wrong)
        assert found.files == len(held), (found, len(held))

    def clear_cache(self) -> None:
        if self._place.files() and isinstance(self._place, _Local):
            bak.store(self._place.root).cache.clear()

    def report(self) -> None:
        if self._place.files() and not self._spoiled:
            bak.coverage(self._place.root)

    # Comparison

    def check_files(self) -> None:
        """Each file is of an issue of the archive, and nothing is left on its way."""
        held = self._place.files()
        wrong = {key for key, body in held.items() if body not in self._archive.issued[key]}
        assert wrong <= self._spoiled, wrong - self._spoiled

    def heal(self) -> None:
        """Verify and collect: then the store is that of the archive."""
        self._note("heal")
        if self._place.files():
            self.verify()
        result = bak.collect(**fields(self._place.root, self._archive.url, self._end))
        assert result.outcome == "complete", result
        everyone = set(fields("", "", "")["symbols"])
        held = self._place.files()
        zips = self._archive.wanted(everyone, _FIRST, self._archive.today)
        assert held.keys() == zips.keys(), held.keys() ^ zips.keys()
        assert not [key for key in held if held[key] != zips[key]]
        self._spoiled.clear()
        self._removed = False
        found = bak.verify(self._place.root)
        assert (found.proven, found.frame.height) == (len(zips), 0), found
        self._place.check_nothing_left()

    def check_rows(self) -> None:
        """Compare rows and coverage with those that the standard library reads."""
        held = self._place.files()
        if not held:
            return
        truth = _read(held)
        if self._dice.random() < 0.5:
            bak.store(self._place.root).build()
        with closing(bak.connect(self._place.root)) as con:
            # DuckDB prints a bar in processes that are run with `-c`.
            con.execute("SET enable_progress_bar = false")
            for feed in truth:
                self._check_feed(con, feed, truth[feed])
        self._check_coverage(held, truth)
        self._note("check_rows")

    def _check_feed(self, con: Any, feed: tuple[str, str], rows: list[dict[str, Any]]) -> None:
        value = _VALUES[feed[1]]
        view = view_name(bak.Market(feed[0]), bak.DataType(feed[1]))
        day = self._dice.choice(rows)["date"]
        query = f"SELECT symbol, count(*), sum({value}) FROM {view}"
        for condition, test in {
            "": lambda row: True,
            f"WHERE date >= '{day}'": lambda row: row["date"] >= day,
            f"WHERE {value} < 1000": lambda row: row[value] < 1000,
        }.items():
            expected: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
            for row in filter(test, rows):
                expected[row["symbol"]][0] += 1
                expected[row["symbol"]][1] += row[value]
            found = con.sql(f"{query} {condition} GROUP BY ALL").fetchall()
            assert {symbol: [*rest] for symbol, *rest in found} == expected, (feed, condition)
        frame = bak.scan(self._place.root, *feed).filter(pl.col("date") == day)
        [(count, total)] = frame.select(pl.len(), pl.col(value).sum()).collect().rows()
        some = [row[value] for row in rows if row["date"] == day]
        assert (count, total) == (len(some), sum(some)), feed

    def _check_coverage(
        self, held: dict[str, bytes], truth: dict[Any, list[dict[str, Any]]]
    ) -> None:
        report = bak.coverage(self._place.root)
        assert not report.problems, report
        said = {
            (row["market"], row["data_type"], row["symbol"]): row
            for row in report.streams.cast({pl.Enum: pl.String}).iter_rows(named=True)
        }
        files: dict[Any, list[ObjectKey]] = defaultdict(list)
        for key in map(ObjectKey.parse, held):
            files[str(key.folder.market), str(key.folder.data_type), key.folder.symbol].append(key)
        # What was ever collected and not pruned stays expected.
        gone = said.keys() - files.keys()
        assert files.keys() <= said.keys(), files.keys() - said.keys()
        assert self._removed or not gone, gone
        assert all(said[stream]["present"] == 0 for stream in gone), said
        for stream, keys in files.items():
            rows = [row for row in truth[stream[:2]] if row["symbol"] == stream[2]]
            assert said[stream]["present"] == len(rows), (stream, said[stream], len(rows))
            if stream[1] == "klines":
                first, last = min(key.start for key in keys), max(key.end for key in keys)
                due = 24 * ((last - first).days + 1)
                expected = said[stream]["expected"]
                assert expected == due or (self._removed and expected > due), (said[stream], due)
                assert said[stream]["missing"] == expected - len(rows), said[stream]


def _read(held: dict[str, bytes]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Read the rows of all files with the standard library, by market and data type."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for name, body in held.items():
        key = ObjectKey.parse(name)
        feed = str(key.folder.market), str(key.folder.data_type)
        found[feed] += naive.read_bytes(body, key)
    return found
