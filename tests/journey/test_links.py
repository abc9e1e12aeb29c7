"""A link to a repository becomes a session with its files and its packages, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

import official
from himalia_hub.ephemeral.installer import READY
from hubs import Client, Hub, Launch
from launches import config, events, inside_an_open_root, opened
from repositories import Repository, git_daemon, link, smart_http
from shelf import serving, zipped
from support import eventually
from wire import kernel_client

NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
PACKAGE = "tabulate"


@pytest.fixture
def notes(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repositories", "notes")
    made.commit({"requirements.txt": PACKAGE, "index.ipynb": NOTEBOOK})
    return made


@pytest.fixture
async def url(notes: Repository) -> AsyncIterator[str]:
    async with git_daemon(notes.bare.parent) as base:
        yield base + notes.name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ephemeral"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account can pass through; pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="himalia-links-") as made:
        Path(made).chmod(0o711)
        yield Path(made) / "ephemeral"


def phases(told: list[dict[str, Any]]) -> list[str]:
    """The phases in their order, each once."""
    return list(dict.fromkeys(event["phase"] for event in told))


async def run(ready: dict[str, Any], code: str) -> str:
    """What the code prints in a new kernel of the session."""
    async with kernel_client(ready["url"], ready["token"]) as client:
        return await client.stream_of(await client.send("execute_request", code=code))


async def end(admin: Client, url: str) -> None:
    """Stop the session's server, as its visitor or an administrator would."""
    name = url.rstrip("/").rpartition("/")[2]
    status, body = await admin.call("DELETE", f"/users/{name}/server")
    assert status in (202, 204), body


async def nothing_is_left(hub: Hub, admin: Client, folder: Path) -> None:
    """No session's process, folder, person or route."""

    async def gone() -> bool:
        routes = (await admin.call("GET", "/proxy"))[1]
        people = (await admin.call("GET", "/users"))[1]
        return (
            list(routes) == ["/"]
            and [person["name"] for person in people] == ["root"]
            and not os.listdir(folder / "sessions")
        )

    await eventually(gone, within_s=60, what="every trace of the sessions is gone")
    assert hub.processes() == []


async def test_a_link_becomes_a_session_with_the_repositorys_packages_and_files(
    launch: Launch, folder: Path, url: str, notes: Repository
) -> None:
    hub, admin = await launch(config(folder, "build_only = true"))
    hub.homes = folder

    made = await opened(hub, f"{link(url)}?build_only=true")
    assert phases(made) == ["waiting", "fetching", "building", "built", "ready"], made[-1]
    assert any(PACKAGE in event["message"] for event in made if event["phase"] == "building")
    assert "url" not in made[-1]
    await nothing_is_left(hub, admin, folder)

    told = await opened(hub, link(url))

    assert phases(told) == ["waiting", "built", "launching", "ready"], told[-1]
    ready = told[-1]
    assert ready["image"] == made[-1]["imageName"]
    assert ready["binder_request"] == f"v2/{link(url)}"
    assert ready["binder_persistent_request"].endswith(notes.git("rev-parse", "HEAD"))
    assert "index.ipynb" in await run(ready, f"import os, {PACKAGE}; print(os.listdir())")

    # A later commit that changes no environment file finds the environment there, and so does another visitor.
    notes.commit({"README.md": "new"})
    again = await opened(hub, link(url))
    assert "building" not in phases(again)
    assert "README.md" in await run(again[-1], "import os; print(os.listdir())")
    assert len(list((folder / "environments").glob(f"*/{READY}"))) == 1

    # Whoever has the token of one session has nothing else: no other session, and nothing of the hub's.
    async with aiohttp.ClientSession(headers={"Authorization": f"token {ready['token']}"}) as session:
        async with session.get(again[-1]["url"] + "api/contents") as answer:
            assert answer.status == 403
        async with session.get(f"{hub.api}/users") as answer:
            assert answer.status == 403
    for one in (ready, again[-1]):
        await end(admin, one["url"])
    await nothing_is_left(hub, admin, folder)


