"""The form's model: its fields and the available options, without any widget.

The fields are those of a configuration in JSON, but may be invalid or missing. No I/O.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import feed_prefix
from binance_archive_kit.archive.matrix import Matrix
from binance_archive_kit.display import render
from binance_archive_kit.planning.config import CollectionConfig, PartitionChoice
from binance_archive_kit.planning.plan import Plan

#: A configuration's fields as JSON values, not validated.
Fields = dict[str, Any]


def starting_fields(today: date) -> Fields:
    """Return the fields of a new form: hourly spot candles of the last seven days.

    >>> starting_fields(date(2025, 7, 16))["date_range"]
    {'start': '2025-07-09', 'end': '2025-07-15'}
    """
    return {
        "markets": [Market.SPOT.value],
        "symbols": [],
        "data_types": [DataType.KLINES.value],
        "intervals": {DataType.KLINES.value: [Interval.H1.value]},
        "date_range": last_days(7, today),
        "output_directory": "data",
    }


def last_days(count: int, today: date) -> dict[str, str]:
    """Return the last whole days, up to yesterday; both ends inclusive."""
    day = timedelta(days=1)
    return {"start": str(today - count * day), "end": str(today - day)}


def last_month(today: date) -> dict[str, str]:
    """Return the last whole calendar month; both ends inclusive.

    >>> last_month(date(2025, 3, 9))
    {'start': '2025-02-01', 'end': '2025-02-28'}
    """
    end = today.replace(day=1) - timedelta(days=1)
    return {"start": str(end.replace(day=1)), "end": str(end)}


def shortcuts(today: date) -> dict[str, dict[str, str]]:
    """Return ranges of days to choose with one click, by their names."""
    return {
        "Last 7 days": last_days(7, today),
        "Last 30 days": last_days(30, today),
        "Last month": last_month(today),
    }


def chosen_markets(fields: Fields) -> list[Market]:
    """Return the chosen markets, in the order of the choices."""
    return [Market(word) for word in _words(fields, "markets") if word in set(Market)]


def chosen_types(fields: Fields) -> list[DataType]:
    """Return the chosen data types, in the order of the choices."""
    return [DataType(word) for word in _words(fields, "data_types") if word in set(DataType)]


def _words(fields: Fields, name: str) -> list[str]:
    """Return the words of a field, to which code can assign any value."""
    words = fields.get(name)
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else []


def symbols_of(fields: Fields, market: Market | None = None) -> list[str]:
    """Return the symbols chosen for a market, or with None those for every market."""
    symbols = fields.get("symbols") or []
    if isinstance(symbols, Mapping):
        return list(symbols.get(market.value, ())) if market else []
    return list(symbols)


def intervals_of(fields: Fields) -> dict[str, Any]:
    """Return the intervals by data type; empty if the field is not a mapping."""
    intervals = fields.get("intervals")
    return dict(intervals) if isinstance(intervals, Mapping) else {}


def market_choices(fields: Fields) -> list[dict[str, Any]]:
    """Return all markets as options."""
    chosen = chosen_markets(fields)
    return [
        {
            "value": market.value,
            "title": market.title[:1].upper() + market.title[1:],
            "on": market in chosen,
        }
        for market in Market
    ]


def type_choices(fields: Fields, matrix: Matrix) -> list[dict[str, Any]]:
    """Return the data types that any of the chosen markets has or had as options.

    A chosen data type of no chosen market remains an option, with the reason as its hint.
    """
    markets, chosen = chosen_markets(fields), chosen_types(fields)
    options = []
    for data_type in DataType:
        feeds = [feed for market in markets if (feed := matrix.feed(market, data_type))]
        if not feeds and data_type not in chosen:
            continue
        hints = []
        if 0 < len(feeds) < len(markets):
            hints.append(f"{', '.join(feed.market.title for feed in feeds)} only")
        # Daily files state the end more exactly than monthly ones, and come first.
        lasts = [feed.partitioned[min(feed.partitioned)].last for feed in feeds if feed.partitioned]
        ended = [last for last in lasts if last is not None]
        if feeds and len(ended) == len(feeds):
            hints.append(f"ended {max(ended)}")
        if not feeds:
            hints.append(f"not in {', '.join(m.title for m in markets) or 'any market'}")
        options.append(
            {
                "value": data_type.value,
                "about": re.split(r"[.;]", feeds[0].notes)[0] if feeds else "",
                "hint": "; ".join(hints),
                "on": data_type in chosen,
                "possible": bool(feeds),
            }
        )
    return options


def interval_choices(fields: Fields, matrix: Matrix) -> list[dict[str, Any]]:
    """Return, for each chosen kline type, the intervals that its files can have."""
    options = []
    choice = fields.get("partition", PartitionChoice.DAILY.value)
    for data_type in chosen_types(fields):
        if not data_type.has_intervals:
            continue
        published = {part: _published(fields, matrix, data_type, part) for part in Partition}
        possible = {
            word
            for partition in Partition
            if choice in (partition.value, PartitionChoice.AUTO.value)
            for word in published[partition]
        }
        intervals = intervals_of(fields)
        chosen = _words(intervals, data_type.value)
        words = [
            {
                "value": word.value,
                "on": word.value in chosen,
                "possible": word in possible,
            }
            for word in Interval
        ]
        monthly = [word for word in Interval if word in published[Partition.MONTHLY] - possible]
        options.append(
            {
                "data_type": data_type.value,
                "all": data_type.value not in intervals,
                "words": [word for word in words if word["on"] or word["possible"]],
                "hint": f"{', '.join(monthly)}: in monthly files only" if monthly else "",
            }
        )
    return options


def _published(
    fields: Fields, matrix: Matrix, data_type: DataType, partition: Partition
) -> set[Interval]:
    """Return the intervals that any of the chosen markets publishes in a partition."""
    feeds = [matrix.feed(market, data_type) for market in chosen_markets(fields)]
    return {
        word
        for feed in feeds
        if feed is not None and partition in feed.partitioned
        for word in feed.partitioned[partition].intervals
    }


def symbol_folders(fields: Fields, matrix: Matrix) -> dict[Market, list[str]]:
    """Return the prefixes of the archive whose folders are the available symbols, by market.

    Each chosen market has the folders of its chosen feeds, or of its first feed if none is
    chosen; those of daily files if they exist.
    """
    folders: dict[Market, list[str]] = {}
    for market in chosen_markets(fields):
        available = matrix.data_types(market)
        chosen = [data_type for data_type in chosen_types(fields) if data_type in available]
        folders[market] = []
        for data_type in chosen or available[:1]:
            feed = matrix.feed(market, data_type)
            if feed is not None and feed.partitioned:
                partition = min(feed.partitioned)  # daily before monthly
                folders[market].append(feed_prefix(market, partition, data_type))
    return folders


#: Fields that rarely need to change: switches first.
ENGINE_OPTIONS = (
    "quote",
    "enable_resume",
    "force_redownload",
    "download_checksum",
    "accept_stale_checksum",
    "enable_batch_mode",
    "listing",
    "batch_size",
    "max_parallel_downloads",
    "timeout_seconds",
    "part_size_mb",
    "s5cmd_extra_args",
    "matrix_path",
    "endpoint_url",
)
#: The kind of input of an option, by the type of its field.
_KINDS: dict[Any, str] = {
    bool: "flag",
    int: "whole",
    int | None: "whole",
    float: "number",
    tuple[str, ...]: "words",
}


def engine_choices(fields: Fields) -> list[dict[str, Any]]:
    """Return the options of the engine, with their value and whether it was changed."""
    options = []
    for name in ENGINE_OPTIONS:
        texts: Any = CollectionConfig.model_fields[name].json_schema_extra
        options.append(
            {
                "name": name,
                "kind": kind_of(name),
                "label": texts["label"],
                "about": texts["hint"],
                "value": _shown(kind_of(name), fields.get(name, default_of(name))),
                "changed": name in fields,
            }
        )
    return options


def kind_of(name: str) -> str:
    """Return the kind of input of a field: flag, whole, number, words or text."""
    field = CollectionConfig.model_fields.get(name)
    return _KINDS.get(field.annotation, "text") if field else ""


def default_of(name: str) -> Any:
    """Return the default of a field as a JSON value."""
    default = CollectionConfig.model_fields[name].default
    return list(default) if isinstance(default, tuple) else default


def _shown(kind: str, value: Any) -> Any:
    """Return the value that the input of an option shows."""
    if kind == "flag":
        return bool(value)
    if kind == "words" and isinstance(value, list):
        return shlex.join(map(str, value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def days_in_words(fields: Fields) -> str:
    """Count the requested days; empty if they are invalid.

    >>> days_in_words({"date_range": {"start": "2025-07-01", "end": "2025-07-31"}})
    '2025-07-01 to 2025-07-31: 31 days (UTC), both ends included'
    """
    days = fields.get("date_range")
    if days is None:
        return "one day: yesterday (UTC), relative to the day of the run"
    try:
        count = (date.fromisoformat(days["end"]) - date.fromisoformat(days["start"])).days + 1
    except (ValueError, TypeError, KeyError):
        return ""
    if count < 1:
        return ""
    # The browser formats dates in its own language, which can be ambiguous.
    dates = f"{days['start']} to {days['end']}"
    return f"{dates}: {count:,} day{'s' * (count > 1)} (UTC), both ends included"


def estimate_of(plan: Plan, free: int | None) -> dict[str, str]:
    """Summarize a plan for the form: a sentence, with the free space in bytes, and its tables.

    `free` is None for a store without a limit.
    """
    need = plan.download_bytes
    state = "ready" if len(plan) else "empty"
    space = "into object storage" if free is None else f"{render.size(free)} free on the disk"
    if free is not None and need is not None and need > free:
        state, space = "full", f"does not fit: only {space}"
    elif free is not None and need:
        space += f", {render.size(free - need)} left afterwards"
    return {"state": state, "text": f"{plan.headline()}; {space}", "html": plan.tables_html()}
