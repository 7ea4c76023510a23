"""Output of the commands: exit codes, and JSON."""

from __future__ import annotations

import json
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes."""

    COMPLETE = 0
    PARTIAL = 1  #: something failed
    WRONG = 2  #: an argument is invalid
    NOTHING = 3  #: the archive, or the store, has no such data
    UNVERIFIED = 4  #: no failure, but some files have no proof
    INTERRUPTED = 130


def to_json(value: object) -> str:
    """Format a value as JSON on one line; other types than those of JSON as their text."""
    return json.dumps(value, default=str, ensure_ascii=False)
