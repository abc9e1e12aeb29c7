"""Volumes: made with our labels, and what becomes of them when their person is deleted."""

from __future__ import annotations

from functools import partial

from docker import errors
from docker.api.client import APIClient

from himalia_spawner.base import ServerSpec
from himalia_spawner.containers import asked
from himalia_spawner.containers.engine import Engine, words
from himalia_spawner.docker import container
from himalia_spawner.docker.container import Place
from himalia_spawner.docker.settings import DockerSettings
from himalia_spawner.errors import SpawnFailed, SpawnRefused
from himalia_spawner.names import backend_name


async def ensure(engine: Engine, settings: DockerSettings, place: Place, spec: ServerSpec) -> dict[str, str]:
    """Make the volumes of a server that are not there; when each was made.

    One that others made under the name is used as it is.
    """
    births: dict[str, str] = {}
    for name, servers_own in container.volume_names(spec, settings).items():
        # A person's volume goes when their default server does, which only happens with the person.
        owner = spec.ref.name if servers_own else backend_name(spec.files_of)
        marks = {asked.HUB: place.hub, asked.NAME: owner, asked.USER: spec.username}
        try:
            made = await engine.ask(partial(APIClient.create_volume, name=name, labels=marks))
        except errors.APIError as error:
            raise SpawnRefused(f"the volume {name!r} cannot be made: {words(error)}") from error
        births[name] = str(made.get("CreatedAt", ""))
    return births


async def remove(engine: Engine, settings: DockerSettings, place: Place, name: str) -> None:
    """Follow the policy for the volumes of this server. Volumes without our label are nobody's to remove."""
    if settings.removed_volumes != "delete":
        return
    wanted = {"label": [f"{asked.HUB}={place.hub}", f"{asked.NAME}={name}"]}
    found = await engine.see(lambda client: client.volumes(filters=wanted))
    for volume in found.get("Volumes") or []:
        try:
            await engine.ask(partial(APIClient.remove_volume, name=volume["Name"]))
        except errors.NotFound:
            continue
        except errors.APIError as error:
            raise SpawnFailed(f"the volume {volume['Name']!r} cannot be deleted: {words(error)}") from error
