"""Repositories from real git servers: what is asked for comes, and nothing else does."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from himalia_hub.ephemeral import git, submodules
from himalia_hub.ephemeral.folders import Folders
from himalia_hub.ephemeral.git import Bounds, GitError, NoSuchRef
from himalia_hub.ephemeral.submodules import Submodules
from repositories import Repository, SmartHttp, git_daemon, smart_http
from support import eventually

HERE = ["127.0.0.0/8"]
BOUNDS = Bounds(30, 5_000_000, 100)


@pytest.fixture
def notes(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repositories", "notes")


@pytest.fixture(params=["daemon", "http"])
async def url(request: pytest.FixtureRequest, notes: Repository) -> AsyncIterator[str]:
    serve = git_daemon if request.param == "daemon" else smart_http
    async with serve(notes.bare.parent) as server:
        yield (server.url if isinstance(server, SmartHttp) else server) + notes.name


@pytest.fixture
async def http(notes: Repository) -> AsyncIterator[SmartHttp]:
    async with smart_http(notes.bare.parent) as server:
        yield server


async def _fetched(url: str, commit: str, tmp_path: Path, *, bounds: Bounds = BOUNDS) -> Path:
    mirror, files = tmp_path / "mirror", tmp_path / f"files-{commit}"
    await git.fetch(await git.checked(url, HERE), mirror, commit, "main", bounds)
    await git.check_out(mirror, commit, files, bounds)
    return files


async def test_branches_tags_and_commits_are_found(notes: Repository, url: str) -> None:
    first = notes.commit({"a.txt": "1"})
    notes.git("tag", "--annotate", "-m", "x", "v1")
    notes.git("push", "--quiet", "origin", "v1")
    second = notes.commit({"a.txt": "2"}, branch="feature/new")
    remote = await git.checked(url, HERE)

    async def resolved(ref: str) -> str:
        return await git.resolve(remote, ref, seconds=30)

    assert await resolved("HEAD") == await resolved("main") == await resolved("v1") == first
    assert await resolved("feature/new") == second
    with pytest.raises(NoSuchRef, match="no branch or tag 'gone'"):
        await resolved("gone")
    with pytest.raises(NoSuchRef) as short:
        await resolved(first[:7])
    assert "40 digits" in short.value.remedy
    nobody = await git.checked("http://127.0.0.1:1/a.git", HERE)
    with pytest.raises(GitError, match="server does not answer"):
        await git.resolve(nobody, "HEAD", seconds=30)


async def test_the_files_of_one_commit_come_without_history(
    notes: Repository, url: str, tmp_path: Path
) -> None:
    old = notes.commit({"a.txt": "1", "run.sh": "echo"})
    (notes.work / "run.sh").chmod(0o755)
    (notes.work / "link").symlink_to("a.txt")
    new = notes.commit({"a.txt": "2", "deep/er/b.txt": "3"})

    files = await _fetched(url, new, tmp_path)

    assert (files / "a.txt").read_text() == "2"
    assert (files / "deep/er/b.txt").read_text() == "3"
    assert os.access(files / "run.sh", os.X_OK)
    assert (files / "link").readlink() == Path("a.txt")
    assert not (files / ".git").exists()
    # A branch that was moved away from a commit does not take it away from who names it.
    assert (await _fetched(url, old, tmp_path) / "a.txt").read_text() == "1"


async def test_names_that_a_shell_would_run_are_names(
    notes: Repository, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2021-39160, CVE-2025-30370: what a link or a repository calls things became part of a command."""
    monkeypatch.chdir(tmp_path)
    hostile = [
        "$(touch pwned)",
        "`touch pwned`",
        "a; touch pwned",
        "-rf",
        "--upload-pack=touch pwned",
        "a\nb",
    ]
    for name in hostile:
        commit = notes.commit({name: "1", f"in/{name}": "2"}, branch="x;$(touch${IFS}pwned)")
    remote = await git.checked(url, HERE)

    assert await git.resolve(remote, "x;$(touch${IFS}pwned)", seconds=30) == commit
    with pytest.raises(GitError):
        await git.resolve(remote, "--upload-pack=touch pwned", seconds=30)
    files = await _fetched(url, commit, tmp_path)

    assert {path.name for path in files.iterdir()} == {*hostile, "in"}
    assert {path.name for path in (files / "in").iterdir()} == set(hostile)
    assert not list(tmp_path.rglob("pwned"))


