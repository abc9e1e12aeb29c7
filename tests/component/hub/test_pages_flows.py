from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import web

from component.hub.pages_site import FAILURE, RUNNING, STOPPED, Answer, Browser, Site, site
from himalia_hub import clock, pages
from himalia_hub.pages import render
from himalia_hub.rbac.guard import access_of, public
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.users.models import User

EVIL = "<script>alert(1)<script>"  # a slash cannot be in a name


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


@pytest.fixture
async def ann(hub: Site) -> User:
    return await hub.person("ann")


@pytest.fixture
async def root(hub: Site) -> User:
    return await hub.person("root", admin=True)


@pytest.fixture
async def browser(hub: Site, ann: User) -> AsyncIterator[Browser]:
    async with hub.browser("ann") as signed_in:
        yield signed_in


@pytest.fixture
async def admin(hub: Site, root: User) -> AsyncIterator[Browser]:
    async with hub.browser("root") as signed_in:
        yield signed_in


def test_every_page_says_who_may_come_in() -> None:
    table = pages.routes("/hub/", "/")

    assert [route.path for route in table if access_of(route.handler) is None] == []


# ------------------------------------------------------------------ frame


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
    url = render.static_url("/hub/", "himalia.css")

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
    (tmp_path / "logout.html").write_text(
        '{% extends "templates/logout.html" %}{% block title %}Bye{% endblock %}'
    )
    env = render.environment((str(tmp_path),))
    context = {
        "identity": None,
        "hub": "/hub/",
        "static": str,
        "xsrf": "",
        "announcements": (),
        "base_url": "/",
    }

    text = env.get_template("logout.html").render(context)

    assert "<title>Bye · Himalia</title>" in text
    assert "Sign in again" in text


async def test_reports_of_the_content_policy_need_no_proof(browser: Browser) -> None:
    body = {"csp-report": {"effective-directive": "script-src", "blocked-uri": "https://evil.example/x?y=1"}}

    answer = await browser.send("POST", "/hub/security/csp-report", data=json.dumps(body))
    garbage = await browser.send("POST", "/hub/security/csp-report", data=b"\xff[" * 9000)

    assert (answer.status, garbage.status) == (204, 204)


# ------------------------------------------------------------------ home


async def test_home_of_a_newcomer_offers_one_start_button(browser: Browser) -> None:
    answer = await browser.get("/hub/home")

    assert answer.status == 200
    assert answer.text.count('class="primary"') == 1
    assert 'action="/hub/spawn/ann"' in answer.text


async def test_home_shows_each_state_as_a_word(hub: Site, ann: User, browser: Browser) -> None:
    await hub.server(ann, "", RUNNING, Phase.READY, last_activity=clock.now() - timedelta(minutes=4))
    await hub.server(ann, "one", RUNNING, Phase.STARTING)
    await hub.server(ann, "two", STOPPED, Phase.STOPPING)
    await hub.server(ann, "three", STOPPED, Phase.FAILED, failure=FAILURE)
    await hub.server(ann, "four", RUNNING, Phase.READY, unknown_since=clock.now())

    text = (await browser.get("/hub/home")).text

    for word in ("Running", "Starting", "Stopping", "Failed", "Checking"):
        assert f"</svg>{word}</span>" in text
    assert ">3 h 12 min</time>" in text
    assert ">4 min ago</time>" in text
    assert "It ended while starting: exit code 1" in text


async def test_our_script_gets_only_the_cards(browser: Browser) -> None:
    answer = await browser.get("/hub/home", **{render.FRAGMENT: "1"})

    assert answer.text.lstrip().startswith('<div class="cards"')
    assert "<html" not in answer.text


async def test_a_script_without_proof_gets_no_cards(browser: Browser) -> None:
    answer = await browser.get("/hub/home", **{"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"})

    assert answer.status == 403


async def test_hostile_names_are_text(hub: Site, browser: Browser, ann: User, admin: Browser) -> None:
    evil = await hub.person(EVIL, admin=True)
    await hub.server(
        evil, "x", STOPPED, Phase.FAILED, display_name=f'"{EVIL}', failure=FAILURE | {"message": EVIL}
    )

    async with hub.browser(EVIL) as theirs:
        home = await theirs.get("/hub/home")
        failed = await theirs.get("/hub/spawn-pending/%3Cscript%3Ealert(1)%3Cscript%3E/x")
    people = await admin.get("/hub/admin")
    search = await admin.get("/hub/admin?q=%3Cscript%3Ealert(1)%3C/script%3E%22")

    for answer in (home, failed, people, search):
        assert answer.status == (500 if answer is failed else 200)
        assert "<script>alert" not in answer.text
        assert "&lt;script&gt;alert(1)" in answer.text


