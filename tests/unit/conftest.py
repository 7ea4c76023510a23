"""Properties are checked on the same examples everywhere, and figures do not pile up."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.s3_bucket import bucket, s3_endpoint, s3_url

__all__ = ["bucket", "s3_endpoint", "s3_url"]

settings.register_profile("unit", deadline=None, derandomize=True, database=None)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    """Close the figures of a test: pyplot keeps them, and warns of more than 20."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
