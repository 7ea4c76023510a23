"""The listing: whatever an endpoint answers gives a correct result or a `ListingError`."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive import listing as archive
from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import Folder, Stream
from binance_archive_kit.archive.listing import FolderListing, ListingClient
from binance_archive_kit.errors import ConfigurationError, ListingError
from binance_archive_kit.planning.config import CollectionConfig
from tests.support.answers import Answer, Answers, answer, ok, page
from tests.support.bucket import FIRST, daily_klines, kline_key
from tests.support.faults import on_listing
from tests.support.relay import OPENSSL, Relay, certificate
from tests.support.s3_server import Fault, LocalS3

STREAM = Folder(Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1), Partition.DAILY)
PREFIX = STREAM.prefix
PARENT = STREAM.parent
DAYS = 5


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try once or twice, and let no proxy of this machine interfere."""
    monkeypatch.setattr(archive, "_TRIES", 2)
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def answers() -> Iterator[Answers]:
    with Answers(lambda _: ok(page())) as server:
        yield server


#: Both clients: over libcurl, and over httpx.
both_clients = pytest.mark.parametrize("bulk", [True, False], ids=["libcurl", "httpx"])


def listed(
    endpoint: str, days: int = DAYS, timeout: float = 20, *, bulk: bool = True
) -> tuple[FolderListing, list[str]]:
    """List some days of one stream; returns the notes too."""

    span = FIRST, FIRST + timedelta(days=days - 1)

    async def main() -> tuple[FolderListing, list[str]]:
        async with ListingClient(endpoint, "data.binance.vision", timeout, bulk=bulk) as it:
            found = await it.list_folders({STREAM: [span]})
            return found[STREAM], it.notes()

    return asyncio.run(main())


def symbols(endpoint: str) -> tuple[list[str], list[str]]:
    async def main() -> tuple[list[str], list[str]]:
        async with ListingClient(endpoint, "data.binance.vision", 20) as it:
            return await it.symbols(PARENT), it.notes()

    return asyncio.run(main())


def key(day: int) -> str:
    return kline_key("BTCUSDT", FIRST + timedelta(days=day))


def both(*days: int) -> list[str]:
    return [name for day in days for name in (key(day), f"{key(day)}.CHECKSUM")]


def asked_of(target: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}


# Answers that are not a page


SIZES = ["", "abc", "-1", "1e9", str(10**30), "٣", "5.0", " "]
NO_PAGES: dict[str, bytes] = {
    "empty": b"",
    "html": b"<html><body>Please log in</body></html>",
    "html5": b"<!DOCTYPE html><html></html>",
    "truncated xml": page(both(0))[:-30],
    "json": b'{"keys": []}',
    "another root": b"<ListAllMyBucketsResult/>",
    "an error": b"<Error><Code>AccessDenied</Code></Error>",
    "not UTF-8": page(["\xff"]).decode().encode("latin-1"),
    "unknown encoding": b'<?xml version="1.0" encoding="utf-99"?>'
    + page([]).decode().encode("utf-16"),
    "entities": b'<!DOCTYPE l [<!ENTITY a "aaaa">]>' + page(["&a;"]),
    "external entity": b'<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + page(["&a;"]),
    "an unknown entity": page(["&nothing;"]),
    "many elements": page(more="<a/>" * 200_000),
    "many attributes": page(more=f"<a {' '.join(f'a{n}=_' for n in range(200_000))}/>"),
    "too large": page(more="x" * (9 << 20)),
    "no end": page(both(0), truncated=""),
    "an odd end": page(both(0), truncated="perhaps"),
    "keys of no encoding": page(["%FF%FE"], more="<EncodingType>url</EncodingType>"),
    "out of order": page([*reversed(both(0, 1, 2, 3, 4))], truncated=True),
    "an object without a key": page(more="<Contents><Size>3</Size></Contents>"),
    "an object with a blank key": page([""]),
    "a folder without a name": page(more="<CommonPrefixes/>"),
    **{f"size {size!r}": page(both(0, 1), size=size) for size in SIZES},
}


@both_clients
@pytest.mark.parametrize("name", NO_PAGES)
def test_other_answers_than_pages_are_rejected_at_once(
    answers: Answers, name: str, bulk: bool
) -> None:
    answers.reply = lambda _: ok(NO_PAGES[name])
    with pytest.raises(ListingError) as caught:
        listed(answers.url, bulk=bulk)
    said = str(caught.value)
    assert PREFIX in said
    assert f"{answers.url}/data.binance.vision" in said
    assert "check endpoint_url" in said
    assert len(said) < 1_000
    assert said.isprintable()
    assert len(answers.asked) == 1