async def test_a_named_server_is_made_and_started_once(hub: Site, browser: Browser) -> None:
    answer = await browser.post("/hub/home/start", {"server": " Thesis "})

    assert (answer.status, answer.location) == (303, "/hub/spawn-pending/ann/thesis")
    row = await hub.row("ann", "thesis")
    assert row and row.desired is Desired.RUNNING
    again = await browser.post("/hub/home/start", {"server": "thesis"})
    assert again.status == 400
    assert "already" in again.text


async def test_a_bad_server_name_comes_back_in_the_form_with_the_reason(browser: Browser) -> None:
    answer = await browser.post("/hub/home/start", {"server": "9 lives"})

    assert answer.status == 400
    assert 'value="9 lives"' in answer.text
    assert "cannot be a server name" in answer.text
    assert 'aria-invalid="true"' in answer.text


async def test_stop_and_remove_write_the_wish(hub: Site, ann: User, browser: Browser) -> None:
    await hub.server(ann, "", RUNNING, Phase.READY)
    await hub.server(ann, "old")

    stopped = await browser.post("/hub/home/stop", {"server": ""})
    removed = await browser.post("/hub/home/remove", {"server": "old"})

    assert (stopped.status, stopped.location) == (303, "/hub/home")
    assert removed.status == 303
    default, old = await hub.row("ann"), await hub.row("ann", "old")
    assert default and default.desired is Desired.STOPPED and not default.doomed
    assert old and old.doomed


async def test_a_form_without_our_token_changes_nothing(hub: Site, ann: User, browser: Browser) -> None:
    await hub.server(ann, "", RUNNING, Phase.READY)

    answer = await browser.post("/hub/home/stop", {"server": ""}, xsrf="guess")

    assert answer.status == 403
    row = await hub.row("ann")
    assert row and row.desired is Desired.RUNNING


# ------------------------------------------------------------------ start and progress


async def test_visiting_spawn_starts_the_server_and_leads_to_its_progress(
    hub: Site, browser: Browser
) -> None:
    first = await browser.get("/hub/spawn?next=/user/ann/lab/tree/a.ipynb")
    second = await browser.get("/hub/spawn/ann")

    assert (first.status, first.location) == (
        302,
        "/hub/spawn-pending/ann?next=%2Fuser%2Fann%2Flab%2Ftree%2Fa.ipynb",
    )
    assert second.location == "/hub/spawn-pending/ann"
    row = await hub.row("ann")
    assert row and (row.desired, row.generation) == (Desired.RUNNING, 1)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Purpose": "prefetch;prerender"},
    ],
)
async def test_a_picture_a_frame_or_a_look_ahead_starts_nothing(
    hub: Site, browser: Browser, headers: dict[str, str]
) -> None:
    await browser.get("/hub/spawn", **headers)

    assert await hub.row("ann") is None


async def test_options_in_the_address_become_the_options_of_the_start(hub: Site, browser: Browser) -> None:
    await browser.get("/hub/spawn?opt-image=big&opt-gpu=1&opt-gpu=2&utm_source=mail")

    row = await hub.row("ann")
    assert row and row.user_options == {"image": ["big"], "gpu": ["1", "2"]}
    assert (await browser.get("/hub/spawn/ann/x?opt-=1")).status == 422


async def test_pressing_start_twice_is_one_start(hub: Site, browser: Browser) -> None:
    first = await browser.post("/hub/spawn/ann", {})
    second = await browser.post("/hub/spawn/ann", {})

    assert first.location == second.location == "/hub/spawn-pending/ann"
    row = await hub.row("ann")
    assert row and row.generation == 1


async def test_start_on_a_running_server_leads_to_it(hub: Site, ann: User, browser: Browser) -> None:
    await hub.server(ann, "", RUNNING, Phase.READY)

    assert (await browser.get("/hub/spawn")).location == "/user/ann/"
    assert (await browser.get("/hub/spawn?next=/user/ann/tree")).location == "/user/ann/tree"
    assert (await browser.get("/hub/spawn-pending/ann")).location == "/user/ann/"


