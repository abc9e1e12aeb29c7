"""Queries on servers: what there is, what people wish. None of them commits; when one is due: `schedule.py`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.db.base import insert_of, insert_unless_there
from himalia_hub.db.prepared import Prepared, attached, columns_of, detached
from himalia_hub.errors import Conflict
from himalia_hub.servers import leases
from himalia_hub.servers.models import Server, ServerEvent
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.users.models import User
from himalia_spawner.names import backend_name

# ------------------------------------------------------------------ what people see and wish


_FOUND = (
    sa.select(Server)
    .join(User, User.id == Server.user_id)
    .where(User.name == sa.bindparam("username"), Server.name == sa.bindparam("name"))
)
"""Built once, as are the others here that each start asks: building one takes longer than asking it."""
_PERSON = len(columns_of(User))
_FOUND_WITH_USER = Prepared(
    sa.select(*columns_of(User), *columns_of(Server))
    .select_from(User)
    .outerjoin(Server, sa.and_(Server.user_id == User.id, Server.name == sa.bindparam("name")))
    .where(User.name == sa.bindparam("username"))
)
_WHOSE = Prepared(
    sa.select(User.id, Server.id, Server.name)
    .outerjoin(Server, Server.user_id == User.id)
    .where(User.name == sa.bindparam("username"))
)
_BY_ID = Prepared(sa.select(*columns_of(Server)).where(Server.id == sa.bindparam("server_id")))
_STORY = Prepared(
    sa.select(*columns_of(ServerEvent))
    .where(
        ServerEvent.server_id == sa.bindparam("server_id"),
        ServerEvent.generation == sa.bindparam("generation"),
        ServerEvent.id > sa.bindparam("after_id"),
    )
    .order_by(ServerEvent.id)
)


_EVENT = Prepared(
    insert_of(ServerEvent), given=("server_id", "generation", "at", "kind", "progress", "message")
)
_BLANK: dict[str, Any] = {
    column.key: column.default.arg if column.default is not None and column.default.is_scalar else None
    for column in sa.inspect(Server).local_table.columns
    if not column.primary_key
}
"""A row with nothing wished."""
_NEW = Prepared(functools.partial(insert_unless_there, Server), given=_BLANK)


@functools.cache
def _wish(names: frozenset[str]) -> Prepared:
    """Wishes that one server runs, unless that is wished already, and sets these columns to `to_<name>`."""
    table = cast("sa.Table", Server.__table__)
    values: dict[str, Any] = {name: sa.bindparam(f"to_{name}", type_=table.c[name].type) for name in names}
    values |= {"desired": Desired.RUNNING, "generation": table.c.generation + 1}
    return Prepared(
        sa.update(table)
        .where(table.c.id == sa.bindparam("of_server"), table.c.desired != Desired.RUNNING)
        .values(values)
        .returning(*columns_of(Server))
    )


async def find(db: AsyncSession, username: str, name: str) -> Server | None:
    """The server of this person with this name ('' is the default one)."""
    return (await db.scalars(_FOUND, {"username": username, "name": name})).one_or_none()


async def find_with_user(db: AsyncSession, username: str, name: str) -> tuple[User | None, Server | None]:
    """A person and the server of theirs with this name, in one question."""
    row = await db.run_sync(_FOUND_WITH_USER.row, {"username": username, "name": name})
    if row is None:
        return None, None
    session, theirs = db.sync_session, row[_PERSON:]
    user = attached(session, User, row[:_PERSON])
    return user, None if theirs[0] is None else attached(session, Server, theirs)


async def by_id(db: AsyncSession, server_id: int) -> Server | None:
    """The server of this row, to look at: what is set on it is not written."""
    return await db.run_sync(looked_at, server_id)


def looked_at(db: Session, server_id: int) -> Server | None:
    """The same in a synchronous session."""
    row = _BY_ID.row(db, {"server_id": server_id})
    return None if row is None else detached(Server, row)


async def list_for_user(db: AsyncSession, user_id: int) -> list[Server]:
    """A person's servers, the default one first."""
    return list(await db.scalars(sa.select(Server).where(Server.user_id == user_id).order_by(Server.name)))


async def list_for_users(db: AsyncSession, user_ids: Sequence[int]) -> dict[int, list[Server]]:
    """The servers of many people by user id."""
    servers: dict[int, list[Server]] = {user_id: [] for user_id in user_ids}
    found = sa.select(Server).where(Server.user_id.in_(user_ids)).order_by(Server.user_id, Server.name)
    for server in await db.scalars(found):
        servers[server.user_id].append(server)
    return servers


def unstarted(user_id: int) -> Server:
    """The default server of a person who has no row for it: everybody has one, started or not. To look at only."""
    values = {**_BLANK, "user_options": {}, "phase_since": clock.now(), "name": "", "backend_name": ""}
    return Server(**values | {"id": 0, "user_id": user_id})


