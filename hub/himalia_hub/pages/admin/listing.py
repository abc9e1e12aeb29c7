"""The query behind the list: a row for each server, and one for each person who has none."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.db.base import Document
from himalia_hub.groups import store as groups
from himalia_hub.groups.models import Group, Membership
from himalia_hub.measures.models import ServerUse
from himalia_hub.measures.store import OF_THIS_LIFE
from himalia_hub.pages.admin.query import Age, Amount, Query, Term, parse
from himalia_hub.servers import store as servers
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.users.models import User

Line = tuple[Any, ...]
"""A row of the list as the driver gives it: `lines.py` reads it."""
PAGE_SIZE = 50
CHUNK = 500

_wanted = Server.desired == Desired.RUNNING
STATE = sa.case(
    (Server.id.is_(None), "stopped"),
    (sa.and_(_wanted, Server.unknown_since.is_not(None)), "unknown"),
    (
        sa.and_(
            _wanted, sa.or_(Server.phase != Phase.READY, Server.generation > Server.acted_generation)
        ),
        "starting",
    ),
    (_wanted, "ready"),
    (Server.phase.in_([Phase.STARTING, Phase.READY, Phase.STOPPING]), "stopping"),
    (Server.phase == Phase.FAILED, "failed"),
    else_="stopped",
)  # fmt: skip
"""`servers.view.phase_word` in SQL; test_admin_list compares the two."""

LAST = sa.func.coalesce(Server.last_activity, User.last_activity)
RANK = sa.case(
    {"failed": 0, "starting": 1, "unknown": 2, "stopping": 3, "ready": 4, "stopped": 5}, value=STATE
)
"""States in the order in which they want somebody's eye."""

