"""Starting the binary of s5cmd, and collecting what it says."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from binance_archive_kit.storage import s5cmd_process
from binance_archive_kit.storage.s5cmd_process import binary, run_commands


def test_the_binary_is_not_the_wrapper() -> None:
    path = binary()
    assert path.is_absolute()
    assert os.access(path, os.X_OK)
    assert path.read_bytes()[:2] != b"#!"
    said = subprocess.run([path, "version"], capture_output=True, text=True, timeout=20, check=True)
    assert said.stdout.startswith("v2.")


def test_errors_of_commands_are_collected() -> None:
    messages = run_commands(["ls", "nonsense"], ["--no-sign-request", "--bad"], os.environ, 20)
    assert messages.errors
    assert messages.results == []


@pytest.mark.parametrize("end", ["kill -9 $$", "exit 2", "exit 1"])
def test_an_early_end_is_an_error(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "s5cmd"
    dying.write_text(f'#!/bin/sh\necho \'{{"key": "first"}}\'\n{end}\n')
    dying.chmod(0o755)
    monkeypatch.setattr(s5cmd_process, "binary", lambda: dying)
    messages = run_commands(["ls"], [], os.environ, 20)
    assert messages.results == [{"key": "first"}]
    [error] = messages.errors
    assert "ended early" in error["error"]


def test_an_unfinished_word_is_an_error() -> None:
    assert run_commands(["ls 's3://bucket"], [], os.environ, 20).errors


def test_a_silent_process_is_killed() -> None:
    def endless() -> list[str]:
        time.sleep(3)
        return []

    def lines() -> object:
        yield from endless()

    started = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer"):
        run_commands(lines(), [], os.environ, 0.5)  # type: ignore[arg-type]
    assert time.monotonic() - started < 6
