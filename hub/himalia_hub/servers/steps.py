"""What each step does: the only lines that change the outside. Each is safe to repeat and to be killed in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.errors import BadRequest
from himalia_hub.faults import async_fault
from himalia_hub.groups import store as groups
from himalia_hub.languages import counted
from himalia_hub.profiles.choice import resolve
from himalia_hub.servers import leases, store
from himalia_hub.servers.furnish import Furnishing
from himalia_hub.servers.leases import Lease
from himalia_hub.servers.models import Server
from himalia_hub.servers.spec import build_spec, client_id, incarnation_of, with_limits_told
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.view import routespec, server_prefix
from himalia_hub.servers.world import Observation, World
from himalia_hub.tokens import store as tokens
from himalia_hub.usage import store as usage
from himalia_hub.users import homes
from himalia_proxy.base import Route
from himalia_spawner.base import Cause, Kept, Say, ServerRef
from himalia_spawner.errors import BackendGone, SpawnError

LOG_TAIL_LINES = 50
RUNS = ("info", 50, "The process runs; waiting for it to answer")


async def start(world: World, lease: Lease, server: Server, username: str) -> bool:
    """Commit the incarnation and its token, then create. A refusal or failure ends the wish with its cause.

    True when it was created: `server` then is as its row will be with `record_start`.
    """
    await async_fault("start.before_commit")
    moment = clock.now()
    server.incarnation = incarnation_of(server)
    values = {
        "phase": Phase.STARTING, "phase_since": moment,
        "incarnation": server.incarnation, "node": world.spawner.node, "url": "", "started": None, "failure": None,
        "kept_alive_until": None,
    }  # fmt: skip

    try:
        begun = await world.db.write(partial(_live, world, lease, server, username, values))
        if begun is None:
            return False
        await async_fault("start.after_commit")
        world.doorbell.tell(server.id)
        await async_fault("start.before_create")
        member_of, kept_as, furnishing = begun
        choice = resolve(world.settings, username, member_of, server.user_options)
        spec = build_spec(
            server,
            username,
            choice,
            settings=world.settings,
            secrets=world.secrets,
            hub_url=world.hub_url,
            kept_as=kept_as,
        )
        spec = with_limits_told(spec if furnishing is None else furnishing.put_into(spec))
        async with telling(world, server) as say:
            handle = await world.spawner.start(spec, say)
    except BadRequest as error:
        await give_up(
            world, lease, server, cause="could not be started", message=f"{error}; {error.remedy}", tail=()
        )
        return False
    except BackendGone:
        raise
    except SpawnError as error:
        await give_up(
            world, lease, server, cause="could not be started", message=str(error), tail=error.log_tail
        )
        return False
    await async_fault("start.after_create")
    facts = {"url": handle.url, "started": clock.now(), "acted_generation": server.generation}
    for name, value in (values | facts).items():
        setattr(server, name, value)
    return True


def _begun(server: Server) -> dict[str, Any]:
    """What the row does not say yet of a server that `start` has just created."""
    return {name: getattr(server, name) for name in ("url", "started", "acted_generation")}


def _live(
    world: World, lease: Lease, server: Server, username: str, values: dict[str, Any], db: Session
) -> tuple[list[str], str, Furnishing | None] | None:
    """Write the beginning of a life, unless there is a newer wish: groups, where files are kept, and what it gets."""
    moment = values["phase_since"]
    if not leases.decide(db, lease, server.generation, values):
        return None
    tokens.put_server_token(
        db,
        user_id=server.user_id,
        server_id=server.id,
        incarnation=server.incarnation,
        secret=world.secrets.server_token(server.id, server.incarnation),
        prefix=server_prefix(world.settings, username, server.name),
        now=moment,
    )
    store.add_event(db, server, "info", 20, "Starting the server", now=moment)
    kept_as, guest = homes.files_and_guest(db, server.user_id)
    return groups.names_of(db, server.user_id), kept_as, world.furnish(db, server) if guest else None


async def record_start(world: World, lease: Lease, server: Server) -> None:
    """Commit that this wish has led to a process, so that one that dies from here on is not started again.

    Not part of `start`, so that the server can be asked meanwhile whether it answers. A hub that dies before leaves
    what it leaves when it dies in the middle of a start: the next look finds the process, or begins the same life anew.
    """

    def facts(db: Session) -> None:
        leases.record(db, lease, _begun(server))
        store.add_event(db, server, *RUNS, now=clock.now())

    await world.db.write(facts)
    await async_fault("start.after_record")
    world.doorbell.tell(server.id)


@asynccontextmanager
async def telling(world: World, server: Server) -> AsyncIterator[Say]:
    """A function whose sentences become lines of the server's story, at once and in their order."""
    sentences: asyncio.Queue[str | None] = asyncio.Queue()
    writing: asyncio.Task[None] | None = None

    async def write() -> None:
        while (sentence := await sentences.get()) is not None:
            await world.db.write(partial(_add_line, server, sentence))
            world.doorbell.tell(server.id)

    def say(sentence: str) -> None:
        nonlocal writing
        sentences.put_nowait(sentence)
        writing = writing or asyncio.create_task(write())  # most starts say nothing

    try:
        yield say
    finally:
        if writing is not None:
            sentences.put_nowait(None)
            await writing


