"""The table of the README's section on reliability, from what runs with faults give.

    python -m tests.support.fault_table

meets every fault, in about ten minutes, and writes the table anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.fault_cases import CASES
from tests.support.fault_listings import DESTINATIONS, LISTINGS, Listing
from tests.support.fault_runs import (
    RUNS,
    STORES,
    WAYS,
    Matrix,
    collect_thrice,
    collect_through_tls,
    fault_of_destination,
    place_of,
    served,
)
from tests.support.s3_bucket import object_storage

README = Path(__file__).parents[2] / "README.md"
_BEGIN, _END = "<!-- faults: python -m tests.support.fault_table -->\n", "<!-- /faults -->\n"
UNTRUSTED = "listing", "certificate that nobody trusts"
BUCKET = "bucket of the store"
#: What has a fault and what happens, and a word for each run.
Row = tuple[tuple[str, str], list[str]]


def row_of_listing(listing: Listing) -> tuple[str, str]:
    """Return what the table says of a fault of listings."""
    return "listing", listing.says


def rows_of_objects(endpoint: str, folder: Path, ways: Iterable[tuple[str, str]]) -> Iterator[Row]:
    """Meet the faults of objects, in some ways and stores."""
    for way, kind in ways:
        with place_of(kind, endpoint, folder / f"{way} {kind}") as place:
            matrix = Matrix.of(place, WAYS[way])
            for symbol, case in CASES.items():
                for run in RUNS:
                    matrix.check_object(symbol, run)
                yield (case.of, case.says), [matrix.word(symbol, run) for run in RUNS]


def rows_of_listings(endpoint: str, folder: Path, kinds: Iterable[str] = STORES) -> Iterator[Row]:
    """Meet the faults of listings; those that only s5cmd meets leave nothing to see."""
    for kind in kinds:
        for name, listing in LISTINGS.items():
            with place_of(kind, endpoint, folder / f"{name} {kind}") as place, served() as server:
                words = collect_thrice(place, server, listing.rule())
            assert words[0] == listing.ends, name
            yield row_of_listing(listing), words
            home = folder / f"{name} {kind} of s5cmd"
            with place_of(kind, endpoint, home) as place, served() as server:
                assert collect_thrice(place, server, listing.rule("2")) == ["complete"] * 3, name
        with place_of(kind, endpoint, folder / f"TLS {kind}") as place:
            yield UNTRUSTED, collect_through_tls(place)


def rows_of_destinations(endpoint: str, folder: Path) -> Iterator[Row]:
    """Meet the faults of the bucket of a store."""
    for name, fault in DESTINATIONS.items():
        with place_of("bucket", endpoint, folder / name) as place:
            yield (BUCKET, fault.says), fault_of_destination(place, endpoint, fault)


def all_rows(endpoint: str, folder: Path) -> Iterator[Row]:
    """Meet every fault, in every way, into both kinds of stores."""
    yield from rows_of_objects(endpoint, folder, ((way, kind) for kind in STORES for way in WAYS))
    yield from rows_of_listings(endpoint, folder)
    yield from rows_of_destinations(endpoint, folder)


# The table


def write_table(rows: Iterable[Row]) -> str:
    """Format rows; faults of a kind that end alike share one."""
    words: dict[tuple[str, str], list[dict[str, None]]] = {}
    for row, each in rows:
        found = words.setdefault(row, [{} for _ in RUNS])
        for before, word in zip(found, each, strict=True):
            before[word] = None
    alike: dict[tuple[str, ...], list[str]] = {}
    for (of, says), each in words.items():
        alike.setdefault((of, *(" or ".join(sorted(word)) for word in each)), []).append(says)
    lines = ["| fault of | what happens | first run | re-run | healed |", "|---|---|---|---|---|"]
    kinds = list(dict.fromkeys(of for of, *_ in alike))
    for (of, *each), happens in sorted(alike.items(), key=lambda row: kinds.index(row[0][0])):
        lines.append(f"| {of} | {'; '.join(happens)} | {' | '.join(each)} |")
    return "".join(f"{line}\n" for line in lines)


def rows_in_readme() -> dict[tuple[str, str], list[str]]:
    """Read the table: for each fault, the words of each run."""
    _, found, rest = README.read_text("utf-8").partition(_BEGIN)
    assert found
    rows = {}
    for line in rest.partition(_END)[0].splitlines()[2:]:
        of, happens, *words = (cell.strip() for cell in line.strip("|").split(" | "))
        rows |= {(of, says): words for says in happens.split("; ")}
    return rows


def says(words: Iterable[str], table: Iterable[str]) -> bool:
    """Return whether each word is one of those in the table."""
    pairs = zip(words, table, strict=True)
    return all(word in re.split(" or ", cell) for word, cell in pairs)


def write_readme(rows: Iterable[Row]) -> None:
    """Write the table of the README anew."""
    table, text = write_table(rows), README.read_text("utf-8")
    before, _, rest = text.partition(_BEGIN)
    README.write_text(f"{before}{_BEGIN}{table}{_END}{rest.partition(_END)[2]}", "utf-8")


def main() -> None:
    with object_storage() as endpoint, TemporaryDirectory() as folder:
        rows = [*all_rows(endpoint, Path(folder))]
    write_readme(rows)


if __name__ == "__main__":
    main()
