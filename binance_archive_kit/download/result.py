"""What a collection did: the documented dictionary, readable by attribute too.

Results of a million objects stay small: the plan's frame and one byte per object.
Lists of files are spelled when they are looked at.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, overload

import polars as pl

from binance_archive_kit.archive.absence import Absence
from binance_archive_kit.display import render
from binance_archive_kit.errors import ObjectError, WorkflowError
from binance_archive_kit.planning.plan import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Steps that a picture of the speed has at most.
_STEPS = 60


class State(IntEnum):
    """What became of an object of the plan; one byte each."""

    PENDING = 0
    DOWNLOADED = 1
    KEPT = 2
    FAILED = 3
    ABSENT = 4  #: planned without a listing, and the archive does not have it


class Files(Sequence[str]):
    """Paths or keys of some of the plan's objects, spelled when looked at.

    Parameters
    ----------
    keys : polars.Series
    spell : callable
        Makes a path of a key.
    """

    def __init__(self, keys: pl.Series, spell: Callable[[str], str] = str) -> None:
        self._keys = keys
        self._spell = spell

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self._spell(key) for key in self._keys[at]]
        return self._spell(self._keys[at])

    def __iter__(self) -> Iterator[str]:
        return map(self._spell, iter(self._keys))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"[{shown}{', …' if len(self) > 3 else ''}] ({len(self):,} files)"


class Metadata:
    """The run's own data, all of it in ``__dict__``.

    Attributes
    ----------
    task_id : str
    status : str
    created_at, updated_at : str
        UTC, ISO 8601.
    records_processed : int
        Objects proven on disk.
    bytes_processed : int
        Their bytes.
    errors : list of str
    source_files : sequence of str
        Keys of the objects that exist.
    output_files : sequence of str
        Paths of the zips proven on disk.
    """

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __repr__(self) -> str:
        fields = self.__dict__
        return f"Metadata(task_id={fields['task_id']!r}, status={fields['status']!r})"


class CollectionResult(Mapping[str, Any]):
    """What a collection got, and what it did not.

    Every entry is also an attribute, and always there.

    Attributes
    ----------
    status : str
        ``"success"`` for every run that finished.
    outcome : str
        ``complete`` (all that the archive has is proven here), ``partial`` (some
        failed), ``failed`` (all did) or ``empty`` (there was nothing to get).
    collection_stats : dict
        ``total_tasks`` (objects that exist) = ``successful_tasks`` +
        ``skipped_tasks`` + ``failed_tasks``; ``total_size_bytes`` (proven on disk),
        ``downloaded_bytes``, ``processing_time_seconds``.
    success_rate : float
        0 to 100; kept objects count as success, and nothing found is 0.
    output_files : sequence of str
        Zips proven on disk, kept ones included.
    failures : tuple of ObjectError
        Each with ``key``, ``reason`` and ``detail``.
    missing, not_published, unavailable : tuple of Absence
        Could exist and does not; is not out yet; cannot exist.
    stale : sequence of str
        Files taken though their published digest is of other bytes.
    metadata : Metadata
    """

    def __init__(
        self,
        plan: Plan,
        states: bytearray,
        *,
        failures: Sequence[ObjectError],
        missing: Sequence[Absence],
        not_published: Sequence[Absence],
        stale: Sequence[str],
        spell: Callable[[str], str],
        proven_bytes: int,
        downloaded_bytes: int,
        seconds: float,
        created_at: datetime,
        arrivals: Sequence[tuple[float, int]] = (),
    ) -> None:
        self.plan = plan
        self._arrivals = tuple(arrivals)
        self._states = states
        self._spell = spell
        self._stale = tuple(stale)
        states_of = pl.Series("state", states, dtype=pl.UInt8)
        done = states_of.is_in([State.DOWNLOADED.value, State.KEPT.value])
        keys = plan.frame["key"]
        counts = Counter(states)
        total = len(states) - counts[State.ABSENT]
        proven = counts[State.DOWNLOADED] + counts[State.KEPT]
        self.failures = tuple(failures)
        self.missing = (*plan.missing, *missing)
        self.not_published = (*plan.not_published, *not_published)
        self.unavailable = plan.unavailable
        self.output_files = Files(keys.filter(done), spell)
        self.stale = tuple(map(spell, stale))
        self.status = "success"
        self.outcome = (
            "empty"
            if not total
            else "complete"
            if proven == total
            else "partial"
            if proven
            else "failed"
        )
        self.collection_stats: dict[str, int | float] = {
            "total_tasks": total,
            "successful_tasks": counts[State.DOWNLOADED],
            "failed_tasks": counts[State.FAILED],
            "skipped_tasks": counts[State.KEPT],
            "total_size_bytes": proven_bytes,
            "downloaded_bytes": downloaded_bytes,
            "processing_time_seconds": seconds,
        }
        self.success_rate = 100 * proven / total if total else 0.0
        self.total_size_formatted = render.size(proven_bytes)
        self.output_directory = str(plan.config.output_directory)
        self.storage_zones_used = ["archive"] if proven else []
        self.ingestion_metadata_id = uuid.uuid4().hex
        self.metadata = Metadata(
            task_id=self.ingestion_metadata_id,
            status=self.status,
            created_at=created_at.isoformat(timespec="seconds"),
            updated_at=datetime.now(UTC).isoformat(timespec="seconds"),
            records_processed=proven,
            bytes_processed=proven_bytes,
            errors=[str(failure) for failure in failures],
            source_files=Files(keys.filter(states_of != State.ABSENT.value)),
            output_files=self.output_files,
        )

    @classmethod
    def joined(
        cls,
        plan: Plan,
        parts: Sequence[tuple[Sequence[int], CollectionResult]],
        *,
        seconds: float,
        created_at: datetime,
    ) -> CollectionResult:
        """Put the results of a plan's parts together; each is given with the rows it is of."""
        states = bytearray(len(plan))
        for rows, part in parts:
            for row, state in zip(rows, part._states, strict=True):
                states[row] = state
        results = [part for _, part in parts]
        stats = [part.collection_stats for part in results]
        return cls(
            plan,
            states,
            failures=[failure for part in results for failure in part.failures],
            missing=[absence for part in results for absence in part.missing],
            not_published=[absence for part in results for absence in part.not_published],
            stale=[key for part in results for key in part._stale],
            spell=results[0]._spell if results else str,
            proven_bytes=sum(int(each["total_size_bytes"]) for each in stats),
            downloaded_bytes=sum(int(each["downloaded_bytes"]) for each in stats),
            seconds=seconds,
            created_at=created_at,
        )

    # The documented dictionary

    _ENTRIES = (
        "status",
        "outcome",
        "metadata",
        "collection_stats",
        "success_rate",
        "total_size_formatted",
        "output_directory",
        "storage_zones_used",
        "ingestion_metadata_id",
        "output_files",
        "failures",
        "unavailable",
        "missing",
        "not_published",
        "stale",
    )

    def __getitem__(self, name: str) -> Any:
        if name in self._ENTRIES:
            return getattr(self, name)
        raise KeyError(f"{name}; the result has {', '.join(self._ENTRIES)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._ENTRIES)

    def __len__(self) -> int:
        return len(self._ENTRIES)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def raise_for_failures(self) -> None:
        """Raise if any object failed; for scripts that must not go on without it.

        Raises
        ------
        WorkflowError
            Naming the first failures, and carrying this result.
        """
        if self.failures:
            raise WorkflowError(self.failures_in_words(), self)

    def failures_in_words(self) -> str:
        """Count the failures by reason, and quote the first."""
        reasons = Counter(failure.reason for failure in self.failures)
        counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        first = f"; the first: {self.failures[0]}" if self.failures else ""
        return f"{len(self.failures):,} objects failed ({counted}){first}"

    # How it looks

    def summary(self) -> pl.DataFrame:
        """Count objects per feed: one row per market, data type and partition.

        Returns
        -------
        polars.DataFrame
            ``market``, ``data_type``, ``partition``, ``downloaded``, ``kept`` and ``failed``.
        """
        return (
            self.plan.frame.select(pl.col("market", "data_type", "partition").cast(pl.String))
            .with_columns(pl.Series("state", self._states, dtype=pl.UInt8))
            .group_by("market", "data_type", "partition", maintain_order=True)
            .agg(
                *[
                    (pl.col("state") == state.value).sum().alias(state.name.lower())
                    for state in (State.DOWNLOADED, State.KEPT, State.FAILED)
                ]
            )
        )

    def headline(self) -> str:
        """Sum the run up in one line."""
        stats = self.collection_stats
        if self.outcome == "empty":
            return "Nothing collected: the archive has no object of what was asked for"
        proven = stats["successful_tasks"] + stats["skipped_tasks"]
        words = [f"{proven:,} of {stats['total_tasks']:,} objects proven on disk"]
        words.append(
            f"{stats['successful_tasks']:,} downloaded, {stats['skipped_tasks']:,} kept"
            + (f", {stats['failed_tasks']:,} failed" if stats["failed_tasks"] else "")
        )
        seconds = stats["processing_time_seconds"]
        if stats["downloaded_bytes"]:
            rate = render.size(stats["downloaded_bytes"] / seconds) if seconds else "?"
            words.append(f"{render.size(stats['downloaded_bytes'])} at {rate}/s")
        words.append(f"{self.total_size_formatted} in all, {render.duration(seconds)}")
        return "; ".join(words)

    def _failure_rows(self) -> list[tuple[str, str, str]]:
        return [(failure.reason, failure.key, failure.detail) for failure in self.failures[:20]]

    def _more_failures(self) -> str:
        more = len(self.failures) - 20
        return f"… and {more:,} more in result.failures" if more > 0 else ""

    def _stale_note(self) -> str:
        count = len(self.stale)
        return f"{count:,} taken despite a stale checksum (result.stale)" if count else ""

    def __str__(self) -> str:
        lines = [f"Collection {self.outcome} · {self.headline()}"]
        lines += [
            f"  failed: {reason}: {key}: {detail}" for reason, key, detail in self._failure_rows()
        ]
        lines += [f"  {note}" for note in (self._more_failures(), self._stale_note()) if note]
        lines += render.absences_text(self.missing, self.not_published, self.unavailable)
        lines += [f"  note: {note}" for note in self.plan.notes]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"CollectionResult({self.outcome}: {self.headline()})"

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw how fast the files came.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            Where to draw; a new figure of its own if not given.

        Returns
        -------
        matplotlib.axes.Axes
            Seconds since the run began against MB/s of zips.
        """
        import numpy as np
        from matplotlib import pyplot

        if axes is None:
            _, axes = pyplot.subplots(figsize=(9, 2.6), layout="constrained")
        axes.set(title=f"Collection {self.outcome}", xlabel="seconds", ylabel="MB/s")
        come = self.collection_stats["downloaded_bytes"]
        if not come or len(self._arrivals) < 2:
            kept = self.collection_stats["skipped_tasks"]
            words = f"nothing was downloaded: {kept:,} objects kept"
            axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center")
            axes.set(xticks=[], yticks=[])
            return axes
        seconds, count = np.array(self._arrivals, dtype=float).T
        edges = np.linspace(0, seconds[-1], min(_STEPS, len(seconds) - 1) + 1)
        speed = np.diff(np.interp(edges, seconds, count)) / np.diff(edges) / 2**20
        mean = come / seconds[-1] / 2**20
        axes.stairs(speed, edges, fill=True, alpha=0.45, label="as they came")
        axes.axhline(mean, color="tab:orange", linestyle="--", label=f"on average, {mean:.2f} MB/s")
        axes.set(xlim=(0, seconds[-1]), ylim=(0, None))
        axes.legend(loc="upper left")
        return axes

    def _repr_html_(self) -> str:
        kind = {"complete": "good", "partial": "warn", "failed": "bad", "empty": "idle"}
        rows = [
            (*map(str, row[:3]), *(f"{n:,}" for n in row[3:])) for row in self.summary().iter_rows()
        ]
        head = ("market", "data type", "partition", "downloaded", "kept", "failed")
        failed = render.table(("failed because", "object", "detail"), self._failure_rows())
        notes = [note for note in (self._more_failures(), self._stale_note()) if note]
        return render.panel(
            f"Collection {self.outcome}",
            self.headline(),
            kind[self.outcome],
            render.table(head, rows, numeric={3, 4, 5}),
            failed,
            render.absences_html(self.missing, self.not_published, self.unavailable),
            render.notes_html([*notes, *self.plan.notes]),
        )
