"""Reports on random archives agree with a count of their rows; `make soak` draws many more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.random_archives import check, draw


@pytest.mark.filterwarnings("ignore::binance_archive_kit.errors.ArchiveKitWarning")
@pytest.mark.parametrize("seed", range(3))
def test_coverage_agrees_with_an_independent_count(seed: int, tmp_path: Path) -> None:
    check(draw(random.Random(f"18 {seed}")), tmp_path)
