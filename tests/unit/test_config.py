"""A configuration says what is wrong with it at once, and means the same everywhere it goes."""

from __future__ import annotations

import json
import math
import warnings
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import binance_archive_kit as bak
from binance_archive_kit.config import CollectionConfig, DateRange, PartitionChoice, read_config
from binance_archive_kit.enums import (
    INTERVAL_ALIASES,
    MARKET_ALIASES,
    PREMIUM_INDEX,
    DataType,
    Interval,
    Market,
)
from binance_archive_kit.errors import ArchiveKitError, ArchiveKitWarning, ConfigurationError
from binance_archive_kit.keys import is_symbol

LEAST = {
    "markets": ["spot"],
    "symbols": ["BTCUSDT"],
    "data_types": ["klines"],
    "output_directory": "data",
}


def make(**fields: Any) -> CollectionConfig:
    return CollectionConfig(**{**LEAST, **fields})


def test_defaults() -> None:
    config = make()
    assert config.model_dump() == {
        "workflow_type": "archive_collection",
        "markets": (Market.SPOT,),
        "symbols": ("BTCUSDT",),
        "data_types": (DataType.KLINES,),
        "intervals": {},
        "date_range": None,
        "output_directory": "data",
        "partition": PartitionChoice.DAILY,
        "batch_size": 100,
        "max_parallel_downloads": None,
        "enable_batch_mode": True,
        "enable_resume": True,
        "force_redownload": False,
        "download_checksum": True,
        "accept_stale_checksum": False,
        "timeout_seconds": 300,
        "part_size_mb": 50,
        "s5cmd_extra_args": (),
        "listing": True,
        "matrix_path": None,
        "endpoint_url": None,
    }
    assert config.output_directory == Path("data")


@pytest.mark.parametrize("name", LEAST)
def test_required_fields(name: str) -> None:
    fields = {key: value for key, value in LEAST.items() if key != name}
    with pytest.raises(ConfigurationError, match=f"^{name}: required"):
        CollectionConfig(**fields)


