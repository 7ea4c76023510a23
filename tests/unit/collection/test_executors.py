"""Executors: which can run shards, and how many shards they get at a time."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from binance_archive_kit.collection import executors
from binance_archive_kit.collection.executors import Window, check_executor
from binance_archive_kit.errors import ConfigurationError


class Client:
    """As much of Dask's client as is asked."""

    def __init__(self) -> None:
        self.workers: dict[str, int] | None = {"a": 2, "b": 2}

    def nthreads(self) -> dict[str, int]:
        if self.workers is None:
            raise OSError("connection lost")
        return self.workers

    def get_executor(self) -> Executor:
        return ThreadPoolExecutor(1)


class ClusterExecutor(Executor):
    def __init__(self, client: Client) -> None:
        self._client = client


def test_a_window_is_a_few_times_the_workers() -> None:
    with ThreadPoolExecutor(5) as threads:
        assert Window(threads).size() == 15
    assert Window(Executor()).size() == 12


def test_a_cluster_may_grow_and_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_FRESH", 0.0)
    client = Client()
    window = Window(ClusterExecutor(client))
    assert window.size() == 12
    client.workers = {"a": 2, "b": 2, "c": 6}
    assert window.size() == 30
    client.workers = None
    assert window.size() == 30
    assert not window.is_empty()
    client.workers = {}
    assert window.size() == 3
    assert window.is_empty()


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        (None, "None is not an executor"),
        (Client(), r"is not an executor.*give client\.get_executor\(\)"),
        (
            ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")),
            r"its processes are forked.*get_context\('spawn'\)",
        ),
    ],
)
def test_what_cannot_run_shards_is_refused(executor: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_executor(executor, None)


def test_a_script_that_its_own_workers_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, mp_context=context) as executor,
        pytest.raises(ConfigurationError, match="below the line if __name__ == '__main__':"),
    ):
        check_executor(executor, None)
