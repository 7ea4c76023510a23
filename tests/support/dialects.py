"""Archive files of every feed, in every way the archive has spelled them.

Rows are made first (`rows_of`), as Python values by column, and spelled afterwards
(`csv_of`), so that the values are known whatever a reader makes of the text. Everything
follows from a `random.Random`: the same seed gives the same bytes.

Times are naive and mean UTC. Decimals have no more than 8 places and no more than 15
digits, so that ``float(text)`` is the one right answer.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, ObjectKey, Stream
from binance_archive_kit.archive.schemas import Column, Schema

Value = datetime | Decimal | int | bool | str | None
#: The values of one row, in the order of the schema's columns, dropped ones included.
Row = tuple[Value, ...]

_EPOCH = datetime(1970, 1, 1)
_MONDAY = datetime(1970, 1, 5)
_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_UNITS = {"us": _MICROSECOND, "ms": timedelta(milliseconds=1), None: timedelta(seconds=1)}

#: From this day on, USD-M metrics label a period by its start and no longer by its end.
LABELS_CHANGED = date(2026, 6, 25)
#: Before this day the rows of USD-M metrics stand there twice.
SINGLE_SINCE = date(2021, 5, 25)
#: From this day on, book depth has twelve bands and no longer ten.
TWELVE_BANDS_SINCE = date(2026, 1, 15)
#: From about this day on, the feeds that had no header have one.
HEADERS_SINCE = date(2022, 8, 11)

_UNSORTED = (DataType.METRICS, DataType.EOH_SUMMARY)
_PRICE_KLINES = (
    DataType.INDEX_PRICE_KLINES,
    DataType.MARK_PRICE_KLINES,
    DataType.PREMIUM_INDEX_KLINES,
)
_LETTERS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": _DAY,
    "w": 7 * _DAY,
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is spelled.

    The unit of times is no part of it: it follows from the market and the date.

    Attributes
    ----------
    header : bool
    padded : bool
        Whether decimals are filled up with zeros, or else written as short as they can be.
    capital_booleans : bool
        ``True`` or ``true``.
    quoted_empties : bool
        Whether an empty field is ``""``, or else nothing.
    ignoring : bool
        Whether the header calls the columns of price klines that mean nothing ``ignore``.
    """

    header: bool = True
    padded: bool = True
    capital_booleans: bool = False
    quoted_empties: bool = True
    ignoring: bool = False


def dialects_of(schema: Schema) -> list[Dialect]:
    """Every dialect that files of a feed may be in and that makes a difference to them."""
    headers = {"never": (False,), "present": (True,), "detect": (False, True)}[schema.header]
    capitals = (False, True) if any(c.dtype == "bool" for c in schema.columns) else (False,)
    quotes = (False, True) if _has_empties(schema) else (True,)
    ignoring = (False, True) if schema.data_type in _PRICE_KLINES else (False,)
    every = itertools.product(headers, (False, True), capitals, quotes, ignoring)
    return [Dialect(*choice) for choice in every if choice[0] or not choice[4]]


def usual_dialect(schema: Schema, key: ObjectKey) -> Dialect:
    """Give the dialect in which the archive most likely has the file."""
    headed = schema.header == "present" or (
        schema.header == "detect" and key.start >= HEADERS_SINCE
    )
    return Dialect(header=headed, capital_booleans=schema.market is Market.SPOT)


def _has_empties(schema: Schema) -> bool:
    cm_metrics = (Market.FUTURES_CM, DataType.METRICS)
    feed = (schema.market, schema.data_type)
    return feed in (cm_metrics, (Market.OPTIONS, DataType.EOH_SUMMARY))


# ---------------------------------------------------------------------------------------
# Keys
# ---------------------------------------------------------------------------------------

