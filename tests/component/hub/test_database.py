"""What the database layer promises, on both kinds of database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.db.base import Base
from himalia_hub.db.engine import Database
from himalia_hub.users.models import User


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    found = Database(database_url)
    async with found.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield found
    await found.close()


def add(name: str) -> User:
    return User(name=name, created=clock.now())


async def names(database: Database) -> list[str]:
    async with database.read() as db:
        return list(await db.scalars(sa.select(User.name).order_by(User.name)))


async def test_what_is_written_is_there_on_return(database: Database) -> None:
    def work(db: Session) -> int:
        user = add("ann")
        db.add(user)
        db.flush()
        return user.id

    number = await database.write(work)

    async with database.read() as db:
        assert (await db.get_one(User, number)).name == "ann"


async def test_nothing_is_written_by_work_that_raises(database: Database) -> None:
    def work(db: Session) -> None:
        db.add(add("ann"))
        db.flush()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.write(work)

    assert await names(database) == []


async def test_a_statement_tells_how_many_rows_it_changed_and_what_it_broke(database: Database) -> None:
    async with database.begin() as db:
        db.add_all([add("ann"), add("ben"), add("cat")])
    async with database.begin() as db:
        renamed = await db.execute(sa.update(User).where(User.name != "cat").values(admin=True))
        assert renamed.rowcount == 2
    with pytest.raises(sa.exc.IntegrityError):
        async with database.begin() as db:
            db.add(add("ann"))
    assert await names(database) == ["ann", "ben", "cat"]


async def test_many_writers_of_both_kinds_all_get_their_turn(database: Database) -> None:
    async def awaited(name: str) -> None:
        async with database.begin() as db:
            db.add(add(name))

    works = [database.write(lambda db, number=number: db.add(add(f"w{number:02}"))) for number in range(30)]
    await asyncio.gather(*works, *(awaited(f"a{number:02}") for number in range(30)))

    assert len(await names(database)) == 60
