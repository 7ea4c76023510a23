"""Feed the parsers whatever bytes lead them into new branches, with atheris if it is installed.

Each parser of `tests.support.parsers` takes its share of the time, in a process of its own. Bytes
that break one lie in the folder of the step; they belong into a test. Atheris has no part in the
other steps and tests: ``pip install atheris`` into the environment to run this one.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.parsers import PARSERS, SEEDS

SECONDS = 1800.0
#: Bytes of an input, at most.
_LONGEST = 4096
_CHILD = """
import sys
import atheris
with atheris.instrument_imports(include=["binance_archive_kit", "zipfile", "csv"]):
    from tests.support.parsers import PARSERS
atheris.Setup(sys.argv[1:], PARSERS[{name!r}])
atheris.Fuzz()
"""


def run(folder: Path, seed: int, seconds: float) -> Iterator[str]:
    if importlib.util.find_spec("atheris") is None:
        yield "atheris is not installed, so nothing was fuzzed: pip install atheris"
        return
    inputs = 0
    for name, seeds in SEEDS.items():
        corpus = folder / name
        corpus.mkdir(exist_ok=True)
        for number, data in enumerate(seeds):
            (corpus / f"seed{number}").write_bytes(data)
        done = subprocess.run(
            [
                *(sys.executable, "-c", _CHILD.format(name=name), f"-seed={seed % 2**31 or 1}"),
                *(f"-max_total_time={max(1, int(seconds / len(PARSERS)))}", f"-max_len={_LONGEST}"),
                *("-timeout=30", "-rss_limit_mb=4096", f"-artifact_prefix={folder / name}-"),
                str(corpus),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{name}: {done.stderr[-3000:]}")
        found = re.search(r"Done (\d+) runs", done.stderr)
        runs = int(found[1]) if found else 0
        assert runs, done.stderr[-3000:]
        inputs += runs
        yield f"{name}: {runs:,} inputs"
    yield f"{inputs:,} inputs to {len(PARSERS)} parsers"
