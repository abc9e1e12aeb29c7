"""When what a kernel says is written to a browser: at once where somebody waits for it, else together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from himalia_singleuser.kernels.client import Client
from himalia_singleuser.kernels.framing import decode_v1
from himalia_singleuser.kernels.messages import Message, make, parse_object
from himalia_singleuser.kernels.options import KernelOptions
from himalia_singleuser.sockets import Socket
from support import eventually


class Writes(Socket):
    """A socket that notes what is written in one call, as types of messages."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.slow = asyncio.Event()
        self.is_gone = False

    def write(self, frames: Iterable[tuple[bytes, bool]]) -> None:
        if self.is_gone:
            raise ConnectionResetError
        self.calls.append(
            [str((parse_object(decode_v1(frame)[1][0]) or {})["msg_type"]) for frame, _ in frames]
        )

    @property
    def is_slow(self) -> bool:
        return self.slow.is_set()

    async def drained(self) -> None:
        while self.slow.is_set():
            await asyncio.sleep(0)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Client, Writes]]:
    socket = Writes()
    client = Client("s", KernelOptions(), v1=True)
    writing = asyncio.create_task(client.write_to(socket))
    await asyncio.sleep(0)
    yield client, socket
    writing.cancel()
    await asyncio.wait([writing])


def status(state: str) -> Message:
    return make("iopub", "status", {"execution_state": state})


def printed(text: str = "x") -> Message:
    return make("iopub", "stream", {"name": "stdout", "text": text})


REPLY = ("shell", "execute_reply")
CELL = ("status", "execute_input", "execute_result", "execute_reply", "status")


def cell() -> list[Message]:
    said = [make("shell" if kind == "execute_reply" else "iopub", kind, {}) for kind in CELL[1:-1]]
    return [status("busy"), *said, status("idle")]


async def test_a_short_cell_is_written_in_one_go_and_its_end_waits_for_nobody() -> None:
    async with connected() as (client, socket):
        for message in cell():
            client.deliver(message)
        assert socket.calls == [list(CELL)]
        assert not client.is_behind


async def test_what_a_long_cell_prints_does_not_wait_for_its_end() -> None:
    async with connected() as (client, socket):
        client.deliver(status("busy"))
        client.deliver(printed())
        assert client.is_behind
        await eventually(lambda: socket.calls == [["status", "stream"]])
        assert not client.is_behind


async def test_a_question_of_a_running_cell_waits_for_no_company() -> None:
    async with connected() as (client, socket):
        client.deliver(status("busy"))
        client.deliver(make("stdin", "input_request", {"prompt": "?"}))
        await asyncio.sleep(0)
        assert socket.calls == [["status", "input_request"]]


async def test_a_reply_after_its_idle_is_written_at_once() -> None:
    async with connected() as (client, socket):
        client.deliver(status("busy"))
        client.deliver(status("idle"))
        client.deliver(make(*REPLY, {}))
        assert socket.calls == [["status", "status"], ["execute_reply"]]


async def test_to_a_slow_browser_nothing_is_written_twice_or_left_out() -> None:
    async with connected() as (client, socket):
        socket.slow.set()
        for message in [*cell(), *cell()]:
            client.deliver(message)
        assert socket.calls == [list(CELL)]
        assert client.is_behind
        socket.slow.clear()
        await eventually(lambda: not client.is_behind)
        assert socket.calls == [list(CELL), list(CELL)]


async def test_a_browser_that_takes_its_time_for_the_last_message_has_it_in_the_end() -> None:
    async with connected() as (client, socket):
        socket.slow.set()
        for message in cell():
            client.deliver(message)
        await asyncio.sleep(0)
        assert client.is_behind
        socket.slow.clear()
        await eventually(lambda: not client.is_behind)
        assert socket.calls == [list(CELL)]


async def test_what_a_lost_connection_did_not_take_is_kept() -> None:
    async with connected() as (client, socket):
        socket.is_gone = True
        for message in cell():
            client.deliver(message)
        assert [message.type for message in client.unsent()] == list(CELL)
