"""What is shown while it works, and what is handed back when it is done."""

from __future__ import annotations

import asyncio
import io
import pickle
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binance_archive_kit import errors
from binance_archive_kit.archive.absence import Absence, Reason
from binance_archive_kit.archive.enums import DataType, Market
from binance_archive_kit.display import render
from binance_archive_kit.display.progress import Arrivals, Bar, Progress
from binance_archive_kit.download.result import CollectionResult, Files, State
from binance_archive_kit.errors import Corrupt, NotFound, ObjectError, WorkflowError
from binance_archive_kit.planning.config import CollectionConfig
from binance_archive_kit.planning.plan import PLAN_SCHEMA, Plan

# Progress


class Clock:
    """Stands a progress's beginning some seconds back."""

    @staticmethod
    def running(seconds: float, **fields: Any) -> Progress:
        progress = Progress(**fields)
        progress.started -= seconds
        return progress


def test_a_line_before_anything_is_known() -> None:
    assert Progress().line() == "starting: 0 of 0 objects"
    assert Progress().share() == 0


@pytest.mark.parametrize(
    ("fields", "seconds", "line"),
    [
        (
            {"phase": "listing", "unit": "folders", "done": 3, "total": 1200},
            0,
            "listing: 3 of 1,200 folders",
        ),
        (
            {"done": 1, "total": 4, "done_bytes": 1024, "total_bytes": 4096},
            0,
            "starting: 1 of 4 objects, 1.0 KB of 4.0 KB",
        ),
        (
            {"done": 1, "total": 4, "total_bytes": 4096},
            0,
            "starting: 1 of 4 objects".replace("1 of", "1 of") + ", 0 B of 4.0 KB",
        ),
        ({"done": 1, "total": 4, "done_bytes": 1024}, 0, "starting: 1 of 4 objects, 1.0 KB"),
        (
            {"done": 1, "total": 4, "done_bytes": 1024, "total_bytes": 4096},
            10,
            "starting: 1 of 4 objects, 1.0 KB of 4.0 KB, 102 B/s, 30 s left",
        ),
        (
            {"done": 4, "total": 4, "done_bytes": 4096, "total_bytes": 4096},
            10,
            "starting: 4 of 4 objects, 4.0 KB of 4.0 KB, 410 B/s",
        ),
        (
            {"done": 2, "total": 4, "failed": 1200},
            10,
            "starting: 2 of 4 objects, 10 s left, 1,200 failed",
        ),
        ({"done": 0, "total": 4}, 10, "starting: 0 of 4 objects"),
        # Bytes on their way count, but never beyond the total.
        (
            {"total": 1, "arriving": 2048, "total_bytes": 4096},
            0,
            "starting: 0 of 1 objects, 2.0 KB of 4.0 KB",
        ),
        (
            {"total": 1, "arriving": 9000, "total_bytes": 4096},
            0,
            "starting: 0 of 1 objects, 4.0 KB of 4.0 KB",
        ),
    ],
)
def test_lines(fields: dict[str, Any], seconds: float, line: str) -> None:
    assert Clock.running(seconds, **fields).line() == line


@given(
    done=st.integers(0, 10**6),
    total=st.integers(0, 10**6),
    done_bytes=st.integers(0, 10**12),
    total_bytes=st.one_of(st.none(), st.integers(0, 10**12)),
    arriving=st.integers(0, 10**12),
    seconds=st.floats(0, 1e6),
)
def test_shares_are_shares(seconds: float, **fields: Any) -> None:
    progress = Clock.running(seconds, **fields)
    assert 0 <= progress.share() <= 1
    assert "\n" not in progress.line()
    assert "-" not in progress.line()


def test_a_new_phase_counts_anew() -> None:
    progress = Clock.running(100, done=5, total=5, done_bytes=9, failed=2, arriving=7)
    progress.begin("collecting", 10, 1000)
    assert progress.line() == "collecting: 0 of 10 objects, 0 B of 1000 B"
    progress.done_bytes = 500
    assert "/s" not in progress.line()  # rates are of this phase alone
    progress.begin("listing", 3, unit="folders")
    assert progress.line() == "listing: 0 of 3 folders"


class Recorder:
    def __init__(self) -> None:
        self.shown: list[tuple[str, float, bool]] = []

    def __call__(self, line: str, share: float, final: bool) -> None:
        self.shown.append((line, share, final))


def test_the_bar_shows_changes_and_the_end() -> None:
    recorder, progress = Recorder(), Progress(total=2)
    with Bar(progress, recorder) as bar:
        bar.update()
        bar.update()
        progress.done = 1
        bar.update()
        progress.done = 2
    assert recorder.shown == [
        ("starting: 0 of 2 objects", 0.0, False),
        ("starting: 1 of 2 objects", 0.5, False),
        ("starting: 2 of 2 objects", 1.0, True),
    ]


def test_the_bar_ends_when_the_work_fails() -> None:
    recorder = Recorder()

    def fail() -> None:
        with Bar(Progress(total=1), recorder) as bar:
            bar.update()
            raise RuntimeError("on its way")

    with pytest.raises(RuntimeError, match="on its way"):
        fail()
    assert [final for *_, final in recorder.shown] == [False, True]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, asyncio.CancelledError])
