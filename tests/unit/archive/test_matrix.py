"""The shipped matrix states the known facts, and other matrices are read with care."""

from __future__ import annotations

import ast
import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from binance_archive_kit.archive.absence import Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.matrix import (
    DEFAULT_MATRIX,
    Confidence,
    WrongSymbolError,
    load_matrix,
    shipped,
)
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.requests import expand

MATRIX = load_matrix()
NOW = datetime(2025, 8, 20)

KLINES = ["klines", "aggTrades", "trades"]
FUTURES = [*KLINES, "indexPriceKlines", "markPriceKlines", "premiumIndexKlines"]
#: Section 2 of the facts: what is kept per market and partition.
KEPT = {
    ("spot", "daily"): KLINES,
    ("spot", "monthly"): KLINES,
    ("futures_um", "daily"): [
        *FUTURES,
        "bookDepth",
        "metrics",
        "bookTicker",
        "liquidationSnapshot",
    ],
    ("futures_um", "monthly"): [*FUTURES, "fundingRate", "bookTicker"],
    ("futures_cm", "daily"): [
        *FUTURES,
        "bookDepth",
        "metrics",
        "bookTicker",
        "liquidationSnapshot",
    ],
    ("futures_cm", "monthly"): [*FUTURES, "fundingRate", "bookTicker"],
    ("options", "daily"): ["BVOLIndex", "EOHSummary"],
    ("options", "monthly"): [],
}
SECONDS_TO_DAY = tuple(Interval)[:13]
MINUTES_TO_DAY = tuple(Interval)[1:13]
LONG = tuple(Interval)[13:]


@pytest.mark.parametrize("market", Market)
@pytest.mark.parametrize("partition", Partition)
def test_published_data_types(market: Market, partition: Partition) -> None:
    here = {
        data_type.value
        for (owner, data_type), feed in MATRIX.feeds.items()
        if owner is market and partition in feed.partitioned
    }
    assert here == set(KEPT[market.value, partition.value])


def test_the_documented_fields_agree_with_the_facts() -> None:
    for (market, data_type), feed in MATRIX.feeds.items():
        assert (feed.market, feed.type) == (market, data_type)
        assert set(feed.partitions) == set(feed.partitioned)
        kept = {word for facts in feed.partitioned.values() for word in facts.intervals}
        assert {word for word in feed.intervals if word} == kept
        assert bool(kept) == data_type.has_intervals
        assert f"/{market.path}/" in feed.url_pattern
        assert f"/{data_type}/" in feed.url_pattern
        assert ("{interval}" in feed.filename_pattern) == data_type.has_intervals
        for facts in feed.partitioned.values():
            assert facts.source
            assert facts.first is None or facts.last is None or facts.first <= facts.last


@pytest.mark.parametrize(
    ("market", "data_type", "partition", "first", "last"),
    [
        ("spot", "klines", "daily", "2017-08-17", None),
        ("spot", "klines", "monthly", "2017-08-01", None),
        ("futures_um", "klines", "daily", "2019-12-31", None),
        ("futures_um", "klines", "monthly", "2020-01-01", None),
        ("futures_cm", "klines", "daily", "2020-08-01", None),
        ("futures_um", "bookTicker", "daily", "2023-05-16", "2024-03-30"),
        ("futures_um", "bookTicker", "monthly", None, "2024-04-01"),
        ("futures_cm", "bookTicker", "daily", None, "2024-10-14"),
        ("futures_um", "liquidationSnapshot", "daily", None, "2024-03-31"),
        ("futures_cm", "liquidationSnapshot", "daily", "2023-06-25", "2024-10-14"),
        ("options", "EOHSummary", "daily", "2023-05-18", "2023-10-23"),
        ("options", "BVOLIndex", "daily", "2023-06-20", None),
        ("futures_um", "metrics", "daily", "2020-09-01", None),
        ("futures_um", "bookDepth", "daily", "2023-01-01", None),
        ("futures_um", "fundingRate", "monthly", "2020-01-01", None),
    ],
)
def test_first_and_last(
    market: str, data_type: str, partition: str, first: str | None, last: str | None
) -> None:
    feed = MATRIX.feed(Market(market), DataType(data_type))
    assert feed is not None
    facts = feed.partitioned[Partition(partition)]
    assert facts.first == (first and date.fromisoformat(first))
    assert facts.last == (last and date.fromisoformat(last))


def test_no_other_feed_has_ended() -> None:
    ended = {
        (market.value, data_type.value)
        for (market, data_type), feed in MATRIX.feeds.items()
        if any(facts.last for facts in feed.partitioned.values())
    }
    assert ended == {
        ("futures_um", "bookTicker"),
        ("futures_cm", "bookTicker"),
        ("futures_um", "liquidationSnapshot"),
        ("futures_cm", "liquidationSnapshot"),
        ("options", "EOHSummary"),
    }


