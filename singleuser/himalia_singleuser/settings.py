"""What the server was told at its start: command line, then the JUPYTERHUB_* environment.

A plain dataclass and argparse, because this process exists a thousand times and every import counts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HubSettings:
    """How to reach and obey the hub that started this server (JUPYTERHUB_* contract)."""

    api_url: str
    api_token: str
    base_url: str
    client_id: str
    user: str
    server_name: str = ""
    host: str = ""
    public_url: str = ""
    public_hub_url: str = ""
    activity_url: str = ""
    oauth_callback_url: str = ""
    access_scopes: tuple[str, ...] = ()
    cookie_host_prefix: bool = False
    keep_alive: bool = False
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a feature may want to know. `base_url` begins and ends with a slash."""

    root_dir: Path
    base_url: str = "/"
    default_url: str = "/lab"
    token: str = ""
    ip: str = "127.0.0.1"
    port: int = 8888
    socket: str = ""
    listen_fd: int | None = None
    lock_fd: int | None = None
    hub: HubSettings | None = None
    runtime_dir: Path = Path("/tmp")
    data_dir: Path = Path("~/.local/share/jupyter")
    config_dir: Path = Path("~/.jupyter")
    allow_hidden: bool = False
    delete_to_trash: bool = False
    always_delete_dir: bool = False
    follow_symlinks: bool = False
    allow_origin: str = ""
    terminals: bool = True
    terminal_shell: tuple[str, ...] = ()
    stop_grace_s: float = 5.0
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
