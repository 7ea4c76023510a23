"""Build a plan from requests, listing and inventory. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from operator import itemgetter

import polars as pl

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import (
    Folder,
    Span,
    Stream,
    delivery_of,
    parse_period,
    period_end,
    spell_period,
)
from binance_archive_kit.archive.listing import Listed, StreamListing
from binance_archive_kit.archive.matrix import (
    Confidence,
    Matrix,
    PartitionAvailability,
    WrongSymbolError,
)
from binance_archive_kit.errors import nearest
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Action, Plan
from binance_archive_kit.planning.requests import FolderRequest, Requests


class Lives:
    """Until when each symbol has files, as far as the archive was asked.

    A stream that stops is no delisting while another interval, partition or data type of the
    symbol goes on; nor when every symbol that was asked for stops at once, for then the archive
    may have stopped publishing.

    Parameters
    ----------
    listing : mapping of Folder to StreamListing
        What was listed, for whatever reason.
    """

    def __init__(self, listing: Mapping[Folder, StreamListing]) -> None:
        self._symbols: dict[Market, dict[str, tuple[date, Folder]]] = {}
        self._first: dict[tuple[str, ...], tuple[date, Folder]] = {}
        for folder, here in listing.items():
            if folder.interval not in _LONG and (
                period := here.first or min(here.objects, default=None)
            ):
                begun = parse_period(period, folder.partition), folder
                kin = _kin(folder)
                self._first[kin] = min(self._first.get(kin, begun), begun, key=itemgetter(0))
            last = _last_day(folder, here)
            symbols = self._symbols.setdefault(folder.market, {})
            symbol = _contract(folder)
            if symbol not in symbols or symbols[symbol][0] < last:
                symbols[symbol] = last, folder
        #: The two symbols of each market that last longest: a plan asks for each absent period.
        self._longest = {
            market: sorted(symbols.values(), key=lambda each: each[0], reverse=True)[:2]
            for market, symbols in self._symbols.items()
        }

    def of(self, folder: Folder) -> tuple[date, Folder]:
        """Return the last day of a stream's symbol, UTC, and the stream that has it."""
        return self._symbols[folder.market][_contract(folder)]

    def earlier(self, folder: Folder, day: date) -> Folder | None:
        """Return another interval of the same candles that has files of a day, or earlier ones."""
        if folder.interval in _LONG:
            # A month of few days may have no candle as long.
            return None
        first, other = self._first.get(_kin(folder), (date.max, folder))
        return other if other != folder and first <= day else None

    def others(self, folder: Folder) -> tuple[date, Folder] | None:
        """Return the same for the symbol of this market that lasts longest, but for its own."""
        own = _contract(folder)
        longest = self._longest[folder.market]
        return next((each for each in longest if _contract(each[1]) != own), None)


def _last_day(folder: Folder, here: StreamListing) -> date:
    """Return the last day (UTC) of which a stream is known to have rows.

    Of a month only that it began: a symbol may end in the middle of it.
    """
    if not here.ends:
        return date.max if here.objects or here.first else date.min
    if not here.objects:
        return date.min
    return parse_period(max(here.objects), folder.partition)


#: Candles longer than a day.
_LONG = (Interval.D3, Interval.W1, Interval.MO1)


def _kin(folder: Folder) -> tuple[str, ...]:
    """Name what the intervals of some candles have in common."""
    return folder.market, folder.data_type, folder.partition, folder.symbol


def _contract(folder: Folder) -> str:
    """Name what is traded: COIN-M index candles are filed under the pair."""
    return folder.symbol.removesuffix("_PERP")


#: Candles that every traded symbol has, as witnesses that it is traded.
_WITNESSES = (Interval.M1, Interval.H1, Interval.D1)


def witnesses(
    requests: Sequence[FolderRequest],
    listing: Mapping[Folder, StreamListing],
    matrix: Matrix,
    now: datetime,
) -> list[FolderRequest]:
    """Choose streams to list besides, to tell a delisted symbol from a stream that stops.

    Parameters
    ----------
    requests : sequence of FolderRequest
    listing : mapping of Folder to StreamListing
        What the archive has of them.
    matrix : Matrix
    now : datetime
        The present, naive UTC.

    Returns
    -------
    list of Wish
        None where what was listed already tells.
    """
    lives = Lives(listing)
    found: dict[Folder, FolderRequest] = {}
    for request in requests:
        folder, end = request.folder, request.spans[-1][1]
        here = listing.get(folder)
        if here is None or not here.ends or not (here.objects or here.first):
            continue
        last, _ = lives.of(folder)
        if last >= end:
            continue
        start = max(request.spans[0][0], last + timedelta(days=1))
        if now < matrix.published_at(start, folder.partition):
            continue
        other = lives.others(folder)
        symbols = [folder.symbol]
        if other is None or other[0] < end:
            symbols += matrix.symbols.get(folder.market, ())[:2]
        for symbol in symbols:
            for each, facts in _traded(folder.market, symbol, matrix):
                if each not in listing:
                    first = start if each.partition is Partition.DAILY else start.replace(day=1)
                    days = first, period_end(end, each.partition)
                    found.setdefault(each, FolderRequest(each, (days,), facts))
    return [*found.values()]


