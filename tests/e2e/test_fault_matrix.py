"""The fault matrix: each fault of an endpoint, met by three runs, into stores of both kinds.

These are a part of it; ``make soak STEP=faults`` runs it whole. What the runs give is the table of
the README.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.support.fault_cases import CASES
from tests.support.fault_listings import DESTINATIONS, LISTINGS
from tests.support.fault_runs import (
    RUNS,
    WAYS,
    Matrix,
    Place,
    change_between_pages,
    collect_thrice,
    collect_through_tls,
    fault_of_destination,
    place_of,
    served,
)
from tests.support.fault_table import BUCKET, UNTRUSTED, row_of_listing, rows_in_readme, says
from tests.support.relay import OPENSSL

SAMPLE = {"by wildcard": "folder", "by name": "bucket"}
#: Those that take little time, into which store.
QUICK = {
    "reset once": "folder",
    "gzip": "bucket",
    "forbidden": "bucket",
    "HTML": "folder",
    "XML": "bucket",
    "broken gzip": "folder",
    "repeated": "folder",
    "302": "bucket",
}
OF_S5CMD = {"HTML": "bucket", "empty pages": "folder", "repeated": "folder", "pages": "bucket"}
README = rows_in_readme()

Lend = Callable[[str], AbstractContextManager[Place]]


@pytest.fixture(scope="module")
def matrices(
    s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Matrix]]:
    """Meet all faults of objects, in all ways at the same time: most of it is waiting."""
    home = tmp_path_factory.mktemp("matrix")
    with ExitStack() as stack, ThreadPoolExecutor(len(SAMPLE)) as pool:
        running = {}
        for way, kind in SAMPLE.items():
            place = stack.enter_context(place_of(kind, s3_endpoint, home / way))
            running[way] = pool.submit(Matrix.of, place, WAYS[way])
        yield {way: future.result() for way, future in running.items()}


@pytest.fixture
def lend(s3_endpoint: str, tmp_path: Path) -> Lend:
    """Lend a function that lends a store of a kind."""
    return lambda kind: place_of(kind, s3_endpoint, tmp_path / "home")


@pytest.mark.parametrize("symbol", CASES)
@pytest.mark.parametrize("way", SAMPLE)
def test_an_object_ends_as_its_case_and_the_readme_say(
    matrices: dict[str, Matrix], way: str, symbol: str
) -> None:
    matrix, case = matrices[way], CASES[symbol]
    for run in RUNS:
        matrix.check_object(symbol, run)
    assert says([matrix.word(symbol, run) for run in RUNS], README[case.of, case.says])


@pytest.mark.parametrize("name", QUICK)
def test_a_listing_is_whole_or_an_error(lend: Lend, name: str) -> None:
    with lend(QUICK[name]) as place, served() as server:
        words = collect_thrice(place, server, LISTINGS[name].rule())
    assert words[0] == LISTINGS[name].ends
    assert says(words, README[row_of_listing(LISTINGS[name])])


@pytest.mark.parametrize("name", OF_S5CMD)
def test_a_wildcard_whose_listing_fails_is_fetched_by_name(lend: Lend, name: str) -> None:
    with lend(OF_S5CMD[name]) as place, served() as server:
        words = collect_thrice(place, server, LISTINGS[name].rule("2"))
    assert words == ["complete"] * 3


@pytest.mark.skipif(OPENSSL is None, reason="certificates are made by openssl")
def test_a_certificate_that_nobody_trusts_is_an_error(lend: Lend) -> None:
    with lend("folder") as place:
        words = collect_through_tls(place)
    assert words == ["`ListingError`", "`ListingError`", "complete"]
    assert says(words, README[UNTRUSTED])


@pytest.mark.parametrize("kind", ["folder", "bucket"])
@pytest.mark.parametrize("what", ["issued", "removed", "added"])
def test_an_archive_may_change_between_two_pages(lend: Lend, what: str, kind: str) -> None:
    with lend(kind) as place:
        change_between_pages(place, what)


@pytest.mark.parametrize("name", ["PUT 403", "GET connection cut once", "LIST 503"])
def test_a_bucket_that_fails_loses_nothing(lend: Lend, s3_endpoint: str, name: str) -> None:
    with lend("bucket") as place:
        words = fault_of_destination(place, s3_endpoint, DESTINATIONS[name])
    assert says(words, README[BUCKET, DESTINATIONS[name].says])


def test_the_readme_has_every_fault() -> None:
    assert README.keys() == {
        *((case.of, case.says) for case in CASES.values()),
        *map(row_of_listing, LISTINGS.values()),
        UNTRUSTED,
        *((BUCKET, fault.says) for fault in DESTINATIONS.values()),
    }