@pytest.mark.parametrize("market", [Market.SPOT, Market.FUTURES_UM, Market.FUTURES_CM])
def test_intervals(market: Market) -> None:
    days = SECONDS_TO_DAY if market is Market.SPOT else MINUTES_TO_DAY
    for data_type in MATRIX.data_types(market):
        feed = MATRIX.feed(market, data_type)
        assert feed is not None
        for partition, facts in feed.partitioned.items():
            if not data_type.has_intervals:
                assert facts.intervals == ()
            elif partition is Partition.DAILY:
                assert facts.intervals == days
                assert facts.abandoned_intervals == (() if market is Market.SPOT else LONG)
            else:
                assert facts.intervals == (*days, *LONG)


def test_spot_has_no_order_book() -> None:
    assert MATRIX.feed(Market.SPOT, DataType.BOOK_DEPTH) is None
    assert MATRIX.feed(Market.SPOT, DataType.BOOK_TICKER) is None
    assert MATRIX.data_types(Market.OPTIONS) == [DataType.BVOL_INDEX, DataType.EOH_SUMMARY]


def test_doubtful_feeds_are_marked() -> None:
    feed = MATRIX.feed(Market.FUTURES_CM, DataType.BOOK_TICKER)
    assert feed is not None
    assert feed.partitioned[Partition.DAILY].confidence is Confidence.HEARSAY


@pytest.mark.parametrize(
    ("data_type", "absent"), [(DataType.EOH_SUMMARY, 12), (DataType.BVOL_INDEX, 21)]
)
def test_known_gaps(data_type: DataType, absent: int) -> None:
    feed = MATRIX.feed(Market.OPTIONS, data_type)
    assert feed is not None
    days = 0
    for gap in feed.partitioned[Partition.DAILY].known_gaps:
        first, _, last = gap.partition("..")
        days += (date.fromisoformat(last or first) - date.fromisoformat(first)).days + 1
    assert days >= absent


def test_bucket_region_and_endpoint() -> None:
    archive = MATRIX.archive
    assert archive.bucket == "data.binance.vision"
    assert archive.region == "ap-northeast-1"
    assert archive.endpoint == "https://s3-ap-northeast-1.amazonaws.com"


def test_publication_times() -> None:
    # Daily files come until about 13:00 of the next day, monthly ones until day 15.
    assert MATRIX.published_at(date(2025, 7, 15), Partition.DAILY) > datetime(
        2025, 7, 16, 13, tzinfo=UTC
    )
    assert MATRIX.published_at(date(2025, 7, 15), Partition.DAILY) <= datetime(
        2025, 7, 18, tzinfo=UTC
    )
    assert MATRIX.published_at(date(2025, 7, 1), Partition.MONTHLY) == datetime(
        2025, 8, 16, tzinfo=UTC
    )
    assert MATRIX.published_at(date(2025, 12, 1), Partition.MONTHLY) == datetime(
        2026, 1, 16, tzinfo=UTC
    )


# Symbols


@pytest.mark.parametrize(
    ("market", "data_type", "asked", "filed"),
    [
        ("spot", "trades", "BTCUSDT", "BTCUSDT"),
        ("spot", "trades", "币安人生USDT", "币安人生USDT"),
        ("futures_um", "trades", "BTCUSDT_250926", "BTCUSDT_250926"),
        ("futures_um", "trades", "LUNAUSDTSETTLED", "LUNAUSDTSETTLED"),
        ("futures_cm", "klines", "BTCUSD_PERP", "BTCUSD_PERP"),
        ("futures_cm", "klines", "BTCUSD_250926", "BTCUSD_250926"),
        ("futures_cm", "indexPriceKlines", "BTCUSD_PERP", "BTCUSD"),
        ("futures_cm", "indexPriceKlines", "BTCUSD_250926", "BTCUSD"),
        ("futures_cm", "indexPriceKlines", "BTCUSD", "BTCUSD"),
        ("futures_um", "indexPriceKlines", "BTCUSDT", "BTCUSDT"),
        ("futures_cm", "markPriceKlines", "BTCUSD_PERP", "BTCUSD_PERP"),
        ("options", "BVOLIndex", "BTC", "BTCBVOLUSDT"),
        ("options", "BVOLIndex", "BTCBVOLUSDT", "BTCBVOLUSDT"),
        ("options", "BVOLIndex", "BTCUSDT", "BTCBVOLUSDT"),
        ("options", "EOHSummary", "DOGE", "DOGEUSDT"),
        ("options", "EOHSummary", "DOGEUSDT", "DOGEUSDT"),
    ],
)
def test_symbols_are_spelled_as_in_the_archive(
    market: str, data_type: str, asked: str, filed: str
) -> None:
    feed = MATRIX.feed(Market(market), DataType(data_type))
    assert feed is not None
    assert MATRIX.archive_symbol(feed, asked) == filed


