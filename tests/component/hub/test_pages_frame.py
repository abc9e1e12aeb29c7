"""What all pages share: policies, assets, addresses, errors, and a site's own templates."""

from __future__ import annotations

import hashlib
import html
import json
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import web
from pydantic import ValidationError

from component.hub.pages_site import Browser, Site, site
from himalia_hub import pages
from himalia_hub.pages import assets
from himalia_hub.rbac.guard import access_of, public
from himalia_hub.settings import HubSettings
from himalia_hub.users.models import User

EVIL = "<script>alert(1)<script>"  # a slash cannot be in a name


def test_every_page_says_who_may_come_in() -> None:
    table = pages.routes("/hub/", "/")

    assert [route.path for route in table if access_of(route.handler) is None] == []


async def test_a_page_allows_nothing_inline_and_is_stored_nowhere(browser: Browser) -> None:
    answer = await browser.get("/hub/home")

    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert " style=" not in answer.text
    assert " onclick=" not in answer.text
    assert answer.text.count("<script") == answer.text.count("<script src=")


async def test_assets_are_kept_for_ever_under_their_hash_and_asked_for_without_it(browser: Browser) -> None:
    url = assets.static_url("/hub/", "himalia.css")

    exact, plain = await browser.get(url), await browser.get("/hub/static/himalia.css")

    assert "immutable" in exact.headers["Cache-Control"]
    assert plain.headers["Cache-Control"] == "no-cache"
    again = await browser.get("/hub/static/himalia.css", **{"If-None-Match": plain.headers["ETag"]})
    assert again.status == 304
    assert (await browser.get("/hub/static/../pages/render.py")).status == 404
    assert (await browser.get("/hub/static/%2e%2e/errors.py")).status == 404


async def test_the_logo_is_where_servers_look_for_it(hub: Site, ann: User) -> None:
    async with hub.browser() as stranger:
        answer = await stranger.get("/hub/logo")

    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/svg+xml")


async def test_a_site_may_put_its_own_page_around_ours(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "login.html").write_text(
        '{% extends "templates/login.html" %}{% block title %}Come in{% endblock %}'
    )
    async with site(tmp_path, pages={"template_paths": [theirs]}) as hub, hub.browser() as stranger:
        changed, same = await stranger.get("/hub/login"), await stranger.get("/hub/nowhere")

    assert "<title>Come in · Himalia</title>" in changed.text
    assert 'name="password"' in changed.text
    assert "Come in" not in same.text


def test_a_folder_of_templates_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"/gone: no such folder; make it"):
        HubSettings(data_dir=tmp_path, pages={"template_paths": [tmp_path / "gone"]})


async def test_reports_of_the_content_policy_need_no_proof(browser: Browser) -> None:
    body = {"csp-report": {"effective-directive": "script-src", "blocked-uri": "https://evil.example/x?y=1"}}

    answer = await browser.send("POST", "/hub/security/csp-report", data=json.dumps(body))
    garbage = await browser.send("POST", "/hub/security/csp-report", data=b"\xff[" * 9000)

    assert (answer.status, garbage.status) == (204, 204)


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/", 302, "/hub/"),
        ("/hub", 301, "/hub/"),
        ("/hub?x=1", 301, "/hub/?x=1"),
        ("/hub/", 302, "/hub/home"),
        ("/hub/?next=%2Fuser%2Fann%2Flab%3Fx%3D1", 302, "/user/ann/lab?x=1"),
        ("/hub/?next=%2F%2Fevil.example%2Fx", 302, "/hub/home"),
        ("/some/path?x=1&y=%2F", 302, "/hub/some/path?x=1&y=%2F"),
        ("/user/ann", 301, "/user/ann/"),
        ("/user/ann?x=1", 301, "/user/ann/?x=1"),
        ("/user/ann/lab?x=1", 302, "/hub/user/ann/lab?x=1"),
        ("//evil.example/x", 302, "/hub/evil.example/x"),
        ("/hubby", 302, "/hub/hubby"),
        ("/hub/user-redirect/lab/tree/a.ipynb?x=1", 302,
         "/hub/spawn?next=%2Fuser%2Fann%2Flab%2Ftree%2Fa.ipynb%3Fx%3D1"),
    ],
)  # fmt: skip
async def test_addresses_lead_where_the_contract_says(
    browser: Browser, path: str, status: int, location: str
) -> None:
    answer = await browser.get(path)

    assert (answer.status, answer.location) == (status, location)


