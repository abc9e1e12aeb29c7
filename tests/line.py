"""A line that a test can slow down and cut."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path


class Line:
    """Between a hub and what it talks to: `slow_s` before each answer, cut altogether, or at the nth commit, once it is done.

    `here` and `there` are a port of this machine or the path of a unix socket.
    """

    def __init__(self, here: int | str, there: int | str) -> None:
        self._here, self._there = here, there
        self.slow_s = 0.0
        self.commits_left: int | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._is_cut = True

    async def connect(self) -> None:
        """Take connections from now on."""
        self._is_cut = False
        if isinstance(self._here, int):
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._here)
        else:
            self._server = await asyncio.start_unix_server(self._accept, self._here)

    async def cut(self) -> None:
        """Break every connection, and refuse others."""
        self._is_cut = True
        if self._server is not None:
            self._server.close()
            if isinstance(self._here, str):
                Path(self._here).unlink(missing_ok=True)
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:  # it had come before the listener closed, and is told only now
            writer.close()
            return
        task = asyncio.create_task(self._relay(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, to_there = await self._reach()
        except OSError:
            writer.close()
            return
        except asyncio.CancelledError:
            writer.close()
            raise
        done = asyncio.Event()
        back = asyncio.create_task(self._back(there, writer, done))
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    if b"COMMIT\0" in data and self.commits_left is not None:
                        self.commits_left -= 1
                        if self.commits_left == 0:
                            self.commits_left = None
                            done.set()
                    to_there.write(data)
                    await to_there.drain()
        finally:
            # All of them before the first pause: the line may be cut in it.
            for one in (writer, to_there):
                one.close()
            back.cancel()
            await asyncio.gather(back, writer.wait_closed(), to_there.wait_closed(), return_exceptions=True)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._there, int):
            return await asyncio.open_connection("127.0.0.1", self._there)
        return await asyncio.open_unix_connection(self._there)

    async def _back(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, done: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await there.read(65536):
                if done.is_set():  # it has happened, and nobody is told
                    break
                if self.slow_s:
                    await asyncio.sleep(self.slow_s)
                writer.write(data)
                await writer.drain()
        writer.close()
