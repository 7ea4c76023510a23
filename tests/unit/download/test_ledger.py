"""The ledger of a run."""

from __future__ import annotations

from binance_archive_kit.download.ledger import Arrivals


def test_points_stay_few_and_bytes_never_decrease() -> None:
    arrivals = Arrivals()
    for index in range(20_000):
        arrivals.note(index / 100, index if index != 500 else 3)
    arrivals.note(200.0, 20_000, final=True)
    assert len(arrivals.points) <= 512
    assert arrivals.points[-1] == (200.0, 20_000)
    assert arrivals.points == sorted(arrivals.points, key=lambda point: point[1])
