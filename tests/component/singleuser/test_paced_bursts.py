"""What a kernel publishes in a burst is read many messages at a time, and nothing of it is lost or late for that."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import zmq

from himalia_singleuser.kernels import channels
from himalia_singleuser.kernels.channels import BURST, Channel, Context
from himalia_singleuser.kernels.connection import private_folder
from support import eventually

Listen = Callable[[Callable[[list[bytes]], None]], Channel]


@pytest.fixture
def endpoint() -> Iterator[str]:
    folder = private_folder(Path("/tmp"))
    yield f"ipc://{folder}/iopub"
    shutil.rmtree(folder)


@pytest.fixture
def kernel(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    """A kernel's end of iopub. XPUB, which tells when somebody has subscribed."""
    with zmq.Context() as ours, ours.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        publisher.sndhwm = 0
        publisher.rcvtimeo = 30_000
        publisher.bind(endpoint)
        yield publisher


@pytest.fixture
async def listen(endpoint: str, kernel: zmq.Socket[bytes]) -> AsyncIterator[Listen]:
    context, opened = Context(), list[Channel]()

    def listen(on_message: Callable[[list[bytes]], None]) -> Channel:
        opened.append(Channel(context, endpoint, on_message, subscribe=True))
        assert kernel.recv() == b"\x01"
        return opened[-1]

    yield listen
    for channel in opened:
        channel.close()
    context.close()


def numbered(first: int, count: int) -> list[list[bytes]]:
    return [[b"topic", str(number).encode()] for number in range(first, first + count)]


async def test_a_burst_arrives_whole_and_in_order_and_so_does_what_comes_after_it(
    kernel: zmq.Socket[bytes], listen: Listen
) -> None:
    got: list[list[bytes]] = []
    listen(got.append)
    due = 0
    for count in (1, 2 * BURST, 20 * BURST, 1, 1, BURST + 1, 1):
        for message in numbered(due, count):
            kernel.send_multipart(message)
        due += count
        await eventually(lambda due=due: len(got) == due)
    assert got == numbered(0, due)


async def test_what_follows_the_end_of_a_cell_does_not_wait_for_the_next_look(
    kernel: zmq.Socket[bytes], listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "PACE_S", 3600.0)
    got: list[list[bytes]] = []

    def take(frames: list[bytes]) -> None:
        got.append(frames)
        channel.calm()

    channel = listen(take)
    for number in range(3 * BURST):
        kernel.send_multipart(numbered(number, 1)[0])
        await eventually(lambda due=number + 1: len(got) == due)


async def test_a_channel_may_be_closed_while_a_burst_waits(
    kernel: zmq.Socket[bytes], listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "PACE_S", 3600.0)
    got: list[list[bytes]] = []
    channel = listen(got.append)
    for message in numbered(0, 3 * BURST):
        kernel.send_multipart(message)
    await eventually(lambda: len(got) > BURST)
    channel.close()
    channel.close()
    assert got == numbered(0, len(got))


async def test_what_comes_during_a_rest_is_here_once_it_is_woken(
    kernel: zmq.Socket[bytes], listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "REST_S", 3600.0)
    got: list[list[bytes]] = []
    channel = listen(got.append)
    await asyncio.sleep(0)  # it looks once when it is made
    for round_ in range(3):
        channel.rest()
        channel.rest()
        for message in numbered(2 * round_, 2):
            kernel.send_multipart(message)
        await asyncio.sleep(0)
        assert len(got) == 2 * round_
        channel.wake()
        channel.wake()
        await eventually(lambda due=2 * round_ + 2: len(got) == due)
    assert got == numbered(0, 6)


async def test_a_rest_ends_by_itself_and_with_its_channel(kernel: zmq.Socket[bytes], listen: Listen) -> None:
    got: list[list[bytes]] = []
    channel = listen(got.append)
    channel.rest()
    kernel.send_multipart(numbered(0, 1)[0])
    await eventually(lambda: got == numbered(0, 1))
    channel.rest()
    channel.close()
    channel.rest()
    channel.wake()
    assert got == numbered(0, 1)
