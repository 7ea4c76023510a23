"""The s5cmd process and its messages; nothing is transferred here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from binance_archive_kit.download.batches import Command, Copy
from binance_archive_kit.download.s5cmd import Limits, S5cmd, explain
from binance_archive_kit.errors import ObjectError
from binance_archive_kit.planning.s5cmd_flags import Flags

# Messages of a real binary


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NoSuchKey: gone status code: 404, request id: , host id:", "not_found"),
        ("NotFound: Not Found status code: 404, request id: , host id: ", "not_found"),
        (
            "NoSuchBucket: The specified bucket does not exist status code: 404, request id: X",
            "not_found",
        ),
        ("no object found", "not_found"),
        ("AccessDenied: Access Denied status code: 403, request id: , host id:", "forbidden"),
        ("Forbidden: Forbidden status code: 403, request id: , host id: ", "forbidden"),
        ("Unauthorized: Unauthorized status code: 401, request id: , host id: ", "forbidden"),
        ("SlowDown: Please reduce status code: 503, request id: , host id:", "throttled"),
        ("ServiceUnavailable: Service Unavailable status code: 503, request id: ", "throttled"),
        ("TooManyRequests: Too Many Requests status code: 429, request id: ", "throttled"),
        (
            "InternalServerError: Internal Server Error status code: 500, request id: , host id:",
            "server_error",
        ),
        ("BadGateway: Bad Gateway status code: 502, request id: , host id:", "server_error"),
        ("GatewayTimeout: Gateway Timeout status code: 504, request id: ", "server_error"),
        ("unexpected EOF", "truncated"),
        (
            'RequestError: send request failed caused by: Get "http://127.0.0.1:1/b/k": dial tcp '
            "127.0.0.1:1: connect: connection refused",
            "connection",
        ),
        (
            'RequestError: send request failed caused by: Head "http://x/b/k": dial tcp: lookup x: '
            "no such host",
            "connection",
        ),
        ('RequestError: send request failed caused by: Get "http://x/b/k": EOF', "connection"),
        ("read tcp 127.0.0.1:5->127.0.0.1:6: read: connection reset by peer", "connection"),
        (
            'RequestError: send request failed caused by: Get "https://x/": tls: failed to verify '
            "certificate: x509: certificate signed by unknown authority",
            "connection",
        ),
        ("net/http: TLS handshake timeout", "connection"),
        ("dial tcp 10.0.0.1:443: i/o timeout", "connection"),
        ("write /data/x: no space left on device", "disk_full"),
        ("write /data/x: disk quota exceeded", "disk_full"),
        (
            "BucketRegionError: incorrect region, the bucket is not in 'x' region at endpoint "
            "'http://127.0.0.1:8765' status code: 301, request id: , host id:",
            "transfer_failed",
        ),
        ("BadRequest: Bad Request status code: 400, request id: , host id:", "transfer_failed"),
        ("stat /dev/full/x: not a directory", "transfer_failed"),
        ("mkdir /proc/nope: no such file or directory", "transfer_failed"),
        ("", "transfer_failed"),
    ],
)
def test_messages_become_errors(text: str, reason: str) -> None:
    error = explain("data/x.zip", text)
    assert isinstance(error, ObjectError)
    assert (error.key, error.reason) == ("data/x.zip", reason)
    assert "request id" not in error.detail
    assert "host id" not in error.detail
    assert error.detail.partition("; ")[0] in text


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502, 503, 504])
def test_temporary_errors_are_retryable(status: int) -> None:
    error = explain("data/x.zip", f"X: y status code: {status}, request id: , host id:")
    assert error.retryable == (status == 429 or status >= 500)


def test_an_error_of_the_batches_is_raised(tmp_path: Path) -> None:
    def batches() -> Iterator[list[Copy]]:
        yield [Copy(("data/a.zip",))]
        raise LookupError("no second batch")

    async def main() -> None:
        command = Command("http://127.0.0.1:1", "bucket", "eu-north-1", tmp_path, Flags(), 1, 50)
        async for _ in S5cmd(command, Limits(60)).copy(batches()):
            pass

    with pytest.raises(LookupError, match="no second batch"):
        asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("name", ["TLSUSDT", "SlowDown", "NoSuchKey", "Forbidden", "币安TLS"])
def test_a_name_is_no_part_of_what_a_message_says(name: str, tmp_path: Path) -> None:
    key = f"data/spot/daily/trades/{name}/{name}-trades-2025-07-15.zip"
    folder = tmp_path / name
    for path in (f"{folder}/{name}-trades-2025-07-15.zip123", f"http://h/b/{quote(key)}"):
        assert explain(key, f"open {path}: odd", "", folder).reason == "transfer_failed"
    told = explain(key, f"open {folder}: status code: 403, request id: , host id:", "", folder)
    assert told.reason == "forbidden"
