"""A visitor's page of running sessions, on rows of both databases, with a clock that the test sets."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site, site
from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.ephemeral import admission, session, sources, store
from himalia_hub.ephemeral.models import Launch, Stage
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.usage.models import UsageDay
from himalia_hub.users.models import User

LIMITS = {"idle_s": 600, "max_age_s": 7200, "extend_s": 3600, "longest_s": 9000, "download_max_bytes": 1000}
SOURCE = sources.read("gh", "ann/field-notes/HEAD", {})


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    section = {"open_to": "everybody", "dir": str(tmp_path / "ephemeral"), **LIMITS}
    async with site(tmp_path, database_url, ephemeral=section) as running:
        await running.person("root", admin=True)
        yield running


async def opened(hub: Site, visitor: str = "net:10.0.0.7", *, age_s: float = 60) -> Launch:
    """A session that runs since then, with one file in its folder."""
    began = clock.now() - timedelta(seconds=age_s)
    async with hub.db.begin() as db:
        section = hub.world.settings.ephemeral
        launch = await admission.add(db, SOURCE, opening="lab", visitor=visitor, section=section, now=began)
        server = await session.begin(db, launch, SOURCE)
        await db.execute(
            sa.update(Server)
            .where(Server.id == server.id)
            .values(
                phase=Phase.READY, desired=Desired.RUNNING, acted_generation=server.generation,
                started=began, last_activity=began,
            )
        )  # fmt: skip
        await store.move(db, launch, Stage.READY, now=began, commit="c" * 40)
        await db.refresh(launch)
    home = hub.world.settings.ephemeral.dir
    assert home is not None
    (home / "sessions" / launch.key).mkdir(parents=True)
    (home / "sessions" / launch.key / "index.ipynb").write_text("{}")
    return launch


async def server_of(hub: Site, launch: Launch) -> Server:
    async with hub.db.read() as db:
        return await db.get_one(Server, launch.server_id)


async def enter(client: Client, hub: Site, launch: Launch) -> str:
    """Come in as its guest, as its page leads; the protection token of the next page."""
    await client("GET", "/hub/login")  # any page: the way in is tied to the browser that it was shown to
    answer = await client("GET", f"/hub/launches/{launch.key}")
    assert answer.status == 302, answer.text
    answer = await client("GET", answer.location)
    assert answer.status == 302, answer.text
    home = await client("GET", "/hub/home")
    assert home.location == "/hub/sessions"
    return (await client("GET", "/hub/sessions")).xsrf


async def test_the_page_says_when_a_session_ends_and_keeping_it_alive_puts_that_off_up_to_a_bound(
    hub: Site,
) -> None:
    launch = await opened(hub, age_s=5000)
    async with hub.db.begin() as db:
        await db.execute(sa.update(Server).values(last_activity=clock.now() - timedelta(seconds=120)))
    async with hub.client() as client:
        xsrf = await enter(client, hub, launch)
        shown = (await client("GET", "/hub/sessions")).text
        assert "ann/field-notes" in shown
        assert "unless used" in shown

        path = f"/hub/sessions/{launch.key}/extend"
        assert (await client("POST", path, data={"_xsrf": xsrf})).status == 303
        now = await server_of(hub, launch)
        assert now.kept_alive_until is not None
        assert now.kept_alive_until - clock.now() > timedelta(seconds=3500)
        assert now.extended_s == pytest.approx(5000 + 3600 - 7200, abs=60)

        async with hub.db.begin() as db:
            await db.execute(sa.update(Server).values(started=clock.now() - timedelta(seconds=8000)))
        assert (await client("POST", path, data={"_xsrf": xsrf})).status == 303
        assert (await server_of(hub, launch)).extended_s == 9000 - 7200
        assert "field-notes" in (await client("GET", "/hub/sessions")).text


async def test_the_files_come_as_an_archive_and_only_to_whose_session_it_is(hub: Site) -> None:
    await hub.person("ann")
    launch = await opened(hub)
    path = f"/hub/sessions/{launch.key}/files.zip"
    async with hub.client() as guest, hub.client() as other, hub.client() as nobody:
        await enter(guest, hub, launch)
        async with guest.session.get(path) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Disposition"] == 'attachment; filename="field-notes.zip"'
            with zipfile.ZipFile(io.BytesIO(await answer.read())) as archive:
                assert archive.namelist() == ["field-notes/index.ipynb"]
        await other.login("ann")
        assert (await other("GET", path)).status == 404
        xsrf = (await other("GET", "/hub/home")).xsrf
        refused = await other("POST", f"/hub/sessions/{launch.key}/extend", data={"_xsrf": xsrf})
        assert refused.status == 404
        assert (await nobody("GET", path)).status == 302


async def test_who_is_signed_in_sees_their_sessions_and_the_home_page_counts_them(hub: Site) -> None:
    ann = await hub.person("ann")
    launch = await opened(hub, f"user:{ann.id}")
    async with hub.client() as client:
        await client.login("ann")
        home = (await client("GET", "/hub/home")).text
        assert "Your 1 session" in home
        assert "/hub/links" in home
        assert launch.key in (await client("GET", "/hub/sessions")).text
        assert (await client("GET", "/hub/links")).status == 200


async def test_a_guest_who_signs_in_may_keep_the_session_and_nobody_else_may(hub: Site) -> None:
    ann = await hub.person("ann")
    launch = await opened(hub)
    path = f"/hub/sessions/{launch.key}/keep"
    async with hub.client() as browser, hub.client() as other:
        await other.login("ann")
        assert (await other("GET", path)).status == 404

        xsrf = await enter(browser, hub, launch)
        answer = await browser("POST", path, data={"_xsrf": xsrf})
        assert (answer.status, answer.location) == (303, f"/hub/login?next={quote(path, safe='')}")
        assert (await browser.login("ann", next_url=path)).location == path
        asked = await browser("GET", path)
        assert "field-notes" in asked.text
        answer = await browser("POST", path, data={"_xsrf": asked.xsrf})
        assert (answer.status, answer.location) == (303, f"/hub/launches/{launch.key}")
        assert "Keeping" in (await browser("GET", answer.location)).text
        assert (await browser("GET", path)).status == 404
    async with hub.db.read() as db:
        row = await db.get_one(Launch, launch.id)
    assert (row.stage, row.keep_for, row.visitor) == (Stage.KEEPING, ann.id, f"user:{ann.id}")


async def test_a_session_that_could_not_be_kept_says_why_and_goes_on(hub: Site) -> None:
    ann = await hub.person("ann")
    launch = await opened(hub, f"user:{ann.id}")
    async with hub.db.begin() as db:
        await store.move(db, launch, Stage.READY, now=clock.now(), keep_problem="No space left on device")
    async with hub.client() as client:
        await client.login("ann")
        assert (await client("GET", f"/hub/launches/{launch.key}")).location == "/hub/sessions"
        assert "No space left on device" in (await client("GET", "/hub/sessions")).text


async def test_a_session_that_is_too_large_to_take_along_says_so(hub: Site) -> None:
    launch = await opened(hub)
    folder = hub.world.settings.ephemeral.dir
    assert folder is not None
    (folder / "sessions" / launch.key / "big").write_bytes(b"0" * 2000)
    async with hub.client() as client:
        await enter(client, hub, launch)
        answer = await client("GET", f"/hub/sessions/{launch.key}/files.zip")
        assert answer.status == 413
        assert "Remove what you do not need" in answer.text


async def test_an_ended_session_leaves_one_line_of_what_it_used_and_one_in_the_audit_log(hub: Site) -> None:
    launch = await opened(hub)
    async with hub.db.begin() as db:
        assert launch.guest_id is not None
        day = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        db.add(UsageDay(user_id=launch.guest_id, day=day, server_s=42.0, memory_gib_s=84.0))
    async with hub.db.begin() as db:
        launch.ended_because = "idle for 10 minutes"
        used: dict[str, Any] = dict(await session.forget(db, launch))
        assert await store.move(db, launch, Stage.ENDED, now=clock.now(), **used)
    async with hub.db.read() as db:
        row = await db.get_one(Launch, launch.id)
        assert (row.used_s, row.memory_gib_s) == (42.0, 84.0)
        assert await db.scalar(sa.select(sa.func.count()).select_from(User).where(User.guest)) == 0
        lines = list(await db.scalars(sa.select(AuditRow).where(AuditRow.action == "END session")))
    assert len(lines) == 1
    assert lines[0].target_user == launch.guest
    assert lines[0].change is not None
    assert lines[0].change["after"]["because"] == "idle for 10 minutes"
