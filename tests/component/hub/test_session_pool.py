"""Sessions that are kept warm, on rows of both databases: as many as are wanted, taken once, never given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Site, site
from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.ephemeral import admission, pool, session, sources, store
from himalia_hub.ephemeral.models import Launch, Stage
from himalia_hub.ephemeral.store import POOL
from himalia_hub.servers.models import Server
from himalia_hub.users.models import User

COMMIT, ENVIRONMENT = "c" * 40, "e" * 64


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    section = {"open_to": "everybody", "dir": str(tmp_path / "ephemeral"), "pool_max": 3, "pool_min": 1}
    async with site(tmp_path, database_url, ephemeral=section) as running:
        yield running


async def row(
    hub: Site, stage: Stage, *, spec: str = "ann/notes/HEAD", visitor: str = "net:10.0.0.7"
) -> Launch:
    """A launch as far as this stage."""
    source = sources.read("gh", spec, {})
    async with hub.db.begin() as db:
        section = hub.world.settings.ephemeral
        launch = await admission.add(
            db, source, opening="lab", visitor=visitor, section=section, now=clock.now()
        )
        if stage is not Stage.WAITING:
            await session.begin(db, launch, source)
        await store.move(
            db, launch, stage, now=clock.now(), commit=COMMIT, environment=ENVIRONMENT, seated=visitor != POOL
        )
        await db.refresh(launch)
    return launch


async def look(hub: Site, *, made: bool = True) -> list[Launch]:
    """One look of the reconciler; what is in the pool then."""
    async with hub.db.begin() as db:
        await pool.reconcile(db, hub.world.settings.ephemeral, now=clock.now(), made=lambda _: made)
    async with hub.db.read() as db:
        return list(await db.scalars(sa.select(Launch).where(Launch.visitor == POOL).order_by(Launch.id)))


async def set_stage(hub: Site, launch: Launch, stage: Stage) -> None:
    async with hub.db.begin() as db:
        await db.execute(sa.update(Launch).where(Launch.id == launch.id).values(stage=stage))


async def claim(hub: Site, launch: Launch) -> bool:
    async with hub.db.begin() as db:
        return await pool.claim(db, launch, now=clock.now())


async def test_an_environment_whose_hub_was_killed_before_it_said_so_is_ready_once_a_session_has_it(
    hub: Site,
) -> None:
    made, later = clock.now(), clock.now() + timedelta(minutes=5)
    async with hub.db.begin() as db:
        await store.begin_environment(db, ENVIRONMENT, ["requirements.txt"], now=made)
    async with hub.db.begin() as db:
        assert await store.ready_environments(db) == frozenset()
        await store.use_environment(db, ENVIRONMENT, now=made)
        await store.use_environment(db, ENVIRONMENT, now=later)
    async with hub.db.read() as db:
        assert await store.ready_environments(db) == {ENVIRONMENT}
        (row,) = await store.environments(db)
    assert (row.ready, row.last_used) == (made, later)


async def test_a_link_that_was_opened_is_kept_warm_one_session_at_a_time(hub: Site) -> None:
    assert await look(hub) == []
    await row(hub, Stage.READY)
    await row(hub, Stage.READY)
    assert await look(hub, made=False) == []
    (first,) = await look(hub)
    assert (first.stage, first.spec, first.commit, first.environment) == (
        Stage.LAUNCHING, "ann/notes/HEAD", COMMIT, ENVIRONMENT,
    )  # fmt: skip
    assert len(await look(hub)) == 1
    await set_stage(hub, first, Stage.WARM)
    assert len(await look(hub)) == 2
    await set_stage(hub, (await look(hub))[1], Stage.WARM)
    assert [one.stage for one in await look(hub)] == [Stage.WARM, Stage.WARM]


async def test_what_nobody_wants_any_more_is_let_go(hub: Site) -> None:
    await row(hub, Stage.READY)
    old = await row(hub, Stage.WARM, visitor=POOL)
    async with hub.db.begin() as db:
        await db.execute(sa.update(Launch).where(Launch.id == old.id).values(commit="d" * 40))
    stages = {one.commit[0]: one.stage for one in await look(hub)}
    assert stages == {"d": Stage.ENDING, "c": Stage.LAUNCHING}


async def test_one_that_could_not_be_made_is_not_tried_again_at_once(hub: Site) -> None:
    await row(hub, Stage.READY)
    (first,) = await look(hub)
    await set_stage(hub, first, Stage.FAILED)
    assert len(await look(hub)) == 1
    async with hub.db.begin() as db:
        await db.execute(sa.update(Launch).values(stage_since=clock.now() - timedelta(minutes=2)))
    assert len(await look(hub)) == 2


async def test_whoever_opens_the_link_gets_the_warm_session_and_no_two_the_same(hub: Site) -> None:
    warm = [await row(hub, Stage.WARM, visitor=POOL) for _ in range(3)]
    people = [await row(hub, Stage.WAITING) for _ in range(5)]
    got = await asyncio.gather(*(claim(hub, one) for one in people))
    assert sum(got) == 3
    async with hub.db.read() as db:
        rows = list(await db.scalars(sa.select(Launch).order_by(Launch.id)))
    assert sorted(one.guest for one in rows if one.stage is Stage.READY) == sorted(one.guest for one in warm)
    assert sorted(one.home for one in rows if one.stage is Stage.READY) == sorted(one.key for one in warm)
    assert [one.stage for one in rows].count(Stage.WAITING) == 2
    assert not [one for one in rows if one.visitor == POOL]


async def test_a_warm_session_of_another_link_is_not_taken_and_one_cancelled_meanwhile_takes_none(
    hub: Site,
) -> None:
    await row(hub, Stage.WARM, spec="ann/other/HEAD", visitor=POOL)
    launch = await row(hub, Stage.WAITING)
    assert not await claim(hub, launch)
    await row(hub, Stage.WARM, visitor=POOL)
    await set_stage(hub, launch, Stage.ENDING)
    assert not await claim(hub, launch)
    async with hub.db.read() as db:
        warm = sa.select(sa.func.count()).select_from(Launch).where(Launch.stage == Stage.WARM)
        assert await db.scalar(warm) == 2


async def test_a_session_counts_from_when_it_was_taken_and_one_that_was_not_leaves_no_line(hub: Site) -> None:
    ann = await hub.person("ann")
    warm = await row(hub, Stage.WARM, visitor=POOL)
    unused = await row(hub, Stage.WARM, visitor=POOL, spec="ann/other/HEAD")
    launch = await row(hub, Stage.WAITING, visitor=f"user:{ann.id}")
    long_ago, taken = clock.now() - timedelta(hours=1), clock.now() - timedelta(minutes=1)
    async with hub.db.begin() as db:
        await db.execute(sa.update(Server).values(started=long_ago))
    assert await claim(hub, launch)
    async with hub.db.begin() as db:
        server = await db.get_one(Server, warm.server_id)
        assert server.started is not None
        assert server.started > taken
        await session.forget(db, unused)
    async with hub.db.read() as db:
        assert await db.scalar(sa.select(sa.func.count()).select_from(AuditRow)) == 0
        assert await db.scalar(sa.select(sa.func.count()).select_from(User).where(User.guest)) == 1
