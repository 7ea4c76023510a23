"""`bak.to_pandas`: candles as pandas frames, in the shape that a tool for backtests expects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import polars as pl

from binance_archive_kit.archive.enums import DataType, Interval, read_interval, read_names
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.errors import (
    MissingExtraError,
    arguments,
    field_error,
    warn_user,
)
from binance_archive_kit.export.gap_check import OnGap, check_gaps, open_source
from binance_archive_kit.export.sidecar import StreamCoverage
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.loaders import load_klines
from binance_archive_kit.query.open_store import OpenStore, Source
from binance_archive_kit.query.polars_scan import parse_selection
from binance_archive_kit.suggestions import check_word

if TYPE_CHECKING:
    import pandas as pd

_OHLCV = ("open", "high", "low", "close", "volume")
_COVERED = "covered"
#: What the bundles of zipline hold: integers of 32 bits; prices in thousandths.
_MOST, _RATIO = 2**32 - 1, 1_000


class _Shape(NamedTuple):
    """The frame that a tool expects.

    Attributes
    ----------
    titles : bool
        Columns are called ``Open`` and not ``open``.
    aware : bool
        Times have the time zone UTC; otherwise they are naive, in UTC.
    index_name : str
        Name of the index.
    intervals : tuple of Interval
        Those that the tool knows; empty for any.
    """

    titles: bool = False
    aware: bool = False
    index_name: str = "open_time"
    intervals: tuple[Interval, ...] = ()


_PANDAS, _VECTORBT, _ZIPLINE = "pandas", "vectorbt", "zipline"
_SHAPES: Mapping[str, _Shape] = {
    _PANDAS: _Shape(aware=True),
    "backtesting.py": _Shape(titles=True),
    # It reads naive times as local ones.
    _VECTORBT: _Shape(titles=True, aware=True),
    "backtrader": _Shape(),
    "mplfinance": _Shape(titles=True, index_name="Date"),
    _ZIPLINE: _Shape(index_name="date", intervals=(Interval.M1, Interval.D1)),
}
_OTHER_TOOLS: Mapping[str, str] = {
    "freqtrade": "to_freqtrade",
    "nautilus": "to_nautilus",
    "nautilus_trader": "to_nautilus",
    "nautilustrader": "to_nautilus",
}
Tool = Literal["pandas", "backtesting.py", "vectorbt", "backtrader", "mplfinance", "zipline"]


@overload
def to_pandas(
    source: Source,
    symbol: str,
    interval: str,
    tool: Tool = "backtesting.py",
    *,
    market: str = "spot",
    start: str | date | None = None,
    end: str | date | None = None,
    on_gap: OnGap = "raise",
    **options: Any,
) -> pd.DataFrame: ...
@overload
def to_pandas(
    source: Source,
    symbol: Iterable[str],
    interval: str,
    tool: Literal["vectorbt"],
    *,
    market: str = "spot",
    start: str | date | None = None,
    end: str | date | None = None,
    on_gap: OnGap = "raise",
    **options: Any,
) -> pd.DataFrame: ...
@overload
def to_pandas(
    source: Source,
    symbol: Iterable[str],
    interval: str,
    tool: Tool = "backtesting.py",
    *,
    market: str = "spot",
    start: str | date | None = None,
    end: str | date | None = None,
    on_gap: OnGap = "raise",
    **options: Any,
) -> dict[str, pd.DataFrame]: ...
@arguments(symbols="symbol", intervals="interval", store="source")
def to_pandas(
    source: Source,
    symbol: str | Iterable[str],
    interval: str,
    tool: Tool = "backtesting.py",
    *,
    market: str = "spot",
    start: str | date | None = None,
    end: str | date | None = None,
    on_gap: OnGap = "raise",
    **options: Any,
) -> pd.DataFrame | dict[str, pd.DataFrame]:
    """Load candles as a pandas frame, in the shape that a backtester expects.

    Needs the ``pandas`` extra. Missing candles are not filled in.

    Parameters
    ----------
    source : str, Path or OpenStore
    symbol : str or iterable of str
        One name, or a collection of names.
    interval : str
    tool : str
        - ``"backtesting.py"``: ``Open``, ``High``, ``Low``, ``Close``, ``Volume``; naive UTC.
        - ``"mplfinance"``: the same; the index is called ``Date``.
        - ``"vectorbt"``: the same, with time zone UTC, since it takes naive times for local ones.
          Several symbols are one wide frame: ``frame["Close"]`` has a column per symbol, and NaN
          where only other symbols have a candle.
        - ``"backtrader"``: ``open``, ``high``, ``low``, ``close``, ``volume``; naive UTC, for
          ``bt.feeds.PandasData``.
        - ``"zipline"``: the same; the index is called ``date``. Only intervals 1m and 1d. Sessions
          are those of the calendar ``24/7``.
        - ``"pandas"``: all columns of `load_klines`, with time zone UTC.
    market : str
    start, end : str or date, optional
        First and last UTC day, both inclusive; by default those of the files of each symbol.
    on_gap : {"raise", "warn", "mark"}
        What to do if data are missing, invalid or doubtful: raise an error, or warn and load what
        is there. ``"mark"`` also adds the column ``covered`` (bool): False for the first candle
        after any gap, whose return is over more than one interval, and for every missing candle
        of a wide frame. Known halts only warn.
    **options
        As for `store`.

    Returns
    -------
    pandas.DataFrame, or dict of str to pandas.DataFrame
        The dict has a frame per symbol if several were requested, but for vectorbt. The index
        is the time at which a candle *opens* (``datetime64[ns]``); all values but the open are
        known only when it closes, an interval later. Tools that call a strategy once per row,
        and fill its orders at the next one, see nothing too early. For several intervals
        in one backtest, or to resample in backtrader, move the index to the close first:
        ``frame.index += pd.Timedelta("1h")``. Only for zipline the index of ``1m`` is the
        close already, as its minutes are called by their ends.

        Columns of prices and volumes are ``float64``; the volume of COIN-M is in contracts.
        ``frame.attrs["coverage"]`` is a dict with the verdict, the gaps with kind and evidence,
        the findings and the source files; of a wide frame, one per symbol.

    Raises
    ------
    MissingExtraError
        If pandas is not installed.
    ConfigurationError
        If an argument is invalid, or the store has no such candles.
    CoverageError
        If there are no candles on these days; or if data are missing or doubtful, and `on_gap`
        is ``"raise"``.
    FileError
        As for `load_klines`.

    Warns
    -----
    ArchiveKitWarning
        Of halts and other gaps that do not block. For zipline, of the volumes and prices that
        its bundles cannot hold: they keep whole volumes and three decimals of a price, both up to
        32 bits.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> frame = bak.to_pandas("data/research", "BTCUSDT", "1h")  # doctest: +SKIP
    >>> Backtest(frame, MyStrategy, cash=1_000_000).run()  # doctest: +SKIP
    """
    if isinstance(tool, str) and (other := _OTHER_TOOLS.get(tool.casefold())):
        raise field_error("tool", f"{tool} reads files: use {other}(…)")
    check_word("tool", tool, _SHAPES)
    shape, length = _SHAPES[tool], read_interval(interval)
    if shape.intervals and length not in shape.intervals:
        known = ", ".join(shape.intervals)
        raise field_error("interval", f"{tool} has no bars of {length}; choose one of: {known}")
    if find_spec("pandas") is None:
        raise MissingExtraError("pandas", "to_pandas")
    engine = open_source(source, on_gap, options)
    feed = engine.feed(market, DataType.KLINES)
    names = list(dict.fromkeys(read_names("symbol", symbol)))
    for name in names:
        parse_selection(engine, feed, name, length)
    streams = [Stream(feed.market, feed.data_type, name, length) for name in names]
    found = check_gaps(engine, streams, start, end, on_gap, 'frame.attrs["coverage"]')
    frames: dict[str, pd.DataFrame] = {}
    for name, coverage in zip(names, found.values(), strict=True):
        rows = _load(engine, coverage)
        if on_gap == "mark":
            rows = rows.with_columns(coverage.covered(rows["open_time"]).alias(_COVERED))
        if tool == _ZIPLINE:
            _warn_of_losses(name, rows)
        frames[name] = _shaped(rows, coverage, tool, shape)
    if isinstance(symbol, str):
        return frames[symbol]
    return _wide(frames) if tool == _VECTORBT else frames


def _load(engine: Engine, coverage: StreamCoverage) -> pl.DataFrame:
    """Load the candles of a stream on the days that were checked."""
    stream = coverage.stream
    return load_klines(
        OpenStore(engine),
        stream.symbol,
        str(stream.interval),
        market=stream.market,
        start=coverage.first,
        end=coverage.last,
    )


class _Coverage(dict[str, Any]):
    """A dict that pandas does not copy with each operation on its frame."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Coverage:
        return self


