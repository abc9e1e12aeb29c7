"""All questions, in the order in which an answer explains the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

from himalia_hub.health import database, machine, parts
from himalia_hub.health.finding import Finding
from himalia_hub.settings import HubSettings
from himalia_spawner.base import Spawner


async def examine(settings: HubSettings, spawner: Spawner | None = None) -> AsyncIterator[Finding]:
    """What is found, as it is found; nothing is changed by asking. `spawner` is that of the hub that asks, if any."""
    for look in (machine.folder, machine.secret, database.database):
        for finding in await asyncio.to_thread(_all, look, settings):
            yield finding
    yield machine.open_files()
    yield await parts.proxy(settings)
    yield await parts.hub(settings)
    for finding in await parts.names(settings):
        yield finding
    yield await (parts.held_by(settings, spawner) if spawner else parts.spawner(settings))
    for finding in parts.ways(settings):
        yield finding
    yield parts.account(settings)
    for finding in machine.front_end(settings):
        yield finding


def _all(look: Callable[[HubSettings], Iterator[Finding]], settings: HubSettings) -> list[Finding]:
    return list(look(settings))
