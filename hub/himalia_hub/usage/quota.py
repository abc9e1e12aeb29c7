"""Whether a start is within the quota: one pure decision, and the little arithmetic around it. No clock, no rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, NamedTuple

from himalia_hub.languages import counted

GIB = 2**30
HOUR = 3600.0
Period = Literal["day", "week", "month"]
UNBOUNDED = "Choose a profile that has one, or ask an administrator."
TOO_LARGE = "Stop another server first, or choose a smaller profile."


class Limits(NamedTuple):
    """How much may be used at once, and in a period (hours, GiB-hours). None is no limit; memory in bytes."""

    servers: int | None = None
    memory: int | None = None
    cpus: float | None = None
    server_hours: float | None = None
    memory_hours: float | None = None


class Use(NamedTuple):
    """How much is used: now (servers, bytes, CPUs), and in the period so far (hours, GiB-hours)."""

    servers: int = 0
    memory: int = 0
    cpus: float = 0.0
    server_hours: float = 0.0
    memory_hours: float = 0.0


class Asked(NamedTuple):
    """The limits of the server that is to start: None where it has none."""

    memory: int | None = None
    cpus: float | None = None


class Refusal(NamedTuple):
    """Why not, what to do, and whether time helps."""

    message: str
    remedy: str
    wait: bool = False


def merged(*layers: Limits) -> Limits:
    """The last layer that says something about each limit; 0 says that there is none."""
    said = [[value for value in column if value is not None] for column in zip(*layers, strict=True)]
    return Limits(*((values[-1] or None) if values else None for values in said))


def window(period: Period, now: datetime) -> tuple[datetime, datetime]:
    """The beginning and the end of the period that `now` lies in, by UTC."""
    today = now.astimezone(UTC).date()
    if period == "day":
        first, after = today, today + timedelta(days=1)
    elif period == "week":
        first = today - timedelta(days=today.weekday())
        after = first + timedelta(days=7)
    else:
        first = today.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
    return _midnight(first), _midnight(after)


def by_day(began: datetime, ended: datetime) -> Iterator[tuple[datetime, float]]:
    """The days (UTC) that a life touched, and its seconds in each."""
    at = began.astimezone(UTC)
    while at < ended:
        tomorrow = _midnight(at.date() + timedelta(days=1))
        yield _midnight(at.date()), (min(tomorrow, ended) - at).total_seconds()
        at = tomorrow


def refusal(whose: str, limits: Limits, use: Use, asked: Asked, resets: datetime) -> Refusal | None:
    """Why one more start is too much, or None. `whose` is such as `ann` or `the group 'ml'`."""
    said = (
        _servers_said(whose, limits, use)
        or _memory_said(whose, limits, use, asked)
        or _cpus_said(whose, limits, use, asked)
    )
    if said is not None:
        return said
    again = f"There are new ones on {resets:%-d %B %Y, %H:%M} UTC."
    if limits.server_hours is not None and use.server_hours >= limits.server_hours:
        spent = counted(
            "The %(num)s server-hour of %(whose)s is used up.",
            "The %(num)s server-hours of %(whose)s are used up.",
            limits.server_hours,
            whose=whose,
        )
        return Refusal(spent, again, wait=True)
    if limits.memory_hours is not None and use.memory_hours >= limits.memory_hours:
        spent = counted(
            "The %(num)s GiB-hour of memory of %(whose)s is used up.",
            "The %(num)s GiB-hours of memory of %(whose)s are used up.",
            limits.memory_hours,
            whose=whose,
        )
        return Refusal(spent, again, wait=True)
    return None


def _servers_said(whose: str, limits: Limits, use: Use) -> Refusal | None:
    if limits.servers is None or use.servers < limits.servers:
        return None
    said = counted(
        "The quota of %(whose)s is %(num)s server at once; running or waiting to start: %(used)s.",
        "The quota of %(whose)s is %(num)s servers at once; running or waiting to start: %(used)s.",
        limits.servers,
        whose=whose,
        used=use.servers,
    )
    return Refusal(said, "Stop one first.")


def _memory_said(whose: str, limits: Limits, use: Use, asked: Asked) -> Refusal | None:
    if limits.memory is None:
        return None
    if asked.memory is None:
        said = f"The quota of {whose} counts memory, and this server would have no limit of it."
        return Refusal(said, UNBOUNDED)
    if use.memory + asked.memory <= limits.memory:
        return None
    return Refusal(
        f"The quota of {whose} is {size(limits.memory)} of memory at once; in use: {size(use.memory)}; needed for this "
        f"server: {size(asked.memory)}.",
        TOO_LARGE,
    )


def _cpus_said(whose: str, limits: Limits, use: Use, asked: Asked) -> Refusal | None:
    if limits.cpus is None:
        return None
    if asked.cpus is None:
        said = f"The quota of {whose} counts CPUs, and this server would have no limit of it."
        return Refusal(said, UNBOUNDED)
    if use.cpus + asked.cpus <= limits.cpus + 1e-9:
        return None
    return Refusal(
        f"The quota of {whose} is {limits.cpus:g} of CPUs at once; in use: {use.cpus:g}; needed for this server: "
        f"{asked.cpus:g}.",
        TOO_LARGE,
    )


def written(amount: float) -> str:
    """A number of bytes as a limit is written, exactly: `8G`, `512M`, `1000`."""
    for unit, power in (("G", 3), ("M", 2), ("K", 1)):
        if amount and amount % 1024**power == 0:
            return f"{amount / 1024**power:g}{unit}"
    return f"{amount:g}" if amount < 1e6 else str(int(amount))


def size(amount: float) -> str:
    """`1.5 GB` (2^30 bytes each, as limits are written), or MB below one."""
    return f"{amount / GIB:.3g} GB" if amount >= GIB or not amount else f"{amount / 2**20:.3g} MB"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
