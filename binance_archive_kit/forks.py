"""Recognize a process that was forked after Polars had started its threads.

The threads do not exist in it, and Polars would wait for them for ever.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

#: Where Linux names the threads of this process.
_TASKS = Path("/proc/self/task")
_THREAD = re.compile(r"polars-\d")
#: At the latest fork: whether Polars had threads; and in this process: whether it has lost them.
_state = {"had": False, "lost": False}


def check_process() -> None:
    """Raise a ConfigurationError if this process has lost the threads of Polars by a fork."""
    if _state["lost"]:
        # This module is imported with the package, and forks are rare.
        from binance_archive_kit.errors import ConfigurationError

        raise ConfigurationError(
            "this process was forked after Polars had started its threads, which do not exist "
            "here: work would wait for them for ever. Start processes by "
            "multiprocessing.get_context('spawn'), or fork before the first use of this package "
            "and of Polars"
        )


def _has_threads() -> bool:
    """Return whether Polars has started its threads; assume it where threads have no names."""
    if "polars" not in sys.modules:
        return False
    try:
        tasks = list(_TASKS.iterdir())
    except OSError:  # not Linux
        return True
    for task in tasks:
        with suppress(OSError):  # the thread has ended
            if _THREAD.match((task / "comm").read_text()):
                return True
    return False


def _before_fork() -> None:
    _state["had"] = _has_threads()


def _after_fork() -> None:
    _state["lost"] |= _state["had"]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
