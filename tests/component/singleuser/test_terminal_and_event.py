"""Terminals on real shells, and the events socket."""

from __future__ import annotations

import asyncio
import json
import os
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from component.singleuser.kernel_parts import running_server
from himalia_singleuser.terminals.pool import TERMINALS
from support import eventually

CONTENTS = "https://events.jupyter.org/jupyter_server/contents_service/v1"
KERNELS = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"


@pytest.fixture(autouse=True)
def a_person_without_a_profile(tmp_path, monkeypatch):
    """Login shells read what stands in the home, and these are killed in the middle of it: on a machine whose profile
    takes a lock, such as a version manager's, the next shell would wait a minute for it.
    """
    (tmp_path / "person").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    monkeypatch.setenv("SHELL", "/bin/bash")


@pytest.fixture
async def server(tmp_path):
    async with running_server(tmp_path) as running:
        yield running


class Tab:
    """A browser tab on a terminal; `text` is all it shows."""

    def __init__(self, socket):
        self.socket, self._pieces, self.ended = socket, [], False

    @property
    def text(self):
        self._pieces[:] = ["".join(self._pieces)]
        return self._pieces[0]

    async def type(self, text):
        await self.socket.send_json(["stdin", text])

    async def until(self, wanted, *, within_s=30):
        # Only what is new is searched, and nothing is copied: megabytes come in thousands of small frames, and
        # looking through all of them at each made this side the slow one, not the server that is tested.
        new = self.text
        async with asyncio.timeout(within_s):
            while wanted not in new:
                kind, what = await self.read()
                new = new[-len(wanted) :] + (what if kind == "stdout" else "")

    async def matching(self, pattern, *, within_s=30):
        async with asyncio.timeout(within_s):
            while not re.search(pattern, self.text):
                await self.read()

    async def read(self):
        raw = await self.socket.receive()
        if raw.type is not WSMsgType.TEXT:
            raise ConnectionError(raw.type)
        kind, what = json.loads(raw.data)
        if kind == "stdout":
            self._pieces.append(what)
        self.ended = self.ended or kind == "disconnect"
        return kind, what


async def open_tab(server, name="1"):
    tab = Tab(await server.http.ws_connect(f"{server.url}terminals/websocket/{name}"))
    assert await tab.read() == ("setup", {})
    return tab


async def new_tab(server, **body):
    status, model = await server.ask("POST", "api/terminals", json=body)
    assert status == 200
    return await open_tab(server, model["name"])


async def test_a_shell_echoes_in_the_folder_asked_for(server):
    (server.root / "sub").mkdir()
    tab = await new_tab(server, cwd="sub")
    await tab.type("echo at:$PWD:$TERM:$JUPYTER_SERVER_ROOT:\r")
    await tab.until(f"at:{server.root}/sub:xterm-256color:{server.root}:")


async def test_a_shell_starts_with_the_size_of_its_own_terminal_not_of_the_servers(tmp_path):
    environ = {"PATH": os.environ["PATH"], "SHELL": "/bin/sh", "COLUMNS": "7", "LINES": "3"}
    async with running_server(tmp_path, environ=environ) as server:
        tab = await new_tab(server)
        await tab.type("echo is:$COLUMNS:$LINES:; stty size\r")
        await tab.until("is:80:24:")
        await tab.until("24 80")


async def test_both_tabs_see_the_output_and_a_late_one_what_came_before(server):
    first = await new_tab(server)
    await first.type("echo fi''rst\r")
    await first.until("first\r\n")
    second = await open_tab(server)
    await second.until("first\r\n")
    await second.type("echo sec''ond\r")
    await first.until("second\r\n")


async def test_the_smallest_tab_decides_the_size_until_it_leaves(server):
    large, small = await new_tab(server), await open_tab(server)
    await large.socket.send_json(["set_size", 50, 120, 0, 0])
    await small.socket.send_json(["set_size", 30, 100, 0, 0])
    await small.type("stty size\r")
    await small.until("30 100")
    await small.socket.close()
    await eventually(lambda: len(server.app[TERMINALS].get("1")._tabs) == 1)
    await large.type("stty size\r")
    await large.until("50 120")


async def test_the_end_of_the_shell_is_told_and_the_terminal_is_gone(server):
    tab = await new_tab(server)
    await tab.type("exit\r")
    with pytest.raises(ConnectionError):
        await tab.until("never")
    assert tab.ended
    assert await server.ask("GET", "api/terminals") == (200, [])


async def test_a_character_split_over_two_writes_arrives_whole(server):
    tab = await new_tab(server)
    await tab.type(r"stty -echo; printf '\342\202'; read -t 0.2; printf '\254uro\n'" + "\r")
    await tab.until("€uro")


async def test_a_deleted_terminal_takes_even_a_stubborn_shell_with_it(server):
    tab = await new_tab(server)
    await tab.type("trap '' HUP INT TERM; echo re''ady\r")
    await tab.until("ready")
    pid = server.app[TERMINALS].get("1").pid
    assert (await server.ask("DELETE", "api/terminals/1"))[0] == 204
    assert not os.path.exists(f"/proc/{pid}")
    assert (await server.ask("DELETE", "api/terminals/1"))[0] == 404


async def test_a_stopping_server_leaves_nothing_that_was_started_in_a_terminal(tmp_path):
    async with running_server(tmp_path) as server:
        tab = await new_tab(server)
        await tab.type("nohup sleep 300 >/dev/null 2>&1 & echo pid=$!=\r")
        await tab.matching(r"pid=\d+=\r\n")
        child = re.search(r"pid=(\d+)=", tab.text)[1]
    await eventually(lambda: not os.path.exists(f"/proc/{child}"))


