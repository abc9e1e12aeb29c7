"""The environment of a single-user server, built from four sources in a fixed order: pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

ENV_KEEP = (
    "PATH",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "CONDA_ROOT",
    "CONDA_DEFAULT_ENV",
    "VIRTUAL_ENV",
    "LANG",
    "LC_ALL",
    "JUPYTERHUB_SINGLEUSER_APP",
)
"""What a server inherits from its hub; nothing else does, because a hub's environment holds its secrets."""

LOCK_FD = "HIMALIA_LOCK_FD"
LISTEN_FD = "HIMALIA_LISTEN_FD"
COOKIE = "HIMALIA_INCARNATION"
KEPT = "HIMALIA_KEPT"
"""Our server gives it to its kernels and their keeper: they may outlive a crash of it."""
KEEP_S = "HIMALIA_KEEP_KERNELS"
"""Tells our server for how many seconds they will be spared."""
SERVICE_URL = "JUPYTERHUB_SERVICE_URL"

_RESERVED = re.compile(r"HIMALIA_.*|JUPYTERHUB_SERVICE_URL|JUPYTERHUB_API_TOKEN")
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def child_environment(
    hub: Mapping[str, str],
    given: Mapping[str, str],
    backend: Mapping[str, str],
    configured: Mapping[str, str],
    *,
    keep: Iterable[str] = ENV_KEEP,
) -> dict[str, str]:
    """The whole environment of a server; later sources win.

    `hub` is the hub's own environment, of which only the names in `keep` pass; `given` is the spec's;
    `backend` what only the spawner knows (HOME, USER, SHELL, addresses, descriptors); `configured` the
    administrator's, last as in JupyterHub (hub.md §5.4).
    """
    env = {name: hub[name] for name in keep if name in hub}
    env.setdefault("PATH", _DEFAULT_PATH)
    env |= given
    env |= backend
    env |= configured
    return env


def environment_faults(env: Mapping[str, str]) -> list[str]:
    """What an operating system would not take, as sentences; values are never quoted, they may be secret."""
    faults = []
    for name, value in env.items():
        if not name or "=" in name or "\0" in name:
            faults.append(f"{name!r} is no name for an environment variable")
        elif "\0" in value:
            faults.append(f"the value of environment variable {name} holds a NUL character")
    return faults


def reserved_names(env: Mapping[str, str]) -> list[str]:
    """Names in `env` that configuration may not set: the spawner's own bookkeeping rests on them."""
    return sorted(name for name in env if _RESERVED.fullmatch(name))


def configurable(env: dict[str, str]) -> dict[str, str]:
    """`env` itself when configuration may ask for it; ValueError says what is wrong. For settings' validators."""
    if faults := environment_faults(env):
        raise ValueError("; ".join(faults))
    if taken := reserved_names(env):
        raise ValueError(f"{', '.join(taken)}: set by the hub itself; remove it")
    return env
