"""What the archive holds: which feeds of which market, since when and until when.

The facts stand in ``matrix/enhanced_binance_archive_matrix.json``. A matrix file
of the documented format may be given instead: entries that carry
``partition_facts`` are taken at their word, plainer ones are corrected from the
shipped facts, and every correction becomes a note.

The matrix explains; the archive's listing decides. See `Confidence`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from binance_archive_kit.archive.enums import (
    INTERVAL_ALIASES,
    PREMIUM_INDEX,
    DataType,
    Interval,
    Market,
    Partition,
)
from binance_archive_kit.archive.keys import period_end
from binance_archive_kit.errors import ConfigurationError, nearest, unknown
from binance_archive_kit.paths import find_path, parse_json, read_text

#: File name of the matrix that is used when none is named.
DEFAULT_MATRIX = "enhanced_binance_archive_matrix.json"

UTC_MIDNIGHT = time()


class Confidence(StrEnum):
    """How well a fact is known."""

    BYTES = "A"  #: bytes in hand, or Binance's own words
    MEASURED = "B"  #: somebody's dated measurement of the live bucket
    HEARSAY = "C"  #: one secondary statement; the listing must be asked


class SymbolForm(StrEnum):
    """How the symbols of a feed are spelled in the archive."""

    AS_LISTED = "as_listed"
    CONTRACT = "contract"
    PERPETUAL = "perpetual"
    PAIR = "pair"
    VOLATILITY_INDEX = "volatility_index"
    UNDERLYING = "underlying"


def _first_of_month(value: object) -> object:
    """Read ``YYYY-MM`` as its first day; leave all else to pydantic."""
    return f"{value}-01" if isinstance(value, str) and len(value) == 7 else value


Day = Annotated[date, BeforeValidator(_first_of_month)]


class _Facts(BaseModel):
    """Immutable, and tolerant of fields that later versions may add."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class PartitionAvailability(_Facts):
    """What is known of one feed's daily or monthly files.

    Attributes
    ----------
    first, last : date or None
        First day of the first and of the last period, UTC, inclusive. None: not known, or
        for `last` of a feed that is running: none.
    intervals : tuple of Interval
        Intervals that are kept; empty for feeds without intervals.
    abandoned_intervals : tuple of Interval
        Folders that exist and are no longer filled.
    doubts : mapping of Interval to str
        Intervals that may have ended, and why; the listing tells.
    status : {"running", "ended"}
        ``ended``: it ended on a day that is not known. A `last` says the same and more.
    """

    first: Day | None = None
    last: Day | None = None
    intervals: tuple[Interval, ...] = ()
    abandoned_intervals: tuple[Interval, ...] = ()
    doubts: Mapping[Interval, str] = Field(default_factory=dict)
    status: Literal["running", "ended"] = "running"
    known_gaps: tuple[str, ...] = ()
    note: str = ""
    confidence: Confidence
    source: str

    @property
    def has_ended(self) -> bool:
        """Whether no more files come."""
        return self.status == "ended" or self.last is not None

    @property
    def until(self) -> str:
        """Until when there are files, in words.

        >>> facts = {"confidence": "C", "source": "hearsay", "status": "ended"}
        >>> PartitionAvailability.model_validate(facts).until
        'ended, day unknown'
        """
        if not self.has_ended:
            return "running"
        if self.last is None:
            return "ended, day unknown"
        return f"about {self.last}" if self.confidence is Confidence.HEARSAY else f"{self.last}"

    @property
    def gaps(self) -> list[tuple[date, date]]:
        """The known gaps: first and last UTC day of each, both inclusive."""
        spans = [text.split("..") for text in self.known_gaps]
        return [(date.fromisoformat(span[0]), date.fromisoformat(span[-1])) for span in spans]


class _Alias(_Facts):
    default_intervals: tuple[Interval, ...]