@pytest.mark.parametrize(
    ("data_type", "asked", "guess"),
    [
        ("klines", "BTCUSDT", "BTCUSD_PERP"),
        ("klines", "BTCUSD", "BTCUSD_PERP"),
        ("klines", "ETHUSDC", "ETHUSD_PERP"),
        ("klines", "ETH", "ETHUSD_PERP"),
        ("klines", "BTCUSDT_250926", "BTCUSD_PERP"),
        ("premiumIndexKlines", "BTCUSD_250926", "BTCUSD_PERP"),
        ("indexPriceKlines", "BTCUSDT", "BTCUSD"),
    ],
)
def test_wrong_symbols(data_type: str, asked: str, guess: str) -> None:
    feed = MATRIX.feed(Market.FUTURES_CM, DataType(data_type))
    assert feed is not None
    with pytest.raises(WrongSymbolError, match=f"did you mean '{guess}'"):
        MATRIX.archive_symbol(feed, asked)


# Other matrices

PLAIN: dict[str, Any] = {
    "description": "mine",
    "last_updated": "2025-07-19",
    "supported_markets": ["spot"],
    "availability_matrix": [
        {
            "market": "spot",
            "data_type": "klines",
            "intervals": ["1s", "1h", "1M"],
            "partitions": ["daily", "monthly"],
            "available_from": "2017-08-17",
            "notes": "",
            "url_pattern": "s3://x/data/spot/{partition}/klines/{symbol}/{interval}/{filename}",
            "filename_pattern": "{symbol}-{interval}-{date}.zip",
        },
        {
            "market": "spot",
            "data_type": "bookDepth",
            "intervals": ["1s", "100ms"],
            "partitions": ["daily"],
            "available_from": "2021-01-01",
            "url_pattern": "s3://x",
            "filename_pattern": "{symbol}",
        },
        {
            "market": "futures_um",
            "data_type": "fundingRate",
            "intervals": [None],
            "partitions": ["daily", "monthly"],
            "available_from": "2019-09-08",
            "url_pattern": "s3://x",
            "filename_pattern": "{symbol}",
        },
    ],
}


def write(path: Path, matrix: object) -> Path:
    path.write_text(json.dumps(matrix), encoding="utf-8")
    return path


def test_a_plain_matrix_is_corrected(tmp_path: Path) -> None:
    matrix = load_matrix(write(tmp_path / "mine.json", PLAIN))
    assert matrix.feeds.keys() == MATRIX.feeds.keys()
    assert matrix.feed(Market.SPOT, DataType.BOOK_DEPTH) is None
    said = {f"{m} {d}": text for (m, d), text in matrix.corrections.items()}
    assert said == {
        "spot klines": "mine.json on spot klines: the month is spelled 1mo",
        "spot bookDepth": "mine.json on spot bookDepth: the archive has no such feed",
        "futures_um fundingRate": ("mine.json on futures_um fundingRate: there are no daily files"),
    }


def test_corrections_become_notes_of_requested_feeds(tmp_path: Path) -> None:
    matrix = load_matrix(write(tmp_path / "mine.json", PLAIN))
    config = CollectionConfig(
        markets=["spot", "um"],
        symbols=["BTCUSDT"],
        data_types=["bookDepth", "trades"],
        output_directory="x",
    )
    asked = expand(config, matrix, NOW)
    [note] = asked.notes
    assert str(note) == "mine.json on spot bookDepth: the archive has no such feed"
    assert [absence.reason for absence in asked.unavailable] == [Reason.NO_SUCH_FEED]


def with_facts(**facts: Any) -> dict[str, Any]:
    entry = {**PLAIN["availability_matrix"][0], "partition_facts": facts}
    entry["partitions"] = list(facts)
    return {**PLAIN, "schema_version": 2, "availability_matrix": [entry]}


def facts(**fields: Any) -> dict[str, Any]:
    return {"confidence": "A", "source": "me", **fields}


def test_availability_in_a_users_matrix_is_used_as_it_is(tmp_path: Path) -> None:
    own = with_facts(daily=facts(first="2024-01-01", last="2024-02", intervals=["1h"]))
    matrix = load_matrix(write(tmp_path / "mine.json", own))
    assert matrix.corrections == {}
    feed = matrix.feed(Market.SPOT, DataType.KLINES)
    assert feed is not None
    assert feed.partitioned[Partition.DAILY].last == date(2024, 2, 1)
    assert matrix.feed(Market.SPOT, DataType.TRADES) == MATRIX.feed(Market.SPOT, DataType.TRADES)


