"""Candles are drawn where they are, and every gap is shaded and named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib import colors, dates
from matplotlib.collections import LineCollection, PolyCollection

import binance_archive_kit as bak
from binance_archive_kit.display import theme
from binance_archive_kit.errors import ConfigurationError, FileError
from binance_archive_kit.quality.heatmap import KIND_COLOURS
from tests.support.candles import at, day
from tests.support.reports import spoil

HOUR = timedelta(hours=1)
RISE, FALL = "close ≥ open", "close < open"


def frame_of(*rows: tuple[str, float, float, float, float, float]) -> pl.DataFrame:
    names = ["open_time", "open", "high", "low", "close", "volume"]
    return pl.DataFrame([(at(time), *values) for time, *values in rows], names, orient="row")


def walk(count: int, step: timedelta = HOUR, seed: int = 0) -> pl.DataFrame:
    """Return candles of a random walk."""
    dice = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(dice.normal(0, 1e-3, count)))
    opens = np.concatenate([[100], close[:-1]])
    return pl.DataFrame(
        {
            "open_time": [datetime(2025, 1, 1, tzinfo=UTC) + n * step for n in range(count)],
            "open": opens,
            "high": np.maximum(opens, close) * 1.001,
            "low": np.minimum(opens, close) * 0.999,
            "close": close,
            "volume": dice.random(count),
        }
    )


# -- what is drawn ----------------------------------------------------------------------


def times_of(numbers: Any) -> list[datetime]:
    second = timedelta(seconds=1)
    found = (time + second / 2 for time in dates.num2date(numbers, tz=UTC))
    return [time.replace(microsecond=0) for time in found]


def boxes_of(axes: Any, colour: str) -> list[tuple[float, float, float, float]]:
    """Return left, right, bottom and top of the boxes of a colour."""
    found = []
    for each in axes.collections:
        if not isinstance(each, PolyCollection) or each.get_transform() != axes.transData:
            continue
        if colors.to_hex(each.get_facecolor()[0]) == colour:
            boxes = (path.get_extents() for path in each.get_paths())
            found += ((box.x0, box.x1, box.y0, box.y1) for box in boxes)
    return sorted(found)


def wicks_of(axes: Any) -> list[tuple[float, float]]:
    """Return low and high of the wicks, by time."""
    segments = [
        segment
        for each in axes.collections
        if isinstance(each, LineCollection)
        for segment in each.get_segments()
    ]
    return [(low[1], high[1]) for low, high in sorted(segments, key=lambda one: one[0][0])]


def shades_of(axes: Any) -> list[tuple[str, datetime, datetime]]:
    """Return the shaded times with their kinds, in the order of time."""
    found = []
    for each in axes.collections:
        if isinstance(each, PolyCollection) and each.get_transform() != axes.transData:
            for path in each.get_paths():
                box = path.get_extents()
                assert (box.y0, box.y1) == (0, 1)
                found.append((str(each.get_label()), *times_of([box.x0, box.x1])))
    return sorted(found, key=lambda shade: shade[1])


def legend_of(figure: Any) -> list[str]:
    [legend] = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def names_of(axes: Any) -> list[str]:
    """Return the names above the axes, from left to right."""
    return [text.get_text() for text in sorted(axes.texts, key=lambda text: text.get_position())]


def test_bodies_wicks_and_volumes_are_those_of_the_candles() -> None:
    frame = frame_of(
        ("2025-07-01 00:00", 10, 15, 9, 12, 3),
        ("2025-07-01 01:00", 12, 13, 7, 8, 5),
        ("2025-07-01 02:00", 8, 9, 8, 8, 0),
    )
    figure = bak.candles(frame, "BTCUSDT", "1h")
    price, volume = figure.axes
    rises, falls = boxes_of(price, theme.BLUE), boxes_of(price, theme.ORANGE)
    assert [box[2:] for box in rises] == [(10, 12), (8, 8)]
    assert [box[2:] for box in falls] == [(8, 12)]
    assert wicks_of(price) == [(9, 15), (7, 13), (8, 9)]
    assert [box[2:] for box in boxes_of(volume, theme.BLUE)] == [(0, 3), (0, 0)]
    assert [box[2:] for box in boxes_of(volume, theme.ORANGE)] == [(0, 5)]
    # Each is drawn in its own hour, which begins at its open time.
    starts = times_of(np.sort([box[:2] for box in (*rises, *falls)], axis=0).mean(axis=1))
    assert starts == [at(f"2025-07-01 0{hour}:30") for hour in range(3)]
    assert all(one[1] < two[0] for one, two in pairwise(sorted(rises + falls)))
    assert times_of(price.get_xlim()) == [at("2025-07-01 00:00"), at("2025-07-01 03:00")]
    low, high = price.get_ylim()
    assert low <= 7
    assert high >= 15
    assert legend_of(figure) == [RISE, FALL]
    assert price.get_title(loc="left") == (
        "BTCUSDT 1h, 2025-07-01 00:00 to 2025-07-01 03:00 UTC\n3 candles"
    )


def test_only_what_is_drawn_is_in_the_legend() -> None:
    one = frame_of(("2025-07-01", 10, 15, 9, 12, 3))
    figure = bak.candles(one, interval="1d", volume=False)
    assert len(figure.axes) == 1
    assert legend_of(figure) == [RISE]
    assert figure.axes[0].get_title(loc="left") == "1d, 2025-07-01 UTC\n1 candle"
    assert legend_of(bak.candles(one.with_columns(close=9.5), interval="1d")) == [FALL]


def test_many_candles_are_drawn_as_bars_that_keep_highs_and_lows() -> None:
    frame = walk(100_000, timedelta(minutes=1))
    spike = 54_321
    frame = frame.with_columns(
        high=pl.when(pl.int_range(pl.len()) == spike).then(500.0).otherwise("high"),
        low=pl.when(pl.int_range(pl.len()) == spike + 999).then(1.0).otherwise("low"),
    )
    figure = bak.candles(frame, "BTCUSDT")
    wicks = wicks_of(figure.axes[0])
    bars = frame.group_by_dynamic("open_time", every="6h").agg(
        pl.col("low").min(), pl.col("high").max(), pl.col("volume").sum(), pl.col("open").first(),
        pl.col("close").last(),
    )  # fmt: skip
    assert wicks == bars.select("low", "high").rows()
    assert (max(high for _, high in wicks), min(low for low, _ in wicks)) == (500, 1)
    assert "100,000 candles, drawn as 278 bars of 6h with their highs and lows" in (
        figure.axes[0].get_title(loc="left")
    )
    boxes = [*boxes_of(figure.axes[1], theme.BLUE), *boxes_of(figure.axes[1], theme.ORANGE)]
    assert [box[3] for box in sorted(boxes)] == pytest.approx(bars["volume"].to_list())
    narrow = bak.candles(frame, "BTCUSDT", size=(4, 3))
    assert "139 bars of 12h" in " ".join(narrow.axes[0].get_title(loc="left").split())


@pytest.mark.parametrize(
    ("every", "count"), [("1h", 240), ("4h", 60), ("1d", 10), ("1w", 2), ("1mo", 1)]
)
def test_the_length_of_bars_can_be_chosen(every: str, count: int) -> None:
    figure = bak.candles(walk(240), every=every)
    axes = figure.axes[0]
    assert len(wicks_of(axes)) == count
    boxes = [*boxes_of(axes, theme.BLUE), *boxes_of(axes, theme.ORANGE)]
    left, right = axes.get_xlim()
    assert all(left <= box[0] and box[1] <= right for box in boxes)


@pytest.mark.parametrize(
    ("days", "length"), [(360, ""), (700, "2d"), (1_111, "1w"), (4_000, "2w"), (9_000, "1mo")]
)
def test_days_are_drawn_as_common_lengths(days: int, length: str) -> None:
    figure = bak.candles(walk(days, timedelta(days=1)), size=(10, 5))
    title = figure.axes[0].get_title(loc="left")
    assert f" bars of {length} with" in title if length else "bars" not in title


def test_long_candles_begin_where_they_begin() -> None:
    steps = timedelta(days=3)
    frame = walk(600, steps).with_columns(pl.col("open_time") + timedelta(days=1))
    figure = bak.candles(frame, "X", "3d")
    assert "300 bars of 6d" in figure.axes[0].get_title(loc="left")
    first = figure.axes[0].get_xlim()[0]
    boxes = [*boxes_of(figure.axes[0], theme.BLUE), *boxes_of(figure.axes[0], theme.ORANGE)]
    assert all((box[0] - first) % 3 < 1 for box in boxes)
    months = frame_of(
        ("2025-01-01", 1, 2, 1, 2, 1), ("2025-02-01", 2, 3, 2, 3, 1), ("2025-04-01", 2, 3, 2, 3, 1)
    )
    figure = bak.candles(months)
    assert shades_of(figure.axes[0]) == [("no candle", at("2025-03-01"), at("2025-04-01"))]
    assert times_of(figure.axes[0].get_xlim()) == [at("2025-01-01"), at("2025-05-01")]


# -- gaps -------------------------------------------------------------------------------


def without(*hours: int) -> Any:
    return lambda lines: [line for hour, line in enumerate(lines) if hour not in hours]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a store with a halt, a hole, a short file, an invalid file and a missing day."""
    for symbol, holes in (("BTCUSDT", (12, 13)), ("ETHUSDT", ())):
        day(tmp_path, symbol, "2025-06-01", "1h")
        day(tmp_path, symbol, "2025-06-02", "1h", edit=without(2, 3, *holes))
        day(tmp_path, symbol, "2025-06-03", "1h")
        day(tmp_path, symbol, "2025-06-05", "1h")
        day(tmp_path, symbol, "2025-06-06", "1h")
    day(tmp_path, "BTCUSDT", "2025-06-06", "1h", edit=without(22, 23))
    return tmp_path


