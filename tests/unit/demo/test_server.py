"""The demo's S3 endpoint, asked over real sockets."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import quote, unquote_plus

import httpx
import pytest

from binance_archive_kit.demo.server import LocalS3

BUCKET = "data.binance.vision"
FOLDER = "data/spot/daily/klines/BTCUSDT/1m/"
DAYS = [f"{FOLDER}BTCUSDT-1m-{year}-{day:03}.zip" for year in (2020, 2021) for day in range(310)]
ZIPS_AND_SIDECARS = sorted(DAYS + [f"{key}.CHECKSUM" for key in DAYS])
CHINESE = "data/spot/daily/klines/币安人生USDT/1m/币安人生USDT-1m-2025-10-08.zip"
ODD = "odd/a b+c&<d>%25=?#é.zip"
OBJECTS = {key: f"content of {key}".encode() for key in ZIPS_AND_SIDECARS} | {
    "data/spot/daily/klines/BTCUSDT/1mo/x.zip": b"a month",
    "data/spot/daily/klines/BTCUSDT_240329/1m/x.zip": b"delivery",
    CHINESE: b"life",
    ODD: b"odd",
    "empty": b"",
    "letters": b"abcdefghij",
}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalS3]:
    with LocalS3(OBJECTS) as server:
        yield server


def address(server: LocalS3, key: str = "") -> str:
    return f"{server.url}/{BUCKET}/{quote(key)}"


def listing(server: LocalS3, **params: str) -> ET.Element:
    names = {name.replace("_", "-"): value for name, value in params.items()}
    answer = httpx.get(address(server), params=names)
    assert answer.status_code == 200, answer.text
    root = ET.fromstring(answer.content)
    for element in root.iter():
        element.tag = element.tag.removeprefix("{http://s3.amazonaws.com/doc/2006-03-01/}")
    return root


def texts(root: ET.Element, path: str) -> list[str]:
    return [element.text or "" for element in root.findall(path)]


# Listings


def test_v1_continues_after_the_last_key_without_a_delimiter(server: LocalS3) -> None:
    first = listing(server, prefix=FOLDER)
    assert texts(first, "Contents/Key") == ZIPS_AND_SIDECARS[:1000]
    assert first.findtext("IsTruncated") == "true"
    assert first.find("NextMarker") is None
    second = listing(server, prefix=FOLDER, marker=ZIPS_AND_SIDECARS[999])
    assert texts(second, "Contents/Key") == ZIPS_AND_SIDECARS[1000:]
    assert second.findtext("IsTruncated") == "false"


def test_v2_continues_with_its_token(server: LocalS3) -> None:
    first = listing(server, list_type="2", prefix=FOLDER, max_keys="5000")
    assert texts(first, "Contents/Key") == ZIPS_AND_SIDECARS[:1000]
    assert (first.findtext("KeyCount"), first.findtext("MaxKeys")) == ("1000", "1000")
    token = first.findtext("NextContinuationToken")
    assert token
    second = listing(server, list_type="2", prefix=FOLDER, continuation_token=token)
    assert texts(second, "Contents/Key") == ZIPS_AND_SIDECARS[1000:]
    assert second.findtext("KeyCount") == "240"
    assert second.find("NextContinuationToken") is None


@pytest.mark.parametrize("entry", [{"marker": ""}, {"list_type": "2", "start_after": ""}])
def test_a_listing_starts_at_a_date(server: LocalS3, entry: dict[str, str]) -> None:
    name = list(entry)[-1]
    page = listing(server, prefix=FOLDER, **(entry | {name: DAYS[400]}))
    assert texts(page, "Contents/Key") == [f"{DAYS[400]}.CHECKSUM", *ZIPS_AND_SIDECARS[802:]]
    page = listing(server, prefix=FOLDER, **(entry | {name: f"{FOLDER}BTCUSDT-1m-2021"}))
    assert texts(page, "Contents/Key")[0] == DAYS[310]


def test_a_listing_has_size_etag_and_time(server: LocalS3) -> None:
    element = listing(server, prefix="letters").find("Contents")
    assert element is not None
    assert {child.tag: child.text for child in element} == {
        "Key": "letters",
        "LastModified": "2025-08-01T00:00:00.000Z",
        "ETag": f'"{hashlib.md5(b"abcdefghij").hexdigest()}"',
        "Size": "10",
        "StorageClass": "STANDARD",
    }
    assert listing(server, prefix="odd/").findtext("Contents/LastModified") == (
        "2025-08-01T00:00:00.000Z"
    )


def test_a_delimiter_groups_folders_and_adds_a_next_marker(server: LocalS3) -> None:
    page = listing(server, delimiter="/")
    assert texts(page, "CommonPrefixes/Prefix") == ["data/", "odd/"]
    assert texts(page, "Contents/Key") == ["empty", "letters"]
    assert page.find("NextMarker") is None

    page = listing(server, delimiter="/", max_keys="3")
    assert (page.findtext("IsTruncated"), page.findtext("NextMarker")) == ("true", "letters")
    page = listing(server, delimiter="/", max_keys="3", marker="letters")
    assert texts(page, "CommonPrefixes/Prefix") == ["odd/"]
    assert page.findtext("IsTruncated") == "false"


@pytest.mark.parametrize("kind", ["1", "2"])
def test_pages_of_one_give_every_name_once(server: LocalS3, kind: str) -> None:
    prefix = "data/spot/daily/klines/"
    more, seen = {}, []
    while True:
        page = listing(server, list_type=kind, prefix=prefix, delimiter="/", max_keys="1", **more)
        seen += texts(page, "CommonPrefixes/Prefix")
        if page.findtext("IsTruncated") == "false":
            break
        v2 = kind == "2"
        name, source = (
            ("continuation_token", "NextContinuationToken")
            if v2
            else (
                "marker",
                "NextMarker",
            )
        )
        more = {name: page.findtext(source) or ""}
    assert seen == [f"{prefix}{name}/" for name in ("BTCUSDT", "BTCUSDT_240329", "币安人生USDT")]


def test_a_folder_before_the_marker_is_left_out(server: LocalS3) -> None:
    def folders(marker: str) -> list[str]:
        page = listing(server, prefix="", delimiter="/", marker=marker)
        return texts(page, "CommonPrefixes/Prefix")

    assert folders("data") == ["data/", "odd/"]
    assert folders("data/") == ["odd/"]
    assert folders("data/spot/d") == ["odd/"]


def test_a_prefix_without_its_slash_matches_its_neighbours(server: LocalS3) -> None:
    root = "data/spot/daily/klines/BTCUSDT"
    assert texts(listing(server, prefix=root, delimiter="/"), "CommonPrefixes/Prefix") == [
        f"{root}/",
        f"{root}_240329/",
    ]


def test_an_unknown_prefix_is_an_empty_page(server: LocalS3) -> None:
    page = listing(server, prefix="data/nothing/", list_type="2", delimiter="/")
    assert (page.findtext("KeyCount"), page.findtext("IsTruncated")) == ("0", "false")
    assert page.find("Contents") is None
    assert listing(server, max_keys="0").findtext("IsTruncated") == "false"


@pytest.mark.parametrize(
    "params",
    [{"max-keys": "many"}, {"max-keys": "-1"}, {"list-type": "2", "continuation-token": "?"}],
)
def test_rejects_an_invalid_parameter(server: LocalS3, params: dict[str, str]) -> None:
    answer = httpx.get(address(server), params=params)
    assert answer.status_code == 400
    assert "<Code>InvalidArgument</Code>" in answer.text


@pytest.mark.parametrize("key", [CHINESE, ODD])
def test_any_key_survives_a_round_trip(server: LocalS3, key: str) -> None:
    assert texts(listing(server, prefix=key), "Contents/Key") == [key]
    page = listing(server, prefix=key[:-3], encoding_type="url")
    (coded,) = texts(page, "Contents/Key")
    assert coded.isascii()
    assert unquote_plus(coded) == key
    assert unquote_plus(page.findtext("Prefix") or "") == key[:-3]
    assert httpx.get(address(server, key)).content == OBJECTS[key]


def test_a_plus_is_a_space_in_the_query_only(server: LocalS3) -> None:
    path = quote(ODD).replace("%2B", "+")
    with closing(HTTPConnection(server.url.removeprefix("http://"))) as client:
        client.request("GET", f"/{BUCKET}/{path}")
        assert client.getresponse().read() == b"odd"
        client.request("GET", f"/{BUCKET}?prefix=odd/a+b%2B")
        assert b"<Contents>" in client.getresponse().read()


# Objects


def test_get_and_head_agree(server: LocalS3) -> None:
    with httpx.Client() as client:
        got, head = (client.request(m, address(server, "letters")) for m in ("GET", "HEAD"))
    assert (got.status_code, got.content, head.content) == (200, b"abcdefghij", b"")
    assert got.headers == head.headers
    assert got.headers["etag"] == f'"{hashlib.md5(b"abcdefghij").hexdigest()}"'
    assert got.headers["last-modified"] == "Fri, 01 Aug 2025 00:00:00 GMT"
    assert got.headers["content-length"] == "10"
    assert got.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        ("bytes=0-3", 206, b"abcd", "bytes 0-3/10"),
        ("bytes=7-", 206, b"hij", "bytes 7-9/10"),
        ("bytes=-2", 206, b"ij", "bytes 8-9/10"),
        ("bytes=-99", 206, b"abcdefghij", "bytes 0-9/10"),
        ("bytes=5-52428799", 206, b"fghij", "bytes 5-9/10"),
        ("bytes=0-1,3-4", 200, b"abcdefghij", None),
        ("bytes=10-", 416, None, "bytes */10"),
    ],
)
def test_range(
    server: LocalS3, asked: str, status: int, content: bytes | None, told: str | None
) -> None:
    answer = httpx.get(address(server, "letters"), headers={"Range": asked})
    assert (answer.status_code, answer.headers.get("content-range")) == (status, told)
    if content is None:
        assert "<Code>InvalidRange</Code>" in answer.text
    else:
        assert answer.content == content


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", f"/{BUCKET}/nothing", 404, "<Code>NoSuchKey</Code>"),
        ("HEAD", f"/{BUCKET}/nothing", 404, ""),
        ("GET", "/other/letters", 404, "<Code>NoSuchBucket</Code>"),
        ("HEAD", "/other", 404, ""),
        ("PUT", f"/{BUCKET}/letters", 405, "<Code>MethodNotAllowed</Code>"),
        ("DELETE", f"/{BUCKET}/letters", 405, "<Code>MethodNotAllowed</Code>"),
        ("HEAD", f"/{BUCKET}", 200, ""),
        ("GET", f"/{BUCKET}?location", 200, ">ap-northeast-1</LocationConstraint>"),
    ],
)
def test_other_answers(server: LocalS3, method: str, path: str, status: int, says: str) -> None:
    body = b"x" * 100_000 if method == "PUT" else None
    answer = httpx.request(method, server.url + path, content=body)
    assert answer.status_code == status
    assert says in answer.text
    assert bool(says) == bool(answer.text)


# Serving


def test_a_tls_greeting_closes_the_connection(server: LocalS3) -> None:
    with pytest.raises(httpx.ConnectError):
        httpx.get(address(server).replace("http:", "https:"), timeout=5)
