"""[spawner.docker] of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from himalia_spawner.containers.settings import ContainerSettings, placed
from himalia_spawner.limits import guest_range


class DockerSettings(ContainerSettings):
    """[spawner.docker] — single-user servers as containers of one Docker engine."""

    table: ClassVar[str] = "spawner.docker"

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
    guest_uids: tuple[int, int] = Field(
        default=(300_000, 365_535),
        description="first and last of the user ids that throw-away sessions get, one each, when the hub is root",
    )
    resync_s: float = Field(
        default=5, gt=0, description="how often all containers are listed, to find what no event told"
    )
    runtime_dir: Path | None = Field(
        default=None,
        description="folders of the servers' sockets; a short path; absent: as for the process spawner",
    )

    @field_validator("guest_uids")
    @classmethod
    def _range(cls, value: tuple[int, int]) -> tuple[int, int]:
        return guest_range(value)

    @field_validator("volumes")
    @classmethod
    def _known_names(cls, value: dict[str, str]) -> dict[str, str]:
        return placed(value)