GAPS = [
    ("halt", at("2025-06-02 02:00"), at("2025-06-02 04:00")),
    ("hole", at("2025-06-02 12:00"), at("2025-06-02 14:00")),
    ("not collected", at("2025-06-04"), at("2025-06-05")),
    ("short file", at("2025-06-06 22:00"), at("2025-06-07")),
]


def test_gaps_are_shaded_and_named_by_their_kind(root: Path) -> None:
    figure = bak.candles(root, "BTCUSDT", "1h")
    price, volume = figure.axes
    assert shades_of(price) == GAPS
    assert shades_of(volume) == GAPS
    assert names_of(price) == [kind for kind, *_ in GAPS]
    assert legend_of(figure) == [RISE, "halt", "short file", "hole", "not collected"]
    for each in price.collections:
        if each.get_label() in ("halt", "hole"):
            kind = str(each.get_label())
            assert colors.to_hex(each.get_facecolor()[0]) == KIND_COLOURS[kind]  # type: ignore[index]
    assert price.get_title(loc="left") == (
        "spot klines BTCUSDT 1h, 2025-06-01 to 2025-06-06 UTC\n114 candles"
    )
    assert price.get_ylabel() == "price\nUSDT"
    assert volume.get_ylabel() == "volume\nBTC"


def test_gaps_end_at_the_limits(root: Path) -> None:
    figure = bak.candles(root, "BTCUSDT", "1h", start="2025-06-02T03:00", end="2025-06-04T12:00")
    assert shades_of(figure.axes[0]) == [
        ("halt", at("2025-06-02 03:00"), at("2025-06-02 04:00")),
        GAPS[1],
        ("not collected", at("2025-06-04"), at("2025-06-04 12:00")),
    ]
    assert times_of(figure.axes[0].get_xlim()) == [at("2025-06-02 03:00"), at("2025-06-04 12:00")]
    later = bak.candles(root, "BTCUSDT", "1h", start="2025-06-06", end="2025-06-07")
    assert shades_of(later.axes[0]) == [
        GAPS[3],
        ("not collected", at("2025-06-07"), at("2025-06-08")),
    ]


