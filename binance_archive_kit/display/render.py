"""Format numbers of bytes, lengths of time, shares and counts."""

from __future__ import annotations


def size(count: float) -> str:
    """Format a number of bytes, in steps of 1024.

    >>> size(512), size(1536), size(3 * 1024**3)
    ('512 B', '1.5 KB', '3.0 GB')
    """
    if round(count) < 1024:
        return f"{count:.0f} B"
    for unit in ("KB", "MB", "GB"):
        count /= 1024
        if round(count, 1) < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TB"


def duration(seconds: float) -> str:
    """Format a length of time.

    >>> duration(0.42), duration(75), duration(7500)
    ('0.4 s', '1 min 15 s', '2 h 5 min')
    """
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if round(seconds, 1) < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def percent(part: float, whole: float) -> str:
    """Format a share; only the whole is 100 %, and only zero is 0 %.

    >>> percent(743, 744), percent(999_999, 1_000_000), percent(1, 1_000_000), percent(5, 5)
    ('99.86 %', '99.99 %', '0.01 %', '100 %')
    >>> percent(57, 100), percent(0.57, 1)
    ('57.00 %', '57.00 %')
    """
    if not whole:
        return "—"
    if part == whole:
        return "100 %"
    # 57 / 100 * 10,000 is slightly less than 5,700 in floating point.
    share = int(round(part / whole * 10_000, 6)) / 100
    return f"{min(max(share, 0.01 if part else 0.0), 99.99):.2f} %" if part else "0 %"


def counted(count: int, noun: str) -> str:
    """Format a number with its noun, in the plural unless it is 1.

    >>> counted(1, "stream"), counted(1200, "period")
    ('1 stream', '1,200 periods')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def plain(word: object) -> str:
    """Format the value of an enum as words.

    >>> plain("missing_in_archive")
    'missing in archive'
    """
    return str(word).replace("_", " ")
