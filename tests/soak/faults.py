"""Meet every fault of an endpoint, and of the bucket of a store, in all ways and with three runs.

The whole fault matrix, of which `tests/e2e/test_fault_matrix.py` is a part. What becomes of each
object must agree with the table in the README.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.support.fault_table import all_rows, rows_in_readme, says
from tests.support.s3_bucket import object_storage

SECONDS = 900.0


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    readme, met = rows_in_readme(), Counter[str]()
    shutil.rmtree(folder / "runs", ignore_errors=True)
    with object_storage() as endpoint:
        for row, words in all_rows(endpoint, folder / "runs"):
            if not says(words, readme[row]):
                raise AssertionError(f"{row}: {words}, and the README says {readme[row]}")
            met[row[0]] += len(words)
    assert met.total() >= 3 * len(readme)
    each = ", ".join(f"{count:,} of {of}" for of, count in met.items())
    yield f"{met.total():,} outcomes as in the README: {each}"
