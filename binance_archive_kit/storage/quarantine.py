"""Names in quarantine, and the notes beside the bytes."""

from __future__ import annotations

import json
import re

#: A name in quarantine: that of the object, and the first digits of the bytes' SHA-256.
QUARANTINED = re.compile(r"(.+)\.[0-9a-f]{12}\.bad")


def reason_in(note: bytes) -> str:
    """Return why bytes are in quarantine, from the note beside them; empty if there is none."""
    try:
        content = json.loads(note.decode("utf-8"))
        reason, detail = content["reason"], content["detail"]
        if isinstance(reason, str) and isinstance(detail, str):
            return f"{reason}: {detail}"
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    return "reason unknown: the note beside the bytes is missing or damaged"
