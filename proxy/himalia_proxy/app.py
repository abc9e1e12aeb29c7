"""The first process of a proxy: all of it, or the API and the table in front of worker processes."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Sequence
from typing import Final

from himalia_proxy.api import RoutesApi
from himalia_proxy.assembly import (
    FOR_CLIENTS,
    Told,
    check_certificates,
    client_listener,
    keep_files_fresh,
    make_core,
    own_listener,
    places,
)
from himalia_proxy.channel import Message
from himalia_proxy.core import log
from himalia_proxy.errors import StartError
from himalia_proxy.follow import Ask, Following, at_proxy
from himalia_proxy.handover import Handover, Taken, fitting, take
from himalia_proxy.hub import HubTable
from himalia_proxy.listeners import Listener, bind_soon, name_of, remove
from himalia_proxy.members import Members, Membership
from himalia_proxy.settings import ProxySettings
from himalia_proxy.snapshot import Snapshot
from himalia_proxy.table import loadable, shown
from himalia_proxy.target import Target
from himalia_proxy.tls import client_context
from himalia_proxy.workers import Workers

API_ENDS_WITHIN_S: Final = 2.0
LEADER_ANSWERS_WITHIN_S: Final = 5.0
OLD_WORKERS_END_WITHIN_S: Final = 5.0


async def serve(settings: ProxySettings, argv: Sequence[str]) -> None:
    """Run until SIGTERM or SIGINT; a second signal ends the wait for open requests. StartError at start.

    `argv` is the command line that `settings` was read from; workers are started with it.
    """
    proxy = Proxy(settings)
    try:
        await proxy.start(argv)
        await proxy.told.stop.wait()
    finally:
        await proxy.stop()


class Proxy:
    """One running proxy, from binding its sockets to closing the last tunnel."""

    def __init__(self, settings: ProxySettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self.told = Told()
        check_certificates(settings)
        if settings.follow_hub is not None and settings.hub_token is None:
            raise StartError(
                "--follow-hub needs HIMALIA_HUB_TOKEN, a token of the hub's with the scope proxy."
            )
        self._core = make_core(self._loop, settings)
        self._members = Members(self._core)
        self._filled = asyncio.Event()
        self._membership = Membership(self._core, self._members, self._heard)
        self._snapshot = Snapshot(settings.routes_file, self._core.table) if settings.routes_file else None
        self._listeners: dict[str, Listener] = {}
        self._workers: Workers | None = None
        self._handover: Handover | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._named: list[str] = []  # files to remove at the end

    async def start(self, argv: Sequence[str]) -> None:
        """Listen and serve; take over from a running proxy if there is one at `--handover-socket`."""
        settings, core = self._settings, self._core
        self.told.listen(self._loop)
        wanted = places(settings)
        taken = take(settings.handover_socket) if settings.handover_socket else None
        self._fill(taken)
        if taken is not None:
            sockets = fitting(taken, wanted)
        else:
            patience = OLD_WORKERS_END_WITHIN_S if settings.workers > 1 else 0.0
            sockets = await bind_soon(wanted, within_s=patience)
        self._named += [place.path for place in wanted.values() if place.path is not None]
        followed = settings.follow or settings.follow_hub
        leader = followed.url if followed else None
        api = RoutesApi(core, self._members, settings.auth_token, self._changed, leader=leader)
        if followed is not None:
            await self._follow(followed)
        for name, sock in sockets.items():
            if name in FOR_CLIENTS:
                self._listeners[name] = client_listener(name, sock, settings, core)
            else:
                self._listeners[name] = own_listener(name, sock, settings, core, self._members, api)
        opened = [
            one for name, one in self._listeners.items() if settings.workers == 1 or name not in FOR_CLIENTS
        ]
        if settings.workers > 1:
            passed = {name: sock for name, sock in sockets.items() if name in FOR_CLIENTS}
            self._workers = Workers(self._members, core.table, argv, passed, settings.workers)
            await self._workers.start()
        for listener in opened:
            await listener.open()
        if settings.pid_file:
            _write_pid(settings.pid_file)
            self._named.append(settings.pid_file)
        await self._begin(opened, taken)
        said = " ".join(f"{name}={name_of(sock)}" for name, sock in sockets.items())
        log.info(
            "proxy.listening %s tls=%s workers=%d", said, "yes" if settings.tls else "no", settings.workers
        )

    async def _follow(self, leader: Target) -> None:
        """Serve with the leader's table at once, if it can be had."""
        settings = self._settings
        if settings.follow_hub is not None:
            assert settings.hub_token is not None
            ask: Ask = HubTable(self._core.pool, leader, settings.hub_token).ask
        else:
            context = lambda: client_context(settings.client_tls, settings.tuning, insecure=settings.insecure)
            ask = at_proxy(leader, settings.auth_token, context)
        following = Following(self._membership, leader.url, ask)
        self._tasks.append(self._loop.create_task(following.keep()))
        try:
            await asyncio.wait_for(self._filled.wait(), LEADER_ANSWERS_WITHIN_S)
        except TimeoutError:
            log.warning("follow.without_table leader=%s routes=%d", leader.url, len(self._core.table))

    def _heard(self, message: Message) -> None:
        if "table" in message:
            self._filled.set()
        if "table" in message or "change" in message:
            self._changed()

    def _fill(self, taken: Taken | None) -> None:
        if taken is not None:
            self._core.table.load(loadable(taken.table))
            log.info("handover.taken routes=%d sockets=%s", len(self._core.table), ",".join(taken.sockets))
        elif self._snapshot is not None:
            log.info("snapshot.loaded routes=%d", self._snapshot.load())
        if self._settings.default_target is not None:
            self._core.table.put("/", {"target": self._settings.default_target}, time.time())

    async def _begin(self, opened: Sequence[Listener], taken: Taken | None) -> None:
        """What goes on beside serving; then the predecessor hears that it may go."""
        settings, reload = self._settings, self.told.reload
        told = lambda: self._members.tell({"reload": True})
        self._tasks.append(
            self._loop.create_task(keep_files_fresh(settings, opened, self._core, reload, told))
        )
        if self._snapshot is not None:
            self._tasks.append(self._loop.create_task(self._snapshot.keep()))
        if taken is not None:
            ended = lambda: log.info("handover.predecessor_ended")
            old = await self._members.add(taken.connection, ready=lambda: None, lost=ended)
            old.channel.send({"serving": True})
        if settings.handover_socket:
            self._handover = Handover(
                self._core,
                self._membership,
                {name: listener.sock for name, listener in self._listeners.items()},
                lambda: {entry.path: shown(entry) for entry in self._core.table},
                pause=self._pause_api,
                go_on=self._resume_api,
                handed_over=self.told.stop.set,
            )
            self._handover.listen(settings.handover_socket)
        # What exists now exists for good: the collector need not walk it again.
        gc.collect()
        gc.freeze()

    def _changed(self) -> None:
        if self._snapshot is not None:
            self._snapshot.changed()

    async def _pause_api(self) -> None:
        """Accept no more calls, and let those under way end."""
        self._listeners["api"].stop_accepting()
        self._core.api_clients.drain(self._loop.time())
        until = self._loop.time() + API_ENDS_WITHIN_S
        while self._core.api_clients.open and self._loop.time() < until:
            await asyncio.sleep(0.01)

    async def _resume_api(self) -> None:
        self._core.api_clients.draining = False
        await self._listeners["api"].open()

    async def stop(self) -> None:
        """Accept nothing more and end in order; a second signal hurries it. Also after half a start."""
        settings, core, told = self._settings, self._core, self.told
        handed_over = self._handover is not None and self._handover.done
        tunnels_s = settings.handover_grace_s if handed_over else settings.tunnel_grace_s
        gauges = self._members.gauges()
        log.info("proxy.stopping connections=%d tunnels=%d", gauges["connections"], gauges["tunnels"])
        for listener in self._listeners.values():
            listener.close()
        if self._handover is not None:
            self._handover.close()
        if not handed_over:
            for path in self._named:
                remove(path)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._workers is not None:
            await self._stop_workers(self._workers, tunnels_s)
        await core.stop(drain_s=settings.drain_timeout_s, tunnels_s=tunnels_s, hurry=told.hurry)
        if self._snapshot is not None and not handed_over:
            self._snapshot.save()

    async def _stop_workers(self, workers: Workers, tunnels_s: float) -> None:
        ending = self._loop.create_task(workers.stop(tunnels_s=tunnels_s))
        hurried = self._loop.create_task(self.told.hurry.wait())
        await asyncio.wait((ending, hurried), return_when=asyncio.FIRST_COMPLETED)
        if hurried.done():
            workers.hurry()
        hurried.cancel()
        await asyncio.wait((ending, hurried))


def _write_pid(path: str) -> None:
    beside = f"{path}.{os.getpid()}"
    try:
        with open(beside, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
        os.replace(beside, path)  # whoever reads it finds all of a number
    except OSError as error:
        raise StartError(f"--pid-file {path!r} cannot be written: {error.strerror}.") from None
