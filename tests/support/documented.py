"""The documented examples, one function for each: the same questions, the same looks at the answer.

``python -m tests.support.documented NAME`` runs one of them, as a user's script would, and
prints a line of JSON with what came out of it at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from binance_archive_kit.workflow import (
    BaseStorage,
    ConfigurationError,
    MetricsCollector,
    PrefectArchiveCollectionWorkflow,
    WorkflowConfig,
    WorkflowError,
)

Result = Any
HOUR_AND_DAY = {"klines": ["1h", "1d"]}
JULY_15 = ("2025-07-15", "2025-07-15")
FIRST_HALF = ("2025-07-01", "2025-07-15")


def fields(
    output: str,
    markets: list[str],
    symbols: Any,
    data_types: list[str],
    days: tuple[str, str],
    **more: Any,
) -> dict[str, Any]:
    """Spell a configuration as the documentation does."""
    return {
        "workflow_type": "archive_collection",
        "matrix_path": "enhanced_binance_archive_matrix.json",
        "output_directory": f"output/{output}",
        "markets": markets,
        "symbols": symbols,
        "data_types": data_types,
        "date_range": {"start": days[0], "end": days[1]},
        **more,
    }


async def execute(config: dict[str, Any], metrics: MetricsCollector | None = None) -> Result:
    return await PrefectArchiveCollectionWorkflow(WorkflowConfig(config), metrics).execute()


# First steps

ONE_DAY = fields(
    "basic_collection", ["spot"], ["BTCUSDT"], ["klines"], JULY_15, intervals=HOUR_AND_DAY
)


async def basic() -> Result:
    result = await execute(ONE_DAY)
    print(f"Status: {result['status']}")
    print(f"Files downloaded: {result['collection_stats']['successful_tasks']}")
    print(f"Total size: {result['total_size_formatted']}")
    return result


async def multi_market() -> Result:
    symbols = {
        "spot": ["BTCUSDT", "ETHUSDT"],
        "futures_um": ["BTCUSDT", "ETHUSDT"],
        "futures_cm": ["BTCUSD_PERP"],
        "options": ["BTC"],
    }
    days = ("2025-07-10", "2025-07-15")
    engine = {"batch_size": 100, "max_parallel_downloads": 8}
    wanted = fields(
        "multi_market",
        list(symbols),
        symbols,
        ["klines", "trades"],
        days,
        intervals=HOUR_AND_DAY,
        **engine,
    )
    return await execute(wanted)


# Market by market


async def spot_complete() -> Result:
    wanted = fields(
        "spot_complete",
        ["spot"],
        ["BTCUSDT", "ETHUSDT", "ADAUSDT", "DOTUSDT", "LINKUSDT"],
        ["klines", "trades", "aggTrades", "bookDepth", "bookTicker"],
        FIRST_HALF,
        intervals={
            "klines": ["1m", "5m", "15m", "1h", "4h", "1d"],
            "bookDepth": ["100ms", "1000ms"],
        },
        batch_size=150,
        enable_batch_mode=True,
        enable_resume=True,
    )
    result = await execute(wanted)
    print(f"Spot collection completed: {result['collection_stats']['total_tasks']} tasks")
    return result


async def futures_um() -> Result:
    wanted = fields(
        "futures_trading",
        ["futures_um"],
        ["BTCUSDT", "ETHUSDT", "BNBUSDT"],
        ["klines", "fundingRate", "premiumIndex", "liquidationSnapshot", "metrics"],
        FIRST_HALF,
        intervals={
            "klines": ["1m", "5m", "15m", "1h", "4h"],
            "indexPriceKlines": ["1h", "4h"],
            "markPriceKlines": ["1h", "4h"],
        },
        max_parallel_downloads=10,
    )
    result = await execute(wanted)
    funding = [file for file in result["metadata"].output_files if "fundingRate" in file]
    print(f"Funding rate files collected: {len(funding)}")
    return result


async def options() -> Result:
    wanted = fields(
        "options_volatility",
        ["options"],
        ["BTC", "ETH"],
        ["BVOLIndex", "EOHSummary"],
        FIRST_HALF,
        intervals={"BVOLIndex": ["1m", "5m", "1h", "1d"]},
    )
    result = await execute(wanted)
    print(f"Options files: {result['collection_stats']['successful_tasks']}")
    return result


# Feed by feed


async def all_klines() -> Result:
    every = ["1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d"]
    every += ["3d", "1w", "1M"]
    some = ["1m", "5m", "1h", "1d"]
    symbols = {
        "spot": ["BTCUSDT", "ETHUSDT"],
        "futures_um": ["BTCUSDT", "ETHUSDT"],
        "futures_cm": ["BTCUSD_PERP", "ETHUSD_PERP"],
    }
    wanted = fields(
        "all_klines",
        list(symbols),
        symbols,
        ["klines", "indexPriceKlines", "markPriceKlines"],
        JULY_15,
        intervals={"klines": every, "indexPriceKlines": some, "markPriceKlines": some},
    )
    result = await execute(wanted)
    print(f"Total kline files: {result['collection_stats']['successful_tasks']}")
    return result


async def order_book() -> Result:
    wanted = fields(
        "orderbook_analysis",
        ["spot", "futures_um"],
        ["BTCUSDT", "ETHUSDT"],
        ["bookDepth", "bookTicker"],
        JULY_15,
        intervals={"bookDepth": ["100ms", "1000ms"]},
        batch_size=50,
        max_parallel_downloads=6,
    )
    result = await execute(wanted)
    print(f"Order book files: {result['collection_stats']['successful_tasks']}")
    return result


async def liquidations() -> Result:
    wanted = fields(
        "liquidations",
        ["futures_um", "futures_cm"],
        ["BTCUSDT", "ETHUSDT", "ADAUSDT"],
        ["liquidationSnapshot"],
        FIRST_HALF,
    )
    result = await execute(wanted)
    print(f"Liquidation files collected: {len(result['metadata'].output_files)}")
    return result


# The engine's options


async def high_throughput() -> Result:
    wanted = fields(
        "high_performance",
        ["spot", "futures_um"],
        ["BTCUSDT", "ETHUSDT"],
        ["klines", "trades"],
        FIRST_HALF,
        intervals=HOUR_AND_DAY,
        batch_size=200,
        max_parallel_downloads=10,
        enable_batch_mode=True,
        enable_resume=True,
        download_checksum=False,
        s5cmd_extra_args=[
            "--no-sign-request",
            "--retry-count=3",
            "--numworkers=16",
            "--part-size=100MB",
        ],
        part_size_mb=100,
    )
    result = await execute(wanted)
    stats = result["collection_stats"]
    seconds, mebibytes = stats["processing_time_seconds"], stats["total_size_bytes"] / 1024 / 1024
    print(f"Throughput: {mebibytes / seconds if seconds > 0 else 0:.2f} MB/s")
    return result


async def memory_optimised() -> Result:
    engine = {
        "batch_size": 20,
        "max_parallel_downloads": 2,
        "enable_batch_mode": False,
        "part_size_mb": 10,
        "timeout_seconds": 600,
    }
    return await execute(ONE_DAY | {"output_directory": "output/memory_optimized"} | engine)


RESILIENT = fields(
    "resilient",
    ["spot"],
    ["BTCUSDT", "ETHUSDT"],
    ["klines", "trades"],
    JULY_15,
    intervals=HOUR_AND_DAY,
    enable_resume=True,
    download_checksum=True,
    timeout_seconds=900,
    force_redownload=False,
    s5cmd_extra_args=["--no-sign-request", "--retry-count=5", "--part-size=50MB"],
)


async def network_resilient() -> Result:
    return await execute(RESILIENT)


# Days


async def single_day() -> Result:
    types = ["klines", "trades", "fundingRate"]
    return await execute(fields("single_day", ["spot", "futures_um"], ["BTCUSDT"], types, JULY_15))


async def weekly() -> Result:
    days = ("2025-07-08", "2025-07-15")
    symbols = ["BTCUSDT", "ETHUSDT"]
    wanted = fields("weekly", ["spot"], symbols, ["klines"], days, intervals=HOUR_AND_DAY)
    return await execute(wanted)


async def monthly() -> Result:
    days = ("2025-06-15", "2025-07-15")
    intervals = {"klines": ["1d"]}
    wanted = fields("monthly", ["spot"], ["BTCUSDT"], ["klines"], days, intervals=intervals)
    return await execute(wanted | {"batch_size": 50})


# Putting it to use

DAILY = fields(
    "daily",
    ["spot", "futures_um"],
    ["BTCUSDT", "ETHUSDT"],
    ["klines", "trades"],
    JULY_15,
    intervals=HOUR_AND_DAY,
)


async def prefect_deployment() -> Result:
    from prefect import flow

    from binance_archive_kit.workflow import archive_collection_flow

    @flow(name="daily-crypto-collection")
    async def daily() -> Result:
        return await archive_collection_flow(WorkflowConfig(DAILY))

    cron, tags = "0 6 * * *", ["crypto", "daily", "archive"]
    for each in (daily, archive_collection_flow):
        deployment = each.to_deployment(name="daily-crypto-collection", cron=cron, tags=tags)
        deployment = await deployment if asyncio.iscoroutine(deployment) else deployment
        print(f"Deployment: {deployment.schedules[0].schedule.cron} {deployment.tags}")
    return await daily()


class CustomStorage(BaseStorage):
    """Makes folders of all that it is told, and never calls its parent."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def get_partition_path(self, **kwargs: Any) -> str:
        zone, exchange = kwargs["zone"].value, kwargs["exchange"].value
        trade_type, data_type = kwargs["trade_type"].value, kwargs["data_type"].value
        day = kwargs["partition_date"].strftime("%Y/%m/%d")
        return f"{zone}/{exchange}/{trade_type}/{data_type}/{kwargs['symbol']}/{day}"


