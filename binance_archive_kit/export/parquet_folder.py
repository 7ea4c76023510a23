"""`bak.to_parquet`: a store as a folder of Parquet files, for any other engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from binance_archive_kit.archive.enums import Interval, read_interval, read_names
from binance_archive_kit.display import render
from binance_archive_kit.display.progress import Bar, Progress
from binance_archive_kit.errors import (
    ConfigurationError,
    DiskSpaceError,
    StoreError,
    arguments,
    disk_error,
    field_error,
)
from binance_archive_kit.export.footers import (
    Footer,
    Verdict,
    metadata_of,
    read_footer,
    settings_of,
)
from binance_archive_kit.export.month_folders import MonthFolder, find_folders
from binance_archive_kit.export.month_writer import Job, grouped, write_months
from binance_archive_kit.export.result import (
    FILES_SCHEMA,
    KEPT,
    REMOVED,
    WRITTEN,
    ParquetExport,
)
from binance_archive_kit.export.source_list import SourceList
from binance_archive_kit.export.sources import MonthSources, find_sources
from binance_archive_kit.export.target_folder import check_target, locked, temporary_in
from binance_archive_kit.export.verdicts import judge
from binance_archive_kit.planning.selection import named
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.query.open_store import Source, open_engine
from binance_archive_kit.query.polars_scan import Moment, parse_selection
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.feed_table import FeedTable
from binance_archive_kit.suggestions import unknown


@arguments(store="source", interval="intervals")
def to_parquet(
    source: Source,
    target: str | Path,
    market: str | None = None,
    data_type: str | None = None,
    *,
    symbols: str | Iterable[str] | None = None,
    intervals: str | Iterable[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    **options: Any,
) -> ParquetExport:
    """Write the rows of a store as Parquet files, in folders that other engines know.

    A file is ``market=spot/data_type=klines/interval=1d/month=2025-07/part-0.parquet`` (without
    the level ``interval`` for feeds that have none), sorted by symbol and time, compressed with
    zstd. Its columns are those of `scan` except ``market`` and ``interval``; times are UTC
    timestamps in microseconds.

    Only the folders that the arguments select are touched. A file whose sources are unchanged is
    kept, another one is replaced in one step, and one without rows in the store any more is
    removed. An export that was interrupted, in whatever way, is completed by the next one. Files
    of others are never touched. Shows its progress.

    Parameters
    ----------
    source : str, Path or OpenStore
    target : str or Path
        A folder outside the store; created if it is missing.
    market, data_type : str, optional
        Only these feeds; all by default.
    symbols : str or iterable of str, optional
        Names, and patterns such as ``"*USDT"``; all by default. The files have these symbols
        only.
    intervals : str or iterable of str, optional
        Of candles; all by default.
    start, end : str, date or datetime, optional
        Limits of the time column, UTC; as for `scan`. A month that they cut has only the rows
        within.
    **options
        As for `store`.

    Returns
    -------
    ParquetExport
        The files that were written, kept and removed, rows, bytes and the verdict.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, the store has no such files, or the target is in the store.
    FileError
        If a file of the store is invalid, unless ``on_error="skip"`` leaves it out.
    StoreError, DiskSpaceError
        If the target cannot be written, or another export to it is at work.

    Notes
    -----
    The footer of a file has the metadata ``binance_archive_kit.version``, ``….sources`` (number
    of files that may have rows of it), ``….sources_sha256`` (over path, size and digest of each)
    and ``….verdict`` (its coverage when it was written, see `coverage`). ``_sources.parquet`` in
    the target lists the sources of all files, with their digests and numbers of rows.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> bak.to_parquet("data/research", "lake")  # doctest: +SKIP
    """
    engine = open_engine(source, options)
    folder = check_target("target", target, engine.root)
    lengths = (
        None if intervals is None else {*map(read_interval, read_names("intervals", intervals))}
    )
    selections = _select(engine, market, data_type, symbols, lengths, start, end)
    months = [
        month
        for feed, selection in selections.items()
        for month in find_sources(engine, feed, selection)
    ]
    one = next(iter(selections.values()))

    def in_scope(found: MonthFolder) -> bool:
        feed = engine.feed(found.market, found.data_type)
        return (
            feed.matches(market, data_type)
            and (lengths is None or found.interval is None or found.interval in lengths)
            and (one.start is None or found.end > one.start)
            and (one.end is None or found.start < one.end)
        )

    try:
        with locked(folder), temporary_in(folder) as temporary:
            return _Export(engine, folder, temporary).run(months, in_scope)
    except OSError as error:
        raise disk_error(error, folder) from None


def _select(
    engine: Engine,
    market: str | None,
    data_type: str | None,
    symbols: str | Iterable[str] | None,
    intervals: Set[Interval] | None,
    start: Moment | None,
    end: Moment | None,
) -> dict[FeedTable, Selection]:
    """Return the selected rows of each feed that has any files of them."""
    feeds = engine.matching_feeds(market, data_type)
    if not feeds:
        raise field_error("store", f"{engine.root} has no file of the archive; collect some first")
    folders = {feed: engine.names(feed) for feed in feeds}
    known = {folder.symbol for names in folders.values() for folder in names}
    chosen = known if symbols is None else named(read_names("symbols", symbols), known)
    for name in sorted(chosen - known):
        raise ConfigurationError(unknown("symbols", name, sorted(known)))
    stored = {folder.interval for names in folders.values() for folder in names} - {None}
    lengths = stored if intervals is None else intervals
    for length in lengths - stored:
        valid = [each for each in Interval if each in stored]
        raise ConfigurationError(unknown("intervals", length, valid))
    selections = {}
    for feed, names in folders.items():
        own = [
            folder
            for folder in names
            if folder.symbol in chosen and (folder.interval is None or folder.interval in lengths)
        ]
        if own:
            of_interval = {str(folder.interval) for folder in own if folder.interval} or None
            of_symbol = {folder.symbol for folder in own}
            selections[feed] = parse_selection(engine, feed, of_symbol, of_interval, start, end)
    if not selections:
        raise field_error("symbols", "the store has no such files of these symbols and intervals")
    return selections


class _Export:
    """One export to a target, by the only one at work.

    Parameters
    ----------
    engine : Engine
    target : Path
    temporary : Path
        A folder for files that are not complete.
    """

    def __init__(self, engine: Engine, target: Path, temporary: Path) -> None:
        self._engine = engine
        self._target = target
        self._temporary = temporary
        self._list = SourceList(target, temporary / "sources.tmp")
        self._rows: list[dict[str, object]] = []

    def run(
        self, months: Sequence[MonthSources], in_scope: Callable[[MonthFolder], bool]
    ) -> ParquetExport:
        """Write what has changed, remove what is not due, and list the sources."""
        existing = {folder: self._footer(folder) for folder in find_folders(self._target)}
        changed = [month for month in months if self._is_changed(month, existing)]
        self._check_space(changed)
        verdicts = judge(self._engine, changed)
        # Before the first file, so that the sources of each file are listed whenever this ends.
        self._list.add(changed)
        self._write_all([self._job(month, verdicts[month.folder]) for month in changed])
        expected = {month.folder for month in months}
        for folder, footer in existing.items():
            if folder not in expected and footer is not None and in_scope(folder):
                self._remove(folder, footer)
        self._finish_list(months)
        return self._result(self._rows)

    def _is_changed(
        self, month: MonthSources, existing: Mapping[MonthFolder, Footer | None]
    ) -> bool:
        """Return whether a file has to be written; list it as kept if it need not."""
        settings, footer = settings_of(self._engine, month), existing.get(month.folder)
        if footer is None:
            if (self._target / month.folder.file).exists():
                raise StoreError(
                    f"{self._target / month.folder.file} is not a file of an export; "
                    "move it away, or choose another folder"
                )
            return not self._list.is_empty(month, settings)
        if (footer.settings, footer.digest) == (settings, month.digest):
            self._add(KEPT, month.folder, footer)
            return False
        return True

    def _check_space(self, months: Sequence[MonthSources]) -> None:
        """Raise unless the files fit on the disk, one after the other."""
        growth = needed = 0
        for month in months:
            needed = max(needed, growth + month.estimate)
            path = self._target / month.folder.file
            growth += month.estimate - (path.stat().st_size if path.exists() else 0)
        free = shutil.disk_usage(self._target).free
        if free < needed:
            raise DiskSpaceError(
                f"the files need about {render.size(needed)}, and {render.size(free)} are free on "
                f"the disk of {self._target}; free some space, or choose another folder"
            )

    def _job(self, month: MonthSources, verdict: Verdict) -> Job:
        settings = settings_of(self._engine, month)
        footer = Footer(settings, len(month.sources), month.digest, verdict, 0)
        path = self._temporary / f"{month.folder.path.replace('/', '-')}.tmp"
        return Job(month, footer, path)

    def _write_all(self, jobs: Sequence[Job]) -> None:
        """Write files, and put each in place of the one before."""
        progress = Progress()
        progress.begin("writing Parquet", len(jobs), unit="files")
        with Bar(progress) as bar:
            for group in grouped(jobs):
                for job, rows in zip(
                    group, write_months(self._engine, group, bar.tick), strict=True
                ):
                    self._put(job, rows)
                    progress.done += 1
                bar.update()

    def _put(self, job: Job, rows: int) -> None:
        """Put a file in place of the one before; without rows, remove that."""
        folder, footer = job.month.folder, job.footer._replace(rows=rows)
        path = self._target / folder.file
        if rows:
            self._check_folder(path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
            job.path.replace(path)
            self._add(WRITTEN, folder, footer)
        elif path.exists():
            self._remove(folder, footer)
        self._list.set_empty(job.month, footer.settings, empty=not rows)

    def _check_folder(self, folder: Path) -> None:
        """Raise if a link leads out of the target."""
        if not folder.resolve().is_relative_to(self._target.resolve()):
            raise StoreError(f"{folder} is a link that leads out of {self._target}; remove it")

    def _remove(self, folder: MonthFolder, footer: Footer) -> None:
        """Remove a file, and its folders if they are empty then."""
        path = self._target / folder.file
        self._check_folder(path.parent)
        path.unlink(missing_ok=True)
        for parent in path.parents[: len(folder.levels)]:
            with suppress(OSError):
                parent.rmdir()
        self._add(REMOVED, folder, footer)

    def _finish_list(self, months: Sequence[MonthSources]) -> None:
        """List the sources of all files of the target."""
        found = {folder: self._footer(folder) for folder in find_folders(self._target)}
        footers = {folder: footer for folder, footer in found.items() if footer is not None}
        whole = self._result([self._row(KEPT, *each) for each in footers.items()])
        verdict = Verdict(whole.verdict, None, whole.is_complete)
        by_file = {folder.file: footer for folder, footer in footers.items()}
        self._list.finish(months, by_file, verdict)

    def _footer(self, folder: MonthFolder) -> Footer | None:
        return read_footer(self._target / folder.file)

    def _add(self, state: str, folder: MonthFolder, footer: Footer) -> None:
        self._rows.append(self._row(state, folder, footer))

    def _row(self, state: str, folder: MonthFolder, footer: Footer) -> dict[str, object]:
        """Return the row of a file, as in `ParquetExport.files`."""
        size = 0 if state == REMOVED else (self._target / folder.file).stat().st_size
        levels = {"interval": None, **folder.levels}
        return {"file": folder.file, "state": state, "bytes": size, **levels, **metadata_of(footer)}

    def _result(self, rows: Sequence[dict[str, object]]) -> ParquetExport:
        files = pl.DataFrame(rows, schema=FILES_SCHEMA, orient="row")
        return ParquetExport(self._target, files.sort("file"))