def _traded(
    market: Market, symbol: str, matrix: Matrix
) -> Iterator[tuple[Folder, PartitionAvailability]]:
    """Return streams that a symbol has as long as it is traded."""
    options = market is Market.OPTIONS
    data_type = DataType.BVOL_INDEX if options else DataType.KLINES
    feed = matrix.feed(market, data_type)
    if feed is None:
        return
    if market is Market.FUTURES_CM and "_" not in symbol:
        symbol = f"{symbol}_PERP"
    try:
        symbol = matrix.archive_symbol(feed, symbol)
    except WrongSymbolError:
        return
    for partition, facts in feed.partitioned.items():
        for interval in (None,) if options else _WITNESSES:
            yield Folder(Stream(market, data_type, symbol, interval), partition), facts


class _Rows:
    """Objects of the plan, gathered column by column; a million of them fit."""

    def __init__(self) -> None:
        self._chunks: list[pl.DataFrame] = []
        self._streams: list[Folder] = []
        self._columns: dict[str, list[object]] = {}
        self._clear()

    def _clear(self) -> None:
        names = ("key", "stream", "start", "size", "etag", "last_modified", "checksum")
        self._columns = {name: [] for name in names}

    def extend(
        self, folder: Folder, found: Sequence[tuple[str, date]], listed: Sequence[Listed] | None
    ) -> None:
        """Add the objects of one stream: period and first day of each, and its listing."""
        columns, count = self._columns, len(found)
        head = f"{folder.prefix}{folder.stem}"
        columns["key"] += [f"{head}{period}.zip" for period, _ in found]
        columns["stream"] += [len(self._streams)] * count
        columns["start"] += [start for _, start in found]
        for name in ("size", "etag", "last_modified", "checksum"):
            columns[name] += (
                [None] * count if listed is None else [getattr(each, name) for each in listed]
            )
        self._streams.append(folder)
        if len(columns["key"]) >= 50_000:
            self._flush()

    def _flush(self) -> None:
        schema = {name: PLAN_SCHEMA.get(name, pl.UInt32) for name in self._columns}
        self._chunks.append(pl.DataFrame(self._columns, schema=schema))
        self._clear()

    def frame(self) -> pl.DataFrame:
        """Put all rows into one frame, without action and reason."""
        self._flush()
        streams = pl.DataFrame(
            {
                name: [getattr(folder, name) for folder in self._streams]
                for name in ("market", "data_type", "partition", "symbol", "interval")
            },
            schema={
                name: PLAN_SCHEMA[name]
                for name in ("market", "data_type", "partition", "symbol", "interval")
            },
        ).with_row_index("stream")
        monthly = pl.col("partition") == Partition.MONTHLY.value
        return (
            pl.concat(self._chunks)
            .join(streams, on="stream", how="left", maintain_order="left")
            .with_columns(
                pl.when(monthly)
                .then(pl.col("start").dt.month_end())
                .otherwise(pl.col("start"))
                .alias("end")
            )
            .select(name for name in PLAN_SCHEMA if name not in ("action", "reason"))
        )


