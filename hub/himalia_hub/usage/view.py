"""Quotas and use as pages show them, in the reader's language."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from himalia_hub.languages import gettext
from himalia_hub.usage.quota import size
from himalia_hub.usage.store import Standing


@dataclass(frozen=True, slots=True)
class Line:
    """One limit: `text` is such as `1 of 2 servers`; `part` is how much of it is used, at most 1."""

    text: str
    part: float
    group: str
    resets: datetime | None


def quota_lines(standings: Iterable[Standing]) -> list[Line]:
    """A line for each limit that there is; none where nothing is limited."""
    lines = []
    for one in standings:
        limits, use = one.limits, one.use
        amounts = (
            (use.servers, limits.servers, str, gettext("%(used)s of %(limit)s servers"), None),
            (use.memory, limits.memory, size, gettext("%(used)s of %(limit)s memory"), None),
            (use.cpus, limits.cpus, "{:g}".format, gettext("%(used)s of %(limit)s CPUs"), None),
            (
                use.server_hours,
                limits.server_hours,
                "{:.3g}".format,
                gettext("%(used)s of %(limit)s server-hours"),
                one.resets,
            ),
            (
                use.memory_hours,
                limits.memory_hours,
                "{:.3g}".format,
                gettext("%(used)s of %(limit)s GiB-hours of memory"),
                one.resets,
            ),
        )
        for used, limit, shown, words, resets in amounts:
            if limit is not None:
                text = words % {"used": shown(used), "limit": shown(limit)}
                lines.append(Line(text, min(1.0, used / limit), one.group, resets))
    return lines