SORTS: dict[str, Any] = {
    "user": User.name,
    "server": sa.func.coalesce(Server.name, ""),
    "state": RANK,
    "since": Server.phase_since,
    "activity": LAST,
    "started": Server.started,
    "memory": ServerUse.memory,
    "cpu": ServerUse.cpus,
    "node": Server.node,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows, in which order. `only` are the people whom the viewer may list; None is everybody."""

    query: Query
    sort: str = "user"
    only: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One row: a person and one server of theirs, or none."""

    user: User
    server: Server | None
    groups: tuple[str, ...]
    use: ServerUse | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list, as the driver gives it; `lines.py` makes rows of it. `groups` are the people's, by id."""

    lines: list[Line]
    groups: dict[int, list[str]]
    total: int


_UNSEEN = {"password_hash", "due_at", "lease_owner", "lease_until", "lease_epoch", "attempts"}
"""Columns from which nothing follows that a row shows."""
COLUMNS = {
    model: [one for one in model.__table__.columns if one.key not in _UNSEEN]
    for model in (User, Server, ServerUse)
}
"""What a line holds, one after the other."""


def _unread() -> list[sa.Label[Any]]:
    """The same as values that can be compared, and that nothing is made of yet."""
    return [
        (
            sa.cast(one, sa.Text)
            if isinstance(one.type, Document)
            else sa.type_coerce(one, sa.types.NullType())
        ).label(f"{one.table.name}_{one.key}")
        for columns in COLUMNS.values()
        for one in columns
    ]


def joined(*what: Any) -> sa.Select[Any]:
    """A query over all rows of the list."""
    rows = sa.select(*what).select_from(User).outerjoin(Server, Server.user_id == User.id)
    return rows.outerjoin(ServerUse, OF_THIS_LIFE)


def _rows() -> sa.Select[Any]:
    return joined(User, Server, ServerUse)


async def page_of(
    db: AsyncSession, wanted: Wanted, *, now: datetime, offset: int, limit: int, counted: bool = False
) -> Page:
    """One page of the list, with how many rows match in all unless that is `counted` already. A query with a problem
    matches nothing.
    """
    if wanted.query.problems:
        return Page([], {}, 0)
    times = moments_of(wanted.query.terms, now)
    total = 0 if counted else await db.scalar(_number(wanted), times)
    rows = await db.execute(_page(wanted), {"from_row": offset, "at_most": limit, **times})
    lines = [tuple(row) for row in rows]
    return Page(lines, await groups.of_users(db, list({line[0] for line in lines})), total or 0)


@functools.lru_cache(maxsize=64)
def _page(wanted: Wanted) -> sa.Select[Any]:
    """Made once for all who ask it: SQLAlchemy takes longer to make such a query than SQLite to answer it."""
    page = joined(*_unread()).where(*conditions(wanted, PARAMETERS)).order_by(*_order(wanted.sort))
    return page.offset(sa.bindparam("from_row")).limit(sa.bindparam("at_most"))


@functools.lru_cache(maxsize=64)
def _number(wanted: Wanted) -> sa.Select[Any]:
    return joined(sa.func.count()).where(*conditions(wanted, PARAMETERS))


async def matching(db: AsyncSession, wanted: Wanted, *, now: datetime, at_most: int) -> list[tuple[str, str]]:
    """The (person, server) names of all that match, by name; at most so many."""
    if wanted.query.problems:
        return []
    names = joined(User.name, sa.func.coalesce(Server.name, ""))
    rows = await db.execute(
        names.where(*conditions(wanted, now)).order_by(User.name, Server.name).limit(at_most)
    )
    return [(row[0], row[1]) for row in rows]


async def last_of_some(db: AsyncSession, *, after: int) -> int | None:
    """The id of the last of the next few hundred people; None when there is nobody after this id."""
    some = sa.select(User.id).where(User.id > after).order_by(User.id).limit(CHUNK).subquery()
    last: int | None = await db.scalar(sa.select(sa.func.max(some.c.id)))
    return last


async def rows_of(
    db: AsyncSession, *, servers: Collection[int] = (), users: Collection[int] = ()
) -> list[Found]:
    """The rows of these servers, and all rows of these people, as they are now."""
    where = sa.or_(Server.id.in_(servers), User.id.in_(users))
    rows = await db.execute(_rows().where(where))
    return await _with_groups(db, rows.all())


async def row_of(db: AsyncSession, username: str, name: str) -> Found | None:
    """The row of one server; of the default one also where it was never started."""
    same = sa.and_(Server.user_id == User.id, Server.name == name)
    found = (
        await db.execute(
            sa.select(User, Server, ServerUse)
            .outerjoin(Server, same)
            .outerjoin(ServerUse, OF_THIS_LIFE)
            .where(User.name == username)
        )
    ).one_or_none()
    if found is None or (found[1] is None and name):
        return None
    return (await _with_groups(db, [found]))[0]


async def _with_groups(db: AsyncSession, rows: Sequence[Any]) -> list[Found]:
    named = await groups.of_users(db, list({row[0].id for row in rows}))
    return [Found(user, server, tuple(named[user.id]), use) for user, server, use in rows]


CHIPS = {
    "running": "state:running",
    "starting": "state:starting",
    "failed": "state:failed",
    "idle": "state:running idle:>1h",
    "ephemeral": "is:ephemeral",
    "admins": "is:admin",
}
"""What one click asks for."""


_STIRRING = sa.or_(_wanted, Server.phase != Phase.STOPPED)
"""What any state but "stopped" implies: most servers of a large hub are left out by this comparison alone."""


async def counts(db: AsyncSession, *, now: datetime, only: frozenset[str] | None = None) -> dict[str, int]:
    """How many rows there are (`all`), and how many match each chip, in one statement."""
    terms = [term for text in CHIPS.values() for term in parse(text).terms]
    row = (await db.execute(_counting(only), moments_of(terms, now))).one()
    return {name: int(row._mapping[name]) for name in ("all", *CHIPS)}


@functools.lru_cache(maxsize=16)
def _counting(only: frozenset[str] | None) -> sa.Select[Any]:
    listed = sa.true() if only is None else User.name.in_(only)
    of_states, of_people = list[Any](), [(_everything() if only is None else _counted(listed)).label("all")]
    for name, text in CHIPS.items():
        query = parse(text)
        holds = sa.and_(*conditions(Wanted(query), PARAMETERS))
        if any(term.key == "state" and "stopped" not in term.value for term in query.terms):  # type: ignore[operator]
            of_states.append(sa.func.coalesce(sa.func.sum(sa.case((holds, 1), else_=0)), 0).label(name))
        else:
            of_people.append(_counted(listed, holds).label(name))
    stirring = sa.select(*of_states, *of_people).select_from(Server).join(User, User.id == Server.user_id)
    return stirring.where(_STIRRING, listed)


def _counted(*which: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    """How many rows of people with their servers there are."""
    rows = sa.select(sa.func.count()).select_from(User).outerjoin(Server, Server.user_id == User.id)
    return rows.where(*which).correlate(None).scalar_subquery()


def _everything() -> sa.ColumnElement[int]:
    """The same of all, by three counts of which none joins: each server, and each person who has none."""
    owners = sa.func.count(Server.user_id.distinct())
    people, held, having = (
        sa.select(what).select_from(of).correlate(None).scalar_subquery()
        for what, of in ((sa.func.count(), User), (sa.func.count(), Server), (owners, Server))
    )
    return people + held - having


class _Parameters:
    """Stands for the moment of a query that is asked again later: what is so long before it is named, not given."""

    def __sub__(self, span: timedelta) -> Any:
        return sa.bindparam(_before(span), type_=User.last_activity.type)


PARAMETERS = _Parameters()


def _before(span: timedelta) -> str:
    return f"before_{int(span.total_seconds())}"


def moments_of(terms: Iterable[Term], now: datetime) -> dict[str, datetime]:
    """What these terms' parameters are at this moment."""
    return {_before(term.value.than): now - term.value.than for term in terms if isinstance(term.value, Age)}


def conditions(wanted: Wanted, now: datetime | _Parameters) -> list[sa.ColumnElement[bool]]:
    """What a row must meet."""
    found = [] if wanted.only is None else [User.name.in_(wanted.only)]
    return [*found, *(_condition(term, now) for term in wanted.query.terms)]


def _condition(term: Term, now: datetime | _Parameters) -> sa.ColumnElement[bool]:
    match term.key, term.value:
        case "", str(word):
            in_name = User.name.contains(word, autoescape=True)
            return sa.or_(in_name, sa.func.lower(Server.display_name).contains(word, autoescape=True),
                          Server.name.contains(word, autoescape=True))  # fmt: skip
        case "state", tuple(states):
            return STATE.in_(states)
        case "owner", str(name):
            return User.name == name
        case "server", str(name):
            return sa.func.coalesce(Server.name, "") == ("" if name == "default" else name)
        case "group", str(name):
            members = sa.select(Membership.user_id).join(Group, Group.id == Membership.group_id)
            return User.id.in_(members.where(Group.name == name))
        case "idle", Age() as age:
            # Somebody who was never here has been idle for ever.
            at = now - age.than
            return sa.or_(at > LAST, LAST.is_(None)) if age.more else at <= LAST
        case "up", Age() as age:
            at = now - age.than
            started = Server.started < at if age.more else Server.started >= at
            return sa.and_(STATE == "ready", started)
        case "mem", Amount() as amount:
            return ServerUse.memory > amount.than if amount.more else ServerUse.memory < amount.than
        case "cpu", Amount() as amount:
            return ServerUse.cpus > amount.than if amount.more else ServerUse.cpus < amount.than
        case "is", "ephemeral":
            return User.guest.is_(True)
        case "is", "admin":
            return User.admin.is_(True)
        case "is", "suspended":
            return User.suspended.is_not(None)
        case "is", "named":
            return Server.name != ""
        case _:
            raise AssertionError(term)


def _order(sort: str) -> list[Any]:
    column = SORTS[sort.removeprefix("-")]
    # Ties are broken by name: a page that is read twice shows the same rows.
    ties = [User.name, sa.func.coalesce(Server.name, "")]
    if sort.startswith("-"):
        return [column.desc().nulls_last(), *ties]
    return [column.asc().nulls_last(), *ties]


async def named(db: AsyncSession, names: Sequence[tuple[str, str]]) -> list[Found]:
    """The rows of these (person, server) names; those that are not there are left out."""
    wanted, pairs = set(names), []
    people = sorted({user for user, _ in names})
    for start in range(0, len(people), CHUNK):
        chunk = people[start : start + CHUNK]
        users = {user.name: user for user in await db.scalars(sa.select(User).where(User.name.in_(chunk)))}
        ids = [user.id for user in users.values()]
        held = await servers.list_for_users(db, ids)
        for user in users.values():
            by_name: dict[str, Server | None] = {"": None} | {one.name: one for one in held[user.id]}
            pairs += [(user, server, None) for name, server in by_name.items() if (user.name, name) in wanted]
    return await _with_groups(db, pairs)
