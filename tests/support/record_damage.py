"""A store with every kind of record, and its answers after the records were damaged."""

from __future__ import annotations

import io
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb

import binance_archive_kit as bak
from binance_archive_kit.errors import ArchiveKitError
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.layout import PRIVATE
from binance_archive_kit.tables.bucket_file import _footers
from binance_archive_kit.tables.row_reader import _footer
from tests.support.bucket import with_sidecars, zips_of
from tests.support.candles import HOUR, line
from tests.support.candles import at as time_of
from tests.support.dialects import zip_of
from tests.support.s3_server import Fault, LocalS3, Request
from tests.support.stores import kline

FIRST, LAST = date(2025, 7, 1), date(2025, 7, 5)
#: The archive lacks this file, does not deliver that one, and an hour is missing in the third.
ABSENT = kline("BETAUSDT", "2025-07-02")
FAILING = kline("GAMMAUSDT", "2025-07-04")
GAP = kline("ALFAUSDT", "2025-07-03")
_SYMBOLS = ("ALFAUSDT", "BETAUSDT", "GAMMAUSDT")
#: Bytes between two that are changed, one at a time.
STEP = 97
Answers = dict[str, Any]


def archive() -> dict[str, bytes]:
    """Return an archive of candles, with checksums."""
    zips = {}
    for symbol in _SYMBOLS:
        for days in range((LAST - FIRST).days + 1):
            key = kline(symbol, str(FIRST + timedelta(days=days)))
            if key != ABSENT:
                hours = [h for h in range(24) if key != GAP or h != 7]
                start = time_of(str(key.start))
                lines = (line(start + h * HOUR, HOUR, 100 + days + h) for h in hours)
                zips[str(key)] = zip_of(key, "".join(lines).encode())
    return with_sidecars(zips)


