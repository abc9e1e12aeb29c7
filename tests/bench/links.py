"""What a click on a link costs, phase by phase, with a session kept warm and without; and many clicks at once.

    make bench WHAT=links    or
    .venv/bin/python tests/bench/links.py [--rounds 10] [--clicks 200] [--answers 0] [--launches 0]

The environment is known (built before the first figure); the repository lies on this machine. Seconds from the click to
the first `/lab` 200 and to a kernel's first reply, as a program sees them: a browser's own loading comes on top.
`--clicks` open one link at once on a hub of ten places; `--answers` so many times, each with a hub of its own, until the
others have been told their place. `--launches` are opened and ended, and what is left is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import aiohttp
import psutil
from spawn import p95, say

from hubs import Client, Hub, client, free_port
from launches import config, events
from repositories import Repository, git_daemon, link
from support import eventually
from wire import kernel_client

PHASES = ("answered", "resolved", "fetched", "environment", "ready", "first /lab 200", "kernel's first reply")
PLACES = 10
NO_LIMITS = ("visitor_limit = 0", "visitor_hourly_limit = 0")


@asynccontextmanager
async def place(folder: Path, port: int, *settings: str) -> AsyncIterator[tuple[Hub, Client, str]]:
    """A hub that opens links to one repository here, with its administrator and the link."""
    notes = Repository(folder / "repositories", "notes")
    notes.commit(
        {"requirements.txt": "tabulate\n", "index.ipynb": '{"cells": [], "metadata": {}, "nbformat": 4}'}
    )
    hub = Hub(folder / "data", port=port, config=config(folder / "ephemeral", *NO_LIMITS, *settings))
    hub.homes = folder / "ephemeral"
    hub.add_user("root", admin=True)
    try:
        await hub.start()
        async with git_daemon(notes.bare.parent) as base, client(hub, hub.token("root")) as admin:
            yield hub, admin, link(base + notes.name)
        await hub.stop()
    finally:
        hub.clean_up()


async def end(admin: Client, url: str) -> None:
    status, body = await admin.call("DELETE", f"/users/{url.rstrip('/').rpartition('/')[2]}/server")
    assert status in (202, 204), body


async def people(admin: Client) -> list[str]:
    return [person["name"] for person in (await admin.call("GET", "/users"))[1]]


async def click(hub: Hub, admin: Client, address: str) -> dict[str, float]:
    """Open it, use it, end it; seconds from the click to the end of each phase."""
    began, at = time.monotonic(), {}
    url = token = ""
    async for event in events(hub, address):
        now, message = time.monotonic() - began, event["message"]
        if "is commit" in message:
            at["resolved"] = now
        elif "environment" in message and event["phase"] == "waiting":
            at["fetched"] = now
        elif event["phase"] in ("built", "launching"):
            at.setdefault("environment", now)
        at.setdefault("answered", now)
        if event["phase"] == "ready":
            at["ready"], url, token = now, event["url"], event["token"]
        assert event["phase"] != "failed", event
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"token {token}"}) as session,
        session.get(f"{url}lab") as answer,
    ):
        assert answer.status == 200
        at["first /lab 200"] = time.monotonic() - began
    async with kernel_client(url, token) as kernel:
        assert await kernel.stream_of(await kernel.send("execute_request", code="print(1)")) == "1\n"
        at["kernel's first reply"] = time.monotonic() - began
    await end(admin, url)
    return at


def table(took: dict[str, list[dict[str, float]]]) -> None:
    print(f"{'until':24}" + "".join(f"{way:>24}" for way in took))
    for phase in PHASES:
        cells = []
        for rounds in took.values():
            values = [one[phase] for one in rounds if phase in one]
            cells.append(f"{statistics.median(values):.2f} (p95 {p95(values):.2f})" if values else "-")
        print(f"{phase:24}" + "".join(f"{cell:>24}" for cell in cells))


async def rounds(folder: Path, port: int, number: int) -> None:
    took: dict[str, list[dict[str, float]]] = defaultdict(list)
    async with (
        place(folder / "cold", port) as cold,
        place(folder / "warm", port + 8, "pool_max = 1", "pool_min = 1") as warm,
    ):
        for hub, admin, address in (cold, warm):
            await click(hub, admin, address)  # builds the environment, and says what is wanted
        for turn in range(number):
            for way, (hub, admin, address) in (("none kept warm", cold), ("one kept warm", warm)):

                async def rests(
                    hub: Hub = hub, admin: Client = admin, warm_ones: int = int(hub is warm[0])
                ) -> bool:
                    found = await people(admin)
                    return len(found) == 1 + warm_ones and len(kernels(hub)) == warm_ones

                await eventually(rests, within_s=120, what="the last one is gone, the next is warm")
                took[way].append(await click(hub, admin, address))
            say(f"click {turn + 1} of {number}")
    table(took)


def kernels(hub: Hub) -> list[int]:
    found = []
    for pid, _ in hub.processes():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"ipykernel" in command:
            found.append(pid)
    return found


async def crowd(folder: Path, port: int, number: int) -> None:
    """All at once on one link: when each heard of its place, and what ran at most."""
    async with place(folder, port, f"total_limit = {PLACES}", f"queue_limit = {number}") as (
        hub,
        admin,
        address,
    ):
        heard, most, honest = [], 0, 0
        began = time.monotonic()

        async def one() -> None:
            nonlocal most, honest
            places: list[int] = []
            async for event in events(hub, address, patience_s=1800):
                assert event["phase"] != "failed", event
                if "queue_position" in event:
                    if not places:
                        heard.append(time.monotonic() - began)
                    places.append(event["queue_position"])
                if event["phase"] == "ready":
                    there = os.listdir(folder / "ephemeral" / "sessions")
                    most = max(most, sum(not entry.endswith(".new") for entry in there))
                    await end(admin, event["url"])
            honest += places == sorted(places, reverse=True)

        await asyncio.gather(*(one() for _ in range(number)))
        built = len(os.listdir(folder / "ephemeral" / "environments"))
        print(
            f"{number} clicks at once, {PLACES} places: all had a session within {time.monotonic() - began:.1f} s"
        )
        print(
            f"  the answer with one's place, {len(heard)} queued: median {statistics.median(heard):.2f}, p95 {p95(heard):.2f} s"
        )
        print(f"  sessions at most {most}, environments {built}, places that only fell: {honest} of {number}")
        await count_what_is_left(hub, admin, folder)


async def answers(folder: Path, port: int, number: int) -> None:
    """All at once on one link, until those without a place of the first ten were told theirs."""
    async with place(folder, port, f"total_limit = {PLACES}", f"queue_limit = {number}") as (hub, _, address):
        assert hub.process is not None
        process, told = psutil.Process(hub.process.pid), []
        request = f"GET /build/{address} HTTP/1.1\r\nHost: hub\r\nAccept: text/event-stream\r\n\r\n".encode()

        async def one() -> None:
            # A bare socket: a client of aiohttp's for each would need as much of the machine as the hub.
            reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
            writer.write(request)
            try:
                while b'"queue_position"' not in await reader.readline():
                    assert not reader.at_eof()
                told.append((time.monotonic() - began, used()))
                if len(told) >= number - PLACES:
                    all_told.set()
                await reader.read()
            finally:
                writer.close()

        def used() -> float:
            times = process.cpu_times()
            return times.user + times.system - before

        all_told, before = asyncio.Event(), 0.0
        before, began = used(), time.monotonic()
        clicks = [asyncio.create_task(one()) for _ in range(number)]
        await asyncio.wait_for(all_told.wait(), 120)
        for click_ in clicks:
            click_.cancel()
        await asyncio.gather(*clicks, return_exceptions=True)
        heard, late = [seconds for seconds, _ in told], told[int(0.95 * len(told))]
        print(
            f"{len(heard)} of {number} told their place: median {statistics.median(heard):.2f}, "
            f"p95 {p95(heard):.2f}, last {max(heard):.2f} s; the hub needed {late[1]:.2f} s of a processor for 95 %"
        )
        hub.kill()


async def many(folder: Path, port: int, number: int) -> None:
    """One after the other, ten at a time; what is left of them."""
    async with place(folder, port, f"total_limit = {PLACES}") as (hub, admin, address):
        gate, done = asyncio.Semaphore(PLACES), 0

        async def one() -> None:
            nonlocal done
            async with gate:
                async for event in events(hub, address):
                    assert event["phase"] != "failed", event
                    if event["phase"] == "ready":
                        await end(admin, event["url"])
                        done += 1
                        if done % 50 == 0:
                            say(f"launch {done} of {number}")

        began = time.monotonic()
        await asyncio.gather(*(one() for _ in range(number)))
        print(f"{number} launches in {time.monotonic() - began:.0f} s")
        await count_what_is_left(hub, admin, folder)


async def count_what_is_left(hub: Hub, admin: Client, folder: Path) -> None:
    """After the last has ended. Rows of launches are history; tokens and guests are not."""

    async def rests() -> bool:
        return await people(admin) == ["root"] and not hub.processes()

    await eventually(rests, within_s=300, what="the last session is gone")
    with sqlite3.connect(f"file:{hub.data / 'himalia.sqlite'}?mode=ro", uri=True) as db:
        counts = {
            "guests": "SELECT count(*) FROM users WHERE guest",
            "servers": "SELECT count(*) FROM servers",
            "tokens": "SELECT count(*) FROM api_tokens WHERE user_id NOT IN (SELECT id FROM users WHERE NOT guest)",
            "places": "SELECT count(*) FROM launches WHERE seated OR uid IS NOT NULL",
        }
        left = {what: db.execute(query).fetchone()[0] for what, query in counts.items()}
    left["folders"] = len(os.listdir(folder / "ephemeral" / "sessions"))
    left["routes"] = len((await admin.call("GET", "/proxy"))[1]) - 1
    left["processes"] = len(hub.processes())
    print("  left: " + ", ".join(f"{number} {what}" for what, number in left.items()))


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="clicks of each kind, taken in turn; 0: none")
    parser.add_argument("--clicks", type=int, default=200, help="clicks at once; 0: none")
    parser.add_argument("--answers", type=int, default=0, help="how often to measure their answers alone")
    parser.add_argument("--launches", type=int, default=0, help="launches whose remains are counted")
    told = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        if told.rounds:
            await rounds(folder, port, told.rounds)
        for turn in range(told.answers):
            await answers(folder / f"answers-{turn}", port, told.clicks)
        if told.clicks and not told.answers:
            await crowd(folder / "crowd", port, told.clicks)
        if told.launches:
            await many(folder / "many", port, told.launches)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    asyncio.run(main())
