"""The two laws of rights, over every scope: a filter holds on every path, and nobody gives or reaches above what they hold.

What stopped them elsewhere were single paths (GHSA-69wv-m5fw-2fhp, CVE-2024-41942, CVE-2026-55077), so nothing is chosen here.
"""

from __future__ import annotations

from typing import Any

import pytest

from component.hub.hub_site import Client, Site
from component.hub.test_access_matrix import API, OWNERS, asks, filled, hub, may, person  # noqa: F401 -- `hub` is a fixture
from himalia_hub.rbac import expand
from himalia_hub.rbac.scopes import SCOPES

GIVING = (
    "admin:users",
    "admin:groups",
    "admin:services",
    "admin:roles",
    "tokens",
    "shares",
    "list:users",
    "list:groups",
)
"""All that gives rights to others."""
WITHOUT_A_FILTER = ("admin-ui", "read:hub", "proxy", "shutdown", "read:metrics")


@pytest.mark.parametrize(
    "narrowed",
    ["user=bob", "user=ann", "group=g", "group=h", "server=bob/x", "server=bob/y", "service=x", "service=y"],
)
async def test_a_filtered_right_is_worth_its_filter_on_every_path(hub: Site, narrowed: str) -> None:  # noqa: F811
    raw = tuple(f"{scope}!{narrowed}" for scope in SCOPES)
    members = {"g": frozenset({"bob", "max"}), "h": frozenset[str]()}
    everything = expand.expand(OWNERS["root"], "root")
    held = expand.of_token(raw, "root", everything, members=members)
    async with hub.client(await hub.token(await person(hub, "root"), *raw)) as client:
        assert set((await client("GET", "/hub/api/user")).json["scopes"]) == held
        for method, path, access in API:
            allowed = may(access, path, held)
            some = any(expand.filters_of(held, scope) for scope in access.scopes)
            aimed = any(part in path for part in ("{user}", "{group}", "{service}"))
            if (allowed or (some and not aimed)) and method != "GET":
                continue  # what it may do here would change the matrix
            answer = await client(method, filled(path), **({} if method == "GET" else {"json": {}}))
            if allowed:
                assert answer.status not in (403, 500), f"{method} {path}: {answer.text}"
            elif aimed or not some:  # a list shows what the filter names, see below
                assert answer.status in ((403, 404) if some else (403,)), f"{method} {path}: {answer.status}"
        assert await listed(client) == within(narrowed)


async def listed(client: Client) -> dict[str, set[str]]:
    """Whom and what the three lists name."""
    found: dict[str, set[str]] = {}
    for kind in ("users", "groups", "services"):
        answer = await client("GET", f"/hub/api/{kind}")
        found[kind] = (
            {getattr(one, "get", {"name": one}.get)("name") for one in answer.json}
            if answer.status == 200
            else set()
        )
    return found


def within(narrowed: str) -> dict[str, set[str]]:
    """The same, as the filter says it."""
    kind, _, value = narrowed.partition("=")
    people = {"user": {value}, "group": {"bob", "max"} if value == "g" else set()}.get(kind, set())
    groups = {value} & {"g"} if kind == "group" else set()
    return {"users": people, "groups": groups, "services": {value} & {"x"} if kind == "service" else set()}


async def test_nobody_gives_a_right_that_they_lack_whatever_it_is(hub: Site) -> None:  # noqa: F811
    held = expand.expand(GIVING, "root")
    root = await hub.token(await person(hub, "root"))
    async with hub.client(root) as whole:
        assert (await whole("PUT", "/hub/api/roles/giver", json={"scopes": list(GIVING)})).status in (
            200,
            201,
        )
        assert (await whole("POST", "/hub/api/roles/giver/members", json={"users": ["ann"]})).status == 200
    async with hub.client(await hub.token(await person(hub, "ann"))) as ann:
        for scope in sorted(set(SCOPES) - held):
            for method, path, body in ways_to_give(scope):
                answer = await ann(method, f"/hub/api/{path}", json=body)
                assert answer.status in (400, 403), (
                    f"{scope} by {method} {path}: {answer.status} {answer.text}"
                )
        for method, path, body in ways_to_reach_above():
            answer = await ann(method, f"/hub/api/{path}", json=body)
            assert answer.status in (400, 403), f"{method} {path}: {answer.status} {answer.text}"
        assert (await ann("PUT", "/hub/api/roles/fine", json={"scopes": ["read:users"]})).status in (200, 201)
    async with hub.client(root) as whole:
        assert (await whole("GET", "/hub/api/users/root")).json["admin"]
        assert not (await whole("GET", "/hub/api/users/ann")).json["admin"]


async def test_no_page_puts_anybody_into_a_group_that_may_more(hub: Site) -> None:  # noqa: F811
    async with hub.client(await hub.token(await person(hub, "root"))) as whole:
        for method, path, body in (
            ("PUT", "roles/giver", {"scopes": [*GIVING, "admin-ui"]}),
            ("POST", "roles/giver/members", {"users": ["ann"]}),
            ("PUT", "roles/mighty", {"scopes": ["proxy"]}),
            ("POST", "roles/mighty/members", {"groups": ["g"]}),
        ):
            assert (await whole(method, f"/hub/api/{path}", json=body)).status < 300

        async with asks(hub, "ann", "cookie") as ann:
            for path, form in (
                ("groups", {"does": "add", "group": "g", "people": "ann"}),
                ("people/add", {"names": "zoe", "group": "g", "sure": "1"}),
            ):
                answer = await ann("POST", f"/hub/admin/{path}", data=form)
                assert (answer.status, "may do more than you" in answer.text) == (403, True), path
            fine = {"does": "create", "group": "h", "people": "ann"}
            assert (await ann("POST", "/hub/admin/groups", data=fine)).status == 303

        assert (await whole("GET", "/hub/api/groups/g")).json["users"] == ["bob", "max"]
        assert (await whole("GET", "/hub/api/users/zoe")).status == 404


def ways_to_give(scope: str) -> list[tuple[str, str, Any]]:
    """To oneself and to others: by role, by token, by what a service may ask for."""
    return [
        ("PUT", "roles/another", {"scopes": [scope]}),
        ("POST", "users/ann/tokens", {"scopes": [scope]}),
        ("POST", "users/bob/tokens", {"scopes": [scope]}),
        ("POST", "services/new", {"oauth_client_allowed_scopes": [scope]}),
    ]


def ways_to_reach_above() -> list[tuple[str, str, Any]]:
    """To become an administrator, to make one, and to act on one."""
    return [
        ("PATCH", "users/ann", {"admin": True}),
        ("POST", "users/new", {"admin": True}),
        ("POST", "users", {"usernames": ["new"], "admin": True}),
        ("POST", "services/new", {"admin": True}),
        ("POST", "users/root/tokens", {}),
        ("PATCH", "users/root", {"name": "other"}),
        ("PATCH", "users/root", {"admin": False}),
        ("PUT", "users/root/suspension", {}),
        ("PUT", "users/root/quota", {}),
        ("DELETE", "users/root/quota", {}),
        ("DELETE", "users/root/second-step", {}),
        ("DELETE", "users/root", {}),
    ]
