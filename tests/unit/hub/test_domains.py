from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from himalia_hub import domains
from himalia_hub.pages.render import content_security_policy
from himalia_hub.servers.view import routespec, server_url
from himalia_hub.services.view import service_url
from himalia_hub.settings import HubSettings

NAMES = st.text(min_size=1, max_size=255) | st.from_regex(r"[a-z0-9-]{1,70}", fullmatch=True)
SITE = HubSettings(subdomain_host="https://hub.example.org:8443")


@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_two_names_never_share_a_label_and_each_is_one_that_dns_takes(names: list[str]) -> None:
    labels = [domains.label(name) for name in names]
    assert labels[0] != labels[1]
    for one in labels:
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", one)


@given(NAMES, NAMES)
def test_no_service_has_the_host_of_a_person(service: str, person: str) -> None:
    host = domains.service_origin(SITE, service)
    assert host != domains.person_origin(SITE, person)
    assert len(host.removeprefix("https://").partition(".")[0]) <= 63


def test_a_plain_name_stands_for_itself_and_others_can_still_be_read() -> None:
    assert domains.label("ann") == "ann"
    assert domains.label("4-you") == "4-you"
    assert domains.label("ann.lee@example.org").startswith("ann-lee-example-org--")
    assert domains.label("xn--80ak6aa92e").startswith("xn-80ak6aa92e--")
    assert domains.label("Ann") != domains.label("ann")
    assert domains.label("安").startswith("x--")


def test_servers_and_services_are_at_hosts_of_their_own_and_routes_begin_with_them() -> None:
    assert server_url(SITE, "ann", "lab") == "https://ann.hub.example.org:8443/user/ann/lab/"
    assert routespec(SITE, "ann", "lab") == "/ann.hub.example.org/user/ann/lab/"
    assert service_url(SITE, "grader") == "https://grader--service.hub.example.org:8443/services/grader/"
    assert domains.hub_route(SITE) == "/"
    plain = HubSettings(base_url="/lab/")
    assert server_url(plain, "ann", "") == "/lab/user/ann/"
    assert routespec(plain, "ann", "") == "/lab/user/ann/"
    assert domains.hub_route(plain) == "/lab/"


@pytest.mark.parametrize(
    ("host", "beside"),
    [
        ("ann.hub.example.org", True),
        ("ANN.hub.example.org:8443", True),
        ("a.b.hub.example.org.", True),
        ("hub.example.org:8443", False),
        ("evilhub.example.org", False),
        ("127.0.0.1:8081", False),
        ("[::1]:8081", False),
        ("", False),
    ],
)
def test_only_hosts_below_the_hubs_are_beside_it(host: str, beside: bool) -> None:
    assert domains.is_beside(SITE, host) is beside
    assert not domains.is_beside(HubSettings(), host)


@pytest.mark.parametrize(
    "wrong",
    ["hub.example.org", "https://hub.example.org/lab", "ftp://hub.example.org", "https://a b", "https://-a"],
)
def test_what_is_no_scheme_and_host_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(ValidationError, match="scheme and host name alone"):
        HubSettings(subdomain_host=wrong)


def test_an_address_has_no_names_below_it() -> None:
    with pytest.raises(ValidationError, match="no names below one"):
        HubSettings(subdomain_host="http://127.0.0.1:8000")


def test_the_public_address_is_the_host_of_the_subdomains_or_refused() -> None:
    assert SITE.public_url == "https://hub.example.org:8443"
    with pytest.raises(ValidationError, match="leave public_url out"):
        HubSettings(subdomain_host="https://hub.example.org", public_url="https://other.example.org")


def test_forms_may_lead_to_servers_own_hosts_and_nowhere_else() -> None:
    assert "form-action 'self' https://*.hub.example.org:8443;" in content_security_policy(SITE)
    assert "form-action 'self';" in content_security_policy(HubSettings())
