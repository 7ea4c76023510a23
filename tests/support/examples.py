"""Runs documented examples, each in a process of its own, and looks at what came out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.s3_server import LocalS3

ROOT = Path(__file__).parents[2]
ENTRIES = {
    *("status", "outcome", "metadata", "collection_stats", "success_rate", "total_size_formatted"),
    *("output_directory", "storage_zones_used", "ingestion_metadata_id", "output_files"),
    *("failures", "unavailable", "missing"),
}
METADATA = {
    *("task_id", "status", "created_at", "updated_at", "records_processed", "bytes_processed"),
    *("errors", "source_files", "output_files"),
}


@dataclass
class Said:
    """What a process printed, and what came out of its run."""

    printed: str
    complained: str
    code: int
    seconds: float
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.printed.splitlines()[-1])
        return found


def environment(url: str, **more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "S3_ENDPOINT_URL": url, "PYTHONPATH": str(ROOT), **more}


def run(command: list[str], folder: Path, url: str, **more: str) -> Said:
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(url, **more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Said(done.stdout, done.stderr, done.returncode, time.monotonic() - began, folder)


def example(name: str, folder: Path, server: LocalS3, **more: str) -> Said:
    command = [sys.executable, "-m", "tests.support.documented", name]
    said = run(command, folder, server.url, **more)
    assert said.code == 0, said.complained
    return said


def assert_gives(said: Said, total: int) -> None:
    """All that existed came, is where it is said to be, and nothing else is there."""
    result = said.result
    stats = result["stats"]
    assert stats["total_tasks"] == stats["successful_tasks"] == total
    assert stats["skipped_tasks"] == stats["failed_tasks"] == 0
    assert result["status"] == "success"
    assert result["outcome"] == ("complete" if total else "empty")
    assert result["missing"] == result["not_published"] == result["failures"] == []
    assert set(result["entries"]) >= ENTRIES
    assert set(result["metadata"]) == METADATA
    below = {str(path) for path in said.folder.rglob("*.zip")}
    assert below == {str(said.folder / file) for file in result["files"]}
    assert len(below) == total
