"""Times as people say them. Pure."""

from __future__ import annotations

from datetime import datetime

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def span(start: datetime | None, end: datetime) -> str:
    """From `start` to `end` in the two largest units: `2 d 3 h`, `5 min`, `12 s`; empty when not begun."""
    if start is None:
        return ""
    seconds = max(int((end - start).total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    parts = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago: `never`, `just now`, `5 min ago`, and the date after a month."""
    if then is None:
        return "never"
    seconds = (now - then).total_seconds()
    if seconds < 60:
        return "just now"
    for size, unit in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit} ago" if size < 86400 or count <= 30 else f"on {then:%Y-%m-%d}"
    raise AssertionError(seconds)


def until(then: datetime, now: datetime) -> str:
    """How long from now: `in 42 min`, `in 1 h 5 min`, `any moment`."""
    return f"in {span(now, then)}" if (then - now).total_seconds() >= 60 else "any moment"


def moment(when: datetime | None) -> str:
    """A point in time, in UTC, to the second."""
    return "" if when is None else f"{when:%Y-%m-%d %H:%M:%S} UTC"
