"""The query behind the list, on both databases, and its stream for viewers with less than all rights."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Self

import aiohttp
import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site
from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.groups import store as groups
from himalia_hub.keys import SETTINGS
from himalia_hub.measures.store import Point, keep
from himalia_hub.pages.admin import stream as stream_module
from himalia_hub.pages.admin.lines import made_of
from himalia_hub.pages.admin.listing import CHIPS, SORTS, STATE, Wanted, counts, page_of, rows_of
from himalia_hub.pages.admin.query import parse
from himalia_hub.pages.admin.rows import row
from himalia_hub.pages.cards import Use
from himalia_hub.pages.live import LIVE
from himalia_hub.rbac.models import Role, RoleAssignment
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.servers.view import phase_word
from himalia_hub.usage import store as usage
from himalia_hub.users.models import User
from support import eventually


@pytest.fixture
def hub(hub_on_each: Site) -> Site:
    return hub_on_each


async def test_a_state_is_the_same_in_sql_as_on_pages(hub: Site) -> None:
    ann = await hub.person("ann")
    kinds = itertools.product(Desired, Phase, (1, 2), (None, clock.now()))
    async with hub.db.begin() as db:
        for number, (desired, phase, generation, unknown) in enumerate(kinds):
            db.add(
                Server(
                    user_id=ann.id, name=f"n{number}", backend_name=f"b{number}", user_options={},
                    desired=desired, phase=phase, generation=generation, acted_generation=1,
                    unknown_since=unknown, phase_since=clock.now(),
                )
            )  # fmt: skip
    async with hub.db.read() as db:
        rows = (await db.execute(sa.select(Server, STATE))).all()

        counted = await counts(db, now=clock.now())
        found = {
            name: (await page_of(db, Wanted(parse(text)), now=clock.now(), offset=0, limit=1)).total
            for name, text in {"all": "", **CHIPS}.items()
        }

    assert len(rows) == 40
    assert [row[1] for row in rows] == [phase_word(row[0]) for row in rows]
    assert counted == found, "and each chip counts what a click on it finds"


async def test_a_line_makes_the_row_that_its_objects_make(hub: Site) -> None:
    now, settings = clock.now(), hub.app[SETTINGS]
    ann, bob = await hub.person("ann", admin=True), await hub.person("bob")
    await hub.person("cleo")
    ready = await hub.server(ann)
    failed = await hub.server(bob, "b", desired=Desired.STOPPED, phase=Phase.FAILED)
    known = {"url": "http://127.0.0.1:9", "node": "here", "started": now - timedelta(1), "last_activity": now}
    why = {"cause": "crashed", "message": "it ended", "kept_until": "2999-01-01T00:00:00Z"}
    used = [Point(ready.id, now, 2**30, 0.5)]
    await hub.db.write(partial(keep, now_used=used, minutes=used))
    async with hub.db.begin() as db:
        await db.execute(sa.update(Server).where(Server.id == ready.id).values(known))
        await db.execute(sa.update(Server).where(Server.id == failed.id).values(failure=why))
    async with hub.db.begin() as db:
        group = await groups.create(db, "ml")
        await groups.add(db, group, await groups.people(db, ["ann", "bob"]))
        await db.execute(sa.update(User).where(User.name == "cleo").values(suspended=now, last_activity=now))

    async with hub.db.read() as db:
        page = await page_of(db, Wanted(parse("")), now=now, offset=0, limit=9)
        found = await rows_of(db, users=[line[0] for line in page.lines])

    made = [one.row for one in made_of(page, settings, hub.db.engine.dialect, now)]
    assert made == sorted((row(one, settings) for one in found), key=lambda one: one.card.owner)
    assert [one.card.state for one in made] == ["ready", "failed", "stopped"]
    assert made[0].card.use == Use("1 GB", "50%")


async def test_every_term_and_every_order_is_understood_and_ties_keep_their_order(hub: Site) -> None:
    now = clock.now()
    for name in ("cleo", "ann", "bob"):
        user = await hub.person(name, admin=name == "ann")
        if name != "cleo":
            await hub.server(user, "" if name == "ann" else "x")
    async with hub.db.begin() as db:
        group = await groups.create(db, "ml")
        await groups.add(db, group, await groups.people(db, ["bob"]))
        await db.execute(sa.update(User).where(User.name == "cleo").values(last_activity=now - timedelta(2)))

    async def names(text: str, sort: str = "user") -> list[str]:
        async with hub.db.read() as db:
            page = await page_of(db, Wanted(parse(text), sort), now=now, offset=0, limit=9)
        assert page.total == len(page.lines)
        return [line[1] for line in page.lines]

    for sort in SORTS:
        for way in ("", "-"):
            assert sorted(await names("", way + sort)) == ["ann", "bob", "cleo"], sort
    assert await names("", "node") == ["ann", "bob", "cleo"]  # all alike: by name
    assert await names("", "-node") == ["ann", "bob", "cleo"]
    assert await names("", "-user") == ["cleo", "bob", "ann"]
    assert await names("state:running") == ["ann", "bob"]
    assert await names("state:stopped") == ["cleo"]
    assert await names("group:ml state:running") == ["bob"]
    assert await names("is:admin") == ["ann"]
    assert await names("server:default") == ["ann", "cleo"]
    assert await names("server:x") == ["bob"]
    assert await names("idle:>1d owner:cleo") == ["cleo"]
    assert await names("up:<1h") == []
    assert await names("100%_") == []
    assert await names("state:runing") == []
    async with hub.db.read() as db:
        assert await counts(db, now=now) == {
            "all": 3, "running": 2, "starting": 0, "failed": 0, "idle": 2, "ephemeral": 0,
            "admins": 1,
        }  # fmt: skip
        assert (await counts(db, now=now, only=frozenset({"cleo"})))["all"] == 1


@pytest.fixture
async def tutor(hub: Site) -> AsyncIterator[Client]:
    """Somebody who runs one group only."""
    user = await hub.person("tutor")
    bob, zoe = await hub.person("bob"), await hub.person("zoe")
    await hub.server(bob)
    await hub.server(zoe)
    scopes = ["admin-ui", "list:users!group=ml", "read:servers!group=ml", "delete:servers!group=ml"]
    async with hub.db.begin() as db:
        group = await groups.create(db, "ml")
        await groups.add(db, group, [bob])
        role = Role(name="tutor", description="", scopes=scopes)
        db.add(role)
        await db.flush()
        db.add(RoleAssignment(role_id=role.id, user_id=user.id))
    async with hub.client() as client:
        await client.login("tutor")
        yield client


async def test_who_runs_one_group_sees_and_stops_only_its_members(hub: Site, tutor: Client) -> None:
    listed = await tutor("GET", "/hub/admin")
    form = {"_xsrf": listed.xsrf, "act": "stop", "those": "bob/\nzoe/"}

    done = await tutor("POST", "/hub/admin/do", data=form)
    row = await tutor("POST", "/hub/admin/stop", data={"_xsrf": listed.xsrf, "only": "zoe/"})

    assert "bob" in listed.text
    assert "zoe" not in listed.text
    assert row.status == 404
    assert done.status == 303

    async def job() -> str:
        return (await tutor("GET", done.location)).text

    await eventually(lambda: _has(job, "not yours to change"))
    await eventually(lambda: _has(job, "<bdi>bob</bdi><span>stopping</span>"))
    async with hub.db.read() as db:
        wishes = dict((await db.execute(sa.select(User.name, Server.desired).join(Server))).all())
        lines = await db.scalars(
            sa.select(AuditRow.target_user).where(AuditRow.action.contains("(stop)")).order_by(AuditRow.id)
        )
        assert list(lines) == ["bob", "zoe"]
    assert wishes == {"bob": Desired.STOPPED, "zoe": Desired.RUNNING}
    async with hub.client() as other:
        await hub.person("root", admin=True)
        await other.login("root")
        assert (await other("GET", done.location)).status == 404


async def _has(job, text: str) -> bool:
    return text in await job()


async def test_the_stream_shows_a_viewer_their_rows_only_and_goes_on_where_it_was(
    hub: Site, tutor: Client
) -> None:
    page = await tutor("GET", "/hub/admin")
    live = hub.app[LIVE]
    live.epoch = "with-dash"  # as one of eight is
    async with live.watching():
        events = Events(tutor, page.xsrf)
        async with events.open() as first:
            assert (await first.until("counts"))["event"] in ("counts", "beat")
            await change(hub, "zoe", node="elsewhere")
            await change(hub, "bob", node="shown")
            row = await first.until("row")
            assert "shown" in row["data"]
            last = (await first.until("beat"))["id"]
        await change(hub, "bob", node="meanwhile")
        async with events.open(**{"Last-Event-ID": last}) as second:
            row = await second.until("row")
            assert "meanwhile" in row["data"]
        async with events.open(**{"Last-Event-ID": "another-7"}) as third:
            await third.until("resync")
        assert not any("elsewhere" in text for text in events.seen)


async def test_alike_viewers_are_drawn_for_once_and_others_for_themselves(
    hub: Site, tutor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    draw = stream_module._event
    monkeypatch.setattr(
        stream_module, "_event", lambda *given: drawn.append(given[3].found.user.name) or draw(*given)
    )
    async with contextlib.AsyncExitStack() as stack:
        viewers = []
        for name in ("root", "roy"):
            await hub.person(name, admin=True)
            client = await stack.enter_async_context(hub.client())
            await client.login(name)
            viewers.append(client)
        streams = []
        for client in (*viewers, tutor):
            xsrf = (await client("GET", "/hub/admin")).xsrf
            streams.append(await stack.enter_async_context(Events(client, xsrf).open()))
        for stream in streams:
            await stream.until("counts")
        await change(hub, "bob", node="shown")
        rows = [(await stream.until("row"))["data"] for stream in streams]

    assert drawn == ["bob", "bob"]
    assert rows[0] == rows[1] != rows[2]


async def change(hub: Site, name: str, **values: object) -> None:
    async with hub.db.begin() as db:
        user = (await db.scalars(sa.select(User).where(User.name == name))).one()
        await db.execute(sa.update(Server).where(Server.user_id == user.id).values(values))


class Events:
    """Opens the stream, and keeps everything that was ever said."""

    def __init__(self, client: Client, xsrf: str) -> None:
        self.client, self.xsrf, self.seen = client, xsrf, []

    def open(self, **headers: str) -> Stream:
        return Stream(self, headers)


class Stream:
    def __init__(self, events: Events, headers: dict[str, str]) -> None:
        self.events, self.headers = events, headers

    async def __aenter__(self) -> Self:
        url = f"/hub/admin/events?_xsrf={self.events.xsrf}&at=x"
        self.answer: aiohttp.ClientResponse = await self.events.client.session.get(url, headers=self.headers)
        assert self.answer.status == 200
        return self

    async def __aexit__(self, *_: object) -> None:
        self.answer.close()

    async def until(self, kind: str) -> dict[str, str]:
        event: dict[str, str] = {}
        async for raw in self.answer.content:
            key, _, value = raw.decode().rstrip("\n").partition(": ")
            if key:
                event[key] = event.get(key, "") + value
                continue
            self.events.seen.append(str(event))
            if event.get("event") == kind:
                return event
            event = {}
        raise AssertionError("the stream ended")


async def test_strangers_get_no_stream_and_leaving_ends_the_reading(hub: Site, tutor: Client) -> None:
    async with hub.client() as nobody:
        assert (await nobody("GET", "/hub/admin/events")).status in (302, 403)
    page = await tutor("GET", "/hub/admin")
    async with Events(tutor, page.xsrf).open() as stream:
        await stream.until("hello")
        assert hub.app[LIVE]._task is not None
    await eventually(lambda: hub.app[LIVE]._task is None)


async def test_who_is_beyond_a_quota_holds_up_nobody_and_is_not_asked_for_again_by_itself(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting helps where the hub is full; with a quota that is used up the others would wait for nothing."""
    monkeypatch.setattr("himalia_hub.bulk.work.FULL_FOR_S", 3600)
    people = [await hub.person(name) for name in ("ann", "ben", "cleo")]
    await hub.person("root", admin=True)
    async with hub.db.begin() as db:
        group = await groups.create(db, "ml")
        await groups.add(db, group, people)
        await usage.set_quota(db, group, {"servers": 1})
    async with hub.client() as root:
        await root.login("root")
        xsrf = (await root("GET", "/hub/admin")).xsrf
        form = {"_xsrf": xsrf, "act": "start", "those": "ann/\nben/\ncleo/"}
        job = (await root("POST", "/hub/admin/do", data=form)).location

        async def refused() -> bool:
            text = (await root("GET", job)).text
            return text.count("The quota of the group &#39;ml&#39; is 1 server at once") >= 2

        await eventually(refused)
