"""Quotas and use as pages show them, in the reader's language."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from himalia_hub.languages import gettext, many, ngettext
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
            (use.servers, limits.servers, str, _servers, None),
            (use.memory, limits.memory, size, _memory, None),
            (use.cpus, limits.cpus, "{:g}".format, _cpus, None),
            (use.server_hours, limits.server_hours, _amount, _hours, one.resets),
            (use.memory_hours, limits.memory_hours, _amount, _memory_hours, one.resets),
        )
        for used, limit, shown, words, resets in amounts:
            if limit is not None:
                text = words(shown(limit)) % {"used": shown(used), "num": shown(limit)}
                lines.append(Line(text, min(1.0, used / limit), one.group, resets))
    return lines


def _amount(hours: float) -> str:
    """To a hundredth of an hour, as the usage page has it; finer figures would only flicker."""
    return f"{hours:.2f}".rstrip("0").rstrip(".")


def _servers(limit: str) -> str:
    return ngettext("%(used)s of %(num)s server", "%(used)s of %(num)s servers", many(limit))


def _memory(_: str) -> str:
    return gettext("%(used)s of %(num)s memory")


def _cpus(limit: str) -> str:
    return ngettext("%(used)s of %(num)s CPU", "%(used)s of %(num)s CPUs", many(limit))


def _hours(limit: str) -> str:
    return ngettext("%(used)s of %(num)s server-hour", "%(used)s of %(num)s server-hours", many(limit))


def _memory_hours(limit: str) -> str:
    return ngettext(
        "%(used)s of %(num)s GiB-hour of memory", "%(used)s of %(num)s GiB-hours of memory", many(limit)
    )
