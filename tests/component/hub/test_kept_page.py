"""The administrators' list is drawn once for all who would see the same, and never for anybody who would not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from component.hub.pages_site import Browser, Site, site
from himalia_hub.pages import kept, render
from himalia_hub.users.models import User


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each template was drawn for the list."""
    times: Counter[str] = Counter()

    def counted(request: aiohttp.web.Request, template: str, context: dict[str, object]) -> str:
        times[template] += 1
        return render.render(request, template, context)

    monkeypatch.setattr(kept, "render", counted)
    monkeypatch.setattr(kept, "OLD_S", 10**9)  # no test ends at the turn of ten seconds
    return times


async def test_a_list_is_drawn_once_until_anything_is_committed(
    hub: Site, admin: Browser, drawn: Counter[str]
) -> None:
    first, second = await admin.get("/hub/admin"), await admin.get("/hub/admin")
    assert drawn["admin.html"] == 1
    assert first.xsrf != second.xsrf, "but the token of its forms is another each time"

    await hub.person("somebody-new")
    third = await admin.get("/hub/admin")
    assert drawn["admin.html"] == 2
    assert "somebody-new" in third.text
    assert "somebody-new" not in second.text


async def test_who_sees_something_else_is_never_shown_what_was_drawn_for_others(
    hub: Site, ann: User, admin: Browser, drawn: Counter[str]
) -> None:
    await hub.person("second", admin=True)
    async with hub.browser("second") as other, hub.browser("ann") as nobody:
        mine = await admin.get("/hub/admin")
        theirs = await other.get("/hub/admin")
        german = await admin.get("/hub/admin", **{"Accept-Language": "de"})
        found = await admin.get("/hub/admin?q=ann")
        fragment = await admin.get("/hub/admin", **{"HX-Request": "true"})
        refused = await nobody.get("/hub/admin")

    assert "<bdi>root</bdi></a><a href=" in mine.text
    assert "<bdi>second</bdi></a><a href=" in theirs.text
    assert 'lang="de"' in german.text
    assert "matching" in found.text
    assert "<html" not in fragment.text
    assert refused.status == 403
    assert drawn == {"admin.html": 4, "fragment_list.html": 1}


async def test_the_columns_somebody_chose_show_at_once(
    hub: Site, admin: Browser, drawn: Counter[str]
) -> None:
    before = await admin.get("/hub/admin")
    await admin.post("/hub/admin/columns", {"column": "node"}, xsrf=before.xsrf)
    after = await admin.get("/hub/admin")

    assert 'data-col="memory"' in before.text
    assert 'data-col="memory"' not in after.text
    assert 'data-col="node"' in after.text


async def test_a_page_of_the_site_is_drawn_for_each_as_it_may_show_anything(
    tmp_path: Path, drawn: Counter[str]
) -> None:
    theirs = tmp_path / "templates"
    theirs.mkdir()
    (theirs / "admin.html").write_text(
        '{% extends "templates/admin.html" %}{% block footer %}{{ request_id }}{% endblock %}'
    )
    async with site(tmp_path, pages={"template_paths": [theirs]}) as hub:
        await hub.person("root", admin=True)
        async with hub.browser("root") as root:
            for _ in range(2):
                assert (await root.get("/hub/admin")).status == 200

    assert drawn["admin.html"] == 2


async def test_the_page_to_sign_in_is_drawn_once_for_strangers_and_each_has_a_token_of_their_own(
    hub: Site, ann: User, admin: Browser, drawn: Counter[str]
) -> None:
    async with hub.browser() as one, hub.browser() as other:
        first, second = [await who.get("/hub/login?next=/hub/token") for who in (one, other)]
        assert drawn["login.html"] == 1
        assert 'action="/hub/login?next=/hub/token"' in first.text
        assert first.xsrf != second.xsrf
        assert kept.HOLE not in first.text + second.text
        assert first.text.replace(first.xsrf, second.xsrf) == second.text

        german = await one.get("/hub/login", **{"Accept-Language": "de"})
        assert 'lang="de"' in german.text

        told = {"does": "publish", "level": "warning", "text": "Closed tomorrow"}
        await admin.post("/hub/admin/notices", told)
        assert "Closed tomorrow" in (await other.get("/hub/login")).text, (
            "what hangs at the board is never kept"
        )
        wrong = await one.post("/hub/login", {"username": "mallory", "password": "x"}, xsrf=german.xsrf)
        assert "mallory" in wrong.text
        assert "mallory" not in (await one.get("/hub/login")).text
