"""Every path × who asks × with what: the answer follows from what the path declares and the algebra, and nothing else.

The list of paths is the hub's own, so a new one is in the matrix on the day it is written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site, site
from himalia_hub import clock
from himalia_hub.app import all_routes
from himalia_hub.audit.models import AuditRow
from himalia_hub.audit.record import UNRECORDED
from himalia_hub.rbac import expand
from himalia_hub.rbac.guard import Access, access_of
from himalia_hub.rbac.identity import Identity
from himalia_hub.rbac.roles import ADMIN, MANAGER, USER
from himalia_hub.services.sync import write_configured
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User

KEY = "the token of the service"
SETTINGS = {
    "servers": {"slow_start_s": 0, "slow_stop_s": 0},
    "services": [{"name": "x", "api_token": KEY, "url": "http://127.0.0.1:1"}],
    "roles": [{"name": "reader", "scopes": ["read:users", "read:servers!user=bob"], "services": ["x"]}],
}
TARGET = {"user": "bob", "server": "x", "group": "g", "service": "x", "role": "nothing", "id": "a999", "owner": "bob", "shared": "x"}  # fmt: skip
API = [
    (route.method, route.path, access)
    for route in all_routes("/hub/", "/")
    if (access := access_of(route.handler)) is not None
    if access.kind == "scoped" and route.method != "*" and route.path.startswith("/hub/api")
]

OWNERS: dict[str, tuple[str, ...]] = {"root": ADMIN + USER, "ann": USER, "bob": USER, "max": USER}
"""People and their raw scopes; max also manages the group g, which bob is in."""


def filled(path: str) -> str:
    for name, value in TARGET.items():
        path = path.replace("{%s}" % name, value)  # noqa: UP031
    return path


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, **SETTINGS) as running:
        await write_configured(running.db, running.world.settings, running.world.secrets)
        for name in OWNERS:
            await running.person(name, admin=name == "root")
        root = await running.token(await person(running, "root"))
        async with running.client(root) as admin:
            assert (await admin("POST", "/hub/api/groups/g", json={"users": ["bob"]})).status == 201
            assert (await admin("POST", "/hub/api/groups/g/managers", json={"users": ["max"]})).status == 200
        yield running


async def person(hub: Site, name: str) -> User:
    async with hub.db.read() as db:
        return (await db.scalars(sa.select(User).where(User.name == name))).one()


def may(access: Access, path: str, held: frozenset[str]) -> bool:
    """What must come out, by the pure part alone."""
    members = {"g": {"bob", "max"}}
    identity = Identity(1, "somebody", admin=False, scopes=held, members=members)
    target = {kind: TARGET[kind] for kind in ("user", "group", "service") if "{%s}" % kind in path}  # noqa: UP031
    if "user" in target:
        target["server"] = TARGET["server"] if "{server}" in path else ""
    return any(identity.allows(scope, **target) for scope in access.scopes)


def manager_of(group: str) -> tuple[str, ...]:
    return tuple(f"{scope}={group}" for scope in MANAGER)


HELD: dict[str, Callable[[], frozenset[str]]] = {
    "ann": lambda: expand.expand(USER, "ann"),
    "bob": lambda: expand.expand(USER, "bob"),
    "max": lambda: expand.expand(USER + manager_of("g"), "max"),
    "service": lambda: expand.expand(("read:users", "read:servers!user=bob"), "", service="x"),
    "narrow": lambda: expand.expand(
        ("read:users:name!user=bob", "list:groups", "read:hub", *expand.IDENTIFY), "root"
    ),
    "nothing": lambda: expand.expand(expand.IDENTIFY, "ann"),
}


async def token_of(hub: Site, who: str) -> str:
    match who:
        case "service":
            return KEY
        case "nothing":
            return await hub.token(await person(hub, "ann"), "(no_scope)")
        case "narrow":
            raw = ("read:users:name!user=bob", "list:groups", "read:hub")
            return await hub.token(await person(hub, "root"), *raw)
        case _:
            return await hub.token(await person(hub, who))


@asynccontextmanager
async def asks(hub: Site, who: str, by: str) -> AsyncIterator[Client]:
    """With a token, or in a browser with the proof of their own page."""
    async with hub.client(await token_of(hub, who) if by == "token" else None) as client:
        if by == "cookie":
            assert (await client.login(who)).status == 302
            client.session.headers["X-XSRFToken"] = (await client("GET", "/hub/home")).xsrf
        yield client


@pytest.mark.parametrize(
    ("who", "by"), [*((who, "token") for who in HELD), *((who, "cookie") for who in HELD if who in OWNERS)]
)
async def test_who_lacks_the_right_is_refused_and_who_has_it_is_not(hub: Site, who: str, by: str) -> None:
    held, changes = HELD[who](), 0
    async with asks(hub, who, by) as client:
        rows_before = await hub.count(AuditRow)
        for method, path, access in API:
            allowed = may(access, path, held)
            listed = "{" not in path and any(expand.filters_of(held, scope) for scope in access.scopes)
            if (allowed or listed) and method != "GET":
                continue  # what it does has tests of its own; here it would change the matrix
            answer = await client(method, filled(path), **({} if method == "GET" else {"json": {}}))
            changes += method != "GET" and path.removeprefix("/hub/") not in UNRECORDED
            if allowed:
                assert answer.status not in (403, 500), f"{who}: {method} {path}: {answer.text}"
            elif not listed:
                assert answer.status in (403, 404), f"{who}: {method} {path}: {answer.status}"
                if answer.status == 404:  # held, though not on this target; or else it would tell what exists
                    assert "{" in path
                    assert any(expand.filters_of(held, scope) for scope in access.scopes), f"{method} {path}"
        assert await hub.count(AuditRow) - rows_before == changes, (
            "each change that was tried is in the audit"
        )


TAKEN = "its owner is an administrator no longer"


async def dead_tokens(hub: Site) -> dict[str, str]:
    """Tokens that were an administrator's and are worth nothing, by why."""
    root = await person(hub, "root")
    gone = {why: await hub.token(root) for why in ("revoked", "expired", TAKEN)}
    other = await hub.person("was", admin=True)
    gone["suspended"] = await hub.token(other)
    async with hub.db.begin() as db:
        newest = sa.select(ApiToken.id).where(ApiToken.user_id == root.id).order_by(ApiToken.id)
        ids = list(await db.scalars(newest))[-3:]
        await db.execute(sa.delete(ApiToken).where(ApiToken.id == ids[0]))
        past = clock.now() - timedelta(seconds=1)
        await db.execute(sa.update(ApiToken).where(ApiToken.id == ids[1]).values(expires_at=past))
        plain = (await db.scalars(sa.select(User).where(User.name == "ann"))).one()
        await db.execute(
            sa.update(ApiToken)
            .where(ApiToken.id == ids[2])
            .values(user_id=plain.id, scopes=["admin:users", "proxy"])
        )
        await db.execute(sa.update(User).where(User.name == "was").values(suspended=clock.now()))
    return gone | {"unknown": "no such token", "empty": " "}


