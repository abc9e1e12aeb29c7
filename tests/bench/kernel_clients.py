"""The least clients of a kernel, straight over ZMQ and through our server: what they cost themselves is in no figure.

Both block on their sockets, parse nothing and check nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import zmq

from himalia_singleuser.kernels.connection import new_connection
from himalia_singleuser.kernels.framing import V1, encode_v1
from himalia_singleuser.kernels.messages import Message, Signer, make

WAYS = {"bare ZMQ": None, "without keeper": 0, "with keeper": 3600}
"""And for how many seconds our server keeps kernels."""
START_S = 60

Run = Callable[[str], float]
"""Runs code; seconds until its reply and its idle are here."""


def cpu_s(home: Path) -> dict[str, float]:
    """Processor time so far of every process with this home, by what it is."""
    mark, found = f"HOME={home}".encode(), defaultdict[str, float](float)
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if not folder.name.isdecimal() or mark not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            command = (folder / "cmdline").read_bytes()
            kind = "keeper" if b"singleuser.keeper" in command else "server"
            kind = "kernel" if b"ipykernel" in command else kind
            threads = (folder / "task").iterdir()
            found[kind] += sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9
    return dict(found)


@contextmanager
def connected(way: str, home: Path) -> Iterator[Run]:
    """A kernel and its client, in one of `WAYS`."""
    keep_s = WAYS[way]
    with bare(home) if keep_s is None else served(home, keep_s) as run:
        yield run


@contextmanager
def bare(home: Path) -> Iterator[Run]:
    """A kernel, and a client that does nothing but receive."""
    connection = new_connection("ipc", home)
    connection.write(home / "kernel.json", kernel_name="python3")
    signer, context = Signer(connection.key), zmq.Context()
    shell, iopub = context.socket(zmq.DEALER), context.socket(zmq.SUB)
    iopub.rcvhwm = 0
    iopub.subscribe(b"")
    shell.connect(connection.endpoint("shell"))
    iopub.connect(connection.endpoint("iopub"))

    def run(code: str) -> float:
        asked = _request(code)
        mine = asked.header["msg_id"].encode()
        began = perf_counter()
        shell.send_multipart(signer.to_wire(asked.parts))
        while True:
            frames = iopub.recv_multipart()
            if b'"idle"' in frames[-1] and mine in frames[-3]:
                shell.recv_multipart()
                return perf_counter() - began

    with _process([sys.executable, "-m", "ipykernel_launcher", "-f", str(home / "kernel.json")], home):
        asked = signer.to_wire(make("shell", "kernel_info_request", {}).parts)
        shell.send_multipart(asked)
        shell.recv_multipart()  # it listens; a subscription takes a moment more
        while not iopub.poll(200):
            shell.send_multipart(asked)
            shell.recv_multipart()
        yield run
    context.destroy(linger=0)


@contextmanager
def served(home: Path, keep_s: int) -> Iterator[Run]:
    """The same through our server's WebSocket."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-I", "-m", "himalia_singleuser", "--root", str(home), "--token", "bench"]
    options = ["--port", str(port), "--keep-kernels", str(keep_s), "--ping", "3600"]
    with _process([*command, *options], home) as server:
        kernel = _new_kernel(port, server)
        channel = WebSocket(port, f"/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}")

        def run(code: str) -> float:
            asked, missing = _request(code), 2
            mine = asked.header["msg_id"].encode()
            began = perf_counter()
            channel.send(encode_v1("shell", asked.parts))
            while missing:
                data = channel.receive()
                if b'"idle"' in data or b'"execute_reply"' in data:
                    missing -= mine in data
            return perf_counter() - began

        yield run
        channel.close()


class WebSocket:
    """The least client of RFC 6455: whole frames, a mask of zeros. It answers no pings: our server is told to send none."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: token bench\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Protocol: {V1}\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        self._buffer, self._at = bytearray(), 0
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._more()
        assert b" 101 " in self._buffer[:end], bytes(self._buffer)
        self._at = end + 4

    def send(self, payload: bytes) -> None:
        size = len(payload)
        assert 126 <= size < 1 << 16, size
        self._socket.sendall(b"\x82\xfe" + size.to_bytes(2, "big") + bytes(4) + payload)

    def receive(self) -> bytes:
        """The payload of the next frame."""
        while True:
            begin, end = self._bounds()
            if end and len(self._buffer) >= end:
                self._at = end
                return bytes(memoryview(self._buffer)[begin:end])
            self._more()

    def close(self) -> None:
        self._socket.close()

    def _bounds(self) -> tuple[int, int]:
        """Where the payload of the next frame is; zeros while its head is not here."""
        at, buffer = self._at, self._buffer
        if len(buffer) < at + 2:
            return 0, 0
        size = buffer[at + 1]
        more = {126: 2, 127: 8}.get(size, 0)
        begin = at + 2 + more
        if len(buffer) < begin:
            return 0, 0
        size = int.from_bytes(buffer[at + 2 : begin], "big") if more else size
        return begin, begin + size

    def _more(self) -> None:
        piece = self._socket.recv(1 << 18)
        if not piece:
            raise ConnectionResetError("the server closed the connection")
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += piece


def _request(code: str) -> Message:
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    return make("shell", "execute_request", content | {"user_expressions": {}})


def _new_kernel(port: int, server: subprocess.Popen[bytes]) -> str:
    """Start a kernel as soon as the server answers."""
    headers = {"Authorization": "token bench", "Content-Type": "application/json"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/api/kernels", data=b"{}", headers=headers)
    began = perf_counter()
    while perf_counter() - began < START_S:
        with suppress(OSError), urllib.request.urlopen(asked) as answer:
            model: dict[str, Any] = json.load(answer)
            return str(model["id"])
        with suppress(subprocess.TimeoutExpired):
            raise SystemExit(f"the server ended with {server.wait(0.02)}")
    raise SystemExit(f"the server did not answer within {START_S} s")


@contextmanager
def _process(command: list[str], home: Path) -> Iterator[subprocess.Popen[bytes]]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
