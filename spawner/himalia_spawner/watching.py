"""Hearing of ends at once: a descriptor per server, and one for the nest, in the hub's event loop."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass

import structlog

from himalia_spawner import cgroups, ending, procfs
from himalia_spawner.ledger import Ledger
from himalia_spawner.nest_client import NestClient, NestUnusable
from himalia_spawner.nests import Nests
from himalia_spawner.records import Record
from himalia_spawner.threads import Threads

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Watched:
    record: Record
    pidfd: int


class Watch:
    """What runs, and the names of what has ended in `changed`. `ended` is called with each end's record."""

    def __init__(
        self,
        ledger: Ledger,
        nests: Nests | None,
        threads: Threads,
        ended: Callable[[Record], Coroutine[None, None, None]],
    ) -> None:
        self.changed: asyncio.Queue[str] = asyncio.Queue()
        self._ledger, self._nests, self._threads, self._ended = ledger, nests, threads, ended
        self._watched: dict[str, _Watched] = {}
        self._hellos: dict[NestClient, tuple[socket.socket, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def names(self) -> list[str]:
        """The servers that run."""
        return list(self._watched)

    def soon(self, work: Coroutine[None, None, None]) -> None:
        """Do it in the background, until `close`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def alive(self, name: str) -> Record | None:
        """The record of the process under this name that is watched and has not ended: nobody else can be it then."""
        watched = self._watched.get(name)
        if watched is None:
            return None
        poll = select.poll()
        poll.register(watched.pidfd, select.POLLIN)
        return None if poll.poll(0) else watched.record

    def attend(self, record: Record) -> None:
        """Hear of this process's end at once, child or not. Safe to repeat."""
        known = self._watched.get(record.name)
        if known is not None and (known.record.pid, known.record.ticks) == (record.pid, record.ticks):
            return
        self.settle(record.name)
        pidfd = procfs.open_pidfd(record.pid, record.ticks)
        if pidfd is None:  # it ended before anybody could watch: that is an end like any other
            self.changed.put_nowait(record.name)
            self.soon(self._ended(record))
            return
        self._watched[record.name] = _Watched(record, pidfd)
        asyncio.get_running_loop().add_reader(pidfd, self._on_exit, record.name)

    def attend_nests(self) -> None:
        """Hear of a nest's end, and have another one before it is needed. Safe to repeat."""
        for nest in self._nests or ():
            hello = nest.hello
            if hello is self._hellos.get(nest, (None, -1))[0]:
                continue
            self._dismiss_nest(nest)
            if hello is not None:
                with suppress(
                    OSError
                ):  # closed in another thread meanwhile: then there is a next one to come
                    descriptor = os.dup(hello.fileno())
                    self._hellos[nest] = hello, descriptor
                    asyncio.get_running_loop().add_reader(descriptor, self._on_nest_gone, nest)

    async def settled(self, record: Record) -> None:
        """The end of this process is written down, as far as anybody knows how it ended."""
        if self._nests is not None and record.forked and not record.exit_reason:
            await self._threads.run(self._nests.sync)
        if record.name in self._watched:
            self.settle(record.name)
        elif not record.exit_reason and not record.running():
            self._write_down(record, None)

    def settle(self, name: str) -> None:
        """If the watched process has ended: reap it, write down how, tell the watcher, and whoever cleans up.

        Safe to repeat. Whoever looks first does it, the descriptor's own news or a question.
        """
        watched = self._watched.get(name)
        if watched is None or watched.record.running():
            return
        self._dismiss(name)
        self._write_down(watched.record, watched.pidfd)
        os.close(watched.pidfd)
        self.changed.put_nowait(name)
        self.soon(self._ended(watched.record))

    async def close(self) -> None:
        """Watch nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for name in list(self._watched):
            os.close(self._dismiss(name))
        for nest in self._nests or ():
            self._dismiss_nest(nest)

    def _write_down(self, record: Record, pidfd: int | None) -> None:
        how = ending.reap(pidfd) if pidfd is not None else None
        if how is None and self._nests is not None:
            how = self._nests.exit_of(record.pid, record.ticks)
        if how is None and pidfd is None:
            return  # what is not known now may be told later, or is told as not known
        how = cgroups.explain(how or ending.UNWATCHED, record.cgroups, record.limits, record.counted)
        folder = self._ledger.folder(record.name)
        now = folder.read()
        if now is not None and (now.pid, now.ticks) == (record.pid, record.ticks):
            with suppress(OSError):  # a full disk costs the words, not the news
                folder.write(now.ended(how))

    def _on_exit(self, name: str) -> None:
        watched = self._watched[name]
        asyncio.get_running_loop().remove_reader(watched.pidfd)
        self.soon(self.settled(watched.record))

    def _dismiss(self, name: str) -> int:
        watched = self._watched.pop(name)
        asyncio.get_running_loop().remove_reader(watched.pidfd)
        return watched.pidfd

    def _on_nest_gone(self, nest: NestClient) -> None:
        self._dismiss_nest(nest)
        self.soon(self._another(nest))

    async def _another(self, nest: NestClient) -> None:
        await self._threads.run(nest.lost)
        try:
            await self._threads.run(nest.ensure)
        except NestUnusable as error:
            log.warning("spawner.nest_unusable", why=str(error))
            return
        log.warning("spawner.nest_started_again")
        self.attend_nests()

    def _dismiss_nest(self, nest: NestClient) -> None:
        if nest in self._hellos:
            _, descriptor = self._hellos.pop(nest)
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
