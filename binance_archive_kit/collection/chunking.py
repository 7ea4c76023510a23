"""Cut the objects of a plan into chunks that pass through a small disk. Pure; no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import polars as pl

from binance_archive_kit.archive.enums import DataType
from binance_archive_kit.download.batches import choose_workers
from binance_archive_kit.planning.date_range import DateRange
from binance_archive_kit.planning.plan import Action, Plan, PlanReason

#: Bytes of a chunk, unless a single object is larger.
MOST_BYTES = 64 << 20
#: Objects of a chunk, by the number of downloads at the same time.
_PER_WORKER = 4
#: Chunks that a plan has at least, so that downloads and uploads overlap, and the objects from
#: which on a chunk is worth its three processes, which take a tenth of a second of a core.
_FEWEST_CHUNKS, _FEWEST_OBJECTS = 2, 128
#: Bytes of an object whose size is not listed: of single events, and of others.
_LARGE, _SMALL = 16 << 20, 64 << 10
_EVENTS = [kind.value for kind in DataType if kind.has_events]
#: The end of a key that wildcards replace: see `download.batches`.
_TAIL = len("01.zip")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some objects of a plan, which are downloaded together.

    Attributes
    ----------
    rows : list of int
        Rows of the plan. Where a wildcard could match objects that are kept, these are among
        them, so that it is not used.
    needed : list of int
        Those of them to fetch or to prove.
    size : int
        Bytes of the needed objects; estimated for those that were not listed.
    days : DateRange or None
        Their days, if a wildcard for a longer period would match objects of other chunks.
    """

    rows: list[int]
    needed: list[int]
    size: int
    days: DateRange | None = None

    @property
    def count(self) -> int:
        """Number of needed objects."""
        return len(self.needed)

    def plan(self, whole: Plan) -> Plan:
        """Return the plan of the chunk."""
        part = whole.part(self.rows)
        if self.days is None:
            return part
        return replace(part, config=part.config.model_copy(update={"date_range": self.days}))


def make_chunks(plan: Plan) -> list[Chunk]:
    """Cut a plan into chunks, in its order; leave out objects that are proven already."""
    groups = _groups(plan.frame)
    if not groups.height:
        return []
    workers = choose_workers(
        plan.rows_to_fetch()["size"].to_list(), plan.config.max_parallel_downloads
    )
    # Groups are not cut: with room for one more, all chunks are about equally large.
    fair = int(groups["count"].sum()) // _FEWEST_CHUNKS + int(groups["count"].max() or 0)  # type: ignore[arg-type]
    most = max(min(_PER_WORKER * workers, fair), _FEWEST_OBJECTS)
    return [*_fill(_pieces(groups, plan.frame, most), most)]


def _groups(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the runs of rows that wildcards could match together, if one has to be fetched."""
    proven = (PlanReason.TO_BE_PROVEN.value, PlanReason.TO_BE_HASHED.value)
    needed = (pl.col("action") != Action.KEEP.value) | pl.col("reason").is_in(proven)
    large = pl.col("data_type").cast(pl.String).is_in(_EVENTS)
    guess = pl.when(large).then(_LARGE).otherwise(_SMALL)
    return (
        frame.lazy()
        .select(
            stem=pl.col("key").str.head(-_TAIL).rle_id(),
            needed=needed,
            size=pl.coalesce("size", guess).cast(pl.Int64),
        )
        .with_row_index("row")
        .group_by("stem", maintain_order=True)
        .agg(
            pl.col("row").min().alias("first"),
            pl.len().alias("length"),
            pl.col("needed").sum().alias("count"),
            pl.col("size").filter("needed").sum().alias("bytes"),
            pl.when("needed").then("size").otherwise(None).alias("sizes"),
        )
        .filter(pl.col("count") > 0)
        .collect()
    )


def _pieces(groups: pl.DataFrame, frame: pl.DataFrame, most: int) -> Iterator[Chunk]:
    """Yield each group as a chunk; cut those that are too large."""
    columns = ("first", "length", "count", "bytes", "sizes")
    for first, length, count, size, sizes in groups.select(columns).iter_rows():
        rows = [*range(first, first + length)]
        needed = [(row, each) for row, each in zip(rows, sizes, strict=True) if each is not None]
        if size <= MOST_BYTES and count <= most:
            yield Chunk(rows, [row for row, _ in needed], size)
            continue
        for row, each in needed:
            days = DateRange(start=frame["start"][row], end=frame["end"][row])
            yield Chunk([row], [row], each, days)


def _fill(pieces: Iterator[Chunk], most: int) -> Iterator[Chunk]:
    """Join adjacent pieces until a chunk is full; those with days of their own stay apart."""
    joined: Chunk | None = None
    for piece in pieces:
        if joined is not None and _fit(joined, piece, most):
            joined = _join(joined, piece)
        else:
            if joined is not None:
                yield joined
            joined = piece
    if joined is not None:
        yield joined


def _fit(a: Chunk, b: Chunk, most: int) -> bool:
    # Days of several streams together could be a whole month of one of them.
    alike = (a.days is None) == (b.days is None)
    if a.days is not None and b.days is not None:
        alike = a.rows[-1] + 1 == b.rows[0] and a.days.end < b.days.start
    return alike and a.count + b.count <= most and a.size + b.size <= MOST_BYTES


def _join(a: Chunk, b: Chunk) -> Chunk:
    days = a.days
    if a.days is not None and b.days is not None:
        days = DateRange(start=a.days.start, end=b.days.end)
    return Chunk([*a.rows, *b.rows], [*a.needed, *b.needed], a.size + b.size, days)
