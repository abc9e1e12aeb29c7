"""One language server: a process that speaks JSON-RPC over its standard streams, and the pages on it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from himalia_singleuser.lsp.servers import ServerSpec
from himalia_singleuser.lsp.shadows import Shadows

log = structlog.get_logger(__name__)

MOST_BYTES = 64 * 1024 * 1024
"""Of one message; and of what may wait for a page before it is given up."""
END_S = 2.0


class Page:
    """What waits to be written to one page. None in the queue: the server has ended."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.waiting = 0

    def put(self, message: bytes) -> bool:
        """False when too much waits already."""
        self.waiting += len(message)
        self.queue.put_nowait(message)
        return self.waiting <= MOST_BYTES

    async def take(self) -> bytes | None:
        """The next message."""
        message = await self.queue.get()
        self.waiting -= len(message or b"")
        return message


class LanguageServer:
    """Runs while a page is on it; all pages see all it says, as jupyter-lsp has it."""

    def __init__(self, spec: ServerSpec, *, cwd: Path, environ: Mapping[str, str]) -> None:
        self.spec = spec
        self._cwd = cwd
        self._environ = environ
        self._shadows = Shadows(cwd) if spec.wants_files else None
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._pages: set[Page] = set()
        self.status = "not_started"
        self.said_at: datetime | None = None
        self.asked_at: datetime | None = None

    def model(self) -> dict[str, Any]:
        """The entry of `lsp/status`."""
        return {
            "handler_count": len(self._pages),
            "status": self.status,
            "last_server_message_at": self.said_at.isoformat() if self.said_at else None,
            "last_handler_message_at": self.asked_at.isoformat() if self.asked_at else None,
            "spec": self.spec.model(),
        }

    async def join(self) -> Page:
        """A page on it; the first one starts the process. OSError when that cannot be."""
        page = Page()
        async with self._lock:
            if self._process is None or self._process.returncode is not None:
                await self._stop()
                await self._start()
            self._pages.add(page)
        return page

    async def leave(self, page: Page) -> None:
        """The last page ends the process; it is gone on return."""
        async with self._lock:
            self._pages.discard(page)
            if not self._pages:
                await self._stop()

    async def ask(self, message: bytes) -> None:
        """A page's message to the server; waits while it reads too slowly. ConnectionError when it has ended."""
        self.asked_at = datetime.now(UTC)
        if self._process is None or self._process.stdin is None:
            raise ConnectionResetError("the language server has ended")
        if self._shadows is not None:
            await self._shadow(self._shadows, message)
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(message) + message)
        await self._process.stdin.drain()

    async def _shadow(self, shadows: Shadows, message: bytes) -> None:
        async with self._writing:  # pages share documents; a change must meet the text that it is meant for
            try:
                await asyncio.to_thread(shadows.note, message)
            except OSError as error:
                log.warning("lsp.document_not_written", server=self.spec.name, why=str(error))

    async def close(self) -> None:
        """Gone on return."""
        async with self._lock:
            await self._stop()

    async def _start(self) -> None:
        self.status = "starting"
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                cwd=self._cwd,
                env={**self._environ, **self.spec.env},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            self.status = "stopped"
            raise
        self.status = "started"
        self._reading = asyncio.create_task(self._read(self._process))
        log.info("lsp.started", server=self.spec.name, pid=self._process.pid)

    async def _stop(self) -> None:
        process, self._process = self._process, None
        reading, self._reading = self._reading, None
        if process is None or reading is None:
            return
        self.status = "stopping"
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            _signal(process, signal.SIGKILL)
            await process.wait()
        # At its end by itself, unless something that the server left behind still holds the pipe.
        await asyncio.wait([reading], timeout=END_S)
        reading.cancel()
        if self._shadows is not None:
            await asyncio.to_thread(self._shadows.clear)
        self.status = "stopped"

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            while (message := await read_message(process.stdout)) is not None:
                self.said_at = datetime.now(UTC)
                for page in [page for page in self._pages if not page.put(message)]:
                    page.queue.put_nowait(None)
                    self._pages.discard(page)
        except ValueError as error:
            log.warning("lsp.not_understood", server=self.spec.name, why=str(error))
            _signal(process, signal.SIGKILL)
        if process is self._process:
            log.warning("lsp.ended", server=self.spec.name)
        for page in self._pages:
            page.queue.put_nowait(None)


async def read_message(stream: asyncio.StreamReader) -> bytes | None:
    """One message without its head; None at the end. ValueError when what comes is no message."""
    size = -1
    while True:
        line = await stream.readline()
        if not line:
            return None
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            size = int(value) if value.strip().isdigit() else -1
        elif not line.strip() and size >= 0:
            break
        # Other heads say nothing that is needed; and some servers print greetings before the first one.
    if size > MOST_BYTES:
        raise ValueError(f"a message of {size} bytes")
    try:
        return await stream.readexactly(size)
    except asyncio.IncompleteReadError:
        return None


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
