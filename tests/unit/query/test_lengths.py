"""Lengths of bars are parsed, or rejected with advice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import INTERVAL_ALIASES, Interval
from binance_archive_kit.errors import (
    ConfigurationError,
    nearest,
    respelled,
)
from binance_archive_kit.query.lengths import parse_length
from tests.support.candles import HOUR


@pytest.mark.parametrize(
    ("every", "said"),
    [
        ("30min", "did you mean '30m'"),
        ("4 hours", "did you mean '4h'"),
        ("1month", "did you mean '1mo'"),
        ("2H", "did you mean '2h'"),
        ("2M", "did you mean '2mo'"),
        ("soon", "Write a number"),
        ("0d", "above 0"),
        ("-1d", "above 0"),
        ("0mo", "above 0"),
        ("", "above 0"),
        ("1", "above 0"),
        ("999999999d", "above 0"),
        ("1mo1d", "above 0"),
        (None, "above 0"),
        (60, "above 0"),
        (timedelta(hours=1), "above 0"),
    ],
)
def test_what_is_no_length_is_our_error(root: Path, every: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        bak.ohlcv(root, "AUSDT", every)


@given(st.text(max_size=6))
def test_any_text_is_a_length_or_our_error(text: str) -> None:
    try:
        length = parse_length(text)
    except ConfigurationError:
        return
    assert length.micros > 0 or length.months > 0


@pytest.mark.parametrize(
    "every",
    [
        *(
            "",
            "h",
            "0h",
            "0h0m",
            "-1h",
            "1ns",
            "1us",
            "1.5h",
            "1h 30m",
            "1mo1d",
            "٣h",
            "1h\n",
            "1qo",
        ),
        *("9" * 5_000 + "h", "1h" * 5_000, "x" * 10**6, None, 60, 1.5, b"1h", ["1h"], HOUR),
    ],
    ids=lambda value: str(value)[:12],
)
def test_odd_lengths_are_our_error(every: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"every: .* is not a length of time") as caught:
        parse_length(every)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("every", "same_as"),
    [("1h30m", "90m"), ("30m1h", "90m"), ("1d12h", "36h"), ("1w1d", "8d"), ("0h30m", "30m")],
)
def test_lengths_add_up(every: str, same_as: str) -> None:
    assert parse_length(every).micros == parse_length(same_as).micros


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        *(("1min", "1m"), ("5min", "5m"), ("30min", "30m"), ("60m", "1h"), ("60min", "1h")),
        *(("24h", "1d"), ("7d", "1w"), ("1hour", "1h"), ("1day", "1d"), ("1week", "1w")),
        *(("1month", "1mo"), ("1H", "1h"), ("1 m", "1m"), ("10m", None), ("30d", None)),
        ("1mon", "1mo"),
    ],
)
def test_a_length_suggests_the_same_length(root: Path, value: str, meant: str | None) -> None:
    valid = [*Interval, *INTERVAL_ALIASES]
    assert nearest(value, valid) == meant
    asks: list[Callable[[], object]] = [
        lambda: bak.load_klines(root, "AUSDT", value),
        lambda: bak.scan(root, "spot", "klines", intervals=value),
        lambda: bak.CollectionConfig(
            markets=["spot"], symbols=["AUSDT"], data_types=["klines"],
            intervals={"klines": [value]}, date_range={"start": "2025-01-01", "end": "2025-01-02"},
            output_directory="x",
        ),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(ConfigurationError) as caught:
            ask()
        said = str(caught.value)
        assert (f"did you mean '{meant}'" in said) if meant else ("did you mean" not in said)


def test_respelled_words_are_their_own_spelling() -> None:
    for unit in ("s", "m", "h", "d", "w", "mo"):
        assert respelled(f"3{unit}") == f"3{unit}"


def test_a_length_is_a_length(halted: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a length of time"):
        bak.ohlcv(halted, "BTCUSDT", "soon")
