"""A machine that has run out of something refuses the next server in words, and keeps those that run.

After each fault: the words name what is missing, nothing is left of the failed start, and a second one works.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import machine
from himalia_spawner import nest_client, procfs
from himalia_spawner.base import Presence, ServerRef
from himalia_spawner.errors import SpawnFailed, SpawnRefused
from himalia_spawner.process import ProcessSpawner
from himalia_spawner.settings import ProcessSettings
from support import eventually

OTHER = ServerRef("bob-server", "8-1")


async def nothing_left(rig, spawner, name: str) -> None:
    """No process, record or socket of a start that failed."""
    assert (await spawner.look(name)).presence is Presence.ABSENT
    folder = spawner._ledger.folder(name)
    assert folder.read() is None
    assert not folder.socket.exists()
    await eventually(lambda: not [found for found in rig.processes() if found.cookie.name == name])


async def test_without_a_process_to_spare_a_start_is_refused_and_the_others_go_on(rig, own, as_root) -> None:
    spawner = rig.spawner()
    first = await spawner.start(own)
    second = replace(own, ref=OTHER)
    if rig.nests():
        await rig.without_spare()
    with machine.pids_group([os.getpid(), *rig.nests()]) as group:
        group.close()
        with pytest.raises(SpawnFailed, match=r"could not make another process.*stop servers"):
            await spawner.start(second)
        assert (await rig.about(first))["pid"] == first.state["pid"]

        group.open()
        await nothing_left(rig, spawner, OTHER.name)
        assert await rig.about(await spawner.start(second)), "a second try works"


async def test_a_hub_without_a_file_to_spare_refuses_a_start_and_keeps_what_runs(rig, own) -> None:
    spawner = rig.spawner()
    first = await spawner.start(own)
    second = replace(own, ref=OTHER)
    for more in range(6):
        with machine.few_files(os.getpid(), more):
            refused = await _refused_for_files(spawner, second)
        await spawner.stop(OTHER)  # as the hub does when a start has failed
        await nothing_left(rig, spawner, OTHER.name)
        assert refused or more, "without any there is no start"

    assert (await rig.about(first))["pid"] == first.state["pid"]
    assert await rig.about(await spawner.start(second)), "a second try works"


@pytest.mark.parametrize("kind", ["own", "command"])
async def test_a_nest_without_a_file_to_spare_refuses_a_start_and_goes_on(warm, kind: str) -> None:
    spawner = warm.spawner()
    spec = warm.server() if kind == "command" else replace(warm.server(), command=())
    first = await spawner.start(spec)
    (nest,) = warm.nests()
    second = replace(spec, ref=OTHER)
    if kind == "own":
        await warm.without_spare()
    for more in range(4):
        with machine.few_files(nest, more):
            refused = await _refused_for_files(spawner, second)
        await spawner.stop(OTHER)
        await nothing_left(warm, spawner, OTHER.name)
        assert refused or more, "without any there is no start"

    assert warm.nests() == [nest], "the nest goes on"
    assert await warm.about(await spawner.start(second)), "a second try works"
    await warm.kill(first)
    await eventually(lambda: _ended_by(spawner, first, signal.SIGKILL), what="it tells how its servers end")


async def test_a_hub_that_was_stopped_while_it_had_a_nest_made_keeps_no_other_from_starting_servers(
    warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nest_client, "_GUARD_S", 0.2)
    spec = replace(warm.server(), command=())
    folder = warm.root / "run" / "nest"
    folder.parent.mkdir(mode=0o700)
    folder.mkdir(mode=0o700)
    with (folder / "guard").open("w") as held:  # as its lock stays with a process that SIGSTOP stopped
        fcntl.flock(held, fcntl.LOCK_EX)

        assert await warm.about(await warm.spawner().start(spec)), "without a nest, as a fresh interpreter"
        assert warm.nests() == []

    await warm.spawner().start(replace(spec, ref=OTHER))
    (nest,) = warm.nests()
    with (folder / "guard").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        third = await warm.spawner().start(replace(spec, ref=ServerRef("cleo-server", "9-1")))
        assert await warm.about(third)
        assert procfs.stat(third.state["pid"]).parent == nest, "a nest that runs is used"


async def _refused_for_files(spawner, spec) -> bool:
    """Whether the start was refused; if so, for want of descriptors."""
    try:
        await spawner.start(spec)
    except SpawnFailed as error:
        assert "too many open files" in str(error).lower()
        return True
    return False


async def test_a_full_runtime_folder_refuses_a_start_and_the_others_go_on(rig, own, as_root) -> None:
    disk = rig.disk("run", "256k")
    spawner = rig.spawner()
    first = await spawner.start(own)
    second = replace(own, ref=OTHER)
    disk.fill()
    with pytest.raises(SpawnFailed, match="No space left on device"):
        await spawner.start(second)
    assert (await spawner.look(OTHER.name)).presence is Presence.ABSENT
    await eventually(lambda: not [found for found in rig.processes() if found.cookie.name == OTHER.name])
    assert (await rig.about(first))["pid"] == first.state["pid"]

    disk.free()
    assert await rig.about(await spawner.start(second)), "a second try works"
    for ref in (own.ref, OTHER):
        await spawner.stop(ref)


async def test_a_full_runtime_folder_does_not_hide_the_end_of_a_server(rig, own, as_root) -> None:
    disk = rig.disk("run", "256k")
    spawner = rig.spawner()
    handle = await spawner.start(own)
    disk.fill()

    await rig.kill(handle)

    async def gone() -> bool:
        return (await spawner.look(own.ref.name)).presence is Presence.ABSENT

    await eventually(gone)
    await spawner.stop(own.ref)
    disk.free()
    assert await rig.about(await spawner.start(own))
    await spawner.stop(own.ref)


async def test_a_full_disk_of_logs_costs_the_log_and_not_the_server(rig, own, as_root) -> None:
    disk = rig.disk("data/logs", "256k")
    spawner = rig.spawner()
    disk.fill()

    handle = await spawner.start(own)

    assert await rig.about(handle)
    await spawner.stop(own.ref)
    disk.free()


async def test_homes_that_can_not_be_made_refuse_a_start_by_name(rig, own, as_root) -> None:
    disk = rig.disk("data/homes", "256k", inodes=2)
    spawner = rig.spawner()
    disk.fill()
    with pytest.raises(SpawnFailed, match=r"home '.*/ada' could not be made: No space left"):
        await spawner.start(own)
    await nothing_left(rig, spawner, own.ref.name)

    disk.free()
    assert await rig.about(await spawner.start(own)), "a second try works"
    await spawner.stop(own.ref)


def test_system_users_without_root_are_refused_when_the_hub_starts(rig, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(SpawnRefused, match="system_users needs a hub that runs as root"):
        ProcessSpawner(
            ProcessSettings(system_users=True, runtime_dir=rig.root / "run"), hub_id="h", data_dir=rig.data
        )


@pytest.mark.parametrize("isolation", ["fork", "exec"])
async def test_a_root_that_may_not_change_accounts_is_refused_with_what_it_lacks(
    rig, account, isolation
) -> None:
    """A hub in a container without the capability SETUID: root by number, and yet not able to become anybody."""
    words = {
        "settings": {"runtime_dir": str(rig.root / "run"), "system_users": True, "isolation": isolation,
                     "preload": ["server_for_tests"]},
        "data": str(rig.data), "username": account, "own": list(rig.own), "entry": rig.forked,
    }  # fmt: skip
    hub = str(Path(__file__).with_name("hub_that_lacks_rights.py"))
    without = ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid", "--"]
    done = subprocess.run(
        [*without, sys.executable, hub, json.dumps(words)], capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert "SpawnRefused" in done.stdout
    assert "SETUID and SETGID" in done.stdout
    assert not rig.processes()
    assert not [pid for pid in procfs.pids() if procfs.stat(pid) and procfs.uid_of(pid) == _uid(account)]


async def _ended_by(spawner, handle, number: int) -> bool:
    sighting = await spawner.look(handle.ref.name)
    return sighting.exit is not None and sighting.exit.signal == number


def _uid(name: str) -> int:
    return pwd.getpwnam(name).pw_uid
