"""A catalogue of nautilus_trader has the rows of a store, and says what it lacks."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.errors import (
    ArchiveKitWarning,
    ConfigurationError,
    CoverageError,
    MissingExtraError,
    StoreError,
)
from binance_archive_kit.export import nautilus_catalog
from tests.support.candles import DAY, HOUR, at, day, file_of, line
from tests.support.stores import kline

NAME = "QQAUSDT.BINANCE"
BARS = f"data/bar/{NAME}-1-HOUR-LAST-EXTERNAL"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    for name in ("2025-07-01", "2025-07-02"):
        day(store, "QQAUSDT", name, "1h")
    day(store, "QQBUSDT", "2025-07-01", "1h")
    day(store, "QQBUSDT", "2025-07-02", "1h", edit=lambda lines: [*lines[:3], *lines[5:]])
    return store


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


def export(root: Path, catalog: Path, symbols: Any = "QQAUSDT", **how: Any) -> bak.EngineExport:
    return bak.to_nautilus(
        root, catalog, **{"market": "spot", "symbols": symbols, "intervals": "1h", **how}
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"market": "options"}, r"market: 'options' is not valid.*futures_cm"),
        ({"symbols": "QQAUSD"}, "'QQAUSD' is not in the store; did you mean 'QQAUSDT'"),
        ({"symbols": []}, "symbols: it is empty"),
        ({"intervals": "1min"}, "interval: .*did you mean '1m'"),
        ({"intervals": "3d"}, "intervals: nautilus_trader has no bars of 3d"),
        ({"intervals": None}, "intervals: give intervals= for bars, trades= for ticks"),
        ({"trades": "trade"}, "trades: 'trade' is not valid; did you mean 'trades'"),
        ({"trades": "klines"}, "trades: 'klines' is not valid"),
        ({"on_gap": "rise"}, "on_gap: .*did you mean 'raise'"),
        ({"prefers": "daily"}, "prefers"),
    ],
)
def test_invalid_arguments_are_named(
    root: Path, catalog: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        export(root, catalog, **changes)
    assert not catalog.exists()


def test_a_catalogue_is_not_in_the_store(root: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"catalog_path: .* is inside the store"):
        export(root, root / "catalog")


def test_symbols_without_an_instrument_are_refused(root: Path, catalog: Path) -> None:
    day(root, "WHATISIT", "2025-07-01", "1h")
    with pytest.raises(ConfigurationError, match=r"'WHATISIT': its base and quote asset"):
        export(root, catalog, ["QQAUSDT", "WHATISIT"])


def test_a_pattern_may_match_no_instrument(root: Path, catalog: Path) -> None:
    day(root, "WHATISIT", "2025-07-01", "1h")
    with pytest.raises(ConfigurationError, match=r"symbols: .* no place for them: WHATISIT"):
        export(root, catalog, "WHAT*")


def test_without_nautilus_the_extra_is_named(
    root: Path, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nautilus_catalog, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"3\.12.*binance-archive-kit\[nautilus\]"):
        export(root, catalog)
    assert not catalog.exists()


@pytest.fixture
def load() -> Any:
    """Lend a function that opens a catalogue."""
    reason = "the nautilus extra is not installed"
    found = pytest.importorskip("nautilus_trader.persistence.catalog", reason=reason)
    return lambda path: found.ParquetDataCatalog(str(path))


def test_bars_are_those_of_the_store(root: Path, catalog: Path, load: Any) -> None:
    done = export(root, catalog)
    rows = bak.load_klines(root, "QQAUSDT", "1h", decimals=True)
    bars = load(catalog).bars()
    assert [bar.ts_event // 10**9 for bar in bars] == [
        (time + HOUR).timestamp() for time in rows["open_time"]
    ]
    for name in ("open", "high", "low", "close", "volume"):
        assert [getattr(bar, name).as_decimal() for bar in bars] == rows[name].to_list()
    [row] = done.files.to_dicts()
    assert (row["file"], row["rows"], row["complete"]) == (BARS, 48, True)
    assert (row["first"], row["last"]) == (at("2025-07-01 01:00"), at("2025-07-03"))
    assert row["bytes"] > 1_000
    assert sorted(path.name for path in catalog.iterdir()) == [".export.lock", "data"]


def test_patterns_choose_symbols(root: Path, catalog: Path, load: Any) -> None:
    day(root, "QQWHATISIT", "2025-07-01", "1h")
    with pytest.warns(ArchiveKitWarning) as told:
        done = export(root, catalog, "QQ*", end="2025-07-01")
    assert "left out QQWHATISIT (its base and quote asset are not known)" in str(told[0].message)
    assert done.files["symbol"].to_list() == ["QQAUSDT", "QQBUSDT"]
    assert len(load(catalog).instruments()) == 2
    with pytest.raises(ConfigurationError, match=r"'X.' matches none of the 3 symbols"):
        export(root, catalog, "X*")


def test_the_coverage_lies_beside_the_bars(root: Path, catalog: Path, load: Any) -> None:
    with pytest.raises(CoverageError, match="QQBUSDT"):
        export(root, catalog, "QQBUSDT")
    assert not (catalog / "data").exists()
    with pytest.warns(ArchiveKitWarning, match="QQBUSDT"):
        export(root, catalog, "QQBUSDT", on_gap="warn")
    [path] = (catalog / "data/bar/QQBUSDT.BINANCE-1-HOUR-LAST-EXTERNAL").glob("*.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["expected_rows"], found["rows"], found["complete"]) == (48, 46, False)
    assert [gap["missing"] for gap in found["gaps"]] == [2]
    assert found["files"] == [path.name.removesuffix(".coverage.json")]
    assert found["instrument"]["price_precision"].startswith("observed: 0 decimal")
    assert len(load(catalog).bars()) == 46


def test_an_export_replaces_the_one_before(root: Path, catalog: Path, load: Any) -> None:
    export(root, catalog, start="2025-07-02")
    assert len(load(catalog).bars()) == 24
    export(root, catalog)
    assert len(load(catalog).bars()) == 48
    assert len(list((catalog / BARS).iterdir())) == 2
    with pytest.raises(ConfigurationError, match='start="2025-07-01", end="2025-07-02"'):
        export(root, catalog, start="2025-07-02")
    assert len(load(catalog).bars()) == 48


def test_files_of_others_are_left_alone(root: Path, catalog: Path, load: Any) -> None:
    export(root, catalog)
    [path] = (catalog / BARS).glob("*.parquet")
    stranger = path.with_name(
        "1970-01-01T00-00-00-000000000Z_1970-01-01T01-00-00-000000000Z.parquet"
    )
    stranger.write_bytes(path.read_bytes())
    with pytest.raises(StoreError, match=f"{stranger.name} is not a file of an export"):
        export(root, catalog)
    assert stranger.exists()
    assert path.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"start": 5, "end": 6, "files": []}'])
def test_a_damaged_note_is_named(root: Path, catalog: Path, load: Any, content: str) -> None:
    export(root, catalog)
    [note] = (catalog / BARS).glob("*.json")
    note.write_text(content)
    with pytest.raises(StoreError, match=r"coverage.json is damaged.* move its folder away"):
        export(root, catalog)


def test_a_more_precise_instrument_is_kept(root: Path, catalog: Path, load: Any) -> None:
    from nautilus_trader.model.identifiers import InstrumentId, Symbol
    from nautilus_trader.model.instruments import CurrencyPair
    from nautilus_trader.model.objects import Currency, Price, Quantity

    own = CurrencyPair(
        InstrumentId.from_str(NAME),
        Symbol("QQAUSDT"),
        Currency.from_str("QQA"),
        Currency.from_str("USDT"),
        price_precision=4,
        size_precision=1,
        price_increment=Price.from_str("0.0025"),
        size_increment=Quantity.from_str("0.1"),
        ts_event=0,
        ts_init=0,
    )
    load(catalog).write_data([own])
    export(root, catalog)
    [kept] = load(catalog).instruments()
    assert str(kept.price_increment) == "0.0025"
    assert {(bar.open.precision, bar.volume.precision) for bar in load(catalog).bars()} == {(4, 1)}
    # It is not ours to replace.
    _put_day(root, "2025-07-02", 100.00025)
    with pytest.raises(StoreError, match="these rows have 5 and 0"):
        export(root, catalog, intervals=["1h", "1d"])


def _put_day(root: Path, name: str, price: float) -> None:
    file_of(root, kline("QQAUSDT", name, "1d"), [line(at(name), DAY, price)])


def test_precisions_do_not_differ_within_an_instrument(
    root: Path, catalog: Path, load: Any
) -> None:
    export(root, catalog)
    _put_day(root, "2025-07-02", 100.25)
    with pytest.raises(StoreError, match="export all of its streams together"):
        export(root, catalog, intervals="1d")
    export(root, catalog, intervals=["1d", "1h"])
    found = load(catalog)
    [instrument] = found.instruments()
    assert instrument.price_precision == 2
    assert {bar.open.precision for bar in found.bars()} == {2}
    assert found.bars()[0].open.as_decimal() == Decimal(str(found.bars()[0].open))
    # Less precise rows of another day are written as precisely.
    _put_day(root, "2025-07-01", 100)
    _put_day(root, "2025-07-02", 100)
    export(root, catalog, intervals="1d")
    assert {bar.open.precision for bar in load(catalog).bars()} == {2}


def test_what_a_killed_export_has_left_is_replaced(
    root: Path, catalog: Path, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(root, catalog)

    def fail(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(nautilus_catalog, "_describe", fail)
        with pytest.raises(KeyboardInterrupt):
            export(root, catalog)
    assert len(load(catalog).bars()) == 48
    left = catalog / ".export.tmp" / "new" / BARS
    left.mkdir(parents=True)
    (left / "half.parquet").write_bytes(b"PAR1")
    assert len(load(catalog).bars()) == 48
    export(root, catalog)
    assert len(load(catalog).bars()) == 48
    assert not (catalog / ".export.tmp").exists()


def test_files_are_cut_between_times(
    root: Path, catalog: Path, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nautilus_catalog, "_ROWS", 10)
    done = export(root, catalog)
    assert done.rows == 48
    files = sorted(path.name for path in (catalog / BARS).glob("*.parquet"))
    assert len(files) == 6
    [note] = (catalog / BARS).glob("*.json")
    begin, _, end = note.name.removesuffix(".parquet.coverage.json").partition("_")
    assert files[0].startswith(begin)
    assert files[-1] == f"{files[-1].partition('_')[0]}_{end}.parquet"
    bars = load(catalog).bars()
    assert [bar.ts_event for bar in bars] == sorted({bar.ts_event for bar in bars})
    assert len(bars) == 48