async def custom_storage() -> Result:
    workflow = PrefectArchiveCollectionWorkflow(WorkflowConfig(ONE_DAY))
    workflow.storage = CustomStorage("my-crypto-bucket")
    return await workflow.execute()


class DetailedMetrics(MetricsCollector):
    """Keeps all it is told, and never calls its parent."""

    def __init__(self) -> None:
        self.events = []
        self.errors = []

    def record_event(self, event_name: str, **kwargs: Any) -> None:
        now = datetime.now().isoformat()
        self.events.append({"event": event_name, "timestamp": now, "details": kwargs})

    def record_error(self, error_message: str, **kwargs: Any) -> None:
        now = datetime.now().isoformat()
        self.errors.append({"error": error_message, "timestamp": now, "details": kwargs})

    def export_metrics(self, filename: str) -> None:
        with Path(filename).open("w") as file:
            json.dump({"events": self.events, "errors": self.errors}, file, indent=2)


async def metrics() -> Result:
    collector = DetailedMetrics()
    result = await execute(ONE_DAY, collector)
    collector.export_metrics("collection_metrics.json")
    return result


# When it does not work


async def robust(config: dict[str, Any] | None = None) -> Result:
    wanted = config or fields(
        "robust", ["spot"], ["BTCUSDT"], ["klines"], JULY_15, enable_resume=True
    )
    most, count = 3, 0
    while count < most:
        try:
            result = await execute(wanted)
            if result["status"] == "success":
                print("Collection completed successfully!")
                return result
            print(f"Collection failed: {result.get('error', 'Unknown error')}")
        except ConfigurationError as error:
            print(f"Configuration error: {error}")
            break
        except WorkflowError as error:
            print(f"Workflow error (attempt {count + 1}): {error}")
            count += 1
            if count < most:
                wait = 2**count
                print(f"Retrying in {wait} seconds...")
                await asyncio.sleep(wait)
        except Exception as error:
            print(f"Unexpected error: {error}")
            break
    print(f"Collection failed after {most} attempts")
    return None


