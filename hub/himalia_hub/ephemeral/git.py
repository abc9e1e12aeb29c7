"""The `git` program, kept on a short lead: what a stranger's repository may make it do is written here.

A process of its own, because packs from anywhere are parsed: it can be limited in time and size, and killed. It
reads no configuration but what is given here, asks nobody for a password, follows no redirect, and talks to the
one address that was checked (so a name that resolves differently the second time leads nowhere).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import resource
import shutil
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from himalia_hub.errors import HimaliaError
from himalia_hub.languages import counted
from himalia_hub.services.child import tied

PORTS = {"http": 80, "https": 443, "git": 9418}


class GitError(HimaliaError):
    """The repository cannot be had; the message says why in words for whoever opened the link."""

    status = 502
    code = "repository"


class NoSuchRef(GitError):
    """The repository is there, the branch, tag or commit is not."""

    status = 404


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one fetch may take: seconds, bytes of the pack and of all files together, and how many files."""

    seconds: float
    bytes: int
    files: int

    def told(self, size: float) -> dict[str, str]:
        """What a sentence says of files that have this many bytes, and of how much is allowed."""
        return {
            "size": f"{size / 1e6:,.0f}",
            "most": f"{self.files:,}",
            "largest": f"{self.bytes / 1e6:,.0f}",
        }


@dataclass(frozen=True, slots=True)
class Remote:
    """An address that was looked up and found fit to be asked."""

    url: str
    options: tuple[str, ...] = ()


async def checked(url: str, private_hosts: Collection[str]) -> Remote:
    """Look the host up once and hold git to what was found. GitError for an address inside this network.

    `private_hosts`: names, addresses and networks that may be asked although they are not public.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    allowed = await addresses(host, port, private_hosts)
    if parts.scheme == "git":
        pinned = f"[{allowed[0]}]" if ":" in allowed[0] else allowed[0]
        return Remote(parts._replace(netloc=f"{pinned}:{port}").geturl())
    return Remote(url, ("-c", f"http.curloptResolve={host}:{port}:{','.join(allowed)}"))


async def addresses(host: str, port: int, private_hosts: Collection[str]) -> list[str]:
    """What the name leads to, as far as it may be asked. GitError when that is nothing."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise GitError(f"There is no host {host!r}.", remedy="Check the address in the link.") from None
    there = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    allowed = there if host in private_hosts else [one for one in there if _may_ask(one, private_hosts)]
    if not allowed:
        raise GitError(
            f"{host!r} is an address inside this hub's network.",
            remedy="Only public repositories can be opened; an administrator can list the host.",
        )
    return allowed


def _may_ask(address: str, private_hosts: Collection[str]) -> bool:
    there = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(there, "ipv4_mapped", None)
    there = mapped or there
    if there.is_global and not there.is_multicast:
        return True
    for listed in private_hosts:
        try:
            if there in ipaddress.ip_network(listed, strict=False):
                return True
        except ValueError:
            continue  # a name
    return False


