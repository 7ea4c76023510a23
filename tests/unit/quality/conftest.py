"""A store that most tests of reports begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.planted import plant
from tests.support.reports import DAYS, hours
from tests.support.stores import kline


@pytest.fixture
def two_days(tmp_path: Path) -> Path:
    for day in DAYS[:2]:
        plant(tmp_path, kline("BTCUSDT", day), hours(day))
    return tmp_path
