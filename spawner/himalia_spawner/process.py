"""Servers as processes of this machine: started, adopted, watched and ended.

A hub may be killed at any instruction here. What makes that harmless: the kernel holds the lock that says
"there is a server" exactly as long as there is one (records.py), the intent is written before the fork, and
every process carries a cookie by which it is found if the spawner died before it could write down its pid.
"""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import os
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TypeVar

import structlog

from himalia_spawner import cgroups, ending, giving, measuring, procfs, serverlog
from himalia_spawner.base import (
    Handle,
    Measure,
    Person,
    Presence,
    Say,
    ServerRef,
    ServerSpec,
    Sighting,
    Spawner,
    Write,
    silent,
)
from himalia_spawner.claimed import Claims
from himalia_spawner.errors import BackendGone, SpawnError, SpawnFailed, SpawnRefused
from himalia_spawner.launch import Launch
from himalia_spawner.ledger import Ledger, runtime_folder
from himalia_spawner.nests import nests_for
from himalia_spawner.records import Folder, Record
from himalia_spawner.remains import Remains, kept_of
from himalia_spawner.settings import ProcessSettings
from himalia_spawner.sight import Sight
from himalia_spawner.threads import Threads
from himalia_spawner.watching import Watch

FAULT_POINTS = (
    "before_lock",
    "after_lock",
    "after_intent",
    "before_fork",
    "after_request",
    "after_fork",
    "after_record",
    "before_signal",
    "after_signal",
    "after_exit",
    "after_sweep",
)
"""Moments of start (the first seven) and stop at which tests kill the hub; passed to the `fault` argument."""

_HOUSEKEEPING_S = 30.0
_WORKERS = 4

T = TypeVar("T")

log = structlog.get_logger()


def _no_fault(point: str) -> None:
    """What runs outside of tests at each of FAULT_POINTS."""


