"""A cell that asks something is never sent before the kernel's question could be heard."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from himalia_singleuser.kernels import session as sessions
from himalia_singleuser.kernels.channels import Context
from himalia_singleuser.kernels.connection import Connection, new_connection, private_folder
from himalia_singleuser.kernels.session import Session
from support import eventually

Replies = list[tuple[str, str, list[bytes]]]


@pytest.fixture
def connection() -> Iterator[Connection]:
    folder = private_folder(Path("/tmp"))
    yield new_connection("ipc", folder)
    shutil.rmtree(folder)


@pytest.fixture
async def context() -> AsyncIterator[Context]:
    context = Context()
    yield context
    context.close()


@contextmanager
def bound(connection: Connection, channel: str) -> Iterator[zmq.asyncio.Socket]:
    """A kernel's end of a channel."""
    with zmq.asyncio.Context() as ours, ours.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.bind(connection.endpoint(channel))
        yield router


async def test_shell_waits_for_stdin_and_the_first_question_is_heard(
    context: Context, connection: Connection
) -> None:
    replies: Replies = []
    session = Session(
        context, connection, "s1", on_reply=lambda *got: replies.append(got), is_up=lambda: False
    )
    try:
        with bound(connection, "shell") as shell, bound(connection, "control") as control:
            session.send("shell", [b"execute"])
            session.send("control", [b"interrupt"])
            assert await control.recv_multipart() == [b"s1", b"interrupt"]
            assert not await shell.poll(0)
            with bound(connection, "stdin") as stdin:
                assert await shell.recv_multipart() == [b"s1", b"execute"]
                await stdin.send_multipart([b"s1", b"input_request"])
                await eventually(lambda: replies == [("s1", "stdin", [b"input_request"])])
                session.send("stdin", [b"input_reply"])
                assert await stdin.recv_multipart() == [b"s1", b"input_reply"]
    finally:
        session.close()


async def test_a_kernel_that_never_asks_gets_its_cells_all_the_same(
    context: Context, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "STDIN_WAIT_S", 0.01)
    speaks = asyncio.Event()
    session = Session(context, connection, "s1", on_reply=lambda *_: None, is_up=speaks.is_set)
    try:
        with bound(connection, "shell") as shell:
            session.send("shell", [b"one"])
            session.send("shell", [b"two"])
            speaks.set()
            assert await shell.recv_multipart() == [b"s1", b"one"]
            assert await shell.recv_multipart() == [b"s1", b"two"]
    finally:
        session.close()
