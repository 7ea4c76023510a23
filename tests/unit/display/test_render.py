"""Sizes and durations in words."""

from __future__ import annotations

import pytest

from binance_archive_kit.display import render


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (1536, "1.5 KB"),
        (1 << 20, "1.0 MB"),
        (5 << 30, "5.0 GB"),
        (3 << 40, "3.0 TB"),
        (2 << 50, "2048.0 TB"),
        ((1 << 20) - 1, "1.0 MB"),
        ((1 << 30) - 1, "1.0 GB"),
        (1023.7, "1.0 KB"),
    ],
)
def test_sizes(count: float, words: str) -> None:
    assert render.size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (60, "1 min 0 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (90_000, "25 h 0 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert render.duration(seconds) == words
