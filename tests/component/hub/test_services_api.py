"""The services part of the REST API, and services as OAuth clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site, identify, site
from himalia_hub.errors import ConfigError
from himalia_hub.routes.sync import check
from himalia_hub.services import sync
from himalia_hub.services.models import Service
from himalia_hub.settings import HubSettings
from himalia_hub.tokens.models import ApiToken

SECRET = "a token of some length"
ELSEWHERE = "https://app.example.org/back"
CONFIGURED = [
    {"name": "who", "url": "http://127.0.0.1:9000", "api_token": SECRET},
    {"name": "quiet", "url": "http://127.0.0.1:9001", "api_token": SECRET + "2", "oauth_no_confirm": True},
    {"name": "app", "oauth_redirect_uri": ELSEWHERE, "api_token": SECRET + "3",
     "oauth_client_allowed_scopes": ["read:users!user", "admin:users"]},
    {"name": "bot", "admin": True, "api_token": SECRET + "4"},
]  # fmt: skip


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, services=CONFIGURED) as running:
        await write(running)
        await running.person("root", admin=True)
        yield running


async def write(hub: Site, settings: HubSettings | None = None) -> None:
    await sync.write_configured(hub.db, settings or hub.world.settings, hub.world.secrets)


@pytest.fixture
async def admin(hub: Site) -> AsyncIterator[Client]:
    async with hub.client(SECRET + "4") as client:
        yield client


async def test_services_are_listed_with_what_the_caller_may_see(hub: Site, admin: Client) -> None:
    every = (await admin("GET", "/hub/api/services")).json
    assert list(every) == ["app", "bot", "quiet", "who"]
    assert every["who"] == {
        "kind": "service", "name": "who", "admin": False, "roles": [], "url": "http://127.0.0.1:9000",
        "prefix": "/services/who/", "command": [], "pid": 0, "info": {}, "display": True,
    }  # fmt: skip

    async with hub.client(await hub.token(await hub.person("eve"))) as eve:
        assert (await eve("GET", "/hub/api/services")).status == 403
        assert (await eve("GET", "/hub/api/services/who")).status == 403


async def test_a_service_is_itself_and_reads_no_more_than_it_may(hub: Site, admin: Client) -> None:
    me = (await admin("GET", "/hub/api/user")).json
    assert (me["kind"], me["name"], me["admin"], me["session_id"]) == ("service", "bot", True, None)
    assert "admin:users" in me["scopes"]
    assert (await admin("GET", "/hub/api/users")).json[0]["name"] == "root"
    async with hub.client(SECRET) as who:
        me = (await who("GET", "/hub/api/user")).json
        assert (me["name"], me["scopes"]) == ("who", [])
        assert (await who("GET", "/hub/api/users")).status == 403
        for page in ("/hub/home", "/hub/admin"):
            assert (await who("GET", page)).status == 302


async def test_a_service_called_like_a_person_is_not_that_person(hub: Site, admin: Client) -> None:
    body = {"api_token": "the token of another root"}
    assert (await admin("POST", "/hub/api/services/root", json=body)).status == 201

    async with hub.client("the token of another root") as other:
        assert (await other("GET", "/hub/api/users/root")).status == 403
        assert (await other("GET", "/hub/api/user")).json["kind"] == "service"
        assert (await admin("DELETE", "/hub/api/users/bot")).status == 404


async def test_one_that_others_run_is_made_routed_and_removed(hub: Site, admin: Client) -> None:
    body = {"url": "http://10.0.0.7:80", "api_token": "x" * 32, "info": {"a": 1}, "name": "wiki"}
    made = await admin("POST", "/hub/api/services/wiki", json=body)
    assert (made.status, made.json["url"], made.json["info"]) == (201, "http://10.0.0.7:80", {"a": 1})
    assert "x" * 32 not in made.text
    assert (await admin("POST", "/hub/api/services/wiki", json=body)).status == 409
    specs = [route.routespec for route in (await check(hub.world)).put]
    assert specs == ["/", "/services/quiet/", "/services/who/", "/services/wiki/"]
    async with hub.client("x" * 32) as wiki:
        assert (await wiki("GET", "/hub/api/user")).json["name"] == "wiki"

    removed = await admin("DELETE", "/hub/api/services/wiki")

    assert (removed.status, removed.text) == (200, "")
    assert (await admin("GET", "/hub/api/services/wiki")).status == 404
    assert (await admin("DELETE", "/hub/api/services/wiki")).status == 404
    async with hub.client("x" * 32) as wiki:
        assert (await wiki("GET", "/hub/api/user")).status == 403
    refused = await admin("DELETE", "/hub/api/services/who")
    assert (refused.status, refused.json["code"]) == (405, "from-configuration")


NO_SERVICES: list[object] = [
    {}, {"nonsense": 1}, {"admin": "yes"}, {"url": 5}, {"url": "ftp://x"}, {"command": ["x"]}, {"user": "root"},
    {"api_token": "short"}, {"oauth_client_id": "jupyterhub-user-root"}, {"name": "other"}, [1],
    {"oauth_client_allowed_scopes": ["nonsense"]}, {"oauth_redirect_uri": "javascript:x"},
]  # fmt: skip


async def test_what_cannot_be_a_service_is_a_400(hub: Site, admin: Client) -> None:
    for body in NO_SERVICES:
        assert (await admin("POST", "/hub/api/services/new", json=body)).status == 400, body
    assert await hub.count(Service) == len(CONFIGURED)


async def test_nobody_gives_a_service_more_than_they_hold(hub: Site) -> None:
    async with hub.client(await hub.token(await hub.person("root2", admin=True), "admin:services")) as some:
        assert (await some("POST", "/hub/api/services/a", json={"admin": True})).status == 403
        for scope in ("admin:users", "inherit"):
            body = {"oauth_client_allowed_scopes": [scope]}
            assert (await some("POST", "/hub/api/services/a", json=body)).status == 400
        assert (await some("POST", "/hub/api/services/a", json={"display": False})).status == 201


async def test_the_rows_follow_the_configuration_and_starting_twice_changes_nothing(
    tmp_path: Path, database_url: str
) -> None:
    async with site(tmp_path, database_url, services=CONFIGURED) as hub:
        await write(hub)
        async with hub.db.read() as db:
            before = (await db.scalars(sa.select(ApiToken.id).order_by(ApiToken.id))).all()
        await write(hub)
        async with hub.db.read() as db:
            assert (await db.scalars(sa.select(ApiToken.id).order_by(ApiToken.id))).all() == before
        assert len(before) == len(CONFIGURED)
        changed = HubSettings(services=[CONFIGURED[0] | {"api_token": "another token"}, CONFIGURED[3]])

        await write(hub, changed)

        assert await hub.count(Service) == 2
        left = ((SECRET, 403), ("another token", 200), (SECRET + "2", 403), (SECRET + "4", 200))
        for secret, status in left:
            async with hub.client(secret) as client:
                assert (await client("GET", "/hub/api/user")).status == status


async def test_two_services_with_one_token_stop_the_start(hub: Site) -> None:
    twice = [{"name": name, "api_token": "one token for two"} for name in ("a", "b")]
    with pytest.raises(ConfigError, match=r"'b'.*somebody else"):
        await write(hub, HubSettings(services=twice))


def asked(name: str, **changes: str) -> str:
    uri = ELSEWHERE if name == "app" else f"/services/{name}/oauth_callback"
    fields = {"client_id": f"service-{name}", "redirect_uri": uri, "response_type": "code", "state": "s"}
    return "/hub/api/oauth2/authorize?" + urlencode(fields | changes)


async def redeem(hub: Site, name: str, location: str, secret: str) -> str:
    code = parse_qs(urlsplit(location).query)["code"][0]
    uri = ELSEWHERE if name == "app" else f"/services/{name}/oauth_callback"
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": uri,
        "client_id": f"service-{name}",
    }
    async with hub.client() as service:
        wrong = await service("POST", "/hub/api/oauth2/token", data=form | {"client_secret": "wrong"})
        assert (wrong.status, wrong.json["error"]) == (401, "invalid_client")
        answer = await service("POST", "/hub/api/oauth2/token", data=form | {"client_secret": secret})
    assert answer.status == 200, answer.text
    return str(answer.json["access_token"])


async def test_a_service_without_questions_knows_its_visitor_at_once(hub: Site) -> None:
    async with hub.client() as root:
        await root.login("root")
        answer = await root("GET", asked("quiet"))
        assert answer.location.startswith("/services/quiet/oauth_callback?code=")
        token = await redeem(hub, "quiet", answer.location, SECRET + "2")
        async with hub.client(token) as service:
            model = (await service("GET", "/hub/api/user")).json
        assert model["name"] == "root"
        assert set(model["scopes"]) == {"access:services!service=quiet"} | identify("root")


async def test_a_service_gets_what_it_may_ask_for_and_its_visitor_can_give(hub: Site) -> None:
    async with hub.client() as root:
        await root.login("root")
        question = await root("GET", asked("app"))
        assert question.status == 200
        assert "form-action 'self' https://app.example.org;" in question.headers["Content-Security-Policy"]
        scopes = ["read:users!user", "admin:users", "access:services!service=app"]
        agreed = [("_xsrf", question.xsrf), *(("scopes", scope) for scope in scopes)]
        answer = await root("POST", asked("app"), data=agreed)
        assert answer.location.startswith(ELSEWHERE + "?code=")
        token = await redeem(hub, "app", answer.location, SECRET + "3")
        assert (await root("GET", asked("app"))).status == 302
        refused = await root("GET", asked("app", scope="shutdown"))
        assert parse_qs(urlsplit(refused.location).query)["error"] == ["invalid_scope"]
    async with hub.client(token) as service:
        held = (await service("GET", "/hub/api/user")).json["scopes"]
        assert {"read:users!user=root", "admin:users", "access:services!service=app"} & set(held) == {
            "admin:users",
            "access:services!service=app",
        }
    await write(hub, HubSettings(services=CONFIGURED[:2]))
    async with hub.client(token) as service:
        assert (await service("GET", "/hub/api/user")).status == 403


@pytest.mark.parametrize(
    "changes",
    [{"client_id": "service-none"}, {"client_id": "service-bot"}, {"redirect_uri": "https://evil.example/"}],
)
async def test_a_wrong_client_or_redirect_is_never_redirected_to(hub: Site, changes: dict[str, str]) -> None:
    async with hub.client() as root:
        await root.login("root")
        answer = await root("GET", asked("who", **changes))
    assert (answer.status, "Location" in answer.headers) == (400, False)


async def test_who_may_not_visit_a_service_does_not_sign_in_to_it(hub: Site) -> None:
    await hub.person("eve")
    async with hub.client() as eve:
        await eve.login("eve")
        assert (await eve("GET", asked("quiet"))).status == 403
        assert "/services/quiet" not in (await eve("GET", "/hub/home")).text
    async with hub.client() as root:
        await root.login("root")
        home = (await root("GET", "/hub/home")).text
    assert '<a href="/services/quiet/" translate="no">quiet</a>' in home
    assert "bot" not in home
