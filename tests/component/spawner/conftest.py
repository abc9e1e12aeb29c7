"""A process spawner over short temporary folders, restarted at will, and nothing left afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp
import pytest

import machine
from himalia_spawner import launch, nest_client, procfs, searching
from himalia_spawner.base import Handle, ServerRef, ServerSpec
from himalia_spawner.contract import WORDS, Kind
from himalia_spawner.process import ProcessSpawner
from himalia_spawner.settings import ProcessSettings
from support import eventually

SCRIPT = str(Path(__file__).with_name("server_for_tests.py"))
HUB_ID = "tests"
REF = ServerRef("ada-server", "7-1")


def command(what: str, *args: str) -> tuple[str, ...]:
    return (sys.executable, "-I", SCRIPT, what, *args)


OWN = (sys.executable, "-I", SCRIPT)
FORKED = "server_for_tests:forked"

COMMANDS = {
    Kind.SERVES: command("serve"),
    Kind.CRASHES: command("crash", WORDS),
    Kind.STUBBORN: command("stubborn"),
    Kind.REFUSED: ("no-such-command-anywhere",),
}


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small server in place of our own, as a command and in the nest."""
    monkeypatch.setattr(launch, "OWN_COMMAND", OWN)
    monkeypatch.setattr(launch, "OWN_ENTRY", FORKED)
    monkeypatch.setattr(nest_client, "EXTRA_PATH", (str(Path(__file__).parent),))


class ProcessRig:
    """Makes spawners over one set of folders and ends everything with the test."""

    hub_id = HUB_ID
    own = OWN
    forked = FORKED
    stand_in = staticmethod(stand_in)

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hs-", dir="/tmp"))
        self.data = self.root / "data"
        self.settings: dict[str, object] = {
            "runtime_dir": self.root / "run",
            "interrupt_timeout_s": 3,
            "preload": ["server_for_tests"],
            "isolation": "exec",
        }
        self.made: list[ProcessSpawner] = []
        self._disks = ExitStack()

    def disk(self, place: str, size: str, *, inodes: int = 0) -> machine.Disk:
        """A small file system of its own at a folder below the root, until the test ends."""
        return self._disks.enter_context(machine.small_disk(self.root / place, size, inodes=inodes))

    def spawner(self, fault: Callable[[str], None] | None = None, **settings: object) -> ProcessSpawner:
        extra = {"fault": fault} if fault else {}
        chosen = ProcessSettings.model_validate(self.settings | settings)
        spawner = ProcessSpawner(chosen, hub_id=HUB_ID, data_dir=self.data, **extra)
        self.made.append(spawner)
        return spawner

    def spec(self, kind: Kind, ref: ServerRef, username: str, server_name: str) -> ServerSpec:
        return self.server(COMMANDS[kind], ref, username, server_name)

    def server(
        self,
        command: tuple[str, ...] = COMMANDS[Kind.SERVES],
        ref: ServerRef = REF,
        username: str = "ada",
        server_name: str = "",
    ) -> ServerSpec:
        env = {"JUPYTERHUB_API_TOKEN": "token-of-ada", "JUPYTERHUB_USER": username, "EMPTY": ""}
        return ServerSpec(ref, username, server_name, "/user/ada/", env, command)

    @staticmethod
    def stranger(code: str) -> subprocess.Popen[bytes]:
        """A process that is none of ours."""
        return subprocess.Popen([sys.executable, "-I", "-c", code])

    def told(self, what: str, *args: str) -> ServerSpec:
        """A server of that sort, see server_for_tests.py."""
        return self.server((*self.server().command[:-1], what, *args))

    async def about(self, handle: Handle) -> dict[str, object]:
        """What the server says of itself, as soon as it answers."""
        parts = urlsplit(handle.url)
        unix = parts.scheme == "http+unix"
        url = "http://server/" if unix else handle.url + "/"

        async def ask() -> dict[str, object] | None:
            connector = aiohttp.UnixConnector(unquote(parts.netloc)) if unix else aiohttp.TCPConnector()
            try:
                async with aiohttp.ClientSession(connector=connector) as http, http.get(url) as answer:
                    return json.loads(await answer.read())
            except aiohttp.ClientError:
                return None

        found = await eventually(ask, what=f"an answer from {handle.url}")
        assert found is not None
        return found

    async def environment(self, handle: Handle) -> Mapping[str, str]:
        return (await self.about(handle))["env"]  # type: ignore[return-value]

    async def kill(self, handle: Handle) -> None:
        os.kill(handle.state["pid"], signal.SIGKILL)

    @property
    def hub(self) -> str:
        return self.spawner()._hub

    def processes(self, *, leaders: bool = False) -> list[searching.Found]:
        """Everything alive that carries this rig's cookie."""
        return searching.carriers(self.hub, leaders=leaders)

    def nests(self) -> list[int]:
        """Numbers of the nests that run."""
        return [pid for pid in self._of_nests() if (found := procfs.stat(pid)) and found.session == pid]

    def spares(self) -> list[int]:
        """Numbers of the children that wait for a plan."""
        return [pid for pid in self._of_nests() if (found := procfs.stat(pid)) and found.session != pid]

    async def without_spare(self) -> None:
        """The next start needs a fork."""
        (spare,) = await eventually(self.spares)
        os.kill(spare, signal.SIGKILL)
        await eventually(lambda: procfs.stat(spare) is None, what="the nest has let go of it")

    def _of_nests(self) -> list[int]:
        return [
            pid
            for pid in procfs.pids()
            if (words := procfs.command_of(pid))
            and {"himalia_spawner.nest", "himalia_spawner.commands"} & set(words)
            and str(self.root) in " ".join(words)
            and (found := procfs.stat(pid))
            and found.running
        ]

    async def end(self) -> None:
        last = self.spawner()
        for found in self.processes():
            os.kill(found.pid, signal.SIGKILL)
        await eventually(lambda: not self.processes())
        for handle in await last.list():
            await last.stop(handle.ref, grace_s=0)
        for spawner in self.made:
            await spawner.close()
        _reap_children()
        await eventually(lambda: not self._of_nests(), what="every nest ends with its last hub and server")
        self._disks.close()
        shutil.rmtree(self.root)
        _reap_children()


