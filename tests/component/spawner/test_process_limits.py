"""Limits hold, end only the server that broke them, and what does not hold is said or refused."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from himalia_spawner import cgroups, procfs
from himalia_spawner.base import Cause, Limits, Presence, ServerRef
from himalia_spawner.errors import SpawnFailed, SpawnRefused
from support import eventually

MEMORY = Limits(memory=96 * 2**20)
OTHER = ServerRef("bob-server", "8-1")
NOWHERE = "/no-such-control-group"


async def ended(spawner, name: str):
    """How the server ended, once it has."""

    async def look():
        sighting = await spawner.look(name)
        return sighting.exit if sighting.presence is Presence.ABSENT else None

    return await eventually(look)


async def test_a_memory_hog_dies_alone_and_says_why(rig, own) -> None:
    spawner = rig.spawner()
    hog = await spawner.start(replace(own, args=("hog",), limits=MEMORY))
    other = await spawner.start(replace(own, ref=OTHER, limits=MEMORY))
    await rig.about(hog)

    os.kill(hog.state["pid"], signal.SIGUSR1)

    how = await ended(spawner, hog.ref.name)
    assert how.cause is Cause.MEMORY
    assert "96 MB of memory" in how.reason
    assert (await rig.about(other))["pid"] == other.state["pid"]


async def test_a_server_out_of_processes_ends_with_its_limit_named(rig, own) -> None:
    spawner = rig.spawner()
    await spawner.start(replace(own, args=("forks",), limits=Limits(pids=20)))

    how = await ended(spawner, own.ref.name)

    assert "limit of 20 processes" in how.reason
    assert any("refused" in line for line in how.log_tail)


async def test_a_stopped_server_leaves_no_control_group(rig, own) -> None:
    spawner = rig.spawner()
    handle = await spawner.start(replace(own, limits=replace(MEMORY, cpus=0.5, pids=50)))
    groups = spawner._ledger.folder(own.ref.name).read().cgroups
    assert groups
    assert all(Path(group).is_dir() for group in groups)

    await spawner.stop(handle.ref)

    assert not any(Path(group).exists() for group in groups)


async def test_a_child_whose_first_thread_ended_goes_with_its_server_and_its_control_group(rig, own) -> None:
    spawner = rig.spawner()
    watching = asyncio.ensure_future(anext(aiter(spawner.watch())))
    handle = await spawner.start(replace(own, args=("headless",), limits=MEMORY))
    groups = spawner._ledger.folder(own.ref.name).read().cgroups
    child = await eventually(lambda: headless(groups), what="the child is a zombie that lives")

    await rig.kill(handle)

    await watching
    await eventually(lambda: procfs.stat(child) is None or not procfs.stat(child).running)
    await eventually(lambda: not any(Path(group).exists() for group in groups), what="its group is gone")


async def test_what_a_killed_hub_had_yet_to_clean_up_its_successor_does(rig, own) -> None:
    """It had written the end down; the server's child and its control group were still there."""
    first = rig.spawner()
    handle = await first.start(replace(own, args=("headless",), limits=MEMORY))
    groups = first._ledger.folder(own.ref.name).read().cgroups
    await eventually(lambda: headless(groups))
    await first.close()
    await rig.kill(handle)
    await ended(second := rig.spawner(), own.ref.name)  # looks, and watches nothing
    record = second._ledger.folder(own.ref.name).read()
    second._ledger.folder(own.ref.name).write(replace(record, exit_reason="the server ended"))
    assert any(Path(group).exists() for group in groups)

    third = rig.spawner()
    watching = asyncio.ensure_future(anext(aiter(third.watch())))

    await eventually(lambda: not any(Path(group).exists() for group in groups))
    await eventually(lambda: third._nests is None or third._nests.own.hello)
    watching.cancel()


def headless(groups) -> int | None:
    """A process of these control groups whose first thread has ended and that lives all the same."""
    found = (procfs.stat(pid) for pid in cgroups.members(groups))
    return next((each.pid for each in found if each and each.state == "Z" and each.threads > 1), None)


async def test_a_limit_that_can_not_be_set_is_said_and_the_server_starts(rig, own) -> None:
    spawner, said = rig.spawner(cgroup_parent=NOWHERE), []

    handle = await spawner.start(replace(own, limits=MEMORY), said.append)

    assert await rig.about(handle)
    await eventually(lambda: said)
    assert any("96 MB of memory is not enforced" in sentence and NOWHERE in sentence for sentence in said)


async def test_a_limit_that_can_not_be_set_is_refused_where_the_administrator_wants_that(rig, own) -> None:
    spawner = rig.spawner(cgroup_parent=NOWHERE, unenforced_limits="refuse")

    with pytest.raises(SpawnRefused, match=r"96 MB of memory is not enforced.*unenforced_limits"):
        await spawner.start(replace(own, limits=MEMORY))

    assert (await spawner.look(own.ref.name)).presence is Presence.ABSENT
    assert await rig.about(await spawner.start(own)), "without the limit it starts"


async def test_a_control_group_that_vanished_ends_the_start_and_not_the_limit(rig, own) -> None:
    """A cleaner took the group away between its making and the fork: the server must not run without it."""
    groups: list[str] = []

    def take_away(point: str) -> None:
        if point == "before_fork" and not groups:
            groups.extend(spawner._ledger.folder(own.ref.name).read().cgroups)
            for group in groups:
                os.rmdir(group)

    spawner = rig.spawner(fault=take_away)
    limited = replace(own, limits=MEMORY)
    with pytest.raises(SpawnFailed, match="its limits would not hold"):
        await spawner.start(limited)

    await eventually(lambda: not rig.processes())
    assert await rig.about(await spawner.start(limited)), "a second try has its group"
