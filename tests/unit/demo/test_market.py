"""The market of the demo archive: true to the formats, consistent, and built only when read."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from binance_archive_kit.archive.enums import Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.demo import market as market_module
from binance_archive_kit.demo import synthetic
from binance_archive_kit.demo.market import MARKET, MarketFiles

#: SHA-256 over the keys and texts of the files of 1d.
TEXTS_DIGEST = "20214a22bf3e0dd76a41843359264ebc385759f588314e6b4e28a67038d08b51"

MAIN = synthetic.build()
FILES = MarketFiles(MAIN)
OF_DAYS = [key for key in FILES if key not in MAIN and "/1d/" in key and key.endswith(".zip")]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def csv_of(key: str) -> str:
    with zipfile.ZipFile(io.BytesIO(FILES[key])) as archive:
        return archive.read(ObjectKey.parse(key).member).decode("utf-8")


def rows_of(key: str) -> list[list[str]]:
    return [row for row in csv.reader(csv_of(key).splitlines()) if row[0][0].isdigit()]


def time_of(text: str) -> datetime:
    micros = int(text) if len(text) == 16 else int(text) * 1_000
    return EPOCH + timedelta(microseconds=micros)


def daily_rows(market: str, symbol: str) -> dict[date, list[str]]:
    """Return the candles of 1d of a symbol, from the monthly files of the whole archive."""
    prefix = f"data/{market}/monthly/klines/{symbol}/1d/"
    keys = [key for key in FILES if key.startswith(prefix) and key.endswith(".zip")]
    return {time_of(row[0]).date(): row for key in keys for row in rows_of(key)}


def totals(rows: list[list[str]]) -> list[float]:
    """Return open, high, low, close and the sums of a candle that is made of others."""
    opens, highs, lows, closes = ([float(row[at]) for row in rows] for at in (1, 2, 3, 4))
    sums = [sum(float(row[at]) for row in rows) for at in (5, 7, 8, 9, 10)]
    return [opens[0], max(highs), min(lows), closes[-1], *sums]


def test_a_listing_builds_nothing_and_a_read_only_its_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = []
    monkeypatch.setattr(market_module, "zip_of", lambda key, text: built.append(key) or b"zip")
    files = MarketFiles({"data/a.zip": b"a"})
    key = "data/spot/monthly/klines/POLUSDT/1d/POLUSDT-1d-2024-10.zip"
    assert key in files
    assert list(files) == sorted(files)
    assert (len(list(files)), files["data/a.zip"], built) == (len(files), b"a", [])
    assert files[f"{key}.CHECKSUM"].startswith(hashlib.sha256(b"zip").hexdigest().encode())
    assert {str(each.folder) for each in built} == {str(ObjectKey.parse(key).folder)}
    with pytest.raises(KeyError):
        files["data/spot/monthly/klines/POLUSDT/1d/POLUSDT-1d-2020-01.zip"]


def test_the_objects_of_the_rest_of_the_archive_are_as_they_were() -> None:
    assert {key: FILES[key] for key in MAIN} == MAIN


def test_every_machine_gives_the_same_texts() -> None:
    digest = hashlib.sha256()
    for key in OF_DAYS:
        digest.update(f"{key}\n{csv_of(key)}".encode())
    assert digest.hexdigest() == TEXTS_DIGEST


def test_it_is_small() -> None:
    assert sum(len(FILES[key]) for key in OF_DAYS) < 4e6


def test_files_have_a_row_for_each_of_their_days() -> None:
    last = {(each.instrument.market, each.instrument.symbol): each.last for each in MARKET}
    first = {(each.instrument.market, each.instrument.symbol): each.first for each in MARKET}
    for text in OF_DAYS:
        key = ObjectKey.parse(text)
        symbol = key.folder.market, key.folder.symbol
        start, end = max(key.start, first[symbol]), min(key.end, last[symbol])
        days = [time_of(row[0]).date() for row in rows_of(text)]
        assert days == [start + count * DAY for count in range((end - start).days + 1)]
        # Spot changes its unit of time with 2025, USD-M has headers since September 2022.
        digits = {len(row[0]) for row in rows_of(text)}
        spot = key.folder.market is Market.SPOT
        assert digits == {16 if spot and key.start.year == 2025 else 13}
        has_header = csv_of(text).startswith("open_time")
        assert has_header == (not spot and key.start > date(2022, 8, 11))


def test_candles_hold_together() -> None:
    for each in MARKET:
        market, symbol = each.instrument.market, each.instrument.symbol
        rows = daily_rows(market.path, symbol)
        for row in rows.values():
            opened, high, low, close = map(float, row[1:5])
            assert 0 < low <= min(opened, close) <= max(opened, close) <= high
            assert 0 < float(row[9]) <= float(row[5])
        # Trading never pauses, and BTCUSDT and ETHUSDT go on into the rest of the archive.
        for (day, before), (following, after) in pairwise(rows.items()):
            assert following == day + DAY
            assert float(after[1]) == pytest.approx(float(before[4]), rel=2e-4)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BNBUSDT"])
def test_days_are_made_of_minutes(symbol: str) -> None:
    days = daily_rows("spot", symbol)
    minutes = rows_of(f"data/spot/monthly/klines/{symbol}/1m/{symbol}-1m-2024-02.zip")
    assert len(minutes) == 29 * 1_440
    for count in (0, 13, 28):
        of_day = minutes[count * 1_440 : (count + 1) * 1_440]
        assert time_of(of_day[0][0]) == datetime(2024, 2, 1, tzinfo=UTC) + count * DAY
        day = days[date(2024, 2, 1) + count * DAY]
        assert totals(of_day) == pytest.approx(totals([day]), rel=1e-9)


@pytest.mark.parametrize(
    ("market", "day"),
    [("futures/um", "2022-09-15"), ("spot", "2024-12-30"), ("spot", "2025-01-02")],
)
def test_days_are_made_of_the_hours_of_older_files(market: str, day: str) -> None:
    hours = rows_of(f"data/{market}/daily/klines/BTCUSDT/1h/BTCUSDT-1h-{day}.zip")
    row = daily_rows(market, "BTCUSDT")[date.fromisoformat(day)]
    assert totals([row]) == pytest.approx(totals(hours), rel=1e-9)


def test_days_agree_with_their_month() -> None:
    for symbol, month in (("WAVESUSDT", "2024-06"), ("MATICUSDT", "2024-09")):
        path = f"klines/{symbol}/1d/{symbol}-1d-{month}"
        days = [key for key in FILES if key.startswith(f"data/spot/daily/{path}")]
        rows = [row for key in days if key.endswith(".zip") for row in rows_of(key)]
        assert rows == rows_of(f"data/spot/monthly/{path}.zip")


def test_a_renamed_coin_goes_on_and_an_ended_one_has_lost_most() -> None:
    old, new = daily_rows("spot", "MATICUSDT"), daily_rows("spot", "POLUSDT")
    assert (max(old), min(new)) == (date(2024, 9, 10), date(2024, 9, 13))
    moved = float(new[date(2024, 9, 13)][1]) / float(old[date(2024, 9, 10)][4])
    assert moved == pytest.approx(1, abs=0.15)
    for symbol in ("SRMUSDT", "WAVESUSDT", "OMGUSDT", "REEFUSDT"):
        closes = [float(row[4]) for row in daily_rows("spot", symbol).values()]
        assert closes[-1] < 0.4 * closes[-151]
    settled = daily_rows("futures/um", "CTKUSDTSETTLED")
    assert max(settled) == date(2025, 4, 9)


def test_a_pair_has_the_price_of_its_coins() -> None:
    cross, ether = daily_rows("spot", "ETHBTC"), daily_rows("spot", "ETHUSDT")
    bitcoin = daily_rows("spot", "BTCUSDT")
    for day in (date(2023, 1, 1), date(2025, 6, 30)):
        ratio = float(ether[day][4]) / float(bitcoin[day][4])
        assert float(cross[day][4]) == pytest.approx(ratio, rel=1e-3)
    for symbol, delivery in (("BTCUSDT_240628", date(2024, 6, 28)),):
        quarterly = daily_rows("futures/um", symbol)
        assert max(quarterly) == delivery
        far, near = (float(row[4]) for row in (quarterly[min(quarterly)], quarterly[delivery]))
        spot = [float(bitcoin[day][4]) for day in (min(quarterly), delivery)]
        assert far / spot[0] > 1.02
        assert near / spot[1] == pytest.approx(1, abs=2e-4)
