"""Kernelspecs: which languages there are and how their kernels are started.

Read here and not by jupyter_client: every page load asks for them, and importing jupyter_client costs a
tenth of a second and 15 MB in a process that exists once per person. The folders, the order (first hit
wins), the native kernel and the argv rules are jupyter_client's.
"""

from __future__ import annotations

import json
import os
import re
import string
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from himalia_singleuser.kernels.errors import NoSuchSpec

NATIVE = "python3"
NAME = re.compile(r"[a-z0-9._\-]+", re.IGNORECASE)
SLOT = re.compile(r"\{([A-Za-z0-9_]+)\}")
OWN_PYTHONS = {"python", f"python{sys.version_info[0]}", "python{}.{}".format(*sys.version_info[:2])}
NEVER_INHERITED = ("HIMALIA_LISTEN_FD", "HIMALIA_LOCK_FD", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__")


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One installed kernel. `folder` holds kernel.json, icons and scripts."""

    name: str
    folder: Path
    argv: tuple[str, ...]
    display_name: str
    language: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    interrupt_mode: Literal["signal", "message"] = "signal"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    protocol: str = ""

    def command(self, connection_file: str) -> list[str]:
        """Argv with its slots filled; a bare `python` means the one that runs this server."""
        slots = {
            "connection_file": os.path.realpath(connection_file),
            "resource_dir": str(self.folder),
            "prefix": sys.prefix,
        }
        program, *rest = self.argv
        if program in OWN_PYTHONS:
            program = sys.executable
        return [SLOT.sub(lambda slot: slots.get(slot[1], slot[0]), word) for word in (program, *rest)]

    def environ(self, base: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
        """The kernel's environment: the server's, then the spec's own with `${NAME}` filled, then `extra`."""
        env = {name: value for name, value in base.items() if name not in NEVER_INHERITED}
        for name, value in self.env.items():
            env[name] = string.Template(value).safe_substitute(base)
        env.update(extra)
        return env

    def model(self, base_url: str) -> dict[str, Any]:
        """The entry of `api/kernelspecs`."""
        spec: dict[str, Any] = {
            "argv": list(self.argv),
            "env": dict(self.env),
            "display_name": self.display_name,
            "language": self.language,
            "interrupt_mode": self.interrupt_mode,
            "metadata": dict(self.metadata),
        }
        if self.protocol:
            spec["kernel_protocol_version"] = self.protocol
        return {"name": self.name, "spec": spec, "resources": self._resources(base_url)}

    def _resources(self, base_url: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for file in sorted(self.folder.iterdir()):
            key = file.name if file.name in {"kernel.js", "kernel.css"} else file.stem
            if key != file.name and not file.name.startswith("logo-"):
                continue
            found[key] = f"{base_url}kernelspecs/{quote(self.name)}/{quote(file.name)}"
        return found


def folders() -> list[Path]:
    """Where kernelspecs may lie, the strongest first."""
    from jupyter_core.paths import jupyter_path

    dotted = os.environ.get("IPYTHONDIR") or os.path.join(os.path.expanduser("~"), ".ipython")
    return [*map(Path, jupyter_path("kernels")), Path(dotted, "kernels")]


def find_all(allowed: frozenset[str] = frozenset()) -> dict[str, KernelSpec]:
    """Every usable spec by name. One that cannot be read is left out: it must not hide the others."""
    found: dict[str, KernelSpec] = {}
    for name, folder in _candidates():
        if name in found or (allowed and name not in allowed):
            continue
        spec = read(name, folder)
        if spec is not None:
            found[name] = spec
    if NATIVE not in found and (not allowed or NATIVE in allowed):
        native = _native()
        if native is not None:
            found[NATIVE] = native
    return found


def find_in(known: Mapping[str, KernelSpec], name: str) -> KernelSpec:
    """The spec of that name, in any case; NoSuchSpec lists what there is."""
    try:
        return known[name.lower()]
    except KeyError:
        raise NoSuchSpec(name, known) from None


def default_name(wanted: str, specs: Mapping[str, KernelSpec]) -> str:
    """The kernel for clients that name none: the wanted one if installed, else the first by name."""
    return wanted if wanted in specs or not specs else min(specs)


def read(name: str, folder: Path) -> KernelSpec | None:
    """The spec in `folder`, or None if kernel.json is missing, unreadable or not a kernelspec."""
    try:
        raw = json.loads((folder / "kernel.json").read_text(encoding="utf-8"))
        argv, env = raw["argv"], raw.get("env", {})
        usable = (
            argv
            and isinstance(argv, list)
            and all(isinstance(word, str) for word in (*argv, *env, *env.values()))
        )
        if not usable:
            return None
        return KernelSpec(
            name=name,
            folder=folder,
            argv=tuple(argv),
            display_name=str(raw.get("display_name", name)),
            language=str(raw.get("language", "")),
            env=env,
            interrupt_mode="message" if raw.get("interrupt_mode") == "message" else "signal",
            metadata=dict(raw.get("metadata") or {}),
            protocol=str(raw.get("kernel_protocol_version", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _candidates() -> Iterator[tuple[str, Path]]:
    for folder in folders():
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if NAME.fullmatch(entry.name) and os.path.isfile(os.path.join(entry.path, "kernel.json")):
                yield entry.name.lower(), Path(entry.path)


def _native() -> KernelSpec | None:
    # ipykernel carries its own resources; found by the import system's table, without running its code.
    from importlib.util import find_spec

    found = find_spec("ipykernel")
    if found is None or not found.submodule_search_locations:
        return None
    return KernelSpec(
        name=NATIVE,
        folder=Path(found.submodule_search_locations[0], "resources"),
        argv=(sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"),
        display_name="Python 3 (ipykernel)",
        language="python",
        metadata={"debugger": True},
    )
