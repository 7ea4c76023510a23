"""The synthetic archive is what it says: true to the formats, in itself, and to `PLANTED`."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import chain, pairwise

import polars as pl
import pytest

from binance_archive_kit.archive.enums import DataType, Interval, Market, Partition
from binance_archive_kit.archive.keys import CHECKSUM_SUFFIX, Folder, ObjectKey, Stream, periods
from binance_archive_kit.archive.schemas import schema
from binance_archive_kit.demo import synthetic
from binance_archive_kit.demo.flaws import PLANTED, Planted
from binance_archive_kit.demo.prices import FIRST_DAY, FIRST_LATE_DAY

#: SHA-256 over every key and csv text. Zip bytes also depend on the zlib at hand.
TEXTS_DIGEST = "a6282f7be201b38b5de8ca9f7e91fac526e79961773becafb8f456ff409e2a5d"

DTYPES = {
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "bool": pl.String(),
    "text": pl.String(),
}

OBJECTS = synthetic.build()
KEYS = [ObjectKey.parse(key) for key in OBJECTS if key.endswith(".zip")]


def csv_of(key: ObjectKey | str) -> str:
    parsed = ObjectKey.parse(str(key))
    with zipfile.ZipFile(io.BytesIO(OBJECTS[str(key)])) as archive:
        return archive.read(parsed.member).decode("utf-8")


def has_header(text: str) -> bool:
    return not re.match(r"[-\d]", text)


def read(key: ObjectKey | str) -> pl.DataFrame:
    """Read a file as its schema says; times become naive UTC datetimes."""
    parsed = ObjectKey.parse(str(key))
    rules = schema(parsed.folder.market, parsed.folder.data_type)
    epoch = rules.time.unit_on(parsed.start)
    time = pl.Int64() if epoch else pl.String()
    text = csv_of(key)
    frame = pl.read_csv(
        io.StringIO(text),
        has_header=False,
        skip_rows=int(has_header(text)),
        raise_if_empty=False,
        schema={c.column: DTYPES.get(c.dtype, time) for c in rules.columns},
    )
    for name in (rules.time.column, *rules.time.others):
        if epoch:
            frame = frame.with_columns(pl.from_epoch(name, epoch).cast(pl.Datetime("us")))
        elif rules.time.kind == "text":
            frame = frame.with_columns(pl.col(name).str.to_datetime(rules.time.format))
    return frame


def read_all(
    market: Market,
    partition: Partition,
    data_type: DataType,
    symbol: str,
    interval: Interval | None = None,
    since: date = FIRST_DAY,
) -> pl.DataFrame:
    """Read all files of a stream that begin on or after `since`."""
    stream = Folder(Stream(market, data_type, symbol, interval), partition)
    return pl.concat(read(key) for key in KEYS if key.folder == stream and key.start >= since)


def naive(when: datetime) -> datetime:
    assert when.tzinfo is UTC
    return when.replace(tzinfo=None)


def planted(kind: str) -> list[Planted]:
    return [flaw for flaw in PLANTED if flaw.kind == kind]


def check_planted(kind: str) -> Callable[[Callable[[Planted], None]], Callable[[Planted], None]]:
    """Run a test for each planted irregularity of a kind."""
    flaws = planted(kind)
    return pytest.mark.parametrize("flaw", flaws, ids=[ObjectKey.parse(f.key).name for f in flaws])


# -- bytes ------------------------------------------------------------------------------


def test_every_build_gives_the_same_bytes() -> None:
    assert synthetic.build() == OBJECTS


def test_every_machine_gives_the_same_texts() -> None:
    digest = hashlib.sha256()
    for key in KEYS:
        digest.update(f"{key}\n{csv_of(key)}".encode())
    assert digest.hexdigest() == TEXTS_DIGEST


def test_it_is_small() -> None:
    assert sum(map(len, OBJECTS.values())) < 8.5e6


def test_keys_are_in_the_order_of_a_listing_and_round_trip() -> None:
    assert list(OBJECTS) == sorted(OBJECTS)
    assert [str(key) for key in KEYS] == [key for key in OBJECTS if key.endswith(".zip")]
    assert set(OBJECTS) == {str(key) for key in KEYS} | {key.checksum for key in KEYS}


def test_zips_hold_one_deflated_member_of_the_right_name() -> None:
    for key in KEYS:
        with zipfile.ZipFile(io.BytesIO(OBJECTS[str(key)])) as archive:
            (member,) = archive.infolist()
        assert member.filename == key.member
        assert member.compress_type == zipfile.ZIP_DEFLATED
        assert member.date_time == (2025, 8, 1, 0, 0, 0)
        assert (member.create_system, member.extra, archive.comment) == (3, b"", b"")


def test_checksums_are_right_and_spelled_as_in_each_market() -> None:
    for key in KEYS:
        digest = hashlib.sha256(OBJECTS[str(key)]).hexdigest()
        end = "" if key.folder.market is Market.SPOT else "\n"
        assert OBJECTS[key.checksum].decode() == f"{digest}  {key.name}{end}"


# -- formats ----------------------------------------------------------------------------


def test_texts_are_plain_lines() -> None:
    for key in KEYS:
        text = csv_of(key)
        assert text.endswith("\n")
        assert "\r" not in text
        assert not text.startswith("\ufeff")
        assert "\n\n" not in text


def test_headers_stand_where_the_archive_has_them() -> None:
    for key in KEYS:
        rules = schema(key.folder.market, key.folder.data_type)
        first = csv_of(key).split("\n", 1)[0]
        if rules.header == "never" or key.start == date(2022, 5, 5):
            assert re.match(r"\d", first), key
        else:
            assert first == rules.header_line, key


def test_rows_have_every_column_and_lie_in_their_file() -> None:
    for key in KEYS:
        rules = schema(key.folder.market, key.folder.data_type)
        frame = read(key)
        if rules.time.made_from:
            days = frame[rules.time.made_from[0]].str.to_date()
        else:
            # USD-M metrics are labelled by the end of their period.
            late = timedelta(minutes=5) if is_um_metrics(key) else timedelta()
            days = (frame[rules.time.column] - late).dt.date()
        assert days.is_between(key.start, key.end).all(), key
        if rules.sorted:
            assert frame[rules.time.column].is_sorted(), key
        if rules.key and not any(f.key == str(key) and f.kind == "doubled_rows" for f in PLANTED):
            assert not frame.select(rules.key).is_duplicated().any(), key


def is_um_metrics(key: ObjectKey) -> bool:
    return key.folder.market is Market.FUTURES_UM and key.folder.data_type is DataType.METRICS


def test_spot_goes_from_ms_to_us_with_2025() -> None:
    stream = Folder(Stream(Market.SPOT, DataType.KLINES, "BTCUSDT", Interval.H1), Partition.DAILY)
    old, new = (csv_of(stream.key(day)).splitlines() for day in ("2024-12-31", "2025-01-01"))
    assert old[0].split(",")[0] == "1735603200000"
    assert old[-1].split(",")[6] == "1735689599999"
    assert new[0].split(",")[0] == "1735689600000000"
    assert new[-1].split(",")[6] == "1735775999999999"


def test_futures_stay_in_ms() -> None:
    for key in KEYS:
        if key.folder.market is Market.FUTURES_UM and key.folder.data_type is DataType.KLINES:
            assert len(csv_of(key).splitlines()[-1].split(",")[0]) == 13


def test_booleans_are_spelled_as_in_each_market() -> None:
    for key in KEYS:
        if key.folder.data_type in (DataType.TRADES, DataType.AGG_TRADES):
            words = set(re.findall(r"[A-Za-z]{4,5}(?=,|\n)", csv_of(key).split("\n", 1)[1]))
            spot = key.folder.market is Market.SPOT
            assert words == ({"True", "False"} if spot else {"true", "false"})


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        (
            "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-07-15.zip",
            r"\d{16},(\d+\.\d{8},){5}\d{16},\d+\.\d{8},\d+,\d+\.\d{8},\d+\.\d{8},0",
        ),
        (
            "data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2025-07-15.zip",
            r"\d{13},(\d+\.\d\d,){4}\d+\.\d{3},\d{13},\d+\.\d{5},\d+,\d+\.\d{3},\d+\.\d{5},0",
        ),
        (
            "data/futures/cm/daily/klines/BTCUSD_PERP/1h/BTCUSD_PERP-1h-2025-07-15.zip",
            r"\d{13},(\d+\.\d,){4}\d+,\d{13},\d+\.\d{8},\d+,\d+,\d+\.\d{8},0",
        ),
        (
            "data/futures/cm/daily/trades/BTCUSD_PERP/BTCUSD_PERP-trades-2025-07-15.zip",
            r"\d+,\d+\.\d,\d+\.0,\d+\.\d{8},\d{13},(true|false)",
        ),
        (
            "data/spot/daily/aggTrades/BTCUSDT/BTCUSDT-aggTrades-2025-07-15.zip",
            r"\d+,\d+\.\d{8},\d+\.\d{8},\d+,\d+,\d{16},(True|False),True",
        ),
        (
            "data/futures/um/daily/bookDepth/BTCUSDT/BTCUSDT-bookDepth-2025-07-15.zip",
            r"2025-07-15 \d\d:\d\d:[03]4,-?[1-5],\d+\.\d{8},\d+\.\d{8}",
        ),
        (
            "data/futures/cm/daily/metrics/BTCUSD_PERP/BTCUSD_PERP-metrics-2025-07-15.zip",
            r"2025-07-15 \d\d:\d[05]:00,BTCUSD_PERP,\d+\.\d{8},\d+\.\d{8},,,,\d\.\d{8}",
        ),
        (
            "data/futures/um/daily/premiumIndexKlines/BTCUSDT/1h/BTCUSDT-1h-2025-07-15.zip",
            r"\d{13},(-?0\.\d{8},){4}0,\d{13},0,3600,0,0,0",
        ),
        (
            "data/option/daily/BVOLIndex/ETHBVOLUSDT/ETHBVOLUSDT-BVOLIndex-2025-07-15.zip",
            r"\d{13},ETHBVOLUSDT,ETHBVOL,USDT,\d\d\.\d{4}",
        ),
    ],
)
def test_numbers_are_spelled_as_the_feed_does(key: str, pattern: str) -> None:
    lines = [line for line in csv_of(key).splitlines() if re.match(r"\d", line)]
    assert lines
    assert [line for line in lines if not re.fullmatch(pattern, line)] == []


def test_option_summaries_spell_zero_and_nothing_their_own_way() -> None:
    text = csv_of("data/option/daily/EOHSummary/BTCUSDT/BTCUSDT-EOHSummary-2023-10-22.zip")
    assert ",0E-8," in text
    assert ',"",' in text


OF_A_DAY = ("open", "high", "low", "close", "volume_contracts", "volume_usdt")


def test_option_summaries_are_of_twenty_four_hours() -> None:
    days = [
        csv_of(f"data/option/daily/EOHSummary/BTCUSDT/BTCUSDT-EOHSummary-2023-10-{day}.zip")
        for day in (22, 23)
    ]
    rows = [row for text in days for row in csv.DictReader(text.splitlines())]
    options = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["date"], row["hour"])):
        options[row["symbol"]].append({name: float(row[name]) for name in OF_A_DAY})
    assert {len(hours) for hours in options.values()} == {48}
    # As in the real files, a trade shows for 24 hours.
    flags = ["".join(" x"[row["volume_contracts"] > 0] for row in own) for own in options.values()]
    whole_runs = [len(run) for text in flags for run in re.findall("(?<= )x+(?= )", text)]
    assert min(whole_runs) == 24
    for hour in chain(*options.values()):
        assert hour["low"] <= min(hour["open"], hour["close"])
        assert hour["high"] >= max(hour["open"], hour["close"])
        if hour["volume_contracts"]:
            mean = hour["volume_usdt"] / hour["volume_contracts"]
            assert hour["low"] - 0.01 <= mean <= hour["high"] + 0.01


# -- consistency ------------------------------------------------------------------------

TOTALS = ("volume", "quote_volume", "base_volume", "count", "taker_buy_volume")
WHOLE = 1e-9  # relative; sums of decimals that are exact in the file


def resampled(candles: pl.DataFrame, every: str) -> pl.DataFrame:
    totals = [name for name in TOTALS if name in candles.columns]
    return candles.group_by_dynamic("open_time", every=every).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col(totals).sum(),
    )


def assert_made_of(longer: pl.DataFrame, shorter: pl.DataFrame, every: str) -> None:
    made = resampled(shorter, every)
    assert longer.height == made.height > 0
    for name in made.columns:
        if made[name].dtype == pl.Float64:
            assert ((longer[name] - made[name]).abs() <= made[name].abs() * WHOLE).all(), name
        else:
            assert longer[name].to_list() == made[name].to_list(), name


CANDLES = [
    (Market.SPOT, "BTCUSDT", date(2025, 6, 15)),
    (Market.SPOT, "ETHUSDT", date(2025, 6, 29)),  # the day before is truncated
    (Market.SPOT, "币安人生USDT", date(2025, 7, 13)),
    (Market.FUTURES_UM, "BTCUSDT", date(2025, 7, 9)),
    (Market.FUTURES_UM, "ETHUSDT", date(2025, 7, 9)),
    (Market.FUTURES_CM, "BTCUSD_PERP", date(2025, 7, 13)),
    (Market.FUTURES_CM, "ETHUSD_PERP", date(2025, 7, 13)),
]


@pytest.mark.parametrize(("market", "symbol", "since"), CANDLES)
def test_long_candles_are_made_of_short_ones(market: Market, symbol: str, since: date) -> None:
    def klines(interval: Interval, since: date = since) -> pl.DataFrame:
        return read_all(market, Partition.DAILY, DataType.KLINES, symbol, interval, since)

    assert_made_of(klines(Interval.H1), klines(Interval.M1), "1h")
    assert_made_of(klines(Interval.D1), klines(Interval.M1), "1d")
    if (market, symbol) != (Market.FUTURES_UM, "ETHUSDT"):  # its 2025-07-04 is missing
        first = FIRST_DAY
        assert_made_of(klines(Interval.D1, first), klines(Interval.H1, first), "1d")


@pytest.mark.parametrize(("market", "symbol", "_since"), CANDLES)
def test_months_are_made_of_their_days(market: Market, symbol: str, _since: date) -> None:
    def monthly(interval: Interval) -> pl.DataFrame:
        return read_all(
            market, Partition.MONTHLY, DataType.KLINES, symbol, interval, date(2025, 5, 1)
        )

    assert_made_of(monthly(Interval.MO1), monthly(Interval.D1), "1mo")
    daily = read_all(market, Partition.DAILY, DataType.KLINES, symbol, Interval.D1)
    june = daily.filter(pl.col("open_time") < datetime(2025, 7, 1))
    assert monthly(Interval.D1).tail(16).equals(june)
    weeks = monthly(Interval.W1)["open_time"]
    assert set(weeks.dt.weekday()) == {1}
    assert weeks.to_list() == [datetime(2025, 5, 5) + timedelta(weeks=n) for n in range(9)]


def test_candles_hold_together() -> None:
    for key in KEYS:
        if not key.folder.data_type.has_intervals:
            continue
        frame = read(key)
        body = pl.max_horizontal("open", "close"), pl.min_horizontal("open", "close")
        assert (
            frame.select((pl.col("high") >= body[0]) & (pl.col("low") <= body[1])).to_series().all()
        )
        interval = key.folder.interval or ""
        ends = frame["open_time"].dt.offset_by(interval) - frame["close_time"]
        unit = schema(key.folder.market, key.folder.data_type).time.unit_on(key.start)
        assert set(ends) == {timedelta(microseconds=1 if unit == "us" else 1000)}
        if key.folder.data_type is DataType.KLINES:
            assert (frame["taker_buy_volume"] <= frame["volume"]).all()


@pytest.mark.parametrize(("market", "symbol", "_since"), CANDLES)
def test_trades_lie_in_their_candles_and_make_the_aggregates(
    market: Market, symbol: str, _since: date
) -> None:
    late = FIRST_LATE_DAY

    def all_of(data_type: DataType, interval: Interval | None = None) -> pl.DataFrame:
        return read_all(market, Partition.DAILY, data_type, symbol, interval, late)

    trades, aggregates = all_of(DataType.TRADES), all_of(DataType.AGG_TRADES)
    candles = all_of(DataType.KLINES, Interval.M1).select("open_time", "low", "high")
    there = trades.with_columns(open_time=pl.col("time").dt.truncate("1m")).join(
        candles, on="open_time", how="left"
    )
    assert there.select(pl.col("price").is_between("low", "high")).to_series().all()

    assert set(aggregates["agg_trade_id"].diff().drop_nulls()) == {1}
    assert aggregates.height == 3 * 240
    ids = aggregates.select(
        "agg_trade_id", id=pl.int_ranges("first_trade_id", pl.col("last_trade_id") + 1)
    ).explode("id")
    assert ids["id"].to_list() == trades["id"].to_list()
    steps = set(trades["id"].diff().drop_nulls())
    assert steps == ({1} if market is Market.SPOT else {1, 2})
    made = (
        trades.join(ids, on="id")
        .group_by("agg_trade_id", maintain_order=True)
        .agg(
            pl.col("price").unique().item(),
            pl.col("qty").sum().alias("quantity"),
            pl.col("time").unique().item().alias("transact_time"),
            pl.col("is_buyer_maker").unique().item(),
        )
    )
    assert ((made["quantity"] - aggregates["quantity"]).abs() < 1e-6).all()
    same = ["agg_trade_id", "price", "transact_time", "is_buyer_maker"]
    assert made.select(same).equals(aggregates.select(same))
    value, size = (trades.columns[3], 100 if symbol.startswith("BTC") else 10)
    expected = (
        trades["qty"] * size / trades["price"]
        if market is Market.FUTURES_CM
        else trades["qty"] * trades["price"]
    )
    assert ((trades[value] - expected).abs() < 1e-6).all()


@pytest.mark.parametrize(
    ("market", "symbol", "index"),
    [
        (Market.FUTURES_UM, "BTCUSDT", "BTCUSDT"),
        (Market.FUTURES_CM, "ETHUSD_PERP", "ETHUSD"),
    ],
)
def test_mark_and_index_stay_near_the_price(market: Market, symbol: str, index: str) -> None:
    def closes(data_type: DataType, of: str) -> pl.Series:
        return read_all(market, Partition.DAILY, data_type, of, Interval.H1, FIRST_LATE_DAY)[
            "close"
        ]

    price = closes(DataType.KLINES, symbol)
    assert price.len() == 72
    for data_type, of in (
        (DataType.MARK_PRICE_KLINES, symbol),
        (DataType.INDEX_PRICE_KLINES, index),
    ):
        assert ((closes(data_type, of) / price - 1).abs() < 0.001).all()
    assert closes(DataType.PREMIUM_INDEX_KLINES, symbol).is_between(-0.001, 0.001).all()


def test_funding_comes_every_eight_hours_and_a_little() -> None:
    for key in KEYS:
        if key.folder.data_type is DataType.FUNDING_RATE:
            times = read(key)["calc_time"]
            assert times.len() == 3 * key.end.day
            late = times - times.dt.truncate("8h")
            assert late.max() < timedelta(milliseconds=50)  # type: ignore[operator]
            assert late.n_unique() > 5


def test_metrics_are_labelled_by_the_end_of_the_period_on_um_and_the_start_on_cm() -> None:
    um = read("data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2025-07-15.zip")
    cm = read("data/futures/cm/daily/metrics/BTCUSD_PERP/BTCUSD_PERP-metrics-2025-07-15.zip")
    assert um.height == cm.height == 288
    assert (um["create_time"][0], um["create_time"][-1]) == (
        datetime(2025, 7, 15, 0, 5),
        datetime(2025, 7, 16),
    )
    assert (cm["create_time"][0], cm["create_time"][-1]) == (
        datetime(2025, 7, 15),
        datetime(2025, 7, 15, 23, 55),
    )


# -- what is wrong with it --------------------------------------------------------------


@check_planted("halt")
def test_halts_take_whole_candles_out(flaw: Planted) -> None:
    interval = timedelta(hours=1) if "/1h/" in flaw.key else timedelta(minutes=1)
    times = read(flaw.key)["open_time"]
    absent = [before + interval for before, after in pairwise(times) if after - before != interval]
    assert absent == [naive(flaw.start)]
    assert naive(flaw.end) in times.to_list()


def test_every_halted_file_is_planted() -> None:
    start, end = planted("halt")[0].start, planted("halt")[0].end
    halted = {
        str(key)
        for key in KEYS
        if key.folder.market is Market.SPOT
        and key.folder.interval in (Interval.M1, Interval.H1)
        and key.start <= start.date() <= key.end
    }
    assert {flaw.key for flaw in planted("halt")} == halted
    assert {(flaw.start, flaw.end) for flaw in planted("halt")} == {(start, end)}


@check_planted("truncated")
def test_truncated_files_end_early(flaw: Planted) -> None:
    last = read(flaw.key)["open_time"][-1]
    assert last + timedelta(minutes=1) == naive(flaw.start)
    assert last == datetime(2025, 6, 28, 7, 36)
    assert naive(flaw.end) == datetime(2025, 6, 29)


def test_missing_files_are_the_holes_of_the_daily_streams() -> None:
    days: dict[Folder, set[date]] = defaultdict(set)
    for key in KEYS:
        if key.folder.partition is Partition.DAILY and key.start >= FIRST_DAY:
            days[key.folder].add(key.start)
    holes = {
        stream.key(day.isoformat())
        for stream, present in days.items()
        for day in periods(min(present), max(present), Partition.DAILY)
        if day not in present
    }
    assert {flaw.key for flaw in planted("missing_file")} == holes
    for flaw in planted("missing_file"):
        assert flaw.key + CHECKSUM_SUFFIX not in OBJECTS
        assert naive(flaw.start).date() == ObjectKey.parse(flaw.key).start
        assert flaw.end - flaw.start == timedelta(days=1)


def test_placeholders_are_the_files_without_rows() -> None:
    empty = {str(key) for key in KEYS if csv_of(key).count("\n") == 1 and has_header(csv_of(key))}
    assert {flaw.key for flaw in planted("placeholder")} == empty


@check_planted("disagreement")
def test_monthly_candle_disagrees_with_the_daily_one(flaw: Planted) -> None:
    monthly = read(flaw.key)
    stream = ObjectKey.parse(flaw.key).folder
    daily = read_all(
        stream.market, Partition.DAILY, stream.data_type, stream.symbol, stream.interval
    )
    both = monthly.join(daily, on="open_time", suffix="_daily")
    assert both.height == 16 * 24 - 2  # from 2025-06-15 on, without the halt
    named = [name for name in monthly.columns if name != "open_time"]
    differs = pl.any_horizontal(pl.col(name) != pl.col(f"{name}_daily") for name in named)
    (row,) = both.filter(differs).iter_rows(named=True)
    assert row["open_time"] == naive(flaw.start)
    assert row["close_time"] == naive(flaw.end) - timedelta(microseconds=1)
    assert row["close"] == row["low"] == row["low_daily"] != row["close_daily"]
    assert [name for name in named if row[name] != row[f"{name}_daily"]] == ["close"]


@check_planted("doubled_rows")
def test_rows_come_doubled(flaw: Planted) -> None:
    lines = [line for line in csv_of(flaw.key).splitlines() if re.match(r"\d", line)]
    assert lines[::2] == lines[1::2]
    assert len(set(lines)) == len(lines) // 2 > 0
    assert naive(flaw.start).date() == ObjectKey.parse(flaw.key).start


@check_planted("unsorted_rows")
def test_rows_come_in_no_order(flaw: Planted) -> None:
    frame = read(flaw.key)
    [time] = {"hour", "transaction_time"} & set(frame.columns)
    assert not frame[time].is_sorted()
    assert naive(flaw.start).date() == ObjectKey.parse(flaw.key).start


def test_rows_are_doubled_nowhere_else() -> None:
    doubled = {
        str(key)
        for key in KEYS
        for lines in [csv_of(key).splitlines()]
        if len(set(lines)) < len(lines)
    }
    assert doubled == {flaw.key for flaw in planted("doubled_rows")}
