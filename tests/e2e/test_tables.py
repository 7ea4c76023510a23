"""Answers with tables are those of the files, whatever happens to either.

A longer run, by hand: ``python -m tests.e2e.test_tables SEEDS STEPS``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.store_events import World, eager_builds


def live(root: Path, seed: int, steps: int, *, kills: int) -> None:
    """Compare an answer after each of some random events, and kill some builds."""
    world = World(root, seed)
    with eager_builds():
        for step in range(steps):
            world.step()
            if kills and step % (steps // kills) == steps // kills - 1:
                world.kill()
            try:
                world.check()
            except AssertionError as error:
                error.add_note("\n".join(world.events[-30:]))
                raise


@pytest.mark.parametrize("seed", range(3))
def test_answers_after_random_events(tmp_path: Path, seed: int) -> None:
    live(tmp_path, seed, 30, kills=0)


def test_answers_after_killed_builds(tmp_path: Path) -> None:
    live(tmp_path, 4, 16, kills=4)


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        with tempfile.TemporaryDirectory() as folder:
            live(Path(folder), 1_000 + number, int(sys.argv[2]), kills=6)
        print(f"seed {number}: equal")
