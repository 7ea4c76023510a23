"""A shard in a worker: its outcome is small, and its warnings are sent instead of shown."""

from __future__ import annotations

import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from binance_archive_kit.collection import shard_run
from binance_archive_kit.collection.shard_run import (
    ShardOutcome,
    ShardTask,
    run_shard,
    this_process,
)
from binance_archive_kit.errors import ArchiveKitWarning, ConfigurationError, warn_user
from tests.unit.download.test_result import CONFIG, D, F, K, plan_of, result_of

TASK = ShardTask(CONFIG.to_json(), None, "run", 1, 1, 1, this_process())


def test_an_outcome_is_small_and_has_the_rows() -> None:
    result = result_of(*[D, K] * 500)
    outcome = ShardOutcome.of(result)
    sent = pickle.dumps(outcome)
    assert len(sent) < 40_000
    assert pickle.loads(sent) == outcome
    assert outcome.frame().equals(result.objects())
    assert outcome.headline == result.headline()
    assert (outcome.proven_bytes, outcome.downloaded_bytes) == (1024 * 1000, 1024 * 500)


def test_a_shard_of_which_everything_failed_has_failed() -> None:
    assert ShardOutcome.of(result_of(F, F)).is_failed
    assert not ShardOutcome.of(result_of(D, F)).is_failed
    assert not ShardOutcome.of(result_of(plan=plan_of(0))).is_failed


@pytest.mark.parametrize("driver", [this_process(), "another one"], ids=["this", "another"])
def test_an_error_of_the_package_is_part_of_the_outcome(driver: str) -> None:
    broken = CONFIG.replace(matrix_path="nowhere.json").to_json()
    outcome = run_shard(replace(TASK, config=broken, driver=driver))
    assert isinstance(outcome.problem, ConfigurationError)
    assert outcome.is_failed
    assert "nowhere.json" in str(pickle.loads(pickle.dumps(outcome)).problem)


def test_an_interrupt_on_a_thread_ends_only_the_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polars raises it anywhere; a worker of Dask runs shards on threads."""

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shard_run, "prepare", interrupted)
    with ThreadPoolExecutor(1) as threads, pytest.raises(RuntimeError, match="was interrupted"):
        threads.submit(run_shard, TASK).result()
    with pytest.raises(KeyboardInterrupt):
        run_shard(TASK)


def test_warnings_of_all_threads_are_sent_once() -> None:
    collector = shard_run._Collector()
    show = warnings.showwarning

    def work(number: int) -> tuple[str, ...]:
        with collector.running():
            warn_user(f"one of {number % 3}")
            with pytest.warns(DeprecationWarning, match="another kind"):
                warnings.warn("another kind", DeprecationWarning, stacklevel=1)
        return collector.take()

    with warnings.catch_warnings():
        warnings.simplefilter("always", ArchiveKitWarning)
        with collector.running(), ThreadPoolExecutor(1) as threads:
            sent = [*threads.map(work, range(6))]
        assert {text for texts in sent for text in texts} == {"one of 0", "one of 1", "one of 2"}
        assert warnings.showwarning is not collector._collect
    assert warnings.showwarning is show


def test_other_warnings_are_shown(recwarn: pytest.WarningsRecorder) -> None:
    collector = shard_run._Collector()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with collector.running():
            warnings.warn("of another package", UserWarning, stacklevel=1)
    assert collector.take() == ()
    assert sys.modules["warnings"] is warnings
    assert [str(each.message) for each in recwarn] == ["of another package"]
