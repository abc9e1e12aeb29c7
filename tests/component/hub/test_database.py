"""What the database layer promises, on both kinds of database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
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


async def test_a_coroutine_that_asks_only_the_database_is_one_transaction(database: Database) -> None:
    async def add_two(db: AsyncSession) -> int:
        db.add_all([add("ann"), add("ben")])
        await db.flush()
        async with db.begin_nested() as inner:
            db.add(add("never"))
            await inner.rollback()
        return len(list(await db.scalars(sa.select(User))))

    async def add_and_fail(db: AsyncSession) -> None:
        db.add(add("cat"))
        await db.flush()
        raise ValueError("no")

    async def look(db: AsyncSession) -> tuple[str, int | None]:
        user = (await db.execute(sa.select(User).order_by(User.name).limit(1))).scalar_one()
        await db.refresh(user)
        return user.name, await db.scalar(sa.select(sa.func.count()).select_from(User))

    assert await database.begin_in_one(add_two) == 2
    with pytest.raises(ValueError, match="no"):
        await database.begin_in_one(add_and_fail)

    assert await database.read_in_one(look) == ("ann", 2)


async def test_waiting_for_something_else_within_such_a_transaction_is_refused_and_writes_nothing(
    tmp_path: Path,
) -> None:
    async def wait(db: AsyncSession) -> None:
        db.add(add("ann"))
        await db.flush()
        await asyncio.get_running_loop().create_future()

    async def look_away(db: AsyncSession) -> None:
        db.add(add("ann"))
        await db.flush()
        await Yields()

    database = Database(f"sqlite:///{tmp_path / 'hub.sqlite'}")
    async with database.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)

    with pytest.raises(RuntimeError, match="awaited within a transaction"):
        await database.begin_in_one(look_away)
    with pytest.raises(RuntimeError):  # there is no event loop in that thread
        await database.begin_in_one(wait)

    assert await names(database) == []
    await database.close()


class Yields:
    """Awaiting it gives the event loop away."""

    def __await__(self) -> Generator[None, None, None]:
        yield


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