async def get_or_create(db: AsyncSession, user: User, name: str, *, now: datetime) -> Server:
    """The row of this person's server; made, stopped, when there is none."""
    server = await find(db, user.name, name) or await create(db, user, name, {}, now=now)
    server = server or await find(db, user.name, name)  # another hub was faster
    assert server is not None
    return server


async def create(
    db: AsyncSession, user: User, name: str, values: Mapping[str, Any], *, now: datetime
) -> Server | None:
    """A row with these values, stopped unless they say another thing; None when this person has one of this name.

    One statement, which waits for another hub that is making the same, and another only where a renamed server still
    carries the name for the spawner.
    """
    row = {**_BLANK, "user_options": {}, "phase_since": now, **values, "user_id": user.id, "name": name}
    for wanted in backend_names(user.name, name):
        row["backend_name"] = wanted
        made = await db.run_sync(_NEW.row, row)
        if made is not None:
            whole = [made[0] if column.primary_key else row[column.key] for column in columns_of(Server)]
            return attached(db.sync_session, Server, whole)
        if await find(db, user.name, name) is not None:
            return None
    raise AssertionError("counting never ends")


def backend_names(username: str, name: str) -> Iterator[str]:
    """The name that follows from person and server, then further ones while a renamed server still carries that."""
    for turn in itertools.count():
        # No server's name holds a line break, so a further name is never the first name of another server.
        yield backend_name(username, f"{name}\n{turn}" if turn else name)


async def rename(db: AsyncSession, server: Server, name: str) -> None:
    """Give a stopped server another name; Conflict when it is taken, or when a newer wish came meanwhile.

    `backend_name` stays: what the spawner keeps for this server (volumes, logs) goes on under the new name.
    """
    await db.flush()
    still = sa.and_(Server.id == server.id, Server.generation == server.generation, ~Server.doomed)
    try:
        async with db.begin_nested():
            changed = await db.execute(sa.update(Server).where(still).values(name=name))
    except sa.exc.IntegrityError:
        raise Conflict(f"there is a server named {name!r} already", remedy="choose another name") from None
    if not changed.rowcount:  # type: ignore[attr-defined]
        raise Conflict(f"the server {server.name!r} is being started or removed", remedy="look again")
    await db.refresh(server)


@dataclass(frozen=True, slots=True)
class Wish:
    """How a server is to run: its options (None: the last ones), and whether it waits for its turn.

    `memory` (bytes) and `cpus` are what it counts for in quotas.
    """

    options: dict[str, Any] | None = None
    wait: bool = False
    memory: int | None = None
    cpus: float | None = None
    safe_mode: bool = False
    display_name: str | None = None

    def columns(self, now: datetime) -> dict[str, Any]:
        """What it writes."""
        values: dict[str, Any] = {
            "due_at": None if self.wait else now, "queued_at": now if self.wait else None,
            "memory_reserved": self.memory, "cpus_reserved": self.cpus,
            "attempts": 0, "doomed": False, "failure": None, "safe_mode": self.safe_mode,
        }  # fmt: skip
        values |= {} if self.options is None else {"user_options": self.options}
        return values | ({} if self.display_name is None else {"display_name": self.display_name})


async def want_running(
    db: AsyncSession, user: User, name: str, *, options: dict[str, Any] | None, now: datetime
) -> Server:
    """Wish that the server runs now. Wishing what is wished already changes nothing."""
    return await wish_running(db, user, name, await find(db, user.name, name), Wish(options), now=now)


async def wish_running(
    db: AsyncSession, user: User, name: str, server: Server | None, wish: Wish, *, now: datetime
) -> Server:
    """The same with all that goes with a wish; `server` is the row as this transaction has found it."""
    values = wish.columns(now)
    wished = None
    if server is None:
        begins = values | {"desired": Desired.RUNNING, "generation": 1}
        wished = await create(db, user, name, begins, now=now)
    if wished is None:
        server = server or await find(db, user.name, name)
        assert server is not None
        if server.phase is Phase.FAILED and kept_until(server.failure, now=now) is None:
            values["node"] = None  # any hub may start it: what waited on that machine is over
        given = {f"to_{key}": value for key, value in values.items()} | {"of_server": server.id}
        row = await db.run_sync(_wish(frozenset(values)).row, given)
        wished = None if row is None else attached(db.sync_session, Server, row)
    if wished is None:
        assert server is not None
        there = await db.get(Server, server.id, populate_existing=True)
        # None: another hub has removed it since it was found.
        return there or await wish_running(db, user, name, None, wish, now=now)
    await db.run_sync(_EVENT.run, _line(wished, "info", 0, "Server requested", now))
    await notify(db, wished.id)
    return wished


