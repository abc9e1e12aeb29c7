"""[spawner.swarm] of the configuration."""

from __future__ import annotations

import re
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from himalia_spawner.containers.settings import ContainerSettings, placed
from himalia_spawner.limits import cpu_count, memory_bytes

_CONSTRAINT = re.compile(r"\s*(node|engine)\.[\w.-]+\s*(==|!=)\s*\S.*")
_PINS = re.compile(r"\s*node\.(id|hostname)\s*==.*")


class SwarmSettings(ContainerSettings):
    """[spawner.swarm] — single-user servers as services of a Docker Swarm, on many machines."""

    table: ClassVar[str] = "spawner.swarm"

    hub_url: str = Field(
        default="",
        description="how servers on other machines reach the hub, such as `http://10.0.0.1:8081`; "
        "empty: as `hub.api_url` says",
    )
    transport: Literal["port", "network"] = Field(
        default="port",
        description="how the proxy reaches a server: at a port published on the server's own machine, or by its name "
        "in an overlay network, of which hub and proxy must be members",
    )
    port: int = Field(default=8888, ge=1, le=65535, description="port in the container")
    network: str = Field(
        default="",
        description="overlay network that servers join; it must be there; needed where the transport is network",
    )
    address_label: str = Field(
        default="himalia.address",
        description="label of a node with the address at which the proxy reaches its ports; "
        "nodes without it: the address that the swarm knows",
    )
    volumes: dict[str, str] = Field(
        default_factory=dict,
        validate_default=True,
        description="folder that every machine has, or volume, to place in the container: "
        '`"/srv/homes/{user}" = "{home}"`; words as for Docker; something must be placed at `{home}`',
    )
    volume_driver: str = Field(
        default="", description="driver that makes the volumes on each machine; empty: the engine's `local`"
    )
    volume_options: dict[str, str] = Field(
        default_factory=dict,
        description="options of the driver; `{user}` and `{server}` are known here too; with `local`, a `type` and "
        "`device` on the network make a volume shared",
    )
    make_folders: bool = Field(
        default=True,
        description="make a person's missing folder, for their user id, where this machine has the folder above it",
    )
    constraints: tuple[str, ...] = Field(
        default=(), description="where servers may run, such as `node.labels.notebooks == yes`"
    )
    spread_over: tuple[str, ...] = Field(
        default=(), description="node labels over whose values servers are spread, such as `node.labels.rack`"
    )
    reserved_memory: str = Field(
        default="",
        description="memory kept free for each server when a machine is chosen, at most its limit; "
        "empty: nothing is reserved, and a full machine may be chosen",
    )
    reserved_cpus: str = Field(
        default="", description="the same in CPUs; a server beyond what all machines have waits for room"
    )
    placement_timeout_s: float = Field(
        default=20, ge=0, description="how long a server may wait for a machine that fits it"
    )
    node_lost_s: float = Field(
        default=30,
        ge=0,
        description="so long after the swarm called a machine down its servers count as lost, and may start elsewhere",
    )
    resync_s: float = Field(
        default=1, gt=0, description="how often all tasks are listed, to tell what changed"
    )

    @field_validator("volumes")
    @classmethod
    def _known_names(cls, value: dict[str, str]) -> dict[str, str]:
        placed(value)
        if not any(place.partition(":")[0] == "{home}" for place in value.values()):
            raise ValueError(
                "no home: name storage that every machine has, "
                """such as { "/srv/homes/{user}" = "{home}" } for an NFS mount at /srv/homes"""
            )
        return value

    @field_validator("volume_options")
    @classmethod
    def _known_words(cls, value: dict[str, str]) -> dict[str, str]:
        placed(dict.fromkeys(value.values(), "/"))
        return value

    @field_validator("constraints")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not _CONSTRAINT.fullmatch(text):
                raise ValueError(f"{text!r} is no constraint; write such as 'node.labels.notebooks == yes'")
        return value

    @field_validator("reserved_memory")
    @classmethod
    def _memory(cls, value: str) -> str:
        if value:
            memory_bytes(value)
        return value

    @field_validator("reserved_cpus")
    @classmethod
    def _cpus(cls, value: str) -> str:
        if value:
            cpu_count(value)
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.transport == "network" and not self.network:
            raise ValueError("transport 'network' needs spawner.swarm.network, an overlay network's name")
        local = [name for name in self.volumes if not name.startswith("/")]
        if local and not self.has_shared_volumes and not self.is_pinned:
            raise ValueError(
                f"the volume {local[0]!r} would be local to each machine: a server that starts on another one would "
                "find its home empty. Name a folder that every machine has, or a volume_driver (or volume_options of "
                "the local one) for shared storage, or pin all servers to one machine with a constraint "
                "'node.hostname == NAME'"
            )
        return self

    @property
    def has_shared_volumes(self) -> bool:
        """Whether volumes hold the same on every machine, as far as their driver's options tell."""
        return self.volume_driver not in ("", "local") or {"type", "device"} <= self.volume_options.keys()

    @property
    def is_pinned(self) -> bool:
        """Whether the constraints leave one machine only."""
        return any(_PINS.fullmatch(text) for text in self.constraints)
