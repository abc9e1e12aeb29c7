"""A start that cannot succeed ends at once, with its cause and the server's last words; and anyone can go on."""

from __future__ import annotations

import json
import sys

from hubs import Launch
from support import eventually


def command(code: str, *, start_timeout_s: float = 60) -> str:
    """Configuration that runs this Python as everyone's server."""
    return f"[spawner]\nstart_timeout_s = {start_timeout_s}\ncommand = {json.dumps([sys.executable, '-c', code])}\n"


SILENT = "import time\nprint('I only sleep', flush=True)\nwhile True: time.sleep(1)"


async def test_a_server_that_dies_at_once_fails_with_its_last_words(launch: Launch) -> None:
    _, admin = await launch(command("print('no such dataset'); raise SystemExit(3)"))

    status, body = await admin.call("POST", "/users/root/server")

    assert status == 500
    assert "ended while starting" in body["message"]
    model = await admin.server("root")
    assert (model["ready"], model["pending"], model["stopped"]) == (False, None, True)
    status, stream = await admin.call("GET", "/users/root/server/progress")
    assert status == 200
    assert '"failed": true' in stream


async def test_a_command_that_does_not_exist_is_refused_by_name(launch: Launch) -> None:
    _, admin = await launch('[spawner]\ncommand = ["/nonexistent/lab"]\n')

    status, body = await admin.call("POST", "/users/root/server")

    assert status == 500
    assert "/nonexistent/lab" in body["message"]


async def test_a_server_that_never_answers_is_stopped_after_its_time(launch: Launch) -> None:
    hub, admin = await launch(command(SILENT, start_timeout_s=3))

    status, body = await admin.call("POST", "/users/root/server")

    assert status == 500, body
    assert "did not answer within 3 seconds" in body["message"]
    await eventually(lambda: hub.processes() == [])


async def test_a_start_under_way_can_be_stopped_and_leaves_nothing(launch: Launch) -> None:
    hub, admin = await launch(command(SILENT) + "stop_grace_s = 1\n[servers]\nslow_start_s = 0\n")
    assert (await admin.call("POST", "/users/root/server"))[0] == 202
    await eventually(lambda: len(hub.processes()) == 1)

    status, body = await admin.call("DELETE", "/users/root/server")

    assert status == 204, body
    assert hub.processes() == []
    assert (await admin.server("root"))["stopped"]


async def test_a_failed_server_can_be_started_again(launch: Launch) -> None:
    once = "import pathlib, runpy, sys\nmark = pathlib.Path('mark')\n"
    once += "if not mark.exists(): mark.touch(); raise SystemExit('first time')\n"
    once += "sys.argv = ['himalia_singleuser']\nrunpy.run_module('himalia_singleuser', run_name='__main__')"
    _, admin = await launch(f"[spawner]\ncommand = {json.dumps([sys.executable, '-c', once])}\n")
    assert (await admin.call("POST", "/users/root/server"))[0] == 500

    status, body = await admin.call("POST", "/users/root/server")

    assert status == 201, body
    assert (await admin.call("DELETE", "/users/root/server"))[0] == 204


async def test_a_home_that_breaks_a_server_breaks_none_in_safe_mode(launch: Launch) -> None:
    """Starting as usual again leaves safe mode."""
    code = "import os, pathlib, runpy, sys\nhome = pathlib.Path(os.environ['HOME'])\n"
    code += "if not home.name.startswith('himalia-safe-') and 'HIMALIA_SAFE_MODE' not in os.environ:\n"
    code += "    raise SystemExit(f'{home}: No space left on device')\n"
    code += "sys.argv = ['himalia_singleuser']\nrunpy.run_module('himalia_singleuser', run_name='__main__')"
    _, admin = await launch(f"[spawner]\ncommand = {json.dumps([sys.executable, '-c', code])}\n")
    assert (await admin.call("POST", "/users/root/server"))[0] == 500

    headers = {**admin.headers, "X-Himalia-Safe-Mode": "1"}
    async with admin.session.post(f"{admin.hub.api}/users/root/server", headers=headers) as answer:
        assert answer.status == 201, await answer.text()

    assert (await admin.call("DELETE", "/users/root/server"))[0] == 204
    assert (await admin.call("POST", "/users/root/server"))[0] == 500