_SYMBOLS = {
    Market.SPOT: ("BTCUSDT", "币安人生USDT"),
    Market.FUTURES_UM: ("BTCUSDT", "BTCUSDT_260327"),
    Market.FUTURES_CM: ("BTCUSD_PERP", "ETHUSD_PERP"),
    Market.OPTIONS: ("BTCUSDT", "ETHUSDT"),
}
#: Days on both sides of a change of form, by feed; for the others those of spot's unit.
_DAYS = {
    DataType.METRICS: (SINGLE_SINCE - _DAY, LABELS_CHANGED - _DAY, LABELS_CHANGED),
    DataType.BOOK_DEPTH: (TWELVE_BANDS_SINCE - _DAY, TWELVE_BANDS_SINCE),
    DataType.BOOK_TICKER: (date(2023, 5, 16), date(2024, 3, 30)),
    DataType.LIQUIDATION_SNAPSHOT: (date(2023, 6, 25), date(2024, 3, 31)),
    DataType.EOH_SUMMARY: (date(2023, 10, 20), date(2023, 10, 23)),
}
_DAILY_ONLY = (
    DataType.METRICS,
    DataType.BOOK_DEPTH,
    DataType.LIQUIDATION_SNAPSHOT,
    DataType.BVOL_INDEX,
    DataType.EOH_SUMMARY,
)
_LONG = (Interval.D3, Interval.W1, Interval.MO1)


def keys_of(schema: Schema) -> list[ObjectKey]:
    """Give keys of a feed: each partition and interval it has, before and after it changed."""
    return [
        ObjectKey(Folder(Stream(schema.market, schema.data_type, symbol, interval), partition), day)
        for partition in _partitions(schema.data_type)
        for interval in _intervals(schema, partition)
        for symbol, day in zip(
            itertools.cycle(_symbols(schema)), _days(schema.data_type, partition), strict=False
        )
    ]


def _symbols(schema: Schema) -> tuple[str, ...]:
    if schema.data_type is DataType.BVOL_INDEX:
        return "BTCBVOLUSDT", "ETHBVOLUSDT"
    if (schema.market, schema.data_type) == (Market.FUTURES_CM, DataType.INDEX_PRICE_KLINES):
        return "BTCUSD", "ETHUSD"
    return _SYMBOLS[schema.market]


def _partitions(data_type: DataType) -> tuple[Partition, ...]:
    if data_type is DataType.FUNDING_RATE:
        return (Partition.MONTHLY,)
    return (Partition.DAILY,) if data_type in _DAILY_ONLY else tuple(Partition)


def _intervals(schema: Schema, partition: Partition) -> list[Interval] | list[None]:
    if not schema.data_type.has_intervals:
        return [None]
    has_seconds = (schema.market, schema.data_type) == (Market.SPOT, DataType.KLINES)
    without: tuple[Interval, ...] = () if has_seconds else (Interval.S1,)
    without += _LONG if partition is Partition.DAILY else ()
    return [interval for interval in Interval if interval not in without]


def _days(data_type: DataType, partition: Partition) -> list[date]:
    days = _DAYS.get(data_type, (date(2022, 5, 5), date(2024, 12, 31), date(2025, 1, 1)))
    if partition is Partition.DAILY:
        return list(days)
    return sorted({day.replace(day=1) for day in days})


# ---------------------------------------------------------------------------------------
# Rows. Each maker gives more columns than some market has; `rows_of` takes what it needs.
# ---------------------------------------------------------------------------------------

_Fields = dict[str, Value]


