"""The coverage of one exported stream, and the ``.coverage.json`` beside its file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

import binance_archive_kit
from binance_archive_kit.archive.keys import Stream
from binance_archive_kit.export.footers import Verdict
from binance_archive_kit.export.sources import Source
from binance_archive_kit.quality.report import count_gaps, doubts_of, flaws_of
from binance_archive_kit.quality.timeline import STREAM_FIELDS, FindingKind, GapKind
from binance_archive_kit.query.pruning import Selection
from binance_archive_kit.reading.cadence import cadence_of
from binance_archive_kit.timestamps import format_time

#: Added to the name of a file.
SUFFIX = ".coverage.json"
#: Kinds of gaps and findings that block an export.
_MISSING = [kind for kind in GapKind if kind.is_missing and kind is not GapKind.HALT]
_DOUBTS = [kind for kind in FindingKind if kind.is_doubt]
_BLOCKING, _DOUBTFUL = pl.col("kind").is_in(_MISSING), pl.col("kind").is_in(_DOUBTS)


@dataclass(frozen=True)
class StreamCoverage:
    """The coverage of a stream on the days that are exported.

    Attributes
    ----------
    stream : Stream
    first, last : date
        UTC days, both inclusive.
    verdict : Verdict
        In words, with the share of the due rows that are present.
    expected : int or None
        Rows due; None where they cannot be counted.
    present : int
        Rows present, without duplicates.
    gaps, findings : polars.DataFrame
        As in `CoverageReport`, without what lies on other days; gaps end with the days.
    changes : tuple of str
        Known renames and reuses of the symbol.
    sources : tuple of Source
        The files that may have rows of the days.
    """

    stream: Stream
    first: date
    last: date
    verdict: Verdict
    expected: int | None
    present: int
    gaps: pl.DataFrame
    findings: pl.DataFrame
    changes: tuple[str, ...]
    sources: tuple[Source, ...]

    @property
    def name(self) -> str:
        """The stream and the days, in words."""
        return f"{self.stream}, {self.first} to {self.last}"

    @property
    def selection(self) -> Selection:
        """The rows that are exported, for `UniqueRows.read`."""
        stream = self.stream
        return Selection(
            frozenset([stream.symbol]),
            None if stream.interval is None else frozenset([stream.interval]),
            datetime.combine(self.first, time()),
            datetime.combine(self.last + timedelta(days=1), time()),
        )

    @property
    def blocks(self) -> bool:
        """Whether data are missing, invalid or doubtful; a halt of the market does not block."""
        return not self.gaps.filter(_BLOCKING).is_empty() or not doubts_of(self.findings).is_empty()

    @property
    def is_noteworthy(self) -> bool:
        """Whether there is a gap, a flaw or a change of the symbol to warn of."""
        return bool(self.gaps.height or flaws_of(self.findings).height or self.changes)

    def describe(self) -> str:
        """Describe the stream, the verdict, the gaps without due rows, and the worst evidence."""
        text = f"{self.name}: {self.verdict.text}"
        not_due = [kind for kind in GapKind if not kind.is_missing]
        if counted := count_gaps(self.gaps.filter(pl.col("kind").is_in(not_due))):
            text += f"; not due: {counted}"
        worst = self.gaps.sort(_BLOCKING, "missing", descending=True, nulls_last=True)
        for start, evidence in worst["start", "evidence"].head(1).iter_rows():
            text += f"; such as from {format_time(start)} UTC: {evidence}"
        return f"{text}; {self.changes[0]}" if self.changes else text

    def covered(self, times: pl.Series) -> pl.Series:
        """Mark the candles over which a return can be computed.

        A candle is covered if no step lies without a row between the opening of the candle
        before it and its own close: then its return is one over a single interval. The first
        candle after a gap is not covered, whatever the kind of the gap, also after a halt. The
        very first candle has none before it and is covered. Whether values are doubtful is not
        considered, see `findings`.

        Parameters
        ----------
        times : polars.Series
            ``open_time`` of the exported candles, sorted; ``Datetime`` in microseconds.

        Returns
        -------
        polars.Series
            ``covered`` (``Boolean``).
        """
        stream = self.stream
        cadence = cadence_of(stream.market, stream.data_type, stream.interval)
        opened = times.to_physical().to_numpy()
        steps = np.full(len(opened), cadence.step)
        on_time = opened[1:] <= cadence.next_due(opened[:-1], steps[:-1])
        return pl.Series("covered", np.concatenate([np.ones(len(opened[:1]), np.bool_), on_time]))

    def to_dict(self, rows: int | None = None) -> dict[str, Any]:
        """Return all of it as values that JSON has; times are ISO 8601 in UTC.

        Parameters
        ----------
        rows : int, optional
            Number of rows that were exported, if it is known.

        Returns
        -------
        dict
            ``stream`` (its fields), ``start`` and ``end`` (`end` exclusive), ``verdict``,
            ``complete``, ``coverage`` (0 to 1), ``expected_rows`` (None where they cannot be
            counted), ``present_rows`` (without duplicates), ``rows``; ``gaps`` (``start``, ``end``,
            ``missing``, ``kind``, ``evidence``, ``blocks``), ``findings`` (``start``, ``end``,
            ``rows``, ``kind``, ``evidence``, ``explained``, ``blocks``), ``changes``, ``sources``
            (``path`` in the store, ``size``, ``sha256`` of proven files, else None),
            ``checked_at`` and ``version`` of this package.
        """
        fields = ((name, getattr(self.stream, name)) for name in STREAM_FIELDS)
        return {
            "stream": {name: value and str(value) for name, value in fields},
            "start": _midnight(self.first),
            "end": _midnight(self.last + timedelta(days=1)),
            "verdict": self.verdict.text,
            "complete": self.verdict.complete,
            "coverage": self.verdict.coverage,
            "expected_rows": self.expected,
            "present_rows": self.present,
            "rows": rows,
            "gaps": _plain(self.gaps, _BLOCKING),
            "findings": _plain(self.findings, _DOUBTFUL),
            "changes": [*self.changes],
            "sources": [
                {"path": each.path, "size": each.size, "sha256": each.sha256}
                for each in self.sources
            ],
            "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": binance_archive_kit.__version__,
        }

    def write(
        self, path: Path, rows: int | None = None, more: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Write the JSON of `to_dict`, with more fields, to a new file, down to the disk."""
        fields = self.to_dict(rows) | dict(more)
        text = json.dumps(fields, indent=1, ensure_ascii=False, allow_nan=False)
        with path.open("w", encoding="utf-8") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())

    def put(self, written: Path, path: Path, rows: int | None = None) -> None:
        """Put a file that was written elsewhere on the disk in its place, and the JSON beside it.

        Each appears whole, and replaces an older one. A process that is killed in between leaves
        a file without its JSON, never one with the JSON of another.

        Parameters
        ----------
        written : Path
            On the same file system as `path`.
        path : Path
            Its name with ``.coverage.json`` added is that of the JSON.
        rows : int, optional
            As for `to_dict`.
        """
        beside, new = (each.with_name(each.name + SUFFIX) for each in (path, written))
        self.write(new, rows)
        with written.open("rb+") as file:
            os.fsync(file.fileno())
        beside.unlink(missing_ok=True)
        written.replace(path)
        new.replace(beside)


def _midnight(day: date) -> str:
    return datetime.combine(day, time(), UTC).isoformat()


def _plain(frame: pl.DataFrame, blocks: pl.Expr) -> list[dict[str, Any]]:
    """Return rows without the fields of the stream, times as text."""
    text = pl.col("start", "end").dt.strftime("%Y-%m-%dT%H:%M:%S%.f%:z")
    return frame.drop(STREAM_FIELDS).with_columns(text, blocks=blocks).to_dicts()
