"""The folders of an export: one for each market, data type, interval and month."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, unquote

from binance_archive_kit.archive.enums import DataType, Interval, Market
from binance_archive_kit.timestamps import next_month

#: The file of each folder.
FILE = "part-0.parquet"


@dataclass(frozen=True, slots=True)
class MonthFolder:
    """One folder of an export.

    Attributes
    ----------
    market : Market
    data_type : DataType
    interval : Interval or None
        None for feeds without intervals; they have no such level.
    month : str
        UTC month of the rows, such as ``2025-07``.
    """

    market: Market
    data_type: DataType
    interval: Interval | None
    month: str

    @property
    def levels(self) -> dict[str, str]:
        """Name and value of each level."""
        levels: dict[str, str | None] = {
            "market": self.market,
            "data_type": self.data_type,
            "interval": self.interval,
            "month": self.month,
        }
        return {name: str(value) for name, value in levels.items() if value is not None}

    @property
    def path(self) -> str:
        """Path inside the target, with percent-encoded values.

        >>> folder = MonthFolder(Market.SPOT, DataType.KLINES, Interval.D1, "2025-07")
        >>> folder.path
        'market=spot/data_type=klines/interval=1d/month=2025-07'
        """
        return "/".join(f"{name}={quote(value, safe='')}" for name, value in self.levels.items())

    @property
    def file(self) -> str:
        """Path of the file inside the target."""
        return f"{self.path}/{FILE}"

    @property
    def start(self) -> datetime:
        """First moment of the month, without a time zone (UTC)."""
        return datetime.strptime(self.month, "%Y-%m")

    @property
    def end(self) -> datetime:
        """First moment of the next month."""
        return next_month(self.start)


def find_folders(target: Path) -> Iterator[MonthFolder]:
    """Yield the folders of exports below a target that have a file."""
    for market, feeds in _named(target, "market"):
        for data_type, months in _named(feeds, "data_type"):
            with_intervals = [(None, months), *_named(months, "interval")]
            for interval, parent in with_intervals:
                for month, folder in _named(parent, "month"):
                    # Folders of other names are not ours.
                    with suppress(ValueError):
                        found = MonthFolder(
                            Market(market),
                            DataType(data_type),
                            None if interval is None else Interval(interval),
                            month,
                        )
                        is_ours = target / found.path == folder and found.start
                        if is_ours and (folder / FILE).is_file():
                            yield found


def _named(folder: Path, level: str) -> Iterator[tuple[str, Path]]:
    """Yield value and path of the folders of a level, sorted."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return
    for name in names:
        if name.startswith(f"{level}="):
            yield unquote(name.removeprefix(f"{level}=")), folder / name
