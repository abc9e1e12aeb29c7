"""The containers' own network: they reach out, but not one another."""

from __future__ import annotations

from typing import Any

from docker import errors

from himalia_spawner.docker import container
from himalia_spawner.docker.container import Place
from himalia_spawner.docker.engine import Engine, words
from himalia_spawner.docker.settings import DockerSettings
from himalia_spawner.errors import SpawnRefused

BUILT_IN = frozenset({"none", "host", "bridge", "default"})
NO_TRAFFIC_BETWEEN = {"com.docker.network.bridge.enable_icc": "false"}


async def ensure(engine: Engine, settings: DockerSettings, place: Place) -> None:
    """Make the configured network when it is missing. One that is there is used as it is."""
    name = settings.network
    if name in BUILT_IN:
        return
    try:
        await engine.ask(lambda client: client.inspect_network(name))
        return
    except errors.NotFound:
        pass
    options: dict[str, Any] = {"driver": "bridge", "options": NO_TRAFFIC_BETWEEN, "check_duplicate": True}
    marks = {container.HUB: place.hub}
    try:
        await engine.ask(lambda client: client.create_network(name, labels=marks, **options))
    except errors.APIError as error:
        if error.status_code != 409:  # another hub, or another start, was faster
            raise SpawnRefused(f"the network {name!r} cannot be made: {words(error)}") from error
