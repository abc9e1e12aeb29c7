"""What is kept in memory is what the database says, whoever changed it last."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from component.hub.hub_site import Site, site
from himalia_hub import clock
from himalia_hub.db import memo as memo_module
from himalia_hub.db.engine import Database, sync_url
from himalia_hub.db.memo import Memo
from himalia_hub.db.shared import Shared
from himalia_hub.tokens.models import ApiToken
from himalia_hub.users.models import User
from support import eventually


@pytest.fixture
async def hub(tmp_path: Path, database_url: str) -> AsyncIterator[Site]:
    async with site(tmp_path, database_url) as running:
        yield running


async def test_the_revision_stands_still_while_nobody_writes_and_moves_with_every_commit(hub: Site) -> None:
    async with (
        hub.db.read() as db
    ):  # the first connection of all sets the file's journal mode, which is a commit
        await db.scalars(sa.select(User))
    before = await hub.db.revision.now()
    async with hub.db.read() as db:
        await db.scalars(sa.select(User))
    assert before is not None
    assert await hub.db.revision.now() == before
    seen = {before}
    for name in ("ada", "ben"):
        await hub.person(name)
        seen.add(await hub.db.revision.now())
    assert len(seen) == 3


async def test_what_was_kept_before_a_connection_broke_is_not_taken_for_what_holds_after_it(
    hub: Site,
) -> None:
    memo = Memo(hub.db)

    async def count() -> int:
        return await hub.count(User)

    await hub.count(User)  # as above: it is all the first revision of a connection that is kept
    await hub.db.revision.close()
    assert await memo.get("people", count) == 0
    await hub.person("ada")
    await hub.db.revision.close()
    assert await memo.get("people", count) == 1


async def test_a_commit_of_another_process_moves_it(hub: Site) -> None:
    await hub.person("ada")
    before = await hub.db.revision.now()
    program = (
        "import sys, sqlalchemy as sa; e = sa.create_engine(sys.argv[1]); c = e.connect();"
        "c.execute(sa.text('UPDATE users SET admin = true')); c.commit()"
    )
    url = sync_url(hub.db.url.render_as_string(hide_password=False)).render_as_string(hide_password=False)
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program, url], check=True, timeout=60)
    assert await hub.db.revision.now() not in (before, None)


async def test_what_was_read_before_a_commit_is_not_kept_after_it(hub: Site) -> None:
    """A transaction that was open while the reader read, and was committed afterwards, must be seen next time."""
    memo = Memo(hub.db)

    async def count() -> int:
        async with hub.db.read() as db:
            return int(await db.scalar(sa.select(sa.func.count()).select_from(User)) or 0)

    async with hub.db.begin() as db:
        db.add(User(name="ada", created=clock.now()))
        await db.flush()
        assert await memo.get("people", count) == 0
    assert await memo.get("people", count) == 1

    async def write_and_count() -> int:
        found = await count()
        await hub.person(f"person-{found}")
        return found

    assert await memo.get("more", write_and_count) == 1
    assert await memo.get("more", write_and_count) == 2


async def test_without_an_answer_nothing_is_kept(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/no/such/folder.sqlite")
    memo, made = Memo(database), iter(range(10))

    async def make() -> int:
        return next(made)

    assert [await memo.get("x", make) for _ in range(3)] == [0, 1, 2]
    await database.close()


async def test_a_right_that_is_taken_away_is_gone_with_the_next_request(hub: Site) -> None:
    ada = await hub.person("ada", admin=True)
    token = await hub.token(ada)
    async with hub.client(token) as client:
        for _ in range(3):
            assert (await client("GET", "/hub/api/users")).status == 200
        async with hub.db.begin() as db:
            (await db.get_one(User, ada.id)).admin = False
        assert (await client("GET", "/hub/api/users")).status == 403
        assert (await client("GET", "/hub/api/user")).json["admin"] is False
        async with hub.db.begin() as db:
            await db.execute(sa.delete(ApiToken))
        assert (await client("GET", "/hub/api/user")).status == 403


async def test_a_token_that_runs_out_while_nobody_writes_is_out(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await hub.token(await hub.person("ada"), lasts=timedelta(minutes=5))
    async with hub.client(token) as client:
        assert (await client("GET", "/hub/api/user")).status == 200
        later = clock.now() + timedelta(minutes=6)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert (await client("GET", "/hub/api/user")).status == 403


async def test_what_one_may_see_is_not_shown_to_another(hub: Site) -> None:
    root, ada = await hub.person("root", admin=True), await hub.person("ada")
    tokens = [await hub.token(root), await hub.token(root, "list:users"), await hub.token(ada)]
    answers = []
    for token in (*tokens, *tokens):
        async with hub.client(token) as client:
            answer = await client("GET", "/hub/api/users")
            me = await client("GET", "/hub/api/user")
            answers.append(
                (answer.status, len(answer.json[0]) if answer.status == 200 else 0, me.json["name"])
            )
    assert answers[:3] == answers[3:]
    assert len(set(answers)) == 3


async def test_what_is_kept_is_bounded_whatever_is_asked(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo_module, "MOST_BYTES", 100_000)
    memo, made = Memo(hub.db), 0

    async def make() -> bytes:
        nonlocal made
        made += 1
        return bytes(30_000)

    await hub.db.revision.now()
    for _ in range(2):
        for key in range(10):
            await memo.get(key, make)
    assert sum(len(value) for value in memo._kept.values() if isinstance(value, bytes)) <= 100_000
    assert made == 10 + (10 - len(memo._kept))


async def test_twenty_who_ask_at_once_are_answered_by_one_look(hub: Site) -> None:
    memo, looks, go = Memo(hub.db), 0, asyncio.Event()

    async def look() -> str:
        nonlocal looks
        looks += 1
        await go.wait()
        return "seen"

    await hub.db.revision.now()
    waiting = [asyncio.create_task(memo.get("x", look)) for _ in range(20)]
    await eventually(lambda: looks == 1)
    go.set()
    assert await asyncio.gather(*waiting) == ["seen"] * 20
    assert looks == 1


async def test_one_who_asks_in_vain_fails_alone() -> None:
    """What the first one meets, an error or that it is cancelled, is not what those who wait for it get."""
    shared, entered, go = Shared(), 0, asyncio.Event()

    async def first_fails() -> int:
        nonlocal entered
        entered += 1
        if entered == 1:
            await go.wait()
            raise OSError("mine alone")
        return entered

    first = asyncio.create_task(shared.one("x", first_fails))
    await eventually(lambda: entered == 1)
    others = [asyncio.create_task(shared.one("x", first_fails)) for _ in range(3)]
    others[0].cancel()
    go.set()
    with pytest.raises(OSError, match="mine alone"):
        await first
    done = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert done[1:] == [2, 2] or done[1:] == [2, 3]
    assert not shared._making
