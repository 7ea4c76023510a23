"""Candles, resampled and joined as a researcher would, against the same done by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.errors import ConfigurationError
from tests.support import naive
from tests.support.stores import assert_same, kline, naive_rows, put, scan_rows, schema_of

DAYS = [kline("BTCUSDT", f"2025-07-0{day}") for day in (1, 2, 3)]
HOUR = timedelta(hours=1)
NOON = "2025-07-03 12:00"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def without_lines(first: int, last: int) -> Any:
    """Leave rows out, as a halt of the exchange does."""
    return lambda csv: b"".join(
        line for n, line in enumerate(csv.splitlines(keepends=True)) if not first <= n < last
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of hours with a halt of five of them, two of which are a bar of two hours."""
    root = tmp_path_factory.mktemp("store")
    put(root, DAYS[0])
    put(root, DAYS[1], edit=without_lines(3, 8))
    put(root, DAYS[2])
    put(root, kline("BTCUSDT", "2025-07-01", "4h"), 6)
    put(root, kline("ETHUSDT", "2025-07-01", "1d"), 1)
    put(root, kline("BTCUSD_PERP", "2025-07-01", market="futures/cm"))
    return root


def by_hand(root: Path, *keys: ObjectKey) -> list[dict[str, Any]]:
    return [row for key in keys for row in naive.read(root / str(key), key)]


# Candles


def test_candles_are_loaded_without_the_columns_of_the_path(root: Path) -> None:
    frame = bak.load_klines(root, "BTCUSDT", "1h")
    own = naive.columns(schema_of(DAYS[0]))[6:]
    assert frame.columns == own
    assert_same(scan_rows(frame), [row[6:] for row in naive_rows(root, *DAYS)])


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("2025-07-02", None, "2025-07-02 00:00", "2025-07-03 23:00"),
        (None, "2025-07-02", "2025-07-01 00:00", "2025-07-02 23:00"),
        ("2025-07-02", "2025-07-02", "2025-07-02 00:00", "2025-07-02 23:00"),
        ("2025-07-01 12:00", "2025-07-02 12:00", "2025-07-01 12:00", "2025-07-02 11:00"),
        (date(2025, 7, 3), date(2025, 7, 3), "2025-07-03 00:00", "2025-07-03 23:00"),
        (datetime(2025, 7, 3), datetime(2025, 7, 3, 1), "2025-07-03 00:00", "2025-07-03 00:00"),
        (at("2025-07-03T05:00"), None, "2025-07-03 05:00", "2025-07-03 23:00"),
        ("2025-07-03T09:00+09:00", "2025-07-03T02:00Z", "2025-07-03 00:00", "2025-07-03 01:00"),
        ("2020-01-01", "2030-01-01", "2025-07-01 00:00", "2025-07-03 23:00"),
    ],
)
def test_days_are_inclusive_and_moments_end_before(
    root: Path, start: Any, end: Any, first: str, last: str
) -> None:
    times = bak.load_klines(root, "BTCUSDT", "1h", start=start, end=end)["open_time"]
    assert (times[0], times[-1]) == (at(first), at(last))
    scanned = bak.scan(
        root, "spot", "klines", symbols="BTCUSDT", intervals="1h", start=start, end=end
    )
    assert scanned.collect()["open_time"].to_list() == times.to_list()


def test_other_families_and_markets_are_loaded_by_name(root: Path) -> None:
    put(root, kline("BTCUSDT", "2025-07-01", market="futures/um"), 5)
    mark = ObjectKey.parse(
        str(kline("BTCUSDT", "2025-07-01", market="futures/um")).replace(
            "/klines/", "/markPriceKlines/"
        )
    )
    put(root, mark, 6)
    assert bak.load_klines(root, "BTCUSDT", "1h", market="um").height == 5
    for spelled in ("markPriceKlines", "mark_price_klines"):
        frame = bak.load_klines(root, "BTCUSDT", "1h", market="futures_um", data_type=spelled)
        assert frame.height == 6


# Resampling


def resampled(rows: list[dict[str, Any]], hours: int) -> list[dict[str, Any]]:
    """Make longer candles of hours, one bucket after another."""
    buckets: dict[datetime, list[dict[str, Any]]] = {}
    for row in rows:
        since = row["open_time"] - datetime(1970, 1, 1)
        start = datetime(1970, 1, 1) + since // (hours * HOUR) * (hours * HOUR)
        buckets.setdefault(start, []).append(row)
    return [
        {
            "open_time": start,
            "open": held[0]["open"],
            "high": max(row["high"] for row in held),
            "low": min(row["low"] for row in held),
            "close": held[-1]["close"],
            "volume": sum(row["volume"] for row in held),
            "quote_volume": sum(row["quote_volume"] for row in held),
            "count": sum(row["count"] for row in held),
            "taker_buy_volume": sum(row["taker_buy_volume"] for row in held),
            "taker_buy_quote_volume": sum(row["taker_buy_quote_volume"] for row in held),
            "candles": len(held),
        }
        for start, held in buckets.items()
    ]


