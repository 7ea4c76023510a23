"""What a form offers, and what it says of the choices made: plain functions of its fields.

The fields of a form are those of a configuration's JSON; unlike a configuration they may
be wrong, or not given yet. Nothing here knows a widget, and nothing touches the outside.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import feed_prefix
from binance_archive_kit.archive.matrix import Matrix, WrongSymbolError
from binance_archive_kit.display import render
from binance_archive_kit.errors import ConfigurationError, nearest
from binance_archive_kit.planning.config import (
    CollectionConfig,
    PartitionChoice,
    is_field,
    unknown_field,
)
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.planning.requests import Requests

#: A configuration's fields as JSON values, not checked yet.
Fields = dict[str, Any]


class Level(StrEnum):
    """How much a finding matters."""

    WRONG = "wrong"  #: there is no configuration as long as it stands
    CANNOT = "cannot"  #: asked for, and cannot exist
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class FieldMessage:
    """A sentence to be shown beside a field."""

    level: Level
    text: str


#: Findings by field; ``""`` for what belongs to none.
Findings = dict[str, list[FieldMessage]]

#: Sentences of one level that are shown beside a field before the rest is only counted.
_SHOWN = 4

# ---------------------------------------------------------------------------------------
# What can be chosen
# ---------------------------------------------------------------------------------------


def starting_fields(today: date) -> Fields:
    """Give the fields of a new form: hourly spot candles of the last seven days.

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
    """Spell the last whole days, up to yesterday; both ends inclusive."""
    day = timedelta(days=1)
    return {"start": str(today - count * day), "end": str(today - day)}


def last_month(today: date) -> dict[str, str]:
    """Spell the last whole calendar month.

    >>> last_month(date(2025, 3, 9))
    {'start': '2025-02-01', 'end': '2025-02-28'}
    """
    end = today.replace(day=1) - timedelta(days=1)
    return {"start": str(end.replace(day=1)), "end": str(end)}


def chosen_markets(fields: Fields) -> list[Market]:
    """List the markets that are chosen, in the order in which they were."""
    return [Market(word) for word in _words(fields, "markets") if word in set(Market)]


def chosen_types(fields: Fields) -> list[DataType]:
    """List the data types that are chosen, in the order in which they were."""
    return [DataType(word) for word in _words(fields, "data_types") if word in set(DataType)]


def _words(fields: Fields, name: str) -> list[str]:
    """List the words of a field, which code may have set to anything."""
    words = fields.get(name)
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else []


def market_choices(fields: Fields) -> list[dict[str, Any]]:
    """Offer all markets."""
    chosen = chosen_markets(fields)
    return [
        {"value": each.value, "title": _titled(each.title), "on": each in chosen} for each in Market
    ]


def type_choices(fields: Fields, matrix: Matrix) -> list[dict[str, Any]]:
    """Offer the data types that any of the chosen markets has or had.

    One that was chosen and that none of them has stays on offer, and says why it cannot be.
    """
    markets, chosen = chosen_markets(fields), chosen_types(fields)
    offered = []
    for data_type in DataType:
        feeds = {market: matrix.feed(market, data_type) for market in markets}
        owners = [market for market, feed in feeds.items() if feed is not None]
        feed = next(filter(None, feeds.values()), None)
        if feed is None and data_type not in chosen:
            continue
        hints = []
        if owners and len(owners) < len(markets):
            hints.append(f"{_listed(market.title for market in owners)} only")
        # Days tell the end better than months; both are in the order of `Partition`.
        lasts = [
            next((each.partitioned[way].last for way in Partition if way in each.partitioned), None)
            for each in filter(None, feeds.values())
        ]
        if lasts and all(lasts):
            hints.append(f"ended {max(filter(None, lasts))}")
        if not owners:
            hints.append(f"not in {_listed(market.title for market in markets) or 'any market'}")
        offered.append(
            {
                "value": data_type.value,
                "about": re.split(r"[.;]", feed.notes)[0] if feed else "",
                "hint": "; ".join(hints),
                "on": data_type in chosen,
                "possible": bool(owners),
            }
        )
    return offered


