"""What was given for a time lets nobody stay longer, where nobody asks about a WebSocket that is open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from component.hub.hub_site import Site, site
from component.hub.test_suspension import CuttingProxy
from himalia_hub import clock
from himalia_hub.auth.run_out import Watch
from himalia_hub.keys import PROXY
from himalia_hub.roles import store as roles
from himalia_hub.shares import store as shares
from himalia_hub.tokens import store as tokens

LASTS = timedelta(seconds=60)
BEGAN = clock.now()


@pytest.fixture
async def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """Ann has a server, Bob is in a group; roles `visitors` and `readers` are there. It is BEGAN."""
    monkeypatch.setattr(clock, "now", lambda: BEGAN)
    async with site(tmp_path) as running:
        running.app._state[PROXY] = CuttingProxy()
        await running.server(await running.person("ann"), secret="of the server")
        await running.person("bob")
        async with running.client(await running.token(await running.person("root", admin=True))) as admin:
            assert (await admin("POST", "/hub/api/groups/g", json={"users": ["bob"]})).status == 201
            for name, scope in (("visitors", "access:servers"), ("readers", "list:users")):
                await admin("PUT", f"/hub/api/roles/{name}", json={"scopes": [scope]})
        yield running


async def give(hub: Site, what: str, *, session: str | None, lasts: timedelta = LASTS) -> None:
    """Give Bob, or his group, something that ends `lasts` from BEGAN on."""
    from himalia_hub.groups import store as groups
    from himalia_hub.servers import store as servers
    from himalia_hub.users import store as users

    kind, _, to = what.partition(" to ")
    async with hub.db.begin() as db:
        bob, group = await users.by_name(db, "bob"), await groups.by_name(db, "g")
        server = await servers.find(db, "ann", "")
        assert bob is not None and group is not None and server is not None
        if kind == "share":
            target = bob if to == "user" else group
            await shares.grant(db, server, target, ["access:servers"], now=BEGAN, lasts=lasts)
        elif kind == "token":
            of = {"session_id": session, "client_id": "jupyterhub-user-ann"}
            await tokens.issue(db, bob.id, now=BEGAN, scopes=[], expires_in=lasts, **of)
        else:
            role = await roles.by_name(db, kind)
            assert role is not None
            await roles.give(db, role, to, ["bob" if to == "user" else "g"], until=BEGAN + lasts)


@pytest.mark.parametrize(
    ("what", "route"),
    [
        ("visitors to user", ""),
        ("visitors to group", ""),
        ("readers to user", None),
        ("share to user", " /user/ann/"),
        ("share to group", " /user/ann/"),
        ("token", " /user/ann/"),
    ],
)
async def test_what_was_given_for_a_time_is_cut_once_when_it_is_over_also_where_its_row_is_swept_away_first(
    hub: Site, monkeypatch: pytest.MonkeyPatch, what: str, route: str | None
) -> None:
    async with hub.client() as browser:
        await browser.login("bob")
        session = browser.cookie("jupyterhub-session-id")
    watch, told = Watch(hub.app), hub.app[PROXY].told
    await give(hub, what, session=session)
    for seconds in (0, 55, 59):
        monkeypatch.setattr(clock, "now", lambda: BEGAN + timedelta(seconds=seconds))  # noqa: B023
        await watch.look()
    assert told == []

    monkeypatch.setattr(clock, "now", lambda: BEGAN + timedelta(seconds=61))
    async with hub.db.begin() as db:
        for purge in (roles.purge, shares.purge, tokens.purge_expired):
            await purge(db, now=clock.now())
    await watch.look()
    await watch.look()

    assert told == ([] if route is None else [f"{session}{route}"])


async def test_what_a_token_of_a_program_holds_open_is_cut_when_its_time_is_over(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, bob = Watch(hub.app), await hub.person("ben")
    await watch.look()
    async with hub.db.begin() as db:
        lasts = timedelta(seconds=5)
        row, _ = await tokens.issue(db, bob.id, now=BEGAN, scopes=["access:servers"], expires_in=lasts)
    for seconds in (2, 4, 6, 8):
        monkeypatch.setattr(clock, "now", lambda: BEGAN + timedelta(seconds=seconds))  # noqa: B023
        await watch.look()
        assert hub.app[PROXY].told == ([f"tokens {row.hashed}"] if seconds > 5 else [])


async def test_a_proxy_that_was_away_is_told_later_as_is_one_whose_hub_was_and_what_is_given_for_longer_goes_on(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub.client() as browser:
        await browser.login("bob")
        session = browser.cookie("jupyterhub-session-id")
    watch, proxy = Watch(hub.app), hub.app[PROXY]
    await give(hub, "visitors to user", session=session)
    await watch.look()
    proxy.broken = True
    monkeypatch.setattr(clock, "now", lambda: BEGAN + timedelta(seconds=61))
    await watch.look()
    proxy.broken = False
    await watch.look()
    assert proxy.told == [session]
    await Watch(hub.app).look()
    assert proxy.told == [session] * 2

    await give(hub, "visitors to user", session=session, lasts=2 * LASTS)
    await watch.look()
    await give(hub, "visitors to user", session=session, lasts=10 * LASTS)
    monkeypatch.setattr(clock, "now", lambda: BEGAN + timedelta(seconds=121))
    await watch.look()
    assert proxy.told == [session] * 2


async def test_who_has_a_role_by_an_assignment_that_is_over_does_not_keep_it(hub: Site) -> None:
    """The row is there until it is swept away; it must not hide that the other one was the last."""
    async with hub.client() as browser:
        await browser.login("bob")
        session = browser.cookie("jupyterhub-session-id")
    await give(hub, "visitors to group", session=session, lasts=-LASTS)
    await give(hub, "visitors to user", session=session)
    root = await hub.token(await hub.person("boss", admin=True))
    async with hub.client(root) as admin:
        await admin("DELETE", "/hub/api/roles/visitors/members", json={"users": ["bob"]})

    assert hub.app[PROXY].told == [session]
