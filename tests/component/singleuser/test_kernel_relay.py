"""Real ipykernels behind a real server: what browsers see of them."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct

import pytest

from component.singleuser.kernel_parts import printed, running_server
from himalia_singleuser.kernels import channels
from himalia_singleuser.kernels.framing import V1
from himalia_singleuser.kernels.options import MIB, KernelOptions
from himalia_singleuser.kernels.pool import KERNELS
from himalia_singleuser.keys import SOCKETS
from support import eventually

ECHO_COMM = """
from comm import create_comm, get_comm_manager
def echo(comm, opened):
    comm.on_msg(lambda m: comm.send({"n": len(m["buffers"])}, buffers=[bytes(b) for b in m["buffers"]]))
get_comm_manager().register_target("echo", echo)
"""

# What the kernel has no room for it drops, and a browser's queue has bounds, too; on a busy machine a cell outruns both.
# So these go on when what they printed last is here: what is tested is our side.
PRINTED_STEP = 10
PACED = f"""
import os, time
for i in range(300):
    if i and i % {PRINTED_STEP} == 0:
        while not os.path.exists(f'seen-{{i}}'):
            time.sleep(0.002)
    print(str(i % 10) * 99_999, flush=True)
"""
STEP = 400
"""ZMQ counts what was read only by the 500, so up to 499 more than are unread may count against a kernel's 1,000."""
BURST = f"""
import os, time
from IPython.display import display
for i in range(20_000):
    if i and i % {STEP} == 0:
        while not os.path.exists(f'seen-{{i}}'):
            time.sleep(0.002)
    display({{'text/plain': str(i)}}, raw=True)
"""

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(100)).decode()


@pytest.fixture
async def server(tmp_path):
    async with running_server(tmp_path) as running:
        yield running


@pytest.fixture(params=[True, False], ids=["v1", "json"])
async def browser(request, server):
    browser = await server.browser(await server.new_kernel(), v1=request.param)
    yield browser
    await browser.close()


@pytest.fixture
async def kernel(server):
    return await server.new_kernel()


async def test_replies_and_questions_bring_what_was_published_before_them(browser, monkeypatch):
    monkeypatch.setattr(channels, "REST_S", 3600.0)
    for _ in range(2):
        messages = await browser.run("print('some')\n1 + 1")
        assert [one.type for one in messages if one.channel == "iopub"] == [
            *("status", "execute_input", "stream", "execute_result", "status")
        ]
    request = await browser.execute("print('before')\ninput('?')")
    await browser.until(lambda _: {"stream", "input_request"} <= about(browser, request))
    question = next(one for one in browser.seen if one.type == "input_request")
    await browser.send("input_reply", {"value": "y"}, channel="stdin", parent=question.header)
    await browser.finished(request)


def about(browser, request):
    """Types of all that came about a request."""
    return {one.type for one in browser.seen if one.parent.get("msg_id") == request}


async def test_a_cell_is_run_and_its_messages_come_in_order(browser):
    messages = await browser.run("1 + 1")

    assert browser.socket.protocol == (V1 if browser.v1 else None)
    iopub = [(one.type, one.content.get("execution_state")) for one in messages if one.channel == "iopub"]
    assert iopub == [
        ("status", "busy"),
        ("execute_input", None),
        ("execute_result", None),
        ("status", "idle"),
    ]
    assert next(one for one in messages if one.type == "execute_result").content["data"]["text/plain"] == "2"
    assert next(one for one in messages if one.channel == "shell").content["status"] == "ok"


async def test_an_image_arrives_as_png(browser):
    messages = await browser.run(
        f"from IPython.display import display; display({{'image/png': '{PNG}'}}, raw=True)"
    )
    assert next(one for one in messages if one.type == "display_data").content["data"]["image/png"] == PNG


async def test_buffers_go_to_the_kernel_and_come_back_whole(browser):
    await browser.run(ECHO_COMM)
    buffers = (os.urandom(5 * 1024 * 1024), b"", b"x")
    await browser.send("comm_open", {"comm_id": "c", "target_name": "echo", "data": {}})
    await browser.send("comm_msg", {"comm_id": "c", "data": {}}, buffers=buffers)

    answer = await browser.until(lambda got: got.type == "comm_msg")

    assert answer.content["data"] == {"n": 3}
    assert tuple(answer.buffers) == buffers


