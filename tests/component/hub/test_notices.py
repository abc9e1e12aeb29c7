"""Announcements over the API and on every page: shown in their time, as text, to everybody."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Site
from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.clock import iso

EVERY = "/hub/api/announcements"
EVIL = "<script>alert(1)</script> & “now”"


async def test_what_is_announced_is_read_by_everybody_in_its_time(hub_on_each: Site) -> None:
    hub, now = hub_on_each, clock.now()
    root = await hub.token(await hub.person("root", admin=True))
    hour = timedelta(hours=1)
    async with hub.client(root) as admin, hub.client() as visitor:
        for level, text, starts, ends in (
            ("info", "for good", None, None),
            ("danger", EVIL, now - hour, now + hour),
            ("warning", "not yet", now + hour, None),
        ):
            answer = await admin(
                "POST", EVERY, json={"level": level, "text": text, "starts": iso(starts), "ends": iso(ends)}
            )
            assert answer.status == 201, answer.text
        seen, page = await visitor("GET", EVERY), await visitor("GET", "/hub/login")
        kept = await admin("GET", EVERY + "/all")

    assert [(one["level"], one["text"]) for one in seen.json] == [("danger", EVIL), ("info", "for good")]
    assert seen.json[0]["ends"] == iso(now + hour)
    assert set(seen.json[0]) == {"id", "level", "text", "starts", "ends"}  # not who wrote it
    assert EVIL not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert "not yet" not in page.text
    assert {one["author"] for one in kept.json} == {"root"}
    assert len(kept.json) == 3


async def test_what_is_changed_or_taken_down_is_another_at_the_next_look(hub_on_each: Site) -> None:
    hub = hub_on_each
    root = await hub.token(await hub.person("root", admin=True))
    async with hub.client(root) as admin, hub.client() as visitor:
        number = (await admin("POST", EVERY, json={"text": "before"})).json["id"]
        assert (
            await admin("PUT", f"{EVERY}/{number}", json={"text": "after", "level": "danger"})
        ).status == 200
        changed = (await visitor("GET", EVERY)).json
        gone = await admin("DELETE", f"{EVERY}/{number}")
        nothing = (await visitor("GET", EVERY)).json
        again = await admin("DELETE", f"{EVERY}/{number}")
        assert (await admin("PUT", f"{EVERY}/0", json={"text": "of no number"})).status == 404
    async with hub.db.read() as db:
        rows = list(await db.scalars(sa.select(AuditRow).order_by(AuditRow.id)))

    assert [(one["id"], one["text"], one["level"]) for one in changed] == [(number, "after", "danger")]
    assert (gone.status, nothing, again.status) == (204, [], 404)
    assert [(row.actor, row.status) for row in rows] == [("root", s) for s in (201, 200, 204, 404, 404)]
    assert [row.target for row in rows[:3]] == [f"announcement {number}"] * 3
    assert rows[1].change["before"]["text"] == "before"
    assert rows[2].change["before"]["text"] == "after"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"text": " \n"}, "text is empty"),
        ({"text": "x", "level": "loud"}, "level"),
        ({"text": "x", "ends": "2020-01-01T00:00Z"}, "lies in the past"),
        ({"text": "x", "starts": "tomorrow"}, "starts is 'tomorrow'"),
        ({"text": "x", "ends": "9999-12-31T23:59:59-10:00"}, "ends"),
        ({"text": "x" * 2001}, "text"),
    ],
)
async def test_what_nobody_could_read_is_refused_in_words(
    hub_on_each: Site, body: dict[str, str], said: str
) -> None:
    root = await hub_on_each.token(await hub_on_each.person("root", admin=True))
    async with hub_on_each.client(root) as admin:
        answer = await admin("POST", EVERY, json=body)

    assert answer.status == 400
    assert said in answer.json["message"]


async def test_only_who_may_announces(hub_on_each: Site) -> None:
    ann = await hub_on_each.token(await hub_on_each.person("ann"))
    async with hub_on_each.client(ann) as client:
        for method, path in (("POST", EVERY), ("PUT", EVERY + "/1"), ("DELETE", EVERY + "/1")):
            assert (await client(method, path, json={"text": "x"})).status == 403
        assert (await client("GET", EVERY + "/all")).status == 403


async def test_a_page_of_a_server_reads_what_is_announced_with_the_browsers_own_cookie(
    hub_on_each: Site,
) -> None:
    await hub_on_each.person("ann")
    async with hub_on_each.client() as browser:
        assert (await browser.login("ann")).status == 302
        fetched = await browser(
            "GET", EVERY, headers={"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
        )

    assert fetched.status == 200
