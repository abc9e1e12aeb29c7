"""What is asked of an engine for any server: labels, environment, command, fingerprint. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from himalia_spawner import environ
from himalia_spawner.base import ServerSpec
from himalia_spawner.containers.settings import ContainerSettings

HUB, NAME, INCARNATION, SPEC, TRANSPORT, USER = (
    f"himalia.{word}" for word in ("hub", "name", "incarnation", "spec", "transport", "user")
)
"""Labels of everything we make. Nothing without our HUB label is ever touched."""
COMMAND_LABEL = "himalia.singleuser"
"""Label of an image: the command of our own server in it, as a JSON list."""
OFFICIAL = ("jupyterhub-singleuser",)
REPO2DOCKER_LABEL = "repo2docker.version"
"""Label of images whose entrypoint sets up a login shell's environment, runs `start`, and then what it is given."""
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The engine's own, for images that set none."""
CANNOT_RUN = (126, 127)
"""How a shell, and the engine's init, end when a command cannot be run (POSIX, Shell Command Language 2.8.2)."""

_HUB_URLS = ("JUPYTERHUB_API_URL", "JUPYTERHUB_ACTIVITY_URL")


@dataclass(frozen=True, slots=True)
class Image:
    """What is known of an image. `command` is our own server's, empty where it has none; `path` its PATH.

    `digest` is `repository@sha256:…`, by which another machine can pull exactly this one; empty for an image that
    was built here and never pushed. `entrypoint` is what runs its commands; empty where they run by themselves.
    """

    id: str
    command: tuple[str, ...]
    path: str = USUAL_PATH
    digest: str = ""
    entrypoint: tuple[str, ...] = ()


def environment(
    spec: ServerSpec, settings: ContainerSettings, *, base: str, hub_url: str, more: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment but for what the image itself sets; the hub's own never enters it.

    The server listens at `base` and reaches the hub at `hub_url`; empty leaves what the hub says of itself.
    """
    backend = {
        environ.SERVICE_URL: base + spec.prefix, "HOME": settings.home, "USER": "jovyan", "SHELL": "/bin/bash",
        **more,
    }  # fmt: skip
    given = dict(spec.env)
    if hub_url:
        given |= {name: _moved(given[name], hub_url) for name in _HUB_URLS if name in given}
    return given | backend | settings.environment


def _moved(url: str, base: str) -> str:
    """The same path at another address."""
    there, path = urlsplit(base), urlsplit(url)
    return urlunsplit((there.scheme, there.netloc, path.path, path.query, ""))


def command(spec: ServerSpec, image: Image) -> list[str]:
    """What to run: the spec's own command, else our server's, else JupyterHub's; by the image's entrypoint, if any."""
    return [*image.entrypoint, *(spec.command or image.command or OFFICIAL), *spec.args]


def fingerprint(image: Image, parts: Mapping[str, Any]) -> str:
    """Changes with anything that would make another container, secrets included, and shows none of it."""
    text = json.dumps([image.id, parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
