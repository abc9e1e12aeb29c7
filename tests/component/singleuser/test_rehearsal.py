"""The rehearsal before a server has its person: it works, nothing of it stays, and it leaves a server little to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LEAVES = """
import json, os, sys
from himalia_singleuser import warm

def state():
    return {
        "cwd": os.getcwd(),
        "files": sorted(os.readlink(f"/proc/self/fd/{n}") for n in ("0", "1", "2")) + [len(os.listdir("/proc/self/fd"))],
        "threads": len(os.listdir("/proc/self/task")),
        "environment": dict(os.environ),
    }

hook = getattr(warm, sys.argv[1])
hook()  # libuv makes one pipe for signals in a process, at its first loop, and keeps it
before = state()
hook()
print(json.dumps([before, state()]))
"""

LIVES = """
import asyncio, json, os, signal, socket, sys
from pathlib import Path
from himalia_singleuser import rehearsal, warm
from himalia_singleuser.__main__ import main

warm.prepare()
known = set(sys.modules)
listener, hub_socket = socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0))
listener.bind("own")
listener.listen()
if (child := os.fork()) == 0:
    os.environ.update(rehearsal._environment(Path.cwd()))
    os.environ["JUPYTERHUB_API_URL"] = f"http://127.0.0.1:{hub_socket.getsockname()[1]}/hub/api"
    os.environ["JUPYTERHUB_ACTIVITY_URL"] = os.environ["JUPYTERHUB_API_URL"] + "/users/rehearsal/activity"
    os.environ["HIMALIA_LISTEN_FD"] = str(listener.detach())
    hub_socket.close()
    main([])
    print(json.dumps(sorted(set(sys.modules) - known)), flush=True)
    os._exit(0)

async def others():
    hub = rehearsal._Hub()
    async with asyncio.timeout(90), await asyncio.start_server(hub.answer, sock=hub_socket):
        await rehearsal._ask("own")
        await hub.heard.wait()
        os.kill(child, signal.SIGTERM)
        await asyncio.to_thread(os.waitpid, child, 0)

listener.close()
asyncio.run(others())
"""
"""A server forked from a prepared parent answers a request, reports to its hub at an address, and ends."""


def run(folder: Path, program: str, *args: str) -> tuple[str, str]:
    """What this program prints and logs, in this folder and an interpreter of its own in which warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", program, *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("hook", ["prepare", "rehearse"])
def test_a_rehearsal_leaves_no_thread_no_file_and_the_process_where_it_was(hook: str, tmp_path: Path) -> None:
    said, logged = run(tmp_path, LEAVES, hook)

    before, after = json.loads(said)
    assert after == before
    assert logged == ""
    assert before["threads"] == 1


def test_an_idle_server_imports_nothing_that_its_parent_had_not(tmp_path: Path) -> None:
    said, logged = run(tmp_path, LIVES)

    assert json.loads(said) == [], "add them to himalia_singleuser.warm: each server pays for its own imports"
    assert "Traceback" not in logged
