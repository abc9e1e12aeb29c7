"""What the hub is, and that it lives: version, parts, health."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version

from aiohttp import web

from himalia_hub.keys import SPAWNER
from himalia_hub.rbac.guard import public, scoped

JUPYTERHUB_VERSION = "6.1.1"
"""The release of JupyterHub whose API this is; its single-user server compares it with its own."""

VERSION_HEADERS = {"X-JupyterHub-Version": JUPYTERHUB_VERSION}


def routes(prefix: str) -> list[web.RouteDef]:
    """Handler paths below the hub's prefix."""
    return [
        web.get(prefix + "api", get_version),
        web.get(prefix + "api/", get_version),
        web.get(prefix + "api/info", get_info),
        web.get(prefix + "api/health", health),
        web.get(prefix + "health", health),
    ]


@public
async def get_version(request: web.Request) -> web.Response:
    """200 `{version}`, for everybody, from everywhere: clients look for it before anything else."""
    return web.json_response({"version": JUPYTERHUB_VERSION}, headers={"Access-Control-Allow-Origin": "*"})


@scoped("read:hub")
async def get_info(request: web.Request) -> web.Response:
    """200 what the hub is made of."""
    himalia = version("himalia")
    spawner = type(request.app[SPAWNER])
    return web.json_response(
        {
            "version": JUPYTERHUB_VERSION,
            "himalia": himalia,
            "python": platform.python_version(),
            "sys_executable": sys.executable,
            "spawner": {"class": f"{spawner.__module__}.{spawner.__qualname__}", "version": himalia},
            "authenticator": {"class": "himalia_hub.auth.door.Door", "version": himalia},
        }
    )


@public
async def health(request: web.Request) -> web.Response:
    """200, empty: this process answers."""
    return web.Response(content_type="text/html")