def interval_choices(fields: Fields, matrix: Matrix) -> list[dict[str, Any]]:
    """Offer the intervals of each chosen candle type that its files can have."""
    offered = []
    for data_type in chosen_types(fields):
        if not data_type.has_intervals:
            continue
        kept = {partition: _kept(fields, matrix, data_type, partition) for partition in Partition}
        choice = fields.get("partition", PartitionChoice.DAILY.value)
        ways = [each for each in Partition if choice in (each.value, PartitionChoice.AUTO.value)]
        possible = {word for way in ways for word in kept[way]}
        asked = fields.get("intervals", {}).get(data_type.value)
        only_monthly = [word for word in Interval if word in kept[Partition.MONTHLY] - possible]
        offered.append(
            {
                "data_type": data_type.value,
                "all": asked is None,
                "words": [
                    {
                        "value": word.value,
                        "on": asked is not None and word.value in asked,
                        "possible": word in possible,
                    }
                    for word in Interval
                    if word in possible or (asked is not None and word.value in asked)
                ],
                "hint": f"{_listed(only_monthly)}: in monthly files only" if only_monthly else "",
            }
        )
    return offered


def _kept(
    fields: Fields, matrix: Matrix, data_type: DataType, partition: Partition
) -> set[Interval]:
    """Tell which intervals any of the chosen markets keeps in one kind of files."""
    feeds = [matrix.feed(market, data_type) for market in chosen_markets(fields)]
    return {
        word
        for feed in feeds
        if feed is not None and partition in feed.partitioned
        for word in feed.partitioned[partition].intervals
    }


def symbol_folders(fields: Fields, matrix: Matrix) -> dict[Market, list[str]]:
    """Name the prefixes of the archive whose folders are the symbols that can be chosen.

    Of each chosen market those of its chosen feeds, from their daily files where there
    are any; while no feed is chosen, those of its first one.
    """
    types = chosen_types(fields)
    folders: dict[Market, list[str]] = {}
    for market in chosen_markets(fields):
        there = matrix.data_types(market)
        asked = [each for each in types if each in there] or there[:1]
        folders[market] = []
        for data_type in asked:
            feed = matrix.feed(market, data_type)
            if feed is not None and feed.partitioned:
                partition = min(feed.partitioned)  # daily before monthly
                folders[market].append(feed_prefix(market, partition, data_type))
    return folders