def make_plan(
    config: CollectionConfig,
    asked: Requests,
    listing: Mapping[Folder, StreamListing] | None,
    inventory: pl.DataFrame,
    matrix: Matrix,
    now: datetime,
    known_symbols: Mapping[str, Sequence[str]] | None = None,
    witnesses: Mapping[Folder, StreamListing] | None = None,
) -> Plan:
    """Hold what is asked for against what the archive and the store have.

    Parameters
    ----------
    config, asked : CollectionConfig, Wishes
    listing : mapping of Folder to StreamListing, or None
        What the archive has; None plans from the matrix alone.
    inventory : polars.DataFrame
        What the store has, with `INVENTORY_SCHEMA`.
    matrix : Matrix
    now : datetime
        The present, naive UTC.
    known_symbols : mapping of str to sequence of str, optional
        Symbols the archive has, by the parent prefix of the stream.
    witnesses : mapping of Folder to StreamListing, optional
        What the archive has of streams that were not asked for, see `witnesses`.
    """
    rows = _Rows()
    lives = Lives({**(listing or {}), **(witnesses or {})})
    unavailable = list(asked.unavailable)
    missing: list[Absence] = []
    pending: list[Absence] = []
    spelled: dict[tuple[tuple[Span, ...], Partition], list[tuple[str, date]]] = {}
    for request in asked.requests:
        folder = request.folder
        key = (request.spans, folder.partition)
        if key not in spelled:
            spelled[key] = [(spell_period(s, folder.partition), s) for s in request.starts()]
        wanted = spelled[key]
        if listing is None:
            found = [each for each in wanted if _may_exist(each[1], request, now)]
            rows.extend(folder, found, None)
            absent = [each for each in wanted if not _may_exist(each[1], request, now)]
            here = StreamListing()
        else:
            here = listing.get(folder, StreamListing())
            found = [each for each in wanted if each[0] in here.objects]
            rows.extend(folder, found, [here.objects[period] for period, _ in found])
            absent = [each for each in wanted if each[0] not in here.objects]
        for absence in _absences(request, absent, here, matrix, now, known_symbols or {}, lives):
            match absence.reason:
                case Reason.ABSENT | Reason.AFTER_LAST | Reason.OTHER_NAME:
                    missing.append(absence)
                case Reason.NOT_PUBLISHED:
                    pending.append(absence)
                case _:
                    unavailable.append(absence)
    return Plan(
        config=config,
        frame=decide(rows.frame(), inventory, config),
        unavailable=tuple(unavailable),
        missing=tuple(missing),
        not_published=tuple(pending),
        notes=(*asked.warnings, *asked.notes),
    )


def _may_exist(start: date, request: FolderRequest, now: datetime) -> bool:
    """Tell from the matrix alone whether the period that begins on `start` can be there."""
    facts, partition = request.facts, request.folder.partition
    end = period_end(start, partition)
    return (
        (facts.first is None or end >= facts.first)
        and (facts.last is None or start <= facts.last)
        and end < now.date()
    )


def _absences(
    request: FolderRequest,
    absent: Sequence[tuple[str, date]],
    here: StreamListing,
    matrix: Matrix,
    now: datetime,
    known_symbols: Mapping[str, Sequence[str]],
    lives: Lives,
) -> Iterator[Absence]:
    """Give each absent period its word, joining those that cannot exist into runs."""
    if not absent:
        return
    folder, facts = request.folder, request.facts
    name = f"{folder.market.title} {folder.data_type}"
    last_here = max(here.objects, default="")
    gaps = facts.gaps
    lost = here.probed and here.first is None
    known = known_symbols.get(folder.parent, ())

    def word(period: str, start: date) -> tuple[Reason, str]:
        end = period_end(start, folder.partition)
        if period in here.misnamed:
            return Reason.OTHER_NAME, (
                f"the archive has it under another name, {here.misnamed[period]}, which is not "
                "fetched; download that object and its checksum by hand, and save the zip as "
                f"{folder.key(period).rpartition('/')[2]}"
            )
        if facts.last is not None and start > facts.last:
            doubtful = facts.confidence is Confidence.HEARSAY
            return Reason.ENDED, f"{name} ended {'about' if doubtful else 'on'} {facts.last}"
        if facts.first is not None and end < facts.first:
            return Reason.NOT_BEGUN, f"{name} begins on {facts.first}"
        if lost and folder.symbol not in known:
            guess = nearest(folder.symbol, known)
            hint = f"; did you mean {guess!r}?" if guess else ""
            return Reason.UNKNOWN_SYMBOL, f"the archive has no {name} of this symbol{hint}"
        if now < matrix.published_at(start, folder.partition) and period > last_here:
            return Reason.NOT_PUBLISHED, "not published yet"
        if lost:
            return Reason.BEFORE_FIRST, "the archive has no file of this symbol and interval"
        if here.probed and here.first is not None and period < here.first:
            said = f"the archive's first file of it is of {here.first}"
            earlier = lives.earlier(folder, start)
            if earlier is not None:
                said += f", though {_spoken(earlier)} begins earlier"
            return Reason.BEFORE_FIRST, said
        if any(first <= start <= last for first, last in gaps):
            return Reason.ABSENT, "the archive lacks it, a known gap"
        if here.ends and period > last_here and facts.has_ended:
            last = f": the archive's last file of it is of {last_here}" if last_here else ""
            return Reason.ENDED, f"{name} has ended{last}"
        if here.ends and period > last_here:
            last = f"is of {last_here}" if last_here else "lies before these days"
            return _after_last(folder, start, f"the archive's last file of it {last}", lives)
        return Reason.ABSENT, "the archive lacks it"

    run: Absence | None = None
    for period, start in absent:
        reason, detail = word(period, start)
        end = period_end(start, folder.partition)
        itself = reason in _OF_ONE_FILE
        if run is not None and not itself and (run.reason, run.detail) == (reason, detail):
            start = run.start
        elif run is not None:
            yield run
        run = Absence(
            folder.market,
            folder.data_type,
            reason,
            detail,
            start,
            end,
            folder.symbol,
            folder.interval and str(folder.interval),
            folder.partition,
            folder.key(period) if itself else None,
        )
        if itself:
            yield run
            run = None
    if run is not None:
        yield run


