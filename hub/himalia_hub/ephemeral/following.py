"""Following the server of a session to where a launch goes on."""

from __future__ import annotations

from himalia_hub.ephemeral import store
from himalia_hub.ephemeral.models import Launch
from himalia_hub.errors import SpawnProblem
from himalia_hub.servers import store as servers
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Phase
from himalia_hub.servers.view import ready
from himalia_hub.servers.world import World

LOOK_S = 2.0
"""How long a wish waits when its bell was not heard, such as one made on another replica."""


async def until_ready(world: World, bell: Doorbell, launch: Launch, server: Server) -> None:
    """What the server's story says becomes the launch's. SpawnProblem when it failed, or is there no longer."""
    last = 0
    with world.doorbell.watch(server.id) as watch:
        while True:
            async with world.db.begin() as db:
                now = await db.get(Server, server.id)
                if now is None:
                    raise SpawnProblem("The session was removed while it started.")
                for event in await servers.events_after(db, server.id, now.generation, last):
                    last = event.id
                    store.say(db, launch.id, "launching", event.message, now=event.at)
            bell.tell(launch.id)
            if ready(now):
                return
            if now.phase in (Phase.FAILED, Phase.STOPPED) and now.generation <= now.acted_generation:
                failure = now.failure or {}
                words = f"The session {failure.get('cause', 'stopped')}: {failure.get('message', '')}"
                raise SpawnProblem(words.strip(" :"), log_tail=tuple(failure.get("log_tail", ())))
            await watch.wait(LOOK_S)


async def until_gone(world: World, server_id: int) -> None:
    """Its row is no more."""
    world.doorbell.ring(server_id)
    with world.doorbell.watch(server_id) as watch:
        while True:
            async with world.db.read() as db:
                if await db.get(Server, server_id) is None:
                    return
            await watch.wait(LOOK_S)
