"""What somebody may do at this moment: from rows and rules to expanded scopes, with as few queries as can be."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.db.prepared import Prepared
from himalia_hub.groups.models import Group, Membership
from himalia_hub.rbac import expand, roles
from himalia_hub.rbac.expand import NO_GROUPS, Members
from himalia_hub.rbac.models import Role, RoleAssignment, RoleFromSignIn
from himalia_hub.rbac.rules import Rules
from himalia_hub.servers.models import Server
from himalia_hub.services.models import Service
from himalia_hub.shares.models import Share
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User


@dataclass(frozen=True, slots=True)
class Rights:
    """Expanded scopes, one's own roles (what comes by groups and shares is in the scopes alone), who is in the groups
    that filters name, and when the first role or share ends that was given for a time.
    """

    scopes: frozenset[str]
    roles: tuple[str, ...]
    members: Members = field(default_factory=lambda: NO_GROUPS)
    until: datetime | None = None


def _live(now: datetime | sa.BindParameter[datetime]) -> sa.ColumnElement[bool]:
    return sa.or_(RoleAssignment.expires_at.is_(None), RoleAssignment.expires_at > now)


async def of_user(db: AsyncSession, user: User, rules: Rules, *, now: datetime) -> Rights:
    """What a person may do: their own roles and those of their groups, and what is shared with either."""
    return (await of_users(db, [user], rules, now=now))[user.id]


async def of_users(
    db: AsyncSession, users: Sequence[User], rules: Rules, *, now: datetime
) -> dict[int, Rights]:
    """The same for several people by id, with one query for roles, one for shares, one for the groups in filters."""
    ids = [user.id for user in users]
    found, shared = await _rows(db, ids, now), await _shares(db, ids, now)
    raw = {user.id: _raw_of_user(user, found.get(user.id, []), rules) for user in users}
    expanded = {
        user.id: expand.expand(
            (*scopes, *_of_shares(shared.get(user.id, []))), user.name, custom=rules.custom
        )
        for user in users
        for scopes in [[scope for _, given in raw[user.id] for scope in given]]
    }
    members = await members_in(db, frozenset().union(*expanded.values()))
    return {
        user.id: Rights(
            expanded[user.id],
            tuple(_own_roles(user, found.get(user.id, []), rules)),
            members,
            _first([*_ends(found.get(user.id, [])), *_ends(shared.get(user.id, []))]),
        )
        for user in users
    }


async def role_names(
    db: AsyncSession, users: Sequence[User], rules: Rules, *, now: datetime
) -> dict[int, list[str]]:
    """The names of these people's own roles, sorted, by the person's id."""
    found = await _rows(db, [user.id for user in users], now)
    return {user.id: _own_roles(user, found.get(user.id, []), rules) for user in users}


@dataclass(frozen=True, slots=True)
class Held:
    """A role that somebody has: by which group, empty where by themselves; None where it does not end by itself."""

    role: str
    group: str = ""
    until: datetime | None = None


async def held(db: AsyncSession, user: User, rules: Rules, *, now: datetime) -> list[Held]:
    """The roles of a person with how they come to each: a role twice where there are two ways."""
    rows = (await _rows(db, [user.id], now)).get(user.id, [])
    groups = sorted({row.in_group for row in rows if row.in_group is not None})
    found = [Held(name) for name in roles.of_user(admin=user.admin, guest=user.guest)]
    for role in rules.roles.values():
        ways = [*([""] if user.name in role.users else []), *(one for one in groups if one in role.groups)]
        found += [Held(role.name, group) for group in ways]
    found += [Held(row.role, row.in_group or "", row.until) for row in rows if row.role is not None]
    found += [Held("manager", row.in_group or "") for row in rows if row.manages]
    return list(dict.fromkeys(found))


async def given(
    db: AsyncSession, column: sa.orm.InstrumentedAttribute[int | None], ids: Collection[int], *, now: datetime
) -> dict[int, list[str]]:
    """The names of the roles that rows give to these services or groups (`column` of RoleAssignment), by id."""
    rows = await db.execute(
        sa.select(column, Role.name)
        .join(Role, Role.id == RoleAssignment.role_id)
        .where(column.in_(ids), _live(now))
        .order_by(Role.name)
    )
    found: dict[int, list[str]] = {row_id: [] for row_id in ids}
    for row_id, name in rows:
        if row_id is not None:
            found[row_id].append(name)
    return found


async def of_service(db: AsyncSession, service: Service, rules: Rules, *, now: datetime) -> Rights:
    """What a service may do: its own roles."""
    rows = await db.execute(
        sa.select(Role.name, Role.scopes, RoleAssignment.expires_at)
        .join(RoleAssignment, RoleAssignment.role_id == Role.id)
        .where(RoleAssignment.service_id == service.id, _live(now))
    )
    found = rows.all()
    given = {name: tuple(scopes) for name, scopes, _ in found}
    names = [*rules.of_service(service.name), *(["admin"] if service.admin else [])]
    given |= {name: rules.scopes_of(name) or () for name in names}
    raw = tuple(scope for scopes in given.values() for scope in scopes)
    # A service is no person: `self` and `!user` are nothing for it, also where somebody has its name.
    scopes = expand.expand(raw, "", service=service.name, custom=rules.custom)
    ends = _first(until for _, _, until in found)
    return Rights(scopes, tuple(sorted(given)), await members_in(db, scopes), ends)


def _first(moments: Iterable[datetime | None]) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


async def members_in(db: AsyncSession, scopes: Collection[str]) -> Members:
    """Who is in each group that a filter of these scopes names; no query where none does."""
    named = {value for _, kind, value in map(expand.split, scopes) if kind == "group"}
    if not named:
        return NO_GROUPS
    rows = await db.execute(
        sa.select(Group.name, User.name)
        .join(Membership, Membership.group_id == Group.id)
        .join(User, User.id == Membership.user_id)
        .where(Group.name.in_(named))
    )
    found: dict[str, set[str]] = {name: set() for name in named}
    for group, user in rows:
        found[group].add(user)
    return {group: frozenset(users) for group, users in found.items()}


async def lead_to_members(db: AsyncSession, groups: Collection[str], rules: Rules) -> bool:
    """Whether anybody's scopes may let them into the servers of the members of one of these groups, and only of those:
    by a role, as their manager, or by a token that is narrowed to them.
    """
    wanted = {f"access:servers!group={group}" for group in groups}
    if any(scope.partition("=")[0] == "access:servers!group" for scope in rules.scopes_of("manager") or ()):
        return True
    raw = [*(role.scopes for role in rules.roles.values()), *await db.scalars(sa.select(Role.scopes))]
    if any(not wanted.isdisjoint(expand.expand(tuple(one), "", custom=rules.custom)) for one in raw):
        return True
    said = sa.cast(ApiToken.scopes, sa.Text)
    narrowed = sa.select(ApiToken.id).where(sa.or_(*(said.contains(one, autoescape=True) for one in wanted)))
    return await db.scalar(narrowed.limit(1)) is not None


async def of_group(db: AsyncSession, group: str, rules: Rules, *, now: datetime) -> tuple[str, ...]:
    """The raw scopes that membership of a group gives."""
    rows = await db.scalars(
        sa.select(Role.scopes)
        .join(RoleAssignment, RoleAssignment.role_id == Role.id)
        .join(Group, Group.id == RoleAssignment.group_id)
        .where(Group.name == group, _live(now))
    )
    named = (rules.scopes_of(name) or () for name in rules.of_group(group))
    return tuple(scope for scopes in (*rows, *named) for scope in scopes)


class _Held(NamedTuple):
    user_id: int
    in_group: str | None
    manages: bool
    role: str | None
    scopes: list[str] | None
    until: datetime | None


class _Shared(NamedTuple):
    user_id: int
    owner: str
    server: str
    scopes: list[str]
    until: datetime | None


# These two are asked at each request after a commit, mostly about one person; built anew each time they would cost more
# than SQLite's answer.


async def _rows(db: AsyncSession, user_ids: Sequence[int], now: datetime) -> dict[int, list[_Held]]:
    """By user: rows of (group or None, manages it, role or None, its scopes, until), in one statement."""
    return _by_user(_Held(*row) for row in await _asked(db, _role_rows, user_ids, now))


async def _shares(db: AsyncSession, user_ids: Sequence[int], now: datetime) -> dict[int, list[_Shared]]:
    """By user: rows of (owner of a server, its name, shared scopes, until)."""
    return _by_user(_Shared(*row) for row in await _asked(db, _share_rows, user_ids, now))


async def _asked(
    db: AsyncSession, build: Callable[[bool], Any], user_ids: Sequence[int], now: datetime
) -> Sequence[Any]:
    if len(user_ids) == 1:
        return await db.run_sync(_of_one(build).rows, {"id": user_ids[0], "now": now})
    return (await db.execute(build(False), {"ids": user_ids, "now": now})).all()


@functools.cache
def _of_one(build: Callable[[bool], Any]) -> Prepared:
    return Prepared(build(True))


R = TypeVar("R", _Held, _Shared)


def _by_user(rows: Iterable[R]) -> dict[int, list[R]]:
    found: dict[int, list[R]] = {}
    for row in rows:
        found.setdefault(row.user_id, []).append(row)
    return found


def _ends(rows: Iterable[_Held | _Shared]) -> list[datetime | None]:
    return [row.until for row in rows]


def _is_theirs(column: Any, one: bool) -> sa.ColumnElement[bool]:
    among = column == sa.bindparam("id") if one else column.in_(sa.bindparam("ids", expanding=True))
    return cast("sa.ColumnElement[bool]", among)


@functools.cache
def _role_rows(one: bool) -> sa.CompoundSelect[Any]:
    live = _live(sa.bindparam("now"))
    direct = (
        sa.select(
            RoleAssignment.user_id.label("user_id"),
            sa.cast(sa.null(), sa.String).label("in_group"),
            sa.false().label("manages"),
            Role.name.label("role"),
            Role.scopes.label("scopes"),
            RoleAssignment.expires_at.label("until"),
        )
        .join(Role, Role.id == RoleAssignment.role_id)
        .where(_is_theirs(RoleAssignment.user_id, one), live)
    )
    ends = RoleAssignment.expires_at
    by_group = (
        sa.select(Membership.user_id, Group.name, Membership.manager, Role.name, Role.scopes, ends)
        .join(Group, Group.id == Membership.group_id)
        .outerjoin(RoleAssignment, sa.and_(RoleAssignment.group_id == Group.id, live))
        .outerjoin(Role, Role.id == RoleAssignment.role_id)
        .where(_is_theirs(Membership.user_id, one))
    )
    by_sign_in = (
        sa.select(RoleFromSignIn.user_id, sa.null(), sa.false(), RoleFromSignIn.role, Role.scopes, sa.null())
        .outerjoin(Role, Role.name == RoleFromSignIn.role)
        # `admin` is `users.admin`
        .where(_is_theirs(RoleFromSignIn.user_id, one), RoleFromSignIn.role != "admin")
    )
    return sa.union_all(direct, by_group, by_sign_in)


@functools.cache
def _share_rows(one: bool) -> sa.CompoundSelect[Any]:
    now: sa.BindParameter[datetime] = sa.bindparam("now")
    columns = (
        User.name.label("owner"),
        Server.name.label("server"),
        Share.scopes,
        Share.expires_at.label("until"),
    )
    live = sa.or_(Share.expires_at.is_(None), Share.expires_at > now)

    def of(user_id: Any) -> sa.Select[Any]:
        chosen = sa.select(user_id.label("user_id"), *columns).select_from(Share)
        return chosen.join(Server, Server.id == Share.server_id).join(User, User.id == Server.user_id)

    direct = of(Share.user_id).where(_is_theirs(Share.user_id, one), live)
    by_group = (
        of(Membership.user_id)
        .join(Membership, Membership.group_id == Share.group_id)
        .where(_is_theirs(Membership.user_id, one), live)
    )
    return sa.union_all(direct, by_group)


def _of_shares(rows: Sequence[Any]) -> list[str]:
    """Shared scopes, each narrowed to its server by the names of this moment."""
    return [f"{scope}!server={row.owner}/{row.server}" for row in rows for scope in row.scopes]


def _own_roles(user: User, rows: Sequence[Any], rules: Rules) -> list[str]:
    """Names of the roles that a person has not by a group, sorted: JupyterHub's models of groups tell the others."""
    own = [row for row in rows if row.in_group is None]
    return sorted({name for name, _ in _raw_of_user(user, own, rules)})


def _raw_of_user(user: User, rows: Sequence[Any], rules: Rules) -> list[tuple[str, tuple[str, ...]]]:
    """(role, raw scopes) of a person. A manager's short `!group` filters are filled in for each of their groups."""
    groups = {row.in_group for row in rows if row.in_group is not None}
    names = [*roles.of_user(admin=user.admin, guest=user.guest), *rules.of_user(user.name, groups)]
    given = [(name, rules.scopes_of(name) or ()) for name in dict.fromkeys(names)]
    # Of a role that came with a sign-in there may be no row: then it is one of the configuration, or none any more.
    given += [
        (row.role, rules.scopes_of(row.role) or () if row.scopes is None else tuple(row.scopes))
        for row in rows
        if row.role is not None
    ]
    for group in sorted({row.in_group for row in rows if row.manages}):
        own = (
            f"{scope}={group}" if scope.endswith("!group") else scope
            for scope in rules.scopes_of("manager") or ()
        )
        given.append(("manager", tuple(own)))
    return given