async def test_a_commit_that_is_not_there_is_said_so(notes: Repository, url: str, tmp_path: Path) -> None:
    notes.commit({"a.txt": "1"})
    with pytest.raises(NoSuchRef, match="commit"):
        await _fetched(url, "0" * 39 + "1", tmp_path)


async def test_a_repository_that_is_not_there_is_said_so(notes: Repository, url: str) -> None:
    with pytest.raises(GitError, match="no such repository"):
        await git.resolve(await git.checked(url.replace("notes", "gone"), HERE), "HEAD", seconds=30)


async def test_too_many_or_too_large_files_are_refused_before_one_is_written(
    notes: Repository, url: str, tmp_path: Path
) -> None:
    commit = notes.commit({f"{number}.txt": "" for number in range(101)} | {"zeros": "0" * 6_000_000})
    with pytest.raises(GitError, match=r"102 files of 6 MB; the limits are 100 and 5 MB"):
        await _fetched(url, commit, tmp_path)
    assert not list(tmp_path.glob("files*"))


async def test_a_pack_too_large_is_cut_off(notes: Repository, url: str, tmp_path: Path) -> None:
    (notes.work / "noise").write_bytes(os.urandom(3_000_000))
    commit = notes.commit({})
    with pytest.raises(GitError, match=r"larger than the 1 MB allowed"):
        await _fetched(url, commit, tmp_path, bounds=Bounds(30, 1_000_000, 100))


async def test_addresses_inside_this_network_are_not_asked(http: SmartHttp) -> None:
    for url in (
        http.url,
        http.url.replace("127.0.0.1", "localhost"),
        "http://[::1]/a.git",
        "http://[::ffff:127.0.0.1]/a.git",
        "http://0.0.0.0/a.git",
        "http://169.254.169.254/latest/",
        "git://10.0.0.1/a.git",
        "https://192.168.0.1/a.git",
    ):
        with pytest.raises(GitError, match="inside this hub's network"):
            await git.checked(url, [])
    assert http.asked == 0


async def test_git_talks_to_the_address_that_was_looked_up_and_to_no_other(
    notes: Repository, http: SmartHttp
) -> None:
    commit = notes.commit({"a.txt": "1"})
    named = http.url.replace("127.0.0.1", "localhost") + notes.name
    remote = await git.checked(named, ["localhost"])
    assert await git.resolve(remote, "HEAD", seconds=30) == commit
    elsewhere = git.Remote(remote.url, ("-c", "http.curloptResolve=localhost:1:127.0.0.1"))
    assert elsewhere.options != remote.options
    assert "127.0.0.1" in remote.options[1]


@pytest.mark.parametrize(
    ("fault", "words"),
    [("auth", "private, or not there"), ("redirect", "has moved"), ("error", "cannot be fetched")],
)
async def test_what_a_server_refuses_is_said_in_words(
    notes: Repository, http: SmartHttp, fault: str, words: str
) -> None:
    notes.commit({"a.txt": "1"})
    http.fault = fault
    with pytest.raises(GitError, match=words) as caught:
        await git.resolve(await git.checked(http.url + notes.name, HERE), "HEAD", seconds=30)
    assert caught.value.remedy
    assert http.asked <= 2, "a redirect was followed, or a password asked for"


async def test_a_server_that_does_not_answer_is_given_up_and_leaves_no_process(
    notes: Repository, http: SmartHttp
) -> None:
    http.fault = "hang"
    before = _gits()
    with pytest.raises(GitError, match="did not come within 1 second"):
        await git.resolve(await git.checked(http.url + notes.name, HERE), "HEAD", seconds=1)
    await asyncio.wait_for(_until_only(before), 30)


_HUB = """
import subprocess, time
from himalia_hub.services.child import tied
print(subprocess.Popen(tied("sleep", "600")).pid, flush=True)
time.sleep(600)
"""