async def test_a_credential_that_is_over_opens_nothing(hub: Site) -> None:
    for why, token in (await dead_tokens(hub)).items():
        async with hub.client(token) as client:
            for method, path, _ in API:
                answer = await client(method, filled(path), **({} if method == "GET" else {"json": {}}))
                # A token that lost most of its rights still has those of a person on themselves.
                refused = (403, 404) if why == TAKEN else (403,)
                assert answer.status in refused, f"{why}: {method} {path}: {answer.status}"


async def test_a_signed_in_administrators_cookie_without_proof_does_nothing(hub: Site) -> None:
    script = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
    elsewhere = {
        "Sec-Fetch-Mode": "no-cors",
        "Sec-Fetch-Site": "cross-site",
        "Origin": "https://evil.example",
    }
    async with AsyncExitStack() as stack:
        browser: Client = await stack.enter_async_context(hub.client())
        await browser.login("root")
        proof = {"X-XSRFToken": (await browser("GET", "/hub/home")).xsrf}
        for method, path, access in API:
            for headers in (script, elsewhere, {} if method != "GET" else script):
                body = {} if method == "GET" else {"json": {}}
                answer = await browser(method, filled(path), headers=headers, **body)
                assert answer.status == 403, f"{method} {path} {headers}: {answer.status}"
            if method == "GET" and may(access, path, expand.expand(ADMIN, "root")):
                answer = await browser(method, filled(path), headers=script | proof)
                assert answer.status not in (403, 500), f"{method} {path}: {answer.text}"
