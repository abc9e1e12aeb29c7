"""The environment of a managed service: JupyterHub's names, and of the hub's own only what no secret hides in. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from himalia_hub import domains
from himalia_hub.servers.view import full_url
from himalia_hub.services.models import Service
from himalia_hub.services.settings import ServiceSection
from himalia_hub.services.view import service_prefix, service_url
from himalia_hub.settings import HubSettings

KEPT = (
    "PATH", "PYTHONPATH", "CONDA_ROOT", "CONDA_DEFAULT_ENV", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ", "HOME", "USER",
    "LOGNAME", "SHELL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


def service_environment(
    section: ServiceSection,
    row: Service,
    token: str,
    settings: HubSettings,
    hub_url: str,
    own: Mapping[str, str],
) -> dict[str, str]:
    """Everything the process gets. `own` is the hub's environment; what the section says wins over it."""
    api_url = f"{settings.hub.api_url.rstrip('/') or hub_url}{settings.hub_prefix}api"
    prefix, public = service_prefix(settings, row.name), settings.public_url.rstrip("/")
    access = json.dumps(["access:services", f"access:services!service={row.name}"])
    env = {key: own[key] for key in KEPT if key in own} | section.environment
    env |= {
        "JUPYTERHUB_SERVICE_NAME": row.name,
        "JUPYTERHUB_USER": "",  # nobody's: JupyterHub's single-user server is run as a service too, and reads both
        "JUPYTERHUB_SERVER_NAME": "",
        "JUPYTERHUB_API_TOKEN": token,
        "JPY_API_TOKEN": token,
        "JUPYTERHUB_API_URL": api_url,
        "JUPYTERHUB_BASE_URL": settings.base_url,
        "JUPYTERHUB_HOST": settings.subdomain_host,
        "JUPYTERHUB_PUBLIC_URL": (full_url(settings, service_url(settings, row.name)) or "")
        if row.url
        else "",
        "JUPYTERHUB_PUBLIC_HUB_URL": public + settings.hub_prefix if public else "",
        "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED": "1" if domains.cookies_keep_to_their_host(settings) else "0",
    }
    if row.oauth_client_id:
        env |= {
            "JUPYTERHUB_CLIENT_ID": row.oauth_client_id,
            # As in JupyterHub, also where `oauth_redirect_uri` says an address: programs put their host before it.
            "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{service_url(settings, row.name)}oauth_callback",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": access,
            "JUPYTERHUB_OAUTH_SCOPES": access,
            "JUPYTERHUB_OAUTH_CLIENT_ALLOWED_SCOPES": json.dumps(row.oauth_client_allowed_scopes),
        }
    if row.url:
        env |= {"JUPYTERHUB_SERVICE_URL": row.url, "JUPYTERHUB_SERVICE_PREFIX": prefix}
    return env
