"""Whatever comes in, parsers read what the standard library reads or raise the package's errors."""

from __future__ import annotations

import pytest

from tests.support.parsers import PARSERS, SEEDS, feed

#: Inputs that take milliseconds each.
_SLOW = {"csvs": 30, "checksums": 100, "matrices": 100, "flags": 100}


@pytest.mark.parametrize("name", PARSERS)
def test_valid_inputs_are_read(name: str) -> None:
    for data in SEEDS[name]:
        PARSERS[name](data)


@pytest.mark.parametrize("name", PARSERS)
def test_spoilt_inputs_are_read_or_refused(name: str) -> None:
    for number in range(_SLOW.get(name, 500)):
        feed(name, 18, number)