async def test_binderhubs_own_client_opens_a_link(launch: Launch, folder: Path, url: str) -> None:
    hub, _ = await launch(config(folder))
    hub.homes = folder
    process = await asyncio.create_subprocess_exec(
        *official.binder_client(), f"{hub.url}/build/", link(url), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    told = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0
    assert told[-1]["phase"] == "ready", told[-1]
    async with aiohttp.ClientSession() as session:
        there = f"{told[-1]['url']}api/contents?token={told[-1]['token']}"
        async with session.get(there) as answer:
            assert answer.status == 200
            assert "index.ipynb" in await answer.text()


async def test_who_comes_back_is_at_the_same_launch(launch: Launch, folder: Path, url: str) -> None:
    hub, _ = await launch(config(folder))
    hub.homes = folder
    old = link(url, "master")
    first = await anext(events(hub, old))
    rest = [event async for event in events(hub, old, after=first["id"])]
    assert {event["launch_id"] for event in rest} == {first["launch_id"]}
    assert rest[-1]["phase"] == "ready"
    assert any("no branch master any more" in event["message"] for event in rest), (
        "links of READMEs outlive the name of a default branch"
    )


async def test_many_clicks_are_one_build_and_never_more_sessions_than_places(
    launch: Launch, folder: Path, url: str
) -> None:
    hub, admin = await launch(config(folder, "total_limit = 3", "visitor_limit = 0"))
    hub.homes = folder
    told: list[list[dict[str, Any]]] = [[] for _ in range(12)]

    async def click(number: int) -> None:
        async for event in events(hub, link(url)):
            told[number].append(event)

    clicks = [asyncio.create_task(click(number)) for number in range(len(told))]

    def ready() -> list[str]:
        return [one[-1]["url"] for one in told if one and one[-1]["phase"] == "ready"]

    ended: set[str] = set()
    try:
        while len(ended) < len(told):
            await eventually(lambda: len(ready()) == len(ended) + 3, within_s=60, what="three more are ready")
            sessions = [entry for entry in os.listdir(folder / "sessions") if not entry.endswith(".new")]
            assert len(sessions) == 3
            for url_of in set(ready()) - ended:
                ended.add(url_of)
                await end(admin, url_of)
        await asyncio.gather(*clicks)
    finally:
        for task in clicks:
            task.cancel()
        await asyncio.gather(*clicks, return_exceptions=True)
    places = [[event["queue_position"] for event in one if "queue_position" in event] for one in told]
    assert all(seen == sorted(seen, reverse=True) for seen in places), places
    assert sum("building" in phases(one) for one in told) <= 3, "only those with a place may build"
    assert len(list((folder / "environments").iterdir())) == 1
    await nothing_is_left(hub, admin, folder)


@pytest.mark.parametrize(
    ("settings", "files", "words"),
    [
        (("private_hosts = []",), {}, "inside this hub's network"),
        ((), {"Dockerfile": "FROM scratch"}, "Dockerfile asks for an image"),
        (
            (),
            {"requirements.txt": "no-such-package-anywhere-at-all"},
            "no-such-package-anywhere-at-all was not found",
        ),
        (("repository_max_bytes = 1000000",), {"a.txt": "0" * 1_100_000}, "files of 1 MB; the limits are"),
    ],
)
async def test_what_cannot_be_opened_ends_with_its_cause_and_leaves_nothing(
    launch: Launch, folder: Path, url: str, notes: Repository, settings: tuple[str, ...], files: dict[str, str], words: str
) -> None:  # fmt: skip
    notes.commit(files)
    lines = [
        line for line in config(folder, *settings).splitlines() if not line.startswith('private_hosts = ["')
    ]
    kept = lines if settings == ("private_hosts = []",) else config(folder, *settings).splitlines()
    hub, admin = await launch("\n".join(kept) + "\n")

    told = await opened(hub, link(url))

    assert told[-1]["phase"] == "failed"
    assert words in told[-1]["message"]
    await nothing_is_left(hub, admin, folder)


async def test_a_server_that_stops_amid_a_repository_and_an_index_that_is_down_are_named_and_leave_nothing(
    launch: Launch, folder: Path, notes: Repository
) -> None:
    async with smart_http(notes.bare.parent) as git, serving() as index:
        hub, admin = await launch(
            config(folder, "fetch_timeout_s = 6", f'index_url = "{index.url}/simple"'), env={"UV_HTTP_RETRIES": "0"}
        )  # fmt: skip
        git.fault = "stall"
        told = await opened(hub, link(git.url + notes.name))
        assert git.stalled, told
        assert "did not come within 6 seconds" in told[-1]["message"]
        assert "Try again later" in told[-1]["message"]

        git.fault, index.status = "", 503
        told = await opened(hub, link(git.url + notes.name))
        assert "503 Service Unavailable" in told[-1]["message"]
        assert "a server of packages does not answer" in told[-1]["message"]
        await nothing_is_left(hub, admin, folder)
    assert list((folder / "environments").iterdir()) == []


async def test_a_session_ends_when_its_time_is_over(launch: Launch, folder: Path, url: str) -> None:
    hub, admin = await launch(config(folder, "max_age_s = 3"))
    hub.homes = folder
    told = await opened(hub, link(url))
    assert told[-1]["phase"] == "ready"
    await nothing_is_left(hub, admin, folder)
    later = [event async for event in events(hub, link(url), after=told[-1]["id"])]
    assert later[-1]["phase"] == "failed"
    assert "running for 3 seconds" in later[-1]["message"]


async def test_a_session_that_fills_the_disk_is_ended_and_says_so(
    launch: Launch, folder: Path, url: str
) -> None:
    hub, admin = await launch(config(folder, "session_max_bytes = 30_000_000"))
    hub.homes = folder
    told = await opened(hub, link(url))
    assert told[-1]["phase"] == "ready"
    await run(told[-1], "open('large', 'wb').write(bytes(40_000_000))")
    await nothing_is_left(hub, admin, folder)
    later = [event async for event in events(hub, link(url), after=told[-1]["id"])]
    assert "more room than a session may have" in later[-1]["message"]


async def test_each_session_has_an_account_of_its_own_and_reads_nothing_of_others(
    launch: Launch, open_folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "inside", inside_an_open_root())
    folder = open_folder
    hub, admin = await launch(config(folder).replace("trusted_network = true\n", ""))
    hub.homes = folder
    first, second = (await opened(hub, link(url)))[-1], (await opened(hub, link(url)))[-1]
    assert (first["phase"], second["phase"]) == ("ready", "ready")
    there = await run(first, f"import os, {PACKAGE}; print(os.getuid(), os.getcwd())")
    uid, home = there.split()
    assert int(uid) >= 300_000

    mark = f"600.{time.time_ns()}"  # other hubs of this machine give their sessions the same accounts
    tries = f"""
import os
for path in ({str(hub.data / "secret")!r}, {str(hub.data / "himalia.sqlite")!r}, {home!r} + "/index.ipynb"):
    try:
        print(open(path, "rb").read()[:1])
    except OSError as error:
        print(type(error).__name__)
print(os.getuid())
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sleep", ["sleep", {mark!r}], {{}})
    os._exit(0)
"""
    seen = (await run(second, tries)).split()
    assert seen[:3] == ["PermissionError"] * 3
    assert seen[3] != uid
    await eventually(lambda: _hidden(mark) == [int(seen[3])], what="something hides")

    for one in (first, second):
        await end(admin, one["url"])
    await nothing_is_left(hub, admin, folder)
    assert not _hidden(mark), "what hid from its server outlived the session"


def _hidden(mark: str) -> list[int]:
    """Accounts of the living processes with this word in their command."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(entry.stat().st_uid)
    return found


async def test_a_hub_without_accounts_for_sessions_opens_no_links_unless_told_so(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "data", config=config(tmp_path / "closed").replace("trusted_network = true\n", ""))
    (tmp_path / "closed").mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    try:
        await hub.start(ready=False)
        assert await hub.died() == 1
        assert "ephemeral.trusted_network = true" in hub.said()
        assert "Traceback" not in hub.said()
        assert "Proxy" not in hub.said(), "what is refused leaves nothing running"
    finally:
        hub.clean_up()


async def test_a_link_to_an_archive_opens_its_files_and_says_its_content_for_ever(
    launch: Launch, folder: Path
) -> None:
    hub, admin = await launch(config(folder))
    async with serving() as shelf:
        shelf.files["/course.zip"] = zipped(**{"course/index.ipynb": "{}", "course/requirements.txt": ""})
        told = await opened(hub, f"archive/{quote(f'{shelf.url}/course.zip', safe='')}")
        ready = told[-1]
        assert ready["phase"] == "ready", ready
        async with aiohttp.ClientSession(headers={"Authorization": f"token {ready['token']}"}) as session:
            async with session.get(f"{ready['url']}api/contents/index.ipynb?content=0") as answer:
                assert answer.status == 200, await answer.text()
            async with session.delete(
                f"{hub.api}/users/{ready['url'].rstrip('/').rpartition('/')[2]}/server"
            ) as answer:
                assert answer.status in (202, 204)
        shelf.files["/course.zip"] = zipped(**{"other.ipynb": "{}"})
        again = await opened(hub, ready["binder_persistent_request"].removeprefix("v2/"))
        assert again[-1]["phase"] == "ready", "its files were kept"
        name = again[-1]["url"].rstrip("/").rpartition("/")[2]
        assert (await admin.call("DELETE", f"/users/{name}/server"))[0] in (202, 204)
    await nothing_is_left(hub, admin, folder)


async def test_a_link_is_not_opened_without_asking_for_events(launch: Launch, folder: Path, url: str) -> None:
    hub, _ = await launch(config(folder))
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{hub.url}/build/{link(url)}") as answer:
            assert answer.status == 400
            assert "Accept: text/event-stream" in await answer.text()
        async with session.get(f"{hub.url}/v2/gh/nothing", allow_redirects=True) as answer:
            assert answer.status == 400
