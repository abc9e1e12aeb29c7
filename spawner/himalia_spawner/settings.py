"""[spawner.process] of the configuration."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from himalia_spawner import environ
from himalia_spawner.limits import guest_range


class ProcessSettings(BaseModel, extra="forbid", frozen=True):
    """[spawner.process] — single-user servers as processes of this machine."""

    isolation: Literal["fork", "exec"] = Field(
        default="fork",
        description="`fork`: servers come from a warm parent, in milliseconds and sharing its memory; `exec`: each "
        "is a fresh interpreter with an address layout and hash seed of its own",
    )
    preload: tuple[str, ...] = Field(
        default=("himalia_singleuser.warm",),
        description="modules that the warm parent imports, once for all servers; one that starts a thread is refused",
    )
    unenforced_limits: Literal["say", "refuse"] = Field(
        default="say",
        description="what to do with a server whose limits can't be enforced on this machine: start it and say so, "
        "or refuse it",
    )
    cgroup_parent: str = Field(
        default="",
        description="control group below which limited servers get theirs, such as `/himalia`; "
        "absent means the hub's own",
    )
    rlimits: dict[str, int] = Field(
        default_factory=lambda: {"core": 0, "nofile": 4096},
        description="soft limits of each process by their names in setrlimit(2), lower case without RLIMIT_; "
        "never above the hub's hard limits",
    )
    system_users: bool = Field(
        default=False,
        description="run each server as the system account of the user's name (the hub must be root); "
        "otherwise all servers run as the hub's own account",
    )
    min_uid: int = Field(
        default=1000, ge=1, description="system accounts with a smaller id are never used to run a server"
    )
    guest_uids: tuple[int, int] = Field(
        default=(300_000, 365_535),
        description="first and last of the user ids that throw-away sessions get, one each, when the hub is root; "
        "no account of the system may have one of them",
    )
    homes_dir: Path | None = Field(
        default=None,
        description="holds one folder per user, their home, unless system_users is set; "
        "absent means `homes` in the data folder",
    )
    runtime_dir: Path | None = Field(
        default=None,
        description="sockets, locks and records of running servers; a short path on a local file system that "
        "is empty after a reboot; absent means a folder under /run for root, "
        "else under $XDG_RUNTIME_DIR or /tmp",
    )
    umask: str = Field(
        default="077", pattern=r"^0?[0-7]{3}$", description="octal mask of permissions new files don't get"
    )
    env_keep: tuple[str, ...] = Field(
        default=environ.ENV_KEEP, description="names of environment variables passed on from the hub's own"
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="environment variables for every server; they win over all others"
    )
    interrupt_timeout_s: float = Field(default=10, ge=0, description="time given to stop after SIGINT")
    term_timeout_s: float = Field(default=5, ge=0, description="further time given after SIGTERM")
    kill_timeout_s: float = Field(
        default=5, gt=0, description="further time after SIGKILL, before the stop is reported as failed"
    )
    keep_kernels_s: float = Field(
        default=3600,
        ge=0,
        description="how long the kernels of a server that crashed wait for its next start; a stop ends them at once; "
        "0: they end with it",
    )
    log_max_bytes: int = Field(
        default=10_000_000,
        ge=10_000,
        description="size at which a server's log is cut; its newer half is kept",
    )
    log_tail_lines: int = Field(
        default=20, ge=0, description="last lines of its log shown with a server that failed"
    )

    @field_validator("environment")
    @classmethod
    def _plain(cls, value: dict[str, str]) -> dict[str, str]:
        return environ.configurable(value)

    @field_validator("rlimits")
    @classmethod
    def _known(cls, value: dict[str, int]) -> dict[str, int]:
        known = [name[7:].lower() for name in dir(resource) if name.startswith("RLIMIT_")]
        if unknown := sorted(set(value) - set(known)):
            raise ValueError(f"{', '.join(unknown)}: unknown; this system has {', '.join(known)}")
        if negative := sorted(name for name, number in value.items() if number < 0):
            raise ValueError(f"{', '.join(negative)}: must not be negative")
        return value

    @field_validator("preload")
    @classmethod
    def _modules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if odd := [name for name in value if not all(part.isidentifier() for part in name.split("."))]:
            raise ValueError(f"{', '.join(map(repr, odd))}: not the name of a module")
        return value

    @field_validator("guest_uids")
    @classmethod
    def _range(cls, value: tuple[int, int]) -> tuple[int, int]:
        return guest_range(value)

    @field_validator("homes_dir", "runtime_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError(f"{str(value)!r} is relative; write the whole path, beginning with '/'")
        return value

    @property
    def guest_range(self) -> range:
        """The user ids for throw-away sessions; none where this process may not switch accounts."""
        low, high = self.guest_uids
        return range(low, high + 1) if os.geteuid() == 0 else range(0)
