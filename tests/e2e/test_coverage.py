"""From the archive to a verdict: everything that is wrong is found, and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import binance_archive_kit as bak
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.archive.keys import ObjectKey
from binance_archive_kit.demo.flaws import PLANTED
from binance_archive_kit.demo.synthetic import SYMBOLS
from binance_archive_kit.errors import CoverageError
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.quality.report import CoverageReport
from binance_archive_kit.reading.unzip import Unzipper
from binance_archive_kit.workflow import PrefectArchiveCollectionWorkflow, WorkflowConfig
from tests.e2e.conftest import Ask, Serve
from tests.support.bucket import FIRST, Bucket, with_sidecars
from tests.support.checks import rot
from tests.support.dialects import zip_of
from tests.support.planted import DAY, HOUR, at, csv_at, every
from tests.support.stores import kline

SAMPLES = os.environ.get("BINANCE_ARCHIVE_SAMPLES")
needs_samples = pytest.mark.skipif(
    not SAMPLES, reason="BINANCE_ARCHIVE_SAMPLES names no folder of real archive files"
)
WHAT = ["market", "data_type", "symbol", "interval"]
#: How a report calls what was planted.
GAPS = {
    "halt": "halt",
    "truncated": "short_file",
    "missing_file": "missing_in_archive",
    "placeholder": "empty_file",
}
FINDINGS = {
    "disagreement": "disagreement",
    "doubled_rows": "duplicate",
    "unsorted_rows": "unsorted",
}
NOT_DUE = ("not_published", "ended_feed", "before_listing", "after_delisting")

# The demo archive


def eras(endpoint: str, root: Path) -> dict[str, CollectionConfig]:
    """Ask for everything that the synthetic archive holds, the older eras too."""
    hourly = {"klines": ["1h"]}

    def config(market: str, data_type: str, first: str, last: str, **more: Any) -> CollectionConfig:
        fields: dict[str, Any] = {
            "markets": [market],
            "symbols": ["BTCUSDT"],
            "data_types": [data_type],
            "intervals": hourly if data_type == "klines" else {},
            "date_range": {"start": first, "end": last},
            "output_directory": root,
            "endpoint_url": endpoint,
        }
        return CollectionConfig(**fields | more)

    um, cm = "futures_um", "futures_cm"
    late = {"intervals": {"klines": ["1h", "1d"]}}
    symbols = {market: its for market, its in SYMBOLS.items() if market is not Market.OPTIONS}
    return {
        "running": bak.demo_config(endpoint, root),
        "months": config(
            "spot",
            "klines",
            "2025-05-01",
            "2025-06-30",
            markets=list(symbols),
            symbols=symbols,
            intervals={"klines": ["1h", "1d", "1w", "1mo"]},
            partition="monthly",
        ),
        "before headers": config(um, "klines", "2022-05-05", "2022-05-05"),
        "after headers": config(um, "klines", "2022-09-15", "2022-09-15"),
        "change of unit": config("spot", "klines", "2024-12-30", "2025-01-02"),
        "doubled metrics": config(um, "metrics", "2021-05-20", "2021-05-20"),
        "delivery": config(
            um, "klines", "2025-07-13", "2025-07-15", symbols=["BTCUSDT_250926"], **late
        ),
        "settled": config(
            um, "klines", "2025-06-15", "2025-06-18", symbols=["BNXUSDTSETTLED"], **late
        ),
        "quotes": config(um, "bookTicker", "2024-03-29", "2024-03-30"),
        "liquidations": config(
            cm, "liquidationSnapshot", "2024-10-13", "2024-10-14", symbols=["BTCUSD_PERP"]
        ),
        "summaries": config("options", "EOHSummary", "2023-10-22", "2023-10-23"),
    }


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with bak.demo_archive() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def demo(served: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CollectionConfig]:
    """Collect the whole archive into one store; give what was asked for."""
    root = tmp_path_factory.mktemp("demo")
    configs = eras(served, root)
    for config in configs.values():
        assert bak.collect(config).outcome == "complete"
    keys = {path.relative_to(root).as_posix() for path in root.rglob("*.zip")}
    absent = {planted.key for planted in PLANTED if planted.kind == "missing_file"}
    assert {planted.key for planted in PLANTED} - absent <= keys
    return configs


@pytest.fixture(scope="module")
def reports(demo: dict[str, CollectionConfig]) -> dict[str, CoverageReport]:
    return {name: bak.coverage(config) for name, config in demo.items()}


@pytest.fixture(scope="module")
def of_folder(demo: dict[str, CollectionConfig]) -> CoverageReport:
    """Report on the folder alone, as if the archive could not be asked."""
    return bak.coverage(demo["running"].output_directory)


def planted(words: dict[str, str]) -> set[tuple[object, ...]]:
    """What a report has to say of the planted irregularities of some kinds."""
    expected = set()
    for flaw in PLANTED:
        if flaw.kind in words:
            stream = ObjectKey.parse(flaw.key).folder
            what = stream.market, stream.data_type, stream.symbol, stream.interval
            expected.add((*what, flaw.start, flaw.end, words[flaw.kind]))
    return expected


def told(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return frame.select(*WHAT, "start", "end", pl.col("kind").cast(pl.String)).rows()


def lacks(report: CoverageReport) -> pl.DataFrame:
    return report.gaps.filter(~pl.col("kind").is_in(NOT_DUE))


def test_every_planted_gap_is_found_and_nothing_else(reports: dict[str, CoverageReport]) -> None:
    found = [gap for report in reports.values() for gap in told(lacks(report))]
    assert set(found) == planted(GAPS)


def test_every_planted_flaw_of_rows_is_found_and_nothing_else(
    reports: dict[str, CoverageReport],
) -> None:
    found = pl.concat([report.findings for report in reports.values()])
    changes = found.filter(pl.col("kind") == "semantic_change")
    assert set(told(found.filter(pl.col("kind") != "semantic_change"))) == planted(FINDINGS)
    assert {(row["data_type"], row["start"]) for row in changes.iter_rows(named=True)} == {
        ("klines", datetime(2025, 1, 1, tzinfo=UTC))
    }


def test_a_folder_by_itself_tells_the_same(of_folder: CoverageReport) -> None:
    """Without the archive too: what it lacked was noted when it was collected from."""
    gaps = of_folder.gaps
    between_eras = gaps.filter(pl.col("kind") == "not_collected")
    assert set(told(gaps.filter(pl.col("kind") != "not_collected"))) == planted(GAPS)
    assert set(between_eras["symbol"]) == {"BTCUSDT"}
    lacking = gaps.filter(pl.col("kind") == "missing_in_archive")["evidence"].to_list()
    assert len(lacking) == 2
    assert all("asked on 20" in evidence for evidence in lacking)
    found = of_folder.findings.filter(pl.col("kind") != "semantic_change")
    assert set(told(found)) == planted(FINDINGS)


def test_what_is_there_is_counted_as_the_views_count_it(
    demo: dict[str, CollectionConfig], of_folder: CoverageReport
) -> None:
    """Rows by DuckDB: different ones, and by the hour or the snapshot where that is a row."""
    of_rows = {
        "metrics": "create_time",
        "bookDepth": "timestamp",
        "EOHSummary": "time",
        "trades": "id",
        "aggTrades": "agg_trade_id",
        "bookTicker": "update_id",
    }
    root = demo["running"].output_directory
    with bak.connect(root, cache=False) as con:
        for data_type, column in of_rows.items():
            streams = of_folder.streams.filter(pl.col("data_type") == data_type)
            assert streams.height > 0
            for market in streams["market"].unique():
                view = f"{market}_{DataType(data_type).name.lower()}"
                if data_type == "EOHSummary":
                    column = "(date, hour)"
                counted = dict(
                    con.sql(
                        f"SELECT symbol, count(DISTINCT {column}) FROM {view} GROUP BY symbol"
                    ).fetchall()
                )
                own = streams.filter(pl.col("market") == market)
                assert dict(own.select("symbol", "present").rows()) == counted


def test_evidence_stands_beside_every_gap(reports: dict[str, CoverageReport]) -> None:
    running = reports["running"].gaps
    by_kind = {kind: of["evidence"].to_list() for (kind,), of in running.group_by("kind")}
    assert by_kind["short_file"] == [
        "ETHUSDT-1m-2025-06-28.zip (checksum right): its last row is of 2025-06-28 07:36"
    ]
    assert by_kind["empty_file"] == ["ETHUSDT-metrics-2025-07-14.zip (checksum right) has no rows"]
    assert set(by_kind["halt"]) == {
        "none of the 2 symbols with files of this time has these candles",
        "none of the 3 symbols with files of this time has these candles",
    }
    [close] = reports["months"].findings.filter(pl.col("kind") == "disagreement")["evidence"]
    assert close.startswith("close is ")
    assert "in the daily file and" in close


def test_shares_are_honest(reports: dict[str, CoverageReport], of_folder: CoverageReport) -> None:
    for report in (*reports.values(), of_folder):
        whole = lacks(report).height == 0
        assert report.is_complete == whole
        assert ("100 %" in report.verdict) == whole
        known = report.streams.drop_nulls("expected")
        assert (known["present"] + known["missing"] == known["expected"]).all()
    complete = {name for name, report in reports.items() if report.is_complete}
    assert complete == {
        "before headers",
        "after headers",
        "change of unit",
        "doubled metrics",
        "delivery",
        "settled",
        "quotes",
        "liquidations",
        "summaries",
    }


def test_a_report_says_what_the_plan_says(demo: dict[str, CollectionConfig]) -> None:
    plan = bak.plan(demo["running"])
    report = bak.coverage(plan)
    gaps = report.gaps.filter(pl.col("kind") == "missing_in_archive")
    assert {
        (row["symbol"], row["start"].date(), row["evidence"]) for row in gaps.iter_rows(named=True)
    } == {(absence.symbol, absence.start, absence.detail) for absence in plan.missing}
    early = report.gaps.filter(pl.col("kind") == "before_listing")
    assert set(early["evidence"]) <= {absence.detail for absence in plan.unavailable}
    assert report.streams["actual_files"].sum() == len(plan)
    assert report.streams["expected_files"].sum() == len(plan) + len(plan.missing)
    # A feed that a market never had is no gap, and is said once.
    assert len(report.unavailable) == 18


@pytest.mark.parametrize("name", ["running", "months"])
def test_some_days_of_a_plan_are_as_a_plan_of_these_days(
    demo: dict[str, CollectionConfig], name: str
) -> None:
    span = {"start": date(2025, 6, 26), "end": date(2025, 7, 3)}
    days = demo[name].days()
    within = {"start": span["start"], "end": min(span["end"], days.end)}
    report = bak.coverage(demo[name], **span)
    alone = bak.coverage(demo[name].replace(date_range=within))
    assert report.streams.equals(alone.streams)
    assert report.gaps.equals(alone.gaps)
    assert report.verdict.split("; unavailable")[0] == alone.verdict.split("; unavailable")[0]


@pytest.mark.parametrize("asked", [{"start": "2025-08-01"}, {"end": "2025-06-01"}])
def test_of_days_beyond_a_plan_nothing_is_due(
    demo: dict[str, CollectionConfig], asked: dict[str, str]
) -> None:
    days = demo["running"].days()
    report = bak.coverage(demo["running"], **asked)  # type: ignore[arg-type]
    assert (report.streams.height, report.coverage, report.is_complete) == (0, None, False)
    assert report.verdict == (
        f"Nothing is due: the configuration covers {days.start} to {days.end}, and none of these "
        "days"
    )
    ready = bak.backtest_coverage(demo["running"], **asked)  # type: ignore[arg-type]
    assert not ready.is_ready
    assert ready.verdict == f"Not ready: {report.verdict}"


def test_a_second_report_opens_no_file(
    demo: dict[str, CollectionConfig],
    of_folder: CoverageReport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(Unzipper, "read", refuse)
    monkeypatch.setattr(Unzipper, "read_raw", refuse)
    again = bak.coverage(demo["running"].output_directory)
    assert again.gaps.equals(of_folder.gaps)
    assert again.findings.equals(of_folder.findings)
    assert again.streams.equals(of_folder.streams)


def test_several_streams_support_what_all_of_them_have(demo: dict[str, CollectionConfig]) -> None:
    running = demo["running"]
    config = CollectionConfig(
        markets=["futures_um"],
        symbols=["BTCUSDT", "ETHUSDT"],
        data_types=["klines", "fundingRate", "aggTrades"],
        intervals={"klines": ["1h"]},
        date_range={"start": "2025-06-15", "end": "2025-07-15"},
        output_directory=running.output_directory,
        endpoint_url=running.endpoint_url,
    )
    ready = bak.backtest_coverage(config)
    assert ready.window == (date(2025, 7, 13), date(2025, 7, 15))
    assert ready.asked == (date(2025, 6, 15), date(2025, 7, 15))
    assert ready.coverage == 1.0
    assert not ready.is_ready
    assert "is all that every stream has of 2025-06-15 to 2025-07-15, as futures_um aggTrades" in (
        ready.verdict
    )
    # 31 + 30 files of candles, 3 + 3 of trades, 2 + 2 of funding, and one the archive lacks.
    assert (ready.actual_files, ready.expected_files) == (71, 72)
    assert "71 of 72 files (98.61 %)" in repr(ready)


# Real files


@pytest.fixture(scope="module")
def of_samples(tmp_path_factory: pytest.TempPathFactory) -> CoverageReport:
    root = tmp_path_factory.mktemp("samples") / "store"
    shutil.copytree(SAMPLES or ".", root)
    return bak.coverage(root)


def rows_of(report: CoverageReport, market: str, symbol: str, **more: object) -> pl.DataFrame:
    conditions = {"market": market, "symbol": symbol, **more}
    return report.gaps.filter(*(pl.col(name) == value for name, value in conditions.items()))


@needs_samples
def test_the_two_real_halts_are_found(of_samples: CoverageReport) -> None:
    """BTCUSDT 1h of 2021-01 to 2021-03 lacks two candles, and no other."""
    hours = rows_of(of_samples, "spot", "BTCUSDT", data_type="klines", interval="1h")
    months = hours.filter(pl.col("start") < datetime(2021, 4, 1, tzinfo=UTC))
    assert months.select("start", "end", "missing", pl.col("kind").cast(pl.String)).rows() == [
        (
            datetime(2021, 2, 11, 4, tzinfo=UTC),
            datetime(2021, 2, 11, 5, tzinfo=UTC),
            1,
            "halt",
        ),
        (
            datetime(2021, 3, 6, 2, tzinfo=UTC),
            datetime(2021, 3, 6, 3, tzinfo=UTC),
            1,
            "halt",
        ),
    ]


@needs_samples
@pytest.mark.parametrize(
    ("market", "symbol", "interval", "start", "end", "rows"),
    [
        ("spot", "BTCUSDT", "1m", "2020-01-01", "2020-01-02", 2 * 1_440),
        ("spot", "BTCUSDT", "1h", "2026-05-08", "2026-05-08", 24),
        ("spot", "BTCUSDT", "1h", "2021-01-01", "2021-01-31", 744),
        ("futures_um", "NEARUSDT", "1m", "2026-02-01", "2026-02-28", 40_320),
        ("futures_um", "BTCUSDT", "1m", "2022-05-05", "2022-05-05", 1_440),
    ],
)
def test_whole_real_files_are_complete(
    of_samples: CoverageReport,
    market: str,
    symbol: str,
    interval: str,
    start: str,
    end: str,
    rows: int,
) -> None:
    of = pl.col("market") == market, pl.col("symbol") == symbol, pl.col("interval") == interval
    days = of_samples.days.filter(
        *of, pl.col("date").is_between(date.fromisoformat(start), date.fromisoformat(end))
    )
    assert days["present"].sum() == days["expected"].sum() == rows
    assert days["kind"].null_count() == days.height


@needs_samples
def test_excerpts_are_called_short(of_samples: CoverageReport) -> None:
    whole = {
        *(
            "spot klines BTCUSDT 1m",
            "futures_um klines BTCUSDT 1m",
            "futures_um klines NEARUSDT 1m",
        ),
        # The whole day, and the real month of 2026-04.
        *("futures_cm aggTrades BTCUSD_PERP", "options EOHSummary BTCUSDT"),
    }
    states = {
        " ".join(filter(None, row[:4])): row[4]
        for row in of_samples.streams.select(*WHAT, "state").rows()
    }
    complete = {name for name, state in states.items() if state in ("complete", "every day there")}
    assert complete == whole
    short = of_samples.gaps.filter(pl.col("kind") == "short_file")
    named = {" ".join(filter(None, row)) for row in short.select(WHAT).rows()}
    assert named == states.keys() - whole - {"spot klines BTCUSDT 1h"}
    april = datetime(2026, 4, 1, tzinfo=UTC)
    funding = rows_of(of_samples, "futures_um", "BTCUSDT", data_type="fundingRate")
    assert funding.filter(pl.col("end") > april).height == 0


# Words for what is not there


def candles_of(symbol: str, days: list[date], rows: int = 24) -> Bucket:
    keys = [kline(symbol, str(day)) for day in days]
    return with_sidecars(
        {
            str(key): zip_of(key, csv_at(key, [at(str(key.start)) + n * HOUR for n in range(rows)]))
            for key in keys
        }
    )


FIVE = [FIRST + timedelta(days=n) for n in range(5)]


def kinds_of(report: CoverageReport) -> list[tuple[str, date, date]]:
    return [
        (row["kind"], row["start"].date(), row["end"].date())
        for row in report.gaps.iter_rows(named=True)
    ]


def test_what_was_never_collected_is_not_collected(serve: Serve, ask: Ask, store: Path) -> None:
    config = ask(serve(candles_of("BTCUSDT", FIVE)))
    report = bak.coverage(config)
    assert kinds_of(report) == [("not_collected", FIRST, FIRST + timedelta(days=5))]
    assert report.verdict.startswith("Nothing present: 0 % of the rows due are present (0 of 120)")
    assert report.streams["state"].to_list() == ["nothing there"]
    assert not store.exists(), "looking makes no folder"
    bak.collect(config)
    assert bak.coverage(config).verdict == (
        "Complete: 100 % of the rows due are present (120 of 120), in 5 of 5 files of 1 stream"
    )


def test_a_symbol_that_is_not_known_is_never_complete(serve: Serve, ask: Ask) -> None:
    server = serve(candles_of("BTCUSDT", FIVE))
    report = bak.coverage(ask(server, "BTCUSDTT"))
    assert (report.streams.height, report.is_complete, report.coverage) == (0, False, None)
    assert "Nothing is due: spot klines BTCUSDTT 1h" in report.verdict
    assert "did you mean 'BTCUSDT'?" in report.verdict
    assert "100" not in report.verdict
    assert not bak.backtest_coverage(ask(server, "BTCUSDTT")).is_ready


def test_a_symbol_that_is_not_known_is_named_beside_those_that_are(serve: Serve, ask: Ask) -> None:
    config = ask(serve(candles_of("BTCUSDT", FIVE)), "BTCUSDT", "NOPEUSDT")
    bak.collect(config)
    report = bak.coverage(config)
    assert "unavailable: spot klines NOPEUSDT 1h" in report.verdict
    ready = bak.backtest_coverage(config)
    assert not ready.is_ready
    assert "unavailable: spot klines NOPEUSDT 1h" in ready.verdict
    with pytest.raises(CoverageError, match="NOPEUSDT"):
        ready.raise_if_not_ready()


def test_only_the_files_of_some_days_are_counted(serve: Serve, ask: Ask) -> None:
    config = ask(serve(candles_of("BTCUSDT", FIVE)))
    bak.collect(config)
    ready = bak.backtest_coverage(config, start=FIVE[1], end=FIVE[3])
    assert (ready.actual_files, ready.expected_files, ready.completeness) == (3, 3, 100.0)
    assert ready.is_ready
    assert "(72 of 72), in 3 of 3 files of 1 stream" in ready.report.verdict


#: A symbol that is traded all along.
MARKET = candles_of("ETHUSDT", [FIRST + timedelta(days=n) for n in range(-1, 8)])


def test_days_around_a_listing_were_not_due(serve: Serve, ask: Ask) -> None:
    bucket = MARKET | candles_of("BTCUSDT", FIVE[2:3])
    config = ask(serve(bucket), start=FIRST - timedelta(days=1), days=8)
    bak.collect(config)
    report = bak.coverage(config)
    assert kinds_of(report) == [
        ("before_listing", FIRST - timedelta(days=1), FIVE[2]),
        ("after_delisting", FIVE[3], FIRST + timedelta(days=7)),
    ]
    assert report.is_complete
    assert "not due: 1 period after delisting" in report.verdict
    assert report.streams["expected_files"].to_list() == [1]


def test_days_that_a_whole_archive_lacks_are_no_delisting(serve: Serve, ask: Ask) -> None:
    config = ask(serve(candles_of("BTCUSDT", FIVE[:3])))
    bak.collect(config)
    report = bak.coverage(config)
    assert kinds_of(report) == [("missing_in_archive", FIVE[3], FIRST + timedelta(days=5))]
    assert "may have stopped publishing" in report.gaps["evidence"].item()
    assert report.verdict.startswith("Incomplete: 60.00 %")


@pytest.mark.parametrize("foreign", ["", "A-list.txt", "BTCUSDT-1h-2020-8-1.zip"])
def test_foreign_keys_in_a_folder_do_not_hide_its_first_file(
    serve: Serve, ask: Ask, foreign: str
) -> None:
    key = str(kline("BTCUSDT", str(FIRST)))
    folder = key.rpartition("/")[0]
    server = serve({f"{folder}/{foreign}": b""} | candles_of("BTCUSDT", FIVE[2:]))
    plan = bak.plan(ask(server))
    assert [absence.reason for absence in plan.unavailable] == ["before_first"]
    assert "first file in the archive is from 2025-07-03" in plan.unavailable[0].detail
    server = serve({f"{folder}/{foreign}": b""} | candles_of("BTCUSDT", FIVE[:1] + FIVE[2:]))
    plan = bak.plan(ask(server, start=FIVE[1], days=3))
    assert [absence.reason for absence in plan.missing] == ["absent"]


def test_a_folder_remembers_that_a_symbol_was_delisted(serve: Serve, ask: Ask, store: Path) -> None:
    config = ask(serve(MARKET | candles_of("BTCUSDT", FIVE[:3])))
    bak.collect(config)
    report = bak.coverage(store, end=FIVE[4])
    assert (
        kinds_of(report)
        == kinds_of(bak.coverage(config))
        == [("after_delisting", FIVE[3], FIRST + timedelta(days=5))]
    )
    assert report.is_complete
    assert "(72 of 72), in 3 of 3 files" in report.verdict
    [said] = report.gaps["evidence"]
    assert "the archive's last file is of 2025-07-03; delisted?, asked on 20" in said


def test_what_was_told_of_an_end_that_was_none_is_a_lack(
    serve: Serve, ask: Ask, store: Path
) -> None:
    """A later day was collected afterwards, and the archive not asked of those between again."""
    bucket = candles_of("BTCUSDT", FIVE[:2])
    server = serve(bucket)
    bak.collect(ask(server, days=4))
    bucket |= candles_of("BTCUSDT", FIVE[4:])
    bak.collect(ask(server, start=FIVE[4], days=1))
    assert kinds_of(bak.coverage(store)) == [("missing_in_archive", FIVE[2], FIVE[4])]
    assert kinds_of(bak.coverage(store, end=FIVE[3])) == [("missing_in_archive", FIVE[2], FIVE[4])]


def test_a_range_before_the_listing_has_nothing_due(serve: Serve, ask: Ask) -> None:
    config = ask(serve(candles_of("BTCUSDT", FIVE)), start=date(2025, 5, 1), days=3)
    report = bak.coverage(config)
    assert report.verdict.startswith("Nothing is due: spot klines BTCUSDT 1h")
    assert "its first file in the archive is from 2025-07-01" in report.verdict
    assert (report.coverage, report.is_complete) == (None, False)


def test_a_missing_month_is_missing_in_the_archive(serve: Serve, ask: Ask) -> None:
    months = {}
    for month in ("2025-03", "2025-05"):
        key = kline("BTCUSDT", month, "1d")
        rows = every(DAY, str(key.start), str(key.end + timedelta(days=1)))
        months[str(key)] = zip_of(key, csv_at(key, rows))
    config = ask(
        serve(with_sidecars(months)),
        start=date(2025, 3, 1),
        days=92,
        partition="monthly",
        intervals={"klines": ["1d"]},
    )
    bak.collect(config)
    expected = [("missing_in_archive", date(2025, 4, 1), date(2025, 5, 1))]
    for report in (bak.coverage(config), bak.coverage(config.output_directory)):
        assert kinds_of(report) == expected
        assert report.gaps["missing"].to_list() == [30]
        assert "in 2 of 3 files" in report.verdict


def test_days_that_are_too_young_are_not_published(serve: Serve, ask: Ask) -> None:
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=n) for n in (5, 4, 3, 2)]
    config = ask(serve(candles_of("BTCUSDT", days)), start=days[0], days=6)
    bak.collect(config)
    for report in (bak.coverage(config), bak.coverage(config.output_directory, end=today)):
        [gap] = report.gaps.rows(named=True)
        assert (gap["kind"], gap["missing"]) in {("not_published", 0), ("missing_in_archive", 24)}
        assert (gap["start"].date(), gap["end"].date()) == (
            today - timedelta(days=1),
            today + timedelta(days=1),
        )
        assert report.is_complete
        assert "(96 of 96)" in report.verdict


def test_a_range_in_the_future_has_nothing_due(serve: Serve, ask: Ask) -> None:
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=n) for n in (5, 4, 3, 2)]
    config = ask(serve(candles_of("BTCUSDT", days)), start=today + timedelta(days=20), days=4)
    report = bak.coverage(config)
    assert {row[0] for row in kinds_of(report)} == {"not_published"}
    assert report.verdict == "Nothing is due: 1 period not published"
    assert "100" not in str(report)


def test_a_feed_that_has_ended_is_named(serve: Serve, ask: Ask) -> None:
    config = ask(
        serve(candles_of("BTCUSDT", FIVE)),
        markets=["futures_um"],
        data_types=["bookTicker"],
        intervals={},
    )
    report = bak.coverage(config)
    assert "ended on 2024-0" in str(report)
    assert report.verdict.startswith("Nothing is due: ")
    assert not report.is_complete


@pytest.mark.parametrize("at", [0, 2, 4])
def test_what_is_in_quarantine_is_corrupt(serve: Serve, ask: Ask, store: Path, at: int) -> None:
    bucket = candles_of("BTCUSDT", FIVE)
    bad = str(kline("BTCUSDT", str(FIVE[at])))
    bucket[bad] = bucket[bad][:-30] + bytes(30)
    config = ask(serve(bucket))
    assert bak.collect(config).outcome == "partial"
    for report in (bak.coverage(config), bak.coverage(store)):
        assert kinds_of(report) == [("corrupt", FIVE[at], FIVE[at] + timedelta(days=1))]
        assert report.gaps["evidence"][0].startswith("in quarantine, ")
        assert report.gaps["missing"].to_list() == [24]
        assert report.verdict.startswith(
            "Incomplete: 80.00 % of the rows due are present (96 of 120)"
        )


@pytest.mark.parametrize("removed", [[0], [4], [2], [0, 1, 3], [0, 4], [0, 1, 2, 3, 4]], ids=str)
def test_a_folder_remembers_files_that_were_removed(
    serve: Serve, ask: Ask, store: Path, removed: list[int]
) -> None:
    config = ask(serve(candles_of("BTCUSDT", FIVE)))
    bak.collect(config)
    for n in removed:
        (store / str(kline("BTCUSDT", str(FIVE[n])))).unlink()
    for _ in range(2):
        report = bak.coverage(store)
        there = 24 * (5 - len(removed))
        assert f"({there} of 120), in {5 - len(removed)} of 5 files" in report.verdict
        assert set(report.gaps["kind"]) == {"not_collected"}
        assert all("is missing now" in said for said in report.gaps["evidence"])
        assert not bak.backtest_coverage(store).is_ready
        assert not bak.verify(store).sound
    bak.collect(config)
    assert bak.coverage(store).is_complete


def test_a_file_that_was_changed_after_its_proof_is_corrupt(
    serve: Serve, ask: Ask, store: Path
) -> None:
    config = ask(serve(candles_of("BTCUSDT", FIVE)))
    bak.collect(config)
    key = kline("BTCUSDT", str(FIVE[1]))
    (store / str(key)).write_bytes(zip_of(key, csv_at(key, [at(str(FIVE[1]))])))
    report = bak.coverage(store)
    assert kinds_of(report) == [("corrupt", FIVE[1], FIVE[2])]
    assert "not the ones that were proven" in report.gaps["evidence"][0]
    assert str(key) in str(report)


def test_decayed_bytes_are_not_called_the_archives_and_collect_replaces_them(
    serve: Serve, ask: Ask, store: Path
) -> None:
    config = ask(serve(candles_of("BTCUSDT", FIVE)))
    bak.collect(config)
    key = kline("BTCUSDT", str(FIVE[1]))
    file = store / str(key)
    good = file.read_bytes()
    rot(file, store)
    for _ in range(2):
        with pytest.raises(bak.FileError, match="no longer the proven ones") as caught:
            bak.load_klines(store, "BTCUSDT", "1h")
        assert caught.value.reason == "changed"
        assert "publishes" not in str(caught.value)
    report = bak.coverage(store)
    assert kinds_of(report) == [("corrupt", FIVE[1], FIVE[2])]
    assert "no longer the proven ones" in report.gaps["evidence"][0]
    assert bak.collect(config).collection_stats["successful_tasks"] == 1
    assert file.read_bytes() == good
    assert bak.load_klines(store, "BTCUSDT", "1h").height == 120


def test_days_before_the_first_file_are_not_due_offline_either(
    serve: Serve, ask: Ask, store: Path
) -> None:
    config = ask(serve(candles_of("BTCUSDT", FIVE[3:])))
    result = bak.collect(config)
    assert [absence.reason for absence in result.unavailable] == ["before_first"]
    offline = bak.coverage(store, start=FIRST - timedelta(days=9))
    for report in (bak.coverage(config), offline):
        assert {kind for kind, _, _ in kinds_of(report)} == {"before_listing"}
        assert report.gaps["end"][0].date() == FIVE[3]
        assert report.gaps["missing"].to_list() == [0]
    # The archive publishes older files.
    config = ask(serve(candles_of("BTCUSDT", FIVE[1:])))
    bak.collect(config)
    (store / str(kline("BTCUSDT", str(FIVE[1])))).unlink()
    assert kinds_of(bak.coverage(store, start=FIRST))[:2] == [
        ("before_listing", FIRST, FIVE[1]),
        ("not_collected", FIVE[1], FIVE[2]),
    ]


def test_what_came_to_be_is_no_longer_missing(serve: Serve, ask: Ask, store: Path) -> None:
    """The archive lacked a day, and has it now."""
    bucket = candles_of("BTCUSDT", [FIVE[0], FIVE[1], FIVE[3], FIVE[4]])
    server = serve(bucket)
    bak.collect(ask(server))
    assert kinds_of(bak.coverage(store)) == [("missing_in_archive", FIVE[2], FIVE[3])]
    bucket |= candles_of("BTCUSDT", FIVE[2:3])
    assert kinds_of(bak.coverage(ask(server))) == [("not_collected", FIVE[2], FIVE[3])]
    bak.collect(ask(server))
    assert bak.coverage(store).is_complete
    # Where it lies now, it may also go again: it is not the archive that lacks it.
    (store / str(kline("BTCUSDT", str(FIVE[2])))).unlink()
    assert kinds_of(bak.coverage(store)) == [("not_collected", FIVE[2], FIVE[3])]


def test_deleted_files_are_counted_as_they_were(served: str, tmp_path: Path) -> None:
    """Three months were collected: not 90 days are missing when they are gone."""
    config = CollectionConfig(
        markets=["spot"],
        symbols=["SOLUSDT", "ADAUSDT"],
        data_types=["klines"],
        intervals={"klines": ["1d"]},
        date_range={"start": "2025-01-01", "end": "2025-03-31"},
        partition="monthly",
        output_directory=tmp_path,
        endpoint_url=served,
    )
    bak.collect(config)
    for path in tmp_path.rglob("SOLUSDT-1d-*.zip"):
        path.unlink()
    for source in (config, config.model_copy(update={"listing": False}), tmp_path):
        streams = bak.coverage(source).streams.sort("symbol")
        assert streams["expected_files"].to_list() == [3, 3]
        assert streams["actual_files"].to_list() == [3, 0]


# The documented backtest


MINUTE = HOUR // 60
#: Days of the documented example, June 1 to July 15.
BACKTEST_DAYS = [date(2025, 6, 1) + timedelta(days=n) for n in range(45)]


def backtest_bucket() -> Bucket:
    """Hold whole days of all that the documented backtest asks for and that there was then."""
    zips: Bucket = {}

    def add(key: ObjectKey, times: list[int], **more: Any) -> None:
        zips[str(key)] = zip_of(key, csv_at(key, times, **more))

    steps = {"1m": MINUTE, "5m": 5 * MINUTE, "1h": HOUR}
    for market in ("spot", "futures/um"):
        for symbol in ("BTCUSDT", "ETHUSDT"):
            for n, day in enumerate(BACKTEST_DAYS):
                begin, end = str(day), str(day + timedelta(days=1))
                for interval, step in steps.items():
                    add(kline(symbol, begin, interval, market), every(step, begin, end))
                key = f"data/{market}/daily/trades/{symbol}/{symbol}-trades-{day}.zip"
                ids = list(range(24 * n, 24 * n + 24))
                add(ObjectKey.parse(key), every(HOUR, begin, end), ids=ids)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for begin, end in (("2025-06-01", "2025-07-01"), ("2025-07-01", "2025-08-01")):
            folder = f"data/futures/um/monthly/fundingRate/{symbol}"
            key = ObjectKey.parse(f"{folder}/{symbol}-fundingRate-{begin[:7]}.zip")
            add(key, every(8 * HOUR, begin, end))
    return with_sidecars(zips)


def test_the_documented_backtest_is_complete_and_the_report_agrees(
    serve: Serve, store: Path
) -> None:
    asked = {
        "workflow_type": "archive_collection",
        "matrix_path": "enhanced_binance_archive_matrix.json",
        "output_directory": str(store),
        "markets": ["spot", "futures_um"],
        "symbols": ["BTCUSDT", "ETHUSDT"],
        "data_types": ["klines", "trades", "fundingRate", "liquidationSnapshot"],
        "intervals": {"klines": ["1m", "5m", "1h"]},
        "date_range": {"start": "2025-06-01", "end": "2025-07-15"},
        "batch_size": 150,
        "enable_resume": True,
        "endpoint_url": serve(backtest_bucket()).url,
    }
    workflow = PrefectArchiveCollectionWorkflow(WorkflowConfig(asked))
    result = asyncio.run(workflow.execute())
    assert result["collection_stats"]["total_tasks"] == 724

    # As the example counts: 45 days, 2 symbols, 3 intervals, 2 markets.
    expected = 45 * 2 * 3 * 2
    actual = len([file for file in result["metadata"].output_files if "klines" in file])
    assert f"{100 * actual / expected:.1f}%" == "100.0%"

    config = CollectionConfig(**asked)
    ready = bak.backtest_coverage(config)
    assert (ready.actual_files, ready.expected_files, ready.completeness) == (724, 724, 100.0)
    assert ready.report.is_complete
    assert ready.coverage == 1.0
    assert ready.window == ready.asked == (BACKTEST_DAYS[0], BACKTEST_DAYS[-1])
    # Liquidations ended the year before: a strategy that needs them cannot run.
    assert not ready.is_ready
    assert "liquidationSnapshot ended on 2024-03-31" in ready.verdict
    without = config.replace(data_types=["klines", "trades", "fundingRate"])
    bak.backtest_coverage(without).raise_if_not_ready()
