"""Whether anything was lost: what clients were answered, against rows, processes, routes and files.

`Client` writes down each request and its answer. `nothing_lost` waits until the hubs have come to rest and then compares
that history with three other witnesses: the rows, the processes of this machine, and the proxy's table.

I1  A start that was acknowledged led to a ready server, or to a failed one with its cause, or was stopped on somebody's wish.
I2  No server has two lives at once.
I3  The proxy's routes are the ready servers' and no others.
I4  What runs belongs to a row that says so; what a row says runs.
I5  No token outlives its person, its server or its sign-in.
I6  No more servers have a place than the limits allow, and who waits has nothing running.
I7  The audit log has each acknowledged change once, and none twice.
I8  A file that was acknowledged as saved is on disk with those bytes.
I9  A second comparison finds nothing to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import aiohttp
import sqlalchemy as sa

from himalia_hub.db.engine import sync_url
from hubs import Asked, Client, Hub
from support import eventually

Living = Callable[[], Iterable[tuple[str, str]]]
"""(backend name, incarnation) of each process or container that runs as a server; one may occur often."""

checked: Counter[str] = Counter()
"""How often `nothing_lost` came to its end: each test of faults must have asked (`fault/conftest.py`)."""

SERVERS = (
    "SELECT s.id, u.name AS person, s.name, s.backend_name, s.desired, s.phase, s.generation, s.acted_generation,"
    " s.incarnation, s.failure, s.due_at, s.queued_at, s.unknown_since, s.lease_owner, s.lease_epoch"
    " FROM servers s JOIN users u ON u.id = s.user_id ORDER BY s.id"
)
TOKENS_WITHOUT = {
    "a person": "SELECT id FROM api_tokens WHERE user_id IS NOT NULL AND user_id NOT IN (SELECT id FROM users)",
    "a service": "SELECT id FROM api_tokens WHERE service_id IS NOT NULL AND service_id NOT IN (SELECT id FROM services)",
    "a running server": "SELECT id FROM api_tokens WHERE server_id IS NOT NULL AND server_id NOT IN"
    " (SELECT id FROM servers WHERE phase = 'ready' OR queued_at IS NOT NULL OR due_at IS NOT NULL)",
    "a sign-in": "SELECT id FROM api_tokens WHERE session_id IS NOT NULL"
    " AND session_id NOT IN (SELECT session_id FROM logins)",
}


class Witnesses(NamedTuple):
    """The site at one moment: rows of servers, lives by backend name, routes of servers."""

    rows: tuple[Any, ...]
    lives: dict[str, set[str]]
    routes: frozenset[str]

    def ready(self) -> list[Any]:
        return [row for row in self.rows if row.phase == "ready"]


async def nothing_lost(
    admin: Client,
    *hubs: Hub,
    others: Iterable[Client] = (),
    living: Living | None = None,
    within_s: float = 90,
) -> Witnesses:
    """The site once `hubs`, which share one database, rest; AssertionError names the invariant that does not hold then.

    `admin` reaches a hub that runs, and is an administrator's; `others` are further clients with a history.
    """
    look = living or (lambda: lives(hubs))
    last = ""

    async def found() -> Witnesses | None:
        nonlocal last
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, sa.exc.DBAPIError):
            seen = await witnesses(admin, hubs[0], look)
            last = unrest(seen)
            return None if last else seen
        return None

    try:
        seen = await eventually(found, within_s=within_s, what="the site rests")
    except AssertionError as error:
        error.add_note(last)
        raise
    history = [asked for one in (admin, *others) for asked in one.history]
    started_and_stopped(history, seen)
    await asyncio.to_thread(places_and_tokens, hubs[0], seen)
    await asyncio.to_thread(written_once, hubs, history)
    await asyncio.to_thread(saved, hubs, history)
    await nothing_to_do(admin, hubs[0], look, seen)
    checked["nothing_lost"] += 1
    return seen


def lives(hubs: Iterable[Hub]) -> Iterable[tuple[str, str]]:
    """Of the process spawner: from the mark `<hub>/<backend name>/<incarnation>` of each process."""
    for hub in hubs:
        for _, mark in hub.processes():
            _, name, incarnation = mark.split("/")
            yield name, incarnation


async def witnesses(admin: Client, hub: Hub, living: Living) -> Witnesses:
    """All of them, the routes asked first: what is routed has a row."""
    status, table = await admin.call("GET", "/proxy")
    assert status in (200, 503), table
    routes = frozenset(spec for spec in table if spec.startswith("/user/")) if status == 200 else frozenset()
    rows = await asyncio.to_thread(select, hub, SERVERS)
    found: dict[str, set[str]] = {}
    for name, incarnation in living():
        found.setdefault(name, set()).add(incarnation)
    return Witnesses(tuple(rows), found, routes)


def select(hub: Hub, query: str) -> list[Any]:
    """Rows, past all hubs."""
    engine = sa.create_engine(sync_url(hub.db_url), poolclass=sa.NullPool)
    with engine.connect() as db:
        return list(db.execute(sa.text(query)))


def unrest(seen: Witnesses) -> str:
    """I2, I3 and I4 at a moment of rest, or what is still under way. Pure."""
    for row in seen.rows:
        moving = row.due_at or row.lease_owner or row.unknown_since
        if moving or (row.queued_at is None and row.phase not in ("ready", "failed", "stopped")):
            return f"under way: {row}"
    for name, incarnations in seen.lives.items():
        if len(incarnations) > 1:
            return f"I2: {name} lives {len(incarnations)} times: {incarnations}"
    ready = {row.backend_name: row.incarnation for row in seen.ready()}
    routes = {f"/user/{row.person}/" + (f"{row.name}/" if row.name else "") for row in seen.ready()}
    if routes != seen.routes:
        return f"I3: ready are {routes}, routed are {seen.routes}"
    waiting = {
        row.backend_name for row in seen.rows if row.phase == "failed" and "kept_until" in str(row.failure)
    }
    running = {name: next(iter(one)) for name, one in seen.lives.items() if name not in waiting}
    return "" if running == ready else f"I4: rows say {ready}, there run {running}"


def started_and_stopped(history: Iterable[Asked], seen: Witnesses) -> None:
    """I1. An unanswered wish may have been heard or not; either end will do then."""
    ends = {f"/users/{row.person}/server" + (f"s/{row.name}" if row.name else ""): row for row in seen.rows}
    wishes: dict[str, list[Asked]] = {}
    for asked in sorted(history, key=lambda one: one.at):
        path = asked.path.partition("?")[0]
        if path in ends and asked.method in ("POST", "DELETE"):
            wishes.setdefault(path, []).append(asked)
    for path, asked_for in wishes.items():
        heard = [at for at, one in enumerate(asked_for) if one.acknowledged]
        if not heard:
            continue
        last, unsure = asked_for[heard[-1]], asked_for[heard[-1] + 1 :]
        may_be_stopped = last.method == "DELETE" or any(one.method == "DELETE" for one in unsure)
        may_run = last.method == "POST" or any(one.method == "POST" for one in unsure)
        row = ends[path]
        runs = row.phase == "ready" or row.queued_at is not None
        assert may_run or not runs, f"I1: stopped, and yet it runs: {row}"
        if row.phase == "failed":
            assert "cause" in str(row.failure), f"I1: failed without a cause: {row}"
        else:
            assert may_be_stopped or runs, f"I1: a start was lost: {row}"


def places_and_tokens(hub: Hub, seen: Witnesses) -> None:
    """I5 and I6."""
    for what, query in TOKENS_WITHOUT.items():
        left = [row.id for row in select(hub, query)]
        assert not left, f"I5: tokens without {what}: {left}"
    settings = tomllib.loads((hub.data / "himalia.toml").read_text()).get("servers", {})
    limit = settings.get("active_limit", 0)
    placed = [row for row in seen.rows if row.desired == "running" and row.queued_at is None]
    assert not limit or len(placed) <= limit, f"I6: {len(placed)} servers have one of {limit} places"
    early = [row for row in seen.rows if row.queued_at is not None and row.backend_name in seen.lives]
    assert not early, f"I6: waiting, and yet running: {early}"


def written_once(hubs: Iterable[Hub], history: Iterable[Asked]) -> None:
    """I7. What the database could not keep is in the hub's log, which says so."""
    hubs = list(hubs)
    rows = Counter(
        row.request_id for row in select(hubs[0], "SELECT request_id FROM audit WHERE request_id <> ''")
    )
    twice = [request for request, times in rows.items() if times > 1]
    assert not twice, f"I7: written twice: {twice}"
    logged = "".join(hub.output.read_text(errors="replace") for hub in hubs if hub.output.exists())
    for asked in history:
        if asked.acknowledged and asked.request_id and asked.method not in ("GET", "HEAD"):
            kept = asked.request_id in rows or f'"{asked.request_id}"' in logged
            assert kept, f"I7: nobody wrote down {asked}"


