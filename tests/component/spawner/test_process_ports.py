"""Ports of commands: whose they are, who took one first, and what the kernel says of it."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack

import pytest
import structlog

from himalia_spawner import procfs
from himalia_spawner.base import Presence, Sighting
from himalia_spawner.ports import Listener, ask_kernel, listener, read_tables
from hubs import free_port
from support import eventually


async def test_a_server_on_a_port_is_listening_only_when_it_does(rig) -> None:
    spawner = rig.spawner()
    await spawner.start(rig.told("silent"))

    sighting = await spawner.look("ada-server")

    assert (sighting.presence, sighting.listening) == (Presence.PRESENT, False)
    assert "does not listen yet" in sighting.detail


async def test_a_strangers_listener_on_the_servers_port_is_never_taken_for_it(rig, as_root) -> None:
    spawner = rig.spawner()
    handle = await spawner.start(rig.told("silent"))
    port = int(handle.url.rpartition(":")[2])
    listen = f"import os, socket, time; os.setuid(65534); s = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    stranger = rig.stranger(listen)
    try:
        await eventually(lambda: (found := listener(port)) and found.uid == 65534)

        sighting = await spawner.look("ada-server")

        assert (sighting.presence, sighting.listening) == (Presence.PRESENT, False)
        assert "another account" in sighting.detail
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("taken", [1, 2])
async def test_a_server_whose_port_was_taken_is_given_another_once(
    rig, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    spawner, heard = rig.spawner(), list[Presence]()
    with ExitStack() as held, structlog.testing.capture_logs() as said:
        others = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(taken)]
        given = [*(other.getsockname()[1] for other in others), free_port()]
        monkeypatch.setattr("himalia_spawner.ports.free_port", iter(given).__next__)
        watching = asyncio.create_task(anext(spawner.watch()))
        await spawner.start(rig.told("serve"))

        async def settled() -> Sighting | None:
            sighting = await spawner.look("ada-server")
            heard.append(sighting.presence)
            unsettled = sighting.presence is Presence.UNKNOWN or not sighting.listening
            return None if unsettled else sighting

        sighting = await eventually(settled)
        assert await watching == "ada-server"
        warned = [line["port"] for line in said if line["event"] == "spawner.port_taken"]

    assert warned == given[:1]
    assert set(heard[:-1]) <= {Presence.PRESENT, Presence.UNKNOWN}
    if taken == 1:
        assert sighting.handle.url == f"http://127.0.0.1:{given[1]}"
        assert (await rig.environment(sighting.handle))["JUPYTERHUB_SERVICE_URL"].startswith(
            sighting.handle.url
        )
    else:
        assert (sighting.presence, sighting.exit.status) == (Presence.ABSENT, 1)


@pytest.mark.parametrize("by", ["a listener", "the near end of a connection"])
async def test_a_server_that_ends_before_it_is_watched_because_its_port_was_taken_is_given_another(
    rig, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    first = iter([True])

    def wait_for_its_end(point: str) -> None:
        if point == "after_record" and next(first, False):
            record = spawner._ledger.folder("ada-server").read()
            while procfs.stat(record.pid):  # the nest reaps it
                os.sched_yield()

    spawner = rig.spawner(fault=wait_for_its_end, isolation="fork")
    with ExitStack() as held:
        other = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        if by != "a listener":
            other = held.enter_context(socket.create_connection(other.getsockname()))
        given = iter([other.getsockname()[1], free_port()])
        monkeypatch.setattr("himalia_spawner.ports.free_port", given.__next__)
        await spawner.start(rig.told("serve"))

        async def listens() -> bool:
            sighting = await spawner.look("ada-server")
            return sighting.presence is Presence.PRESENT and sighting.listening

        await eventually(listens)


def test_the_owner_of_a_listening_port_is_known() -> None:
    port = free_port()
    assert listener(port) is None
    with socket.create_server(("127.0.0.1", port)):
        assert (found := listener(port)) and found.uid == os.getuid()
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True):
        assert (found := listener(port)) and found.uid == os.getuid()


def test_the_kernel_says_of_listeners_what_its_tables_say() -> None:
    def by_tables(port: int) -> Listener | None:
        return next(iter(read_tables(port)), None)

    with socket.create_server(("127.0.0.1", 0)) as mine, socket.socket() as bound:
        port = mine.getsockname()[1]
        bound.bind(("127.0.0.1", 0))  # and does not listen
        with socket.create_connection(("127.0.0.1", port)) as visitor:
            for each in (port, bound.getsockname()[1], visitor.getsockname()[1]):
                assert ask_kernel(each) == by_tables(each), each
        assert ask_kernel(port) == Listener(port, os.getuid(), loopback=True)
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True):
        assert ask_kernel(port) == by_tables(port) == Listener(port, os.getuid(), loopback=False)


def test_of_two_listeners_the_one_that_connections_reach_is_told() -> None:
    with socket.create_server(("0.0.0.0", 0), reuse_port=True) as every:
        port = every.getsockname()[1]
        with socket.create_server(("127.0.0.1", port), reuse_port=True) as mine:
            assert ask_kernel(port) == listener(port) == Listener(port, os.getuid(), loopback=True)
            assert ask_kernel(port).inode == os.fstat(mine.fileno()).st_ino
        assert ask_kernel(port).inode == os.fstat(every.fileno()).st_ino
