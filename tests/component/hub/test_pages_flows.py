from __future__ import annotations

from datetime import timedelta

import pytest

from component.hub.pages_site import FAILURE, RUNNING, STOPPED, Browser, Site
from himalia_hub import clock
from himalia_hub.pages import render
from himalia_hub.servers import store
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.users.models import User

EVIL = "<script>alert(1)<script>"  # a slash cannot be in a name


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
    assert "It ended while starting: the server ended with status 1" in text


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
    assert "It ended while starting: the server ended with status 1" in answer.text
    assert "first &lt;b&gt;line&lt;/b&gt;\nOSError: No space left" in answer.text
    assert 'action="/hub/spawn/ann?next=/user/ann/lab"' in answer.text


async def test_kernels_that_wait_after_a_crash_are_told_of_and_can_be_ended(
    hub: Site, ann: User, browser: Browser
) -> None:
    waiting = store.with_kept(FAILURE | {"cause": "crashed"}, 1800, now=clock.now())
    await hub.server(ann, "", STOPPED, Phase.FAILED, failure=waiting)
    over = store.with_kept(FAILURE, 1, now=clock.now() - timedelta(seconds=2))
    await hub.server(ann, "thesis", STOPPED, Phase.FAILED, failure=over)

    home, story = await browser.get("/hub/home"), await browser.get("/hub/spawn-pending/ann")
    assert home.text.count("Its kernels go on without it") == home.text.count("End its kernels") == 1
    assert ">in 29 min</time>" in home.text
    assert "Its kernels go on without it" in story.text

    await browser.post("/hub/home/stop", {"server": ""})
    await browser.post("/hub/home/stop", {"server": "thesis"})
    default, thesis = await hub.row("ann"), await hub.row("ann", "thesis")
    assert default and default.phase is Phase.STOPPING and default.due_at is not None
    assert thesis and thesis.phase is Phase.FAILED


async def test_pending_never_starts_anything(hub: Site, browser: Browser) -> None:
    answer = await browser.get("/hub/spawn-pending/ann")

    assert answer.status == 200
    assert "Your server is not running" in answer.text
    assert await hub.row("ann") is None