@pytest.mark.parametrize(
    "wanted",
    ["//evil.example", "/%5Cevil.example", "https:evil.example", "%252f%252fevil", "/%09/evil.example"],
)
async def test_next_never_leads_elsewhere(hub: Site, ann: User, browser: Browser, wanted: str) -> None:
    await hub.server(ann, "", RUNNING, Phase.READY)

    location = (await browser.get(f"/hub/spawn-pending/ann?next={wanted}")).location

    assert location.startswith(("/user/ann/", "/%5C"))


async def test_others_servers_do_not_exist_for_people_but_do_for_admins(
    hub: Site, browser: Browser, admin: Browser, root: User
) -> None:
    for path in ("spawn/root", "spawn-pending/root", "spawn/nobody"):
        assert (await browser.get(f"/hub/{path}")).status == 404

    assert (await admin.get("/hub/spawn/ann")).location == "/hub/spawn-pending/ann"
    assert (await admin.get("/hub/spawn/nobody")).status == 404


async def test_progress_lists_the_steps_of_this_start_only(hub: Site, ann: User, browser: Browser) -> None:
    server = await hub.server(ann, "", RUNNING, Phase.STARTING, generation=1)
    await hub.event(server, "An old story")
    await hub.change(server, generation=2)
    server.generation = 2
    await hub.event(server, f"Starting {EVIL}", progress=20)

    text = (await browser.get("/hub/spawn-pending/ann")).text

    assert "Starting &lt;script&gt;" in text
    assert "An old story" not in text
    assert '<progress max="100" value="20"' in text
    assert 'data-progress="/hub/api/users/ann/server/progress?_xsrf=' in text
    assert '<noscript><meta http-equiv="refresh"' in text


async def test_cancel_stops_this_server_and_no_other(hub: Site, ann: User, browser: Browser) -> None:
    await hub.server(ann, "", RUNNING, Phase.READY)
    await hub.server(ann, "thesis", RUNNING, Phase.STARTING)

    answer = await browser.post("/hub/spawn-pending/ann/thesis", {})

    assert (answer.status, answer.location) == (303, "/hub/spawn-pending/ann/thesis")
    default, thesis = await hub.row("ann"), await hub.row("ann", "thesis")
    assert default and default.desired is Desired.RUNNING
    assert thesis and thesis.desired is Desired.STOPPED
    assert "Stopping" in (await browser.get("/hub/spawn-pending/ann/thesis")).text


async def test_a_failed_start_shows_cause_log_and_another_try(hub: Site, ann: User, browser: Browser) -> None:
    await hub.server(ann, "", STOPPED, Phase.FAILED, failure=FAILURE)

    answer = await browser.get("/hub/spawn-pending/ann?next=/user/ann/lab")

    assert answer.status == 500
    assert "It ended while starting: exit code 1" in answer.text
    assert "first &lt;b&gt;line&lt;/b&gt;\nOSError: No space left" in answer.text
    assert 'action="/hub/spawn/ann?next=/user/ann/lab"' in answer.text


async def test_pending_never_starts_anything(hub: Site, browser: Browser) -> None:
    answer = await browser.get("/hub/spawn-pending/ann")

    assert answer.status == 200
    assert "Your server is not running" in answer.text
    assert await hub.row("ann") is None


# ------------------------------------------------------------------ below user/


async def test_a_stopped_server_answers_424_with_a_start_button(browser: Browser) -> None:
    answer = await browser.get("/hub/user/ann/lab/tree/a%20b.ipynb?x=1")

    assert answer.status == 424
    assert 'action="/hub/spawn/ann?next=/user/ann/lab/tree/a%2520b.ipynb%3Fx%3D1"' in answer.text


async def test_programs_get_424_as_json(hub: Site, ann: User, browser: Browser) -> None:
    wants_json = await browser.get("/hub/user/ann/lab", Accept="application/json")
    api = await browser.get("/hub/user/ann/api/kernels")
    socket = await browser.get("/user/ann/x/channels", Upgrade="websocket", Connection="Upgrade")
    posts = [await browser.send(m, "/hub/user/ann/api/kernels") for m in ("POST", "PATCH", "DELETE", "PUT")]
    beside = await browser.send("POST", "/user/ann/api/kernels")

    for answer in (wants_json, api, socket, beside, *posts):
        assert answer.status == 424
        assert json.loads(answer.text)["message"].startswith("The server at /user/ann/ is not running")
    async with hub.browser() as stranger:
        assert (await stranger.get("/hub/user/ann/api/status")).status == 403


