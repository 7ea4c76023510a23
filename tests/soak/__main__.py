"""Run the checks that take minutes to hours, each in a process of its own.

    python -m tests.soak [STEP ...] [--folder DIR] [--again] [--seed N] [--seconds N]

A step is a module beside this one. The first line of its docstring describes it, and its function
`run` yields figures as text and raises if something is wrong::

    SECONDS = 600.0  # how long it takes by default

    def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
        yield "1,000 of 1,000 files proven, peak 120 MB"

What a step yields last is shown in the table at the end. Its folder is its own. It is empty at
first, and kept with the seed if the step is killed, so that a step may go on where it was. Steps
that have passed are remembered with their figures, and skipped until the code changes.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
#: Changes of these files make a step run again.
CODE = [HERE.parents[1] / name for name in ("binance_archive_kit", "matrix", "tests")]
#: Runs a step; its standard output are the figures.
_CHILD = """
import sys
from importlib import import_module
from pathlib import Path
module, folder, seed, seconds = sys.argv[1:]
step = import_module(module)
for figures in step.run(Path(folder), int(seed), float(seconds or getattr(step, "SECONDS", 600))):
    print(figures, flush=True)
"""


@dataclass
class Outcome:
    """How a step ended, as remembered.

    Attributes
    ----------
    code : str
        Digest of the code that ran.
    seed : int
    seconds : float or None
        How long it took; None while it runs, and if it was killed.
    peak : float
        Most memory that its process, or one that it started, took, in MB.
    problem : str
        Why it failed; empty if it passed.
    figures : list of str
    """

    code: str
    seed: int
    seconds: float | None
    peak: float
    problem: str
    figures: list[str]

    @property
    def passed(self) -> bool:
        return self.seconds is not None and not self.problem

    @property
    def row(self) -> str:
        said = self.problem or next(reversed(self.figures), "no figures")
        verdict = "failed" if self.problem else "passed"
        return f"{verdict}  {self.seconds or 0:6.0f} s  {self.peak:6,.0f} MB  {said}"


class Steps:
    """The steps of a package, and what is remembered of them in a folder."""

    def __init__(self, package: str, source: Path, folder: Path) -> None:
        self._package = package
        self._source = source
        self._folder = folder
        self._code = digest_of(CODE)

    @property
    def names(self) -> list[str]:
        return sorted(path.stem for path in self._source.glob("[!_]*.py"))

    def description(self, name: str) -> str:
        """Return the first line of a step's docstring."""
        tree = ast.parse((self._source / f"{name}.py").read_text(encoding="utf-8"))
        return (ast.get_docstring(tree) or "").partition("\n")[0]

    def recall(self, name: str) -> Outcome | None:
        """Return what is remembered of a step, if it ran with the code of now."""
        try:
            found = Outcome(**json.loads(self._memory(name).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return found if found.code == self._code else None

    def run(
        self, name: str, seed: int | None, seconds: float | None, say: Callable[[str], None]
    ) -> Outcome:
        """Run a step, or the rest of one that was killed, and remember how it ended."""
        own = self._folder / name
        before = self.recall(name)
        if before and before.seconds is None and seed in (None, before.seed):
            seed = before.seed
        else:
            shutil.rmtree(own, ignore_errors=True)
        own.mkdir(parents=True, exist_ok=True)
        outcome = Outcome(
            self._code, random.randrange(2**31) if seed is None else seed, None, 0, "", []
        )
        self._remember(name, outcome)
        say(f"\n== {name}: {self.description(name)} (seed {outcome.seed})")
        began = time.monotonic()
        self._follow(name, outcome, seconds, say)
        outcome.seconds = time.monotonic() - began
        self._remember(name, outcome)
        if outcome.passed:
            shutil.rmtree(own, ignore_errors=True)
        return outcome

    def _follow(
        self, name: str, outcome: Outcome, seconds: float | None, say: Callable[[str], None]
    ) -> None:
        """Run a step in a process; complete its outcome."""
        words = [f"{self._package}.{name}", str(self._folder / name), str(outcome.seed)]
        log = self._folder / f"{name}.log"
        with (
            log.open("w", encoding="utf-8") as errors,
            subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-c", _CHILD, *words, str(seconds or "")],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as child,
        ):
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    outcome.figures.append(line.rstrip())
                    say(f"   {line.rstrip()}")
                _, status, usage = os.wait4(child.pid, 0)
            except BaseException:
                child.terminate()
                raise
            child.returncode = os.waitstatus_to_exitcode(status)
        outcome.peak = usage.ru_maxrss / 1024
        if child.returncode:
            last = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-30:]
            say("\n".join(last))
            outcome.problem = f"ended with {child.returncode}: {next(reversed(last), '')}"

    def _memory(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _remember(self, name: str, outcome: Outcome) -> None:
        written = self._memory(name).with_suffix(".new")
        written.write_text(json.dumps(asdict(outcome), indent=1), encoding="utf-8")
        written.replace(self._memory(name))


def digest_of(folders: Sequence[Path]) -> str:
    """Return a digest of the names and bytes of source and data files."""
    found = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".pyi", ".json", ".js", ".css"):
                found.update(f"{path.relative_to(folder)}\0".encode())
                found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def main(
    words: Sequence[str] | None = None, package: str = "tests.soak", source: Path = HERE
) -> int:
    """Run the steps that are named, or all of them; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help="all by default")
    parser.add_argument("--folder", type=Path, default=Path(".soak"), help=".soak by default")
    parser.add_argument("--again", action="store_true", help="also run steps that have passed")
    parser.add_argument("--seed", type=int, help="of all that is random; another one by default")
    parser.add_argument("--seconds", type=float, help="how long each step shall take, about")
    asked = parser.parse_args(words)
    steps = Steps(package, source, asked.folder.absolute())
    asked.folder.mkdir(parents=True, exist_ok=True)
    if unknown := set(asked.steps) - set(steps.names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(steps.names)}")
    rows: dict[str, Outcome] = {}
    for name in asked.steps or steps.names:
        known = steps.recall(name)
        if known and known.passed and not asked.again:
            print(f"\n== {name}: has passed with this code; --again runs it again", flush=True)
            rows[name] = known
        else:
            rows[name] = steps.run(
                name, asked.seed, asked.seconds, lambda said: print(said, flush=True)
            )
    print()
    for name, outcome in rows.items():
        print(f"{name:<12} {outcome.row}")
    return int(any(outcome.problem for outcome in rows.values()))


if __name__ == "__main__":
    # So that a step ends with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
