"""From a row to what people and clients see: JupyterHub's server model, words, URLs. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from himalia_hub import domains
from himalia_hub.clock import iso
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.settings import HubSettings

SAFE = "_.-~@"
"""What JupyterHub leaves unquoted in generated URLs beside letters and digits."""


def quoted(name: str) -> str:
    """A name as one path component."""
    return quote(name, safe=SAFE)


def server_prefix(settings: HubSettings, username: str, name: str) -> str:
    """Path below which a server answers, with a slash at both ends; quoted."""
    return f"{settings.base_url}user/{quoted(username)}/" + (f"{quoted(name)}/" if name else "")


def routespec(settings: HubSettings, username: str, name: str) -> str:
    """The same path unquoted, as proxies keep it; after the host, where each person has one."""
    path = f"{settings.base_url}user/{username}/" + (f"{name}/" if name else "")
    return domains.person_route(settings, username, path)


def server_url(settings: HubSettings, username: str, name: str) -> str:
    """Where a browser finds the server: the path, or the whole address where each person has a host."""
    return domains.person_origin(settings, username) + server_prefix(settings, username, name)


def full_url(settings: HubSettings, url: str) -> str | None:
    """A path, or an address, as an address; None where the hub does not know its own."""
    public = settings.public_url.rstrip("/")
    return (url if "://" in url else public + url) if public else None


def api_path(settings: HubSettings, username: str, name: str) -> str:
    """Path of the server in the REST API, without a slash at its end."""
    tail = f"servers/{quoted(name)}" if name else "server"
    return f"{settings.hub_prefix}api/users/{quoted(username)}/{tail}"


def pending(server: Server) -> str | None:
    """JupyterHub's `pending`: spawn, stop, check or null. Derived, never stored."""
    if server.desired is Desired.RUNNING:
        if server.unknown_since is not None:
            return "check"
        fresh = server.generation > server.acted_generation
        return None if server.phase is Phase.READY and not fresh else "spawn"
    if server.phase in (Phase.STARTING, Phase.READY, Phase.STOPPING):
        return "stop"
    return None


def ready(server: Server) -> bool:
    """Routed and answering when last seen, with nothing pending."""
    return server.phase is Phase.READY and pending(server) is None


def stopped(server: Server) -> bool:
    """At rest and not there."""
    return server.desired is Desired.STOPPED and server.phase in (Phase.STOPPED, Phase.FAILED)


def phase_word(server: Server) -> str:
    """One of stopped, starting, ready, stopping, failed, unknown: for pages."""
    match pending(server):
        case "spawn":
            return "starting"
        case "stop":
            return "stopping"
        case "check":
            return "unknown"
        case _:
            return server.phase.value


def server_model(
    server: Server, username: str, settings: HubSettings, *, state_too: bool = False
) -> dict[str, Any]:
    """JupyterHub's Server model; with `state`, what finds the server again behind the spawner, when asked."""
    public = settings.public_url.rstrip("/")
    url = server_url(settings, username, server.name)
    progress = api_path(settings, username, server.name) + "/progress"
    kept = {"backend_name": server.backend_name, "incarnation": server.incarnation, "node": server.node}
    state = {"state": {} if stopped(server) else kept} if state_too else {}
    return state | {
        "name": server.name,
        "display_name": server.display_name or server.name,
        "full_name": f"{username}/{server.name}",
        "last_activity": iso(server.last_activity),
        "started": iso(server.started),
        "pending": pending(server),
        "ready": ready(server),
        "stopped": stopped(server),
        "url": url,
        "user_options": server.user_options,
        "progress_url": progress,
        "full_url": full_url(settings, url),
        "full_progress_url": public + progress if public else None,
    }