def _shaped(rows: pl.DataFrame, coverage: StreamCoverage, tool: str, shape: _Shape) -> pd.DataFrame:
    """Convert candles to the frame of a tool."""
    time = pl.col("open_time")
    if tool == _ZIPLINE and coverage.stream.interval is Interval.M1:
        time += timedelta(minutes=1)
    time = time.cast(pl.Datetime("ns", "UTC"))
    others = [pl.exclude("open_time")]
    if tool != _PANDAS:
        names = {name: name.title() if shape.titles else name for name in _OHLCV}
        others = [pl.col(name).cast(pl.Float64).alias(new) for name, new in names.items()]
        others += [pl.col(name) for name in rows.columns if name == _COVERED]
    time = time if shape.aware else time.dt.replace_time_zone(None)
    frame = rows.select(time, *others)
    shaped: pd.DataFrame = frame.to_pandas().set_index("open_time").rename_axis(shape.index_name)
    shaped.attrs["coverage"] = _Coverage(coverage.to_dict(rows.height))
    return shaped


def _wide(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Join the frames of several symbols: the columns are those of each, then the symbols."""
    import pandas as pd

    coverages = {name: frame.attrs["coverage"] for name, frame in frames.items()}
    bare = {name: frame.rename_axis("open_time") for name, frame in frames.items()}
    for frame in bare.values():
        frame.attrs = {}
    joined = pd.concat(bare, axis=1, sort=True, names=["symbol", "column"])
    columns = next(iter(frames.values())).columns
    joined = joined.swaplevel(axis=1)[[(column, name) for column in columns for name in frames]]
    if _COVERED in columns:
        marks = joined[_COVERED].eq(True)
        joined = joined.astype({(_COVERED, name): object for name in frames})
        joined[_COVERED] = marks
    joined.attrs["coverage"] = _Coverage(coverages)
    return joined


def _warn_of_losses(symbol: str, rows: pl.DataFrame) -> None:
    """Warn of values that a bundle of zipline cannot hold."""
    volume = pl.col("volume").cast(pl.Float64)
    thousandths = [pl.col(name).cast(pl.Float64) * _RATIO for name in _OHLCV[:-1]]
    # A price in thousandths is whole up to the error of the multiplication.
    rest = pl.max_horizontal((price - price.round()).abs() / price for price in thousandths)
    lost = volume - volume.floor()
    row = rows.select(
        fractions=(lost > 0).sum(),
        lost=lost.sum(),
        share=lost.sum() / volume.sum(),
        prices=(rest > 1e-12).sum(),
        large=((volume > _MOST) | pl.any_horizontal(p > _MOST for p in thousandths)).sum(),
    ).row(0, named=True)
    found = []
    if row["fractions"]:
        found.append(
            f"{row['fractions']:,} volumes are not whole and lose what is behind the point, "
            f"{row['lost']:,.8g} in all ({100 * row['share']:.2g} % of the volume)"
        )
    if row["prices"]:
        found.append(f"{row['prices']:,} rows have prices that are rounded to 0.001")
    if row["large"]:
        found.append(f"{row['large']:,} rows have values beyond 32 bits, which are lost")
    if found:
        warn_user(
            f"zipline stores whole numbers of 32 bits, prices in thousandths: of {rows.height:,} "
            f"rows of {symbol}, {'; '.join(found)}. Multiply the columns by a power of ten before "
            "ingesting to keep more"
        )
