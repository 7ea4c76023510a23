"""The faults of an endpoint, object by object: what the server does, and what it is called.

Each case has a symbol of its own, of which one day is spoiled, so that all of them fit into one
run. What should become of the object is not said here: `judge` asks the server as a patient and
simple client would, and compares the bytes.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from tests.support.bucket import FIRST, candles, kline_key, sidecar, zipped
from tests.support.faults import Rule, on_checksum, on_zip
from tests.support.s3_server import Fault, LocalS3, Request

#: The spoiled day, the second of each symbol.
SPOILED = FIRST + timedelta(days=1)
OTHER_BYTES = zipped(kline_key("BTCUSDT", SPOILED), candles("of somebody else"))
HTML = b"<html><body>Please log in to this network</body></html>"
#: Seconds without progress that the runs allow.
TIMEOUT = 1.5


@dataclass(frozen=True)
class Case:
    """A fault of one object.

    Attributes
    ----------
    says : str
        What happens, for the table.
    reasons : set of str
        The right names of the failure; empty if there must be none.
    aside : bool
        Whether the bytes of a failure are worth keeping in quarantine.
    part : str
        What the fault is of: ``zip``, ``head`` (HEAD of the zip), ``both`` or ``sum``.
    fault : callable or None
        Makes the fault, from the URLs of the endpoint and of another host.
    until : int or None
        The attempts that are spoiled; all without it.
    change : callable or None
        Changes the objects that are served, before the run.
    during : callable or None
        Changes them when the archive has been listed.
    rows : int
        The size of the objects, in rows.
    """

    says: str
    reasons: frozenset[str] = frozenset()
    aside: bool = False
    part: str = "zip"
    fault: Callable[[str, str], Fault] | None = None
    until: int | None = None
    change: Callable[[dict[str, bytes], str], None] | None = None
    during: Callable[[dict[str, bytes], str], None] | None = None
    rows: int = 24

    @property
    def of(self) -> str:
        """What the table says it is a fault of."""
        return "checksum" if self.part == "sum" else "object"

    def rule(self, symbol: str, url: str, other: str) -> Rule | None:
        """Return the rule of the server for the spoiled object."""
        if self.fault is None:
            return None
        fault, part = self.fault(url, other), f"/{symbol}-1h-{SPOILED}."
        if self.part == "sum":
            return on_checksum(part, fault, until_attempt=self.until)
        method = {"zip": "GET", "head": "HEAD", "both": None}[self.part]
        return on_zip(part, fault, method=method, until_attempt=self.until)


def _is(fault: Fault) -> Callable[[str, str], Fault]:
    return lambda url, other: fault


def _moved(status: int, host: str, ending: str = "zip") -> Callable[[str, str], Fault]:
    """Redirect the spoiled day of a case named after status and host."""

    def fault(url: str, other: str) -> Fault:
        key = kline_key(f"MOVED{status}{host}{ending}".upper(), SPOILED)
        name = key.rpartition("/")[2] + ("" if ending == "zip" else ".CHECKSUM")
        base = url if host == "same" else other
        return Fault(status, headers=(f"Location: {base}/data.binance.vision/moved/new%20{name}",))

    return fault


def _replace(*parts: str) -> Callable[[dict[str, bytes], str], None]:
    """Issue the zip, or its checksum, again with other bytes."""

    def change(objects: dict[str, bytes], key: str) -> None:
        body = zipped(key, candles("issue 2", 30))
        if "zip" in parts:
            objects[key] = body
        if "sum" in parts:
            objects[f"{key}.CHECKSUM"] = sidecar(key, body)

    return change


def _remove(*endings: str) -> Callable[[dict[str, bytes], str], None]:
    def change(objects: dict[str, bytes], key: str) -> None:
        for ending in endings:
            objects.pop(f"{key}{ending}", None)

    return change


def _put(zip_body: bytes | None, checksum: bytes | None) -> Callable[[dict[str, bytes], str], None]:
    """Serve another zip, whose checksum is right, or another checksum."""

    def change(objects: dict[str, bytes], key: str) -> None:
        if zip_body is not None:
            objects[key] = zip_body
            objects[f"{key}.CHECKSUM"] = sidecar(key, zip_body)
        if checksum is not None:
            objects[f"{key}.CHECKSUM"] = checksum

    return change


def _named(*reasons: str) -> frozenset[str]:
    return frozenset(reasons)


_HOUR = ("Retry-After: 3600",)
_SECOND = ("Retry-After: 1",)
_GZIP = ("Content-Encoding: gzip",)
_LOST = _named("connection", "truncated")
_MANY = 100_000

#: By symbol.
CASES: dict[str, Case] = {
    # Once, or for the first few attempts: nothing of it may be left to see.
    "SLOWDOWN": Case("503 once", fault=_is(Fault(503)), until=1),
    "STORM": Case("503 twice", fault=_is(Fault(503)), until=2),
    "BREAK": Case("500 twice", fault=_is(Fault(500)), until=2),
    "LIMITED": Case(
        "429 with `Retry-After`, once", fault=_is(Fault(429, headers=_SECOND)), until=1
    ),
    "RESETONCE": Case("connection reset once", fault=_is(Fault(reset_after=300)), until=1),
    "CUTONCE": Case("body cut off once", fault=_is(Fault(cut_after=300)), until=1),
    "FLIPPEDONCE": Case("flipped bit once", fault=_is(Fault(flip=400)), until=1),
    "OTHERONCE": Case("other bytes once", fault=_is(Fault(body=OTHER_BYTES)), until=1),
    "EMPTYONCE": Case("empty body once", fault=_is(Fault(body=b"")), until=1),
    "PORTALONCE": Case("HTML page once", fault=_is(Fault(body=HTML)), until=1),
    "HUNGONCE": Case("no answer once", fault=_is(Fault(hang_after=0)), until=1),
    "HUNGHEAD": Case(
        "no answer to HEAD once", part="head", fault=_is(Fault(hang_after=0)), until=1
    ),
    "SLOW": Case("slow body", fault=_is(Fault(bytes_per_second=4_000)), rows=400),
    # For ever.
    "THROTTLED": Case("503", _named("throttled"), fault=_is(Fault(503))),
    "LIMITEDHOUR": Case(
        "429 with a `Retry-After` of an hour",
        _named("timeout"),
        fault=_is(Fault(429, headers=_HOUR)),
    ),
    "BROKEN": Case("500", _named("server_error"), fault=_is(Fault(500))),
    "FORBIDDEN": Case("403", _named("forbidden"), fault=_is(Fault(403))),
    "REFUSED": Case("403, to HEAD too", _named("forbidden"), part="both", fault=_is(Fault(403))),
    "GONE": Case("404", _named("not_found"), fault=_is(Fault(404))),
    "RESET": Case("connection reset", _LOST, fault=_is(Fault(reset_after=300))),
    "RESETATONCE": Case("connection reset before a byte", _LOST, fault=_is(Fault(reset_after=0))),
    "CUT": Case("body cut off", _LOST, fault=_is(Fault(cut_after=300))),
    "CUTATONCE": Case("body cut off before a byte", _LOST, fault=_is(Fault(cut_after=0))),
    "LONGER": Case("announced longer than sent", _named("timeout"), fault=_is(Fault(length=5000))),
    "SHORTER": Case(
        "announced shorter than sent", _named("corrupt"), True, fault=_is(Fault(length=100))
    ),
    "NOLENGTH": Case("nonsense as length", _LOST, fault=_is(Fault(length=-1))),
    "SHORT": Case("fewer bytes", _named("corrupt"), True, fault=_is(Fault(body=OTHER_BYTES[:200]))),
    "EMPTY": Case("empty body", _named("corrupt"), True, fault=_is(Fault(body=b""))),
    "FLIPPED": Case("flipped bit", _named("corrupt"), True, fault=_is(Fault(flip=400))),
    "OTHER": Case("other bytes", _named("corrupt"), True, fault=_is(Fault(body=OTHER_BYTES))),
    "PORTAL": Case("HTML page", _named("corrupt"), True, fault=_is(Fault(body=HTML))),
    "HUNG": Case("no answer", _named("timeout"), fault=_is(Fault(hang_after=0))),
    "HUNGBODY": Case("body that stops", _named("timeout"), fault=_is(Fault(hang_after=300))),
    "DRIP": Case(
        "body that drips without end",
        _named("timeout"),
        fault=_is(Fault(endless=True, bytes_per_second=60)),
    ),
    "ENDLESS": Case(
        "body that streams without end",
        _named("corrupt"),
        fault=_is(Fault(endless=True, bytes_per_second=_MANY)),
    ),
    "MOVED301SAMEZIP": Case("redirected (301) within the host", fault=_moved(301, "same")),
    "MOVED302OTHERZIP": Case("redirected (302) to another host", fault=_moved(302, "other")),
    "MOVED307OTHERZIP": Case("redirected (307) to another host", fault=_moved(307, "other")),
    "LOOP": Case(
        "redirected to itself",
        _named("connection"),
        fault=lambda url, _: Fault(
            302, headers=(f"Location: {url}/data.binance.vision/{kline_key('LOOP', SPOILED)}",)
        ),
    ),
    "NOZIP": Case("listed bytes that are no zip", _named("bad_zip"), True, change=_put(HTML, None)),
    # Checksums.
    "STORMSUM": Case("503 twice", part="sum", fault=_is(Fault(503)), until=2),
    "LIMITEDSUM": Case(
        "429 with `Retry-After`, once", part="sum", fault=_is(Fault(429, headers=_SECOND)), until=1
    ),
    "RESETSUMONCE": Case(
        "connection reset twice", part="sum", fault=_is(Fault(reset_after=9)), until=2
    ),
    "CUTSUMONCE": Case("body cut off twice", part="sum", fault=_is(Fault(cut_after=10)), until=2),
    "FLIPPEDSUMONCE": Case("flipped bit once", part="sum", fault=_is(Fault(flip=7)), until=1),
    "PORTALSUMONCE": Case("HTML page once", part="sum", fault=_is(Fault(body=HTML)), until=1),
    "HUNGSUMONCE": Case("no answer once", part="sum", fault=_is(Fault(hang_after=0)), until=1),
    "SLOWSUM": Case("slow body", part="sum", fault=_is(Fault(bytes_per_second=60))),
    "THROTTLEDSUM": Case("503", _named("throttled"), part="sum", fault=_is(Fault(503))),
    "BROKENSUM": Case("500", _named("server_error"), part="sum", fault=_is(Fault(500))),
    "FORBIDDENSUM": Case("403", _named("forbidden"), part="sum", fault=_is(Fault(403))),
    "LOSTSUM": Case(
        "404, though listed", _named("checksum_absent"), True, part="sum", fault=_is(Fault(404))
    ),
    "NOSUM": Case(
        "not published", _named("checksum_absent"), part="sum", change=_remove(".CHECKSUM")
    ),
    "STALESUM": Case(
        "of other bytes",
        _named("checksum_stale"),
        True,
        part="sum",
        change=_put(None, sidecar("x", OTHER_BYTES)),
    ),
    "FLIPPEDSUM": Case(
        "flipped bit",
        _named("checksum_stale", "checksum_unreadable"),
        True,
        part="sum",
        fault=_is(Fault(flip=7)),
    ),
    "HTMLSUM": Case(
        "HTML page", _named("checksum_unreadable"), True, part="sum", change=_put(None, HTML)
    ),
    "EMPTYSUM": Case(
        "empty body", _named("checksum_unreadable"), True, part="sum", fault=_is(Fault(body=b""))
    ),
    "GZIPSUM": Case(
        "compressed, though not asked for",
        _named("checksum_unreadable"),
        True,
        part="sum",
        fault=_is(Fault(body=b"\x1f\x8b\x08\0", headers=_GZIP)),
    ),
    "CUTSUM": Case("body cut off", _LOST, part="sum", fault=_is(Fault(cut_after=10))),
    "RESETSUM": Case("connection reset", _LOST, part="sum", fault=_is(Fault(reset_after=10))),
    "HUNGSUM": Case("no answer", _named("timeout"), part="sum", fault=_is(Fault(hang_after=20))),
    "DRIPSUM": Case(
        "body that drips without end",
        _named("timeout"),
        part="sum",
        fault=_is(Fault(endless=True, bytes_per_second=40)),
    ),
    "ENDLESSSUM": Case(
        "body that streams without end",
        _named("connection"),
        part="sum",
        fault=_is(Fault(endless=True, bytes_per_second=30_000_000)),
    ),
    "MOVED302OTHERSUM": Case(
        "redirected (302) to another host",
        _named("forbidden"),
        part="sum",
        fault=_moved(302, "other", "sum"),
    ),
    # Between the listing and the download.
    "REISSUED": Case("issued again", during=_replace("zip", "sum")),
    "HALFISSUED": Case(
        "issued again, its checksum not yet", _named("checksum_stale"), True, during=_replace("zip")
    ),
    "WITHDRAWN": Case("withdrawn", _named("not_found"), during=_remove("", ".CHECKSUM")),
}


def changes(objects: dict[str, bytes]) -> Rule:
    """Return a rule that changes objects at the first request for one of them after the listing."""
    waiting = {kline_key(s, SPOILED): case.during for s, case in CASES.items() if case.during}

    def rule(request: Request) -> None:
        asked = request.key or request.prefix
        if not request.is_listing or request.query.get("list-type") == "2":
            for key in [each for each in waiting if asked[:50] == each[:50]]:
                if (change := waiting.pop(key)) is not None:
                    change(objects, key)

    return rule


# What should be


@dataclass(frozen=True)
class Verdict:
    """What a simple client gets of an object.

    Attributes
    ----------
    body : bytes or None
        The zip as it is sent; None if it does not arrive.
    right : bool
        Whether the bytes are the listed ones, and the ones that the checksum is of.
    """

    body: bytes | None
    right: bool


def judge(server: LocalS3, objects: Mapping[str, bytes], key: str) -> Verdict:
    """Ask for an object and its checksum, and compare them with each other and with the bucket."""
    body, checksum = _get(server.url, key, follow=9), _get(server.url, f"{key}.CHECKSUM")
    listed = f"{key}.CHECKSUM" in objects and body == objects.get(key)
    digest = re.match(rb"([0-9a-f]{64})\s", checksum or b"")
    if body is None or digest is None or not listed:
        return Verdict(body, False)
    same = digest[1].decode() == hashlib.sha256(body).hexdigest()
    return Verdict(body, same and body.startswith(b"PK"))


def _get(url: str, key: str, *, follow: int = 0) -> bytes | None:
    """Return the whole body of an answer with status 200; None if there is none in time.

    `follow` is the largest number of redirections.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)
    try:
        connection.request("GET", f"/data.binance.vision/{key}")
        answer = connection.getresponse()
        if follow and answer.status in (301, 302, 307):
            there = urlsplit(answer.getheader("Location", ""))
            base, path = f"{there.scheme}://{there.netloc}", there.path.split("/", 2)[2]
            return _get(base, path, follow=follow - 1)
        return _read(answer, connection) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _read(answer: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> bytes | None:
    body, until = b"", time.monotonic() + 2.5 * TIMEOUT
    with suppress(socket.timeout):
        while time.monotonic() < until and len(body) < 1 << 20:
            piece = answer.read1(1 << 16)
            if not piece:
                return body if not answer.length else None
            body += piece
    return None