async def test_input_is_answered_and_a_second_client_waits_for_its_turn(server, kernel):
    first, second = await server.browser(kernel), await server.browser(kernel, v1=False)
    asking = await first.execute("print('hello', input('name? '))")
    request = await first.until(lambda got: got.type == "input_request")
    assert (request.channel, request.content["prompt"]) == ("stdin", "name? ")
    waiting = await second.execute("print('mine')")

    await first.send("input_reply", {"value": "ada", "status": "ok"}, channel="stdin", parent=request.header)
    await first.reply(asking)
    await second.finished(waiting)

    order = [one.parent["msg_id"] for one in second.seen if one.type == "stream"]
    assert order == [asking, waiting]
    assert not any(one.channel == "stdin" for one in second.seen)


async def test_a_question_is_asked_again_of_the_browser_that_comes_after_the_asker(server, kernel):
    first = await server.browser(kernel)
    await first.execute("print('hello', input('name? '))")
    await first.until(lambda got: got.type == "input_request")
    await first.socket.close()

    second = await server.browser(kernel)
    again = await second.until(lambda got: got.type == "input_request")
    await second.send("input_reply", {"value": "ada", "status": "ok"}, channel="stdin", parent=again.header)

    await second.until(lambda got: got.type == "stream" and "hello ada" in got.content["text"])


async def test_everybody_sees_the_broadcast_and_only_the_asker_the_reply(server, kernel):
    first, second = await server.browser(kernel), await server.browser(kernel, v1=False)
    asked = await first.execute("print('for all')")
    await first.reply(asked)

    await second.until(
        lambda got: got.content.get("execution_state") == "idle" and got.parent.get("msg_id") == asked
    )

    assert printed(second.seen) == "for all\n"
    assert not any(one.type == "execute_reply" for one in second.seen)
    _, model = await server.ask("GET", f"api/kernels/{kernel}")
    assert model["connections"] == 2


async def test_an_endless_loop_is_interrupted(server, kernel):
    browser = await server.browser(kernel)
    asked = await browser.execute("print('in', flush=True)\nwhile True: pass")
    await browser.until(lambda got: got.type == "stream")

    assert (await server.ask("POST", f"api/kernels/{kernel}/interrupt"))[0] == 204

    assert (await browser.reply(asked)).content["ename"] == "KeyboardInterrupt"


async def test_a_restart_keeps_id_and_sockets_and_forgets_variables(server, kernel):
    browser = await server.browser(kernel)
    await browser.run("x = 1")

    status, model = await server.ask("POST", f"api/kernels/{kernel}/restart")

    assert (status, model["id"], model["execution_state"]) == (200, kernel, "idle")
    assert await browser.printed("print('x' in globals())") == "False\n"
    assert not any(one.content.get("execution_state") == "restarting" for one in browser.seen)


async def test_a_kernel_that_dies_is_said_to_restart_and_does(server, kernel):
    browser = await server.browser(kernel)
    await browser.execute("import os; os._exit(3)")

    said = await browser.until(lambda got: got.content.get("execution_state") == "restarting")

    assert said.parent == {}
    await eventually(lambda: server.app[KERNELS].get(kernel).state.value == "idle")
    assert await browser.printed("print('back')") == "back\n"
    _, model = await server.ask("GET", f"api/kernels/{kernel}")
    assert "code 3" in model["reason"]


async def test_what_was_missed_is_replayed_to_the_same_session_once(server, kernel):
    browser = await server.browser(kernel, "tab")
    other = await server.browser(kernel)
    # Nothing is under way when the browser goes: what its end throws away unread, no server could know of.
    wait = "while not os.path.exists('go'): time.sleep(0.01)\n"
    asked = await browser.execute(
        f"import os, time\nprint(0, flush=True)\n{wait}for i in range(1, 8): print(i, flush=True)"
    )
    await browser.until(lambda got: got.type == "stream")
    await browser.close()
    (server.root / "go").touch()
    await other.until(
        lambda got: got.parent.get("msg_id") == asked and got.content.get("execution_state") == "idle"
    )

    back = await server.browser(kernel, "tab")
    await back.finished(asked)

    assert printed(browser.seen) + printed(back.seen) == "".join(f"{i}\n" for i in range(8))
    assert await back.printed("print('live')") == "live\n"


async def test_a_second_socket_of_the_same_session_takes_over(server, kernel):
    stale = await server.browser(kernel, "tab")
    fresh = await server.browser(kernel, "tab")

    with pytest.raises(ConnectionError):
        await stale.until(lambda _: False)

    assert await fresh.printed("print(1)") == "1\n"
    _, model = await server.ask("GET", f"api/kernels/{kernel}")
    assert model["connections"] == 1


async def test_deleting_a_kernel_closes_its_sockets_and_ends_its_whole_group(server, kernel):
    browser = await server.browser(kernel)
    child = int(await browser.printed("import subprocess; print(subprocess.Popen(['sleep', '300']).pid)"))
    pid = server.app[KERNELS].get(kernel).pid

    assert (await server.ask("DELETE", f"api/kernels/{kernel}"))[0] == 204

    with pytest.raises(ConnectionError):
        await browser.until(lambda _: False)
    assert not os.path.exists(f"/proc/{pid}")
    await eventually(lambda: not os.path.exists(f"/proc/{child}"))
    assert (await server.ask("GET", f"api/kernels/{kernel}"))[0] == 404


