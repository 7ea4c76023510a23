"""Build a plan from requests, listing and inventory. Pure; no I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from binance_archive_kit.archive.absence import Reason
from binance_archive_kit.archive.enums import Partition
from binance_archive_kit.archive.keys import Folder, Span, format_period, period_end
from binance_archive_kit.archive.listing import FolderListing
from binance_archive_kit.archive.listing_pages import Listed
from binance_archive_kit.archive.matrix import Matrix
from binance_archive_kit.planning.absences import AbsenceExplainer, ArchiveListing, outside
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Plan, PlanReason
from binance_archive_kit.planning.requests import FolderRequest, Requests

#: Reasons of data that could exist, but is not in the archive.
MISSING = (Reason.ABSENT, Reason.AFTER_LAST, Reason.OTHER_NAME)
#: Columns that name the folder of an object.
_FOLDER_COLUMNS = ("market", "data_type", "partition", "symbol", "interval")
#: Columns of a chunk; ``folder`` is the index of a folder.
_GATHERED = {
    name: PLAN_SCHEMA.get(name, pl.UInt32)
    for name in ("key", "folder", "start", "size", "etag", "last_modified", "checksum")
}
#: Rows collected as Python objects before they are converted to a frame.
_CHUNK = 50_000


def make_plan(
    config: CollectionConfig,
    requests: Requests,
    listing: ArchiveListing | None,
    inventory: pl.DataFrame,
    matrix: Matrix,
    now: datetime,
) -> Plan:
    """Compare the requests with the listing and the inventory.

    Parameters
    ----------
    config : CollectionConfig
    requests : Requests
    listing : ArchiveListing or None
        The listed objects; None plans from the matrix alone.
    inventory : polars.DataFrame
        The files of the store, with `INVENTORY_SCHEMA`.
    matrix : Matrix
    now : datetime
        The present, aware.
    """
    rows = _Rows()
    explainer = AbsenceExplainer(listing or ArchiveListing({}), matrix, now)
    absences = list(requests.unavailable)
    # Most folders are requested for the same days.
    spelled: dict[tuple[tuple[Span, ...], Partition], list[tuple[str, date]]] = {}
    for request in requests.folders:
        folder = request.folder
        days = request.spans, folder.partition
        if days not in spelled:
            spelled[days] = [(format_period(s, folder.partition), s) for s in request.starts()]
        if listing is None:
            listed = FolderListing()
            found = [each for each in spelled[days] if _may_exist(each[1], request, now)]
            rows.extend(folder, found, None)
        else:
            listed = listing.folders.get(folder, FolderListing())
            found = [each for each in spelled[days] if each[0] in listed.objects]
            rows.extend(folder, found, [listed.objects[period] for period, _ in found])
        present = {period for period, _ in found}
        absent = [each for each in spelled[days] if each[0] not in present]
        absences += explainer.explain(request, absent, listed)
    could_exist = {*MISSING, Reason.NOT_PUBLISHED}
    return Plan(
        config=config,
        frame=decide(rows.frame(), inventory, config),
        unavailable=tuple(absence for absence in absences if absence.reason not in could_exist),
        missing=tuple(absence for absence in absences if absence.reason in MISSING),
        not_published=tuple(
            absence for absence in absences if absence.reason is Reason.NOT_PUBLISHED
        ),
        notes=tuple(map(str, (*requests.warnings, *requests.notes))),
    )


def _may_exist(start: date, request: FolderRequest, now: datetime) -> bool:
    """Return whether, by the matrix alone, the period that begins on `start` can exist."""
    is_over = period_end(start, request.folder.partition) < now.date()
    return is_over and outside(request, start) is None


class _Rows:
    """The rows of a plan, collected by column and converted to frames in chunks."""

    def __init__(self) -> None:
        self._chunks: list[pl.DataFrame] = []
        self._folders: list[Folder] = []
        self._columns: defaultdict[str, list[object]] = defaultdict(list)

    def extend(
        self, folder: Folder, found: Sequence[tuple[str, date]], listed: Sequence[Listed] | None
    ) -> None:
        """Add the objects of one folder: the period and first day of each, and its listing."""
        columns, count = self._columns, len(found)
        columns["key"] += folder.keys(period for period, _ in found)
        columns["folder"] += [len(self._folders)] * count
        columns["start"] += [start for _, start in found]
        for name in ("size", "etag", "last_modified", "checksum"):
            columns[name] += (
                [None] * count if listed is None else [getattr(each, name) for each in listed]
            )
        self._folders.append(folder)
        if len(columns["key"]) >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        self._chunks.append(pl.DataFrame(self._columns, schema=_GATHERED))
        self._columns = defaultdict(list)

    def frame(self) -> pl.DataFrame:
        """Return all rows as one frame, without action and reason."""
        self._flush()
        folders = pl.DataFrame(
            {name: [getattr(f, name) for f in self._folders] for name in _FOLDER_COLUMNS},
            schema={name: PLAN_SCHEMA[name] for name in _FOLDER_COLUMNS},
        ).with_row_index("folder")
        monthly = pl.col("partition") == Partition.MONTHLY.value
        end = pl.when(monthly).then(pl.col("start").dt.month_end()).otherwise(pl.col("start"))
        return (
            pl.concat(self._chunks)
            .join(folders, on="folder", how="left", maintain_order="left")
            .with_columns(end.alias("end"))
            .select(name for name in PLAN_SCHEMA if name not in ("action", "reason"))
        )


def decide(
    objects: pl.DataFrame, inventory: pl.DataFrame, config: CollectionConfig
) -> pl.DataFrame:
    """Decide the action for each object, and the reason.

    The first line that applies decides::

        file on disk       proof recorded          archive against proof   action
        no                 .                       .                       download  new
        yes                .                       . (force, no resume)    update    forced
        yes, other size    yes, same stamp         another ETag            update    re-issued
        yes, other size    .                       .                       update    size differs
        yes                none                    .                       keep      to be proven
        yes                by a weaker method      .                       keep      to be proven
        yes                without an ETag         an ETag                 keep      to be proven
        yes, other stamp   of another size         .                       keep      to be proven
        yes, other stamp   yes                     another ETag            keep      to be proven
        yes, other stamp   yes                     the same, or unlisted   keep      to be hashed
        yes                yes                     another ETag            update    re-issued
        yes                yes                     the same, or unlisted   keep      proven

    ``to be proven`` files are compared with the archive's digest during collection, and fetched
    again if they do not match. ``to be hashed`` files were copied, restored or linked since they
    were proven: those with the recorded bytes are proven, the others are treated as
    ``to be proven``.

    Parameters
    ----------
    objects : polars.DataFrame
        Rows of `PLAN_SCHEMA` without action and reason.
    inventory : polars.DataFrame
        Rows of `INVENTORY_SCHEMA`.
    config : CollectionConfig
    """
    forced = pl.lit(config.force_redownload or not config.enable_resume)
    size = pl.coalesce("size", "file_size")
    unchanged = pl.col("unchanged")
    moved = ~unchanged & (pl.col("file_size") == pl.col("proven_size"))
    strong = pl.lit(not config.download_checksum) | (pl.col("proven_by") == "sha256")
    if config.accept_stale_checksum:
        strong |= pl.col("proven_by") == "stale"
    # Null if either ETag is unknown; then no rule applies.
    reissued = pl.col("etag") != pl.col("proven_etag")
    compared = pl.col("etag").is_null() | pl.col("proven_etag").is_not_null()
    other_size = pl.when(reissued & unchanged).then(_lit(PlanReason.REISSUED))
    rule = (
        pl.when(pl.col("file_size").is_null())
        .then(_lit(PlanReason.NEW))
        .when(forced)
        .then(_lit(PlanReason.FORCED))
        .when(pl.col("file_size") != size)
        .then(other_size.otherwise(_lit(PlanReason.SIZE_DIFFERS)))
        .when(moved & strong & compared & ~reissued.fill_null(False))
        .then(_lit(PlanReason.TO_BE_HASHED))
        .when(~unchanged.fill_null(False) | ~strong.fill_null(False) | ~compared)
        .then(_lit(PlanReason.TO_BE_PROVEN))
        .when(reissued)
        .then(_lit(PlanReason.REISSUED))
        .otherwise(_lit(PlanReason.PROVEN))
    )
    actions = {reason.value: reason.action.value for reason in PlanReason}
    return (
        objects.join(inventory, on="key", how="left", maintain_order="left")
        .with_columns(rule.alias("reason"))
        .with_columns(
            pl.col("reason")
            .replace_strict(actions, return_dtype=PLAN_SCHEMA["action"])
            .alias("action")
        )
        .select(PLAN_SCHEMA.names())
    )


def _lit(reason: PlanReason) -> pl.Expr:
    return pl.lit(reason.value)
