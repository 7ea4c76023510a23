"""Processes of a test, to be killed by it or at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import binance_archive_kit


class Children:
    """Starts processes that run some code, and ends those that still run."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        home = Path(binance_archive_kit.__file__).parents[1]
        child = subprocess.Popen(
            [sys.executable, "-c", self._code, *arguments],
            env={**os.environ, "PYTHONPATH": str(home), **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._all.append(child)
        return child

    def end(self) -> None:
        for child in self._all:
            child.kill()
            child.wait()
            if child.stderr:
                child.stderr.close()
