"""The availability matrix: which feeds exist, since when and until when.

The file is ``matrix/enhanced_binance_archive_matrix.json``. A matrix file of the documented
format may be used instead: its entries with ``partition_facts`` are used unchanged, plainer ones
are corrected from the shipped file, and every correction becomes a note.

The matrix explains absences; the archive's listing decides. See `Confidence`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
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
from binance_archive_kit.errors import field_error
from binance_archive_kit.paths import find_path, parse_json, read_text
from binance_archive_kit.suggestions import nearest, unknown

#: File name of the default matrix.
DEFAULT_MATRIX = "enhanced_binance_archive_matrix.json"


class Confidence(StrEnum):
    """How well a fact is known."""

    BYTES = "A"  #: seen in files, or stated by Binance
    MEASURED = "B"  #: a dated measurement of the live bucket
    HEARSAY = "C"  #: one secondary statement; only the listing can tell


class SymbolForm(StrEnum):
    """Form of the symbols of a feed in the archive."""

    AS_LISTED = "as_listed"
    CONTRACT = "contract"
    PERPETUAL = "perpetual"
    PAIR = "pair"
    VOLATILITY_INDEX = "volatility_index"
    UNDERLYING = "underlying"


def _first_of_month(value: object) -> object:
    """Return the first day of ``YYYY-MM``; leave other values to pydantic."""
    return f"{value}-01" if isinstance(value, str) and len(value) == 7 else value


Day = Annotated[date, BeforeValidator(_first_of_month)]


class FrozenModel(BaseModel):
    """Immutable; fields that later versions may add are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StrictModel(FrozenModel):
    """Immutable; an unknown field is an error. Its signature has names and defaults, no types."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.__signature__ = Signature(
            [
                Parameter(
                    name,
                    Parameter.KEYWORD_ONLY,
                    default=Parameter.empty if field.is_required() else field.default,
                )
                for name, field in cls.model_fields.items()
            ]
        )


class PartitionAvailability(FrozenModel):
    """Availability of the daily or monthly files of one feed.

    Attributes
    ----------
    first, last : date or None
        First day of the first and of the last period, UTC, inclusive. None if unknown; `last`
        is also None for a running feed.
    intervals : tuple of Interval
        Published intervals; empty for feeds without intervals.
    abandoned_intervals : tuple of Interval
        Intervals whose folders exist and are no longer updated.
    doubts : mapping of Interval to str
        Intervals that may have ended, and why; the listing decides.
    status : {"running", "ended"}
        ``ended``: it ended on an unknown day. A known day is in `last`.
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
        """Whether no more files will be published."""
        return self.status == "ended" or self.last is not None

    @property
    def until(self) -> str:
        """The end of the files, in words.

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
        """The known gaps: first and last day (UTC) of each, both inclusive."""
        spans = [text.split("..") for text in self.known_gaps]
        return [(date.fromisoformat(span[0]), date.fromisoformat(span[-1])) for span in spans]


class _Alias(FrozenModel):
    default_intervals: tuple[Interval, ...]


class Feed(FrozenModel):
    """One entry of the matrix, in the documented format with our extensions."""

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
        """Reject an unknown data type."""
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
        """The availability of each partition; empty if the entry does not state it."""
        return self.partition_facts or {}

    def partitions_with(self, interval: str | None) -> Mapping[Partition, PartitionAvailability]:
        """Return the partitions that have an interval; None for a feed without intervals."""
        return {
            partition: availability
            for partition, availability in self.partitioned.items()
            if interval is None or interval in availability.intervals
        }


class _SymbolPattern(FrozenModel):
    description: str
    pattern: str
    example: str


class _Archive(FrozenModel):
    # Both are arguments of s5cmd.
    bucket: str = Field(pattern=r"^[A-Za-z0-9._-]{1,255}$")
    region: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    endpoint: str


class _Publication(FrozenModel):
    daily_due_days: int
    monthly_due_day: int


class _MatrixFile(FrozenModel):
    """The content of a matrix file."""

    description: str = ""
    last_updated: date
    schema_version: Literal[1, 2] = 1
    supported_markets: tuple[Market, ...]
    availability_matrix: tuple[Feed, ...]
    archive: _Archive | None = None
    symbol_forms: Mapping[SymbolForm, _SymbolPattern] = Field(default_factory=dict)
    symbols: Mapping[Market, tuple[str, ...]] = Field(default_factory=dict)
    publication: _Publication | None = None


class WrongSymbolError(ValueError):
    """A symbol does not have the form of the symbols of a feed."""


class Matrix:
    """The feeds of the archive; `load_matrix` returns one.

    Attributes
    ----------
    feeds : dict of (Market, DataType) to Feed
        All feeds that exist or existed.
    corrections : dict of (Market, DataType) to str
        Errors of the user's matrix file, in words.
    """

    def __init__(
        self,
        file: _MatrixFile,
        feeds: Mapping[tuple[Market, DataType], Feed],
        corrections: Mapping[tuple[Market, DataType], str],
    ) -> None:
        if file.archive is None or file.publication is None:
            raise ValueError("the shipped matrix has no archive or no publication section")
        self.archive = file.archive
        self.symbols = file.symbols
        self.feeds = feeds
        self.corrections = corrections
        self._forms = file.symbol_forms
        self._publication = file.publication

    def feed(self, market: Market, data_type: DataType) -> Feed | None:
        """Return a feed, or None if the market does not have it."""
        return self.feeds.get((market, data_type))

    def data_types(self, market: Market) -> list[DataType]:
        """Return the data types that the market has or had, in the order of the matrix."""
        return [data_type for owner, data_type in self.feeds if owner is market]

    def archive_symbol(self, feed: Feed, symbol: str) -> str:
        """Return `symbol` as the archive spells it for a feed.

        Raises
        ------
        WrongSymbolError
            If symbols of this feed have another form; the message suggests one.

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
        """Return when the file of the period that begins on `start` is due, aware UTC.

        Until then an absent file is not published yet; afterwards it is missing.
        """
        end = period_end(start, partition)
        if partition is Partition.DAILY:
            day = end + timedelta(days=self._publication.daily_due_days)
        else:
            day = (end + timedelta(days=1)).replace(day=self._publication.monthly_due_day)
        return datetime.combine(day, time(), UTC)


