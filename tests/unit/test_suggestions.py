"""Messages list the valid values, and suggest the nearest."""

from __future__ import annotations

import pytest

from binance_archive_kit.suggestions import nearest, unknown


def test_an_unknown_value_names_the_field_apart_from_the_message() -> None:
    problem = unknown("markets", "sport", ["spot"])
    assert problem.field == "markets"
    assert problem.message == "'sport' is not valid; did you mean 'spot'? Valid: spot"


@pytest.mark.parametrize("value", ["1h30m", "1q", "0m", "12mo"])
def test_only_an_equal_length_of_time_is_suggested(value: str) -> None:
    assert nearest(value, ["15m", "30m", "1h", "1mo"]) is None
