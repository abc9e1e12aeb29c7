"""What a server's address answers while the server is not there."""

from __future__ import annotations

import json

import pytest

from component.hub.pages_site import RUNNING, STOPPED, Answer, Browser, Site
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.users.models import User

EVIL = "<script>alert(1)<script>"  # a slash cannot be in a name


# ------------------------------------------------------------------ frame


# ------------------------------------------------------------------ home


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
