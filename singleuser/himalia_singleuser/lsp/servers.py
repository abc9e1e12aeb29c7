"""Which language servers there are: the well-known ones that are installed, and those of the configuration."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger(__name__)

SPEC_VERSION = 2
SECTION = "LanguageServerManager"


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One language server, as jupyter-lsp describes them."""

    name: str
    argv: tuple[str, ...]
    languages: tuple[str, ...]
    mime_types: tuple[str, ...]
    display_name: str
    env: Mapping[str, str] = field(default_factory=dict)
    wants_files: bool = False
    """Whether open documents must be on disk for it."""

    def model(self) -> dict[str, Any]:
        """What pages are told: not the command, which may have secrets in it."""
        return {
            "argv": [""],
            "languages": list(self.languages),
            "mime_types": list(self.mime_types),
            "display_name": self.display_name,
            "urls": {},
            "install": {},
            "version": SPEC_VERSION,
        }


def _python(name: str, *argv: str) -> ServerSpec:
    return ServerSpec(name, argv, ("python",), ("text/python", "text/x-ipython"), name)


KNOWN = (
    _python("pylsp", "pylsp"),
    _python("pyright", "pyright-langserver", "--stdio"),
    _python("basedpyright", "basedpyright-langserver", "--stdio"),
    _python("jedi-language-server", "jedi-language-server"),
    ServerSpec(
        "bash-language-server", ("bash-language-server", "start"), ("bash", "sh"), ("text/x-sh",), "Bash"
    ),
    ServerSpec(
        "typescript-language-server",
        ("typescript-language-server", "--stdio"),
        ("javascript", "typescript"),
        ("application/typescript", "text/typescript-jsx", "text/javascript", "text/ecmascript"),
        "TypeScript",
    ),
    ServerSpec(
        "yaml-language-server", ("yaml-language-server", "--stdio"), ("yaml",), ("text/x-yaml",), "YAML"
    ),
    ServerSpec("texlab", ("texlab",), ("tex", "latex"), ("text/x-latex", "text/x-tex"), "LaTeX"),
    ServerSpec("marksman", ("marksman", "server"), ("markdown",), ("text/x-markdown",), "Markdown"),
)
"""All of them take what they need over the protocol; none has to find open documents on disk."""


def find_all(config_path: Sequence[Path], path: str) -> dict[str, ServerSpec]:
    """Every usable server by name; `path` is where programs are looked for, after this interpreter's own folder."""
    where = os.pathsep.join([str(Path(sys.executable).parent), path])
    found: dict[str, ServerSpec] = {}
    for spec in (*KNOWN, *_configured(config_path)):
        program = shutil.which(spec.argv[0], path=where)
        if program is None:
            found.pop(spec.name, None)
            continue
        argv = (program, *spec.argv[1:])
        found[spec.name] = replace(spec, argv=argv)
    return found


def _configured(config_path: Sequence[Path]) -> Iterator[ServerSpec]:
    """`LanguageServerManager.language_servers` of Jupyter Server's configuration, the strongest file last."""
    for folder in reversed(config_path):
        files = [
            *sorted((folder / "jupyter_server_config.d").glob("*.json")),
            folder / "jupyter_server_config.json",
        ]
        for file in files:
            for name, told in _section(file).items():
                spec = _read(name, told)
                if spec is None:
                    log.warning("lsp.spec_refused", file=str(file), server=name)
                else:
                    yield spec


def _section(file: Path) -> dict[str, Any]:
    try:
        servers = json.loads(file.read_bytes())[SECTION]["language_servers"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return servers if isinstance(servers, dict) else {}


def _read(name: str, told: Any) -> ServerSpec | None:
    """None for what is no server: one without a command, or with one that is not a list of texts."""
    if not isinstance(told, dict):
        return None
    argv, languages, mime_types = (_texts(told.get(key)) for key in ("argv", "languages", "mime_types"))
    env = told.get("env") or {}
    if not argv or not languages or mime_types is None or not isinstance(env, dict):
        return None
    display_name = str(told.get("display_name") or name)
    texts = {str(key): str(value) for key, value in env.items()}
    on_disk = told.get("requires_documents_on_disk", True) is not False  # jupyter-lsp's default
    return ServerSpec(name, argv, languages, mime_types, display_name, texts, on_disk)


def _texts(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return None
    return tuple(value)
