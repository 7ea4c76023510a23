"""The columns, types, units, header, time and row identity of the csv files of each feed.

The file is ``matrix/column_schemas.json``. Columns are identified by
position: most headers are absent or optional, and some are misleading (COIN-M klines call an
amount of the base asset ``quote_volume``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from binance_archive_kit.archive.enums import PREMIUM_INDEX, DataType, Market, read_market
from binance_archive_kit.archive.matrix import Confidence, StrictModel, shipped
from binance_archive_kit.errors import ConfigurationError
from binance_archive_kit.suggestions import unknown

#: Inclusive lower and upper bound of a value: a number, another column of the row, or no bound.
Bounds = tuple[float | str | None, float | str | None]


class Checks(StrictModel):
    """What is certain about the values of a column; by default nothing is checked.

    Attributes
    ----------
    finite : bool
        No value is NaN or infinite.
    positive : bool
        Every value is greater than zero.
    within : tuple of (float or str or None, float or str or None), or None
        Lower and upper bound, both inclusive. A number, the name of another column of
        the same row, or None for no bound. A null on either side satisfies it.
    may_be_null : bool
        Whether an empty field is valid.
    may_be_constant : bool
        False: it is a defect if the value does not change for a long time while other
        columns of the feed with ``may_be_constant=False`` do. For a bool: if it is the same
        in a large number of rows.
    """

    finite: bool = False
    positive: bool = False
    within: Bounds | None = None
    may_be_null: bool = True
    may_be_constant: bool = True

    @property
    def bounding_columns(self) -> tuple[str, ...]:
        """The other columns that bound this one.

        >>> klines = schema(Market.SPOT, DataType.KLINES)
        >>> [column.checks.bounding_columns for column in klines.columns[1:3]]
        [('low', 'high'), ('low',)]
        """
        return tuple(bound for bound in self.within or () if isinstance(bound, str))

    @model_validator(mode="after")
    def _are_possible(self) -> Self:
        low, high = self.within or (None, None)
        if self.within == (None, None):
            raise ValueError("within has at least one bound")
        if isinstance(low, float) and isinstance(high, float) and low > high:
            raise ValueError(f"no value is within {low} and {high}")
        return self


#: What a value describes: nothing, the row itself, its event, its period or its time.
Measure = Literal["nothing", "identity", "event", "flow", "moment", "rolling_24h"]


class Column(StrictModel):
    """One column of a csv file.

    Attributes
    ----------
    name : str
        The name in the archive's header.
    column : str
        The name in this package: the same, unless the header misleads.
    dtype : {"int64", "float64", "bool", "text", "time"}
        ``float64``: decimal text, with or without trailing zeros; empty is null.
    unit : str or None
        Unit of the values; None if there is none, or no meaningful one.
    description : str
        One sentence.
    dropped : bool
        Whether it has no content and is skipped when files are read.
    measures : {"nothing", "identity", "event", "flow", "moment", "rolling_24h"}
        ``identity``: identifies the row: its name, number or time. ``event``: belongs to the one
        event of the row, such as a trade. ``flow``: a sum, price or ratio over the period of the
        row. ``moment``: a value at the time at which the row became known. ``rolling_24h``: over
        the 24 hours before that time. ``nothing``: no meaning.
    checks : Checks
        What is certain about its values.
    """

    name: str = Field(min_length=1)
    column: str = Field(min_length=1)
    dtype: Literal["int64", "float64", "bool", "text", "time"]
    unit: str | None
    description: str = Field(pattern=r"\.$")
    dropped: bool = False
    measures: Measure
    checks: Checks = Checks()

    @model_validator(mode="after")
    def _has_checks_of_its_type(self) -> Self:
        checks, number = self.checks, self.dtype in ("int64", "float64")
        if checks.finite and self.dtype != "float64":
            raise ValueError(f"{self.column}: finite applies to float64 only")
        if (checks.positive and not number) or (
            checks.within and not (number or self.dtype == "time")
        ):
            raise ValueError(f"{self.column}: {self.dtype} has no bounds")
        return self


class UnitRule(StrictModel):
    """Expected unit of the epoch times of a file, by the first UTC day the file covers.

    Only an expectation: the archive re-issues old files, so the magnitude of the values in a
    file decides how they are read.

    Attributes
    ----------
    since : date or None
        First day the rule holds, inclusive; None for "from the beginning".
    unit : {"ms", "us"}
        Milliseconds or microseconds since 1970-01-01 00:00 UTC.
    """

    since: date | None = Field(alias="from")
    unit: Literal["ms", "us"]


class Time(StrictModel):
    """The time columns of a file; times are always UTC.

    Attributes
    ----------
    kind : {"epoch", "text", "date_and_hour"}
        A count since 1970; text of one format; or two text columns combined.
    column : str
        Name in this package of the time column that orders and selects rows.
    others : tuple of str
        Other time columns of the same kind.
    units : tuple of UnitRule
        For ``epoch``, oldest rule first; empty otherwise.
    format : str or None
        For ``text`` and ``date_and_hour``: a `strptime` format.
    made_from : tuple of str
        For ``date_and_hour``: the text columns that are joined by a space into `column`.
    description : str
        Description of the combined column.
    """

    kind: Literal["epoch", "text", "date_and_hour"]
    column: str
    others: tuple[str, ...] = ()
    units: tuple[UnitRule, ...] = ()
    format: str | None = None
    made_from: tuple[str, ...] = ()
    description: str = ""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind == "epoch") != bool(self.units):
            raise ValueError("epoch times have unit rules, other times have none")
        if (self.kind == "epoch") != (self.format is None):
            raise ValueError("times written as text have a format, epoch times have none")
        if (self.kind == "date_and_hour") != bool(self.made_from):
            raise ValueError("only date_and_hour is made from other columns")
        if bool(self.made_from) != bool(self.description):
            raise ValueError("a column that is made has a description of its own")
        since = [rule.since for rule in self.units]
        days = [day for day in since[1:] if day is not None]
        if since and (since[0] is not None or len(days) < len(since) - 1 or days != sorted(days)):
            raise ValueError("unit rules start at the beginning of time and go forward")
        return self

    def unit_on(self, day: date) -> Literal["ms", "us"] | None:
        """Return the expected unit of a file whose first UTC day is `day`; None unless ``epoch``.

        >>> time = schema(Market.SPOT, DataType.TRADES).time
        >>> time.unit_on(date(2024, 12, 31)), time.unit_on(date(2025, 1, 1))
        ('ms', 'us')
        """
        in_force = [rule.unit for rule in self.units if rule.since is None or rule.since <= day]
        return in_force[-1] if in_force else None


class Known(StrictModel):
    """The earliest time at which a live participant could have had a row.

    Not when the archive published it: that is a day or more later.

    Attributes
    ----------
    rule : {"time", "latest", "candle", "after_period", "metrics_label"}
        ``time``: at the time of the row. ``latest``: at the latest of its times.
        ``candle``: one time unit after ``close_time``, which is inclusive.
        ``after_period``: `period` after the time of the row. ``metrics_label``: at the
        time of the row if it labels the end of the period, `period` later if it labels the
        start; that differs by market, day and file (`cadence.label_offset`).
    period : timedelta or None
        Length of the period of a row; None for single times, and for candles, which have an
        interval.
    description : str
        The same in words.
    """

    rule: Literal["time", "latest", "candle", "after_period", "metrics_label"]
    period: timedelta | None = None
    description: str = Field(pattern=r"\.$")

    @model_validator(mode="after")
    def _has_a_period_if_it_needs_one(self) -> Self:
        if (self.rule in ("after_period", "metrics_label")) != (self.period is not None):
            raise ValueError(f"{self.rule}: a period belongs to after_period and metrics_label")
        return self


class Schema(StrictModel):
    """The format of the csv files of one feed; `schema` returns it.

    Attributes
    ----------
    market : Market
    data_type : DataType
        The feed.
    columns : tuple of Column
        Name, type, unit and description of each column, in the order of the file, including
        dropped columns.
    header : {"never", "detect", "present"}
        Whether files begin with a header row. ``detect``: some do; a file without one
        begins with a digit or a minus sign.
    time : Time
    known : Known
        The earliest time at which a live participant could have had a row.
    sorted : bool
        Whether rows are sorted by time.
    key : tuple of str
        Columns that identify a row within a symbol; empty if no subset does.
    confidence : Confidence
        How certain this description is.
    source : str
        The source of this description.
    """

    market: Market
    data_type: DataType
    columns: tuple[Column, ...]
    header: Literal["never", "detect", "present"]
    time: Time
    known: Known
    sorted: bool
    key: tuple[str, ...]
    confidence: Confidence
    source: str

    @model_validator(mode="after")
    def _names_its_own_columns(self) -> Self:
        dtypes = {column.column: column.dtype for column in self.columns}
        if len(dtypes) != len(self.columns):
            raise ValueError("two columns share a name")
        made = self.time.kind == "date_and_hour"
        times = set(self.time.others) | (set() if made else {self.time.column})
        if times != {name for name, dtype in dtypes.items() if dtype == "time"}:
            raise ValueError("the columns of dtype time are not the ones under time")
        if made and self.time.column in dtypes:
            raise ValueError(f"{self.time.column} would be made although it is a column")
        bounds = {name for column in self.columns for name in column.checks.bounding_columns}
        strangers = (set(self.key) | set(self.time.made_from) | bounds) - dtypes.keys()
        if strangers:
            raise ValueError(f"no such column: {', '.join(sorted(strangers))}")
        return self

    @property
    def header_line(self) -> str:
        """The header row as the archive publishes it, without the newline.

        If the files of the feed have no header: the documented names.

        >>> schema(Market.FUTURES_CM, DataType.TRADES).header_line
        'id,price,qty,base_qty,time,is_buyer_maker'
        """
        return ",".join(column.name for column in self.columns)

    @property
    def series(self) -> tuple[str, ...]:
        """The columns that distinguish rows of one symbol at one time.

        >>> schema(Market.FUTURES_UM, DataType.BOOK_DEPTH).series
        ('percentage',)
        >>> schema(Market.SPOT, DataType.TRADES).series
        ()
        """
        times = {self.time.column, *self.time.made_from}
        if not times & set(self.key):
            return ()
        return tuple(name for name in self.key if name not in times | {"symbol"})

    @property
    def kept(self) -> tuple[Column, ...]:
        """The columns that are read, in the order of the file.

        >>> [c.column for c in schema(Market.FUTURES_CM, DataType.KLINES).kept[5:8]]
        ['volume', 'close_time', 'base_volume']
        """
        return tuple(column for column in self.columns if not column.dropped)


def _columns(lists: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the column list `name`: as listed, or another list with changes."""
    entry = lists[name]
    if isinstance(entry, list):
        return entry.copy()
    differs: dict[str, dict[str, Any]] = entry.get("differs", {})
    base = _columns(lists, entry["like"])
    strangers = differs.keys() - {column["name"] for column in base}
    if strangers:
        raise ValueError(f"{name}: {entry['like']} has no column {', '.join(sorted(strangers))}")
    changed = [column | differs.get(column["name"], {}) for column in base]
    return [*changed, *entry.get("append", [])]