def _base_asset(symbol: str) -> str:
    """Return the base asset of an options symbol: BTC of BTCBVOLUSDT, BTCUSDT or BTC."""
    return re.sub(r"(BVOL)?USDT$", "", symbol) or symbol


def shipped(name: str) -> Path:
    """Return the path of a file of ``matrix/``, in an installed wheel or a source checkout.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "_matrix", package.parent / "matrix"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name} is not among the shipped matrix files")


def default_intervals(alias: str) -> tuple[Interval, ...]:
    """Return the default intervals of a data type that is requested by another name.

    >>> default_intervals("premiumIndex")
    (<Interval.M1: '1m'>,)
    """
    feeds = _shipped_matrix().availability_matrix
    found = (feed.aliases[alias].default_intervals for feed in feeds if alias in feed.aliases)
    return next(found, ())


def load_matrix(matrix_path: str | Path | None = None) -> Matrix:
    """Load a matrix file, or the shipped one.

    Parameters
    ----------
    matrix_path : str or Path, optional
        Looked up in the working directory, then by name among the shipped files. By default
        the shipped matrix.

    Raises
    ------
    ConfigurationError
        If the file does not exist, or is not a matrix in the documented format.
    """
    default = _shipped_matrix()
    shipped_feeds = {(entry.market, entry.type): entry for entry in default.availability_matrix}
    path = _find(matrix_path)
    if path == shipped(DEFAULT_MATRIX):
        return Matrix(default, shipped_feeds, {})
    feeds, corrections = dict(shipped_feeds), {}
    for entry in _read(path).availability_matrix:
        name = (entry.market, entry.type)
        if entry.partition_facts is not None:
            feeds[name] = entry
        elif errors := _errors_of(entry, shipped_feeds.get(name)):
            corrections[name] = f"{path.name} on {entry.market} {entry.data_type}: {errors}"
    return Matrix(default, feeds, corrections)


@cache
def _shipped_matrix() -> _MatrixFile:
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
        raise field_error(
            "matrix_path",
            f"{str(matrix_path)!r} is neither a file here nor a shipped one"
            f"{hint} Valid: {', '.join(known)}",
        ) from None


def _read(path: Path) -> _MatrixFile:
    text = read_text("matrix_path", path, "an availability matrix")
    try:
        return _MatrixFile.model_validate(parse_json(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise field_error(
            "matrix_path", f"{path} is not an availability matrix: {where}: {first['msg']}"
        ) from None
    except ValueError as error:
        raise field_error("matrix_path", f"{path} is not an availability matrix: {error}") from None


def _errors_of(entry: Feed, known: Feed | None) -> str:
    """Compare a plain entry with the shipped one; return the differences, or an empty text."""
    if known is None:
        return "the archive has no such feed"
    errors = []
    if entry.data_type != known.type:
        errors.append(f"the archive calls it {known.type}")
    if absent := set(entry.partitions) - set(known.partitioned):
        errors.append(f"there are no {' or '.join(sorted(absent))} files")
    intervals = {INTERVAL_ALIASES.get(word, word) for word in entry.intervals if word}
    known_intervals = {str(word) for word in known.intervals if word}
    if intervals and not known_intervals:
        errors.append("its files have no intervals")
    elif extra := intervals - known_intervals:
        errors.append(f"there is no interval {', '.join(sorted(extra))}")
    if "1M" in entry.intervals and "1mo" in known_intervals:
        errors.append("the month is spelled 1mo")
    partitions = known.partitioned.values()
    if all(availability.has_ended for availability in partitions):
        days = [availability.last for availability in partitions if availability.last]
        errors.append(f"it ended on {max(days)}" if days else "it ended")
    return "; ".join(errors)
