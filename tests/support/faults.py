"""Rules for what a `LocalS3` does wrong: which requests, what, and for how long.

A rule is what ``LocalS3(fault=…)`` takes: a function of a request that returns a `Fault`, or
None for an honest answer. Attempts count per method and object from 1, so ``until_attempt=1``
spoils the first request of its kind and no other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from binance_archive_kit.archive.keys import CHECKSUM_SUFFIX
from tests.support.s3_server import Fault, Request

Rule = Callable[[Request], Fault | None]


def _rule(
    meant: Callable[[Request], bool], fault: Fault, method: str | None, until_attempt: int | None
) -> Rule:
    def rule(request: Request) -> Fault | None:
        if method is not None and request.method != method:
            return None
        if until_attempt is not None and request.attempt > until_attempt:
            return None
        return fault if meant(request) else None

    return rule


def on_zip(
    part: str, fault: Fault, *, method: str | None = "GET", until_attempt: int | None = None
) -> Rule:
    """Spoil the zips whose key contains `part`; for ever, or up to some attempt of each."""
    return _rule(lambda r: r.key.endswith(".zip") and part in r.key, fault, method, until_attempt)


def on_checksum(part: str, fault: Fault, *, until_attempt: int | None = None) -> Rule:
    """Spoil the ``.CHECKSUM`` objects whose key contains `part`."""
    return _rule(
        lambda r: r.key.endswith(CHECKSUM_SUFFIX) and part in r.key, fault, "GET", until_attempt
    )


def on_listing(part: str, fault: Fault, *, until_attempt: int | None = None) -> Rule:
    """Spoil the listings whose prefix contains `part`; attempts count per prefix."""
    return _rule(lambda r: not r.key and part in r.prefix, fault, "GET", until_attempt)


def first_of(*rules: Rule) -> Rule:
    """Join rules: the first that has a fault for a request decides."""
    return lambda request: next((fault for rule in rules if (fault := rule(request))), None)


class Meter:
    """A rule that delays the zips' bodies, and counts how many are asked for at once.

    Attributes
    ----------
    most : int
        The most GETs of zips seen within one `delay`.
    """

    def __init__(self, delay: float) -> None:
        self._fault = Fault(delay=delay)
        self._delay = delay
        self._now = 0
        self._lock = threading.Lock()
        self.most = 0

    def __call__(self, request: Request) -> Fault | None:
        if request.method != "GET" or not request.key.endswith(".zip"):
            return None
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        # The answer is on its way no sooner than this, so the request is still in flight.
        timer = threading.Timer(0.8 * self._delay, self._less)
        timer.daemon = True
        timer.start()
        return self._fault

    def _less(self) -> None:
        with self._lock:
            self._now -= 1
