"""Environments of other tools: made once, and again when their requirements change."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

#: Lines of an error of pip that are shown.
_SHOWN = 5


class NotInstallable(Exception):
    """No interpreter of this machine can install a tool; the message says why for each."""


def environment(folder: Path, requirements: Sequence[str], pythons: Sequence[str]) -> Path:
    """Return the interpreter of an environment with some requirements.

    Parameters
    ----------
    folder : Path
    requirements : sequence of str
        As for pip.
    pythons : sequence of str
        Names of interpreters; the first that can install them is taken.
    """
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    problems = []
    for name in pythons:
        if (base := _find(name)) is None:
            problems.append(f"{name}: not on this machine")
            continue
        commands = (
            [base, "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", *requirements],
        )
        print(f"installing {', '.join(requirements)} with {name}", flush=True)
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]
                problems.append(f"{name}: {' | '.join(lines[-_SHOWN:])}")
                break
        else:
            stamp.write_text(wanted)
            return python
    raise NotInstallable("; ".join(problems))


def _find(name: str) -> str | None:
    """Return an interpreter that runs: on the path, or one that pyenv has installed."""
    installed = sorted(Path.home().glob(f".pyenv/versions/*/bin/{name}"))
    for path in filter(None, (shutil.which(name), *map(str, installed))):
        # pyenv has a command for each interpreter, also for those that are switched off.
        if not subprocess.run([path, "--version"], capture_output=True, check=False).returncode:
            return path
    return None
