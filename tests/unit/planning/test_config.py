"""A configuration says what is wrong with it at once, and means the same everywhere it goes."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import re
import warnings
from collections import UserString
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import (
    INTERVAL_ALIASES,
    MARKET_ALIASES,
    PREMIUM_INDEX,
    DataType,
    Interval,
    Market,
)
from binance_archive_kit.archive.keys import is_symbol
from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.errors import ArchiveKitError, ArchiveKitWarning, ConfigurationError
from binance_archive_kit.planning.config import (
    CollectionConfig,
    PartitionChoice,
    read_config,
)
from binance_archive_kit.planning.date_range import DateRange
from binance_archive_kit.planning.requests import expand
from binance_archive_kit.storage.urls import is_url
from binance_archive_kit.workflow import WorkflowConfig

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
        "quote": (),
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
        ({"symbols": ["BTC[A-Z]"]}, ["symbols", "'BTC[A-Z]' cannot be a symbol", "'*USDT'"]),
        ({"symbols": ["*usdt"]}, ["symbols", "did you mean '*USDT'?"]),
        ({"symbols": ["../*"]}, ["symbols", "'../*' cannot be a symbol"]),
        ({"symbols": ["*" * 101]}, ["symbols", "cannot be a symbol"]),
        ({"quote": "USDT"}, ["quote", "no symbol is a pattern"]),
        ({"symbols": "*", "quote": "usdt"}, ["quote", "'usdt' is not an asset"]),
        ({"symbols": "*", "quote": [1]}, ["quote", "1 is not an asset"]),
        ({"symbols": "*", "quote": [["USDT"]]}, ["quote", "['USDT'] is not an asset"]),
        ({"symbols": "*", "quote": ["*"]}, ["quote", "'*' is not an asset"]),
        ({"symbols": pl.DataFrame({"name": ["BTCUSDT"]})}, ["symbols", "no column symbol"]),
        ({"symbols": pl.DataFrame({"symbol": []})}, ["symbols", "the frame has no rows"]),
        (
            {"symbols": pl.DataFrame({"market": ["sport"], "symbol": ["BTCUSDT"]})},
            ["symbols", "did you mean 'spot'?"],
        ),
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
        (
            {"date_range": {"from": "2025-07-01"}},
            ["date_range.start", "from: '2025-07-01' is not expected here"],
        ),
        *[
            ({name: None}, [name, "None is not a list; name at least one"])
            for name in ("markets", "symbols", "data_types")
        ],
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


# Descriptions


def test_each_field_is_described_as_in_the_docstring() -> None:
    documentation = inspect.getdoc(CollectionConfig) or ""
    section = documentation.partition("Parameters\n----------\n")[2].partition("\nRaises\n")[0]
    entries = re.findall(r"^(\w+)(?:, \w+)? : .*\n((?:    .*\n)+)", section, re.MULTILINE)
    documented = {name: " ".join(text.replace("`", "").split()) for name, text in entries}
    fields = {**CollectionConfig.model_fields}
    del fields["workflow_type"]
    assert set(documented) == {*fields, "start"}
    for name, field in fields.items():
        assert field.description
        assert documented[name].startswith(field.description), name


def test_engine_options_have_a_label() -> None:
    for field in CollectionConfig.model_fields.values():
        extra = field.json_schema_extra
        if isinstance(extra, dict):
            assert (extra["group"] == "engine") == bool(extra.get("label"))


def test_help_shows_a_readable_signature() -> None:
    signature = str(inspect.signature(CollectionConfig))
    assert signature.startswith("(*, markets, symbols, quote=(), data_types, intervals={}, ")
    assert "date_range=None, start=None, end=None, output_directory, partition='daily'" in signature
    assert "binance_archive_kit" not in signature
    assert "workflow_type" not in signature


# Selecting symbols


@pytest.mark.parametrize(
    ("given", "symbols", "quote"),
    [
        ({"symbols": "*USDT"}, ("*USDT",), ()),
        ({"symbols": ["BTCUSDT", "ETH*"]}, ("BTCUSDT", "ETH*"), ()),
        (
            {"symbols": {"um": "*", "spot": ["BTCUSDT"]}},
            {"futures_um": ("*",), "spot": ("BTCUSDT",)},
            (),
        ),
        ({"quote": "USDT"}, ("*",), ("USDT",)),
        ({"symbols": [], "quote": "USDT"}, ("*",), ("USDT",)),
        ({"symbols": None, "quote": ["USDT", "USDC"]}, ("*",), ("USDT", "USDC")),
        ({"symbols": "BTC*", "quote": "USDT"}, ("BTC*",), ("USDT",)),
    ],
)
def test_patterns_and_quotes(given: dict[str, Any], symbols: object, quote: object) -> None:
    fields = {"markets": ["spot", "um"], "data_types": ["trades"], "output_directory": "data"}
    config = CollectionConfig(**fields, **given)
    assert config.has_patterns
    assert (config.symbols, config.quote) == (symbols, quote)
    assert CollectionConfig.from_json(config.to_json()) == config
    assert eval(config.to_python(), {"bak": bak}) == config


def test_symbols_without_patterns() -> None:
    assert not make().has_patterns
    assert not make(symbols={"spot": ["BTCUSDT"]}).has_patterns


def test_symbols_from_a_frame() -> None:
    frame = pl.DataFrame({"symbol": ["BTCUSDT", "ETHUSDT"]})
    assert make(symbols=frame).symbols == ("BTCUSDT", "ETHUSDT")
    columns = {"market": ["spot", "futures_um", "spot"], "symbol": ["A", "B", "币USDT"]}
    by_market = pl.DataFrame(columns)
    assert make(symbols=by_market).symbols == {"spot": ("A", "币USDT"), "futures_um": ("B",)}


def test_a_headline_names_patterns_and_quotes() -> None:
    config = make(symbols="*", quote=["USDT", "USDC"])
    assert "klines of * quoted in USDT, USDC, yesterday" in config.headline()


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


# Unknown fields


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("batch_sise", "did you mean 'batch_size'?"),
        ("start_date", "did you mean 'start'?"),
        ("symbol", "did you mean 'symbols'?"),
        ("ends", "did you mean 'end'?"),
        ("frobnicate", "Valid: workflow_type, markets, symbols"),
        ("my key", "Valid: workflow_type"),
        ("self", "Valid: workflow_type"),
        ("nul\0", "'nul\\x00': no such field"),
        ("x" * 10_000, "xxx': no such field"),
    ],
)
def test_unknown_fields_are_errors_everywhere(name: str, near: str, tmp_path: Path) -> None:
    fields = {**LEAST, name: 1}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(fields), encoding="utf-8")
    ways: list[Callable[[], object]] = [
        lambda: CollectionConfig(**fields),
        lambda: make().replace(**{name: 1}),
        lambda: CollectionConfig.from_json(json.dumps(fields)),
        lambda: CollectionConfig.from_json(path),
        lambda: read_config(fields),
        lambda: bak.plan(fields),
        lambda: bak.plan(**fields),
        lambda: bak.collect(make(), **{name: 1}),
    ]
    for way in ways:
        with pytest.raises(ConfigurationError) as caught:
            way()
        assert "no such field of a configuration" in str(caught.value)
        assert near in str(caught.value)


def test_the_documented_workflow_takes_unknown_fields_with_a_warning_each() -> None:
    given = {**LEAST, "workflow_type": "archive_collection", "matrix_path": "m.json"}
    asked = WorkflowConfig(given | {"batch_sise": 5, "frobnicate": {"a": [1]}})
    with pytest.warns(ArchiveKitWarning) as caught:
        config = asked.read()
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2
    assert said[0].startswith("batch_sise: no such field of a configuration; did you mean 'batch_s")
    assert said[1].startswith("frobnicate: no such field of a configuration")
    assert config == CollectionConfig(**given)
    assert asked["frobnicate"] == {"a": [1]}


class Odd:
    """An object that raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__

    def __iter__(self) -> Iterator[Any]:
        raise KeyError("no")

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError("no")

    def __hash__(self) -> int:
        raise OSError("no")

    def __fspath__(self) -> str:
        raise LookupError("no")


