"""Opening links as programs do: the event stream, read to its end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from hubs import Hub

EVENTS = {"Accept": "text/event-stream"}


async def events(hub: Hub, link: str, *, after: str = "") -> AsyncIterator[dict[str, Any]]:
    """The frames of `/build/<link>`, each with its id under `id`."""
    headers = EVENTS | ({"Last-Event-ID": after} if after else {})
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120), headers=headers) as session,
        session.get(URL(f"{hub.url}/build/{link}", encoded=True), max_line_size=2**16) as answer,
    ):
        assert answer.status == 200, await answer.text()
        last = ""
        async for raw in answer.content:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            if name == "id":
                last = value
            elif name == "data":
                event = json.loads(value) | {"id": last}
                yield event
                if event["phase"] in ("ready", "failed"):
                    return


async def opened(hub: Hub, link: str) -> list[dict[str, Any]]:
    """Every frame, to the end of the stream."""
    return [event async for event in events(hub, link)]


def config(folder: Path, *lines: str) -> str:
    """A hub that opens anybody's links to this machine, with these further settings of `[ephemeral]`."""
    told = "\n".join(lines)
    return (
        f'[ephemeral]\nopen_to = "everybody"\ndir = {json.dumps(str(folder))}\n'
        f'private_hosts = ["127.0.0.1"]\ntrusted_network = true\n{told}\n'
    )


def inside_an_open_root() -> tuple[str, ...]:
    """What gives a hub a view of this machine in which the interpreter lies where every account can read it.

    Test machines keep it below a home that is closed to others; in a mount namespace of its own that home is open.
    """
    home = Path(os.path.realpath(sys.executable)).parents[-2]  # `/root` of `/root/…/python3.11`
    if home.stat().st_mode & 0o001:
        return ()
    below = Path(os.path.realpath(sys.executable)).relative_to(home).parts[0]
    script = (
        'keep=$(mktemp -d) && mount --bind "$1/$2" "$keep" && mount -t tmpfs -o mode=711 none "$1" '
        '&& mkdir "$1/$2" && mount --bind "$keep" "$1/$2" && umount "$keep" && rmdir "$keep" && shift 2 && exec "$@"'
    )
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(home), below)
