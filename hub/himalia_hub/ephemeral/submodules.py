"""A repository's submodules: each fetched like a repository of its own, checked like one, and bounded together.

`git submodule` is not asked: it would take addresses from a stranger's file and talk to them by itself.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from himalia_hub.ephemeral import git
from himalia_hub.ephemeral.folders import Folders
from himalia_hub.ephemeral.git import Bounds, GitError
from himalia_hub.ephemeral.sources import over_https
from himalia_hub.languages import counted

MOST, DEEPEST = 16, 3


@dataclass(slots=True)
class Submodules:
    """Brings the submodules of one check-out. `left` counts down over all of them, at every depth."""

    folders: Folders
    private_hosts: Collection[str]
    bounds: Bounds
    left: int = field(default=MOST)

    async def bring(self, url: str, commit: str, into: Path, depth: int = 0) -> None:
        """Put the submodules of this commit into its files at `into`. GitError says which cannot be had, and why."""
        mirror = self.folders.mirror(url)
        links = await git.submodules(mirror, commit, self.bounds)
        for path, (there, wanted) in links.items():
            self.left -= 1
            if self.left < 0 or depth >= DEEPEST:
                raise GitError(
                    f"The repository has more than {MOST} submodules, or they are nested deeper than {DEEPEST}.",
                    remedy="Link to one with fewer.",
                )
            await self._one(address(there, url), wanted, into, path, depth)
        if links and not depth:
            await asyncio.to_thread(_must_fit, into, self.bounds)

    async def _one(self, url: str, commit: str, into: Path, path: str, depth: int) -> None:
        files = self.folders.checkout(url, commit)
        try:
            if not files.is_dir():
                remote = await git.checked(url, self.private_hosts)
                await git.fetch(remote, self.folders.mirror(url), commit, "HEAD", self.bounds)
                mirror, inner = self.folders.mirror(url), partial(self.bring, url, commit, depth=depth + 1)
                await git.check_out(mirror, commit, files, self.bounds, inner)
        except GitError as error:
            raise GitError(f"The submodule {path[:100]!r}: {error.message}", remedy=error.remedy) from error
        await asyncio.to_thread(_copy, files, into, path)


def address(text: str, parent: str) -> str:
    """Where a submodule lies, from what `.gitmodules` says. GitError for what is no address that may be asked. Pure.

    Relative ones are beside their parent's; those of SSH are asked over HTTPS, for there are no credentials.
    """
    if text.startswith(("./", "../")):
        there = urlsplit(parent)
        return there._replace(path=posixpath.normpath(posixpath.join(there.path, text))).geturl()
    text = over_https(text) or text
    parts = urlsplit(text)
    plain = text.isprintable() and text.isascii() and " " not in text
    if parts.scheme not in git.PORTS or not parts.hostname or parts.username or parts.query or not plain:
        raise GitError(
            f"A submodule lies at {text[:100]!r}, which cannot be asked.", remedy="Use an https address."
        )
    return text


def _copy(files: Path, into: Path, path: str) -> None:
    """Over the empty folder that a check-out makes for it."""
    place = into
    for part in path.split("/"):
        place = place / part
        if place.is_symlink() or part in ("", ".", ".."):
            raise GitError("A submodule lies behind a symbolic link.", remedy="Move it.")
    shutil.copytree(files, place, symlinks=True, dirs_exist_ok=True)


def _must_fit(folder: Path, bounds: Bounds) -> None:
    sizes = [
        os.lstat(os.path.join(here, name)).st_size for here, _, names in os.walk(folder) for name in names
    ]
    if len(sizes) > bounds.files or sum(sizes) > bounds.bytes:
        raise GitError(
            counted(
                "With submodules the repository has %(num)s file of %(size)s MB; "
                "the limits are %(most)s and %(largest)s MB.",
                "With submodules the repository has %(num)s files of %(size)s MB; "
                "the limits are %(most)s and %(largest)s MB.",
                f"{len(sizes):,}",
                **bounds.told(sum(sizes)),
            ),
            remedy="Link to a smaller repository, or ask an administrator.",
        )
