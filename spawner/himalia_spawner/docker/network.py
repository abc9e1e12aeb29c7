"""The containers' own network: they reach out, but not one another."""

from __future__ import annotations

import asyncio
from typing import Any

from docker import APIClient, errors

from himalia_spawner.containers import asked
from himalia_spawner.containers.engine import Engine, words
from himalia_spawner.docker.container import Place
from himalia_spawner.docker.settings import DockerSettings
from himalia_spawner.errors import SpawnRefused

BUILT_IN = frozenset({"none", "host", "bridge", "default"})
NO_TRAFFIC_BETWEEN = {"com.docker.network.bridge.enable_icc": "false"}


async def ensure(engine: Engine, settings: DockerSettings, place: Place, making: asyncio.Lock) -> None:
    """Make the configured network when it is missing. One that is there is used as it is.

    `making` is held meanwhile: the first starts of a hub make one network, not one each.

    An engine's network names are not unique: two hubs that make it at once may make two, and from then on the engine
    refuses every start as ambiguous, even by id. So whoever finds two leaves one.
    """
    name = settings.network
    if name in BUILT_IN:
        return
    if there := await _named(engine, name):
        await _leave_one(engine, there)
        return
    async with making:
        if not (there := await _named(engine, name)):
            await _make(engine, name, place)
            there = await _named(engine, name)
    await _leave_one(engine, there)


async def _make(engine: Engine, name: str, place: Place) -> None:
    options: dict[str, Any] = {"driver": "bridge", "options": NO_TRAFFIC_BETWEEN, "check_duplicate": True}
    marks = {asked.HUB: place.hub}
    try:
        await engine.ask(lambda client: client.create_network(name, labels=marks, **options))
    except errors.APIError as error:
        if error.status_code != 409:  # another hub, or another start, was faster
            raise SpawnRefused(f"the network {name!r} cannot be made: {words(error)}") from error


def is_ambiguous(error: errors.APIError) -> bool:
    """Whether the engine refuses because there are two networks of one name, or just were."""
    text = words(error)
    return "network" in text and ("is ambiguous" in text or "not found" in text)


async def _named(engine: Engine, name: str) -> list[str]:
    """Ids of the networks with exactly this name, the oldest first; the engine's filter also finds parts of names."""
    found = await engine.see(lambda client: client.networks(names=[name]))
    return [id_ for _, id_ in sorted((one["Created"], one["Id"]) for one in found if one["Name"] == name)]


async def _leave_one(engine: Engine, ids: list[str]) -> None:
    """Remove the younger ones, and an older one only where containers hold the younger."""
    left = len(ids)
    for id_ in reversed(ids):
        if left == 1:
            return
        if await engine.ask(lambda client, id_=id_: _removed(client, id_)):  # type: ignore[misc]
            left -= 1


def _removed(client: APIClient, id_: str) -> bool:
    try:
        client.remove_network(id_)
    except errors.APIError as error:
        return bool(error.status_code == 404)
    return True
