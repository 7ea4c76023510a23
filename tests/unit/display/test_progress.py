"""Progress lines, and the bar that shows them."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from binance_archive_kit.display.progress import Bar, Progress, _NotebookLine


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


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Collect what a notebook displays and updates."""
    publisher = CapturingDisplayPublisher()
    shell = InteractiveShell.instance(history_manager=None)
    monkeypatch.setattr(shell, "display_pub", publisher)
    yield publisher.outputs
    InteractiveShell.clear_instance()


def test_a_notebook_shows_a_bar_that_disappears(outputs: list[dict[str, Any]]) -> None:
    progress = Progress(total=2)
    with Bar(progress, _NotebookLine()) as bar:
        bar.update()
        progress.done = 2
    first, *_, last = outputs
    assert '<progress value="0.000"' in first["data"]["text/html"]
    assert "starting: 0 of 2 objects" in first["data"]["text/html"]
    assert last["data"] == {}
    assert last["update"]
    assert len({each["transient"]["display_id"] for each in outputs}) == 1


def test_a_notebook_keeps_the_line_of_work_that_failed(outputs: list[dict[str, Any]]) -> None:
    def fail() -> None:
        with Bar(Progress(total=2), _NotebookLine()) as bar:
            bar.update()
            raise RuntimeError("on its way")

    with pytest.raises(RuntimeError, match="on its way"):
        fail()
    line = '<div style="font-size:90%">starting: 0 of 2 objects</div>'
    assert outputs[-1]["data"] == {"text/html": line}
