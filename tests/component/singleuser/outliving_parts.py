"""A notebook whose server is killed: its cells, its processes, what it shows afterwards."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from component.singleuser.conftest import TOKEN, Running
from component.singleuser.kernel_parts import Browser
from component.singleuser.recorded_parts import cell, notebook_of, text_of
from himalia_singleuser.kernels.framing import V1
from support import eventually

NOTEBOOK = "work.ipynb"
PRINTING = """
import pathlib, time
print('begun', flush=True)
number = 0
while not pathlib.Path('go').exists():
    number += 1
    print(number, flush=True)
    time.sleep(0.02)
print('ended')
"""


BURST = """
import pathlib, time
from IPython.display import display
print('begun', flush=True)
while not pathlib.Path('go').exists():
    time.sleep(0.02)
for number in range(900):
    display(number)
print('ended')
"""
"""Fewer than a kernel holds for a subscriber (ZMQ's high-water mark), who may have to wait for a processor."""


def processes(tmp_path: Path) -> list[int]:
    """All processes with this test's home, the keeper and the kernels."""
    home = f"HOME={tmp_path / 'home'}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdecimal() and home in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def keeper_of(tmp_path: Path) -> int:
    return next(pid for pid in processes(tmp_path) if b"himalia_singleuser.keeper" in command(pid))


def command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def bytes_of(file: Path) -> bytes:
    """Of a file that its writer may take away at any moment."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


async def browser(server: Running, kernel_id: str, session: str = "") -> Browser:
    session = session or uuid.uuid4().hex
    socket = await server.http.ws_connect(
        server.url(f"api/kernels/{kernel_id}/channels").update_query(session_id=session, token=TOKEN),
        protocols=(V1,),
        max_msg_size=0,
    )
    return Browser(socket, session, v1=True)


async def opened(server: Running, code: str = PRINTING) -> tuple[str, Browser]:
    """A saved notebook with its kernel; the kernel's id."""
    content = notebook_of(cell("a", code), cell("b", "print('next')"))
    body = {"type": "notebook", "format": "json", "content": content}
    assert (await server.ask("PUT", f"api/contents/{NOTEBOOK}", json=body))[0] in {200, 201}
    wanted = {"path": NOTEBOOK, "name": NOTEBOOK, "type": "notebook", "kernel": {"name": "python3"}}
    status, session, _ = await server.ask("POST", "api/sessions", json=wanted)
    assert status == 201, session
    return session["kernel"]["id"], await browser(server, session["kernel"]["id"])


async def killed(server: Running) -> None:
    server.process.kill()
    await server.process.wait()


async def shown(server: Running) -> dict[str, Any]:
    status, model, _ = await server.ask("GET", f"api/contents/{NOTEBOOK}?content=1")
    assert status == 200, model
    return dict(model["content"])


async def ended(server: Running, cell_id: str = "a", last: str = "ended\n") -> str:
    """The outputs of the cell once its last line is there."""

    async def there() -> str:
        text = text_of(await shown(server), cell_id)
        return text if text.endswith(last) else ""

    return await eventually(there, within_s=30)


def complete(text: str) -> bool:
    lines = text.splitlines()
    numbers = [int(line) for line in lines[1:-1]]
    return (lines[0], lines[-1]) == ("begun", "ended") and numbers == list(range(1, len(numbers) + 1))


def number_in(got: Any, least: int) -> bool:
    last = got.content.get("text", "").split()[-1:] if got.type == "stream" else []
    return bool(last and last[0].isdecimal() and int(last[0]) >= least)