async def want_stopped(
    db: AsyncSession, server: Server, *, now: datetime, doomed: bool = False, why: str = ""
) -> None:
    """Wish that the server is gone, in whatever state it is; `doomed` deletes its row as well.

    `why` is for the hub's own wishes, such as `idle for 60 minutes`; `reasons` gives it back. Of a server that crashed
    and whose kernels wait, those are meant. One that another hub has removed meanwhile is as it is wished.
    """
    values: dict[str, Any] = {"due_at": now, "queued_at": None, "attempts": 0}
    if server.phase is Phase.FAILED:
        waits = kept_until(server.failure, now=now) is not None
        values |= {"phase": Phase.STOPPING, "phase_since": now} if waits else {"node": None}
    if doomed:
        values["doomed"] = True
    there = await db.execute(sa.update(Server).where(Server.id == server.id).values(values))
    if not there.rowcount:  # type: ignore[attr-defined]
        return
    changed = await db.execute(
        sa.update(Server)
        .where(Server.id == server.id, Server.desired != Desired.STOPPED)
        .values(desired=Desired.STOPPED, generation=Server.generation + 1)
    )
    await db.refresh(server)
    if changed.rowcount:  # type: ignore[attr-defined]
        if why:
            add_event(db, server, "culled", 0, f"Stopped: {why}", now=now)
        else:
            add_event(db, server, "info", 0, "Stop requested", now=now)
    await notify(db, server.id)


def kept_until(failure: dict[str, Any] | None, *, now: datetime) -> datetime | None:
    """Until when the kernels of a server that failed wait for its next start; None when none do. Pure."""
    told = (failure or {}).get("kept_until")
    until = datetime.fromisoformat(told) if told else None
    return until if until is not None and until > now else None


def with_kept(failure: dict[str, Any], left_s: float, *, now: datetime) -> dict[str, Any]:
    """The same failure, with kernels that wait for so long, or (0) with none. Pure."""
    told = {key: value for key, value in failure.items() if key != "kept_until"}
    return told | ({"kept_until": clock.iso(now + timedelta(seconds=left_s))} if left_s > 0 else {})


async def with_kept_kernels(db: AsyncSession, *, now: datetime) -> list[Server]:
    """Servers that crashed and whose kernels wait."""
    failed = await db.scalars(sa.select(Server).where(Server.phase == Phase.FAILED))
    return [server for server in failed if kept_until(server.failure, now=now) is not None]


async def reasons(db: AsyncSession, user_id: int) -> dict[int, str]:
    """Why the hub itself stopped a person's servers, by server id; nothing for those with a newer wish."""
    now = sa.and_(Server.id == ServerEvent.server_id, Server.generation == ServerEvent.generation)
    found = sa.select(Server.id, ServerEvent.message).join(ServerEvent, now)
    rows = await db.execute(found.where(Server.user_id == user_id, ServerEvent.kind == "culled"))
    return {row[0]: row[1] for row in rows}


async def notify(db: AsyncSession, server_id: int) -> None:
    """Tell the other replicas of a wish at commit, where the database can (PostgreSQL NOTIFY)."""
    await db.run_sync(leases.notify, server_id, wish=True)


def add_event(
    db: AsyncSession | Session, server: Server, kind: str, progress: int, message: str, *, now: datetime
) -> None:
    """Add a line to the server's story. Kinds: info, ready, failed, stopped, culled."""
    line = _line(server, kind, progress, message, now)
    if isinstance(db, Session):
        _EVENT.run(db, line)
    else:
        db.add(ServerEvent(**line))


def _line(server: Server, kind: str, progress: int, message: str, now: datetime) -> dict[str, Any]:
    return {
        "server_id": server.id,
        "generation": server.generation,
        "at": now,
        "kind": kind,
        "progress": progress,
        "message": message,
    }


async def events_after(db: AsyncSession, server_id: int, generation: int, after_id: int) -> list[ServerEvent]:
    """The story of one start or stop, from just after the event `after_id`."""
    which = {"server_id": server_id, "generation": generation, "after_id": after_id}
    return [detached(ServerEvent, row) for row in await db.run_sync(_STORY.rows, which)]


async def touch(db: AsyncSession, server_id: int, at: datetime) -> None:
    """Move the server's last activity forward, never back."""
    await db.run_sync(_touch().run, {"of_server": server_id, "at": at})


@functools.cache
def _touch() -> Prepared:
    table = cast("sa.Table", Server.__table__)
    last, at = table.c.last_activity, sa.bindparam("at", type_=table.c.last_activity.type)
    older = sa.or_(last.is_(None), last < at)
    found = sa.update(table).where(table.c.id == sa.bindparam("of_server"), older)
    return Prepared(found.values(last_activity=at))


async def whose(db: AsyncSession, username: str) -> tuple[int | None, dict[str, int]]:
    """The id of a person, None when there is none, and of their servers by name; no more is read of any."""
    rows = await db.run_sync(_WHOSE.rows, {"username": username})
    return (rows[0][0] if rows else None), {row[2]: row[1] for row in rows if row[1] is not None}
