"""Call the public functions on a store without permission for parts of it, also as root.

python -m tests.support.denied URL STORE TARGET HOW FAULT...
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.public_calls import Calls
from tests.support.spoiling import TARGETS, heal_modes, spoil


def run_denied(calls: Calls, how: str, *faults: str) -> None:
    """Run the calls in a process that has lost the rights of root, if this one has them."""
    command = [sys.executable, "-W", "ignore", "-m", __spec__.name]
    if os.getuid() == 0:
        if (setpriv := shutil.which("setpriv")) is None:
            pytest.skip("root may read everything; needs setpriv")
        command = [setpriv, "--bounding-set=-dac_override,-dac_read_search", *command]
    command += [calls.url, str(calls.store), str(calls.target), how, *faults]
    run = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120
    )
    assert (run.returncode, run.stderr) == (0, ""), run.stderr


def main(url: str, store: str, target: str, how: str, *faults: str) -> None:
    calls = Calls(url, Path(store), Path(target))
    for call in (*calls.reading().values(), *calls.asking().values()):
        try:
            assert all(spoil(Path(store), TARGETS[fault], how) for fault in faults)
            calls.run(call)
        finally:
            heal_modes(Path(store))


if __name__ == "__main__":
    main(*sys.argv[1:])
