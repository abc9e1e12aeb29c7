"""Every page and form × every credential that is none: what the access matrix of the API is for the rest of the table.

The list of paths is the hub's own. Only streams that would not end are left out, where they would be allowed.
"""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from component.hub import link_rows
from component.hub.hub_site import PASSWORD, Client, Site, site
from component.hub.test_access_matrix import filled
from himalia_hub import clock
from himalia_hub.app import all_routes
from himalia_hub.auth import cookies
from himalia_hub.db.base import Base
from himalia_hub.ephemeral.models import Launch, Stage
from himalia_hub.rbac.guard import Access, access_of
from himalia_hub.users.models import Login, User

ROUTES: list[tuple[str, str, Access]] = [
    (route.method, route.path, access)
    for route in all_routes("/hub/", "/")
    if (access := access_of(route.handler)) is not None
]
OF_SIGN_INS = [(method, path) for method, path, access in ROUTES if access.kind == "signed_in"]
SOMEBODYS = [
    (method, path) for method, path in OF_SIGN_INS if "{user}" in path or path.startswith("/hub/admin")
]
FOR_ANYBODY = {
    "/hub/language",
    "/hub/security/csp-report",
    "/user/{user}/{path:.*}",
    "/hub/user/{user}/{path:.*}",
}
"""Where a form needs no proof: it chooses the language of this browser, reports a violation, or is no form of ours."""
OF_LINKS = ("/build/", "/hub/build/", "/hub/v2/")
"""They fetch from other machines as soon as they are allowed to; `test_links.py` opens them."""
FORM = {
    "user": "bob",
    "owner": "bob",
    "name": "bob",
    "server": "x",
    "group": "g",
    "action": "delete",
    "id": "1",
}
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-Fetch-Mode": "websocket",
}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, servers={"slow_stop_s": 0}, auth={"sign_up": True}) as running:
        await running.person("root", admin=True)
        for name in ("ann", "bob"):
            await running.server(await running.person(name), "x")
        async with running.db.begin() as db:
            bob = (await db.scalars(sa.select(User).where(User.name == "bob"))).one()
            await link_rows.launch(db, "bob/course", Stage.READY, visitor=f"user:{bob.id}")
        yield running


async def at(hub: Site, path: str) -> str:
    """The path with names of what is there, and is bob's."""
    async with hub.db.read() as db:
        key = (await db.scalars(sa.select(Launch.key))).one()
    for part, value in (("{key}", key), ("{path:.*}", "lab"), ("{path:.+}", "hub.css"), ("{way}", "local"),
                        ("{code}", "404"), ("{kind:user|services}", "user"), ("{name:[^/]+}", "bob"),
                        ("{provider}", "gh"), ("{spec:.+}", "a/b/HEAD"), ("{path:(?!hub(?:/|$)).*}", "x")):  # fmt: skip
        path = path.replace(part, value)
    return filled(path)


async def ask(client: Client, method: str, path: str, *, proof: str = "", **headers: str) -> int:
    """The status, without reading what would not end."""
    more: dict[str, Any] = {} if method == "GET" else {"data": FORM | ({"_xsrf": proof} if proof else {})}
    method = "POST" if method == "*" else method
    async with client.session.request(method, path, allow_redirects=False, headers=headers, **more) as answer:
        if answer.status == 302 and not answer.headers["Location"].startswith("/hub/login?next="):
            return 200
        return answer.status


@asynccontextmanager
async def without_a_sign_in(hub: Site, why: str) -> AsyncIterator[Client]:
    root = await hub.token(await _person(hub, "root")) if why == "a token" else None
    async with hub.client(root) as client:
        if why not in ("nothing", "a token"):
            assert (await client.login("root")).status == 302
        async with hub.db.begin() as db:
            match why:
                case "over":
                    past = clock.now() - timedelta(seconds=1)
                    await db.execute(sa.update(Login).values(expires_at=past))
                case "signed out elsewhere":
                    await db.execute(sa.delete(Login))
                case "suspended":
                    await db.execute(sa.update(User).where(User.name == "root").values(suspended=clock.now()))
                case "deleted":
                    await db.execute(sa.delete(User).where(User.name == "root"))
                    await hub_keeps_an_administrator(db)
        if why == "another signature":
            for cookie in client.session.cookie_jar:
                if cookie.key == cookies.LOGIN:
                    # Its last letter but one: of the last one some bits mean nothing.
                    letter = "B" if cookie.value[-2] == "A" else "A"
                    other = cookie.value[:-2] + letter + cookie.value[-1]
                    cookie.set(cookie.key, other, other)
        yield client


async def hub_keeps_an_administrator(db: Any) -> None:
    db.add(User(name="other", admin=True, password_hash="x", created=clock.now()))


async def _person(hub: Site, name: str) -> User:
    async with hub.db.read() as db:
        return (await db.scalars(sa.select(User).where(User.name == name))).one()


