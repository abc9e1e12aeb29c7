"""Safe mode: a home of its own for this life, so that a full or spoiled one, or settings in it, break no start.

The person's own files are served as always; only what programs keep in a home (settings, histories, caches, packages)
is not read, and what they write is gone at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path

REAL_HOME = "HIMALIA_REAL_HOME"
"""Where the person's files are, for who must know: settings that begin with `~`, and programs that people write."""
FOLDERS = (
    "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_PATH", "JUPYTER_PATH",
    "IPYTHONDIR", "PYTHONUSERBASE", "PYTHONPATH", "PYTHONSTARTUP", "MPLCONFIGDIR",
    "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "TMPDIR",
)  # fmt: skip
"""Variables that lead programs to files; those that lead into the real home are dropped."""


@contextlib.contextmanager
def safe_home(environ: MutableMapping[str, str]) -> Iterator[None]:
    """While inside, `environ` has another home; it is removed at the end."""
    real = Path(environ.get("HOME") or Path.home())
    for name in FOLDERS:
        if any(_inside(part, real) for part in environ.get(name, "").split(os.pathsep)):
            del environ[name]
    tempfile.tempdir = None  # it may have been in the real home
    made = tempfile.mkdtemp(prefix="himalia-safe-")
    environ.update({"HOME": made, REAL_HOME: str(real), "PYTHONNOUSERSITE": "1"})
    try:
        yield
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _inside(path: str, folder: Path) -> bool:
    return bool(path) and Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))