async def test_a_stranger_signs_in_first_and_comes_back(hub: Site, ann: User) -> None:
    async with hub.browser() as stranger:
        answer = await stranger.get("/hub/user/ann/lab?a=1")

    assert (answer.status, answer.location) == (302, "/hub/login?next=%2Fuser%2Fann%2Flab%3Fa%3D1")


async def test_others_and_unknown_people_look_the_same(hub: Site, browser: Browser, root: User) -> None:
    other, unknown = await browser.get("/hub/user/root/lab"), await browser.get("/hub/user/nobody/lab")

    def without_ids(answer: Answer) -> str:
        return answer.text[answer.text.index("<main") : answer.text.index("<dl")]

    assert other.status == unknown.status == 404
    assert without_ids(other) == without_ids(unknown)


async def test_a_ready_server_is_gone_back_to_with_a_limit(hub: Site, ann: User, browser: Browser) -> None:
    await hub.server(ann, "", RUNNING, Phase.READY)

    first = await browser.get("/hub/user/ann/lab?a=1&b")
    last = await browser.get("/hub/user/ann/lab?redirects=4")

    assert (first.status, first.location) == (302, "/user/ann/lab?a=1&b&redirects=1")
    assert last.status == 500
    assert "requests do not reach it" in last.text


@pytest.mark.parametrize(
    ("desired", "phase"), [(RUNNING, Phase.STARTING), (STOPPED, Phase.STOPPING), (STOPPED, Phase.FAILED)]
)
async def test_a_server_between_states_leads_to_its_progress(
    hub: Site, ann: User, browser: Browser, desired: Desired, phase: Phase
) -> None:
    await hub.server(ann, "thesis", desired, phase)

    answer = await browser.get("/hub/user/ann/thesis/lab")

    assert answer.status == 303
    assert answer.location == "/hub/spawn-pending/ann/thesis?next=%2Fuser%2Fann%2Fthesis%2Flab"


# ------------------------------------------------------------------ redirects


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/", 302, "/hub/"),
        ("/hub", 301, "/hub/"),
        ("/hub/", 302, "/hub/home"),
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


# ------------------------------------------------------------------ errors


async def test_an_unknown_page_says_so_with_a_request_number(browser: Browser) -> None:
    answer = await browser.get("/hub/no/such/page")

    assert answer.status == 404
    assert answer.headers["X-Request-Id"] in answer.text
    assert 'href="/hub/home"' in answer.text


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


# ------------------------------------------------------------------ admin


async def test_the_admin_page_is_for_admins(browser: Browser) -> None:
    page, form = (
        await browser.get("/hub/admin"),
        await browser.post("/hub/admin/stop", {"user": "ann", "server": ""}),
    )

    assert (page.status, form.status) == (403, 403)
    assert 'href="/hub/admin"' not in page.text


async def test_the_admin_list_finds_pages_and_stays_where_it_was(hub: Site, admin: Browser) -> None:
    for number in range(120):
        await hub.person(f"student{number:03}")

    first = await admin.get("/hub/admin?q=STUDENT")
    third = await admin.get("/hub/admin?q=student&page=3")
    beyond = await admin.get("/hub/admin?page=99")
    nobody = await admin.get("/hub/admin?q=100%25_")

    assert "1–50 of 120 people" in first.text
    assert 'href="/hub/admin?q=student&amp;page=2"' in third.text
    assert "101–120 of 120 people" in third.text
    assert "This page is empty" in beyond.text
    assert "Nobody found" in nobody.text
    answer = await admin.post(
        "/hub/admin/start", {"user": "student119", "server": "", "q": "student", "page": "3"}
    )
    assert (answer.status, answer.location) == (303, "/hub/admin?q=student&page=3")
    row = await hub.row("student119")
    assert row and row.desired is Desired.RUNNING


async def test_an_admin_stops_somebodys_server(hub: Site, ann: User, admin: Browser) -> None:
    await hub.server(ann, "thesis", RUNNING, Phase.READY)

    answer = await admin.post("/hub/admin/stop", {"user": "ann", "server": "thesis"})

    assert answer.status == 303
    row = await hub.row("ann", "thesis")
    assert row and row.desired is Desired.STOPPED


async def test_two_admins_stopping_the_same_server_both_succeed(hub: Site, ann: User, admin: Browser) -> None:
    await hub.server(ann, "", RUNNING, Phase.READY)

    answers = [await admin.post("/hub/admin/stop", {"user": "ann", "server": ""}) for _ in range(2)]

    assert [answer.status for answer in answers] == [303, 303]
    row = await hub.row("ann")
    assert row and row.generation == 2