@both_clients
@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"not gzip", "gzip"),
        (gzip.compress(page())[:-9], "gzip"),
        (gzip.compress(page())[:20] + b"x" * 20, "gzip"),
        (page(), "br"),
        (page(), "x\x01y"),
        (gzip.compress(b"x" * (9 << 20)), "gzip"),
    ],
    ids=["not gzip", "cut", "damaged", "brotli", "odd", "bomb"],
)
def test_bad_compression_is_refused(answers: Answers, body: bytes, coding: str, bulk: bool) -> None:
    answers.reply = lambda _: ok(body, f"Content-Encoding: {coding}")
    with pytest.raises(ListingError, match=PREFIX):
        listed(answers.url, bulk=bulk)


@both_clients
def test_gzip_is_read(answers: Answers, bulk: bool) -> None:
    zipped = gzip.compress(page(both(0, 1)))
    answers.reply = lambda _: ok(zipped, "Content-Encoding: gzip")
    assert len(listed(answers.url, bulk=bulk)[0].objects) == 2


BOMB = """\
import asyncio, resource, sys
from binance_archive_kit.archive.listing import ListingClient
from binance_archive_kit.errors import ListingError

async def main():
    async with ListingClient(sys.argv[1], "b", 20, bulk=sys.argv[2] == "True") as it:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            await it.symbols("data/")
        except ListingError as error:
            assert "MiB" in str(error) or "elements" in str(error), error
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main())
"""


