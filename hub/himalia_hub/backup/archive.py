"""The file of a backup: a tar.gz of a manifest, one file of rows a table, and the hub's own secrets.

    manifest.json       {"format": 1, "himalia", "revision", "hub_id", "made": ISO 8601,
                         "files": {NAME: {"sha256", "rows"?}}}
    rows/TABLE.jsonl    see `rows.py`
    files/secret        the hub's secret: without it every sign-in, cookie and server token would be worthless
    files/proxy.token   the token of the proxy's REST API, when it is kept in a file
    files/crypt.keys    the keys of encrypted columns, when they are kept in a file of their own
    files/himalia.toml  the configuration, when it stands in the data folder

It holds secrets and is made for its owner's eyes alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from himalia_hub.errors import BadRequest

FORMAT = 1
MANIFEST = "manifest.json"
MEMBER = re.compile(r"rows/[a-z_]+\.jsonl|files/(secret|proxy\.token|crypt\.keys|himalia\.toml)")
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A backup whose every file is what its manifest says, in a folder."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def revision(self) -> str:
        """The revision of the schema that the rows fit."""
        return str(self.manifest["revision"])

    @property
    def rows(self) -> dict[str, int]:
        """Rows by table."""
        return {
            name.removeprefix("rows/").removesuffix(".jsonl"): int(about["rows"])
            for name, about in self.manifest["files"].items()
            if name.startswith("rows/")
        }

    def table(self, name: str) -> Path:
        """The rows of one table."""
        return self.folder / "rows" / f"{name}.jsonl"

    def files(self) -> dict[str, Path]:
        """The files that are no rows, by name."""
        return {path.name: path for path in sorted((self.folder / "files").glob("*"))}


def pack(folder: Path, about: dict[str, Any], rows: dict[str, int], to: Path) -> None:
    """Make the backup `to` of what lies in `folder`. It appears whole or not at all."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    files: dict[str, dict[str, Any]] = {name: {"sha256": _digest(folder / name)} for name in names}
    for table, count in rows.items():
        files[f"rows/{table}.jsonl"]["rows"] = count
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, **about, "files": files}, indent=1))
    unfinished = to.with_name(to.name + ".part")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            with tarfile.open(fileobj=out, mode="w:gz", compresslevel=6) as tar:
                for name in [MANIFEST, *names]:
                    tar.add(folder / name, arcname=name)
            out.flush()
            os.fsync(out.fileno())
        unfinished.rename(to)
    finally:
        unfinished.unlink(missing_ok=True)


def unpack(backup: Path, folder: Path) -> Unpacked:
    """Take a backup apart into an empty folder. BadRequest says what is wrong with it.

    Nothing is written under a name that the archive chose: only known names are taken, and each is compared with the
    manifest, which comes first.
    """
    try:
        with tarfile.open(backup, mode="r|gz") as tar:
            manifest = _manifest(backup, tar)
            found = set(iter(lambda: _member(backup, tar, manifest, folder), ""))
    except OSError as error:
        raise BadRequest(f"{str(backup)!r} cannot be read: {error.strerror or error}") from None
    except (tarfile.TarError, EOFError) as error:
        raise BadRequest(f"{str(backup)!r} is damaged or no backup of a hub: {error}") from None
    if missing := sorted(set(manifest["files"]) - found):
        raise BadRequest(f"{str(backup)!r} is damaged: {missing[0]} is missing")
    return Unpacked(folder, manifest)


def _manifest(backup: Path, tar: tarfile.TarFile) -> dict[str, Any]:
    first = tar.next()
    content = tar.extractfile(first) if first is not None and first.name == MANIFEST else None
    if content is None:
        raise BadRequest(f"{str(backup)!r} is no backup of a hub: it does not begin with {MANIFEST}")
    try:
        manifest: dict[str, Any] = json.load(content)
        number, names = manifest["format"], list(manifest["files"])
    except (ValueError, KeyError, TypeError):
        raise BadRequest(f"{str(backup)!r} is damaged: its {MANIFEST} cannot be read") from None
    if number != FORMAT:
        raise BadRequest(
            f"{str(backup)!r} has format {number!r}, this release reads {FORMAT}; use a newer one"
        )
    if strange := [name for name in names if not MEMBER.fullmatch(name)]:
        raise BadRequest(f"{str(backup)!r} names a file that no backup has: {strange[0]!r}")
    return manifest


def _member(backup: Path, tar: tarfile.TarFile, manifest: dict[str, Any], folder: Path) -> str:
    """Write the next member to its place; its name, or nothing at the end."""
    member = tar.next()
    if member is None:
        return ""
    about = manifest["files"].get(member.name)
    content = tar.extractfile(member) if about is not None else None
    if content is None:
        raise BadRequest(f"{str(backup)!r} holds {member.name!r}, which its {MANIFEST} does not know")
    to = folder / member.name
    to.parent.mkdir(mode=0o700, exist_ok=True)
    digest = hashlib.sha256()
    with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        while some := content.read(CHUNK):
            digest.update(some)
            out.write(some)
    if digest.hexdigest() != about["sha256"]:
        raise BadRequest(
            f"{str(backup)!r} is damaged: {member.name} is not what it was when the backup was made"
        )
    return member.name


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
