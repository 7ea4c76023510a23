from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from binance_archive_kit.archive import certificate_file as module
from binance_archive_kit.archive.certificate_file import certificate_file

TEXT = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
#: Reads its file through another process, and ends as if it were killed.
_CODE = """
import os, subprocess, sys
from binance_archive_kit.archive.certificate_file import certificate_file
path = certificate_file(sys.argv[1])
assert certificate_file(sys.argv[1]) == path != certificate_file("other")
print(subprocess.run(["cat", path], check=True, capture_output=True, text=True).stdout, flush=True)
os.kill(os.getpid(), 9)
"""


def test_the_file_is_read_and_does_not_outlive_a_killed_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE, TEXT],
        env={"PYTHONPATH": str(Path(module.__file__).parents[2]), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (-9, f"{TEXT}\n"), done.stderr
    if sys.platform == "linux":
        assert not [*tmp_path.iterdir()]


def test_without_memory_files_it_lies_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_in_memory", lambda _: None)
    path = Path(certificate_file(f"{TEXT}\n"))
    assert path.read_text() == f"{TEXT}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
