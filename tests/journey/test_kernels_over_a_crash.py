"""A server behind our hub is killed: its kernels wait for the next start, and for nothing else."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from component.singleuser.kernel_parts import Browser
from component.singleuser.recorded_parts import NOTEBOOK, cell, notebook_of, text_of
from himalia_singleuser.kernels.framing import V1
from hubs import Client, Hub, Launch
from support import eventually

PRINTING = """
import pathlib, time
number = 0
while not pathlib.Path('go').exists():
    number += 1
    print(number, flush=True)
    time.sleep(0.02)
print('ended')
"""


class Person:
    """Somebody with a server, who speaks to it through the proxy."""

    def __init__(self, hub: Hub, admin: Client, name: str) -> None:
        self.hub, self.admin, self.name = hub, admin, name
        self.token = hub.token(name)
        self.home = hub.data / "homes" / name

    async def start(self) -> None:
        status, body = await self.admin.call("POST", f"/users/{self.name}/server")
        assert status in (201, 202), body

        async def ready() -> bool:
            return bool((await self.admin.server(self.name))["ready"])

        await eventually(ready, within_s=60)

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        headers = {"Authorization": f"token {self.token}"}
        url = f"{self.hub.url}/user/{self.name}/{path}"
        async with self.admin.session.request(method, url, headers=headers, **more) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def browser(self, kernel: str) -> Browser:
        session = uuid.uuid4().hex
        url = f"{self.hub.url}/user/{self.name}/api/kernels/{kernel}/channels?session_id={session}"
        headers = {"Authorization": f"token {self.token}"}
        socket = await self.admin.session.ws_connect(url, headers=headers, protocols=(V1,), max_msg_size=0)
        return Browser(socket, session, v1=True)

    async def begin(self) -> str:
        """A notebook with a cell that runs; the id of its kernel."""
        await self.start()
        content = notebook_of(cell("a", PRINTING))
        body = {"type": "notebook", "format": "json", "content": content}
        await self.ask("PUT", f"api/contents/{NOTEBOOK}", json=body)
        wanted = {"path": NOTEBOOK, "name": NOTEBOOK, "type": "notebook", "kernel": {"name": "python3"}}
        kernel = str((await self.ask("POST", "api/sessions", json=wanted))["kernel"]["id"])
        page = await self.browser(kernel)
        await page.run("kept = 41")
        await page.execute(PRINTING, cell="a")
        await page.until(lambda got: got.type == "stream" and "5\n" in got.content["text"])
        await page.close()
        return kernel

    def processes(self, word: bytes = b"") -> set[int]:
        """All that runs for this person, or what has this word in its command."""
        mine = {pid for pid, _ in self.hub.processes() if _home(pid) == str(self.home)}
        return {pid for pid in mine if word in _command(pid)}

    async def crash(self) -> None:
        """SIGKILL the server alone, and wait until the hub has recorded it."""
        self.kill()
        await eventually(self.failed, within_s=60)

    def kill(self) -> None:
        """SIGKILL the server alone."""
        (server,) = self.processes(b"himalia_singleuser\0")
        os.kill(server, signal.SIGKILL)

    async def failed(self) -> bool:
        return bool((await self.admin.server(self.name))["stopped"])


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _home(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((word[5:].decode() for word in words if word.startswith(b"HOME=")), "")


@pytest.mark.parametrize("hub_dies", [False, True], ids=["hub-lives", "hub-killed-too"])
async def test_kernel_variables_and_outputs_are_there_after_the_next_start(
    launch: Launch, hub_dies: bool
) -> None:
    hub, admin = await launch()
    root = Person(hub, admin, "root")
    kernel = await root.begin()
    (process,) = root.processes(b"ipykernel")
    if hub_dies:
        hub.kill()
        root.kill()
        await hub.start()
        await eventually(root.failed, within_s=60)
    else:
        await root.crash()
    _, story = await admin.call("GET", "/users/root/server/progress")
    assert "SIGKILL" in story or "not known" in story
    assert process in root.processes()

    await root.start()

    (session,) = await root.ask("GET", "api/sessions")
    assert (session["path"], session["kernel"]["id"]) == (NOTEBOOK, kernel)
    (root.home / "go").touch()

    async def complete() -> bool:
        shown = (await root.ask("GET", f"api/contents/{NOTEBOOK}?content=1"))["content"]
        lines = text_of(shown, "a").splitlines()
        return lines[-1:] == ["ended"] and lines[:-1] == [str(n) for n in range(1, len(lines))]

    await eventually(complete, within_s=60, what="every line is there, once and in order")
    page = await root.browser(kernel)
    assert await page.printed("print(kept + 1)") == "42\n"
    await page.close()
    assert root.processes(b"ipykernel") == {process}, "no kernel was started anew"
    assert (await admin.call("DELETE", "/users/root/server"))[0] in (202, 204)
    await eventually(lambda: not hub.processes(), within_s=60)


async def test_whatever_ends_a_server_for_good_ends_what_waits_and_nothing_else(launch: Launch) -> None:
    """A stop, a suspension, a deletion of its person, an orderly end of the hub."""
    hub, admin = await launch()
    assert (await admin.call("POST", "/users", json={"usernames": ["ada", "bob", "cid"]}))[0] == 201
    ada, bob, cid, root = (Person(hub, admin, name) for name in ("ada", "bob", "cid", "root"))
    for person in (ada, bob, cid, root):
        await person.start()
        await person.ask("POST", "api/kernels", json={})
        await person.crash()
        await eventually(
            lambda person=person: len(person.processes()) == 2, within_s=60, what="keeper and kernel wait"
        )
    for person, method, path in (
        (ada, "DELETE", "/users/ada/server"),
        (bob, "PUT", "/users/bob/suspension"),
        (cid, "DELETE", "/users/cid"),
    ):
        waiting = len(hub.processes())
        status, body = await admin.call(method, path)
        assert status in (202, 204), body
        await eventually(lambda person=person: not person.processes(), within_s=60, what=f"{method} {path}")
        assert len(hub.processes()) == waiting - 2

    await hub.stop()

    assert hub.processes() == []


async def test_nobody_waits_longer_than_was_allowed(launch: Launch) -> None:
    hub, admin = await launch("[spawner.process]\nkeep_kernels_s = 2\n")
    root = Person(hub, admin, "root")
    await root.begin()
    await root.crash()

    await eventually(lambda: not hub.processes(), within_s=60, what="also a kernel that computes is ended")
    await root.start()
    assert await root.ask("GET", "api/kernels") == []
