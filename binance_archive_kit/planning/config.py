"""The configuration of a collection: one frozen and validated value.

A `CollectionConfig` is validated when it is created, before any work and any network access.
It converts to JSON and back, and to the Python expression that creates it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    model_validator,
)

from binance_archive_kit.archive.endpoint import check_endpoint
from binance_archive_kit.archive.enums import (
    DataType,
    Market,
)
from binance_archive_kit.display.summary import Summary, Table
from binance_archive_kit.errors import ConfigurationError, FieldProblem, field_error, shown
from binance_archive_kit.paths import parse_json, read_path, read_text, write_text
from binance_archive_kit.planning.date_range import (
    NAMED,
    RELATIVE,
    AnyRange,
    DateRange,
    RelativeRange,
    check_range,
)
from binance_archive_kit.planning.field_values import (
    MOST_ENTRIES,
    read_feeds,
    read_flags,
    read_markets,
    read_quotes,
    read_symbols,
    read_word,
)
from binance_archive_kit.planning.selection import is_pattern
from binance_archive_kit.storage.urls import Place, read_place
from binance_archive_kit.suggestions import nearest

#: Seconds without progress: a month. Timers overflow far beyond it.
_LONGEST_TIMEOUT = 31 * 86_400
#: Short forms of the two ends of ``date_range``.
ENDS = ("start", "end")


class PartitionChoice(StrEnum):
    """Which files to request: daily, monthly, or monthly for whole months and daily elsewhere."""

    DAILY = "daily"
    MONTHLY = "monthly"
    AUTO = "auto"


def _field(description: str, *, label: str = "", hint: str = "", **options: Any) -> Any:
    """Return a field with its description for the command line and the form.

    Parameters
    ----------
    description : str
        One sentence; begins the field's entry in the docstring of `CollectionConfig`.
    label, hint : str
        Short texts for the form; options of the engine only.
    """
    words = {"label": label, "hint": hint, "group": "engine"} if label else {"group": "request"}
    return Field(description=description, json_schema_extra={**words}, **options)


def _read_folder(value: object) -> Place:
    return read_place("output_directory", value)


def _read_matrix_path(value: object) -> str:
    return str(read_path("matrix_path", value))


def _read_partition(value: object) -> PartitionChoice:
    return read_word("partition", PartitionChoice, value, {})


class CollectionConfig(BaseModel):
    """A validated request: which data to collect, from which archive, into which folder.

    Fields cannot be changed; `replace` returns a changed copy.

    Parameters
    ----------
    markets : list of str
        Markets: ``spot``, ``futures_um``, ``futures_cm``, ``options`` (also ``um``, ``cm``,
        ``option``).
    symbols : list of str, dict of market to list of str, str, or frame
        Symbols as the archive spells them (``BTCUSDT``, ``BTCUSD_PERP``), for every market or
        by market. For options the base asset (``BTC``) is also accepted. Patterns such as
        ``"*USDT"`` or ``{"futures_um": "*"}`` (``*`` for any text, ``?`` for one character) are
        compared with the archive's listing by each plan. A frame of `universe` gives the
        symbols of its rows.
    quote : str or list of str, optional
        Patterns match only symbols with these quote assets; without `symbols`, all of them.
        ``"USDT"`` finds ``BNXUSDTSETTLED`` and ``BTCUSDT_250926`` too.
    data_types : list of str
        Data types as the archive spells them; ``premiumIndex`` means ``premiumIndexKlines``.
    intervals : dict of data type to list of str, optional
        Intervals by kline type; ``1M`` means ``1mo``. Without an entry, every published interval is
        requested; for the short name ``premiumIndex`` only ``1m``.
    date_range : dict, optional
        Whole UTC days from start to end, both inclusive; by default yesterday. Written
        ``{"start": day, "end": day}``, with days such as ``"2025-07-15"``, ``"yesterday"`` or
        ``"-7d"`` (seven days before today). Each plan resolves relative days anew.
    start, end : str or date, optional
        Short form of `date_range`. `start` alone ends yesterday; `end` alone is invalid.
    output_directory : str or Path
        The store: the folder below which files are stored at their archive key, or a URL of
        object storage such as ``s3://bucket/research``. A URL is text; its credentials and
        endpoint are those of the environment (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
        ``AWS_PROFILE``, ``AWS_REGION``, ``AWS_ENDPOINT_URL_S3``), apart from the archive's.
    partition : {"daily", "monthly", "auto"}
        Daily or monthly files; ``auto`` requests monthly files for whole months where they are
        published, and daily files elsewhere. It also requests the monthly file for part of a month
        if the daily files begin later. Feeds that have only monthly files are always collected
        as one file for each month that the days touch.
    batch_size : int
        Objects in one batch of s5cmd.
    max_parallel_downloads : int, optional
        Number of parallel downloads; by default chosen from the sizes in the plan.
    enable_batch_mode : bool
        Download in batches. If false, start one s5cmd process per file,
        `max_parallel_downloads` at a time.
    enable_resume : bool
        Keep proven files; if false, download every file again.
    force_redownload : bool
        Download every file again and replace it atomically.
    download_checksum : bool
        Prove each zip by the SHA-256 in its ``.CHECKSUM`` object; if false, by its size and,
        where the listed ETag is an MD5, by the ETag.
    accept_stale_checksum : bool
        Accept zips that match the listed size and ETag, but not the published digest. They are
        listed in ``result.stale``.
    timeout_seconds : float
        Seconds without progress after which an object fails. From then on, less than a kilobyte
        a second is no progress.
    part_size_mb : int
        Size of the parts in which large files are downloaded, in MiB.
    s5cmd_extra_args : list of str
        Additional flags of s5cmd, global ones or those of ``cp``, in any order. They override
        values derived from this configuration.
    listing : bool
        Request the archive's listing; if false, plan from the availability matrix alone.
    matrix_path : str, optional
        Another availability matrix: the path of a file, or the name of a shipped one.
    endpoint_url : str, optional
        Any S3-compatible endpoint with the bucket; by default the environment's
        ``S3_ENDPOINT_URL``, else Binance's.

    Raises
    ------
    ConfigurationError
        If a value is invalid, or a field is unknown.

    Examples
    --------
    >>> config = CollectionConfig(
    ...     markets=["spot"], symbols=["BTCUSDT"], data_types=["klines"],
    ...     intervals={"klines": ["1h"]}, output_directory="data",
    ...     start="2025-07-01", end="2025-07-15",
    ... )
    >>> CollectionConfig.from_json(config.to_json()) == config
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    workflow_type: Literal["archive_collection"] = "archive_collection"
    markets: Annotated[tuple[Market, ...], BeforeValidator(read_markets)] = _field(
        "Markets: spot, futures_um, futures_cm, options (also um, cm, option)."
    )
    symbols: Annotated[
        tuple[str, ...] | dict[Market, tuple[str, ...]], BeforeValidator(read_symbols)
    ] = _field(
        "Symbols as the archive spells them (BTCUSDT, BTCUSD_PERP), for every market or by market."
    )
    quote: Annotated[tuple[str, ...], BeforeValidator(read_quotes)] = _field(
        "Patterns match only symbols with these quote assets; without symbols, all of them.",
        label="Quote assets of patterns",
        hint="such as USDT, for symbols like *",
        default=(),
    )
    data_types: tuple[DataType, ...] = _field(
        "Data types as the archive spells them; premiumIndex means premiumIndexKlines."
    )
    intervals: dict[DataType, tuple[str, ...]] = _field(
        "Intervals by kline type; 1M means 1mo.", default_factory=dict
    )
    date_range: Annotated[AnyRange | None, BeforeValidator(check_range)] = _field(
        "Whole UTC days from start to end, both inclusive; by default yesterday.", default=None
    )
    output_directory: Annotated[Place, BeforeValidator(_read_folder)] = _field(
        "The store: the folder below which files are stored at their archive key, or a URL of "
        "object storage such as s3://bucket/research."
    )
    partition: Annotated[PartitionChoice, BeforeValidator(_read_partition)] = _field(
        "Daily or monthly files; auto requests monthly files for whole months where they are "
        "published, and daily files elsewhere.",
        default=PartitionChoice.DAILY,
    )
    batch_size: int = _field(
        "Objects in one batch of s5cmd.",
        label="Objects per batch",
        default=100,
        ge=1,
        le=MOST_ENTRIES,
    )
    max_parallel_downloads: int | None = _field(
        "Number of parallel downloads; by default chosen from the sizes in the plan.",
        label="Parallel downloads",
        hint="empty: chosen from the sizes",
        default=None,
        ge=1,
        le=MOST_ENTRIES,
    )
    enable_batch_mode: bool = _field(
        "Download in batches. If false, start one s5cmd process per file, "
        "max_parallel_downloads at a time.",
        label="Download in batches",
        hint="otherwise one s5cmd process for each file",
        default=True,
    )
    enable_resume: bool = _field(
        "Keep proven files; if false, download every file again.",
        label="Keep proven files",
        default=True,
    )
    force_redownload: bool = _field(
        "Download every file again and replace it atomically.",
        label="Download every file again",
        default=False,
    )
    download_checksum: bool = _field(
        "Prove each zip by the SHA-256 in its .CHECKSUM object; if false, by its size and, where "
        "the listed ETag is an MD5, by the ETag.",
        label="Prove every file by its published SHA-256",
        default=True,
    )
    accept_stale_checksum: bool = _field(
        "Accept zips that match the listed size and ETag, but not the published digest.",
        label="Accept files whose published digest is out of date",
        hint="if size and ETag are right; listed in result.stale",
        default=False,
    )
    timeout_seconds: float = _field(
        "Seconds without progress after which an object fails.",
        label="Seconds without progress",
        hint="after which an object fails",
        default=300,
        gt=0,
        le=_LONGEST_TIMEOUT,
        allow_inf_nan=False,
    )
    part_size_mb: int = _field(
        "Size of the parts in which large files are downloaded, in MiB.",
        label="Part size of large files, MiB",
        default=50,
        ge=5,
        le=MOST_ENTRIES,
    )
    s5cmd_extra_args: Annotated[tuple[str, ...], BeforeValidator(read_flags)] = _field(
        "Additional flags of s5cmd, global ones or those of cp, in any order.",
        label="Additional flags of s5cmd",
        default=(),
    )
    listing: bool = _field(
        "Request the archive's listing; if false, plan from the availability matrix alone.",
        label="Request the archive's listing",
        hint="otherwise plan from the matrix alone",
        default=True,
    )
    matrix_path: Annotated[str, BeforeValidator(_read_matrix_path)] | None = _field(
        "Another availability matrix: the path of a file, or the name of a shipped one.",
        label="Availability matrix",
        hint="a file; empty: the shipped one",
        default=None,
    )
    endpoint_url: Annotated[str, AfterValidator(check_endpoint)] | None = _field(
        "Any S3-compatible endpoint with the bucket; by default the environment's "
        "S3_ENDPOINT_URL, else Binance's.",
        label="Endpoint",
        hint="any S3 server with the bucket",
        default=None,
    )

    def __init__(self, /, **fields: Any) -> None:
        """Validate the fields."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ConfigurationError(*_problems(error, fields)) from None
        except RecursionError:
            raise ConfigurationError("the configuration is nested too deeply") from None

    @model_validator(mode="before")
    @classmethod
    def _read_days(cls, fields: Any) -> Any:
        """Replace `start` and `end` by `date_range`."""
        if not isinstance(fields, Mapping) or fields.keys().isdisjoint(ENDS):
            return fields
        others = {name: value for name, value in fields.items() if name not in ENDS}
        days = {name: fields[name] for name in ENDS if fields.get(name) is not None}
        if not days:
            return others
        if others.get("date_range") is not None:
            raise field_error(
                "date_range", f"given together with {' and '.join(days)}; give only one of them"
            )
        return {**others, "date_range": {"end": "yesterday", **days}}

    @model_validator(mode="before")
    @classmethod
    def _read_feeds(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping) or "data_types" not in fields:
            return fields
        types, intervals = read_feeds(fields["data_types"], fields.get("intervals"))
        return {**fields, "data_types": types, "intervals": intervals}

    @model_validator(mode="before")
    @classmethod
    def _read_quote(cls, fields: Any) -> Any:
        """Take all symbols with a quote asset if none are named."""
        if not isinstance(fields, Mapping) or not fields.get("quote"):
            return fields
        symbols = fields.get("symbols")
        none = symbols is None or (isinstance(symbols, list | dict) and not symbols)
        return {**fields, "symbols": ["*"]} if none else fields

    @model_validator(mode="after")
    def _quote_is_used(self) -> Self:
        if self.quote and not self.has_patterns:
            raise field_error(
                "quote",
                "no symbol is a pattern, so it selects nothing; leave symbols out, or quote",
            )
        return self

    @field_serializer("output_directory")
    def _format_place(self, place: Place) -> str:
        return place.as_posix() if isinstance(place, Path) else place

    def symbols_of(self, market: Market) -> tuple[str, ...]:
        """Return the symbols requested for a market; empty if a dict of symbols omits it."""
        if isinstance(self.symbols, dict):
            return self.symbols.get(market, ())
        return self.symbols

    @property
    def has_patterns(self) -> bool:
        """Whether any of the symbols is a pattern, which needs the archive's listing."""
        given = self.symbols.values() if isinstance(self.symbols, dict) else [self.symbols]
        return any(is_pattern(symbol) for symbols in given for symbol in symbols)

    def days(self, now: datetime | None = None) -> DateRange:
        """Return the requested UTC days, both inclusive: `date_range`, or yesterday.

        Parameters
        ----------
        now : datetime, optional
            The time from which relative days are counted, with a zone; by default the present.

        Raises
        ------
        ConfigurationError
            If the days end before they start once relative days are resolved.
        """
        if isinstance(self.date_range, DateRange):
            return self.date_range
        days = self.date_range or RelativeRange(start="yesterday", end="yesterday")
        return days.resolve((now or datetime.now(UTC)).date())

    def settled(self, now: datetime) -> CollectionConfig:
        """Return a copy with relative days resolved as of an aware datetime.

        Raises
        ------
        ConfigurationError
            If the days end before they start once relative days are resolved.
        """
        if isinstance(self.date_range, DateRange):
            return self
        return self.model_copy(update={"date_range": self.days(now)})

    def replace(self, /, **changes: Any) -> CollectionConfig:
        """Return a configuration with some fields changed, validated like a new one.

        `start` or `end` alone changes one end of the days and keeps the other.

        Raises
        ------
        ConfigurationError
            If a value is invalid, or a field is unknown.
        """
        before = self.chosen()
        if not changes.keys().isdisjoint(ENDS):
            days = before.pop("date_range", None) or {}
            changes = {**days, **changes}
        return type(self)(**{**before, **changes})

    @classmethod
    def from_json(cls, source: str | Path) -> CollectionConfig:
        """Load a configuration from JSON text, or from a JSON file.

        Raises
        ------
        ConfigurationError
            If the file is missing, the text is not JSON, or a value is invalid.
        """
        return cls(**_read_json(source))

    def to_json(self, path: str | Path | None = None) -> str:
        """Format the configuration as JSON, and write it to `path` if one is given.

        Raises
        ------
        ConfigurationError
            If the file cannot be written.
        """
        text = json.dumps(self.chosen(), indent=2, ensure_ascii=False)
        if path is not None:
            write_text("path", read_path("path", path), f"{text}\n")
        return text

    def to_python(self) -> str:
        """Format the configuration as the Python expression that creates it.

        Examples
        --------
        >>> print(CollectionConfig(markets=["spot"], symbols=["BTCUSDT"],
        ...                        data_types=["trades"], output_directory="data").to_python())
        bak.CollectionConfig(
            markets=["spot"],
            symbols=["BTCUSDT"],
            data_types=["trades"],
            output_directory="data",
        )
        """
        lines = [f"    {name}={_literal(value)}," for name, value in self.chosen().items()]
        return "\n".join(["bak.CollectionConfig(", *lines, ")"])

    # Display

    def headline(self) -> str:
        """Summarize the configuration in one line, however large it is."""
        given = self.symbols.values() if isinstance(self.symbols, dict) else [self.symbols]
        symbols = list(dict.fromkeys(symbol for some in given for symbol in some))
        days = self.date_range
        period = "yesterday" if days is None else f"{days.start} to {days.end}"
        feeds = f"{', '.join(self.markets)}: {', '.join(self.data_types)}"
        quotes = f" quoted in {_few(self.quote, 3)}" if self.quote else ""
        folder = self._format_place(self.output_directory)
        return f"{feeds} of {_few(symbols, 3)}{quotes}, {period}, into {folder!r}"

    def __repr__(self) -> str:
        return f"CollectionConfig({self.headline()})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Show the chosen fields in a notebook; long lists are shortened."""
        rows = []
        for name, value in self.chosen().items():
            if isinstance(value, dict) and name != "date_range":
                rows += [(f"{name}, {key}", _few(words, 12)) for key, words in value.items()]
            elif isinstance(value, dict):
                rows.append((name, f"{value['start']} to {value['end']}, UTC, both inclusive"))
            else:
                rows.append((name, _few(value, 12) if isinstance(value, list) else str(value)))
        table = Table(("field", "value"), rows)
        return Summary("Configuration", self.headline(), "idle", [table]).to_html()

    def chosen(self) -> dict[str, Any]:
        """Return the fields that differ from their default, as JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True)


def _signature() -> Signature:
    """Return the signature for help: names and defaults. The docstring has the types."""
    parameters = []
    for name, field in CollectionConfig.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if field.is_required():
            default = Parameter.empty
        elif isinstance(default, StrEnum):
            default = default.value
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default))
        if name == "date_range":
            parameters += [Parameter(end, Parameter.KEYWORD_ONLY, default=None) for end in ENDS]
    return Signature(parameters[1:])  # without the constant `workflow_type`


CollectionConfig.__signature__ = _signature()

#: Names of the fields that say how to download new files, and not which.
SETTINGS = tuple(
    name
    for name, field in CollectionConfig.model_fields.items()
    if isinstance(field.json_schema_extra, dict)
    and field.json_schema_extra.get("group") == "engine"
    and name not in ("quote", "listing", "enable_resume", "force_redownload")
)


#: A configuration, or anything that `read_config` accepts as one.
Config = CollectionConfig | Mapping[str, Any] | str | Path


def read_config(source: Config | None, /, **changes: Any) -> CollectionConfig:
    """Return a configuration, with some fields changed.

    Parameters
    ----------
    source : CollectionConfig, dict, str, Path or None
        A configuration, its fields, JSON text, or the path of a JSON file. None takes all
        fields from `changes`.
    **changes
        Fields that replace those of `source`.

    Raises
    ------
    ConfigurationError
        If it is none of these, or a value is invalid.
    """
    if source is None:
        return CollectionConfig(**changes)
    if isinstance(source, CollectionConfig):
        config = source
    elif isinstance(source, Mapping):
        check_names(source)
        config = CollectionConfig(**source)
    elif isinstance(source, str | Path):
        config = CollectionConfig.from_json(source)
    else:
        raise field_error(
            "config",
            f"{type(source).__name__} is not a configuration; give a CollectionConfig, a dict of "
            "its fields, or the path of a JSON file",
        )
    return config.replace(**changes) if changes else config


def check_names(fields: Mapping[Any, object]) -> None:
    """Raise a ConfigurationError unless all names of fields are text."""
    for name in fields:
        if not isinstance(name, str):
            raise field_error(shown(name), "not the name of a field; names are text")


def unknown_field(name: str) -> FieldProblem:
    """Return the problem of an unknown field.

    >>> print(unknown_field("batch_sise"))
    batch_sise: no such field of a configuration; did you mean 'batch_size'?
    """
    fields = [*CollectionConfig.model_fields, *ENDS]
    guess = nearest(name, fields)
    hint = f"; did you mean {guess!r}?" if guess else f". Valid: {', '.join(fields)}"
    spelled = name if name.isprintable() and len(name) <= 100 else shown(name)
    return FieldProblem(spelled, f"no such field of a configuration{hint}")


def is_field(name: str) -> bool:
    """Return whether a field exists; `start` and `end` count as fields."""
    return name in CollectionConfig.model_fields or name in ENDS


def _read_json(source: object) -> dict[str, Any]:
    """Return the fields of a configuration, from JSON text or a JSON file."""
    if isinstance(source, str) and source.lstrip().startswith(("{", "[")):
        text = source
    else:
        text = read_text("config", read_path("config", source), "a JSON file, or JSON text")
    try:
        fields = parse_json(text)
    except ValueError as error:
        raise ConfigurationError(f"the configuration is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ConfigurationError("the configuration is not a JSON object of fields")
    return fields


def _few(words: Any, most: int) -> str:
    """Format the first words of a list, and the number of the others."""
    words = list(words) if isinstance(words, list | tuple) else [words]
    rest = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(map(str, words[:most])) + rest


def _literal(value: Any) -> str:
    """Format a JSON value as Python, strings in double quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _problems(error: ValidationError, fields: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """Convert a pydantic error to problems of fields."""
    short = "date_range" not in fields and not fields.keys().isdisjoint(ENDS)
    for found in error.errors(include_url=False):
        path = [str(part) for part in found["loc"] if part not in (NAMED, RELATIVE)]
        if short and path[:1] == ["date_range"]:
            path = path[1:] or path
        field, value = ".".join(path), shown(found["input"])
        match found:
            case {"ctx": {"error": ConfigurationError() as cause}}:
                yield from cause.problems
            case {"ctx": {"error": ValueError() as cause}}:
                yield FieldProblem(field, str(cause))
            case {"type": "missing"}:
                yield FieldProblem(field, "required, and not given")
            case {"type": "extra_forbidden"} if len(path) == 1:
                yield unknown_field(field)
            case {"type": "extra_forbidden"}:
                yield FieldProblem(
                    field, f"{value} is not expected here; date_range has start and end"
                )
            case _:
                yield FieldProblem(field, f"{value} is not valid: {found['msg']}")
