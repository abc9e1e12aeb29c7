"""The nest of commands: what a program gets from it, and its death at any moment of a start."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from himalia_spawner import procfs
from himalia_spawner.base import Presence, ServerRef
from himalia_spawner.errors import SpawnFailed
from support import eventually

OTHER = ServerRef("bob-server", "8-1")
INTERNAL = 0b11 << 31
"""Signals 32 and 33, that the C library has for its threads; its posix_spawn leaves them ignored."""


def status(pid: int, key: str) -> str:
    """That line of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{key}:"))


async def test_a_nest_of_commands_is_there_once_a_command_was_started_and_holds_no_servers_code(warm) -> None:
    spawner = warm.spawner()
    own = await spawner.start(replace(warm.server(), command=()))
    (first,) = warm.nests()

    handle = await spawner.start(warm.server(ref=OTHER))

    (nest,) = set(warm.nests()) - {first}
    assert procfs.stat(own.state["pid"]).parent == first
    assert procfs.stat(handle.state["pid"]).parent == nest
    assert procfs.memory_of(nest) < 16 * 2**20
    assert all(procfs.stat(pid).parent == first for pid in warm.spares()), "it forks nothing ahead"


async def test_a_program_begins_with_the_signals_of_a_fresh_process(both) -> None:
    handle = await both.spawner().start(both.server(("/bin/sleep", "60")))
    pid = handle.state["pid"]
    await eventually(lambda: procfs.command_of(pid)[0] == "/bin/sleep")

    for key in ("SigBlk", "SigIgn", "SigCgt"):
        assert int(status(pid, key), 16) & ~INTERNAL == 0, key


async def test_a_program_is_found_by_the_path_that_it_is_given(warm) -> None:
    spawner = warm.spawner(environment={"PATH": "/no/such/folder:/etc/passwd:/usr/bin:/bin"})

    handle = await spawner.start(warm.server(("sleep", "60")))

    assert procfs.command_of(handle.state["pid"]) == ("sleep", "60")


async def test_limits_that_its_parent_can_not_take_are_the_programs_all_the_same(warm) -> None:
    spawner = warm.spawner(rlimits={"core": 0, "nofile": 300, "fsize": 10_000})

    handle = await spawner.start(warm.server(("/bin/sleep", "60")))

    limits = Path(f"/proc/{handle.state['pid']}/limits").read_text()
    soft = {line[:25].strip(): line[25:].split()[0] for line in limits.splitlines()}
    assert (soft["Max open files"], soft["Max file size"], soft["Max core file size"]) == (
        "300",
        "10000",
        "0",
    )


@pytest.mark.parametrize("point", ["nest.before_fork", "nest.after_fork"])
async def test_a_nest_that_dies_during_a_start_leaves_one_known_server_or_none(
    warm, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setenv("HIMALIA_FAULT", f"{point}:exit137")
    monkeypatch.setattr("himalia_spawner.launch._LOST_S", 0.1)
    spawner, spec = warm.spawner(), warm.server()

    if point == "nest.after_fork":  # there is a server, though nobody had written it down
        handle = await spawner.start(spec)
        assert (await warm.about(handle))["pid"] == handle.state["pid"]
        assert await warm.spawner().list() == [handle]
    else:
        with pytest.raises(SpawnFailed, match="ended twice during this start"):
            await spawner.start(spec)
        assert (await spawner.look(spec.ref.name)).presence is Presence.ABSENT
    assert len(warm.processes(leaders=True)) == (1 if point == "nest.after_fork" else 0)

    monkeypatch.delenv("HIMALIA_FAULT")
    await spawner.stop(spec.ref)
    assert await warm.about(await spawner.start(spec)), "the next start has another nest"


async def test_a_program_that_can_not_be_written_down_is_ended(warm) -> None:
    nest = 0

    def in_the_way(point: str) -> None:
        if point == "before_fork" and nest:
            (spawner._ledger.folder(OTHER.name).path / f"record.{nest}").mkdir()

    spawner = warm.spawner(in_the_way)
    first = await spawner.start(warm.server())
    (nest,) = warm.nests()

    with pytest.raises(SpawnFailed, match="could not be written down: Is a directory"):
        await spawner.start(warm.server(ref=OTHER))

    assert (await spawner.look(OTHER.name)).presence is Presence.ABSENT
    assert not [each for each in warm.processes() if each.cookie.name == OTHER.name]
    assert (await warm.about(first))["pid"] == first.state["pid"]
    (spawner._ledger.folder(OTHER.name).path / f"record.{nest}").rmdir()


async def test_the_next_hub_hears_how_a_program_ended_that_an_earlier_one_started(warm) -> None:
    first = warm.spawner()
    handle = await first.start(warm.server())
    (nest,) = warm.nests()
    await first.close()
    second = warm.spawner()
    await second._warm_up()
    assert nest in warm.nests()

    os.kill(handle.state["pid"], signal.SIGTERM)

    async def ended() -> str | None:
        sighting = await second.look(handle.ref.name)
        return sighting.exit.reason if sighting.exit else None

    assert await eventually(ended) == "the server was ended by SIGTERM"
