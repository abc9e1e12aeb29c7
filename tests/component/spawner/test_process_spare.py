"""The child that is forked ahead: it shortens a start, and its death, or the nest's, costs nobody anything."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import replace

import pytest

from himalia_spawner.base import ServerRef
from himalia_spawner.errors import BackendGone, SpawnFailed
from himalia_spawner.nest_client import NestClient
from support import eventually

OTHER = ServerRef("bob-server", "8-1")


@pytest.fixture
def own(warm):
    """A spec of our own server, here a small stand-in."""
    return replace(warm.server(), command=())


async def test_a_start_takes_the_spare_and_another_is_made(warm, own) -> None:
    spawner = warm.spawner()
    await spawner.start(own)
    (spare,) = await eventually(warm.spares)

    handle = await spawner.start(replace(own, ref=OTHER))

    assert handle.state["pid"] == spare
    assert (await warm.about(handle))["sid"] == spare, "it leads a session of its own"
    (another,) = await eventually(warm.spares)
    assert another != spare


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_spare_that_died_is_not_missed(warm, own, number) -> None:
    spawner = warm.spawner()
    await spawner.start(own)
    (spare,) = await eventually(warm.spares)
    os.kill(spare, number)

    handle = await spawner.start(replace(own, ref=OTHER))

    assert await warm.about(handle)
    assert await eventually(warm.spares), "the next one is made after a start"


async def test_a_stopped_spare_is_waited_for_no_longer_than_a_start_may_take(warm, own, monkeypatch) -> None:
    monkeypatch.setattr("himalia_spawner.nest_client._BIRTH_S", 0.5)
    spawner = warm.spawner()
    await spawner.start(own)
    (spare,) = await eventually(warm.spares)
    os.kill(spare, signal.SIGSTOP)

    second = replace(own, ref=OTHER)
    with pytest.raises(SpawnFailed, match="could not be set up within"):
        await spawner.start(second)

    os.kill(spare, signal.SIGKILL)

    async def starts():
        with suppress(
            BackendGone
        ):  # until the kernel has let go of what lay in its socket: the lock among it
            return await spawner.start(second)
        return None

    assert await warm.about(await eventually(starts))


async def test_the_spare_ends_with_its_nest(warm, own) -> None:
    spawner = warm.spawner()
    await spawner.start(own)
    await eventually(warm.spares)
    (nest,) = warm.nests()

    os.kill(nest, signal.SIGKILL)

    await eventually(lambda: not warm.spares())


async def test_a_nest_that_is_looked_after_is_not_taken_for_gone(warm, own, monkeypatch) -> None:
    monkeypatch.setattr("himalia_spawner.process._HOUSEKEEPING_S", 0.001)
    spawner = warm.spawner()
    await spawner.start(own)
    looks, ends = [], []
    renew, lost = NestClient.renew, NestClient.lost
    monkeypatch.setattr(NestClient, "renew", lambda nest: looks.append(renew(nest)))
    monkeypatch.setattr(NestClient, "lost", lambda nest: ends.append(lost(nest)))
    watching = asyncio.ensure_future(anext(spawner.watch()))

    await eventually(lambda: len(looks) > 50 or watching.done())
    watching.cancel()

    assert not any(looks), "its code has not changed"
    assert not ends


async def test_a_spare_knows_nothing_of_the_servers_before_it(warm, own) -> None:
    spawner = warm.spawner()
    await spawner.start(own)
    (spare,) = await eventually(warm.spares)

    environment = await asyncio.to_thread(_read, f"/proc/{spare}/environ")

    def sockets() -> int:
        """How many it has; it has just been forked, and closes what was its parent's."""
        opened = set()
        for name in os.listdir(f"/proc/{spare}/fd"):
            with suppress(FileNotFoundError):
                opened.add(os.readlink(f"/proc/{spare}/fd/{name}"))
        return sum(name.startswith("socket:") for name in opened)

    assert b"token-of-ada" not in environment
    await eventually(lambda: sockets() == 1, what="its door and nothing else")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
