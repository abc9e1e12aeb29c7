"""A server that the database has forgotten, as after a restored backup, does not run for ever."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from hubs import Client, Hub, Launch
from support import eventually

SOON = "[servers]\norphan_grace_s = 1\n"


@pytest.mark.parametrize(
    "forget",
    [
        "DELETE FROM servers",
        "UPDATE servers SET phase = 'stopped', desired = 'stopped', due_at = NULL",
    ],
    ids=["row-gone", "row-says-stopped"],
)
async def test_a_server_that_no_row_knows_is_ended(launch: Launch, forget: str) -> None:
    hub, admin = await launch(SOON)
    status, body = await admin.call("POST", "/users/root/server")
    assert status == 201, body
    assert hub.processes()

    _run(hub, forget)

    await eventually(lambda: not hub.processes(), what="the forgotten server is ended")
    # The row may still say that it stops, a moment after its process is gone: a start is refused until then.
    await eventually(lambda: _rests(admin), what="the row is at rest")
    status, body = await admin.call("POST", "/users/root/server")
    assert status == 201, body


async def test_a_server_that_a_row_knows_outlives_the_grace(launch: Launch) -> None:
    hub, admin = await launch(SOON)
    await admin.call("POST", "/users/root/server")
    before = hub.processes()
    _run(hub, "DELETE FROM servers WHERE backend_name = 'nobody'")
    await admin.call("POST", "/users", json={"usernames": ["ada"]})
    status, body = await admin.call("POST", "/users/ada/server")
    assert status == 201, body
    row = "SELECT count(*) FROM servers"

    _run(hub, "DELETE FROM servers WHERE backend_name LIKE 'ada%'")
    await eventually(lambda: hub.processes() == before, what="only the forgotten one is ended")

    assert _run(hub, row) == [(1,)]
    assert (await admin.server("root"))["ready"]


async def test_what_a_forgotten_server_left_is_reported_and_gone_after_the_grace(launch: Launch) -> None:
    """Folder, log, token and route of a server whose row is gone; those of another one stay."""
    hub, admin = await launch(SOON)
    await admin.call("POST", "/users", json={"usernames": ["ada"]})
    for user in ("root", "ada"):
        assert (await admin.call("POST", f"/users/{user}/server"))[0] == 201
    assert (await admin.call("DELETE", "/users/ada/server"))[0] == 204
    await _plant_route(hub, admin, "/user/nobody/")
    _run(
        hub,
        "INSERT INTO api_tokens (user_id, server_id, client_id, hashed, scopes, note, created) SELECT user_id, "
        "987654, 'jupyterhub', 'of a server that is gone', scopes, '', created FROM api_tokens LIMIT 1",
        "DELETE FROM servers WHERE backend_name LIKE 'ada-%'",
    )
    logs = hub.data / "logs"
    assert list(logs.glob("ada-*.log"))

    await eventually(lambda: not list(logs.glob("ada-*.log*")), what="the log is gone")
    await eventually(lambda: _run(hub, "SELECT count(*) FROM api_tokens WHERE server_id = 987654") == [(0,)])
    await eventually(lambda: _unrouted(admin, "/user/nobody/"))

    said = hub.said()
    for kind in ("folder", "token"):
        assert f'"kind": "{kind}"' in said
    assert "route.removed" in said
    assert list(logs.glob("root-*.log")), "who has a row keeps everything"
    assert (await admin.server("root"))["ready"]
    assert _run(hub, "SELECT count(*) FROM api_tokens WHERE server_id IS NOT NULL") == [(1,)]


async def _rests(admin: Client) -> bool:
    _, person = await admin.call("GET", "/users/root")
    return person["pending"] is None


async def _plant_route(hub: Hub, admin: Client, spec: str) -> None:
    """A route with a hub's mark, as one that was interrupted leaves it."""
    headers = {"Authorization": f"token {(hub.data / 'proxy.token').read_text().strip()}"}
    url = f"http://127.0.0.1:{hub.port + 1}/api/routes{spec}"
    route = {"target": "http://127.0.0.1:9", "jupyterhub": True, "user": "nobody"}
    async with admin.session.post(url, headers=headers, json=route) as answer:
        assert answer.status == 201


async def _unrouted(admin: Client, spec: str) -> bool:
    _, table = await admin.call("GET", "/proxy")
    return spec not in table


def _run(hub: Hub, *statements: str) -> list[tuple[object, ...]]:
    """What the last one selects. Foreign keys are not enforced: the tool that spoilt the rows did not ask."""
    with contextlib.closing(sqlite3.connect(hub.data / "himalia.sqlite", timeout=30)) as database, database:
        return [database.execute(statement).fetchall() for statement in statements][-1]
