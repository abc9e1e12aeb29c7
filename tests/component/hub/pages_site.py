"""The hub's pages on a real socket, with rows in a real database and nobody working on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa
import yarl
from aiohttp import web

import schema
from component.hub.hub_site import PASSWORD, Answer, EmptyProxy, stored
from himalia_hub import clock, middleware, pages
from himalia_hub.auth import account, login
from himalia_hub.auth.cutting import CUTTER, Cutter
from himalia_hub.auth.door import DOOR, make_door
from himalia_hub.auth.vault import VAULT, Vault
from himalia_hub.bulk import work
from himalia_hub.db.engine import Database
from himalia_hub.db.memo import Memo
from himalia_hub.ending import ENDING, Ending
from himalia_hub.ephemeral import handlers as links
from himalia_hub.ephemeral import make_link, sessions
from himalia_hub.ephemeral.admission import Admission
from himalia_hub.ephemeral.listeners import Listeners
from himalia_hub.keys import (
    DB,
    DOORBELL,
    FIGURES,
    LAUNCH_BELL,
    LAUNCH_DOOR,
    LAUNCH_LISTENERS,
    MEMO,
    SECRETS,
    SETTINGS,
    SPAWNER,
    TOGETHER,
    WORLD,
)
from himalia_hub.languages import choosing
from himalia_hub.measures.store import Point, keep
from himalia_hub.metrics.figures import Figures
from himalia_hub.oauth import handlers as oauth
from himalia_hub.pages import live
from himalia_hub.pages.beside import lead_home
from himalia_hub.replicas.together import Together
from himalia_hub.secrets import Secrets
from himalia_hub.servers import store
from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.models import Server
from himalia_hub.servers.progress import progress
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.world import World
from himalia_hub.settings import HubSettings
from himalia_hub.signups import handlers as signups
from himalia_hub.users.models import User
from himalia_spawner.fake import FakeSpawner

RUNNING, STOPPED = Desired.RUNNING, Desired.STOPPED
FAILURE = {
    "cause": "ended while starting",
    "message": "the server ended with status 1",
    "log_tail": ["first <b>line</b>", "OSError: No space left on device"],
    "at": "2026-11-23T20:00:00Z",
}


@dataclass
class Site:
    """A running hub without loops."""

    app: web.Application
    db: Database
    url: str

    async def person(self, name: str, *, admin: bool = False) -> User:
        async with self.db.begin() as db:
            user = User(name=name, admin=admin, password_hash=stored(), created=clock.now())
            db.add(user)
        return user

    async def server(
        self,
        user: User,
        name: str = "",
        desired: Desired = STOPPED,
        phase: Phase = Phase.STOPPED,
        **more: Any,
    ) -> Server:
        now = clock.now()
        values = {
            "backend_name": f"{user.id}-{name}", "user_options": {}, "generation": 1, "acted_generation": 1,
            "phase_since": now, "started": now - timedelta(hours=3, minutes=12) if phase is Phase.READY else None,
        } | more  # fmt: skip
        async with self.db.begin() as db:
            row = Server(user_id=user.id, name=name, desired=desired, phase=phase, **values)
            db.add(row)
        return row

    async def event(self, server: Server, message: str, *, progress: int = 50, kind: str = "info") -> None:
        async with self.db.begin() as db:
            store.add_event(db, server, kind, progress, message, now=clock.now())
        self.app[DOORBELL].tell(server.id)

    async def change(self, server: Server, **values: Any) -> None:
        async with self.db.begin() as db:
            await db.execute(sa.update(Server).where(Server.id == server.id).values(values))
        self.app[DOORBELL].tell(server.id)

    async def measured(self, server: Server, memory: int, cpus: float) -> None:
        """As the background work writes it: nobody rings."""
        point = Point(server.id, clock.now(), memory, cpus)
        await self.db.write(partial(keep, now_used=[point], minutes=[point]))

    async def row(self, username: str, name: str = "") -> Server | None:
        async with self.db.read() as db:
            return await store.find(db, username, name)

    @asynccontextmanager
    async def browser(self, name: str | None = None) -> AsyncIterator[Browser]:
        """A client with cookies; signed in through the form when a name is given."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            browser = Browser(session, self.url)
            if name is not None:
                form = await browser.get("/hub/login")
                answer = await browser.post(
                    "/hub/login", {"username": name, "password": PASSWORD}, xsrf=form.xsrf
                )
                assert answer.status == 302, answer.text
            yield browser


