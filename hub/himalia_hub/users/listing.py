"""The list of people: filters, order and pages as one query."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.errors import BadRequest
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.users.models import User

SORT_KEYS: dict[str, Any] = {"id": User.id, "name": User.name, "last_activity": User.last_activity}
STATES = ("active", "ready", "inactive")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which people, in which order. `only` is None for everybody."""

    state: str | None = None
    name_part: str = ""
    sort: str = "id"
    only: Collection[str] | None = None


def read_filter(query: Any, only: Collection[str] | None) -> Filter:
    """The filter of a query string; BadRequest for a state or an order that is not known."""
    state, sort = query.get("state") or None, query.get("sort", "id")
    if state is not None and state not in STATES:
        raise BadRequest(f"state is {state[:30]!r}; it must be one of {', '.join(STATES)}")
    if sort.removeprefix("-") not in SORT_KEYS:
        raise BadRequest(
            f"sort is {sort[:30]!r}; it must be one of {', '.join(SORT_KEYS)}, or that with a minus"
        )
    return Filter(state, query.get("name_filter", "").lower(), sort, only)


async def list_users(db: AsyncSession, wanted: Filter, *, offset: int, limit: int) -> tuple[list[User], int]:
    """One page of people, and how many there are in all."""
    condition = sa.and_(sa.true(), *_conditions(wanted))
    total = await db.scalar(sa.select(sa.func.count()).select_from(User).where(condition)) or 0
    rows = sa.select(User).where(condition).order_by(*_order(wanted.sort)).offset(offset).limit(limit)
    return list(await db.scalars(rows)), total


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.only is not None:
        found.append(User.name.in_(wanted.only))
    if wanted.name_part:
        found.append(sa.func.lower(User.name).contains(wanted.name_part, autoescape=True))
    # The same words as servers/view.py, said in SQL; test_users_api compares the two.
    ready = sa.and_(
        Server.desired == Desired.RUNNING,
        Server.phase == Phase.READY,
        Server.generation <= Server.acted_generation,
        Server.unknown_since.is_(None),
    )
    active = sa.or_(
        Server.desired == Desired.RUNNING, Server.phase.in_([Phase.STARTING, Phase.READY, Phase.STOPPING])
    )
    of_user = sa.select(Server.id).where(Server.user_id == User.id)
    match wanted.state:
        case "ready":
            found.append(of_user.where(ready).exists())
        case "active":
            found.append(of_user.where(active).exists())
        case "inactive":
            found.append(~of_user.where(active).exists())
        case _:
            pass
    return found


def _order(sort: str) -> list[Any]:
    column = SORT_KEYS[sort.removeprefix("-")]
    if sort.startswith("-"):
        return [column.desc().nulls_last(), User.id.desc()]
    return [column.asc().nulls_first(), User.id]
