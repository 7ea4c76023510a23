"""What is in a file at the level of rows, in a few numbers: its runs of rows without a gap.

A run never goes over midnight UTC, so that the runs of some days of a file are known
without the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.enums import DataType
from binance_archive_kit.facts import Source
from binance_archive_kit.feeds import Feed
from binance_archive_kit.reading import Piece
from binance_archive_kit.rhythms import DAY, HOUR, Rhythm, Times, label_shift, rhythm_of, slots

#: A row for each run.
Runs = npt.NDArray[np.int64]


class Run(NamedTuple):
    """Columns of `Runs`: times are microseconds since 1970 UTC, both inclusive."""

    first: int
    last: int
    rows: int  #: different ones
    step: int  #: microseconds from its last row to the one after it; 0 where there is no step
    first_id: int
    last_id: int


NO_RUNS: Runs = np.empty((0, len(Run._fields)), np.int64)


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a file.

    Attributes
    ----------
    size, mtime : int
        Of the file that was read; of another file this says nothing.
    rows : int
        All of them, repeated ones too.
    repeats : int
        Rows that have the same key as an earlier one, or are the same where there is no key.
    strays : int
        Rows whose time is not on the grid.
    in_order : bool
        Whether rows come in the order of time.
    longest : int
        The longest time between two rows, in microseconds.
    runs : numpy.ndarray
        As `Run` has it, in the order of time.
    """

    size: int
    mtime: int
    rows: int
    repeats: int
    strays: int
    in_order: bool
    longest: int
    runs: Runs


