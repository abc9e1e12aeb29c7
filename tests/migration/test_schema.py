"""The steps of the schema against real databases."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from himalia_hub.db import migrate
from himalia_hub.db.base import Base
from himalia_hub.db.engine import sync_url
from himalia_hub.errors import ConfigError, Unavailable
from himalia_hub.health.rows import load_every_model


def connect(url: str) -> sa.Connection:
    return sa.create_engine(sync_url(url), poolclass=sa.NullPool).connect()


def set_revision(url: str, revision: str) -> None:
    with connect(url) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :new"), {"new": revision})
        connection.commit()


async def test_an_empty_database_becomes_what_the_models_say(database_url: str) -> None:
    load_every_model()

    done = await migrate.upgrade(database_url)

    assert (done.before, done.after, done.copy) == (None, migrate.head(), None)
    with connect(database_url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


async def test_the_names_of_constraints_are_those_of_the_models(database_url: str) -> None:
    load_every_model()
    await migrate.upgrade(database_url)

    with connect(database_url) as connection:
        inspector = sa.inspect(connection)
        for table in Base.metadata.sorted_tables:
            unique = {c.name for c in table.constraints if isinstance(c, sa.UniqueConstraint)}
            foreign = {c.name for c in table.constraints if isinstance(c, sa.ForeignKeyConstraint)}
            rules = {c.name: c.ondelete for c in table.constraints if isinstance(c, sa.ForeignKeyConstraint)}
            found = {
                key["name"]: key["options"].get("ondelete") for key in inspector.get_foreign_keys(table.name)
            }
            assert {found["name"] for found in inspector.get_unique_constraints(table.name)} == unique
            assert set(found) == foreign
            assert found == rules
            assert inspector.get_pk_constraint(table.name)["name"] == table.primary_key.name


async def test_upgrading_twice_does_nothing_the_second_time(database_url: str) -> None:
    await migrate.upgrade(database_url)

    again = await migrate.upgrade(database_url)

    assert not again.changed
    assert await migrate.current(database_url) == await migrate.check(database_url) == migrate.head()


async def test_two_replicas_that_start_at_once_migrate_once(database_url: str) -> None:
    done = await asyncio.gather(*(migrate.upgrade(database_url) for _ in range(4)))

    assert [result.before for result in sorted(done, key=lambda r: r.before or "")] == [None] + [
        migrate.head()
    ] * 3


async def test_two_processes_that_start_at_once_migrate_once(database_url: str) -> None:
    program = (
        "import sys; from himalia_hub.db.migrate import upgrade_blocking as up; print(up(sys.argv[1]).before)"
    )

    async def run() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, database_url, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out.decode().strip()

    assert sorted(await asyncio.gather(run(), run(), run())) == [migrate.head(), migrate.head(), "None"]


async def test_down_and_up_again_ends_where_it_was(database_url: str) -> None:
    await migrate.upgrade(database_url)
    with connect(database_url) as connection:
        config = migrate._alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
        assert set(sa.inspect(connection).get_table_names()) == {"alembic_version"}

    assert (await migrate.upgrade(database_url)).before is None


async def test_an_empty_database_is_behind_and_the_command_is_named(database_url: str) -> None:
    assert await migrate.current(database_url) is None

    with pytest.raises(ConfigError, match=rf"is empty.*'{migrate.head()}'") as refused:
        await migrate.check(database_url)
    assert refused.value.remedy == "himalia db upgrade"


def test_asking_creates_no_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.sqlite'}"

    assert migrate.current_blocking(url) is None

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ask", [migrate.upgrade, migrate.check])
async def test_a_database_of_a_newer_release_is_refused_with_both_revisions(database_url: str, ask) -> None:
    await migrate.upgrade(database_url)
    set_revision(database_url, "9876")

    with pytest.raises(ConfigError, match=rf"'9876'.*up to '{migrate.head()}'"):
        await ask(database_url)

    assert await migrate.current(database_url) == "9876"


async def test_tables_of_another_program_are_left_alone(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.exec_driver_sql("CREATE TABLE users (id INTEGER)")
        connection.commit()

    with pytest.raises(ConfigError, match="another program"):
        await migrate.upgrade(database_url)


async def test_a_copy_is_kept_before_rows_are_touched(sqlite_database: str, monkeypatch) -> None:
    await migrate.upgrade(sqlite_database)
    file = Path(sqlite_database.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("INSERT INTO setup_links (hashed, created) VALUES ('abc', '2026-01-01')")
        connection.commit()

    copy = migrate._copy_sqlite(sync_url(sqlite_database), "0001")

    assert copy is not None
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT hashed FROM setup_links").fetchall() == [("abc",)]


async def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    with pytest.raises(Unavailable, match="cannot be used") as caught:
        await migrate.upgrade("postgresql://ann:hunter2@127.0.0.1:1/none")

    assert "hunter2" not in str(caught.value)


async def test_a_folder_without_the_database_and_without_the_right_to_make_it_is_one_sentence(
    tmp_path,
) -> None:
    with pytest.raises(Unavailable, match="cannot be used"):
        await migrate.upgrade(f"sqlite:///{tmp_path}/none/himalia.sqlite")


async def test_an_sqlite_database_is_its_owners_alone_also_one_that_was_made_open(tmp_path: Path) -> None:
    fresh, open_to_all = tmp_path / "fresh.sqlite", tmp_path / "open.sqlite"
    open_to_all.touch(mode=0o644)
    open_to_all.chmod(0o644)
    for path in (fresh, open_to_all):
        await migrate.upgrade(f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("PRAGMA journal_mode=WAL")
            reader.execute("CREATE TABLE extra (id INTEGER)")
            files = [path, *tmp_path.glob(f"{path.name}-*")]
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