def _add_line(server: Server, sentence: str, db: Session) -> None:
    store.add_event(db, server, "info", 30, sentence, now=clock.now())
    leases.notify(db, server.id)


async def publish(world: World, server: Server, username: str, seen: Observation) -> None:
    """Route requests to the server that was just seen answering."""
    if seen.sighting is None or seen.sighting.handle is None:
        return
    await async_fault("publish.before_put")
    data = {"jupyterhub": True, "user": username, "server_name": server.name}
    spec = routespec(world.settings, username, server.name)
    await world.proxy.put(Route(spec, seen.sighting.handle.url, data))
    await async_fault("publish.after_put")


async def unpublish(world: World, server: Server, username: str) -> None:
    """Take the route away.

    Route first, process second: the other order leaves a window in which the proxy sends a person's requests to
    an address that something else may own by then.
    """
    await async_fault("unpublish.before_delete")
    await world.proxy.delete(routespec(world.settings, username, server.name))
    await async_fault("unpublish.after_delete")


async def stop(world: World, lease: Lease, server: Server, seen: Observation) -> None:
    """Say that it is stopping, then stop the incarnation that was seen, or whose kernels wait, and no other."""
    if server.phase is not Phase.STOPPING:

        def stopping(db: Session) -> None:
            leases.record(db, lease, {"phase": Phase.STOPPING, "phase_since": clock.now()})
            store.add_event(db, server, "info", 50, "Stopping the server", now=clock.now())

        await async_fault("stop.before_commit")
        await world.db.write(stopping)
        await async_fault("stop.after_commit")
        world.doorbell.tell(server.id)
    await async_fault("stop.before_stop")
    there = (seen.sighting.handle or seen.sighting.kept) if seen.sighting else None
    ref = there.ref if there else ServerRef(server.backend_name, server.incarnation)
    await world.spawner.stop(ref, grace_s=world.settings.spawner.stop_grace_s)
    await async_fault("stop.after_stop")


async def stop_stale(world: World, seen: Observation) -> None:
    """Stop the server of an earlier incarnation that still carries the name."""
    if seen.sighting is not None and seen.sighting.handle is not None:
        await world.spawner.stop(seen.sighting.handle.ref, grace_s=world.settings.spawner.stop_grace_s)


async def time_out(world: World, lease: Lease, server: Server) -> None:
    """It took too long: end the wish, keep its words; the next steps stop it."""
    tail: tuple[str, ...] = tuple(await world.spawner.logs(server.backend_name, LOG_TAIL_LINES))
    limit = world.settings.spawner.start_timeout_s
    message = counted("did not answer within %(num)s second", "did not answer within %(num)s seconds", limit)
    await give_up(world, lease, server, cause="timed out", message=message, tail=tail)


async def record_exit(world: World, lease: Lease, server: Server, seen: Observation) -> None:
    """It ended by itself. It is not started again: the wish ends, and how it ended is kept for its person."""
    exit_ = seen.sighting.exit if seen.sighting else None
    clean = exit_ is not None and exit_.status == 0
    if clean and server.phase is Phase.READY:
        values = {"desired": Desired.STOPPED, "phase": Phase.STOPPING, "phase_since": clock.now()}
        await world.db.write(
            partial(_decide, lease, server, values, ("info", 80, "The server ended by itself"))
        )
        return
    tail = (
        exit_.log_tail if exit_ and exit_.log_tail else tuple(await world.spawner.logs(server.backend_name))
    )
    message = exit_.reason if exit_ else "the process ended; how is not known"
    if exit_ is not None and exit_.cause in (Cause.MEMORY, Cause.NODE_LOST):
        cause = str(exit_.cause)
    else:
        cause = "crashed" if server.phase is Phase.READY else "ended while starting"
    kept = seen.sighting.kept if seen.sighting else None
    await give_up(world, lease, server, cause=cause, message=message, tail=tail, kept=kept)


