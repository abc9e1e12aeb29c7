from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from himalia_hub.services.environ import service_environment
from himalia_hub.services.models import Service
from himalia_hub.services.process import PAUSE_S, STEADY_S, next_pause
from himalia_hub.services.settings import ServiceSection
from himalia_hub.services.view import service_route
from himalia_hub.settings import HubSettings

OWN = {"PATH": "/bin", "HIMALIA_DB__URL": "postgresql://u:hunter2@h/d", "CONFIGPROXY_AUTH_TOKEN": "s3cret"}


def row(**fields: object) -> Service:
    kept = {"name": "who", "url": "http://127.0.0.1:9000/x", "oauth_client_id": "service-who"}
    kept |= {"oauth_redirect_uri": "", "oauth_client_allowed_scopes": []}
    return Service(**kept | fields)


def test_the_environment_is_jupyterhubs() -> None:
    section = ServiceSection(name="who", command=["x"], environment={"A": "b", "PATH": "/opt/bin"})
    settings = HubSettings(base_url="/lab", public_url="https://hub.example.org")

    env = service_environment(section, row(), "t0ken", settings, "http://127.0.0.1:8081", OWN)

    access = '["access:services", "access:services!service=who"]'
    assert env == {
        "A": "b", "PATH": "/opt/bin", "JUPYTERHUB_SERVICE_NAME": "who", "JUPYTERHUB_USER": "", "JUPYTERHUB_SERVER_NAME": "", "JUPYTERHUB_API_TOKEN": "t0ken",
        "JPY_API_TOKEN": "t0ken", "JUPYTERHUB_API_URL": "http://127.0.0.1:8081/lab/hub/api",
        "JUPYTERHUB_BASE_URL": "/lab/", "JUPYTERHUB_HOST": "", "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED": "0",
        "JUPYTERHUB_PUBLIC_URL": "https://hub.example.org/lab/services/who/",
        "JUPYTERHUB_PUBLIC_HUB_URL": "https://hub.example.org/lab/hub/", "JUPYTERHUB_CLIENT_ID": "service-who",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": "/lab/services/who/oauth_callback",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": access, "JUPYTERHUB_OAUTH_SCOPES": access,
        "JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES": "[]", "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:9000/x",
        "JUPYTERHUB_SERVICE_PREFIX": "/lab/services/who/",
    }  # fmt: skip


def test_where_a_service_takes_people_back_is_told_as_a_path_whatever_its_redirect_uri() -> None:
    section, own = (
        ServiceSection(name="who", command=["x"]),
        row(oauth_redirect_uri="https://h/services/who/oauth_callback"),
    )

    env = service_environment(section, own, "t", HubSettings(), "http://h", OWN)

    assert env["JUPYTERHUB_OAUTH_CALLBACK_URL"] == "/services/who/oauth_callback"


def test_a_service_that_serves_nobody_is_told_of_no_address_and_no_sign_in() -> None:
    section = ServiceSection(name="who", command=["x"])
    env = service_environment(section, row(url="", oauth_client_id=None), "t", HubSettings(), "http://h", OWN)

    assert not [name for name in env if "OAUTH" in name or "CLIENT" in name or "SERVICE_URL" in name]


def test_a_route_leads_to_the_address_and_keeps_the_prefix() -> None:
    route = service_route(HubSettings(base_url="/lab"), row())

    assert route is not None
    assert (route.routespec, route.target) == ("/lab/services/who/", "http://127.0.0.1:9000")
    assert service_route(HubSettings(), row(url="")) is None


@given(st.lists(st.floats(0, STEADY_S - 1), min_size=8))
def test_what_dies_at_once_is_started_ever_more_slowly_but_never_given_up(lives: list[float]) -> None:
    pauses, pause = [], 0.0
    for lived_s in lives:
        pause = next_pause(pause, lived_s)
        pauses.append(pause)

    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == PAUSE_S
    assert next_pause(pause, STEADY_S) == PAUSE_S[0]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "a/b"}, "name"),
        ({"url": "ftp://x"}, "is no address of a service"),
        ({"url": "http://u:p@h"}, "is no address of a service"),
        ({"oauth_client_id": "jupyterhub-user-ann"}, "begins with 'service-'"),
        ({"oauth_redirect_uri": "javascript:alert(1)"}, "is no redirect URI"),
        ({"oauth_redirect_uri": "//evil.example"}, "is no redirect URI"),
        ({"oauth_redirect_uri": "https://h/x#y"}, "is no redirect URI"),
        ({"environment": {"A": "b"}}, "are for a service with a command"),
        ({"api_token": "short"}, "api_token"),
        ({"api_token": "x" * 32, "api_token_file": "/x"}, "keep one"),
    ],
)
def test_what_cannot_be_a_service_is_said(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ServiceSection.model_validate({"name": "who"} | fields)


def test_two_services_cannot_have_one_name_or_one_client() -> None:
    for second in ({"name": "a"}, {"name": "b", "oauth_client_id": "service-a"}):
        with pytest.raises(ValidationError, match="named twice"):
            HubSettings.model_validate({"services": [{"name": "a"}, second]})


def test_a_token_is_never_shown() -> None:
    from himalia_hub.cli.config import shown

    said = {
        "name": "a",
        "api_token": "hunter2hunter2",
        "command": ["x"],
        "environment": {"MY_PASSWORD": "hunter2"},
    }
    assert "hunter2" not in json.dumps(dict(shown(HubSettings.model_validate({"services": [said]}))))
