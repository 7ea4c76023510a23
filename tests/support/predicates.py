"""Random questions in SQL and in Polars, and the answers of an independent copy of the rows.

The copy is made of the zips by `zipfile`, `csv` and `pyarrow` alone, and lies in Parquet files.
Everything follows from a `random.Random`: the same seed asks the same questions.
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import binance_archive_kit as bak
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.archive.schemas import schema
from binance_archive_kit.reading.feed_table import view_name
from tests.support import naive
from tests.support.stores import kline, other, promised, put

#: Symbols with what has a meaning elsewhere: in SQL, in patterns, in formats and in sheets.
SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT", "100%_USDT", "{0}%sUSDT", "=1+1;--", "ÉUSDT")
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia")
_DAYS = [date(2025, 3, 28) + timedelta(days=n) for n in range(5)]
_EPOCH = datetime(1970, 1, 1)


def _candle_keys() -> Iterator[ObjectKey]:
    for symbol in SYMBOLS:
        yield from (kline(symbol, f"{day}", "4h") for day in _DAYS)
        # Two of its days are in daily files, too.
        yield kline(symbol, "2025-03", "4h")
    for symbol in SYMBOLS[:3]:
        yield from (kline(symbol, f"{day}", "1d") for day in _DAYS)
        yield from (kline(symbol, month, "1w") for month in ("2024-12", "2025-01", "2025-02"))
        yield from (kline(symbol, month, "3d") for month in ("2024-12", "2025-01"))
        yield kline(symbol, "2024-02", "1mo")


def _other_keys(data_type: str, market: str, symbols: Sequence[str]) -> list[ObjectKey]:
    return [other(data_type, symbol, f"{day}", market) for symbol in symbols for day in _DAYS[:3]]


#: The files of each feed, and rows of a file.
FEEDS: dict[tuple[str, str], tuple[list[ObjectKey], int]] = {
    ("spot", "klines"): ([*_candle_keys()], 200),
    ("spot", "trades"): (_other_keys("trades", "spot", SYMBOLS[:4]), 15),
    ("futures_um", "metrics"): (_other_keys("metrics", "futures/um", SYMBOLS[1:3]), 15),
    ("futures_cm", "liquidationSnapshot"): (
        [
            other("liquidationSnapshot", symbol, f"2023-07-0{day}", "futures/cm")
            for symbol in ("BTCUSD_PERP", "ETHUSD_PERP")
            for day in (1, 2)
        ],
        20,
    ),
    ("options", "EOHSummary"): (
        [
            other("EOHSummary", symbol, f"2023-07-0{day}", "option")
            for symbol in ("BTCUSDT", "ETHUSDT")
            for day in (1, 2)
        ],
        20,
    ),
}  # fmt: skip


def fill(root: Path) -> None:
    """Write the files of all feeds into a store."""
    for keys, rows in FEEDS.values():
        for key in keys:
            put(root, key, rows)


def copy(root: Path, target: Path) -> dict[tuple[str, str], Path]:
    """Write the rows of each feed into a Parquet file, in the order that scans promise."""
    target.mkdir(parents=True)
    paths = {}
    for (market, data_type), (keys, _) in FEEDS.items():
        found = schema(market, data_type)  # type: ignore[arg-type]
        rows = promised(_rows(root, keys), found)
        names = naive.columns(found)
        kinds = {column.column: column.dtype for column in found.columns} | {
            found.time.column: "time"
        }
        types = [
            _ARROW[kinds.get(name, "text")] if at > 5 else pa.string()
            for at, name in enumerate(names)
        ]
        types[names.index("date")] = pa.date32()
        columns = [
            pa.array(column, kind)
            for column, kind in zip(zip(*rows, strict=True), types, strict=True)
        ]
        paths[market, data_type] = target / f"{view_name(found.market, found.data_type)}.parquet"
        pq.write_table(pa.table(columns, names), paths[market, data_type])
    return paths


_ARROW = {
    "time": pa.timestamp("us"),
    "float64": pa.float64(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "text": pa.string(),
}


def _rows(root: Path, keys: Sequence[ObjectKey]) -> list[tuple[object, ...]]:
    """Read all files; of a day in a daily and in a monthly file, the daily one has the rows."""
    daily = {(key.folder.stream, key.start) for key in keys if key.folder.partition == "daily"}
    rows: list[tuple[object, ...]] = []
    for key in keys:
        # Long candles open before their month; where two files have one, it is in both.
        for row in naive.read(root / str(key), key):
            if key.folder.partition == "monthly" and (key.folder.stream, row["date"]) in daily:
                continue
            rows.append(tuple(row.values()))
    return rows


# SQL


@dataclass(frozen=True)
class Question:
    """A statement with ``{rows}`` for its table.

    Attributes
    ----------
    sql : str
    ordered : bool
        Whether the order of its rows is determined.
    """

    sql: str
    ordered: bool


class SqlDice:
    """Draws questions about one feed.

    Parameters
    ----------
    frame : polars.DataFrame
        The copy, whose values are asked for.
    dice : random.Random
    time : str
        The column of the rows' time.
    """

    def __init__(self, frame: pl.DataFrame, dice: random.Random, time: str) -> None:
        self._frame = frame
        self._dice = dice
        self._time = time
        self._names = frame.columns

    def question(self) -> Question:
        """Draw a statement."""
        dice, names = self._dice, self._names
        where = self.condition(dice.randint(0, 3)) if dice.random() < 0.95 else ""
        where = where and f" WHERE {where}"
        some = ", ".join(map(_quoted, dice.sample(names, dice.randint(1, min(5, len(names))))))
        every = ", ".join(map(_quoted, dice.sample(names, len(names))))
        match dice.randrange(8):
            case 0:
                return Question(f"SELECT count(*) FROM {{rows}}{where}", True)
            case 1:
                name = _quoted(dice.choice(names))
                ask = f"count(*), count({name}), min({name}), max({name}), count(DISTINCT {name})"
                return Question(f"SELECT {ask} FROM {{rows}}{where}", True)
            case 2:
                direction = f"{dice.choice(('ASC', 'DESC'))} NULLS {dice.choice(('FIRST', 'LAST'))}"
                by = f"{_quoted(dice.choice(names))} {direction}"
                rest = ", ".join(map(str, range(1, len(names) + 1)))
                count, skipped = dice.choice((0, 1, 3, 10, 10**6)), dice.choice((0, 0, 2, 10**5))
                limit = f" LIMIT {count} OFFSET {skipped}"
                return Question(
                    f"SELECT {every} FROM {{rows}}{where} ORDER BY {by}, {rest}{limit}", True
                )
            case 3:
                by = dice.choice(("symbol", "market", "date", "partition", "interval", "file"))
                return Question(
                    f'SELECT "{by}", count(*), min("{self._time}") FROM {{rows}}{where} '
                    "GROUP BY ALL",
                    False,
                )
            case 4:
                return Question(f"SELECT DISTINCT {some} FROM {{rows}}{where}", False)
            case 5:
                inner = self.condition(1)
                by = _quoted(dice.choice(("symbol", "date", self._time, "file")))
                return Question(
                    f"SELECT {some} FROM {{rows}} WHERE {by} {dice.choice(('', 'NOT '))}IN "
                    f"(SELECT {by} FROM {{rows}} WHERE {inner})",
                    False,
                )
            case 6:
                # The values of one side of a join become conditions of the other.
                inner = self.condition(1)
                by = _quoted(dice.choice(("symbol", "date", self._time, "file")))
                return Question(
                    f"SELECT count(*), min(a.{by}) FROM {{rows}} a JOIN "
                    f"(SELECT DISTINCT {by} FROM {{rows}} WHERE {inner}) b USING ({by})",
                    True,
                )
        return Question(f"SELECT {some} FROM {{rows}}{where}", False)

    def condition(self, depth: int) -> str:
        """Draw a condition; `depth` bounds how deep it is nested."""
        dice = self._dice
        if depth <= 0 or dice.random() < 0.15:
            return self._leaf()
        match dice.randrange(9):
            case 0:
                return f"NOT ({self.condition(depth - 1)})"
            case 1:
                truth = dice.choice(("TRUE", "NOT TRUE", "FALSE", "NULL"))
                return f"({self.condition(depth - 1)}) IS {truth}"
            case 2:
                one, two = self._leaf(), self._leaf()
                return f"CASE WHEN {self.condition(depth - 1)} THEN {one} ELSE {two} END"
            case _:
                join = dice.choice((" AND ", " OR "))
                parts = [self.condition(depth - 1) for _ in range(dice.randint(2, 3))]
                return join.join(f"({part})" for part in parts)

    def _leaf(self) -> str:
        dice = self._dice
        name = dice.choice([*self._names, *("symbol", "date", "file", self._time, self._time) * 2])
        dtype = self._frame.schema[name]
        column = _quoted(name)
        if dice.random() < 0.06:
            return f"{column} IS {dice.choice(('', 'NOT '))}NULL"
        if dice.random() < 0.05:
            twin = dice.choice([each for each in self._names if self._frame.schema[each] == dtype])
            return f"{column} {self._compare()} {_quoted(twin)}"
        literal = self._literals(name)
        match dtype:
            case pl.String():
                column = dice.choice(
                    (column,) * 6
                    + (f"upper({column})", f"{column} || ''", f"coalesce({column}, 'x')")
                )
                if dice.random() < 0.25:
                    like = dice.choice(("LIKE", "NOT LIKE", "ILIKE", "SIMILAR TO", "GLOB"))
                    return f"{column} {like} {self._pattern(name)}"
                if dice.random() < 0.1:
                    test = dice.choice(("starts_with", "contains", "suffix"))
                    return (
                        f"{test}({column}, {_text(str(self._value(name))[: dice.randint(0, 5)])})"
                    )
            case pl.Datetime():
                column = dice.choice(
                    (column,) * 6
                    + (
                        f"{column}::DATE",
                        f"date_trunc('{dice.choice(('hour', 'day', 'month'))}', {column})",
                        f"{column} + INTERVAL ({dice.randint(-30, 30)}) HOUR",
                        f"{column}::TIMESTAMPTZ",
                        f"({column} AT TIME ZONE 'UTC')",
                        f"({column}::TIMESTAMPTZ AT TIME ZONE '{dice.choice(ZONES)}')",
                        f"CAST({column} AS TIMESTAMP_S)",
                        f"CAST({column} AS TIMESTAMP_MS)",
                        f"CAST({column} AS TIMESTAMP_NS)",
                    )
                )
                if dice.random() < 0.08:
                    return f"epoch_us({_quoted(name)}) {self._compare()} {self._micros(name)}"
                if dice.random() < 0.08:
                    part = dice.choice(("hour", "dow", "day", "month"))
                    number = dice.randint(0, 12)
                    return f"extract({part} FROM {column}) {self._compare()} {number}"
            case pl.Date():
                column = dice.choice(
                    (column,) * 6
                    + (
                        f"{column}::TIMESTAMP",
                        f"{column} + {dice.randint(-3, 3)}",
                        f"{column}::VARCHAR",
                    )
                )
            case pl.Boolean():
                if dice.random() < 0.5:
                    return dice.choice(
                        (column, f"NOT {column}", f"{column} IS NOT TRUE", f"{column}::INT = 1")
                    )
            case _:
                column = dice.choice(
                    (column,) * 6
                    + (
                        f"{column}::DECIMAL(38, 8)",
                        f"abs({column})",
                        f"-{column}",
                        f"{column} * 2 + 1",
                        f"{column}::VARCHAR",
                        f"round({column}, 2)",
                        f"{column} % 7",
                        f"{column}::BIGINT",
                        f"{column}::FLOAT",
                    )
                )
        match dice.randrange(8):
            case 0:
                items = [literal() for _ in range(dice.randint(1, 5))] + ["NULL"] * (
                    dice.random() < 0.15
                )
                return f"{column} {dice.choice(('', 'NOT '))}IN ({', '.join(items)})"
            case 1:
                return f"{column} {dice.choice(('', 'NOT '))}BETWEEN {literal()} AND {literal()}"
            case 2:
                return f"{literal()} {self._compare()} {column}"
            case 3:
                return f"{column} IS {dice.choice(('', 'NOT '))}DISTINCT FROM {literal()}"
        return f"{column} {self._compare()} {literal()}"

    def _compare(self) -> str:
        return self._dice.choice(("=", "=", "<>", "<", "<=", ">", ">="))

    def _value(self, name: str) -> Any:
        """Draw a value of a column, or one that hardly differs from it."""
        values = self._frame[name]
        value = values[self._dice.randrange(len(values))]
        return value if self._dice.random() < 0.5 else _near(self._dice, value)

    def _micros(self, name: str) -> int:
        value = self._value(name) or _EPOCH
        return int((value - _EPOCH) / timedelta(microseconds=1))

    def _literals(self, name: str) -> Callable[[], str]:
        def literal() -> str:
            return _literal(self._dice, self._value(name))

        return literal

    def _pattern(self, name: str) -> str:
        dice, text = self._dice, str(self._value(name) or "")
        cut = dice.randint(0, len(text))
        return _text(
            dice.choice(
                (
                    f"{text[:cut]}%",
                    f"%{text[cut:]}",
                    f"%{text[cut : cut + 3]}%",
                    text[:cut] + "_" + text[cut + 1 :],
                    text,
                    "%",
                    "",
                    f"{text[:cut]}*",
                    f"{text[:cut]}.*",
                )
            )
        )


def _quoted(name: str) -> str:
    return f'"{name}"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _near(dice: random.Random, value: Any) -> Any:
    up = dice.choice((-1, 1))
    match value:
        case bool() | None:
            return value
        case str():
            return dice.choice(
                (
                    value[:-1],
                    value + "'",
                    value + " ",
                    value.lower(),
                    "'; DROP TABLE x; --",
                    '"',
                    "",
                    value + "\\",
                    value * 2,
                )
            )
        case float():
            return dice.choice(
                (
                    math.nextafter(value, up * math.inf),
                    float(round(value)),
                    0.0,
                    -value,
                    round(value, 2),
                    1e25 * up,
                    value * 10,
                )
            )
        case int():
            return dice.choice((value + up, 0, -value, 2**53 + 1, 2**63 - 1, -(2**63)))
        case datetime():
            return value + up * dice.choice(
                (
                    timedelta(microseconds=1),
                    timedelta(hours=1),
                    timedelta(days=1),
                    timedelta(days=40),
                )
            )
        case date():
            return value + up * timedelta(days=dice.choice((1, 2, 30)))
    return value


def _literal(dice: random.Random, value: Any) -> str:
    """Spell a value in one of the ways of SQL."""
    if dice.random() < 0.03:
        return "NULL"
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).upper()
        case str():
            return _text(value)
        case float():
            return dice.choice(
                (
                    repr(value),
                    f"{value!r}::DOUBLE",
                    f"{value:.4f}",
                    f"'{value!r}'",
                    str(round(value)),
                    f"CAST('{value:.6f}' AS DECIMAL(38, 6))",
                )
            )
        case int():
            return dice.choice(
                (str(value), f"{value}.0", f"'{value}'", f"{value}::HUGEINT", f"{value}.5")
            )
        case datetime():
            zone = ZoneInfo(dice.choice(ZONES))
            there = value.replace(tzinfo=UTC).astimezone(zone)
            return dice.choice(
                (
                    f"TIMESTAMP '{value}'",
                    f"'{value}'",
                    f"'{value.isoformat()}'",
                    f"DATE '{value.date()}'",
                    f"TIMESTAMPTZ '{there.isoformat(' ')}'",
                    f"TIMESTAMPTZ '{value}+00:00'",
                    f"'{value}'::TIMESTAMP_NS",
                    f"'{value.date()}'",
                )
            )
        case date():
            return dice.choice(
                (
                    f"DATE '{value}'",
                    f"'{value}'",
                    f"TIMESTAMP '{value} 00:00:00'",
                    f"TIMESTAMP '{value} 12:00:00'",
                    f"TIMESTAMPTZ '{value} 00:00:00+02:00'",
                )
            )
    raise TypeError(value)


# Polars


class PolarsDice:
    """Draws conditions of Polars on one feed.

    Parameters
    ----------
    frame : polars.DataFrame
        The copy, with the types of a scan.
    dice : random.Random
    """

    def __init__(self, frame: pl.DataFrame, dice: random.Random) -> None:
        self._frame = frame
        self._dice = dice

    def condition(self, depth: int) -> pl.Expr:
        """Draw a condition; `depth` bounds how deep it is nested."""
        dice = self._dice
        if depth <= 0 or dice.random() < 0.15:
            return self._leaf()
        match dice.randrange(9):
            case 0:
                return ~self.condition(depth - 1)
            case 1:
                return self.condition(depth - 1).fill_null(dice.choice((True, False)))
            case 2:
                return pl.when(self.condition(depth - 1)).then(self._leaf()).otherwise(self._leaf())
            case 3:
                return self.condition(depth - 1) ^ self._leaf()
            case 4:
                horizontally = dice.choice((pl.all_horizontal, pl.any_horizontal))
                return horizontally(self.condition(depth - 1), self._leaf())
        join = dice.choice((operator.and_, operator.or_))
        return reduce(join, [self.condition(depth - 1) for _ in range(dice.randint(2, 3))])

    def _leaf(self) -> pl.Expr:
        dice = self._dice
        names = self._frame.columns
        name = dice.choice([*names, *("symbol", "date", "file", "interval") * 2])
        dtype = self._frame.schema[name]
        column = pl.col(name)
        if dice.random() < 0.06:
            return column.is_null() if dice.random() < 0.5 else column.is_not_null()
        if dice.random() < 0.05:
            twin = dice.choice([each for each in names if self._frame.schema[each] == dtype])
            return self._compare()(column, pl.col(twin))
        value = self._value(name)
        match dtype:
            case pl.Datetime():
                column, value = self._of_time(column, value)
            case pl.Date():
                if dice.random() < 0.3:
                    column, value = dice.choice(
                        (
                            (
                                column.cast(pl.Datetime("us", "UTC")),
                                value and datetime(value.year, value.month, value.day, tzinfo=UTC),
                            ),
                            (column.dt.weekday(), dice.randint(1, 7)),
                            (column.cast(pl.Int32), value and value.toordinal() - 719163),
                            (column.dt.offset_by("1d"), value),
                            (column + timedelta(days=2), value),
                        )
                    )
            case pl.String() | pl.Categorical() | pl.Enum():
                text = str(value or "")
                if dice.random() < 0.3:
                    words = column.cast(pl.String).str
                    return dice.choice(
                        (
                            words.starts_with(text[:3]),
                            words.ends_with(text[-3:]),
                            words.contains(text[1:4], literal=True),
                            words.to_lowercase() == text.lower(),
                            words.len_bytes() > len(text.encode()),
                        )
                    )
                if dice.random() < 0.5:
                    column = column.cast(pl.String)
            case pl.Boolean():
                if dice.random() < 0.6:
                    return column if dice.random() < 0.5 else ~column
            case _ if dice.random() < 0.3:
                column = dice.choice(
                    (
                        column * 2 - 1,
                        -column,
                        column.abs(),
                        column.cast(pl.Float32),
                        column.cast(pl.Int64, strict=False),
                        column.round(2),
                        column % 7,
                    )
                )
        others = [value, *(self._value(name) for _ in range(dice.randint(0, 3)))]
        constant = pl.lit(value)
        match dice.randrange(8):
            case 0:
                return column.is_in(
                    others + [None] * (dice.random() < 0.2), nulls_equal=dice.random() < 0.3
                )
            case 1:
                return column.is_between(
                    pl.lit(others[0]),
                    pl.lit(others[-1]),
                    dice.choice(("both", "left", "right", "none")),
                )
            case 2:
                return self._compare()(constant, column)
            case 3:
                return (
                    column.eq_missing(constant)
                    if dice.random() < 0.5
                    else column.ne_missing(constant)
                )
        return self._compare()(column, constant)

    def _of_time(self, column: pl.Expr, value: Any) -> tuple[pl.Expr, Any]:
        dice, zone = self._dice, ZoneInfo(self._dice.choice(ZONES))
        there = value and value.astimezone(zone)
        local = column.dt.convert_time_zone(zone.key)
        return dice.choice(
            (
                *((column, value),) * 4,
                (column, there),
                (local, there),
                (local.dt.date(), there and there.date()),
                (column.dt.date(), value and value.date()),
                (column.dt.hour(), dice.randint(0, 23)),
                (column.dt.truncate("1d"), value),
                (column.dt.epoch("us"), value and int(value.timestamp() * 1e6)),
                (column.dt.replace_time_zone(None), value and value.replace(tzinfo=None)),
                (column + timedelta(hours=5), value),
                (column.cast(pl.Datetime("ms", "UTC")), value),
                (column.dt.offset_by("1mo"), value),
            )
        )

    def _compare(self) -> Callable[[Any, Any], pl.Expr]:
        return self._dice.choice(
            (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)
        )

    def _value(self, name: str) -> Any:
        values = self._frame[name]
        value = values[self._dice.randrange(len(values))]
        if self._dice.random() < 0.5 or isinstance(values.dtype, pl.Enum):
            return value
        return _near(self._dice, value)


class Rivals:
    """The ways to ask a store, from zips and from tables, beside an independent copy of its rows.

    Parameters
    ----------
    folder : Path
        Empty; for the store and the copy.
    seed : int
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._seed = seed
        root = folder / "store"
        fill(root)
        copies = copy(root, folder / "copy")
        built = bak.store(root)
        built.build(data_type="trades")
        built.build()
        self._stores = {"zips": bak.store(root, cache=False), "tables": built}
        self._connections = {way: bak.connect(store) for way, store in self._stores.items()}
        self._copy = duckdb.connect()
        self._copy.execute("SET GLOBAL TimeZone = 'UTC'")
        self._plain: dict[tuple[str, str], pl.DataFrame] = {}
        self._typed: dict[tuple[str, str], pl.DataFrame] = {}
        for feed, path in copies.items():
            self._copy.execute(f"CREATE TABLE {path.stem} AS FROM read_parquet('{path}')")
            self._plain[feed] = frame = pl.read_parquet(path)
            types = bak.scan(self._stores["zips"], *feed).collect_schema()
            self._typed[feed] = frame.with_columns(
                pl.col(name).dt.replace_time_zone("UTC")
                if isinstance(dtype, pl.Datetime)
                else pl.col(name).cast(dtype)
                for name, dtype in types.items()
            )
        #: Questions that had an answer, and rows of all answers.
        self.answered = self.rows = 0

    def close(self) -> None:
        for connection in (*self._connections.values(), self._copy):
            connection.close()

    def ask_in_sql(self, number: int) -> None:
        """Ask one question of all ways and of the copy."""
        dice = random.Random(f"{self._seed} SQL {number}")
        feed = dice.choice([*FEEDS, ("spot", "klines")])
        found = schema(*feed)  # type: ignore[arg-type]
        question = SqlDice(self._plain[feed], dice, found.time.column).question()
        words = question.sql.replace("{rows}", view_name(found.market, found.data_type))
        try:
            expected = self._copy.sql(words).fetchall()
        except duckdb.Error:
            return  # no valid question
        for way, connection in self._connections.items():
            try:
                answer = connection.sql(words).fetchall()
            except duckdb.ConversionException:
                continue  # of a literal, whose condition another order of conditions evaluates
            except Exception as error:
                raise AssertionError(f"{way}: {words}") from error
            assert same(answer, expected, ordered=question.ordered), f"{way}: {words}"
        self.answered += 1
        self.rows += len(expected)

    def ask_in_polars(self, number: int) -> None:
        """Ask one question of all ways and of the copy, which answers from memory."""
        dice = random.Random(f"{self._seed} Polars {number}")
        feed = dice.choice([*FEEDS, ("spot", "klines")])
        frame = self._typed[feed]
        columns = dice.sample(frame.columns, dice.randint(1, len(frame.columns)))
        limit, narrow = dice.choice((None, None, 1, 5, 10**6)), dice.random() < 0.5
        engine: Any = dice.choice(("in-memory", "streaming"))
        try:
            draw = PolarsDice(frame, dice)
            conditions = [draw.condition(dice.randint(0, 3)) for _ in range(dice.randint(1, 2))]
            expected = _asked(frame.lazy(), conditions, columns if narrow else None, limit)
            rows = expected.collect(engine="in-memory")
        except (pl.exceptions.PolarsError, TypeError):
            return  # no valid question
        for way, store in self._stores.items():
            scan = bak.scan(store, *feed)
            words = f"{way}, {engine}, {columns if narrow else ''}, {limit}: {conditions}"
            try:
                found = _asked(scan, conditions, columns if narrow else None, limit)
                answer = found.collect(engine=engine)
            except Exception as error:
                raise AssertionError(words) from error
            assert answer.equals(rows, null_equal=True), words
        self.answered += 1
        self.rows += rows.height


def _asked(
    frame: pl.LazyFrame, conditions: list[pl.Expr], columns: list[str] | None, limit: int | None
) -> pl.LazyFrame:
    for condition in conditions:
        frame = frame.filter(condition)
    frame = frame if columns is None else frame.select(columns)
    return frame if limit is None else frame.head(limit)


def same(
    found: Sequence[tuple[Any, ...]], expected: Sequence[tuple[Any, ...]], *, ordered: bool
) -> bool:
    """Return whether two answers are the same; NaN is equal to itself."""
    one, two = ([tuple(map(repr, row)) for row in rows] for rows in (found, expected))
    return one == two if ordered else sorted(one) == sorted(two)