@pytest.mark.parametrize(
    ("every", "hours"), [("1h", 1), ("2h", 2), ("4h", 4), ("5h", 5), ("1d", 24)]
)
def test_candles_are_resampled_from_the_finest(root: Path, every: str, hours: int) -> None:
    expected = resampled(by_hand(root, *DAYS), hours)
    found = bak.ohlcv(root, "BTCUSDT", f"{hours}h")
    assert found["open_time"].dt.replace_time_zone(None).to_list() == [
        row["open_time"] for row in expected
    ]
    for name in ("open", "high", "low", "close", "count", "candles"):
        assert found[name].to_list() == [row[name] for row in expected], name
    for name in expected[0].keys() - {"open_time", "open", "high", "low", "close", "count"}:
        assert found[name].to_list() == pytest.approx([row[name] for row in expected]), name
    for price, row in zip(found["vwap"], expected, strict=True):
        if row["volume"]:
            assert price == pytest.approx(row["quote_volume"] / row["volume"])
        else:
            assert price is None  # nothing was traded at any price


def test_a_hole_is_not_filled_and_shows(root: Path) -> None:
    found = bak.ohlcv(root, "BTCUSDT", "2h", start="2025-07-02", end="2025-07-02")
    # Hours 3 to 7 are missing: the bar of 2 has one, those of 4 and 6 are not there.
    assert found["candles"].to_list() == [2, 1, *[2] * 8]
    starts = found["open_time"].to_list()
    assert at("2025-07-02 04:00") not in starts
    assert at("2025-07-02 06:00") not in starts
    assert all(b - a >= 2 * HOUR for a, b in pairwise(starts))


def test_coin_margined_candles_have_no_price_of_contracts(root: Path) -> None:
    found = bak.ohlcv(root, "BTCUSD_PERP", "1d", market="futures_cm")
    rows = by_hand(root, kline("BTCUSD_PERP", "2025-07-01", market="futures/cm"))
    assert found["volume"].to_list() == pytest.approx([sum(row["volume"] for row in rows)])
    assert found["base_volume"].to_list() == pytest.approx([sum(r["base_volume"] for r in rows)])
    assert "vwap" not in found.columns


