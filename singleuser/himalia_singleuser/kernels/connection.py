"""Where a kernel's five sockets are, and the file that tells it so."""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
# sun_path holds 108 bytes with its end; a kernel's socket adds a slash, eight digits, a dash and one more.
LONGEST_FOLDER = 107 - 16


@dataclass(frozen=True, slots=True)
class Connection:
    """Addresses and key of one kernel. With ipc, `ip` is a path prefix and ports are its suffixes."""

    transport: Literal["ipc", "tcp"]
    ip: str
    ports: dict[str, int]
    key: bytes

    def endpoint(self, channel: str) -> str:
        """The address of one channel, as ZMQ writes it."""
        between = "-" if self.transport == "ipc" else ":"
        return f"{self.transport}://{self.ip}{between}{self.ports[channel]}"

    def write(self, path: Path, *, kernel_name: str, session_name: str = "") -> None:
        """The connection file, readable by its owner only: it holds the key."""
        told = {
            "transport": self.transport,
            "ip": self.ip,
            **{f"{channel}_port": port for channel, port in self.ports.items()},
            "key": self.key.decode(),
            "signature_scheme": "hmac-sha256",
            "kernel_name": kernel_name,
            "jupyter_session": session_name,
        }
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(told, file)

    def remove_sockets(self) -> None:
        """Delete what a killed kernel left behind. Not being there is success."""
        if self.transport == "ipc":
            for port in self.ports.values():
                Path(f"{self.ip}-{port}").unlink(missing_ok=True)


def private_folder(wanted: Path) -> Path:
    """A new folder only its owner can enter, under `wanted`, or /tmp when socket paths would not fit."""
    base = wanted.absolute()
    if len(os.fsencode(base)) + len("/k-xxxxxxxx") > LONGEST_FOLDER:
        base = Path("/tmp")
    base.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="k-", dir=base))


def new_connection(transport: Literal["ipc", "tcp"], folder: Path) -> Connection:
    """Fresh addresses and a fresh key."""
    key = secrets.token_hex(32).encode()
    if transport == "ipc":
        ports = {channel: number for number, channel in enumerate(CHANNELS, start=1)}
        return Connection("ipc", str(folder / secrets.token_hex(4)), ports, key)
    return Connection("tcp", "127.0.0.1", _free_ports(), key)


def _free_ports() -> dict[str, int]:
    # All are held at once, so that they differ; between closing them and the kernel's bind another
    # process may take one. That race is why ipc is the default.
    with ExitStack() as held:
        ports = {}
        for channel in CHANNELS:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports[channel] = probe.getsockname()[1]
        return ports