def test_an_invalid_file_is_an_error_or_shaded(root: Path) -> None:
    [path] = root.rglob("BTCUSDT-1h-2025-06-03.zip")
    spoil(path)
    with pytest.raises(FileError, match="2025-06-03"):
        bak.candles(root, "BTCUSDT", "1h")
    with pytest.warns(bak.ArchiveKitWarning, match="left out: .*2025-06-03"):
        figure = bak.candles(root, "BTCUSDT", "1h", on_error="skip")
    assert ("corrupt", at("2025-06-03"), at("2025-06-04")) in shades_of(figure.axes[0])
    assert "corrupt" in legend_of(figure)


def test_candles_that_are_left_out_are_shaded(root: Path) -> None:
    def twice(lines: list[str]) -> list[str]:
        time, *rest = lines[5].split(",")
        return [*lines[:6], ",".join([time, "1", *rest[1:]]), *lines[6:]]

    day(root, "BTCUSDT", "2025-06-05", "1h", edit=twice)
    with pytest.warns(bak.ArchiveKitWarning, match="left out: .*conflicting_rows"):
        figure = bak.candles(root, "BTCUSDT", "1h", start="2025-06-05", on_error="skip")
    five = at("2025-06-05 05:00")
    assert shades_of(figure.axes[0])[0] == ("no candle", five, five + HOUR)