@both_clients
def test_a_bomb_takes_little_memory(answers: Answers, bulk: bool) -> None:
    head = page()[: -len("</ListBucketResult>")]
    bombs = [
        gzip.compress(head + b"x" * (300 << 20), 9),
        gzip.compress(head + b"<a>" * (2 << 20), 9),
        gzip.compress(head + "\N{GRINNING FACE}".encode() * (1 << 20) + b"<a/>" * (1 << 20), 9),
    ]
    for bomb in bombs:
        answers.reply = lambda _, bomb=bomb: ok(bomb, "Content-Encoding: gzip")  # type: ignore[misc]
        said = subprocess.run(
            [sys.executable, "-c", BOMB, answers.url, str(bulk)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd=Path(bak.__file__).parents[1],
        )
        assert int(said.stdout) < 100_000, "kilobytes"


# Pages that go on


def endless(pages: Callable[[int], bytes]) -> Callable[[str], Answer]:
    counter = count()
    return lambda _: ok(pages(next(counter)))


STUCK: dict[str, Callable[[int], bytes]] = {
    "empty": lambda _: page(truncated=True),
    "the same": lambda _: page(both(0, 1), truncated=True),
    "before the marker": lambda _: page([f"{PREFIX}A"], truncated=True),
    "only foreign": lambda at: page([f"zzz{at:05}"], truncated=True),
    "an equal NextMarker": lambda _: page(
        following=f"{PREFIX}{STREAM.stem}{FIRST}", truncated=True
    ),
    "a lower NextMarker": lambda _: page(following="data/", truncated=True),
    "a foreign NextMarker": lambda _: page(following="zzz", truncated=True),
    "going round": lambda at: page(both(at % 3), truncated=True),
}


@pytest.mark.parametrize("name", STUCK)
def test_a_marker_that_does_not_move_ends_the_listing(answers: Answers, name: str) -> None:
    answers.reply = endless(STUCK[name])
    with pytest.raises(ListingError, match="marker") as caught:
        listed(answers.url)
    assert PREFIX in str(caught.value)
    assert len(answers.asked) < 6
    answers.reply = endless(STUCK[name])
    if name != "going round":
        with pytest.raises(ListingError):
            symbols(answers.url)


def test_pages_without_end_are_given_up(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MOST_PAGES", 20)
    answers.reply = endless(lambda at: page([f"{key(0)}{at:05}"], truncated=True))
    with pytest.raises(ListingError, match="more than 20 pages"):
        listed(answers.url)
    answers.reply = endless(lambda at: page(folders=[f"{PARENT}A{at:05}/"], truncated=True))
    with pytest.raises(ListingError, match="more than 20 pages"):
        symbols(answers.url)


ODD_KEYS = st.sampled_from(
    [
        PREFIX,
        f"{PREFIX}{STREAM.stem}",
        f"{PREFIX}0-first.zip",
        f"{PREFIX}../../../etc/passwd",
        f"{key(0)}/../x.zip",
        f"{PREFIX}{STREAM.stem}2025-07-01.zip\x1b[2J",
        f"{PREFIX}{STREAM.stem}2025-7-1.zip",
        f"{PREFIX}{STREAM.stem}2025-02-30.zip",
        f"{PREFIX}zzz.zip",
        "/etc/passwd",
        "aaa",
        "zzz",
        "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-07-01.zip",
    ]
)


class Bucket:
    """A bucket that pages as some servers do."""

    def __init__(self, keys: Sequence[str], most: int, quirks: set[str]) -> None:
        self.keys = sorted(keys)
        self.most = most
        self.quirks = quirks

    def __call__(self, target: str) -> bytes:
        ask = asked_of(target)
        after, prefix = ask.get("marker", ""), ask["prefix"]
        here = [each for each in self.keys if each > after and each.startswith(prefix)]
        keys = here[: min(self.most, int(ask["max-keys"]))]
        more = len(here) > len(keys)
        following = keys[-1] if keys and more and "NextMarker" in self.quirks else None
        if "foreign" in self.quirks:
            keys = sorted([*keys, "aaa", "zzz"])
        if "backwards" in self.quirks and not more:
            keys.reverse()
        spell = (lambda word: quote(word, safe="/")) if "url" in self.quirks else escape
        # XML cannot hold a control character but percent-encoded.
        keys = [each for each in keys if "url" in self.quirks or each.isprintable()]
        if following is not None and "url" not in self.quirks and not following.isprintable():
            following = None
        return ok(
            page(
                map(spell, keys),
                truncated=more,
                following=None if following is None else spell(following),
                more="<EncodingType>url</EncodingType>" if "url" in self.quirks else "",
            )
        )


@settings(max_examples=60, deadline=None)
@given(
    days=st.sets(st.integers(-3, DAYS + 3)),
    bare=st.sets(st.integers(-3, DAYS + 3)),
    odd=st.lists(ODD_KEYS, unique=True, max_size=5),
    most=st.integers(2, 12),
    quirks=st.sets(st.sampled_from(["NextMarker", "foreign", "backwards", "url"])),
)
def test_all_objects_are_found_whatever_the_pages(
    days: set[int], bare: set[int], odd: list[str], most: int, quirks: set[str]
) -> None:
    keys = {*odd, *both(*days), *(key(day) for day in bare)}
    with Answers(Bucket([*keys], most, quirks)) as server:
        found, notes = listed(server.url)
    here = days | bare
    expected = {str(FIRST + timedelta(days=day)) for day in here if 0 <= day < DAYS}
    assert {period for period in found.objects if date.fromisoformat(period) >= FIRST} >= expected
    within = {p: o for p, o in found.objects.items() if p in expected}
    assert set(within) == expected
    for period, each in within.items():
        day = (date.fromisoformat(period) - FIRST).days
        # A page that ends right after a zip cannot tell.
        assert each.checksum or day not in days
    if found.probed:
        assert found.first == (str(FIRST + timedelta(days=min(here))) if here else None)
    assert found.probed == (0 not in here)
    assert bool(notes) == ("foreign" in quirks)


def test_a_folder_is_listed_from_its_first_file_despite_earlier_keys(tmp_path: Path) -> None:
    """A key of the folder itself is no sign that the symbol has no files."""
    bucket = {**daily_klines("BTCUSDT", days=4), PREFIX: b"", f"{PREFIX}.keep": b""}
    del bucket[key(0)], bucket[f"{key(0)}.CHECKSUM"]
    with LocalS3(bucket) as server:
        found, _ = listed(server.url, days=4)
    assert (found.probed, found.first) == (True, str(FIRST + timedelta(days=1)))


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("partition", ["daily", "monthly"])
def test_a_key_without_zeros_is_named_and_not_missing(
    partition: str, later: bool, tmp_path: Path
) -> None:
    """Such keys sort after their year, where the days asked for may long have ended."""
    name = f"data/spot/{partition}/klines/BTCUSDT/1h/BTCUSDT-1h-"
    periods = {
        "daily": ["2023-08-01", "2023-08-02", "2023-08-03", "2024-01-01"],
        "monthly": ["2023-07", "2023-08", "2023-09", "2024-01"],
    }[partition]
    missing = periods[1].replace("-08", "-8").replace("-02", "-2")
    there = [periods[0], periods[2], missing, *periods[3:][:later]]
    bucket = {
        f"{name}{period}.zip{suffix}": b"x" for period in there for suffix in ("", ".CHECKSUM")
    }
    with LocalS3(bucket) as server:
        plan = bak.plan(
            markets=["spot"],
            symbols=["BTCUSDT"],
            data_types=["klines"],
            intervals={"klines": ["1h"]},
            start="2023-08-01" if partition == "daily" else "2023-07-01",
            end="2023-08-03" if partition == "daily" else "2023-09-30",
            partition=partition,
            output_directory=tmp_path,
            endpoint_url=server.url,
        )
    assert len(plan) == 2
    [absence] = plan.missing
    assert absence.reason == "other_name"
    assert f"{name}{missing}.zip" in absence.detail
    assert "the archive does not have it" not in str(plan)


def test_foreign_keys_are_ignored_and_noted_in_the_plan(answers: Answers, tmp_path: Path) -> None:
    answers.reply = lambda _: ok(page(["aaa", *both(0, 1), "/etc/passwd"]))
    plan = bak.plan(
        markets=["spot"],
        symbols=["BTCUSDT"],
        data_types=["klines"],
        intervals={"klines": ["1h"]},
        start=FIRST,
        end=FIRST + timedelta(days=1),
        output_directory=tmp_path,
        endpoint_url=answers.url,
    )
    assert plan.frame["key"].to_list() == [key(0), key(1)]
    [note] = [each for each in plan.notes if each.startswith("listing: ")]
    assert "2 keys" in note
    assert "'aaa'" in note


def test_folders_that_are_no_symbols_are_ignored(answers: Answers) -> None:
    names = ["..", ".x", "A B", "BTCUSDT", "E*", "币安人生USDT"]
    answers.reply = lambda _: ok(
        page(folders=[*(f"{PARENT}{name}/" for name in names), PARENT, "zzz/"])
    )
    found, notes = symbols(answers.url)
    assert found == ["BTCUSDT", "币安人生USDT"]
    assert len(notes) == 1


def test_symbols_are_complete_where_pages_hold_keys_too(answers: Answers) -> None:
    def reply(target: str) -> bytes:
        if asked_of(target).get("marker", "") < f"{PARENT}M":
            return ok(page([f"{PARENT}M.txt"], truncated=True))
        return ok(page(folders=[f"{PARENT}ZUSDT/"]))

    answers.reply = reply
    assert symbols(answers.url)[0] == ["ZUSDT"]


# Time


def drip(target: str) -> Iterator[bytes | float]:
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    while True:
        yield b" "
        yield 0.05


@both_clients
@pytest.mark.parametrize("kind", ["silent", "in the body", "dripping"])
def test_a_listing_without_progress_is_given_up(answers: Answers, kind: str, bulk: bool) -> None:
    answers.reply = {
        "silent": lambda _: [30.0],
        "in the body": lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<List", 30.0],
        "dripping": drip,
    }[kind]
    began = time.monotonic()
    with pytest.raises(ListingError, match="timeout_seconds") as caught:
        listed(answers.url, timeout=0.5, bulk=bulk)
    assert time.monotonic() - began < 5
    assert PREFIX in str(caught.value)


def test_the_timeout_of_a_configuration_is_the_listings(answers: Answers, tmp_path: Path) -> None:
    answers.reply = lambda _: [30.0]
    config = CollectionConfig(
        markets=["spot"],
        symbols=["BTCUSDT"],
        data_types=["klines"],
        output_directory=tmp_path,
        endpoint_url=answers.url,
        timeout_seconds=0.3,
    )
    began = time.monotonic()
    with pytest.raises(ListingError, match=r"no progress for 0\.3 s"):
        bak.plan(config)
    assert time.monotonic() - began < 5


def test_folders_come_in_the_order_of_the_request() -> None:
    folders = [
        Folder(Stream(Market.SPOT, DataType.KLINES, symbol, Interval.H1), Partition.DAILY)
        for symbol in ("BTCUSDT", "ETHUSDT", "ADAUSDT")
    ]
    first_is_late = on_listing(folders[0].prefix, Fault(delay=0.3))

    async def main(endpoint: str) -> list[Folder]:
        done: list[Folder] = []
        async with ListingClient(endpoint, "data.binance.vision", 20) as client:
            found = await client.list_folders({f: [(FIRST, FIRST)] for f in folders}, done.append)
        assert done[-1] == folders[0]
        return list(found)

    with LocalS3({}, fault=first_is_late) as server:
        assert asyncio.run(main(server.url)) == folders


@both_clients
def test_a_slow_page_is_accepted(bulk: bool) -> None:
    bucket = daily_klines("BTCUSDT", days=DAYS)
    with LocalS3(bucket, fault=on_listing("", Fault(bytes_per_second=3_000))) as server:
        assert len(listed(server.url, timeout=0.4, bulk=bulk)[0].objects) == DAYS


# The network


@both_clients
@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "forbids it"),
        (403, "forbids it"),
        (451, "legal reasons"),
        (407, "proxy asks for a user"),
        (301, "redirects elsewhere"),
        (404, "check endpoint_url"),
        (204, "check endpoint_url"),
    ],
)
def test_a_refusal_is_explained(answers: Answers, status: int, said: str, bulk: bool) -> None:
    answers.reply = lambda _: answer(status)
    with pytest.raises(ListingError, match=said) as caught:
        listed(answers.url, bulk=bulk)
    assert answers.url in str(caught.value)
    assert len(answers.asked) == 1


