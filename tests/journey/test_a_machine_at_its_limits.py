"""A machine that has run out of something tells the person who presses Start what, and keeps those who work.

After each fault: the words name the cause, whoever was working goes on, and a second try works once there is room.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import machine
from hubs import PATIENT, Client, Hub, client
from support import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDS = """
import http.server, os
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if "eat" in self.path:
            eaten = [bytearray(2**24) for _ in range(64)]
        if "die" in self.path:
            print("no more data", flush=True)
            os._exit(7)
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
port = int(os.environ["JUPYTERHUB_SERVICE_URL"].split(":")[2].split("/")[0])
http.server.HTTPServer(("127.0.0.1", port), Answers).serve_forever()
"""
CONFIG = f"""
[servers]
{PATIENT}
[[profiles]]
name = "lab"
[[profiles]]
name = "ends"
mem_limit = "96M"
command = {json.dumps([sys.executable, "-c", ENDS])}
"""
PEOPLE = ["ann", "bob", "cem", "dan", "eve"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Hub, Client]]:
    """A hub with people, one of whom, ann, works all the time; and its administrator's client."""
    hub = Hub(tmp_path_factory.mktemp("limits") / "data", config=CONFIG)
    try:
        hub.add_user("root", admin=True)
        async with client(hub, hub.token("root")) as admin:
            await hub.start()
            await people(admin, *PEOPLE)
            await started(admin, "ann")
            yield hub, admin
            assert await answers(admin, "ann"), "whoever worked still does"
            await hub.stop()
    finally:
        hub.clean_up()


async def started(admin: Client, user: str, profile: str = "lab") -> None:
    """This person's server runs and answers, and the hub is done with its start."""
    choice = {"user_options": {"profile": profile}}
    status, body = await admin.call("POST", f"/users/{user}/server", json=choice)
    assert status in (201, 202), body
    await eventually(lambda: answers(admin, user), within_s=60)
    await eventually(lambda: is_ready(admin, user), within_s=60)


async def answers(admin: Client, user: str) -> bool:
    """Whether this person's server answers through the proxy."""
    async with admin.session.get(f"{admin.hub.url}/user/{user}/api") as answer:
        return answer.status == 200


async def people(admin: Client, *names: str) -> None:
    """These people exist."""
    status, body = await admin.call("POST", "/users", json={"usernames": list(names)})
    assert status == 201, body


async def is_ready(admin: Client, user: str) -> bool:
    """Whether the hub says so of this person's server."""
    return bool((await admin.server(user))["ready"])


async def rests_without(admin: Client, user: str) -> bool:
    """Whether this person has no server and nothing is pending."""
    model = await admin.server(user)
    return bool(model["stopped"]) and model["pending"] is None


def everything_of(hub: Hub) -> list[int]:
    """The hub's process and its nest, which now has no child ready."""
    assert hub.process is not None
    nest = hub.nest()
    for pid in hub.nests():
        if pid != nest:
            os.kill(pid, signal.SIGKILL)
    return [hub.process.pid, nest]


async def test_connections_of_a_crowd_wait_for_a_hub_that_is_busy_and_none_goes_unheard(
    place: tuple[Hub, Client],
) -> None:
    hub, _ = place
    assert hub.process is not None
    hub.process.send_signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(30):
            crowd = [await asyncio.open_connection("127.0.0.1", hub.port + 2) for _ in range(300)]
    finally:
        hub.process.send_signal(signal.SIGCONT)
    for _, writer in crowd:
        writer.close()


async def test_without_a_process_to_spare_a_start_says_so(place: tuple[Hub, Client]) -> None:
    hub, admin = place
    with machine.pids_group(everything_of(hub)) as group:
        group.close()
        status, body = await admin.call("POST", "/users/bob/server")
        assert status == 500, body
        assert "could not make another process" in body["message"]
        assert "stop servers that are not needed" in body["message"]
        assert await answers(admin, "ann")
        await eventually(lambda: rests_without(admin, "bob"), within_s=60)

        group.open()
        await started(admin, "bob")


async def test_without_a_file_to_spare_a_start_ends_in_words_and_the_hub_comes_back(
    place: tuple[Hub, Client],
) -> None:
    hub, admin = place
    assert hub.process is not None
    await admin.server("cem")
    with machine.few_files(hub.process.pid, 2):
        status, body = await admin.call("POST", "/users/cem/server")
        assert status in (500, 503), body
        assert "open files" in body["message"], body
        assert await answers(admin, "ann")

    await eventually(lambda: rests_without(admin, "cem"), within_s=60)
    await started(admin, "cem")


async def test_a_memory_hog_dies_alone_and_its_person_is_told_of_memory(place: tuple[Hub, Client]) -> None:
    _, admin = place
    await started(admin, "dan", "ends")

    async with admin.session.get(f"{admin.hub.url}/user/dan/eat") as answer:
        assert answer.status == 503
    await eventually(lambda: rests_without(admin, "dan"), within_s=60)

    assert "The server ran out of memory: it used up its 96 MB of memory" in await story(admin, "dan")
    assert await answers(admin, "ann")
    await started(admin, "dan", "ends")


async def test_a_server_that_listens_and_then_dies_has_failed_with_its_last_words(
    place: tuple[Hub, Client],
) -> None:
    _, admin = place
    await started(admin, "eve", "ends")

    async with admin.session.get(f"{admin.hub.url}/user/eve/die") as answer:
        assert answer.status == 503
    await eventually(lambda: rests_without(admin, "eve"), within_s=60)

    assert "crashed: the server ended with status 7" in await story(admin, "eve")
    await started(admin, "eve", "ends")


async def story(admin: Client, user: str) -> str:
    """What the page of the start tells."""
    status, stream = await admin.call("GET", f"/users/{user}/server/progress")
    assert status == 200
    return stream


async def test_a_full_disk_refuses_a_start_in_words_and_costs_nobody_their_server(
    tmp_path: Path,
) -> None:
    with machine.small_disk(tmp_path / "data", "24m") as disk:
        hub = Hub(tmp_path / "data")
        hub.output = tmp_path / "data" / "hub.out"  # the hub's own log lies on the same disk
        try:
            hub.add_user("root", admin=True)
            async with client(hub, hub.token("root")) as admin:
                await hub.start()
                await people(admin, "ada", "bob")
                await started(admin, "ada")
                disk.fill()

                status, body = await admin.call("POST", "/users/bob/server")

                assert status == 503, body
                assert "The disk of the hub's database is full" in body["message"], body
                assert await answers(admin, "ada")
                disk.free()
                await started(admin, "bob")
                for user in ("ada", "bob"):
                    assert (await admin.call("DELETE", f"/users/{user}/server"))[0] in (202, 204)
                await eventually(lambda: hub.processes() == [], within_s=60)
        finally:
            await hub.stop()
            hub.clean_up()
