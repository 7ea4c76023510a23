"""The result of a collection: a mapping with attributes.

A result needs the plan's frame and one byte per object. Paths and keys are formatted on access.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, overload

import polars as pl

from binance_archive_kit.archive.absence import absence_folds
from binance_archive_kit.display import render, theme
from binance_archive_kit.display.summary import State as Tone
from binance_archive_kit.display.summary import Summary, Table
from binance_archive_kit.download.ledger import Clock, Ledger, State
from binance_archive_kit.errors import WorkflowError
from binance_archive_kit.planning.plan import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    keys : polars.Series
    path_of : callable
        Returns the path for a key.
    """

    def __init__(self, keys: pl.Series, path_of: Callable[[str], object] = str) -> None:
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
    failures : tuple of ObjectError
        Each with ``key``, ``reason`` and ``detail``.
    missing : tuple of Absence
        Requested data that could exist, but is not in the archive.
    not_published : tuple of Absence
        Requested data that is not published yet.
    unavailable : tuple of Absence
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
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        keys = plan.frame["key"]
        counts = Counter(ledger.states)
        total = len(plan) - counts[State.ABSENT]
        proven = counts[State.DOWNLOADED] + counts[State.KEPT]
        proven_keys = keys.filter(ledger.rows_in(State.DOWNLOADED, State.KEPT))
        task_id, output_files = uuid.uuid4().hex, Files(proven_keys, ledger.path_of)
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
            errors=[str(failure) for failure in ledger.failures],
            source_files=Files(keys.filter(~ledger.rows_in(State.ABSENT))),
            output_files=output_files,
        )
        self.collection_stats: dict[str, int | float] = {
            "total_tasks": total,
            "successful_tasks": counts[State.DOWNLOADED],
            "failed_tasks": counts[State.FAILED],
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
        self.failures = tuple(ledger.failures)
        self.unavailable = plan.unavailable
        self.missing = (*plan.missing, *ledger.missing)
        self.not_published = (*plan.not_published, *ledger.not_published)
        self.stale = tuple(str(ledger.path_of(key)) for key in ledger.stale)
        self._entries = list(vars(self))
        self.plan = plan
        self._ledger = ledger

    @classmethod
    def join(
        cls, plan: Plan, parts: Sequence[tuple[Sequence[int], CollectionResult]], clock: Clock
    ) -> CollectionResult:
        """Join results of parts of a plan, each given with its row numbers."""
        ledgers = ((rows, part._ledger) for rows, part in parts)
        return cls(plan, Ledger.join(len(plan), ledgers, clock))

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
        reasons = Counter(failure.reason for failure in self.failures)
        counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        first = f"; the first: {self.failures[0]}" if self.failures else ""
        return f"{len(self.failures):,} objects failed ({counted}){first}"

    # Display

    def summary(self) -> pl.DataFrame:
        """Count objects per feed: one row per market, data type and partition.

        Returns
        -------
        polars.DataFrame
            ``market``, ``data_type``, ``partition`` (text), ``downloaded``, ``kept`` and
            ``failed`` (integers).
        """
        return (
            self.plan.frame.select(pl.col("market", "data_type", "partition").cast(pl.String))
            .with_columns(pl.Series("state", self._ledger.states, dtype=pl.UInt8))
            .group_by("market", "data_type", "partition", maintain_order=True)
            .agg(
                *[
                    (pl.col("state") == state.value).sum().alias(state.name.lower())
                    for state in (State.DOWNLOADED, State.KEPT, State.FAILED)
                ]
            )
        )

    def headline(self) -> str:
        """Return the result in one line."""
        stats = self.collection_stats
        if self.outcome == "empty":
            return "Nothing collected: the archive has none of the requested objects"
        proven = stats["successful_tasks"] + stats["skipped_tasks"]
        where = "in the bucket" if isinstance(self.plan.config.output_directory, str) else "on disk"
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
            notes=[*([stale_note] if stale else []), *self.plan.notes],
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
        total, points = self._ledger.downloaded_bytes, self._ledger.arrivals.points
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


def _outcome(proven: int, total: int) -> str:
    if not total:
        return "empty"
    return "complete" if proven == total else "partial" if proven else "failed"
