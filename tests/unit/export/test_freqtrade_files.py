"""Files of freqtrade: names, columns and rows; and that nothing is written if anything blocks."""

from __future__ import annotations

import json
import warnings
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from filelock import FileLock
from pyarrow import feather, ipc

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.symbols import split_symbol
from binance_archive_kit.export import freqtrade_files
from binance_archive_kit.export.freqtrade_files import pair_of
from tests.support.planted import HOUR, at, every, plant
from tests.support.reports import hours, spoil
from tests.support.stores import kline

DAYS = ["2025-07-01", "2025-07-02"]
PRICES = ["open", "high", "low", "close", "volume"]


def family(data_type: str, symbol: str, day: str) -> ObjectKey:
    folder = f"data/futures/um/daily/{data_type}/{symbol}/1h"
    return ObjectKey.parse(f"{folder}/{symbol}-1h-{day}.zip")


def funding(symbol: str) -> ObjectKey:
    folder = f"data/futures/um/monthly/fundingRate/{symbol}"
    return ObjectKey.parse(f"{folder}/{symbol}-fundingRate-2025-07.zip")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two days of candles of two symbols; futures of one, with mark prices and funding."""
    root = tmp_path / "store"
    for day in DAYS:
        for symbol in ("BTCUSDT", "ETHBTC"):
            plant(root, kline(symbol, day), hours(day), value=[*range(1, 25)])
        plant(root, kline("BTCUSDT", day, "1d"), [at(day)])
        plant(root, kline("BTCUSDT", day, market="futures/um"), hours(day))
        plant(root, family("markPriceKlines", "BTCUSDT", day), hours(day))
    times = every(8 * HOUR, "2025-07-01", "2025-08-01")
    plant(root, funding("BTCUSDT"), [time + 3_000 for time in times])
    return root


@pytest.fixture
def datadir(tmp_path: Path) -> Path:
    return tmp_path / "user_data" / "binance"


def names(datadir: Path) -> list[str]:
    return sorted(path.relative_to(datadir).as_posix() for path in datadir.rglob("*.feather"))


def read(path: Path) -> pl.DataFrame:
    found = pl.from_arrow(feather.read_table(path))
    assert isinstance(found, pl.DataFrame)
    return found


def test_each_symbol_and_interval_has_a_file(root: Path, datadir: Path) -> None:
    result = bak.to_freqtrade(root, datadir)
    assert names(datadir) == [
        "BTC_USDT-1d.feather",
        "BTC_USDT-1h.feather",
        "ETH_BTC-1h.feather",
    ]
    assert sorted(result.files["file"]) == names(datadir)
    assert result.is_complete
    assert result.files.filter(interval="1d")["rows"].to_list() == [2]
    assert not (datadir / "futures").exists()


def test_the_rows_are_those_of_the_store(root: Path, datadir: Path) -> None:
    bak.to_freqtrade(root, datadir, symbols="ETHBTC")
    found = read(datadir / "ETH_BTC-1h.feather")
    assert found.schema == {
        "date": pl.Datetime("ms", "UTC"),
        **dict.fromkeys(PRICES, pl.Float64),
    }
    candles = bak.load_klines(root, "ETHBTC", "1h")
    # The date of a candle is its open.
    assert found["date"].to_list() == candles["open_time"].to_list()
    assert found.select(PRICES).equals(candles.select(PRICES))


def test_the_files_are_feather_with_lz4(root: Path, datadir: Path) -> None:
    bak.to_freqtrade(root, datadir, symbols="ETHBTC")
    path = datadir / "ETH_BTC-1h.feather"
    # The second version of Feather is the file format of Arrow.
    with ipc.open_file(path) as file:
        assert file.num_record_batches == 1
    assert b"date" in path.read_bytes()
    plain = path.with_name("plain")
    feather.write_feather(feather.read_table(path), str(plain), compression="uncompressed")
    lz4 = path.with_name("lz4")
    feather.write_feather(feather.read_table(path), str(lz4), compression="lz4")
    assert path.stat().st_size == lz4.stat().st_size != plain.stat().st_size


def test_futures_have_mark_prices_and_funding(root: Path, datadir: Path) -> None:
    days = {"start": DAYS[0], "end": DAYS[1]}
    bak.to_freqtrade(root, datadir, market="futures_um", **days)
    assert names(datadir) == [
        "futures/BTC_USDT_USDT-1h-funding_rate.feather",
        "futures/BTC_USDT_USDT-1h-futures.feather",
        "futures/BTC_USDT_USDT-1h-mark.feather",
    ]
    found = read(datadir / "futures/BTC_USDT_USDT-1h-funding_rate.feather")
    rates = bak.scan(root, "futures_um", "fundingRate", **days).collect()
    assert found["open"].to_list() == rates["last_funding_rate"].to_list()
    assert found["date"].to_list() == rates["calc_time"].to_list()
    assert found.select(pl.col("high", "low", "close", "volume").sum()).row(0) == (0, 0, 0, 0)
    mark = read(datadir / "futures/BTC_USDT_USDT-1h-mark.feather")
    assert mark.height == 48


def test_lacking_mark_prices_and_funding_are_named(root: Path, datadir: Path) -> None:
    for day in DAYS:
        plant(root, kline("ETHUSDC", day, market="futures/um"), hours(day))
    with pytest.warns(bak.ArchiveKitWarning) as told:
        bak.to_freqtrade(root, datadir, market="futures_um", end=DAYS[1])
    words = [str(each.message) for each in told]
    assert len(words) == 2
    assert "has no 1h markPriceKlines of ETHUSDC" in words[0]
    assert "has no fundingRate of ETHUSDC" in words[1]
    assert "futures/ETH_USDC_USDC-1h-futures.feather" in names(datadir)


def test_the_choice_narrows_the_files(root: Path, datadir: Path) -> None:
    bak.to_freqtrade(root, datadir, quote="USDT", intervals="1h", start=DAYS[1])
    assert names(datadir) == ["BTC_USDT-1h.feather"]
    assert read(datadir / "BTC_USDT-1h.feather")["date"].dt.date().cast(str).unique().to_list() == [
        DAYS[1]
    ]
    bak.to_freqtrade(root, datadir, symbols="*BTC", intervals=["1h"])
    assert names(datadir) == ["BTC_USDT-1h.feather", "ETH_BTC-1h.feather"]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"market": "futures_cm"}, r"market: 'futures_cm'.*spot, futures_um"),
        ({"symbols": "BTCUSD"}, r"symbols.*did you mean 'BTCUSDT'\?"),
        ({"symbols": "*EUR"}, "matches none of the 2 symbols"),
        ({"symbols": "ETHBTC", "intervals": "1d"}, "'1d' is not in the store"),
        ({"intervals": "4h"}, "'4h' is not in the store"),
        ({"quote": "EUR"}, "quote: 'EUR'"),
        ({"on_gap": "fill"}, "on_gap: 'fill'"),
        ({"start": "yesterdy"}, "start: 'yesterdy' is not a day"),
        ({"prefix": 1}, "prefix"),
    ],
)
def test_invalid_arguments_are_named(
    root: Path, datadir: Path, choice: dict[str, Any], words: str
) -> None:
    with pytest.raises(bak.ConfigurationError, match=words):
        bak.to_freqtrade(root, datadir, **choice)
    assert not datadir.exists()


def test_the_folder_must_not_be_in_the_store(root: Path) -> None:
    with pytest.raises(bak.ConfigurationError, match=r"datadir: .* is inside the store"):
        bak.to_freqtrade(root, root / "freqtrade")


def test_contracts_without_a_place_in_freqtrade(root: Path, datadir: Path) -> None:
    for symbol in ("BTCUSDT_250926", "BNXUSDTSETTLED"):
        for day in DAYS:
            plant(root, kline(symbol, day, market="futures/um"), hours(day))
    of_futures = {"market": "futures_um", "end": DAYS[1]}
    for symbol, pattern, words in (
        ("BTCUSDT_250926", "*_250926", "a delivery day"),
        ("BNXUSDTSETTLED", "BNX*", "was settled before"),
    ):
        with pytest.raises(bak.ConfigurationError, match=f"symbols: '{symbol}': .*{words}"):
            bak.to_freqtrade(root, datadir, symbols=["BTCUSDT", symbol], **of_futures)
        with pytest.raises(bak.ConfigurationError, match=f"no place for them: {symbol}"):
            bak.to_freqtrade(root, datadir, symbols=pattern, **of_futures)
    assert not datadir.exists()
    with pytest.warns(bak.ArchiveKitWarning, match=r"left out BNXUSDTSETTLED .* BTCUSDT_250926"):
        bak.to_freqtrade(root, datadir, **of_futures)
    assert "futures/BTC_USDT_USDT-1h-futures.feather" in names(datadir)
    assert len(names(datadir)) == 3


@pytest.mark.parametrize(
    ("market", "symbol", "pair"),
    [
        ("spot", "1INCHBUSD", "1INCH_BUSD"),
        ("spot", "币安人生USDT", "币安人生_USDT"),
        ("futures_um", "1000SHIBUSDT", "1000SHIB_USDT_USDT"),
        ("futures_um", "ETHBTC", "ETH_BTC_BTC"),
    ],
)
def test_pairs_are_spelled_as_freqtrade_does(market: str, symbol: str, pair: str) -> None:
    assert pair_of(Market(market), split_symbol(Market(market), symbol)) == pair


def test_nothing_is_written_if_any_stream_blocks(root: Path, datadir: Path) -> None:
    plant(root, kline("BTCUSDT", DAYS[1]), hours(DAYS[1], 5))
    with pytest.raises(bak.CoverageError, match=r"in 1 of 3 streams.*spot klines BTCUSDT 1h"):
        bak.to_freqtrade(root, datadir)
    assert not datadir.exists()


@pytest.mark.parametrize("on_gap", ["warn", "mark"])
def test_with_consent_gaps_stand_beside_the_file(root: Path, datadir: Path, on_gap: Any) -> None:
    plant(root, kline("BTCUSDT", DAYS[1]), hours(DAYS[1], 5))
    with pytest.warns(bak.ArchiveKitWarning, match="1 hole"):
        result = bak.to_freqtrade(root, datadir, on_gap=on_gap)
    assert not result.is_complete
    found = read(datadir / "BTC_USDT-1h.feather")
    assert (found.height, found.columns) == (47, ["date", *PRICES])
    beside = json.loads((datadir / "BTC_USDT-1h.feather.coverage.json").read_text("utf-8"))
    assert beside["gaps"][0]["start"] == "2025-07-02T05:00:00+00:00"
    assert (beside["rows"], beside["complete"]) == (47, False)
    whole = json.loads((datadir / "ETH_BTC-1h.feather.coverage.json").read_text("utf-8"))
    assert (whole["gaps"], whole["rows"], whole["complete"]) == ([], 48, True)


def test_invalid_files_and_conflicting_rows_are_left_out_with_consent(
    root: Path, datadir: Path
) -> None:
    spoil(plant(root, kline("BTCUSDT", DAYS[1]), hours(DAYS[1])))
    twice = [*hours(DAYS[1]), at(f"{DAYS[1]} 23:00")]
    plant(root, kline("ETHBTC", DAYS[1]), twice, value=[*[1] * 24, 2])
    with pytest.raises(bak.CoverageError, match="in 2 of 3 streams"):
        bak.to_freqtrade(root, datadir)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        result = bak.to_freqtrade(root, datadir, on_gap="warn")
    rows = dict(result.files.filter(interval="1h").select("symbol", "rows").rows())
    assert rows == {"BTCUSDT": 24, "ETHBTC": 47}


def test_an_older_file_is_replaced_as_a_whole(root: Path, datadir: Path) -> None:
    bak.to_freqtrade(root, datadir, symbols="ETHBTC")
    bak.to_freqtrade(root, datadir, symbols="ETHBTC", end=DAYS[0])
    assert read(datadir / "ETH_BTC-1h.feather").height == 24
    beside = json.loads((datadir / "ETH_BTC-1h.feather.coverage.json").read_text("utf-8"))
    assert beside["end"] == "2025-07-02T00:00:00+00:00"


def test_an_export_that_is_interrupted_leaves_whole_files(
    root: Path, datadir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = feather.write_feather, []

    def interrupted(table: Any, path: str, **options: Any) -> None:
        write(table, path, **options)
        if written:
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(freqtrade_files.feather, "write_feather", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bak.to_freqtrade(root, datadir)
    [only] = names(datadir)
    assert read(datadir / only).height
    assert not [*datadir.rglob("part*")]
    assert bak.to_freqtrade(root, datadir).is_complete
    assert len(names(datadir)) == 3


def test_two_exports_at_once_are_refused(root: Path, datadir: Path) -> None:
    datadir.mkdir(parents=True)
    with (
        FileLock(datadir / ".export.lock"),
        pytest.raises(bak.StoreError, match="another export is at work"),
    ):
        bak.to_freqtrade(root, datadir)


def test_an_open_store_can_be_exported(root: Path, datadir: Path) -> None:
    assert bak.to_freqtrade(bak.store(root), datadir, symbols="ETHBTC").rows == 48
    with pytest.raises(bak.ConfigurationError, match="a store that is open"):
        bak.to_freqtrade(bak.store(root), datadir, prefer="monthly")


def test_the_first_and_the_last_row_are_in_the_result(root: Path, datadir: Path) -> None:
    row = bak.to_freqtrade(root, datadir, symbols="ETHBTC").files.row(0, named=True)
    assert row["last"] - row["first"] == timedelta(hours=47)
    assert row["bytes"] == (datadir / "ETH_BTC-1h.feather").stat().st_size
    assert row["verdict"] == "Complete: 100 % of the rows due are present (48 of 48)"


def test_streams_without_a_row_of_these_days_are_left_out(root: Path, datadir: Path) -> None:
    august = ["2025-08-01", "2025-08-02"]
    for day in august:
        plant(root, kline("NEWUSDT", day), hours(day))
        plant(root, kline("BTCUSDT", day), hours(day))
    days = {"start": august[0], "end": august[1], "intervals": "1h"}
    # No collection asked the archive whether ETHBTC was still traded.
    with pytest.raises(bak.CoverageError, match=r"in 1 of 3 streams.*ETHBTC.*not collected"):
        bak.to_freqtrade(root, datadir, **days)
    with pytest.warns(bak.ArchiveKitWarning, match=r"left out, .*no row of these days: .* ETHBTC"):
        bak.to_freqtrade(root, datadir, on_gap="warn", **days)
    assert names(datadir) == ["BTC_USDT-1h.feather", "NEW_USDT-1h.feather"]
    with pytest.raises(bak.CoverageError, match=r"nothing to export: no row of .*ETHBTC"):
        bak.to_freqtrade(root, datadir, symbols=["BTCUSDT", "ETHBTC"], on_gap="warn", **days)
    with pytest.raises(bak.CoverageError, match=r"nothing to export: no row of .*ETHBTC"):
        bak.to_freqtrade(root, datadir, symbols="*BTC", on_gap="warn", **days)


def test_funding_without_a_row_of_these_days_is_left_out_with_consent(
    root: Path, datadir: Path
) -> None:
    today = date.today()
    for ago in range(5, 1, -1):
        day = str(today - timedelta(days=ago))
        plant(root, kline("BTCUSDT", day, market="futures/um"), hours(day))
        plant(root, family("markPriceKlines", "BTCUSDT", day), hours(day))
    with pytest.warns(bak.ArchiveKitWarning, match=r"left out, .* fundingRate BTCUSDT"):
        bak.to_freqtrade(
            root, datadir, market="futures_um", start="-5d", end="-2d", symbols="BTCUSDT",
            on_gap="warn",
        )  # fmt: skip
    assert len(names(datadir)) == 2


def test_a_file_of_conflicts_alone_is_no_empty_export(tmp_path: Path, datadir: Path) -> None:
    root = tmp_path / "conflicts"
    twice = [at(DAYS[0])] * 2
    plant(root, kline("BTCUSDT", DAYS[0], "1d"), twice, value=[1, 2])
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        with pytest.raises(bak.CoverageError, match=r"nothing to export: no row of .* be trusted"):
            bak.to_freqtrade(root, datadir, on_gap="warn")
    assert not names(datadir)
