"""Starting the binary of s5cmd, and collecting what it says."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

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
