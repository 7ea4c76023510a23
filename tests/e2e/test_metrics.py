"""A metrics collector is told what happens as it happens, and never disturbs it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from binance_archive_kit.workflow import PrefectArchiveCollectionWorkflow, WorkflowConfig
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import daily_klines
from tests.support.s3_server import Fault, LocalS3, Request


def names(metrics: bak.MetricsCollector) -> list[str]:
    return [each["event"] for each in metrics.events]


def details(metrics: bak.MetricsCollector, event: str) -> list[dict[str, Any]]:
    return [each["details"] for each in metrics.events if each["event"] == event]


def test_every_object_is_told_of_once(serve: Serve, ask: Ask, store: Path) -> None:
    """Of seven days one is there already, one refused, and one has other bytes at first."""
    bucket = daily_klines("BTCUSDT", days=7)

    def spoil(request: Request) -> Fault | None:
        if request.key.endswith("07-03.zip"):
            return Fault(status=403)
        if request.key.endswith("07-05.zip") and request.method == "GET" and request.attempt == 1:
            return Fault(flip=100)
        return None

    server = serve(bucket, spoil)
    bak.collect(ask(server, days=1))
    metrics = bak.MetricsCollector()
    result = bak.collect(ask(server, days=7, batch_size=2), metrics=metrics)
    told = Counter(names(metrics))
    batches = told["batch_started"]
    assert told == {
        "run_started": 1,
        "tasks_planned": 1,
        "file_skipped": 1,
        "batch_started": batches,
        "file_downloaded": 5,
        "checksum_failed": 1,
        "file_failed": 1,
        "batch_finished": batches,
        "run_finished": 1,
    }
    assert names(metrics)[:2] == ["run_started", "tasks_planned"]
    assert names(metrics)[-1] == "run_finished"
    [planned] = details(metrics, "tasks_planned")
    assert (planned["total_tasks"], planned["to_download"], planned["to_keep"]) == (7, 6, 1)
    [failed] = details(metrics, "file_failed")
    assert (failed["key"][-len("07-03.zip") :], failed["reason"]) == ("07-03.zip", "forbidden")
    assert [each["details"]["reason"] for each in metrics.errors] == ["forbidden"]
    [checksum_failed] = details(metrics, "checksum_failed")
    assert checksum_failed["key"].endswith("07-05.zip")
    files = {each["path"] for each in details(metrics, "file_downloaded")}
    files |= {each["path"] for each in details(metrics, "file_skipped")}
    assert files == set(result.output_files)
    sizes = {Path(file).stat().st_size for file in files}
    assert {each["size_bytes"] for each in details(metrics, "file_downloaded")} <= sizes
    finished = details(metrics, "batch_finished")
    assert sum(each["downloaded"] for each in finished) == 5
    assert sum(each["failed"] for each in finished) == 1
    assert sum(each["objects"] for each in details(metrics, "batch_started")) == 6
    [ended] = details(metrics, "run_finished")
    assert ended["outcome"] == "partial"
    assert {name: ended[name] for name in result.collection_stats} == result.collection_stats
    json.dumps(metrics.events + metrics.errors)


def test_events_come_while_the_collection_runs(serve: Serve, ask: Ask) -> None:
    """The second file hangs until the first has been told of."""
    told = threading.Event()

    class Watching(bak.MetricsCollector):
        def __init__(self) -> None:
            """Keep no list: the parent's are made when they are needed."""

        def record_event(self, event_name: str, /, **details: Any) -> None:
            if event_name == "file_downloaded":
                told.set()
            super().record_event(event_name, **details)

    def hold(request: Request) -> Fault | None:
        late = request.key.endswith("07-02.zip") and request.method == "GET" and not told.is_set()
        return Fault(status=503) if late else None

    metrics = Watching()
    server = serve(daily_klines("BTCUSDT", days=2), hold)
    result = bak.collect(ask(server, days=2), metrics=metrics)
    assert result.outcome == "complete"
    assert told.is_set()
    assert names(metrics).count("file_downloaded") == 2


