"""A store in object storage gives the same answers as the same files in a folder."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ChangedFile,
    ConfigurationError,
    NoAccess,
    StoreError,
    WrongColumns,
)
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.storage import bucket_records
from binance_archive_kit.storage.bucket import Bucket
from binance_archive_kit.storage.bucket_store import BucketStore
from binance_archive_kit.storage.proof import Proof, ProvenBy
from binance_archive_kit.tables import bucket_folder
from binance_archive_kit.tables.bucket_folder import TABLES
from binance_archive_kit.tables.bucket_tables import publish_tables
from tests.support.bucket_stores import ask_elsewhere, prove_all, upload
from tests.support.s3_gate import Gate
from tests.support.stores import (
    Rows,
    assert_same,
    kline,
    naive_rows,
    other,
    put,
    scan_rows,
    view_of,
    view_rows,
)

DAYS = [f"2025-07-{day:02}" for day in range(1, 6)]
KEYS = [
    *(kline(symbol, day) for symbol in ("BTCUSDT", "币安人生USDT") for day in DAYS),
    kline("BTCUSDT", "2025-06"),
    kline("ETHUSDT", "2025-07"),
    *(kline("ETHUSDT", day) for day in DAYS[:2]),
    *(other("trades", "BTCUSDT", day, "spot") for day in DAYS[:2]),
    *(other("metrics", "BTCUSDT", day) for day in DAYS),
    *(other("bookDepth", "BTCUSDT", day) for day in DAYS),
    ObjectKey.parse("data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-06.zip"),
    ObjectKey.parse("data/option/daily/EOHSummary/BTCUSDT/BTCUSDT-EOHSummary-2023-07-01.zip"),
]
VIEWS = sorted({view_of(key) for key in KEYS})


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an empty index."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "index"))
    monkeypatch.setattr(bucket_records, "_FRESH", 0.0)
    monkeypatch.setattr(bucket_folder, "_FRESH", 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for key in KEYS:
        put(tmp_path / "local", key)
    prove_all(tmp_path / "local")
    return tmp_path / "local"


def assert_same_answers(root: Path, url: str, **options: object) -> None:
    local, remote = bak.connect(root, **options), bak.connect(url, **options)
    for view in VIEWS:
        assert_same(view_rows(remote, view), view_rows(local, view))
        where = "date = '2025-07-02' AND symbol = 'BTCUSDT'"
        assert_same(view_rows(remote, view, where), view_rows(local, view, where))
    for market, data_type in {(key.folder.market, key.folder.data_type) for key in KEYS}:
        found, expected = (
            scan_rows(bak.scan(place, market, data_type, **options)) for place in (url, root)
        )
        assert_same(found, expected)


@pytest.mark.parametrize("built", ["nothing", "half", "all"])
def test_rows_are_the_same(root: Path, bucket: Bucket, built: str) -> None:
    half = [str(key) for key in KEYS[::2]]
    upload(root, bucket, half)
    if built == "half":
        bak.store(bucket.url).build()
    upload(root, bucket, [str(key) for key in KEYS[1::2]])
    if built == "all":
        bak.store(bucket.url).build()
        for data_type in ("trades", "bookDepth"):
            bak.store(bucket.url).build(data_type=data_type)
        assert set(bak.store(bucket.url).frame()["tabled"]) == {5, 2, 1}
    assert_same_answers(root, bucket.url)
    if built == "half":
        assert_same_answers(root, bucket.url, prefer="monthly")
        assert_same_answers(root, bucket.url, decimals=True)
        assert_same_answers(root, bucket.url, cache=False)


def one_symbol(root: Path, days: int = 5, rows: int = 24) -> list[ObjectKey]:
    keys = [kline("AUSDT", f"2025-07-{day:02}") for day in range(1, days + 1)]
    for key in keys:
        put(root, key, rows)
    return keys


def test_loaders_and_views_of_the_store(root: Path, bucket: Bucket) -> None:
    upload(root, bucket)
    bak.store(bucket.url).build()
    places = root, bucket.url

    def same(*frames: pl.DataFrame) -> None:
        assert frames[0].rows() == frames[1].rows()
        assert frames[0].height

    same(*(bak.load_klines(place, "BTCUSDT", "1h") for place in places))
    same(*(bak.panel(place, "spot", "1h", "close") for place in places))
    local, remote = map(bak.connect, places)
    names = "view, market, data_type, partition, symbol, interval, first, last, files, bytes"
    same(*(con.sql(f"SELECT {names} FROM store_streams").pl() for con in (local, remote)))
    same(*(con.sql("SELECT * FROM store_universe").pl() for con in (local, remote)))
    store = bak.store(bucket.url)
    assert store.frame()["proven"].sum() == len(KEYS)
    assert bucket.url in repr(store)
    assert bucket.url in store._repr_html_()
    copy = pickle.loads(pickle.dumps(store))
    same(*(bak.load_klines(place, "BTCUSDT", "1h") for place in (copy, root)))
    with pytest.raises(ConfigurationError, match="read by its records"):
        store.skipped()


def test_coverage_is_the_same(root: Path, bucket: Bucket) -> None:
    upload(root, bucket)
    local, remote = bak.coverage(root), bak.coverage(bucket.url)
    for name in ("streams", "gaps", "findings"):
        found, expected = getattr(remote, name), getattr(local, name)
        assert found.equals(expected), name
    assert remote.streams.height
    assert str(bak.backtest_coverage(bucket.url).window) == str(bak.backtest_coverage(root).window)


def test_an_object_that_is_gone_is_named(tmp_path: Path, bucket: Bucket) -> None:
    keys = one_symbol(tmp_path)
    upload(tmp_path, bucket)
    bucket.remove([str(keys[1])])
    with pytest.raises(NoAccess, match=f"{keys[1].name}.*there is no such object"):
        bak.scan(bucket.url, "spot", "klines").collect()
    with pytest.warns(ArchiveKitWarning, match=keys[1].name):
        found = bak.scan(bucket.url, "spot", "klines", on_error="skip").collect()
    assert_same(scan_rows(found), naive_rows(tmp_path, keys[0], *keys[2:]))


def test_objects_that_are_issued_again(tmp_path: Path, bucket: Bucket) -> None:
    keys = one_symbol(tmp_path)
    upload(tmp_path, bucket)
    store = bak.store(bucket.url)
    store.build()
    before = naive_rows(tmp_path, *keys)
    put(tmp_path, keys[1], 20, seed=1)
    bucket.upload({str(keys[1]): tmp_path / str(keys[1])})
    # Until its proof is recorded, the tables have the proven rows, and nothing else is believed.
    assert_same(scan_rows(bak.scan(store, "spot", "klines")), before)
    with pytest.raises(ChangedFile, match="replaced in the bucket"):
        bak.scan(bucket.url, "spot", "klines", cache=False).collect()
    upload(tmp_path, bucket, [str(keys[1])])
    after = naive_rows(tmp_path, *keys)
    for source in (store, bucket.url):
        assert_same(scan_rows(bak.scan(source, "spot", "klines")), after)
    assert store.last_scan is not None
    assert (store.last_scan.opened, store.last_scan.cached) == (1, 4)
    store.build()
    assert_same(scan_rows(bak.scan(store, "spot", "klines")), after)
    assert (store.last_scan.opened, store.last_scan.cached) == (0, 5)


def test_large_files_are_read_by_ranges(tmp_path: Path, bucket: Bucket) -> None:
    key = other("trades", "BTCUSDT", "2025-07-01", "spot")
    path = put(tmp_path, key, 180_000)
    assert path.stat().st_size > 4 << 20
    upload(tmp_path, bucket)
    assert_same(
        scan_rows(bak.scan(bucket.url, "spot", "trades")),
        scan_rows(bak.scan(tmp_path, "spot", "trades")),
    )


def test_tables_of_a_spool_are_published(root: Path, tmp_path: Path, bucket: Bucket) -> None:
    upload(root, bucket)
    Engine(root).build(None, None, None)
    proofs = BucketStore(bucket).records.proofs("data/")
    files = publish_tables(root, bucket, {key: proof.stamp for key, proof in proofs.items()})
    small = [key for key in KEYS if key.folder.data_type not in ("trades", "bookDepth")]
    assert files == len(small)
    store = bak.store(bucket.url)
    assert_same_answers(root, bucket.url)
    rows = scan_rows(bak.scan(store, "futures_um", "metrics"))
    assert len(rows) == 24 * len(DAYS)
    assert store.last_scan is not None
    assert (store.last_scan.opened, store.last_scan.cached) == (0, len(DAYS))


def test_a_month_of_a_symbol_takes_few_requests(
    tmp_path: Path, bucket: Bucket, s3_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = date(2025, 5, 1)
    for symbol in range(4):
        for day in range(70):
            put(tmp_path, kline(f"S{symbol}USDT", str(first + timedelta(day)), "15m"), 96)
    keys = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("data/**/*.zip"))
    for worker in range(2):
        upload(tmp_path, bucket, keys[worker::2])
        bak.store(bucket.url).build()
    statement = (
        "SELECT count(*), sum(close) FROM spot_klines WHERE symbol = 'S2USDT' "
        "AND interval = '15m' AND date BETWEEN '2025-06-01' AND '2025-06-30'"
    )
    found, requests = ask_elsewhere(s3_endpoint, bucket.url, statement, tmp_path / "empty")
    month = bak.scan(
        tmp_path, "spot", "klines", symbols="S2USDT", start="2025-06-01", end="2025-06-30"
    ).collect()
    assert found.startswith(f"[({month.height}, ")
    assert month.height == 30 * 96
    with capsys.disabled():
        print(f" {requests} requests", end="")
    assert requests <= 20


def test_only_the_records_of_a_symbol_are_read(
    tmp_path: Path, bucket: Bucket, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = ("AUSDT", "BUSDT", "币安人生USDT")
    for symbol in symbols:
        for day in DAYS:
            put(tmp_path, kline(symbol, day))
        upload(tmp_path, bucket, [str(kline(symbol, day)) for day in DAYS])

    def by_sql(symbol: str) -> Rows:
        where = f"symbol = '{symbol}' AND date > '2025-01-01'"
        return view_rows(bak.connect(bucket.url), "spot_klines", where)

    def by_scan(symbol: str) -> Rows:
        return scan_rows(bak.scan(bucket.url, "spot", "klines", symbols=symbol))

    with Gate(s3_endpoint) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gate.url)
        for symbol in symbols[1:]:
            for query in (by_sql, by_scan):
                index = tmp_path / f"{symbol} {query.__name__}"
                monkeypatch.setenv("XDG_CACHE_HOME", str(index))
                gate.requests.clear()
                expected = naive_rows(tmp_path, *(kline(symbol, day) for day in DAYS))
                assert_same(query(symbol), expected)
                assert gate.count("GET", ".parquet") == 1


# Builds


def test_two_builds_at_once(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = one_symbol(tmp_path, 20)
    upload(tmp_path, bucket)
    engines = []
    for machine in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        engines.append(Engine(bucket.url))
    with ThreadPoolExecutor(2) as pool:
        [*pool.map(lambda engine: engine.build(None, None, None, quiet=True), engines)]
    expected = naive_rows(tmp_path, *keys)
    assert_same(scan_rows(bak.scan(bucket.url, "spot", "klines")), expected)
    bak.store(bucket.url).build()
    assert bak.store(bucket.url).cache.use().parts == 1
    assert_same(scan_rows(bak.scan(bucket.url, "spot", "klines")), expected)


class Killed(BaseException):
    """The end of a process."""


def test_a_build_may_be_killed_and_repeated(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = one_symbol(tmp_path, 12)
    chance = random.Random(17)
    for start in range(0, 12, 4):
        upload(tmp_path, bucket, map(str, keys[start : start + 4]))
        expected = naive_rows(tmp_path, *keys[: start + 4])
        for _ in range(4):
            with monkeypatch.context() as patch:
                patch.setenv("XDG_CACHE_HOME", str(tmp_path / str(chance.random())))
                left = [chance.randrange(12)]
                for name in ("list", "write", "remove", "upload", "open"):
                    _die_after(patch, name, left)
                with suppress(Killed):
                    Engine(bucket.url).build(None, None, None, quiet=True)
            assert_same(scan_rows(bak.scan(bucket.url, "spot", "klines")), expected)
        store = bak.store(bucket.url)
        store.build()
        assert_same(scan_rows(bak.scan(store, "spot", "klines")), expected)
        assert store.last_scan is not None
        assert store.last_scan.cached == start + 4
        assert len(bucket.list(".binance_archive_kit/records/spot/")) == 1


def test_a_build_compares_what_it_reads_with_the_proofs(tmp_path: Path, bucket: Bucket) -> None:
    keys = one_symbol(tmp_path, 4)
    upload(tmp_path, bucket)
    records = BucketStore(bucket).records
    proof = records.proofs(keys=[str(keys[1])])[str(keys[1])]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with records.recorder() as record:
        record([Proof(str(keys[1]), proof.stamp, "0" * 64, "", ProvenBy.SHA256, now)])
    with pytest.warns(ArchiveKitWarning, match=f"left out.*{keys[1].name}.*SHA-256 is not"):
        bak.store(bucket.url).build()
    store = bak.store(bucket.url)
    assert_same(scan_rows(bak.scan(store, "spot", "klines")), naive_rows(tmp_path, *keys))
    assert store.last_scan is not None
    assert (store.last_scan.opened, store.last_scan.cached) == (1, 3)


def test_a_process_that_builds_may_be_killed(tmp_path: Path, bucket: Bucket) -> None:
    keys = one_symbol(tmp_path, 21)
    chance = random.Random(17)
    for end in (7, 14, 21):
        upload(tmp_path, bucket, map(str, keys[end - 7 : end]))
        # With the index that the one before has left.
        with subprocess.Popen(
            [sys.executable, "-m", "binance_archive_kit", "build", bucket.url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.8, 3))
            process.kill()
        expected = naive_rows(tmp_path, *keys[:end])
        assert_same(scan_rows(bak.scan(bucket.url, "spot", "klines")), expected)
    store = bak.store(bucket.url)
    store.build()
    assert_same(scan_rows(bak.scan(store, "spot", "klines")), expected)
    assert store.last_scan is not None
    assert store.last_scan.cached == 21


def _die_after(patch: pytest.MonkeyPatch, name: str, left: list[int]) -> None:
    """Let a process die once so many requests were made together."""
    real = getattr(Bucket, name)

    def call(self: Bucket, *args: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return real(self, *args)

    patch.setattr(Bucket, name, call)


def test_nothing_is_built_by_queries(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("binance_archive_kit.query.table_builder._MANY_FILES", 2)
    one_symbol(tmp_path)
    upload(tmp_path, bucket)
    before = bucket.list()
    for _ in range(3):
        bak.scan(bucket.url, "spot", "klines").collect()
    assert bucket.list() == before


def test_an_endpoint_that_fails_is_not_a_damaged_file(
    tmp_path: Path, bucket: Bucket, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = one_symbol(tmp_path)
    upload(tmp_path, bucket)
    with Gate(s3_endpoint) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gate.url)
        store = bak.store(bucket.url)
        assert store.frame()["files"].sum() == len(keys)
        gate.rule = lambda method, path: 403 if keys[2].name in path else None
        with pytest.raises(StoreError, match="access is denied"):
            bak.scan(store, "spot", "klines").collect()
        gate.rule = None
        assert_same(scan_rows(bak.scan(store, "spot", "klines")), naive_rows(tmp_path, *keys))


def test_places_without_a_store(bucket: Bucket) -> None:
    for call in (bak.connect, bak.store, bak.coverage):
        with pytest.raises(ConfigurationError, match="has no store"):
            call(bucket.url)
        with pytest.raises(ConfigurationError, match="give it as text"):
            call(Path(bucket.url))


def test_exports_and_the_command_line(tmp_path: Path, bucket: Bucket) -> None:
    one_symbol(tmp_path / "local")
    upload(tmp_path / "local", bucket)
    counts = []
    for place in (tmp_path / "local", bucket.url):
        target = tmp_path / f"lake {len(counts)}"
        done = bak.to_parquet(place, target)
        counts.append(done.rows)
        again = bak.to_parquet(place, target)
        assert (again.written, again.kept) == (0, done.written)
    assert counts == [120, 120]
    files = "market=spot/data_type=klines/**/*.parquet"
    lakes = [pl.read_parquet(tmp_path / f"lake {at}" / files) for at in range(2)]
    assert lakes[0].equals(lakes[1])
    for command in (
        ["sql", bucket.url, "SELECT count(*) AS n FROM spot_klines"],
        ["build", bucket.url],
        ["cache", bucket.url],
        ["cache", bucket.url, "--clear"],
        ["cache", bucket.url, "--clear", "--shared"],
    ):
        before = bucket.list(TABLES)
        found = subprocess.run(
            [sys.executable, "-m", "binance_archive_kit", *command],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert ("120" if command[0] == "sql" else bucket.url) in found
        if command[-1] == "--clear":
            # What all machines share does not go by a word for this machine.
            assert bucket.list(TABLES) == before != []
            assert "--clear --shared deletes them for all" in found
    assert bucket.list(TABLES) == []


@pytest.mark.parametrize("spoil", [lambda csv: csv + b"1,2\n", lambda csv: b"<html>" + csv])
def test_errors_are_the_same(
    tmp_path: Path, bucket: Bucket, spoil: Callable[[bytes], bytes]
) -> None:
    keys = one_symbol(tmp_path)
    put(tmp_path, keys[2], edit=spoil)
    prove_all(tmp_path)
    upload(tmp_path, bucket)
    messages = []
    for place in (tmp_path, bucket.url):
        for _ in range(2):
            with pytest.raises(WrongColumns) as caught:
                bak.scan(place, "spot", "klines").collect()
            messages.append(str(caught.value))
        with pytest.warns(ArchiveKitWarning, match=keys[2].name):
            left = bak.scan(place, "spot", "klines", on_error="skip").collect()
        assert_same(scan_rows(left), naive_rows(tmp_path, *keys[:2], *keys[3:]))
    assert len(set(messages)) == 1
    assert "the archive" in messages[0]
    with pytest.warns(ArchiveKitWarning, match=keys[2].name):
        bak.store(bucket.url).build()
    with pytest.raises(WrongColumns):
        bak.scan(bucket.url, "spot", "klines").collect()