@pytest.mark.parametrize(
    "why", ["nothing", "a token", "over", "signed out elsewhere", "suspended", "deleted", "another signature"]
)
async def test_who_is_not_signed_in_sees_no_page_and_posts_no_form(hub: Site, why: str) -> None:
    async with without_a_sign_in(hub, why) as client:
        for method, path in OF_SIGN_INS:
            status = await ask(client, method, await at(hub, path))
            assert status == (302 if method == "GET" else 403), f"{why}: {method} {path}: {status}"
            if method == "GET":
                script = await ask(client, method, await at(hub, path), **{"Sec-Fetch-Mode": "cors"})
                assert script == 403, f"{why}: {method} {path} by a script: {script}"
        for method, path, access in ROUTES:
            if why != "a token" and (access.kind == "scoped" or path == "/hub/api/user"):
                status = await ask(client, method, await at(hub, path), **{"Sec-Fetch-Mode": "cors"})
                assert status == 403, f"{why}: {method} {path}: {status}"


@pytest.mark.parametrize("proof", ["none", "anothers", "ones own from another site"])
async def test_an_administrators_cookie_posts_no_form_without_proof_of_this_sign_in(
    hub: Site, proof: str
) -> None:
    async with hub.client() as browser, hub.client() as other:
        assert (await browser.login("root")).status == 302
        assert (await other.login("bob")).status == 302
        theirs = (await other("GET", "/hub/home")).xsrf
        own = (await browser("GET", "/hub/admin")).xsrf
        given = {"none": "", "anothers": theirs}.get(proof, own)
        headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} if given == own else {}
        before = await rows(hub)
        for method, path, access in ROUTES:
            if (
                method == "GET"
                or path in FOR_ANYBODY
                or access.kind == "scoped"
                or path.startswith("/hub/api")
            ):
                continue
            status = await ask(browser, method, await at(hub, path), proof=given, **headers)
            assert status == 403, f"{method} {path}: {status}"
        assert await rows(hub) == before


async def test_a_second_person_with_their_own_proof_does_nothing_on_pages_of_others(hub: Site) -> None:
    async with hub.client() as browser:
        assert (await browser.login("ann")).status == 302
        own = (await browser("GET", "/hub/home")).xsrf
        for method, path in SOMEBODYS:
            status = await ask(browser, method, await at(hub, path), proof=own)
            assert status in (403, 404), f"{method} {path}: {status}"
        before = await rows(hub, of="bob")
        for method, path in OF_SIGN_INS:
            if method != "GET":
                await ask(browser, method, await at(hub, path), proof=own)
                assert await rows(hub, of="bob") == before, f"{method} {path}"


@pytest.mark.parametrize("who", ["nobody", "ann", "root"])
async def test_a_handshake_of_a_web_socket_opens_nothing_that_a_request_does_not(hub: Site, who: str) -> None:
    headers = HANDSHAKE | {"Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode()}
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    async with hub.client() as browser:
        if who != "nobody":
            assert (await browser.login(who, PASSWORD)).status == 302
        for method, path, access in ROUTES:
            if (
                method != "GET"
                or path.endswith(("events", "follow", "progress"))
                or path.startswith(OF_LINKS)
            ):
                continue
            here = await at(hub, path)
            status = await ask(browser, method, here, **headers, **evil)
            assert status != 101, f"{path} has become a socket"
            assert status < 500, f"{path}: {status}"
            if who == "nobody" and access.kind != "public":
                assert status in (302, 403), f"{path}: {status}"
            if who == "ann" and (method, path) in SOMEBODYS:
                assert status in (403, 404), f"{path}: {status}"


async def test_a_token_in_the_address_is_nobodys(hub: Site) -> None:
    root = await hub.token(await _person(hub, "root"))
    async with hub.client() as client:
        for method, path, access in ROUTES:
            if access.kind != "public" and method != "*":
                here = f"{await at(hub, path)}?token={root}&access_token={root}"
                status = await ask(client, method, here)
                assert status in (302, 403), f"{method} {path}: {status}"


async def rows(hub: Site, of: str | None = None) -> dict[str, list[Any]]:
    """What stands in the tables of people and what is theirs; of one person alone when asked."""
    found: dict[str, list[Any]] = {}
    async with hub.db.read() as db:
        number = await db.scalar(sa.select(User.id).where(User.name == of)) if of else None
        for name in (
            "users",
            "servers",
            "api_tokens",
            "groups",
            "user_group_map",
            "shares",
            "share_codes",
            "launches",
        ):
            table = Base.metadata.tables[name]
            wanted = sa.select(table)
            if number is not None:
                column = table.c.get("user_id", table.c.id if name == "users" else None)
                if column is None:
                    continue
                wanted = wanted.where(column == number)
            skipped = {"last_activity"}
            found[name] = [
                {key: value for key, value in row._mapping.items() if key not in skipped}
                for row in await db.execute(wanted)
            ]
    return found
