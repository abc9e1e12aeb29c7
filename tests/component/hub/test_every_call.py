"""What holds for every call of the API: versions, health, refusals, bodies."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from component.hub.hub_site import Client, Site, site
from himalia_hub.info import JUPYTERHUB_VERSION


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


@pytest.fixture
async def root(hub: Site) -> AsyncIterator[Client]:
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as client:
        yield client


async def test_the_version_is_told_to_everybody_and_on_every_answer(hub: Site) -> None:
    async with hub.client() as client:
        for path in (
            "/hub/api",
            "/hub/api/",
            "/hub/api/nothing",
            "/hub/login",
            "/hub/health",
            "/hub/api/users",
        ):
            answer = await client("GET", path)
            assert answer.headers["X-JupyterHub-Version"] == JUPYTERHUB_VERSION, path
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        version = await client("GET", "/hub/api/")
        assert version.json == {"version": "6.1.1"}
        assert version.headers["Access-Control-Allow-Origin"] == "*"
        assert version.headers["Content-Security-Policy"] == "frame-ancestors 'none'; default-src 'none'"


async def test_health_answers_everybody_and_head_too(hub: Site) -> None:
    async with hub.client() as client:
        for path, method in itertools.product(("/hub/health", "/hub/api/health"), ("GET", "HEAD")):
            answer = await client(method, path)
            assert (answer.status, answer.text) == (200, "")


async def test_unknown_paths_and_methods_answer_as_jupyterhub_does(hub: Site, root: Client) -> None:
    unknown = await root("GET", "/hub/api/nothing")
    assert (unknown.status, unknown.json["status"], unknown.json["message"]) == (404, 404, None)
    method = await root("PUT", "/hub/api/users")
    assert (method.status, method.json["message"]) == (405, None)
    assert set(method.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert (await root("OPTIONS", "/hub/api/users")).status == 200
    assert (await root("HEAD", "/hub/api/users")).status == 200


async def test_without_credentials_everything_is_403(hub: Site) -> None:
    async with hub.client() as client:
        for method, path in (
            ("GET", "/hub/api/user"),
            ("GET", "/hub/api/users"),
            ("DELETE", "/hub/api/users/x"),
            ("GET", "/hub/api/info"),
        ):
            answer = await client(method, path)
            assert (answer.status, answer.json["message"]) == (403, "Missing or invalid credentials.")


async def test_info_needs_its_scope_and_names_the_parts(hub: Site, root: Client) -> None:
    info = (await root("GET", "/hub/api/info")).json
    assert info.keys() >= {"version", "python", "sys_executable", "spawner", "authenticator"}
    async with hub.client(await hub.token(await hub.person("ann"))) as ann:
        refused = await ann("GET", "/hub/api/info")
    assert refused.status == 403
    assert "requires any of [read:hub]" in refused.json["message"]


@pytest.mark.parametrize(
    "raw",
    [
        b"{", b"nonsense", b"\xff\xfe", b"[]", b'"x"', b"[" * 100_000,
        b'{"auth_state": {"a": NaN}}', b'{"auth_state": {"a": 1e999}}', b'{"auth_state": {"a": "\\ud800"}}',
    ],
)  # fmt: skip
async def test_what_is_not_a_json_object_is_400(root: Client, raw: bytes) -> None:
    for method, path in (("POST", "/hub/api/users"), ("PATCH", "/hub/api/users/root")):
        answer = await root(method, path, data=raw, headers={"Content-Type": "application/json"})
        assert answer.status == 400
