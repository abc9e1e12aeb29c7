"""[spawner.docker] of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from himalia_spawner import environ


class DockerSettings(BaseModel, extra="forbid", frozen=True):
    """[spawner.docker] — single-user servers as containers of one Docker engine."""

    url: str = Field(
        default="",
        description="the engine's API, such as `unix:///run/docker.sock`; empty: `DOCKER_HOST`, else its usual socket",
    )
    image: str = Field(default="himalia-singleuser:latest", description="image where a profile names none")
    allowed_images: tuple[str, ...] = Field(
        default=(),
        description="patterns such as `registry.example.org/team/*`: an image that fits none is refused; "
        "empty: every image that the configuration names",
    )
    pull: Literal["missing", "always", "never"] = Field(
        default="missing", description="when to pull an image: when it is not there, at every start, or never"
    )
    transport: Literal["unix", "port", "network"] = Field(
        default="unix",
        description="how the proxy reaches a server: by a unix socket in a folder that is mounted into its "
        "container (our own server only), by a port published on 127.0.0.1, or at the container's own address",
    )
    port: int = Field(
        default=8888, ge=1, le=65535, description="port in the container, where the transport is not unix"
    )
    network: str = Field(
        default="himalia",
        description="network of the containers; made when it is missing, with no traffic between containers",
    )
    hub_url: str = Field(
        default="",
        description="how containers reach the hub where they have no unix socket to it, such as "
        "`http://172.17.0.1:8081`; needed for images without our server",
    )
    user: str = Field(
        default="1000:100", pattern=r"^\d+(:\d+)?$", description="user and group id of the server, never 0"
    )
    home: str = Field(default="/home/jovyan", pattern=r"^/", description="home in the container")
    volumes: dict[str, str] = Field(
        default_factory=lambda: {"himalia-{user}": "{home}"},
        description="volume (or absolute folder of this machine) to place in the container; `{user}` is a name that "
        "is safe and unlike any other user's, `{server}` the same of one server, `{home}` the home; "
        "`:ro` at the end of the place makes it read-only",
    )
    removed_volumes: Literal["keep", "delete"] = Field(
        default="keep",
        description="what becomes of a person's volumes when they are deleted",
    )
    read_only: bool = Field(
        default=True, description="the image's own files cannot be changed; /tmp and the volumes can"
    )
    tmp_size: str = Field(default="1G", description="size of /tmp in the container, in memory")
    environment: dict[str, str] = Field(
        default_factory=dict, description="environment variables for every server; they win over all others"
    )
    stop_timeout_s: int = Field(default=10, ge=1, description="time given after SIGTERM before SIGKILL")
    request_timeout_s: float = Field(default=30, gt=0, description="time the engine is given for one answer")
    concurrency: int = Field(default=8, ge=1, le=64, description="requests to the engine at one time")
    resync_s: float = Field(
        default=5, gt=0, description="how often all containers are listed, to find what no event told"
    )
    runtime_dir: Path | None = Field(
        default=None,
        description="folders of the servers' sockets; a short path; absent: as for the process spawner",
    )
    log_tail_lines: int = Field(
        default=20, ge=0, description="last lines of its log shown with a server that failed"
    )

    @field_validator("user")
    @classmethod
    def _not_root(cls, value: str) -> str:
        if int(value.split(":", maxsplit=1)[0]) == 0:
            raise ValueError(f"{value!r} is root; servers run as an ordinary user, such as '1000:100'")
        return value

    @field_validator("environment")
    @classmethod
    def _plain(cls, value: dict[str, str]) -> dict[str, str]:
        return environ.configurable(value)

    @field_validator("volumes")
    @classmethod
    def _known_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name, place in value.items():
            for text in (name, place):
                try:
                    text.format(user="u", server="s", home="/h")
                except (KeyError, ValueError, IndexError):
                    raise ValueError(f"{text!r}: only {{user}}, {{server}} and {{home}} are known") from None
            if not place.startswith(("/", "{home}")):
                raise ValueError(f"{place!r} is no place in a container; begin with '/' or '{{home}}'")
        return value