async def test_what_fetches_and_installs_ends_with_the_hub_that_began_it() -> None:
    hub = await asyncio.create_subprocess_exec(sys.executable, "-c", _HUB, stdout=asyncio.subprocess.PIPE)
    assert hub.stdout is not None
    its = Path("/proc", (await hub.stdout.readline()).decode().strip())
    await eventually(lambda: b"sleep" in (its / "cmdline").read_bytes(), within_s=60, what="it runs")
    hub.kill()
    await hub.wait()

    def gone() -> bool:
        try:
            return "Z" in (its / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True

    await eventually(gone, within_s=60, what="it has ended")


async def test_what_a_killed_git_leaves_in_a_mirror_keeps_nobody_from_fetching(
    notes: Repository, http: SmartHttp, tmp_path: Path
) -> None:
    mirror, url = tmp_path / "mirror", http.url + notes.name
    await _fetched(url, notes.commit({"a.txt": "1"}), tmp_path)
    for left in ("shallow.lock", "config.lock", "HEAD.lock", "objects/pack/tmp_pack_x"):
        (mirror / left).touch()
    files = await _fetched(url, notes.commit({"a.txt": "2"}), tmp_path)
    assert (files / "a.txt").read_text() == "2"


async def _until_only(before: set[str]) -> None:
    while _gits() - before:
        await asyncio.sleep(0.01)


def _gits() -> set[str]:
    """Processes that this test's git has started."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"remote-http" in words and b"127.0.0.1" in words:
                found.add(entry.name)
    return found


def _with_submodule(
    notes: Repository, tmp_path: Path, address: str, *, name: str = "data"
) -> tuple[Repository, str]:
    """`notes` with another repository as its submodule, recorded as `address`; that one, and the commit."""
    inner = Repository(tmp_path / "repositories", name)
    commit = inner.commit({"table.csv": "1,2", "more.csv": ""})
    (notes.work / ".gitmodules").write_text(f'[submodule "{name}"]\n\tpath = sub/{name}\n\turl = {address}\n')
    notes.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub/{name}")
    notes.git("add", ".gitmodules")
    notes.git("commit", "--quiet", "--message", "with a submodule")
    notes.git("push", "--quiet", "--force", "origin", "HEAD:main")
    return inner, notes.git("rev-parse", "HEAD")


async def _with_submodules(url: str, commit: str, tmp_path: Path, *, bounds: Bounds = BOUNDS) -> Path:
    folders = Folders(tmp_path / "ephemeral")
    folders.make()
    mirror, files = folders.mirror(url), folders.checkout(url, commit)
    await git.fetch(await git.checked(url, HERE), mirror, commit, "main", bounds)
    inner = Submodules(folders, HERE, bounds)
    await git.check_out(mirror, commit, files, bounds, partial(inner.bring, url, commit))
    return files


async def test_submodules_come_with_their_repository(notes: Repository, url: str, tmp_path: Path) -> None:
    _, commit = _with_submodule(notes, tmp_path, "../data.git")
    files = await _with_submodules(url, commit, tmp_path)
    assert (files / "sub" / "data" / "table.csv").read_text() == "1,2"
    with pytest.raises(GitError, match="With submodules the repository has 3 files"):
        await _with_submodules(url, commit, tmp_path / "again", bounds=Bounds(30, 5_000_000, 2))


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("file:///etc", "cannot be asked"),
        ("ext::sh -c id", "cannot be asked"),
        ("--upload-pack=id", "cannot be fetched"),  # git itself takes no such file
        ("http://10.0.0.1/x.git", "inside this hub's network"),
    ],
)
async def test_a_submodule_is_checked_like_a_repository_and_nothing_is_left_when_it_cannot_be_had(
    notes: Repository, http: SmartHttp, tmp_path: Path, there: str, words: str
) -> None:
    _, commit = _with_submodule(notes, tmp_path, there)
    with pytest.raises(GitError, match=words):
        await _with_submodules(http.url + notes.name, commit, tmp_path)
    assert list((tmp_path / "ephemeral" / "checkouts").iterdir()) == []


def test_the_address_of_a_submodule_is_read_as_git_does_and_ssh_becomes_https() -> None:
    parent = "https://example.org/ann/notes.git"
    assert submodules.address("../data.git", parent) == "https://example.org/ann/data.git"
    assert submodules.address("../../../../x", parent) == "https://example.org/x"
    assert submodules.address("git@example.org:bob/x.git", parent) == "https://example.org/bob/x.git"
    assert submodules.address("ssh://git@example.org/bob/x", parent) == "https://example.org/bob/x"
