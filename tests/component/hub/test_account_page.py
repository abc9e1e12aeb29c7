"""A person's own page: password, second step, sign-ins elsewhere."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
import sqlalchemy as sa

from component.hub.hub_site import PASSWORD, Answer, Client, Site, site
from himalia_hub import clock
from himalia_hub.auth.agents import browser_of
from himalia_hub.auth.models import RecoveryCode, SecondFactor
from himalia_hub.auth.second import STEP_S, step_of
from himalia_hub.auth.vault import VAULT
from himalia_hub.users.models import Login, User

NEW = "another long phrase"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        await running.person("ann")
        yield running


async def post(browser: Client, path: str, **fields: str) -> Answer:
    page = await browser("GET", "/hub/account")
    return await browser("POST", f"/hub/account{path}", data={"_xsrf": page.xsrf, **fields})


async def name_of(browser: Client) -> str | None:
    answer = await browser("GET", "/hub/api/user")
    return answer.json["name"] if answer.status == 200 else None


def code_at(secret: str, offset: int = 0) -> str:
    """The code of the present time step, or of one `offset` steps away."""
    return pyotp.TOTP(secret).at(clock.now() + timedelta(seconds=STEP_S * offset))


async def fresh_login(hub: Site, given: str = PASSWORD) -> Answer:
    async with hub.client() as browser:
        return await browser.login("ann", given)


@pytest.fixture
def one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still: between two lines of a test a code gets no older, and nobody has waited long enough."""
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)


async def turn_on(browser: Client) -> tuple[str, list[str]]:
    """The secret, with a code of the step before, so that the present one is unused; and the recovery codes."""
    page = await browser("GET", "/hub/account/second-step")
    secret = re.search(r'id="secret">([A-Z2-7 ]+)<', page.text)[1].replace(" ", "")
    answer = await browser(
        "POST", "/hub/account/second-step", data={"_xsrf": page.xsrf, "otp": code_at(secret, -1)}
    )
    assert answer.status == 200, answer.text
    return secret, re.findall(r"\b(?:[a-z2-7]{4}-){2}[a-z2-7]{4}\b", answer.text)


# ------------------------------------------------------------------ password


async def test_a_new_password_counts_at_once_and_ends_every_other_sign_in(hub: Site) -> None:
    async with hub.client() as browser, hub.client() as elsewhere, hub.client() as late:
        await browser.login("ann")
        await elsewhere.login("ann")

        answer = await post(browser, "/password", current=PASSWORD, password=NEW, password_repeat=NEW)

        assert answer.status == 200
        assert "Your password is changed" in answer.text
        assert await name_of(browser) == "ann"
        assert await name_of(elsewhere) is None
        assert (await late.login("ann", PASSWORD)).status == 403
        assert (await late.login("ann", NEW)).status == 302


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"current": "wrong"}, "present password is another"),
        ({"password_repeat": "different phrase"}, "not the same"),
        ({"password": "short", "password_repeat": "short"}, "8 are needed"),
        ({"password": "Password123", "password_repeat": "Password123"}, "guessers"),
        ({"password": "annann", "password_repeat": "annann"}, "user name"),
    ],
)
async def test_a_password_that_cannot_be_is_refused_in_words(
    hub: Site, fields: dict[str, str], said: str
) -> None:
    given = {"current": PASSWORD, "password": NEW, "password_repeat": NEW} | fields
    async with hub.client() as browser:
        await browser.login("ann")
        answer = await post(browser, "/password", **given)

        assert answer.status == 400
        assert said in answer.text
    assert (await fresh_login(hub)).status == 302


@pytest.mark.usefixtures("one_moment")
async def test_an_open_browser_cannot_try_passwords_for_ever(hub: Site) -> None:
    async with hub.client() as browser:
        await browser.login("ann")
        for _ in range(5):
            await post(browser, "/password", current="nope", password=NEW, password_repeat=NEW)
        answer = await post(browser, "/password", current=PASSWORD, password=NEW, password_repeat=NEW)

    assert answer.status == 429


# ------------------------------------------------------------------ second step


