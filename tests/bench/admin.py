"""The administrators' pages: the first page of a long list beside JupyterHub's, and many who watch while a class starts.

    make bench WHAT=admin    or    .venv/bin/python tests/bench/admin.py [--people 5000] [--rounds 10] [--watchers 20] [--servers 200]

First as a person sees it, in Chromium (`first_row.py`); then the bare requests: JupyterHub's page and the API request that
the page's script makes, and our page. Both are asked in turn, at the hubs' own ports. The class starts at our hub twice,
without anybody who watches and with: servers are real processes that cost next to nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import json
import re
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.first_row import first_rows
from bench.hub import PASSWORD as ANY
from bench.hub import Peer, cpu_s, longest_wait, make_people, say, small_server, start
from bench.jupyterhub import JupyterHub
from hubs import PASSWORD, Hub

CONFIG = """
[log]
level = "warning"
[spawner]
command = [%s]
"""
API = "/hub/api/users?include_stopped_servers=1&offset=0&limit=50&sort=name"


OUR_SERVERS = """INSERT INTO servers (user_id, name, display_name, backend_name, user_options, desired, generation,
acted_generation, doomed, phase, phase_since, last_activity, incarnation, url, lease_epoch, attempts)
SELECT id, '', '', 'of-' || id, '{}', 'stopped', 2, 2, 0, 'stopped', created, created, '', '', 0, 0 FROM users"""
THEIR_SERVERS = """INSERT INTO spawners (user_id, name, state, user_options, last_activity)
SELECT id, '', '{}', '{}', created FROM users"""
"""A stopped server of everybody, as each hub keeps it."""


SEEN_NOW = "UPDATE users SET last_activity = strftime('%Y-%m-%d %H:%M:%f000', 'now') WHERE name = 'person-1'"
"""A row of the first page is another. (SQLite commits nothing where a value stays what it was.)"""


def write(database: Path, statement: str) -> None:
    """Change rows behind the back of the hub."""
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.execute(statement)


async def signed_in(peer: Peer, name: str) -> aiohttp.ClientSession:
    """A browser's session; whoever asks closes it."""
    base = f"http://127.0.0.1:{peer.port}"
    timeout = aiohttp.ClientTimeout(total=300)
    session = aiohttp.ClientSession(base, cookie_jar=aiohttp.CookieJar(unsafe=True), timeout=timeout)
    async with session.get("/hub/login") as page:
        inputs = (
            dict(re.findall(r'(\w+)="([^"]*)"', tag))
            for tag in re.findall(r"<input[^>]*>", await page.text())
        )
    sent = {one["name"]: html.unescape(one.get("value", "")) for one in inputs if one.get("type") == "hidden"}
    sent |= {"username": name, "password": ANY if peer.name == "jupyterhub" else PASSWORD}
    async with session.post(
        "/hub/login", data=sent, headers={"Origin": base}, allow_redirects=False
    ) as answer:
        assert answer.status in (302, 303), await answer.text()
    return session


