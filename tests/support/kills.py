"""A store whose collections and builds are killed at random moments."""

from __future__ import annotations

import random
import shutil
import time
import warnings
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from subprocess import TimeoutExpired

import polars as pl

import binance_archive_kit as bak
from binance_archive_kit.storage.bucket import Bucket
from tests.support.bucket import with_sidecars, zips_of
from tests.support.candles import HOUR, line
from tests.support.candles import at as time_of
from tests.support.checks import assert_no_downloader, assert_nothing_staged, assert_whole
from tests.support.children import Children
from tests.support.dialects import zip_of
from tests.support.held import assert_bucket_holds, assert_bucket_whole, assert_nothing_spooled
from tests.support.s3_server import LocalS3
from tests.support.stores import kline

_FIRST, _DAYS = date(2025, 7, 1), 12
_SYMBOLS = ("ALFAUSDT", "BETAUSDT", "GAMMAUSDT", "DELTAUSDT")
_CHILD = """
import sys, warnings
import binance_archive_kit as bak
import polars, duckdb
from binance_archive_kit.collection import collect
from tests.support.kills import config_of
from tests.support.store_events import many_merges
warnings.simplefilter("ignore", bak.ArchiveKitWarning)
work, root, url = sys.argv[1:]
with many_merges():
    if work == "collect":
        config = config_of(root, url)
        print("go", file=sys.stderr, flush=True)
        bak.collect(config)
    else:
        store = bak.store(root)
        print("go", file=sys.stderr, flush=True)
        store.build()
print("end", file=sys.stderr, flush=True)
"""


def archive() -> dict[str, bytes]:
    """Return an archive of candles, with checksums."""
    zips = {}
    for symbol in _SYMBOLS:
        for days in range(_DAYS):
            key = kline(symbol, str(_FIRST + timedelta(days=days)))
            start = time_of(str(key.start))
            lines = (line(start + hour * HOUR, HOUR, 100 + days + hour) for hour in range(24))
            zips[str(key)] = zip_of(key, "".join(lines).encode())
    return with_sidecars(zips)


def config_of(root: str | Path, url: str) -> bak.CollectionConfig:
    """Ask a server for all of it."""
    return bak.CollectionConfig(
        markets=["spot"],
        symbols=list(_SYMBOLS),
        data_types=["klines"],
        intervals={"klines": ["1h"]},
        date_range={"start": _FIRST, "end": _FIRST + timedelta(days=_DAYS - 1)},
        output_directory=root,
        endpoint_url=url,
        max_parallel_downloads=4,
    )


class Killed:
    """Kills a process that works on a store, and looks at what it left.

    Parameters
    ----------
    server : LocalS3
        Of `archive`.
    root : Path or str
        The store; a URL if it is in object storage.
    cache : Path
        The user's cache folder.
    dice : random.Random
    """

    def __init__(self, server: LocalS3, root: Path | str, cache: Path, dice: random.Random) -> None:
        self._server = server
        self._root = root
        self._cache = cache
        self._dice = dice
        self._zips = zips_of(archive())
        self._bucket = None if isinstance(root, Path) else Bucket.parse(root)
        #: Seconds that a run takes which is not killed.
        self._longest = {"collect": 1.0, "build": 0.5}

    def kill(self, work: str) -> str:
        """Kill one process; return what it did. Then a run that is not killed completes all."""
        if work == "collect":
            self._lose_some()
        else:
            self._lose_tables()
        ended = self._run(work)
        assert_no_downloader(self._server.url, within=20)
        if self._bucket is None:
            held = assert_whole(Path(self._root), self._zips)
        else:
            held = len(assert_bucket_whole(self._bucket, self._zips))
        assert work == "collect" or held == len(self._zips)
        self._check(only_held=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if work == "collect":
                result = bak.collect(config_of(self._root, self._server.url))
                assert result.outcome == "complete"
                if self._bucket is None:  # what was uploaded without a proof is fetched again
                    assert result.collection_stats["skipped_tasks"] == held
            else:
                bak.store(self._root).build()
            assert bak.verify(self._root).sound
        self._check(only_held=False)
        if self._bucket is not None:
            assert_bucket_holds(self._bucket, self._zips)
            assert_nothing_spooled(self._cache)
        else:
            assert_nothing_staged(Path(self._root))
        return f"after the end of {work}" if ended else f"during {work}"

    def _run(self, work: str) -> bool:
        """Run a process, and kill it at a random moment; return whether it had ended."""
        children = Children(_CHILD)
        child = children.start(work, str(self._root), self._server.url)
        assert child.stderr is not None
        try:
            first = child.stderr.readline()
            assert first == b"go\n", (first + child.stderr.read()).decode()
            began = time.monotonic()
            with suppress(TimeoutExpired):
                child.wait(self._dice.uniform(0, 1.1) * self._longest[work])
            ended = child.poll() is not None
            assert not child.returncode, child.stderr.read().decode()
            if ended:
                self._longest[work] = 0.9 * (time.monotonic() - began)
            else:
                self._longest[work] *= 1.05
            return ended
        finally:
            children.end()

    def _lose_some(self) -> None:
        """Remove files, or all, so that there is something to collect."""
        keys = [key for key in self._zips if self._dice.random() < 0.7]
        if self._bucket is not None:
            self._bucket.remove(keys)
        elif self._dice.random() < 0.2:
            shutil.rmtree(self._root, ignore_errors=True)
        else:
            for key in keys:
                (Path(self._root) / key).unlink(missing_ok=True)

    def _lose_tables(self) -> None:
        """Rewrite a file as it is, or all, or delete all tables, so that there is work."""
        if self._dice.random() < 0.5:
            bak.store(self._root).cache.clear()
        elif self._bucket is None:
            for key in self._dice.sample([*self._zips], 20):
                path = Path(self._root) / key
                body = path.read_bytes()
                path.unlink()
                path.write_bytes(body)

    def _check(self, *, only_held: bool) -> None:
        """Compare the rows of a query with the rows of the zips."""
        if only_held and self._bucket is None and not (Path(self._root) / "data").exists():
            return
        try:
            rows = bak.scan(self._root, "spot", "klines").collect()
        except bak.ConfigurationError:
            assert only_held
            return
        counts = dict(rows.group_by("file").len().iter_rows())
        if not only_held:
            assert len(counts) == len(self._zips)
        assert set(counts.values()) <= {24}
        expected = rows.select(pl.col("open_time").dt.hour() + 100.0, "open", "file")
        days = expected["file"].cast(pl.String).str.extract(r"(\d\d)\.zip$").cast(pl.Int64) - 1
        assert (expected["open_time"] + days == expected["open"]).all()
