from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Answer, Client, Site, identify, site
from himalia_hub import clock
from himalia_hub.oauth.models import OAuthCode
from himalia_hub.secrets import mint
from himalia_hub.servers.spec import client_id
from himalia_hub.servers.view import server_prefix
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import Login

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


class ServerApp:
    """A single-user server in its part as an OAuth client, as the official one behaves."""

    def __init__(self, hub: Site, user: str, name: str = "", secret: str = "") -> None:
        self.hub, self.user, self.name, self.secret = hub, user, name, secret
        self.client_id = client_id(user, name)
        self.redirect_uri = server_prefix(hub.world.settings, user, name) + "oauth_callback"

    def query(self, **changes: str | None) -> str:
        fields: dict[str, str | None] = {
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "state": "st&te",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return urlencode({key: value for key, value in (fields | changes).items() if value is not None})

    async def authorize(self, browser: Client, **changes: str | None) -> Answer:
        return await browser("GET", f"/hub/api/oauth2/authorize?{self.query(**changes)}")

    async def code(self, browser: Client, **changes: str | None) -> str:
        answer = await self.authorize(browser, **changes)
        assert answer.status == 302, answer.text
        return fields_of(answer)["code"]

    async def exchange(self, code: str, /, **changes: str | None) -> Answer:
        fields: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self.client_id,
            "client_secret": self.secret,
            "redirect_uri": self.redirect_uri,
            "code_verifier": VERIFIER,
        }
        sent = {key: value for key, value in (fields | changes).items() if value is not None}
        async with self.hub.client() as client:
            return await client("POST", "/hub/api/oauth2/token", data=sent)


def fields_of(answer: Answer) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(answer.location).query).items()}


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with site(tmp_path, database_url) as running:
        yield running


async def start(hub: Site, user: str, name: str = "", *, admin: bool = False) -> ServerApp:
    async with hub.db.read() as db:
        from himalia_hub.users import store

        person = await store.by_name(db, user)
    person = person or await hub.person(user, admin=admin)
    secret = mint()
    await hub.server(person, name, secret=secret)
    return ServerApp(hub, user, name, secret)


@pytest.fixture
async def ann(hub: Site) -> ServerApp:
    return await start(hub, "ann")


@pytest.fixture
async def browser(hub: Site, ann: ServerApp) -> AsyncIterator[Client]:
    async with hub.client() as client:
        await client.login("ann")
        yield client


async def test_a_person_comes_into_their_own_server_without_a_question(
    hub: Site, ann: ServerApp, browser: Client
) -> None:
    answer = await ann.authorize(browser)

    assert answer.status == 302
    assert answer.location.startswith("/user/ann/oauth_callback?")
    assert fields_of(answer)["state"] == "st&te"
    token = await ann.exchange(fields_of(answer)["code"])
    assert token.status == 200
    assert token.json.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert token.json["token_type"] == "Bearer"
    async with hub.db.read() as db:
        left = (await db.scalars(sa.select(Login.expires_at))).one() - clock.now()
    assert -1 <= token.json["expires_in"] - left.total_seconds() < 60, "it ends with the sign-in"
    async with hub.client(token.json["access_token"]) as server:
        model = (await server("GET", "/hub/api/user")).json
    assert (model["kind"], model["name"], model["admin"]) == ("user", "ann", False)
    assert set(model["scopes"]) == {"access:servers!server=ann/"} | identify("ann")
    assert model["session_id"] == browser.cookie("jupyterhub-session-id")
    assert model["token_id"].startswith("a")


async def test_who_is_not_signed_in_signs_in_first_and_comes_back(hub: Site, ann: ServerApp) -> None:
    async with hub.client() as stranger:
        answer = await ann.authorize(stranger)

        assert answer.status == 302
        assert answer.location.startswith("/hub/login?next=/hub/api/oauth2/authorize%3F")
        back = await stranger.login("ann", next_url=answer.location.partition("next=")[2])
        assert back.location == f"/hub/api/oauth2/authorize?{ann.query()}"


async def test_somebody_elses_server_asks_once_and_only_who_may_come_in(hub: Site, ann: ServerApp) -> None:
    await hub.person("root", admin=True)
    await hub.person("bob")
    async with hub.client() as bob:
        await bob.login("bob")
        assert (await ann.authorize(bob)).status == 403
    async with hub.client() as root:
        await root.login("root")
        question = await ann.authorize(root)
        assert question.status == 200
        assert "ann" in question.text
        path = f"/hub/api/oauth2/authorize?{ann.query()}"
        agreed = [("scopes", "access:servers!server=ann/")]

        assert (await root("POST", path, data=agreed)).status == 403
        foreign = await root("POST", path, data=[("_xsrf", question.xsrf), ("scopes", "admin:users")])
        assert foreign.status == 400
        answer = await root("POST", path, data=[("_xsrf", question.xsrf), *agreed])

        token = await ann.exchange(fields_of(answer)["code"])
        async with hub.client(token.json["access_token"]) as server:
            model = (await server("GET", "/hub/api/user")).json
        assert model["name"] == "root"
        assert set(model["scopes"]) == {"access:servers!server=ann/"} | identify("root")
        assert (await ann.authorize(root)).status == 302


