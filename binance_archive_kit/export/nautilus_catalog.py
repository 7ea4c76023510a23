"""`bak.to_nautilus`: bars and trade ticks in a catalogue of nautilus_trader."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from binance_archive_kit.archive.enums import (
    DataType,
    Interval,
    Market,
    read_interval,
    read_market,
    read_names,
)
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.archive.schemas import read_feed
from binance_archive_kit.archive.symbols import split_symbols
from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.errors import (
    ConfigurationError,
    MissingExtraError,
    StoreError,
    arguments,
    disk_error,
    field_error,
)
from binance_archive_kit.export.engine_export import EngineExport, Written
from binance_archive_kit.export.exact_rows import ExactRows, Observed, observe, time_of
from binance_archive_kit.export.gap_check import OnGap, check_gaps, open_source
from binance_archive_kit.export.nautilus_objects import (
    SOURCE,
    STREAM_FOLDERS,
    Definition,
    Maker,
    check_limits,
    maker_of,
)
from binance_archive_kit.export.sidecar import SUFFIX, StreamCoverage
from binance_archive_kit.export.symbol_choice import choose_symbols, leave_out
from binance_archive_kit.export.target_folder import check_target, locked, temporary_in
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.open_store import Source
from binance_archive_kit.suggestions import check_word, unknown
from binance_archive_kit.timestamps import to_datetime

_MARKETS = (Market.SPOT, Market.FUTURES_UM, Market.FUTURES_CM)
_TRADES = (DataType.TRADES, DataType.AGG_TRADES)
#: Rows of a file: each is an object of about 300 bytes while it is written.
_ROWS = 500_000
_ONE_DAY = timedelta(days=1)


@arguments(store="source", interval="intervals", universe="symbols")
def to_nautilus(
    source: Source,
    catalog_path: str | Path,
    *,
    market: str = "spot",
    symbols: str | Iterable[str],
    intervals: str | Iterable[str] | None = None,
    trades: str | None = None,
    start: str | date | None = None,
    end: str | date | None = None,
    on_gap: OnGap = "raise",
    **options: Any,
) -> EngineExport:
    """Write bars and trade ticks to a catalogue of nautilus_trader.

    Needs the ``nautilus`` extra, and Python 3.12 or later. Shows its progress.

    Parameters
    ----------
    source : str, Path or OpenStore
    catalog_path : str or Path
        The folder of a ``ParquetDataCatalog``; created if it is missing.
    market : {"spot", "futures_um", "futures_cm"}
    symbols : str or iterable of str
        Names, and patterns such as ``"*USDT"``. Symbols that match a pattern, and whose base asset
        is unknown, are left out with a warning.
    intervals : str or iterable of str, optional
        Of the candles to write as bars. nautilus_trader has none of ``3d``.
    trades : {"trades", "aggTrades"}, optional
        Which trades to write as ticks. One of `intervals` and `trades` is needed.
    start, end : str or date, optional
        First and last UTC day, both inclusive; by default those of each stream in the store.
    on_gap : {"raise", "warn", "mark"}
        What to do about data that are missing, invalid or doubtful: raise an error before
        anything is written, or warn. A catalogue has no room for a mark, so that ``"mark"`` is
        as ``"warn"``. Nothing is filled in. Known halts only warn.
    **options
        As for `store`. Rows are read as exact decimals in any case.

    Returns
    -------
    EngineExport
        A row per stream; ``file`` is its folder in the catalogue.

    Raises
    ------
    MissingExtraError
        If nautilus_trader is not installed.
    ConfigurationError
        If an argument is invalid, the store has no such rows, a symbol has no instrument, a value
        is larger or finer than nautilus_trader holds, or rows in the catalogue would be lost.
    CoverageError
        If a stream has no row on these days, or `on_gap` is "raise" and data are missing, invalid
        or doubtful.
    FileError
        As for `load_klines`.
    StoreError, DiskSpaceError
        If the folder cannot be written, has other files where these belong, or another export
        to it is at work.

    Notes
    -----
    Bars are stamped at their *close*, ``ts_event`` = ``ts_init`` = open time + interval, when all
    of a candle is known. nautilus_trader expects it so; a bar stamped at its open would let a
    strategy see an interval ahead. Ticks have the time of the trade, its number as ``trade_id``,
    and ``SELLER`` as aggressor if the buyer was the maker. Values are written exactly.

    Instruments are called as by nautilus_trader's adapter (``BTCUSDT.BINANCE``,
    ``BTCUSDT-PERP.BINANCE``): spot symbols are a ``CurrencyPair``, perpetuals a
    ``CryptoPerpetual``, contracts with a delivery day a ``CryptoFuture``. Those of COIN-M are
    inverse; their volume is in contracts, and ``multiplier`` is the dollars in one. Tick
    sizes of the past are not published: precisions and increments are as *observed* in the
    exported rows, and ``info`` of the instrument says so. Fees, margins and limits are not
    set. An instrument that is in the catalogue already is kept if it is as precise as the rows.

    An export replaces what an earlier one has written of a stream, and refuses to if the earlier
    one has days that it does not have. Beside the files of a stream, ``….coverage.json``
    describes it. An export that was killed may be run again.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> bak.to_nautilus(
    ...     "data/research", "catalog", symbols="BTCUSDT", intervals="1m"
    ... )  # doctest: +SKIP
    >>> ParquetDataCatalog("catalog").bars()  # doctest: +SKIP
    """
    known_market = read_market(market)
    check_word("market", known_market, _MARKETS)
    engine = _exact(open_source(source, on_gap, options))
    folder = check_target("catalog_path", catalog_path, engine.root)
    given = read_names("symbols", symbols)
    streams = [
        Stream(known_market, data_type, name, length)
        for data_type, length in _feeds(known_market, intervals, trades)
        for name in choose_symbols(
            engine, engine.feed(known_market, data_type), length, given, None, None
        ).stored
    ]
    definitions = _define(engine, known_market, streams, given)
    if find_spec("nautilus_trader") is None:
        this = ".".join(map(str, sys.version_info[:2]))
        raise MissingExtraError(
            "nautilus", f"to_nautilus (on Python 3.12 or later, this is {this})"
        )
    streams = [stream for stream in streams if stream.symbol in definitions]
    checked = check_gaps(engine, streams, start, end, on_gap)
    try:
        with locked(folder), temporary_in(folder) as temporary:
            export = _Export(engine, folder, temporary)
            return export.run(definitions, list(checked.values()))
    except OSError as error:
        raise disk_error(error, folder) from None


def _exact(engine: Engine) -> Engine:
    """Return an engine that reads decimals."""
    if engine.options.decimals:
        return engine
    return Engine(engine.root, replace(engine.options, decimals=True))


def _feeds(
    market: Market, intervals: str | Iterable[str] | None, trades: str | None
) -> list[tuple[DataType, Interval | None]]:
    """Return the data types and intervals to export."""
    feeds: list[tuple[DataType, Interval | None]] = []
    for word in () if intervals is None else read_names("intervals", intervals):
        if (length := read_interval(word)) is Interval.D3:
            raise field_error("intervals", "nautilus_trader has no bars of 3d; choose 1d or 1w")
        feeds.append((DataType.KLINES, length))
    if trades is not None:
        try:
            _, data_type = read_feed(market, trades)
        except ConfigurationError:
            data_type = DataType.KLINES
        if data_type not in _TRADES:
            raise ConfigurationError(unknown("trades", trades, _TRADES))
        feeds.append((data_type, None))
    if not feeds:
        raise field_error("intervals", "give intervals= for bars, trades= for ticks, or both")
    return list(dict.fromkeys(feeds))


def _define(
    engine: Engine, market: Market, streams: Iterable[Stream], given: Sequence[str]
) -> dict[str, Definition]:
    """Return the definition of each symbol's instrument; leave out symbols without one.

    Raises
    ------
    ConfigurationError
        If a symbol that is given by name has none.
    """
    stored = {
        folder.symbol
        for data_type in (DataType.KLINES, *_TRADES)
        for folder in engine.names(engine.feed(market, data_type))
    }
    # All symbols help to divide an ambiguous one.
    parts = split_symbols(market, stored)
    names = sorted({stream.symbol for stream in streams})
    definitions = {name: Definition(market, name, parts[name]) for name in names}
    problems = {name: each.problem for name, each in definitions.items()}
    kept = leave_out(problems, given, "nautilus_trader")
    return {name: definitions[name] for name in kept}


class _Place(NamedTuple):
    """A stream, and the path of its folder inside the catalogue."""

    coverage: StreamCoverage
    folder: str


class _Export:
    """One export to a catalogue, by the only one at work.

    Parameters
    ----------
    engine : Engine
        Reads decimals.
    target, temporary : Path
        The catalogue, and a folder in it for files that are not complete.
    """

    def __init__(self, engine: Engine, target: Path, temporary: Path) -> None:
        self._engine = engine
        self._target = target
        self._new = temporary / "new"
        self._old = temporary / "old"

    def run(
        self, definitions: Mapping[str, Definition], coverages: Iterable[StreamCoverage]
    ) -> EngineExport:
        """Write the streams, one symbol after the other."""
        places = [
            _Place(each, definitions[each.stream.symbol].folder(each.stream)) for each in coverages
        ]
        for place in places:
            _check_replaced(self._target / place.folder, place.coverage)
        progress = Progress()
        progress.begin("writing to the catalogue", len(places), unit="streams")
        written: list[Written] = []
        with Bar(progress) as bar:
            for name, definition in definitions.items():
                own = [place for place in places if place.coverage.stream.symbol == name]
                written += self._write_symbol(definition, own, bar.tick)
                progress.done += len(own)
                bar.update()
        return EngineExport.of("nautilus_trader", self._target, written)

    def _write_symbol(
        self, definition: Definition, places: Sequence[_Place], tick: Callable[[], None]
    ) -> list[Written]:
        """Write the instrument and the streams of a symbol, then put them in their places."""
        rows = [ExactRows(self._engine, place.coverage) for place in places]
        observed = observe(rows, tick)
        check_limits(definition.symbol, observed)
        catalog = _catalog(self._new)
        instrument = self._kept(definition, observed, places)
        if instrument is None:
            instrument = definition.instrument(observed)
            catalog.write_data([instrument])
        written = []
        for place, exact in zip(places, rows, strict=True):
            make = maker_of(definition, place.coverage.stream, instrument)
            count, first, last = _write_rows(catalog, exact, make, tick)
            _describe(self._new / place.folder, place.coverage, count, instrument)
            written.append(Written(place.folder, place.coverage, count, first, last))
        self._put()
        return written

    def _kept(
        self, definition: Definition, observed: Observed, places: Sequence[_Place]
    ) -> Any | None:
        """Return the instrument that the catalogue has already, if it is to be kept.

        Raises
        ------
        StoreError
            If it is less precise than the rows, and others depend on it.
        """
        found = _catalog(self._target).instruments(instrument_ids=[definition.id])
        if not found:
            return None
        known = found[-1]
        places_of = known.price_precision, known.size_precision
        needed = observed.price_places, observed.size_places
        if all(has >= needs for has, needs in zip(places_of, needed, strict=True)):
            return known
        replaced = {place.folder for place in places}
        folders = (path.relative_to(self._target) for path in self._target.glob("data/*/*"))
        others = [
            folder.as_posix()
            for folder in folders
            if folder.parent.name in STREAM_FOLDERS
            and (folder.name == definition.id or folder.name.startswith(f"{definition.id}-"))
            and folder.as_posix() not in replaced
        ]
        if others or (known.info or {}).get("source") != SOURCE:
            raise StoreError(
                f"{self._target}: the instrument {definition.id} has {places_of[0]} decimal places "
                f"of prices and {places_of[1]} of sizes, and these rows have {needed[0]} and "
                f"{needed[1]}; export all of its streams together, or choose another folder"
            )
        return None

    def _put(self) -> None:
        """Put the written folders in their places; older ones of the same names go first.

        A process that is killed in between leaves no old stream beside a new instrument, as they
        may differ in precision.
        """
        folders = [path.relative_to(self._new) for path in self._new.glob("data/*/*")]
        for number, folder in enumerate(folders):
            if (self._target / folder).exists():
                self._old.mkdir(exist_ok=True)
                (self._target / folder).rename(self._old / str(number))
        for folder in sorted(folders, key=lambda folder: folder.parent.name in STREAM_FOLDERS):
            path = self._target / folder
            path.parent.mkdir(parents=True, exist_ok=True)
            (self._new / folder).rename(path)
        shutil.rmtree(self._new)
        shutil.rmtree(self._old, ignore_errors=True)


def _catalog(folder: Path) -> Any:
    from nautilus_trader.persistence.catalog import ParquetDataCatalog

    return ParquetDataCatalog(str(folder.absolute()))


class _Note(NamedTuple):
    """What an earlier export has noted of a stream: its UTC days, both inclusive, and its files."""

    first: date
    last: date
    files: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> _Note:
        """Read the JSON beside the files of a stream.

        Raises
        ------
        StoreError
            If it is damaged.
        """
        try:
            note = json.loads(path.read_bytes())
            first, end = (datetime.fromisoformat(note[name]).date() for name in ("start", "end"))
            return cls(first, end - _ONE_DAY, tuple(note["files"]))
        except (ValueError, TypeError, KeyError):
            raise StoreError(
                f"{path} is damaged, so the days beside it are not known; move its folder away, or "
                "choose another one"
            ) from None


def _check_replaced(folder: Path, coverage: StreamCoverage) -> None:
    """Raise an error if files would be lost that this export does not write again.

    Raises
    ------
    ConfigurationError
        If an earlier export of the stream has other days.
    StoreError
        If files are not of an export.
    """
    if not folder.exists():
        return
    notes = [_Note.read(path) for path in folder.glob(f"*{SUFFIX}")]
    listed = {name for note in notes for name in note.files}
    if strange := sorted(path.name for path in folder.glob("*.parquet") if path.name not in listed):
        raise StoreError(
            f"{folder / strange[0]} is not a file of an export; move it away, or choose another "
            "folder"
        )
    for note in notes:
        first, last = min(note.first, coverage.first), max(note.last, coverage.last)
        if (first, last) != (coverage.first, coverage.last):
            raise field_error(
                "start",
                f"the catalogue has {coverage.stream} of {note.first} to {note.last}, and this "
                f'export would replace it; for all days give start="{first}", end="{last}", or '
                "choose another folder",
            )


def _write_rows(
    catalog: Any, rows: ExactRows, make: Maker, tick: Callable[[], None]
) -> tuple[int, datetime, datetime]:
    """Write the rows of a stream; return their number, and the stamps of the first and the last."""
    count, stamps = 0, []
    for frame in _cut(rows, time_of(rows.stream)):
        made = make(frame)
        catalog.write_data(made)
        count += len(made)
        stamps += [to_datetime(made[0].ts_event // 1_000), to_datetime(made[-1].ts_event // 1_000)]
        tick()
    return count, stamps[0], stamps[-1]


def _cut(frames: Iterable[pl.DataFrame], time: str) -> Iterator[pl.DataFrame]:
    """Join and cut frames to about as many rows as a file has; rows of one time stay together."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        if sum(each.height for each in held) < _ROWS:
            continue
        rest = pl.concat(held)
        while rest.height >= _ROWS:
            # The catalogue rejects files that share a time.
            end = int(rest[time].search_sorted(rest[time][_ROWS - 1], side="left"))
            end = end or int(rest[time].search_sorted(rest[time][0], side="right"))
            if end == rest.height:
                break
            yield rest.head(end)
            rest = rest.slice(end)
        held = [rest]
    if held and (last := pl.concat(held)).height:
        yield last


def _describe(folder: Path, coverage: StreamCoverage, rows: int, instrument: Any) -> None:
    """Write the coverage of a stream into its folder, and its files down to the disk."""
    files = sorted(folder.glob("*.parquet"))
    for path in files:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    name = f"{files[0].stem.partition('_')[0]}_{files[-1].stem.partition('_')[2]}.parquet{SUFFIX}"
    more = {"files": [path.name for path in files], "instrument": instrument.info}
    coverage.write(folder / name, rows, more)
