"""The garbage collector is paused in a block, and then as it was before."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from binance_archive_kit.garbage import paused_collection


@pytest.fixture(autouse=True)
def _enabled() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_the_collector_is_paused_until_the_end_of_the_outermost_block() -> None:
    with paused_collection():
        with paused_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_goes_on_after_an_error() -> None:
    with pytest.raises(ValueError, match="stop"), paused_collection():
        raise ValueError("stop")
    assert gc.isenabled()


def test_a_collector_that_is_disabled_stays_so() -> None:
    gc.disable()
    with paused_collection():
        pass
    assert not gc.isenabled()
