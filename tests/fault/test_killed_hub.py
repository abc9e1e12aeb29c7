"""The hub is killed at every step boundary of a start and of a stop, on both databases, and loses nothing.

After each kill and restart the server ends as was wished, nothing is lost by any witness, and the same person can go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from himalia_hub.faults import POINTS
from hubs import PATIENT, Client, Hub, client
from support import eventually
from witness import nothing_lost

pytestmark = pytest.mark.asyncio(loop_scope="module")

STOP_POINTS = POINTS[POINTS.index("unpublish.before_delete") :]
SECOND_PASSINGS = ["wish.before_commit", "wish.after_commit"]
"""Passed by the wish to start first and by the wish to stop second."""

CASES = [(point, 1) for point in POINTS] + [(point, 2) for point in SECOND_PASSINGS]
RECOVERY_S = 60


@pytest_asyncio.fixture(
    loop_scope="module",
    scope="module",
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)],
)
async def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Hub, Client]]:
    """A data folder with one person per case, and the administrator's client; the hub is not running."""
    url = None if request.param == "sqlite" else request.getfixturevalue("module_postgres_database")
    hub = Hub(tmp_path_factory.mktemp("killed") / "data", db_url=url, config=f"[servers]\n{PATIENT}")
    try:
        hub.add_user("root", admin=True)
        async with client(hub, hub.token("root")) as admin:
            await hub.start()
            names = [f"u{number}" for number in range(len(CASES))]
            assert (await admin.call("POST", "/users", json={"usernames": names}))[0] == 201
            hub.kill()
            yield hub, admin
    finally:
        hub.clean_up()


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{point}-{nth}" for point, nth in CASES])
async def test_killed_at_any_step_nothing_is_lost(place: tuple[Hub, Client], case: int) -> None:
    hub, admin = place
    point, nth = CASES[case]
    user = f"u{case}"
    stopping = point in STOP_POINTS or nth == 2

    try:
        await hub.start(env={"HIMALIA_FAULT": f"{point}:exit137:{nth}"})
        acknowledged = await attempt(admin, "POST", user)
        if stopping:
            assert acknowledged == 201
            await attempt(admin, "DELETE", user)
        assert await hub.died() == 137, "the armed point was never passed"

        await hub.start()
        model = await eventually(
            lambda: at_rest(admin, user), within_s=RECOVERY_S, what=f"{user} comes to rest"
        )
        if point != "wish.before_commit":
            assert model["stopped" if stopping else "ready"], f"a committed wish ended as {model}"
        await nothing_lost(admin, hub)
        await go_on(admin, user, ready=bool(model["ready"]))
        await nothing_lost(admin, hub)
    except AssertionError as error:
        error.add_note(f"the hub said:\n{hub.said()}")
        raise
    finally:
        hub.kill()


async def attempt(admin: Client, method: str, user: str) -> int | None:
    """The status of a wish, or None when the hub died under it."""
    with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError, AssertionError):
        status, _ = await admin.call(method, f"/users/{user}/server")
        return None if status == 503 else status
    return None


async def at_rest(admin: Client, user: str) -> dict[str, object] | None:
    """The server model when nothing is pending."""
    model = await admin.server(user)
    return model if model["pending"] is None else None


async def go_on(admin: Client, user: str, *, ready: bool) -> None:
    """The person goes on as if nothing had happened: start if need be, save something, then stop."""
    if not ready:
        status, body = await admin.call("POST", f"/users/{user}/server")
        assert status == 201, body
    assert await admin.save(user, f"notes-of-{user}.txt", "kept") in (200, 201)
    status, body = await admin.call("DELETE", f"/users/{user}/server")
    assert status == 204, body
