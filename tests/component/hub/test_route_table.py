"""The route list is walked: every handler says who may come in, and keeps its word on the wire."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from component.hub.hub_site import Site, site
from himalia_hub.app import all_routes
from himalia_hub.rbac.guard import Access, access_of
from himalia_hub.rbac.scopes import SCOPES

TABLE = [(route.method, route.path, access_of(route.handler)) for route in all_routes("/hub/", "/")]
SCOPED = [
    (method, path) for method, path, access in TABLE if access and access.kind == "scoped" and method != "*"
]
SIGNED_IN = [(method, path) for method, path, access in TABLE if access and access.kind == "signed_in"]
PUBLIC_API = {
    ("GET", "/hub/api/announcements"),
    ("GET", "/hub/api"), ("GET", "/hub/api/"), ("GET", "/hub/api/health"), ("GET", "/hub/api/user"),
    ("GET", "/hub/api/openapi.json"), ("GET", "/hub/api/authorizations/token/{secret}"),
    ("POST", "/hub/api/oauth2/token"), ("POST", "/hub/api/users/{user}/tokens"),
}  # fmt: skip


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        await running.person("root", admin=True)
        yield running


def filled(path: str, user: str = "bob") -> str:
    return re.sub(
        r"\{(\w+)[^}]*\}", lambda found: {"user": user, "server": "x", "id": "a1"}.get(found[1], "x"), path
    )


@pytest.mark.parametrize(("method", "path", "access"), TABLE, ids=[f"{m} {p}" for m, p, _ in TABLE])
def test_every_handler_says_who_may_come_in(method: str, path: str, access: Access | None) -> None:
    assert access is not None, f"{method} {path} has neither @scoped, @signed_in nor @public"
    assert set(access.scopes) <= set(SCOPES)


def test_what_the_api_gives_to_everybody_is_this_and_no_more() -> None:
    public = {
        (method, path)
        for method, path, access in TABLE
        if access and access.kind == "public" and path.startswith("/hub/api")
    }

    assert public == PUBLIC_API


async def test_every_scoped_path_refuses_who_is_nobody(hub: Site) -> None:
    async with hub.client() as client:
        for method, path in SCOPED:
            answer = await client(method, filled(path))
            assert answer.status in ((403,) if path.startswith("/hub/api") else (302, 403)), (
                f"{method} {path}"
            )


async def test_every_scoped_path_refuses_a_token_without_rights(hub: Site) -> None:
    token = await hub.token(await hub.person("ann"), "(no_scope)")
    async with hub.client(token) as client:
        for method, path in SCOPED:
            if path.startswith("/hub/api"):
                answer = await client(method, filled(path), json={})
                # The one right of every token is to name its own person; of others it knows nothing.
                named = (method, path) == ("GET", "/hub/api/users/{user}")
                assert answer.status == (404 if named else 403), f"{method} {path}"


async def test_every_scoped_path_hides_others_from_an_ordinary_person(hub: Site) -> None:
    await hub.person("bob")
    token = await hub.token(await hub.person("ann"))
    async with hub.client(token) as client:
        for method, path in SCOPED:
            if path.startswith("/hub/api") and "{user}" in path:
                for other in ("bob", "nobody"):
                    answer = await client(method, filled(path, other), json={})
                    assert answer.status in (403, 404), f"{method} {path}"


async def test_every_page_sends_who_is_nobody_to_the_sign_in(hub: Site) -> None:
    async with hub.client() as client:
        for method, path in SIGNED_IN:
            answer = await client(method, filled(path))
            if method == "GET":
                assert (answer.status, answer.location.partition("?")[0]) == (302, "/hub/login"), path
            else:
                assert answer.status == 403, f"{method} {path}"


async def test_every_form_of_a_page_needs_proof(hub: Site) -> None:
    async with hub.client() as browser:
        await browser.login("root")
        for method, path in SIGNED_IN:
            if method not in ("GET", "HEAD"):
                answer = await browser(method, filled(path), data={"x": "y"})
                assert answer.status == 403, f"{method} {path}"


async def test_no_path_of_the_hub_ever_answers_500_to_nonsense(hub: Site) -> None:
    from himalia_hub.users import store

    async with hub.db.read() as db:
        root = await store.by_name(db, "root")
    bodies = [None, {}, {"usernames": {"a": 1}}, {"scopes": {}}, {"user_options": 5}, {"name": []}, {"servers": [1]}, {"last_activity": 5}, {"remove": "x"}]  # fmt: skip
    async with hub.client(await hub.token(root)) as client:
        for method, path in SCOPED:
            if method == "GET" or path.endswith("/api/proxy"):
                continue
            for body in bodies[1:] if method in ("POST", "PUT", "PATCH") and path.endswith("}") else bodies:
                if path.endswith("/server") and method == "POST" and not body:
                    continue  # a real start waits for the loop
                answer = await client(method, filled(path), json=body)
                assert answer.status < 500, f"{method} {path} {body}: {answer.text}"