async def test_no_descriptor_of_the_server_reaches_the_shell(server, tmp_path):
    with open(tmp_path / "leak", "w") as leak:
        os.set_inheritable(leak.fileno(), True)
        tab = await new_tab(server)
    await tab.type("ls -l /proc/self/fd | grep -c le''ak; echo do''ne\r")
    await tab.until("done\r\n")
    assert "0\r\ndone" in tab.text.replace("\x1b[?2004l\r", "")


async def test_endless_output_waits_for_its_only_reader_and_still_obeys_control_c(server):
    tab = await new_tab(server)
    terminal = server.app[TERMINALS].get("1")
    tab.socket._response.connection.transport.pause_reading()
    await tab.type("yes\r")
    await eventually(lambda: not terminal._pty._reading)
    assert sum(one.waiting for one in terminal._tabs) < 1024 * 1024
    tab.socket._response.connection.transport.resume_reading()
    await tab.type("\x03")
    # Control-C flushes what is typed around it (termios, NOFLSH): it may take the next words along, or their first
    # half. So no quotes in them: one that is left over would open a text that no later word ends.
    async with asyncio.timeout(60):
        while True:
            await tab.type("echo st\\opped\r")
            with suppress(TimeoutError):
                await tab.until("stopped\r\n", within_s=5)
                break


async def test_a_large_paste_arrives_whole(server):
    tab = await new_tab(server)
    await tab.type("stty raw -echo; echo re''ady; head -c 1000000 | wc -c; stty sane; echo do''ne\r")
    await tab.until("ready")  # not what the shell echoes: until then it takes lines, and none of this length
    await tab.type("x" * 1_000_000)
    await tab.until("1000000")


@pytest.mark.parametrize("frame", ["nonsense", "{}", "[]", '["stdin"]', '["stdin", 3]', '["launch", 1]'])
async def test_a_frame_that_means_nothing_closes_its_own_tab_only(server, frame):
    good, bad = await new_tab(server), await open_tab(server)
    await bad.socket.send_str(frame)
    with pytest.raises(ConnectionError):
        await bad.until("never")
    assert bad.socket.close_code == 1007
    await good.type("echo al''ive\r")
    await good.until("alive")


async def test_a_tab_that_measures_nothing_keeps_its_terminal(server):
    tab = await new_tab(server)
    await tab.socket.send_json(["set_size", None, None, 0, 0])
    await tab.type("echo al''ive\r")
    await tab.until("alive")


async def test_a_terminal_that_shows_and_takes_nothing_is_culled(server):
    await new_tab(server)
    pool = server.app[TERMINALS]
    now = datetime.now(UTC)
    assert await pool.cull_once(now, 60) == []
    assert await pool.cull_once(now + timedelta(seconds=120), 60) == ["1"]
    assert await server.ask("GET", "api/terminals") == (200, [])


async def test_names_are_counted_and_a_taken_or_strange_one_is_refused(server):
    assert (await server.ask("POST", "api/terminals"))[1]["name"] == "1"
    assert (await server.ask("POST", "api/terminals"))[1]["name"] == "2"
    assert (await server.ask("POST", "api/terminals", json={"name": "2"}))[0] == 409
    assert (await server.ask("POST", "api/terminals", json={"name": "a/b"}))[0] == 400
    assert (await server.ask("GET", "api/terminals/9"))[0] == 404
    with pytest.raises(WSServerHandshakeError, match="404"):
        await server.http.ws_connect(f"{server.url}terminals/websocket/9")


async def test_subscribers_see_what_the_server_and_other_clients_tell(server):
    socket = await server.http.ws_connect(server.url + "api/events/subscribe")
    event = {"schema_id": CONTENTS, "version": "1", "data": {"action": "get", "path": "a"}}
    assert (await server.ask("POST", "api/events", json=event))[0] == 204
    assert await socket.receive_json() == {"schema_id": CONTENTS, "action": "get", "path": "a"}

    kernel = await server.new_kernel()

    told = await socket.receive_json()
    assert told == {
        "schema_id": KERNELS,
        "action": "start",
        "kernel_id": kernel,
        "kernel_name": "python3",
        "status": "success",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"schema_id": "https://nobody.org"},
        {"version": "2"},
        {"version": None},
        {"data": {}},
        {"data": None},
        {"timestamp": "yesterday"},
    ],
)
async def test_an_event_that_does_not_fit_is_400(server, change):
    event = {"schema_id": CONTENTS, "version": "1", "data": {"action": "get", "path": "a"}}
    assert (await server.ask("POST", "api/events", json=event | change))[0] == 400


@pytest.mark.parametrize("stamp", ["2026-11-23T19:51:46+0000Z", "2026-11-23T19:51:46+0000"])
async def test_an_event_may_carry_its_own_time(server, stamp):
    event = {
        "schema_id": CONTENTS,
        "version": "1",
        "data": {"action": "get", "path": "a"},
        "timestamp": stamp,
    }
    assert (await server.ask("POST", "api/events", json=event))[0] == 204


@pytest.mark.parametrize("path", ["api/events/subscribe", "terminals/websocket/1"])
async def test_a_socket_address_without_an_upgrade_is_refused(server, path):
    await server.ask("POST", "api/terminals")
    async with server.http.get(server.url + path) as answer:
        assert answer.status == 400
