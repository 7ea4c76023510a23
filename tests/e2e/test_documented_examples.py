"""Every documented example, in a process of its own, against all that existed in its days."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.checks import assert_no_downloader
from tests.support.documented import DAILY, EXAMPLES, ONE_DAY
from tests.support.examples import Said, assert_gives, example, run
from tests.support.existed import bucket
from tests.support.s3_server import Fault, LocalS3, Request

#: Objects that exist of what each example asks for.
TOTALS = {
    "basic": 2,
    "multi_market": 90,
    "spot_complete": 600,
    "futures_um": 318,
    "options": 30,
    "all_klines": 106,
    "order_book": 2,
    "liquidations": 0,
    "high_throughput": 180,
    "memory_optimised": 2,
    "network_resilient": 6,
    "single_day": 28,
    "weekly": 32,
    "monthly": 31,
    "custom_storage": 2,
    "metrics": 2,
    "robust": 13,
    "partial_handling": 324,
    "research": 2166,
    "backtest": 724,
    "pipeline": 51,
    "unit_tests": 1,
    "performance": 6,
}
#: What it prints, besides what depends on the clock.
PRINTS = {
    "basic": ["Status: success", "Files downloaded: 2"],
    "spot_complete": ["Spot collection completed: 600 tasks"],
    "futures_um": ["Funding rate files collected: 3"],
    "options": ["Options files: 30"],
    "all_klines": ["Total kline files: 106"],
    "order_book": ["Order book files: 2"],
    "liquidations": ["Liquidation files collected: 0"],
    "high_throughput": ["Throughput: ", " MB/s"],
    "robust": ["Collection completed successfully!"],
    "partial_handling": [
        "Total tasks: 324",
        "Successful: 324",
        "Failed: 0",
        "Success rate: 100.0%",
    ],
    "research": ["Total files: 2166", "Markets covered: 4", "Data types: 13"],
    "backtest": ["Backtest Data Completeness: 100.0%"],
    "pipeline": ["Pipeline initialized with 51 files"],
    "unit_tests": ["'invalid_type' is not valid"],
    "performance": ["Success rate: 100.0%"],
}


@pytest.fixture(scope="module")
def archive() -> Iterator[LocalS3]:
    with LocalS3(bucket()) as server:
        yield server
        assert_no_downloader(server.url)


def kinds(files: list[str]) -> Counter[str]:
    """Count files by data type and market, as their folders tell."""
    return Counter("/".join(file.split("/data/")[1].split("/")[:-2]) for file in files)


@pytest.fixture(scope="module")
def ran(archive: LocalS3, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Said]:
    """Run an example in a fresh folder, once for all tests that look at it."""

    @cache
    def once(name: str) -> Said:
        return example(name, tmp_path_factory.mktemp(name), archive)

    return once


@pytest.mark.parametrize("name", TOTALS)
def test_it_gives_what_existed(name: str, ran: Callable[[str], Said]) -> None:
    said = ran(name)
    assert_gives(said, TOTALS[name])
    for words in PRINTS.get(name, ()):
        assert words in said.printed


def test_every_example_is_looked_at() -> None:
    elsewhere = {"robust_against_a_wrong_question", "prefect_deployment"}  # below; test_prefect
    assert set(EXAMPLES) - elsewhere == set(TOTALS)


# What single examples promise beside their counts


def test_feeds_that_cannot_be_are_unavailable_with_their_reasons(ran: Any) -> None:
    unavailable = "\n".join(ran("order_book").result["unavailable"])
    assert "the archive has no spot bookDepth" in unavailable
    assert "the archive has no spot bookTicker" in unavailable
    assert "ended on 2024-03-30" in unavailable


def test_liquidations_each_give_a_reason(ran: Any) -> None:
    unavailable = ran("liquidations").result["unavailable"]
    assert any("ended on 2024-03-31" in each for each in unavailable)
    for symbol in ("BTCUSDT", "ETHUSDT", "ADAUSDT"):
        [said] = [each for each in unavailable if "futures_cm" in each and symbol in each]
        assert f"did you mean '{symbol.removesuffix('T')}_PERP'?" in said


def test_intervals_of_what_has_none_are_ignored_with_one_warning(ran: Any) -> None:
    said = ran("order_book")
    assert said.complained.count("intervals[bookDepth]: 100ms, 1000ms ignored") == 1
    assert "intervals[bookDepth]: 100ms, 1000ms ignored" in "\n".join(said.result["notes"])


def test_options_are_filed_by_their_index(ran: Any) -> None:
    result = ran("options").result
    assert set(kinds(result["files"])) == {"option/daily/BVOLIndex"}
    assert {file.split("/")[-2] for file in result["files"]} == {"BTCBVOLUSDT", "ETHBVOLUSDT"}
    assert any("ended on 2023-10-23" in each for each in result["unavailable"])


def test_kline_families_lie_side_by_side(ran: Any) -> None:
    result = ran("all_klines").result
    counted = Counter(file.split("/daily/")[1].split("/")[0] for file in result["files"])
    assert counted == {"klines": 26 + 24 + 24, "indexPriceKlines": 16, "markPriceKlines": 16}
    unavailable = "\n".join(result["unavailable"])
    assert "has no interval 1s" in unavailable
    assert "only monthly files have 1mo" in unavailable
    assert any("indexPriceKlines/BTCUSD/1h" in file for file in result["files"])


def test_the_research_data_set_corrects_what_is_wrong(ran: Any) -> None:
    result = ran("research").result
    families = {file.split("/data/")[1].rsplit("/", 1)[0] for file in result["files"]}
    assert any(family.startswith("futures/cm/daily/metrics") for family in families)
    assert any(
        family.startswith("futures/cm/daily/indexPriceKlines/BTCUSD/") for family in families
    )
    assert not any("BTCUSD_PERP" in each for each in families if "indexPrice" in each)


def test_a_second_run_keeps_what_it_has(ran: Any, archive: LocalS3) -> None:
    again = example("network_resilient", ran("network_resilient").folder, archive).result
    assert again["stats"]["skipped_tasks"] == again["stats"]["total_tasks"] == 6
    assert again["success_rate"] == 100
    assert again["outcome"] == "complete"


def test_a_forced_second_run_fetches_again(ran: Any, archive: LocalS3) -> None:
    again = example("pipeline", ran("pipeline").folder, archive)
    assert again.result["stats"]["successful_tasks"] == 51
    assert "Pipeline initialized with 51 files" in again.printed


def test_the_custom_storage_decides_where_files_lie(ran: Any) -> None:
    said = ran("custom_storage")
    folder = "output/basic_collection/archive/binance/spot/klines/BTCUSDT/2025/07/15"
    assert sorted(said.result["files"]) == [
        str(said.folder / folder / f"BTCUSDT-{word}-2025-07-15.zip") for word in ("1d", "1h")
    ]


def test_metrics_are_told_as_things_happen(ran: Any) -> None:
    said = json.loads((ran("metrics").folder / "collection_metrics.json").read_text())
    events = [each["event"] for each in said["events"]]
    assert events[:3] == ["run_started", "tasks_planned", "batch_started"]
    assert Counter(events[3:-2]) == {"file_downloaded": 2}
    assert events[-2:] == ["batch_finished", "run_finished"]
    assert said["errors"] == []
    times = [each["timestamp"] for each in said["events"]]
    assert times == sorted(times)
    assert times[0] < times[-1]


def test_robust_ends_at_once_on_a_wrong_question(ran: Any) -> None:
    said = ran("robust_against_a_wrong_question")
    assert said.printed.count("Configuration error: markets: 'sport' is not valid") == 1
    assert "Retrying" not in said.printed
    assert "Collection failed after 3 attempts" in said.printed


@pytest.mark.parametrize("fault", ["every object", "the listing"])
def test_robust_waits_and_gives_up_when_all_fails(fault: str, tmp_path: Path) -> None:
    def refuse(request: Request) -> Fault | None:
        return Fault(status=403) if bool(request.key) == (fault == "every object") else None

    objects = {key: body for key, body in bucket().items() if "spot/daily/klines/BTCUSDT" in key}
    with LocalS3(objects, fault=refuse) as server:
        said = example("robust", tmp_path, server)
    attempts = [line for line in said.printed.splitlines() if line.startswith("Workflow error")]
    assert [line[: len("Workflow error (attempt 1)")] for line in attempts] == [
        f"Workflow error (attempt {at})" for at in (1, 2, 3)
    ]
    assert said.printed.index("Retrying in 2 seconds") < said.printed.index("Retrying in 4 seconds")
    assert said.printed.count("Retrying in") == 2
    assert said.result == {}
    assert 6 <= said.seconds < 40


# From a shell

_SCRIPT = """
import asyncio, json, sys
from binance_archive_kit.workflow import PrefectArchiveCollectionWorkflow, WorkflowConfig