# Both ends of the days


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (("2025-07-01", "2025-07-15"), ("2025-07-01", "2025-07-15")),
        ((date(2025, 7, 1), date(2025, 7, 1)), ("2025-07-01", "2025-07-01")),
        (("-7d", "yesterday"), ("-7d", "yesterday")),
        (("2025-07-01", None), ("2025-07-01", "yesterday")),
    ],
)
def test_start_and_end_are_short_for_the_range(short: Any, long: tuple[str, str]) -> None:
    config = make(start=short[0], end=short[1])
    assert config == make(date_range={"start": long[0], "end": long[1]})
    assert set(config.chosen()) == {*LEAST, "date_range"}
    text = json.dumps({**LEAST, "start": str(short[0]), "end": short[1] and str(short[1])})
    assert CollectionConfig.from_json(text) == config


def test_no_ends_are_no_range() -> None:
    assert make(start=None, end=None) == make()


def test_one_end_of_the_range_can_be_replaced() -> None:
    config = make(start="2025-07-01", end="2025-07-15")
    assert config.replace(end="2025-07-20") == make(start="2025-07-01", end="2025-07-20")
    assert config.replace(start="2025-07-10") == make(start="2025-07-10", end="2025-07-15")
    assert make().replace(start="2025-07-10") == make(start="2025-07-10", end="yesterday")
    days = {"start": "2025-01-01", "end": "2025-01-02"}
    assert config.replace(date_range=days) == make(date_range=days)
    with pytest.raises(ConfigurationError, match="after end"):
        config.replace(end="2025-06-01")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"end": "2025-07-01"}, r"^start: required, and not given$"),
        ({"start": "15.07.2025"}, r"^start: '15.07.2025' is not a day"),
        ({"start": "2025-07-01", "end": 7}, r"^end: 7 is not a day"),
        ({"start": "2025-07-02", "end": "2025-07-01"}, "2025-07-02 is after end 2025-07-01"),
        (
            {"start": "2025-07-01", "date_range": {"start": "2025-07-01", "end": "2025-07-01"}},
            "^date_range: given together with start",
        ),
    ],
)
def test_ends_that_are_wrong(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make(**fields)


# Paths

NOT_PATHS = [
    "",
    "  ",
    "s3://bucket/data",
    " S3://bucket",
    "gs://b",
    "https://x.org/a",
    "file:///tmp/x",
    "data/s3://b",
    "a\nb",
    "a\rb",
    "a\0",
    "\x1b[2J",
    "a\x85b",
    "a\u2028b",
    "\ud800",
    b"data",
    5,
    ["data"],
    {"a": 1},
    True,
    "~nosuchuser/data",
]


@pytest.mark.parametrize("path", [*NOT_PATHS, Path("s3://bucket/data"), Path("file:///tmp")])
def test_what_is_not_a_local_path_is_refused_everywhere(
    path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    report = bak.coverage("store")
    ways: dict[str, Callable[[], object]] = {
        "output_directory": lambda: make(output_directory=path),
        "matrix_path": lambda: make(matrix_path=path),
        "path": lambda: make().to_json(path),
        "store": lambda: bak.store(path),
        "store (connect)": lambda: bak.connect(path),
        "store (verify)": lambda: bak.verify(path),
        "database": lambda: bak.connect("store", database=path),
        "path (report)": lambda: report.to_html(path),
    }
    if isinstance(path, str | Path):
        ways["source"] = lambda: bak.coverage(path)
    if is_url(path):  # of object storage, where a store can be
        ways = {name: ways[name] for name in ("matrix_path", "path", "database", "path (report)")}
    for field, way in ways.items():
        with pytest.raises(ConfigurationError) as caught:
            way()
        assert str(caught.value).startswith(f"{field.partition(' ')[0]}: "), field
        assert str(caught.value).isprintable()
    assert [each.name for each in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("url", ["s3://", "s3://b", "s3://bucket/a*", "s3://me:secret@bucket/x"])
def test_a_url_that_names_no_prefix_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^output_directory: 's3://") as caught:
        make(output_directory=url)
    assert "secret" not in str(caught.value)


def test_a_url_for_a_folder_says_what_to_give_instead() -> None:
    with pytest.raises(ConfigurationError, match="such as 'data/research'"):
        make(output_directory="gs://bucket/data")
    with pytest.raises(ConfigurationError, match="such as '/tmp/x'"):
        make(output_directory="file:///tmp/x")
    with pytest.raises(ConfigurationError) as caught:
        make(output_directory="https://me:secret@host/x")
    assert "secret" not in str(caught.value)
    assert make(output_directory=".").output_directory == Path()


# Passwords


@pytest.mark.parametrize(
    "url",
    [
        "http://me:secret@host:9000",
        "https://secret@host",
        "ftp://me:secret@host",
        "me:secret@host",
        "http://me:secret@host:port",
        "http://me:se/cret@host",
        "http://me:se cret@host",
        f"http://me:{'secret' * 100}@host",
        "http://host/me:secret@x",
    ],
)
def test_a_password_is_refused_and_never_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", url)
    fields = {**LEAST, "start": "2025-07-01", "end": "2025-07-01"}
    ways: list[Callable[[], object]] = [
        lambda: make(endpoint_url=url),
        lambda: make(endpoint_url=[url]),
        lambda: make(endpoint_url=[url.encode()]),
        lambda: make(markets=[url]),
        lambda: make(output_directory=url if "://" in str(url) else f"x://{url}"),
        lambda: bak.ConfigForm(endpoint_url=url),
        lambda: bak.plan(fields),
        lambda: bak.verify(".", archive=True, endpoint_url=url),
        lambda: bak.plan(fields, s5cmd_extra_args=["--endpoint-url", url]),
        lambda: bak.plan(fields, s5cmd_extra_args=[f"--endpoint-url={url}"]),
    ]
    for way in ways:
        with pytest.raises(ConfigurationError) as caught:
            way()
        assert "secret" not in str(caught.value)
        assert "cret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"^S3_ENDPOINT_URL: "):
        bak.plan(fields)


@pytest.mark.parametrize(
    "url",
    [
        "http://ho\nst",
        "http://host\r\nX: y",
        "http://host name",
        'http://ho"st',
        "http://a..b",
        f"http://{'a' * 64}.org",
        "http://host;x",
        "http://host:99999",
        "http://host#fragment",
        "http://[::1",
        "http://host'",
    ],
)
def test_an_endpoint_is_a_plain_host(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^endpoint_url: ") as caught:
        make(endpoint_url=url)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("url", [5, b"http://x", ["http://me:secret@x"], Odd()])
def test_an_endpoint_is_text(url: Any, tmp_path: Path) -> None:
    for way in (
        lambda: bak.ConfigForm(endpoint_url=url),
        lambda: bak.verify(tmp_path, archive=True, endpoint_url=url),
    ):
        with pytest.raises(ConfigurationError, match=r"^endpoint_url: ") as caught:
            way()
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("source", [5, None.__class__, "x" * 5_000, Path("a\0b"), {5: 5}, Odd()])
def test_what_is_no_configuration_is_refused(source: Any) -> None:
    for verb in (bak.plan, bak.collect):
        with pytest.raises(ConfigurationError):
            verb(source)


@pytest.mark.parametrize("url", ["http://[::1]:9000", "https://bücher.example", "http://a_b:1"])
def test_hosts_of_every_kind_are_endpoints(url: str) -> None:
    assert make(endpoint_url=url).endpoint_url == url


# Anything at all

JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(10**30, 10**31),
        st.floats(),
        st.text(st.characters()),
        st.sampled_from(
            ["spot", "klines", "1h", "9999-12-31", "0001-01-01", "today", "-99999d", "BTCUSDT", "."]
        ),
        st.sampled_from([10**400, -(10**400), "9" * 5_000, "x" * 100_000]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(), st.sampled_from(["spot", "start", "end", "klines"])), inner
        ),
    ),
    max_leaves=6,
)


def deep(levels: int) -> Any:
    value: Any = "spot"
    for _ in range(levels):
        value = [value]
    return value


ODD_VALUES = [
    Odd(),
    [Odd()],
    {"spot": Odd()},
    deep(100_000),
    {"klines": deep(100_000)},
    10**5000,
    [10**5000],
    object(),
    itertools.count(),
    (deep(5) for _ in range(3)),
    range(10**7),
    "x" * 10**7,
    {"start": Odd(), "end": Odd()},
    {5: 5},
    {None: None},
    datetime.max,
    date.max,
    date.min,
    math.nan,
    1j,
    b"\xff",
    bytearray(5),
    lambda: None,
    type,
    Path("\0"),
    UserString("spot"),
    Decimal("NaN"),
    memoryview(b"spot"),
    Ellipsis,
    {"start": date.max, "end": date.max},
    {"start": date.min, "end": date.max},
]


def check_anything(fields: dict[str, Any]) -> None:
    """A valid configuration that can be planned, or our error in words."""
    try:
        config = CollectionConfig(**fields)
        assert CollectionConfig.from_json(config.to_json()) == config
        asked = expand(config, load_matrix(), datetime(2025, 8, 1))
        for request in asked.folders:
            assert sum(1 for _ in request.starts()) > 0
        assert repr(config)
    except ConfigurationError as error:
        message = str(error)
        assert 0 < len(message) < 10_000


@given(
    name=st.sampled_from(sorted({*CollectionConfig.model_fields, "start", "x"})), value=JSON_VALUES
)
def test_any_json_value_is_a_configuration_or_our_error(name: str, value: Any) -> None:
    check_anything({**LEAST, name: value})
    text = json.dumps({**LEAST, name: None}).replace("null", _spelled(value))
    with suppress(ConfigurationError):
        CollectionConfig.from_json(text)


def _spelled(value: Any) -> str:
    try:
        return json.dumps(value)
    except ValueError:  # a number of thousands of digits
        return "9" * 5_000


@pytest.mark.parametrize("name", [*CollectionConfig.model_fields, "start", "end", "x"])
def test_any_object_is_a_configuration_or_our_error(name: str) -> None:
    for value in ODD_VALUES:
        check_anything({**LEAST, name: value})


@pytest.mark.parametrize("partition", PartitionChoice)
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("9999-12-31", "9999-12-31"),
        ("0001-01-01", "0001-01-01"),
        ("0001-01-01", "9999-12-31"),
        ("1700-01-01", "1700-01-01"),
        ("2299-12-31", "2299-12-31"),
        ("2299-12-01", "2299-12-31"),
        ("1700-01-01", "2299-12-31"),
        ("-99999d", "today"),
    ],
)
def test_days_far_away_are_planned_or_refused(
    tmp_path: Path, partition: PartitionChoice, start: str, end: str
) -> None:
    fields = {**LEAST, "output_directory": tmp_path, "intervals": {"klines": ["1h", "1mo"]}}
    with suppress(ConfigurationError):
        config = CollectionConfig(**fields, start=start, end=end, partition=partition)
        bak.plan(config, listing=False)
    with suppress(ConfigurationError):
        bak.coverage(tmp_path, start=start, end=end)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"markets": ' + "[" * 100_000, "nested too deeply"),
        ('{"batch_size": ' + "9" * 5_000 + "}", "thousands of digits"),
        ('{"timeout_seconds": NaN}', "NaN is not a number"),
        ('{"timeout_seconds": -Infinity}', "Infinity is not a number"),
        ('{"markets": ["spot"], "markets": ["um"]}', "'markets' occurs twice"),
        ('{"symbols": {"spot": ["A"], "spot": ["B"]}}', "'spot' occurs twice"),
    ],
)
def test_json_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        CollectionConfig.from_json(text)


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
PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"])).filter(
    lambda text: "://" not in text
)
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
        "s5cmd_extra_args": st.lists(PRINTABLE),
        "listing": st.booleans(),
        "matrix_path": st.one_of(st.none(), PRINTABLE.map(lambda text: f"m{text}.json")),
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
    with pytest.raises(ConfigurationError, match="int is not a configuration; give a Coll"):
        read_config(7)  # type: ignore[arg-type]


def test_a_folder_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/trader")
    assert make(output_directory="~/data").output_directory == Path("/home/trader/data")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("no/such/file.json", "'no/such/file.json' cannot be read: No such file"),
        (Path("no/such/file.json"), "cannot be read"),
        ("", "config: '' is empty"),
        ("{", "not JSON"),
        ('{"markets": ["sport"]}', "did you mean 'spot'"),
        ("[1]", "not a JSON object"),
        ("{" + "x" * 5000, "not JSON"),
        ("x" * 5000, "cannot be read"),
        ("nul\0.json", "control characters"),
        ("/dev/zero", "cannot be read: it has more than 64 MiB"),
        ("/dev", "cannot be read: Is a directory"),
        ("https://x.org/config.json", "is a URL"),
    ],
)
def test_bad_json(source: str | Path, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        CollectionConfig.from_json(source)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe{", "cannot be read: it is not UTF-8"),
        (b"", "not JSON"),
        (b"\xef\xbb\xbf{}", "markets: required"),
    ],
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
