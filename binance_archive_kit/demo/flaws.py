"""The deliberate flaws of the synthetic archive: kind, object and time of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Kind = Literal[
    "halt",
    "truncated",
    "missing_file",
    "placeholder",
    "disagreement",
    "doubled_rows",
    "unsorted_rows",
]


@dataclass(frozen=True, slots=True)
class Planted:
    """A flaw of the real archive, planted in the synthetic one.

    Attributes
    ----------
    kind : str
        ``halt``: candles that no file has; ``truncated``: a file that ends early, under a
        valid checksum; ``missing_file``; ``placeholder``: a file with a header only;
        ``disagreement``: a monthly file that differs from the daily ones; ``doubled_rows``;
        ``unsorted_rows``.
    key : str
        The object with the flaw, or the missing one.
    start, end : datetime
        The affected time, UTC, `end` exclusive. For ``halt`` and ``truncated`` the time
        without rows; for the others the affected candle or the file's period.
    description : str
        The flaw in a sentence.
    """

    kind: Kind
    key: str
    start: datetime
    end: datetime
    description: str


#: The halt of the synthetic spot market, UTC, end exclusive.
HALT = datetime(2025, 6, 24, 2, tzinfo=UTC), datetime(2025, 6, 24, 4, tzinfo=UTC)


def _whole_file(kind: Kind, name: str, description: str) -> Planted:
    """Return a flaw of a daily file; `name` is its key without ``data/`` and the ending."""
    start = datetime.fromisoformat(name[-len("2025-06-24") :]).replace(tzinfo=UTC)
    return Planted(kind, f"data/{name}.zip", start, start + timedelta(days=1), description)


#: The files that lack candles of these two hours: keys without ``data/spot/`` and the ending.
_HALTED = (
    "daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-06-24",
    "daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-06-24",
    "daily/klines/ETHUSDT/1m/ETHUSDT-1m-2025-06-24",
    "daily/klines/ETHUSDT/1h/ETHUSDT-1h-2025-06-24",
    "daily/klines/币安人生USDT/1h/币安人生USDT-1h-2025-06-24",
    "monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-06",
    "monthly/klines/ETHUSDT/1h/ETHUSDT-1h-2025-06",
    "monthly/klines/币安人生USDT/1h/币安人生USDT-1h-2025-06",
)
_NO_TRADES = "the spot market was halted: no symbol has candles of these two hours"
_DOUBLED = (
    "um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2021-05-20",
    "cm/daily/liquidationSnapshot/BTCUSD_PERP/BTCUSD_PERP-liquidationSnapshot-2024-10-13",
    "cm/daily/liquidationSnapshot/BTCUSD_PERP/BTCUSD_PERP-liquidationSnapshot-2024-10-14",
)
_SUMMARY = "option/daily/EOHSummary/BTCUSDT/BTCUSDT-EOHSummary"
_TICKER = "futures/um/daily/bookTicker/BTCUSDT/BTCUSDT-bookTicker"

#: All flaws of the synthetic archive.
PLANTED: tuple[Planted, ...] = (
    *(Planted("halt", f"data/spot/{name}.zip", *HALT, _NO_TRADES) for name in _HALTED),
    Planted(
        "truncated",
        "data/spot/daily/klines/ETHUSDT/1m/ETHUSDT-1m-2025-06-28.zip",
        datetime(2025, 6, 28, 7, 37, tzinfo=UTC),
        datetime(2025, 6, 29, tzinfo=UTC),
        "the last candle is that of 07:36; the checksum is valid",
    ),
    _whole_file(
        "missing_file",
        "futures/um/daily/klines/ETHUSDT/1h/ETHUSDT-1h-2025-07-04",
        "one day is missing between its neighbours; the other intervals have it",
    ),
    _whole_file(
        "missing_file",
        "option/daily/BVOLIndex/BTCBVOLUSDT/BTCBVOLUSDT-BVOLIndex-2025-07-14",
        "one day is missing between its neighbours",
    ),
    _whole_file(
        "placeholder",
        "futures/um/daily/metrics/ETHUSDT/ETHUSDT-metrics-2025-07-14",
        "the file has a header and no rows",
    ),
    Planted(
        "disagreement",
        "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-06.zip",
        datetime(2025, 6, 20, 13, tzinfo=UTC),
        datetime(2025, 6, 20, 14, tzinfo=UTC),
        "the monthly file closes this candle at its low, the daily file does not",
    ),
    *(
        _whole_file("doubled_rows", f"futures/{name}", "the file has every row twice")
        for name in _DOUBLED
    ),
    _whole_file("unsorted_rows", f"{_SUMMARY}-2023-10-22", "the rows are in no order"),
    _whole_file("unsorted_rows", f"{_SUMMARY}-2023-10-23", "the rows are in no order"),
    _whole_file("unsorted_rows", f"{_TICKER}-2024-03-29", "some updates follow later ones"),
    _whole_file("unsorted_rows", f"{_TICKER}-2024-03-30", "some updates follow later ones"),
)
