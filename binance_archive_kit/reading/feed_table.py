"""Feeds as tables: the name of the view, the columns and their types.

A feed is one data type of one market. Its rows have the path columns, which show where a row
comes from, and then the columns of its files.
"""

from __future__ import annotations

from functools import cache, cached_property

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.schemas import Column, Schema, read_feed, schema
from binance_archive_kit.errors import ConfigurationError

#: The first columns of every row; all but the day come from the name of the file.
PATH_COLUMNS = {
    "market": "Market: spot, futures_um, futures_cm or options.",
    "symbol": "Symbol, as the archive files it.",
    "interval": "Length of a candle, such as 1m; NULL where files have none.",
    "date": "UTC day of the row.",
    "partition": "Whether the row comes from a daily or a monthly file.",
    "file": "Path of the file inside the store.",
}
#: Their types in Polars.
PATH_TYPES: dict[str, pl.DataType] = {
    "market": pl.Enum(Market),
    "symbol": pl.Categorical(),
    "interval": pl.Enum(Interval),
    "date": pl.Date(),
    "partition": pl.Enum(Partition),
    "file": pl.Categorical(),
}
#: Path columns that differ between copies of one row in two files.
FILE_COLUMNS = ("partition", "file")
#: Places of decimals, more than the archive has ever used. A file with more cannot be read as
#: decimals: rounding would change its values.
PLACES = 18
MOMENT = pl.Datetime("us")
#: Descriptions of the times that values cover.
_MEASURED = {
    "flow": "over the period",
    "moment": "as of known_at",
    "rolling_24h": "over the 24 hours before known_at",
}
_WORD = pa.dictionary(pa.int32(), pa.string())
_DTYPES: dict[str, pl.DataType] = {
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
    "text": pl.String(),
    "time": MOMENT,
}


def view_name(market: Market, data_type: DataType) -> str:
    """Return the name of a feed's view.

    >>> view_name(Market.FUTURES_UM, DataType.MARK_PRICE_KLINES)
    'futures_um_mark_price_klines'
    >>> view_name(Market.OPTIONS, DataType.BVOL_INDEX)
    'options_bvol_index'
    """
    # Enum members are the archive's words in snake case.
    return f"{market}_{data_type.name.lower()}"


def words_of(where: ds.Expression) -> str | None:
    """Return an Arrow expression as text; None if it has none.

    Arrow cuts long texts in lists, even within a letter.
    """
    try:
        return str(where)
    except UnicodeDecodeError:
        return None


class FeedTable:
    """The files of one market and data type, as a table.

    Parameters
    ----------
    decimals : bool
        Prices and amounts as exact ``Decimal(38, 18)`` instead of ``Float64``. A file with
        more than 18 decimal places is rejected.

    Attributes
    ----------
    schema : Schema
        Of the files.
    csv_types : dict of str to polars.DataType
        Our name and the parsed type of each column of the csv.
    columns : dict of str to polars.DataType
        Our name and the type of each column besides the path columns.
    arrow : pyarrow.Schema
        All columns, as Arrow types; times are naive, in UTC.
    """

    def __init__(self, market: Market, data_type: DataType, *, decimals: bool = False) -> None:
        self.market = market
        self.data_type = data_type
        self.decimals = decimals
        self.schema: Schema = schema(market, data_type)
        dtypes = _DTYPES | ({"float64": pl.Decimal(38, PLACES)} if decimals else {})
        time = self.schema.time
        self.csv_types = {
            column.column: pl.Int64()
            if column.dtype == "time" and time.kind == "epoch"
            else dtypes[column.dtype]
            for column in self.schema.columns
        }
        self.columns = {column.column: dtypes[column.dtype] for column in self.own_columns()}
        if time.column not in self.columns:
            self.columns[time.column] = MOMENT
        own_types = pl.DataFrame(schema=self.columns).to_arrow().schema
        words = {name: pa.field(name, _WORD) for name in PATH_COLUMNS}
        paths = words | {"date": pa.field("date", pa.date32())}
        self.arrow = pa.schema([*paths.values(), *own_types])

    def __repr__(self) -> str:
        return f"Feed({self.view!r})"

    @cached_property
    def view(self) -> str:
        """Name of the view, such as ``spot_agg_trades``."""
        return view_name(self.market, self.data_type)

    @property
    def table(self) -> str:
        """Name for caches: rows of other types have another name."""
        return f"{self.view}.decimals" if self.decimals else self.view

    @property
    def time(self) -> str:
        """The column by which rows are sorted and selected."""
        return self.schema.time.column

    @property
    def prefixes(self) -> list[str]:
        """The folders that contain its files, each ending in ``/``."""
        return [f"data/{self.market.path}/{each}/{self.data_type}/" for each in Partition]

    def matches(self, market: str | None, data_type: str | None) -> bool:
        """Return whether the feed has these names; None matches any."""
        market = self.market if market is None else market
        data_type = self.data_type if data_type is None else data_type
        try:
            return read_feed(market, data_type) == (self.market, self.data_type)
        except ConfigurationError:
            return False

    def own_columns(self) -> tuple[Column, ...]:
        """Return the columns of its files, without those that repeat a path column."""
        return tuple(column for column in self.schema.kept if column.column not in PATH_COLUMNS)

    @cached_property
    def column_comments(self) -> dict[str, str]:
        """Description of each column, with its unit and what its values cover."""
        comments = dict(PATH_COLUMNS)
        if self.schema.time.made_from:
            comments[self.time] = self.schema.time.description
        for column in self.own_columns():
            unit = "UTC" if column.dtype == "time" else column.unit
            notes = ", ".join(filter(None, (unit, _MEASURED.get(column.measures))))
            more = f" [{notes}]" if notes else ""
            comments[column.column] = f"{column.description}{more}"
        return {name: comments[name] for name in self.arrow.names}

    @cached_property
    def polars(self) -> pl.Schema:
        """All columns, as Polars types; times have the time zone UTC."""
        return pl.Schema(
            PATH_TYPES
            | {
                name: pl.Datetime("us", "UTC") if dtype == MOMENT else dtype
                for name, dtype in self.columns.items()
            }
        )


@cache
def feed_table(market: Market, data_type: DataType, *, decimals: bool = False) -> FeedTable:
    """Return the table of a feed; it is made once."""
    return FeedTable(market, data_type, decimals=decimals)
