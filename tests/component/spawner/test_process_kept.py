"""Kernels wait for their server's next start when it crashed, for a bounded time, and for nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from himalia_spawner import remains
from himalia_spawner.base import Limits, Presence, ServerRef
from himalia_spawner.errors import SpawnRefused
from himalia_spawner.remains import Remains
from support import eventually

NEXT = ServerRef("ada-server", "7-2")
MEMORY = Limits(memory=96 * 2**20)


@asynccontextmanager
async def watching(spawner):
    """A hub that follows its spawner's news."""

    async def follow() -> None:
        async for _ in spawner.watch():
            pass

    task = asyncio.create_task(follow())
    try:
        yield spawner
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def kept(rig) -> set[int]:
    return {each.pid for each in rig.processes() if each.kept}


def others(rig) -> set[int]:
    return {each.pid for each in rig.processes() if not each.kept}


async def crashed(rig, spawner, spec, number=signal.SIGKILL):
    """A server with its two children, that ended by that signal; the number of the child that may stay."""
    before = kept(rig)
    handle = await spawner.start(replace(spec, args=("kernels",)))
    await rig.about(handle)
    (child,) = await eventually(lambda: kept(rig) - before)
    await eventually(lambda: "sleep" in " ".join(Path(f"/proc/{child}/comm").read_text().split()))
    os.kill(handle.state["pid"], number)
    await eventually(lambda: _absent(spawner, spec.ref.name))
    return child


async def _absent(spawner, name: str) -> bool:
    return (await spawner.look(name)).presence is Presence.ABSENT


async def test_a_crash_spares_kernels_and_ends_the_rest(rig, own) -> None:
    async with watching(rig.spawner()) as spawner:
        child = await crashed(rig, spawner, own)

        sighting = await spawner.look("ada-server")

        assert sighting.kept is not None
        assert sighting.kept.ref == own.ref
        assert 3500 < sighting.kept.left_s <= 3600
        await eventually(lambda: not others(rig), what="what is no kernel is ended")
        assert kept(rig) == {child}
        assert await spawner.list() == [], "what waits is no server"


async def test_the_next_start_finds_them_under_its_own_limits_and_its_stop_ends_them(rig, own) -> None:
    spawner = rig.spawner()
    limited = replace(own, limits=MEMORY)
    child = await crashed(rig, spawner, limited)

    handle = await spawner.start(replace(limited, ref=NEXT))
    (group,) = spawner._ledger.folder("ada-server").read().cgroups
    members = set(map(int, Path(group, "cgroup.procs").read_text().split()))

    assert kept(rig) == {child}
    assert {child, handle.state["pid"]} <= members
    await spawner.stop(NEXT)
    assert rig.processes() == []
    assert not Path(group).exists()


async def test_a_stop_after_the_crash_ends_them_and_nobody_elses(rig, own) -> None:
    spawner = rig.spawner()
    bob = replace(own, ref=ServerRef("ada-server-b", "8-1"), server_name="b")
    bobs = await crashed(rig, spawner, bob)
    await crashed(rig, spawner, own)

    sighting = await spawner.look("ada-server")
    await spawner.stop(sighting.kept.ref)

    assert kept(rig) == {bobs}
    assert (await spawner.look("ada-server")).kept is None
    assert (await spawner.look("ada-server-b")).kept is not None


@pytest.mark.parametrize("settings", [{}, {"keep_kernels_s": 0}], ids=["in-order", "none-kept"])
async def test_nothing_waits_after_an_end_in_order_or_where_nothing_may(rig, own, settings) -> None:
    spawner = rig.spawner(**settings)
    async with watching(spawner):
        await crashed(rig, spawner, own, signal.SIGKILL if settings else signal.SIGUSR1)

        assert (await spawner.look("ada-server")).kept is None
        await eventually(lambda: not rig.processes())


@pytest.mark.parametrize("restarted", [False, True], ids=["same-hub", "next-hub"])
async def test_they_end_when_their_time_is_over_whichever_hub_there_is(rig, own, restarted: bool) -> None:
    spawner = rig.spawner(keep_kernels_s=3)
    async with watching(spawner):
        child = await crashed(rig, spawner, own)
        assert kept(rig) == {child}
        if not restarted:
            await eventually(lambda: not rig.processes())
    if restarted:
        await spawner.close()
        async with watching(rig.spawner(keep_kernels_s=3)) as successor:
            await eventually(lambda: not rig.processes())
            await eventually(
                lambda: successor._nests is None or successor._nests.own.hello
            )  # what it began is there


async def test_they_end_although_their_time_is_over_just_while_a_hub_looks_at_them(
    rig, own, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawner = rig.spawner()
    await crashed(rig, spawner, own)
    await spawner.close()
    late_s, now_s, sweep = 0, remains.now_s, Remains.sweep

    async def outlasting(*look, **how) -> None:
        nonlocal late_s
        await sweep(*look, **how)
        late_s = 4000

    monkeypatch.setattr(remains, "now_s", lambda: now_s() + late_s)
    monkeypatch.setattr(Remains, "sweep", outlasting)

    async with watching(rig.spawner()) as successor:
        await eventually(lambda: not rig.processes())
        await eventually(lambda: successor._nests is None or successor._nests.own.hello)


async def test_a_start_that_fails_leaves_them_waiting(rig, own) -> None:
    spawner = rig.spawner()
    child = await crashed(rig, spawner, own)

    with pytest.raises(SpawnRefused):
        await spawner.start(replace(own, ref=NEXT, command=("no-such-command-anywhere",)))
    sighting = await spawner.look("ada-server")

    assert kept(rig) == {child}
    assert sighting.kept is not None
    await spawner.stop(sighting.kept.ref)
    assert rig.processes() == []


async def test_they_end_with_what_is_kept_of_their_server(rig, own) -> None:
    spawner = rig.spawner()
    await crashed(rig, spawner, own)

    await spawner.purge("ada-server")

    assert rig.processes() == []
    await crashed(rig, spawner, replace(own, ref=NEXT))
    (mark,) = await spawner.traces(())
    await spawner.remove_trace(mark)
    assert rig.processes() == []
