"""Every request ends in one outcome, also after an error that nothing expects."""

from __future__ import annotations

import asyncio

import pytest

from binance_archive_kit.archive.curl_pool import Answer, Cause, CurlPool, Failure, Limits, Outcome
from binance_archive_kit.archive.endpoint import Route
from tests.support.s3_server import LocalS3

BUCKET = "data.binance.vision"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def outcomes_of(endpoint: str, *batches: list[str]) -> list[tuple[str, Outcome]]:
    """Request objects, one batch after the other, and wait for all outcomes."""
    found: list[tuple[str, Outcome]] = []

    def path_of(name: str) -> str:
        if name == "bad":
            raise RuntimeError("no such path")
        return f"/{BUCKET}/{name}"

    async def main() -> None:
        def take(name: str, outcome: Outcome) -> None:
            found.append((name, outcome))
            arrived.release()

        arrived = asyncio.Semaphore(0)
        pool = CurlPool[str](Route.to(endpoint), path_of, take, Limits(4, 5, 5, 1000))
        async with pool, asyncio.timeout(20):
            for names in batches:
                pool.send(names)
                for _ in names:
                    await arrived.acquire()

    asyncio.run(main())
    return found


def test_answers_and_their_bodies() -> None:
    with LocalS3({"a": b"hello"}) as server:
        found = dict(outcomes_of(server.url, ["a", "b"]))
    answer, absent = found["a"], found["b"]
    assert isinstance(answer, Answer)
    assert isinstance(absent, Answer)
    assert (answer.status, answer.body, answer.header("content-length")) == (200, b"hello", "5")
    assert absent.status == 404


def test_an_unexpected_error_ends_the_waiting_requests_and_no_later_ones() -> None:
    with LocalS3({"a": b"hello"}) as server:
        found = outcomes_of(server.url, ["bad", "a", "a"], ["a"])
    *ended, (_, later) = found
    assert sorted(name for name, _ in ended) == ["a", "a", "bad"]
    for _, outcome in ended:
        assert isinstance(outcome, Failure)
        assert outcome.cause is Cause.REFUSED
        # Its text could have an address with a password.
        assert outcome.message == "RuntimeError"
    assert isinstance(later, Answer)
