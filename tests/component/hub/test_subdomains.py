"""Requests at a person's, or a service's, host that no server there took."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from component.hub.hub_site import PASSWORD, Site, site
from himalia_hub.health import parts
from himalia_hub.health.finding import Grade
from himalia_hub.services.models import Service
from himalia_hub.settings import HubSettings

HUB = "https://hub.test"
ANN = "ann.hub.test"
GRADER = "grader--service.hub.test"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, subdomain_host=HUB) as running:
        await running.person("root", admin=True)
        yield running


@pytest.mark.parametrize("path", ["/hub/home", "/hub/login", "/", "/user/bob", "/other?x=%2F"])
async def test_people_are_led_to_the_hubs_own_host(hub: Site, path: str) -> None:
    async with hub.client(Host=ANN) as visitor:
        answer = await visitor("GET", path)
    assert answer.status == 302
    assert answer.location.startswith(HUB + path)
    assert "Set-Cookie" not in answer.headers


async def test_a_visitor_of_a_server_that_is_away_is_counted_so_that_no_circle_is_endless(hub: Site) -> None:
    async with hub.client(Host=ANN) as visitor:
        first = await visitor("GET", "/user/ann/lab?x=1")
        again = await visitor("GET", "/user/ann/lab?x=1&redirects=3")
    assert first.location == f"{HUB}/user/ann/lab?x=1&redirects=1"
    assert again.location == f"{HUB}/user/ann/lab?x=1&redirects=4"


async def test_a_server_is_at_its_own_persons_host_and_at_nobody_elses(hub: Site) -> None:
    """CVE-2026-55438: a host and a path that name two people reach neither's server."""
    async with hub.client(Host="bob.hub.test") as visitor:
        led = await visitor("GET", "/user/ann/lab")
        program = await visitor("GET", "/user/ann/api/kernels")
    assert led.location == f"{HUB}/user/ann/lab?redirects=1"
    assert program.status == 424
    assert "https://ann.hub.test/user/ann/" in program.json["message"]


async def test_programs_are_told_at_once_that_nothing_answers(hub: Site) -> None:
    async with hub.client(Host=ANN) as program:
        for method, path in (
            ("GET", "/user/ann/api/kernels"),
            ("POST", "/user/ann/files/x"),
            ("PUT", "/user/ann/lab"),
        ):
            assert (await program(method, path)).status == 424
        for method, path in (("POST", "/hub/login"), ("POST", "/hub/spawn"), ("DELETE", "/")):
            assert (await program(method, path)).status == 404


async def test_the_api_answers_everywhere_by_tokens_and_nowhere_beside_by_cookies(hub: Site) -> None:
    ann = await hub.person("ann")
    async with hub.client(await hub.token(ann), Host=ANN) as program:
        assert (await program("GET", "/hub/api/user")).json["name"] == "ann"
    async with hub.client(Host=ANN) as page:
        assert (await page("GET", "/hub/api/user")).status == 403


async def test_a_service_is_found_at_its_host_and_is_missed_there_once(hub: Site) -> None:
    async with hub.db.begin() as db:
        db.add(Service(name="grader", url="http://127.0.0.1:9"))
    async with hub.client(Host="hub.test") as visitor:
        there = await visitor("GET", "/hub/services/grader/a%20b?x=1")
        unknown = await visitor("GET", "/hub/services/nobody/")
        missed = await visitor("GET", "/hub/services/grader/?redirects=1")
    assert (there.status, there.location) == (302, f"https://{GRADER}/services/grader/a%20b?x=1")
    assert (unknown.status, missed.status) == (404, 503)
    async with hub.client(Host=GRADER) as visitor:
        back = await visitor("GET", "/services/grader/")
    assert back.location == f"{HUB}/services/grader/?redirects=1"


async def test_cookies_are_the_hubs_hosts_alone(hub: Site) -> None:
    await hub.person("ann")
    https = {"Host": "hub.test", "X-Forwarded-Proto": "https", "Origin": HUB}
    async with hub.client(**https) as browser:
        form = await browser("GET", "/hub/login")
        kept = "; ".join(one.partition(";")[0] for one in form.headers.getall("Set-Cookie"))
        fields = {"username": "ann", "password": PASSWORD, "_xsrf": form.xsrf}
        # By hand: these cookies are for TLS, and the test speaks without.
        answer = await browser("POST", "/hub/login", data=fields, headers={"Cookie": kept})
    set_ = answer.headers.getall("Set-Cookie")
    login = next(one for one in set_ if one.startswith("__Host-jupyterhub-hub-login="))
    assert "Path=/;" in login + ";"
    assert "Secure" in login
    assert not [one for one in set_ if "domain=" in one.lower()]


async def test_doctor_asks_whether_names_below_the_hubs_are_found() -> None:
    found = await parts.names(HubSettings(subdomain_host="http://hub.localhost:8000"))
    lost = await parts.names(HubSettings(subdomain_host="http://hub.invalid"))
    assert [one.grade for one in found] in (
        [Grade.OK],
        [Grade.PROBLEM],
    )  # not every resolver knows localhost's children
    assert [one.grade for one in lost] == [Grade.PROBLEM]
    assert "*.hub.invalid" in lost[0].remedy
    assert await parts.names(HubSettings()) == []