@pytest.mark.usefixtures("one_moment")
async def test_the_second_step_is_on_only_after_a_first_right_code(hub: Site) -> None:
    async with hub.client() as browser:
        await browser.login("ann")
        page = await browser("GET", "/hub/account/second-step")
        wrong = await browser("POST", "/hub/account/second-step", data={"_xsrf": page.xsrf, "otp": "000000"})
        assert wrong.status == 403
        assert (await fresh_login(hub)).status == 302

        secret, codes = await turn_on(browser)
        assert len(set(codes)) == 10
    async with hub.client() as browser:
        asked = await browser.login("ann")
        assert (asked.status, 'name="otp"' in asked.text) == (200, True)
        assert 'autocomplete="one-time-code"' in asked.text
        assert await name_of(browser) is None
    async with hub.db.read() as db:
        row = (await db.scalars(sa.select(SecondFactor))).one()
    assert secret not in row.secret
    assert hub.app[VAULT].open(row.secret) == secret


async def answer_second_step(browser: Client, code: str) -> Answer:
    asked = await browser.login("ann", next_url="/hub/account")
    ticket = re.search(r'name="ticket" value="([^"]+)"', asked.text)[1]
    action = re.search(r'action="([^"]+)"', asked.text)[1].replace("&amp;", "&")
    return await browser("POST", action, data={"_xsrf": asked.xsrf, "ticket": ticket, "otp": code})


@pytest.mark.usefixtures("one_moment")
async def test_a_code_lets_in_once_and_leads_on(hub: Site) -> None:
    async with hub.client() as browser:
        await browser.login("ann")
        secret, _ = await turn_on(browser)
    code = code_at(secret)
    async with hub.client() as browser, hub.client() as eavesdropper:
        answer = await answer_second_step(browser, f"{code[:3]} {code[3:]}")
        assert (answer.status, answer.location) == (302, "/hub/account")
        assert await name_of(browser) == "ann"

        again = await answer_second_step(eavesdropper, code)
        assert again.status == 403
        assert "used before" in again.text


@pytest.mark.usefixtures("one_moment")
async def test_a_recovery_code_works_once(hub: Site) -> None:
    async with hub.client() as browser:
        await browser.login("ann")
        _, codes = await turn_on(browser)
    async with hub.client() as browser:
        assert (await answer_second_step(browser, codes[3].upper())).status == 302
        assert "9 recovery codes are left" in (await browser("GET", "/hub/account")).text
    async with hub.client() as browser:
        assert (await answer_second_step(browser, codes[3])).status == 403
    async with hub.db.read() as db:
        stored = set(await db.scalars(sa.select(RecoveryCode.hashed)))
    assert not stored & set(codes)


@pytest.mark.usefixtures("one_moment")
async def test_guessing_codes_has_to_wait(hub: Site) -> None:
    async with hub.client() as browser:
        await browser.login("ann")
        secret, _ = await turn_on(browser)
    async with hub.client() as browser:
        for _ in range(5):
            assert (await answer_second_step(browser, "000000")).status == 403
        refused = await answer_second_step(browser, code_at(secret))

        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) > 0