async def test_a_slow_browser_stops_neither_the_kernel_nor_the_others(tmp_path):
    options = KernelOptions(queue_bytes=4 * MIB, iopub_data_rate_limit=0)
    async with running_server(tmp_path, options=options) as server:
        kernel = await server.new_kernel()
        slow, quick = await server.browser(kernel, "slow"), await server.browser(kernel, "quick")
        slow.socket._response.connection.transport.pause_reading()

        asked = await quick.execute(PACED)
        size = 0
        async with asyncio.timeout(120):
            for end in range(PRINTED_STEP, 300, PRINTED_STEP):
                while size < end * 100_000:
                    size += len(printed([await quick.receive()]))
                (server.root / f"seen-{end}").touch()
        assert len(printed(await quick.finished(asked, within_s=60))) == 30_000_000
        client = server.app[KERNELS].get(kernel).relay._sessions["slow"].client
        assert client._outbox.size <= 4 * MIB + 4096
        assert await quick.printed("print('still here')") == "still here\n"
        slow.socket._response.connection.transport.resume_reading()
        await slow.run("print('caught up')")
        assert "output messages are not shown here" in printed(slow.seen)
        assert "caught up" in printed(slow.seen)


async def test_endless_printing_is_cut_and_said_once_and_the_cell_goes_on(tmp_path):
    async with running_server(tmp_path, options=KernelOptions(iopub_data_rate_limit=30_000)) as server:
        browser = await server.browser(await server.new_kernel())

        messages = await browser.run("for i in range(200): print('x' * 49_999, flush=True)", within_s=60)

        assert printed(messages).count("iopub_data_rate_limit") == 1
        assert len(printed(messages)) < 1_000_000
        assert await browser.printed("print('next')") == "next\n"


async def test_a_burst_of_twenty_thousand_messages_arrives_whole(server, kernel):
    browser = await server.browser(kernel)
    asked = await browser.execute(BURST)
    for end in range(STEP, 20_000, STEP):
        last = str(end - 1)
        await browser.until(
            lambda got, last=last: got.content.get("data") == {"text/plain": last}, within_s=60
        )
        (server.root / f"seen-{end}").touch()

    messages = await browser.finished(asked, within_s=60)

    shown = [one.content["data"]["text/plain"] for one in messages if one.type == "display_data"]
    assert shown == [str(i) for i in range(20_000)]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"short",
        struct.pack("<Q", 2**63) + bytes(100),
        struct.pack("<8Q", 6, 56, 9, 9, 9, 9, 9, 9),
        bytes(64),
    ],
)
async def test_a_malformed_frame_closes_its_own_socket_only(server, kernel, frame):
    good, bad = await server.browser(kernel), await server.browser(kernel)
    await bad.socket.send_bytes(frame)

    with pytest.raises(ConnectionError):
        await bad.until(lambda _: False)

    assert bad.socket.close_code == 1007
    assert await good.printed("print(1)") == "1\n"


async def test_frames_leave_at_once_without_nagle(server, kernel):
    browser = await server.browser(kernel)
    ours = browser.socket._response.connection.transport.get_extra_info("sockname")
    ends = [ws._req.transport for ws in server.app[SOCKETS]]
    mine = next(end for end in ends if end.get_extra_info("peername") == ours)
    assert mine.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_kernels_over_tcp_work_the_same(tmp_path):
    async with running_server(tmp_path, options=KernelOptions(transport="tcp")) as server:
        browser = await server.browser(await server.new_kernel())
        assert await browser.printed("print('tcp')") == "tcp\n"


async def test_tracebacks_can_be_hidden(tmp_path):
    async with running_server(tmp_path, options=KernelOptions(allow_tracebacks=False)) as server:
        browser = await server.browser(await server.new_kernel())
        messages = await browser.run("secret = 1; raise ValueError('secret')")
        assert "secret" not in str(
            [one.content for one in messages if one.type in {"error", "execute_reply"}]
        )


async def test_a_message_type_that_is_not_allowed_never_reaches_the_kernel(tmp_path):
    allowed = frozenset({"kernel_info_request"})
    async with running_server(tmp_path, options=KernelOptions(allowed_message_types=allowed)) as server:
        browser = await server.browser(await server.new_kernel())
        await browser.execute("print('never')")
        await browser.reply(await browser.send("kernel_info_request", {}))
        assert not any(one.type == "execute_input" for one in browser.seen)
