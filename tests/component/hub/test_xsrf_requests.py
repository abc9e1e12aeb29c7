"""Cross-site protection on the wire: the advisories' matrix, against real handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from yarl import URL

from component.hub.hub_site import PASSWORD, Client, Site, site

CORS = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        await running.person("root", admin=True)
        yield running


@pytest.fixture
async def browser(hub: Site) -> AsyncIterator[Client]:
    async with hub.client() as client:
        await client.login("root")
        yield client


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/hub/api/users"), ("PATCH", "/hub/api/users/root"), ("DELETE", "/hub/api/users/bob"), ("POST", "/hub/api/users/root/tokens"), ("POST", "/hub/api/users/root/server"), ("DELETE", "/hub/api/users/root/server"), ("POST", "/hub/api/proxy")],
)  # fmt: skip
@pytest.mark.parametrize("proof", ["", "wrong", "another person's"])
async def test_a_cookie_alone_changes_nothing(
    hub: Site, browser: Client, method: str, path: str, proof: str
) -> None:
    """CVE-2020-36191: an administrator's cookie and a Referer were proof enough."""
    if proof == "another person's":
        await hub.person("eve")
        async with hub.client() as eve:
            await eve.login("eve")
            proof = (await eve("GET", "/hub/home")).xsrf
    headers = {"X-XSRFToken": proof} if proof else {}

    answer = await browser(method, path, json={}, headers=headers)

    assert answer.status == 403
    assert answer.json["code"] == "xsrf"


async def test_proof_is_taken_from_header_query_and_form(browser: Client) -> None:
    proof = (await browser("GET", "/hub/home")).xsrf

    for headers, query in (
        ({"X-XSRFToken": proof}, ""),
        ({"X-CSRFToken": proof}, ""),
        ({}, f"?_xsrf={proof}"),
    ):
        answer = await browser("POST", f"/hub/api/users/root/tokens{query}", json={}, headers=headers)
        assert answer.status == 201, answer.text
    assert browser.cookie("_xsrf") == proof


async def test_a_packed_page_never_shows_the_same_proof_twice_and_each_is_taken(browser: Client) -> None:
    shown = [(await browser("GET", "/hub/admin")).xsrf for _ in range(2)]

    assert len({browser.cookie("_xsrf"), *shown}) == 3
    for proof in shown:
        answer = await browser("POST", "/hub/api/users/root/tokens", json={}, headers={"X-XSRFToken": proof})
        assert answer.status == 201, answer.text
        wrong = ("A" if proof[0] != "A" else "w") + proof[1:]
        headers = {"X-XSRFToken": wrong}
        assert (await browser("POST", "/hub/api/users/root/tokens", json={}, headers=headers)).status == 403


async def test_a_form_posted_to_the_api_with_cookies_is_refused_and_told_what_to_send(
    browser: Client,
) -> None:
    proof = (await browser("GET", "/hub/home")).xsrf

    answer = await browser("POST", "/hub/api/users", data={"_xsrf": proof})

    assert (answer.status, answer.json["code"]) == (403, "not-authenticated")
    assert "Content-Type: application/json" in answer.json["message"]