def test_all_missing_fields_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        CollectionConfig(data_types=["klines"])
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        *("markets", "symbols", "output_directory")
    ]


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("workflow_type", "archive_collection", "archive_collection"),
        ("markets", ["spot", "futures_um", "futures_cm", "options"], tuple(Market)),
        ("markets", ["um", "cm", "option"], (Market.FUTURES_UM, Market.FUTURES_CM, Market.OPTIONS)),
        ("markets", ["um", "futures_um", "spot", "um"], (Market.FUTURES_UM, Market.SPOT)),
        ("markets", ("spot",), (Market.SPOT,)),
        ("markets", {"spot"}, (Market.SPOT,)),
        ("markets", [Market.SPOT], (Market.SPOT,)),
        ("symbols", ["B", "A", "B"], ("B", "A")),
        ("symbols", ("币安人生USDT", "1000BONKUSDT"), ("币安人生USDT", "1000BONKUSDT")),
        ("symbols", {"spot": ["A"]}, {Market.SPOT: ("A",)}),
        (
            "symbols",
            {"um": ["A"], "option": ["BTC"]},
            {Market.FUTURES_UM: ("A",), Market.OPTIONS: ("BTC",)},
        ),
        (
            "symbols",
            {"um": ["A", "B"], "futures_um": ["C", "B"]},
            {Market.FUTURES_UM: ("A", "B", "C")},
        ),
        ("data_types", [d.value for d in DataType], tuple(DataType)),
        ("data_types", ["premiumIndex"], (DataType.PREMIUM_INDEX_KLINES,)),
        ("data_types", ["klines", "klines"], (DataType.KLINES,)),
        ("intervals", {"klines": ["1h", "1M", "1mo", "1h"]}, {DataType.KLINES: ("1h", "1mo")}),
        ("intervals", {}, {}),
        ("intervals", None, {}),
        ("intervals", {"bookDepth": ["100ms"]}, {DataType.BOOK_DEPTH: ("100ms",)}),
        ("date_range", None, None),
        (
            "date_range",
            {"start": "2025-07-01", "end": "2025-07-15"},
            DateRange(start="2025-07-01", end="2025-07-15"),
        ),
        (
            "date_range",
            {"start": date(2025, 7, 1), "end": date(2025, 7, 1)},
            DateRange(start="2025-07-01", end="2025-07-01"),
        ),
        ("output_directory", "a/b", Path("a/b")),
        ("output_directory", Path("a/b"), Path("a/b")),
        *[("partition", word, PartitionChoice(word)) for word in ("daily", "monthly", "auto")],
        ("batch_size", 1, 1),
        ("max_parallel_downloads", 2, 2),
        ("max_parallel_downloads", None, None),
        *[
            (name, value, value)
            for name in (
                *("enable_batch_mode", "enable_resume", "force_redownload", "download_checksum"),
                *("accept_stale_checksum", "listing"),
            )
            for value in (True, False)
        ],
        ("timeout_seconds", 0.5, 0.5),
        ("timeout_seconds", 600, 600),
        ("part_size_mb", 5, 5),
        ("s5cmd_extra_args", ["--retry-count=3"], ("--retry-count=3",)),
        ("matrix_path", "m.json", "m.json"),
        ("endpoint_url", "http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("endpoint_url", "https://s3.example.org", "https://s3.example.org"),
        ("endpoint_url", None, None),
    ],
)
def test_good_values(name: str, value: Any, meant: Any) -> None:
    config = make(**{name: value})
    assert getattr(config, name) == meant
    assert CollectionConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"workflow_type": "streaming"}, ["workflow_type", "'streaming'", "archive_collection"]),
        ({"markets": ["sport"]}, ["markets", "'sport'", "did you mean 'spot'?", "options"]),
        ({"markets": ["invalid_market"]}, ["markets", "invalid_market", "futures_um"]),
        ({"markets": ["SPOT"]}, ["markets", "'SPOT'", "did you mean 'spot'?"]),
        ({"markets": "spot"}, ["markets", "'spot' is not a list", "markets=['spot']"]),
        ({"markets": []}, ["markets", "empty"]),
        ({"markets": None}, ["markets", "None is not a list"]),
        ({"markets": [1]}, ["markets", "1 is not valid"]),
        ({"markets": [["spot"]]}, ["markets", "['spot'] is not valid"]),
        ({"symbols": "BTCUSDT"}, ["symbols", "'BTCUSDT' is not a list"]),
        ({"symbols": []}, ["symbols", "empty"]),
        ({"symbols": ["btcusdt"]}, ["symbols", "'btcusdt'", "did you mean 'BTCUSDT'?"]),
        ({"symbols": ["BTC/USDT"]}, ["symbols", "'BTC/USDT'"]),
        ({"symbols": ["../../etc"]}, ["symbols", "'../../etc'"]),
        ({"symbols": ["BTC*"]}, ["symbols", "'BTC*'"]),
        ({"symbols": [""]}, ["symbols", "''"]),
        ({"symbols": [None]}, ["symbols", "None"]),
        ({"symbols": {"spot": "BTCUSDT"}}, ["symbols[spot]", "not a list"]),
        ({"symbols": {"spot": ["btc"]}}, ["symbols[spot]", "did you mean 'BTC'?"]),
        ({"symbols": {"sport": ["BTCUSDT"]}}, ["symbols", "'sport'", "did you mean 'spot'?"]),
        ({"data_types": ["kline"]}, ["data_types", "'kline'", "did you mean 'klines'?"]),
        ({"data_types": ["invalid_type"]}, ["data_types", "invalid_type", "EOHSummary"]),
        ({"data_types": ["aggtrades"]}, ["data_types", "did you mean 'aggTrades'?"]),
        ({"data_types": ["premiumindex"]}, ["data_types", "did you mean 'premiumIndex'?"]),
        ({"data_types": "klines"}, ["data_types", "'klines' is not a list"]),
        ({"data_types": []}, ["data_types", "empty"]),
        ({"intervals": ["1h"]}, ["intervals", "['1h']", "{'klines': ['1h']}"]),
        ({"intervals": {"klines": "1h"}}, ["intervals[klines]", "'1h' is not a list"]),
        ({"intervals": {"klines": []}}, ["intervals[klines]", "empty"]),
        ({"intervals": {"klines": ["2m"]}}, ["intervals[klines]", "'2m'", "1mo"]),
        ({"intervals": {"klines": ["1H"]}}, ["intervals[klines]", "'1H'", "did you mean '1h'?"]),
        ({"intervals": {"klines": ["60m"]}}, ["intervals[klines]", "'60m'"]),
        ({"intervals": {"candles": ["1h"]}}, ["intervals", "'candles'", "klines"]),
        ({"date_range": "2025-07-15"}, ["date_range", "'2025-07-15'", "'start'"]),
        ({"date_range": ["2025-07-15"]}, ["date_range", "['2025-07-15']"]),
        ({"date_range": {"start": "2025-07-15"}}, ["date_range.end", "required"]),
        ({"date_range": {}}, ["date_range.start", "date_range.end"]),
        (
            {"date_range": {"start": "2025-07-15", "end": "2025-07-14"}},
            ["date_range", "2025-07-15", "2025-07-14", "after", "inclusive"],
        ),
        *[
            (
                {"date_range": {"start": day, "end": "2025-07-15"}},
                ["date_range.start", repr(day), "like '2025-07-15'"],
            )
            for day in (
                *("15.07.2025", "2025-7-1", "2025-02-30", "20250715", "2025-07-15T00:00:00Z"),
                *("tomorrow", "", "2025-W28-2", 20250715, None, 1.5),
                *("7d", "-7", "-d", "-7D", "- 7d", "-٧d", "-1w", "Yesterday"),
            )
        ],
        (
            {"date_range": {"start": datetime(2025, 7, 1, 8), "end": "2025-07-15"}},
            ["date_range.start", "time"],
        ),
        (
            {"date_range": {"start": "2025-07-15", "end": "2025-07-15", "tz": "UTC"}},
            ["date_range.tz", "'UTC'"],
        ),
        ({"output_directory": None}, ["output_directory", "None"]),
        ({"output_directory": 5}, ["output_directory", "5"]),
        ({"partition": "weekly"}, ["partition", "'weekly'", "daily, monthly, auto"]),
        ({"partition": "month"}, ["partition", "did you mean 'monthly'?"]),
        ({"partition": None}, ["partition", "None"]),
        *[
            ({name: value}, [name, repr(value)])
            for name, values in {
                "batch_size": (0, -1, "many", 1.5, None),
                "max_parallel_downloads": (0, -1, "many"),
                "part_size_mb": (0, 4, -1, "50MB", None),
                "timeout_seconds": (0, -1, "long", None, math.inf, math.nan),
                "enable_batch_mode": ("perhaps", 2, None),
                "enable_resume": ("perhaps", None),
                "force_redownload": ("perhaps",),
                "download_checksum": ("perhaps",),
                "listing": ("perhaps",),
                "s5cmd_extra_args": ("--json", None),
                "matrix_path": (5,),
                "endpoint_url": (5, "", "localhost:9000", "ftp://x", "s3://data.binance.vision"),
            }.items()
            for value in values
        ],
        ({"endpoint_url": "http://x/path"}, ["endpoint_url", "'http://x/path'", "'http://x'"]),
        ({"endpoint_url": "http://x?a=b"}, ["endpoint_url", "'http://x?a=b'"]),
        (
            {"endpoint_url": "https://data.binance.vision"},
            ["endpoint_url", "cannot list", "leave endpoint_url out"],
        ),
        ({"endpoint_url": "http://[::1"}, ["endpoint_url", "'http://[::1'"]),
        ({"endpoint_url": "http://x:port"}, ["endpoint_url", "'http://x:port'"]),
        ({"endpoint_url": "http://:9000"}, ["endpoint_url", "'http://:9000'"]),
        ({"s5cmd_extra_args": ["--json", 1]}, ["s5cmd_extra_args", "1 is not valid"]),
    ],
)
def test_bad_values(fields: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(**fields)
    for words in said:
        assert words in str(caught.value)
    assert str(caught.value).startswith(said[0].split(".")[0].split("[")[0])
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, ArchiveKitError)
    assert caught.value.__cause__ is None
    # No word of the machinery.
    assert "pydantic" not in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_several_bad_values_are_told_together() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(markets=["sport"], batch_size=0, partition="weekly")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["markets", "partition", "batch_size"]


