"""The queue that is a table: claims, fences and wishes, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

import schema
from himalia_hub import clock
from himalia_hub.db import lease as job_lease
from himalia_hub.db.engine import Database
from himalia_hub.servers import leases, schedule, store
from himalia_hub.servers.leases import Lease, LeaseLost
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.users import store as users
from himalia_hub.users.models import User

TTL = timedelta(seconds=10)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """A migrated database with one person, ann."""
    await schema.bring(database_url)
    database = Database(database_url)
    async with database.begin() as session:
        await users.create(session, "ann", now=clock.now())
    yield database
    await database.close()


async def wish(db: Database, *, name: str = "") -> Server:
    async with db.begin() as session:
        ann = await users.by_name(session, "ann")
        assert isinstance(ann, User)
        return await store.want_running(session, ann, name, options=None, now=clock.now())


async def claim(
    db: Database, owner: str = "me", *, node: str | None = "here"
) -> tuple[Lease, Server, str] | None:
    async with db.begin() as session:
        claimed = await session.run_sync(leases.claim_due, owner, node=node, now=clock.now(), ttl=TTL)
    return next(iter(claimed), None)


async def read(db: Database, server_id: int) -> Server:
    async with db.read() as session:
        server = await session.get(Server, server_id)
    assert server is not None
    return server


async def test_a_wish_is_due_at_once_and_wishing_it_again_changes_nothing(db: Database) -> None:
    first = await wish(db)
    again = await wish(db)

    assert (first.desired, first.generation) == (Desired.RUNNING, 1)
    assert again.generation == 1
    assert first.due_at is not None


async def test_of_many_claimants_one_gets_the_row(db: Database) -> None:
    await wish(db)

    won = [found for found in await asyncio.gather(*(claim(db, f"hub-{n}") for n in range(8))) if found]

    assert len(won) == 1


async def test_many_rows_go_each_to_one_claimant(db: Database) -> None:
    for number in range(6):
        await wish(db, name=f"s{number}")

    won = [
        found[0].server_id
        for found in await asyncio.gather(*(claim(db, f"hub-{n}") for n in range(12)))
        if found
    ]

    assert len(won) == len(set(won))
    rest = [found for found in [await claim(db) for _ in range(6)] if found]
    assert len(won) + len(rest) == 6


async def test_a_lost_lease_writes_nothing(db: Database) -> None:
    server = await wish(db)
    mine = await claim(db)
    assert mine is not None
    async with db.begin() as session:
        await schedule.take_back(session, "me")
    theirs = await claim(db, "successor")
    assert theirs is not None

    with pytest.raises(LeaseLost):
        async with db.begin() as session:
            await session.run_sync(leases.record, mine[0], {"phase": Phase.READY})
    with pytest.raises(LeaseLost):
        async with db.begin() as session:
            await session.run_sync(leases.decide, mine[0], server.generation, {"due_at": None})

    assert (await read(db, server.id)).phase is Phase.STOPPED


async def test_a_late_renewal_of_a_lease_that_was_given_back_leases_nothing(db: Database) -> None:
    server = await wish(db)
    mine = await claim(db)
    assert mine is not None
    async with db.begin() as session:
        assert await session.run_sync(
            leases.decide, mine[0], server.generation, {"due_at": None, **leases.RELEASED}
        )
    async with db.begin() as session:
        await session.run_sync(leases.renew, mine[0], until=clock.now() + TTL)

    assert (await read(db, server.id)).lease_until is None


async def test_a_wish_written_in_the_middle_of_a_step_survives_the_step(db: Database) -> None:
    server = await wish(db)
    mine = await claim(db)
    assert mine is not None
    async with db.begin() as session:
        row = await session.get(Server, server.id)
        assert row is not None
        await store.want_stopped(session, row, now=clock.now())

    async with db.begin() as session:
        settled = await session.run_sync(
            leases.decide, mine[0], server.generation, {"due_at": None, "desired": Desired.RUNNING}
        )

    after = await read(db, server.id)
    assert not settled
    assert (after.desired, after.generation) == (Desired.STOPPED, 2)
    assert after.due_at is not None


async def test_another_nodes_row_is_not_claimed(db: Database) -> None:
    server = await wish(db)
    async with db.begin() as session:
        row = await session.get(Server, server.id)
        assert row is not None
        row.node = "elsewhere"

    assert await claim(db) is None
    assert await claim(db, node="elsewhere") is not None


async def test_the_next_due_time_of_a_leased_row_is_the_end_of_its_lease(db: Database) -> None:
    await wish(db)
    mine = await claim(db)
    assert mine is not None

    async with db.read() as session:
        due, _ = await schedule.next_due(session, node="here")

    assert due is not None
    assert due > clock.now() + TTL / 2


async def test_activity_moves_forward_only(db: Database) -> None:
    server = await wish(db)
    late, early = clock.now(), clock.now() - timedelta(hours=1)
    async with db.begin() as session:
        await store.touch(session, server.id, late)
        await store.touch(session, server.id, early)

    assert (await read(db, server.id)).last_activity == late


async def test_a_singleton_job_has_one_owner_until_its_lease_ends(db: Database) -> None:
    now = clock.now()

    async def take(owner: str, at: timedelta) -> bool:
        async with db.begin() as session:
            return await job_lease.take(session, "purge", owner, now=now + at, ttl=TTL)

    assert await take("first", timedelta(0))
    assert not await take("second", timedelta(seconds=1))
    assert await take("first", timedelta(seconds=2))
    assert await take("second", timedelta(seconds=30))
