"""The column schemas agree with themselves, with the matrix and with real files."""

from __future__ import annotations

import csv
import inspect
import io
import json
import math
import os
import re
import zipfile
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

from binance_archive_kit.archive import schemas
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.matrix import shipped
from binance_archive_kit.archive.schemas import (
    Checks,
    Column,
    Known,
    Schema,
    Time,
    load_schemas,
    schema,
)
from binance_archive_kit.errors import ConfigurationError

FEEDS = sorted(load_schemas())
SAMPLES = os.environ.get("BINANCE_ARCHIVE_SAMPLES")
SAMPLE_KEYS = (
    sorted(str(path.relative_to(SAMPLES)) for path in Path(SAMPLES).rglob("*.zip"))
    if SAMPLES
    else []
)

SPOT_KLINES = schema(Market.SPOT, DataType.KLINES)


@pytest.fixture(params=FEEDS, ids=lambda feed: f"{feed[0]}-{feed[1]}")
def any_schema(request: pytest.FixtureRequest) -> Schema:
    """Each schema in turn."""
    market, data_type = request.param
    return schema(market, data_type)


def test_every_feed_of_the_matrix_has_a_schema_and_no_other() -> None:
    text = shipped("enhanced_binance_archive_matrix.json").read_text(encoding="utf-8")
    rows = json.loads(text)["availability_matrix"]
    assert {(row["market"], row["data_type"]) for row in rows} == set(FEEDS)


def test_names_are_words_of_one_style(any_schema: Schema) -> None:
    for column in any_schema.columns:
        assert re.fullmatch(r"[a-z][a-z_]*", column.name)
        assert re.fullmatch(r"[a-z][a-z_]*", column.column)


def test_only_ignore_is_dropped(any_schema: Schema) -> None:
    assert [c.name for c in any_schema.columns if c.dropped] in ([], ["ignore"])
    assert len(any_schema.kept) == len([c for c in any_schema.columns if c.name != "ignore"])


def test_only_spot_files_never_have_a_header(any_schema: Schema) -> None:
    assert (any_schema.header == "never") == (any_schema.market is Market.SPOT)


def test_kline_families_share_one_shape(any_schema: Schema) -> None:
    if any_schema.data_type.has_intervals:
        assert any_schema.header_line == SPOT_KLINES.header_line
        assert any_schema.key == ("open_time",)
        assert any_schema.time.others == ("close_time",)


@pytest.mark.parametrize(
    ("market", "data_type", "name", "column", "unit"),
    [
        ("spot", "klines", "volume", "volume", "base asset"),
        ("spot", "klines", "quote_volume", "quote_volume", "quote asset"),
        ("futures_cm", "klines", "volume", "volume", "contracts"),
        ("futures_cm", "klines", "quote_volume", "base_volume", "base asset"),
        ("futures_cm", "klines", "taker_buy_volume", "taker_buy_volume", "contracts"),
        ("futures_cm", "klines", "taker_buy_quote_volume", "taker_buy_base_volume", "base asset"),
        ("futures_cm", "trades", "base_qty", "base_qty", "base asset"),
        ("futures_cm", "aggTrades", "quantity", "quantity", "contracts"),
        ("futures_um", "markPriceKlines", "volume", "volume", None),
        ("futures_um", "markPriceKlines", "close", "close", "quote per base"),
        ("futures_cm", "metrics", "sum_open_interest", "sum_open_interest", "contracts"),
    ],
)
def test_columns_have_descriptions(
    market: str, data_type: str, name: str, column: str, unit: str | None
) -> None:
    by_name = {c.name: c for c in schema(Market(market), DataType(data_type)).columns}
    assert (by_name[name].column, by_name[name].unit) == (column, unit)


def test_spot_times_change_unit_in_2025() -> None:
    assert SPOT_KLINES.time.unit_on(date(2017, 8, 17)) == "ms"
    assert SPOT_KLINES.time.unit_on(date(2024, 12, 31)) == "ms"
    assert SPOT_KLINES.time.unit_on(date(2025, 1, 1)) == "us"
    assert schema(Market.FUTURES_UM, DataType.KLINES).time.unit_on(date(2026, 1, 1)) == "ms"
    assert schema(Market.FUTURES_UM, DataType.METRICS).time.unit_on(date(2026, 1, 1)) is None


def test_option_summaries_make_their_time_from_date_and_hour() -> None:
    time = schema(Market.OPTIONS, DataType.EOH_SUMMARY).time
    assert (time.column, time.made_from, time.format) == ("time", ("date", "hour"), "%Y-%m-%d %H")


def test_unknown_feed_names_the_valid_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"data type of spot: 'metrics'.*Valid: klines"):
        schema(Market.SPOT, DataType.METRICS)


