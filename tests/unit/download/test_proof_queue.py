"""Proving transfers: what follows an error, outcomes, order of closing, errors of the queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from binance_archive_kit.download.proof_queue import ProofQueue, Step, Transfer
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
from binance_archive_kit.storage.proof import Proof
from binance_archive_kit.storage.store import Store
from tests.support.bucket import daily_klines, zips_of


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


Outcomes = dict[str, Proof | ObjectError]


def staged(folder: Path, days: int) -> list[Transfer]:
    """Write files of the archive below a folder, as s5cmd does."""
    folder.mkdir(exist_ok=True)
    transfers = []
    for row, (key, body) in enumerate(zips_of(daily_klines("BTCUSDT", days=days)).items()):
        path = folder / str(row)
        path.write_bytes(body)
        transfers.append(Transfer(key, row, len(body), None, str(path)))
    return transfers


def test_proven_files_are_admitted_recorded_and_reported(tmp_path: Path) -> None:
    store, recorded, outcomes = Store(tmp_path / "store"), list[Proof](), Outcomes()
    transfers = staged(tmp_path / "staging", days=3)
    Path(str(transfers[1].path)).write_bytes(b"other bytes")

    async def main() -> None:
        def report(transfer: Transfer, outcome: Proof | ObjectError) -> None:
            outcomes[transfer.key] = outcome
            queue.discard(transfer.key)

        queue = ProofQueue(store, recorded.extend, False, report)
        async with queue:
            for transfer in transfers:
                queue.expect(transfer.key)
                queue.put(transfer)
            await queue.wait()

    asyncio.run(main())
    good = [transfer.key for transfer in (transfers[0], transfers[2])]
    assert isinstance(outcomes.pop(transfers[1].key), Corrupt)
    assert sorted(outcomes) == sorted(proof.key for proof in recorded) == good
    assert all(store.path(key).is_file() for key in good)


def test_a_job_that_runs_when_the_queue_closes_is_reported(tmp_path: Path) -> None:
    begun, closing = threading.Event(), threading.Event()
    store, outcomes = Store(tmp_path / "store"), Outcomes()
    [transfer] = staged(tmp_path / "staging", days=1)

    def record(_: Sequence[Proof]) -> None:
        begun.set()
        closing.wait(20)

    async def main() -> None:
        queue = ProofQueue(
            store, record, False, lambda t, outcome: outcomes.update({t.key: outcome})
        )
        async with queue:
            queue.put(transfer)
            await asyncio.to_thread(begun.wait, 20)
            asyncio.get_running_loop().call_later(0.05, closing.set)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert isinstance(outcomes[transfer.key], Proof)
    assert store.path(transfer.key).is_file()


def test_an_error_of_the_callback_is_raised(tmp_path: Path) -> None:
    [transfer] = staged(tmp_path / "staging", days=1)

    async def main() -> None:
        def fail(_: Transfer, outcome: Proof | ObjectError) -> None:
            raise LookupError(f"no row for {outcome}")

        queue = ProofQueue(Store(tmp_path / "store"), lambda _: None, False, fail)
        async with queue:
            queue.expect(transfer.key)
            queue.put(transfer)
            await queue.wait()

    with pytest.raises(LookupError, match="no row for"):
        asyncio.run(main())
