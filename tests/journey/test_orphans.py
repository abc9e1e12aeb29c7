"""A server that the database has forgotten, as after a restored backup, does not run for ever."""

from __future__ import annotations

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

    await eventually(lambda: not hub.processes(), within_s=15, what="the forgotten server is ended")
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
    await eventually(lambda: hub.processes() == before, within_s=15, what="only the forgotten one is ended")

    assert _run(hub, row) == [(1,)]
    assert (await admin.server("root"))["ready"]


async def _rests(admin: Client) -> bool:
    _, person = await admin.call("GET", "/users/root")
    return person["pending"] is None


def _run(hub: Hub, statement: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(hub.data / "himalia.sqlite", timeout=10) as database:
        database.execute("PRAGMA foreign_keys = ON")
        return database.execute(statement).fetchall()
