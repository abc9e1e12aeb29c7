"""Strangers ask for an account; nothing knows them before an administrator agrees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub.hub_site import PASSWORD, Answer, Client, Site, site
from himalia_hub import clock
from himalia_hub.auth import backoff
from himalia_hub.signups import store
from himalia_hub.signups.models import SignUp
from himalia_hub.users.models import User

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with site(tmp_path, database_url, auth={"sign_up": True}) as running:
        await running.person("root", admin=True)
        yield running


@asynccontextmanager
async def as_root(hub: Site) -> AsyncIterator[Client]:
    async with hub.db.read() as db:
        root = (await db.scalars(sa.select(User).where(User.name == "root"))).one()
    async with hub.client(await hub.token(root)) as client:
        yield client


async def ask(hub: Site, name: str, given: str = PASSWORD, *, again: str = "", note: str = "") -> Answer:
    async with hub.client() as stranger:
        form = await stranger("GET", "/hub/sign-up")
        fields = {"_xsrf": form.xsrf, "username": name, "note": note}
        return await stranger(
            "POST", "/hub/sign-up", data=fields | {"password": given, "password_repeat": again or given}
        )


def words(answer: Answer, name: str) -> str:
    """What the page says, whatever the name and the token of the visitor."""
    return answer.text.replace(answer.xsrf, "").replace(name, "")


async def sign_in(hub: Site, name: str) -> int:
    async with hub.client() as browser:
        return (await browser.login(name)).status


async def test_who_asked_comes_in_once_an_administrator_agrees_and_not_before(hub: Site) -> None:
    answer = await ask(hub, "Ann", note=HOSTILE)
    assert answer.status == 200
    assert await sign_in(hub, "ann") == 403
    async with as_root(hub) as root:
        assert (await root("GET", "/hub/api/users/ann")).status == 404
        [waiting] = (await root("GET", "/hub/api/sign-ups")).json
        assert (waiting["name"], waiting["note"]) == ("ann", HOSTILE)
        assert "password" not in str(waiting)

        made = await root("POST", f"/hub/api/sign-ups/{waiting['id']}")

        assert (made.status, made.json) == (201, {"kind": "user", "name": "ann"})
        assert (await root("GET", "/hub/api/sign-ups")).json == []
        assert (await root("POST", f"/hub/api/sign-ups/{waiting['id']}")).status == 404
        [row] = [r for r in (await root("GET", "/hub/api/audit")).json if r["status"] == 201]
        assert (row["actor"], row["target_user"], row["change"]) == (
            "root",
            "ann",
            {"after": {"let_in": True}},
        )
    assert await sign_in(hub, "ann") == 302


async def test_who_is_refused_is_forgotten_and_may_ask_again(hub: Site) -> None:
    await ask(hub, "ann")
    async with as_root(hub) as root:
        [waiting] = (await root("GET", "/hub/api/sign-ups")).json
        assert (await root("DELETE", f"/hub/api/sign-ups/{waiting['id']}")).status == 204
    assert await sign_in(hub, "ann") == 403
    assert await hub.count(SignUp) == 0

    await ask(hub, "ann")

    assert await hub.count(SignUp) == 1


async def test_a_taken_name_is_answered_like_a_free_one_and_keeps_its_password(hub: Site) -> None:
    await hub.person("ann")
    await ask(hub, "bob")

    free, taken, waiting = [await ask(hub, name, "another long password") for name in ("cat", "ann", "bob")]

    assert {answer.status for answer in (free, taken, waiting)} == {200}
    assert words(free, "cat") == words(taken, "ann") == words(waiting, "bob")
    assert await hub.count(SignUp) == 2
    assert await sign_in(hub, "ann") == 302


async def test_two_who_ask_for_one_name_at_once_are_one(hub: Site) -> None:
    answers = await asyncio.gather(*(ask(hub, "ann") for _ in range(4)))

    assert [answer.status for answer in answers] == [200] * 4
    assert await hub.count(SignUp) == 1


async def test_a_name_that_somebody_got_meanwhile_is_not_given_twice(hub: Site) -> None:
    await ask(hub, "ann")
    await hub.person("ann")
    async with as_root(hub) as root:
        [waiting] = (await root("GET", "/hub/api/sign-ups")).json

        assert (await root("POST", f"/hub/api/sign-ups/{waiting['id']}")).status == 409

        assert len((await root("GET", "/hub/api/sign-ups")).json) == 1


@pytest.mark.parametrize(
    ("name", "given", "again", "words"),
    [
        ("ann", "short", "", "8 are needed"),
        ("ann", "password", "", "guessers"),
        ("annannann", "annannann", "", "is the user name"),
        ("ann", PASSWORD, "another one, not the same", "not the same"),
        ("a/b", PASSWORD, "", "cannot be a user name"),
    ],
)
async def test_what_no_account_could_have_is_refused_in_words(
    tmp_path: Path, name: str, given: str, again: str, words: str
) -> None:
    async with site(tmp_path, auth={"sign_up": True}) as hub:
        await hub.person("root", admin=True)

        answer = await ask(hub, name, given, again=again)

        assert answer.status == 400
        assert words in answer.text
        assert await hub.count(SignUp) == 0


async def test_strangers_cannot_fill_the_table(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "AT_MOST", 3)
    monkeypatch.setattr(backoff, "FREE_PER_ADDRESS", 6)

    answers = [await ask(hub, f"ann{number}") for number in range(7)]

    assert [answer.status for answer in answers] == [200] * 6 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert await hub.count(SignUp) == 3


async def test_who_waited_for_a_month_makes_room(hub: Site) -> None:
    await ask(hub, "ann")
    async with hub.db.begin() as db:
        await db.execute(sa.update(SignUp).values(created=clock.now() - store.KEPT - timedelta(days=1)))

    await ask(hub, "bob")

    async with hub.db.read() as db:
        assert list(await db.scalars(sa.select(SignUp.name))) == ["bob"]


@pytest.mark.parametrize(
    "auth",
    [{}, {"sign_up": True, "methods": {"all": {"kind": "shared-password", "password": "long enough"}}}],
    ids=["not switched on", "no accounts of the hub's own"],
)
async def test_nobody_can_ask_where_the_configuration_does_not_say_so(tmp_path: Path, auth: dict) -> None:
    async with site(tmp_path, auth=auth) as hub, hub.client() as stranger:
        await hub.person("root", admin=True)

        assert (await stranger("GET", "/hub/sign-up")).status == 404
        sign_in_page = await stranger("GET", "/hub/login")

        assert "sign-up" not in sign_in_page.text
        fields = {
            "_xsrf": sign_in_page.xsrf,
            "username": "ann",
            "password": PASSWORD,
            "password_repeat": PASSWORD,
        }
        assert (await stranger("POST", "/hub/sign-up", data=fields)).status == 404
        assert await hub.count(SignUp) == 0


async def test_an_administrator_decides_on_a_page_that_shows_hostile_notes_as_text(tmp_path: Path) -> None:
    async with site(tmp_path, auth={"sign_up": True}) as hub, hub.client() as root, hub.client() as ann:
        await hub.person("root", admin=True)
        await hub.person("ann")
        await ask(hub, "bob", note=HOSTILE)
        await ask(hub, "cat")
        await root.login("root")
        await ann.login("ann")
        assert "2 ask for an account" in (await root("GET", "/hub/admin")).text
        assert (await ann("GET", "/hub/admin/sign-ups")).status == 403

        shown = await root("GET", "/hub/admin/sign-ups")
        assert HOSTILE not in shown.text
        async with hub.db.read() as db:
            ids = {one.name: str(one.id) for one in await store.waiting(db)}
        for name, said in (("bob", "let-in"), ("cat", "refuse")):
            fields = {"_xsrf": shown.xsrf, "id": ids[name], "answer": said}
            assert (await root("POST", "/hub/admin/sign-ups", data=fields)).status == 303
        again = await root("POST", "/hub/admin/sign-ups", data=fields)

        assert again.status == 404
        assert "Nobody waits" in again.text
        assert "ask for an account" not in (await root("GET", "/hub/admin")).text
        assert [await sign_in(hub, name) for name in ("bob", "cat")] == [302, 403]