def test_an_interrupt_says_how_far_any_work_has_come(kind: type[BaseException]) -> None:
    lines: list[str] = []
    progress = Progress()
    progress.begin("proving again", 9, unit="files")
    progress.done = 4
    with pytest.raises(kind) as caught, Bar(progress, lambda line, *_: lines.append(line)):
        raise kind
    said = "interrupted while proving again, after 4 of 9 files; run it again"
    assert str(caught.value) == said
    assert lines == [said]
    assert said in "".join(caught.value._render_traceback_())  # type: ignore[attr-defined]


def test_an_error_is_not_taken_for_an_interrupt() -> None:
    with pytest.raises(ValueError, match=r"^mine$"), Bar(Progress(), lambda *_: None):
        raise ValueError("mine")


def test_work_too_quick_to_show_shows_nothing() -> None:
    recorder = Recorder()
    with Bar(Progress(total=1), recorder):
        pass
    assert recorder.shown == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_that_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(total=4)
    with Bar(progress) as bar:
        bar.update()
        progress.done = 2
        bar.update()
        progress.done = 4
    lines = terminal.getvalue().split("\r")[1:]
    assert [line.split()[0] for line in lines] == ["·" * 20, "█" * 10 + "·" * 10, "█" * 20]
    assert all("\x1b[K" in line for line in lines)
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().endswith("\n")


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_a_pipe_gets_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stream: object
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        with Bar(Progress(total=1)) as bar:
            bar.update()
            bar.update(final=True)
    assert not isinstance(stream, io.StringIO) or stream.getvalue() == ""
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


# Sizes and times in words


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


# Results

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
        "missing": (),
        "not_published": (),
        "stale": (),
        "spell": lambda key: f"/store/{key}",
        "proven_bytes": 1024 * proven,
        "downloaded_bytes": 1024 * states.count(State.DOWNLOADED),
        "seconds": 2.0,
        "created_at": datetime(2025, 8, 20, 9, tzinfo=UTC),
    }
    return CollectionResult(plan, bytearray(states), **{**defaults, **fields})


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


def test_as_the_document_reads_it() -> None:
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


def test_results_are_themselves() -> None:
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
    assert "1 taken despite a stale checksum" in str(result)
    assert "1 taken despite a stale checksum" in result._repr_html_()


def test_what_is_missing_is_joined_from_plan_and_run() -> None:
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


def test_no_time_at_all() -> None:
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


def test_many_failures_are_cut_with_a_count() -> None:
    result = result_of(*[F] * 30, D)
    assert str(result).count("corrupt:") == 20
    for text in (str(result), result._repr_html_()):
        assert "… and 10 more in result.failures" in text
    assert len(result.failures) == len(result.metadata.errors) == 30


def test_html_escapes_what_comes_from_outside() -> None:
    absence = Absence(
        Market.SPOT, DataType.TRADES, Reason.ABSENT, HOSTILE, *(date(2025, 1, 1),) * 2, HOSTILE
    )
    result = result_of(
        D,
        F,
        plan=plan_of(2, missing=(absence,), unavailable=(absence,), notes=(HOSTILE,)),
        failures=[Corrupt(HOSTILE, HOSTILE)],
        not_published=(absence,),
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
    assert cells == ["spot", "trades", "daily", "2", "1", "1"]
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


# Errors


def every(kind: type[ObjectError]) -> list[type[ObjectError]]:
    return [each for sub in kind.__subclasses__() for each in (sub, *every(sub))]


def test_each_failure_has_its_own_word_and_stands_in_the_tree() -> None:
    kinds = every(ObjectError)
    reasons = [kind.reason for kind in kinds]
    assert len(set(reasons)) == len(reasons)
    for kind in kinds:
        assert kind.__name__ in str(errors.__doc__)
        assert kind.reason in str(errors.__doc__)
        error = kind("data/x.zip", "why")
        assert str(error) == f"data/x.zip: {kind.reason}: why"
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.key, again.detail) == (kind, "data/x.zip", "why")


# The picture of the speed


def test_the_speed_is_drawn_over_time() -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    result = result_of(D, D, arrivals=[(0.0, 0), (0.5, 1 << 20), (1.0, 3 << 20), (3.0, 3 << 20)])
    axes = result.plot()
    [steps] = axes.patches
    values, edges, _ = steps.get_data()  # type: ignore[attr-defined]
    # What was drawn is as much as came.
    assert sum(values * (edges[1:] - edges[:-1])) == pytest.approx(3)
    assert axes.get_xlim() == (0, 3)
    assert "on average" in axes.get_legend().get_texts()[1].get_text()
    assert result.plot(axes) is axes
    nothing = result_of(K, K).plot()
    assert "nothing was downloaded: 2 objects kept" in nothing.texts[0].get_text()
    pyplot.close("all")


def test_moments_stay_few_and_bytes_never_go_back() -> None:
    arrivals = Arrivals()
    for at in range(20_000):
        arrivals.note(at / 100, at if at != 500 else 3)
    arrivals.note(200.0, 20_000, final=True)
    assert len(arrivals.moments) <= 512
    assert arrivals.moments[-1] == (200.0, 20_000)
    assert arrivals.moments == sorted(arrivals.moments, key=lambda moment: moment[1])
