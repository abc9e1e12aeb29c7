"""From a request to a row. Bodies, headers and queries are never looked at, so that no secret gets here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.auth import origin
from himalia_hub.auth.xsrf import SAFE
from himalia_hub.db.base import insert_of
from himalia_hub.db.prepared import Prepared
from himalia_hub.keys import DB, IDENTITY, REQUEST_ID, SETTINGS
from himalia_hub.rbac.identity import Identity

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ACCESS, CHANGE = "access", "change"
UNRECORDED = frozenset({"api/users/{user}/activity", "api/proxy/followers/{id}", "security/csp-report"})
"""What programs send by themselves, again and again, and what changes nothing."""
_COLUMNS = tuple(column.key for column in sa.inspect(AuditRow).columns if not column.primary_key)
_ADD = Prepared(insert_of(AuditRow), given=_COLUMNS)
TARGETS = ("server", "group", "service", "id")

log = structlog.get_logger()


@dataclass(slots=True)
class Told:
    """What the path does not say and a handler told."""

    kind: str = CHANGE
    actor: str = ""
    target_user: str = ""
    target: str = ""
    change: dict[str, Any] | None = None
    written: bool = False


AUDIT: web.RequestKey[Told] = web.RequestKey("audit")


def tell(request: web.Request, **facts: Any) -> None:
    """Add what only the handler knows, by the names of Told. Never a secret, and never free options."""
    if AUDIT not in request:
        request[AUDIT] = Told()
    for name, value in facts.items():
        setattr(request[AUDIT], name, value)


def add(db: Session, request: web.Request, status: int, **facts: Any) -> None:
    """Write the row in the handler's own transaction, which spares one; say `added` once that is committed."""
    tell(request, **facts)
    row = row_of(request, status)
    if row is not None:
        _ADD.run(db, row)


def added(request: web.Request) -> None:
    """The row is there: nothing is left to write."""
    tell(request, written=True)


@web.middleware
async def record_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Once answered, add the row of a change by somebody known, or of a visit.

    Refused ones are recorded too. Anonymous ones are not: anybody could fill the table with them.
    """
    response = await handler(request)
    row = row_of(request, response.status)
    if row is not None:
        try:
            await request.app[DB].write(partial(_ADD.run, values=row))
        except (SQLAlchemyError, OSError) as error:
            # What was done is done: the log keeps what the table could not.
            log.error(
                "audit.not_written",
                cause=type(error).__name__,
                **{name: row[name] for name in ("action", "actor", "target_user", "target", "status")},
            )
    return response


def row_of(request: web.Request, status: int) -> dict[str, Any] | None:
    """The row that this request leaves, by columns, or None."""
    told, identity = request.get(AUDIT), request.get(IDENTITY)
    if told is None and request.method in SAFE:
        return None
    told = told or Told()
    if told.written:
        return None
    resource = request.match_info.route.resource
    path = resource.canonical.removeprefix(request.app[SETTINGS].hub_prefix) if resource else ""
    actor, on_behalf_of = _who(identity) if identity is not None else (told.actor, "")
    if not actor or path in UNRECORDED:
        return None
    named = request.match_info
    return {
        "at": clock.now(),
        "kind": told.kind,
        "action": f"{request.method} {path}"[:255],
        "actor": actor,
        "on_behalf_of": on_behalf_of,
        "token_id": identity.token.id if identity and identity.token else None,
        "address": origin.address(request),
        "target_user": _kept(told.target_user or named.get("user", "")),
        "target": _kept(told.target or next((named[key] for key in TARGETS if key in named), "")),
        "status": status,
        "change": told.change,
        "request_id": request.get(REQUEST_ID, ""),
    }


def _kept(text: str) -> str:
    """A name as it came from outside, as every database can keep it: PostgreSQL refuses NUL and lone surrogates."""
    return text[:255].encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _who(identity: Identity) -> tuple[str, str]:
    """Who acted, and for whom: a program that was given a token acts for its person.

    No person can be called `services/…`: a slash cannot be in a name.
    """
    token = identity.token
    if identity.service_id is not None:
        return f"services/{identity.name}", ""
    if token is not None and token.client_id != "jupyterhub":
        return token.client_id, identity.name
    return identity.name, ""
