"""Archives by address, and records of research archives: what stands for their commit is their content.

Asked are the addresses that were looked up and found fit, at every redirect anew, as git is held to them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
import sys
import tarfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from himalia_hub.ephemeral.folders import Folders
from himalia_hub.ephemeral.git import PORTS, Bounds, GitError, NoSuchRef, addresses
from himalia_hub.ephemeral.records import KINDS, File, files_of
from himalia_hub.languages import counted
from himalia_hub.services.child import tied

MOST_REDIRECTS = 5
LARGEST_RECORD = 5_000_000
PIECE = 1 << 18
TOLD = "told.json"


class Answered(GitError):
    """The server answered, with this status and not with what was asked for."""

    def __init__(self, answer: int) -> None:
        if answer in (404, 410):
            super().__init__("There is no such archive.", remedy="Check the address in the link.")
        else:
            super().__init__(f"The archive's server answered {answer}.", remedy="Try again later.")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Archives:
    """Fetches and unpacks. One at a time for each address."""

    folders: Folders
    private_hosts: Collection[str]
    bounds: Bounds

    async def resolve(self, url: str, provider: str = "archive") -> str:
        """What stands for the content now: 40 hex digits. It is fetched unless its server says that it is the same.

        The address is an archive's, or that of a record at this provider. GitError says why it cannot be had.
        """
        with self._said():
            async with asyncio.timeout(self.bounds.seconds):
                return await self._have(url, provider, unless_same=True)

    async def bring(self, url: str, commit: str, provider: str = "archive") -> None:
        """Put its files where check-outs lie. NoSuchRef when the content is another by now."""
        folder = self.folders.mirror(url)
        archive = folder / commit
        with self._said():
            async with asyncio.timeout(self.bounds.seconds):
                if not archive.is_file() and await self._have(url, provider, unless_same=False) != commit:
                    raise NoSuchRef(
                        "The archive is not what it was when this link was made.",
                        remedy="Leave out the last part of the link for what it is now.",
                    )
                await self._unpack(archive, self.folders.checkout(url, commit))
        await asyncio.to_thread(_remove, folder)

    async def document(self, url: str) -> Any:
        """The JSON at this address. GitError, Answered."""
        with self._said():
            async with asyncio.timeout(self.bounds.seconds):
                return await self._document(url)

    @contextlib.contextmanager
    def _said(self) -> Any:
        try:
            yield
        except TimeoutError:
            raise GitError(
                counted(
                    "The archive did not come within %(num)s second.",
                    "The archive did not come within %(num)s seconds.",
                    self.bounds.seconds,
                ),
                remedy="Try again later.",
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise GitError(
                "The archive's server does not answer.",
                remedy="Check the address in the link, or try again later.",
            ) from error
        except (aiohttp.ClientError, json.JSONDecodeError) as error:
            raise GitError(
                f"The archive cannot be fetched: {str(error)[:200] or type(error).__name__}.",
                remedy="Try again later.",
            ) from error

    # -- what is asked ---------------------------------------------------------------------------------

    async def _have(self, url: str, provider: str, *, unless_same: bool) -> str:
        folder, kind = self.folders.mirror(url), KINDS.get(provider)
        folder.mkdir(parents=True, exist_ok=True)
        if kind is None:
            return await self._download(url, folder, unless_same=unless_same)
        files = files_of(kind, await self._document(kind.api(url)), url)
        packed = [one for one in files if one.is_archive]
        if len(packed) == 1:
            return await self._download(packed[0].url, folder, unless_same=unless_same)
        if not files:
            raise GitError(
                "The record holds no files.", remedy="Only records with public files can be opened."
            )
        return await self._collect(files, folder, unless_same=unless_same)

    async def _collect(self, files: Sequence[File], folder: Path, *, unless_same: bool) -> str:
        """A record's files in one archive of ours; the one that was made of the same files before."""
        listing = hashlib.sha256(json.dumps([astuple(one) for one in files]).encode()).hexdigest()
        told = _told(folder / TOLD)
        if unless_same and told.get("listing") == listing:
            return told["commit"]
        if len(files) > self.bounds.files:
            raise GitError(f"The record holds {len(files)} files.", remedy="Link to a smaller one.")
        draft, piece, left = folder / "archive.new", folder / "file.new", self.bounds.bytes
        try:
            tar = await asyncio.to_thread(tarfile.open, draft, "w")
            try:
                for one in files:
                    async with self._get(one.url, {}) as answer:
                        _, size = await self._save(answer, piece, left)
                    left -= size
                    await asyncio.to_thread(_pack, tar, one.name, piece, size)
            finally:
                await asyncio.to_thread(tar.close)
        except BaseException:
            await asyncio.to_thread(draft.unlink, missing_ok=True)
            raise
        finally:
            await asyncio.to_thread(piece.unlink, missing_ok=True)
        return self._keep(draft, folder, await asyncio.to_thread(_digest, draft), listing=listing)

    async def _document(self, url: str) -> Any:
        async with self._get(url, {"Accept": "application/json"}) as answer:
            return json.loads(await answer.content.read(LARGEST_RECORD))

    async def _download(self, url: str, folder: Path, *, unless_same: bool) -> str:
        told = _told(folder / TOLD)
        same = unless_same and told.get("url") == url
        asked = {
            name: told[key]
            for name, key in (("If-None-Match", "etag"), ("If-Modified-Since", "modified"))
            if same and told.get(key)
        }
        draft = folder / "archive.new"
        async with self._get(url, asked) as answer:
            if answer.status == 304:
                return told["commit"]
            digest, _ = await self._save(answer, draft, self.bounds.bytes)
            etag, modified = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
        return self._keep(draft, folder, digest[:40], url=url, etag=etag, modified=modified)

    async def _save(self, answer: aiohttp.ClientResponse, target: Path, most: int) -> tuple[str, int]:
        """The content into a file: its SHA-256, and its bytes."""
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as file:
            async for piece in answer.content.iter_chunked(PIECE):
                size += len(piece)
                if size > most:
                    await asyncio.to_thread(target.unlink)
                    raise GitError(
                        f"The archive is larger than the {self.bounds.bytes / 1e6:,.0f} MB allowed here.",
                        remedy="Link to a smaller one, or ask an administrator.",
                    )
                digest.update(piece)
                await asyncio.to_thread(file.write, piece)
        return digest.hexdigest(), size

    def _keep(self, draft: Path, folder: Path, commit: str, **told: str) -> str:
        os.replace(draft, folder / commit)
        (folder / TOLD).write_text(json.dumps({"commit": commit, **told}))
        return commit

    @asynccontextmanager
    async def _get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        for _ in range(MOST_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise GitError(
                    "The archive leads to an address that cannot be fetched.", remedy="Link to its end."
                )
            port = parts.port or PORTS[parts.scheme]
            found = await addresses(parts.hostname, port, self.private_hosts)
            connector = aiohttp.TCPConnector(resolver=_Pinned(found), force_close=True)
            async with (
                aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
                session.get(
                    url, headers={"Accept-Encoding": "identity", **headers}, allow_redirects=False
                ) as answer,
            ):
                if answer.status in (301, 302, 303, 307, 308) and "Location" in answer.headers:
                    url = urljoin(url, answer.headers["Location"])
                    continue
                if answer.status not in (200, 304):
                    raise Answered(answer.status)
                yield answer
                return
        raise GitError("The archive leads from address to address.", remedy="Link to the last of them.")

    # -- what is written -------------------------------------------------------------------------------

    async def _unpack(self, archive: Path, checkout: Path) -> None:
        draft = checkout.with_name(checkout.name + ".new")
        words = (sys.executable, "-I", "-m", "himalia_hub.ephemeral.unpack", str(archive), str(draft))
        process = await asyncio.create_subprocess_exec(
            *tied(*words, str(self.bounds.bytes), str(self.bounds.files)),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={"LC_ALL": "C.UTF-8"}, cwd="/",
        )  # fmt: skip
        try:
            _, complaint = await process.communicate()
            if process.returncode:
                words_ = complaint.decode(errors="replace").strip().splitlines()
                raise GitError(
                    words_[-1][:300] if words_ else "The archive cannot be unpacked.", remedy="Pack it anew."
                )
            os.replace(draft, checkout)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)


class _Pinned(AbstractResolver):
    """Leads to the addresses that were checked, whatever a second look-up would say."""

    def __init__(self, found: Collection[str]) -> None:
        self._found = found

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=one, port=port, proto=0, flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET6 if ":" in one else socket.AF_INET,
            )
            for one in self._found
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is open."""


def _pack(tar: tarfile.TarFile, name: str, path: Path, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    with path.open("rb") as content:
        tar.addfile(info, content)


def _digest(path: Path) -> str:
    """What stands for a commit: the first 40 digits of its SHA-256."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:40]


def _remove(folder: Path) -> None:
    """Every archive of this address; what was told of it stays."""
    for old in folder.iterdir():
        if old.name != TOLD:
            old.unlink(missing_ok=True)


def _told(path: Path) -> dict[str, str]:
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
