"""Who did what: what leaves a row, who may read it, and that no secret gets there. On both databases."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from component.hub.hub_site import PASSWORD, Client, Site
from component.hub.test_oauth_flow import ServerApp
from himalia_hub import clock
from himalia_hub.audit import store
from himalia_hub.audit.models import AuditRow
from himalia_hub.db.base import Base
from himalia_hub.spreadsheet import cell
from himalia_hub.users.models import User
from himalia_singleuser import hub as singleuser_hub
from himalia_singleuser.hub import HubClient
from himalia_singleuser.settings import HubSettings

AUDIT = "/hub/api/audit"
ANN = "/hub/api/users/ann"
CANARY = "kX9vQ2mC7tR4wZ8nB3yL6p"


@pytest.fixture
def hub(hub_on_each: Site) -> Site:
    return hub_on_each


@pytest.fixture
async def boss(hub: Site) -> User:
    return await hub.person("root", admin=True)


@pytest.fixture
async def ann(hub: Site) -> User:
    return await hub.person("ann")


@pytest.fixture
async def root(hub: Site, boss: User) -> AsyncIterator[Client]:
    async with hub.client(await hub.token(boss)) as client:
        yield client


async def rows(root: Client, query: str = "") -> list[dict[str, Any]]:
    answer = await root("GET", f"{AUDIT}?{query}")
    assert answer.status == 200, answer.text
    return list(answer.json)


async def test_a_change_says_who_what_whose_and_how_it_ended(root: Client, ann: User) -> None:
    await root("PATCH", ANN, json={"admin": True})

    (row,) = await rows(root)

    said = {key: row[key] for key in ("kind", "action", "actor", "on_behalf_of", "target_user", "status")}
    assert said == {
        "kind": "change",
        "action": "PATCH api/users/{user}",
        "actor": "root",
        "on_behalf_of": "",
        "target_user": "ann",
        "status": 200,
    }
    assert row["change"] == {
        "before": {"name": "ann", "admin": False},
        "after": {"name": "ann", "admin": True},
    }
    assert (row["address"], bool(row["token_id"]), bool(row["request_id"])) == ("127.0.0.1", True, True)


async def test_a_change_of_rights_says_whose_and_which(root: Client, ann: User) -> None:
    for method, path, body in (
        ("POST", "users", {"usernames": ["bob"]}),
        ("POST", "groups/staff", {"users": ["ann"]}),
        ("DELETE", "groups/staff/users", {"users": ["ann"]}),
        ("PUT", "roles/readers", {"scopes": ["list:users"]}),
        ("PUT", "roles/readers", {"scopes": ["read:hub"]}),
        ("POST", "roles/readers/members", {"groups": ["staff"]}),
        ("POST", "services/s", {"admin": True, "api_token": CANARY}),
    ):
        assert (await root(method, f"/hub/api/{path}", json=body)).status < 300

    told = [row["change"] for row in reversed(await rows(root))]
    given = {"users": [], "groups": ["staff"], "services": [], "until": None}
    assert told == [
        {"after": {"users": ["bob"], "count": 1, "admin": False}},
        {"after": {"users": ["ann"]}},
        {"after": {"removed": ["ann"]}},
        {"before": {"scopes": []}, "after": {"scopes": ["list:users"]}},
        {"before": {"scopes": ["list:users"]}, "after": {"scopes": ["read:hub"]}},
        {"after": {"given": given}},
        {"after": {"admin": True, "oauth_client_allowed_scopes": [], "oauth_no_confirm": False}},
    ]


async def test_a_refused_change_leaves_a_row_and_reading_leaves_none(
    hub: Site, root: Client, ann: User
) -> None:
    async with hub.client(await hub.token(ann)) as client:
        assert (await client("DELETE", "/hub/api/users/root")).status == 403
        await client("GET", ANN)

    (row,) = await rows(root)

    assert (row["actor"], row["target_user"], row["status"]) == ("ann", "root", 403)


async def test_a_name_that_no_database_can_keep_leaves_a_row_all_the_same(root: Client) -> None:
    await root("DELETE", "/hub/api/users/a%00b")

    assert [row["target_user"] for row in await rows(root)] == ["a\N{REPLACEMENT CHARACTER}b"]


async def test_nobody_fills_the_table_from_outside_and_reports_of_use_do_not_either(
    hub: Site, root: Client, ann: User
) -> None:
    async with hub.client() as stranger:
        assert (await stranger("POST", "/hub/api/users", json={})).status == 403
        assert (await stranger.login("ann", "wrong")).status == 403
    async with hub.client(await hub.token(ann)) as client:
        said = {"last_activity": clock.iso(clock.now())}
        assert (await client("POST", f"{ANN}/activity", json=said)).status == 200

    assert await rows(root) == []


async def test_a_sign_in_and_what_is_pressed_on_pages_is_recorded(hub: Site, root: Client, ann: User) -> None:
    async with hub.client() as browser:
        await browser.login("ann")
        home = await browser("GET", "/hub/home")
        await browser("POST", "/hub/home/start", data={"_xsrf": home.xsrf, "server": "thesis"})
        await browser("GET", "/hub/logout")

    left, pressed, signed_in = await rows(root, "actor=ann")

    assert (signed_in["action"], signed_in["status"], signed_in["token_id"]) == ("POST login", 302, None)
    assert (left["action"], left["status"]) == ("GET logout", 302)
    assert (pressed["action"], pressed["target_user"], pressed["target"]) == (
        "POST home/start",
        "ann",
        "thesis",
    )


async def test_a_visit_to_somebody_elses_server_is_recorded_and_its_owner_sees_it(
    hub: Site, root: Client, ann: User
) -> None:
    await hub.server(ann, "lab", secret=CANARY)
    server = ServerApp(hub, "ann", "lab", CANARY)
    async with hub.client() as owner, hub.client() as visitor:
        await owner.login("ann")
        await server.code(owner)
        assert "Who else opened" not in (await owner("GET", "/hub/home")).text

        await visitor.login("root")
        asked = await server.authorize(visitor)
        assert asked.status == 200
        assert await rows(root, "kind=access") == []  # so far only asked
        fields = {"_xsrf": asked.xsrf, "scopes": "access:servers!server=ann/lab"}
        agreed = await visitor("POST", f"/hub/api/oauth2/authorize?{server.query()}", data=fields)
        assert agreed.status == 302, agreed.text

        (visit,) = await rows(root, "kind=access")
        assert (visit["actor"], visit["target_user"], visit["target"]) == ("root", "ann", "lab")
        assert "<bdi>root</bdi> opened <bdi>lab</bdi>" in (await owner("GET", "/hub/home")).text
        (seen,) = (await owner("GET", f"{ANN}/visits", headers=_proof(await owner("GET", "/hub/home")))).json
    assert seen == {"at": visit["at"], "visitor": "root", "server": "lab"}


async def test_a_visit_by_api_token_is_recorded_when_our_server_asks_whose_it_is_and_not_at_each_request(
    hub: Site, root: Client, ann: User, boss: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(singleuser_hub, "CHECK_S", 0.0)
    await hub.server(ann, "lab", secret=CANARY)
    stranger = await hub.person("bob")
    async with aiohttp.ClientSession() as session:
        server = HubClient(HubSettings(f"{hub.url}/hub/api", CANARY, "/", "c", "ann", "lab"), session)
        for secret in (await hub.token(ann), await hub.token(stranger), CANARY):
            assert await server.user_of(secret, session_id="")
        assert await rows(root, "kind=access") == []

        visitor = await hub.token(boss)
        for _ in range(3):
            assert await server.user_of(visitor, session_id="")
        (visit,) = await rows(root, "kind=access")
        assert (visit["actor"], visit["target_user"], visit["target"]) == ("root", "ann", "lab")
        assert visit["token_id"] is not None

        monkeypatch.setattr(singleuser_hub, "VISIT_S", 0.0)
        await server.user_of(visitor, session_id="")  # tells it at each question now
        assert len(await rows(root, "kind=access")) == 1
        later = clock.now() + timedelta(minutes=6)
        monkeypatch.setattr(clock, "now", lambda: later)
        await server.user_of(visitor, session_id="")
        assert len(await rows(root, "kind=access")) == 2

    for asks in ("no token", await hub.token(stranger)):  # only a server can say where that was
        await root("GET", "/hub/api/user", headers={"X-Himalia-Server-Token": asks})
    assert len(await rows(root, "kind=access")) == 2


async def test_only_who_may_reads_it(hub: Site, boss: User, ann: User) -> None:
    async with hub.client(await hub.token(ann)) as client:
        assert (await client("GET", AUDIT)).status == 403
        assert (await client("GET", f"{ANN}/visits")).status == 200
        assert (await client("GET", "/hub/api/users/root/visits")).status == 404
    async with hub.client(await hub.token(boss, "read:audit")) as narrow:
        assert (await narrow("GET", AUDIT)).status == 200
        assert (await narrow("DELETE", ANN)).status == 403


async def test_filters_narrow_and_what_cannot_be_read_is_400(root: Client, ann: User) -> None:
    for name in ("a", "b"):
        await root("PUT", f"{ANN}/servers/{name}", json={})
    await root("POST", "/hub/api/groups/staff", json={})

    assert [row["target"] for row in await rows(root)] == ["staff", "b", "a"]
    assert [row["target"] for row in await rows(root, "target_user=ann&limit=1&offset=1")] == ["a"]
    assert await rows(root, "actor=ann") == []
    assert await rows(root, "until=2020-01-01") == []
    assert len(await rows(root, "since=&until=2199-01-01")) == 3
    assert len(await rows(root, "since=2020-01-01&kind=change&actor=root")) == 3
    for wrong in ("kind=x", "since=yesterday", "format=xml", "limit=many"):
        assert (await root("GET", f"{AUDIT}?{wrong}")).status == 400, wrong


async def test_csv_has_every_row_and_no_formula(
    hub: Site, root: Client, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("himalia_hub.audit.handlers.CHUNK", 2)
    for name in ("a", "b", "c"):
        await root("PUT", f"{ANN}/servers/{name}", json={})
    await root("POST", "/hub/api/groups/=1+1", json={})

    answer = await root("GET", f"{AUDIT}?format=csv")

    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    read = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["target"] for row in read] == ["'=1+1", "c", "b", "a"]
    assert {row["actor"] for row in read} == {"root"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("=x", "'=x"),
        ("@x", "'@x"),
        ("a;=x", "a;'=x"),
        ("\uff1dx", "'\uff1dx"),
        ("a=b;c-d\n", "a=b;c-d\n"),
        (None, ""),
        (5, "5"),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_a_cell_is_never_a_formula(value: object, text: str) -> None:
    assert cell(value) == text


async def test_old_rows_go_and_others_stay(hub: Site, root: Client, ann: User) -> None:
    for name in ("old", "new"):
        await root("PUT", f"{ANN}/servers/{name}", json={})
    now = clock.now()
    async with hub.db.begin() as db:
        past = sa.update(AuditRow).where(AuditRow.target == "old").values(at=now - timedelta(days=2))
        await db.execute(past)

        await store.purge(db, older_than=now - timedelta(days=1))

    assert [row["target"] for row in await rows(root)] == ["new"]


async def test_a_row_outlives_whom_it_speaks_of(root: Client, ann: User) -> None:
    await root("PUT", f"{ANN}/servers/a", json={})
    assert (await root("DELETE", ANN)).status == 204

    assert [row["action"] for row in await rows(root, "target_user=ann")] == [
        "DELETE api/users/{user}",
        "PUT api/users/{user}/servers/{server}",
    ]


async def test_no_password_and_no_token_reaches_the_database_or_the_log(
    hub: Site, root: Client, ann: User, boss: User, capfd: pytest.CaptureFixture[str]
) -> None:
    token = await hub.token(boss)
    async with hub.client(token) as client:
        made = await client("POST", f"{ANN}/tokens", json={"note": "x", "scopes": ["read:users:name!user"]})
        await client("PATCH", f"{ANN}?token={CANARY}", json={"admin": True})
    async with hub.client() as stranger:
        await stranger.login(CANARY, CANARY)
        await stranger.login("ann", CANARY)
        basic = {"auth": {"username": "ann", "password": PASSWORD}}
        issued = await stranger("POST", f"{ANN}/tokens", json=basic)
        await stranger.login("ann")
        cookie = stranger.cookie("jupyterhub-hub-login")
    assert (made.status, issued.status, bool(cookie)) == (201, 201, True)
    secrets = [token, made.json["token"], issued.json["token"], PASSWORD, CANARY, cookie or ""]

    async with hub.db.read() as db:
        kept = [
            str(tuple(row))
            for table in Base.metadata.sorted_tables
            for row in await db.execute(sa.select(table))
        ]
    out, err = capfd.readouterr()

    assert await rows(root)
    assert "request.done" in out + err
    for secret in secrets:
        assert secret
        assert not [text for text in kept if secret in text]
        assert secret not in out + err


def _proof(home: Any) -> dict[str, str]:
    return {"X-XSRFToken": home.xsrf}
