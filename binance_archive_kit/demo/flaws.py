"""The flaws of the synthetic archive: what is wrong in it on purpose, where and when."""

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
    what : str
        The flaw in a sentence.
    """

    kind: Kind
    key: str
    start: datetime
    end: datetime
    what: str


#: The halt of the synthetic spot market, UTC, end exclusive.
HALT = datetime(2025, 6, 24, 2, tzinfo=UTC), datetime(2025, 6, 24, 4, tzinfo=UTC)


def _day(year: int, month: int, day: int) -> tuple[datetime, datetime]:
    start = datetime(year, month, day, tzinfo=UTC)
    return start, start + timedelta(days=1)


#: The files with candles of these two hours, without the ending.
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
_DOUBLED = (
    ("um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2021-05-20", _day(2021, 5, 20)),
    (
        "cm/daily/liquidationSnapshot/BTCUSD_PERP/BTCUSD_PERP-liquidationSnapshot-2024-10-13",
        _day(2024, 10, 13),
    ),
    (
        "cm/daily/liquidationSnapshot/BTCUSD_PERP/BTCUSD_PERP-liquidationSnapshot-2024-10-14",
        _day(2024, 10, 14),
    ),
)

#: All flaws of the synthetic archive.
PLANTED: tuple[Planted, ...] = (
    *(
        Planted(
            "halt",
            f"data/spot/{name}.zip",
            *HALT,
            "the spot market stood still: no symbol has candles of these two hours",
        )
        for name in _HALTED
    ),
    Planted(
        "truncated",
        "data/spot/daily/klines/ETHUSDT/1m/ETHUSDT-1m-2025-06-28.zip",
        datetime(2025, 6, 28, 7, 37, tzinfo=UTC),
        datetime(2025, 6, 29, tzinfo=UTC),
        "the last candle is that of 07:36; the checksum is valid",
    ),
    Planted(
        "missing_file",
        "data/futures/um/daily/klines/ETHUSDT/1h/ETHUSDT-1h-2025-07-04.zip",
        *_day(2025, 7, 4),
        "one day is missing between its neighbours; the other intervals have it",
    ),
    Planted(
        "missing_file",
        "data/option/daily/BVOLIndex/BTCBVOLUSDT/BTCBVOLUSDT-BVOLIndex-2025-07-14.zip",
        *_day(2025, 7, 14),
        "one day is missing between its neighbours",
    ),
    Planted(
        "placeholder",
        "data/futures/um/daily/metrics/ETHUSDT/ETHUSDT-metrics-2025-07-14.zip",
        *_day(2025, 7, 14),
        "the file holds its header and no row",
    ),
    Planted(
        "disagreement",
        "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-06.zip",
        datetime(2025, 6, 20, 13, tzinfo=UTC),
        datetime(2025, 6, 20, 14, tzinfo=UTC),
        "the monthly file closes this candle at its low, the daily file does not",
    ),
    *(
        Planted("doubled_rows", f"data/futures/{name}.zip", *when, "every row stands there twice")
        for name, when in _DOUBLED
    ),
    *(
        Planted(
            "unsorted_rows",
            f"data/option/daily/EOHSummary/BTCUSDT/BTCUSDT-EOHSummary-2023-10-{day}.zip",
            *_day(2023, 10, day),
            "rows come in no order",
        )
        for day in (22, 23)
    ),
    *(
        Planted(
            "unsorted_rows",
            f"data/futures/um/daily/bookTicker/BTCUSDT/BTCUSDT-bookTicker-2024-03-{day}.zip",
            *_day(2024, 3, day),
            "some updates come after later ones",
        )
        for day in (29, 30)
    ),
)