async def first_page(peer: Peer, session: aiohttp.ClientSession, people: int) -> tuple[float, float]:
    """Milliseconds until all that a first page shows is here, and the hub's CPU for it."""
    began, cpu = time.perf_counter(), cpu_s(peer.pid)
    async with session.get("/hub/admin") as page:
        assert page.status == 200, await page.text()
        text = await page.text()
    if peer.name == "jupyterhub":
        headers = {"Authorization": f"token {peer.token}", "Accept": "application/jupyterhub-pagination+json"}
        async with session.get(API, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            assert len((await answer.json())["items"]) == min(50, people + 2)
    else:
        assert text.count("<tr id=") == min(50, people + 1)
        assert f"of {people + 1}" in text, "everybody and the administrator"
    return (time.perf_counter() - began) * 1000, (cpu_s(peer.pid) - cpu) * 1000


async def lists(peers: list[Peer], people: int, rounds: int, database: Path) -> None:
    """As nothing happens, then with a commit before each page, after which ours has to read its rows again."""
    sessions = [await signed_in(peer, "root") for peer in peers]
    try:
        for committed in (False, True):
            what = "after a commit" if committed else f"first page of {people:,} people"
            took = []
            for _ in range(rounds + 1):
                if committed:
                    write(database, SEEN_NOW)
                # In turn, so that other work on the machine meets both.
                took.append([await first_page(*one, people) for one in zip(peers, sessions, strict=True)])
            say_lists(what, took[1:])
    finally:
        for session in sessions:
            await session.close()


def say_lists(what: str, took: list[list[tuple[float, float]]]) -> None:
    """The four lines of one case."""
    ours, theirs = ([turn[index][0] for turn in took] for index in range(2))
    say(f"{what}, median", statistics.median(ours), statistics.median(theirs), "ms")
    say("  minimum", min(ours), min(theirs), "ms")
    say("  the slowest", max(ours), max(theirs), "ms")
    cpu = [statistics.mean(turn[index][1] for turn in took) for index in range(2)]
    say("  CPU of the hub", *cpu, "ms")


async def watch(session: aiohttp.ClientSession, seen: Counter[str], open_: asyncio.Event) -> None:
    """One administrator's list: counts the events that come, until cancelled."""
    async with session.get("/hub/admin") as page:
        text = await page.text()
    at, xsrf = (re.search(rf'data-{name}="([^"]*)"', text)[1] for name in ("at", "xsrf"))  # type: ignore[index]
    timeout = aiohttp.ClientTimeout(total=None)
    async with session.get(f"/hub/admin/events?_xsrf={xsrf}&at={at}", timeout=timeout) as stream:
        async for line in stream.content:
            seen["bytes"] += len(line)
            if line.startswith(b"event: "):
                seen[line[7:].decode().strip()] += 1
                open_.set()


async def a_class_starts(peer: Peer, names: list[str]) -> tuple[float, float, float, int]:
    """(seconds to the last ready, longest wait in ms of a request for nothing, CPU seconds of the hub, failures)."""
    failed: list[str] = []
    ended = asyncio.Event()
    headers = {"Authorization": f"token {peer.token}"}
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        lag = asyncio.create_task(longest_wait(peer, session, ended))
        before, began = cpu_s(peer.pid), time.perf_counter()
        await asyncio.gather(*(start(peer, session, name, failed) for name in names))
        lasted, cpu = time.perf_counter() - began, cpu_s(peer.pid) - before
        ended.set()
        return lasted, await lag, cpu, len(failed)


async def watched(peer: Peer, watchers: int, servers: int) -> None:
    """The same class twice: nobody watches, then so many do."""
    for count in (0, watchers):
        seen: Counter[str] = Counter()
        opened = [asyncio.Event() for _ in range(count)]
        sessions = [await signed_in(peer, "root") for _ in range(count)]
        tasks = [
            asyncio.create_task(watch(session, seen, one))
            for session, one in zip(sessions, opened, strict=True)
        ]
        await asyncio.gather(*(one.wait() for one in opened))
        names = [
            f"person-{number}" for number in range(servers * (count > 0), servers * (count > 0) + servers)
        ]
        lasted, lag, cpu, failed = await a_class_starts(peer, names)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in sessions:
            await session.close()
        print(
            f"{servers} servers start, {count} watch: all ready in {lasted:.1f} s ({failed} failed), longest wait of a "
            f"request for nothing {lag:.0f} ms, {cpu:.1f} s of the hub's CPU"
        )
        if count:
            each = {kind: round(number / count) for kind, number in sorted(seen.items())}
            print(f"  each watcher was sent {each}")


async def measure(folder: Path, args: argparse.Namespace) -> None:
    server = small_server(folder)
    ours = Hub(folder / "himalia", config=CONFIG % json.dumps(server), port=23300)
    theirs = JupyterHub(folder / "jupyterhub", port=23400, command=server)
    try:
        ours.add_user("root", admin=True)
        await ours.start()
        await theirs.start()
        peers = [Peer.of("himalia", ours), Peer.of("jupyterhub", theirs)]
        await make_people(peers[0], args.people)
        theirs.people(args.people)
        if args.lived_in:
            write(ours.data / "himalia.sqlite", OUR_SERVERS)
            write(theirs.data / "jupyterhub.sqlite", THEIR_SERVERS)
        print(f"{'':<44} {'himalia':>10} {'jupyterhub':>10} {'':<10} {'ratio':>7}")
        await first_rows(peers, args.rounds)
        await lists(peers, args.people, args.rounds, ours.data / "himalia.sqlite")
        await theirs.stop()
        await watched(peers[0], args.watchers, args.servers)
    finally:
        ours.clean_up()
        theirs.clean_up()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--people", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--lived-in", action="store_true", help="everybody has had a server: it is stopped")
    parser.add_argument("--watchers", type=int, default=20)
    parser.add_argument("--servers", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="himalia-bench-") as folder:
        asyncio.run(measure(Path(folder), args))


if __name__ == "__main__":
    main()
