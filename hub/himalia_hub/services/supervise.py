"""Managed services: started, watched and started again, by the one replica that holds the lease."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from himalia_hub import clock
from himalia_hub.db import lease
from himalia_hub.servers.world import World
from himalia_hub.services import process, store
from himalia_hub.services.environ import service_environment
from himalia_hub.services.process import Program
from himalia_hub.services.settings import ServiceSection
from himalia_hub.services.sync import token_of

log = structlog.get_logger()

LEASE = "services"


async def run(world: World, owner: str) -> None:
    """Keep every service with a command running, until cancelled; those of another configuration after a reload."""
    keeping: asyncio.Task[None] | None = None
    held_until, kept = 0.0, world.settings.services
    try:
        while True:
            ttl_s = max(world.settings.servers.lease_s, 1.0)
            if keeping is not None and kept != world.settings.services:
                await _let_go(keeping)
                keeping = None
            kept = world.settings.services
            if not any(section.command for section in kept):
                await asyncio.sleep(ttl_s / 5)
                continue
            asked = time.monotonic()
            if await _mine(world, owner, ttl_s, still=asked < held_until):
                held_until = asked + ttl_s * 0.7
            # Whoever cannot renew ends what it runs before the lease does: two cullers must never run at once.
            mine = time.monotonic() < held_until
            if mine and keeping is None:
                keeping = asyncio.create_task(_keep_all(world), name="services.keep")
            elif keeping is not None and (not mine or keeping.done()):
                await _let_go(keeping)
                keeping = None
            await asyncio.sleep(ttl_s / 5)
    finally:
        if keeping is not None:
            await _let_go(keeping)


async def _mine(world: World, owner: str, ttl_s: float, *, still: bool) -> bool:
    """Whether the lease was taken or renewed now."""
    try:
        async with world.db.begin() as db:
            return await lease.take(db, LEASE, owner, now=clock.now(), ttl=timedelta(seconds=ttl_s))
    except (SQLAlchemyError, OSError) as error:
        if still:
            log.warning("services.lease_not_renewed", error=type(error).__name__)
        return world.db.is_sqlite and still  # there is no other replica that could take it


async def _let_go(keeping: asyncio.Task[None]) -> None:
    """End every process; a bug in the keeping itself is raised here."""
    if not keeping.cancelling():  # a second call must not disturb what the first began
        keeping.cancel()
    await asyncio.wait({keeping})
    if not keeping.cancelled() and (bug := keeping.exception()) is not None:
        raise bug


async def _keep_all(world: World) -> None:
    async with asyncio.TaskGroup() as group:
        for section in world.settings.services:
            if section.command:
                group.create_task(_keep(world, section), name=f"service.{section.name}")


async def _keep(world: World, section: ServiceSection) -> None:
    """Run one service for ever: again when it ends, after a pause that grows."""
    pause_s = 0.0
    while True:
        began = time.monotonic()
        try:
            program = await _program(world, section)
            running = await process.start(program)
        except (SQLAlchemyError, OSError) as error:
            log.error("service.not_started", name=section.name, cause=str(error)[:500])
        else:
            try:
                await _note(world, section.name, running.pid)
                await process.ended(program, running)
            finally:
                await process.end(program, running)
                await _note(world, section.name, 0)
        pause_s = process.next_pause(pause_s, time.monotonic() - began)
        await asyncio.sleep(pause_s)


async def _program(world: World, section: ServiceSection) -> Program:
    settings = world.settings
    async with world.db.read() as db:
        row = await store.by_name(db, section.name)
    if row is None:
        raise OSError("its row is gone; restart the hub")
    token = token_of(section, row, world.secrets) or ""
    return Program(
        section.name,
        tuple(section.command),
        service_environment(section, row, token, settings, world.hub_url, os.environ),
        section.cwd or settings.data_dir,
        section.user,
        settings.data_dir / "logs" / f"service-{section.name}.log",
    )


async def _note(world: World, name: str, pid: int) -> None:
    try:
        async with world.db.begin() as db:
            await store.set_pid(db, name, pid)
    except (SQLAlchemyError, OSError) as error:
        log.warning("service.pid_not_written", name=name, error=type(error).__name__)