def test_gaps_of_a_frame_have_no_kind() -> None:
    frame = walk(48)
    holes = frame.filter(~pl.int_range(pl.len()).is_in([5, 6, 30]))
    nulls = frame.with_columns(
        pl.when(~pl.int_range(pl.len()).is_in([5, 6, 30])).then(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close")
    )
    expected = [
        ("no candle", at("2025-01-01 05:00"), at("2025-01-01 07:00")),
        ("no candle", at("2025-01-02 06:00"), at("2025-01-02 07:00")),
    ]
    for given in (holes, nulls, holes.reverse()):
        figure = bak.candles(given, "BTCUSDT")
        assert shades_of(figure.axes[0]) == expected
        assert legend_of(figure)[-1] == "no candle"
    limited = bak.candles(frame, "BTCUSDT", start="2024-12-31", end="2025-01-01")
    assert shades_of(limited.axes[0]) == [("no candle", at("2024-12-31"), at("2025-01-01"))]


def test_names_of_gaps_and_the_title_do_not_overlap(root: Path) -> None:
    for size in ((10, 5), (4, 3), (20, 4)):
        figure = bak.candles(root, "BTCUSDT", "1h", size=size)
        figure.draw_without_rendering()
        price, volume = figure.axes
        [legend] = figure.legends
        title = price._left_title.get_window_extent()  # type: ignore[attr-defined]
        names = [text.get_window_extent() for text in price.texts]
        for box in (title, legend.get_window_extent(), *names):
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0
            assert box.y1 <= figure.bbox.y1
        assert all(box.y1 <= title.y0 for box in names)
        assert all(box.y0 >= price.get_window_extent().y1 for box in names)
        names.sort(key=lambda box: box.x0)
        assert all(one.x1 <= two.x0 for one, two in pairwise(names))
        assert legend.get_window_extent().y1 <= volume.get_window_extent().y0


def test_symbols_with_any_characters(tmp_path: Path) -> None:
    for name in ("币安人生USDT", "$\\bad{USDT"):
        figure = bak.candles(walk(30), name, "1h")
        assert figure.png().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    day(tmp_path, "币安人生USDT", "2025-07-01", "1h")
    figure = bak.candles(tmp_path, "币安人生USDT", "1h")
    assert figure.png().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert "币安人生USDT 1h" in figure.description  # type: ignore[attr-defined]


# -- sources and errors -----------------------------------------------------------------


def test_the_same_candles_from_store_frame_and_open_store(root: Path) -> None:
    loaded = bak.load_klines(root, "BTCUSDT", "1h")
    several = bak.load_klines(root, ["BTCUSDT", "ETHUSDT"], "1h")
    wicks = loaded.select("low", "high").rows()
    for figure in (
        bak.candles(root, "BTCUSDT", "1h"),
        bak.candles(bak.store(root), "BTCUSDT", "1h"),
        bak.candles(loaded),
        bak.candles(several, "BTCUSDT"),
        bak.candles(loaded.with_columns(pl.col("open_time").dt.convert_time_zone("Asia/Tokyo"))),
        bak.candles(loaded.with_columns(pl.col("open_time").dt.replace_time_zone(None))),
    ):
        assert wicks_of(figure.axes[0]) == wicks
        assert times_of(figure.axes[0].get_xlim())[0] == at("2025-06-01")


def test_mark_prices_have_no_volume(tmp_path: Path) -> None:
    key = day(tmp_path, "BTCUSDT", "2025-07-01", "1h", "futures/um")
    folder = tmp_path / "data/futures/um/daily"
    (folder / "klines").rename(folder / "markPriceKlines")
    assert str(key).startswith("data/futures/um/daily/klines")
    figure = bak.candles(
        tmp_path, "BTCUSDT", "1h", market="futures_um", data_type="markPriceKlines"
    )
    assert len(figure.axes) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"symbol": None}, "symbol: give one symbol, such as 'BTCUSDT'"),
        ({"symbol": ["BTCUSDT"]}, "symbol: give one symbol"),
        ({"interval": None}, "interval: give one interval, such as '1h'"),
        ({"symbol": "BTCUSD"}, "did you mean 'BTCUSDT'"),
        ({"interval": "1m"}, "'1m' is not in the store"),
        ({"data_type": "aggTrades"}, "data_type"),
        ({"every": "90m"}, "every: '90m' is no whole multiple of 1h"),
        ({"every": "x"}, "every: 'x' is not a length of time"),
        ({"volume": 1}, "volume: 1 is neither True nor False"),
        ({"size": "x"}, "size: 'x' is not a width and a height"),
        ({"start": "2030-01-01"}, "no candle between 2030-01-01 and its end"),
        ({"start": "2025-06-04", "end": "2025-06-04"}, "no candle between 2025-06-04"),
        ({"start": "2025-06-05", "end": "2025-06-04"}, "start: 2025-06-05 is not before end"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_invalid_arguments(root: Path, given: dict[str, Any], message: str) -> None:
    arguments = {"symbol": "BTCUSDT", "interval": "1h"} | given
    with pytest.raises(ConfigurationError) as caught:
        bak.candles(root, **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "given", "message"),
    [
        (walk(9).lazy(), {}, "source: it is a lazy frame; give its collect()"),
        (walk(9).with_columns(open_time="open"), {}, "open_time of the frame is not a time"),
        (walk(9).drop("low"), {}, "the frame has no low"),
        (walk(9).clear(), {}, "the frame has no candle of these times"),
        (walk(9), {"start": "2026-01-01"}, "the frame has no candle of these times"),
        (walk(1), {}, "interval: one candle does not show it"),
        (pl.concat([walk(9), walk(9)]), {}, "several candles of one time"),
        (walk(9).with_columns(symbol=pl.lit("X")), {"symbol": "Y"}, "symbol: 'Y' is not valid"),
        (walk(9), {"on_error": "skip"}, "on_error: a frame takes no options"),
        (walk(9), {"interval": "1x"}, "interval: '1x' is not a length of time"),
        (
            walk(99_000, timedelta(seconds=1)),
            {"every": "1s"},
            "every: 99,000 bars would be narrower",
        ),
    ],
)
def test_invalid_frames(frame: pl.DataFrame, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bak.candles(frame, **given)
    assert message in str(caught.value)
