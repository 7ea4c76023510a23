"""The workflow as a Prefect flow: under a server, served, and without Prefect.

Flows run in processes of their own, as they do for users.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import binance_archive_kit as bak
from tests.e2e.conftest import Served
from tests.support.bucket import daily_klines, zips_of
from tests.support.checks import assert_holds
from tests.support.examples import assert_gives, example
from tests.support.existed import bucket
from tests.support.prefect_server import BUCKET, PRELUDE, ROOT, ask, config_for
from tests.support.s3_server import Fault, LocalS3, Request

Script = Callable[..., str]
README = ROOT / "README.md"


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Lend a function that runs Python code, which finds a configuration in ``config``."""

    def run(code: str, config: dict[str, Any], **environment: str) -> str:
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "script.py").write_text(f"{PRELUDE}\n{code}")
        done = subprocess.run(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-5000:]
        return done.stdout

    return run


@pytest.fixture(scope="module", autouse=True)
def begun(served: Served) -> None:
    """Let the served deployment run meanwhile."""


# Under a server

_RUN = """
import prefect
from prefect.task_runners import ThreadPoolTaskRunner
from binance_archive_kit.workflow import MetricsCollector, archive_collection_flow

submitted = []

class Runner(ThreadPoolTaskRunner):
    def submit(self, task, *arguments, **options):
        submitted.append(task.name)
        return super().submit(task, *arguments, **options)

metrics = MetricsCollector()
flow = archive_collection_flow.with_options(task_runner=Runner(max_workers=2))
with prefect.tags("shown"):
    result = asyncio.run(flow(config, metrics))
print(json.dumps({
    "stats": result["collection_stats"],
    "outcome": result["outcome"],
    "files": list(result["output_files"]),
    "events": metrics.events,
    "submitted": submitted,
}))
"""


def test_the_api_shows_the_run_and_its_steps(
    script: Script, tmp_path: Path, prefect_env: dict[str, str]
) -> None:
    """The archive refuses its listing once: the plan is made again, and the run goes on."""

    def refuse(request: Request) -> Fault | None:
        return Fault(status=403) if not request.key and request.attempt == 1 else None

    with LocalS3(BUCKET, fault=refuse) as server:
        said = json.loads(script(_RUN, config_for(server, tmp_path), **prefect_env))
    assert said["outcome"] == "complete"
    assert said["stats"]["successful_tasks"] == 5
    assert said["submitted"] == ["collect"] * 3
    assert_holds(tmp_path / "store", zips_of(BUCKET))

    [run] = ask(
        prefect_env,
        "flow_runs",
        flows={"name": {"any_": ["archive-collection"]}},
        flow_runs={"tags": {"all_": ["shown"]}},
    )
    assert run["state_type"] == "COMPLETED"
    assert run["parameters"]["config"]["symbols"] == ["BTCUSDT"]
    of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    steps = {step["name"]: step for step in ask(prefect_env, "task_runs", **of_run)}
    kinds = {name.rpartition("-")[0] or name: step for name, step in steps.items()}
    assert set(kinds) == {
        *("validate", "plan", "prove", "report"),
        *("collect 1 of 3", "collect 2 of 3", "collect 3 of 3"),
    }
    assert {step["state_type"] for step in steps.values()} == {"COMPLETED"}
    assert kinds["plan"]["run_count"] == 2
    logs = "\n".join(
        line["message"]
        for line in ask(prefect_env, "logs", logs={"flow_run_id": {"any_": [run["id"]]}})
    )
    assert "plan: 5 objects: 5 to download" in logs
    assert "batch 3 of 3: 1 of 1 objects proven on disk" in logs
    kept = ask(prefect_env, "artifacts", artifacts={"flow_run_id": {"any_": [run["id"]]}})
    artifacts = {artifact["key"]: artifact for artifact in kept}
    assert set(artifacts) == {"archive-collection", "archive-coverage"}
    collection = artifacts["archive-collection"]["data"]
    assert "| spot | klines | daily | 5 | 0 | 0 | 100 % |" in collection
    assert "the archive has no spot bookDepth" in collection
    covers = artifacts["archive-coverage"]
    assert "100 % of the rows due are present (120 of 120)" in covers["description"]
    assert "5 of 5 | 120 of 120 | 100 % |" in covers["data"]
    # The batches' events are those of one collection.
    events = [each["event"] for each in said["events"]]
    assert events[:2] == ["run_started", "tasks_planned"]
    assert events[-1] == "run_finished"
    batches = [
        each["details"]["batch"] for each in said["events"] if each["event"] == "batch_started"
    ]
    assert batches == [1, 2, 3]


