"""What a process server leaves behind: ended with it, but for kernels that a crash spares for a bounded time.

Our server's kernels and their keeper carry the word KEPT in their environment. When their server ended in a way that
nobody asked for they are left alone until `Record.kept_until`: the next life of that name takes them back, and a stop
ends them at once. They stay in their server's control group, which the next life enters too.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial

from himalia_spawner import ending, procfs, searching
from himalia_spawner.base import Kept
from himalia_spawner.errors import SpawnFailed
from himalia_spawner.records import Folder, Record
from himalia_spawner.threads import Threads

_ROUNDS = 3


def now_s() -> float:
    """Seconds since the machine's start, sleep counted: what `Record.kept_until` is measured in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def kept_of(record: Record) -> Kept | None:
    """What of a server that is not there waits for its next start, as its record tells."""
    left_s = (record.kept_until or 0.0) - now_s()
    return Kept(record.ref, left_s) if left_s > 0 and record.boot == procfs.boot_id() else None


def crashed(record: Record) -> bool:
    """Whether it ended otherwise than by itself and in order; an end that nobody watched counts as a crash."""
    return record.pid > 0 and record.exit_status != 0


class Remains:
    """Of one hub's servers. `keep_s` is how long kernels wait after a crash; 0: they are ended with the rest.

    `guests` are the user ids of which each belongs to one server alone.
    """

    def __init__(self, hub: str, threads: Threads, *, keep_s: float, kill_s: float, guests: range) -> None:
        self._hub, self._threads, self._keep_s, self._kill_s = hub, threads, keep_s, kill_s
        self._guests = guests
        self._asked: list[tuple[searching.Trail, asyncio.Future[list[searching.Found]]]] = []
        self._search: asyncio.Future[None] | None = None

    async def examine(self, record: Record, folder: Folder) -> Record:
        """The record of a dead server with `kept_until` in it: looked for once, 0 when nothing waits."""
        if record.kept_until is not None or record.boot != procfs.boot_id():
            return record
        waits = self._keep_s > 0 and crashed(record) and any(each.kept for each in await self._find(record))
        until = now_s() + self._keep_s if waits else 0.0
        # Read again: how it ended may have been written meanwhile, or the same been found by another look.
        now = folder.read()
        if now is None or not _same(now, record) or now.kept_until is not None:
            return now or record
        examined = replace(now, kept_until=until)
        with suppress(OSError):  # on a full disk it is looked for again, and the keeper counts for itself
            folder.write(examined)
        return examined

    async def sweep(self, record: Record, folder: Folder, *, spare: bool) -> None:
        """End what the server of this (dead) record, or an earlier life of it, left: kernels, terminals, holders of
        its lock. `spare`: not what waits for the next start. SpawnFailed when something does not end.
        """
        spare = spare and kept_of(record) is not None
        for _ in range(_ROUNDS):  # what is just being ended may have made another process
            if not await self._sweep_once(record, folder, spare=spare):
                return
            if spare or await ending.vacated(record.cgroups):
                return

    async def _sweep_once(self, record: Record, folder: Folder, *, spare: bool) -> bool:
        """False if somebody began its next life meanwhile, and may be the one that holds the lock."""
        found = await self._find(record, lock=folder.lock_identity() if folder.locked() else None)
        now = folder.read()
        if now is None or not _same(now, record):
            return False
        mine = [each for each in found if each.pid != os.getpid() and not (spare and each.kept)]
        if survivors := await ending.sweep(mine, kill_s=self._kill_s):
            raise SpawnFailed(f"server {record.name!r} left processes that don't end: {survivors}")
        if now.kept_until and not spare:
            with suppress(OSError):
                folder.write(replace(now, kept_until=0.0))
        return True

    async def _find(self, record: Record, lock: tuple[int, int] | None = None) -> list[searching.Found]:
        """What there is of it now. Who asks during a search shares the next: each reads all of /proc."""
        trail = searching.Trail(
            searching.Cookie(self._hub, record.name, record.incarnation),
            session=record.pid if record.boot == procfs.boot_id() else 0,
            uid=record.uid,
            lock=lock,
            groups=record.cgroups,
            whole_account=record.uid in self._guests,
        )
        answer = asyncio.get_running_loop().create_future()
        self._asked.append((trail, answer))
        if self._search is None or self._search.done():
            self._search = asyncio.ensure_future(self._search_all())
        found: list[searching.Found] = await answer
        return found

    async def _search_all(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            look = partial(searching.leftovers, [trail for trail, _ in asked])
            try:
                results = await self._threads.run(look)
            except BaseException as error:
                for _, answer in asked:
                    if not answer.done():
                        answer.set_exception(error) if isinstance(error, Exception) else answer.cancel()
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, answer), found in zip(asked, results, strict=True):
                if not answer.done():
                    answer.set_result(found)


def _same(one: Record, other: Record) -> bool:
    return (one.pid, one.ticks) == (other.pid, other.ticks)
