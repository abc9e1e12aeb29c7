"""Where JupyterHub's own parts are, as `tests/tools/prepare` installs them; a missing one fails with that command."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _installed(path: Path, what: str) -> str:
    if not path.exists():
        pytest.fail(f"{what} is missing; run: tests/tools/prepare", pytrace=False)
    return str(path)


def singleuser() -> str:
    """The official `jupyterhub-singleuser`."""
    return _installed(ROOT / ".venv-official" / "bin" / "jupyterhub-singleuser", "jupyterhub-singleuser")


def hub() -> str:
    """The official `jupyterhub`."""
    return _installed(ROOT / ".venv-official" / "bin" / "jupyterhub", "jupyterhub")


def proxy() -> str:
    """The official `configurable-http-proxy`."""
    path = ROOT / "tests" / "official" / "node_modules" / ".bin" / "configurable-http-proxy"
    return _installed(path, "configurable-http-proxy")


def python() -> str:
    """The interpreter with the official packages."""
    return _installed(ROOT / ".venv-official" / "bin" / "python", "JupyterHub")


def binder_client() -> list[str]:
    """The command that opens a link by BinderHub's own client; add the build address and the spec."""
    folder = ROOT / "tests" / "official"
    _installed(folder / "node_modules" / "@jupyterhub" / "binderhub-client", "BinderHub's client")
    return ["node", str(folder / "binder_client.mjs")]