class Feed(_Facts):
    """One line of the matrix, in the documented format and its extension."""

    market: Market
    data_type: str
    intervals: tuple[str | None, ...]
    partitions: tuple[Partition, ...]
    available_from: date | None
    notes: str = ""
    url_pattern: str
    filename_pattern: str
    archive_type: DataType | None = None
    aliases: Mapping[str, _Alias] = Field(default_factory=dict)
    symbol_form: SymbolForm = SymbolForm.AS_LISTED
    partition_facts: Mapping[Partition, PartitionAvailability] | None = None

    @model_validator(mode="after")
    def _has_a_type(self) -> Feed:
        """Refuse a data type that the archive does not know."""
        known = {*DataType, PREMIUM_INDEX}
        if self.archive_type is None and self.data_type not in known:
            raise ValueError(unknown("data_type", self.data_type, DataType))
        return self

    @property
    def type(self) -> DataType:
        """The archive's own name for the data type."""
        if self.archive_type is not None:
            return self.archive_type
        if self.data_type == PREMIUM_INDEX:
            return DataType.PREMIUM_INDEX_KLINES
        return DataType(self.data_type)

    @property
    def partitioned(self) -> Mapping[Partition, PartitionAvailability]:
        """The facts of each partition; empty when the entry states none."""
        return self.partition_facts or {}

    def partitions_with(self, interval: str | None) -> Mapping[Partition, PartitionAvailability]:
        """Return the partitions that have an interval; None for a feed without intervals."""
        return {
            partition: facts
            for partition, facts in self.partitioned.items()
            if interval is None or interval in facts.intervals
        }


class _SymbolFormFacts(_Facts):
    description: str
    pattern: str
    example: str


class _ArchiveFacts(_Facts):
    # Both go to s5cmd's command lines.
    bucket: str = Field(pattern=r"^[A-Za-z0-9._-]{1,255}$")
    region: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    endpoint: str


class _Publication(_Facts):
    daily_due_days: int
    monthly_due_day: int


class _MatrixFile(_Facts):
    """A matrix file as it lies on the disk."""

    description: str = ""
    last_updated: date
    schema_version: Literal[1, 2] = 1
    supported_markets: tuple[Market, ...]
    availability_matrix: tuple[Feed, ...]
    archive: _ArchiveFacts | None = None
    symbol_forms: Mapping[SymbolForm, _SymbolFormFacts] = Field(default_factory=dict)
    symbols: Mapping[Market, tuple[str, ...]] = Field(default_factory=dict)
    publication: _Publication | None = None


class WrongSymbolError(ValueError):
    """A symbol has a form that the feed does not use."""


class Matrix:
    """What the archive holds, ready to be asked.

    Use `load_matrix` to get one.

    Attributes
    ----------
    feeds : dict of (Market, DataType) to Feed
        Everything that exists or ever existed.
    corrections : dict of (Market, DataType) to str
        What a matrix file of the user's got wrong, in words.
    """

    def __init__(
        self,
        facts: _MatrixFile,
        feeds: Mapping[tuple[Market, DataType], Feed],
        corrections: Mapping[tuple[Market, DataType], str],
    ) -> None:
        if facts.archive is None or facts.publication is None:
            raise ValueError("the shipped matrix lacks its archive or publication facts")
        self.archive = facts.archive
        self.symbols = facts.symbols
        self.feeds = feeds
        self.corrections = corrections
        self._forms = facts.symbol_forms
        self._publication = facts.publication

    def feed(self, market: Market, data_type: DataType) -> Feed | None:
        """Return the facts of a feed, or None when the market has no such feed."""
        return self.feeds.get((market, data_type))

    def data_types(self, market: Market) -> list[DataType]:
        """List the data types the market has or had, in the order of the matrix."""
        return [data_type for owner, data_type in self.feeds if owner is market]

    def archive_symbol(self, feed: Feed, symbol: str) -> str:
        """Spell `symbol` as the archive files it for this feed.

        Raises
        ------
        WrongSymbolError
            If no symbol of this feed looks like that; the message suggests one.

        Examples
        --------
        >>> matrix = load_matrix()
        >>> bvol = matrix.feed(Market.OPTIONS, DataType.BVOL_INDEX)
        >>> matrix.archive_symbol(bvol, "BTC")
        'BTCBVOLUSDT'
        >>> index = matrix.feed(Market.FUTURES_CM, DataType.INDEX_PRICE_KLINES)
        >>> matrix.archive_symbol(index, "BTCUSD_PERP")
        'BTCUSD'
        """
        form = self._forms[feed.symbol_form]
        if not re.fullmatch(form.pattern, symbol):
            base = re.sub(r"(USD[TC]?)?(_.*)?$", "", symbol)
            guess = form.example.replace("BTC", base)
            raise WrongSymbolError(
                f"{feed.market.title} {feed.type} symbols are {form.description}; "
                f"did you mean {guess!r}?"
            )
        match feed.symbol_form:
            case SymbolForm.PAIR:
                return symbol.partition("_")[0]
            case SymbolForm.VOLATILITY_INDEX:
                return f"{_base_asset(symbol)}BVOLUSDT"
            case SymbolForm.UNDERLYING:
                return f"{_base_asset(symbol)}USDT"
            case _:
                return symbol

    def published_at(self, start: date, partition: Partition) -> datetime:
        """Return when the file of the period that begins on `start` is due, naive UTC.

        Before that moment an absent file is not published yet; after it, missing.
        """
        end = period_end(start, partition)
        if partition is Partition.DAILY:
            day = end + timedelta(days=self._publication.daily_due_days)
        else:
            day = (end + timedelta(days=1)).replace(day=self._publication.monthly_due_day)
        return datetime.combine(day, UTC_MIDNIGHT)


