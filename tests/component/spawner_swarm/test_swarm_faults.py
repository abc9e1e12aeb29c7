"""What goes wrong on many machines: a server is never guessed gone, never runs twice, and its end has its words."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import pytest

from himalia_spawner.base import Cause, Handle, Limits, Presence, ServerRef, Sighting
from himalia_spawner.errors import BackendGone, SpawnFailed, SpawnRefused
from himalia_spawner.names import backend_name
from himalia_spawner.swarm.spawner import SwarmSpawner
from small_servers import python
from support import eventually
from swarm_lab import Node, SwarmLab

if TYPE_CHECKING:
    from conftest import SwarmRig

pytestmark = pytest.mark.timeout(240)
NAME = backend_name("ada", "")
DOWN_S = 40
"""Enough for a manager to miss three heartbeats, and for a node to return, on a busy machine."""
NEXT = ServerRef(NAME, "2")


@contextlib.asynccontextmanager
async def whole(lab: SwarmLab) -> AsyncIterator[None]:
    """Whatever the block does to nodes, all of them are ready after it."""
    try:
        yield
    finally:
        for node in lab.nodes:
            lab.heal(node)
            if node.process is None:
                lab.begin(node)
        await eventually(
            lambda: set(lab.states().values()) == {"ready"}, within_s=DOWN_S, what="all nodes are ready"
        )


async def answers(handle: Handle) -> bool:
    """Whether a server answers at its handle's address."""
    timeout = aiohttp.ClientTimeout(total=2)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(handle.url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def started(spawner: SwarmSpawner, rig: SwarmRig, ref: ServerRef | None = None) -> Handle:
    """A server that answers at its address."""
    handle = await spawner.start(rig.server(ref=ref))
    await eventually(lambda: answers(handle), what=f"{handle.url} answers")
    return handle


async def on_a_worker(rig: SwarmRig) -> tuple[SwarmSpawner, Handle, Node]:
    """A server on a node that may be lost without the manager; and a spawner with no more constraints than others."""
    pinned = rig.spawner(constraints=["node.role == worker"])
    handle = await started(pinned, rig)
    return rig.spawner(), handle, rig.lab.node(handle.state["node"])


async def seen_lost(spawner: SwarmSpawner, handle: Handle) -> Sighting:
    """The first sighting that says it is gone. Before that it is there, or unknown; nothing else."""
    while (sighting := await spawner.look(NAME)).presence is not Presence.ABSENT:
        assert sighting.presence is Presence.UNKNOWN or sighting.handle == handle, sighting
    return sighting


async def unknown_is_waited_for(rig: SwarmRig, handle: Handle, node: Node) -> None:
    """Who counts machines as lost later neither calls a server gone nor starts it a second time."""
    patient = rig.spawner(node_lost_s=600)
    await eventually(lambda: rig.lab.states()[node.name] == "down", within_s=DOWN_S)
    assert (await patient.look(NAME)).presence is Presence.UNKNOWN
    with pytest.raises(BackendGone, match=node.name):
        await patient.start(rig.server(ref=NEXT))
    await patient.stop(ServerRef(NAME, "3"))  # another incarnation's stop does nothing
    assert (await patient.look(NAME)).presence is Presence.UNKNOWN
    assert await patient.list() == []


async def test_servers_are_spread_over_the_machines_and_answer_at_their_own(rig: SwarmRig) -> None:
    spawner = rig.spawner()
    handles = await asyncio.gather(
        *(spawner.start(rig.server(username=f"user{n}", ref=ServerRef(f"user{n}", "1"))) for n in range(3))
    )
    for handle in handles:
        await eventually(lambda handle=handle: answers(handle), within_s=30)  # type: ignore[misc]
    assert {handle.state["node"] for handle in handles} == {"n1", "n2", "n3"}
    for handle in handles:
        assert rig.lab.node(handle.state["node"]).address in handle.url


async def test_a_killed_machine_is_unknown_then_lost_with_that_cause_and_its_server_starts_elsewhere(
    rig: SwarmRig,
) -> None:
    spawner, handle, node = await on_a_worker(rig)
    async with whole(rig.lab):
        rig.lab.kill(node)
        async with asyncio.timeout(DOWN_S):
            sighting = await seen_lost(spawner, handle)
        assert sighting.exit is not None
        assert sighting.exit.cause is Cause.NODE_LOST
        assert node.name in sighting.exit.reason
        await spawner.stop(handle.ref)  # twice is fine, and needs no answer of a lost machine

        again = await started(spawner, rig, NEXT)

        assert again.state["node"] != node.name
        assert await spawner.list() == [again]


async def test_of_a_cut_and_healed_machine_the_stale_task_goes_and_never_two_are_reachable(
    rig: SwarmRig,
) -> None:
    spawner, old, node = await on_a_worker(rig)
    async with whole(rig.lab):
        rig.lab.cut(node)
        await unknown_is_waited_for(rig, old, node)
        async with asyncio.timeout(DOWN_S):
            await seen_lost(spawner, old)
        assert len(node.containers()) == 1, "the cut machine runs it on by itself"
        new = await started(spawner, rig, NEXT)
        assert new.state["node"] != node.name
        assert new.url != old.url

        rig.lab.heal(node)
        told = []

        async def gone() -> bool:
            told.append((await spawner.look(NAME)).handle)
            assert await spawner.list() == [new]
            return not node.containers()

        await eventually(gone, within_s=DOWN_S, what="the swarm ends the stale task")
        assert all(handle == new for handle in told)
        assert await answers(new)
        assert not await answers(old)


async def test_a_task_that_was_moved_by_hand_is_followed_to_its_new_machine(rig: SwarmRig) -> None:
    spawner = rig.spawner()
    handle = await started(spawner, rig)
    client = rig.lab.manager.client()
    try:
        service = client.inspect_service(handle.state["service"])
        template = service["Spec"]["TaskTemplate"]
        template["Placement"] = {"Constraints": [f"node.hostname != {handle.state['node']}"]}
        client.update_service(
            service["ID"], service["Version"]["Index"], template, service["Spec"]["Name"],
            labels=service["Spec"]["Labels"], mode=service["Spec"]["Mode"],
            endpoint_spec=service["Spec"]["EndpointSpec"],
        )  # fmt: skip
    finally:
        client.close()

    async def moved() -> Handle | None:
        now = (await spawner.look(NAME)).handle
        return now if now is not None and now.state["node"] != handle.state["node"] else None

    now = await eventually(moved, within_s=30)
    await eventually(lambda: answers(now), within_s=30)
    assert now.ref == handle.ref


async def test_in_an_overlay_network_a_server_is_reached_by_its_name_from_another_machine(
    rig: SwarmRig,
) -> None:
    client, network = rig.lab.manager.client(), "himalia-test-overlay"
    try:
        client.create_network(network, driver="overlay")
        joined = {"transport": "network", "network": network}
        there = rig.spawner(**joined, constraints=["node.hostname == n2"])
        here = rig.spawner(**joined, constraints=["node.hostname == n3"])
        handle = await there.start(rig.server())
        asks = python(
            "import time, urllib.request\n"
            "while True:\n"
            f"    try: print(urllib.request.urlopen({handle.url!r}).read()); break\n"
            "    except OSError: time.sleep(0.1)\n"
            "time.sleep(600)"
        )
        other = await here.start(rig.server(asks, username="bob"))

        async def reached() -> bool:
            return "b'ok'" in await here.logs(other.ref.name)

        await eventually(reached, within_s=30, what=f"{handle.url} answers on n3")
        await asyncio.gather(here.stop(other.ref), there.stop(handle.ref))
        client.remove_network(network)
    finally:
        client.close()


async def test_a_machine_that_fits_no_server_is_said_in_swarms_words_and_nothing_is_left(
    rig: SwarmRig,
) -> None:
    said: list[str] = []
    spawner = rig.spawner(constraints=["node.labels.gpu == yes"], placement_timeout_s=2)
    with pytest.raises(SpawnFailed, match="constraints not satisfied on 3 nodes"):
        await spawner.start(rig.server(), said.append)
    assert any("Waiting for a machine" in sentence for sentence in said), said
    assert await spawner.look(NAME) == Sighting(Presence.ABSENT)


async def test_a_reservation_that_no_machine_can_keep_is_said(rig: SwarmRig) -> None:
    spawner = rig.spawner(reserved_memory="900G", placement_timeout_s=2)
    with pytest.raises(SpawnFailed, match="insufficient resources"):
        await spawner.start(rig.server())


async def test_a_home_that_a_machine_does_not_have_is_refused_with_its_path(rig: SwarmRig) -> None:
    spawner = rig.spawner(volumes={"/no/such/storage/{user}": "{home}"})
    with pytest.raises(SpawnRefused, match=r"/no/such/storage/ada.*mount the shared storage"):
        await spawner.start(rig.server())
    assert await spawner.look(NAME) == Sighting(Presence.ABSENT)


async def test_a_command_that_the_image_lacks_ends_as_refused(rig: SwarmRig) -> None:
    spawner = rig.spawner()
    try:
        await spawner.start(rig.server(("/no/such/command",)))
    except SpawnRefused:
        return
    sighting = await eventually(lambda: _absent(spawner), within_s=30)
    assert sighting.exit is not None
    assert sighting.exit.cause is Cause.REFUSED


async def _absent(spawner: SwarmSpawner) -> Sighting | None:
    sighting = await spawner.look(NAME)
    return sighting if sighting.presence is Presence.ABSENT else None


async def test_a_server_over_its_memory_limit_ends_with_that_limit_in_its_words(rig: SwarmRig) -> None:
    spawner = rig.spawner()
    eats = python("import time; time.sleep(1); x = [b'x' * 2**20 for _ in range(4096)]")
    await spawner.start(rig.server(eats, limits=Limits(memory=64 * 2**20)))
    sighting = await eventually(lambda: _absent(spawner), within_s=30)
    assert sighting.exit is not None
    assert "64 MB" in sighting.exit.reason


async def test_what_is_asked_of_swarm_arrives_at_the_container(rig: SwarmRig) -> None:
    limits = Limits(memory=96 * 2**20, cpus=0.5, pids=64)
    handle = await rig.spawner(reserved_memory="16M").start(rig.server(limits=limits))
    found = rig.inspect(handle)
    assert found["HostConfig"]["Memory"] == limits.memory
    assert found["HostConfig"]["NanoCpus"] == 500_000_000
    assert found["HostConfig"]["PidsLimit"] == limits.pids
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["Config"]["User"] == "1000:100"
    assert [one["Source"] for one in found["Mounts"] if one["Destination"] == "/home/jovyan"] == [
        f"{rig.root}/ada"
    ]
    folder = (rig.root / "ada").stat()
    assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o777) == (1000, 100, 0o700)