@pytest.mark.parametrize(
    "headers",
    [CORS, {**CORS, "Sec-Fetch-Mode": "no-cors"}, {**CORS, "Sec-Fetch-Mode": "same-origin"}, {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script"}],
)  # fmt: skip
async def test_a_script_of_a_page_that_shares_our_origin_reads_nothing(
    browser: Client, headers: dict[str, str]
) -> None:
    assert (await browser("GET", "/hub/api/users", headers=headers)).status == 403
    page = await browser("GET", "/hub/home", headers=headers)
    assert page.status in (302, 403)
    assert 'data-xsrf="' not in page.text or "Sign" in page.text


async def test_our_own_script_reads_with_proof(browser: Client) -> None:
    proof = (await browser("GET", "/hub/home")).xsrf

    assert (await browser("GET", "/hub/api/users", headers={**CORS, "X-XSRFToken": proof})).status == 200
    assert (await browser("GET", f"/hub/api/users?_xsrf={proof}", headers=CORS)).status == 200
    assert (await browser("GET", "/hub/home", headers={**CORS, "X-XSRFToken": proof})).status == 200


async def test_clients_without_metadata_and_navigation_read_freely(browser: Client) -> None:
    assert (await browser("GET", "/hub/api/users")).status == 200
    assert (await browser("GET", "/hub/api/users", headers={"Sec-Fetch-Mode": "navigate"})).status == 200


async def test_proof_from_another_site_is_refused(browser: Client) -> None:
    proof = (await browser("GET", "/hub/home")).xsrf
    headers = {"X-XSRFToken": proof, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}

    assert (await browser("POST", "/hub/api/users/root/tokens", json={}, headers=headers)).status == 403


async def test_a_token_needs_no_proof_and_counts_on_the_api_only(hub: Site) -> None:
    root = await hub.person("admin", admin=True)
    async with hub.client(await hub.token(root)) as script:
        assert (await script("POST", "/hub/api/users", json={"usernames": ["bob"]})).status == 201
        page = await script("GET", "/hub/home")
        assert (page.status, page.location) == (302, "/hub/login?next=/hub/home")


async def test_an_unknown_token_falls_back_to_the_cookie(browser: Client) -> None:
    answer = await browser("GET", "/hub/api/user", headers={"Authorization": "token unknown"})

    assert answer.json["name"] == "root"


@pytest.mark.parametrize("scheme", ["token", "Token", "bearer", "BEARER"])
async def test_the_scheme_of_a_token_has_no_case(hub: Site, scheme: str) -> None:
    token = await hub.token(await hub.person("ann"))
    async with hub.client(Authorization=f"{scheme} {token}") as script:
        assert (await script("GET", "/hub/api/user")).json["name"] == "ann"


ODD = (b"\xff", b"\xed\xa0\x80", b"a\xff.b")
"""What no browser sends in a header, and whoever looks for holes does."""


@pytest.mark.parametrize(
    "header",
    [b"Authorization: token %s", b"Cookie: jupyterhub-hub-login=x.%s", b"Cookie: himalia-anonymous=%s.x", b"X-XSRFToken: %s"],
)  # fmt: skip
@pytest.mark.parametrize("path", [b"/hub/api/user", b"/hub/login", b"/hub/home"])
async def test_bytes_that_are_no_text_prove_nothing_and_break_nothing(
    hub: Site, header: bytes, path: bytes
) -> None:
    for odd in ODD:
        for method in (b"GET", b"POST"):
            assert await status_of(hub, method, path, header % odd) in (200, 302, 403, 405)


async def test_who_comes_with_a_program_of_an_odd_name_is_signed_in(hub: Site) -> None:
    async with hub.client() as client:
        proof = (await client("GET", "/hub/login")).xsrf
        cookie = f"Cookie: himalia-anonymous={client.cookie('himalia-anonymous')}".encode()
    form = urlencode({"username": "root", "password": PASSWORD, "_xsrf": proof}).encode()
    headers = cookie + b"\r\nContent-Type: application/x-www-form-urlencoded\r\nUser-Agent: odd \xff"

    assert await status_of(hub, b"POST", b"/hub/login", headers, form) == 302


async def test_credentials_of_a_program_in_odd_bytes_are_wrong_ones(hub: Site) -> None:
    form = b"grant_type=authorization_code&code=x"
    for odd in ODD:
        headers = b"Content-Type: application/x-www-form-urlencoded\r\nAuthorization: Basic " + odd
        assert await status_of(hub, b"POST", b"/hub/api/oauth2/token", headers, form) == 401


async def status_of(hub: Site, method: bytes, path: bytes, headers: bytes, body: bytes = b"") -> int:
    """Of a request that no client would write."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(hub.url).port)
    begin = b"%s %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" % (method, path)
    writer.write(begin + b"Content-Length: %d\r\n%s\r\n\r\n%s" % (len(body), headers, body))
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])
