"""The frames of a report."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.support.reports import small


def test_frames_have_the_promised_columns() -> None:
    report = small()
    assert report.gaps.columns == [
        *("market", "data_type", "symbol", "interval", "start", "end", "missing", "kind"),
        "evidence",
    ]
    assert report.gaps["start"].dtype.time_zone == "UTC"  # type: ignore[attr-defined]
    first = report.gaps.row(0, named=True)
    assert first["start"] == datetime(2025, 7, 1, 2, tzinfo=UTC)
    assert first["end"] == datetime(2025, 7, 1, 4, tzinfo=UTC)
    assert report.to_frame() is report.streams
    known = report.days.drop_nulls("expected")
    assert (known["present"] <= known["expected"]).all()
    assert (
        report.days.filter(report.days["data_type"] == "bookTicker")["expected"].null_count() == 1
    )
