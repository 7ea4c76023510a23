"""What is done after an error of an object."""

from __future__ import annotations

import pytest

from binance_archive_kit.download.transfer import Step, Transfer
from binance_archive_kit.errors import (
    BadZip,
    Corrupt,
    Forbidden,
    NotFound,
    ObjectError,
    ServerFault,
    StaleChecksum,
    Stalled,
)


def steps(error: ObjectError, count: int, *, listed: bool = True) -> list[Step]:
    """Return the steps after the same error, several times."""
    transfer = Transfer("key", 0, None, None)
    return [transfer.next_step(error, listed=listed) for _ in range(count)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ServerFault("key", "503"), [Step.RETRY, Step.RETRY, Step.FAIL]),
        (Stalled("key", "no progress"), [Step.RETRY, Step.FAIL]),
        (Corrupt("key", "other bytes"), [Step.RETRY, Step.FAIL]),
        (StaleChecksum("key", "other digest"), [Step.ASK_DIGEST, Step.FAIL]),
        (Forbidden("key", "403"), [Step.FAIL]),
        (BadZip("key", "two members"), [Step.FAIL]),
        (NotFound("key", "404"), [Step.FAIL]),
    ],
)
def test_temporary_errors_are_retried(error: ObjectError, expected: list[Step]) -> None:
    assert steps(error, len(expected)) == expected


def test_an_object_that_is_not_listed_may_be_absent() -> None:
    assert steps(NotFound("key", "404"), 1, listed=False) == [Step.SKIP]


def test_an_error_of_the_digest_is_final() -> None:
    error = ServerFault("key", "503")
    transfer = Transfer("key", 0, None, None, digest=error)
    assert transfer.next_step(error, listed=True) is Step.FAIL


def test_a_corrupt_file_of_the_store_is_replaced() -> None:
    transfer = Transfer("key", 0, None, None, path="file", in_store=True)
    assert transfer.next_step(Corrupt("key", "other bytes"), listed=True) is Step.REPLACE
    assert (transfer.path, str(transfer.bad_file)) == (None, "file")
    transfer.start_over()
    assert transfer.next_step(Corrupt("key", "other bytes"), listed=True) is Step.RETRY


def test_unreported_objects_are_requested_three_times() -> None:
    transfer = Transfer("key", 0, None, None)
    assert [transfer.retry_unreported() for _ in range(4)] == [True, True, True, False]
