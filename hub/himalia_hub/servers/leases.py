"""The right to work on a server, and what is written under it. For `Database.write`: none of these commits."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from himalia_hub.db.prepared import SPEAKER, Prepared, columns_of, detached, is_postgresql
from himalia_hub.servers.models import Server
from himalia_hub.users.models import User

CHANNEL = "himalia_servers"
"""PostgreSQL notification channel; the payload: the server's id, the name of the `Database` that tells it, and STEP."""
STEP = "step"
"""Said of what somebody who works on the server has written: news for those who watch it, and no work for others."""

RELEASED: dict[str, Any] = {"lease_owner": None, "lease_until": None}
"""Values that give a row back to the queue, for a decision that ends the work on it."""


class LeaseLost(Exception):
    """Another replica works on this server now: drop everything."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one server. `epoch` fences every write made under it."""

    server_id: int
    owner: str
    epoch: int


def _update() -> sa.Update:
    """Nobody looks at a row again in the session that wrote it: nothing in memory needs to follow."""
    return sa.update(Server).execution_options(synchronize_session=False)


def _claim() -> Prepared:
    now: sa.BindParameter[datetime] = sa.bindparam("now", type_=Server.due_at.type)
    node = sa.bindparam("at_node", type_=Server.node.type)
    free = sa.or_(Server.lease_until.is_(None), Server.lease_until < now)
    mine = sa.or_(Server.node.is_(None), Server.node == node)
    due = sa.select(Server.id).where(free, mine, Server.due_at <= now).order_by(Server.due_at)
    due = due.limit(sa.bindparam("most")).with_for_update(skip_locked=True)
    return Prepared(
        sa.update(sa.inspect(Server).local_table)  # type: ignore[arg-type]
        # Materialized: PostgreSQL may carry out a subquery once for each row, and lock more than it was asked for.
        .where(
            Server.id.in_(sa.select(due.cte("due").prefix_with("MATERIALIZED", dialect="postgresql").c.id)),
            free,
        )
        .values(
            lease_owner=sa.bindparam("owner", type_=Server.lease_owner.type),
            lease_until=sa.bindparam("until", type_=Server.lease_until.type),
            lease_epoch=Server.lease_epoch + 1,
        )
        .returning(*columns_of(Server))
    )


_CLAIM = _claim()
"""Built once, as are the two below: SQLAlchemy takes longer to build an expression than SQLite to carry it out."""
_AT_ONCE = 8
_NAMES = Prepared(
    sa.select(User.id, User.name).where(
        User.id.in_([sa.bindparam(f"id{n}", type_=sa.Integer) for n in range(_AT_ONCE)])
    )
)
_NOTIFY = Prepared(sa.select(sa.func.pg_notify(CHANNEL, sa.bindparam("told", type_=sa.String))))


@functools.cache
def _fenced_update(names: frozenset[str], *, of_one_wish: bool) -> Prepared:
    """Sets these columns of one row to `to_<name>` under a lease; `of_one_wish`: unless there is a newer wish."""
    table = sa.inspect(Server).local_table
    mine = [table.c.id == sa.bindparam("of_server"), table.c.lease_epoch == sa.bindparam("of_epoch")]
    if of_one_wish:
        mine.append(table.c.generation == sa.bindparam("of_generation"))
    values = {name: sa.bindparam(f"to_{name}", type_=table.c[name].type) for name in names}
    return Prepared(sa.update(table).where(*mine).values(values))  # type: ignore[arg-type]


def claim_due(
    db: Session, owner: str, *, node: str | None, now: datetime, ttl: timedelta, most: int = 1
) -> list[tuple[Lease, Server, str]]:
    """Lease the servers that have waited longest, at most so many: each lease, its row, its person's name."""
    values = {"owner": owner, "at_node": node, "now": now, "until": now + ttl, "most": most}
    servers = [detached(Server, row) for row in _CLAIM.rows(db, values)]
    names = _names_of(db, [server.user_id for server in servers])
    claimed = []
    for server in servers:
        if server.user_id in names:
            claimed.append((Lease(server.id, owner, server.lease_epoch), server, names[server.user_id]))
        else:
            # A row of nobody, which no hub leaves: it rests, and nobody else waits for it. `himalia doctor` names it.
            db.execute(_update().where(Server.id == server.id).values(due_at=None, **RELEASED))
    return claimed


def _names_of(db: Session, user_ids: list[int]) -> dict[int, str]:
    names: dict[int, str] = {}
    for start in range(0, len(user_ids), _AT_ONCE):
        asked = user_ids[start : start + _AT_ONCE]
        asked += asked[:1] * (_AT_ONCE - len(asked))
        names |= {row[0]: row[1] for row in _NAMES.rows(db, {f"id{n}": one for n, one in enumerate(asked)})}
    return names


def renew(db: Session, lease: Lease, *, until: datetime) -> None:
    """Keep the lease, unless it was just given back; LeaseLost when somebody else has it."""
    held = sa.and_(Server.id == lease.server_id, Server.lease_epoch == lease.epoch)
    kept = db.execute(_update().where(held, Server.lease_owner == lease.owner).values(lease_until=until))
    if not kept.rowcount:  # type: ignore[attr-defined]
        _fenced(db, lease, {"lease_epoch": lease.epoch})


def record(db: Session, lease: Lease, values: dict[str, Any]) -> None:
    """Write facts about the outside under the lease; LeaseLost when it is no longer ours."""
    _fenced(db, lease, values)
    notify(db, lease.server_id)


def decide(db: Session, lease: Lease, generation: int, values: dict[str, Any]) -> bool:
    """Write a decision (`desired`, `due_at`, the end of a story) unless a newer wish came meanwhile.

    False when one did: the wish stays as people made it. LeaseLost when the lease is no longer ours.
    """
    if _write(db, lease, values, generation):
        notify(db, lease.server_id)
        return True
    _fenced(db, lease, {"lease_epoch": lease.epoch})
    return False


def release(db: Session, lease: Lease) -> None:
    """Give the row back to the queue. A lease lost meanwhile is nobody's loss."""
    _write(db, lease, RELEASED)


def notify(db: Session, server_id: int, *, wish: bool = False) -> None:
    """Tell the other replicas at commit, where the database can (PostgreSQL NOTIFY), of a step or of a wish."""
    if is_postgresql(db):
        _NOTIFY.rows(db, {"told": f"{server_id} {db.info.get(SPEAKER, '')}{'' if wish else ' ' + STEP}"})


def _fenced(db: Session, lease: Lease, values: dict[str, Any]) -> None:
    if not _write(db, lease, values):
        raise LeaseLost(f"server {lease.server_id}, epoch {lease.epoch}")


def _write(db: Session, lease: Lease, values: dict[str, Any], generation: int | None = None) -> bool:
    """Whether the row was still under this lease, and its wish (if it is named) the newest."""
    given = {f"to_{name}": value for name, value in values.items()}
    given |= {"of_server": lease.server_id, "of_epoch": lease.epoch}
    given |= {} if generation is None else {"of_generation": generation}
    statement = _fenced_update(frozenset(values), of_one_wish=generation is not None)
    return bool(statement.run(db, given))
