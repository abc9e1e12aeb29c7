"""The last lines of hub and servers on a page: found by person and by request, without secrets, for who may."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from component.hub.hub_site import Site, site
from himalia_hub import clock, logs
from himalia_hub.health import running
from himalia_hub.health.finding import Grade
from himalia_hub.servers.models import Server
from himalia_spawner.base import Handle, ServerRef
from himalia_spawner.fake import FakeServer, FakeSpawner

CANARY = "kX9vQ2mC7tR4wZ8nB3yL6p"


@pytest.fixture(autouse=True)
def written() -> Iterator[None]:
    """A few events, as the processors of the log leave them."""
    logs.RECENT.clear()
    for event in (
        {"event": "server.ready", "level": "info", "user": "ann", "request_id": "r1", "server_id": 7},
        {"event": "login.refused", "level": "warning", "user": "bob<b>", "request_id": "r2", "_record": 1},
        {"event": "odd", "level": "error", "owner": "ann", "text": f"?token={CANARY}", "password": CANARY},
    ):
        stamped = {"timestamp": "2026-11-28T18:00:00.123Z", **event}
        logs.remember(None, "", logs.mask_secrets(None, "", stamped))
    yield
    logs.RECENT.clear()


async def seen(hub: Site, path: str, who: str = "root") -> str:
    async with hub.client() as browser:
        await browser.login(who)
        answer = await browser("GET", "/hub/admin/logs" + path)
        return answer.text if answer.status == 200 else str(answer.status)


async def test_lines_are_found_by_person_request_and_gravity_without_secrets(tmp_path: Path) -> None:
    async with site(tmp_path) as hub:
        await hub.person("root", admin=True)
        await hub.person("ann")
        everything = await seen(hub, "")
        of_ann = await seen(hub, "?user=ann")
        of_one = await seen(hub, "?request=r2")
        grave = await seen(hub, "?level=error")
        refused = await seen(hub, "", "ann")

    assert [name in everything for name in ("server.ready", "login.refused", "odd")] == [True] * 3
    assert CANARY not in everything
    assert "bob&lt;b&gt;" in everything
    assert [name in of_ann for name in ("server.ready", "login.refused", "odd")] == [True, False, True]
    assert [name in of_one for name in ("server.ready", "login.refused", "odd")] == [False, True, False]
    assert [name in grave for name in ("server.ready", "login.refused", "odd")] == [False, False, True]
    assert refused == "403"


async def test_a_servers_own_log_has_its_secrets_covered(tmp_path: Path) -> None:
    async with site(tmp_path) as hub:
        await hub.person("root", admin=True)
        server = await hub.server(await hub.person("ann"), "thesis")
        spawner = hub.world.spawner
        assert isinstance(spawner, FakeSpawner)
        spawner.backend.logs[server.backend_name] = ["it <listens>", f"GET /?token={CANARY} 200"]
        shown = await seen(hub, "?server=ann/thesis")
        missing = await seen(hub, "?server=ann/other")

    assert "it &lt;listens&gt;" in shown
    assert CANARY not in shown
    assert "There is no server" in missing


async def test_what_is_kept_has_a_bound() -> None:
    for number in range(2 * logs.KEPT):
        logs.remember(None, "", {"event": str(number), "text": "x" * 100_000})

    assert len(logs.RECENT) == logs.KEPT
    assert max(len(event["text"]) for event in logs.RECENT) == logs.LONGEST


async def test_health_says_when_servers_were_looked_at_and_what_belongs_to_nobody(tmp_path: Path) -> None:
    async with site(tmp_path) as hub:
        world = hub.world
        before = await running.examine(world)
        world.looks.rows = world.looks.orphans = clock.now()
        well = await running.examine(world)
        server = await hub.server(await hub.person("ann"))
        async with hub.db.begin() as db:
            (await db.get_one(Server, server.id)).due_at = clock.now() - timedelta(hours=1)
        world.looks.found = ["server", "folder", "folder"]
        world.looks.routes = world.looks.cleared = clock.now()
        world.looks.stray = ["/user/gone/"]
        ill = await running.examine(world)

    assert {one.grade for one in (*before, *well)} == {Grade.OK}
    assert [one.grade for one in ill] == [Grade.PROBLEM, Grade.ADVICE, Grade.ADVICE]
    assert "1 waits for more than a minute" in ill[0].said
    assert ill[1].said.startswith("without a row: servers 1, folders 2, tokens 0 (")
    assert ill[2].said == "1 that led to no server was removed 0 s ago: /user/gone/"
    assert all(one.remedy for one in ill)


async def test_the_health_page_asks_the_spawner_that_the_hub_has(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 32)  # with it, one more could be made
    async with site(tmp_path) as hub, hub.client() as browser:
        await hub.person("root", admin=True)
        await browser.login("root")
        spawner = hub.world.spawner
        assert isinstance(spawner, FakeSpawner)
        spawner.backend.servers["ann"] = FakeServer(Handle(ServerRef("ann", "1.1"), "http://127.0.0.1:1"), {})
        page = await browser("GET", "/hub/admin/health")

    assert "holds 1 server" in page.text
