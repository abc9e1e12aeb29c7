"""Which kernels of a server are at work just now: asked before people stop it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import aiohttp

from himalia_hub.secrets import Secrets
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import ready, server_prefix
from himalia_hub.settings import HubSettings
from himalia_proxy.sockets import pinned

PATIENCE_S = 1.5
AT_ONCE = 20


async def busy(
    servers: Sequence[tuple[Server, str]], settings: HubSettings, secrets: Secrets
) -> dict[int, list[str] | None]:
    """By server id, the names of the notebooks (or kernels) that compute; of a (server, person) each.

    None for one that does not answer in time: nobody must wait for it in order to stop it. What is not running has
    no entry.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(server: Server, username: str) -> tuple[int, list[str] | None]:
        async with gate:
            prefix = server_prefix(settings, username, server.name)
            return server.id, await _busy(
                server.url, prefix, secrets.server_token(server.id, server.incarnation)
            )

    asked = [one(server, username) for server, username in servers if ready(server)]
    return dict(await asyncio.gather(*asked))


@asynccontextmanager
async def asking(url: str, token: str, *, total_s: float) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A client that asks a server as the server itself, and what its paths are appended to."""
    parts, total = urlsplit(url), aiohttp.ClientTimeout(total=total_s)
    headers = {"Authorization": f"token {token}"}
    if parts.scheme == "http+unix":
        with pinned(unquote(parts.netloc)) as path:
            connector = aiohttp.UnixConnector(path)
            async with aiohttp.ClientSession(connector=connector, timeout=total, headers=headers) as session:
                yield session, "http://server"
        return
    async with aiohttp.ClientSession(timeout=total, headers=headers) as session:
        yield session, url


async def _busy(url: str, prefix: str, token: str) -> list[str] | None:
    try:
        async with asking(url, token, total_s=PATIENCE_S) as (session, base):
            return await _names(session, f"{base}{prefix}")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, TypeError, KeyError):
        return None


async def _names(session: aiohttp.ClientSession, base: str) -> list[str]:
    """Jupyter's own list of sessions, and of kernels for those that no notebook is open on."""
    async with session.get(f"{base}api/kernels", allow_redirects=False) as answer:
        answer.raise_for_status()
        kernels = await answer.json()
    working = {kernel["id"]: kernel["name"] for kernel in kernels if kernel["execution_state"] == "busy"}
    if not working:
        return []
    async with session.get(f"{base}api/sessions", allow_redirects=False) as answer:
        sessions = await answer.json() if answer.status == 200 else []
    for open_one in sessions:
        if open_one["kernel"]["id"] in working and open_one.get("path"):
            working[open_one["kernel"]["id"]] = str(open_one["path"])[:200]
    return sorted(str(name)[:200] for name in working.values())