async def test_a_service_removed_by_hand_is_told_and_named_as_such(rig: SwarmRig) -> None:
    spawner = rig.spawner()
    await spawner.start(rig.server())
    rig.lab.remove_services()
    sighting = await eventually(lambda: _absent(spawner), within_s=30)
    assert sighting.exit is not None
    assert sighting.exit.cause is Cause.REMOVED
    await spawner.start(replace(rig.server(), ref=NEXT))


async def test_an_engine_that_is_no_manager_is_unknown_and_refused_in_words(rig: SwarmRig) -> None:
    spawner = rig.spawner(url=rig.lab.nodes[1].url)
    assert (await spawner.look(NAME)).presence is Presence.UNKNOWN
    with pytest.raises(SpawnRefused, match="no manager of a swarm"):
        await spawner.start(rig.server())
    with pytest.raises(BackendGone):
        await spawner.list()


async def test_another_hubs_servers_on_the_swarm_are_not_ours(rig: SwarmRig) -> None:
    ours = rig.spawner()
    theirs = SwarmSpawner(ours._settings, hub_id="another", data_dir=rig.root)
    rig.made.append(theirs)
    handle = await theirs.start(rig.server())

    await ours.stop(handle.ref)

    assert await ours.list() == []
    assert await theirs.list() == [handle]
