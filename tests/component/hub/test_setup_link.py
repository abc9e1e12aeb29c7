"""The one-time link that makes the first administrator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yarl

from component.hub.hub_site import PASSWORD, Site, site
from himalia_hub import clock
from himalia_hub.auth import setup
from himalia_hub.users.models import SetupLink, User
from support import eventually

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


async def link(hub: Site) -> str:
    async with hub.db.begin() as db:
        return await setup.create_setup_link(db, clock.now())


async def set_up(hub: Site, token: str, name: str = "root", given: str = PASSWORD, again: str | None = None):
    async with hub.client() as browser:
        form = await browser("GET", f"/hub/setup?token={token}")
        if form.status != 200:
            return form
        fields = {
            "_xsrf": form.xsrf,
            "token": token,
            "username": name,
            "password": given,
            "password_repeat": given if again is None else again,
        }
        answer = await browser("POST", "/hub/setup", data=fields)
        if answer.status == 302:
            assert (await browser("GET", "/hub/api/user")).json["admin"] is True
        return answer


async def test_the_link_makes_one_signed_in_administrator_and_ends(hub_on_each: Site) -> None:
    token = await link(hub_on_each)

    answer = await set_up(hub_on_each, token)

    assert (answer.status, answer.location) == (302, "/hub/home")
    assert await hub_on_each.count(SetupLink) == 0
    again = await set_up(hub_on_each, token)
    assert again.status == 403
    assert "set-up link" in again.text


async def test_two_who_use_the_link_at_once_make_one_administrator(hub_on_each: Site) -> None:
    token = await link(hub_on_each)

    answers = await asyncio.gather(*(set_up(hub_on_each, token, f"root{n}") for n in range(6)))

    assert sorted(answer.status for answer in answers) == [302] + [403] * 5
    assert await hub_on_each.count(User) == 1


async def test_a_newer_link_ends_the_older_one(hub: Site) -> None:
    older, newer = await link(hub), await link(hub)

    assert (await set_up(hub, older)).status == 403
    assert (await set_up(hub, newer)).status == 302


@pytest.mark.parametrize(
    ("name", "given", "again", "word"),
    [
        ("root", "short", "short", "characters"),
        ("root", PASSWORD, "other", "same"),
        ("a/b", PASSWORD, PASSWORD, "user name"),
    ],
)
async def test_a_mistake_in_the_form_leaves_the_link_good(hub: Site, name, given, again, word) -> None:
    token = await link(hub)

    wrong = await set_up(hub, token, name, given, again)

    assert wrong.status == 400
    assert word in wrong.text
    assert given not in wrong.text
    assert (await set_up(hub, token)).status == 302


async def test_a_browser_that_leaves_while_it_sends_a_form_is_no_error_of_the_hub(
    hub: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    await hub.person("ann")
    url = yarl.URL(hub.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(
        b"POST /hub/login HTTP/1.1\r\nHost: hub\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    )
    writer.write(b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")  # the handler waits for the rest
    writer.close()

    said = ""

    async def heard() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "request.broken_off" in said

    await eventually(heard, within_s=20)
    assert "request.failed" not in said


async def test_an_old_link_makes_nobody_once_somebody_can_sign_in(hub: Site) -> None:
    token = await link(hub)
    await hub.person("ann")

    assert (await set_up(hub, token)).status == 403
    assert await hub.count(User) == 1


async def test_before_set_up_only_the_way_in_and_health_answer(hub: Site) -> None:
    token = await hub.token(await hub.person("robot", hashed=None))
    async with hub.client() as browser:
        for path in ("/hub/home", "/hub/admin", "/hub/", "/hub/spawn", "/", "/user/ann/"):
            answer = await browser("GET", path)
            assert answer.status == 403, path
            assert "terminal" in answer.text
            assert answer.text.count("This hub is not set up yet") == 2, (
                "title and heading, and not once more"
            )
            assert ">Sign in<" not in answer.text, "a way that leads nowhere"
        login = await browser("GET", "/hub/login")
        assert login.status == 200
        assert "set-up link" in login.text
        assert (await browser("POST", "/hub/login", data={"_xsrf": login.xsrf})).status == 403
        assert (await browser("GET", "/hub/health")).status == 200
        assert (await browser("GET", "/hub/static/himalia.css")).status == 200
    async with hub.client(token) as script:
        assert (await script("GET", "/hub/api/user")).status == 200
    await hub.person("ann")
    async with hub.client() as browser:
        assert (await browser("GET", "/hub/home")).status == 302
