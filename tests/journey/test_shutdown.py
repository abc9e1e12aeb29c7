"""An administrator ends the hub over the API, and says what goes with it."""

from __future__ import annotations

import json
import os

import pytest

from hubs import Launch


async def test_the_hub_ends_with_servers_and_proxy_left_running_when_that_is_asked_for(
    launch: Launch,
) -> None:
    hub, admin = await launch()
    status, body = await admin.call("POST", "/users/root/server")
    assert status == 201, body
    before = hub.processes()
    assert before

    status, body = await admin.call("POST", "/shutdown", json={"servers": False, "proxy": False})

    assert (status, body) == (202, {"message": "Shutting down Hub"})
    assert await hub.died(60) == 0
    assert hub.processes() == before
    os.kill(json.loads((hub.data / "proxy.json").read_text())["pid"], 0)  # it lives


async def test_a_hub_whose_data_folder_is_taken_away_says_so_and_ends_with_what_it_started(
    launch: Launch,
) -> None:
    hub, admin = await launch()
    status, body = await admin.call("POST", "/users/root/server")
    assert status == 201, body

    away = hub.data.rename(hub.data.with_name("away"))

    assert await hub.died(60) == 1
    said = hub.said()
    assert f"'{hub.data}/hub.lock' was deleted, moved or replaced while the hub ran; put it back" in said
    assert '"event": "folder.lost"' in said
    assert hub.processes() == []
    with pytest.raises(ProcessLookupError):
        os.kill(json.loads((away / "proxy.json").read_text())["pid"], 0)