@pytest.mark.parametrize(("partition", "other"), [("daily", "monthly"), ("monthly", "daily")])
def test_klines_kept_in_one_partition_only_are_never_dropped_in_silence(
    tmp_path: Path, partition: str, other: str
) -> None:
    own = with_facts(**{other: facts(intervals=["1h", "1d"])})
    matrix = load_matrix(write(tmp_path / "mine.json", own))
    config = CollectionConfig(
        markets=["spot"],
        symbols=["BTCUSDT"],
        data_types=["klines"],
        output_directory="x",
        partition=partition,
    )
    asked = expand(config, matrix, NOW)
    assert asked.folders == []
    assert [a.reason for a in asked.unavailable] == [Reason.NOT_IN_PARTITION] * 2


@pytest.mark.parametrize(
    "matrix",
    [
        [],
        {},
        {"availability_matrix": []},
        {**PLAIN, "schema_version": 3},
        {**PLAIN, "last_updated": "soon"},
        {**PLAIN, "availability_matrix": [{"market": "spot"}]},
        {**PLAIN, "availability_matrix": [{**PLAIN["availability_matrix"][0], "market": "x"}]},
        {**PLAIN, "supported_markets": ["x"]},
        {**PLAIN, "availability_matrix": [{**PLAIN["availability_matrix"][0], "data_type": "x"}]},
    ],
)
def test_other_json_is_rejected(tmp_path: Path, matrix: object) -> None:
    path = write(tmp_path / "mine.json", matrix)
    with pytest.raises(ConfigurationError, match=r"^matrix_path: .*mine\.json"):
        load_matrix(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"<html>"])
def test_invalid_json_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^matrix_path: .*mine\.json"):
        load_matrix(path)


def test_the_working_directory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_matrix(DEFAULT_MATRIX).corrections == {}
    write(tmp_path / DEFAULT_MATRIX, PLAIN)
    assert len(load_matrix(DEFAULT_MATRIX).corrections) == 3
    assert load_matrix().corrections == {}
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "m.json", PLAIN)
    assert len(load_matrix("sub/m.json").corrections) == 3


@pytest.mark.parametrize(
    "name",
    [
        "nonexistent_matrix.json",
        f"no/such/{DEFAULT_MATRIX}",
        f"/{DEFAULT_MATRIX}",
        "",
        ".",
        "column_schemas.json",
        "x" * 300 + ".json",
        "nul\0.json",
    ],
)
def test_missing_matrices_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^matrix_path: "):
        load_matrix(name)


def test_a_misspelled_name_is_answered_with_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="did you mean 'enhanced_binance_archive_matrix"):
        load_matrix("enhanced_binance_archive_matrx.json")


def test_shipped_files() -> None:
    assert shipped(DEFAULT_MATRIX).is_file()
    with pytest.raises(FileNotFoundError):
        shipped("nothing.json")


PUBLISHED = (
    Path(os.environ.get("BINANCE_ARCHIVE_SAMPLES", "/nowhere")).parent
    / "enhanced_binance_archive_matrix.published.json"
)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published matrix is not at hand")
def test_the_published_original_is_accepted_as_it_is() -> None:
    matrix = load_matrix(PUBLISHED)
    assert matrix.feeds == MATRIX.feeds
    said = {f"{m} {d}": text for (m, d), text in matrix.corrections.items()}
    for name, words in {
        "spot bookDepth": "no such feed",
        "spot bookTicker": "no such feed",
        "futures_um klines": "no interval 1s",
        "futures_um fundingRate": "no daily files",
        "futures_cm fundingRate": "no daily files",
        "futures_um premiumIndexKlines": "calls it premiumIndexKlines",
        "futures_um bookDepth": "no intervals",
        "futures_um bookTicker": "ended on 2024-04-01",
        "futures_um liquidationSnapshot": "ended on 2024-03-31",
        "futures_cm liquidationSnapshot": "ended on 2024-10-14",
        "options BVOLIndex": "no intervals",
        "options EOHSummary": "ended on 2023-10-23",
    }.items():
        assert words in said[name]
    assert "spot trades" not in said
    assert "futures_um metrics" not in said


def test_only_these_modules_read_the_shipped_files() -> None:
    package = Path(load_matrix.__code__.co_filename).parent
    readers = set()
    for path in package.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            named = isinstance(node, ast.Name) and node.id == "shipped"
            spelled = (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in docstrings
                and node.value in (DEFAULT_MATRIX, "column_schemas.json", "_matrix")
            )
            if named or spelled:
                readers.add(path.stem)
    assert readers == {"annotations", "matrix", "schemas", "symbols"}