def test_files_proven_in_place_are_skipped_ones(serve: Serve, ask: Ask, store: Path) -> None:
    server = serve(daily_klines("BTCUSDT", days=3))
    bak.collect(ask(server, days=3))
    (store / ".binance_archive_kit" / "proofs.sqlite").unlink()
    metrics = bak.MetricsCollector()
    bak.collect(ask(server, days=3), metrics=metrics)
    assert Counter(names(metrics))["file_skipped"] == 3
    assert "batch_started" not in names(metrics)


def test_a_collector_that_raises_is_warned_of_and_nothing_else(serve: Serve, ask: Ask) -> None:
    class Broken(bak.MetricsCollector):
        def record_event(self, event_name: str, /, **details: Any) -> None:
            raise KeyError("lost")

    server = serve(daily_klines("BTCUSDT", days=2))
    with pytest.warns(bak.ArchiveKitWarning, match="the collector raised KeyError: 'lost'"):
        result = bak.collect(ask(server, days=2), metrics=Broken())
    assert result.outcome == "complete"


# Errors of the workflow


def workflow(
    config: bak.CollectionConfig,
) -> tuple[PrefectArchiveCollectionWorkflow, bak.MetricsCollector]:
    metrics = bak.MetricsCollector()
    required = {"workflow_type": "archive_collection", "matrix_path": _MATRIX}
    return PrefectArchiveCollectionWorkflow(
        WorkflowConfig(config.chosen() | required), metrics
    ), metrics


_MATRIX = "enhanced_binance_archive_matrix.json"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"markets": ["sport"]}, "'sport' is not valid; did you mean 'spot'"),
        ({"date_range": {"start": "2025-07-02", "end": "2025-07-01"}}, "is after end"),
        ({"matrix_path": "x.json"}, "neither a file here nor a shipped one"),
        ({"s5cmd_extra_args": ["--frobnicate"]}, "s5cmd_extra_args"),
        ({"workflow_type": "frobnication"}, "workflow_type"),
        ({7: 8}, "names are text"),
    ],
)
def test_a_wrong_question_is_told_before_anything_is_asked(
    serve: Serve, ask: Ask, changes: Any, said: str
) -> None:
    server = serve(daily_klines("BTCUSDT", days=1))
    wanted, metrics = workflow(ask(server, days=1))
    assert isinstance(wanted.config, dict)
    wanted.config.update(changes)
    with pytest.raises(bak.ConfigurationError, match=said):
        asyncio.run(wanted.execute())
    [error] = metrics.errors
    assert said.partition(";")[0] in error["error"]
    assert error["details"] == {"kind": "ConfigurationError"}
    assert metrics.events == []
    assert list(server.requests) == []


@pytest.mark.parametrize("name", ["workflow_type", "matrix_path", "output_directory", "symbols"])
def test_what_is_required_is_named(serve: Serve, ask: Ask, name: str) -> None:
    wanted, _ = workflow(ask(serve(daily_klines("BTCUSDT", days=1)), days=1))
    assert isinstance(wanted.config, dict)
    del wanted.config[name]
    with pytest.raises(bak.ConfigurationError, match=f"^{name}: required, and not given$"):
        asyncio.run(wanted.execute())


def test_all_that_goes_wrong_later_is_a_workflow_error(ask: Ask, tmp_path: Path) -> None:
    with LocalS3({}) as server:
        config = ask(server, days=1)
    wanted, metrics = workflow(config)  # the server is gone
    with pytest.raises(bak.WorkflowError, match=r"127\.0\.0\.1") as caught:
        asyncio.run(wanted.execute())
    assert isinstance(caught.value.__cause__, bak.ListingError)
    assert names(metrics) == ["run_started", "run_finished"]
    assert details(metrics, "run_finished") == [{"outcome": "failed"}]
    assert [each["details"]["kind"] for each in metrics.errors] == ["ListingError"]
