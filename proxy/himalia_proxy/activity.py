"""Times of activity, as the REST API writes and reads them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def iso(timestamp: float) -> str:
    """ISO 8601 in UTC, to the millisecond, with a `Z`."""
    moment = datetime.fromtimestamp(int(timestamp * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> float:
    """Seconds since the epoch for an ISO 8601 or RFC 5322 date; ValueError if it is neither."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = parsedate_to_datetime(text)
    # A date without a zone is taken as UTC: the proxy's local zone means nothing to the hub.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