# Aliases


def test_premium_index_alone_means_one_minute() -> None:
    config = make(data_types=["premiumIndex"])
    assert config.data_types == (DataType.PREMIUM_INDEX_KLINES,)
    assert config.intervals == {DataType.PREMIUM_INDEX_KLINES: ("1m",)}


@pytest.mark.parametrize("name", ["premiumIndex", "premiumIndexKlines"])
def test_premium_index_with_intervals(name: str) -> None:
    config = make(data_types=["premiumIndex"], intervals={name: ["1h", "1M"]})
    assert config.intervals == {DataType.PREMIUM_INDEX_KLINES: ("1h", "1mo")}


def test_premium_index_by_both_names() -> None:
    both = make(data_types=["premiumIndex", "premiumIndexKlines"])
    assert both.data_types == (DataType.PREMIUM_INDEX_KLINES,)
    assert both.intervals == {}
    config = make(
        data_types=["premiumIndexKlines"],
        intervals={"premiumIndex": ["1h"], "premiumIndexKlines": ["1m", "1h"]},
    )
    assert config.intervals == {DataType.PREMIUM_INDEX_KLINES: ("1h", "1m")}


def test_aliases_are_one_way() -> None:
    config = make(
        markets=["um", "option"], data_types=["premiumIndex"], intervals={"klines": ["1M"]}
    )
    text = config.to_json()
    for alias in ('"um"', '"option"', '"premiumIndex"', '"1M"'):
        assert alias not in text


