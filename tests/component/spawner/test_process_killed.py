"""A hub killed at any point of a start or stop leaves neither a second server nor an unknown one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from himalia_spawner import procfs
from himalia_spawner.base import Presence, ServerSpec, Sighting
from himalia_spawner.process import FAULT_POINTS, ProcessSpawner
from support import eventually

DRIVER = str(Path(__file__).with_name("hub_that_dies.py"))
START_POINTS = FAULT_POINTS[: FAULT_POINTS.index("after_record") + 1]
STOP_POINTS = FAULT_POINTS[len(START_POINTS) :]
BORN = {"after_request", "after_fork", "after_record", "never"}


async def dies(rig, spec: ServerSpec, verb: str, point: str, own: tuple[str, ...] = ()) -> None:
    told = {
        "settings": {
            key: str(each) if isinstance(each, Path) else each for key, each in rig.settings.items()
        },
        "data": str(rig.data),
        "hub_id": rig.hub_id,
        "own": own or rig.own,
        "entry": rig.forked,
        "verb": verb,
        "point": point,
        "spec": {"name": spec.ref.name, "incarnation": spec.ref.incarnation, "command": spec.command},
    }
    run = [sys.executable, "-I", DRIVER, json.dumps(told)]
    ended = await asyncio.to_thread(subprocess.run, run, capture_output=True, timeout=120, check=False)
    assert ended.returncode == (0 if point == "never" else -9), ended.stderr.decode()


async def known(spawner: ProcessSpawner, name: str) -> Sighting:
    """What is there, once that can be told."""

    async def told() -> Sighting | None:
        sighting = await spawner.look(name)
        return sighting if sighting.presence is not Presence.UNKNOWN else None

    found = await eventually(told)
    assert found is not None
    return found


async def present(spawner: ProcessSpawner, name: str) -> Sighting | None:
    sighting = await spawner.look(name)
    return sighting if sighting.presence is Presence.PRESENT else None


@pytest.mark.parametrize("transport", ["unix-fork", "unix-exec", "tcp"])
@pytest.mark.parametrize("point", [*START_POINTS, "never"])
async def test_killed_while_starting_leaves_one_known_server_or_none(
    rig, point: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = rig.server()
    if transport != "tcp":
        rig.stand_in(monkeypatch)
        spec = replace(spec, command=())
    rig.settings["isolation"] = "fork" if transport == "unix-fork" else "exec"
    await dies(rig, spec, "start", point)
    successor = rig.spawner()

    sighting = await known(successor, spec.ref.name)

    if point in BORN:  # it may be on its way yet: nobody needs the hub any more to make it
        sighting = await eventually(lambda: present(successor, spec.ref.name))
    # Not the count of an instant: a process within its exec does not show whose it is.
    await eventually(lambda: len(rig.processes(leaders=True)) == (1 if point in BORN else 0))
    assert sighting.presence is (Presence.PRESENT if point in BORN else Presence.ABSENT)
    handle = await successor.start(spec)
    assert handle == (sighting.handle or handle)
    await eventually(lambda: len(rig.processes(leaders=True)) == 1)
    assert (await rig.about(handle))["pid"] == handle.state["pid"]
    assert await successor.list() == [handle]
    await successor.stop(spec.ref)
    assert rig.processes() == []


@pytest.mark.parametrize("point", STOP_POINTS)
async def test_killed_while_stopping_the_next_hub_finishes_it(rig, point: str) -> None:
    spec = rig.server()
    first = rig.spawner()
    await rig.about(await first.start(spec))
    await first.close()
    await dies(rig, spec, "stop", point)
    successor = rig.spawner()

    await successor.stop(spec.ref)

    assert (await known(successor, spec.ref.name)).presence is Presence.ABSENT
    assert rig.processes() == []
    assert (
        await successor.start(rig.server(ref=replace(spec.ref, incarnation="8-1")))
    ).ref.incarnation == "8-1"


async def test_killed_after_fork_the_server_is_stopped_without_being_looked_at(rig) -> None:
    spec = rig.server()
    await dies(rig, spec, "start", "after_fork")

    await rig.spawner().stop(spec.ref)

    assert rig.processes() == []


async def test_killed_after_fork_a_server_whose_folder_was_deleted_is_still_found(rig) -> None:
    spec = rig.server()
    await dies(rig, spec, "start", "after_record")
    # Within its exec a process does not show whose it is, and then only the folder can tell.
    await eventually(lambda: rig.processes(leaders=True))
    successor = rig.spawner()
    folder = successor._ledger.folder(spec.ref.name)
    for path in folder.path.iterdir():
        path.unlink()
    folder.path.rmdir()

    [handle] = await successor.list()

    assert handle.ref == spec.ref
    assert (await rig.about(handle))["pid"] == handle.state["pid"]
    await successor.stop(spec.ref)
    assert rig.processes() == []


async def test_a_kernel_that_leads_a_session_is_not_taken_for_its_server(rig) -> None:
    spec = rig.server((*rig.server().command[:-1], "parent"))
    await dies(rig, spec, "start", "after_fork")
    server, kernel = await eventually(
        lambda: found if len(found := rig.processes(leaders=True)) == 2 else None
    )
    successor = rig.spawner()

    sighting = await known(successor, spec.ref.name)

    assert sighting.handle is not None
    assert sighting.handle.state["pid"] == server.pid
    assert procfs.stat(kernel.pid) is not None


async def test_a_start_that_nobody_can_identify_yet_is_unknown_never_absent(rig) -> None:
    spawner = rig.spawner()
    folder = spawner._ledger.folder("ada-server")
    lock = folder.lock()
    assert lock is not None

    assert (await spawner.look("ada-server")).presence is Presence.UNKNOWN

    os.close(lock)
    assert (await spawner.look("ada-server")).presence is Presence.ABSENT


async def test_a_server_whose_environment_is_closed_to_the_hub_is_known_by_its_command(
    rig, monkeypatch
) -> None:
    spec = rig.server()
    await dies(rig, spec, "start", "after_fork")
    [server] = await eventually(lambda: rig.processes(leaders=True))
    successor = rig.spawner()
    # As for a root without CAP_SYS_PTRACE, in a container, that asks for another account's process.
    with monkeypatch.context() as patch:
        patch.setattr(procfs, "environ_of", lambda _pid: None)
        patch.setattr(procfs, "holds_lock", lambda *_of: False)
        sighting = await known(successor, spec.ref.name)

    assert sighting.handle is not None
    assert sighting.handle.state["pid"] == server.pid
