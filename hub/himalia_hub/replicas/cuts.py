"""What is to be cut is a row, written in the transaction that ends a sign-in, a token or a right.

So whoever ends it may die the moment after: the other hubs are called by a NOTIFY of that transaction, and look every
EVERY_S all the same; a hub that starts does what was left (docs/decisions/0056). Who does it is `auth/cutting.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.replicas.models import CutRow

CHANNEL: Final = "himalia_cuts"
"""PostgreSQL notification channel; its payload says nothing."""
EVERY_S: Final = 2.0
"""Between two looks at the rows. Out is out within 5 s also where no call was heard."""


class Found(NamedTuple):
    """A row, to look at."""

    id: int
    what: dict[str, Any]
    done: bool


_NEWS = (
    sa.select(CutRow.id, CutRow.what, CutRow.done)
    .where(CutRow.id > sa.bindparam("floor"))
    .where(sa.or_(CutRow.done.is_(False), CutRow.at > sa.bindparam("since", type_=CutRow.at.type)))
    .order_by(CutRow.id)
)
"""Built once: every hub asks it again and again."""


@sa.event.listens_for(CutRow, "after_insert")
def _call(_mapper: object, connection: Connection, _row: CutRow) -> None:
    if connection.dialect.name == "postgresql":  # SQLite has one hub, and commands beside it
        connection.execute(sa.select(sa.func.pg_notify(CHANNEL, "")))


async def news(db: AsyncSession, *, floor: int, since: datetime) -> list[Found]:
    """Rows with a number beyond `floor` that nobody has done yet, and those made after `since`."""
    return [Found(*row) for row in await db.execute(_NEWS, {"floor": floor, "since": since})]


async def set_done(db: AsyncSession, ids: Collection[int]) -> None:
    """The first proxy has cut these."""
    await db.execute(sa.update(CutRow).where(CutRow.id.in_(ids)).values(done=True))


async def purge(db: AsyncSession, *, done_before: datetime, made_before: datetime) -> None:
    """Delete what was done and is that old, and what nobody could do for so long."""
    over = sa.or_(sa.and_(CutRow.done, CutRow.at < done_before), CutRow.at < made_before)
    # SQLite gives the numbers of the last rows anew once they are gone.
    last = sa.select(sa.func.max(CutRow.id)).scalar_subquery()
    await db.execute(sa.delete(CutRow).where(over, CutRow.id < last))
