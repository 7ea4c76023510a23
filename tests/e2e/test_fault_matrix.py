"""The fault matrix: each fault of an endpoint, met by three runs, into stores of both kinds.

These are a part of it; ``make soak STEP=faults`` runs it whole. What the runs give is the table of
the README.
"""

from __future__ import annotations

from collections.abc import Iterator
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
#: Those that take no time.
QUICK = ["reset once", "gzip", "forbidden", "HTML", "XML", "broken gzip", "repeated", "302"]


@pytest.fixture(scope="module", autouse=True)
def readme() -> dict[tuple[str, str], list[str]]:
    return rows_in_readme()


@pytest.fixture(scope="module", params=SAMPLE.items(), ids=" into ".join)
def matrix(
    request: pytest.FixtureRequest, s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Matrix]:
    way, kind = request.param
    with place_of(kind, s3_endpoint, tmp_path_factory.mktemp("matrix") / "home") as place:
        yield Matrix.of(place, WAYS[way])


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, s3_endpoint: str, tmp_path: Path) -> Iterator[Place]:
    with place_of(request.param, s3_endpoint, tmp_path / "home") as place:
        yield place


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("symbol", CASES)
def test_an_object_ends_as_the_case_says(matrix: Matrix, symbol: str, run: str) -> None:
    matrix.check_object(symbol, run)


@pytest.mark.parametrize("symbol", CASES)
def test_the_readme_says_what_becomes_of_an_object(
    matrix: Matrix, symbol: str, readme: dict[tuple[str, str], list[str]]
) -> None:
    case = CASES[symbol]
    assert says([matrix.word(symbol, run) for run in RUNS], readme[case.of, case.says])


@pytest.mark.parametrize("name", QUICK)
def test_a_listing_is_whole_or_an_error(
    place: Place, name: str, readme: dict[tuple[str, str], list[str]]
) -> None:
    with served() as server:
        words = collect_thrice(place, server, LISTINGS[name].rule())
    assert words[0] == LISTINGS[name].ends
    assert says(words, readme[row_of_listing(LISTINGS[name])])


@pytest.mark.parametrize("name", ["HTML", "empty pages", "repeated", "pages"])
def test_a_wildcard_whose_listing_fails_is_fetched_by_name(place: Place, name: str) -> None:
    with served() as server:
        words = collect_thrice(place, server, LISTINGS[name].rule("2"))
    assert words == ["complete"] * 3


@pytest.mark.skipif(OPENSSL is None, reason="certificates are made by openssl")
def test_a_certificate_that_nobody_trusts_is_an_error(
    place: Place, readme: dict[tuple[str, str], list[str]]
) -> None:
    words = collect_through_tls(place)
    assert words == ["`ListingError`", "`ListingError`", "complete"]
    assert says(words, readme[UNTRUSTED])


@pytest.mark.parametrize("what", ["issued", "removed", "added"])
def test_an_archive_may_change_between_two_pages(place: Place, what: str) -> None:
    change_between_pages(place, what)


@pytest.mark.parametrize("name", ["PUT 403", "PUT connection cut once", "LIST 503", "LIST after"])
def test_a_bucket_that_fails_loses_nothing(
    name: str, s3_endpoint: str, tmp_path: Path, readme: dict[tuple[str, str], list[str]]
) -> None:
    with place_of("bucket", s3_endpoint, tmp_path / "home") as place:
        words = fault_of_destination(place, s3_endpoint, DESTINATIONS[name])
    assert says(words, readme[BUCKET, DESTINATIONS[name].says])
