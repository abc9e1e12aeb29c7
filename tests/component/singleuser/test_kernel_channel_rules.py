"""The lesser rules of the channels socket, each with a real kernel behind a real server."""

from __future__ import annotations

import json

import pytest

from component.singleuser.kernel_parts import Server, running_server
from himalia_singleuser.kernels.framing import V1

WITHIN_S = 60


@pytest.fixture
async def server(tmp_path):
    async with running_server(tmp_path) as running:
        yield running


@pytest.fixture
async def kernel(server: Server) -> str:
    return await server.new_kernel()


async def test_sockets_that_name_no_session_have_one_each(server: Server, kernel: str) -> None:
    url = f"{server.url}api/kernels/{kernel}/channels"
    async with server.http.ws_connect(url), server.http.ws_connect(url):
        _, model = await server.ask("GET", f"api/kernels/{kernel}")

    assert model["connections"] == 2, "none of the two took the other's place"


async def test_a_message_for_no_channel_is_left_out_and_the_socket_lives(server: Server, kernel: str) -> None:
    browser = await server.browser(kernel)

    lost = await browser.send("kernel_info_request", {}, channel="nowhere")
    asked = await browser.send("kernel_info_request", {})

    await browser.reply(asked, within_s=WITHIN_S)
    assert not any(one.parent.get("msg_id") == lost for one in browser.seen)


async def test_what_front_ends_ask_is_answered_on_its_channel(server: Server, kernel: str) -> None:
    browser = await server.browser(kernel)
    asked = {
        "complete": {"code": "impor", "cursor_pos": 5},
        "inspect": {"code": "print", "cursor_pos": 5, "detail_level": 0},
        "is_complete": {"code": "if x:"},
        "comm_info": {},
        "history": {"hist_access_type": "tail", "n": 500, "output": False, "raw": True},
    }

    for name, content in asked.items():
        reply = await browser.reply(await browser.send(f"{name}_request", content), within_s=WITHIN_S)

        assert (reply.channel, reply.type) == ("shell", f"{name}_reply")
        assert reply.content["status"] == ("incomplete" if name == "is_complete" else "ok")


async def test_control_is_answered_on_control_while_a_cell_runs(server: Server, kernel: str) -> None:
    browser = await server.browser(kernel)
    running = await browser.execute(
        "import os, time\nprint('in', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)"
    )
    await browser.until(lambda got: got.type == "stream", within_s=WITHIN_S)

    asked = await browser.send("kernel_info_request", {}, channel="control")
    reply = await browser.reply(asked, within_s=WITHIN_S)

    assert (reply.channel, reply.type) == ("control", "kernel_info_reply")
    assert not any(one.parent.get("msg_id") == running and one.channel == "shell" for one in browser.seen)
    (server.root / "go").touch()
    assert (await browser.reply(running, within_s=WITHIN_S)).channel == "shell"


async def test_nothing_secret_of_the_kernels_wire_reaches_a_browser(server: Server, kernel: str) -> None:
    (connection,) = server.root.parent.glob(f"run/**/*{kernel}*.json")
    key = json.loads(connection.read_text())["key"].encode()
    browser = await server.browser(kernel)
    frames = []
    receive = browser.socket.receive

    async def kept(*args: object) -> object:
        frames.append(await receive(*args))
        return frames[-1]

    browser.socket.receive = kept
    await browser.run("1", within_s=WITHIN_S)

    assert len(key) > 16
    assert not any(key in frame.data or b"<IDS|MSG>" in frame.data for frame in frames)


async def test_the_protocol_is_echoed_and_frames_are_not_deflated(server: Server, kernel: str) -> None:
    url = f"{server.url}api/kernels/{kernel}/channels"
    async with server.http.ws_connect(url, protocols=("other", V1), compress=15) as socket:
        headers = socket._response.headers

    assert headers["Sec-WebSocket-Protocol"] == V1
    assert "Sec-WebSocket-Extensions" not in headers


async def test_a_stranger_is_refused_and_not_redirected(server: Server, kernel: str) -> None:
    upgrade = {
        "Authorization": "token wrong",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    url = f"{server.url}api/kernels/{kernel}/channels"
    async with server.http.get(url, headers=upgrade, allow_redirects=False) as answer:
        assert answer.status == 403


async def test_what_was_missed_comes_before_the_word_that_the_kernel_restarts(
    server: Server, kernel: str
) -> None:
    browser, witness = await server.browser(kernel, "tab"), await server.browser(kernel)
    await browser.execute(
        "import os, time\nprint('in', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
        "print('missed', flush=True)\nwhile not os.path.exists('die'): time.sleep(0.01)\nos._exit(1)"
    )
    await browser.until(lambda got: got.type == "stream", within_s=WITHIN_S)
    await browser.close()
    (server.root / "go").touch()
    await witness.until(lambda got: got.content.get("text") == "missed\n", within_s=WITHIN_S)
    (server.root / "die").touch()
    await witness.until(lambda got: got.content.get("execution_state") == "restarting", within_s=WITHIN_S)

    back = await server.browser(kernel, "tab")
    await back.until(lambda got: got.content.get("execution_state") == "restarting", within_s=WITHIN_S)

    said = [one.content.get("text") or one.content.get("execution_state") for one in back.seen]
    assert said.index("missed\n") < said.index("restarting")


async def test_a_subshell_answers_while_the_main_shell_is_busy(server: Server, kernel: str) -> None:
    browser = await server.browser(kernel)
    made = await browser.send("create_subshell_request", {}, channel="control")
    subshell = (await browser.reply(made, within_s=WITHIN_S)).content["subshell_id"]
    running = await browser.execute("import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)")
    await browser.until(lambda got: got.type == "execute_input", within_s=WITHIN_S)

    aside = await browser.send(
        "execute_request",
        {"code": "print('aside')", "silent": False, "store_history": False, "allow_stdin": False},
        subshell=subshell,
    )
    told = await browser.finished(aside, within_s=WITHIN_S)

    assert [one.content["text"] for one in told if one.type == "stream"] == ["aside\n"]
    (server.root / "go").touch()
    assert (await browser.reply(running, within_s=WITHIN_S)).content["status"] == "ok"
