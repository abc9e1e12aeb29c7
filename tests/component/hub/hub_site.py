"""The whole hub on a real socket, over a real database, with nobody working on the rows."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import argon2
import pytest
import sqlalchemy as sa
import yarl
from aiohttp import web

import schema
from himalia_hub import clock
from himalia_hub.app import make_app
from himalia_hub.auth import password
from himalia_hub.db.engine import Database
from himalia_hub.secrets import Secrets
from himalia_hub.servers import store as servers
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.world import World
from himalia_hub.settings import HubSettings
from himalia_hub.tokens import store as tokens
from himalia_hub.users.models import User
from himalia_proxy.base import Proxy, ProxyError, Route
from himalia_spawner.fake import FakeSpawner

PASSWORD = "a long enough password"
ANY = "of PASSWORD"


@functools.cache
def _stored(hasher: argon2.PasswordHasher) -> str:
    return hasher.hash(PASSWORD)


def stored() -> str:
    """PASSWORD's hash as the hub would make it just now, so that no sign-in makes it anew."""
    return _stored(password._hasher)


@contextmanager
def quick_passwords() -> Iterator[None]:
    """Argon2 as ever, but with next to nothing to do: a sign-in costs 80 ms of processor time otherwise.

    Not for tests of what many sign-ins at once do to each other.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(password, "_hasher", argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        password._dummy.cache_clear()
        yield
    password._dummy.cache_clear()


def identify(name: str) -> set[str]:
    """What every token of a person may read of them."""
    return {f"read:users:groups!user={name}", f"read:users:name!user={name}"}


class EmptyProxy:
    """A proxy without routes."""

    async def put(self, route: Route) -> None: ...
    async def delete(self, routespec: str) -> None: ...
    async def get(self, routespec: str) -> Route | None:
        return None

    async def routes(self) -> dict[str, Route]:
        return {}

    async def close(self) -> None: ...

    async def move(self, *, api_url: str | None, auth_token: str | None) -> None:
        raise ProxyError("nothing is there")


@dataclass
class Answer:
    status: int
    headers: Any
    text: str
    json: Any = None

    @property
    def location(self) -> str:
        return self.headers["Location"]

    @property
    def xsrf(self) -> str:
        found = re.search(r'data-xsrf="([^"]*)"', self.text)
        assert found, self.text[:500]
        return found[1]


@dataclass
class Client:
    """One visitor; cookies are kept, redirects are not followed."""

    session: aiohttp.ClientSession

    async def __call__(self, method: str, path: str, **more: Any) -> Answer:
        url = yarl.URL(path, encoded=True)
        async with self.session.request(method, url, allow_redirects=False, **more) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json" and text
            return Answer(answer.status, answer.headers, text, await answer.json() if is_json else None)

    async def login(
        self, name: str, given: str = PASSWORD, *, next_url: str | None = None, **headers: str
    ) -> Answer:
        path = "/hub/login" + (f"?next={next_url}" if next_url is not None else "")
        form = await self("GET", path)
        fields = {"username": name, "password": given, "_xsrf": form.xsrf}
        return await self("POST", path, data=fields, headers=headers)

    def cookie(self, name: str) -> str | None:
        found = [cookie.value for cookie in self.session.cookie_jar if cookie.key == name and cookie.value]
        return found[0] if found else None


@dataclass
class Site:
    """A running hub without loops."""

    app: web.Application
    world: World
    url: str

    @property
    def db(self) -> Database:
        return self.world.db

    async def count(self, table: type) -> int:
        async with self.db.read() as db:
            return int(await db.scalar(sa.select(sa.func.count()).select_from(table)) or 0)

    async def person(self, name: str, *, admin: bool = False, hashed: str | None = ANY) -> User:
        hashed = stored() if hashed is ANY else hashed
        async with self.db.begin() as db:
            user = User(name=name, admin=admin, password_hash=hashed, created=clock.now())
            db.add(user)
        return user

    async def token(self, user: User, *scopes: str, lasts: timedelta | None = None) -> str:
        async with self.db.begin() as db:
            _, secret = await tokens.issue(
                db, user.id, now=clock.now(), scopes=list(scopes) or ["inherit"], expires_in=lasts
            )
        return secret

    async def server(
        self,
        user: User,
        name: str = "",
        *,
        desired: Desired = Desired.RUNNING,
        phase: Phase = Phase.READY,
        secret: str = "",
    ) -> Server:
        async with self.db.begin() as db:
            row = await servers.get_or_create(db, user, name, now=clock.now())
            row.desired, row.phase, row.generation, row.acted_generation = desired, phase, 1, 1
            if secret:
                await db.run_sync(
                    tokens.put_server_token,
                    user_id=user.id,
                    server_id=row.id,
                    incarnation=f"{row.id}.1",
                    secret=secret,
                    prefix="/",
                    now=clock.now(),
                )
        return row

    @asynccontextmanager
    async def client(self, token: str | None = None, **headers: str) -> AsyncIterator[Client]:
        given = headers | ({"Authorization": f"token {token}"} if token else {})
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(self.url, cookie_jar=jar, headers=given) as session:
            yield Client(session)


@asynccontextmanager
async def site(
    folder: Path, url: str | None = None, *, proxy_client: Proxy | None = None, port: int = 0, **settings: Any
) -> AsyncIterator[Site]:
    """The hub on that or a free port, on a migrated database."""
    url = url or f"sqlite:///{folder / 'himalia.sqlite'}"
    await schema.bring(url)
    configured = HubSettings(data_dir=folder, **settings)
    world = World(
        configured,
        Database(url),
        FakeSpawner(),
        proxy_client or EmptyProxy(),
        Secrets(b"x" * 32),
        Doorbell(),
        "http://127.0.0.1:1",
    )
    app = make_app(world, loops=False)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", port)
    await listener.start()
    try:
        yield Site(app, world, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()
        await world.db.close()