@pytest.mark.usefixtures("one_moment")
async def test_a_ticket_is_bound_to_time_person_and_password(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub.client() as browser:
        await browser.login("ann")
        secret, _ = await turn_on(browser)
    async with hub.client() as browser:
        asked = await browser.login("ann")
        ticket = re.search(r'name="ticket" value="([^"]+)"', asked.text)[1]
        forged = "2" + ticket[1:]
        later = clock.now() + timedelta(minutes=6)
        fields = {"_xsrf": asked.xsrf, "otp": code_at(secret)}

        assert (await browser("POST", "/hub/login/code", data=fields | {"ticket": forged})).status == 403
        with monkeypatch.context() as late:
            late.setattr(clock, "now", lambda: later)
            assert (await browser("POST", "/hub/login/code", data=fields | {"ticket": ticket})).status == 403
        async with hub.db.begin() as db:
            was = await db.scalar(sa.select(User.password_hash))
            await db.execute(sa.update(User).values(password_hash="of another password"))
        assert (await browser("POST", "/hub/login/code", data=fields | {"ticket": ticket})).status == 403
        assert await name_of(browser) is None
        async with hub.db.begin() as db:
            await db.execute(sa.update(User).values(password_hash=was))
        assert (await browser("POST", "/hub/login/code", data=fields | {"ticket": ticket})).status == 302


@pytest.mark.usefixtures("one_moment")
async def test_a_token_for_name_and_password_needs_the_code_too(hub: Site) -> None:
    async with hub.client() as browser:
        await browser.login("ann")
        secret, _ = await turn_on(browser)
    auth = {"username": "ann", "password": PASSWORD}
    async with hub.client() as script:
        without = await script("POST", "/hub/api/users/ann/tokens", json={"auth": auth})
        wrong = await script("POST", "/hub/api/users/ann/tokens", json={"auth": auth | {"otp": "000000"}})
        right = await script(
            "POST", "/hub/api/users/ann/tokens", json={"auth": auth | {"otp": code_at(secret)}}
        )

    assert (without.status, without.json["code"]) == (403, "code-needed")
    assert (wrong.status, wrong.json["code"]) == (403, "wrong-code")
    assert right.status == 201


@pytest.mark.usefixtures("one_moment")
async def test_turning_it_off_needs_the_password(hub: Site) -> None:
    async with hub.client() as browser:
        await browser.login("ann")
        await turn_on(browser)

        assert (await post(browser, "/second-step/off", current="nope")).status == 400
        assert "Your recovery codes" in (await post(browser, "/second-step/codes", current=PASSWORD)).text
        assert (await post(browser, "/second-step/off", current=PASSWORD)).status == 200
        assert (await fresh_login(hub)).status == 302
    assert await hub.count(SecondFactor) == await hub.count(RecoveryCode) == 0


def test_codes_are_those_of_the_standard() -> None:
    """RFC 6238, appendix B, cut to six digits; the secret is the ASCII text 12345678901234567890."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    from datetime import UTC, datetime

    for seconds, code in (
        (59, "287082"),
        (1111111109, "081804"),
        (1234567890, "005924"),
        (2000000000, "279037"),
    ):
        assert step_of(secret, code, now=datetime.fromtimestamp(seconds, UTC)) == seconds // STEP_S
        late = datetime.fromtimestamp(seconds + 3 * STEP_S, UTC)
        assert step_of(secret, code, now=late) is None


# ------------------------------------------------------------------ sign-ins


async def test_another_browser_can_be_signed_out_from_here(hub: Site) -> None:
    async with hub.client() as browser, hub.client(**{"User-Agent": FIREFOX}) as elsewhere:
        await browser.login("ann")
        await elsewhere.login("ann")
        page = await browser("GET", "/hub/account")
        assert page.text.count("this browser") == 1
        assert "Firefox on Linux" in page.text
        assert "127.0.0.1" in page.text
        other = re.search(r'name="login" value="(\d+)"', page.text)[1]

        answer = await post(browser, "/sign-out", login=other)

        assert (answer.status, answer.location) == (303, "/hub/account")
        assert await name_of(elsewhere) is None
        assert await name_of(browser) == "ann"


async def test_everywhere_else_is_everywhere_but_here(hub: Site) -> None:
    async with hub.client() as browser, hub.client() as second, hub.client() as third:
        for each in (browser, second, third):
            await each.login("ann")

        await post(browser, "/sign-out", login="others")

        assert [await name_of(each) for each in (browser, second, third)] == ["ann", None, None]


async def test_nobody_ends_a_sign_in_of_somebody_else(hub: Site) -> None:
    await hub.person("bob")
    async with hub.client() as ann, hub.client() as bob:
        await ann.login("ann")
        await bob.login("bob")
        async with hub.db.read() as db:
            hers = await db.scalar(sa.select(Login.id).join(User).where(User.name == "ann"))

        assert (await post(bob, "/sign-out", login=str(hers))).status == 404
        assert await name_of(ann) == "ann"


FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1",
            "Safari on iPhone",
        ),
        ("curl/8.1", "curl"),
        ("<script>alert(1)</script>", "Unknown browser"),
        ("", "Unknown browser"),
    ],
)
def test_a_browser_is_named_in_a_word_or_two(agent: str, words: str) -> None:
    assert browser_of(agent).startswith(words)
