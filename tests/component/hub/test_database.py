"""What the database layer promises, on both kinds of database."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Generator
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.db import checkpoints, engine
from himalia_hub.db.base import Base
from himalia_hub.db.engine import Database
from himalia_hub.db.prepared import Prepared, attached, columns_of
from himalia_hub.users.models import User
from support import eventually


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


async def test_an_error_undoes_only_the_work_of_who_made_it_of_all_that_is_written_at_once(
    database: Database,
) -> None:
    def work(number: int, db: Session) -> int:
        db.add(add(f"w{number:02}"))
        db.flush()
        if number % 3 == 0:
            raise ValueError(f"not {number}")
        return number

    came = await asyncio.gather(
        *(database.write(partial(work, number)) for number in range(40)), return_exceptions=True
    )

    assert [str(one) for one in came] == [f"not {n}" if n % 3 == 0 else str(n) for n in range(40)]
    assert await names(database) == [f"w{number:02}" for number in range(40) if number % 3]


async def test_what_was_written_beside_others_is_there_on_return(database: Database) -> None:
    async def write(name: str) -> str | None:
        await database.write(lambda db: db.add(add(name)))
        return await database.read_in_one(lambda db: db.scalar(sa.select(User.name).where(User.name == name)))

    written = [f"w{number:02}" for number in range(20)]
    assert await asyncio.gather(*(write(name) for name in written)) == written


async def test_a_reader_that_fails_fails_alone(database: Database) -> None:
    await database.write(lambda db: db.add(add("ann")))

    async def count(db: AsyncSession) -> int | None:
        return await db.scalar(sa.select(sa.func.count()).select_from(User))

    async def ask_nonsense(db: AsyncSession) -> None:
        await db.execute(sa.text("SELECT nothing FROM nowhere"))

    first, failed, second = await asyncio.gather(
        database.read_in_one(count),
        database.read_in_one(ask_nonsense),
        database.read_in_one(count),
        return_exceptions=True,
    )

    assert (first, second) == (1, 1)
    assert isinstance(failed, sa.exc.DBAPIError)


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    found = Database(f"sqlite:///{tmp_path / 'hub.sqlite'}")
    async with found.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield found
    await found.close()


async def test_who_is_cancelled_while_waiting_for_sqlites_one_writer_writes_nothing(sqlite: Database) -> None:
    async with sqlite.begin() as db:
        db.add(add("ann"))
        waiting = asyncio.create_task(sqlite.write(lambda db: db.add(add("ben"))))
        await asyncio.sleep(0)  # it has asked, and waits for this transaction
        waiting.cancel()
        await asyncio.wait([waiting])

    await sqlite.write(lambda db: db.add(add("cat")))
    assert await names(sqlite) == ["ann", "cat"]


async def test_what_was_committed_gets_into_the_file_itself_with_no_commit_that_waits_for_it(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.01)
    path, alone = sqlite.url.database or "", tmp_path / "alone.sqlite"
    checkpoints.copy_log(path)

    def without_its_log() -> int:
        alone.write_bytes(Path(path).read_bytes())
        with contextlib.closing(sqlite3.connect(f"file:{alone}?immutable=1", uri=True)) as file:
            try:
                return int(file.execute("SELECT count(*) FROM users").fetchone()[0])
            except sqlite3.DatabaseError:
                return -1  # it is just being copied

    await sqlite.write(
        lambda db: db.add(add("x" * 6_000_000))
    )  # 1,465 pages: SQLite itself would do it with 1,000
    assert without_its_log() == 0
    task = asyncio.create_task(checkpoints.run(sqlite))
    await eventually(lambda: without_its_log() == 1)
    task.cancel()


async def test_when_sqlite_ends_the_transaction_of_many_each_of_them_is_told(sqlite: Database) -> None:
    def full(db: Session) -> None:
        db.connection().exec_driver_sql("ROLLBACK")  # as SQLite does by itself when the disk is full
        raise sa.exc.OperationalError("INSERT", None, sqlite3.OperationalError("database or disk is full"))

    def refused(_db: Session) -> None:
        raise ValueError("no")

    works = [lambda db: db.add(add("ann")), refused, full, lambda db: db.add(add("ben"))]
    came = await asyncio.gather(*(sqlite.write(work) for work in works), return_exceptions=True)
    await sqlite.write(lambda db: db.add(add("cat")))

    assert isinstance(came[1], ValueError)
    assert all(isinstance(came[index], sa.exc.OperationalError) for index in (0, 2, 3))
    assert await names(sqlite) == ["cat"]


@pytest.mark.postgres
async def test_a_hub_sees_what_others_committed_whatever_a_site_has_made_usual(
    postgres_database: str,
) -> None:
    usual = "ALTER DATABASE %s SET default_transaction_isolation = 'serializable'"
    name = sa.make_url(postgres_database).database
    for words in (usual % name, None):
        database = Database(postgres_database)
        async with database.begin() as db:
            if words:
                await db.execute(sa.text(words))
            else:
                assert await db.scalar(sa.text("SHOW transaction_isolation")) == "read committed"
        await database.close()


@pytest.mark.postgres
async def test_a_transaction_of_a_hub_that_was_stopped_is_ended_by_postgresql_before_others_give_up(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.IDLE_IN_TRANSACTION_S < engine.BUSY_TIMEOUT_S
    monkeypatch.setattr(engine, "IDLE_IN_TRANSACTION_S", 1)
    stopped, other = Database(postgres_database), Database(postgres_database)
    try:
        async with stopped.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with stopped.begin() as db:
            db.add(add("ann"))
        rename = sa.update(User).where(User.name == "ann")
        with pytest.raises(sa.exc.DBAPIError) as ended:
            async with stopped.begin() as db:
                await db.execute(rename.values(name="of the stopped"))
                async with other.begin() as db_of_other:
                    await db_of_other.execute(rename.values(name="of the other"))
                await db.execute(sa.select(User.id))
        assert isinstance(ended.value, sa.exc.OperationalError), (
            "which is answered by 503, as when it is away"
        )
        assert await names(stopped) == ["of the other"], "and its pool has another connection"
    finally:
        await stopped.close()
        await other.close()


async def test_a_prepared_statement_sees_what_was_set_and_what_it_gives_is_written(
    database: Database,
) -> None:
    everything = Prepared(sa.select(*columns_of(User)).where(User.name == sa.bindparam("name")))
    insert = Prepared(sa.insert(sa.inspect(User).local_table), given=("name", "created"))

    def work(db: Session) -> None:
        db.add(add("ada"))
        row = everything.row(db, {"name": "ada"})  # set, and not written yet
        ada = attached(db, User, row)
        assert ada is db.get(User, ada.id)
        assert not ada.admin
        assert ada.created.tzinfo is not None
        insert.run(db, {"name": "bob", "created": clock.now()})
        attached(db, User, everything.row(db, {"name": "bob"})).name = "eve"

    await asyncio.gather(database.write(work), database.write(lambda db: db.add(add("zoe"))))
    assert await names(database) == ["ada", "eve", "zoe"]


async def test_what_a_database_refuses_of_a_prepared_statement_is_sqlalchemys_error(
    database: Database,
) -> None:
    insert = Prepared(sa.insert(sa.inspect(User).local_table), given=("name", "created"))

    def twice(db: Session) -> None:
        for _ in range(2):
            insert.run(db, {"name": "ada", "created": clock.now()})

    with pytest.raises(sa.exc.IntegrityError):
        await database.write(twice)
    assert await names(database) == []


async def test_who_asks_whether_anything_was_committed_hears_nothing_older_than_the_question(
    database: Database,
) -> None:
    first = await database.revision.now()
    asked = [asyncio.create_task(database.revision.now()) for _ in range(5)]
    await asyncio.sleep(0)  # the first question is under way

    await database.write(lambda db: db.add(add("ann")))

    assert await database.revision.now() not in (None, first)
    assert len(set(await asyncio.gather(*asked))) <= 2
    assert await database.revision.now() == await database.revision.now()
