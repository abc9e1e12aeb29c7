"""What the machine gives: the data folder, room on the disk, open files, what servers are made of."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from himalia_hub.health.finding import Finding, advice, ok, problem
from himalia_hub.languages import counted
from himalia_hub.secrets import SECRET_BYTES
from himalia_hub.settings import HubSettings

LITTLE_BYTES, LITTLE_PART = 1 << 30, 0.05
LITTLE_INODES_PART = 0.05
FEW_FILES = 4096
"""A hub needs about four descriptors for each person with an open page, and one for each server."""


def folder(settings: HubSettings) -> Iterator[Finding]:
    """Its rights, and the room that is left in it."""
    data = settings.data_dir
    if not data.is_dir():
        yield advice(
            "data folder", f"{data} is not there yet", "himalia up makes it; or name another with --data"
        )
        return
    if not os.access(data, os.W_OK | os.X_OK):
        yield problem("data folder", f"{data} is not writable for this account", f"chown -R $(id -un) {data}")
        return
    if (mode := data.stat().st_mode & 0o777) & 0o077:
        yield problem(
            "data folder",
            f"others may look into {data} (mode {mode:o}); it holds secrets",
            f"chmod 700 {data}",
        )
    else:
        yield ok("data folder", f"{data} is its owner's alone")
    yield _room(data)


def _room(data: Path) -> Finding:
    usage, files = shutil.disk_usage(data), os.statvfs(data)
    free = f"{usage.free / 2**30:.1f} GB free where {data} lies"
    if usage.free < LITTLE_BYTES or usage.free < LITTLE_PART * usage.total:
        return problem("disk", free, "remove what is not needed, or move the data folder to a larger disk")
    if files.f_files and files.f_favail < LITTLE_INODES_PART * files.f_files:
        return problem(
            "disk",
            f"{files.f_favail} of {files.f_files} inodes are left where {data} lies",
            "remove many small files",
        )
    return ok("disk", free)


def secret(settings: HubSettings) -> Iterator[Finding]:
    """The hub's own secret: there, whole, and nobody else's."""
    path = settings.hub.secret_file or settings.data_dir / "secret"
    try:
        size, mode = path.stat().st_size, path.stat().st_mode & 0o077
    except FileNotFoundError:
        yield ok("secret", "none yet; it is made at the first start")
    except OSError as error:
        yield problem("secret", f"{path} cannot be read: {error.strerror}", f"run as the owner of {path}")
    else:
        if mode:
            yield problem("secret", f"{path} is readable by others", f"chmod 600 {path}")
        elif size < SECRET_BYTES:
            yield problem(
                "secret",
                counted(
                    "%(file)s holds %(num)s byte, %(needed)s are needed",
                    "%(file)s holds %(num)s bytes, %(needed)s are needed",
                    size,
                    file=path,
                    needed=SECRET_BYTES,
                ),
                "himalia restore, or remove it: everyone signs in again",
            )
        else:
            yield ok("secret", f"{path} is whole and its owner's alone")


def open_files() -> Finding:
    """How many files this account's processes may hold open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        return advice(
            "open files",
            f"a process may open {hard} files, enough for about {hard // 5} people",
            "LimitNOFILE=65536 in the systemd unit, or `ulimit -n` before the start",
        )
    return ok("open files", f"a process may open {soft if hard == resource.RLIM_INFINITY else hard} files")


def front_end(settings: HubSettings) -> Iterator[Finding]:
    """Whether our own server finds JupyterLab and a kernel; another command has its own."""
    if settings.spawner.command or settings.spawner.kind != "process":
        yield ok("JupyterLab", f"is the business of what spawner.{settings.spawner.kind} starts")
        return
    if importlib.util.find_spec("jupyterlab") is None:
        yield problem("JupyterLab", "is not installed where the hub runs", "pip install jupyterlab")
    else:
        yield ok("JupyterLab", "is installed")
    found = _kernels()
    if not found:
        yield problem(
            "kernels", "no kernel is installed for everyone", "pip install ipykernel in the hub's environment"
        )
    elif broken := {name: program for name, program in found.items() if shutil.which(program) is None}:
        name, program = next(iter(broken.items()))
        yield problem(
            "kernels",
            f"kernel {name!r} starts {program!r}, which is not there",
            f"install it, or remove kernel {name!r}",
        )
    else:
        yield ok("kernels", ", ".join(sorted(found)))


def kernel_paths() -> list[str]:
    """Where kernels for everyone are, the nearest first."""
    from jupyter_core.paths import ENV_JUPYTER_PATH, SYSTEM_JUPYTER_PATH

    return [*ENV_JUPYTER_PATH, *SYSTEM_JUPYTER_PATH]


def _kernels() -> dict[str, str]:
    """The program of each kernel that every server sees; a specification that cannot be read has an empty one."""
    found: dict[str, str] = {}
    for path in kernel_paths():
        for spec in sorted(Path(path).glob("kernels/*/kernel.json")):
            try:
                program = str(json.loads(spec.read_text(encoding="utf-8"))["argv"][0])
            except (OSError, ValueError, KeyError, IndexError, TypeError):
                program = ""
            # Jupyter starts a specification's "python" as the interpreter of the server itself.
            found.setdefault(
                spec.parent.name, sys.executable if program in ("python", "python3") else program
            )
    return found