def rows_of(schema: Schema, key: ObjectKey, count: int, dice: random.Random) -> list[Row]:
    """Invent `count` rows of a file, in the order of the archive.

    Feeds on a grid (klines, metrics, funding, book depth, the volatility index, option
    summaries) have no more rows than their period has places: a larger `count` gives them
    all, a smaller one leaves holes. Other feeds of two rows and more begin with the first
    and end with the last instant of the period.

    A USD-M metrics file from before `LABELS_CHANGED` may hold a row of the next day's 00:00,
    as the archive's do.
    """
    doubled = _is_doubled(key)
    made = _MAKERS[schema.data_type](schema, key, -(-count // 2) if doubled else count, dice)
    rows = [tuple(fields[column.name] for column in schema.columns) for fields in made]
    if schema.data_type in _UNSORTED:
        dice.shuffle(rows)
    elif not schema.sorted:
        _swap_some(rows, dice)
    if doubled:
        rows = [row for row in rows for _ in (1, 2)]
    return rows[:count]


def _is_doubled(key: ObjectKey) -> bool:
    """Whether the archive has every row of the file twice."""
    stream = key.folder
    if (stream.market, stream.data_type) == (Market.FUTURES_UM, DataType.METRICS):
        return key.start < SINGLE_SINCE
    return stream.data_type is DataType.LIQUIDATION_SNAPSHOT


def _swap_some(rows: list[Row], dice: random.Random) -> None:
    """Let about one row in five come before its forerunner."""
    for at in range(1, len(rows)):
        if not dice.randrange(5):
            rows[at - 1], rows[at] = rows[at], rows[at - 1]


def _span(key: ObjectKey) -> tuple[datetime, datetime]:
    """First instant of the file's period, and the first one after it."""
    first = datetime.combine(key.start, datetime.min.time())
    return first, datetime.combine(key.end, datetime.min.time()) + _DAY


def _unit(schema: Schema, key: ObjectKey) -> timedelta:
    return _UNITS[schema.time.unit_on(key.start)]


def _some(places: int, count: int, dice: random.Random) -> list[int]:
    """Choose so many of the places of a grid, or all if there are no more, in order."""
    return sorted(dice.sample(range(places), min(places, count)))


def _instants(schema: Schema, key: ObjectKey, count: int, dice: random.Random) -> list[datetime]:
    """Choose instants of the period, in order; the first and the last one among them."""
    begin, end = _span(key)
    unit = _unit(schema, key)
    last = (end - begin) // unit - 1
    chosen = [dice.randrange(last + 1) for _ in range(count)]
    if count > 1:
        chosen[:2] = 0, last
    return [begin + at * unit for at in sorted(chosen)]


def _number(dice: random.Random, *, digits: int = 12, signed: bool = False) -> Decimal:
    """Draw a decimal of any size, 0 now and then, with up to 8 places."""
    size = dice.randrange(10 ** dice.randint(0, digits))
    sign = dice.choice((-1, 1)) if signed else 1
    return Decimal(sign * size).scaleb(-dice.randint(0, 8))


def _flag(dice: random.Random) -> bool:
    return dice.random() < 0.5


def _candles(key: ObjectKey, count: int, dice: random.Random) -> list[tuple[datetime, datetime]]:
    """Choose candles of the period: each one's open time and the next one's."""
    begin, end = _span(key)
    interval = key.folder.interval
    assert interval is not None
    if interval is Interval.MO1:
        return [(begin, end)][:count]
    step = int(interval[:-1]) * _LETTERS[interval[-1]]
    first = begin + ((_MONDAY if interval is Interval.W1 else _EPOCH) - begin) % step
    places = -((first - end) // step)
    return [(first + at * step, first + (at + 1) * step) for at in _some(places, count, dice)]


def _klines(schema: Schema, key: ObjectKey, count: int, dice: random.Random) -> Iterator[_Fields]:
    premium = schema.data_type is DataType.PREMIUM_INDEX_KLINES
    traded = schema.data_type is DataType.KLINES
    for opening, following in _candles(key, count, dice):
        low, *middle, high = sorted(_number(dice, signed=premium) for _ in range(4))
        dice.shuffle(middle)
        busy = traded and dice.random() < 0.9
        amounts = [_number(dice) if busy else Decimal(0) for _ in range(4)]
        yield {
            "open_time": opening,
            "open": middle[0],
            "high": high,
            "low": low,
            "close": middle[1],
            "volume": amounts[0],
            "close_time": following - _unit(schema, key),
            "quote_volume": amounts[1],
            "count": dice.randrange(1, 10**6) if busy or not traded else 0,
            "taker_buy_volume": amounts[2],
            "taker_buy_quote_volume": amounts[3],
            "ignore": "0",
        }


def _trades(schema: Schema, key: ObjectKey, count: int, dice: random.Random) -> Iterator[_Fields]:
    number = dice.randrange(10**10)
    for time in _instants(schema, key, count, dice):
        number += 1 if schema.market is Market.SPOT else dice.randint(1, 3)
        value = _number(dice)
        yield {
            "id": number,
            "price": _number(dice),
            "qty": _number(dice),
            "quote_qty": value,
            "base_qty": value,
            "time": time,
            "is_buyer_maker": _flag(dice),
            "is_best_match": _flag(dice),
        }


def _agg_trades(
    schema: Schema, key: ObjectKey, count: int, dice: random.Random
) -> Iterator[_Fields]:
    number, last = dice.randrange(10**10), dice.randrange(10**10)
    for at, time in enumerate(_instants(schema, key, count, dice)):
        first, last = last + 1, last + dice.randint(1, 5)
        yield {
            "agg_trade_id": number + at,
            "price": _number(dice),
            "quantity": _number(dice),
            "first_trade_id": first,
            "last_trade_id": last,
            "transact_time": time,
            "is_buyer_maker": _flag(dice),
            "is_best_match": _flag(dice),
        }


def _funding(_: Schema, key: ObjectKey, count: int, dice: random.Random) -> Iterator[_Fields]:
    begin, end = _span(key)
    hours = dice.choice((8, 4, 2, 1))
    step = timedelta(hours=hours)
    for at in _some((end - begin) // step, count, dice):
        yield {
            "calc_time": begin + at * step + timedelta(milliseconds=dice.randrange(14)),
            "funding_interval_hours": hours,
            "last_funding_rate": _number(dice, digits=6, signed=True),
        }


def _book_depth(_: Schema, key: ObjectKey, count: int, dice: random.Random) -> Iterator[_Fields]:
    begin, _end = _span(key)
    sides = "1 2 3 4 5" if key.start < TWELVE_BANDS_SINCE else "0.2 1 2 3 4 5"
    bands = sorted(Decimal(sign + band) for band in sides.split() for sign in ("-", "+"))
    for at in _some(2_880, -(-count // len(bands)), dice):
        time = begin + timedelta(seconds=30 * at + 4)
        for band in bands:
            yield {
                "timestamp": time,
                "percentage": band,
                "depth": _number(dice),
                "notional": _number(dice),
            }


def _metrics(schema: Schema, key: ObjectKey, count: int, dice: random.Random) -> Iterator[_Fields]:
    begin, _ = _span(key)
    step = timedelta(minutes=5)
    cm = schema.market is Market.FUTURES_CM
    by_end = not cm and key.start < LABELS_CHANGED
    for at in _some(_DAY // step, count, dice):
        ratios = [None if cm else _number(dice, digits=9) for _ in range(3)]
        yield {
            "create_time": begin + (at + by_end) * step,
            "symbol": key.folder.symbol,
            "sum_open_interest": _number(dice),
            "sum_open_interest_value": _number(dice),
            "count_toptrader_long_short_ratio": ratios[0],
            "sum_toptrader_long_short_ratio": ratios[1],
            "count_long_short_ratio": ratios[2],
            "sum_taker_long_short_vol_ratio": _number(dice, digits=9),
        }


def _book_ticker(
    schema: Schema, key: ObjectKey, count: int, dice: random.Random
) -> Iterator[_Fields]:
    number = dice.randrange(10**12)
    for time in _instants(schema, key, count, dice):
        number += dice.randint(1, 999)
        bid, ask = sorted((_number(dice), _number(dice)))
        yield {
            "update_id": number,
            "best_bid_price": bid,
            "best_bid_qty": _number(dice),
            "best_ask_price": ask,
            "best_ask_qty": _number(dice),
            "transaction_time": time,
            "event_time": time + timedelta(milliseconds=dice.randrange(9)),
        }


def _liquidations(
    schema: Schema, key: ObjectKey, count: int, dice: random.Random
) -> Iterator[_Fields]:
    for time in _instants(schema, key, count, dice):
        filled, ordered = sorted((_number(dice), _number(dice)))
        yield {
            "time": time,
            "side": dice.choice(("BUY", "SELL")),
            "order_type": "LIMIT",
            "time_in_force": "IOC",
            "original_quantity": ordered,
            "price": _number(dice),
            "average_price": _number(dice),
            "order_status": "FILLED",
            "last_fill_quantity": filled,
            "accumulated_fill_quantity": ordered,
        }


def _volatility(_: Schema, key: ObjectKey, count: int, dice: random.Random) -> Iterator[_Fields]:
    begin, _end = _span(key)
    for at in _some(86_400, count, dice):
        yield {
            "calc_time": begin + timedelta(seconds=at, milliseconds=dice.randrange(3)),
            "symbol": key.folder.symbol,
            "base_asset": key.folder.symbol.removesuffix("USDT"),
            "quote_asset": "USDT",
            "index_value": _number(dice, digits=6),
        }


_SUMMED_UP = (
    "open",
    "high",
    "low",
    "close",
    "volume_contracts",
    "volume_usdt",
    "best_bid_price",
    "best_ask_price",
    "best_bid_qty",
    "best_ask_qty",
    "mark_price",
    "mark_iv",
)
_GREEKS = ("delta", "gamma", "vega", "theta")
_STRIKES = range(10_000, 70_000, 500)


def _summaries(_: Schema, key: ObjectKey, count: int, dice: random.Random) -> Iterator[_Fields]:
    expiry = (key.start + 70 * _DAY).strftime("%y%m%d")
    underlying = key.folder.symbol
    options = [(strike, kind) for strike in _STRIKES for kind in "CP"]
    for at in _some(24 * len(options), count, dice):
        hour, which = divmod(at, len(options))
        strike = f"{expiry}-{options[which][0]}"
        kind = options[which][1]
        unheld = not dice.randrange(10)
        yield {
            "date": key.start.isoformat(),
            "hour": f"{hour:02}",
            "symbol": f"{underlying.removesuffix('USDT')}-{strike}-{kind}",
            "underlying": underlying,
            "type": kind,
            "strike": strike,
            **{name: _zero_or_number(dice) for name in _SUMMED_UP},
            **{name: _greek(dice) for name in _GREEKS},
            "best_buy_iv": None,
            # What stands there when nobody asks.
            "best_sell_iv": dice.choice((None, Decimal("-1E-8"), _number(dice))),
            "openinterest_contracts": None if unheld else _zero_or_number(dice),
            "openinterest_usdt": None if unheld else _zero_or_number(dice),
        }


def _zero_or_number(dice: random.Random) -> Decimal:
    return dice.choice((Decimal(0), _number(dice)))


def _greek(dice: random.Random) -> Decimal:
    """Draw a number that is often so small that it is written with an exponent."""
    return Decimal(dice.randint(-(10 ** dice.randint(0, 9)), 10**3)).scaleb(-8)


_MAKERS: dict[DataType, Callable[[Schema, ObjectKey, int, random.Random], Iterator[_Fields]]] = {
    DataType.KLINES: _klines,
    **dict.fromkeys(_PRICE_KLINES, _klines),
    DataType.TRADES: _trades,
    DataType.AGG_TRADES: _agg_trades,
    DataType.FUNDING_RATE: _funding,
    DataType.BOOK_DEPTH: _book_depth,
    DataType.METRICS: _metrics,
    DataType.BOOK_TICKER: _book_ticker,
    DataType.LIQUIDATION_SNAPSHOT: _liquidations,
    DataType.BVOL_INDEX: _volatility,
    DataType.EOH_SUMMARY: _summaries,
}


# ---------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------

#: Decimals that padding gives, where it is not 8.
_PLACES = {"percentage": 2, "sum_open_interest": 16, "sum_open_interest_value": 16}
_MEANS_NOTHING = ("volume", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume")


def header_of(schema: Schema, *, ignoring: bool = False) -> str:
    """Spell the header row, without its newline.

    With `ignoring`, price klines call the columns that mean nothing ``ignore``, as some
    files are said to do.
    """
    if not ignoring:
        return ",".join(column.name for column in schema.columns)
    names = (column.name for column in schema.columns)
    return ",".join("ignore" if name in _MEANS_NOTHING else name for name in names)


def csv_of(schema: Schema, key: ObjectKey, rows: Sequence[Row], dialect: Dialect) -> bytes:
    """Spell rows as the file `key` has them; no rows and no header is an empty file."""
    lines = [header_of(schema, ignoring=dialect.ignoring)] if dialect.header else []
    for row in rows:
        cells = zip(schema.columns, row, strict=True)
        lines.append(",".join(_spell(schema, key, dialect, *cell) for cell in cells))
    return "".join(f"{line}\n" for line in lines).encode()


def _spell(schema: Schema, key: ObjectKey, dialect: Dialect, column: Column, value: Value) -> str:
    match value:
        case None:
            return '""' if dialect.quoted_empties else ""
        case datetime():
            return _spell_time(schema, key, value)
        case bool():
            return str(value) if dialect.capital_booleans else str(value).lower()
        case Decimal() if schema.data_type is DataType.EOH_SUMMARY:
            return _spell_with_exponent(value, dialect)
        case Decimal():
            return _spell_plainly(value, dialect, _PLACES.get(column.name, 8))
        case _:
            return str(value)


def _spell_time(schema: Schema, key: ObjectKey, value: datetime) -> str:
    if schema.time.format:
        return value.strftime(schema.time.format)
    return str((value - _EPOCH) // _unit(schema, key))


def _spell_plainly(value: Decimal, dialect: Dialect, places: int) -> str:
    if dialect.padded:
        return f"{value:.{places}f}"
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _spell_with_exponent(value: Decimal, dialect: Dialect) -> str:
    """Spell as Java's BigDecimal does, which Python's Decimal does too: ``0E-8``, ``1.2E-7``."""
    text = str(value.quantize(Decimal("1E-8")))
    return text if dialect.padded or "E" in text else _spell_plainly(value, dialect, 8)


# ---------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------

# Info-ZIP notes times and owner, and less of it in the directory than before the member:
# who takes the one's length for the other's reads from the wrong byte.
_OWNER = bytes.fromhex("75780b000104e103000004dd030000")
_LOCAL_EXTRA = bytes.fromhex("555409000382d0fe6982d0fe69") + _OWNER
_DIRECTORY_EXTRA = bytes.fromhex("555405000382d0fe69") + _OWNER


def zip_of(key: ObjectKey, csv: bytes, *, info_zip: bool | None = None) -> bytes:
    """Zip a csv as the archive does, the same bytes every time.

    `info_zip` is whether as Info-ZIP does it, or else as Python does; by default as the
    market has it.
    """
    if info_zip is None:
        info_zip = key.folder.market is not Market.SPOT
    member = zipfile.ZipInfo(key.member, (2026, 5, 9, 6, 15, 46))
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3
    member.external_attr = 0o100644 << 16
    if info_zip:
        member.create_version = 30
        member.extra = _LOCAL_EXTRA
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, csv, compresslevel=6)
        if info_zip:
            # The directory is written last, from the same object.
            member.extra = _DIRECTORY_EXTRA
    return buffer.getvalue()


def sidecar_of(key: ObjectKey, data: bytes) -> bytes:
    """Spell the ``.CHECKSUM`` object of a zip; that of spot ends without a newline."""
    end = "" if key.folder.market is Market.SPOT else "\n"
    return f"{hashlib.sha256(data).hexdigest()}  {key.name}{end}".encode()


def write(root: Path, key: ObjectKey, data: bytes) -> Path:
    """Put a zip and its ``.CHECKSUM`` below `root`, under their keys; return the zip's path."""
    path = root / str(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    (root / key.checksum).write_bytes(sidecar_of(key, data))
    return path
