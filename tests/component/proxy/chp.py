"""The official configurable-http-proxy, installed once into the user's cache folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

VERSION = "5.3.0"
PREPARED = Path(__file__).parents[2] / "official" / "node_modules" / ".bin" / "configurable-http-proxy"


def command() -> list[str]:
    """How to start it. Fails the test with the command to run if it cannot be had."""
    if PREPARED.exists():
        return [str(PREPARED)]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "himalia-tests" / f"chp-{VERSION}"
    binary = folder / "node_modules" / ".bin" / "configurable-http-proxy"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _install(folder)
    return [str(binary)]


def _install(folder: Path) -> None:
    install = ["npm", "install", "--prefix", str(folder), f"configurable-http-proxy@{VERSION}"]
    said = f"configurable-http-proxy is missing; install Node.js and run: {' '.join(install)}"
    if shutil.which("npm") is None:
        pytest.fail(said, pytrace=False)
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{said}\n{done.stderr[-500:]}", pytrace=False)
