"""What a kernel publishes, read from its socket without libzmq: against libzmq itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
import zmq

from himalia_singleuser.keeper.wire import Subscription, messages
from support import eventually


class Kernel(Protocol):
    """A kernel's side of iopub: a socket bound to that address, closed with the test."""

    def __call__(self, endpoint: str, **options: int) -> zmq.Socket[bytes]: ...


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    context, made = zmq.Context(), []

    def bound(endpoint: str, **options: int) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.XPUB)  # it tells of subscriptions, so they can be waited for
        made.append(socket)
        socket.sndhwm = 0
        for name, value in options.items():
            setattr(socket, name, value)
        socket.bind(endpoint)
        return socket

    yield bound
    for socket in made:
        socket.close(linger=0)
    context.term()


class Heard:
    """All that came so far."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.messages: list[list[bytes]] = []
        self.counted = 0

    def read(self) -> int:
        self.subscription.connect()
        raw, count = self.subscription.read()
        self.messages += [frames for frames, _ in messages(raw)]
        self.counted += count
        return len(self.messages)


@pytest.fixture
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Heard]:
    subscription = Subscription(f"ipc://{tmp_path}/iopub")
    yield Heard(subscription)
    subscription.close()


async def subscribed(socket: zmq.Socket[bytes], heard: Heard) -> None:
    await eventually(lambda: heard.read() is not None and socket.poll(0), what="the kernel is subscribed to")
    assert socket.recv() == b"\x01", "to everything"


async def test_every_message_comes_whole_and_in_order_whatever_its_size(
    kernel: Kernel, heard: Heard, tmp_path: Path
) -> None:
    socket = kernel(f"ipc://{tmp_path}/iopub")
    await subscribed(socket, heard)
    sent = [
        [str(number).encode(), b"", b"x" * size]
        for number, size in enumerate([0, 1, 255, 256, 65_535, 65_536, 3_000_000, 12_000_000, 5] * 2)
    ]
    sent += [[b"small", str(number).encode()] for number in range(5000)]

    for message in sent:
        socket.send_multipart(message)
        heard.read()

    await eventually(lambda: heard.read() == len(sent), within_s=30)
    assert heard.messages == sent
    assert heard.counted == len(sent)


async def test_over_tcp_it_is_the_same(kernel: Kernel) -> None:
    socket = kernel("tcp://127.0.0.1:*")
    endpoint = socket.last_endpoint.rstrip(b"\0").decode()
    heard = Heard(Subscription(endpoint))
    await subscribed(socket, heard)

    socket.send_multipart([b"a", b"b"])

    await eventually(heard.read)
    assert heard.messages == [[b"a", b"b"]]
    heard.subscription.close()


async def test_a_kernel_that_comes_later_or_again_is_found(
    kernel: Kernel, heard: Heard, tmp_path: Path
) -> None:
    assert not heard.subscription.connect()
    assert heard.subscription.fileno() == -1
    for word in (b"first", b"second"):
        socket = kernel(f"ipc://{tmp_path}/iopub")
        await subscribed(socket, heard)
        socket.send_multipart([word])
        await eventually(lambda word=word: heard.read() and heard.messages[-1] == [word])
        socket.close(linger=0)
        (tmp_path / "iopub").unlink(missing_ok=True)
        await eventually(lambda: heard.subscription.read() and heard.subscription.fileno() == -1)


async def test_pings_of_the_other_side_are_no_messages(kernel: Kernel, heard: Heard, tmp_path: Path) -> None:
    socket = kernel(f"ipc://{tmp_path}/iopub", heartbeat_ivl=10, heartbeat_timeout=60_000)
    await subscribed(socket, heard)

    for number in range(50):
        socket.send_multipart([str(number).encode()])
        await eventually(lambda number=number: heard.read() == number + 1)

    assert heard.messages == [[str(number).encode()] for number in range(50)]
