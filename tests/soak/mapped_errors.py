"""Meet every public call with each fault of each file, with permissions, and with bad answers."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from binance_archive_kit.archive import digests, listing
from binance_archive_kit.download import proof_queue
from tests.support.answers import Answers
from tests.support.bad_answers import ALL
from tests.support.denied import run_denied
from tests.support.public_calls import Calls, archive
from tests.support.s3_server import LocalS3
from tests.support.spoiling import TARGETS, TO_BYTES, TO_MODES, TO_NAMES, heal_modes, spoil

SECONDS = 1200.0


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    """Go through the faults in random order, until all were met or the time is over."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    for module in (listing, digests, proof_queue):
        module._TRIES = 1
    faults = [(target, how) for target in TARGETS for how in (*TO_BYTES, *TO_NAMES, *TO_MODES)]
    faults += [("answer", said) for said in ALL]
    random.Random(seed).shuffle(faults)
    end, met, made = time.monotonic() + seconds, 0, 0
    with LocalS3(archive()) as server:
        for target, how in faults:
            if time.monotonic() > end:
                break
            calls = _fresh(folder, server.url)
            met += 1
            made += _meet(calls, target, how)
            if not met % 20:
                yield f"{met:,} of {len(faults):,} faults, {made:,} calls"
    yield f"{met:,} of {len(faults):,} faults, {made:,} calls: no error of another package"


def _fresh(folder: Path, url: str) -> Calls:
    """Collect a store anew."""
    store, target = folder / "store", folder / "target"
    for path in (store, target, folder / "cache"):
        if path.is_dir():
            heal_modes(path)
        shutil.rmtree(path, ignore_errors=True)
    target.mkdir(parents=True)
    calls = Calls(url, store, target)
    calls.prepare()
    return calls


def _meet(calls: Calls, target: str, how: str) -> int:
    """Meet all calls with a fault; return how many there were."""
    every = (*calls.reading().values(), *calls.asking().values())
    if target == "answer":
        with Answers(lambda _: ALL[how]) as server:
            asking = Calls(server.url, calls.store, calls.target).asking()
            for call in asking.values():
                calls.run(call)
        return len(asking)
    if how in TO_MODES:
        run_denied(calls, how, target)
        return len(every)
    for call in every:
        with suppress(OSError):  # it is not there, as a call before has removed it
            spoil(Path(calls.store), TARGETS[target], how)
        calls.run(call)
    return len(every)