_STUBBORN = """
from binance_archive_kit.workflow import ConfigurationError, WorkflowError, archive_collection_flow

stubborn = archive_collection_flow.with_options(retries=3, retry_delay_seconds=600)
for change in {"markets": ["sport"]}, {"matrix_path": "x.json"}, {"s5cmd_extra_args": ["--frob"]}:
    began = time.monotonic()
    try:
        asyncio.run(stubborn(config | change))
    except ConfigurationError as error:
        print(f"refused: {error}")
        assert time.monotonic() - began < 300
try:
    asyncio.run(stubborn.with_options(retries=0)(config))
except WorkflowError as error:
    print(f"failed: {error.result.collection_stats['failed_tasks']}")
print(asyncio.run(archive_collection_flow(config | {"markets": ["options"]}))["outcome"])
relative = config | {"output_directory": "here"}
deployment = archive_collection_flow.to_deployment("daily", config=relative, cron="0 6 * * *")
print(deployment.parameters["config"]["output_directory"])
"""


def test_what_can_only_fail_is_not_tried_again(
    script: Script, tmp_path: Path, prefect_env: dict[str, str]
) -> None:
    def forbid(request: Request) -> Fault | None:
        return Fault(status=403) if request.key else None

    with LocalS3(BUCKET, fault=forbid) as server:
        said = script(_STUBBORN, config_for(server, tmp_path), **prefect_env).splitlines()
        asked = [key for method, key in server.requests if method == "GET" and key]
    assert [line.partition(":")[0] for line in said] == [
        *("refused", "refused", "refused", "failed", "empty"),
        str(tmp_path / "here"),
    ]
    assert "'sport' is not valid" in said[0]
    assert said[3] == "failed: 5"
    # Each of the three batches was tried by one task run alone.
    assert max(asked.count(key) for key in zips_of(BUCKET)) <= 3


def test_the_documented_deployment_gives_what_existed(
    tmp_path: Path, prefect_env: dict[str, str]
) -> None:
    """It is with those that need the server: a server takes half a minute to start."""
    with LocalS3(bucket()) as server:
        said = example("prefect_deployment", tmp_path, server, **prefect_env)
    assert_gives(said, 12)
    assert "Deployment: 0 6 * * * ['crypto', 'daily', 'archive']" in said.printed


_KEEP = """
from keep import keep_store

state = keep_store.with_options(retry_delay_seconds=0)("store", return_state=True)
print(state.type.value)
"""


def test_the_documented_flow_keeps_a_store_up_to_date(
    script: Script, tmp_path: Path, prefect_env: dict[str, str]
) -> None:
    """The archive refuses a file at first: Prefect runs the flow again."""
    [documented] = [part for part in README.read_text().split("```") if "# keep.py" in part]
    (tmp_path / "keep.py").write_text(documented.removeprefix("python\n"))
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    days = daily_klines("BTCUSDT", yesterday - timedelta(days=4))

    def refuse(request: Request) -> Fault | None:
        is_last = str(yesterday) in request.key and request.key.endswith(".zip")
        return Fault(status=403) if is_last and request.attempt == 1 else None

    with LocalS3(days, fault=refuse) as server:
        bak.collect(
            markets=["spot"],
            symbols=["BTCUSDT"],
            data_types=["klines"],
            intervals={"klines": ["1h"]},
            start=yesterday - timedelta(days=4),
            end=yesterday - timedelta(days=4),
            output_directory=tmp_path / "store",
            endpoint_url=server.url,
        )
        said = script(_KEEP, {}, S3_ENDPOINT_URL=server.url, **prefect_env)
        asked = [key for method, key in server.requests if method == "GET" and key[-4:] == ".zip"]
    assert said.splitlines()[-1] == "COMPLETED"
    # Each file once, and the last one again.
    assert sorted(asked) == sorted([*zips_of(days), max(asked)])
    assert_holds(tmp_path / "store", zips_of(days))


