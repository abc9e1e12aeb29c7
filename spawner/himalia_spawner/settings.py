"""[spawner.process] of the configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, field_validator

from himalia_spawner import environ


class ProcessSettings(BaseModel, extra="forbid", frozen=True):
    """[spawner.process] — single-user servers as processes of this machine."""

    system_users: bool = Field(
        default=False,
        description="run each server as the system account of the user's name (the hub must be root); "
        "otherwise all servers run as the hub's own account",
    )
    min_uid: int = Field(
        default=1000, ge=1, description="system accounts with a smaller id are never used to run a server"
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
        if faults := environ.environment_faults(value):
            raise ValueError("; ".join(faults))
        if taken := environ.reserved_names(value):
            raise ValueError(f"{', '.join(taken)}: set by the hub itself; remove it")
        return value

    @field_validator("homes_dir", "runtime_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError(f"{str(value)!r} is relative; write the whole path, beginning with '/'")
        return value