def test_symbols_of() -> None:
    everywhere = make(symbols=["A"])
    assert everywhere.symbols_of(Market.FUTURES_CM) == ("A",)
    some = make(symbols={"um": ["A"]})
    assert some.symbols_of(Market.FUTURES_UM) == ("A",)
    assert some.symbols_of(Market.SPOT) == ()


def test_days() -> None:
    assert make().days(datetime(2025, 3, 1, 0, 1)) == DateRange(
        start="2025-02-28", end="2025-02-28"
    )
    fixed = make(date_range={"start": "2025-07-01", "end": "2025-07-02"})
    assert fixed.days(datetime(2030, 1, 1)) == fixed.date_range
    before = datetime.now(UTC).date()
    yesterday = make().days().start
    assert (before - yesterday).days in (0, 1)


TODAY = datetime(2025, 3, 1, 0, 1)


@pytest.mark.parametrize(
    ("start", "end", "meant"),
    [
        ("yesterday", "yesterday", ("2025-02-28", "2025-02-28")),
        ("-7d", "yesterday", ("2025-02-22", "2025-02-28")),
        ("-0d", "today", ("2025-03-01", "2025-03-01")),
        ("2025-01-15", "-1d", ("2025-01-15", "2025-02-28")),
        ("-59d", "2025-03-31", ("2025-01-01", "2025-03-31")),
        ("-99999d", "yesterday", ("1751-05-18", "2025-02-28")),
    ],
)
def test_days_counted_from_today(start: str, end: str, meant: tuple[str, str]) -> None:
    asked = make(date_range={"start": start, "end": end})
    assert asked.days(TODAY) == DateRange(start=meant[0], end=meant[1])
    # They stay what they are on their way to a file and back, and are settled by a plan.
    again = CollectionConfig.from_json(asked.to_json())
    assert again == asked
    assert asked.chosen()["date_range"] == {"start": start, "end": end}
    assert asked.settled(TODAY).chosen()["date_range"] == dict(
        zip(("start", "end"), meant, strict=True)
    )
    assert asked.replace(batch_size=5).date_range == asked.date_range


def test_days_counted_from_today_are_in_order() -> None:
    with pytest.raises(ConfigurationError, match="start yesterday is after end -7d"):
        make(date_range={"start": "yesterday", "end": "-7d"})
    asked = make(date_range={"start": "2025-03-01", "end": "yesterday"})
    with pytest.raises(ConfigurationError, match=r"2025-03-01 is after end yesterday \(2025-02-28"):
        asked.days(TODAY)
    with pytest.raises(ConfigurationError, match=r"date_range\.start: '1d' is not a day"):
        make(date_range={"start": "1d", "end": "yesterday"})