async def test_with_a_base_url_everything_lives_below_it(tmp_path: Path) -> None:
    async with site(tmp_path, base_url="/x/") as hub, hub.browser() as browser:
        await hub.person("ann")
        assert (await browser.get("/")).location == "/x/hub/"
        assert (await browser.get("/x/foo?a")).location == "/x/hub/foo?a"
        assert (await browser.get("/x/hub/")).location.startswith("/x/hub/login?next=")
        assert (await browser.get("/x/hub/foo")).status == 404


async def test_an_unknown_page_says_so_with_a_request_number(browser: Browser) -> None:
    answer = await browser.get("/hub/no/such/page")

    assert answer.status == 404
    assert answer.headers["X-Request-Id"] in answer.text
    assert 'href="/hub/home"' in answer.text
    assert ">ann<" in answer.text.replace("\n", "").replace(" ", "")
    assert "Set-Cookie" not in answer.headers or "himalia-anonymous" not in str(answer.headers)
    by_script = await browser.get("/hub/no/such/page", **{"Sec-Fetch-Mode": "cors"})
    assert answer.xsrf == (await browser.get("/hub/home")).xsrf != by_script.xsrf, "nobody's, to a script"


async def test_the_proxy_fetches_error_pages_as_200(hub: Site, ann: User) -> None:
    async with hub.browser() as proxy:
        gone = await proxy.get("/hub/error/503?url=%2Fuser%2Fann%2F")
        odd = [
            await proxy.get(f"/hub/error/{code}")
            for code in ("404", "418", "999", "abc", "%D9%A4%D9%A0%D9%A4")
        ]

    assert gone.status == 200
    assert "Your server does not answer" in gone.text
    assert 'data-retry="5"' in gone.text
    assert [answer.status for answer in odd] == [200] * 5
    assert "Not found" in odd[0].text


async def test_a_bug_shows_nothing_of_the_inside(tmp_path: Path) -> None:
    @public
    async def broken(request: web.Request) -> web.Response:
        raise ValueError("the secret is 1234 in /etc/himalia")

    original = pages.routes

    def with_bug(prefix: str, base_url: str) -> list[web.RouteDef]:
        return [web.get(prefix + "broken", broken), *original(prefix, base_url)]

    holder: ModuleType = pages
    holder.routes = with_bug  # type: ignore[attr-defined]
    try:
        async with site(tmp_path) as hub, hub.browser() as browser:
            await hub.person("ann")
            answer = await browser.get("/hub/broken")
    finally:
        holder.routes = original  # type: ignore[attr-defined]

    assert answer.status == 500
    for inside in ("1234", "ValueError", "Traceback", ".py", "himalia_hub"):
        assert inside not in answer.text


def test_htmx_is_the_file_that_its_authors_made() -> None:
    """Of `htmx.org` 2.0.11 in the npm registry, `dist/htmx.min.js`; a new version is a new name and a new hash."""
    body = (assets.STATIC / "vendor" / "htmx-2.0.11.min.js").read_bytes()

    assert (
        hashlib.sha256(body).hexdigest() == "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
    )


async def test_texts_are_sent_small_to_who_can_unpack_them(browser: Browser) -> None:
    packed = await browser.get("/hub/static/vendor/htmx-2.0.11.min.js", **{"Accept-Encoding": "gzip"})
    plain = await browser.get("/hub/static/vendor/htmx-2.0.11.min.js", **{"Accept-Encoding": "identity"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < 18_000
    assert packed.text == plain.text
    assert "Content-Encoding" not in plain.headers


async def test_a_language_that_is_not_offered_is_refused_by_name(tmp_path: Path) -> None:
    async with site(tmp_path) as hub, hub.browser() as browser:
        page = await browser.get("/hub/login")
        answer = await browser.post("/hub/language", {"language": "xx"}, xsrf=page.xsrf)

        assert (answer.status, "'xx' is none of this hub's languages" in html.unescape(answer.text)) == (
            400,
            True,
        )


async def test_a_page_that_answers_a_form_does_not_lead_back_to_the_form(tmp_path: Path) -> None:
    async with site(tmp_path) as hub:
        await hub.person("ann")
        async with hub.browser("ann") as browser:
            answer = await browser.post("/hub/home/start", {"server": ""})

            assert answer.status == 400
            assert '<input type="hidden" name="next" value="/hub/">' in answer.text
