"""Making thousands of people by one request, a slice at a time, so that nobody else waits for all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.rbac.identity import Identity
from himalia_hub.settings import HubSettings
from himalia_hub.users import store
from himalia_hub.users.models import User
from himalia_hub.users.view import user_model

SLICE = 100
"""So many names are worked on before others get their turn: a few milliseconds."""

T = TypeVar("T")


async def normalise(names: Sequence[str]) -> list[str]:
    """The stored forms, each once, in the order given; BadRequest names the first that cannot be used."""
    found: dict[str, None] = {}
    for part in _slices(names):
        found.update(dict.fromkeys(map(store.normalise, part)))
        await asyncio.sleep(0)
    return list(found)


async def create(db: AsyncSession, names: Sequence[str], *, admin: bool, now: datetime) -> list[str]:
    """Make those who are not there, names normalised; who was made, in the order given.

    Who is made by somebody else at the same moment is left out, and is no error.
    """
    adding = _adding(db.get_bind().dialect.name)
    made: list[str] = []
    for part in _slices(names):
        rows = [{"name": name, "admin": admin, "guest": False, "created": now} for name in part]
        added = set(await db.scalars(adding, rows))
        made += (name for name in part if name in added)
    return made


async def models(
    names: Iterable[str], identity: Identity, settings: HubSettings, *, admin: bool, now: datetime
) -> bytes:
    """The models of people who were just made, as the JSON of a list."""
    parts: list[str] = []
    for part in _slices(names):
        made = (User(name=name, admin=admin, created=now) for name in part)
        parts += (json.dumps(user_model(user, [], identity, settings)) for user in made)
        await asyncio.sleep(0)
    return f"[{', '.join(parts)}]".encode()


def _adding(dialect: str) -> Any:
    """The statement that adds people and gives the names of those who were not there."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:  # a hub on SQLite never loads this
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    table = cast("sa.Table", User.__table__)
    return insert(table).on_conflict_do_nothing(index_elements=["name"]).returning(table.c.name)


def _slices(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while part := list(islice(left, SLICE)):
        yield part