def _base_asset(symbol: str) -> str:
    """Cut an options symbol down to its base asset: BTC of BTCBVOLUSDT, BTCUSDT or BTC."""
    return re.sub(r"(BVOL)?USDT$", "", symbol) or symbol


def shipped(name: str) -> Path:
    """Find a file of ``matrix/``, in an installed wheel or in a source checkout.

    Raises
    ------
    FileNotFoundError
        If no such file is shipped.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "_matrix", package.parent / "matrix"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name} is not among the shipped matrix files")


def default_intervals(alias: str) -> tuple[Interval, ...]:
    """Return the intervals that a data type brings along when asked for by another name.

    >>> default_intervals("premiumIndex")
    (<Interval.M1: '1m'>,)
    """
    feeds = _shipped_facts().availability_matrix
    named = (feed.aliases[alias] for feed in feeds if alias in feed.aliases)
    return next((each.default_intervals for each in named), ())


def load_matrix(matrix_path: str | Path | None = None) -> Matrix:
    """Load what is known of the archive, from a matrix file or from the shipped one.

    Parameters
    ----------
    matrix_path : str or Path, optional
        Looked up in the working directory, then by name among the shipped files.

    Raises
    ------
    ConfigurationError
        If there is no such file, or it is not a matrix in the documented format.
    """
    facts = _shipped_facts()
    shipped_feeds = {(entry.market, entry.type): entry for entry in facts.availability_matrix}
    path = _find(matrix_path)
    if path == shipped(DEFAULT_MATRIX):
        return Matrix(facts, shipped_feeds, {})
    feeds, corrections = dict(shipped_feeds), {}
    for entry in _read(path).availability_matrix:
        name = (entry.market, entry.type)
        if entry.partition_facts is not None:
            feeds[name] = entry
        elif errors := _errors_of(entry, shipped_feeds.get(name)):
            corrections[name] = f"{path.name} on {entry.market} {entry.data_type}: {errors}"
    return Matrix(facts, feeds, corrections)


def _as_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time of an annotation states its zone; write Z for UTC")
    return value.astimezone(UTC)


Instant = Annotated[datetime, AfterValidator(_as_utc)]
#: How exactly the start and the end of an annotation are known.
Precision = Literal["second", "minute", "day"]


class _Annotation(_Facts):
    """Immutable, sourced, and strict about its fields: a misspelled one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str = Field(min_length=1)
    confidence: Confidence
    source: str = Field(min_length=1)


