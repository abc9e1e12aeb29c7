"""`/metrics` says what JupyterHub's dashboards look for, and nothing of anybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from component.hub.hub_site import Client, Site, site
from himalia_hub import clock
from himalia_hub.metrics.measured import MeasuredProxy
from himalia_hub.servers import loop
from himalia_hub.servers.models import Server
from himalia_hub.users.models import User
from himalia_proxy.base import ProxyError, Route

NAMES = {
    "request_duration_seconds", "server_spawn_duration_seconds", "running_servers", "total_users", "active_users",
    "check_routes_duration_seconds", "hub_startup_duration_seconds", "proxy_poll_duration_seconds",
    "login_duration_seconds", "logout_duration_seconds", "csp_reports", "proxy_add_duration_seconds",
    "proxy_delete_duration_seconds", "server_poll_duration_seconds", "server_stop_seconds",
    "event_loop_interval_seconds", "init_spawners_duration_seconds",
}  # fmt: skip
"""All of JupyterHub 6.1's."""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


async def read(client: Client, path: str = "/hub/metrics") -> dict[tuple[str, ...], float]:
    answer = await client("GET", path)
    assert (answer.status, answer.headers["Content-Type"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    families = text_string_to_metric_families(answer.text)
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


async def test_the_names_are_those_of_jupyterhub(hub: Site) -> None:
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as root:
        text = (await root("GET", "/hub/metrics")).text
    told = {family.name for family in text_string_to_metric_families(text)}
    assert {f"jupyterhub_{name}" for name in NAMES} <= told
    assert "process_resident_memory_bytes" in told


async def test_people_and_servers_are_counted_when_it_is_asked(hub: Site) -> None:
    root = await hub.person("root", admin=True)
    for name, days in (("ada", 0), ("ben", 3), ("cleo", 20), ("dan", 400)):
        person = await hub.person(name)
        async with hub.db.begin() as db:
            (await db.get_one(User, person.id)).last_activity = clock.now() - timedelta(days=days, minutes=1)
    await hub.server(await hub.person("eve"))
    async with hub.client(await hub.token(root, "read:metrics")) as client:
        seen = await read(client, "/hub/api/metrics")
    assert seen["jupyterhub_total_users",] == 6
    assert seen["jupyterhub_running_servers",] == 1
    assert [seen["jupyterhub_active_users", period] for period in ("24h", "7d", "30d")] == [1, 2, 3]


async def test_it_is_for_those_who_may_read_it(hub: Site) -> None:
    async with hub.client() as nobody:
        assert (await nobody("GET", "/hub/api/metrics")).status == 403
    async with hub.client(await hub.token(await hub.person("ada"))) as ada:
        for path in ("/hub/metrics", "/hub/api/metrics"):
            assert (await ada("GET", path)).status == 403


async def test_it_is_for_everybody_where_the_configuration_says_so(tmp_path: Path) -> None:
    async with site(tmp_path, hub={"open_metrics": True}) as running, running.client() as nobody:
        await running.person("root", admin=True)
        assert (await read(nobody))["jupyterhub_total_users",] == 1
        assert (await read(nobody, "/hub/api/metrics"))["jupyterhub_total_users",] == 1
        assert (await nobody("GET", "/hub/api/users")).status == 403


async def test_what_people_make_up_makes_no_series(hub: Site) -> None:
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as root:
        for path in ("/hub/api/nothing/a", "/hub/api/nothing/b", "/hub/api/users/x1", "/hub/api/users/x2"):
            await root("GET", path)
        await root("PROPFIND", "/hub/api/users")
        seen = await read(root)
    labels = {key[1:4] for key in seen if key[0] == "jupyterhub_request_duration_seconds_count"}
    users = ("404", "himalia_hub.users.handlers.get_user", "GET")
    assert seen["jupyterhub_request_duration_seconds_count", *users] == 2
    assert {method for _, _, method in labels} <= {"GET", "other"}
    assert not any("x1" in part or "nothing" in part for label in labels for part in label)


async def test_the_first_looks_of_a_hub_that_starts_take_until_nothing_of_then_is_due(hub: Site) -> None:
    server = await hub.server(await hub.person("ann"))
    async with hub.db.begin() as db:
        (await db.get_one(Server, server.id)).due_at = now = clock.now()
    looking = asyncio.create_task(loop.first_looks(hub.world, now))
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as root:
        seen = await read(root)
        assert seen["jupyterhub_init_spawners_duration_seconds_count",] == 0
        assert not looking.done()
        async with hub.db.begin() as db:
            (await db.get_one(Server, server.id)).due_at = clock.now() + timedelta(seconds=1)
        await looking
        assert (await read(root))["jupyterhub_init_spawners_duration_seconds_count",] == 1
    for status in ("running", "stopped", "failure"):
        assert seen["jupyterhub_server_poll_duration_seconds_count", status] == 0


class Failing:
    async def put(self, route: Route) -> None:
        raise ProxyError("gone")


async def test_a_call_to_the_proxy_that_fails_is_a_failure(hub: Site) -> None:
    figures = hub.world.figures
    with pytest.raises(ProxyError):
        await MeasuredProxy(Failing(), figures).put(Route("/", "http://127.0.0.1:1"))  # type: ignore[arg-type]
    await MeasuredProxy(hub.world.proxy, figures).put(Route("/", "http://127.0.0.1:1"))
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as root:
        seen = await read(root)
    for status in ("failure", "success"):
        assert seen["jupyterhub_proxy_add_duration_seconds_count", status] == 1
