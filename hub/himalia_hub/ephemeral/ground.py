"""Whether sessions can be kept apart from the hub on this machine; asked once, before the hub opens."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import himalia_hub
from himalia_hub.ephemeral import installer, session
from himalia_hub.ephemeral.folders import closed_to_others, folders_of
from himalia_hub.errors import ConfigError
from himalia_hub.servers.world import World
from himalia_spawner.base import BuildsImages, TakesGuests


def prepare(world: World, note: Callable[[str], None]) -> None:
    """Make ready for sessions, where links are opened at all: folders, and what the reconciler asks at a start.

    ConfigError when sessions could not be kept apart as they are configured.
    """
    section, folders = world.settings.ephemeral, folders_of(world.settings, world.secrets)
    containers = isinstance(world.spawner, BuildsImages)
    images_of = world.secrets.hub_id if containers else ""
    world.furnish = session.furnisher(world.settings, folders, images_of=images_of)
    if not section.on:
        return
    if not isinstance(world.spawner, TakesGuests):
        raise ConfigError(
            f"spawner.kind = {world.settings.spawner.kind!r} cannot run throw-away sessions; "
            "use 'process' or 'docker', or set ephemeral.open_to = 'nobody'"
        )
    builders = [section.builder, *(one.builder for one in section.repositories)]
    if not containers and any(one not in (None, "own") for one in builders):
        raise ConfigError("ephemeral.builder says who builds images; it needs spawner.kind = 'docker'")
    installer.uv()
    folders.make()
    if uids_for(world) or containers:
        return
    why = _in_the_way(world)
    if not section.trusted_network:
        raise ConfigError(
            f"throw-away sessions would run under the hub's own account and could read all that it can: {why}; "
            "or set ephemeral.trusted_network = true, where everybody who can open a link may do that"
        )
    note(f"Throw-away sessions run under the hub's own account: {why}")


def uids_for(world: World) -> range:
    """The accounts that sessions get, one each; none where they run under the hub's own."""
    if not isinstance(world.spawner, TakesGuests):
        return range(0)
    # A container sees its home alone: what else is closed to its account does not matter.
    if not isinstance(world.spawner, BuildsImages) and _in_the_way(world):
        return range(0)
    return world.spawner.guest_uids


def _in_the_way(world: World) -> str:
    """Why sessions cannot have accounts of their own, with the remedy; empty when they can."""
    if isinstance(world.spawner, TakesGuests) and not world.spawner.guest_uids:
        return "the hub is not root; start it as root"
    closed = closed_to_others(folders_of(world.settings, world.secrets).root)
    if closed is not None:
        return f"other accounts cannot pass through {str(closed)!r}; set ephemeral.dir to another place"
    closed = _closed_code()
    if closed is not None:
        return f"other accounts cannot read the hub's Python, for {str(closed)!r} is closed; install it elsewhere"
    return ""


@functools.cache
def _closed_code() -> Path | None:
    return next((closed for place in _code() if (closed := closed_to_others(place)) is not None), None)


def _code() -> Iterator[Path]:
    """What a session's server reads while it runs: the interpreter, its library, the packages."""
    yield Path(os.path.realpath(sys.executable))
    yield Path(os.__file__).resolve().parent
    yield Path(sys.prefix).resolve()
    yield Path(himalia_hub.__file__).resolve().parent