async def main():
    with open(sys.argv[1]) as f:
        config = WorkflowConfig(json.load(f))
    result = await PrefectArchiveCollectionWorkflow(config).execute()
    print(f'Status: {result["status"]}')
    print(f'Files: {result["collection_stats"]["successful_tasks"]}')

asyncio.run(main())
"""
_BATCH = """
for date in 2025-07-10 2025-07-11 2025-07-12 2025-07-13 2025-07-14 2025-07-15; do
    echo "Collecting data for $date"
    sed "s/@DATE@/$date/g" template.json > "config_$date.json"
    python script.py "config_$date.json" || echo "Failed for $date"
    rm "config_$date.json"
    echo "---"
done
echo "Batch collection complete!"
"""


def write(folder: Path, config: dict[str, Any], name: str = "config.json") -> None:
    (folder / name).write_text(json.dumps(config))
    (folder / "script.py").write_text(_SCRIPT)


def test_from_a_shell(tmp_path: Path, archive: LocalS3) -> None:
    write(tmp_path, ONE_DAY)
    said = run(["python", "script.py", "config.json"], tmp_path, archive.url)
    assert (said.code, said.printed) == (0, "Status: success\nFiles: 2\n"), said.complained
    write(tmp_path, ONE_DAY | {"markets": ["sport"]})
    wrong = run(["python", "script.py", "config.json"], tmp_path, archive.url)
    assert wrong.code != 0
    assert "ConfigurationError" in wrong.complained


def test_from_a_shell_script_over_days(tmp_path: Path, archive: LocalS3) -> None:
    of_a_day = {
        "output_directory": "output/batch_@DATE@",
        "date_range": {"start": "@DATE@", "end": "@DATE@"},
    }
    write(tmp_path, DAILY | of_a_day, "template.json")
    said = run(["bash", "-c", _BATCH], tmp_path, archive.url)
    assert said.code == 0
    assert said.printed.count("Status: success\nFiles: 12\n") == 6
    assert "Failed" not in said.printed
    assert said.printed.endswith("Batch collection complete!\n")
    assert len(list(tmp_path.glob("output/batch_*"))) == 6
