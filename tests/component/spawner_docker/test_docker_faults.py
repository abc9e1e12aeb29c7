"""What goes wrong with containers and their engine is seen, said in words, and left behind by nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import docker_lab
from himalia_spawner.base import Cause, Limits, Presence, ServerRef, Sighting
from himalia_spawner.docker.spawner import DockerSpawner
from himalia_spawner.errors import SpawnFailed, SpawnRefused
from himalia_spawner.names import backend_name
from support import eventually

if TYPE_CHECKING:
    from conftest import DockerRig

pytestmark = pytest.mark.timeout(180)
NAME = backend_name("ada", "")
SEEN_WITHIN_S = 10
"""So soon a container's end shows, as is promised to people."""
EATS = ("/usr/local/bin/python3", "-I", "-c", "x = [b'x' * 2**20 for _ in range(4096)]")
WAITS = "import os, time\nwhile not os.path.exists('/tmp/go'): time.sleep(0.01)\n"
"""Before its program goes on, until the test has made a file."""


@contextlib.asynccontextmanager
async def told(spawner: DockerSpawner) -> AsyncIterator[asyncio.Queue[str]]:
    """The names that `watch()` tells while the block runs."""
    names: asyncio.Queue[str] = asyncio.Queue()

    async def listen() -> None:
        async for name in spawner.watch():
            names.put_nowait(name)

    task = asyncio.create_task(listen())
    try:
        yield names
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ended(spawner: DockerSpawner) -> Sighting:
    """The sighting once the server is seen to be gone."""

    async def absent() -> Sighting | None:
        sighting = await spawner.look(NAME)
        return sighting if sighting.presence is Presence.ABSENT else None

    return await eventually(absent, within_s=SEEN_WITHIN_S)


async def test_a_container_removed_by_hand_is_told_and_named_as_such(rig: DockerRig) -> None:
    spawner = rig.spawner()
    handle = await spawner.start(rig.server())
    await spawner.look(NAME)
    async with told(spawner) as names:
        assert await asyncio.wait_for(names.get(), SEEN_WITHIN_S) == NAME
        await asyncio.to_thread(rig.lab.remove_containers)
        assert await asyncio.wait_for(names.get(), SEEN_WITHIN_S) == NAME
    sighting = await ended(spawner)

    assert sighting.exit is not None
    assert sighting.exit.cause is Cause.REMOVED
    again = await spawner.start(replace(rig.server(), ref=ServerRef(NAME, "2")))
    assert again.state["container"] != handle.state["container"]


async def test_a_server_over_its_memory_ends_with_that_reason_and_its_limit(rig: DockerRig) -> None:
    spawner = rig.spawner()
    when_told = (*EATS[:-1], WAITS + EATS[-1])
    handle = await spawner.start(rig.server(when_told, limits=Limits(memory=64 * 2**20)))
    client = rig.lab.client()
    try:
        made = client.exec_create(handle.state["container"], ["sh", "-c", ": > /tmp/go"])
        await asyncio.to_thread(client.exec_start, made["Id"])
        assert client.exec_inspect(made["Id"])["ExitCode"] == 0
    finally:
        client.close()

    sighting = await ended(spawner)

    assert sighting.exit is not None
    assert sighting.exit.cause is Cause.MEMORY
    assert "64 MB" in sighting.exit.reason


async def test_a_child_over_the_memory_limit_leaves_the_server_running_and_is_told(rig: DockerRig) -> None:
    spawner = rig.spawner()
    handle = await spawner.start(rig.server(limits=Limits(memory=96 * 2**20)))
    async with told(spawner):
        client = rig.lab.client()
        try:
            made = client.exec_create(handle.state["container"], list(EATS))
            await asyncio.to_thread(client.exec_start, made["Id"])
            assert client.exec_inspect(made["Id"])["ExitCode"] == 137
        finally:
            client.close()

        async def says_so() -> bool:
            sighting = await spawner.look(NAME)
            assert sighting.presence is Presence.PRESENT
            return "memory limit" in sighting.detail

        await eventually(says_so, within_s=SEEN_WITHIN_S)


async def test_a_foreign_container_of_the_same_name_is_named_and_left_alone(rig: DockerRig) -> None:
    spawner = rig.spawner()
    name = spawner._place.container(NAME)
    client = rig.lab.client()
    try:
        foreign = client.create_container(docker_lab.PYTHON_IMAGE, command=["sleep", "600"], name=name)["Id"]
        with pytest.raises(SpawnRefused, match=name):
            await spawner.start(rig.server())
        await spawner.stop(ServerRef(NAME, "1"))
        assert client.inspect_container(foreign)["Id"] == foreign
    finally:
        client.close()


