"""The footer of the Parquet file of a month: its sources, its settings and its verdict."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import binance_archive_kit
from binance_archive_kit.export.sources import MonthSources
from binance_archive_kit.query.engine import Engine
from binance_archive_kit.tables.manifest import meaning_of

#: Raised when the same rows would be written in another way.
LAYOUT = 1
_PREFIX = "binance_archive_kit."


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the rows that are due in a month are present.

    Attributes
    ----------
    text : str
        The verdict in a sentence.
    coverage : float or None
        The share of the due rows, or days, that are present; None if none is due.
    complete : bool
        Whether all are present, and none is doubtful.
    """

    text: str
    coverage: float | None
    complete: bool


class Footer(NamedTuple):
    """What the footer of a file of an export says.

    Attributes
    ----------
    settings : str
        What else than the sources decides the rows, see `settings_of`.
    sources : int
        The number of sources.
    digest : str
        Of the sources, in hex.
    verdict : Verdict
    rows : int
    """

    settings: str
    sources: int
    digest: str
    verdict: Verdict
    rows: int


def settings_of(engine: Engine, month: MonthSources) -> str:
    """Return what decides the rows of a month besides its sources, as JSON."""
    folder, selection, options = month.folder, month.selection, engine.options
    return json.dumps(
        {
            "layout": LAYOUT,
            "meaning": meaning_of(month.feed),
            "prefer": options.prefer,
            "on_error": options.on_error,
            # Only if they are within the month.
            "start": _limit(selection.start, folder.start),
            "end": _limit(selection.end, folder.end),
        }
    )


def _limit(limit: datetime | None, whole: datetime) -> str | None:
    return None if limit in (None, whole) else str(limit)


def read_footer(path: Path) -> Footer | None:
    """Return the footer of a file of an export; None if the file is another one, or damaged."""
    with suppress(OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        metadata = pq.read_metadata(path)
        values = {key.decode(): value.decode() for key, value in metadata.metadata.items()}
        return Footer(
            values[f"{_PREFIX}settings"],
            int(values[f"{_PREFIX}sources"]),
            values[f"{_PREFIX}sources_sha256"],
            Verdict(values[f"{_PREFIX}verdict"], **json.loads(values[f"{_PREFIX}coverage"])),
            metadata.num_rows,
        )
    return None


def footer_text(sources: int, digest: str, verdict: Verdict, settings: str = "") -> dict[str, str]:
    """Return the metadata to write to a footer."""
    numbers = asdict(verdict)
    return {
        f"{_PREFIX}version": binance_archive_kit.__version__,
        f"{_PREFIX}sources": str(sources),
        f"{_PREFIX}sources_sha256": digest,
        f"{_PREFIX}verdict": numbers.pop("text"),
        f"{_PREFIX}coverage": json.dumps(numbers),
        f"{_PREFIX}settings": settings,
    }


def metadata_of(footer: Footer) -> dict[str, Any]:
    """Return the values of a footer that results show."""
    verdict = footer.verdict
    return {
        "rows": footer.rows,
        "sources": footer.sources,
        "coverage": verdict.coverage,
        "complete": verdict.complete,
        "verdict": verdict.text,
    }
