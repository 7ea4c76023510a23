"""Parts stay few, and each row is written at most three times."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit.tables.manifest import Part
from binance_archive_kit.tables.merging import MOST, due, period_length


def part(period: str, rows: int, size: int, name: str = "") -> Part:
    return Part(name, period, rows, 1, "", "", size, 0, 0, 0)


def simulate(days: int, rows: int, bytes_per_row: int) -> tuple[float, int]:
    """Add rows day by day for some time; return rows written per row, and the most parts."""
    parts: list[Part] = []
    months: dict[str, int] = {}
    written = most = 0
    for number in range(days):
        day = date(2024, 1, 1) + timedelta(number)
        months[f"{day:%Y-%m}"] = months.get(f"{day:%Y-%m}", 0) + rows * bytes_per_row
        period = str(day)[: period_length(months)]
        parts.append(part(period, rows, rows * bytes_per_row))
        written += rows
        merges = due(parts, [each.rows for each in parts])
        gone = {index for indices in merges for index in indices}
        new = []
        for indices in merges:
            merged = [parts[index] for index in indices]
            total, size = sum(p.rows for p in merged), sum(p.bytes for p in merged)
            pieces = -(-size // MOST)
            new += [part(merged[0].period, total // pieces, size // pieces)] * pieces
            written += total
        parts = [each for index, each in enumerate(parts) if index not in gone] + new
        most = max(most, len(parts))
    return written / (days * rows), most


def test_a_year_of_daily_updates_writes_at_most_three_times_its_rows() -> None:
    for rows_of_a_symbol, bytes_per_row in ((1, 60), (24, 40), (288, 35), (1440, 30)):
        for symbols in (1, 20, 200, 2000):
            factor, most = simulate(366, symbols * rows_of_a_symbol, bytes_per_row)
            assert factor <= 3, (symbols, rows_of_a_symbol)
            large = symbols * rows_of_a_symbol * bytes_per_row * 366 // (64 << 20)
            assert most <= 64 + large + 8 * 12, (symbols, rows_of_a_symbol, most)


@given(st.lists(st.integers(1, 100_000), max_size=300))
def test_a_row_is_merged_at_most_once_for_each_tier(additions: list[int]) -> None:
    parts: list[tuple[Part, int]] = []
    for rows in additions:
        parts.append((part("", rows, rows), 0))
        while merges := due([each for each, _ in parts], [each.rows for each, _ in parts]):
            [indices] = merges
            assert len(indices) >= 32
            total = sum(parts[index][0].rows for index in indices)
            depth = 1 + max(parts[index][1] for index in indices)
            parts = [each for index, each in enumerate(parts) if index not in indices]
            parts.append((part("", total, total), depth))
    assert max((depth for _, depth in parts), default=0) <= 4
    assert len(parts) < 32 * 5


def test_a_part_with_many_dead_rows_is_rewritten() -> None:
    parts = [part("", 90, 1000), part("", 90, 1000), part("", 10, 100 << 20)]
    assert due(parts, [60, 59, 0]) == [[1], [2]]
    assert due(parts, [90, 90, 10]) == []


def test_periods_before_the_latest_are_merged_earlier() -> None:
    parts = [part("2024-01", 1000, 1000)] * 8 + [part("2024-02", 1000, 1000)] * 31
    assert due(parts, [1000] * len(parts)) == [list(range(8))]
    assert due([], []) == []


def test_large_parts_are_not_merged() -> None:
    parts = [part("", 1000, 64 << 20)] * 40
    assert due(parts, [1000] * 40) == []


def test_the_coarsest_period_that_fits_is_used() -> None:
    year = {f"2024-{month:02}": 30 << 20 for month in range(1, 13)}
    assert period_length({}) == 0
    assert period_length(dict([*year.items()][:8])) == 0
    assert period_length(year) == 7
    assert period_length({f"{2015 + n}-01": 100 << 20 for n in range(10)}) == 4
