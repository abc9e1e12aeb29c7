"""From a row to what a spawner is asked to start: command, arguments, and the environment contract.

The environment is JupyterHub's (its docs: "The environment of a single-user server"), so that official servers
run unchanged. Pure but for the derived token.
"""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import quote

from himalia_hub import domains
from himalia_hub.profiles.choice import Choice
from himalia_hub.secrets import Secrets
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import full_url, quoted, server_prefix, server_url
from himalia_hub.settings import HubSettings
from himalia_spawner.base import ServerRef, ServerSpec

BASE_CLIENT_SCOPES: list[str] = []


def incarnation_of(server: Server) -> str:
    """The name of the life that the present wish asks for."""
    return f"{server.id}.{server.generation}"


def client_id(username: str, name: str) -> str:
    """JupyterHub's OAuth client id of a server; slashes stay as they are."""
    return f"jupyterhub-user-{quote(username)}" + (f"-{quote(name)}" if name else "")


def with_limits_told(spec: ServerSpec) -> ServerSpec:
    """The same with its limits in the environment, under the names that JupyterHub's spawners use."""
    told = {"MEM_LIMIT": spec.limits.memory, "CPU_LIMIT": spec.limits.cpus}
    env = {name: f"{value:g}" if name == "CPU_LIMIT" else str(value) for name, value in told.items() if value}
    return replace(spec, env={**env, **spec.env})


def build_spec(
    server: Server,
    username: str,
    choice: Choice,
    *,
    settings: HubSettings,
    secrets: Secrets,
    hub_url: str,
    kept_as: str = "",
) -> ServerSpec:
    """What to start for this row. `hub_url` is the hub's own address, for want of `hub.api_url`."""
    prefix = server_prefix(settings, username, server.name)
    api_url = f"{settings.hub.api_url.rstrip('/') or hub_url}{settings.hub_prefix}api"
    url, public = server_url(settings, username, server.name), settings.public_url.rstrip("/")
    token = secrets.server_token(server.id, server.incarnation)
    access = [f"access:servers!server={username}/{server.name}", f"access:servers!user={username}"]
    env = {
        "JUPYTERHUB_API_TOKEN": token,
        "JPY_API_TOKEN": token,
        "JUPYTERHUB_CLIENT_ID": client_id(username, server.name),
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{url}oauth_callback",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps(access),
        "JUPYTERHUB_OAUTH_SCOPES": json.dumps(access),
        "JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES": json.dumps(BASE_CLIENT_SCOPES),
        "JUPYTERHUB_USER": username,
        "JUPYTERHUB_SERVER_NAME": server.name,
        "JUPYTERHUB_API_URL": api_url,
        "JUPYTERHUB_ACTIVITY_URL": f"{api_url}/users/{quoted(username)}/activity",
        "JUPYTERHUB_BASE_URL": settings.base_url,
        "JUPYTERHUB_SERVICE_PREFIX": prefix,
        "JUPYTERHUB_HOST": settings.subdomain_host,
        "JUPYTERHUB_PUBLIC_URL": full_url(settings, url) or "",
        "JUPYTERHUB_PUBLIC_HUB_URL": public + settings.hub_prefix if public else "",
        "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED": "1" if domains.cookies_keep_to_their_host(settings) else "0",
        "JUPYTERHUB_ACTIVITY_INTERVAL": f"{settings.cull.report_every_s:g}",
        "HIMALIA_BUSY_KERNELS_COUNT": "1" if settings.cull.busy_kernels_count else "0",
    }
    if settings.spawner.notebook_dir:
        env["JUPYTERHUB_ROOT_DIR"] = settings.spawner.notebook_dir
    if settings.spawner.default_url:
        env["JUPYTERHUB_DEFAULT_URL"] = settings.spawner.default_url
    env |= choice.environment
    if server.safe_mode:
        env |= {"HIMALIA_SAFE_MODE": "1", "JUPYTER_NO_CONFIG": "1"}  # ours; what official servers know of it
    return ServerSpec(
        ref=ServerRef(server.backend_name, server.incarnation),
        username=username,
        server_name=server.name,
        prefix=prefix,
        env=env,
        command=choice.command,
        args=choice.args,
        image=choice.image,
        limits=choice.limits,
        kept_as=kept_as,
    )
