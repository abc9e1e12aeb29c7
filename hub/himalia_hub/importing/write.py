"""Writing what a JupyterHub had into our rows."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.errors import BadRequest
from himalia_hub.groups.models import Group, Membership
from himalia_hub.groups.names import is_name
from himalia_hub.importing import tokens
from himalia_hub.importing.jupyterhub import Theirs, TheirShare, TheirShareCode
from himalia_hub.importing.models import ImportedShareCode, ImportedToken
from himalia_hub.rbac.scopes import META, SCOPES
from himalia_hub.servers import store as servers
from himalia_hub.servers.models import Server
from himalia_hub.shares import store as shares
from himalia_hub.shares.models import Share, ShareCode
from himalia_hub.shares.view import SHAREABLE
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users import store as users
from himalia_hub.users.models import User

CODE_LASTS = timedelta(days=365)
"""The longest that JupyterHub lets a code live; for one in whose row no end stands."""


async def write(db: AsyncSession, theirs: Theirs, *, now: datetime) -> Counter[str]:
    """Put everything into one transaction; what was made, counted. Repeating it makes nothing twice.

    A person or group that is here already is kept and completed, never overwritten. What does not fit is added to
    `theirs.left` in words.
    """
    made: Counter[str] = Counter()
    people = await _people(db, theirs, made, now=now)
    await _groups(db, theirs, people, made)
    await _servers(db, theirs, people, made, now=now)
    await _tokens(db, theirs, people, made, now=now)
    await _shares(db, theirs, people, made, now=now)
    await _codes(db, theirs, people, made, now=now)
    return made


async def _people(db: AsyncSession, theirs: Theirs, made: Counter[str], *, now: datetime) -> dict[str, User]:
    people: dict[str, User] = {}
    called: dict[str, str] = {}
    for one in theirs.users:
        try:
            name = users.normalise(one.name)
        except BadRequest as error:
            theirs.left.append(f"user {one.name!r}: {error}")
            continue
        if called.setdefault(name, one.name) != one.name:  # two people there must not become one here
            theirs.left.append(f"user {one.name!r}: is called {name!r} here, as {called[name]!r} already is")
            continue
        user = await users.by_name(db, name)
        if user is None:
            user = await users.create(db, name, now=one.created or now, admin=one.admin, password_hash=None)
            user.last_activity = one.last_activity
            made["people"] += 1
        people[one.name] = user
    return people


async def _groups(db: AsyncSession, theirs: Theirs, people: dict[str, User], made: Counter[str]) -> None:
    for one in theirs.groups:
        if not is_name(one.name):
            theirs.left.append(f"group {one.name[:255]!r}: cannot be a group's name here")
            continue
        group = await db.scalar(sa.select(Group).where(Group.name == one.name))
        if group is None:
            group = Group(name=one.name, properties=one.properties)
            db.add(group)
            await db.flush()
            made["groups"] += 1
        there = set(await db.scalars(sa.select(Membership.user_id).where(Membership.group_id == group.id)))
        for user in [people[name] for name in one.members if name in people]:
            if user.id not in there:
                db.add(Membership(user_id=user.id, group_id=group.id))
                there.add(user.id)
                made["memberships"] += 1


async def _servers(
    db: AsyncSession, theirs: Theirs, people: dict[str, User], made: Counter[str], *, now: datetime
) -> None:
    for one in theirs.servers:
        user = people.get(one.owner)
        if user is None or await servers.find(db, user.name, one.name) is not None:
            continue
        if one.name and not (is_name(one.name) and one.name.strip(".")):
            theirs.left.append(f"server {one.name[:255]!r} of {one.owner!r}: cannot be a server's name here")
            continue
        row = await servers.get_or_create(db, user, one.name, now=now)
        row.display_name, row.user_options = one.display_name[:255], one.user_options
        row.last_activity = one.last_activity
        made["servers"] += 1


async def _tokens(
    db: AsyncSession, theirs: Theirs, people: dict[str, User], made: Counter[str], *, now: datetime
) -> None:
    known = set(await db.scalars(sa.select(ImportedToken.hashed)))
    for one in theirs.tokens:
        user = people.get(one.owner)
        if user is None or one.hashed in known or (one.expires_at is not None and one.expires_at <= now):
            continue
        strange = [scope for scope in one.scopes if scope.partition("!")[0] not in {*SCOPES, *META}]
        if strange:
            theirs.left.append(
                f"token {one.note or one.prefix!r} of {one.owner!r}: scope {strange[0]!r} is not known"
            )
            continue
        row = ApiToken(
            user_id=user.id, client_id="jupyterhub", scopes=one.scopes, note=one.note[:1023],
            created=one.created or now, expires_at=one.expires_at, last_activity=one.last_activity,
        )  # fmt: skip
        await tokens.put(db, row, prefix=one.prefix, hashed=one.hashed)
        made["tokens"] += 1


async def _shares(
    db: AsyncSession, theirs: Theirs, people: dict[str, User], made: Counter[str], *, now: datetime
) -> None:
    for one in theirs.shares:
        server = await _shared_server(db, theirs, one, people)
        if server is None or (one.expires_at is not None and one.expires_at <= now):
            continue
        target: User | Group | None = (
            people.get(one.user)
            if one.user is not None
            else await db.scalar(sa.select(Group).where(Group.name == one.group))
        )
        if target is None or await shares.find(db, server, target, now=now) is not None:
            continue
        holder = {"user_id": target.id} if isinstance(target, User) else {"group_id": target.id}
        created = one.created or now
        db.add(
            Share(
                server_id=server.id,
                scopes=sorted(one.scopes),
                created=created,
                expires_at=one.expires_at,
                **holder,
            )
        )
        await db.flush()
        made["shares"] += 1


async def _codes(
    db: AsyncSession, theirs: Theirs, people: dict[str, User], made: Counter[str], *, now: datetime
) -> None:
    known = set(await db.scalars(sa.select(ImportedShareCode.hashed)))
    for one in theirs.codes:
        over = one.expires_at or (one.created or now) + CODE_LASTS
        server = await _shared_server(db, theirs, one, people)
        if server is None or one.hashed in known or over <= now:
            continue
        row = ShareCode(
            server_id=server.id, scopes=sorted(one.scopes), created=one.created or now, expires_at=over,
            exchange_count=one.exchange_count, last_exchanged=one.last_exchanged,
        )  # fmt: skip
        await tokens.put_code(db, row, prefix=one.prefix, hashed=one.hashed)
        made["share codes"] += 1


async def _shared_server(
    db: AsyncSession, theirs: Theirs, one: TheirShare | TheirShareCode, people: dict[str, User]
) -> Server | None:
    """Our row of the server; None, and why, when what it is shared with cannot be shared here."""
    strange = [scope for scope in one.scopes if scope not in SHAREABLE]
    if strange:
        theirs.left.append(f"{one.words}: the scope {strange[0]!r} cannot be shared")
        return None
    owner = people.get(one.owner)
    return None if owner is None else await servers.find(db, owner.name, one.server)
