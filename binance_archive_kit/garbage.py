"""Pause the garbage collector while very many objects are created."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()
#: How many blocks want the collector paused, and whether it is to go on after the last one.
_state = {"pauses": 0, "was_enabled": False}


@contextmanager
def paused_collection() -> Iterator[None]:
    """Pause the collector of circles of objects, in all threads, until the end of the block.

    Objects that nothing refers to are freed as always. For code that creates very many objects
    that stay: the collector would look at all of them several times, which may take longer than
    to create them. Not for code that drops many circles.
    """
    with _LOCK:
        if not _state["pauses"]:
            _state["was_enabled"] = gc.isenabled()
            gc.disable()
        _state["pauses"] += 1
    try:
        yield
    finally:
        with _LOCK:
            _state["pauses"] -= 1
            if not _state["pauses"] and _state["was_enabled"]:
                gc.enable()
