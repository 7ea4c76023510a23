"""Random questions have the answers of an independent copy; `make soak` asks thousands."""

from __future__ import annotations

from pathlib import Path

from tests.support.predicates import Rivals


def test_zips_and_tables_answer_as_an_independent_copy(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path, seed=18)
    for number in range(35):
        rivals.ask_in_sql(number)
        rivals.ask_in_polars(number)
    rivals.close()
    assert rivals.answered > 60
    assert rivals.rows > 500
