"""Cells in a real kernel: interrupted, left alone, and two notebooks on one store."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from binance_archive_kit.collection.collect import collect
from binance_archive_kit.planning.config import CollectionConfig
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import DAYS, SYMBOLS, Bucket, many_klines, zips_of
from tests.support.checks import (
    assert_holds,
    assert_no_downloader,
    assert_nothing_staged,
    assert_whole,
    files_of,
)
from tests.support.kernels import Kernel
from tests.support.s3_server import LocalS3

COLLECT, AWAIT = "result = bak.collect(config)", "result = await bak.acollect(config)"


@pytest.fixture(scope="module")
def bucket() -> Bucket:
    return many_klines()


@pytest.fixture
def server(serve: Serve, bucket: Bucket) -> LocalS3:
    """Serve slowly enough to be interrupted."""
    server = serve(bucket)
    server.latency = 0.05
    return server


@pytest.fixture
def config(ask: Ask, server: LocalS3) -> CollectionConfig:
    return ask(server, *SYMBOLS, days=DAYS, max_parallel_downloads=8)


def ready(kernel: Kernel, config: CollectionConfig) -> None:
    """Run the first cells of a notebook."""
    code = f"import binance_archive_kit as bak\nconfig = {config.to_python()}"
    assert kernel.reply(kernel.begin(code))["status"] == "ok"


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.005)


def under_way(store: Path) -> None:
    until(lambda: len(files_of(store)) >= 20, "20 files have come")


def test_an_interrupted_cell_leaves_all_sound(
    tmp_path: Path, server: LocalS3, config: CollectionConfig, bucket: Bucket
) -> None:
    store = config.output_directory
    waits = []
    with Kernel(tmp_path) as kernel:
        ready(kernel, config)
        for code in (COLLECT, AWAIT):
            held = len(files_of(store))
            cell = kernel.begin(code)
            until(lambda held=held: len(files_of(store)) >= held + 20, "20 more files")  # type: ignore[misc]
            pressed = time.monotonic()
            kernel.interrupt()
            ended = kernel.reply(cell)
            waits.append(time.monotonic() - pressed)
            assert ended["status"] == "error"
            assert ended["ename"] in ("KeyboardInterrupt", "CancelledError")
            # A few lines say what is complete, and how to go on.
            assert ended["evalue"] == (
                f"interrupted: {len(files_of(store))} of {len(SYMBOLS) * DAYS} files are in the "
                "store and proven; run it again to continue"
            )
            assert len(ended["traceback"]) < 6
            assert ended["evalue"] in ended["traceback"][0]
            assert "collect(config)" in ended["traceback"][-1]
            assert_no_downloader(server.url)
            assert_nothing_staged(store)
            assert held < assert_whole(store, zips_of(bucket)) < len(zips_of(bucket))
        server.latency = 0.0
        assert kernel.reply(kernel.begin(COLLECT))["status"] == "ok"
        assert kernel.value("result.outcome") == "'complete'"
    assert_holds(store, zips_of(bucket))
    # The sooner of both: a machine that is busy with other tests is not what keeps one waiting.
    assert min(waits) < 2


AGAIN = (
    'bak.aplan(markets=["spot"], symbols=["BTCUSDT"], data_types=["trades"], '
    'output_directory="x", endpoint_url="http://127.0.0.1:9")'
)
WRONG = """\
markets = ["sport"]
bak.plan(markets=markets, symbols=["BTCUSDT"],
         data_types=["klines"], output_directory="x")
"""
NESTED = """\
def mine():
    return bak.store("nowhere")


mine()
"""
CAUSED = """\
try:
    {}["x"]
except KeyError as error:
    raise bak.ConfigurationError("my own") from error