def test_settling_leaves_named_days_alone() -> None:
    fixed = make(date_range={"start": "2025-07-01", "end": "2025-07-02"})
    assert fixed.settled(TODAY) is fixed
    assert make().settled(TODAY).date_range == DateRange(start="2025-02-28", end="2025-02-28")


# Unknown fields


def test_unknown_fields_are_kept_with_one_warning_each() -> None:
    with pytest.warns(ArchiveKitWarning) as caught:
        config = make(batch_sise=5, frobnicate={"a": [1]})
    said = [str(warning.message) for warning in caught]
    assert said == [
        "batch_sise: not a field of the configuration, kept and not used; "
        "did you mean 'batch_size'?",
        "frobnicate: not a field of the configuration, kept and not used",
    ]
    assert all(warning.filename == __file__ for warning in caught) or len(caught) == 2
    assert config.model_extra == {"batch_sise": 5, "frobnicate": {"a": [1]}}
    assert config.batch_size == 100
    assert json.loads(config.to_json())["frobnicate"] == {"a": [1]}
    with pytest.warns(ArchiveKitWarning) as again:
        assert CollectionConfig.from_json(config.to_json()) == config
    assert len(again) == 2


@pytest.mark.parametrize("name", ["my key", "class", "1st", 'quo"te', "币安"])
def test_unknown_fields_of_any_name_print_as_python(name: str) -> None:
    with pytest.warns(ArchiveKitWarning):
        config = make(**{name: 1})
    with pytest.warns(ArchiveKitWarning):
        assert eval(config.to_python(), {"bak": bak}) == config


# Frozen


def test_a_configuration_cannot_be_changed() -> None:
    config = make()
    with pytest.raises(ValidationError, match="frozen"):
        config.batch_size = 5  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        make(date_range={"start": "2025-07-01", "end": "2025-07-01"}).date_range.end = None


def test_replace_makes_another_and_checks_it() -> None:
    config = make(batch_size=5, intervals={"klines": ["1h"]})
    other = config.replace(batch_size=6)
    assert (config.batch_size, other.batch_size) == (5, 6)
    assert other.intervals == config.intervals
    assert config.replace() == config
    with pytest.raises(ConfigurationError, match="batch_size"):
        config.replace(batch_size=0)


# There and back

DAYS = st.dates(date(2017, 1, 1), date(2030, 1, 1))
SYMBOLS = st.lists(
    st.one_of(
        st.sampled_from(["BTCUSDT", "BTCUSD_PERP", "币安人生USDT"]),
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(
            lambda s: is_symbol(s) and s == s.upper()
        ),
    ),
    min_size=1,
    max_size=4,
)
MARKETS = st.sampled_from([*Market, *MARKET_ALIASES])
CONFIGS = st.fixed_dictionaries(
    {
        "markets": st.lists(MARKETS, min_size=1),
        "symbols": st.one_of(SYMBOLS, st.dictionaries(MARKETS, SYMBOLS)),
        "data_types": st.lists(st.sampled_from([*DataType, PREMIUM_INDEX]), min_size=1),
        "output_directory": st.sampled_from(["data", "/tmp/a b", 'quo"te', "back\\slash", "币"]),
    },
    optional={
        "intervals": st.dictionaries(
            st.sampled_from([*(d for d in DataType if d.has_intervals), PREMIUM_INDEX]),
            st.lists(st.sampled_from([*Interval, *INTERVAL_ALIASES]), min_size=1),
        ),
        "date_range": st.tuples(DAYS, DAYS).map(lambda d: {"start": min(d), "end": max(d)}),
        "partition": st.sampled_from(PartitionChoice),
        "batch_size": st.integers(1, 10**6),
        "max_parallel_downloads": st.one_of(st.none(), st.integers(1, 10**4)),
        "enable_batch_mode": st.booleans(),
        "force_redownload": st.booleans(),
        "download_checksum": st.booleans(),
        "timeout_seconds": st.floats(0.001, 1e6),
        "part_size_mb": st.integers(5, 5000),
        "s5cmd_extra_args": st.lists(st.text(st.characters(codec="utf-8"))),
        "listing": st.booleans(),
        "matrix_path": st.one_of(st.none(), st.text(st.characters(codec="utf-8"))),
        "endpoint_url": st.sampled_from([None, "http://127.0.0.1:9000", "https://x.org/"]),
    },
)


