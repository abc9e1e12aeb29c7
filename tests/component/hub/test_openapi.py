"""The API's description says what the API does: it is made from the route table, and a fuzzer holds it against the hub."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from component.hub.hub_site import Client, Site, site
from himalia_hub import openapi
from himalia_hub.app import all_routes
from himalia_hub.servers.state import Desired, Phase

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
DESCRIBED = openapi.document(((r.method, r.path, r.handler) for r in all_routes("/hub/", "/")), "/hub/")
CALLS = [
    (method, path, operation)
    for path, operations in DESCRIBED["paths"].items()
    for method, operation in operations.items()
]
PEOPLE = ["ann", "bob", "cid"]
KNOWN = {"user": PEOPLE, "owner": PEOPLE, "server": ["x", "y"], "shared": ["x", "y"], "group": ["g", "h"],
         "role": ["readers", "user"], "service": ["s", "t"], "id": ["a1", "a2", "a3"],
         "secret": ["no token"]}  # fmt: skip


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, servers={"slow_start_s": 0, "slow_stop_s": 0, "allow_named": True}) as running:
        yield running


@pytest.mark.parametrize(("method", "path", "operation"), CALLS, ids=[f"{m} {p}" for m, p, _ in CALLS])
def test_every_call_says_what_comes_of_it(method: str, path: str, operation: dict[str, Any]) -> None:
    refuses_all = operation["summary"].startswith("403 always")
    assert refuses_all or any(status < "400" for status in operation["responses"]), operation["description"]
    assert len(operation["summary"]) > 10
    named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
    assert named == set(re.findall(r"\{(\w+)\}", path))


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in CALLS]
    assert len(set(names)) == len(names)


async def test_the_hub_serves_it_to_everybody(hub: Site) -> None:
    async with hub.client() as client:
        assert (await client("GET", "/hub/api/openapi.json")).json == DESCRIBED


def test_the_reference_is_what_the_code_says() -> None:
    assert json.loads((REFERENCE / "openapi.json").read_text()) == DESCRIBED, "run: make reference"
    assert (REFERENCE / "rest-api.md").read_text() == openapi.page(DESCRIBED), "run: make reference"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b"no such boundary"),
        ("multipart/form-data; boundary=", b"--\r\n"),
        ("application/x-www-form-urlencoded; charset=nonsense", b"a=b"),
        ("application/x-www-form-urlencoded; charset=utf-8", b"a=\xff"),
        ("application/x-www-form-urlencoded; charset=unicode_escape", b"username=\\ud800"),
    ],
)
async def test_a_form_that_is_not_what_it_says_is_the_senders_mistake(
    hub: Site, kind: str, body: bytes
) -> None:
    await hub.person("ann")
    async with hub.client() as client:
        await client.login("ann")
        for path in (
            "api/oauth2/token",
            "api/oauth2/authorize",
            "login",
            "home/start",
            "account/password",
            "spawn",
        ):
            answer = await client("POST", f"/hub/{path}", data=body, headers={"Content-Type": kind})
            assert 400 <= answer.status < 500, f"{path}: {answer.status}"


async def test_a_nul_in_a_name_is_nobodys_name(hub_on_each: Site) -> None:
    token = await hub_on_each.token(await hub_on_each.person("root", admin=True))
    async with hub_on_each.client(token) as root:
        for method, path, _ in CALLS:
            if "{" in path and not path.endswith(("/progress", "/follow")):
                name = re.sub(r"\{\w+\}", "a%00b", path)
                answer = await root(method.upper(), f"/hub/api{name}", json={} if method != "get" else None)
                assert 400 <= answer.status < 500, f"{method} {path}: {answer.status}"
        for body in ({"usernames": ["a\0b"]}, {"usernames": ["a"], "admin": None}):
            assert (await root("POST", "/hub/api/users", json=body)).status == 400
        assert (await root("GET", "/hub/api/users?name_filter=%00")).status in (200, 400)


async def furnish(hub: Site, root: Client) -> None:
    """People with servers and tokens, groups, a role, services and shares."""
    for name in PEOPLE:
        person = await hub.person(name)
        await hub.token(person)
        for server in ("x", "y"):
            await hub.server(person, server, desired=Desired.STOPPED, phase=Phase.STOPPED)
    for method, path, body in (
        ("POST", "groups", {"groups": ["g", "h"], "users": ["bob"]}),
        ("PUT", "roles/readers", {"scopes": ["list:users"]}),
        ("POST", "services/s", {"info": {}}),
        ("POST", "services/t", {"info": {}}),
        ("POST", "shares/ann/x", {"user": "bob"}),
        ("POST", "shares/bob/y", {"group": "g"}),
        ("POST", "share-codes/ann/x", {}),
    ):
        assert (await root(method, f"/hub/api/{path}", json=body)).status < 300


def with_known_names() -> dict[str, Any]:
    """The description, in which names are mostly of something that is there: behind a 404 there is nothing to find."""
    described = copy.deepcopy(DESCRIBED)
    for operations in described["paths"].values():
        for operation in operations.values():
            for one in operation["parameters"]:
                if one["in"] == "path":
                    one["schema"] = {"anyOf": [{"enum": KNOWN[one["name"]]}, one["schema"]]}
    return described


async def test_a_fuzzer_finds_no_5xx_and_no_status_that_is_not_described(hub: Site, tmp_path: Path) -> None:
    token = await hub.token(await hub.person("root", admin=True))
    async with hub.client(token) as root:
        await furnish(hub, root)
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(with_known_names()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", str(description), f"--url={hub.url}/hub/api"),
        f"--header=Authorization: token {token}",
        "--checks=not_a_server_error,status_code_conformance",
        "--phases=coverage,fuzzing",
        "--exclude-path-regex=/(progress|follow)$",  # streams, which nothing here ends
        "--max-time=30",
        "--max-examples=5",
        "--request-timeout=30",
        "--generation-deterministic",
        "--no-color",
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode().rpartition("= FAILURES =")[2][:12000]