def test_help_shows_a_readable_signature() -> None:
    assert str(inspect.signature(Schema)) == (
        "(*, market, data_type, columns, header, time, known, sorted, key, confidence, source)"
    )


def test_feeds_are_found_in_any_accepted_spelling() -> None:
    assert schema("um", "premiumIndex") is schema(  # type: ignore[arg-type]
        Market.FUTURES_UM, DataType.PREMIUM_INDEX_KLINES
    )
    with pytest.raises(ConfigurationError, match="market: 'sport' is not valid; did you mean"):
        schema("sport", "klines")  # type: ignore[arg-type]


def test_schemas_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        SPOT_KLINES.header = "present"
    with pytest.raises(TypeError):
        load_schemas()[FEEDS[0]] = SPOT_KLINES  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": ("id",)}, "no such column: id"),
        ({"columns": SPOT_KLINES.columns + SPOT_KLINES.columns[:1]}, "share a name"),
        ({"columns": SPOT_KLINES.columns[1:], "key": ()}, "not the ones under time"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_contradictory_schema_is_refused(change: dict[str, object], message: str) -> None:
    fields = {name: getattr(SPOT_KLINES, name) for name in Schema.model_fields}
    with pytest.raises(ValidationError, match=message):
        Schema.model_validate(fields | change)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "epoch"}, "have unit rules"),
        ({"kind": "text"}, "have a format"),
        ({"kind": "text", "format": "%Y", "made_from": ["a"]}, "only date_and_hour"),
        ({"kind": "epoch", "units": [{"from": "2025-01-01", "unit": "us"}]}, "beginning of time"),
        ({"kind": "epoch", "units": [{"from": None, "unit": "us"}] * 2}, "go forward"),
    ],
)
def test_contradictory_time_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Time.model_validate({"column": "time"} | fields)


def test_a_made_time_may_not_hide_a_column() -> None:
    summary = schema(Market.OPTIONS, DataType.EOH_SUMMARY)
    fields = {name: getattr(summary, name) for name in Schema.model_fields}
    clash = summary.columns[0].model_copy(update={"column": "time"})
    with pytest.raises(ValidationError, match="would be made although"):
        Schema.model_validate(fields | {"columns": (*summary.columns, clash)})


def test_differences_must_name_columns_of_the_other_list() -> None:
    lists = {"a": [{"name": "id"}], "b": {"like": "a", "differs": {"price": {"unit": None}}}}
    with pytest.raises(ValueError, match="b: a has no column price"):
        schemas._columns(lists, "b")


# When rows were known, and what their values cover


@pytest.mark.parametrize(
    ("market", "data_type", "rule", "minutes"),
    [
        ("spot", "klines", "candle", None),
        ("futures_um", "markPriceKlines", "candle", None),
        ("futures_cm", "premiumIndexKlines", "candle", None),
        ("spot", "trades", "time", None),
        ("futures_um", "fundingRate", "time", None),
        ("futures_um", "bookDepth", "time", None),
        ("options", "BVOLIndex", "time", None),
        ("futures_cm", "liquidationSnapshot", "time", None),
        ("futures_um", "bookTicker", "latest", None),
        ("futures_um", "metrics", "metrics_label", 5),
        ("futures_cm", "metrics", "metrics_label", 5),
        ("options", "EOHSummary", "after_period", 60),
    ],
)
def test_when_rows_are_known(market: str, data_type: str, rule: str, minutes: int | None) -> None:
    known = schema(Market(market), DataType(data_type)).known
    assert known.rule == rule
    assert known.period == (minutes and timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("market", "data_type", "column", "measures"),
    [
        ("spot", "klines", "volume", "flow"),
        ("spot", "klines", "open_time", "identity"),
        ("spot", "klines", "ignore", "nothing"),
        ("futures_um", "markPriceKlines", "volume", "nothing"),
        ("futures_um", "markPriceKlines", "close", "flow"),
        ("spot", "trades", "price", "event"),
        ("futures_um", "metrics", "sum_open_interest", "moment"),
        ("futures_cm", "metrics", "count_long_short_ratio", "moment"),
        ("futures_um", "metrics", "sum_taker_long_short_vol_ratio", "flow"),
        ("futures_um", "bookDepth", "depth", "moment"),
        ("options", "EOHSummary", "open", "rolling_24h"),
        ("options", "EOHSummary", "high", "rolling_24h"),
        ("options", "EOHSummary", "low", "rolling_24h"),
        ("options", "EOHSummary", "volume_contracts", "rolling_24h"),
        ("options", "EOHSummary", "volume_usdt", "rolling_24h"),
        ("options", "EOHSummary", "close", "moment"),
        ("options", "EOHSummary", "theta", "moment"),
    ],
)
def test_what_values_measure(market: str, data_type: str, column: str, measures: str) -> None:
    by_name = {c.column: c for c in schema(Market(market), DataType(data_type)).columns}
    assert by_name[column].measures == measures


