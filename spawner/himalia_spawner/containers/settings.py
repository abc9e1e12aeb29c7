"""Settings that every spawner of containers has."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, Field, field_validator

from himalia_spawner import environ
from himalia_spawner.limits import memory_bytes


class ContainerSettings(BaseModel, extra="forbid", frozen=True):
    """What is asked of an engine for each server, whoever places it."""

    table: ClassVar[str] = "spawner"
    """The name of its table, for sentences."""

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
    user: str = Field(
        default="1000:100", pattern=r"^\d+(:\d+)?$", description="user and group id of the server, never 0"
    )
    home: str = Field(default="/home/jovyan", pattern=r"^/", description="home in the container")
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
    log_tail_lines: int = Field(
        default=20, ge=0, description="last lines of its log shown with a server that failed"
    )

    @field_validator("user")
    @classmethod
    def _not_root(cls, value: str) -> str:
        if int(value.split(":", maxsplit=1)[0]) == 0:
            raise ValueError(f"{value!r} is root; servers run as an ordinary user, such as '1000:100'")
        return value

    @field_validator("tmp_size")
    @classmethod
    def _an_amount(cls, value: str) -> str:
        memory_bytes(value)
        return value

    @field_validator("environment")
    @classmethod
    def _plain(cls, value: dict[str, str]) -> dict[str, str]:
        return environ.configurable(value)


def placed(value: dict[str, str]) -> dict[str, str]:
    """`value` itself when it says what to mount where, as text with known words; ValueError says what is wrong."""
    for name, place in value.items():
        for text in (name, place):
            try:
                text.format(user="u", server="s", home="/h")
            except (KeyError, ValueError, IndexError):
                raise ValueError(f"{text!r}: only {{user}}, {{server}} and {{home}} are known") from None
        if not place.startswith(("/", "{home}")):
            raise ValueError(f"{place!r} is no place in a container; begin with '/' or '{{home}}'")
    return value
