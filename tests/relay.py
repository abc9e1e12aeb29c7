"""Between a client and a unix socket: passes bytes on, slowly, not at all, or with an answer of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|DELETE) \S+ HTTP/1\.1\r\n")
ERROR = b'{"message":"the test broke it"}'


class Relay:
    """`slow_s` is waited before each answer; patterns are searched in request lines such as `GET /v1.41/info`.

    Answers to requests that fit `held` wait until `release()`; requests that fit `broken` never reach the target and
    are answered 500.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path, self._target = path, target
        self.url = f"unix://{path}"
        self.slow_s = 0.0
        self.held: str | None = None
        self.broken: str | None = None
        self.passed: list[str] = []
        self._released = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    def release(self) -> None:
        """Hold nothing any more."""
        self.held = None
        self._released.set()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A new connection."""
        task = asyncio.create_task(self._connection(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def end(self) -> None:
        """Cut every connection."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(_closed, writer)
            up_reader, up_writer = await asyncio.open_unix_connection(self._target)
            stack.push_async_callback(_closed, up_writer)
            waits = [False]
            answers = asyncio.create_task(self._back(up_reader, writer, waits))
            try:
                await self._forth(reader, writer, up_writer, waits)
            finally:
                answers.cancel()
                await asyncio.gather(answers, return_exceptions=True)

    async def _forth(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_writer: asyncio.StreamWriter,
        waits: list[bool],
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if found := REQUEST.match(data):
                    line = found.group(0).decode(errors="replace")
                    self.passed.append(line)
                    waits[0] = bool(self.held and re.search(self.held, line))
                    if self.broken and re.search(self.broken, line):
                        head = f"HTTP/1.1 500 Broken\r\nContent-Type: application/json\r\nContent-Length: {len(ERROR)}\r\nConnection: close\r\n\r\n"
                        writer.write(head.encode() + ERROR)
                        await writer.drain()
                        return
                up_writer.write(data)
                await up_writer.drain()

    async def _back(
        self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waits: list[bool]
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await up_reader.read(65536):
                if waits[0]:
                    await self._released.wait()
                await asyncio.sleep(self.slow_s)
                writer.write(data)
                await writer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def relay(path: Path, target: Path) -> AsyncIterator[Relay]:
    """A relay at `path` to the socket `target`, until the block ends."""
    made = Relay(path, target)
    server = await asyncio.start_unix_server(made.serve, path)
    try:
        yield made
    finally:
        made.release()
        server.close()
        await made.end()
        await server.wait_closed()
