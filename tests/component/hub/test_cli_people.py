"""Set-up by script: people and tokens before the first start, on both databases."""

from __future__ import annotations

import io
import json
import stat
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.auth.accounts import begin_login
from himalia_hub.auth.password import verify
from himalia_hub.cli import main
from himalia_hub.db import migrate
from himalia_hub.db.engine import Database
from himalia_hub.tokens.store import find_by_secret, issue
from himalia_hub.users.store import by_name

PASSWORD = "correct horse battery"


class Himalia:
    """`himalia` with one data folder and one database."""

    def __init__(self, capsys, monkeypatch, data: Path, url: str) -> None:
        self._capsys, self._monkeypatch, self.data, self.url = capsys, monkeypatch, data, url

    def __call__(self, *words: str, stdin: str = "") -> tuple[int, str, str]:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = main([*words, "--data", str(self.data), "--db.url", self.url])
        out, err = self._capsys.readouterr()
        return code, out, err


@pytest.fixture
def postgres_template() -> str:
    """Nobody started a hub yet."""
    return "template1"


@pytest.fixture
def himalia(capsys, monkeypatch, tmp_path: Path, database_url: str) -> Himalia:
    return Himalia(capsys, monkeypatch, tmp_path / "data", database_url)


async def user_of(url: str, name: str):
    database = Database(url)
    async with database.read() as db:
        user = await by_name(db, name)
    await database.close()
    return user


def run(coroutine):
    import asyncio

    return asyncio.run(coroutine)


def test_an_administrator_and_a_token_before_the_first_start(himalia: Himalia) -> None:
    assert himalia("user", "add", "Ann", "--admin", "--password-stdin", stdin=PASSWORD + "\n") == (
        0,
        "added administrator 'ann'\n",
        "",
    )
    code, token, err = himalia("token", "ann", "--note", "for tests", "--expires-in", "1h")

    assert (code, err, token.count("\n")) == (0, "", 1)
    ann = run(user_of(himalia.url, "ann"))
    assert ann.admin
    assert run(verify(ann.password_hash, PASSWORD)).right
    assert himalia("db", "check")[0] == 0
    assert stat.S_IMODE(himalia.data.stat().st_mode) == 0o700

    async def look() -> None:
        database = Database(himalia.url)
        async with database.read() as db:
            found = await find_by_secret(db, token.strip(), now=clock.now())
            rows = await db.scalars(sa.select(AuditRow).order_by(AuditRow.id))
            done = [(row.action, row.actor.partition("/")[0], row.target_user) for row in rows]
        await database.close()
        assert done == [("himalia user add", "shell", "ann"), ("himalia token", "shell", "ann")]
        assert found is not None
        row, owner, _ = found
        assert (owner.name, row.scopes, row.note) == ("ann", ["inherit"], "for tests")
        assert row.expires_at - row.created == timedelta(hours=1)

    run(look())


def test_a_token_for_nobody_is_refused_and_makes_nobody_and_no_hub_where_none_was(himalia: Himalia) -> None:
    for verb in (("token", "bob"), ("user", "list"), ("config", "reload")):
        code, out, err = himalia(*verb)
        assert (code, out) == (1, "")
        assert "there is no hub in" in err
    himalia("user", "add", "ann", "--no-password")
    code, out, err = himalia("token", "bob")

    assert (code, out) == (1, "")
    assert err == "himalia: there is no user 'bob'; make one with: himalia user add bob\n"
    assert himalia("user", "list")[1].split()[0] == "ann"
    assert len(json.loads(himalia("user", "list", "--json")[1])) == 1


@pytest.mark.parametrize(
    ("scope", "told"), [("read:usrs", "unknown scope 'read:usrs'"), ("admin:users", "'bob' does not hold")]
)
def test_a_token_cannot_carry_what_its_owner_does_not_hold(himalia: Himalia, scope: str, told: str) -> None:
    himalia("user", "add", "bob", "--no-password")

    code, out, err = himalia("token", "bob", "--scope", scope)

    assert (code, out) == (1, "")
    assert told in err
    assert himalia("token", "bob", "--scope", "servers!user", "--scope", "self")[0] == 0