#: Fields that rarely need to change: switches first.
ENGINE_OPTIONS = (
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
#: How an option is entered, by the type of its field.
_KINDS: dict[Any, str] = {
    bool: "flag",
    int: "whole",
    int | None: "whole",
    float: "number",
    tuple[str, ...]: "words",
}


def engine_choices(fields: Fields) -> list[dict[str, Any]]:
    """List the engine's options with their present value, and whether they were changed."""
    offered = []
    for name in ENGINE_OPTIONS:
        words: Any = CollectionConfig.model_fields[name].json_schema_extra
        offered.append(
            {
                "name": name,
                "kind": _kind(name),
                "label": words["label"],
                "about": words["hint"],
                "value": _shown(_kind(name), fields.get(name, _default(name))),
                "changed": name in fields,
            }
        )
    return offered


def _kind(name: str) -> str:
    field = CollectionConfig.model_fields.get(name)
    return _KINDS.get(field.annotation, "text") if field else ""


def _default(name: str) -> Any:
    default = CollectionConfig.model_fields[name].default
    return list(default) if isinstance(default, tuple) else default


def _shown(kind: str, value: Any) -> Any:
    if kind == "flag":
        return bool(value)
    if kind == "words" and isinstance(value, list):
        return shlex.join(map(str, value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


# ---------------------------------------------------------------------------------------
# What is said of the choices
# ---------------------------------------------------------------------------------------


def read_fields(
    fields: Fields, matrix: Matrix
) -> tuple[CollectionConfig, Findings, CollectionConfig | None]:
    """Read the fields of a form.

    Returns
    -------
    mended : CollectionConfig
        What they ask for, with stand-ins where they are wrong, so that the rest of them
        can be told about.
    findings : Findings
        What is wrong, by field.
    config : CollectionConfig or None
        What they ask for; None if something is wrong.
    """
    mended = {name: value for name, value in fields.items() if is_field(name)}
    findings: Findings = {}
    if unknown := [unknown_field(name) for name in fields if not is_field(name)]:
        findings[""] = [FieldMessage(Level.WRONG, str(problem)) for problem in unknown]
    while True:
        try:
            config = CollectionConfig(**mended)
        except ConfigurationError as error:
            found = findings_of(error)
            for name in found:
                stand_in(mended, name, matrix)
            findings = {**found, **findings}
        else:
            return config, findings, None if findings else config


def findings_of(error: ConfigurationError) -> Findings:
    """Sort problems by the fields beside which they are shown."""
    findings: Findings = {}
    for problem in error.problems:
        name = _shown_at(problem.field)
        text = problem.message if name == problem.field else str(problem)
        findings.setdefault(name, []).append(FieldMessage(Level.WRONG, text))
    return findings


def _shown_at(field: str) -> str:
    """Return the field beside which a message is shown; empty if there is none."""
    name = re.split(r"[.\[]", field)[0]
    name = _OWNERS.get(name, name)
    return name if name in CollectionConfig.model_fields else ""


#: Fields beside which problems of other names are shown: short forms, and the environment.
_OWNERS = {
    "start": "date_range",
    "end": "date_range",
    "S3_ENDPOINT_URL": "endpoint_url",
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "endpoint_url"),
}


def stand_in(fields: Fields, name: str, matrix: Matrix) -> None:
    """Put something valid where a field is wrong, or leave it to its default."""
    markets = chosen_markets(fields) or list(Market)
    match name:
        case "markets":
            fields[name] = list(Market)
        case "data_types":
            fields[name] = [DataType.KLINES]
        case "symbols":
            fields[name] = {market: list(matrix.symbols[market][:1]) for market in markets}
        case "output_directory":
            fields[name] = "."
        case "date_range":
            for each in (name, "start", "end"):
                fields.pop(each, None)
        case "":
            # A finding that belongs to no field: only a new start rids us of it.
            fields.clear()
        case _:
            fields.pop(name, None)


#: Beside which field each reason for an absence is told.
_TOLD_AT = {
    Reason.NO_SUCH_FEED: "data_types",
    Reason.ENDED: "data_types",
    Reason.NOT_BEGUN: "data_types",
    Reason.NO_SUCH_INTERVAL: "intervals",
    Reason.NOT_IN_PARTITION: "partition",
    Reason.WRONG_SYMBOL: "symbols",
}


def findings_in(asked: Requests, wrong: Collection[str] = ()) -> Findings:
    """Say of what is asked for what cannot exist, and what is read differently.

    Parameters
    ----------
    asked : Requests
    wrong : collection of str
        Fields that are wrong: stand-ins were read in their place, and nothing is said
        that follows from those.
    """
    findings: Findings = {}

    def say(name: str, level: Level, text: str) -> None:
        if name not in wrong:
            findings.setdefault(name, []).append(FieldMessage(level, text))

    if not {"markets", "data_types"} & set(wrong):
        for absence in asked.unavailable:
            name = _TOLD_AT.get(absence.reason, "")
            if name == "partition" and absence.interval:
                name = "intervals"
            say(name, Level.CANNOT, _told(absence))
        for note in (*asked.warnings, *asked.notes):
            name = _shown_at(note.field)
            say(name or "matrix_path", Level.NOTE, note.text if name == note.field else str(note))
    return {name: _first(found) for name, found in findings.items()}


def _told(absence: Absence) -> str:
    subject = absence.interval or absence.symbol
    return f"{subject}: {absence.detail}" if subject else absence.detail


def _first(findings: Iterable[FieldMessage]) -> list[FieldMessage]:
    """Drop repeats, put what matters most first, and count what would be too long a list."""
    different = dict.fromkeys(findings)
    shown = []
    for level in Level:
        of_level = [finding for finding in different if finding.level is level]
        shown += of_level[:_SHOWN]
        if len(of_level) > _SHOWN:
            shown.append(FieldMessage(level, f"… and {len(of_level) - _SHOWN:,} more like these"))
    return shown


def unlisted(
    fields: Fields, listed: Mapping[Market, Collection[str]], matrix: Matrix
) -> list[FieldMessage]:
    """Say which of the chosen symbols the archive does not list, and where.

    Parameters
    ----------
    fields : Fields
    listed : mapping of Market to collection of str
        The symbols the archive lists, of the markets of which that is known.
    matrix : Matrix
    """
    absent: dict[str, list[Market]] = {}
    there: set[str] = set()
    for market in chosen_markets(fields):
        if market not in listed:
            continue
        for symbol in symbols_of(fields, market):
            if _filed(symbol, market, fields, matrix) & set(listed[market]):
                there.add(symbol)
            else:
                absent.setdefault(symbol, []).append(market)
    findings = []
    for symbol, markets in absent.items():
        where = _listed(market.title for market in markets)
        if symbol in there:
            findings.append(FieldMessage(Level.NOTE, f"{symbol} is not listed in {where}"))
            continue
        # A nearest name costs a comparison with thousands: only for those that are shown.
        known = {name for market in markets for name in listed[market]}
        guess = nearest(symbol, known) if len(findings) < _SHOWN else None
        hint = f"; did you mean {guess}?" if guess else ""
        findings.append(
            FieldMessage(Level.CANNOT, f"{symbol} is not listed in {where} by the archive{hint}")
        )
    return _first(findings)


def _filed(symbol: str, market: Market, fields: Fields, matrix: Matrix) -> set[str]:
    """Spell a symbol as the chosen feeds of a market file it."""
    names = {symbol}
    for data_type in chosen_types(fields):
        feed = matrix.feed(market, data_type)
        if feed is not None:
            with suppress(WrongSymbolError):
                names.add(matrix.archive_symbol(feed, symbol))
    return names


def days_in_words(fields: Fields) -> str:
    """Count the days asked for; empty when they cannot be read.

    >>> days_in_words({"date_range": {"start": "2025-07-01", "end": "2025-07-31"}})
    '2025-07-01 to 2025-07-31: 31 days (UTC), both ends included'
    """
    days = fields.get("date_range")
    if days is None:
        return "one day: yesterday (UTC) of the day on which it is collected"
    try:
        count = (date.fromisoformat(days["end"]) - date.fromisoformat(days["start"])).days + 1
    except (ValueError, TypeError, KeyError):
        return ""
    if count < 1:
        return ""
    # The browser writes dates as its language does, which may be read in two ways.
    spelled = f"{days['start']} to {days['end']}"
    return f"{spelled}: {count:,} day{'s' * (count > 1)} (UTC), both ends included"


def estimate_of(plan: Plan, free: int) -> dict[str, str]:
    """Sum a plan up for the form: one sentence with what is left on the disk, and its tables.

    Parameters
    ----------
    plan : Plan
    free : int
        Bytes that are free where the files would go.
    """
    need = plan.download_bytes
    room = f"{render.size(free)} free on the disk"
    state = "ready" if len(plan) else "empty"
    if need is not None and need > free:
        state, room = "full", f"does not fit: only {room}"
    elif need:
        room += f", {render.size(free - need)} left afterwards"
    return {"state": state, "text": f"{plan.headline()}; {room}", "html": plan.tables_html()}


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _titled(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---------------------------------------------------------------------------------------
# Symbols, and what an edit makes of the fields
# ---------------------------------------------------------------------------------------


def split_symbols(text: str) -> list[str]:
    """Take a typed or pasted list of symbols apart, whatever it is separated by.

    >>> split_symbols('btcusdt, "ETHUSDT"; 币安人生USDT BTCUSDT')
    ['BTCUSDT', 'ETHUSDT', '币安人生USDT']
    """
    words = re.split(r"""[\s,;|"'`\[\](){}]+""", text)
    return list(dict.fromkeys(word.upper() for word in words if word))


def symbols_of(fields: Fields, market: Market | None = None) -> list[str]:
    """List the symbols chosen for a market; of None those that are for every market."""
    symbols = fields.get("symbols") or []
    if isinstance(symbols, Mapping):
        return list(symbols.get(market.value, ())) if market else []
    return list(symbols)


def edited(fields: Fields, edit: Mapping[str, Any]) -> Fields:
    """Return the fields as an edit leaves them.

    Parameters
    ----------
    fields : Fields
        Left as they are.
    edit : mapping
        ``do`` says what, the rest with what: ``check`` a market or data type (`field`,
        `value`, `on`) · choose an ``interval`` (`data_type`, `value` or None for all of
        them, `on`) · ``add``, ``remove`` or ``replace`` symbols (`market` or None for
        every market, `text`) · ``share`` the symbols between the markets or not (`on`) ·
        ``set`` another `field` to a `value`, None leaves it out.

    Raises
    ------
    ValueError
        If it is no edit.

    Examples
    --------
    >>> edited({"markets": ["spot"]}, {"do": "check", "field": "markets", "value": "options",
    ...                                "on": True})
    {'markets': ['spot', 'options']}
    """
    match edit:
        case {"do": "check", "field": "markets" | "data_types" as name, "value": str() as word}:
            after = {**fields, name: _with(fields.get(name, ()), word, edit.get("on"))}
            return _with_intervals(after, word, edit) if name == "data_types" else after
        case {"do": "interval", "data_type": str() as data_type, "value": None | str() as word}:
            intervals = {**fields.get("intervals", {})}
            now = [] if word is None else _with(intervals.get(data_type, ()), word, edit.get("on"))
            intervals.pop(data_type, None)
            return {**fields, "intervals": intervals | ({data_type: now} if now else {})}
        case {"do": "add" | "remove" | "replace" as verb, "text": str() as text}:
            return _with_symbols(fields, verb, edit.get("market"), split_symbols(text))
        case {"do": "share", "on": bool() as shared}:
            return {**fields, "symbols": _shared(fields) if shared else _parted(fields)}
        case {"do": "set", "field": str() as name, "value": value}:
            value = _value(name, value)
            after = {**fields, name: value}
            if value is None or (name in ENGINE_OPTIONS and value == _default(name)):
                del after[name]
            return after
    raise ValueError(f"{dict(edit)!r} is no edit of a form")


def _with(words: Iterable[str], word: str, on: object) -> list[str]:
    others = [each for each in words if each != word]
    return [*others, word] if on else others


def _with_intervals(fields: Fields, word: str, edit: Mapping[str, Any]) -> Fields:
    """Give a newly chosen candle type the intervals of the others, and take them back."""
    if word not in set(DataType) or not DataType(word).has_intervals:
        return fields
    intervals: dict[str, list[str]] = {**fields.get("intervals", {})}
    others = [intervals.get(each) for each in fields["data_types"] if each != word]
    usual = next(filter(None, others), [Interval.H1.value])
    intervals.pop(word, None)
    return {**fields, "intervals": intervals | ({word: list(usual)} if edit.get("on") else {})}


def _with_symbols(fields: Fields, verb: str, market: str | None, names: list[str]) -> Fields:
    by_market = isinstance(fields.get("symbols"), Mapping)
    present = symbols_of(fields, Market(market) if by_market and market else None)
    gone = set(names)
    match verb:
        case "add":
            now = list(dict.fromkeys([*present, *names]))
        case "remove":
            now = [symbol for symbol in present if symbol not in gone]
        case _:
            now = names
    if not by_market:
        return {**fields, "symbols": now}
    others = {name: some for name, some in fields["symbols"].items() if name != market}
    return {**fields, "symbols": others | ({market: now} if now else {})}


def _shared(fields: Fields) -> list[str]:
    lists: Sequence[Sequence[str]] = [symbols_of(fields)]
    if isinstance(fields.get("symbols"), Mapping):
        lists = list(fields["symbols"].values())
    return list(dict.fromkeys(symbol for some in lists for symbol in some))


def _parted(fields: Fields) -> dict[str, list[str]]:
    if isinstance(fields.get("symbols"), Mapping):
        return dict(fields["symbols"])
    shared = symbols_of(fields)
    return {market.value: list(shared) for market in chosen_markets(fields)} if shared else {}


def _value(name: str, value: Any) -> Any:
    """Read what was typed into a field; what cannot be read stays as it is, and is wrong."""
    if not isinstance(value, str):
        return value
    typed = value.strip()
    if not typed:
        return None
    with suppress(ValueError):
        match _kind(name):
            case "whole":
                return int(typed)
            case "number":
                return float(typed)
            case "words":
                return shlex.split(typed)
    return typed
