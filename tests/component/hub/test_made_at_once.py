"""Two hubs on one PostgreSQL are asked for the same at the same moment: the second waits for the first, and both answer
as if one had come after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from himalia_hub import clock
from himalia_hub.measures.models import ServerUse
from himalia_hub.measures.store import Point, keep
from himalia_hub.oauth.store import left_of
from himalia_hub.servers import store
from himalia_hub.servers.limits import check_named
from himalia_hub.servers.models import Server, ServerEvent
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.tokens import store as tokens
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import Login, User
from support import eventually

from .hub_site import Answer, Site, site

pytestmark = pytest.mark.postgres

SETTINGS = {"servers": {"allow_named": True, "named_limit_per_user": 2, "slow_start_s": 0}}
BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


class Twins:
    """Two hubs, Ann, and a token of hers."""

    def __init__(self, one: Site, two: Site, ann: User, token: str) -> None:
        self.one, self.two, self.ann, self.token = one, two, ann, token

    async def while_another_begins(self, begin: Any, method: str, path: str, **more: Any) -> Answer:
        """`begin(db)` at one hub; before that is committed the same comes to the other: what that one answers."""
        async with self.two.client(self.token) as client:
            async with self.one.db.begin() as db:
                await begin(db)
                asking = asyncio.create_task(client(method, f"/hub/api/users/ann/{path}".rstrip("/"), **more))
                await eventually(self.is_blocked, within_s=10)
            return await asking

    async def is_blocked(self) -> bool:
        async with self.two.db.read() as db:
            return bool(await db.scalar(sa.text(BLOCKED)))

    async def rows(self) -> list[tuple[str, Desired, int]]:
        async with self.one.db.read() as db:
            found = await db.execute(
                sa.select(Server.name, Server.desired, Server.generation).order_by(Server.name)
            )
            return [(row[0], row[1], row[2]) for row in found]


@pytest.fixture
async def hubs(tmp_path: Path, postgres_database: str) -> AsyncIterator[Twins]:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with (
        site(tmp_path / "one", postgres_database, **SETTINGS) as one,
        site(tmp_path / "two", postgres_database, **SETTINGS) as two,
    ):
        ann = await one.person("ann")
        yield Twins(one, two, ann, await one.token(ann))


@pytest.mark.parametrize("name", ["", "lab"])
@pytest.mark.parametrize("was_there", [False, True])
async def test_two_starts_of_one_server_at_two_hubs_are_one_start_and_both_are_told_that_it_is_under_way(
    hubs: Twins, name: str, was_there: bool
) -> None:
    if was_there:
        await hubs.one.server(hubs.ann, name, desired=Desired.STOPPED, phase=Phase.STOPPED)

    answer = await hubs.while_another_begins(
        lambda db: store.want_running(db, hubs.ann, name, options={"a": 1}, now=clock.now()),
        "POST",
        f"servers/{name}" if name else "server",
        json={"user_options": {"b": 2}},
    )

    assert (answer.status, answer.json["pending"], answer.json["user_options"]) == (202, "spawn", {"a": 1})
    assert await hubs.rows() == [(name, Desired.RUNNING, 2 if was_there else 1)]
    assert await hubs.one.count(ServerEvent) == 1


async def test_a_named_server_that_is_made_at_two_hubs_is_made_once_by_either(hubs: Twins) -> None:
    async def make(db: Any) -> None:
        assert await store.create(db, hubs.ann, "lab", {}, now=clock.now()) is not None

    answer = await hubs.while_another_begins(make, "PUT", "servers/lab", json={})

    assert (answer.status, "already" in answer.json["message"]) == (409, True)
    assert await hubs.rows() == [("lab", Desired.STOPPED, 0)]


async def test_two_named_servers_made_at_two_hubs_never_exceed_a_persons_limit(hubs: Twins) -> None:
    await hubs.one.server(hubs.ann, "first")

    async def make(db: Any) -> None:
        await check_named(db, hubs.ann, "second", hubs.one.world.settings.servers)
        await store.create(db, hubs.ann, "second", {}, now=clock.now())

    answer = await hubs.while_another_begins(make, "PUT", "servers/third", json={})

    assert (answer.status, "the limit is 2" in answer.json["message"]) == (400, True)


@pytest.mark.parametrize(
    ("method", "json", "told", "left"),
    [
        ("DELETE", {"remove": True}, 204, []),
        ("DELETE", {}, 204, []),
        ("POST", {}, 202, [("lab", Desired.RUNNING, 1)]),
        ("PATCH", {"display_name": "Lab"}, 409, []),
    ],
)
async def test_a_server_that_another_hub_removes_at_this_moment_is_gone_for_whoever_asks(
    hubs: Twins, method: str, json: dict[str, Any], told: int, left: list[Any]
) -> None:
    stopped = {"desired": Desired.STOPPED, "phase": Phase.STOPPED}
    server = await hubs.one.server(hubs.ann, "lab", **{} if method == "DELETE" else stopped)

    answer = await hubs.while_another_begins(
        lambda db: db.execute(sa.delete(Server).where(Server.id == server.id)),
        method,
        "servers/lab",
        json=json,
    )

    assert (answer.status, await hubs.rows()) == (told, left), answer.text


async def test_what_a_server_uses_that_another_hub_removes_at_this_moment_holds_up_and_spoils_nobody_elses(
    hubs: Twins,
) -> None:
    gone, there = await hubs.one.server(hubs.ann, "gone"), await hubs.one.server(hubs.ann, "there")
    now = clock.now()
    points = [Point(one.id, now, 1, 0.5) for one in (gone, there)]
    async with hubs.one.db.begin() as db:
        await db.execute(sa.delete(Server).where(Server.id == gone.id))
        async with asyncio.timeout(10):
            await hubs.two.db.write(partial(keep, now_used=points, minutes=points))
    async with hubs.one.db.read() as db:
        assert list(await db.scalars(sa.select(ServerUse.server_id))) == [there.id]


async def test_what_two_hubs_measured_of_one_server_at_one_moment_is_written_by_both_and_the_later_stays(
    hubs: Twins,
) -> None:
    server, now = await hubs.one.server(hubs.ann, "lab"), clock.now()
    later, earlier = (Point(server.id, now - timedelta(seconds=age), 1, 0.5) for age in (0, 1))
    async with hubs.one.db.begin() as db:
        await db.run_sync(keep, [later], [])
        writing = asyncio.create_task(hubs.two.db.write(partial(keep, now_used=[earlier], minutes=[])))
        await eventually(hubs.is_blocked, within_s=10)
    await writing
    async with hubs.one.db.read() as db:
        assert list(await db.scalars(sa.select(ServerUse.at))) == [now]


async def test_who_is_suspended_at_another_hub_while_they_sign_in_is_not_signed_in(hubs: Twins) -> None:
    async with hubs.two.client() as ann:
        async with hubs.one.db.begin() as db:
            await db.execute(sa.update(User).values(suspended=clock.now()))
            signing_in = asyncio.create_task(ann.login("ann"))
            await eventually(hubs.is_blocked, within_s=10)
        assert (await signing_in).status == 403
    assert await hubs.one.count(Login) == 0


@pytest.mark.parametrize(("method", "was_there"), [("PATCH", False), ("PATCH", True), ("DELETE", False)])
async def test_nobody_is_renamed_or_deleted_while_another_hub_begins_a_start_of_theirs(
    hubs: Twins, method: str, was_there: bool
) -> None:
    if was_there:
        await hubs.one.server(hubs.ann, desired=Desired.STOPPED, phase=Phase.STOPPED)
    hubs.token = await hubs.one.token(await hubs.one.person("root", admin=True))

    answer = await hubs.while_another_begins(
        lambda db: store.want_running(db, hubs.ann, "", options=None, now=clock.now()),
        method,
        "",
        json={"name": "eve"},
    )

    assert (answer.status, "server" in answer.json["message"]) == (400, True)
    async with hubs.one.db.read() as db:
        assert await db.scalar(sa.select(User.name).where(User.id == hubs.ann.id)) == "ann"


async def test_who_signs_out_while_another_hub_gives_a_server_their_token_leaves_none(hubs: Twins) -> None:
    async with hubs.two.client() as ann:
        await ann.login("ann")
        async with hubs.one.db.begin() as db:
            session_id = await db.scalar(sa.select(Login.session_id))
            await left_of(db, session_id, now=clock.now())
            await tokens.issue(db, hubs.ann.id, now=clock.now(), scopes=[], session_id=session_id)
            signing_out = asyncio.create_task(ann("GET", "/hub/logout"))
            await eventually(hubs.is_blocked, within_s=10)
        assert (await signing_out).status == 302
    async with hubs.one.db.read() as db:
        assert list(await db.scalars(sa.select(ApiToken.session_id))) == [None]
