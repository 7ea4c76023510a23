"""Ended at any moment, by any means: nothing partial, nothing left running, and a next run."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from binance_archive_kit.collection.collect import acollect, collect
from binance_archive_kit.download import s5cmd
from binance_archive_kit.planning.config import CollectionConfig
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import DAYS, SYMBOLS, Bucket, many_klines, zips_of
from tests.support.checks import (
    assert_holds,
    assert_no_downloader,
    assert_nothing_staged,
    assert_whole,
    downloaders,
    files_of,
)
from tests.support.children import Children
from tests.support.kills import Killed, archive
from tests.support.s3_server import LocalS3

#: Seconds that a process may take to notice that nobody wants it any more, on a busy machine.
SOON = 20.0
#: Seconds that s5cmd has to end, where nobody is to wait for that.
LONG = 60.0

CHILD = """\
import signal, sys
from binance_archive_kit.download import s5cmd
from binance_archive_kit.collection.collect import collect
from binance_archive_kit.planning.config import CollectionConfig

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored before
s5cmd._GRACE = float(sys.argv[2])
collect(CollectionConfig.from_json(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def bucket() -> Bucket:
    return many_klines()


@pytest.fixture
def server(serve: Serve, bucket: Bucket) -> LocalS3:
    """Serve slowly enough to be interrupted."""
    server = serve(bucket)
    server.latency = 0.02
    return server


@pytest.fixture
def config(ask: Ask, server: LocalS3) -> CollectionConfig:
    return ask(server, *SYMBOLS, days=DAYS, max_parallel_downloads=8)


def started(server: LocalS3, count: int = 0) -> int:
    """Count the zips that were asked for, once there are at least `count`."""
    until = time.monotonic() + 20
    while True:
        seen = sum(method == "GET" and key.endswith(".zip") for method, key in server.requests)
        if seen >= count:
            return seen
        assert time.monotonic() < until, f"{seen} of {count} zips asked for"
        time.sleep(0.002)


@pytest.fixture
def children(server: LocalS3) -> Iterator[Children]:
    # Ended before the server looks for what they left behind.
    children = Children(CHILD)
    yield children
    children.end()


def finish(config: CollectionConfig, server: LocalS3, bucket: Bucket) -> None:
    """Run to the end: everything is there then, and nothing is fetched twice."""
    held = assert_whole(config.output_directory, zips_of(bucket))
    server.requests.clear()
    server.latency = 0.0
    result = collect(config)
    assert result.outcome == "complete"
    assert result.collection_stats["skipped_tasks"] == held
    assert started(server) == len(SYMBOLS) * DAYS - held
    assert_holds(config.output_directory, zips_of(bucket))
    assert_nothing_staged(config.output_directory)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_process_may_end_at_any_moment(
    server: LocalS3,
    config: CollectionConfig,
    bucket: Bucket,
    children: Children,
    name: str,
) -> None:
    chance, number = random.Random(name), signal.Signals[name]
    store = config.output_directory
    for share in (0.1, 0.4, 0.3):
        before = started(server)
        child = children.start(config.to_json(), str(s5cmd._GRACE))
        left = len(SYMBOLS) * DAYS - len(files_of(store))
        started(server, before + chance.randrange(1, int(share * left)))
        time.sleep(chance.uniform(0, 0.05))
        child.send_signal(number)
        _, said = child.communicate(timeout=SOON)
        assert child.returncode not in (0, None)
        assert_no_downloader(server.url, within=SOON)
        assert_whole(store, zips_of(bucket))
        if number is signal.SIGINT:
            last = said.decode().rstrip().rpartition("\n")[2]
            held = f"{len(files_of(store))} of {len(SYMBOLS) * DAYS} files"
            assert re.fullmatch(
                f"KeyboardInterrupt: interrupted: {held} are in the store and proven; "
                "run it again to continue"
                # Before it is under way there is nothing to count.
                "|KeyboardInterrupt(: interrupted before anything was downloaded; .*)?",
                last,
            )
            assert_nothing_staged(store)
    assert 0 < len(files_of(store)) < len(zips_of(bucket))
    finish(config, server, bucket)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_process_may_be_killed_at_any_moment(
    serve: Serve, store: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The soak step ``kills`` has 200 moments."""
    cache = store.with_name("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    root = store if kind == "folder" else s3_url
    killed = Killed(serve(archive()), root, cache, random.Random(kind))
    killed.kill("collect")
    killed.kill("build")


def test_a_process_may_end_while_another_fills_the_same_store(
    server: LocalS3, config: CollectionConfig, bucket: Bucket, children: Children
) -> None:
    child = children.start(config.to_json(), str(s5cmd._GRACE))
    started(server, 20)
    with ThreadPoolExecutor(1) as pool:
        living = pool.submit(collect, config)
        started(server, 80)
        child.kill()
        assert living.result(timeout=60).outcome == "complete"
    assert files_of(config.output_directory) == zips_of(bucket)
    # What the dead one left behind is cleared away by the next.
    assert collect(config.replace(force_redownload=True)).outcome == "complete"
    assert_holds(config.output_directory, zips_of(bucket))


@pytest.mark.parametrize("count", [0, 1, 150])
def test_a_cancelled_task_leaves_nothing_behind(
    server: LocalS3, config: CollectionConfig, bucket: Bucket, count: int
) -> None:
    async def main() -> None:
        task = asyncio.create_task(acollect(config))
        await asyncio.to_thread(started, server, count)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_no_downloader(server.url)
        assert_nothing_staged(config.output_directory)

    asyncio.run(main())
    finish(config, server, bucket)


@pytest.mark.parametrize("count", [0, 1, 150])
def test_an_interrupt_cleans_up_before_it_is_raised(
    server: LocalS3, config: CollectionConfig, bucket: Bucket, count: int
) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        started(server, count)
        if not count:
            time.sleep(0.02)
        signal.pthread_kill(main, signal.SIGINT)

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread = threading.Thread(target=interrupt)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the thread belongs to it
            thread.start()
            collect(config)
    finally:
        signal.signal(signal.SIGINT, usual)
        thread.join()
    assert_no_downloader(server.url)
    assert_nothing_staged(config.output_directory)
    finish(config, server, bucket)


def stop_downloader(url: str) -> int:
    """Suspend the s5cmd that talks to an endpoint: it will not end when asked to. Tell its id."""
    # By its own name, which the Python that starts it has not, and by what it was told.
    command = ["pgrep", "-x", "s5cmd"]
    running = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    (found,) = (pid for pid in running if url in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(int(found), signal.SIGSTOP)
    return int(found)


def test_a_second_interrupt_does_not_wait_for_the_clean_up(
    server: LocalS3, config: CollectionConfig, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = threading.main_thread().ident
    assert main is not None
    monkeypatch.setattr(s5cmd, "_GRACE", LONG)
    held = 0

    def interrupt() -> None:
        nonlocal held
        started(server, 20)
        held = stop_downloader(server.url)
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.5)
        signal.pthread_kill(main, signal.SIGINT)

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread = threading.Thread(target=interrupt)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the thread belongs to it
            thread.start()
            collect(config)
    finally:
        signal.signal(signal.SIGINT, usual)
        thread.join()
    assert downloaders(server.url)
    # The clean-up goes on by itself, and leaves as little behind.
    os.kill(held, signal.SIGCONT)
    assert_no_downloader(server.url, within=SOON)
    until = time.monotonic() + SOON
    while any(thread.name == "binance-archive" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert_nothing_staged(config.output_directory)
    finish(config, server, bucket)


def test_a_process_may_be_interrupted_twice(
    server: LocalS3, config: CollectionConfig, bucket: Bucket, children: Children
) -> None:
    child = children.start(config.to_json(), str(LONG))
    started(server, 20)
    stop_downloader(server.url)
    child.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=SOON)
    last = said.splitlines()[-1]
    assert last.startswith(b"KeyboardInterrupt: interrupted: ")
    assert last.endswith(b" of 300 files are in the store and proven; run it again to continue")
    assert b"Fatal" not in said
    assert_no_downloader(server.url, within=SOON)
    finish(config, server, bucket)


def test_a_loop_runs_on_while_it_collects(server: LocalS3, config: CollectionConfig) -> None:
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    async def main() -> None:
        ticking = asyncio.create_task(tick())
        began = time.monotonic()
        assert (await acollect(config)).outcome == "complete"
        ticking.cancel()
        assert longest < (time.monotonic() - began) / 2

    asyncio.run(main())


def test_several_collections_at_once_share_a_store(
    server: LocalS3, config: CollectionConfig, bucket: Bucket
) -> None:
    server.latency = 0.01
    parts = [SYMBOLS[:4], SYMBOLS[2:6], SYMBOLS[4:8], SYMBOLS[6:], SYMBOLS]
    with ThreadPoolExecutor(len(parts)) as pool:
        results = list(pool.map(lambda symbols: collect(config.replace(symbols=symbols)), parts))
    assert [result.outcome for result in results] == ["complete"] * len(parts)
    assert files_of(config.output_directory) == zips_of(bucket)
    assert_nothing_staged(config.output_directory)
    server.requests.clear()
    assert collect(config).collection_stats["skipped_tasks"] == len(zips_of(bucket))
    assert started(server) == 0
    assert_holds(config.output_directory, zips_of(bucket))
