from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub.hub_site import PASSWORD, Site, site
from himalia_hub import clock
from himalia_hub.auth import accounts, cookies, password
from himalia_hub.auth.backoff import BUCKETS
from himalia_hub.auth.door import DOOR, WrongPassword, sign_in_by_password
from himalia_hub.errors import TooMany
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import FailedLogin, Login, User

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}


@pytest.fixture(autouse=True, scope="module")
def passwords() -> None:
    """At their price: what many sign-ins at once do to each other is in here."""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


async def attempt_in(hub: Site, name: str, given: str, *, address: str) -> User:
    return await sign_in_by_password(hub.db, hub.app[DOOR], name, given, address=address)


# ------------------------------------------------------------------ signing in


async def test_the_right_password_signs_in_and_leads_on(hub_on_each: Site) -> None:
    await hub_on_each.person("ann")
    async with hub_on_each.client() as browser:
        answer = await browser.login(" Ann ", next_url="/hub/home%3Fx%3D1")
        proof = browser.cookie("_xsrf") or ""

        assert (answer.status, answer.location) == (302, "/hub/home?x=1")
        assert (await browser("GET", "/hub/home")).status == 200
        model = (await browser("GET", "/hub/api/user")).json
        assert model["name"] == "ann"
        assert model["session_id"] is None, "the value of a cookie that scripts must not read"
        anew = await browser("POST", "/hub/api/users/ann/tokens", json={}, headers={"X-XSRFToken": proof})
        assert anew.status == 201, "the answer that signs in carries the token of what follows"


async def test_a_page_gives_back_the_cookie_that_names_the_sign_in_and_no_other_twice(hub: Site) -> None:
    await hub.person("ann")
    async with hub.client() as browser:
        await browser.login("ann")
        named = browser.cookie("jupyterhub-session-id")
        assert "Set-Cookie" not in (await browser("GET", "/hub/home")).headers
        browser.session.cookie_jar.clear(lambda cookie: cookie.key == "jupyterhub-session-id")
        again = await browser("GET", "/hub/home")

        assert browser.cookie("jupyterhub-session-id") == named
        assert len(again.headers.getall("Set-Cookie")) == 1


async def test_cookies_have_the_flags_and_paths_of_jupyterhub(hub: Site) -> None:
    await hub.person("ann")
    async with hub.client() as browser:
        plain = await browser.login("ann")
    async with hub.client() as browser:
        secure = await browser.login("ann", **{"X-Forwarded-Proto": "https"})

    login, session = plain.headers.getall("Set-Cookie")[:2]
    assert login.startswith("jupyterhub-hub-login=")
    assert {"Path=/hub/", "HttpOnly", "SameSite=Lax", "Max-Age=1209600"} <= set(login.split("; "))
    assert session.startswith("jupyterhub-session-id=")
    assert {"Path=/", "HttpOnly"} <= set(session.split("; "))
    assert "Secure" not in login
    assert all("Secure" in cookie for cookie in secure.headers.getall("Set-Cookie")[:2])


async def test_the_database_holds_no_cookie(hub: Site) -> None:
    await hub.person("ann")
    async with hub.client() as browser:
        await browser.login("ann")
        secret = browser.cookie("jupyterhub-hub-login").partition(".")[0]
    async with hub.db.read() as db:
        row = (await db.scalars(sa.select(Login))).one()

    assert secret not in (row.hashed, row.session_id)


@pytest.mark.parametrize(
    "change",
    [lambda c: c[:-1] + ("A" if c[-1] != "A" else "B"), lambda c: c.partition(".")[0], lambda _: "x"],
)
async def test_a_changed_cookie_is_nobodys(hub: Site, change) -> None:
    await hub.person("ann")
    async with hub.client() as browser:
        await browser.login("ann")
        forged = change(browser.cookie("jupyterhub-hub-login"))
    async with hub.client(Cookie=f"jupyterhub-hub-login={forged}") as other:
        assert (await other("GET", "/hub/api/user")).status == 403


async def test_of_two_different_sign_ins_in_one_request_neither_counts(hub: Site) -> None:
    kept = []
    for name in ("ann", "mallory"):
        await hub.person(name)
        async with hub.client() as browser:
            await browser.login(name)
            kept.append(browser.cookie(cookies.LOGIN))
    own, theirs = kept
    for sent, counts in (
        ((own, theirs), False),
        ((theirs, own), False),
        (("x", own, "x"), True),
        ((f"{theirs}x", own), True),
        ((own, own), True),
    ):
        header = "; ".join(f"{cookies.LOGIN}={value}" for value in sent)
        async with hub.client() as bare:
            answer = await bare("GET", "/hub/home", headers={"Cookie": header})
        assert answer.status == (200 if counts else 302), header


