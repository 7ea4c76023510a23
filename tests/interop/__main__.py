"""Load the exports with the real tools, each in an environment of its own.

``make interop`` runs all; ``python -m tests.interop freqtrade`` runs some. What a tool cannot load
is an error, and so is a tool that cannot be installed: its reason is shown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import binance_archive_kit as bak
from tests.interop.environments import NotInstallable, environment
from tests.interop.tools import TOOLS, Tool, collect_demo

CHECKS = Path(__file__).parent


def run(tool: Tool, store: Path, work: Path, environments: Path) -> str:
    """Export for a tool, and load the result in its environment; return a problem, or nothing."""
    try:
        python = environment(environments / tool.name, tool.requirements, tool.pythons)
    except NotInstallable as error:
        return f"cannot be installed here: {error}"
    folder = work / tool.name
    folder.mkdir()
    tool.export(store, folder)
    check = CHECKS / f"check_{tool.name.replace('-', '_')}.py"
    # No tool sees this repository, and this package only if it is among its requirements.
    done = subprocess.run([python, "-I", str(check), str(folder)], cwd=folder, check=False)
    return f"its check ended with {done.returncode}" if done.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interop", description=__doc__)
    parser.add_argument("tools", nargs="*", help=f"{', '.join(TOOLS)}; all by default")
    parser.add_argument("--environments", type=Path, default=Path(".venv-interop"))
    arguments = parser.parse_args()
    if unknown := set(arguments.tools) - set(TOOLS):
        parser.error(f"unknown tools: {', '.join(sorted(unknown))}; there are {', '.join(TOOLS)}")
    problems = {}
    with tempfile.TemporaryDirectory(prefix="interop-") as made, bak.demo_archive() as endpoint:
        work = Path(made)
        store = collect_demo(work / "store", endpoint)
        for name in arguments.tools or TOOLS:
            started = time.monotonic()
            print(f"\n== {name}", flush=True)
            problems[name] = run(TOOLS[name], store, work, arguments.environments.absolute())
            print(f"{problems[name] or 'passed'} after {time.monotonic() - started:.0f} s")
    print()
    for name, problem in problems.items():
        print(f"{name:<16} {problem or 'passed'}")
    return int(any(problems.values()))


if __name__ == "__main__":
    sys.exit(main())