class RecordedStore:
    """A store that was collected, built, reported on and left with an unfinished update.

    Parameters
    ----------
    server : LocalS3
        Of `archive`.
    home : Path
        Whatever the store has on this machine lies below.
    url : str, optional
        The store, if it is in object storage.
    """

    def __init__(self, server: LocalS3, home: Path, url: str | None = None) -> None:
        self.server = server
        self.home = home
        self.root: Any = url or home / "store"
        self.config = bak.CollectionConfig(
            markets=["spot"],
            symbols="*",
            quote="USDT",
            data_types=["klines"],
            intervals={"klines": ["1h"]},
            date_range={"start": FIRST, "end": LAST},
            output_directory=self.root,
            endpoint_url=server.url,
            s5cmd_extra_args=["--retry-count=1"],
        )
        self._zips = zips_of(archive())

    def fill(self) -> None:
        """Make every kind of record."""

        def fail(request: Request) -> Fault | None:
            return Fault(status=403) if str(FAILING) in request.key else None

        first = self.config.replace(date_range={"start": FIRST, "end": FIRST + timedelta(days=2)})
        assert bak.collect(first).outcome == "complete"
        self.server.fault = fail
        with warnings.catch_warnings(action="ignore"):
            result = bak.update(self.root, end=LAST, endpoint_url=self.server.url)
        assert [failure.key for failure in result.failures] == [str(FAILING)]
        self.server.fault = None
        store = bak.store(self.root)
        store.build()
        bak.coverage(store)
        self.held = {*self._zips} - {str(FAILING)}

    def build(self) -> None:
        bak.store(self.root).build()

    def collect(self) -> None:
        bak.collect(self.config)

    def answers(self) -> Answers:
        """Return what the store says, each by another way."""
        verified = bak.verify(self.root)
        report = bak.coverage(self.root, start=FIRST, end=LAST)
        streams = report.streams.sort("symbol")
        columns = ["symbol", "open_time", "close"]
        with closing(bak.connect(self.root)) as con:
            query = f"SELECT {', '.join(columns)} FROM spot_klines ORDER BY ALL"
            queried = con.sql(query).pl().rows()
            counted = con.sql("SELECT count(*) FROM spot_klines").fetchall()
        scanned = bak.scan(self.root, "spot", "klines").select(columns).collect().sort(columns)
        frame = bak.store(self.root).frame()
        return {
            "bad files": verified.frame.rows(),
            "files": verified.files,
            "coverage": streams.select("symbol", "present", "expected").rows(),
            "queried": [(s, t.replace(tzinfo=None), c) for s, t, c in queried],
            "scanned": [(s, t.replace(tzinfo=None), c) for s, t, c in scanned.rows()],
            "counted": counted[0][0],
            "stored files": frame["files"].sum(),
        }

    def truth(self) -> Answers:
        """Return what it should say, by the bytes that the archive serves."""
        rows = sorted(row for key in self.held for row in _rows(key, self._zips[key]))
        days = (LAST - FIRST).days + 1
        symbols = [row[0] for row in rows]
        return {
            "bad files": [],
            "files": len(self.held),
            "coverage": [(each, symbols.count(each), 24 * days) for each in _SYMBOLS],
            "queried": rows,
            "scanned": rows,
            "counted": len(rows),
            "stored files": len(self.held),
        }

    def problem(self) -> str:
        """Return what is wrong about the answers; empty if they are right, or a clear error."""
        truth = self.truth()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                found = self.answers()
            except ArchiveKitError:
                return ""
            except duckdb.Error as error:
                # DuckDB raises errors of views as its own.
                return "" if "Error: " in str(error).partition(": ")[2] else str(error)
            except Exception as error:
                return f"{type(error).__name__}: {error}"
        if any("Lost: proofs of files" in str(each.message) for each in told):
            return ""  # a bucket is not listed without them
        return "; ".join(
            f"{name}: {str(found[name])[:300]} is not {str(value)[:300]}"
            for name, value in truth.items()
            if found[name] != value
        )

    def heal(self) -> str:
        """Collect again; return what is wrong after that."""
        try:
            with warnings.catch_warnings(action="ignore"):
                # What a first run finds damaged as it writes, the next one records again.
                bak.collect(self.config)
                result = bak.collect(self.config)
            if result.outcome != "complete":
                return f"collected again: {result.outcome}, {[*result.failures]}"
            missing = [absence.key for absence in result.missing]
            if missing != [str(ABSENT)]:
                return f"missing: {missing}"
            before, self.held = self.held, {*self._zips}
            with warnings.catch_warnings(action="ignore"):
                found, truth = self.answers(), self.truth()
                sound = bak.verify(self.root).sound
            self.held = before
        except Exception as error:
            return f"healing: {type(error).__name__}: {error}"
        if found != truth:
            return f"healed: {found} is not {truth}"
        return "" if sound else "healed, but not sound"


def _rows(key: str, body: bytes) -> Iterator[tuple[Any, ...]]:
    """Yield rows of a zip by the standard library."""
    with zipfile.ZipFile(io.BytesIO(body)) as file:
        text = file.read(file.namelist()[0]).decode()
    for row in text.splitlines():
        fields = row.split(",")
        at = time_of("1970-01-01") + timedelta(microseconds=int(fields[0]))
        yield key.split("/")[4], at.replace(tzinfo=None), float(fields[4])