@pytest.mark.parametrize("pull", ["never", "missing"])
async def test_an_image_that_cannot_be_had_is_refused_by_name_and_nothing_is_left(
    rig: DockerRig, pull: str
) -> None:
    image = "registry.invalid/no/such:1"
    with pytest.raises((SpawnRefused, SpawnFailed), match=image):
        await rig.spawner(pull=pull).start(rig.server(image=image))
    assert rig.lab.containers() == []


async def test_an_image_without_any_jupyter_server_is_refused_with_the_command_it_lacks(
    rig: DockerRig,
) -> None:
    with pytest.raises(SpawnRefused, match="jupyterhub-singleuser"):
        await rig.spawner().start(rig.server(command=()))
    assert rig.lab.containers() == []


async def test_a_changed_limit_makes_another_container_and_keeps_the_volume(rig: DockerRig) -> None:
    spawner = rig.spawner(volumes={"himalia-test-{user}": "{home}"})
    first = await spawner.start(rig.server(limits=Limits(memory=96 * 2**20)))
    client = rig.lab.client()
    try:
        write = client.exec_create(first.state["container"], ["sh", "-c", "echo kept > $HOME/note"])
        client.exec_start(write["Id"])
        await spawner.stop(ServerRef(NAME, "1"))

        spec = replace(rig.server(limits=Limits(memory=128 * 2**20)), ref=ServerRef(NAME, "2"))
        second = await spawner.start(spec)

        assert rig.inspect(second)["HostConfig"]["Memory"] == 128 * 2**20  # type: ignore[index]
        read = client.exec_create(second.state["container"], ["sh", "-c", "cat $HOME/note"])
        assert client.exec_start(read["Id"]) == b"kept\n"
    finally:
        await spawner.stop(ServerRef(NAME, "2"))
        client.remove_volume("himalia-test-ada")
        client.close()


async def test_a_container_is_kept_in_its_box(rig: DockerRig) -> None:
    handle = await rig.spawner().start(rig.server(limits=Limits(pids=64)))
    client = rig.lab.client()
    try:
        asked = client.exec_create(handle.state["container"], ["cat", "/proc/self/status"])
        status = dict(
            line.split(":\t", 1)
            for line in client.exec_start(asked["Id"]).decode().splitlines()
            if ":\t" in line
        )
        asked = client.exec_create(handle.state["container"], ["sh", "-c", "echo x > /usr/x"])
        client.exec_start(asked["Id"])
        assert client.exec_inspect(asked["Id"])["ExitCode"] != 0, "the root file system can be changed"
    finally:
        client.close()
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split()[0] == "1000"
    assert rig.inspect(handle)["HostConfig"]["PidsLimit"] == 64  # type: ignore[index]


async def test_containers_of_another_hub_on_the_engine_are_not_ours(rig: DockerRig) -> None:
    ours, theirs = rig.spawner(), rig.spawner(runtime_dir=rig.root / "other")
    await ours.start(rig.server())
    handle = await theirs.start(rig.server())

    await ours.stop(ServerRef(NAME, "1"))

    assert await ours.list() == []
    assert await theirs.list() == [handle]


@pytest.mark.parametrize("restores", [False, True], ids=["plain", "live-restore"])
async def test_an_engine_that_is_away_is_unknown_and_its_return_shows_what_became_of_the_server(
    rig: DockerRig, restores: bool
) -> None:
    arguments = ["--live-restore"] if restores else []
    await asyncio.to_thread(rig.lab.stop)
    await asyncio.to_thread(rig.lab.start, *arguments)
    try:
        spawner = rig.spawner()
        handle = await spawner.start(rig.server())
        async with told(spawner):
            await asyncio.to_thread(rig.lab.stop)
            assert (await spawner.look(NAME)).presence is Presence.UNKNOWN
            await asyncio.to_thread(rig.lab.start, *arguments)
            if restores:
                assert (await spawner.look(NAME)).handle == handle
            else:
                assert (await ended(spawner)).exit is not None
        await spawner.stop(ServerRef(NAME, "1"))
        again = await spawner.start(replace(rig.server(), ref=ServerRef(NAME, "2")))
        assert again.ref.incarnation == "2"
    finally:
        rig.lab.remove_containers()
        if restores:
            await asyncio.to_thread(rig.lab.stop)
            await asyncio.to_thread(rig.lab.start)