def test_times_and_keys_identify_and_flows_have_a_period(any_schema: Schema) -> None:
    by_name = {column.column: column.measures for column in any_schema.columns}
    for name in {*any_schema.key, *any_schema.time.others, *any_schema.time.made_from}:
        assert by_name[name] == "identity"
    if "flow" in by_name.values():
        assert any_schema.known.rule == "candle" or any_schema.known.period


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rule": "time", "period": "PT5M"}, "a period belongs to"),
        ({"rule": "after_period"}, "a period belongs to"),
        ({"rule": "never"}, "rule"),
    ],
)
def test_contradictory_known_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Known.model_validate({"description": "Then."} | fields)


@pytest.mark.skipif(not SAMPLES, reason="BINANCE_ARCHIVE_SAMPLES is not set")
def test_hourly_option_summaries_are_of_24_hours_and_of_the_end_of_the_hour() -> None:
    """What the schema says of EOHSummary, on the real file."""
    [key] = [key for key in SAMPLE_KEYS if "EOHSummary" in key]
    header, *rows = _rows(key)
    at = {name: index for index, name in enumerate(header)}
    volume = at["volume_contracts"]
    assert all(float(row[volume]) == float(row[at["volume_usdt"]]) for row in rows)
    last_hour = [
        row for row in rows if row[at["symbol"]].startswith("BTC-231020-") and row[1] == "07"
    ]
    assert last_hour
    # Expired at 08:00: in the row of hour 07 there is no time left and nothing uncertain.
    for row in last_hour:
        assert float(row[at["theta"]]) == 0
        assert abs(float(row[at["delta"]])) in (0, 1)
    by_option: dict[str, list[list[str]]] = {}
    for row in sorted(rows, key=lambda row: row[at["hour"]]):
        by_option.setdefault(row[at["symbol"]], []).append(row)
    for history in by_option.values():
        for index, row in enumerate(history):
            # Closes traded in the hours before lie inside the range of 24 hours.
            traded = [
                float(earlier[at["close"]])
                for before, earlier in pairwise(history[: index + 1])
                if float(before[volume]) < float(earlier[volume])
            ]
            if float(row[volume]) and traded:
                assert float(row[at["low"]]) <= min(traded)
                assert float(row[at["high"]]) >= max(traded)


# What is certain about values


def test_nothing_is_checked_unless_it_is_stated() -> None:
    assert Checks() == Checks(
        finite=False, positive=False, within=None, may_be_null=True, may_be_constant=True
    )
    column = Column(
        name="a", column="a", dtype="text", unit=None, measures="nothing", description="."
    )
    assert column.checks == Checks()


@pytest.mark.parametrize("market", [Market.SPOT, Market.FUTURES_UM, Market.FUTURES_CM])
def test_prices_are_positive_and_inside_their_range(market: Market) -> None:
    for data_type in (DataType.KLINES, DataType.MARK_PRICE_KLINES, DataType.INDEX_PRICE_KLINES):
        if (market, data_type) not in load_schemas():
            continue
        checks = {c.column: c.checks for c in schema(market, data_type).columns}
        for name in ("open", "high", "low", "close"):
            assert checks[name].finite
            assert checks[name].positive
            assert not checks[name].may_be_null
        assert checks["open"].within == checks["close"].within == ("low", "high")
        assert checks["high"].within == ("low", None)
    for data_type in (DataType.TRADES, DataType.AGG_TRADES):
        checks = {c.column: c.checks for c in schema(market, data_type).columns}
        assert checks["price"].positive
        assert checks["qty" if data_type is DataType.TRADES else "quantity"].positive
        assert not checks["is_buyer_maker"].may_be_constant


@pytest.mark.parametrize(
    ("market", "data_type", "column", "excused"),
    [
        ("futures_um", "premiumIndexKlines", "open", {"positive": False}),
        ("futures_um", "markPriceKlines", "volume", {"within": None}),
        ("futures_um", "fundingRate", "last_funding_rate", {"positive": False, "within": None}),
        ("futures_cm", "metrics", "count_long_short_ratio", {"may_be_null": True}),
        ("spot", "klines", "ignore", {"may_be_constant": True}),
        ("spot", "trades", "is_best_match", {"may_be_constant": True}),
        ("spot", "klines", "volume", {"positive": False, "may_be_constant": True}),
        ("options", "EOHSummary", "best_buy_iv", {"may_be_null": True}),
        ("options", "EOHSummary", "openinterest_usdt", {"may_be_null": True}),
    ],
)
def test_what_healthy_files_do_is_not_forbidden(
    market: str, data_type: str, column: str, excused: dict[str, object]
) -> None:
    [checks] = [
        c.checks for c in schema(Market(market), DataType(data_type)).columns if c.column == column
    ]
    assert {name: getattr(checks, name) for name in excused} == excused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": "int64", "checks": {"finite": True}}, "float64 only"),
        ({"dtype": "text", "checks": {"positive": True}}, "text has no bounds"),
        ({"dtype": "bool", "checks": {"within": (0.0, None)}}, "bool has no bounds"),
        ({"dtype": "int64", "checks": {"within": (None, None)}}, "at least one bound"),
        ({"dtype": "int64", "checks": {"within": (2.0, 1.0)}}, "no value is within 2.0 and 1.0"),
        ({"dtype": "int64", "checks": {"postive": True}}, "postive"),
    ],
)
def test_impossible_checks_are_refused(fields: dict[str, object], message: str) -> None:
    column = {
        "name": "a",
        "column": "a",
        "unit": None,
        "measures": "nothing",
        "description": "A column.",
    }
    with pytest.raises(ValidationError, match=message):
        Column.model_validate(column | fields)