async def test_unknown_person_and_wrong_password_get_the_same_page(hub: Site) -> None:
    await hub.person("ann")
    async with hub.client() as browser:
        wrong, unknown = await browser.login("ann", "nope"), await browser.login("bob", "nope")

    assert wrong.status == unknown.status == 403
    assert "Wrong user name or password." in wrong.text
    shape = lambda answer: answer.text.replace("ann", "X").replace("bob", "X").replace(answer.xsrf, "")
    ids = r"[\w-]{12}"
    assert re.sub(ids, "", shape(wrong)) == re.sub(ids, "", shape(unknown))


async def test_a_password_that_is_changed_while_it_is_checked_lets_nobody_in(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hub.person("ann")
    check = password.verify

    async def slowly(stored: str | None, given: str) -> password.Verdict:
        verdict = await check(stored, given)
        async with hub.db.begin() as db:
            await db.execute(sa.update(User).values(password_hash="another"))
        return verdict

    monkeypatch.setattr(password, "verify", slowly)
    async with hub.client() as client:
        assert (await client.login("ann")).status == 403
    assert await hub.count(Login) == 0


async def test_an_account_without_a_password_cannot_sign_in(hub: Site) -> None:
    await hub.person("root")
    await hub.person("robot", hashed=None)
    async with hub.client() as browser:
        assert (await browser.login("robot", "")).status == 403


async def test_a_form_without_proof_is_shown_again(hub: Site) -> None:
    await hub.person("ann")
    async with hub.client() as browser:
        answer = await browser("POST", "/hub/login", data={"username": "ann", "password": PASSWORD})

        assert answer.status == 403
        assert "sign in again" in answer.text
        assert browser.cookie("jupyterhub-hub-login") is None


async def test_proof_of_another_browser_is_worth_nothing(hub: Site) -> None:
    await hub.person("ann")
    async with hub.client() as attacker, hub.client() as victim:
        stolen = (await attacker("GET", "/hub/login")).xsrf
        await victim("GET", "/hub/login")
        answer = await victim(
            "POST", "/hub/login", data={"username": "ann", "password": PASSWORD, "_xsrf": stolen}
        )

        assert answer.status == 403


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.com"}],
)
async def test_a_form_from_another_site_is_refused_with_any_proof(hub: Site, headers: dict[str, str]) -> None:
    await hub.person("ann")
    async with hub.client() as browser:
        assert (await browser.login("ann", **headers)).status == 403
        assert (await browser.login("ann", **SAME_ORIGIN)).status == 302


@pytest.mark.parametrize(
    "evil",
    [
        "//evil.com",
        "/%5Cevil.com",
        "https:evil.com",
        "%2f%2fevil.com",
        "http://evil.com/hub/",
        "/%09/evil.com",
    ],
)
async def test_no_next_leads_off_the_site(hub: Site, evil: str) -> None:
    await hub.person("ann")
    async with hub.client() as browser:
        location = (await browser.login("ann", next_url=evil)).location

    assert location in ("/hub/home", "/%5Cevil.com")


async def test_a_huge_form_is_refused_unread(hub: Site) -> None:
    """CVE-2026-54338: a name of any length went into the log."""
    await hub.person("ann")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with hub.client() as browser:
        answer = await browser(
            "POST", "/hub/login", data=io.BytesIO(b"username=" + b"x" * 10_000_000), headers=form
        )

    assert answer.status == 413


async def test_signing_in_again_ends_the_earlier_sign_in_of_this_browser(hub: Site) -> None:
    await hub.person("ann")
    await hub.person("bob")
    async with hub.client() as browser:
        await browser.login("ann")
        home = await browser("GET", "/hub/home")
        answer = await browser(
            "POST", "/hub/login", data={"username": "bob", "password": PASSWORD, "_xsrf": home.xsrf}
        )

        assert answer.status == 302
        assert (await browser("GET", "/hub/api/user")).json["name"] == "bob"
    assert await hub.count(Login) == 1


async def test_a_sign_in_ends_when_its_time_is_over(hub: Site) -> None:
    await hub.person("ann")
    async with hub.client() as browser:
        await browser.login("ann")
        async with hub.db.begin() as db:
            await db.execute(sa.update(Login).values(expires_at=clock.now() - timedelta(seconds=1)))

        assert (await browser("GET", "/hub/api/user")).status == 403
        answer = await browser("GET", "/hub/home?a=1&b=2")
        assert (answer.status, answer.location) == (302, "/hub/login?next=/hub/home%3Fa%3D1%26b%3D2")


# ------------------------------------------------------------------ signing out