@cache
def load_schemas() -> Mapping[tuple[Market, DataType], Schema]:
    """Read the shipped schemas, one for each feed of each market.

    Reads one small file, once; the result cannot be changed.

    Returns
    -------
    Mapping of (Market, DataType) to Schema

    Raises
    ------
    ValueError
        If the file is inconsistent.
    """
    shared = json.loads(shipped("column_schemas.json").read_text(encoding="utf-8"))
    schemas: dict[tuple[Market, DataType], Schema] = {}
    for entry in shared["schemas"]:
        columns = [
            column | {"checks": shared["checks"][column["checks"]]}
            if "checks" in column
            else column
            for column in _columns(shared["columns"], entry["columns"])
        ]
        found = Schema.model_validate(
            entry
            | {
                "columns": columns,
                "time": shared["times"][entry["time"]],
                "known": shared["known"][entry["known"]],
            }
        )
        if (found.market, found.data_type) in schemas:
            raise ValueError(f"{found.market} {found.data_type} is described twice")
        schemas[found.market, found.data_type] = found
    return MappingProxyType(schemas)


def read_feed(market: str, data_type: str) -> tuple[Market, DataType]:
    """Parse the name of a feed, in any accepted spelling.

    Raises
    ------
    ConfigurationError
        If the archive has no such feed; the message lists those it has.

    Examples
    --------
    >>> read_feed("um", "premiumIndex")
    (<Market.FUTURES_UM: 'futures_um'>, <DataType.PREMIUM_INDEX_KLINES: 'premiumIndexKlines'>)
    >>> read_feed("spot", "agg_trades")[1].value
    'aggTrades'
    """
    owner = read_market(market)
    spelled = {name: each for each in DataType for name in (each.value, each.name.lower())}
    spelled[PREMIUM_INDEX] = DataType.PREMIUM_INDEX_KLINES
    of_market = [each for other, each in load_schemas() if other is owner]
    if not isinstance(data_type, str) or spelled.get(data_type) not in of_market:
        label = f"data type of {owner}"
        raise ConfigurationError(unknown("data_type", data_type, of_market, label))
    return owner, spelled[data_type]


def schema(market: Market, data_type: DataType) -> Schema:
    """Return the columns, types and units of the files of one feed. Uses no network.

    Parameters
    ----------
    market : Market or str
        Such as ``"spot"`` or ``"futures_um"``.
    data_type : DataType or str
        Such as ``"klines"``; only names of feeds of the market are valid.

    Returns
    -------
    Schema
        Its ``columns`` have names, types, units and descriptions.

    Raises
    ------
    ConfigurationError
        If the archive has no such market or feed; the message lists the valid ones.

    Examples
    --------
    >>> klines = schema(Market.SPOT, DataType.KLINES)
    >>> klines.header, klines.time.column, klines.key
    ('never', 'open_time', ('open_time',))
    """
    return load_schemas()[read_feed(market, data_type)]
