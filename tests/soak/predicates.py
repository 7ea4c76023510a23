"""Ask random questions in SQL and in Polars, of zips and of tables, beside an independent copy."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from tests.support.predicates import Rivals

SECONDS = 900.0
QUESTIONS = 2_000


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    warnings.simplefilter("error")
    rivals = Rivals(folder / f"{time.time_ns()}", seed)
    until = time.monotonic() + seconds
    try:
        for number in range(QUESTIONS):
            rivals.ask_in_sql(number)
            rivals.ask_in_polars(number)
            if time.monotonic() > until:
                break
    finally:
        rivals.close()
    yield (
        f"{number + 1:,} questions in SQL and as many in Polars; {rivals.answered:,} are valid, "
        f"with {rivals.rows:,} rows of answers from zips and from tables"
    )
