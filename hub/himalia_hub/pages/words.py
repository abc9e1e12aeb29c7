"""Times as people say them, and what our script says, in the reader's language."""

from __future__ import annotations

import re
from datetime import datetime

from himalia_hub.languages import gettext, ngettext, sentence

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


_WORD = re.compile(r"(?!himalia\b)[^\W\d_]+[ ,;:]")


def whole(text: str) -> str:
    """An error's words as they stand by themselves on a page: in the reader's language, with a capital and a full stop.

    What begins with no plain word, a setting or a command, stays as it is written.
    """
    said = sentence(text)
    said = said[:1].upper() + said[1:] if _WORD.match(said) else said
    return said if not said or said[-1] in ".!?…" else f"{said}."


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago: `never`, `just now`, `5 min ago`, and the date after a month."""
    if then is None:
        return gettext("never")
    seconds = (now - then).total_seconds()
    if seconds < 60:
        return gettext("just now")
    for size, unit in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            if size < 86400 or count <= 30:
                return gettext("%(span)s ago") % {"span": f"{count} {unit}"}
            return gettext("on %(date)s") % {"date": f"{then:%Y-%m-%d}"}
    raise AssertionError(seconds)


def until(then: datetime, now: datetime) -> str:
    """How long from now: `in 42 min`, `in 1 h 5 min`, `any moment`."""
    if (then - now).total_seconds() < 60:
        return gettext("any moment")
    return gettext("in %(span)s") % {"span": span(now, then)}


def moment(when: datetime | None) -> str:
    """A point in time, in UTC, to the second."""
    return "" if when is None else f"{when:%Y-%m-%d %H:%M:%S} UTC"


def for_script() -> dict[str, str]:
    """What our script says by itself, in the reader's language; it fills the `%(holes)s`."""
    return {
        "ago": gettext("%(span)s ago"),
        "now": gettext("just now"),
        "in": gettext("in %(span)s"),
        "soon": gettext("any moment"),
        "away": gettext("The hub does not answer. Try again in a moment."),
        "unknown": gettext("unknown"),
        "live": gettext("live"),
        "polling": gettext("polling"),
        "reconnecting": gettext("reconnecting"),
        "moved": ngettext("%(count)s change: refresh the order", "%(count)s changes: refresh the order", 1),
        "moved_many": ngettext(
            "%(count)s change: refresh the order", "%(count)s changes: refresh the order", 2
        ),
        "picked": gettext("%(count)s selected"),
        "none": gettext("Nothing selected"),
        "ready": gettext("Your server is ready."),
        "copied": gettext("Copied"),
    }