async def robust_against_a_wrong_question() -> Result:
    return await robust(ONE_DAY | {"markets": ["sport"]})


async def partial_handling() -> Result:
    days = ("2025-07-10", "2025-07-15")
    symbols, types = ["BTCUSDT", "ETHUSDT"], ["klines", "trades"]
    result = await execute(fields("partial", ["spot", "futures_um"], symbols, types, days))
    stats = result["collection_stats"]
    total, successful = stats["total_tasks"], stats["successful_tasks"]
    rate = (successful / total) * 100 if total > 0 else 0
    print("Collection Summary:")
    print(f"  Total tasks: {total}")
    print(f"  Successful: {successful}")
    print(f"  Failed: {stats['failed_tasks']}")
    print(f"  Success rate: {rate:.1f}%")
    if rate < 90 and "errors" in result["metadata"].__dict__:
        for error in result["metadata"].errors[:5]:
            print(f"  - {error}")
    return result


# Data sets


async def research() -> Result:
    symbols = {
        "spot": ["BTCUSDT", "ETHUSDT", "ADAUSDT", "DOTUSDT", "LINKUSDT"],
        "futures_um": ["BTCUSDT", "ETHUSDT", "ADAUSDT", "DOTUSDT"],
        "futures_cm": ["BTCUSD_PERP", "ETHUSD_PERP"],
        "options": ["BTC", "ETH"],
    }
    types = ["klines", "trades", "aggTrades", "bookDepth", "bookTicker", "fundingRate"]
    types += ["premiumIndex", "liquidationSnapshot", "metrics", "BVOLIndex", "EOHSummary"]
    types += ["indexPriceKlines", "markPriceKlines"]
    wanted = fields(
        "research_dataset",
        list(symbols),
        symbols,
        types,
        FIRST_HALF,
        intervals={
            "klines": ["1m", "5m", "15m", "1h", "4h", "1d"],
            "indexPriceKlines": ["1h", "4h", "1d"],
            "markPriceKlines": ["1h", "4h", "1d"],
            "BVOLIndex": ["1h", "1d"],
            "bookDepth": ["1000ms"],
        },
        batch_size=100,
        max_parallel_downloads=8,
        enable_batch_mode=True,
        download_checksum=True,
    )
    result = await execute(wanted)
    print(f"Total files: {result['collection_stats']['successful_tasks']}")
    print(f"Total size: {result['total_size_formatted']}")
    print(f"Markets covered: {len(wanted['markets'])}")
    print(f"Data types: {len(wanted['data_types'])}")
    return result