async def test_a_visitor_who_agrees_to_nothing_by_name_comes_in_and_no_further(
    hub: Site, ann: ServerApp
) -> None:
    await hub.person("root", admin=True)
    async with hub.client() as root:
        await root.login("root")
        question = await ann.authorize(root)
        answer = await root("POST", f"/hub/api/oauth2/authorize?{ann.query()}", data={"_xsrf": question.xsrf})
        token = await ann.exchange(fields_of(answer)["code"])

        async with hub.client(token.json["access_token"]) as server:
            model = (await server("GET", "/hub/api/user")).json
        assert model["name"] == "root"
        assert set(model["scopes"]) == {"access:servers!server=ann/"} | identify("root")
        assert (await ann.authorize(root)).status == 302


async def test_a_token_dies_when_its_owner_loses_the_right(hub: Site, ann: ServerApp) -> None:
    from himalia_hub.users.models import User

    await hub.person("root", admin=True)
    async with hub.client() as root:
        await root.login("root")
        question = await ann.authorize(root)
        data = [("_xsrf", question.xsrf), ("scopes", "access:servers!server=ann/")]
        answer = await root("POST", f"/hub/api/oauth2/authorize?{ann.query()}", data=data)
    token = (await ann.exchange(fields_of(answer)["code"])).json["access_token"]
    async with hub.db.begin() as db:
        await db.execute(sa.update(User).where(User.name == "root").values(admin=False))

    async with hub.client(token) as server:
        assert (await server("GET", "/hub/api/user")).json["scopes"] == sorted(identify("root"))


@pytest.mark.parametrize(
    "changes",
    [{"client_id": "jupyterhub-user-nobody"}, {"client_id": None}, {"client_id": "service-x"}, {"redirect_uri": "http://evil.com/user/ann/oauth_callback"}, {"redirect_uri": "/user/ann/oauth_callback/"}, {"redirect_uri": "//evil.com"}],
)  # fmt: skip
async def test_a_wrong_client_or_redirect_is_never_redirected_to(
    ann: ServerApp, browser: Client, changes
) -> None:
    answer = await ann.authorize(browser, **changes)

    assert answer.status == 400
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"response_type": "token"}, "unsupported_response_type"), ({"scope": "admin:users"}, "invalid_scope"), ({"code_challenge_method": "MD5"}, "invalid_request")],
)  # fmt: skip
async def test_other_mistakes_are_told_to_the_server(
    ann: ServerApp, browser: Client, changes, error: str
) -> None:
    answer = await ann.authorize(browser, **changes)

    assert answer.status == 302
    assert fields_of(answer)["error"] == error
    assert fields_of(answer)["state"] == "st&te"


async def test_a_code_is_good_once(hub: Site, ann: ServerApp, browser: Client) -> None:
    code = await ann.code(browser)

    answers = await asyncio.gather(*(ann.exchange(code) for _ in range(5)))

    assert sorted(answer.status for answer in answers) == [200] + [400] * 4
    assert {answer.json.get("error") for answer in answers} == {None, "invalid_grant"}


async def test_a_code_is_good_for_five_minutes(hub: Site, ann: ServerApp, browser: Client) -> None:
    code = await ann.code(browser)
    async with hub.db.begin() as db:
        left = (await db.scalars(sa.select(OAuthCode.expires_at))).one() - clock.now()
        await db.execute(sa.update(OAuthCode).values(expires_at=clock.now() - timedelta(seconds=1)))

    assert timedelta(seconds=280) < left <= timedelta(seconds=300)
    assert (await ann.exchange(code)).json["error"] == "invalid_grant"


async def test_a_code_is_stored_as_a_hash(hub: Site, ann: ServerApp, browser: Client) -> None:
    code = await ann.code(browser)

    async with hub.db.read() as db:
        assert code != (await db.scalars(sa.select(OAuthCode.hashed))).one()


async def test_a_failed_client_does_not_burn_the_code(ann: ServerApp, browser: Client) -> None:
    code = await ann.code(browser)

    for secret in ("wrong", None, ""):
        answer = await ann.exchange(code, client_secret=secret)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert (await ann.exchange(code)).status == 200


async def test_a_wrong_proof_burns_the_code(ann: ServerApp, browser: Client) -> None:
    for verifier in ("w" * 43, None):
        code = await ann.code(browser)
        assert (await ann.exchange(code, code_verifier=verifier)).json["error"] == "invalid_grant"
        assert (await ann.exchange(code)).json["error"] == "invalid_grant"