@given(CONFIGS)
def test_there_and_back(fields: dict[str, Any]) -> None:
    config = CollectionConfig(**fields)
    assert CollectionConfig.from_json(config.to_json()) == config
    assert eval(config.to_python(), {"bak": bak}) == config
    assert CollectionConfig(**config.chosen()) == config
    assert config.replace() == config
    json.loads(config.to_json(), parse_constant=pytest.fail)


def test_to_python_reads_well() -> None:
    config = make(
        symbols={"spot": ["BTCUSDT"]},
        intervals={"klines": ["1h"]},
        date_range={"start": "2025-07-01", "end": "2025-07-15"},
        enable_resume=False,
        timeout_seconds=60,
    )
    assert config.to_python() == (
        "bak.CollectionConfig(\n"
        '    markets=["spot"],\n'
        '    symbols={"spot": ["BTCUSDT"]},\n'
        '    data_types=["klines"],\n'
        '    intervals={"klines": ["1h"]},\n'
        '    date_range={"start": "2025-07-01", "end": "2025-07-15"},\n'
        '    output_directory="data",\n'
        "    enable_resume=False,\n"
        "    timeout_seconds=60.0,\n"
        ")"
    )


def test_json_files(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config = make(symbols=["币安人生USDT"])
    assert config.to_json(path) + "\n" == path.read_text(encoding="utf-8")
    assert "币安人生USDT" in path.read_text(encoding="utf-8")
    for source in (path, str(path), path.read_text(encoding="utf-8"), "\n " + config.to_json()):
        assert CollectionConfig.from_json(source) == config
    for stand_in in (config, config.chosen(), path, str(path), config.to_json()):
        assert read_config(stand_in) == config
    with pytest.raises(ConfigurationError, match="int is no configuration; give a Coll"):
        read_config(7)  # type: ignore[arg-type]


def test_a_folder_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/trader")
    assert make(output_directory="~/data").output_directory == Path("/home/trader/data")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("no/such/file.json", "'no/such/file.json' cannot be read: No such file"),
        (Path("no/such/file.json"), "cannot be read"),
        ("", "cannot be read"),
        ("{", "not JSON"),
        ('{"markets": ["sport"]}', "did you mean 'spot'"),
        ("[1]", "cannot be read"),
        ("{" + "x" * 5000, "not JSON"),
        ("x" * 5000, "cannot be read"),
        ("nul\0.json", "cannot be read"),
    ],
)
def test_bad_json(source: str | Path, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        CollectionConfig.from_json(source)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"[1]", "not a JSON object"), (b"\xff\xfe{", "cannot be read"), (b"", "not JSON")],
)
def test_bad_json_files(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=said):
        CollectionConfig.from_json(path)


def test_a_good_configuration_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(max_parallel_downloads=4)


# How it looks


def test_a_configuration_is_one_line_however_much_it_asks_for() -> None:
    symbols = [f"COIN{at}USDT" for at in range(3_000)]
    config = CollectionConfig(
        markets=["spot", "um"],
        symbols=symbols,
        data_types=["klines"],
        date_range={"start": "2025-07-01", "end": "2025-07-31"},
        output_directory="data/x",
    )
    assert repr(config) == str(config)
    assert repr(config) == (
        "CollectionConfig(spot, futures_um: klines of COIN0USDT, COIN1USDT, COIN2USDT and "
        "2,997 more, 2025-07-01 to 2025-07-31, into 'data/x')"
    )
    page = config._repr_html_()
    assert "and 2,988 more" in page
    assert len(page) < 4_000
    apart = config.replace(symbols={"spot": ["BTCUSDT"]}, intervals={"klines": ["1h"]})
    for words in ("symbols, spot", "intervals, klines", "2025-07-01 to 2025-07-31, UTC"):
        assert words in apart._repr_html_()


def test_a_configuration_is_escaped_where_it_is_shown() -> None:
    config = CollectionConfig(
        markets=["spot"], symbols=["A&B"], data_types=["klines"], output_directory="<script>"
    )
    assert "<script>" not in config._repr_html_()
    assert "A&amp;B" in config._repr_html_()
    assert "yesterday" in repr(config)