#: Reasons that are given for each file by itself.
_OF_ONE_FILE = (Reason.ABSENT, Reason.OTHER_NAME, Reason.AFTER_LAST, Reason.NOT_PUBLISHED)


def _after_last(folder: Folder, start: date, said: str, lives: Lives) -> tuple[Reason, str]:
    """Return why a period after the last file of a stream is absent: delisted, or missing."""
    last, longest = lives.of(folder)
    if last >= start:
        return Reason.ABSENT, f"{said}, though {_spoken(longest)} goes on"
    delivery = delivery_of(folder.symbol)
    if delivery is not None and delivery < start:
        return Reason.AFTER_LAST, f"{said}; the contract was delivered on {delivery}"
    other = lives.others(folder)
    if other is not None and other[0] >= start:
        return Reason.AFTER_LAST, f"{said}; delisted?"
    return (
        Reason.ABSENT,
        f"{said}, and no other symbol of {folder.market.title} is known to go on: the archive "
        "may have stopped publishing",
    )


def _spoken(folder: Folder) -> str:
    return " ".join(
        filter(None, (folder.symbol, folder.data_type, folder.interval, f"({folder.partition})"))
    )


def decide(
    objects: pl.DataFrame, inventory: pl.DataFrame, config: CollectionConfig
) -> pl.DataFrame:
    """Give every object its action and the reason for it.

    The first line that fits decides::

        file on disk       proof recorded          archive against proof   action
        no                 .                       .                       download  new
        yes                .                       . (force, no resume)    update    forced
        yes, other size    yes                     another ETag            update    re-issued
        yes, other size    .                       .                       update    size differs
        yes                none                    .                       keep      to be proven
        yes                by less than asked for  .                       keep      to be proven
        yes                without an ETag         an ETag                 keep      to be proven
        yes, other stamp   of another size         .                       keep      to be proven
        yes, other stamp   yes                     another ETag            keep      to be proven
        yes, other stamp   yes                     the same, or not asked  keep      to be hashed
        yes                yes                     another ETag            update    re-issued
        yes                yes                     the same, or not asked  keep      proven

    ``to be proven`` files are held against the archive's digest during collection,
    and fetched again if they do not match. ``to be hashed`` files were copied, restored or
    linked since they were proven: those whose bytes are still the recorded ones are proven,
    the others are treated as ``to be proven``.

    Parameters
    ----------
    objects : polars.DataFrame
        Rows of `PLAN_SCHEMA` without action and reason.
    inventory : polars.DataFrame
        Rows of `INVENTORY_SCHEMA`.
    config : CollectionConfig
    """
    forced = pl.lit(config.force_redownload or not config.enable_resume)
    size = pl.coalesce("size", "file_size")
    unchanged = pl.col("unchanged")
    moved = ~unchanged & (pl.col("file_size") == pl.col("proven_size"))
    strong = pl.lit(not config.download_checksum) | (pl.col("proven_by") == "sha256")
    if config.accept_stale_checksum:
        strong |= pl.col("proven_by") == "stale"
    # Null where either is not known, which fits no rule.
    reissued = pl.col("etag") != pl.col("proven_etag")
    compared = pl.col("etag").is_null() | pl.col("proven_etag").is_not_null()
    rule = (
        pl.when(pl.col("file_size").is_null())
        .then(pl.lit("new"))
        .when(forced)
        .then(pl.lit("forced"))
        .when(pl.col("file_size") != size)
        .then(
            pl.when(reissued & unchanged)
            .then(pl.lit("re-issued"))
            .otherwise(pl.lit("size differs"))
        )
        .when(moved & strong & compared & ~reissued.fill_null(False))
        .then(pl.lit("to be hashed"))
        .when(~unchanged.fill_null(False) | ~strong.fill_null(False) | ~compared)
        .then(pl.lit("to be proven"))
        .when(reissued)
        .then(pl.lit("re-issued"))
        .otherwise(pl.lit("proven"))
    )
    actions = {
        "new": Action.DOWNLOAD,
        "forced": Action.UPDATE,
        "size differs": Action.UPDATE,
        "re-issued": Action.UPDATE,
        "to be proven": Action.KEEP,
        "to be hashed": Action.KEEP,
        "proven": Action.KEEP,
    }
    return (
        objects.join(inventory, on="key", how="left", maintain_order="left")
        .with_columns(rule.alias("reason"))
        .with_columns(
            pl.col("reason")
            .replace_strict(actions, return_dtype=PLAN_SCHEMA["action"])
            .alias("action")
        )
        .select(PLAN_SCHEMA.names())
    )