class Tunnels(BaseHTTPRequestHandler):
    """What a proxy is told to cut."""

    told: list[str]

    def do_DELETE(self) -> None:
        self.told.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"cut": 1}')

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def tunnels() -> Iterator[tuple[str, list[str]]]:
    """A proxy's address, and what it was told."""
    told: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), type("Told", (Tunnels,), {"told": told}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", told
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_new_password_signs_every_browser_out_of_what_it_holds_open_too(himalia: Himalia, tunnels) -> None:
    himalia("user", "add", "ann", "--password-stdin", stdin=PASSWORD)

    async def sign_in() -> tuple[str, str, str]:
        database = Database(himalia.url)
        async with database.begin() as db:
            ann = await by_name(db, "ann")
            session_id, _ = await db.run_sync(begin_login, ann, now=clock.now(), lasts=timedelta(days=1))
            _, tied = await issue(db, ann.id, now=clock.now(), scopes=["self"], session_id=session_id)
            _, own = await issue(db, ann.id, now=clock.now(), scopes=["self"])
        await database.close()
        return tied, own, session_id

    tied, own, session = run(sign_in())
    (himalia.data / "proxy.token").write_text("its token")
    proxy, told = tunnels

    change = ("user", "passwd", "ann", "--password-stdin", "--proxy.api_url", proxy, "--proxy.start", "false")
    for _ in range(2):  # the second time nobody is signed in
        assert himalia(*change, stdin="another good one\n")[0] == 0
    assert told == [f"/api/tunnels?login={session}"]

    async def look() -> list[bool]:
        database = Database(himalia.url)
        async with database.read() as db:
            found = [await find_by_secret(db, token, now=clock.now()) is not None for token in (tied, own)]
        await database.close()
        return found

    assert run(look()) == [False, True]
    assert run(verify(run(user_of(himalia.url, "ann")).password_hash, "another good one")).right


@pytest.mark.parametrize(
    ("words", "stdin", "told"),
    [
        (["user", "add", "ann"], "", "there is no terminal to ask for the password"),
        (
            ["user", "add", "ann", "--password-stdin"],
            "short\n",
            "the password has 5 characters, 8 are needed",
        ),
        (["user", "add", "a/b", "--no-password"], "", "'a/b' cannot be a user name"),
        (["user", "add", "taken", "--no-password"], "", "user 'taken' exists already"),
        (["user", "passwd", "nobody", "--password-stdin"], PASSWORD, "there is no user 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(himalia: Himalia, words, stdin, told) -> None:
    himalia("user", "add", "taken", "--no-password")

    code, out, err = himalia(*words, stdin=stdin)

    assert (code, out) == (1, "")
    assert told in err
    assert err.count("\n") == 1


def test_the_list_says_who_may_do_what(himalia: Himalia) -> None:
    himalia("user", "add", "ann", "--admin", "--password-stdin", stdin=PASSWORD)
    himalia("user", "add", "robot", "--no-password")

    assert himalia("user", "list")[1] == "ann    never seen, admin\nrobot  never seen, no password\n"
    listed = json.loads(himalia("user", "list", "--json")[1])
    assert [(row["name"], row["admin"], row["has_password"]) for row in listed] == [
        ("ann", True, True),
        ("robot", False, False),
    ]


def test_rows_of_another_release_are_not_changed_in_passing(himalia: Himalia) -> None:
    himalia("user", "add", "ann", "--no-password")
    import sqlalchemy as sa

    from himalia_hub.db.engine import sync_url

    with sa.create_engine(sync_url(himalia.url), poolclass=sa.NullPool).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    code, _, err = himalia("user", "add", "bob", "--no-password")

    assert code == 1
    assert "'9999'" in err
    assert migrate.current_blocking(himalia.url) == "9999"
