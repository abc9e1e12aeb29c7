"""Where the installed JupyterLab and its extensions are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiohttp import web

from himalia_singleuser.settings import Settings


@dataclass(frozen=True)
class Lab:
    """The folders of JupyterLab: the wheel's are read, the person's are written."""

    settings: Settings

    @cached_property
    def folder(self) -> Path:
        """`share/jupyter/lab` of the environment that this server runs in."""
        return Path(sys.prefix) / "share/jupyter/lab"

    @property
    def static(self) -> Path:
        """Scripts, fonts and the page template."""
        return self.folder / "static"

    @property
    def schemas(self) -> Path:
        """Settings' schemas."""
        return self.folder / "schemas"

    @property
    def user_settings(self) -> Path:
        """What the person changed."""
        return self.settings.config_dir / "lab/user-settings"

    @property
    def workspaces(self) -> Path:
        """The person's layouts."""
        return self.settings.config_dir / "lab/workspaces"

    @property
    def extension_folders(self) -> list[Path]:
        """Where prebuilt extensions are looked for, first hit wins."""
        own = Path(__file__).parents[1]
        return [folder / "labextensions" for folder in (*self.settings.data_path, own)]

    @cached_property
    def version(self) -> str:
        """The release, from the wheel's own package file."""
        package = read_json(self.static / "package.json")
        version = package.get("jupyterlab", {}).get("version") or package.get("version")
        return str(version or "unknown")

    def federated(self) -> dict[str, tuple[Path, dict[str, Any]]]:
        """Prebuilt extensions: name to folder and package.json."""
        found: dict[str, tuple[Path, dict[str, Any]]] = {}
        for folder in self.extension_folders:
            for file in (
                *sorted(folder.glob("[!@]*/package.json")),
                *sorted(folder.glob("@*/*/package.json")),
            ):
                package = read_json(file)
                name = package.get("name")
                if isinstance(name, str):
                    found.setdefault(name, (file.parent, package))
        return found

    def config_files(self, section: str) -> Iterator[Path]:
        """`labconfig/SECTION.json` and its `.d` folder, the least important first."""
        for folder in reversed(self.settings.config_path):
            place = folder / "labconfig"
            yield from sorted((place / f"{section}.d").glob("*.json"))
            yield place / f"{section}.json"


LAB = web.AppKey("LAB", Lab)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file; empty when there is none, or none that can be read."""
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_json5(file: Path) -> dict[str, Any]:
    """The same with comments and trailing commas allowed."""
    try:
        value = loads_json5(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def loads_json5(text: str) -> Any:
    """JSON5; nearly always it is plain JSON, and then the slow parser is not imported."""
    try:
        return json.loads(text)
    except ValueError:
        import json5

        return json5.loads(text)


def notebook_package() -> Path | None:
    """Jupyter Notebook's package: its page templates and assets lie in it."""
    found = find_spec("notebook")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0])


def server_assets() -> Path | None:
    """Icons and the logo: JupyterLab's page asks for those of Jupyter Server, which it depends on."""
    found = find_spec("jupyter_server")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "static"
