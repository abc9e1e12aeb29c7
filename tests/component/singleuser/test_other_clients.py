"""Programs that speak to a Jupyter server, as they come from PyPI, drive ours; and so does a kernel that is no ipykernel."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from component.singleuser.conftest import TOKEN, Running
from component.singleuser.kernel_parts import Browser, Server, printed, running_server
from support import eventually

NBCLIENT = """
import functools, json, sys
import nbformat, websocket
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager
from nbclient import NotebookClient

url, token, path = sys.argv[1:]
gateway = GatewayClient.instance()
gateway.url, gateway.auth_token = url, token
# Its HTTP requests carry the token, its WebSocket does not.
header = [f"Authorization: token {token}"]
websocket.create_connection = functools.partial(websocket.create_connection, header=header)
notebook = nbformat.read(path, as_version=4)
NotebookClient(notebook, kernel_manager_class=GatewayKernelManager, timeout=120).execute()
print(json.dumps([cell["outputs"] for cell in notebook.cells]))
"""

KERNEL_CLIENT = """
import json, sys
from jupyter_kernel_client import KernelClient

url, token = sys.argv[1:]
with KernelClient(server_url=url, token=token) as kernel:
    told = [kernel.execute("x = 6 * 7\\nprint('from', x)\\nx"), kernel.execute("1 / 0")]
    kernel.restart()
    told.append(kernel.execute("print('x' in globals())"))
print(json.dumps(told))
"""


async def run(script: str, *words: str) -> Any:
    """What a program of somebody else's prints as JSON; in a process of its own, as people run it."""
    command = (sys.executable, "-c", script, *words)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, problems = await asyncio.wait_for(process.communicate(), 150)
    assert process.returncode == 0, problems.decode()
    return json.loads(out)


async def nothing_is_left(server: Running) -> None:
    async def none() -> bool:
        return (await server.ask("GET", "api/kernels"))[1] == []

    await eventually(none)


async def test_nbclient_runs_a_notebook_on_a_kernel_of_this_server(server: Running) -> None:
    cells = [
        {
            "cell_type": "code",
            "id": name,
            "source": code,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
        for name, code in (("a", "x = 6 * 7\nprint(x)"), ("b", "x"))
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = server.home / "work.ipynb"
    notebook.write_text(
        json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
    )

    first, second = await run(NBCLIENT, server.origin, TOKEN, str(notebook))

    assert first == [{"output_type": "stream", "name": "stdout", "text": "42\n"}]
    assert second[0]["data"] == {"text/plain": "42"}
    await nothing_is_left(server)


async def test_jupyter_kernel_client_executes_fails_and_restarts(server: Running) -> None:
    good, bad, after = await run(KERNEL_CLIENT, server.origin, TOKEN)

    assert (good["status"], good["execution_count"]) == ("ok", 1)
    assert [one.get("text") or one["data"] for one in good["outputs"]] == ["from 42\n", {"text/plain": "42"}]
    assert (bad["status"], bad["outputs"][0]["ename"]) == ("error", "ZeroDivisionError")
    assert after["outputs"][0]["text"] == "False\n"
    await nothing_is_left(server)


@pytest.fixture
async def bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server beside whose Python kernel bash_kernel is installed."""
    spec = tmp_path / "share/kernels/bash"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]
    about = {"argv": argv, "display_name": "Bash", "language": "bash", "env": {"PS1": "$"}}
    (spec / "kernel.json").write_text(json.dumps(about))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    async with running_server(tmp_path) as server:
        yield server


async def bash_page(server: Server) -> tuple[str, Browser]:
    kernel_id = await server.new_kernel(name="bash")
    return kernel_id, await server.browser(kernel_id)


async def test_a_shell_as_a_kernel_keeps_its_state_and_says_what_it_is(bash: Server) -> None:
    _, specs = await bash.ask("GET", "api/kernelspecs")
    assert sorted(specs["kernelspecs"]) == ["bash", "python3"]
    _, page = await bash_page(bash)

    info = await page.reply(await page.send("kernel_info_request", {}))

    assert info.content["language_info"]["name"] == "bash"
    assert await page.printed("word=hello; cd /tmp") == ""
    assert await page.printed("echo $word from $PWD") == "hello from /tmp\n"
    reply = [
        one for one in await page.run("exit_badly() { return 3; }; exit_badly") if one.type == "execute_reply"
    ]
    assert reply[0].content["status"] == "error"


async def test_a_shell_as_a_kernel_is_interrupted_and_restarted(bash: Server) -> None:
    kernel_id, page = await bash_page(bash)
    await page.printed("word=hello")
    request = await page.execute("echo begun; sleep 100")
    await page.until(lambda got: got.type == "stream" and "begun" in got.content["text"])

    assert (await bash.ask("POST", f"api/kernels/{kernel_id}/interrupt"))[0] == 204
    await page.finished(request)
    assert await page.printed("echo $word") == "hello\n", "interrupted, not ended"

    assert (await bash.ask("POST", f"api/kernels/{kernel_id}/restart"))[0] == 200
    again = await bash.browser(kernel_id)
    assert printed(await again.run("echo [$word]")) == "[]\n"
