"""JupyterLab's saved layouts, in the files that JupyterLab's own server uses."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from himalia_singleuser.answers import timestamp
from himalia_singleuser.contents import atomic
from himalia_singleuser.errors import BadRequest, NotFound
from himalia_singleuser.frontend.places import Lab, read_json

SUFFIX = ".jupyterlab-workspace"
LONGEST = 128 - len(SUFFIX)


def slug(name: str) -> str:
    """A file name: readable, and with a few characters of a hash so that no two names share it."""
    name = name.removeprefix("/")
    signature = "-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:4]
    text = unicodedata.normalize("NFKC", unquote(name.lower())).encode("ascii", "ignore").decode()
    text = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip())
    return text[: LONGEST - len(signature)] + signature


def listing(lab: Lab) -> dict[str, Any]:
    """All of them with their data."""
    files = sorted(lab.workspaces.glob(f"*{SUFFIX}"))
    values = [value for file in files if (value := _read(file)) is not None]
    return {"workspaces": {"ids": [value["metadata"]["id"] for value in values], "values": values}}


def load(lab: Lab, name: str) -> dict[str, Any]:
    """One; empty when it was never saved."""
    value = _read(lab.workspaces / (slug(name) + SUFFIX))
    return value or {"data": {}, "metadata": {"id": "/" + name.removeprefix("/")}}


def save(lab: Lab, name: str, raw: bytes) -> None:
    """Keep it; BadRequest when it is not JSON or says another name."""
    try:
        said = json.loads(raw)["metadata"]["id"]
    except (ValueError, LookupError, TypeError):
        raise BadRequest("A workspace must be a JSON object with metadata.id") from None
    if not isinstance(said, str) or unquote(said).removeprefix("/") != name.removeprefix("/"):
        raise BadRequest(f"Workspace metadata ID mismatch: expected {name!r} got {said!r}")
    try:
        lab.workspaces.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise atomic.explain(error, lab.workspaces.name) from None
    # Once a second while somebody moves panels about: not worth a flush to the disk each time.
    atomic.write(lab.workspaces / (slug(name) + SUFFIX), raw, durable=False)


def delete(lab: Lab, name: str) -> None:
    """Forget it."""
    try:
        (lab.workspaces / (slug(name) + SUFFIX)).unlink()
    except OSError:
        raise NotFound(f"Workspace {name!r} not found") from None


def _read(file: Path) -> dict[str, Any] | None:
    value = read_json(file)
    try:
        status = file.stat()
    except OSError:
        return None
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or "id" not in metadata:
        return None
    metadata["last_modified"], metadata["created"] = timestamp(status.st_mtime), timestamp(status.st_ctime)
    return value