# Without Prefect

_WITHOUT = """
sys.modules["prefect"] = None
import binance_archive_kit as bak
from binance_archive_kit import workflow
from binance_archive_kit.workflow import *
for name in (*bak.__all__, *workflow.__all__):
    getattr(bak if name in bak.__all__ else workflow, name)
result = asyncio.run(archive_collection_flow(WorkflowConfig(config)))
print(result["outcome"], repr(archive_collection_flow))
for name in ("to_deployment", "serve", "deploy", "with_options"):
    try:
        getattr(archive_collection_flow, name)(name="x", cron="0 6 * * *")
    except ImportError as error:
        assert isinstance(error, bak.MissingExtraError)
        print(error)
assert not any(name.startswith("prefect.") for name in sys.modules)
from binance_archive_kit.cli.main import main
print(main(["matrix", "spot"]))
"""


def test_without_prefect_all_else_works(script: Script, tmp_path: Path) -> None:
    with LocalS3(BUCKET) as server:
        said = script(_WITHOUT, config_for(server, tmp_path)).splitlines()
    assert said[0] == "complete PlainFlow(archive_collection_flow, without Prefect)"
    assert said[1:5] == [
        f"archive_collection_flow.{name} needs the prefect extra: "
        "pip install 'binance-archive-kit[prefect]'"
        for name in ("to_deployment", "serve", "deploy", "with_options")
    ]
    assert said[-1] == "0"
    assert_holds(tmp_path / "store", zips_of(BUCKET))


def test_the_workflow_loads_no_prefect(script: Script, tmp_path: Path) -> None:
    code = "import binance_archive_kit.workflow as w; w.WorkflowConfig"
    assert script(f"{code}; print('prefect' in sys.modules)", {}) == "False\n"


# At last


def test_a_served_deployment_collects_each_minute_and_keeps_what_it_has(
    served: Served, prefect_env: dict[str, str]
) -> None:
    """It was begun with the first test that needs the server, and had time since."""
    folder, server = served
    until = time.monotonic() + 180
    runs: list[dict[str, Any]] = []
    while len(runs) < 2:
        assert time.monotonic() < until, (folder / "log").read_text()[-5000:]
        time.sleep(1)
        runs = ask(
            prefect_env,
            "flow_runs",
            flow_runs={"tags": {"all_": ["served"]}, "state": {"type": {"any_": ["COMPLETED"]}}},
            sort="EXPECTED_START_TIME_ASC",
        )
    starts = [run["expected_start_time"] for run in runs[:2]]
    assert starts[0][14:16] != starts[1][14:16]  # another minute
    said = []
    for run in runs[:2]:
        of_run = {"flow_run_id": {"any_": [run["id"]]}, "key": {"any_": ["archive-collection"]}}
        [artifact] = ask(prefect_env, "artifacts", artifacts=of_run)
        said.append(artifact["description"])
    assert "5 downloaded, 0 kept" in said[0]
    assert "0 downloaded, 5 kept" in said[1]
    assert_holds(folder / "store", zips_of(BUCKET))
    fetched = [key for method, key in server.requests if method == "GET" and key.endswith(".zip")]
    assert sorted(fetched) == sorted(zips_of(BUCKET))
