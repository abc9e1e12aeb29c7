"""What is particular to servers as processes: files, rights, ports, signals, leftovers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
from dataclasses import replace

import pytest

from himalia_spawner import procfs
from himalia_spawner.base import Presence, ServerRef
from himalia_spawner.errors import SpawnRefused
from himalia_spawner.process import ProcessSpawner
from himalia_spawner.records import Record
from himalia_spawner.settings import ProcessSettings
from support import eventually

KEPT = {"PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL"}


def mode(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


async def test_the_environment_holds_what_the_contract_lists_and_nothing_else(both) -> None:
    rig = both
    spawner = rig.spawner(environment={"SITE": "bern", "USER": "someone"})

    handle = await spawner.start(rig.server())
    seen = dict(await rig.environment(handle))

    assert seen.pop("SITE") == "bern"
    assert seen.pop("USER") == "someone"  # the administrator's word is the last
    assert seen.pop("HOME") == str(rig.data / "homes" / "ada")
    assert seen.pop("SHELL")
    assert seen.pop("JUPYTERHUB_SERVICE_URL") == handle.url + "/user/ada/"
    assert seen.pop("JUPYTERHUB_API_TOKEN") == "token-of-ada"
    assert seen.pop("JUPYTERHUB_USER") == "ada"
    assert seen.pop("EMPTY") == ""
    assert seen.pop("HIMALIA_INCARNATION").endswith("/ada-server/7-1")
    assert seen.pop("HIMALIA_LOCK_FD").isdigit()
    assert seen.pop("HIMALIA_KEEP_KERNELS") == "3600"
    assert seen.pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # Python sets it for itself
    assert seen.keys() <= KEPT


async def test_a_server_has_its_own_session_home_and_umask_and_no_input(both) -> None:
    rig = both
    handle = await rig.spawner(umask="027").start(rig.server())

    about = await rig.about(handle)

    assert about["pid"] == about["sid"] == handle.state["pid"]
    assert about["umask"] == "027"
    assert about["cwd"] == str(rig.data / "homes" / "ada")
    assert mode(about["cwd"]) == 0o700
    assert os.readlink(f"/proc/{about['pid']}/fd/0") == "/dev/null"
    assert about["rlimits"]["nofile"][0] == min(4096, about["rlimits"]["nofile"][1])
    assert about["rlimits"]["core"] == [0, 0]


async def test_a_server_inherits_only_what_it_was_given(rig, own) -> None:
    handle = await rig.spawner().start(own)
    pid = (await rig.about(handle))["pid"]

    links = [
        os.readlink(f"/proc/{pid}/fd/{number}") for number in sorted(os.listdir(f"/proc/{pid}/fd"), key=int)
    ]
    files = [link for link in links if link.startswith("/")]

    log = str(rig.data / "logs" / "ada-server.log")
    assert sorted(files) == sorted(
        ["/dev/null", log, log, str(rig.spawner()._ledger.folder("ada-server").path / "lock")]
    )


async def test_what_is_written_down_is_for_the_hub_alone(rig, own) -> None:
    spawner = rig.spawner()
    handle = await spawner.start(own)
    folder = spawner._ledger.folder("ada-server")

    assert mode(rig.settings["runtime_dir"]) == mode(folder.path) == 0o700
    assert mode(folder.socket) == mode(folder.path / "lock") == 0o600
    assert mode(rig.data / "logs") == 0o700
    assert mode(rig.data / "logs" / "ada-server.log") == 0o600
    assert handle.url.startswith("http+unix://%2F")
    texts = b"".join(path.read_bytes() for path in folder.path.iterdir() if path.is_file())
    assert b"token-of-ada" not in texts
    await spawner.stop(own.ref)
    assert [path.name for path in folder.path.iterdir()] == ["lock"]


async def test_a_server_on_a_unix_socket_listens_from_its_first_moment(rig, own) -> None:
    spawner = rig.spawner()

    handle = await spawner.start(own)
    sighting = await spawner.look("ada-server")

    assert sighting.listening
    assert (await rig.environment(handle))["HIMALIA_LISTEN_FD"].isdigit()


@pytest.mark.parametrize("hidden", [[], ["hidden"]], ids=["with-cookie", "without-cookie-holding-the-lock"])
async def test_what_a_server_leaves_behind_is_gone_before_the_next_begins(rig, hidden) -> None:
    spawner = rig.spawner()
    spec = rig.told("parent", *hidden)
    handle = await spawner.start(spec)
    await eventually(lambda: spawner.logs("ada-server"), what="the child is up")
    [child] = [pid for pid in procfs.pids() if _parent(pid) == handle.state["pid"]]
    await rig.kill(handle)
    await eventually(lambda: procfs.running(handle.state["pid"], handle.state["start_ticks"]) is None)

    await spawner.start(rig.server(ref=ServerRef("ada-server", "8-1")))

    assert procfs.stat(child) is None or not procfs.stat(child).running


async def test_a_stop_ends_the_servers_children_too(rig) -> None:
    spawner = rig.spawner(kill_timeout_s=2)
    spec = rig.told("parent")
    await spawner.start(spec)
    await eventually(lambda: len(rig.processes()) == 2)
    await eventually(lambda: spawner.logs("ada-server"), what="the child is up")

    await spawner.stop(spec.ref)

    assert not rig.processes()


async def test_a_crash_ends_the_servers_children_without_being_asked(rig) -> None:
    spawner = rig.spawner()
    handle = await spawner.start(rig.told("parent"))
    await eventually(lambda: len(rig.processes()) == 2)

    await rig.kill(handle)

    await eventually(lambda: not rig.processes())


async def test_a_frozen_server_is_stopped_by_kill(rig) -> None:
    spawner = rig.spawner()
    handle = await spawner.start(rig.server())
    os.kill(handle.state["pid"], signal.SIGSTOP)

    await spawner.stop(handle.ref, grace_s=0.1)

    assert (await spawner.look("ada-server")).presence is Presence.ABSENT


async def test_a_record_whose_pid_is_a_strangers_now_is_never_signalled(rig) -> None:
    spawner = rig.spawner()
    stranger = rig.stranger("import time; time.sleep(60)")
    try:
        folder = spawner._ledger.folder("ada-server")
        os.close(folder.lock())
        old = Record(
            "ada-server", "7-1", "http://127.0.0.1:1", os.getuid(), (), procfs.boot_id(), 0, stranger.pid, 1
        )
        folder.write(old)

        assert (await spawner.look("ada-server")).presence is Presence.ABSENT
        await spawner.stop(old.ref, grace_s=0)

        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_server_from_before_a_reboot_is_absent_and_says_so(rig) -> None:
    spawner = rig.spawner()
    folder = spawner._ledger.folder("ada-server")
    os.close(folder.lock())
    me = procfs.stat(os.getpid())
    folder.write(
        Record(
            "ada-server", "7-1", "http://127.0.0.1:1", os.getuid(), (), "another boot", 0, me.pid, me.ticks
        )
    )

    sighting = await spawner.look("ada-server")

    assert sighting.presence is Presence.ABSENT
    assert "restarted" in sighting.exit.reason


async def test_a_damaged_record_does_not_hide_a_running_server(rig) -> None:
    spawner = rig.spawner()
    handle = await spawner.start(rig.server())
    (spawner._ledger.folder("ada-server").path / "record").write_text('{"name": "ada')

    sighting = await rig.spawner().look("ada-server")

    assert sighting.handle.ref == handle.ref
    assert sighting.handle.url == handle.url
    assert sighting.handle.state["pid"] == handle.state["pid"]


async def test_a_log_is_rotated_at_start_and_kept_within_bounds(rig, monkeypatch) -> None:
    monkeypatch.setattr("himalia_spawner.process._HOUSEKEEPING_S", 0.02)
    spawner = rig.spawner(log_max_bytes=10_000)
    log = rig.data / "logs" / "ada-server.log"
    await spawner.start(rig.told("crash", "first life"))
    await eventually(lambda: spawner.logs("ada-server"))

    async def ended() -> bool:  # else the stop interrupts its first words
        return (await spawner.look("ada-server")).presence is Presence.ABSENT

    await eventually(ended)
    await spawner.stop(rig.server().ref)
    keeper = asyncio.create_task(_drain(spawner))

    handle = await spawner.start(rig.told("chatter", "5000"))
    await rig.about(handle)

    assert log.with_name("ada-server.log.1").read_text() == "first life\n"
    await eventually(lambda: log.stat().st_size <= 10_000)

    async def goes_on() -> bool:
        os.kill(
            handle.state["pid"], signal.SIGUSR1
        )  # again and again: what is said during the cut may be lost
        return await spawner.logs("ada-server", 1) == ["once more"]

    await eventually(goes_on)
    kept = await spawner.logs("ada-server", 1000)
    assert len(kept) > 100
    assert all(re.fullmatch(r"line \d+|once more", line) for line in kept), "no line is cut in two"
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)


async def test_logs_are_given_without_control_characters(rig) -> None:
    spawner = rig.spawner()
    await spawner.start(rig.told("crash", "\x1b[31mred\x1b[0m \x07bell \x1b]0;title\x07end"))

    assert await eventually(lambda: spawner.logs("ada-server")) == ["red bell end"]


async def test_fifty_starts_and_stops_leave_no_descriptor_and_no_zombie(rig) -> None:
    spawner = rig.spawner()
    specs = [rig.server(ref=ServerRef(f"s{number}", "1")) for number in range(10)]
    await _cycle(spawner, specs)
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(4):
        await _cycle(spawner, specs)

    assert len(os.listdir("/proc/self/fd")) <= before  # fewer, where the collector closed somebody else's
    await eventually(lambda: not _zombies(), what="each server that ended was waited for")


async def test_a_cancelled_start_is_still_written_down(rig) -> None:
    spawner = rig.spawner()
    start = asyncio.create_task(spawner.start(rig.server()))
    await asyncio.sleep(0)
    start.cancel()

    await asyncio.gather(start, return_exceptions=True)

    await eventually(spawner.list)
    assert (await spawner.look("ada-server")).presence is Presence.PRESENT


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-command-anywhere",), "not found"),
        (("/etc/passwd",), "may not be run"),
        (("/",), "may not be run"),
    ],
)
async def test_a_command_that_can_not_run_is_refused_with_its_name(both, command, words) -> None:
    with pytest.raises(SpawnRefused, match=words) as caught:
        await both.spawner().start(both.server(command))

    assert command[0] in str(caught.value)


async def test_a_token_with_a_nul_is_refused_without_being_shown(rig) -> None:
    spec = replace(rig.server(), env={"JUPYTERHUB_API_TOKEN": "hunter2\0"})

    with pytest.raises(SpawnRefused, match="JUPYTERHUB_API_TOKEN") as caught:
        await rig.spawner().start(spec)

    assert "hunter2" not in str(caught.value)


def test_a_runtime_folder_open_to_others_is_refused(rig) -> None:
    (rig.root / "run").mkdir()
    (rig.root / "run").chmod(0o777)

    with pytest.raises(SpawnRefused, match="chmod 700"):
        rig.spawner()

    (rig.root / "run").chmod(0o700)


def test_a_runtime_folder_too_long_for_a_socket_is_refused(rig) -> None:
    settings = ProcessSettings(runtime_dir=rig.root / ("x" * 90))

    with pytest.raises(SpawnRefused, match="107"):
        ProcessSpawner(settings, hub_id="h", data_dir=rig.data)


async def test_two_hubs_of_one_account_do_not_see_each_others_servers(rig) -> None:
    await rig.spawner().start(rig.server())

    other = rig.spawner(runtime_dir=rig.root / "other")

    assert await other.list() == []
    assert (await other.look("ada-server")).presence is Presence.ABSENT
    await other.stop(rig.server().ref)
    assert len(await rig.spawner().list()) == 1


def _zombies() -> list[int]:
    """This process's children that have ended and that nobody has waited for."""
    mine = [pid for pid in procfs.pids() if _parent(pid) == os.getpid()]
    return [pid for pid in mine if (found := procfs.stat(pid)) and not found.running]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


async def _drain(spawner: ProcessSpawner) -> None:
    async for _ in spawner.watch():
        pass


async def _cycle(spawner: ProcessSpawner, specs: list) -> None:
    await asyncio.gather(*(spawner.start(spec) for spec in specs))
    await asyncio.gather(*(spawner.stop(spec.ref, grace_s=0) for spec in specs))
