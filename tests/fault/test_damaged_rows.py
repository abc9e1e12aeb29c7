"""Values that no hub would have written, in a few rows: these are worth nothing, and everybody else goes on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from himalia_hub.db.engine import sync_url
from hubs import HIMALIA, Client, Hub, client
from witness import nothing_lost

BAD_WORDS = "UPDATE servers SET phase = 'upside down', desired = 'sideways' WHERE user_id = {yan}"
DAMAGE = {
    "sqlite": [
        BAD_WORDS,
        "UPDATE servers SET user_options = '{{not json', failure = '7', phase = 'ready' WHERE user_id = {zoe}",
        "UPDATE servers SET last_activity = 'yesterday', due_at = 'soon' WHERE user_id = {xia}",
        "UPDATE api_tokens SET scopes = '{{not json' WHERE user_id = {zoe}",
        "UPDATE users SET last_activity = 'long ago' WHERE id = {zoe}",
        "UPDATE servers SET user_id = 424242, due_at = phase_since WHERE user_id = {wim}",
        "INSERT INTO user_group_map (group_id, user_id) VALUES (99, {zoe})",
    ],
    "postgresql": [
        BAD_WORDS,
        "UPDATE servers SET user_options = '[1]', failure = '7', phase = 'ready' WHERE user_id = {zoe}",
        "UPDATE api_tokens SET scopes = '{{\"admin\": 1}}' WHERE user_id = {zoe}",
    ],
}
PEOPLE = ["ann", "wim", "xia", "yan", "zoe"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Hub, Client]]:
    """A hub that was stopped, with rows of five people, and its administrator's client."""
    url = None if request.param == "sqlite" else request.getfixturevalue("module_postgres_database")
    hub = Hub(tmp_path / "data", db_url=url)
    try:
        hub.add_user("root", admin=True)
        async with client(hub, hub.token("root")) as admin:
            await hub.start()
            assert (await admin.call("POST", "/users", json={"usernames": PEOPLE}))[0] == 201
            for name in PEOPLE:
                assert (await admin.call("POST", f"/users/{name}/server"))[0] in (201, 202)
            for name in PEOPLE:
                await admin.until_ready(name)
            await hub.stop()
            admin.history.clear()  # Control-C has ended what these had begun
            yield hub, admin
    finally:
        hub.clean_up()


def spoil(hub: Hub) -> None:
    engine = sa.create_engine(sync_url(hub.db_url), poolclass=sa.NullPool)
    with engine.begin() as db:
        ids = {row.name: row.id for row in db.execute(sa.text("SELECT name, id FROM users"))}
        for statement in DAMAGE[engine.dialect.name]:
            assert db.exec_driver_sql(statement.format(**ids)).rowcount, statement


async def test_damaged_rows_are_worth_nothing_and_stop_nobody_else(place: tuple[Hub, Client]) -> None:
    hub, admin = place
    async with client(hub, hub.token("zoe")) as zoe:
        spoil(hub)
        await hub.start()

        assert (await admin.call("POST", "/users/ann/server"))[0] in (201, 202)
        await admin.until_ready("ann")
        status, listed = await admin.call("GET", "/users?include_stopped_servers=1")
        assert (status, {user["name"] for user in listed} >= set(PEOPLE)) == (200, True)
        status, told = await zoe.call("GET", "/users/zoe")
        assert (status, told.keys() & {"servers", "roles", "created", "last_activity"}) == (200, set())
        assert (await zoe.call("POST", "/users/zoe/server"))[0] in (403, 404), (
            "all that is left is whose it is"
        )

        # What a person wishes next is written over what was damaged.
        for name in ("xia", "yan", "zoe"):
            assert (await admin.call("POST", f"/users/{name}/server"))[0] in (201, 202), name
            await admin.until_ready(name)
        await nothing_lost(admin, hub)

    told = subprocess.run(
        [*HIMALIA, "doctor", "--json", "--data", str(hub.data)], capture_output=True, text=True, check=False
    )
    rows = [finding for finding in json.loads(told.stdout) if finding["about"] == "rows"]
    assert told.returncode == 1
    assert any("api_tokens" in finding["said"] for finding in rows), rows
    assert "Traceback" not in hub.said()