class Examiner:
    """Sees what is in the files of one feed.

    Parameters
    ----------
    feed : Feed

    Attributes
    ----------
    columns : list of str
        Columns it has to be shown.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._key = [name for name in feed.schema.key if name in feed.columns]
        if not self._key:
            # What tells rows apart may be the whole row, or the path columns and the time.
            self._key = [feed.time] if feed.schema.key else list(feed.columns)
        elif feed.schema.time.made_from:
            self._key = [feed.time, *self._key]
        names = [feed.time, *self._key]
        if not feed.data_type.has_intervals:
            rhythm = rhythm_of(feed.market, feed.data_type, None)
            names += filter(None, (rhythm.number, rhythm.hours))
        self.columns = list(dict.fromkeys(names))

    def seen(self, piece: Piece) -> tuple[Piece, list[Contents]]:
        """See what is in the files of a piece, and give it back with that."""
        known = [source.facts for source, _ in piece.spans]
        in_order = [each is None or each.sorted for each in piece.learned or known]
        return piece, self.examine(piece.spans, piece.frame, in_order)

    def examine(
        self, spans: Sequence[tuple[Source, int]], frame: pl.DataFrame, in_order: Sequence[bool]
    ) -> list[Contents]:
        """See what is in some files, or in pieces of them, that were read together.

        Parameters
        ----------
        spans : sequence of (Source, int)
            The files, and how many rows each has.
        frame : polars.DataFrame
            Their rows, with `columns`.
        in_order : sequence of bool
            Whether rows of each file come in the order of time.
        """
        counts = np.array([count for _, count in spans], np.int64)
        file = np.repeat(np.arange(len(spans)), counts)
        rhythm = rhythm_of(self._feed.market, self._feed.data_type, spans[0][0].stream.interval)
        times = slots(rhythm, self._feed.data_type, _numbers(frame, self._feed.time))
        times = times - self._shifts(spans, counts, times)
        repeats = self._repeats(frame, file, len(spans))
        ids = _numbers(frame, rhythm.number) if rhythm.number else np.zeros(len(times), np.int64)
        if rhythm.hours:
            steps = _numbers(frame, rhythm.hours) * HOUR
        else:
            steps = np.full(len(times), max(rhythm.step, 0), np.int64)
        on = rhythm.is_on(times)
        strays = np.bincount(file[~on], minlength=len(spans))
        # Nearly all files are in order, on the grid and without repeats: then nothing moves.
        if (np.diff(times)[np.diff(file) == 0] < 0).any():
            order = np.lexsort((ids, times, file))
            file, on = file[order], on[order]
            times, ids, steps = times[order], ids[order], steps[order]
        taken = on & _is_new(file, ids if rhythm.number else times)
        if not taken.all():
            file, times, ids, steps = file[taken], times[taken], ids[taken], steps[taken]
        runs, at = _runs(rhythm, file, times, ids, steps)
        ends = np.searchsorted(at, np.arange(len(spans) + 1))
        longest = _longest(file, times, len(spans))
        return [
            Contents(
                source.file.size,
                source.file.mtime,
                count,
                int(repeats[each]),
                int(strays[each]),
                in_order[each],
                int(longest[each]),
                runs[ends[each] : ends[each + 1]],
            )
            for each, (source, count) in enumerate(spans)
        ]

    def _shifts(
        self, spans: Sequence[tuple[Source, int]], counts: Times, times: Times
    ) -> Times | int:
        if self._feed.data_type is not DataType.METRICS:
            return 0
        ends = np.cumsum(counts)
        return np.repeat(
            [
                label_shift(
                    self._feed.market,
                    self._feed.data_type,
                    source.file.start,
                    times[end - count : end],
                )
                for (source, count), end in zip(spans, ends, strict=True)
            ],
            counts,
        )

    def _repeats(self, frame: pl.DataFrame, file: Times, files: int) -> Times:
        """Count the rows of each file that came before."""
        if self._key == [self._feed.time]:
            times = _numbers(frame, self._feed.time)
            order = np.lexsort((times, file)) if (times[1:] < times[:-1]).any() else slice(None)
            again = ~_is_new(file[order], times[order])
            return np.bincount(file[order][again], minlength=files)
        marked = frame.select(self._key).with_columns(pl.Series("", file))
        different = marked.unique().group_by("").len()
        counts = np.bincount(file, minlength=files)
        counts[different[""].to_numpy()] -= different["len"].to_numpy().astype(np.int64)
        return counts


def joined(rhythm: Rhythm, contents: Contents | None, more: Contents) -> Contents:
    """Put together what is in two pieces of a file, the second following the first."""
    if contents is None:
        return more
    rows = contents.rows + more.rows
    runs = np.concatenate([contents.runs, more.runs])
    longest = max(contents.longest, more.longest)
    repeats = contents.repeats + more.repeats
    if len(contents.runs) and len(more.runs):
        seam = len(contents.runs)
        before, after = Run(*runs[seam - 1]), Run(*runs[seam])
        longest = max(longest, after.first - before.last)
        same_day = before.last // DAY == after.first // DAY
        if same_day and _follows(rhythm, before, after):
            run = Run(
                min(before.first, after.first),
                max(before.last, after.last),
                before.rows + after.rows,
                after.step,
                before.first_id,
                after.last_id,
            )
            runs = np.concatenate([runs[: seam - 1], [run], runs[seam + 1 :]])
    return replace(
        contents,
        rows=rows,
        repeats=repeats,
        strays=contents.strays + more.strays,
        in_order=contents.in_order and more.in_order,
        longest=longest,
        runs=runs,
    )


def _follows(rhythm: Rhythm, before: Run, after: Run) -> bool:
    match rhythm.kind:
        case "events":
            return True
        case "ids":
            return after.first_id - before.last_id == 1
        case "pace":
            return 2 * (after.first - before.last) < 3 * before.step
        case _:
            return after.first - before.last == before.step


def _runs(
    rhythm: Rhythm, file: Times, times: Times, ids: Times, steps: Times
) -> tuple[Runs, Times]:
    """Cut rows into runs; give these, and the file of each."""
    if not len(times):
        return NO_RUNS, file
    days = times // DAY
    apart = np.diff(times)
    match rhythm.kind:
        case "events":
            breaks = np.zeros(len(apart), np.bool_)
        case "ids":
            breaks = np.diff(ids) != 1
        case "pace":
            breaks = 2 * apart >= 3 * rhythm.step
        case _ if rhythm.hours:
            # A row may tell the hours since the one before it, or those to the next.
            breaks = (apart != steps[1:]) & (apart != steps[:-1])
        case _:
            breaks = apart != rhythm.step
    breaks |= (np.diff(days) != 0) | (np.diff(file) != 0)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    ends = np.concatenate([starts[1:], [len(times)]]) - 1
    runs = np.column_stack(
        [times[starts], times[ends], ends - starts + 1, steps[ends], ids[starts], ids[ends]]
    )
    return runs, file[starts]


def _longest(file: Times, times: Times, files: int) -> Times:
    """Give the longest time between two rows of each file."""
    longest = np.zeros(files, np.int64)
    if len(times) > 1:
        apart = np.where(np.diff(file) == 0, np.diff(times), 0)
        np.maximum.at(longest, file[1:], apart)
    return longest


def _is_new(file: Times, values: Times) -> npt.NDArray[np.bool_]:
    """Tell which values, in order, are not the one before again."""
    new = np.ones(len(values), np.bool_)
    new[1:] = (values[1:] != values[:-1]) | (file[1:] != file[:-1])
    return new


def _numbers(frame: pl.DataFrame, name: str) -> Times:
    return frame[name].to_physical().cast(pl.Int64).to_numpy()