class ProcessSpawner:
    """Runs each server as a process of this machine, under the user's own account or the hub's."""

    Settings: ClassVar[type[ProcessSettings]] = ProcessSettings

    def __init__(
        self,
        settings: ProcessSettings,
        *,
        hub_id: str,
        data_dir: Path,
        fault: Callable[[str], None] = _no_fault,
    ) -> None:
        if not procfs.pidfd_works():
            raise SpawnRefused("the process spawner needs Linux 5.3 or later with /proc mounted")
        if settings.system_users and os.geteuid() != 0:
            raise SpawnRefused(
                "spawner.process.system_users needs a hub that runs as root; "
                "start it as root, or set system_users = false"
            )
        self.node: str | None = socket.gethostname()
        self.guest_uids = settings.guest_range
        self.files_by_account, self.files_end_with_person = settings.system_users, False
        data_dir = data_dir.absolute()
        self._settings = settings
        runtime = runtime_folder(settings.runtime_dir, data_dir)
        # Two hubs of one account, both called "hub", must not take each other's processes for their own.
        self._hub = hashlib.sha256(f"{hub_id}\0{runtime}".encode()).hexdigest()[:16]
        self._logs = data_dir / "logs"
        self._ledger = Ledger(runtime, self._hub, self._logs)
        self._nests = nests_for(settings, runtime, self._logs)
        homes = settings.homes_dir or data_dir / "homes"
        groups = cgroups.Cgroups(self._hub, settings.cgroup_parent)
        self._launch = Launch(settings, self._hub, homes, fault, groups, self._nests, self._ledger.identify)
        self._fault = fault
        self._busy: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._stopping: set[str] = set()
        self._claims = Claims()
        self._giving = asyncio.Semaphore(1)
        self._threads = Threads(_WORKERS, "spawner")
        self._watch = Watch(self._ledger, self._nests, self._threads, self._ended)
        self._remains = Remains(
            self._hub,
            self._threads,
            keep_s=settings.keep_kernels_s,
            kill_s=settings.kill_timeout_s,
            guests=self.guest_uids,
        )
        self._sight = Sight(self._ledger, self._watch, self._claims, self._remains, self._threads, self._tail)

    # -- the Protocol ---------------------------------------------------------------------------------

    async def start(self, spec: ServerSpec, say: Say = silent) -> Handle:
        """Start it, or return the handle of the one that runs under `spec.ref` already."""
        # Shielded: a cancelled caller must not leave a fork behind that nobody writes down.
        try:
            return await asyncio.shield(asyncio.ensure_future(self._start(spec, say)))
        except OSError as error:  # no descriptor to read a record or to hold the process by
            raise SpawnFailed(f"the server could not be started: {error.strerror or error}") from error

    async def look(self, name: str) -> Sighting:
        """What runs under `name`; UNKNOWN only while a start is under way that can't be identified yet."""
        return await self._sight.look(name)

    async def stop(self, ref: ServerRef, *, grace_s: float | None = None) -> None:
        """End it and all it left behind, INT, TERM, KILL; another incarnation is left alone."""
        await asyncio.shield(asyncio.ensure_future(self._stop(ref, grace_s)))

    async def watch(self) -> AsyncIterator[str]:
        """Names of servers as they end; also adopts what runs already and keeps logs within bounds."""
        if self._nests is not None:
            self._watch.soon(self._warm_up())
        for record in (await self._take_stock())[1]:
            if not record.exit_reason:
                self._watch.changed.put_nowait(record.name)
            # A hub may have been killed after it wrote the end down and before it cleaned up.
            left = (str(self._ledger.folder(record.name).socket), *record.cgroups)
            if not record.exit_reason or record.kept_until or any(map(os.path.exists, left)):
                self._watch.soon(self._clean_up_after(record))
        while True:
            try:
                yield await asyncio.wait_for(self._watch.changed.get(), _HOUSEKEEPING_S)
            except TimeoutError:
                await self._in_thread(self._keep_house)
                self._watch.attend_nests()

    async def list(self) -> builtins.list[Handle]:
        """Every server of this hub that runs here, with or without a record."""
        return [record.handle for record in (await self._take_stock())[0]]

    async def logs(self, name: str, lines: int = 50) -> builtins.list[str]:
        """The last lines the server wrote, oldest first."""
        return await self._in_thread(serverlog.tail, self._log(name), lines)

    async def purge(self, name: str) -> None:
        """Remove the log and the runtime folder; SpawnFailed while the server runs."""
        async with self._busy[name]:
            folder = self._ledger.folder(name)
            lock = folder.lock()
            if lock is None:
                raise SpawnFailed(f"server {name!r} still runs; stop it first")
            try:
                await self._end_what_waits(folder)
                folder.remove()
                serverlog.remove(self._log(name))
            finally:
                os.close(lock)

    async def measure(self, names: Collection[str]) -> dict[str, Measure]:
        """What they use, in one look at the machine."""
        return await self._in_thread(measuring.measured, self._ledger, names)

    async def traces(self, known: Collection[str]) -> builtins.list[str]:
        """Folders and logs of servers that are not `known` and do not run."""
        return await self._in_thread(self._ledger.traces, known)

    async def remove_trace(self, mark: str) -> None:
        """Remove such a folder with its log, and what waits there."""
        await self._end_what_waits(self._ledger.folder_of_mark(mark))
        await self._in_thread(self._ledger.remove_trace, mark)

    async def take_in(self, whose: Person, name: str, key: str, write: Write) -> str:
        """Put a folder into this person's home; one at a time, so that starts have threads left."""
        async with self._giving:
            account = await self._in_thread(self._launch.account_of, whose)
            return await self._in_thread(giving.give, account, name, key, write)

    async def taken_in(self, whose: Person, key: str) -> None:
        """Forget that it was done."""
        account = await self._in_thread(self._launch.account_of, whose)
        await self._in_thread(giving.forget, account, key)

    async def close(self) -> None:
        """Stop watching; the servers go on, and so does the nest while it has any."""
        await self._watch.close()
        if self._nests is not None:
            self._nests.close()
        self._threads.close()

    # -- start ----------------------------------------------------------------------------------------

    async def _start(self, spec: ServerSpec, say: Say) -> Handle:
        name = spec.ref.name
        async with self._busy[name]:
            seen = await self.look(name)
            if seen.presence is Presence.UNKNOWN:
                raise BackendGone(f"server {name!r} is just being started by another hub process")
            if seen.handle is None:
                if seen.exit is not None:
                    await self._sweep_before(name)
                loop = asyncio.get_running_loop()

                def aloud(sentence: str) -> None:  # it is started in a thread
                    loop.call_soon_threadsafe(say, sentence)

                record = await self._in_thread(self._start_here, spec, aloud)
                self._claims.begun(spec)
                self._watch.attend(record)
                self._watch.attend_nests()
                return record.handle
            if seen.handle.ref == spec.ref:
                return seen.handle
            raise SpawnFailed(f"an earlier incarnation of server {name!r} still runs; stop it first")

    def _start_here(self, spec: ServerSpec, say: Say) -> Record:
        folder = self._ledger.folder(spec.ref.name)
        self._fault("before_lock")
        try:
            held = folder.hold()
        except OSError as error:
            raise SpawnFailed(
                f"the runtime folder {str(folder.path)!r} can't be used: {error.strerror}"
            ) from error
        if held is None:
            raise BackendGone(f"server {spec.ref.name!r} is just being started by another hub process")
        try:
            self._fault("after_lock")
            # Between look and lock another hub may have started it, and the server may let go of its lock.
            if (record := folder.read()) is not None and record.running():
                if record.ref != spec.ref:
                    raise SpawnFailed(f"an earlier incarnation of server {spec.ref.name!r} still runs")
                return record
            return self._launch.run(spec, folder, self._log(spec.ref.name), held, say)
        finally:
            held.close()

    async def _sweep_before(self, name: str) -> None:
        """Nothing of a former life may be there when the next begins, but what waits for it; it could even hold the
        lock.
        """
        folder = self._ledger.folder(name)
        record = folder.read()
        if record is not None and record.pid:
            await self._watch.settled(record)
            record = await self._remains.examine(folder.read() or record, folder)
            await self._remains.sweep(record, folder, spare=True)

    # -- stop -----------------------------------------------------------------------------------------

    async def _stop(self, ref: ServerRef, grace_s: float | None) -> None:
        async with self._busy[ref.name]:
            self._claims.forget(ref.name)
            seen = await self.look(ref.name)
            folder = self._ledger.folder(ref.name)
            record = folder.read()
            if seen.presence is Presence.UNKNOWN:
                raise BackendGone(f"server {ref.name!r} is just being started by another hub process")
            if record is None or record.ref != ref:
                return
            self._stopping.add(ref.name)
            try:
                self._fault("before_signal")
                await self._end(record, grace_s)
                self._fault("after_exit")
                await self._remains.sweep(record, folder, spare=False)
                self._fault("after_sweep")
                self._watch.settle(ref.name)
                folder.clear()
            finally:
                self._stopping.discard(ref.name)

    async def _end(self, record: Record, grace_s: float | None) -> None:
        pidfd = procfs.open_pidfd(record.pid, record.ticks) if record.running() else None
        if pidfd is None:
            return
        left_s = float("inf") if grace_s is None else grace_s
        interrupt_s = min(self._settings.interrupt_timeout_s, left_s)
        term_s = min(self._settings.term_timeout_s, left_s - interrupt_s)
        try:
            gone = await ending.escalate(
                pidfd,
                interrupt_s=interrupt_s,
                term_s=term_s,
                kill_s=self._settings.kill_timeout_s,
                signalled=lambda: self._fault("after_signal"),
            )
        finally:
            os.close(pidfd)
        if not gone:
            raise SpawnFailed(
                f"process {record.pid} of server {record.name!r} does not end, not even by SIGKILL; "
                "it may wait for a disk or network file system",
                log_tail=self._tail(record.name),
            )

    async def _end_what_waits(self, folder: Folder) -> None:
        record = folder.read()
        if record is not None and not record.running() and kept_of(record) is not None:
            await self._remains.sweep(record, folder, spare=False)

    # -- watching -------------------------------------------------------------------------------------

    async def _warm_up(self) -> None:
        assert self._nests is not None
        await self._in_thread(self._nests.warm_up)
        self._watch.attend_nests()

    async def _take_stock(self) -> tuple[builtins.list[Record], builtins.list[Record]]:
        """Records of what runs, now watched, and of what has ended since it was last seen."""
        running, dead = await self._in_thread(self._ledger.stock)
        for record in running:
            self._watch.attend(record)
        return running, dead

    async def _ended(self, record: Record) -> None:
        if record.name in self._stopping:
            return
        await self._on_another_port(record)
        await self._clean_up_after(record)

    async def _on_another_port(self, record: Record) -> None:
        """Once, where its port was taken before it could listen there; the rest is as with any end."""
        async with self._busy[record.name]:
            await self._watch.settled(record)
            now = self._ledger.folder(record.name).read()
            if now is None or (now.pid, now.ticks) != (record.pid, record.ticks):
                return
            if not self._claims.lost(now):
                self._claims.forget(
                    record.name
                )  # else a look that finds its port taken later waits for a move
                return
            spec = self._claims.move(now)
            try:
                await self._sweep_before(record.name)
                self._watch.attend(await self._in_thread(self._start_here, spec, silent))
            except (SpawnError, OSError) as error:
                log.warning("spawner.not_moved", server=record.name, why=str(error))
            finally:
                self._claims.moved(record.name)
                self._watch.changed.put_nowait(record.name)

    async def _clean_up_after(self, record: Record) -> None:
        async with self._busy[record.name]:
            folder = self._ledger.folder(record.name)
            now = folder.read()
            if now is None or (now.pid, now.ticks) != (record.pid, record.ticks):
                return
            await self._watch.settled(record)
            now = await self._remains.examine(folder.read() or record, folder)
            spared = kept_of(now) is not None
            with suppress(SpawnFailed):  # the next start or stop sweeps again, and says so
                await self._remains.sweep(now, folder, spare=spared)
            folder.socket.unlink(missing_ok=True)
        if (
            spared
        ):  # also if the time of what was spared ended during the sweep: nobody else would come for it
            kept = kept_of(now)
            self._watch.soon(self._clean_up_later(now, kept.left_s if kept is not None else 0.0))

    async def _clean_up_later(self, record: Record, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self._clean_up_after(record)

    # -- small things ---------------------------------------------------------------------------------

    def _keep_house(self) -> None:
        for name in self._watch.names():
            with suppress(OSError):
                self._ledger.folder(name).refresh()
                serverlog.trim(self._log(name), self._settings.log_max_bytes)
        if self._nests is not None:
            self._nests.renew()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _tail(self, name: str) -> tuple[str, ...]:
        return tuple(serverlog.tail(self._log(name), self._settings.log_tail_lines))

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        return await self._threads.run(function, *args)


_fits: type[Spawner] = ProcessSpawner
