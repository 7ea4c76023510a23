"""The driver of ``make soak``: passed steps are remembered, killed ones go on, failed ones show."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOOD = '''"""Count its runs."""
def run(folder, seed, seconds):
    with (folder.parent / "runs").open("a") as file:
        file.write(f"{seed} {seconds}\\n")
    yield "the first figures"
    yield "7 of 7"
'''
BAD = '''"""Find something wrong."""
def run(folder, seed, seconds):
    yield "as far as this"
    raise AssertionError("6 of 7")
'''
#: Waits until it is killed; its second run goes on.
LONG = '''"""Take long."""
SECONDS = 5.0
def run(folder, seed, seconds):
    mark = folder / "mark"
    if mark.exists():
        yield f"{mark.read_text()} and {seed} {seconds}"
        return
    mark.write_text(f"{seed}")
    yield "waits"
    time.sleep(60)
'''


@pytest.fixture
def steps(tmp_path: Path) -> list[str]:
    package = tmp_path / "few_steps"
    package.mkdir()
    for name, code in {"good": GOOD, "bad": BAD, "long": LONG}.items():
        (package / f"{name}.py").write_text(code)
    code = (
        "import sys; from pathlib import Path; from tests.soak.__main__ import main;"
        f"sys.exit(main(package='few_steps', source=Path({str(package)!r})))"
    )
    return [sys.executable, "-c", code, "--folder", str(tmp_path / "kept")]


def run(steps: list[str], *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [*steps, *words], cwd=ROOT, env=environment(steps), capture_output=True, text=True
    )
    assert not done.stderr
    return done.returncode, done.stdout


def environment(steps: list[str]) -> dict[str, str]:
    return {"PYTHONPATH": f"{ROOT}:{Path(steps[-1]).parent}", "PYTHONDONTWRITEBYTECODE": "1"}


def test_passed_steps_are_remembered_and_failed_ones_are_not(
    steps: list[str], tmp_path: Path
) -> None:
    code, said = run(steps, "good", "bad", "--seed", "3", "--seconds", "9")
    assert code == 1
    assert re.search(r"^good +passed .* 7 of 7$", said, re.M)
    assert re.search(r"^bad +failed .* ended with 1: AssertionError: 6 of 7$", said, re.M)
    assert "Traceback" in said
    code, said = run(steps, "good", "bad")
    assert code == 1
    assert re.search(r"^good +passed .* 7 of 7$", said, re.M)
    code, said = run(steps, "good")
    assert code == 0
    assert (tmp_path / "kept" / "runs").read_text() == "3 9.0\n"
    assert run(steps, "good", "--again", "--seed", "4")[0] == 0
    assert (tmp_path / "kept" / "runs").read_text() == "3 9.0\n4 600.0\n"


def test_a_killed_step_goes_on_with_its_seed(steps: list[str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [*steps, "long", "--seed", "8"],
        cwd=ROOT,
        env=environment(steps),
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert any("waits" in line for line in child.stdout)
        child.send_signal(signal.SIGINT)
    assert child.returncode
    code, said = run(steps, "long")
    assert code == 0
    assert re.search(r"^long +passed .* 8 and 8 5\.0$", said, re.M)


def test_unknown_steps_are_invalid(steps: list[str]) -> None:
    done = subprocess.run(
        [*steps, "short"], cwd=ROOT, env=environment(steps), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "unknown: short; there are bad, good, long" in done.stderr
