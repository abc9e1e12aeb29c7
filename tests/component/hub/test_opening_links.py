"""Opening links, on rows of both databases: what is refused, to whom, and in which form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from component.hub.hub_site import Client, Site, site
from component.hub.link_rows import launch
from himalia_hub import clock
from himalia_hub.ephemeral import admission, sources, store
from himalia_hub.ephemeral.models import Launch, Stage
from himalia_hub.ephemeral.queue import Queue
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.errors import TooMany
from himalia_hub.keys import LAUNCH_LISTENERS
from himalia_hub.secrets import mint
from himalia_hub.servers.doorbell import Doorbell
from support import eventually

SOURCE = sources.read("gh", "ann/field-notes/HEAD", {})
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    section = {"open_to": "everybody", "dir": str(tmp_path / "ephemeral"), "banned": ["^gh/evil/"]}
    async with site(tmp_path, database_url, ephemeral=section) as running:
        await running.person("root", admin=True)
        yield running


async def _told(client: Client, path: str) -> dict[str, Any]:
    answer = await client("GET", path, headers=EVENTS)
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/event-stream")
    told: dict[str, Any] = json.loads(answer.text.removeprefix("data: "))
    return told


async def test_monitors_read_versions_from_any_site_and_whether_there_is_room(hub: Site) -> None:
    section = hub.world.settings.ephemeral
    async with hub.client() as client:
        versions = await client("GET", "/versions")
        roomy = await client("GET", "/health")
        async with hub.db.begin() as db:
            for _ in range(section.queue_limit + section.total_limit):
                db.add(Launch(
                    key=mint(15), provider="gh", spec="a/b/HEAD", stem="a/b", url="u", label="a/b", ref="HEAD",
                    visitor="net:10.0.0.7", created=clock.now(), stage_since=clock.now(),
                ))  # fmt: skip
        full = await client("GET", "/health")
    assert versions.headers["Access-Control-Allow-Origin"] == "*"
    assert versions.json["binderhub"].startswith("himalia ")
    assert (roomy.status, roomy.json["ok"]) == (200, True)
    assert roomy.json["checks"][1]["quota"] == section.total_limit
    assert (full.status, full.json["ok"], full.json["checks"][1]["waiting"]) == (503, False, 220)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/build/gh/evil/repo/HEAD", "does not open this repository"),
        ("/build/nowhere/repo/HEAD", "no provider 'nowhere'"),
        ("/build/gh/ann/-repo;/--upload-pack", "is no repository's name"),
        ("/build/gh/", "'' names no repository; such as gh/owner/repository/HEAD"),
        (
            "/build/git/https://example.org/a/HEAD",
            "not percent-encoded; write its : as %3A and its / as %2F",
        ),
        ("/build/gh/ann/notes/HEAD?build_only=true", "no environments without a session"),
    ],
)
async def test_a_program_reads_in_an_event_why_nothing_is_opened(hub: Site, path: str, words: str) -> None:
    async with hub.client() as client:
        told = await _told(client, path)
    assert told["phase"] == "failed"
    assert words in told["message"]
    async with hub.db.read() as db:
        assert await db.scalar(sa.select(sa.func.count()).select_from(Launch)) == 0


async def test_where_only_people_open_links_a_program_shows_the_token_of_one(
    tmp_path: Path, database_url: str
) -> None:
    section = {"open_to": "people", "dir": str(tmp_path / "ephemeral"), "banned": ["^gh/evil/"]}
    async with site(tmp_path, database_url, ephemeral=section) as hub:
        token = await hub.token(await hub.person("ann"))
        async with hub.client() as nobody, hub.client(token) as ann, hub.client("x" * 43) as stranger:
            for client in (nobody, stranger):
                assert "signed in" in (await _told(client, "/build/gh/ann/notes/HEAD"))["message"]
            assert "does not open" in (await _told(ann, "/build/gh/evil/repo/HEAD"))["message"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/repo/ann/notes", "/v2/gh/ann/notes/HEAD"),
        ("/repo/ann/notes/", "/v2/gh/ann/notes/HEAD"),
        ("/repo/ann/notes/lab/tree/a%20b.ipynb", "/v2/gh/ann/notes/HEAD?urlpath=lab/tree/a%20b.ipynb"),
    ],
)
async def test_links_of_binders_first_years_lead_to_those_of_today(hub: Site, old: str, new: str) -> None:
    async with hub.client() as client:
        answer = await client("GET", old)
    assert (answer.status, answer.location) == (302, new)


@pytest.mark.parametrize("path", ["/badge_logo.svg", "/badge.svg", "/assets/images/badge.svg"])
async def test_a_badge_is_found_wherever_readmes_look_for_it(hub: Site, path: str) -> None:
    async with hub.client() as client:
        answer = await client("GET", path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/svg+xml")


async def test_an_hour_of_one_address_is_counted_in_rows_and_other_addresses_have_their_own(
    hub: Site,
) -> None:
    section, now = EphemeralSection(visitor_hourly_limit=3), clock.now()

    async def open_at(minutes: float, visitor: str = "net:203.0.113.9") -> None:
        at = now + timedelta(minutes=minutes)
        async with hub.db.begin() as db:
            await admission.add(db, SOURCE, opening="", visitor=visitor, section=section, now=at)

    for minutes in (0, 20, 40):
        await open_at(minutes)
    with pytest.raises(TooMany, match="3 links were opened") as refused:
        await open_at(50)
    assert refused.value.retry_after_s == pytest.approx(600)
    await open_at(50, "net:203.0.113.10")
    await open_at(61)
    with pytest.raises(TooMany):
        await open_at(79)

    clicks = [admission.Click(SOURCE, "", "203.0.113.9")] * 3
    async with hub.db.begin() as db:  # those of minutes 40 and 61 count by now
        at = now + timedelta(minutes=90)
        first, *others = await admission.admit(db, clicks, section=section, now=at)
    assert not isinstance(first, TooMany)
    assert [one.retry_after_s for one in others if isinstance(one, TooMany)] == pytest.approx([600, 600])


async def test_an_hour_of_one_repository_is_counted_for_all_who_open_it_and_not_for_what_is_kept_warm(
    hub: Site,
) -> None:
    rules = [{"match": "^gh/uni/", "hourly_limit": 0}]
    section = EphemeralSection.model_validate({"repository_hourly_limit": 2, "repositories": rules})
    others, free = (sources.read("gh", spec, {}) for spec in ("ann/other/HEAD", "uni/course/HEAD"))
    now = clock.now()

    async def open_by(visitor: str, source: sources.Source = SOURCE, minutes: float = 0) -> None:
        at = now + timedelta(minutes=minutes)
        async with hub.db.begin() as db:
            await admission.add(db, source, opening="", visitor=visitor, section=section, now=at)

    for visitor in (store.POOL, "net:203.0.113.1", "net:203.0.113.2"):
        await open_by(visitor)
    with pytest.raises(TooMany, match="ann/field-notes was opened 2 times within an hour"):
        await open_by("net:203.0.113.3", minutes=59)
    await open_by("net:203.0.113.3", others)
    for number in range(3):
        await open_by(f"net:203.0.113.{number}", free)
    await open_by("net:203.0.113.3", minutes=61)


async def test_a_banned_network_opens_no_links_and_reads_why(tmp_path: Path, database_url: str) -> None:
    section = {
        "open_to": "everybody", "dir": str(tmp_path / "ephemeral"), "ban_networks": {"203.0.113.0/24": "Mining."}
    }  # fmt: skip
    banned, page = {"X-Forwarded-For": "203.0.113.9"}, f"/hub/v2/gh/ann/notes/{'c' * 40}"
    async with site(tmp_path, database_url, ephemeral=section) as hub, hub.client() as client:
        await hub.person("root", admin=True)
        answer = await client("GET", "/build/gh/ann/notes/HEAD", headers=EVENTS | banned)
        assert "no links for your network: Mining." in answer.text
        assert (await client("GET", page, headers=banned)).status == 403
        assert (await client("GET", "/health", headers=banned)).status == 200
        assert (await client("GET", page)).status == 200


async def test_a_place_in_the_queue_counts_who_came_before_and_falls_as_they_are_seated(hub: Site) -> None:
    section, queue = EphemeralSection(visitor_hourly_limit=0, visitor_limit=0, total_limit=2), Queue(hub.db)

    door = admission.Admission(hub.db, Doorbell(), lambda: section)

    async def opened(number: int) -> list[tuple[int, store.Place]]:
        click = admission.Click(SOURCE, "", "203.0.113.9")
        added = await asyncio.gather(*(door.open(click) for _ in range(number)))
        return [(launch.id, place) for launch, place in added]

    found = [*await opened(2), *await opened(3)]
    assert [place.number for _, place in found] == [1, 2, 3, 4, 5]
    ids = [launch_id for launch_id, _ in found]
    assert ids == sorted(ids)
    assert [(await queue.place(launch_id)).number for launch_id in ids] == [1, 2, 3, 4, 5]
    [(late, place)] = await opened(1)
    assert await queue.place(late) == place == store.Place(6, 0), (
        "who came after the last look is counted anew"
    )

    async with hub.db.begin() as db:
        await db.execute(sa.update(Launch).values(stage=Stage.WAITING))
        assert await store.seat(db, section) == ids[:2]
        assert await store.seat(db, section) == [], "there are two places"

    async def fell() -> bool:
        return await queue.place(late) == store.Place(4, 2)

    await eventually(fell, within_s=30, what="the next look is not that of before")

    assert queue.eta_s(store.Place(4, 2)) is None, "no session has ended yet"
    async with hub.db.begin() as db:
        for used_s in (0.0, 500.0, 700.0):
            db.add(Launch(
                key=mint(15), provider="gh", spec="a/b/HEAD", stem="a/b", url="u", label="a/b", ref="HEAD",
                visitor="net:10.0.0.7", created=clock.now(), stage_since=clock.now(), stage=Stage.ENDED, used_s=used_s,
            ))  # fmt: skip
    queue = Queue(hub.db)
    assert queue.eta_s(await queue.place(late)) == pytest.approx(4 * 600 / 2)
    assert not queue.by_older

    async with hub.db.begin() as db:
        old = clock.now() - timedelta(days=3)
        await db.execute(sa.update(Launch).where(Launch.stage == Stage.ENDED).values(stage_since=old))
    queue = Queue(hub.db)
    assert queue.eta_s(await queue.place(late)) == pytest.approx(4 * 600 / 2), "better than nothing"
    assert queue.by_older, "and said to be old"


async def test_work_stands_back_until_everybody_who_clicked_was_answered_but_not_for_ever(hub: Site) -> None:
    door = admission.Admission(hub.db, Doorbell(), lambda: hub.world.settings.ephemeral)
    await door.quiet(at_most_s=60)
    with door.answering():
        await door.quiet(at_most_s=0.01)
        with door.answering():
            work = asyncio.create_task(door.quiet(at_most_s=60))
        await asyncio.sleep(0)
        assert not work.done()
    await work


async def test_a_place_is_given_up_once_nobody_has_followed_it_and_who_returns_is_admitted_anew(
    hub: Site,
) -> None:
    listeners, away_s = hub.app[LAUNCH_LISTENERS], 1e-9
    async with hub.db.begin() as db:
        rows = {
            name: await launch(db, f"ann/{name}", Stage.WAITING) for name in ("stream", "asked", "closed")
        }
        rows["seated"] = await launch(db, "ann/seated", Stage.WAITING, seated=True)
        for row in rows.values():
            row.created -= timedelta(minutes=5)
    keys = {name: row.key for name, row in rows.items()}

    async def left() -> set[str]:
        await listeners.write(away_s=away_s)
        async with hub.db.begin() as db:
            now = clock.now()
            await store.give_up(db, before=now - timedelta(minutes=1), now=now)
            waiting = set(await db.scalars(sa.select(Launch.key).where(Launch.stage == Stage.WAITING)))
        return {name for name, key in keys.items() if key in waiting}

    async with aiohttp.ClientSession(hub.url) as session:
        async with session.get(f"/hub/launches/{keys['stream']}/events") as stream:
            await stream.content.readline()
            async with session.get(f"/hub/launches/{keys['asked']}") as page:
                assert page.status == 200
            assert await left() == {"stream", "asked", "seated"}
            async with hub.db.begin() as db:
                await db.execute(sa.update(Launch).values(heard=clock.now() - timedelta(minutes=2)))
            assert await left() == {"stream", "seated"}
            stream.close()

        async def gone() -> bool:
            async with hub.db.begin() as db:
                await db.execute(sa.update(Launch).values(heard=clock.now() - timedelta(minutes=2)))
            return await left() == {"seated"}

        await eventually(gone, within_s=30, what="the closed stream counts for nobody")
    async with hub.client() as client:
        over = await client("GET", f"/hub/launches/{keys['closed']}")
        assert (over.status, "It ended: nobody waited." in over.text) == (410, True)
        back = EVENTS | {"Last-Event-ID": f"{keys['closed']}.1.0"}
        anew = await client("GET", "/build/gh/evil/x/HEAD", headers=back)
        assert "does not open this repository" in anew.text, "it was read as a new click"
