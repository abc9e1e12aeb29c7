"""A worker process: clients' listeners and nothing else, by the table of the first process."""

from __future__ import annotations

import asyncio
import gc

from himalia_proxy.assembly import Told, client_listener, keep_files_fresh, make_core
from himalia_proxy.channel import Channel, Message
from himalia_proxy.members import Members, Membership
from himalia_proxy.settings import ProxySettings
from himalia_proxy.workers import Inherited


async def work(settings: ProxySettings, inherited: Inherited) -> None:
    """Run until told to stop, by a signal or by the first process; at once when that one is gone."""
    loop, told = asyncio.get_running_loop(), Told()
    told.listen(loop)
    core = make_core(loop, settings, inherited.tally)
    filled = asyncio.Event()
    tunnels_s = settings.tunnel_grace_s

    def heard(message: Message) -> None:
        nonlocal tunnels_s
        if "table" in message:
            filled.set()
        if "reload" in message:
            told.reload.set()
        if "stop" in message:
            tunnels_s = message["stop"]
            told.stop.set()
        if "hurry" in message:
            told.hurry.set()

    def alone() -> None:
        # Nobody would tell it of routes any more, and a new proxy needs the port.
        told.stop.set()
        told.hurry.set()
        filled.set()

    membership = Membership(core, Members(core), heard)
    channel = membership.channel = Channel(membership.heard, alone)
    await channel.speak_over(inherited.channel)
    await filled.wait()
    if told.stop.is_set():
        return
    listeners = [client_listener(name, sock, settings, core) for name, sock in inherited.sockets.items()]
    for listener in listeners:
        await listener.open()
    channel.send({"ready": True})
    fresh = loop.create_task(keep_files_fresh(settings, listeners, core, told.reload))
    gc.collect()
    gc.freeze()
    await told.stop.wait()
    for listener in listeners:
        listener.close()
    fresh.cancel()
    await asyncio.wait([fresh])
    await core.stop(drain_s=settings.drain_timeout_s, tunnels_s=tunnels_s, hurry=told.hurry)
    membership.report()
    channel.close()
