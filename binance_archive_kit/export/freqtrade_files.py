"""`bak.to_freqtrade`: candles, mark prices and funding rates as files of freqtrade."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from pyarrow import feather

from binance_archive_kit.archive.enums import (
    DataType,
    Interval,
    Market,
    rank_of,
    read_interval,
    read_market,
    read_names,
)
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.archive.symbols import Contract, SymbolParts, split_symbols
from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.errors import (
    CoverageError,
    arguments,
    disk_error,
    warn_user,
)
from binance_archive_kit.export.engine_export import EngineExport, Written
from binance_archive_kit.export.gap_check import OnGap, check_gaps, open_source
from binance_archive_kit.export.sidecar import StreamCoverage
from binance_archive_kit.export.symbol_choice import choose_symbols, leave_out
from binance_archive_kit.export.target_folder import check_target, locked, temporary_in
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.open_store import Source
from binance_archive_kit.query.polars_scan import UniqueRows, first_few
from binance_archive_kit.suggestions import check_word

_MARKETS = (Market.SPOT, Market.FUTURES_UM)
#: The names of candles in files of futures, and the only interval that freqtrade asks for.
_MARK, _FUNDING, _EXTRA_INTERVAL = "-mark", "-funding_rate", Interval.H1
_PRICES = ("open", "high", "low", "close", "volume")


#: A stream, and the path of the file with its rows.
_File = tuple[Stream, str]


@arguments(store="source", interval="intervals", universe="symbols")
def to_freqtrade(
    source: Source,
    datadir: str | Path,
    *,
    market: str = "spot",
    symbols: str | Iterable[str] | None = None,
    intervals: str | Iterable[str] | None = None,
    quote: str | Iterable[str] | None = None,
    start: str | date | None = None,
    end: str | date | None = None,
    on_gap: OnGap = "raise",
    **options: Any,
) -> EngineExport:
    """Write candles as the files that freqtrade reads.

    The files are ``BTC_USDT-1h.feather``, or ``futures/BTC_USDT_USDT-1h-futures.feather`` for
    USD-M perpetuals; with these, ``-1h-mark`` and ``-1h-funding_rate`` if the store has mark
    prices of one hour and funding rates, as a backtest of futures needs both. ``date`` is the
    *open* of the candle: its other values are known one interval later, as freqtrade assumes.
    Funding has the time at which it was settled.

    The coverage of all files is checked before the first one is written. Beside each,
    ``<file>.coverage.json`` describes it. A file is written whole and replaces an older one of
    the same name: rows that only the older one has are lost. Shows its progress.

    Parameters
    ----------
    source : str, Path or OpenStore
    datadir : str or Path
        freqtrade's data folder, such as ``user_data/data/binance``; created if it is missing.
    market : {"spot", "futures_um"}
        freqtrade does not trade contracts that are settled in coins.
    symbols : str or iterable of str, optional
        Names, and patterns such as ``"*USDT"``; all by default. Contracts that freqtrade does not
        trade (with a delivery day, or settled before their symbol was used again) and symbols
        whose base asset is unknown are left out with a warning.
    intervals : str or iterable of str, optional
        Of candles; by default all that the store has.
    quote : str or iterable of str, optional
        Only symbols with these quote assets.
    start, end : str or date, optional
        First and last UTC day, both inclusive; ``"yesterday"`` and ``"-7d"`` count from today. By
        default those of each stream in the store.
    on_gap : {"raise", "warn", "mark"}
        What to do about data that are missing, invalid or doubtful: raise an error before
        anything is written, or warn. The files have no room for a mark, so that ``"mark"`` is
        as ``"warn"``. Halts of the market, and times at which no row is due, only warn.
    **options
        As for `store`.

    Returns
    -------
    EngineExport
        The files with their numbers of rows and verdicts.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, the store has no such candles, or a symbol that is given by
        name has no place in freqtrade.
    CoverageError
        If a stream has no row on these days, or `on_gap` is "raise" and data are missing, invalid
        or doubtful. Nothing is written then.
    FileError
        If two candles with one open time differ, and `on_gap` is "raise".
    StoreError, DiskSpaceError
        If the folder cannot be written, or another export to it is at work.

    Notes
    -----
    A file is a Feather file compressed with LZ4. Its columns are ``date`` (timestamp in
    milliseconds, UTC), ``open``, ``high``, ``low``, ``close`` and ``volume`` (float64; volume in
    the base asset). In those of funding ``open`` is the rate and the others are 0: the layout of
    freqtrade until 2026.8, which later versions read as well.

    Nothing is filled in here, but freqtrade itself puts candles without volume into gaps when it
    loads candles, unless told not to (``fill_up_missing=False``).

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> bak.to_freqtrade(
    ...     "data/research", "user_data/data/binance", intervals="1h", quote="USDT"
    ... )  # doctest: +SKIP
    """
    known_market = read_market(market)
    check_word("market", known_market, _MARKETS)
    engine = open_source(source, on_gap, options)
    folder = check_target("datadir", datadir, engine.root)
    given = None if symbols is None else read_names("symbols", symbols)
    lengths = (
        None if intervals is None else {*map(read_interval, read_names("intervals", intervals))}
    )
    chosen = _choose(engine, known_market, given, lengths, quote)
    pairs = _pairs(engine, known_market, chosen, given or [])
    files = dict(_candles(known_market, chosen, pairs))
    if known_market is Market.FUTURES_UM:
        files |= _mark_and_funding(engine, pairs)
    # Not all symbols of a store exist at any time, and funding of a month is published after it.
    optional = {
        stream
        for stream in files
        if stream.data_type is not DataType.KLINES or stream.symbol not in (given or [])
    }
    checked = check_gaps(engine, files, start, end, on_gap, optional=optional)
    try:
        with locked(folder), temporary_in(folder) as temporary:
            written = [(files[stream], found) for stream, found in checked.items()]
            return _write(engine, folder, temporary, written)
    except OSError as error:
        raise disk_error(error, folder) from None


# Names


def _choose(
    engine: Engine,
    market: Market,
    given: Sequence[str] | None,
    intervals: Set[Interval] | None,
    quote: str | Iterable[str] | None,
) -> dict[Interval, list[str]]:
    """Return the chosen symbols of each interval."""
    feed = engine.feed(market, DataType.KLINES)
    if intervals is not None:
        return {
            interval: choose_symbols(engine, feed, interval, given, quote, None).stored
            for interval in sorted(intervals, key=rank_of)
        }
    symbols = choose_symbols(engine, feed, None, given, quote, None).stored
    stored = {(folder.symbol, folder.interval) for folder in engine.names(feed)}
    return {
        interval: [symbol for symbol in symbols if (symbol, interval) in stored]
        for interval in Interval
    }


def _pairs(
    engine: Engine, market: Market, chosen: Mapping[Interval, Sequence[str]], given: Sequence[str]
) -> dict[str, str]:
    """Return the pair of each chosen symbol, as in the names of files."""
    feed = engine.feed(market, DataType.KLINES)
    # All symbols help to divide an ambiguous one.
    parts = split_symbols(market, {folder.symbol for folder in engine.names(feed)})
    symbols = sorted({symbol for symbols in chosen.values() for symbol in symbols})
    problems = {symbol: _problem(parts[symbol]) for symbol in symbols}
    kept = leave_out(problems, given, "freqtrade")
    return {symbol: pair_of(market, parts[symbol]) for symbol in kept}


def _problem(parts: SymbolParts) -> str:
    """Return why freqtrade has no place for a symbol; empty if it has."""
    if parts.contract is Contract.DELIVERY:
        return "freqtrade does not trade contracts with a delivery day"
    if parts.contract is Contract.SETTLED:
        return (
            "it was settled before its symbol was used again, and freqtrade has one name for both"
        )
    if parts.base is None or parts.quote is None:
        return "its base and quote asset are not known"
    return ""


def pair_of(market: Market, parts: SymbolParts) -> str:
    """Format a pair as freqtrade does in the names of files.

    >>> pair_of(Market.SPOT, SymbolParts("BTC", "USDT"))
    'BTC_USDT'
    >>> pair_of(Market.FUTURES_UM, SymbolParts("1000PEPE", "USDC"))
    '1000PEPE_USDC_USDC'
    """
    words = [parts.base, parts.quote, *([parts.quote] if market is Market.FUTURES_UM else [])]
    return "_".join(map(str, words)).translate(_REPLACED)


#: Characters of a pair that freqtrade does not put into names of files.
_REPLACED = str.maketrans(dict.fromkeys("/ .@$+:", "_"))


def _candles(
    market: Market, chosen: Mapping[Interval, Sequence[str]], pairs: Mapping[str, str]
) -> Iterator[_File]:
    """Yield the files of candles."""
    place, kind = ("", "") if market is Market.SPOT else ("futures/", "-futures")
    for interval, symbols in chosen.items():
        # 1m and 1M would be one file on some disks.
        timeframe = "1Mo" if interval is Interval.MO1 else str(interval)
        for symbol in symbols:
            if symbol in pairs:
                path = f"{place}{pairs[symbol]}-{timeframe}{kind}.feather"
                yield Stream(market, DataType.KLINES, symbol, interval), path


def _mark_and_funding(engine: Engine, pairs: Mapping[str, str]) -> Iterator[_File]:
    """Yield the files of mark prices and funding rates that the store has; warn of others."""
    for data_type, interval, kind in (
        (DataType.MARK_PRICE_KLINES, _EXTRA_INTERVAL, _MARK),
        (DataType.FUNDING_RATE, None, _FUNDING),
    ):
        feed = engine.feed(Market.FUTURES_UM, data_type)
        stored = {each.symbol for each in engine.names(feed) if each.interval == interval}
        for symbol in sorted(stored & pairs.keys()):
            path = f"futures/{pairs[symbol]}-{_EXTRA_INTERVAL}{kind}.feather"
            yield Stream(Market.FUTURES_UM, data_type, symbol, interval), path
        if absent := sorted(pairs.keys() - stored):
            what = f"{interval} {data_type}" if interval else str(data_type)
            warn_user(
                f"the store has no {what} of {first_few(absent)}; freqtrade needs them to "
                "count the funding of a backtest"
            )


# Files


def _write(
    engine: Engine, target: Path, temporary: Path, files: Sequence[tuple[str, StreamCoverage]]
) -> EngineExport:
    """Write files, and put each in place of the one before."""
    rows = UniqueRows(engine)
    written = []
    progress = Progress()
    progress.begin("writing Feather", len(files), unit="files")
    with Bar(progress) as bar:
        for file, found in files:
            frame = _frame(rows, found)
            staged = temporary / "part.feather"
            feather.write_feather(frame.to_arrow(), str(staged), compression="lz4")
            path = target / file
            path.parent.mkdir(exist_ok=True)
            found.put(staged, path, frame.height)
            dates = frame["date"]
            written.append(Written(file, found, frame.height, dates[0], dates[-1]))
            progress.done += 1
            bar.update()
    return EngineExport.of("freqtrade", target, written)


def _frame(rows: UniqueRows, found: StreamCoverage) -> pl.DataFrame:
    """Read the rows of a file, with its columns."""
    stream = found.stream
    feed = rows.engine.feed(stream.market, stream.data_type)
    if stream.data_type is DataType.FUNDING_RATE:
        values = {"open": "last_funding_rate"}
    else:
        values = {name: name for name in _PRICES}
    frame = rows.read(feed, found.selection, columns=[*values.values()])
    if frame.is_empty():
        raise CoverageError(f"nothing to export: no row of {found.describe()} can be trusted")
    return frame.select(
        pl.col(feed.time).dt.cast_time_unit("ms").alias("date"),
        *(
            (pl.col(values[name]) if name in values else pl.lit(0.0)).cast(pl.Float64).alias(name)
            for name in _PRICES
        ),
    )
