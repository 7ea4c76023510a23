"""Coverage reports: a verdict, frames, a summary as text, HTML or Markdown, and a picture.

A report without streams is never complete, and a share is never rounded up to 100 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import polars as pl

from binance_archive_kit.archive.absence import Absence, Reason, absence_folds
from binance_archive_kit.display import render
from binance_archive_kit.display.summary import Fold, State, Summary, Table
from binance_archive_kit.errors import FileError
from binance_archive_kit.paths import find_path, write_text
from binance_archive_kit.quality.frames import (
    COMPLETE,
    EVERY_DAY,
    FLAWED,
    INCOMPLETE,
    NOT_DUE,
    NOTHING,
)
from binance_archive_kit.quality.heatmap import Heatmap, heatmap_of
from binance_archive_kit.quality.timeline import STREAM_FIELDS, FindingKind, GapKind
from binance_archive_kit.timestamps import format_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from binance_archive_kit.display.inline_figure import InlineFigure
    from binance_archive_kit.storage.skipped import SkippedFile

#: The columns that name a symbol.
_SYMBOL = STREAM_FIELDS[0], STREAM_FIELDS[2]
#: The states, from good to bad.
_STATES = (NOT_DUE, COMPLETE, EVERY_DAY, FLAWED, INCOMPLETE, NOTHING)
_BADNESS = {state: rank for rank, state in enumerate(_STATES)}
#: The mark beside each state.
_MARKS = {COMPLETE: "●", EVERY_DAY: "●", INCOMPLETE: "◐", FLAWED: "◐", NOTHING: "○", NOT_DUE: "·"}
_HEAD = ("days (UTC)", "files", "rows", "coverage", "state", "gaps")
#: Streams in a table before only the worst are shown: in HTML or Markdown, and in text.
ROWS, TEXT_ROWS = 25, 12
#: Gaps on a page before the others are only counted.
_LISTED = 1_000


@dataclass(frozen=True, repr=False)
class CoverageReport:
    """The rows on disk, compared with the rows due.

    Attributes
    ----------
    title : str
        The subject of the report, such as the folder of the store.
    streams : polars.DataFrame
        One row per stream: ``market``, ``data_type``, ``symbol``, ``interval``, ``first`` and
        ``last`` (dates: UTC days, both inclusive), the integers ``expected_files``,
        ``actual_files``, ``expected_days`` (days with due rows), ``actual_days`` (due days with
        rows), ``expected``, ``present`` and ``missing`` (rows without duplicates;
        null where the number of due rows is unknown), ``coverage`` (float, 0 to 1: of rows, or
        of days where rows cannot be counted; null if no row is due) and ``state`` (text;
        ``flawed``: all rows are present, but some cannot be trusted).
    gaps : polars.DataFrame
        One row per gap: ``market``, ``data_type``, ``symbol``, ``interval``, ``start`` and
        ``end`` (``Datetime("us", "UTC")``, `end` exclusive), ``missing`` (rows; null if
        unknown; 0 if none were due), ``kind`` (a member of
        `binance_archive_kit.quality.timeline.GapKind`) and ``evidence`` (text). Neighbouring
        gaps of one kind are one row.
    findings : polars.DataFrame
        Problems that are not gaps. The columns are those of `gaps`, with ``rows`` (number of
        rows concerned) instead of ``missing``, kinds of `FindingKind` in the same module,
        and ``explained`` (bool: the reason is known and harmless; the evidence states it).
    days : polars.DataFrame
        One row per day of each stream: ``market``, ``data_type``, ``symbol``, ``interval``,
        ``date`` (UTC), ``expected`` and ``present`` (rows), and ``kind`` (the kind of gap that
        covers most of the day, or null).
    unavailable : tuple of Absence
        Requested data that cannot exist.
    problems : dict of str to FileError
        Invalid files, by their path inside the store.
    nothing : str
        The reason why the report has no stream, if it is known; else empty.
    skipped : tuple of SkippedFile
        Files that are not read because of their name or folder, each with advice.
    changes : tuple of str
        Known renames and reuses of symbols within the days, with days and sources. Rows before
        and after are of different assets or units, or are filed under different symbols.
    unknown_symbols : str
        The reason why it is unknown which symbols are requested; else empty.
    """

    title: str
    streams: pl.DataFrame
    gaps: pl.DataFrame
    findings: pl.DataFrame
    days: pl.DataFrame
    unavailable: tuple[Absence, ...] = ()
    problems: Mapping[str, FileError] = field(default_factory=dict)
    nothing: str = ""
    skipped: tuple[SkippedFile, ...] = ()
    changes: tuple[str, ...] = ()
    unknown_symbols: str = ""

    @property
    def coverage(self) -> float | None:
        """Share of the due rows that are present, 0 to 1; None if no row is due.

        The share of rows over all streams; the share of days if no stream's rows can be counted.
        """
        part, whole, _ = self._share()
        return part / whole if whole else None

    @property
    def weakest(self) -> dict[str, Any] | None:
        """The stream with the least coverage, as a row of `streams`; None if no row is due."""
        return weakest_of(self.streams)

    @property
    def is_complete(self) -> bool:
        """Whether rows are due, all of them are present, and none is doubtful."""
        due = self.streams.filter(pl.col("state") != NOT_DUE)["state"]
        return len(due) > 0 and due.is_in([COMPLETE, EVERY_DAY]).all()

    @property
    def verdict(self) -> str:
        """The result in one sentence, with its numbers."""
        if self.unknown_symbols:
            return f"Symbols unknown, so nothing can be said: {self.unknown_symbols}"
        if not self.streams.height:
            if self.nothing:
                return f"Nothing is due: {self.nothing}"
            if self.unavailable:
                return f"Nothing is due: {self.unavailable[0]}"
            if self.skipped:
                return f"Nothing read: {self._skipped()}"
            return f"Nothing found: {self.title} has no file of the archive for these days"
        part, whole, unit = self._share()
        if not whole:
            return f"Nothing is due: {count_gaps(self.gaps)}"
        due = self.streams.filter(pl.col("state") != NOT_DUE)
        missing = count_gaps(missing_of(self.gaps))
        begins = "Complete" if self.is_complete else "Incomplete" if part else "Nothing present"
        share = f"{render.percent(part, whole)} of the {unit} due are present"
        if self.is_complete and flaws_of(self.findings).height:
            begins = "Complete with flaws"
        if part == whole and not missing and self.doubts.height:
            begins, share = "Flawed", f"the {unit} due are present"
        days = ","
        uncounted = due.filter(pl.col("expected").is_null())
        if unit == "rows" and uncounted.height:
            actual, expected = uncounted["actual_days", "expected_days"].sum().row(0)
            days = f" and {actual:,} of {expected:,} days where rows cannot be counted,"
        files, expected_files = due["actual_files", "expected_files"].sum().row(0)
        after = count_gaps(self.gaps.filter(pl.col("kind") == GapKind.AFTER_DELISTING))
        return (
            f"{begins}: {share} ({part:,} of {whole:,}){days} in {files:,} of "
            f"{expected_files:,} files of {render.counted(due.height, 'stream')}"
            f"{f'; {missing}' if missing else ''}"
            f"{f'; not due: {after}' if after else ''}{describe_flaws(self.findings)}"
            f"{f'; {self._skipped()}' if self.skipped else ''}"
            f"{f'; unavailable: {self.never_there[0]}' if self.never_there else ''}"
            f"{describe_changes(self.changes)}"
        )

    @property
    def doubts(self) -> pl.DataFrame:
        """The findings that make rows doubtful, as a part of `findings`."""
        return doubts_of(self.findings)

    @property
    def never_there(self) -> list[Absence]:
        """`unavailable`, except feeds that do not exist in a market (``no_such_feed``)."""
        return [each for each in self.unavailable if each.reason is not Reason.NO_SUCH_FEED]

    def _skipped(self) -> str:
        first, count = self.skipped[0], render.counted(len(self.skipped), "file")
        return (
            f"{count} skipped because of name or place, such as {first.path}: "
            f"{first.reason}; {first.advice}"
        )

    def _share(self) -> tuple[int, int, str]:
        """Count the present and the due rows, or days if no rows can be counted."""
        rows = self.streams.drop_nulls("expected")["present", "expected"].sum().row(0)
        days = self.streams["actual_days", "expected_days"].sum().row(0)
        return (*rows, "rows") if rows[1] else (*days, "days")

    def to_frame(self) -> pl.DataFrame:
        """Return `streams`."""
        return self.streams

    # Text, HTML and Markdown

    def __str__(self) -> str:
        """Return the verdict, the worst streams and the findings as text."""
        return self._summary(TEXT_ROWS, evidence=1).to_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the report as HTML, without its picture."""
        return self._summary().to_html()

    def to_markdown(self) -> str:
        """Format the report as Markdown, without its picture, for pages without HTML."""
        return self._summary().to_markdown()

    def _summary(self, streams: int = ROWS, evidence: int | None = None) -> Summary:
        """Lay out the report, with the worst streams and some evidence for each kind of finding."""
        part, whole, _ = self._share()
        state: State = "warn" if part and not self.problems else "bad"
        if self.is_complete:
            state = "good"
        elif not self.streams.height or not whole:
            state = "idle"
        problems = [*self.problems.values()]
        skipped = [f"{file.path}: {file.reason}; {file.advice}" for file in self.skipped]
        title = f"{render.counted(len(skipped), 'file')} skipped because of name or place"
        folds = [
            Fold(render.counted(len(problems), "invalid file"), problems, "bad"),
            Fold(title, skipped, "warn"),
            *finding_folds(self.findings, evidence),
            *absence_folds(unavailable=self.unavailable),
            changes_fold(self.changes),
        ]
        many = self.streams.height > streams
        parts, keys = worst_first(self.streams) if many else (self.streams, STREAM_FIELDS)
        what = "stream" if keys == STREAM_FIELDS else "symbol"
        below = count_more(parts.height - streams, what)
        rows = [*self._rows(parts.head(streams), keys)]
        table = Table((what, *_HEAD), rows, {2, 3, 4}, below)
        return Summary("Coverage", self.verdict, state, [table], folds=folds)

    def _rows(self, parts: pl.DataFrame, keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Yield a row of the table for each stream or symbol, which `keys` name."""

        def by_part(frame: pl.DataFrame) -> dict[tuple[Any, ...], pl.DataFrame]:
            shown = frame.join(parts.select(keys), on=keys, nulls_equal=True)
            return shown.partition_by(keys, as_dict=True)

        gaps, flaws = by_part(missing_of(self.gaps)), by_part(flaws_of(self.findings))
        for row in parts.iter_rows(named=True):
            key = tuple(row[name] for name in keys)
            problems = [
                count_gaps(gaps[key]) if key in gaps else "",
                _count_flaws(flaws[key]) if key in flaws else "",
            ]
            if row["expected"] is None:
                part, whole, unit = row["actual_days"], row["expected_days"], " days"
            else:
                part, whole, unit = row["present"], row["expected"], ""
            yield (
                " ".join(filter(None, key)),
                f"{row['first']} to {row['last']}",
                f"{row['actual_files']:,} of {row['expected_files']:,}",
                f"{part:,} of {whole:,}{unit}",
                render.percent(part, whole),
                f"{_MARKS[row['state']]} {row['state']}",
                ", ".join(filter(None, problems)),
            )

    def _ipython_display_(self) -> None:
        """Show the report in a notebook: the summary, and the picture as an output of its own."""
        from IPython.display import display

        data = {"text/html": self._repr_html_(), "text/plain": str(self)}
        display(data, raw=True)  # type: ignore[no-untyped-call]
        if self.days.height:
            display(self._picture())  # type: ignore[no-untyped-call]

    @overload
    def to_html(self, path: None = None) -> str: ...
    @overload
    def to_html(self, path: str | Path) -> None: ...
    def to_html(self, path: str | Path | None = None) -> str | None:
        """Format the report as one HTML page without scripts, and write it to `path` if given.

        Parameters
        ----------
        path : str or Path, optional
            The file to write.

        Returns
        -------
        str or None
            The page; None if it is written to a file.
        """
        picture = ""
        if self.days.height:
            drawn = self._picture()
            alt, style = escape(drawn.description), "max-width:100%"
            source = f"data:image/png;base64,{drawn.base64()}"
            picture = f'<img alt="{alt}" style="{style}" src="{source}">'
        title = escape(f"Coverage of {self.title}")
        gaps = self._gaps_table().to_html() or "<p>None.</p>"
        page = _PAGE.format(title=title, body=f"{self._repr_html_()}{picture}<h2>Gaps</h2>{gaps}")
        if path is None:
            return page
        write_text("path", find_path("path", path), page)
        return None

    def _gaps_table(self) -> Table:
        rows = [
            (
                name_of(row),
                format_time(row["start"]),
                format_time(row["end"]),
                "unknown" if row["missing"] is None else f"{row['missing']:,}",
                render.plain(row["kind"]),
                row["evidence"],
            )
            for row in self.gaps.head(_LISTED).iter_rows(named=True)
        ]
        head = ("stream", "start (UTC)", "end (exclusive)", "missing", "kind", "evidence")
        more = self.gaps.height - _LISTED
        below = f"… and {more:,} more gaps; report.gaps has them all" if more > 0 else ""
        return Table(head, rows, {3}, below=below)

    # The heatmap

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the days of each stream, coloured by the kind of their gaps.

        With too many days, each cell shows the worst of several days; with too many streams,
        only the worst streams are drawn. A single stream of many years is drawn year by year.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            The axes to draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        return self._heatmap().plot(axes, self._description())

    def _picture(self) -> InlineFigure:
        """Return the heatmap as a figure that notebooks display."""
        return self._heatmap().figure(self._description())

    def _description(self) -> str:
        return f"Days of each stream: {self.verdict}"

    def _heatmap(self) -> Heatmap:
        names = [name_of(row) for row in self.streams.iter_rows(named=True)]
        days = self.days.join(
            self.streams.select(STREAM_FIELDS).with_row_index("row"),
            on=STREAM_FIELDS,
            nulls_equal=True,
            maintain_order="left",
        )
        return heatmap_of(names, days["row"], days["date"], days["kind"])


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark }}
body {{ font: 14px/1.5 system-ui, sans-serif; max-width: 75rem }}
body {{ margin: 2rem auto; padding: 0 1rem }}
table {{ font-variant-numeric: tabular-nums }}
</style></head>
<body><h1>{title}</h1>{body}</body></html>
"""


# Subsets of frames


def weakest_of(streams: pl.DataFrame) -> dict[str, Any] | None:
    """Return the stream with the least coverage; None when nothing is due."""
    due = streams.drop_nulls("coverage").sort("coverage", maintain_order=True)
    return due.row(0, named=True) if due.height else None


def worst_first(streams: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Sum up the streams of each symbol, if any has several, and sort them.

    Returns
    -------
    (polars.DataFrame, tuple of str)
        Rows with the columns of `CoverageReport.streams` as far as they have a sum, the worst
        first; and the columns that name a row.
    """
    badness = pl.col("state").replace_strict(_BADNESS, return_dtype=pl.Int64)
    keys: tuple[str, ...] = STREAM_FIELDS
    if streams.n_unique(_SYMBOL) < streams.height:
        keys = _SYMBOL
        # Where the rows of one stream cannot be counted, days are compared.
        countable = pl.col("expected").is_not_null().all()
        counted = pl.when(countable).then(pl.col("expected").sum())
        whole = counted.otherwise(pl.col("expected_days").sum())
        present = pl.when(countable).then(pl.col("present").sum())
        part = present.otherwise(pl.col("actual_days").sum())
        streams = streams.group_by(keys, maintain_order=True).agg(
            pl.col("first").min(),
            pl.col("last").max(),
            pl.col("expected_files", "actual_files", "expected_days", "actual_days").sum(),
            counted.alias("expected"),
            pl.col("present").sum(),
            pl.when(whole > 0).then(part / whole).alias("coverage"),
            pl.col("state").sort_by(badness).last(),
        )
    # Where nothing is due, nothing is bad.
    share = pl.col("coverage").fill_null(2.0)
    return streams.sort(share, -badness, maintain_order=True), keys


def missing_of(gaps: pl.DataFrame) -> pl.DataFrame:
    """Return the gaps whose rows were due."""
    return gaps.filter(pl.col("kind").is_in([kind for kind in GapKind if kind.is_missing]))


def doubts_of(findings: pl.DataFrame) -> pl.DataFrame:
    """Return the findings about rows that cannot be trusted."""
    return findings.filter(pl.col("kind").is_in([kind for kind in FindingKind if kind.is_doubt]))


def flaws_of(findings: pl.DataFrame) -> pl.DataFrame:
    """Return the findings about wrong rows, without those with a known and harmless reason."""
    flaws = [kind for kind in FindingKind if kind.is_flaw]
    return findings.filter(pl.col("kind").is_in(flaws), ~pl.col("explained"))


# In words


def name_of(row: Mapping[str, Any]) -> str:
    """Return the name of the stream of a row, such as ``spot klines BTCUSDT 1h``."""
    return " ".join(filter(None, (row[name] for name in STREAM_FIELDS)))


def count_more(hidden: int, what: str = "stream") -> str:
    """Format the number of streams or symbols omitted from a table; empty for none."""
    return f"… and {hidden:,} more {what}s, none of them worse" if hidden > 0 else ""


def count_gaps(gaps: pl.DataFrame) -> str:
    """Count gaps by kind: ``2 halts (4 rows), 1 period missing in archive``."""
    counts = gaps.group_by("kind").agg(pl.len(), pl.col("missing").sum()).sort("kind")
    words = []
    for kind, count, missing in counts.iter_rows():
        word = render.plain(kind)
        of_files = kind in (GapKind.HALT, GapKind.HOLE, GapKind.SHORT_FILE, GapKind.EMPTY_FILE)
        number = render.counted(count, word if of_files else "period")
        rows = f" ({render.counted(missing, 'row')})" if missing else ""
        words.append(f"{number}{'' if of_files else f' {word}'}{rows}")
    return ", ".join(words)


#: Words before and after "rows" for each kind.
_ROWS_ARE = {
    FindingKind.CONFLICT: ("conflicting ", ""),
    FindingKind.NULL_VALUE: ("", " with empty values"),
    FindingKind.IMPOSSIBLE_VALUE: ("", " with impossible values"),
    FindingKind.CONSTANT: ("", " with a constant value"),
    FindingKind.FROZEN: ("", " with frozen values"),
    FindingKind.DUPLICATE: ("repeated ", ""),
    FindingKind.OFF_GRID: ("off-grid ", ""),
    FindingKind.DISAGREEMENT: ("", " differing between monthly and daily files"),
}


def _count_flaws(flaws: pl.DataFrame) -> str:
    """Count wrong rows by kind: ``2 conflicting rows, 62 repeated rows``."""
    counts = flaws.group_by("kind").agg(pl.len(), pl.col("rows").sum()).sort("kind")
    words = []
    for kind, count, rows in counts.iter_rows():
        if kind == FindingKind.UNSORTED:
            words.append(render.counted(count, "unsorted file"))
        elif kind == FindingKind.WRONG_VALUES:
            words.append(render.counted(count, "known defect"))
        else:
            before, after = _ROWS_ARE[FindingKind(kind)]
            words.append(f"{render.counted(rows, f'{before}row')}{after}")
    return ", ".join(words)


def describe_flaws(findings: pl.DataFrame) -> str:
    """Describe the wrong rows among those that are present, doubts first; empty for none."""
    flaws = flaws_of(findings)
    doubts = doubts_of(flaws)
    text = ""
    if doubts.height:
        worst = doubts.sort("kind", maintain_order=True)["evidence"][0]
        text = f"; doubtful: {_count_flaws(doubts)}, such as {worst}"
    if rest := _count_flaws(flaws.filter(~pl.col("kind").is_in(doubts["kind"].implode()))):
        text += f"; flaws: {rest}"
    # These are reported even if their reason is known.
    always = [FindingKind.DUPLICATE, FindingKind.OFF_GRID]
    if known := _count_flaws(findings.filter("explained", pl.col("kind").is_in(always))):
        text += f"; with a known reason: {known}"
    return text


def describe_changes(changes: Sequence[str]) -> str:
    """Describe the changes of symbols within the days of a report; empty for none."""
    if not changes:
        return ""
    # Without the source, which follows in brackets.
    first, count = changes[0].rpartition(" [")[0], len(changes)
    symbols = "a symbol changes" if count == 1 else f"symbols change {count:,} times"
    return f"; {symbols} within these days, {'' if count == 1 else 'such as '}{first}"


def changes_fold(changes: Sequence[str]) -> Fold:
    """Return the fold of the changes of symbols; one without lines is not shown."""
    title = f"{render.counted(len(changes), 'change')} of symbols (do not compare prices across)"
    return Fold(title, changes, "warn")


def finding_folds(findings: pl.DataFrame, evidence: int | None = None) -> list[Fold]:
    """Return a fold for each kind of finding.

    Parameters
    ----------
    evidence : int, optional
        Number of findings of each kind to describe; by default all.
    """
    folds = []
    for (name,), found in findings.group_by("kind", maintain_order=True):
        kind = FindingKind(name)
        lines = [
            f"{name_of(row)}, {format_time(row['start'])} UTC: {row['evidence']}"
            for row in found.head(evidence or found.height).iter_rows(named=True)
        ]
        state: State = "bad" if kind.is_doubt else "warn" if kind.is_flaw else "idle"
        folds.append(Fold(f"{found.height:,} {render.plain(kind)} ({kind.meaning})", lines, state))
    return folds