async def test_signing_out_ends_the_sign_in_and_every_token_of_it(hub_on_each: Site) -> None:
    ann = await hub_on_each.person("ann")
    kept = await hub_on_each.token(ann)
    async with hub_on_each.client() as browser, hub_on_each.client() as other_browser:
        await browser.login("ann")
        await other_browser.login("ann")
        async with hub_on_each.db.begin() as db:
            from himalia_hub.tokens import store as tokens

            _, issued = await tokens.issue(
                db,
                ann.id,
                now=clock.now(),
                scopes=["inherit"],
                session_id=browser.cookie("jupyterhub-session-id"),
            )
        stolen = browser.cookie("jupyterhub-hub-login")

        answer = await browser("GET", "/hub/logout")

        assert (answer.status, answer.location) == (302, "/hub/login")
        assert browser.cookie("jupyterhub-hub-login") is None
        assert (await other_browser("GET", "/hub/api/user")).status == 200
    for headers in ({"Cookie": f"jupyterhub-hub-login={stolen}"}, {"Authorization": f"token {issued}"}):
        async with hub_on_each.client(**headers) as late:
            assert (await late("GET", "/hub/api/user")).status == 403
    async with hub_on_each.client(kept) as script:
        assert (await script("GET", "/hub/api/user")).status == 200


# ------------------------------------------------------------------ back-off


async def test_the_fifth_failure_starts_a_wait_that_no_password_gets_through(hub_on_each: Site) -> None:
    await hub_on_each.person("ann")
    async with hub_on_each.client() as browser:
        for _ in range(5):
            assert (await browser.login("ann", "nope")).status == 403
        refused = await browser.login("ann")

        assert refused.status == 429
        assert 0 < int(refused.headers["Retry-After"]) <= 5
        assert "data-countdown" in refused.text
        async with hub_on_each.db.begin() as db:
            await db.execute(sa.update(FailedLogin).values(last=clock.now() - timedelta(seconds=6)))
        assert (await browser.login("ann")).status == 302
    async with hub_on_each.db.read() as db:
        assert await db.get(FailedLogin, "user:ann") is None


async def test_an_unknown_name_waits_like_a_known_one(hub: Site) -> None:
    await hub.person("ann")
    async with hub.client() as browser:
        answers = [(await browser.login("nobody", "nope")).status for _ in range(6)]

    assert answers == [403] * 5 + [429]


async def test_many_attempts_at_once_are_no_more_than_many_in_a_row(hub_on_each: Site) -> None:
    await hub_on_each.person("ann")

    async def attempt() -> str:
        try:
            await attempt_in(hub_on_each, "ann", "nope", address="10.0.0.7")
        except (WrongPassword, TooMany) as error:
            return error.code
        return "in"

    codes = await asyncio.gather(*(attempt() for _ in range(12)))

    assert codes.count("wrong-password") == 5
    assert codes.count("too-many") == 7


async def test_many_people_behind_one_address_sign_in_at_once(hub: Site) -> None:
    for number in range(30):
        await hub.person(f"pupil{number}")

    users = await asyncio.gather(
        *(attempt_in(hub, f"pupil{n}", PASSWORD, address="10.0.0.7") for n in range(30))
    )

    assert len(users) == 30


async def test_when_too_many_sign_in_the_form_says_so_and_when_to_come_back(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hub.person("ann")
    monkeypatch.setattr(password, "LONGEST_QUEUE", 0)
    async with hub.client() as browser:
        answer = await browser.login("ann", PASSWORD)

    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert "Too many people are signing in at this moment." in answer.text


async def test_an_address_that_guesses_names_waits_too(hub: Site) -> None:
    await hub.person("ann")
    for number in range(20):
        with pytest.raises(WrongPassword):
            await attempt_in(hub, f"name{number}", "x" * 2000, address="10.0.0.7")

    with pytest.raises(TooMany):
        await attempt_in(hub, "ann", PASSWORD, address="10.0.0.7")
    assert (await attempt_in(hub, "ann", PASSWORD, address="10.0.0.8")).name == "ann"
    assert await hub.count(FailedLogin) <= BUCKETS


# ------------------------------------------------------------------ sweeping


async def test_expired_sign_ins_are_swept_and_tokens_of_others_stay(hub: Site) -> None:
    ann = await hub.person("ann")
    await hub.token(ann)
    async with hub.db.begin() as db:
        for _ in range(3):
            await db.run_sync(
                accounts.begin_login, ann, now=clock.now() - timedelta(days=2), lasts=timedelta(days=1)
            )
        await db.run_sync(accounts.begin_login, ann, now=clock.now(), lasts=timedelta(days=1))

    assert await hub.count(Login) == 1
    assert await hub.count(ApiToken) == 1
