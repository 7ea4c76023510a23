"""The result of a collection: outcomes, counts, files and display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.download.ledger import Arrivals, Clock, Ledger, State
from binance_archive_kit.download.result import CollectionResult, Files
from binance_archive_kit.errors import Corrupt, NotFound, ShardFailed, WorkflowError
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Plan

CONFIG = CollectionConfig(
    markets=["spot"], symbols=["BTCUSDT"], data_types=["trades"], output_directory="output/x"
)
HOSTILE = "<script>alert('x')</script>&\""


def plan_of(count: int, **fields: Any) -> Plan:
    days = [date(2025, 1, 1) + timedelta(days=n) for n in range(count)]
    frame = pl.DataFrame(
        {
            "key": [f"data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-{d}.zip" for d in days],
            "market": ["spot"] * count,
            "data_type": ["trades"] * count,
            "partition": ["daily"] * count,
            "symbol": ["BTCUSDT"] * count,
            "interval": [None] * count,
            "start": days,
            "end": days,
            "size": [1024] * count,
            "etag": ["0" * 32] * count,
            "last_modified": [""] * count,
            "checksum": [True] * count,
            "action": ["download"] * count,
            "reason": ["new"] * count,
        },
        schema=PLAN_SCHEMA,
    )
    return Plan(CONFIG, frame, **fields)


def result_of(*states: State, plan: Plan | None = None, **fields: Any) -> CollectionResult:
    plan = plan or plan_of(len(states))
    keys = plan.frame["key"]
    proven = sum(state in (State.DOWNLOADED, State.KEPT) for state in states)
    defaults: dict[str, Any] = {
        "failures": [
            Corrupt(key, "bad bytes")
            for key, state in zip(keys, states, strict=True)
            if state is State.FAILED
        ],
        "path_of": lambda key: f"/store/{key}",
        "proven_bytes": 1024 * proven,
        "downloaded_bytes": 1024 * states.count(State.DOWNLOADED),
        "seconds": 2.0,
        "clock": Clock(datetime(2025, 8, 20, 9, tzinfo=UTC)),
    }
    return CollectionResult(plan, Ledger(bytearray(states), **{**defaults, **fields}))


D, K, F, A = State.DOWNLOADED, State.KEPT, State.FAILED, State.ABSENT

STATES = [
    # states, outcome, total, successful, skipped, failed, success rate
    ((), "empty", 0, 0, 0, 0, 0),
    ((D, D), "complete", 2, 2, 0, 0, 100),
    ((K, K), "complete", 2, 0, 2, 0, 100),
    ((D, K), "complete", 2, 1, 1, 0, 100),
    ((D, F), "partial", 2, 1, 0, 1, 50),
    ((K, F, F, F), "partial", 4, 0, 1, 3, 25),
    ((F, F), "failed", 2, 0, 0, 2, 0),
    ((D, A), "complete", 1, 1, 0, 0, 100),
    ((A, A), "empty", 0, 0, 0, 0, 0),
    ((F, A), "failed", 1, 0, 0, 1, 0),
]


@pytest.mark.parametrize(
    ("states", "outcome", "total", "successful", "skipped", "failed", "rate"), STATES
)
def test_outcomes(
    states: tuple[State, ...],
    outcome: str,
    total: int,
    successful: int,
    skipped: int,
    failed: int,
    rate: float,
) -> None:
    result = result_of(*states)
    assert (result.status, result.outcome) == ("success", outcome)
    stats = result.collection_stats
    assert (stats["total_tasks"], stats["successful_tasks"]) == (total, successful)
    assert (stats["skipped_tasks"], stats["failed_tasks"]) == (skipped, failed)
    assert successful + skipped + failed == total
    assert result.success_rate == rate
    assert len(result.output_files) == successful + skipped
    assert len(result.failures) == failed
    assert len(result.metadata.errors) == failed
    assert len(result.metadata.source_files) == total
    assert stats["total_size_bytes"] == 1024 * (successful + skipped)
    assert stats["downloaded_bytes"] == 1024 * successful
    assert result.storage_zones_used == (["archive"] if successful + skipped else [])


DOCUMENTED = {
    *("status", "outcome", "metadata", "collection_stats", "success_rate"),
    *("total_size_formatted", "output_directory", "storage_zones_used", "ingestion_metadata_id"),
    *("output_files", "failures", "unavailable", "missing"),
}


@pytest.mark.parametrize("states", [row[0] for row in STATES])
def test_every_key_is_always_there_and_an_attribute_too(states: tuple[State, ...]) -> None:
    result = result_of(*states)
    assert set(result) >= DOCUMENTED
    assert isinstance(result, Mapping)
    assert len(result) == len(list(result))
    for name in result:
        assert result[name] is getattr(result, name)
        assert name in result
    assert dict(result)["status"] == "success"
    assert set(result["metadata"].__dict__) == {
        *("task_id", "status", "created_at", "updated_at", "records_processed"),
        *("bytes_processed", "errors", "source_files", "output_files"),
    }
    assert set(result["collection_stats"]) == {
        *("total_tasks", "successful_tasks", "failed_tasks", "skipped_tasks"),
        *("total_size_bytes", "downloaded_bytes", "processing_time_seconds"),
    }


def test_documented_ways_to_read_a_result() -> None:
    result = result_of(D, K)
    assert f"Status: {result['status']}" == "Status: success"
    assert result["collection_stats"]["successful_tasks"] == 1
    assert result["total_size_formatted"] == "2.0 KB"
    assert result["output_directory"] == "output/x"
    assert result.get("error", "Unknown error") == "Unknown error"
    assert len([f for f in result["metadata"].output_files if "trades" in f]) == 2
    assert result["metadata"].errors[:5] == []
    with pytest.raises(KeyError, match="frobnicate; the result has status"):
        result["frobnicate"]
    with pytest.raises(AttributeError):
        _ = result.frobnicate  # type: ignore[attr-defined]


def test_each_result_equals_only_itself() -> None:
    one, other = result_of(D), result_of(D)
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2
    assert one.ingestion_metadata_id != other.ingestion_metadata_id
    assert one.metadata.task_id == one.ingestion_metadata_id
    assert one.metadata.created_at == "2025-08-20T09:00:00+00:00"
    assert datetime.fromisoformat(one.metadata.updated_at).utcoffset() == timedelta()
    assert "status='success'" in repr(one.metadata)


def test_output_files_are_those_proven() -> None:
    result = result_of(D, F, K, A)
    days = [path[-14:-4] for path in result.output_files]
    assert days == ["2025-01-01", "2025-01-03"]
    assert all(path.startswith("/store/data/spot/daily/trades/") for path in result.output_files)
    assert [key[-14:-4] for key in result.metadata.source_files] == [
        *("2025-01-01", "2025-01-02", "2025-01-03")
    ]
    assert not any(path.endswith(".CHECKSUM") for path in result.output_files)


def test_stale_files_are_flagged() -> None:
    key = plan_of(1).frame["key"][0]
    result = result_of(D, stale=[key])
    assert result.stale == (f"/store/{key}",)
    assert "1 accepted despite a stale checksum" in str(result)
    assert "1 accepted despite a stale checksum" in result._repr_html_()


def test_missing_objects_come_from_the_plan_and_the_run() -> None:
    first, second = (
        Absence(Market.SPOT, DataType.TRADES, Reason.ABSENT, word, *(date(2025, 1, 1),) * 2)
        for word in ("first", "second")
    )
    result = result_of(D, plan=plan_of(1, missing=(first,)), missing=[second])
    assert result.missing == (first, second)
    assert result["missing"] is result.missing


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (
            (D, D),
            "2 of 2 objects proven on disk; 2 downloaded, 0 kept; 2.0 KB at 1.0 KB/s; "
            "2.0 KB in all, 2.0 s",
        ),
        ((K,), "1 of 1 objects proven on disk; 0 downloaded, 1 kept; 1.0 KB in all, 2.0 s"),
        (
            (D, F),
            "1 of 2 objects proven on disk; 1 downloaded, 0 kept, 1 failed; "
            "1.0 KB at 512 B/s; 1.0 KB in all, 2.0 s",
        ),
        ((F,), "0 of 1 objects proven on disk; 0 downloaded, 0 kept, 1 failed; 0 B in all, 2.0 s"),
    ],
)
def test_headlines(states: tuple[State, ...], words: str) -> None:
    assert result_of(*states).headline() == words


@pytest.mark.parametrize("states", [(), (A,), (F,), (F, D)])
def test_no_success_is_claimed_where_there_is_none(states: tuple[State, ...]) -> None:
    result = result_of(*states)
    for text in (result.headline(), str(result), result._repr_html_()):
        for word in ("success", "complete"):
            assert word not in text.lower()
    assert ("Nothing collected" in result.headline()) == (F not in states)


def test_a_run_of_zero_seconds_has_no_rate() -> None:
    assert "at ?/s" in result_of(D, seconds=0.0).headline()


def test_raise_for_failures() -> None:
    result_of(D, K).raise_for_failures()
    result_of().raise_for_failures()
    key = plan_of(1).frame["key"][0]
    result = result_of(D, F, F, failures=[NotFound(key, "gone"), Corrupt(key, "bad")])
    with pytest.raises(WorkflowError) as caught:
        result.raise_for_failures()
    assert caught.value.result is result
    assert str(caught.value) == (
        f"2 objects failed (1 not_found, 1 corrupt); the first: {key}: not_found: gone"
    )


def test_failed_shards_are_not_counted_as_objects() -> None:
    result = result_of(D, F, failures=[ShardFailed("spot klines BTCUSDT", "lost")])
    assert result.failures_in_words().startswith("1 failure (1 shard_failed); the first: spot")


def test_many_failures_are_cut_with_a_count() -> None:
    result = result_of(*[F] * 30, D)
    assert str(result).count("bad bytes") == 20
    for text in (str(result), result._repr_html_()):
        assert "… and 10 more in result.failures" in text
    assert len(result.failures) == len(result.metadata.errors) == 30


def test_html_escapes_foreign_text() -> None:
    absence = Absence(
        Market.SPOT, DataType.TRADES, Reason.ABSENT, HOSTILE, *(date(2025, 1, 1),) * 2, HOSTILE
    )
    result = result_of(
        D,
        F,
        plan=plan_of(2, missing=(absence,), unavailable=(absence,), notes=(HOSTILE,)),
        failures=[Corrupt(HOSTILE, HOSTILE)],
        not_published=[absence],
    )
    html = result._repr_html_()
    assert "<script" not in html
    assert "alert('" not in html
    assert html.count("&lt;script&gt;") >= 6
    assert HOSTILE in str(result)
    for kind in ("missing", "not published", "unavailable"):
        assert f"1 {kind}" in html


def test_html_tables_per_feed() -> None:
    html = result_of(D, D, K, F)._repr_html_()
    assert "Collection partial" in html
    row = html[html.index("<tbody>") : html.index("</tbody>")]
    cells = [cell.split("<")[0] for cell in row.split('">')[1:]]
    assert cells == ["spot", "trades", "daily", "2", "1", "1", "75.00 %"]
    assert "<script" not in html
    assert "http" not in html


@pytest.mark.parametrize("states", [row[0] for row in STATES])
def test_html_of_every_outcome(states: tuple[State, ...]) -> None:
    html = result_of(*states)._repr_html_()
    assert html.startswith("<div")
    assert html.count("<div") == html.count("</div>")
    assert html.count("<table") == html.count("</table>")


# Files


def test_files_are_a_sequence() -> None:
    keys = [f"k{n}" for n in range(5)]
    files = Files(pl.Series(keys), str.upper)
    meant = [key.upper() for key in keys]
    assert isinstance(files, Sequence)
    assert len(files) == 5
    assert list(files) == meant
    assert list(reversed(files)) == meant[::-1]
    assert files == meant
    assert files == tuple(meant)
    assert files != meant[:4]
    assert files != 5
    assert files[0] == "K0"
    assert files[-1] == "K4"
    assert (files[1:3], files[::-1], files[:0], files[-2:]) == (
        *(meant[1:3], meant[::-1], [], meant[-2:]),
    )
    assert all(isinstance(each, str) for each in files)
    assert "K3" in files
    assert "k3" not in files
    assert files.index("K2") == 2
    assert files.count("K2") == 1
    assert sorted(files, reverse=True) == meant[::-1]
    assert repr(files) == "['K0', 'K1', 'K2', …] (5 files)"
    assert repr(Files(pl.Series(["a"]))) == "['a'] (1 files)"
    with pytest.raises(IndexError):
        files[5]
    with pytest.raises(IndexError):
        files[-6]
    with pytest.raises(TypeError):
        hash(files)


def test_no_files() -> None:
    none = Files(pl.Series([], dtype=pl.String))
    assert not none
    assert list(none) == []
    assert none == []
    with pytest.raises(IndexError):
        none[0]


# The plot of the speed


def test_the_plot_shows_the_speed_over_time() -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    result = result_of(
        D, D, arrivals=Arrivals([(0.0, 0), (0.5, 1 << 20), (1.0, 3 << 20), (3.0, 3 << 20)])
    )
    axes = result.plot()
    [steps] = axes.patches
    values, edges, _ = steps.get_data()  # type: ignore[attr-defined]
    # What was drawn is as much as came.
    assert sum(values * (edges[1:] - edges[:-1])) == pytest.approx(3)
    assert axes.get_xlim() == (0, 3)
    assert "average" in axes.get_legend().get_texts()[1].get_text()
    assert result.plot(axes) is axes
    nothing = result_of(K, K).plot()
    assert "nothing was downloaded: 2 objects kept" in nothing.texts[0].get_text()
    pyplot.close("all")