@dataclass
class Browser:
    """Requests as a browser's navigation makes them; redirects are not followed."""

    session: aiohttp.ClientSession
    base: str

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.send("GET", path, headers={"Accept": "text/html,*/*", **headers})

    async def post(self, path: str, form: dict[str, str], *, xsrf: str | None = None) -> Answer:
        if xsrf is None:
            xsrf = (await self.get("/hub/home")).xsrf
        return await self.send("POST", path, data={"_xsrf": xsrf, **form})

    async def send(self, method: str, path: str, **more: Any) -> Answer:
        url = yarl.URL(self.base + path, encoded=True)
        async with self.session.request(method, url, allow_redirects=False, **more) as answer:
            return Answer(answer.status, answer.headers, await answer.text())


@asynccontextmanager
async def site(folder: Path, *, at_port: int = 0, **settings: Any) -> AsyncIterator[Site]:
    """Pages, sign-in and progress of a hub on a free port, or on the one that an earlier hub had."""
    url = f"sqlite:///{folder / 'himalia.sqlite'}"
    await schema.bring(url)
    db = Database(url)
    answering: set[asyncio.Task[Any]] = set()

    @web.middleware
    async def known(request: web.Request, handler: Any) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        answering.add(task)
        try:
            return await handler(request)
        finally:
            answering.discard(task)

    app = web.Application(middlewares=[known, *middleware.stack(lead_home)])
    app.on_response_prepare.append(middleware.add_headers)
    app[SETTINGS] = HubSettings(data_dir=folder, **settings)
    app[DOOR] = make_door(app[SETTINGS], db)
    app[MEMO], app[FIGURES] = Memo(db), Figures()
    app[DB], app[SECRETS], app[DOORBELL] = db, Secrets(b"x" * 32), Doorbell()
    app[ENDING], app[LAUNCH_BELL] = Ending(), Doorbell()
    app[TOGETHER], app[SPAWNER] = Together(), FakeSpawner()
    app[VAULT] = Vault.of(app[SETTINGS], app[SECRETS])
    app[LAUNCH_LISTENERS], app[CUTTER] = Listeners(db), Cutter(app)
    app[LAUNCH_DOOR] = Admission(db, app[LAUNCH_BELL], lambda: app[SETTINGS].ephemeral)
    app[WORLD] = World(
        app[SETTINGS], db, app[SPAWNER], EmptyProxy(), app[SECRETS], app[DOORBELL], "http://127.0.0.1:1"
    )
    live.install(app)
    work.install(app)
    prefix, base_url = app[SETTINGS].hub_prefix, app[SETTINGS].base_url
    user = prefix + "api/users/{user}"
    app.add_routes(
        [web.get(user + "/server/progress", progress), web.get(user + "/servers/{server}/progress", progress)]
    )
    app.add_routes(choosing.routes(prefix))
    app.add_routes(login.routes(prefix))
    app.add_routes(account.routes(prefix))
    for feature in (oauth, signups, sessions):
        app.add_routes(feature.routes(prefix))
    for feature in (links, make_link):
        app.add_routes(feature.routes(prefix, base_url))
    app.add_routes(pages.routes(prefix, base_url))
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", at_port)
    await listener.start()
    try:
        yield Site(app, db, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()
        # A stream whose page has gone learns of it at its next word; until then it reads rows, and aiohttp forgot it.
        for task in (left := list(answering)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await db.close()
