"""From a row to JupyterHub's service model and to addresses. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from himalia_hub import domains
from himalia_hub.rbac.identity import Identity
from himalia_hub.servers.view import quoted
from himalia_hub.services.models import Service
from himalia_hub.settings import HubSettings
from himalia_proxy.base import Route


def service_prefix(settings: HubSettings, name: str) -> str:
    """Path below which people reach it, with a slash at both ends; quoted."""
    return f"{settings.base_url}services/{quoted(name)}/"


def service_url(settings: HubSettings, name: str) -> str:
    """Where a browser finds it: the path, or the whole address where each service has a host."""
    return domains.service_origin(settings, name) + service_prefix(settings, name)


def routespec(settings: HubSettings, name: str) -> str:
    """Where the proxy finds a service of this name: the path, after the host where each has one."""
    return domains.service_route(settings, name, f"{settings.base_url}services/{name}/")


def service_route(settings: HubSettings, service: Service) -> Route | None:
    """Its route; None for one that serves nobody. The path of its URL is left out: the prefix takes its place."""
    if not service.url:
        return None
    parts = urlsplit(service.url)
    return Route(
        routespec(settings, service.name),
        f"{parts.scheme}://{parts.netloc}",
        {"jupyterhub": True, "service": service.name},
    )


def redirect_uri(settings: HubSettings, service: Service) -> str:
    """Where people come back after they signed in."""
    return service.oauth_redirect_uri or f"{service_url(settings, service.name)}oauth_callback"


def service_model(
    service: Service, identity: Identity, settings: HubSettings, *, role_names: Sequence[str] = ()
) -> dict[str, Any]:
    """JupyterHub's model with the keys that the caller may see."""

    def may(scope: str) -> bool:
        return identity.allows(scope, service=service.name)

    model: dict[str, Any] = {"kind": "service", "name": service.name, "admin": service.admin}
    if may("read:roles:services"):
        model["roles"] = sorted(
            {*role_names, *settings.rules.of_service(service.name), *(["admin"] if service.admin else [])}
        )
    if may("read:services"):
        model |= {
            "url": service.url,
            "prefix": service_prefix(settings, service.name) if service.url else "",
            "command": service.command,
            "pid": service.pid,
            "info": service.info,
            "display": service.display,
        }
    return model