def _reap_children() -> None:
    """Children of spawners that were closed while their server ran are this process's zombies."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


class WarmRig(ProcessRig):
    """The servers of the suite as children of the nest."""

    def __init__(self) -> None:
        super().__init__()
        self.settings["isolation"] = "fork"

    def spec(self, kind: Kind, ref: ServerRef, username: str, server_name: str) -> ServerSpec:
        if kind is Kind.REFUSED:
            return super().spec(kind, ref, username, server_name)
        args = COMMANDS[kind][len(OWN) :]
        return replace(self.server((), ref, username, server_name), args=args)


@pytest.fixture
async def warm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WarmRig]:
    stand_in(monkeypatch)
    rig = WarmRig()
    try:
        yield rig
    finally:
        await rig.end()
        await asyncio.sleep(0)


@pytest.fixture
async def rig() -> AsyncIterator[ProcessRig]:
    rig = ProcessRig()
    try:
        yield rig
    finally:
        await rig.end()
        await asyncio.sleep(0)


@pytest.fixture(params=["nest", "fresh"])
def both(rig, request):
    """Programs as the nest of commands executes them, and as fresh interpreters do."""
    rig.settings["isolation"] = "fork" if request.param == "nest" else "exec"
    return rig


@pytest.fixture(params=["fork", "exec"])
def own(rig, monkeypatch, request):
    """A spec without a command: our own server, here a small stand-in."""
    rig.stand_in(monkeypatch)
    rig.settings["isolation"] = request.param
    return replace(rig.server(), command=())


@pytest.fixture
def as_root():
    assert os.geteuid() == 0, "system accounts can only be tested as root; run these tests as root"


@pytest.fixture
def account(as_root):
    name = f"himalia{os.getpid()}"  # of this run alone
    subprocess.run(["useradd", "--create-home", "--user-group", "--groups", "users", name], check=True)
    yield name
    subprocess.run(["userdel", "--remove", "--force", name], check=True, capture_output=True)
