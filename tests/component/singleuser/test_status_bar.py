"""What the server tells our extension of the front ends: its own use, and what it relays from the hub."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from component.singleuser.conftest import TOKEN
from component.singleuser.test_hub_login import BASE, behind

STATUS, KEEP = "api/himalia/status?no_track_activity=1", "api/himalia/keep-alive"
SOON = {
    "stops_at": "2026-11-28T12:00:00Z",
    "in_s": 250.0,
    "why": "idle for 60 minutes",
    "can_keep_alive": True,
}


@pytest.fixture
async def inside(start: Any, hub: Any) -> Any:
    """A server with limits behind the hub, and its visitor's token."""
    hub.tokens["visitor"] = "ada"
    return await behind(start, hub, MEM_LIMIT=str(2**31), CPU_LIMIT="1.5")


async def ask(server: Any, method: str = "GET", path: str = STATUS) -> tuple[int, Any]:
    status, body, _ = await server.bare(method, path, headers={"Authorization": "token visitor"})
    return status, body


async def test_use_stop_and_announcements_come_together_and_the_hub_is_asked_once(
    hub: Any, inside: Any
) -> None:
    hub.stop = SOON | {"in_s": 5000.0}
    hub.said = [{"id": 1, "level": "warning", "text": "<b>Tonight</b>", "starts": None, "ends": None}]

    status, told = await ask(inside)
    again = await ask(inside)

    assert status == 200
    assert told["usage"]["memory"] > 2**20
    assert (told["usage"]["memory_limit"], told["usage"]["cpu_limit"]) == (2**31, 1.5)
    assert 0 < told["stop"]["in_s"] <= 5000
    assert told["announcements"] == again[1]["announcements"] == hub.said
    assert hub.asked_stop == 1


async def test_keep_alive_is_told_to_the_hub_and_moves_what_is_shown(hub: Any, inside: Any) -> None:
    hub.stop = SOON
    assert (await ask(inside))[1]["stop"]["in_s"] <= 250

    status, told = await ask(inside, "POST", KEEP)

    assert (status, told["stop"]["why"], told["stop"]["can_keep_alive"]) == (200, "idle for 60 minutes", True)
    assert 3000 < told["stop"]["in_s"] <= 3600


async def test_a_hub_of_another_make_says_nothing_and_that_is_no_error(hub: Any, inside: Any) -> None:
    status, told = await ask(inside)

    assert (status, told["stop"], told["announcements"]) == (200, None, [])
    assert (await ask(inside, "POST", KEEP))[0] == 404


async def test_what_the_hub_said_holds_while_it_is_away(hub: Any, inside: Any) -> None:
    hub.stop = SOON
    await ask(inside)
    await ask(inside, "POST", KEEP)
    hub.broken = True

    assert (await ask(inside, "POST", KEEP))[0] == 502
    assert (await ask(inside))[1]["stop"]["in_s"] > 3000


async def test_without_a_hub_there_is_nothing_and_the_page_is_not_told_to_ask(server: Any) -> None:
    assert (await server.ask("GET", STATUS))[0] == 404
    _, page, _ = await server.bare("GET", f"lab?token={TOKEN}")
    assert b"himaliaStatus" not in page


async def test_the_page_behind_a_hub_is_told_and_its_scripts_are_served(inside: Any) -> None:
    _, page, _ = await inside.bare("GET", "lab", headers={"Authorization": "token visitor"})
    found = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page.decode(), re.DOTALL)
    assert found
    config = json.loads(found[1])
    (ours,) = [one for one in config["federated_extensions"] if one["name"] == "himalia-status"]
    assert (config["himaliaStatus"], config["baseUrl"]) == (True, BASE)
    for file in (ours["load"], "static/extension.js", "static/languages.js", "static/words.js"):
        status, _, headers = await inside.bare("GET", f"lab/extensions/himalia-status/{file}")
        assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8"), file
