"""The matrix of fetch metadata, without a socket."""

from __future__ import annotations

import itertools

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from himalia_hub.auth import origin, xsrf
from himalia_hub.keys import SETTINGS
from himalia_hub.settings import HubSettings

MODES = ("", "navigate", "cors", "no-cors", "same-origin", "websocket")
SITES = ("", "none", "same-origin", "same-site", "cross-site")
DESTS = ("", "empty", "image", "script", "document")


def request(method: str = "GET", **headers: str) -> web.Request:
    app = web.Application()
    app[SETTINGS] = HubSettings(public_url="https://hub.example.org")
    given = {name.replace("_", "-"): value for name, value in headers.items() if value}
    return make_mocked_request(method, "/hub/api/users", headers={"Host": "hub.test:8000", **given}, app=app)


@pytest.mark.parametrize(("mode", "site", "dest"), [*itertools.product(MODES, SITES, DESTS)])
def test_whatever_changes_something_must_prove_itself(mode: str, site: str, dest: str) -> None:
    headers = {"Sec_Fetch_Mode": mode, "Sec_Fetch_Site": site, "Sec_Fetch_Dest": dest}

    for method in ("POST", "PUT", "PATCH", "DELETE", "BREW"):
        assert xsrf.needs_check(request(method, **headers))


@pytest.mark.parametrize(("mode", "site", "dest"), [*itertools.product(MODES, SITES, DESTS)])
def test_a_script_that_reads_must_prove_itself(mode: str, site: str, dest: str) -> None:
    headers = {"Sec_Fetch_Mode": mode, "Sec_Fetch_Site": site, "Sec_Fetch_Dest": dest}
    free = mode in ("", "navigate", "websocket") or (
        mode == "no-cors" and site in ("", "none", "same-origin") and dest in ("image", "script", "document")
    )

    assert xsrf.needs_check(request(**headers)) is not free


@pytest.mark.parametrize(
    ("headers", "elsewhere"),
    [
        ({}, False),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "http://evil"}, False),
        ({"Sec_Fetch_Site": "none"}, False),
        ({"Sec_Fetch_Site": "same-site"}, True),
        ({"Sec_Fetch_Site": "cross-site"}, True),
        ({"Origin": "http://hub.test:8000"}, False),
        ({"Origin": "https://hub.example.org"}, False),
        ({"Origin": "http://hub.test"}, True),
        ({"Origin": "http://hub.test:8000.evil.com"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://["}, True),
    ],
)
def test_another_site_is_known_by_metadata_or_else_by_origin(
    headers: dict[str, str], elsewhere: bool
) -> None:
    assert origin.comes_from_elsewhere(request("POST", **headers)) is elsewhere


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("", "127.0.0.1"),
        ("10.0.0.7", "10.0.0.7"),
        ("1.2.3.4, 10.0.0.7", "10.0.0.7"),
        ("10.0.0.7, 127.0.0.1", "10.0.0.7"),
        ("nonsense, 10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
    ],
)
def test_the_address_is_the_one_our_own_proxy_wrote(forwarded: str, address: str) -> None:
    assert origin.address(request(X_Forwarded_For=forwarded)) == address
