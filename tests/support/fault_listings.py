"""The faults of a whole endpoint: its listing, its certificate, and the bucket of the store."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import cast

from tests.support import s3_gate as gate
from tests.support.answers import page
from tests.support.bucket import daily_klines
from tests.support.fault_cases import HTML
from tests.support.faults import Rule
from tests.support.s3_server import Fault, LocalS3, Request

#: What the archive of these runs has.
ARCHIVE = daily_klines("BTCUSDT", days=9)
FAILED, COMPLETE = "`ListingError`", "complete"
_GZIP = ("Content-Encoding: gzip",)
_TOKEN = "<NextContinuationToken>x</NextContinuationToken>"
_MORE = f"{_TOKEN}<Con".encode()
_PAGE = cast(bytes, LocalS3(ARCHIVE).reply(Request("GET", "", {"prefix": "data/"}, {})).body)


@dataclass(frozen=True)
class Listing:
    """A fault of listings.

    Attributes
    ----------
    says : str
        What happens, for the table.
    ends : str
        How a run ends.
    fault : callable
        Makes the fault of a request.
    until : int or None
        The attempts for each prefix that are spoiled; all without it.
    """

    says: str
    ends: str
    fault: Callable[[Request], Fault]
    until: int | None = None

    def rule(self, version: str | None = None) -> Rule:
        """Return the rule for the server; `version` is that of the requests that are spoiled.

        This package asks by version 1, and s5cmd by version 2, when it looks up a wildcard.
        """

        def rule(request: Request) -> Fault | None:
            asked = request.query.get("list-type", "1")
            if not request.is_listing or version not in (None, asked):
                return None
            return self.fault(request) if request.attempt <= (self.until or 1 << 30) else None

        return rule


def _is(fault: Fault) -> Callable[[Request], Fault]:
    return lambda _: fault


def _moved(status: int, host: str) -> Callable[[Request], Fault]:
    where = f"{host}/elsewhere?list-type=2"
    return _is(Fault(status, headers=(f"Location: {where}",)))


_number = count()


def _without_end(_: Request) -> Fault:
    """Give page after page of keys that nobody asked for, each after the one before."""
    keys = [f"{min(ARCHIVE)}.{next(_number):09}" for _ in range(3)]
    return Fault(body=page(keys, truncated=True, more=f"{_TOKEN[:23]}{keys[-1]}{_TOKEN[24:]}"))


LISTINGS: dict[str, Listing] = {
    "storm": Listing("503 twice", COMPLETE, _is(Fault(503)), 2),
    "limited": Listing(
        "429 with `Retry-After`, once", COMPLETE, _is(Fault(429, headers=("Retry-After: 1",))), 1
    ),
    "reset once": Listing("connection reset once", COMPLETE, _is(Fault(reset_after=99)), 1),
    "cut once": Listing("body cut off once", COMPLETE, _is(Fault(cut_after=100)), 1),
    "slow": Listing("slow body", COMPLETE, _is(Fault(bytes_per_second=3_000))),
    "gzip": Listing(
        "compressed by gzip", COMPLETE, _is(Fault(body=gzip.compress(_PAGE), headers=_GZIP))
    ),
    "throttled": Listing("503", FAILED, _is(Fault(503))),
    "limited always": Listing("429", FAILED, _is(Fault(429))),
    "broken": Listing("500", FAILED, _is(Fault(500))),
    "forbidden": Listing("403", FAILED, _is(Fault(403))),
    "gone": Listing("404", FAILED, _is(Fault(404))),
    "reset": Listing("connection reset", FAILED, _is(Fault(reset_after=99))),
    "cut": Listing("body cut off", FAILED, _is(Fault(cut_after=100))),
    "longer": Listing("announced longer than sent", FAILED, _is(Fault(length=99_999))),
    "shorter": Listing("announced shorter than sent", FAILED, _is(Fault(length=500))),
    "hung": Listing("no answer", FAILED, _is(Fault(hang_after=0))),
    "drip": Listing(
        "body that drips without end", FAILED, _is(Fault(endless=True, bytes_per_second=99))
    ),
    "endless": Listing(
        "body that streams without end", FAILED, _is(Fault(endless=True, bytes_per_second=1 << 26))
    ),
    "HTML": Listing("HTML page", FAILED, _is(Fault(body=HTML))),
    "XML": Listing("broken XML", FAILED, _is(Fault(body=_PAGE[:-30]))),
    "broken gzip": Listing(
        "broken gzip", FAILED, _is(Fault(body=gzip.compress(_PAGE)[:-9], headers=_GZIP))
    ),
    "empty pages": Listing(
        "empty pages without end", FAILED, _is(Fault(body=page(truncated=True, more=_TOKEN)))
    ),
    "repeated": Listing(
        "the same page again and again",
        FAILED,
        _is(Fault(body=_PAGE.replace(b"false</IsT", b"true</IsT").replace(b"<Con", _MORE, 1))),
    ),
    "pages": Listing("pages without end", FAILED, _without_end),
    "empty body": Listing("empty body", FAILED, _is(Fault(body=b""))),
    "301": Listing("redirected (301)", FAILED, _moved(301, "http://127.0.0.1:9")),
    "302": Listing("redirected (302)", FAILED, _moved(302, "http://localhost:9")),
    "307": Listing("redirected (307)", FAILED, _moved(307, "")),
}


def _is_list(path: str) -> bool:
    return "list-type" in path or "prefix=" in path


@dataclass(frozen=True)
class Destination:
    """A fault of the bucket of the store.

    Attributes
    ----------
    says : str
        What happens, for the table.
    kind : str
        The requests that fail: ``PUT``, ``GET`` or ``LIST``.
    status : int
        What they are answered; 0 cuts the connection.
    until : int or None
        The attempts for each path that fail; all without it.
    after : str
        The requests that have to come first.
    """

    says: str
    kind: str
    status: int
    until: int | None = None
    after: str = ""

    def rule(self) -> gate.Rule:
        """Return the rule for the gate before the bucket."""
        seen: Counter[str] = Counter()
        kinds: set[str] = set()

        def rule(method: str, path: str) -> int | None:
            kind = "LIST" if _is_list(path) else method
            kinds.add(kind)
            if kind != self.kind or (self.after and self.after not in kinds):
                return None
            seen[path] += 1
            return self.status if seen[path] <= (self.until or 1 << 30) else None

        return rule


_FAULTS = (("503", 503), ("500", 500), ("connection cut", 0))
DESTINATIONS: dict[str, Destination] = {
    **{
        f"{kind} {name} once": Destination(f"{name} once to {kind}", kind, status, 1)
        for kind in ("PUT", "LIST", "GET")
        for name, status in _FAULTS
    },
    **{
        f"{kind} {name}": Destination(f"{name} to {kind}", kind, status)
        for kind in ("PUT", "LIST", "GET")
        for name, status in (*_FAULTS, ("403", 403))
    },
    "LIST after": Destination("503 to LIST after an upload", "LIST", 503, after="PUT"),
}
