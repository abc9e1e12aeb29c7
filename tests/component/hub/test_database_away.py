"""A database that is locked, or whose connections all broke, costs a wait or a plain refusal, and never a restart."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site, site
from himalia_hub.db import engine
from himalia_hub.users.models import User
from support import eventually


async def root_of(hub: Site) -> str:
    return await hub.token(await hub.person("root", admin=True))


@pytest.fixture
async def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Site, Client]]:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0.2)
    async with site(tmp_path) as hub, hub.client(await root_of(hub)) as root:
        yield hub, root


async def test_while_another_program_locks_sqlite_reading_goes_on_and_writing_is_put_off_in_words(
    impatient: tuple[Site, Client], tmp_path: Path
) -> None:
    hub, root = impatient
    people = await hub.count(User)
    with closing(sqlite3.connect(tmp_path / "himalia.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        for path in ("/hub/health", "/hub/api/users", "/hub/api/user"):
            assert (await root("GET", path)).status == 200, path
        refused = [
            await root("POST", "/hub/api/users/ann"),
            await root("POST", "/hub/api/users/root/server"),
        ]

        other.execute("ROLLBACK")
    for answer in refused:
        assert answer.status == 503, answer.text
        assert int(answer.headers["Retry-After"]) > 0
        assert "database" in answer.json["message"]
    assert await hub.count(User) == people
    assert (await root("POST", "/hub/api/users/ann")).status == 201


async def test_when_postgresql_cut_every_connection_the_hub_goes_on_with_new_ones(
    tmp_path: Path, postgres_database: str
) -> None:
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    async with site(tmp_path, postgres_database) as hub, hub.client(await root_of(hub)) as root:
        for turn in range(3):
            assert (await root("GET", "/hub/api/users")).status == 200
            async with hub.db.begin() as db:
                assert await db.scalar(sa.text(cut)) > 0

            async def made(name: str = f"ann{turn}") -> bool:
                return (await root("POST", f"/hub/api/users/{name}")).status in (201, 409)

            await eventually(made, within_s=30, what="somebody can be added again")
        assert (await root("GET", "/hub/health")).status == 200
        assert await hub.count(User) == 4
