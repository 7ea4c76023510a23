"""Events: what reaches a collector, and what does not disturb a collection."""

from __future__ import annotations

from typing import Any

import pytest

from binance_archive_kit.download.events import EventLog, MetricsCollector
from binance_archive_kit.errors import Corrupt, NotFound


def names(metrics: MetricsCollector) -> list[str]:
    return [event["event"] for event in metrics.events]


def test_a_batch_finishes_with_its_last_object() -> None:
    metrics = MetricsCollector()
    log = EventLog(metrics)
    log.batch_started(["a", "b"], 20)
    log.batch_started(["c"], None)
    log.file_downloaded("a", size_bytes=10)
    log.file_downloaded("c", size_bytes=10)
    log.file_failed(NotFound("b", "gone"))
    log.file_failed(NotFound("of no batch", "gone"))
    finished = [each["details"] for each in metrics.events if each["event"] == "batch_finished"]
    counts = [(each["batch"], each["downloaded"], each["failed"]) for each in finished]
    assert counts == [(2, 1, 0), (1, 1, 1)]
    assert [each["error"] for each in metrics.errors] == [
        "b: not_found: gone",
        "of no batch: not_found: gone",
    ]


def test_only_failed_comparisons_with_a_digest_are_checksum_failures() -> None:
    metrics = MetricsCollector()
    log = EventLog(metrics)
    log.checksum_failed(NotFound("a", "gone"))
    log.checksum_failed(Corrupt("a", "other bytes"))
    assert [each["details"]["reason"] for each in metrics.events] == [Corrupt("", "").reason]


def test_an_error_ends_the_run_and_is_recorded() -> None:
    metrics = MetricsCollector()
    with pytest.raises(KeyboardInterrupt), EventLog(metrics).run("data"):
        raise KeyboardInterrupt
    assert names(metrics) == ["run_started", "run_finished"]
    assert metrics.events[-1]["details"] == {"outcome": "interrupted"}
    assert metrics.errors[0]["details"] == {"kind": "KeyboardInterrupt"}


def test_the_first_error_of_a_collector_is_kept() -> None:
    class Broken(MetricsCollector):
        def record_event(self, event_name: str, /, **details: Any) -> None:
            raise KeyError(event_name)

    log = EventLog(Broken())
    log.emit("one")
    log.emit("two")
    assert str(log.collector_error) == "'one'"


def test_without_a_collector_nothing_is_counted() -> None:
    log = EventLog()
    log.batch_started(["a"], None)
    log.file_downloaded("a")
    assert not log
    assert log.collector_error is None