async def resolve(remote: Remote, ref: str, *, seconds: float) -> str:
    """The commit that the ref names now; a branch wins over a tag of that name. NoSuchRef, GitError."""
    wanted = (
        [ref] if ref == "HEAD" else [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}", ref]
    )
    out = await _git(*remote.options, "ls-remote", "--", remote.url, *wanted, seconds=seconds)
    found = {name: commit for commit, _, name in (line.partition("\t") for line in out.splitlines())}
    for name in (f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", ref):
        if name in found:
            return found[name]
    short = re.fullmatch("[0-9a-f]{7,39}", ref) is not None
    raise NoSuchRef(
        f"The repository has no branch or tag {ref!r}.",
        remedy="Write all 40 digits of a commit." if short else "Check the last part of the link.",
    )


async def fetch(remote: Remote, mirror: Path, commit: str, ref: str, bounds: Bounds) -> None:
    """Bring one commit, without its history, into the bare repository `mirror`. GitError, NoSuchRef.

    Nobody else may fetch into it meanwhile: the locks that are there belong to a git that was killed.
    """
    mirror.mkdir(parents=True, exist_ok=True)
    for rest in (*mirror.glob("*.lock"), *mirror.glob("objects/pack/tmp_*")):
        rest.unlink(missing_ok=True)
    await _git("init", "--quiet", "--bare", ".", folder=mirror, seconds=bounds.seconds)
    if await _has(mirror, commit, bounds):
        return
    shallow = (
        "fetch",
        "--quiet",
        "--depth=1",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-recurse-submodules",
        "--",
    )
    try:
        try:
            await _git(*remote.options, *shallow, remote.url, commit, folder=mirror, bounds=bounds)
        except NoSuchRef:
            # An old server gives out only what its branches name.
            await _git(*remote.options, *shallow, remote.url, ref, folder=mirror, bounds=bounds)
    except GitError:
        halves = list((mirror / "objects" / "pack").glob("tmp_pack_*"))
        too_large = any(half.stat().st_size >= bounds.bytes for half in halves)
        for half in halves:
            half.unlink(missing_ok=True)
        if too_large:  # git says only that its helper died
            raise GitError(
                f"The repository is larger than the {bounds.bytes / 1e6:,.0f} MB allowed here.",
                remedy="Link to a smaller one, or ask an administrator.",
            ) from None
        raise
    if not await _has(mirror, commit, bounds):
        raise NoSuchRef(
            f"The repository has no commit {commit[:12]}.", remedy="Check the last part of the link."
        )


async def _has(mirror: Path, commit: str, bounds: Bounds) -> bool:
    try:
        await _git("cat-file", "-e", f"{commit}^{{tree}}", folder=mirror, seconds=bounds.seconds)
    except GitError:
        return False
    return True


async def submodules(mirror: Path, commit: str, bounds: Bounds) -> dict[str, tuple[str, str]]:
    """Path of each submodule of the commit → (its address as `.gitmodules` says, its commit).

    GitError for one that the file does not name. What the file names beyond those of the commit is nobody's.
    """
    listed = await _git("ls-tree", "-r", "-z", "--full-tree", commit, folder=mirror, seconds=bounds.seconds)
    entries = [entry.split("\t", 1) for entry in listed.split("\0") if entry.startswith("160000 ")]
    if not entries:
        return {}
    told = await _git(
        "config", "-z", "--blob", f"{commit}:.gitmodules", "--list", folder=mirror, seconds=bounds.seconds
    )
    values = dict(line.split("\n", 1) for line in told.split("\0") if "\n" in line)
    urls = {
        path: values.get(f"{name.removesuffix('.path')}.url", "")
        for name, path in values.items()
        if name.startswith("submodule.") and name.endswith(".path")
    }
    found = {path: (urls.get(path, ""), facts.split()[2]) for facts, path in entries}
    for path, (url, _) in found.items():
        if not url:
            raise GitError(
                f"The submodule {path[:100]!r} has no address.",
                remedy="Name it in .gitmodules, or remove it.",
            )
    return found


async def check_out(
    mirror: Path,
    commit: str,
    folder: Path,
    bounds: Bounds,
    complete: Callable[[Path], Awaitable[None]] | None = None,
) -> str:
    """Write the files of the commit into `folder`, which must not exist; the id of its tree.

    `complete` is given the files before they are at their place, to add what belongs to them.

    Their number and size are counted before the first is written, so a bomb is refused, not unpacked.
    """
    listed = await _git(
        "ls-tree", "-r", "-l", "-z", "--full-tree", commit, folder=mirror, seconds=bounds.seconds
    )
    sizes = [entry.partition("\t")[0].split() for entry in listed.split("\0") if entry]
    total = sum(int(size[3]) for size in sizes if size[3] != "-")
    if len(sizes) > bounds.files or total > bounds.bytes:
        raise GitError(
            counted(
                "The repository holds %(num)s file of %(size)s MB; the limits are %(most)s and %(largest)s MB.",
                "The repository holds %(num)s files of %(size)s MB; the limits are %(most)s and %(largest)s MB.",
                f"{len(sizes):,}",
                **bounds.told(total),
            ),
            remedy="Link to a smaller repository, or ask an administrator.",
        )
    draft = folder.with_name(folder.name + ".new")
    await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
    draft.mkdir(parents=True)
    # Its own index file: two check-outs of one mirror may run at once.
    env = {"GIT_INDEX_FILE": str(draft.with_name(draft.name + ".index")), "GIT_WORK_TREE": str(draft)}
    try:
        await _git("read-tree", commit, folder=mirror, seconds=bounds.seconds, env=env)
        await _git("checkout-index", "--all", "--quiet", folder=mirror, seconds=bounds.seconds, env=env)
        if complete is not None:
            await complete(draft)
        os.replace(draft, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        Path(env["GIT_INDEX_FILE"]).unlink(missing_ok=True)
    return (await _git("rev-parse", f"{commit}^{{tree}}", folder=mirror, seconds=bounds.seconds)).strip()


_ENVIRON = {
    "PATH": os.defpath + ":/usr/local/bin",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "GIT_ALLOW_PROTOCOL": "http:https:git",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "HOME": os.devnull,
}
_CONFIG = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.symlinks=true",
    "-c", "core.protectNTFS=true", "-c", "protocol.file.allow=never", "-c", "protocol.ext.allow=never",
    "-c", "http.followRedirects=false", "-c", "credential.helper=", "-c", "fetch.fsckObjects=true",
    "-c", "fetch.unpackLimit=1", "-c", "gc.auto=0", "-c", "safe.directory=*", "-c", "transfer.bundleURI=false",
    # Ends a helper that outlives the git of a killed hub, too.
    "-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=30",
)  # fmt: skip


async def _git(
    *words: str,
    folder: Path | None = None,
    seconds: float = 60,
    bounds: Bounds | None = None,
    env: dict[str, str] | None = None,
) -> str:
    """One command; what it printed. GitError with the end of what it complained of."""
    seconds = bounds.seconds if bounds else seconds
    biggest = bounds.bytes if bounds else None
    command = ("git", *_CONFIG, *(("--git-dir=.",) if folder else ()), *words)
    # What takes long ends with the hub, or it would hold its locks against the fetch of the hub's successor.
    process = await asyncio.create_subprocess_exec(
        *(tied(*command) if bounds else command),
        cwd=folder or "/", env=_ENVIRON | _proxies() | (env or {}), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    if biggest is not None:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (biggest, biggest))
    try:
        async with asyncio.timeout(seconds):
            out, complaint = await process.communicate()
    except BaseException as error:
        _end(process)
        await process.wait()
        if isinstance(error, TimeoutError):
            raise GitError(
                counted(
                    "The repository did not come within %(num)s second.",
                    "The repository did not come within %(num)s seconds.",
                    seconds,
                ),
                remedy="Try again later.",
            ) from None
        raise
    if process.returncode == 0:
        return out.decode(errors="surrogateescape")
    raise _explained(complaint.decode(errors="replace"), process.returncode or 0)


def _end(process: asyncio.subprocess.Process) -> None:
    """Its helpers too: git leaves the talking to `git-remote-https`."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return


def _proxies() -> dict[str, str]:
    """How this machine reaches the outside, where that is said by the environment."""
    names = (
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTPS_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    )
    told = {name: os.environ[name] for name in names if name in os.environ}
    if "SSL_CERT_FILE" in told:
        told["GIT_SSL_CAINFO"] = told["SSL_CERT_FILE"]
    return told


def _explained(complaint: str, status: int) -> GitError:
    """Git's own words to ours: whoever opened a link sees these."""
    low = complaint.lower()
    if any(
        words in low
        for words in ("not our ref", "couldn't find remote ref", "no such remote ref", "unadvertised")
    ):
        return NoSuchRef(
            "The repository does not have this commit.", remedy="Check the last part of the link."
        )
    if any(
        words in low
        for words in ("authentication failed", "could not read username", "error: 403", "error: 401")
    ):
        return GitError("The repository is private, or not there.", remedy="Only public ones can be opened.")
    if any(words in low for words in ("not found", "error: 404", "access denied or repository not exported")):
        return GitError("There is no such repository.", remedy="Check the address in the link.")
    if "returned error: 30" in low or "redirect" in low:
        return GitError("The repository has moved.", remedy="Use its new address in the link.")
    if re.search(
        r"failed to connect|unable to connect|connection (refused|reset|timed out)|no route to host", low
    ):
        return GitError(
            "The repository's server does not answer.",
            remedy="Check the address in the link, or try again later.",
        )
    last = next(
        (line for line in reversed(complaint.splitlines()) if line.strip()), f"git ended with {status}"
    )
    return GitError(
        f"The repository cannot be fetched: {last.strip().removeprefix('fatal: ')[:300]}",
        remedy="Try again later.",
    )