def saved(hubs: Iterable[Hub], history: Iterable[Asked]) -> None:
    """I8: the last acknowledged bytes of each file, or those of a later save that nobody answered."""
    files: dict[str, list[Asked]] = {}
    for asked in sorted(history, key=lambda one: one.at):
        if asked.saved is not None:
            files.setdefault(asked.path, []).append(asked)
    for path, saves in files.items():
        heard = [at for at, one in enumerate(saves) if one.acknowledged]
        if not heard:
            continue
        allowed = {one.saved for one in saves[heard[-1] :]}
        name = path.rpartition("/")[2]
        found = [file.read_text() for hub in hubs for file in hub.homes.rglob(name)]
        assert set(found) & allowed, f"I8: {path} holds {found}, acknowledged was {allowed}"


async def nothing_to_do(admin: Client, hub: Hub, living: Living, before: Witnesses) -> None:
    """I9: the hub compares once more, and no row has moved and no process or route is another.

    The news of an end may still be under way to a hub that was busy or held up: that row is then looked at again, which
    may change nothing but the number of its lease.
    """
    last = before

    async def fixed() -> bool:
        nonlocal last
        status, body = await admin.call("POST", "/proxy")
        assert status in (200, 503), body
        seen, last = last, await witnesses(admin, hub, living)
        return seen == last

    await eventually(fixed, within_s=30, what="a second comparison finds nothing to do")
    assert outcome(last) == outcome(before), f"I9: before {before}, and then {last}"


def outcome(seen: Witnesses) -> tuple[Any, ...]:
    """All but how often each row was looked at."""
    rows = [{key: row._mapping[key] for key in row._fields if key != "lease_epoch"} for row in seen.rows]
    return rows, seen.lives, seen.routes
