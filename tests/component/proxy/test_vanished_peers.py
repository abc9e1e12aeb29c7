"""Peers that vanish without a word, as a closed laptop does: another network namespace whose link goes down."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from component.proxy.parts import raw_target, read_head, running
from support import eventually

CLIENT = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.sendall(sys.argv[3].encode().decode("unicode_escape").encode())
print(sock.recv(4096).decode(), flush=True)
sys.stdin.read()
"""


_serial = itertools.count()


class Host:
    """A network namespace with one link to this one; `here` and `there` are the addresses of its ends."""

    def __init__(self, number: str, here: str, there: str) -> None:
        self.name, self.near, self.far = f"himalia-{number}", f"hpn{number}", f"hpf{number}"
        self.here, self.there = here, there

    def vanish(self) -> None:
        """What is sent there is lost on its way, and nothing comes back: not even that it is lost."""
        _ip("-n", self.name, "addr", "flush", "dev", self.far)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def another_host() -> Iterator[Host]:
    assert os.geteuid() == 0, "network namespaces can only be made as root; run these tests as root"
    # A network of four addresses in 198.18.0.0/15 (RFC 2544) that no other run of these tests has at the same time.
    network = ipaddress.ip_network("198.18.0.0/15")[os.getpid() % 2**15 * 4]
    host = Host(f"{os.getpid()}{next(_serial)}", str(network + 1), str(network + 2))
    _ip("netns", "add", host.name)
    try:
        _ip("link", "add", host.near, "type", "veth", "peer", "name", host.far, "netns", host.name)
        _ip("addr", "add", f"{host.here}/30", "dev", host.near)
        _ip("link", "set", host.near, "up")
        _ip("-n", host.name, "addr", "add", f"{host.there}/30", "dev", host.far)
        _ip("-n", host.name, "link", "set", host.far, "up")
        # Otherwise the kernel would ask who has the address, get no answer, and know more than a real one knows.
        shown = subprocess.run(
            ["ip", "-n", host.name, "-o", "link", "show", host.far], capture_output=True, text=True
        )
        hardware = shown.stdout.partition("link/ether ")[2].split()[0]
        _ip("neigh", "replace", host.there, "lladdr", hardware, "dev", host.near, "nud", "permanent")
        yield host
    finally:
        subprocess.run(["ip", "link", "del", host.near], capture_output=True, check=False)
        _ip("netns", "del", host.name)


@pytest.mark.parametrize("then", ["silence", "unread words"])
async def test_a_tunnel_whose_client_vanished_is_ended(tmp_path: Path, then: str) -> None:
    """Keep-alive finds the idle one; data that nobody acknowledges finds the other."""
    speak = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        if then != "silence":
            await speak.wait()
            writer.write(b"is anybody there?")
        await reader.read()

    request = r"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    options = ("--ip", "0.0.0.0", "--half-open-timeout", "3000")
    with another_host() as host:
        async with running(tmp_path, *options) as proxy, raw_target(talk) as target:
            await proxy.route("/", target.url)
            client = await asyncio.create_subprocess_exec(
                "ip", "netns", "exec", host.name, sys.executable, "-I", "-c", CLIENT, host.here, str(proxy.port), request,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            assert client.stdout is not None
            assert b"101" in await client.stdout.readline()
            host.vanish()
            speak.set()
            try:
                await eventually(lambda: target.closed == 1)
            finally:
                client.kill()
                await client.communicate()
