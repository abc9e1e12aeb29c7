"""What is to be cut is written with what ends, and done by whoever lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site, site
from component.hub.test_followed_table import Remembering
from component.hub.test_suspension import CuttingProxy
from himalia_hub import clock, faults
from himalia_hub.auth import cutting, out
from himalia_hub.auth.accounts import Ended
from himalia_hub.auth.cutting import CUTTER, Cutter
from himalia_hub.auth.run_out import Watch
from himalia_hub.cli import user as user_command
from himalia_hub.keys import PROXY
from himalia_hub.reloading import since_last_time
from himalia_hub.replicas import cuts
from himalia_hub.replicas.models import CutRow
from himalia_hub.routes.feed import Feed
from himalia_hub.secrets import hash_token
from support import eventually


@pytest.fixture
async def hub(hub_on_each: Site) -> Site:
    hub_on_each.app._state[PROXY] = CuttingProxy()
    return hub_on_each


@pytest.fixture
async def admin(hub: Site) -> AsyncIterator[Client]:
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as client:
        yield client


async def put_out(hub: Site, session_id: str, *, number: int | None = None) -> CutRow:
    """Noted and committed, and no more: as by a hub that died then."""
    async with hub.db.begin() as db:
        row = out.note(db, [Ended(session_id)])
        assert row is not None
        if number:
            row.id = number
    return row


async def test_what_a_hub_that_died_after_its_commit_left_is_cut_by_the_next_that_looks_and_once(
    hub: Site, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = hub.app[PROXY]
    own = await hub.token(await hub.person("ann"))
    monkeypatch.setattr(faults, "_watched", True)
    monkeypatch.setattr(faults, "_passed", 0)
    monkeypatch.setattr(faults, "_armed", "cut.after_commit:raise")
    assert (await admin("PUT", "/hub/api/users/ann/suspension")).status == 500
    assert proxy.told == []

    monkeypatch.setattr(cutting, "AGAIN_S", 0.0)
    following = Cutter(hub.app)
    await following.settle()
    # Its writer may have been told of tunnels that are not counted here: it is done once more.
    await eventually(lambda: proxy.told == 2 * [f"tokens {hash_token(own)}"], within_s=5)
    await following.look()
    await Cutter(hub.app).settle()
    assert len(proxy.told) == 2, "and it is written down as done"


async def test_a_proxy_that_is_away_is_told_when_it_is_back_and_those_that_follow_are_not_cut_again(
    tmp_path: Path,
) -> None:
    first = Remembering()
    async with site(tmp_path, proxy_client=Feed(first)) as hub:
        follower = await hub.app[PROXY].join("")
        first.away = True
        looking, row = hub.app[CUTTER], await put_out(hub, "ann's")
        work = asyncio.create_task(out.cut(hub.app, row))
        told = (await follower.next(5)) + (await follower.next(5))
        assert told.count(b'"cut":{"login":"ann\'s"}') == 1
        follower.answered(1, 0)
        await work
        await looking.look()
        assert not await done(hub, row)
        first.away = False
        await looking.look()
        assert await done(hub, row)
        assert await follower.next(0) == b""


async def done(hub: Site, row: CutRow) -> bool:
    async with hub.db.read() as db:
        return (await db.get_one(CutRow, row.id)).done


async def test_a_row_of_a_transaction_that_took_long_is_done_though_a_later_one_was_seen(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, proxy = hub.app[CUTTER], hub.app[PROXY]
    await put_out(hub, "later", number=9)
    await looking.settle()
    await put_out(hub, "before", number=7)
    await looking.settle()
    assert proxy.told == ["later", "before"]
    monkeypatch.setattr(cutting, "LATE_S", 0.0)
    await looking.look()
    await put_out(hub, "new", number=10)
    await looking.settle()
    assert proxy.told == ["later", "before", "new"]


async def test_done_rows_go_after_a_while_but_for_the_last_whose_number_is_given_once(hub: Site) -> None:
    rows = [await put_out(hub, name) for name in "abc"]
    late = clock.now() + timedelta(seconds=1)
    async with hub.db.begin() as db:
        await cuts.set_done(db, [row.id for row in rows[1:]])
        await cuts.purge(db, done_before=late, made_before=clock.now() - timedelta(hours=1))
    async with hub.db.read() as db:
        assert set(await db.scalars(sa.select(CutRow.id))) == {rows[0].id, rows[2].id}
    async with hub.db.begin() as db:
        await cuts.purge(db, done_before=late, made_before=late)
    assert (await put_out(hub, "d")).id > rows[2].id


async def test_a_row_that_cannot_be_read_harms_no_other(hub: Site) -> None:
    async with hub.db.begin() as db:
        db.add(CutRow(at=clock.now(), what={"ended": "nonsense"}, done=False))
    await put_out(hub, "ann's")
    await hub.app[CUTTER].settle()
    assert hub.app[PROXY].told == ["ann's"]


async def test_a_password_set_by_a_command_beside_the_hub_reaches_the_proxies_that_follow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "EVERY_S", 0.1)
    async with site(tmp_path, proxy_client=Feed(Remembering())) as hub:
        await hub.person("ann")
        async with hub.client() as browser:
            await browser.login("ann")
            session = browser.cookie("jupyterhub-session-id")
        follower, looking = await hub.app[PROXY].join(""), asyncio.create_task(hub.app[CUTTER].run())
        told = await follower.next(5)
        try:
            await user_command._set_password(hub.world.settings, "ann", "x")
            while f'"cut":{{"login":"{session}"}}'.encode() not in told:
                async with asyncio.timeout(5):
                    told += await follower.next(5)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


async def test_a_service_that_loses_a_role_which_let_it_in_is_cut_as_a_person_is(
    hub: Site, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, began = "the token of the grader", clock.now()
    cut = f"tokens {hash_token(token)}"
    watch, proxy = Watch(hub.app), hub.app[PROXY]

    async def told(*calls: tuple[str, str, Any]) -> list[str | None]:
        proxy.told.clear()
        for method, path, body in calls:
            answer = await admin(method, f"/hub/api/{path}", json=body)
            assert answer.status < 300, answer.text
        return list(proxy.told)

    service = {"api_token": token, "url": "http://127.0.0.1:9"}
    assert await told(("POST", "services/grader", service)) == []
    visits, its = {"scopes": ["access:servers", "list:users"]}, {"services": ["grader"]}
    given = ("PUT", "roles/visitors", visits), ("POST", "roles/visitors/members", its)
    assert await told(*given) == []
    assert await told(("DELETE", "roles/visitors/members", its)) == [cut]
    assert await told(*given, ("PUT", "roles/visitors", {"scopes": ["list:users"]})) == [cut]
    assert await told(("DELETE", "roles/visitors/members", its)) == [], "nothing that it lost let it in"
    assert await told(*given, ("DELETE", "roles/visitors", None)) == [cut]
    for_a_time = its | {"expires_in": 60}
    await told(given[0], ("POST", "roles/visitors/members", for_a_time))
    await watch.look()
    assert proxy.told == []
    monkeypatch.setattr(clock, "now", lambda: began + timedelta(minutes=5))
    await watch.look()
    assert proxy.told == [cut]
    assert await told(("DELETE", "services/grader", None)) == [cut, "None /services/grader/"], (
        "and what people have open there"
    )


async def test_what_a_group_let_others_into_is_cut_when_its_members_leave_and_else_nobody_is(
    hub: Site, admin: Client
) -> None:
    proxy, people = hub.app[PROXY], {"users": ["ann"]}
    await hub.server(await hub.person("ann"))

    async def told_when(method: str, path: str, body: Any = None) -> list[str | None]:
        await admin("POST", "/hub/api/groups/g", json=people)
        await admin("POST", "/hub/api/groups/g/users", json=people)
        proxy.told.clear()
        assert (await admin(method, f"/hub/api/{path}", json=body)).status < 300
        return list(proxy.told)

    remove, delete = ("DELETE", "groups/g/users", people), ("DELETE", "groups/g")
    for leaving in (remove, delete):
        assert await told_when(*leaving) == []
    visits = {"scopes": ["access:servers!group=g", "list:users!group=h"]}
    assert (await admin("PUT", "/hub/api/roles/tutors", json=visits)).status < 300
    for leaving in (remove, delete):
        assert await told_when(*leaving) == ["None /user/ann/"]
    assert (await admin("DELETE", "/hub/api/roles/tutors")).status == 204
    narrowed = {"scopes": ["access:servers!group=g"], "note": "narrowed"}
    assert (await admin("POST", "/hub/api/users/root/tokens", json=narrowed)).status == 201
    assert await told_when(*remove) == ["None /user/ann/"]


async def test_who_manages_a_group_no_more_loses_what_a_site_lets_managers_into(tmp_path: Path) -> None:
    manager = {"name": "manager", "scopes": ["access:servers!group", "groups!group"]}
    async with site(tmp_path, roles=[manager]) as hub:
        proxy = hub.app._state[PROXY] = CuttingProxy()
        own = await hub.token(await hub.person("ann"))
        async with hub.client(await hub.token(await hub.person("root", admin=True))) as admin:
            people = {"users": ["ann"]}
            await admin("POST", "/hub/api/groups/g", json={})
            for method in ("POST", "DELETE"):
                assert proxy.told == []
                assert (await admin(method, "/hub/api/groups/g/managers", json=people)).status == 200
    assert proxy.told == [f"tokens {hash_token(own)}"]


async def test_roles_that_a_changed_configuration_gives_no_more_are_cut_by_reload_restart_and_rename(
    tmp_path: Path,
) -> None:
    async with site(
        tmp_path, roles=[{"name": "visitors", "scopes": ["access:servers"], "users": ["ann"]}]
    ) as hub:
        own, proxy = await hub.token(await hub.person("ann")), CuttingProxy()
        hub.app._state[PROXY] = proxy
        async with hub.client(await hub.token(await hub.person("root", admin=True))) as admin:
            assert (await admin("PATCH", "/hub/api/users/ann", json={"name": "bea"})).status == 200
            assert proxy.told == [f"tokens {hash_token(own)}"], "a role by name"
            assert (await admin("PATCH", "/hub/api/users/bea", json={"name": "ann"})).status == 200
        for _ in range(2):
            await since_last_time(hub.app)
        proxy.told.clear()
    async with site(tmp_path, roles=[{"name": "user", "scopes": ["read:users!user"]}]) as hub:
        hub.app._state[PROXY] = proxy
        await since_last_time(hub.app)
        await hub.app[CUTTER].settle()
        assert f"tokens {hash_token(own)}" in proxy.told, "a role by name, and what everybody had"
        assert (
            await hub.count(CutRow),
            (hub.world.settings.data_dir / "roles.json").stat().st_mode & 0o77,
        ) == (3, 0)
