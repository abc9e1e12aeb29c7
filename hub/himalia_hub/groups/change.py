"""What is checked before somebody is put into a group, and who loses what: the same for the API and the pages."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.auth import out
from himalia_hub.errors import NotAuthorized
from himalia_hub.groups import store
from himalia_hub.groups.models import Group
from himalia_hub.keys import IDENTITY, SETTINGS
from himalia_hub.rbac import rights
from himalia_hub.rbac.expand import expand
from himalia_hub.rbac.identity import Identity
from himalia_hub.rbac.rules import Rules
from himalia_hub.replicas.models import CutRow
from himalia_hub.shares import store as shares
from himalia_hub.users.models import User


async def may_put_in(request: web.Request, db: AsyncSession, group: str, people: Sequence[User]) -> None:
    """A group's roles become those of who is put into it: nobody gives so what they do not hold. NotAuthorized."""
    identity: Identity | None = request[IDENTITY]
    assert identity is not None  # whoever asks was let through
    rules = request.app[SETTINGS].rules
    raw = await rights.of_group(db, group, rules, now=clock.now())
    if people and raw and not identity.may_give(expand(raw, identity.person_name, custom=rules.custom)):
        raise NotAuthorized(f"members of {group!r} may do more than you, so you cannot choose them")


async def note_leaving(
    request: web.Request, db: AsyncSession, group: Group, of: Collection[User] | None = None
) -> list[CutRow]:
    """Note what is to be cut as these people, or all, leave the group: what it let them into, and what others have
    open at them because they were in it. Asked before they leave.
    """
    rules, now = request.app[SETTINGS].rules, clock.now()
    members = await store.member_ids(db, group)
    leaving = members if of is None else members & {user.id for user in of}
    _, shared = await shares.page_of(db, shares.with_group(group), now=now, limit=1)
    gives = shared or managers_come_in(rules) or await rights.of_group(db, group.name, rules, now=now)
    noted = (out.note(db, people=leaving if gives else ()), out.note(db, left=leaving, groups=[group.name]))
    return [one for one in noted if one is not None]


def managers_come_in(rules: Rules) -> bool:
    """Whether who manages a group may come in somewhere for that: not by default."""
    return any(scope.startswith("access:") for scope in rules.scopes_of("manager") or ())