class Damage:
    """Damages the records of a store in one way after another.

    Parameters
    ----------
    store : RecordedStore
        Filled. Its files of the archive are never written again: their stamps are in the records.
    cache : Path
        The user's cache folder, where a store in object storage has an index.
    """

    def __init__(self, store: RecordedStore, cache: Path) -> None:
        self._store = store
        self._is_local = isinstance(store.root, Path)
        self._folder = store.root / PRIVATE if isinstance(store.root, Path) else cache
        self._bucket = None if self._is_local else Bucket.parse(store.root)
        self._model = store.home / "model"
        shutil.copytree(self._folder, self._model)
        self._objects = self._read_objects()
        self._stamps = self._data()

    def records(self) -> dict[str, bytes]:
        """Return the records that are not empty: files, and the objects in a bucket."""
        found = {
            path.relative_to(self._model).as_posix(): path.read_bytes()
            for path in sorted(self._model.rglob("*"))
            if path.is_file()
        }
        return {name: body for name, body in (found | self._objects).items() if body}

    def problem(self, record: str, body: bytes | None) -> str:
        """Return what is wrong after a record has other bytes, or is lost, and after healing."""
        self._restore()
        if self._bucket is not None and record in self._objects:
            # Whoever has read it before does not read it again.
            shutil.rmtree(self._folder)
            self._bucket.remove([record])
            if body is not None:
                self._bucket.write(record, body)
        elif body is None:
            (self._folder / record).unlink()
        else:
            (self._folder / record).write_bytes(body)
        if problem := self._store.problem() or self._store.heal():
            return problem
        found = self._data()
        found.pop(str(FAILING), None)
        return "" if found == self._stamps else "files were fetched again"

    def paths(self) -> list[str]:
        """Return the paths of all files and folders below the private folder."""
        found = [path.relative_to(self._model).as_posix() for path in self._model.rglob("*")]
        return sorted(found)

    def obstruct(self, name: str, kind: str) -> str:
        """Put a file, a folder or a circle of links in place of another thing.

        Returns what is wrong then, and after it is removed; all work may raise a clear error.
        """
        self._restore()
        path = self._folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if kind == "file":
            path.write_text("mine")
        elif kind == "folder":
            path.mkdir()
            (path / "inside").write_text("mine")
        else:
            path.symlink_to(path)
        problem = self._store.problem()
        for work in (self._store.build, self._store.collect):
            try:
                with warnings.catch_warnings(action="ignore"):
                    work()
            except ArchiveKitError as error:
                if not any(word in str(error) for word in ("move", "remove", "check that")):
                    problem += f"unclear: {error}"
        # What the library has put there meanwhile stays.
        if path.is_symlink() or (path.is_file() and path.read_bytes() == b"mine"):
            path.unlink()
        elif (path / "inside").exists():
            shutil.rmtree(path)
        return problem or self._store.heal()

    def _restore(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._model, self._folder)
        _footer.cache_clear()
        _footers.clear()
        if self._bucket is None:
            (self._store.root / str(FAILING)).unlink(missing_ok=True)
            return
        now = self._read_objects()
        new = [key for key in now if key not in self._objects]
        self._bucket.remove([*new, str(FAILING)])
        for key, body in self._objects.items():
            if now.get(key) != body:
                self._bucket.write(key, body)

    def _read_objects(self) -> dict[str, bytes]:
        if self._bucket is None:
            return {}
        keys = [found.key for found in self._bucket.list(f"{PRIVATE}/")]
        return {key: self._bucket.read(key) for key in keys}

    def _data(self) -> dict[str, tuple[int, int]]:
        if self._bucket is not None:
            return {}  # files whose proof is lost are fetched again
        root = self._store.root
        stats = {path: path.stat() for path in sorted(root.glob("data/**/*.zip"))}
        return {
            path.relative_to(root).as_posix(): (stat.st_ino, stat.st_mtime_ns)
            for path, stat in stats.items()
        }


def flips(body: bytes, start: int = 0, step: int = STEP) -> Iterator[tuple[str, bytes]]:
    """Yield a file with one byte changed, for each that many bytes: a bit, or all of them."""
    for count, at in enumerate(range(start, len(body), step)):
        change = 0xFF if count % 5 == 4 else 1 << count % 8
        yield f"byte {at:,} ^ {change:#x}", body[:at] + bytes([body[at] ^ change]) + body[at + 1 :]


def cuts(body: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Yield a file that ends early, at many lengths, and that is lost."""
    yield "lost", None
    sizes = {0, 1, 15, 16, 99, 100, 4095, 4096, 4097, *(len(body) * n // 20 for n in range(20))}
    for size in sorted({*sizes, len(body) - 1}):
        if size < len(body):
            yield f"cut at {size:,}", body[:size]