def test_a_bound_names_a_column_of_the_same_kind(any_schema: Schema) -> None:
    dtypes = {column.column: column.dtype for column in any_schema.columns}
    for column in any_schema.columns:
        for bound in column.checks.bounding_columns:
            assert dtypes[bound] == column.dtype
            assert bound != column.column


def test_a_bound_must_be_a_column() -> None:
    checks = Checks(within=("no_such_column", None))
    first, opening, *rest = SPOT_KLINES.columns
    fields = {name: getattr(SPOT_KLINES, name) for name in Schema.model_fields}
    columns = (first, opening.model_copy(update={"checks": checks}), *rest)
    with pytest.raises(ValidationError, match="no such column: no_such_column"):
        Schema.model_validate(fields | {"columns": columns})


def violations(column: Column, row: dict[str, object]) -> list[str]:
    """Name the checks that one value of a row fails."""
    value, checks = row[column.column], column.checks
    if value is None:
        return [] if checks.may_be_null else ["may_be_null"]
    low, high = (
        row[bound] if isinstance(bound, str) else bound for bound in checks.within or (None, None)
    )
    failed = {
        "finite": checks.finite and not math.isfinite(value),  # type: ignore[arg-type]
        "positive": checks.positive and not value > 0,  # type: ignore[operator]
        "low": low is not None and value < low,  # type: ignore[operator]
        "high": high is not None and value > high,  # type: ignore[operator]
    }
    return [name for name, fails in failed.items() if fails]


def _rows(key: str) -> list[list[str]]:
    """Read every row of a real file."""
    assert SAMPLES
    with zipfile.ZipFile(Path(SAMPLES) / key) as archive:
        text = archive.read(ObjectKey.parse(key).member).decode("utf-8")
    return list(csv.reader(io.StringIO(text)))


def _parse(column: Column, text: str, time: Time, start: date) -> object:
    """Read one field as its schema says; raises ValueError if it cannot be."""
    if column.dtype == "time":
        if time.format:
            return datetime.strptime(text, time.format).replace(tzinfo=UTC)
        divisor = {"ms": 1e3, "us": 1e6}[time.unit_on(start) or ""]
        return datetime.fromtimestamp(int(text) / divisor, UTC)
    if column.dtype == "bool":
        return {"true": True, "false": False}[text.lower()]
    if column.dtype == "float64":
        return float(text) if text else None
    return int(text) if column.dtype == "int64" else text


@pytest.mark.skipif(not SAMPLES, reason="BINANCE_ARCHIVE_SAMPLES is not set")
@pytest.mark.parametrize("key", SAMPLE_KEYS)
def test_real_files_are_as_their_schema_says(key: str) -> None:
    parsed = ObjectKey.parse(key)
    found = schema(parsed.folder.market, parsed.folder.data_type)
    rows = _rows(key)
    headed = not re.match(r"[-\d]", rows[0][0])
    if headed:
        assert ",".join(rows.pop(0)) == found.header_line
    assert headed or found.header != "present"
    assert not (headed and found.header == "never")
    assert {len(row) for row in rows} == {len(found.columns)}
    values = [
        {
            column.column: _parse(column, text, found.time, parsed.start)
            for column, text in zip(found.columns, row, strict=True)
        }
        for row in rows
    ]
    if found.time.made_from:
        times = [
            datetime.strptime(
                " ".join(str(row[part]) for part in found.time.made_from), found.time.format or ""
            )
            for row in values
        ]
    else:
        times = [row[found.time.column] for row in values]  # type: ignore[misc]
    assert {parsed.start <= time.date() <= parsed.end for time in times} == {True}
    if found.sorted:
        assert times == sorted(times)
    for column in found.columns:
        assert not [row for row in values if violations(column, row)], column.column
    if found.key:
        keys = {tuple(row[name] for name in found.key) for row in values}
        assert len(keys) == len(values)