@both_clients
@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://127.0.0.1:9", "nothing answers there"),
        ("http://nosuchhost.invalid", "cannot be resolved"),
    ],
)
def test_an_endpoint_that_cannot_be_reached_is_named(endpoint: str, said: str, bulk: bool) -> None:
    with pytest.raises(ListingError, match=said) as caught:
        listed(endpoint, bulk=bulk)
    assert endpoint in str(caught.value)


@both_clients
def test_tls_without_tls_is_explained(bulk: bool) -> None:
    with LocalS3({}) as server, pytest.raises(ListingError, match="begin with http://"):
        listed(server.url.replace("http://", "https://"), bulk=bulk)


@both_clients
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_dead_proxy_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, bulk: bool
) -> None:
    monkeypatch.setenv(name, "http://me:secret@127.0.0.1:9")
    with pytest.raises(
        ListingError, match=r"through the proxy http://\*\*\*@127\.0\.0\.1:9"
    ) as caught:
        listed("http://archive.example", bulk=bulk)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy",
    [
        "http://me:secret@host:port",
        "http://me:secret@host:99999",
        "socks5://me:secret@host:1080",
        "socks5h://host:1080",
        "https://me:secret@host:1",
        "http://",
        "me:secret@host:x",
        "http://a..b:1",
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_wrong_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    fields: dict[str, Any] = {
        "markets": ["spot"],
        "symbols": ["BTCUSDT"],
        "data_types": ["klines"],
        "output_directory": tmp_path,
        "endpoint_url": "http://archive.example",
    }
    for listing in (True, False):
        with pytest.raises(ConfigurationError, match=r"^http_proxy: ") as caught:
            bak.collect(**fields, listing=listing)
        assert "secret" not in str(caught.value)
        assert "no_proxy=archive.example" in str(caught.value)


@both_clients
def test_a_password_may_have_any_letters(monkeypatch: pytest.MonkeyPatch, bulk: bool) -> None:
    monkeypatch.setenv("http_proxy", "http://ü:ß@127.0.0.1:9")
    with pytest.raises(ListingError, match="the proxy cannot be reached") as caught:
        listed("http://archive.example", bulk=bulk)
    assert "ß" not in str(caught.value)


@both_clients
def test_a_proxy_that_asks_for_a_password_is_explained(
    monkeypatch: pytest.MonkeyPatch, bulk: bool
) -> None:
    with Answers(lambda _: answer(407)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(ListingError, match="the proxy asks for a user") as caught:
            listed("https://archive.example", bulk=bulk)
    assert proxy.url in str(caught.value)


@both_clients
def test_listings_go_through_a_proxy(monkeypatch: pytest.MonkeyPatch, bulk: bool) -> None:
    with Relay() as tunnel:
        monkeypatch.setenv("https_proxy", tunnel.url)
        with pytest.raises(ListingError):
            listed("https://127.0.0.1:9", bulk=bulk)
        assert tunnel.asked


@both_clients
@pytest.mark.parametrize("status", [200, 407])
def test_listings_without_tls_are_forwarded_by_a_proxy(
    monkeypatch: pytest.MonkeyPatch, status: int, bulk: bool
) -> None:
    """Many proxies let only port 443 be tunnelled to."""
    with Answers(lambda _: answer(status, page(both(0, 1)))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        if status == 200:
            assert len(listed("http://archive.example", bulk=bulk)[0].objects) == 2
        else:
            with pytest.raises(ListingError, match="the proxy asks for a user"):
                listed("http://archive.example", bulk=bulk)
        assert proxy.asked[0].startswith("http://archive.example/data.binance.vision?prefix=")


@both_clients
@pytest.mark.parametrize(("after", "seconds"), [("1", 1.0), ("x", 0.0), ("99999999999", 0.0)])
def test_a_throttled_listing_waits_as_long_as_it_is_told(
    answers: Answers, after: str, seconds: float, bulk: bool
) -> None:
    replies = [answer(503, b"", f"Retry-After: {after}"), ok(page(both(0, 1)))]
    answers.reply = lambda _: replies.pop(0) if len(replies) > 1 else replies[0]
    began = time.monotonic()
    assert len(listed(answers.url, bulk=bulk)[0].objects) == 2
    assert seconds <= time.monotonic() - began < seconds + 5


def test_connections_are_reused_and_limited() -> None:
    """Asked for all at once, as many folders as there are."""
    folders = [
        Folder(Stream(Market.SPOT, DataType.KLINES, f"A{at}USDT", Interval.H1), Partition.DAILY)
        for at in range(200)
    ]

    async def main(endpoint: str) -> None:
        async with ListingClient(endpoint, "data.binance.vision", 20) as client:
            await client.list_folders({folder: [(FIRST, FIRST)] for folder in folders})

    with LocalS3({}, latency=0.01) as server, Relay(server.url) as relay:
        asyncio.run(main(relay.url))
        assert len(server.requests) == 400
        assert relay.connections <= archive._CONCURRENCY


@both_clients
def test_requests_one_after_another_use_one_connection(bulk: bool) -> None:
    async def main(endpoint: str) -> None:
        async with ListingClient(endpoint, "data.binance.vision", 20, bulk=bulk) as client:
            for _ in range(5):
                await client.symbols(PARENT)

    with LocalS3({}) as server, Relay(server.url) as relay:
        asyncio.run(main(relay.url))
        assert len(server.requests) == 5
        assert relay.connections == 1


@both_clients
@pytest.mark.parametrize(
    "first",
    [answer(500), answer(429), b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<List"],
    ids=["error", "throttled", "closed", "cut"],
)
def test_a_failed_request_is_repeated(answers: Answers, first: bytes, bulk: bool) -> None:
    replies = [first, ok(page(both(0, 1)))]
    answers.reply = lambda _: replies.pop(0) if len(replies) > 1 else replies[0]
    assert len(listed(answers.url, bulk=bulk)[0].objects) == 2
    answers.reply = lambda _: first
    with pytest.raises(ListingError, match="in 2 tries"):
        listed(answers.url, bulk=bulk)


@both_clients
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE"])
def test_certificates_that_the_environment_names_are_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, bulk: bool
) -> None:
    if OPENSSL is None:
        pytest.skip("certificates are made by openssl")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    path = certificate(tmp_path)
    with LocalS3(daily_klines("BTCUSDT", days=DAYS)) as server, Relay(server.url, path) as relay:
        with pytest.raises(ListingError, match=r"in 1 tries.*name its PEM file in SSL_CERT_FILE"):
            listed(relay.url, bulk=bulk)
        assert server.requests == []
        monkeypatch.setenv(variable, str(tmp_path if variable.endswith("DIR") else path))
        assert len(listed(relay.url, bulk=bulk)[0].objects) == DAYS
        with pytest.raises(ListingError, match="another host's"):
            listed(relay.url.replace("localhost", "127.0.0.1"), bulk=bulk)


@both_clients
def test_a_catalogue_is_the_same(bulk: bool) -> None:
    async def main(endpoint: str) -> list[str]:
        async with ListingClient(endpoint, "data.binance.vision", 20, bulk=bulk) as client:
            return await client.symbols(PARENT)

    with LocalS3(daily_klines("BTCUSDT") | daily_klines("币安人生USDT")) as server:
        assert asyncio.run(main(server.url)) == ["BTCUSDT", "币安人生USDT"]


@both_clients
def test_a_cancelled_listing_leaves_nothing_behind(answers: Answers, bulk: bool) -> None:
    answers.reply = lambda _: [30.0]

    async def main() -> None:
        async with ListingClient(answers.url, "data.binance.vision", 20, bulk=bulk) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.symbols(PARENT)

    before = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() <= before