async def test_without_a_challenge_no_proof_is_asked_for(ann: ServerApp, browser: Client) -> None:
    code = await ann.code(browser, code_challenge=None, code_challenge_method=None)

    assert (await ann.exchange(code, code_verifier=None)).status == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"grant_type": "password"}, "unsupported_grant_type"), ({"grant_type": None}, "unsupported_grant_type"), ({"code": None}, "invalid_request"), ({"code": "unknown"}, "invalid_grant"), ({"redirect_uri": "/elsewhere"}, "invalid_request")],
)  # fmt: skip
async def test_the_token_address_names_what_is_wrong(
    ann: ServerApp, browser: Client, changes, error: str
) -> None:
    answer = await ann.exchange(await ann.code(browser), **changes)

    assert (answer.status, answer.json["error"]) == (400, error)
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_code_of_a_browser_that_signed_out_is_worth_nothing(ann: ServerApp, browser: Client) -> None:
    code = await ann.code(browser)
    await browser("GET", "/hub/logout")

    assert (await ann.exchange(code)).json["error"] == "invalid_grant"


async def test_signing_out_ends_what_servers_were_given(hub: Site, ann: ServerApp, browser: Client) -> None:
    token = (await ann.exchange(await ann.code(browser))).json["access_token"]
    await browser("GET", "/hub/logout")

    async with hub.client(token) as server:
        assert (await server("GET", "/hub/api/user")).status == 403


async def test_another_servers_code_is_refused(hub: Site, ann: ServerApp, browser: Client) -> None:
    eve = await start(hub, "eve")
    code = await ann.code(browser)

    assert (await eve.exchange(code)).json["error"] == "invalid_grant"
    assert (await eve.exchange(code, redirect_uri=ann.redirect_uri)).json["error"] == "invalid_grant"
    assert (await ann.exchange(code)).status == 200


async def test_two_servers_with_one_client_id_are_never_mixed_up(hub: Site) -> None:
    dashed, named = await start(hub, "a-b"), await start(hub, "a", "b")
    assert dashed.client_id == named.client_id
    async with hub.client() as dashes, hub.client() as plain:
        await dashes.login("a-b")
        await plain.login("a")

        assert (await named.authorize(dashes)).status == 403
        assert (await dashed.authorize(plain)).status == 403
        assert (await dashed.authorize(dashes, redirect_uri=None)).status == 400
        for app, other, visitor in ((dashed, named, dashes), (named, dashed, plain)):
            code = await app.code(visitor)
            stolen = await other.exchange(code)
            assert (stolen.status, stolen.json["error"]) == (400, "invalid_grant")
            forged = await other.exchange(code, redirect_uri=app.redirect_uri)
            assert (forged.status, forged.json["error"]) == (400, "invalid_grant")
            token = (await app.exchange(code)).json["access_token"]
            async with hub.client(token) as server:
                model = (await server("GET", "/hub/api/user")).json
            access = f"access:servers!server={app.user}/{app.name}"
            assert set(model["scopes"]) == {access} | identify(app.user)


async def test_agreeing_to_one_server_agrees_to_no_other_of_its_client_id(hub: Site) -> None:
    dashed, named = await start(hub, "a-b"), await start(hub, "a", "b")
    await hub.person("root", admin=True)
    async with hub.client() as root:
        await root.login("root")
        question = await dashed.authorize(root)
        data = [("_xsrf", question.xsrf), ("scopes", "access:servers!server=a-b/")]
        answer = await root("POST", f"/hub/api/oauth2/authorize?{dashed.query()}", data=data)
        assert (await dashed.exchange(fields_of(answer)["code"])).status == 200

        assert (await dashed.authorize(root)).status == 302
        assert (await named.authorize(root)).status == 200


@pytest.mark.parametrize(
    ("user", "name"), [("zoë", ""), ("o'neil@x.org", "my-lab"), ("a%2fb", ""), ("ann+1 x", "b")]
)
async def test_odd_names_come_in_too(hub: Site, user: str, name: str) -> None:
    app = await start(hub, user, name)
    async with hub.client() as browser:
        await browser.login(user)
        answer = await app.authorize(browser)
        token = (await app.exchange(fields_of(answer)["code"])).json["access_token"]

    assert answer.location.startswith(f"/user/{quote(user, safe='_.-~@')}/")
    async with hub.client(token) as server:
        assert (await server("GET", "/hub/api/user")).json["name"] == user


async def test_a_stopped_server_is_no_client(hub: Site, ann: ServerApp, browser: Client) -> None:
    async with hub.db.begin() as db:
        await db.execute(sa.delete(ApiToken).where(ApiToken.server_id.is_not(None)))

    assert (await ann.authorize(browser)).status == 400


async def test_credentials_may_come_by_basic_authentication(ann: ServerApp, browser: Client) -> None:
    code = await ann.code(browser)
    basic = base64.b64encode(f"{ann.client_id}:{ann.secret}".encode()).decode()
    async with ann.hub.client(Authorization=f"Basic {basic}") as client:
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": ann.redirect_uri, "code_verifier": VERIFIER}  # fmt: skip
        assert (await client("POST", "/hub/api/oauth2/token", data=fields)).status == 200
