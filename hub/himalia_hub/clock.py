"""The single source of time, so that tests can set it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """This moment, aware, in UTC."""
    return datetime.now(UTC)


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with `Z`, as JupyterHub writes it (the fraction is left out when zero); None stays None."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def minute(when: datetime | None) -> str:
    """A point in time that somebody chose, in UTC, to the minute."""
    return "" if when is None else f"{when:%Y-%m-%d %H:%M} UTC"
