"""Announcements on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import Field

from himalia_hub import clock
from himalia_hub.errors import BadRequest
from himalia_hub.notices.notice import LONGEST, MAINTENANCE, Level, Notice
from himalia_hub.schemas import Body


class MaintenanceBody(Body):
    """PUT: `text` is what people read who want to start a server; `ends` null is until it is ended."""

    text: str = Field(min_length=1, max_length=LONGEST)
    ends: str | None = Field(None, max_length=64)


FURTHEST = timedelta(days=3660)


class AnnouncementBody(Body):
    """POST, PUT: `starts` null is at once, `ends` null is until it is taken down; both ISO 8601, naive means UTC."""

    level: Level = "info"
    text: str = Field(min_length=1, max_length=LONGEST)
    starts: str | None = Field(None, max_length=64)
    ends: str | None = Field(None, max_length=64)


def moment(text: str | None, key: str) -> datetime | None:
    """An ISO 8601 moment within ten years of now; naive means UTC, nothing is None. BadRequest for anything else."""
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest(f"{key} is {text[:64]!r}", remedy="write a time such as 2026-01-31T12:00Z") from None
    if abs(when - clock.now()) > FURTHEST:
        raise BadRequest(f"{key} is {text[:64]!r}, more than ten years away", remedy="check the year")
    return when


def notice_from(body: AnnouncementBody, author: str, number: int = 0) -> Notice:
    """What was sent, as it would be shown. BadRequest when it could never be seen."""
    starts = moment(body.starts, "starts") or clock.now()
    return _seen(Notice(number, body.level, body.text.strip(), starts, moment(body.ends, "ends"), author))


def maintenance_from(body: MaintenanceBody, author: str) -> Notice:
    """What was sent, beginning now. BadRequest when it would be over already."""
    ends = moment(body.ends, "ends")
    return _seen(Notice(MAINTENANCE, "warning", body.text.strip(), clock.now(), ends, author))


def _seen(said: Notice) -> Notice:
    now = clock.now()
    if not said.text:
        raise BadRequest("text is empty", remedy="write what people should know")
    if said.ends is not None and said.ends <= max(said.starts, now):
        raise BadRequest(
            "ends lies in the past, so that nobody would ever see it"
            if said.ends <= now
            else "ends is not after starts, so that nobody would ever see it",
            remedy="choose a later end",
        )
    return said