async def backtest() -> Result:
    wanted = fields(
        "backtest_data",
        ["spot", "futures_um"],
        ["BTCUSDT", "ETHUSDT"],
        ["klines", "trades", "fundingRate", "liquidationSnapshot"],
        ("2025-06-01", "2025-07-15"),
        intervals={"klines": ["1m", "5m", "1h"]},
        batch_size=150,
        enable_resume=True,
    )
    result = await execute(wanted)
    expected = 45 * len(wanted["symbols"]) * len(wanted["intervals"]["klines"]) * 2
    there = len([file for file in result["metadata"].output_files if "klines" in file])
    print(f"Backtest Data Completeness: {there / expected * 100:.1f}%")
    return result


async def pipeline() -> Result:
    wanted = fields(
        "pipeline_init",
        ["spot", "futures_um"],
        ["BTCUSDT", "ETHUSDT", "BNBUSDT"],
        ["klines", "trades", "fundingRate", "bookTicker"],
        ("2025-07-14", "2025-07-15"),
        intervals={"klines": ["1m", "5m", "1h"]},
        force_redownload=True,
        download_checksum=True,
    )
    result = await execute(wanted)
    print(f"Pipeline initialized with {result['collection_stats']['successful_tasks']} files")
    return result


# Tests of users


async def unit_tests() -> Result:
    engine = {"batch_size": 5, "max_parallel_downloads": 2, "timeout_seconds": 60}
    hourly = {"intervals": {"klines": ["1h"]}, "output_directory": "output/test"}
    result = await execute(ONE_DAY | hourly | engine)
    assert result["status"] == "success"
    assert result["collection_stats"]["total_tasks"] > 0
    assert result["success_rate"] >= 0
    wrong = {
        "matrix_path": "nonexistent_matrix.json",
        "markets": ["invalid_market"],
        "data_types": ["invalid_type"],
    }
    bad = {name: value for name, value in ONE_DAY.items() if name != "date_range"} | wrong
    workflow = PrefectArchiveCollectionWorkflow(WorkflowConfig(bad))
    try:
        await workflow.execute()
    except ConfigurationError as error:
        print(error)
    return result


async def performance() -> Result:
    symbols, types = ["BTCUSDT", "ETHUSDT"], ["klines", "trades"]
    engine = {"batch_size": 100, "max_parallel_downloads": 8}
    wanted = fields(
        "performance_test", ["spot"], symbols, types, JULY_15, intervals=HOUR_AND_DAY, **engine
    )
    began = time.time()
    result = await execute(wanted)
    seconds = time.time() - began
    stats = result["collection_stats"]
    assert stats["successful_tasks"] / seconds > 1.0
    assert result["success_rate"] > 95.0
    print(f"  Throughput: {stats['total_size_bytes'] / seconds / 1024 / 1024:.2f} MB/s")
    print(f"  Success rate: {result['success_rate']:.1f}%")
    return result


# The command lines are in the tests: they are the shell's.

EXAMPLES: dict[str, Callable[[], Awaitable[Result]]] = {
    each.__name__: each
    for each in (
        basic,
        multi_market,
        spot_complete,
        futures_um,
        options,
        all_klines,
        order_book,
        liquidations,
        high_throughput,
        memory_optimised,
        network_resilient,
        single_day,
        weekly,
        monthly,
        prefect_deployment,
        custom_storage,
        metrics,
        robust,
        robust_against_a_wrong_question,
        partial_handling,
        research,
        backtest,
        pipeline,
        unit_tests,
        performance,
    )
}


def told(result: Result) -> dict[str, Any]:
    """Say what came out of a run, for the test that looks at it."""
    if result is None:
        return {}
    return {
        "status": result.status,
        "outcome": result.outcome,
        "success_rate": result.success_rate,
        "stats": result.collection_stats,
        "files": list(result.output_files),
        "unavailable": [str(absence) for absence in result.unavailable],
        "missing": [str(absence) for absence in result.missing],
        "not_published": [str(absence) for absence in result.not_published],
        "failures": [str(failure) for failure in result.failures],
        "notes": list(result.plan.notes),
        "entries": sorted(result),
        "metadata": sorted(result["metadata"].__dict__),
    }


if __name__ == "__main__":
    print(json.dumps(told(asyncio.run(EXAMPLES[sys.argv[1]]()))))