class _Span(_Annotation):
    """An annotation of a span of time, UTC; `end` is exclusive."""

    start: Instant
    end: Instant | None
    precision: Precision

    @model_validator(mode="after")
    def _is_a_span(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError("end is after start")
        moments = [moment for moment in (self.start, self.end) if moment is not None]
        if self.precision == "day" and any(each.time() != UTC_MIDNIGHT for each in moments):
            raise ValueError("precision day: start and end are midnights, end exclusive")
        return self

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Return whether some of [start, end) lies in the span; both are aware."""
        return start < (self.end or datetime.max.replace(tzinfo=UTC)) and self.start < end

    @property
    def when(self) -> str:
        """The span in words, no finer than it is known.

        >>> [halt] = [h for h in load_annotations().halts if h.start.date() == date(2021, 2, 11)]
        >>> halt.when
        '2021-02-11 03:40:55 to 05:00:00 UTC'
        """
        if self.precision == "day":
            first, last = self.start.date(), self.end and self.end.date() - timedelta(days=1)
            if last is None:
                return f"since {first}"
            return f"{first}" if first == last else f"{first} to {last}"
        pattern = "%H:%M:%S" if self.precision == "second" else "%H:%M"
        start = f"{self.start:%Y-%m-%d {pattern}}"
        if self.end is None:
            return f"since {start} UTC"
        day = "" if self.end.date() == self.start.date() else "%Y-%m-%d "
        return f"{start} to {self.end:{day}{pattern}} UTC"


class SemanticChange(_Annotation):
    """A day from which the values of some feeds mean something else.

    Attributes
    ----------
    on : date
        First UTC day of the new meaning.
    before, after : str
        What holds before this day, and from it on.
    reported : {"after", "across"}
        ``after``: wherever rows of this day or later are present. ``across``: only where
        rows of both sides are, because views give both sides the same meaning.
    """

    markets: tuple[Market, ...]
    data_types: tuple[DataType, ...]
    on: date
    before: str = Field(min_length=1)
    after: str = Field(min_length=1)
    reported: Literal["after", "across"] = "after"

    def concerns(self, market: Market, data_type: DataType, first: date, last: date) -> bool:
        """Return whether rows of these days, both inclusive, want this to be said.

        >>> [labels] = [c for c in load_annotations().changes if c.on == date(2026, 6, 25)]
        >>> um = Market.FUTURES_UM, DataType.METRICS
        >>> labels.concerns(*um, date(2026, 8, 1), date(2026, 8, 2))
        True
        >>> labels.concerns(*um, date(2026, 6, 1), date(2026, 6, 24))
        False
        """
        return (
            market in self.markets
            and data_type in self.data_types
            and last >= self.on
            and (self.reported == "after" or first < self.on)
        )


class KnownHalt(_Span):
    """A span of time in which a market traded nothing, UTC, `end` exclusive.

    A halt of ``precision="day"`` took place on this day or these days, at times not known.
    """

    market: Market
    end: Instant


#: What a known defect does to the rows or the file.
Effect = Literal[
    "wrong_values",
    "constant_column",
    "blank_column",
    "frozen",
    "missing_rows",
    "repeated_rows",
    "off_grid_rows",
    "stale_checksum",
    "not_traded",
]


class KnownDefect(_Span):
    """Something that is wrong in what the archive itself publishes.

    Attributes
    ----------
    markets, data_types : tuple of Market, tuple of DataType
    symbols, intervals, partitions : tuple
        Only these; empty for all.
    start, end : datetime
        Span of the rows that are concerned, UTC, `end` exclusive; an `end` of None means that
        it was still so when the source was written.
    columns : tuple of str
        Our names of the columns that are concerned; empty for whole rows.
    effect : str
    better : Partition or None
        The partition whose files have the right rows, if one has.
    instead : str
        What to do about it; empty where nothing is known to help.
    fixed_on : date or None
        Day (UTC) on which Binance said that the files were replaced. Only files that were
        downloaded before can have the defect, so a plan does not name it.
    """

    markets: tuple[Market, ...] = Field(min_length=1)
    data_types: tuple[DataType, ...] = Field(min_length=1)
    symbols: tuple[str, ...] = ()
    intervals: tuple[Interval, ...] = ()
    partitions: tuple[Partition, ...] = ()
    columns: tuple[str, ...] = ()
    effect: Effect
    better: Partition | None = None
    instead: str = ""
    fixed_on: date | None = None

    def concerns(
        self,
        market: Market,
        data_type: DataType,
        symbol: str | None = None,
        interval: str | None = None,
        partition: str | None = None,
    ) -> bool:
        """Return whether it is about this feed; None for a symbol, interval or partition: any."""
        return (
            market in self.markets
            and data_type in self.data_types
            and (symbol is None or not self.symbols or symbol in self.symbols)
            and (interval is None or not self.intervals or interval in self.intervals)
            and (partition is None or not self.partitions or partition in self.partitions)
        )

    def __str__(self) -> str:
        """Return when, what, what to do about it, and the source."""
        advice = f"; {self.instead}" if self.instead else ""
        return f"{self.when}: {self.what}{advice} [{self.source}]"


#: What an asset is traded against, in names such as BTTUSDT or 1000LUNCBUSD.
_QUOTES = "USDT|USDC|BUSD|FDUSD|TUSD|BTC|ETH|BNB|TRX|TRY|EUR|GBP|AUD|BRL|RUB|BIDR|USD"


class KnownRename(_Annotation):
    """An asset whose symbol changed, or a symbol that stood for more than one asset.

    Attributes
    ----------
    markets : tuple of Market
    base : str
        The old symbol of the asset, such as ``BTT``.
    new : str or None
        The symbol under which its later data are filed; None where `base` is used again.
    since : date or None
        First day (UTC) of the month of the change, if that is known.
    """

    markets: tuple[Market, ...]
    base: str
    new: str | None
    since: Day | None

    def concerns(self, market: Market, symbol: str) -> bool:
        """Return whether a symbol is the asset against some other one.

        >>> [btt] = [r for r in load_annotations().renames if r.base == "BTT"]
        >>> btt.concerns(Market.SPOT, "BTTUSDT"), btt.concerns(Market.SPOT, "BTTCUSDT")
        (True, False)
        """
        pair = rf"(1000)?{self.base}({_QUOTES})(_.+)?"
        return market in self.markets and re.fullmatch(pair, symbol) is not None


class Annotations(_Facts):
    """What a reader of the files should know besides their columns."""

    changes: tuple[SemanticChange, ...]
    halts: tuple[KnownHalt, ...]
    defects: tuple[KnownDefect, ...]
    renames: tuple[KnownRename, ...]

    def wrong_days(
        self,
        market: Market,
        data_type: DataType,
        symbol: str,
        interval: str | None,
        partition: Partition,
        first: date,
        last: date,
    ) -> set[date]:
        """Return the days, both ends inclusive, that another partition has right and this wrong.

        >>> december = date(2020, 12, 1), date(2020, 12, 31)
        >>> candles = Market.SPOT, DataType.KLINES, "BTCUSDT", "1h"
        >>> wrong_days = load_annotations().wrong_days
        >>> wrong_days(*candles, Partition.MONTHLY, *december)
        {datetime.date(2020, 12, 21)}
        >>> wrong_days(*candles, Partition.DAILY, *december)
        set()
        """
        days: set[date] = set()
        for defect in self.defects:
            if defect.better in (None, partition) or defect.fixed_on or defect.end is None:
                continue
            start = max(defect.start.date(), first)
            end = min((defect.end - timedelta(microseconds=1)).date(), last)
            if start <= end and defect.concerns(market, data_type, symbol, interval, partition):
                days |= {start + timedelta(days=at) for at in range((end - start).days + 1)}
        return days


@cache
def load_annotations() -> Annotations:
    """Read the shipped annotations, once.

    >>> [str(change.on) for change in load_annotations().changes if Market.SPOT in change.markets]
    ['2025-01-01']
    """
    return Annotations.model_validate_json(shipped("annotations.json").read_bytes())


@cache
def _shipped_facts() -> _MatrixFile:
    return _read(shipped(DEFAULT_MATRIX))


def _find(matrix_path: str | Path | None) -> Path:
    if matrix_path is None:
        return shipped(DEFAULT_MATRIX)
    path = find_path("matrix_path", matrix_path)
    try:
        if path.is_file():
            return path
        if path.parent != Path():
            raise FileNotFoundError(matrix_path)
        return shipped(path.name)
    except OSError:
        known = sorted(path.name for path in shipped(DEFAULT_MATRIX).parent.glob("*matrix*.json"))
        guess = nearest(path.name, known)
        hint = f"; did you mean {guess!r}?" if guess else "."
        raise ConfigurationError(
            f"matrix_path: {str(matrix_path)!r} is neither a file here nor a shipped one"
            f"{hint} Valid: {', '.join(known)}"
        ) from None


def _read(path: Path) -> _MatrixFile:
    text = read_text("matrix_path", path, "an availability matrix")
    try:
        return _MatrixFile.model_validate(parse_json(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigurationError(
            f"matrix_path: {path} is not an availability matrix: {where}: {first['msg']}"
        ) from None
    except ValueError as error:
        raise ConfigurationError(
            f"matrix_path: {path} is not an availability matrix: {error}"
        ) from None


def _errors_of(entry: Feed, truth: Feed | None) -> str:
    """Say what a plain entry of the documented format gets wrong; empty if nothing."""
    if truth is None:
        return "the archive has no such feed"
    errors = []
    if entry.data_type != truth.type:
        errors.append(f"the archive calls it {truth.type}")
    if gone := set(entry.partitions) - set(truth.partitioned):
        errors.append(f"there are no {' or '.join(sorted(gone))} files")
    claimed = {INTERVAL_ALIASES.get(word, word) for word in entry.intervals if word}
    real = {str(word) for word in truth.intervals if word}
    if claimed and not real:
        errors.append("its files have no intervals")
    elif invented := claimed - real:
        errors.append(f"there is no interval {', '.join(sorted(invented))}")
    if "1M" in entry.intervals and "1mo" in real:
        errors.append("the month is spelled 1mo")
    if all(facts.has_ended for facts in truth.partitioned.values()):
        lasts = [facts.last for facts in truth.partitioned.values() if facts.last is not None]
        errors.append(f"it ended on {max(lasts)}" if lasts else "it ended")
    return "; ".join(errors)
