"""Sort the rows of a large file by time in passes that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

import numpy as np
import numpy.typing as npt
import polars as pl

from binance_archive_kit.reading.checks import times_of

#: Rows that are sorted at once.
_SORTED = 1 << 19
#: Later than any time.
LATEST = int(np.iinfo(np.int64).max)
_NO_TIMES = np.empty(0, np.int64)


def sort_frames(
    frames: Callable[[], Generator[pl.DataFrame]], lows: Sequence[int], time: str, limit: int
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file in the order of time.

    A pass over the file yields the earliest rows that were not yielded yet, as soon as no later
    chunk has an earlier row. Rows for which there is no room wait for the next pass.

    Parameters
    ----------
    frames : callable
        Returns the chunks of the file, each of them sorted.
    lows : sequence of int
        The earliest time of each chunk, microseconds since 1970 UTC.
    time : str
        Column to sort by.
    limit : int
        Bytes that waiting rows may take.
    """
    # The earliest time of all chunks after each one.
    next_lows = np.minimum.accumulate([LATEST, *reversed(lows)])[-2::-1]
    floor: int | None = None
    while True:
        waiting = _WaitingRows(time, limit)
        with closing(frames()) as chunks:
            for frame, low in zip(chunks, next_lows.tolist(), strict=True):
                waiting.add(frame, floor)
                yield from waiting.take(low)
        if waiting.ceiling is None:
            return
        floor = waiting.ceiling


class _WaitingRows:
    """Rows of a file that is out of order, until their turn.

    Attributes
    ----------
    ceiling : int or None
        Rows from this time on are left for another pass, because there is no room for them.
    """

    def __init__(self, time: str, limit: int) -> None:
        self._time = time
        self._limit = limit
        self._frames: list[pl.DataFrame] = []
        self.ceiling: int | None = None

    def add(self, frame: pl.DataFrame, floor: int | None) -> None:
        """Add the rows of a sorted chunk from a time on."""
        times = times_of(frame, self._time)
        start = 0 if floor is None else int(np.searchsorted(times, floor))
        end = len(times) if self.ceiling is None else int(np.searchsorted(times, self.ceiling))
        if start < end:
            self._frames.append(_copy(frame, start, end))

    def take(self, until: int) -> Iterator[pl.DataFrame]:
        """Yield the rows before a time, sorted; if too many stay, drop the latest of them."""
        until = until if self.ceiling is None else min(until, self.ceiling)
        while len(times := self._times_before(until)):
            # Some at a time: rows are in memory twice while they are sorted.
            some = np.partition(times, _SORTED)[_SORTED] if len(times) > _SORTED else until
            some = int(some) if some > times.min() else until
            yield pl.concat(self._split(some)).sort(self._time, maintain_order=True)
        if sum(frame.estimated_size() for frame in self._frames) > self._limit:
            times = self._times_before(LATEST)
            middle = int(np.partition(times, len(times) // 2)[len(times) // 2])
            # Rows of one time stay together, however many they are.
            if middle > times.min():
                self.ceiling = middle
                self._frames = self._split(middle)

    def _times_before(self, until: int) -> npt.NDArray[np.int64]:
        columns = [times_of(frame, self._time) for frame in self._frames]
        return np.concatenate(
            [_NO_TIMES, *(times[: np.searchsorted(times, until)] for times in columns)]
        )

    def _split(self, time: int) -> list[pl.DataFrame]:
        """Remove and return the rows before a time."""
        before, rest = [], []
        for frame in self._frames:
            end = int(np.searchsorted(times_of(frame, self._time), time))
            if end:
                before.append(_copy(frame, 0, end))
            if end < frame.height:
                rest.append(_copy(frame, end, frame.height))
        self._frames = rest
        return before


def _copy(frame: pl.DataFrame, start: int, end: int) -> pl.DataFrame:
    """Copy some rows, so that the others do not stay in memory."""
    if (start, end) == (0, frame.height):
        return frame
    mask = np.zeros(frame.height, np.bool_)
    mask[start:end] = True
    return frame.filter(mask)
