"""Coverage reports: compare the rows that are due with the rows on disk."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from binance_archive_kit.archive.matrix import load_matrix
from binance_archive_kit.errors import field_error
from binance_archive_kit.paths import find_path
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.date_range import read_day
from binance_archive_kit.planning.plan import Plan
from binance_archive_kit.planning.planner import plan
from binance_archive_kit.planning.symbol_lists import UnknownSymbolsError
from binance_archive_kit.quality.backtest import BacktestCoverage
from binance_archive_kit.quality.expected import Expected
from binance_archive_kit.quality.frames import frames_of
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.quality.survey import Survey
from binance_archive_kit.query.engine import Engine, Prefer, ReadOptions
from binance_archive_kit.query.open_store import OpenStore
from binance_archive_kit.storage.places import has_store
from binance_archive_kit.storage.urls import read_place

Source = str | Path | OpenStore | CollectionConfig | Plan


def coverage(
    source: Source,
    *,
    start: str | date | None = None,
    end: str | date | None = None,
    prefer: Prefer = "daily",
) -> CoverageReport:
    """Compare the rows that are due with the rows in a store, and explain every gap.

    Reads each file once and stores its statistics, so that a second report reads only new
    files. Shows its progress.

    Parameters
    ----------
    source : str, Path, OpenStore, CollectionConfig or Plan
        - The folder or URL of a store, or an open store: every stream that was ever collected is
          expected from its first to its last file. Needs no network.
        - A configuration, or the path of its JSON file: its streams and days are expected, as
          far as the archive lists them. Reads the archive's listing; with ``listing=False``,
          patterns of symbols mean those that the last collection has selected with them.
        - A plan: like its configuration, without reading the listing again.
    start, end : str or date, optional
        First and last UTC day of the report, both inclusive. ``"yesterday"`` and ``"-7d"``
        count from today. They can extend the days of a folder, but only narrow those of a
        configuration.
    prefer : {"daily", "monthly"}
        Which file is used where a daily and a monthly file overlap, as for `store`.

    Returns
    -------
    CoverageReport
        Displays itself in a notebook; see its ``gaps``, ``findings`` and ``to_frame()``.

    Raises
    ------
    ConfigurationError
        If the folder does not exist, or a day or a field of the configuration is invalid.
    ListingError
        If a configuration is given and the archive's listing cannot be read.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> report = bak.coverage("data/research")  # doctest: +SKIP
    >>> report.gaps  # doctest: +SKIP
    """
    days = read_day("start", start), read_day("end", end)
    if days[0] and days[1] and days[0] > days[1]:
        raise field_error("start", f"{start} is after end: {end}")
    if isinstance(source, str | Path):
        place = read_place("source", source)
        is_file = isinstance(place, Path) and find_path("source", place).is_file()
        source = CollectionConfig.from_json(place) if is_file else place
    if isinstance(source, CollectionConfig):
        folder = str(source.output_directory)
        try:
            source = plan(source)
        except UnknownSymbolsError as error:
            return CoverageReport(folder, *frames_of([], []), unknown_symbols=str(error))
    options = ReadOptions(prefer=prefer)
    if isinstance(source, Plan):
        root = source.config.output_directory
        engine = Engine(root, options) if has_store(root) else None
        matrix = load_matrix(source.config.matrix_path)
        return Survey(engine, matrix, Expected.of_plan(source, days)).report(str(root))
    opened = source.engine if isinstance(source, OpenStore) else Engine(source, options)
    expected = Expected.of_folder(opened, days)
    return Survey(opened, load_matrix(), expected).report(str(opened.root))


def backtest_coverage(
    source: Source,
    *,
    min_coverage: float = 0.999,
    start: str | date | None = None,
    end: str | date | None = None,
    prefer: Prefer = "daily",
) -> BacktestCoverage:
    """Check whether several streams together support a backtest.

    Parameters
    ----------
    source, start, end, prefer
        As for `coverage`.
    min_coverage : float
        Share of the due rows, above 0 and at most 1, that every stream must have.

    Returns
    -------
    BacktestCoverage
        The common window, the weakest stream, the times to skip, and a verdict.

    Raises
    ------
    ConfigurationError, ListingError
        As for `coverage`.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> ready = bak.backtest_coverage("data/research", min_coverage=0.99)  # doctest: +SKIP
    >>> ready.raise_if_not_ready()  # doctest: +SKIP
    """
    check_share(min_coverage)
    report = coverage(source, start=start, end=end, prefer=prefer)
    return BacktestCoverage(report, min_coverage)


def check_share(min_coverage: float) -> float:
    """Validate a share: above 0, at most 1.

    Raises
    ------
    ConfigurationError
    """
    number = isinstance(min_coverage, int | float) and not isinstance(min_coverage, bool)
    if not number or not 0 < min_coverage <= 1:
        raise field_error(
            "min_coverage",
            f"{min_coverage!r} is not a share of rows; give one above 0, up to 1, such as 0.999",
        )
    return min_coverage
