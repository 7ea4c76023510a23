"""Join the outcomes of a run's shards into one result, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import polars as pl

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Market, Partition
from binance_archive_kit.archive.keys import Span, Stream
from binance_archive_kit.collection.shard_run import ShardOutcome
from binance_archive_kit.collection.splitting import Shard
from binance_archive_kit.collection.stored_rows import (
    DetailFiles,
    StoredRows,
    count_values,
)
from binance_archive_kit.download.ledger import Ledger, State
from binance_archive_kit.download.result import COUNTED, OUTCOME, CollectionResult, count_feeds
from binance_archive_kit.errors import ObjectError, ShardFailed
from binance_archive_kit.planning.absences import NO_FILE
from binance_archive_kit.planning.decide import MISSING
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Plan
from binance_archive_kit.planning.requests import FeedName
from binance_archive_kit.planning.selection import SymbolSelection
from binance_archive_kit.planning.symbol_lists import streams_of

#: Shape of the rows of objects: those of a plan, and their outcome.
OBJECTS = pl.Schema({**PLAN_SCHEMA, "outcome": OUTCOME, "shard": pl.UInt32()})
_ABSENCES = pl.Schema(
    {
        "shard": pl.UInt32(),
        "market": pl.Enum(Market),
        "data_type": pl.Enum(DataType),
        "reason": pl.Enum(Reason),
        "detail": pl.String(),
        "start": pl.Date(),
        "end": pl.Date(),
        "symbol": pl.String(),
        "interval": pl.String(),
        "partition": pl.Enum(Partition),
        "key": pl.String(),
    }
)
_FAILURES = pl.Schema(
    {"shard": pl.UInt32(), "reason": pl.String(), "key": pl.String(), "detail": pl.String()}
)
#: Reasons of the days of a symbol before its first or after its last file.
_OUTSIDE = {Reason.BEFORE_FIRST, Reason.AFTER_LAST, Reason.UNKNOWN_SYMBOL}
#: Attributes of a selection, for symbols without files of the days.
_DEAD = ("ended", "later", "absent")
#: Reasons that say nothing of the symbol itself.
_OF_ANY = {Reason.NOT_BEGUN, Reason.ENDED, Reason.NOT_PUBLISHED}
#: The kinds of absences of a plan.
_KINDS = {
    "missing": MISSING,
    "not_published": (Reason.NOT_PUBLISHED,),
    "unavailable": tuple(r for r in Reason if r not in (*MISSING, Reason.NOT_PUBLISHED)),
}

_Symbol = tuple[str, str, str]


def to_absences(frame: pl.DataFrame) -> list[Absence]:
    """Return the absences of some rows."""
    return [
        Absence(
            Market(market),
            DataType(data_type),
            Reason(reason),
            detail,
            start,
            end,
            symbol,
            interval,
            partition and Partition(partition),
            key,
        )
        for market, data_type, reason, detail, start, end, symbol, interval, partition, key in (
            frame.select(_ABSENCES.names()[1:]).iter_rows()
        )
    ]


def _to_failures(frame: pl.DataFrame) -> list[ObjectError]:
    kinds = {kind.reason: kind for kind in ObjectError.__subclasses__()}
    rows = frame.select("reason", "key", "detail").iter_rows()
    return [kinds[reason](key, detail) for reason, key, detail in rows]


def _to_keys(frame: pl.DataFrame) -> list[str]:
    return cast(list[str], frame["key"].to_list())


class Joined:
    """Collects the outcomes of shards.

    Parameters
    ----------
    plan : Plan
        The configuration and the selections of the whole, without objects.
    ledger : Ledger
        For the totals.
    files : DetailFiles
        Where rows are written once they are many.
    most : int
        Rows in memory.
    """

    def __init__(self, plan: Plan, ledger: Ledger, files: DetailFiles, most: int) -> None:
        self._plan = plan
        self._files = files
        self._most = most
        self._objects = StoredRows("objects", "outcome", OBJECTS)
        self._absences = StoredRows("absences", "reason", _ABSENCES)
        #: Absences of symbols that a pattern selected, and that may have no objects.
        self._undecided = StoredRows("undecided", "reason", _ABSENCES)
        self._failures = StoredRows("failures", "reason", _FAILURES)
        self._written = False
        self._feeds: Counter[tuple[str, str, str, str]] = Counter()
        self._alive: set[_Symbol] = set()
        self._reasons: dict[_Symbol, set[str]] = {}
        self._feeds_selected: set[FeedName] = {each.feed for each in plan.selections}
        named = plan.config.symbols_of
        self._selected: set[_Symbol] = {
            (each.market, each.data_type, name)
            for each in plan.selections
            for name in set(each.symbols) - set(named(each.market))
        }
        self.ledger = ledger
        self.streams: dict[Stream, Span] = {}

    def add(self, number: int, shard: Shard, outcome: ShardOutcome) -> Counter[str]:
        """Add the outcome of a shard, with its number; return the counts of its objects."""
        ledger = self.ledger
        failures = [*outcome.failures]
        counts = Counter({"failed": 1})
        if outcome.problem is not None:
            ledger.failed_shards += 1
            failures.append(ShardFailed(str(shard), str(outcome.problem)))
            self._alive |= {(shard.market, shard.data_type, name) for name in shard.symbols}
        else:
            self._add_objects(number, frame := outcome.frame())
            counts = count_values(frame["outcome"])
        self._add_absences(number, outcome.absences)
        self._failures.add(_rows(_FAILURES, number, failures))
        ledger.stale += outcome.stale
        ledger.proven_bytes += outcome.proven_bytes
        ledger.downloaded_bytes += outcome.downloaded_bytes
        ledger.note_arrivals(0)
        if sum(rows.held for rows in self._kinds) > self._most:
            self._flush()
        return counts

    def feeds(self) -> set[tuple[str, str]]:
        """Return market and data type of the feeds that have objects."""
        return {(market, data_type) for market, data_type, *_ in self._feeds}

    def add_failure(self, shards: str, reason: str) -> None:
        """Add shards that were not run, in words, and why."""
        self.ledger.failed_shards += 1
        self._failures.add(_rows(_FAILURES, 2**32 - 1, [ShardFailed(shards, reason)]))
        self._alive |= self._selected

    def discard(self) -> None:
        """Remove the files of a run that was interrupted."""
        for rows in self._kinds:
            rows.remove(self._files)

    @property
    def _kinds(self) -> tuple[StoredRows, ...]:
        return self._objects, self._absences, self._undecided, self._failures

    def _flush(self) -> None:
        self._written = True
        for rows in self._kinds:
            rows.flush(self._files)

    def _add_objects(self, number: int, frame: pl.DataFrame) -> None:
        self._objects.add(frame.with_columns(shard=pl.lit(number, pl.UInt32)))
        for market, data_type, partition, *counts in count_feeds(frame).iter_rows():
            for name, count in zip(COUNTED, counts, strict=True):
                self._feeds[market, data_type, partition, name] += count
        if self._feeds_selected:
            symbols = frame.select(pl.col("market", "data_type", "symbol").cast(pl.String))
            self._alive.update(symbols.unique().rows())
            for stream, (start, end) in streams_of(frame, self._feeds_selected).items():
                first, last = self.streams.get(stream, (start, end))
                self.streams[stream] = min(first, start), max(last, end)

    def _add_absences(self, number: int, absences: Sequence[Absence]) -> None:
        decided, undecided = [], []
        for each in absences:
            symbol = each.market, each.data_type, each.symbol or ""
            if symbol in self._selected:
                reason = "" if each.detail == NO_FILE else each.reason
                self._reasons.setdefault(symbol, set()).add(reason)
                undecided.append(each)
            else:
                decided.append(each)
        self._absences.add(_rows(_ABSENCES, number, decided))
        self._undecided.add(_rows(_ABSENCES, number, undecided))

    # The result

    def selections(self) -> tuple[SymbolSelection, ...]:
        """Return the selections, with the symbols that have no files of the days."""
        dead = self._dead()
        return tuple(
            replace(each, **{kind: _of_kind(dead, each, kind) for kind in _DEAD})
            for each in self._plan.selections
        )

    def _dead(self) -> dict[_Symbol, str]:
        """Return the selected symbols that end before the days, or begin after them.

        A plan of the whole leaves them out, see `without_dead`.
        """
        dead = {}
        for symbol, reasons in self._reasons.items():
            if symbol in self._alive or not reasons & {*_OUTSIDE, ""}:
                continue
            if not reasons <= {*_OUTSIDE, *_OF_ANY, ""}:
                continue
            if Reason.AFTER_LAST in reasons:
                dead[symbol] = "ended"
            else:
                dead[symbol] = "later" if Reason.BEFORE_FIRST in reasons else "absent"
        return dead

    def result(self, notes: Sequence[str]) -> CollectionResult:
        """Return the result of the whole run."""
        self._decide()
        self.ledger.close()
        plan = replace(self._plan, notes=tuple(notes), selections=self.selections())
        if not self._written:
            return self._in_memory(plan)
        self._flush()
        absences: dict[str, Any] = {
            kind: self._absences.view(self._files, reasons, to_absences)
            for kind, reasons in _KINDS.items()
        }
        reasons = [*self._failures.counts]
        failures: Any = self._failures.view(self._files, reasons, _to_failures)
        ledger = replace(self.ledger, failures=failures)
        detail = StoredDetail(self._files, self._objects, self._feed_counts())
        return CollectionResult(replace(plan, **absences), ledger, detail)

    def _in_memory(self, plan: Plan) -> CollectionResult:
        objects, absences, failures = (
            rows.frame(self._files).sort("shard", maintain_order=True)
            for rows in (self._objects, self._absences, self._failures)
        )
        states = {state.name.lower(): state.value for state in State}
        outcomes = objects["outcome"].cast(pl.String)
        found = to_absences(absences)
        kinds: dict[str, Any] = {
            kind: tuple(each for each in found if each.reason in reasons)
            for kind, reasons in _KINDS.items()
        }
        whole = replace(plan, frame=objects.select(PLAN_SCHEMA.names()), **kinds)
        ledger = replace(
            self.ledger,
            states=bytearray(outcomes.replace_strict(states, return_dtype=pl.UInt8)),
            failures=_to_failures(failures),
        )
        return CollectionResult(whole, ledger)

    def _decide(self) -> None:
        """Leave out the absences of selected symbols that have no files of the days."""
        names = pl.DataFrame(
            [*self._dead()], schema=["market", "data_type", "symbol"], orient="row"
        ).with_columns(pl.all().cast(pl.String))
        for frame in self._undecided.drain(self._files):
            text = frame.with_columns(pl.col("market", "data_type").cast(pl.String))
            kept = text.join(names, on=names.columns, how="anti", maintain_order="left")
            self._absences.add(kept.cast(_ABSENCES))
            if self._written:
                self._absences.flush(self._files)
        self._undecided = StoredRows("undecided", "reason", _ABSENCES)

    def _feed_counts(self) -> pl.DataFrame:
        feeds = dict.fromkeys(name[:3] for name in self._feeds)
        rows = [(*feed, *(self._feeds[(*feed, each)] for each in COUNTED)) for feed in feeds]
        names = ["market", "data_type", "partition", *COUNTED]
        return pl.DataFrame(rows, schema=names, orient="row")


@dataclass(frozen=True, slots=True)
class StoredDetail:
    """The outcome of each object of a large run, in Parquet files; see `result.Detail`."""

    files: DetailFiles
    rows: StoredRows
    feeds: pl.DataFrame

    @property
    def where(self) -> str:
        """The folder or URL of the files."""
        return self.files.where

    @property
    def counts(self) -> Mapping[State, int]:
        """The number of objects by state."""
        return {state: self.rows.counts[state.name.lower()] for state in State}

    def keys(self, *states: State) -> Sequence[str]:
        """Return the keys of the objects in one of these states."""
        return self.rows.view(self.files, [state.name.lower() for state in states], _to_keys)

    def objects(self) -> pl.DataFrame:
        """Return all rows."""
        return self.rows.frame(self.files).drop("shard")


def _of_kind(dead: Mapping[_Symbol, str], selection: SymbolSelection, kind: str) -> Any:
    """Return the symbols of a selection that are dead in one way."""
    feed = selection.market, selection.data_type
    return tuple(name for name in selection.symbols if dead.get((*feed, name)) == kind)


def _rows(schema: pl.Schema, shard: int, entries: Sequence[object]) -> pl.DataFrame:
    """Return the attributes of some entries as rows of a schema, with the number of a shard."""
    columns = {name: [getattr(each, name) for each in entries] for name in schema.names()[1:]}
    return pl.DataFrame({"shard": [shard] * len(entries), **columns}, schema=schema)
