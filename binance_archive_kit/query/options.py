"""The options with which a store is read, validated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from binance_archive_kit.errors import ConfigurationError, check_flag, shown, unknown

Prefer = Literal["daily", "monthly"]
OnError = Literal["raise", "skip"]
#: Bytes that the cached months of a store may take.
DEFAULT_LIMIT = 20 << 30


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the files of a store are read.

    Attributes
    ----------
    cache : bool
        Cache months as Parquet, so that the next query on them is faster.
    cache_limit : int
        Bytes that the cached months may take together.
    prefer : {"daily", "monthly"}
        Which file gives the rows of a day that a daily and a monthly file both cover.
    on_error : {"raise", "skip"}
        What to do about a file that is damaged, or that has other rows than its name says.
    decimals : bool
        Read prices and amounts as exact decimals instead of floating point numbers.

    Raises
    ------
    ConfigurationError
        If a value is invalid.
    """

    cache: bool = True
    cache_limit: int = DEFAULT_LIMIT
    prefer: Prefer = "daily"
    on_error: OnError = "raise"
    decimals: bool = False

    def __post_init__(self) -> None:
        for name, value, valid in (
            ("prefer", self.prefer, ("daily", "monthly")),
            ("on_error", self.on_error, ("raise", "skip")),
        ):
            if value not in valid:
                raise ConfigurationError(unknown(name, value, valid))
        check_flag("cache", self.cache)
        check_flag("decimals", self.decimals)
        if not isinstance(self.cache_limit, int) or self.cache_limit < 0:
            raise ConfigurationError(
                f"cache_limit: {shown(self.cache_limit)} is not a number of bytes"
            )

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> ReadOptions:
        """Return the options given by name; a ConfigurationError for a name that is unknown."""
        names = [field.name for field in fields(cls)]
        for name in options:
            if name not in names:
                raise ConfigurationError(unknown("option", name, names))
        return cls(**options)
