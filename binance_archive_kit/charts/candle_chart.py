"""`bak.candles`: candlesticks with volume, and every gap shaded in the colour of its kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from binance_archive_kit.charts.candle_rows import NO_CANDLE, CandleRows, from_frame, from_store
from binance_archive_kit.charts.time_axis import (
    Numbers,
    describe_range,
    format_amount,
    show_prices,
    show_times,
    to_number,
    to_numbers,
)
from binance_archive_kit.display import render
from binance_archive_kit.display.inline_figure import InlineFigure
from binance_archive_kit.display.theme import (
    BLUE,
    INK,
    LETTER,
    ORANGE,
    TEXT_SIZE,
    add_legend_below,
    check_size,
    dress,
    legible,
    set_label,
    set_title,
)
from binance_archive_kit.errors import arguments, check_flag, field_error
from binance_archive_kit.quality.heatmap import KIND_COLOURS
from binance_archive_kit.quality.timeline import GapKind
from binance_archive_kit.query.bars import Length
from binance_archive_kit.query.open_store import Source
from binance_archive_kit.query.polars_scan import Moment

#: Bars that are legible in an inch, and those up to which each is at least a pixel wide.
_BARS, _MOST_BARS = 36, 100
#: Share of a bar's time that its body is wide.
_BODY = 0.7
#: Gaps of a kind that are named.
_NAMED = 3
#: Points between axes and title if there are labels of gaps between them.
_PAD = 16
#: Labels of bodies, with their colours.
_RISE, _FALL = "close ≥ open", "close < open"
_COLOURS = {_RISE: BLUE, _FALL: ORANGE}


@arguments(symbols="symbol", intervals="interval", store="source")
def candles(
    source: Source | pl.DataFrame,
    symbol: str | None = None,
    interval: str | None = None,
    *,
    market: str = "spot",
    data_type: str = "klines",
    start: Moment | None = None,
    end: Moment | None = None,
    every: str | None = None,
    volume: bool = True,
    size: tuple[float, float] = (9.0, 4.5),
    **options: Any,
) -> Figure:
    """Draw candlesticks with their volume, and shade the times without candles.

    Each candle is drawn over its own time, from ``open_time`` on. The kind of each gap (halt,
    missing in archive, not published, …) is that of `coverage`, and in the legend.

    Parameters
    ----------
    source : str, Path, OpenStore or polars.DataFrame
        A store, or candles of one symbol as `load_klines` and `ohlcv` return them: a frame
        with ``open_time``, ``open``, ``high``, ``low``, ``close``, and perhaps ``volume``.
        Times without a time zone are UTC. Of a frame, the kinds of its gaps are not known.
    symbol, interval : str
        Of a frame they may be left out.
    market, data_type : str
        As for `load_klines`. Of other families than ``klines`` no volume is drawn.
    start, end : str, date or datetime, optional
        Limits of ``open_time``, UTC; as for `scan`. By default from the first to the last file.
    every : str, optional
        Length of a drawn bar, as for `ohlcv`, such as "4h". By default candles are drawn as
        they are, or as bars that are long enough to be legible; then the title states the length.
        Bars keep the highest and the lowest price.
    volume : bool
        Draw the volume below.
    size : (float, float)
        Width and height in inches.
    **options
        As for `store`. With ``on_error="skip"`` the times of invalid files are shaded too.

    Returns
    -------
    matplotlib.figure.Figure
        A notebook displays it if it is the value of a cell. ``figure.savefig("chart.png")``
        saves it; the background is transparent.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, or there is no candle between `start` and `end`.
    FileError
        As for `load_klines`.

    Examples
    --------
    >>> import binance_archive_kit as bak
    >>> figure = bak.candles("data/research", "BTCUSDT", "1h", start="2025-07-01")  # doctest: +SKIP
    >>> figure.savefig("btc.png")  # doctest: +SKIP
    """
    check_flag("volume", volume)
    check_size(size)
    if isinstance(source, pl.LazyFrame):
        raise field_error("source", "it is a lazy frame; give its collect()")
    if isinstance(source, pl.DataFrame):
        if options:
            raise field_error(next(iter(options)), "a frame takes no options of a store")
        rows = from_frame(source, symbol, interval, (start, end))
    else:
        for name, value in (("symbol", symbol), ("interval", interval)):
            if not isinstance(value, str):
                raise field_error(name, f"give one {name}, such as {_SUCH_AS[name]!r}")
        rows = from_store(source, symbol, interval, market, data_type, (start, end), options)  # type: ignore[arg-type]
    bars, length = rows.bars(int(size[0] * _BARS), every)
    if bars.height > size[0] * _MOST_BARS:
        raise field_error(
            "every", f"{bars.height:,} bars would be narrower than a pixel; leave it out, or "
            "give a longer one"
        )  # fmt: skip
    return _draw(rows, bars, length, volume and "volume" in bars.columns, size)


_SUCH_AS = {"symbol": "BTCUSDT", "interval": "1h"}


def _draw(
    rows: CandleRows, bars: pl.DataFrame, length: Length, volume: bool, size: tuple[float, float]
) -> Figure:
    """Draw the bars, the gaps, the legend and the title."""
    title = _title(rows, bars, length)
    figure = InlineFigure(size, _description(rows, ": ".join(title)))
    heights = [3, 1] if volume else [1]
    panels = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)
    upper, lower = panels[0, 0], panels[-1, 0]
    ends = bars["open_time"].dt.offset_by(length.every)
    times = np.stack([to_numbers(bars["open_time"]), to_numbers(ends)])
    rises = (bars["close"] >= bars["open"]).to_numpy()
    for label, which in ((_RISE, rises), (_FALL, ~rises)):
        _draw_candles(upper, times[:, which], bars.filter(which), _COLOURS[label])
        if volume:
            amounts = bars["volume"].to_numpy()[which]
            look = {"linewidth": 0, "alpha": 0.6}
            _draw_boxes(lower, times[:, which], 0 * amounts, amounts, _COLOURS[label], look)
    set_label(upper.yaxis, "price", rows.price_unit)
    show_prices(upper)
    if volume:
        set_label(lower.yaxis, "volume", rows.volume_unit)
        lower.yaxis.set_major_locator(MaxNLocator(3))
        lower.yaxis.set_major_formatter(FuncFormatter(format_amount))
        lower.set_ylim(0, max(1.05 * float(bars["volume"].max() or 0), 1e-9))  # type: ignore[arg-type]
    kinds = [kind for kind in (*KIND_COLOURS, NO_CANDLE) if (rows.gaps["kind"] == kind).any()]
    for axes in {upper, lower}:
        _shade(axes, rows.gaps, kinds)
        dress(axes, grid=True)
    # The first and the last bar may reach beyond the limits.
    show_times(
        lower, min(to_number(rows.start), times[0, 0]), max(to_number(rows.end), times[1, -1])
    )
    _label_gaps(upper, rows.gaps, size[0])
    set_title(upper, *title, pad=_PAD if kinds else 6)
    drawn = [name for name, which in ((_RISE, rises), (_FALL, ~rises)) if which.any()]
    handles = [Patch(color=_COLOURS[name], label=name) for name in drawn]
    handles += [_patch(kind) for kind in kinds]
    add_legend_below(figure, handles)
    return figure


def _draw_candles(axes: Axes, times: Numbers, bars: pl.DataFrame, colour: str) -> None:
    """Draw wicks and bodies; `times` has a row of starts and a row of ends."""
    low, high, opens, closes = bars.select("low", "high", "open", "close").to_numpy().T
    middles = times.mean(axis=0)
    wicks = np.stack([np.stack([middles, low], -1), np.stack([middles, high], -1)], 1)
    axes.add_collection(LineCollection([*wicks], colors=colour, linewidths=0.8))
    bottom, top = np.minimum(opens, closes), np.maximum(opens, closes)
    # The edge makes a body without height visible.
    _draw_boxes(axes, times, bottom, top, colour, {"linewidth": 0.6})


def _draw_boxes(
    axes: Axes, times: Numbers, bottom: Numbers, top: Numbers, colour: str, look: dict[str, Any]
) -> None:
    """Draw a box for each bar."""
    middles, half = times.mean(axis=0), (times[1] - times[0]) * _BODY / 2
    left, right = middles - half, middles + half
    corners = [(left, bottom), (left, top), (right, top), (right, bottom)]
    boxes = np.stack([np.stack(corner, -1) for corner in corners], 1)
    axes.add_collection(PolyCollection([*boxes], facecolor=colour, edgecolor=colour, **look))
    axes.autoscale_view()


def _shade(axes: Axes, gaps: pl.DataFrame, kinds: Iterable[str]) -> None:
    """Shade gaps over the whole height; the edges make those narrower than a pixel visible."""
    for kind in kinds:
        of_kind = gaps.filter(pl.col("kind") == kind)
        starts, ends = to_numbers(of_kind["start"]), to_numbers(of_kind["end"])
        axes.broken_barh(
            list(zip(starts, ends - starts, strict=True)),
            (0, 1),
            transform=axes.get_xaxis_transform(),
            label=render.plain(kind),
            zorder=0.5,
            **_style(kind),
        )


def _style(kind: str) -> dict[str, Any]:
    """Return the look of a kind: faint where no row was due, hatched without a known reason."""
    colour = KIND_COLOURS.get(kind, INK)
    hatch = "////" if kind == NO_CANDLE else ""
    alpha = 0.3 if kind == NO_CANDLE or GapKind(kind).is_missing else 0.15
    return {
        "facecolor": (colour, alpha),
        "edgecolor": (colour, 0.6),
        "linewidth": 0.6,
        "hatch": hatch,
    }


def _patch(kind: str) -> Patch:
    return Patch(label=render.plain(kind), **_style(kind))


def _label_gaps(axes: Axes, gaps: pl.DataFrame, width: float) -> None:
    """Name the longest gaps of each kind above the axes, as far as there is room."""
    left, right = axes.get_xlim()
    families, names = legible(map(render.plain, gaps["kind"]))
    starts, ends = to_numbers(gaps["start"]), to_numbers(gaps["end"])
    taken: list[tuple[float, float]] = []
    named: Counter[str] = Counter()
    for index in np.argsort(starts - ends, kind="stable").tolist():
        half = len(names[index]) * LETTER / width / 2
        middle = ((starts[index] + ends[index]) / 2 - left) / (right - left)
        middle = min(max(middle, half), 1 - half)
        overlaps = any(middle - half < two and middle + half > one for one, two in taken)
        if overlaps or named[names[index]] == _NAMED:
            continue
        taken.append((middle - half, middle + half))
        named[names[index]] += 1
        axes.text(
            middle, 1.01, names[index], transform=axes.transAxes, color=INK, fontsize=TEXT_SIZE - 1,
            ha="center", va="bottom", fontfamily=families,
        )  # fmt: skip


def _title(rows: CandleRows, bars: pl.DataFrame, length: Length) -> tuple[str, str]:
    """Return stream and range, and the number of candles and of bars."""
    count = render.counted(rows.frame.height, "candle")
    if length.text != rows.length.text:
        drawn = render.counted(bars.height, "bar")
        count += f", drawn as {drawn} of {length.text} with their highs and lows"
    return f"{rows.name}, {describe_range(rows.start, rows.end)}", count


def _description(rows: CandleRows, title: str) -> str:
    """Return the chart in words."""
    low, high = rows.frame.select(pl.min("low"), pl.max("high")).row(0)
    counts = rows.gaps.group_by("kind").len().sort("kind").rows()
    gaps = ", ".join(f"{count:,} × {render.plain(kind)}" for kind, count in counts)
    return f"Candlesticks of {title}; lowest {low:g}, highest {high:g}; gaps: {gaps or 'none'}"
