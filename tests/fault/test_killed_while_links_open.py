"""The hub is killed at each step of an opened link: it ends ready or failed, and leaves nothing when it is over."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import ClientError

from himalia_hub.ephemeral.installer import READY
from himalia_hub.faults import LAUNCH_POINTS
from hubs import Client, Hub, client
from launches import Person, config, events
from repositories import Repository, git_daemon, link
from support import eventually
from witness import nothing_lost

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUILDS = ("launch.building", "launch.built")
WARMS = ("launch.warmed", "launch.claimed")
KEEPS = ("launch.keeping", "launch.half_kept", "launch.after_kept")
ENDS = ("launch.ending", "launch.after_stop")
RECOVERY_S = 15
"""From the start of the hub's successor to the end of what was under way, and from there to the last trace."""


class Place:
    """One hub and one repository for all cases; each case asks for an environment of its own where it builds one."""

    def __init__(self, hub: Hub, admin: Client, notes: Repository, base: str, folder: Path) -> None:
        self.hub, self.admin, self.notes, self.base, self.folder = hub, admin, notes, base, folder


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    root = tmp_path_factory.mktemp("links")
    notes = Repository(root / "repositories", "notes")
    notes.commit({"requirements.txt": ""})
    hub = Hub(root / "data", config=config(root / "ephemeral", "visitor_limit = 0"))
    hub.homes = root / "ephemeral"
    try:
        hub.add_user("root", admin=True)
        async with git_daemon(notes.bare.parent) as base, client(hub, hub.token("root")) as admin:
            yield Place(hub, admin, notes, base + notes.name, root / "ephemeral")
    finally:
        hub.clean_up()


async def _until_cut(hub: Hub, address: str) -> list[dict[str, Any]]:
    """What a visitor sees until the hub dies."""
    seen: list[dict[str, Any]] = []
    try:
        async for event in events(hub, address):
            seen.append(event)  # noqa: PERF401 -- the connection is cut in the middle
    except (ClientError, TimeoutError, AssertionError):
        pass
    return seen


@pytest.mark.parametrize("point", [point for point in LAUNCH_POINTS if point not in (*KEEPS, *WARMS)])
async def test_killed_at_any_step_a_link_ends_ready_or_failed_and_leaves_nothing(
    place: Place, point: str
) -> None:
    hub = place.hub
    if point in BUILDS:
        place.notes.commit(
            {"requirements.txt": f"six  # {point}\ntoolz\n" if point.endswith("built") else "six\n"}
        )
    address = link(place.base)
    await hub.start(env={"HIMALIA_FAULT": f"{point}:exit137"})
    before = await _until_cut(hub, address)
    if point in ENDS:
        name = before[-1]["url"].rstrip("/").rpartition("/")[2]
        with_end = place.admin.call("DELETE", f"/users/{name}/server")
        try:
            await with_end
        except aiohttp.ClientError:
            pass  # it died of it
    assert await hub.died() == 137

    restarted = time.monotonic()
    await hub.start()

    async def told() -> list[dict[str, Any]]:
        return [event async for event in events(hub, address, after=before[0]["id"])]

    if point not in ENDS:
        after = await told()
        assert time.monotonic() - restarted < RECOVERY_S
        assert after[-1]["phase"] in ("ready", "failed"), after
        assert after[-1]["launch_id"] == before[0]["launch_id"]
        if after[-1]["phase"] == "ready":
            name = after[-1]["url"].rstrip("/").rpartition("/")[2]
            assert (await place.admin.call("DELETE", f"/users/{name}/server"))[0] in (202, 204)
    await eventually(lambda: _nothing_left(place), within_s=RECOVERY_S, what="every trace is gone")
    halves = [one for one in (place.folder / "environments").iterdir() if not (one / READY).is_file()]
    assert halves == []
    await nothing_lost(place.admin, hub)
    hub.kill()


@pytest.mark.parametrize("point", KEEPS)
async def test_killed_while_a_session_is_kept_its_files_are_in_the_account_once(
    place: Place, point: str
) -> None:
    hub = place.hub
    await hub.start(env={"HIMALIA_FAULT": f"{point}:exit137"})
    async with Person(hub) as root:
        await root.sign_in("root")
        launch = await root.open(link(place.base))
        try:
            await root.press(f"{launch.replace('/launches/', '/sessions/')}/keep")
        except aiohttp.ClientError:
            pass  # it died of it
        assert await hub.died() == 137
        await hub.start()
        page = await root.until(launch, lambda status, text: status == 200 and "is kept" in text)
    kept = re.search(r"folder <code>(.+?)</code>", page)
    assert kept, page
    await eventually(lambda: _nothing_left(place), within_s=RECOVERY_S, what="every trace is gone")
    (home,) = (hub.data / "homes").iterdir()
    assert [entry.name for entry in home.iterdir()] == [kept[1]]
    assert (home / kept[1] / "requirements.txt").is_file()
    shutil.rmtree(home)
    await nothing_lost(place.admin, hub)
    hub.kill()


@pytest.mark.parametrize("point", WARMS)
async def test_killed_while_a_session_is_warmed_or_taken_there_is_one_for_each_and_one_to_come(
    place: Place, point: str
) -> None:
    hub, settings = place.hub, place.hub.data / "himalia.toml"
    plain = settings.read_text()
    settings.write_text(plain + "pool_max = 1\npool_min = 1\n")

    async def sessions(number: int) -> bool:
        """So many guests with a server that runs, and no more."""
        people = (await place.admin.call("GET", "/users?state=ready"))[1]
        folders = [entry for entry in os.listdir(place.folder / "sessions") if not entry.endswith(".new")]
        return len(people) == number == len(folders)

    address, urls = link(place.base), []
    try:
        if point == "launch.claimed":
            await hub.start()
            urls += [event["url"] async for event in events(hub, address) if event["phase"] == "ready"]
            await eventually(lambda: sessions(2), within_s=60, what="the next one is warm")
            hub.kill()
        await hub.start(env={"HIMALIA_FAULT": f"{point}:exit137"})
        before = await _until_cut(hub, address)
        assert await hub.died(90) == 137
        await hub.start()
        after = [event async for event in events(hub, address, after=before[0]["id"])]
        assert after[-1]["phase"] == "ready", after[-1]
        urls.append(after[-1]["url"])
        assert len(set(urls)) == len(urls)
        await eventually(lambda: sessions(len(urls) + 1), within_s=60, what="each has one, and one is warm")
        hub.kill()
    finally:
        settings.write_text(plain)
    await hub.start()
    for url in urls:
        name = url.rstrip("/").rpartition("/")[2]
        assert (await place.admin.call("DELETE", f"/users/{name}/server"))[0] in (202, 204)
    await eventually(lambda: _nothing_left(place), within_s=RECOVERY_S, what="every trace is gone")
    await nothing_lost(place.admin, hub)
    hub.kill()


async def _nothing_left(place: Place) -> bool:
    people = (await place.admin.call("GET", "/users"))[1]
    routes = (await place.admin.call("GET", "/proxy"))[1]
    return (
        [person["name"] for person in people] == ["root"]
        and list(routes) == ["/"]
        and not os.listdir(place.folder / "sessions")
        and place.hub.processes() == []
    )
