"""Find invalid, repeated and otherwise remarkable rows among those that are present."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from binance_archive_kit.archive.annotations import KnownDefect, load_annotations
from binance_archive_kit.archive.enums import DataType, Market, Partition
from binance_archive_kit.archive.keys import Folder
from binance_archive_kit.archive.schemas import schema
from binance_archive_kit.planning.requests import TRADED
from binance_archive_kit.quality.halts import Halt
from binance_archive_kit.quality.reconcile import Mismatch
from binance_archive_kit.quality.timeline import (
    DaySource,
    Finding,
    FindingKind,
    GapKind,
    Timeline,
)
from binance_archive_kit.reading.profile import FileProfile
from binance_archive_kit.reading.values import CONSTANT_ROWS, Flaw, Standing, join_standing
from binance_archive_kit.timestamps import (
    DAY,
    format_time,
    from_day_number,
    to_datetime,
    to_day_number,
    to_micros,
)

#: Explains a difference between two files if the archive corrected only one.
_KNOWN_WRONG = "known: the monthly file is wrong on this day, and the rows come from the daily one"
#: Effects of known defects that reading the rows detects; those findings name the defect.
_SEEN_IN_ROWS = ("repeated_rows", "off_grid_rows")


# In the files


def file_findings(timeline: Timeline) -> Iterator[Finding]:
    """Yield the findings about the files of a timeline, from their profiles."""
    yield from _constant_columns(timeline)
    for file in timeline.files:
        if not file.file.is_zip:
            evidence = "verify cannot prove it; the zip can be proven"
            yield _of_file(timeline, file, 0, FindingKind.UNVERIFIED, evidence)
        if file.profile is not None:
            stats = file.profile.stats
            for irregularity in sorted(stats.irregularities):
                kind, evidence = FindingKind.IRREGULAR, irregularity.meaning
                yield _of_file(timeline, file, stats.rows, kind, evidence)
            yield from _flaws(timeline, file, file.profile)
            yield from _order_and_duplicates(timeline, file, file.profile)


def _of_file(
    timeline: Timeline,
    file: DaySource,
    rows: int,
    kind: FindingKind,
    evidence: str,
    explained: bool = False,
) -> Finding:
    """Build a finding about the whole period of a file."""
    evidence = f"{file.name}: {evidence}"
    return Finding(timeline.stream, file.start, file.end, rows, kind, evidence, explained)


def _flaws(timeline: Timeline, file: DaySource, profile: FileProfile) -> Iterator[Finding]:
    """Yield the impossible values and the conflicting rows of a file."""
    for flaw in profile.flaws:
        if not _touches(timeline, file, flaw):
            continue
        kind = FindingKind(flaw.kind)
        one_label = kind is FindingKind.CONFLICT and flaw.first == flaw.last
        why = _shared_label(timeline, flaw.first) if one_label else ""
        yield Finding(
            timeline.stream,
            flaw.first,
            flaw.last + max(timeline.cadence.step, 1),
            flaw.rows,
            FindingKind.DUPLICATE if why else kind,
            f"{file.name}: {flaw}{why}",
            bool(why),
        )


def _order_and_duplicates(
    timeline: Timeline, file: DaySource, profile: FileProfile
) -> Iterator[Finding]:
    """Yield the rows of a file that are repeated, unsorted or off the grid."""
    if profile.stats.sorted and not (profile.duplicates or profile.off_grid):
        return
    rows = profile.stats.rows
    of_rows = f"of its {rows:,} rows"
    conflicts = (f.rows for f in profile.flaws if FindingKind(f.kind) is FindingKind.CONFLICT)
    repeated = profile.duplicates - sum(conflicts)
    if repeated > 0:
        why, harmless = _known_cause(timeline, file, "repeated_rows")
        evidence = f"{repeated:,} {of_rows} repeat an earlier one{why}"
        yield _of_file(timeline, file, repeated, FindingKind.DUPLICATE, evidence, harmless)
    if not profile.stats.sorted:
        promised = schema(timeline.stream.market, timeline.stream.data_type).sorted
        why = "" if promised else "; files of this feed never promise it"
        evidence = f"rows are not sorted by time{why}"
        yield _of_file(timeline, file, rows, FindingKind.UNSORTED, evidence, not promised)
    if profile.off_grid:
        why, harmless = _known_cause(timeline, file, "off_grid_rows")
        evidence = f"{profile.off_grid:,} {of_rows} are between the steps{why}"
        yield _of_file(timeline, file, profile.off_grid, FindingKind.OFF_GRID, evidence, harmless)


def _touches(timeline: Timeline, file: DaySource, flaw: Flaw) -> bool:
    """Return whether a flaw of a file can affect days whose rows come from that file."""
    sources = timeline.sources[timeline.slice_of(flaw.first // DAY, flaw.last // DAY + 1)]
    return bool(sources) and (timeline.cadence.is_long or file in sources)


def _known_cause(timeline: Timeline, file: DaySource, effect: str) -> tuple[str, bool]:
    """Return the known defect that explains a finding, and whether the archive still has it.

    A defect that the archive has corrected is no excuse: the file is an old one.
    """
    start, end = to_datetime(file.start), to_datetime(file.end)
    for defect in load_annotations().defects:
        concerned = defect.concerns(timeline.stream, file.partition)
        if concerned and defect.effect == effect and defect.overlaps(start, end):
            return f"; known defect, {defect}", defect.fixed_on is None
    return "", False


def _constant_columns(timeline: Timeline) -> Iterator[Finding]:
    """Yield the bool columns with a constant value in very many rows, across files."""
    standing: tuple[Standing, ...] = ()
    for file in sorted(timeline.files, key=lambda file: file.start):
        if file.profile is not None:
            standing = join_standing(standing, file.profile.standing)
    for column in standing:
        value, rows, first, last = column.longest
        if rows >= CONSTANT_ROWS:
            evidence = f"{column.column} is {str(value).lower()} in each of {rows:,} rows in a row"
            yield Finding(timeline.stream, first, last + 1, rows, FindingKind.CONSTANT, evidence)


# Between files


def shared_rows_finding(
    timeline: Timeline,
    files: tuple[DaySource, DaySource],
    times: tuple[int, int],
    shared: int,
    mismatches: list[Mismatch],
) -> Iterator[Finding]:
    """Yield the finding about rows of one key in two neighbouring files.

    Parameters
    ----------
    times : (int, int)
        The first row of the second file, and the last row of the first one.
    shared : int
        Number of keys in both files.
    mismatches : list of Mismatch
        The keys whose rows differ.
    """
    first, last = times
    end = last + max(timeline.cadence.step, 1)
    why = _shared_label(timeline, last) if shared == 1 else ""
    evidence = f"{format_time(last)} is in {files[0].name} and in {files[1].name}"
    if mismatches and not why:
        rows, evidence = len(mismatches), f"{evidence}; {mismatches[0].difference}"
        yield Finding(timeline.stream, first, end, rows, FindingKind.CONFLICT, evidence)
    elif shared and not timeline.cadence.is_long:
        # A candle of two months can be in both files, and is returned once.
        kind = FindingKind.DUPLICATE
        yield Finding(timeline.stream, first, end, shared, kind, evidence + why, bool(why))


def mismatch_findings(timeline: Timeline, mismatches: Iterable[Mismatch]) -> Iterator[Finding]:
    """Yield the differences between monthly and daily files within a timeline."""
    for mismatch in mismatches:
        if mismatch.start >= timeline.end or mismatch.end <= timeline.start:
            continue
        first = from_day_number(mismatch.start // DAY)
        last = from_day_number((mismatch.end - 1) // DAY)
        # On these days the rows come from the daily files, whichever are preferred.
        monthly = Folder(timeline.stream, Partition.MONTHLY)
        wrong = load_annotations().wrong_days(monthly, first, last)
        known = {first, last} <= wrong
        yield Finding(
            timeline.stream,
            mismatch.start,
            mismatch.end,
            mismatch.rows,
            FindingKind.DISAGREEMENT,
            f"{mismatch.difference}; {_KNOWN_WRONG}" if known else mismatch.difference,
            explained=known,
        )


def _shared_label(timeline: Timeline, label: int) -> str:
    """Return the change of labels that explains two rows of one label; empty without one."""
    day = from_day_number(label // DAY)
    if timeline.stream.data_type is not DataType.METRICS or label % DAY:
        return ""
    for change in load_annotations().changes:
        if change.on == day and change.concerns(
            timeline.stream.market, timeline.stream.data_type, day, day
        ):
            return f"; known change: {change.what} [{change.source}]"
    return ""


# From the annotations


def known_findings(timeline: Timeline) -> Iterator[Finding]:
    """Yield the known changes, defects and halts within a timeline."""
    yield from _changes(timeline)
    yield from _defects(timeline)
    yield from _halts(timeline)


def _changes(timeline: Timeline) -> Iterator[Finding]:
    """Yield the changes of meaning that affect the rows of a timeline."""
    if not len(timeline.runs):
        return
    first, last = int(timeline.runs[0, 0]) // DAY, int(timeline.runs[:, 1].max()) // DAY
    days = from_day_number(first), from_day_number(last)
    for change in load_annotations().changes:
        if change.concerns(timeline.stream.market, timeline.stream.data_type, *days):
            start, end = max(to_day_number(change.on), first) * DAY, (last + 1) * DAY
            evidence = f"{change.what} [{change.source}]"
            yield Finding(timeline.stream, start, end, 0, FindingKind.SEMANTIC_CHANGE, evidence)


def _defects(timeline: Timeline) -> Iterator[Finding]:
    """Yield the known defects of the archive within a timeline."""
    for defect in load_annotations().defects:
        start = max(to_micros(defect.start), timeline.start)
        end = timeline.end if defect.end is None else min(to_micros(defect.end), timeline.end)
        if (
            start < end
            and defect.effect not in _SEEN_IN_ROWS
            and defect.concerns(timeline.stream)
            and _is_present(timeline, defect, start, end)
        ):
            wrong = defect.effect == "wrong_values"
            kind = FindingKind.WRONG_VALUES if wrong else FindingKind.KNOWN_DEFECT
            yield Finding(timeline.stream, start, end, 0, kind, str(defect))


def _is_present(timeline: Timeline, defect: KnownDefect, start: int, end: int) -> bool:
    """Return whether files of [start, end) have a defect, as far as their gaps show."""
    if defect.partitions:
        partitions = {file.partition for file in _files_of(timeline, start, end)}
        if partitions.isdisjoint(defect.partitions):
            # Files of the other partition are correct.
            return False
    return defect.fixed_on is None or any(
        gap.kind.is_missing and gap.overlaps(start, end) for gap in timeline.gaps
    )


def _files_of(timeline: Timeline, start: int, end: int) -> list[DaySource]:
    """Return the files of the days of [start, end)."""
    sources = (span.source for span in timeline.spans(start, end))
    return [source for source in sources if isinstance(source, DaySource)]


def _halts(timeline: Timeline) -> Iterator[Finding]:
    """Yield the known halts within a timeline that no gap names."""
    if timeline.stream.data_type not in TRADED:
        return
    for halt in known_halts(timeline.stream.market):
        start, end = max(halt.start, timeline.start), min(halt.end, timeline.end)
        named = any(gap.kind is GapKind.HALT and gap.overlaps(start, end) for gap in timeline.gaps)
        if start < end and not named and _files_of(timeline, start, end):
            kind = FindingKind.KNOWN_HALT
            yield Finding(timeline.stream, start, end, 0, kind, halt.evidence)


@cache
def known_halts(market: Market) -> list[Halt]:
    """Return the known halts of a market, sorted by time."""
    return sorted(
        Halt(
            to_micros(halt.start),
            to_micros(halt.end),
            f"a known halt, {halt.when}: {halt.what} [{halt.source}]",
            halt.precision != "day",
        )
        for halt in load_annotations().halts
        if halt.market == market
    )
