"""The result of a collection: a mapping with attributes.

A result needs the plan's frame and one byte per object. Paths and keys are formatted on access.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import polars as pl

from binance_archive_kit.archive.absence import absence_folds
from binance_archive_kit.display import render, theme
from binance_archive_kit.display.summary import State as Tone
from binance_archive_kit.display.summary import Summary, Table
from binance_archive_kit.download.ledger import Ledger, State
from binance_archive_kit.errors import ShardFailed, WorkflowError
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")

#: The states of objects as text.
OUTCOME = pl.Enum([state.name.lower() for state in State])
#: The outcomes that are counted for each feed.
COUNTED = ("downloaded", "kept", "failed")
#: Maximum number of steps in a plot of the speed.
_STEPS = 60
#: Failures that a summary lists.
_SHOWN = 20
_TONES: dict[str, Tone] = {
    "complete": "good",
    "partial": "warn",
    "failed": "bad",
    "empty": "idle",
}


class Files(Sequence[str]):
    """Paths or keys of some of the plan's objects, formatted on access.

    Parameters
    ----------
    keys : polars.Series, or a sequence
    path_of : callable
        Returns the path for a key.
    """

    def __init__(
        self, keys: pl.Series | Sequence[Any], path_of: Callable[[str], object] = str
    ) -> None:
        self._keys = keys
        self._path_of = path_of

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [str(self._path_of(key)) for key in self._keys[index]]
        return str(self._path_of(self._keys[index]))

    def __iter__(self) -> Iterator[str]:
        return (str(self._path_of(key)) for key in self._keys)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"[{shown}{', …' if len(self) > 3 else ''}] ({len(self):,} files)"


class Detail(Protocol):
    """The outcome of each object of a run that is too large for the memory."""

    @property
    def where(self) -> str:
        """The folder or URL of the Parquet files."""

    @property
    def counts(self) -> Mapping[State, int]:
        """The number of objects by state."""

    @property
    def feeds(self) -> pl.DataFrame:
        """The counts of each feed, as `CollectionResult.summary`."""

    def keys(self, *states: State) -> Sequence[str]:
        """Return the keys of the objects in one of these states."""

    def objects(self) -> pl.DataFrame:
        """Return all rows, as `CollectionResult.objects`."""


class CollectionResult(Mapping[str, Any]):
    """The result of a collection: files, counts, failures and absences.

    A mapping; its entries are also attributes, and always present. `collect` returns it.
    Displays itself in a notebook.

    Attributes
    ----------
    outcome : str
        ``complete``: every requested object of the archive is proven in the store;
        ``partial``: some objects failed; ``failed``: all objects failed; ``empty``: no
        requested object is in the archive.
    collection_stats : dict
        ``total_tasks`` (objects in the archive) = ``successful_tasks`` (downloaded) +
        ``skipped_tasks`` (kept) + ``failed_tasks``; ``total_size_bytes`` (proven),
        ``downloaded_bytes``, ``processing_time_seconds``.
    success_rate : float
        Percentage of downloaded and kept objects; 0 without objects.
    output_files : sequence of str
        Paths, or URLs, of all proven zips, downloaded or kept.
    failures : sequence of ObjectError
        Each with ``key``, ``reason`` and ``detail``.
    missing : sequence of Absence
        Requested data that could exist, but is not in the archive.
    not_published : sequence of Absence
        Requested data that is not published yet.
    unavailable : sequence of Absence
        Requested data that cannot exist.
    stale : sequence of str
        Paths of files that were accepted although their published digest differs.
    status : str
        ``"success"`` for every run that finished; see `outcome`.
    metadata : types.SimpleNamespace
        ``task_id``, ``status``, ``created_at`` and ``updated_at`` (UTC, ISO 8601),
        ``records_processed`` (proven objects), ``bytes_processed``, ``errors`` (failures as
        text), ``source_files`` (keys of the objects in the archive), ``output_files``.
    plan : Plan
        The executed plan.
    detail : str or None
        Where the Parquet files with the outcome of each object are, if a run with an executor
        was too large for the memory: a folder or URL. The sequences above read them on access,
        and `plan` and `objects` all of them.
    """

    def __init__(self, plan: Plan, ledger: Ledger, detail: Detail | None = None) -> None:
        def keys(*states: State) -> Sequence[Any] | pl.Series:
            if detail is not None:
                return detail.keys(*states)
            return plan.frame["key"].filter(ledger.rows_in(*states))

        counts = Counter(ledger.states if detail is None else detail.counts)
        proven = counts[State.DOWNLOADED] + counts[State.KEPT]
        failed = counts[State.FAILED] + ledger.failed_shards
        total = proven + failed + counts[State.PENDING]
        task_id = uuid.uuid4().hex
        output_files = Files(keys(State.DOWNLOADED, State.KEPT), ledger.path_of)
        # The entries of the mapping, in this order.
        self.status = "success"
        self.outcome = _outcome(proven, total)
        self.metadata = SimpleNamespace(
            task_id=task_id,
            status=self.status,
            created_at=ledger.clock.created_at.isoformat(timespec="seconds"),
            updated_at=datetime.now(UTC).isoformat(timespec="seconds"),
            records_processed=proven,
            bytes_processed=ledger.proven_bytes,
            errors=[*map(str, ledger.failures)] if detail is None else Files(ledger.failures),
            source_files=Files(keys(*(state for state in State if state is not State.ABSENT))),
            output_files=output_files,
        )
        self.collection_stats: dict[str, int | float] = {
            "total_tasks": total,
            "successful_tasks": counts[State.DOWNLOADED],
            "failed_tasks": failed,
            "skipped_tasks": counts[State.KEPT],
            "total_size_bytes": ledger.proven_bytes,
            "downloaded_bytes": ledger.downloaded_bytes,
            "processing_time_seconds": ledger.seconds,
        }
        self.success_rate = 100 * proven / total if total else 0.0
        self.total_size_formatted = render.size(ledger.proven_bytes)
        self.output_directory = str(plan.config.output_directory)
        self.storage_zones_used = ["archive"] if proven else []
        self.ingestion_metadata_id = task_id
        self.output_files = output_files
        self.failures = _joined(ledger.failures)
        self.unavailable = _joined(plan.unavailable)
        self.missing = _joined(plan.missing, ledger.missing)
        self.not_published = _joined(plan.not_published, ledger.not_published)
        self.stale = tuple(str(ledger.path_of(key)) for key in ledger.stale)
        self._entries = list(vars(self))
        self.detail = None if detail is None else detail.where
        self.ledger = ledger
        self._detail = detail
        self._plan = plan

    @property
    def plan(self) -> Plan:
        """The executed plan."""
        if self._detail is None:
            return self._plan
        frame = self._detail.objects().select(PLAN_SCHEMA.names())
        return replace(self._plan, frame=frame)

    # The documented dictionary

    def __getitem__(self, name: str) -> Any:
        if name in self._entries:
            return getattr(self, name)
        raise KeyError(f"{name}; the result has {', '.join(self._entries)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def raise_for_failures(self) -> None:
        """Raise an error if any object failed.

        Raises
        ------
        WorkflowError
            With the first failure in its message, and this result as ``result``.
        """
        if self.failures:
            raise WorkflowError(self.failures_in_words(), self)

    def failures_in_words(self) -> str:
        """Return one line with the number of failures by reason, and the first failure."""
        # Failures in files are counted already.
        counted = getattr(self.failures, "reasons", None)
        reasons = counted or Counter(failure.reason for failure in self.failures)
        counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        first = f"; the first: {self.failures[0]}" if self.failures else ""
        # How many objects a failed shard has is not known.
        known = ShardFailed.reason not in reasons
        what = render.counted(len(self.failures), "object" if known else "failure")
        return f"{what}{' failed' if known else ''} ({counted}){first}"

    # Display

    def objects(self) -> pl.DataFrame:
        """Return the outcome of each object: the rows of ``plan.frame`` with ``outcome``.

        Returns
        -------
        polars.DataFrame
            ``outcome`` is ``downloaded``, ``kept``, ``failed`` or ``absent`` (planned without a
            listing, and not in the archive). Objects of shards that failed as a whole are not
            known; see `failures`.
        """
        if self._detail is not None:
            return self._detail.objects()
        outcomes = pl.Series(self.ledger.states, dtype=pl.UInt8).replace_strict(
            {state.value: state.name.lower() for state in State}, return_dtype=OUTCOME
        )
        return self.plan.frame.with_columns(outcomes.alias("outcome"))

    def summary(self) -> pl.DataFrame:
        """Count objects per feed: one row per market, data type and partition.

        Returns
        -------
        polars.DataFrame
            ``market``, ``data_type``, ``partition`` (text), ``downloaded``, ``kept`` and
            ``failed`` (integers).
        """
        return count_feeds(self.objects()) if self._detail is None else self._detail.feeds

    def headline(self) -> str:
        """Return the result in one line."""
        stats = self.collection_stats
        if self.outcome == "empty":
            return "Nothing collected: the archive has none of the requested objects"
        proven = stats["successful_tasks"] + stats["skipped_tasks"]
        where = (
            "in the bucket" if isinstance(self._plan.config.output_directory, str) else "on disk"
        )
        words = [f"{proven:,} of {stats['total_tasks']:,} objects proven {where}"]
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

    def _summary(self) -> Summary:
        feeds = [
            (
                *(market, data_type, partition, *(f"{count:,}" for count in counts)),
                render.percent(sum(counts[:2]), sum(counts)),
            )
            for market, data_type, partition, *counts in self.summary().iter_rows()
        ]
        more, stale = len(self.failures) - _SHOWN, len(self.stale)
        stale_note = f"{stale:,} accepted despite a stale checksum (result.stale)"
        return Summary(
            f"Collection {self.outcome}",
            self.headline(),
            _TONES[self.outcome],
            [
                Table(
                    (
                        *("market", "data type", "partition"),
                        *("downloaded", "kept", "failed", "collected"),
                    ),
                    feeds,
                    numeric={3, 4, 5, 6},
                ),
                Table(
                    ("failed because", "object", "detail"),
                    [(error.reason, error.key, error.detail) for error in self.failures[:_SHOWN]],
                    below=f"… and {more:,} more in result.failures" if more > 0 else "",
                ),
            ],
            folds=absence_folds(self.missing, self.not_published, self.unavailable),
            notes=[*([stale_note] if stale else []), *self._plan.notes],
        )

    def to_markdown(self) -> str:
        """Format the result as Markdown, for pages that do not display HTML."""
        return self._summary().to_markdown()

    def __str__(self) -> str:
        return self._summary().to_text()

    def __repr__(self) -> str:
        return f"CollectionResult({self.outcome}: {self.headline()})"

    def plot(self, axes: Axes | None = None) -> Axes:
        """Plot the download speed over time.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            The axes to draw on; by default those of a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            MB/s of zips over seconds since the start of the run.
        """
        import numpy as np

        title = f"Collection {self.outcome}"
        axes = theme.new_axes((9, 2.6), f"{title}: speed over time") if axes is None else axes
        theme.dress(axes, grid=True)
        theme.set_title(axes, title)
        axes.set(xlabel="seconds", ylabel="MB/s")
        total, points = self.ledger.downloaded_bytes, self.ledger.arrivals.points
        if not total or len(points) < 2:
            kept = self.collection_stats["skipped_tasks"]
            axes.text(
                0.5, 0.5, f"nothing was downloaded: {kept:,} objects kept",
                transform=axes.transAxes, ha="center", va="center", color=theme.INK,
            )  # fmt: skip
            axes.set_axis_off()
            return axes
        seconds, count = np.array(points, dtype=float).T
        edges = np.linspace(0, seconds[-1], min(_STEPS, len(seconds) - 1) + 1)
        speed = np.diff(np.interp(edges, seconds, count)) / np.diff(edges) / 2**20
        mean = total / seconds[-1] / 2**20
        axes.stairs(speed, edges, fill=True, alpha=0.6, color=theme.BLUE, label="measured")
        label = f"average, {mean:.2f} MB/s"
        axes.axhline(mean, color=theme.ORANGE, linestyle="--", label=label)
        axes.set(xlim=(0, seconds[-1]), ylim=(0, None))
        theme.add_legend(axes, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=2)
        return axes

    def _repr_html_(self) -> str:
        return self._summary().to_html()


def count_feeds(objects: pl.DataFrame) -> pl.DataFrame:
    """Count the outcomes per feed, of rows as those of `CollectionResult.objects`."""
    return (
        objects.select(pl.col("market", "data_type", "partition").cast(pl.String), "outcome")
        .group_by("market", "data_type", "partition", maintain_order=True)
        .agg(*[(pl.col("outcome") == each).sum().alias(each) for each in COUNTED])
    )


def _joined(first: Sequence[T], second: Sequence[T] = ()) -> Sequence[T]:
    """Return all entries as a tuple; a sequence that is stored in files stays as it is."""
    return (*first, *second) if second or isinstance(first, list | tuple) else first


def _outcome(proven: int, total: int) -> str:
    if not total:
        return "empty"
    return "complete" if proven == total else "partial" if proven else "failed"