"""


def test_an_error_shows_its_message_and_the_users_line(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        first = (
            "import binance_archive_kit as bak\nfrom binance_archive_kit.archive import listing\n"
            "listing._TRIES = 1"
        )
        assert kernel.reply(kernel.begin(first))["status"] == "ok"
        shown = [
            (WRONG, "markets: 'sport' is not valid; did you mean 'spot'", "line 2: bak.plan(mark"),
            (NESTED, "store: 'nowhere' is not a folder", 'line 2: return bak.store("nowhere")'),
            (CAUSED, "my own", "caused by KeyError: 'x'"),
            # Raised on the thread of the event loop, and in a coroutine of the cell.
            (f"await {AGAIN}", "127.0.0.1:9", f"line 1: await {AGAIN[:40]}"),
        ]
        for code, message, line in shown:
            ended = kernel.reply(kernel.begin(code))
            lines = ended["traceback"]
            assert ended["status"] == "error"
            assert len(lines) <= 5, "\n".join(lines)
            assert lines[0].startswith(f"{ended['ename']}: ")
            assert message in lines[0]
            assert message in ended["evalue"]
            assert line in lines[-1]
            assert "Cell In[" in "".join(lines)
            assert "binance_archive_kit/" not in "".join(lines)
        # The whole of it is there for those who ask.
        whole = kernel.reply(kernel.begin(f"%xmode Verbose\n{CAUSED}"))["traceback"]
        assert "KeyError" in "".join(whole)
        assert len("".join(whole).splitlines()) > 8


def test_a_cell_goes_on_while_nobody_looks(
    tmp_path: Path, server: LocalS3, config: CollectionConfig, bucket: Bucket
) -> None:
    with Kernel(tmp_path) as kernel:
        ready(kernel, config)
        kernel.begin(COLLECT)
        under_way(config.output_directory)
        kernel.leave()
        server.latency = 0.0
        until(lambda: len(files_of(config.output_directory)) == len(zips_of(bucket)), "all files")
        kernel.join()
        assert kernel.value("result.outcome") == "'complete'"
        assert ", 300 kept; " in kernel.value("bak.collect(config).headline()")
    assert_holds(config.output_directory, zips_of(bucket))


def test_two_notebooks_share_a_store(
    tmp_path: Path, server: LocalS3, config: CollectionConfig, bucket: Bucket
) -> None:
    with Kernel(tmp_path) as one, Kernel(tmp_path) as other:
        ready(one, config)
        ready(other, config)
        first, second = one.begin(COLLECT), other.begin(COLLECT)
        under_way(config.output_directory)
        one.interrupt()
        assert one.reply(first)["ename"] == "KeyboardInterrupt"
        server.latency = 0.0
        assert other.reply(second)["status"] == "ok"
        assert other.value("result.outcome") == "'complete'"
        assert one.reply(one.begin(COLLECT))["status"] == "ok"
        assert one.value("result.outcome") == "'complete'"
    assert files_of(config.output_directory) == zips_of(bucket)
    assert collect(config).collection_stats["skipped_tasks"] == len(zips_of(bucket))
    assert_holds(config.output_directory, zips_of(bucket))


def test_it_collects_wherever_it_is_called(
    tmp_path: Path, server: LocalS3, config: CollectionConfig
) -> None:
    server.latency = 0.0
    thread = (
        "import concurrent.futures\n"
        "with concurrent.futures.ThreadPoolExecutor() as pool:\n"
        "    result = pool.submit(bak.collect, config).result()"
    )
    loop = "async def inside():\n    return bak.collect(config)\nresult = await inside()"
    button = (
        "import ipywidgets\nbutton, found = ipywidgets.Button(), []\n"
        "button.on_click(lambda _: found.append(bak.collect(config)))\n"
        "button.click()\nresult = found[0]"
    )
    with Kernel(tmp_path) as kernel:
        for symbol, code in zip(SYMBOLS, (thread, loop, button), strict=False):
            ready(kernel, config.replace(symbols=[symbol]))
            assert kernel.reply(kernel.begin(code))["status"] == "ok"
            assert kernel.value("(result.outcome, len(result.output_files))") == (
                f"('complete', {DAYS})"
            )
        # A connection shows what it has, in a real notebook.
        format_it = "get_ipython().display_formatter.format(bak.connect(config.output_directory))"
        assert "spot_klines" in kernel.value(f"{format_it}[0]['text/html']")
