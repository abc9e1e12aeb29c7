"""Opening links as programs do: the event stream, read to its end."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
from yarl import URL

from hubs import PASSWORD, Hub
from support import eventually

EVENTS = {"Accept": "text/event-stream"}


async def events(
    hub: Hub, link: str, *, after: str = "", patience_s: float = 120
) -> AsyncIterator[dict[str, Any]]:
    """The frames of `/build/<link>`, each with its id under `id`."""
    headers = EVENTS | ({"Last-Event-ID": after} if after else {})
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=patience_s), headers=headers) as session,
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


class Person:
    """Somebody with a browser that runs no scripts. Every request is a connection of its own, for hubs are killed."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            timeout=aiohttp.ClientTimeout(total=60),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str) -> tuple[int, str, str]:
        """Status, where it leads, text."""
        url = URL(self._hub.url + path, encoded=True)
        async with self._session.get(url, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location", ""), await answer.text()

    async def press(self, path: str, **fields: str) -> str:
        """Send the form that this page shows; where that leads."""
        _, _, text = await self.get(path)
        xsrf = re.search(r'data-xsrf="([^"]*)"', text)
        assert xsrf, text
        url = URL(self._hub.url + path, encoded=True)
        async with self._session.post(
            url, data={"_xsrf": xsrf[1], **fields}, allow_redirects=False
        ) as answer:
            assert answer.status in (302, 303), await answer.text()
            return answer.headers["Location"]

    async def sign_in(self, name: str) -> None:
        """With the account's password."""
        await self.press("/hub/login", username=name, password=PASSWORD)

    async def open(self, link: str) -> str:
        """Open a link, having been asked; the path of its launch once that is ready."""
        launch = await self.press(f"/hub/v2/{link}")
        await self.until(launch, lambda status, _: status == 302)
        return launch

    async def until(self, path: str, right: Callable[[int, str], bool]) -> str:
        """The page, as soon as its status and text are right."""
        seen = (0, "")

        async def now() -> bool:
            nonlocal seen
            status, _, text = await self.get(path)
            seen = (status, text)
            return right(status, text)

        await eventually(now, within_s=60, what=f"{path} shows what is waited for")
        return seen[1]


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