@pytest.mark.parametrize(
    ("symbol", "every", "said"),
    [
        ("BTCUSDT", "30m", "'30m' is no whole multiple .* of BTCUSDT: 1h, 4h; write 1h$"),
        ("BTCUSDT", "90m", "'90m' is no whole multiple .*; write 1h or 2h$"),
        ("ETHUSDT", "1h", "'1h' is no whole multiple .* of ETHUSDT: 1d; write 1d$"),
        ("ETHUSDT", "36h", "write 1d or 2d$"),
    ],
)
def test_no_candle_reaches_over_the_end_of_a_longer_one(
    root: Path, symbol: str, every: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        bak.ohlcv(root, symbol, every)


@pytest.mark.parametrize("interval", ["3d", "1w", "1mo"])
def test_long_candles_fit_only_into_their_own_kind(tmp_path: Path, interval: str) -> None:
    day = "2025-07" if interval == "1mo" else "2025-07-07"
    put(tmp_path, kline("BTCUSDT", day, interval), 1)
    fits = {"1w": "2w", "1mo": "1q"}.get(interval)
    for every in ("12d", "2w", "1q"):
        if every == fits:
            assert bak.ohlcv(tmp_path, "BTCUSDT", every)["candles"].to_list() == [1]
        else:
            with pytest.raises(ConfigurationError, match="nothing of 3d"):
                bak.ohlcv(tmp_path, "BTCUSDT", every)


def test_candles_are_resampled_from_those_of_the_most_days(tmp_path: Path) -> None:
    """A day of minutes does not hide the days that have hours alone."""
    for day in DAYS:
        put(tmp_path, day)
    put(tmp_path, kline("BTCUSDT", "2025-07-03", "1m"), 1440)
    assert bak.ohlcv(tmp_path, "BTCUSDT", "1d")["candles"].to_list() == [24, 24, 24]
    of_a_day = bak.ohlcv(tmp_path, "BTCUSDT", "1d", start="2025-07-03")
    assert of_a_day["candles"].to_list() == [1440]
    assert bak.ohlcv(tmp_path, "BTCUSDT", "1d", interval="1m")["candles"].to_list() == [1440]
    with pytest.raises(ConfigurationError, match="It has: 1m, 1h"):
        bak.ohlcv(tmp_path, "BTCUSDT", "1d", interval="2h")
    with pytest.raises(ConfigurationError, match="no candle between 2026-01-01"):
        bak.ohlcv(tmp_path, "BTCUSDT", "1d", start="2026-01-01")


def test_a_length_is_a_length(root: Path) -> None:
    with pytest.raises(ConfigurationError, match="no length of time"):
        bak.ohlcv(root, "BTCUSDT", "soon")


# Funding


@pytest.fixture
def funded(tmp_path: Path) -> tuple[Path, ObjectKey, ObjectKey]:
    """Two days of candles, and funding from 08:00 of the first day on, 7 ms late."""
    candles = kline("BTCUSDT", "2025-07-01", market="futures/um")
    funding = ObjectKey.parse(
        "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2025-07.zip"
    )
    begin = int(at("2025-07-01").timestamp() * 1_000)
    lines = ["calc_time,funding_interval_hours,last_funding_rate"]
    lines += [f"{begin + hours * 3_600_000 + 7},8,0.000{hours:02}" for hours in (8, 16, 24)]
    put(tmp_path, candles)
    put(tmp_path, funding, edit=lambda _: "".join(f"{line}\n" for line in lines).encode())
    return tmp_path, candles, funding


def test_funding_is_the_latest_known_when_a_candle_opened(
    funded: tuple[Path, ObjectKey, ObjectKey],
) -> None:
    root, candles, funding = funded
    found = bak.klines_with_funding(root, "BTCUSDT", "1h")
    rates = by_hand(root, funding)
    assert found.height == 24
    for row, candle in zip(found.to_dicts(), by_hand(root, candles), strict=True):
        known = [rate for rate in rates if rate["calc_time"] <= candle["open_time"]]
        expected = known[-1]["last_funding_rate"] if known else None
        assert row["last_funding_rate"] == expected, candle["open_time"]
        assert row["close"] == candle["close"]
        calculated = known[-1]["calc_time"].replace(tzinfo=UTC) if known else None
        assert row["calc_time"] == calculated
    # It was calculated 7 ms after 08:00, so the candle of 08:00 knows nothing of it.
    assert found["last_funding_rate"].null_count() == 9
    assert found["last_funding_rate"].drop_nulls().unique().sort().to_list() == [0.00008, 0.00016]


def test_funding_is_not_carried_on_beyond_the_next_that_was_due(
    funded: tuple[Path, ObjectKey, ObjectKey],
) -> None:
    root, *_ = funded
    put(root, kline("BTCUSDT", "2025-07-02", market="futures/um"))
    found = bak.klines_with_funding(root, "BTCUSDT", "1h", start="2025-07-02")
    # The last was calculated 7 ms after midnight, and holds until the one due at 08:00.
    assert found["last_funding_rate"].to_list() == [0.00016, *[0.00024] * 8, *[None] * 15]
    assert found["calc_time"].null_count() == found["funding_interval_hours"].null_count() == 15


def test_funding_that_is_not_there_is_told(root: Path) -> None:
    put(root, kline("BTCUSDT", "2025-07-01", market="futures/um"), 5)
    with pytest.raises(ConfigurationError, match=r"has no USD.*fundingRate"):
        bak.klines_with_funding(root, "BTCUSDT", "1h")


# What cannot be meant


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda root: bak.scan(root, "sport", "klines"), "did you mean 'spot'"),
        (lambda root: bak.scan(root, "spot", "kline"), "did you mean 'klines'"),
        (lambda root: bak.scan(root, "spot", "fundingRate"), "Valid: klines, trades, aggTrades"),
        (lambda root: bak.scan(root, "spot", "trades"), "collect some first"),
        (lambda root: bak.scan(root, "spot", "klines", symbols="BTCUSD"), "did you mean 'BTCUSDT'"),
        (
            lambda root: bak.scan(root, "spot", "klines", symbols=["btcusdt"]),
            "did you mean 'BTCUSDT'",
        ),
        (
            lambda root: bak.scan(root, "spot", "klines", intervals="2h"),
            "not in the store. It has: 1h, 4h, 1d. To add it",
        ),
        (lambda root: bak.load_klines(root, "BTCUSDT", "1m"), "It has: 1h, 4h. To add it"),
        (lambda root: bak.load_klines(root, "ETHUSDT", "1h"), "It has: 1d. To add it"),
        (lambda root: bak.load_klines(root, "BTCUSDT", "1h", data_type="trades"), "Valid: klines"),
        (
            lambda root: bak.scan(root, "spot", "klines", start="2025-07-03", end="2025-07-02"),
            "start: 2025-07-03 is not before end: 2025-07-02",
        ),
        (
            lambda root: bak.scan(
                root, "spot", "klines", start="2025-07-03 00:00", end="2025-07-03 00:00"
            ),
            "is not before",
        ),
        (lambda root: bak.scan(root, "spot", "klines", start="yesterday"), "neither a day nor"),
        (lambda root: bak.scan(root, "spot", "klines", start=1751328000000), "neither a day nor"),
        (
            lambda root: bak.load_klines(root, "BTCUSDT", "1h", start="2026-01-01"),
            "2025-07-01 to 2025-07-03",
        ),
        (lambda root: bak.store(root, prefer="dayly"), "did you mean 'daily'"),
        (lambda root: bak.store(root, on_error="ignore"), "Valid: raise, skip"),
        (lambda root: bak.connect(root / "nowhere"), "is not a folder"),
        (lambda root: bak.scan(bak.store(root), "spot", "klines", prefer="monthly"), "prefer"),
        (lambda root: bak.connect(bak.store(root), cache=False), "already has its options"),
        (lambda root: bak.connect(root, on_eror="skip"), "did you mean 'on_error'"),
        (lambda root: bak.store(root, cache="no"), "cache: 'no' is neither True nor False"),
        (lambda root: bak.connect(root, distinct="yes"), "distinct: 'yes' is neither True"),
        (lambda root: bak.sql(root, "SELECT 1", known_at=1), "known_at: 1 is neither True"),
        (lambda root: bak.scan(root, "spot", "klines", distinct=None), "distinct: None is neither"),
        (lambda root: bak.store(root, cache_limit="1GB"), "'1GB' is not a number of bytes"),
        (lambda root: bak.store(root / "data"), "name the folder above it"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(root: Path, ask: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ask(root)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "ask", [bak.store, bak.connect, lambda root, **o: bak.scan(root, "spot", "klines", **o)]
)
def test_an_option_that_is_not_there_is_refused(root: Path, ask: Any) -> None:
    with pytest.raises((TypeError, ConfigurationError), match="prefers"):
        ask(root, prefers="daily")


def test_intervals_may_be_spelled_as_people_do(root: Path) -> None:
    frame = bak.scan(root, "spot", "klines", intervals=["1d"]).collect()
    assert frame["symbol"].unique().to_list() == ["ETHUSDT"]


# The store shows itself


def test_a_store_shows_what_it_has(root: Path) -> None:
    store = bak.store(root)
    frame = store.frame()
    assert frame.columns == [
        "view", "market", "data_type", "partition", "symbol", "interval", "first", "last", "files",
        "bytes", "proven",
    ]  # fmt: skip
    hours = frame.filter(view="spot_klines", symbol="BTCUSDT", interval="1h").row(0, named=True)
    assert (hours["files"], hours["first"], hours["last"]) == (
        3,
        date(2025, 7, 1),
        date(2025, 7, 3),
    )
    assert hours["bytes"] == sum((root / str(key)).stat().st_size for key in DAYS)
    assert hours["proven"] == 0
    files = f"{frame['files'].sum()} files"
    assert files in repr(store)
    assert str(root) in repr(store)
    page = store._repr_html_()
    assert "spot_klines" in page
    assert files in page


def test_a_store_is_walked_by_name(root: Path) -> None:
    store = bak.store(root)
    assert "spot" in store._ipython_key_completions_()
    assert store["spot"]._ipython_key_completions_() == ["klines"]
    shelf = store["spot"]["klines"]["BTCUSDT"]
    assert list(shelf) == ["1h", "4h"]
    assert_same(scan_rows(shelf["1h"].scan()), naive_rows(root, *DAYS))
    assert shelf["1h"].scan(start="2025-07-03").select(pl.len()).collect().item() == 24
    with pytest.raises(ConfigurationError, match="did you mean 'BTCUSDT'"):
        store["spot"]["klines"]["BTCUSD"]
    with pytest.raises(ConfigurationError, match="choose a data_type first: klines"):
        store["spot"].scan()
    assert "<" not in repr(shelf)
    assert "BTCUSDT" in shelf._repr_html_()


def test_an_empty_folder_is_a_store_of_nothing(tmp_path: Path) -> None:
    store = bak.store(tmp_path)
    assert store.frame().is_empty()
    assert "no file of the archive" in repr(store)
    assert list(store) == []
    assert store.warm().months == 0
    with bak.connect(store) as con:
        assert con.sql("FROM store_streams").fetchall() == []
        with pytest.raises((duckdb.Error, ConfigurationError), match="collect some first"):
            con.sql("SELECT count(*) FROM spot_klines").fetchall()