async def give_up(
    world: World,
    lease: Lease,
    server: Server,
    *,
    cause: str,
    message: str,
    tail: tuple[str, ...],
    kept: Kept | None = None,
) -> None:
    """End the wish as failed, with its cause, unless people already wished something newer."""
    failure: dict[str, Any] = {
        "cause": cause,
        "message": message,
        "log_tail": list(tail[-LOG_TAIL_LINES:]),
        "at": clock.iso(clock.now()),
    }
    failure = store.with_kept(failure, kept.left_s if kept else 0, now=clock.now())
    values = {
        "desired": Desired.STOPPED, "phase": Phase.FAILED, "phase_since": clock.now(), "failure": failure,
    }  # fmt: skip
    line = ("failed", 100, f"The server {cause}: {message}")
    await world.db.write(partial(_decide, lease, server, values, line))
    if server.phase is Phase.STARTING:
        world.figures.start_ended(server.phase_since, clock.now(), failed_by=cause)
    world.doorbell.settle(server.id)


def _decide(
    lease: Lease, server: Server, values: dict[str, Any], line: tuple[str, int, str] | None, db: Session
) -> bool:
    """Write a decision with the line of its story, unless there is a newer wish: then neither, and False."""
    settled = leases.decide(db, lease, server.generation, values)
    if settled and line is not None:
        kind, progress, message = line
        store.add_event(db, server, kind, progress, message, now=clock.now())
    return settled


async def rest_running(
    world: World, lease: Lease, server: Server, seen: Observation, *, unrecorded: bool = False
) -> bool:
    """It runs and is routed: record it once and give the lease back. False when a newer wish came meanwhile.

    With `unrecorded` that it was begun is written with it.
    """
    values: dict[str, Any] = {"due_at": None, "attempts": 0, "unknown_since": None, **leases.RELEASED}
    values["acted_generation"] = server.generation
    announce = server.phase is not Phase.READY
    if announce:
        handle = seen.sighting.handle if seen.sighting else None
        moment = clock.now()
        values |= {"phase": Phase.READY, "phase_since": moment, "failure": None, "last_activity": moment}
        values |= {"url": handle.url} if handle else {}
        values |= {} if server.started else {"started": moment}
    values |= _begun(server) if unrecorded else {}
    await async_fault("ready.before_commit")

    def rest(db: Session) -> tuple[bool, Server | None]:
        settled = leases.decide(db, lease, server.generation, values)
        if settled and unrecorded:
            store.add_event(db, server, *RUNS, now=server.started or clock.now())
        if settled and announce:
            store.add_event(db, server, "ready", 100, "Server ready", now=clock.now())
        awaited = settled and world.doorbell.is_awaited(server.id)
        return settled, store.looked_at(db, server.id) if awaited else None

    settled, row = await world.db.write(rest)
    if unrecorded:
        await async_fault("start.after_record")
    await async_fault("ready.after_commit")
    if settled and server.phase is Phase.STARTING:
        world.figures.start_ended(server.phase_since, clock.now())
    world.doorbell.settle(server.id, row)
    return settled


async def rest_stopped(world: World, lease: Lease, server: Server, username: str, seen: Observation) -> bool:
    """It is gone: end its tokens, and the row too when it is doomed, and give the lease back.

    False when a newer wish came meanwhile.
    """
    failed = server.phase is Phase.FAILED
    values: dict[str, Any] = {
        "due_at": None, "attempts": 0, "unknown_since": None, "url": "", "started": None, **leases.RELEASED,
    }  # fmt: skip
    # Kernels that wait are on that machine: its hub is the one to end them.
    kept = seen.sighting.kept if seen.sighting else None
    values |= {} if kept else {"node": None}
    if server.failure is not None:
        values["failure"] = store.with_kept(server.failure, kept.left_s if kept else 0, now=clock.now())
    if server.phase not in (Phase.FAILED, Phase.STOPPED):
        failed = server.failure is not None
        values |= {"phase": Phase.FAILED if failed else Phase.STOPPED, "phase_since": clock.now()}
    line = ("stopped", 100, "Server stopped") if "phase" in values and not failed else None

    def end(db: Session) -> bool:
        settled = _decide(lease, server, values, line, db)
        # The wish to remove a server that is to be stopped anyway is no newer wish: it may have come since the row was
        # read, and what was just written has taken its turn away.
        server.doomed = bool(db.scalar(sa.select(Server.doomed).where(Server.id == server.id)))
        if settled:
            tokens.revoke_server_tokens(db, server_id=server.id, client_id=client_id(username, server.name))
            usage.record_life(db, server, until=clock.now())
            if server.doomed:
                db.execute(sa.delete(Server).where(Server.id == server.id))
        return settled

    await async_fault("stopped.before_commit")
    settled = await world.db.write(end)
    await async_fault("stopped.after_commit")
    if settled and server.phase is Phase.STOPPING:
        world.figures.stop_ended(server.phase_since, clock.now())
    if settled and server.doomed:
        await world.spawner.purge(server.backend_name)
    world.doorbell.settle(server.id)
    return settled
