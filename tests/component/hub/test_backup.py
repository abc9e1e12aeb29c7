"""A backup holds what a hub cannot make again, and puts it back on either database."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from himalia_hub.backup import archive, make, restore, rows
from himalia_hub.cli import main
from himalia_hub.config import load
from himalia_hub.db import migrate
from himalia_hub.db.engine import sync_url
from himalia_hub.errors import BadRequest, Conflict
from himalia_hub.settings import HubSettings

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)
FAILURES = (None, sa.JSON.NULL, {"cause": "crashed", "lines": ["naïve \N{SNAKE}", 'quo"te']})
"""No failure; a failure that is the JSON null; a failure."""


def quiet(_table: str, _done: int) -> None: ...


def settings_of(data: Path, url: str) -> HubSettings:
    return load(None, data, {"db.url": url}, environ={}).settings


def connect(url: str) -> sa.Connection:
    return sa.create_engine(sync_url(url), poolclass=sa.NullPool).connect()


def lines_of(url: str) -> dict[str, list[str]]:
    with connect(url) as connection:
        return {table.name: list(rows.dump(connection, table, quiet)) for table in rows.tables_of(connection)}


def table_in(connection: sa.Connection, name: str) -> sa.Table:
    return next(table for table in rows.tables_of(connection) if table.name == name)


def fill(url: str) -> None:
    """A person with a server in each way of having no failure, and one failure."""
    with connect(url) as connection:
        person = {"id": 7, "name": "zoë", "admin": True, "created": NAIVE.replace(microsecond=678900)}
        connection.execute(table_in(connection, "users").insert(), [person])
        servers = table_in(connection, "servers")
        servers.c.failure.type = sa.JSON(none_as_null=True)
        given = {"user_id": 7, "display_name": "", "user_options": {"profile": "big"}, "desired": "stopped"}
        for number, failure in enumerate(FAILURES, 1):
            own = {"id": number, "name": f"s{number}", "backend_name": f"zoe-{number}", "failure": failure}
            others = {
                column.name: _plain(column)
                for column in servers.columns
                if not column.nullable and column.name not in {*given, *own}
            }
            connection.execute(servers.insert(), [given | own | others])
        connection.commit()


def _plain(column: sa.Column) -> object:
    return {"DATETIME": NAIVE, "TIMESTAMP": NAIVE}.get(
        str(column.type),
        "" if isinstance(column.type, sa.String) else 0 if "INT" in str(column.type) else False,
    )


@pytest.fixture
def postgres_template() -> str:
    """Nothing is in what is filled here."""
    return "template1"


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> HubSettings:
    """A hub with rows, a secret and a proxy's token."""
    data = tmp_path / "old"
    data.mkdir(mode=0o700)
    migrate.upgrade_blocking(database_url)
    fill(database_url)
    (data / "proxy.token").write_text("b" * 64)
    return settings_of(data, database_url)


@pytest.fixture
def backup(hub: HubSettings, tmp_path: Path) -> Path:
    to = tmp_path / "hub.tar.gz"
    make.back_up(hub, to, now=NOW, told=quiet)
    return to


def put_back(backup: Path, settings: HubSettings, *, replace: bool = False) -> list[Path]:
    settings.data_dir.mkdir(exist_ok=True)
    with restore.opened(backup, settings.data_dir / "x") as unpacked:
        kept = restore.restore_files(unpacked, settings, now=NOW, replace=replace, undo=ExitStack())
        return kept + restore.restore_rows(unpacked, settings, now=NOW, replace=replace, told=quiet)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_every_row_comes_back_line_for_line_on_either_database(
    hub: HubSettings, backup: Path, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'new.sqlite'}"
    if kind == "postgresql":
        before = request.getfixturevalue("postgres_database")
        url = before if before != hub.db_url else _another_postgres(before, request)
    new = settings_of(tmp_path / "new", url)

    put_back(backup, new)

    assert lines_of(url) == lines_of(hub.db_url)
    assert migrate.check_blocking(url) == migrate.head()
    for name in ("secret", "proxy.token"):
        assert (new.data_dir / name).read_bytes() == (hub.data_dir / name).read_bytes()
        assert stat.S_IMODE((new.data_dir / name).stat().st_mode) == 0o600
    with connect(url) as connection:
        person = {"name": "next", "admin": False, "created": NAIVE}
        made = connection.execute(table_in(connection, "users").insert(), person)
        assert made.inserted_primary_key == (8,), "the next number must be free"


def _another_postgres(url: str, request: pytest.FixtureRequest) -> str:
    """A second empty database in the cluster of the first."""
    server = sa.create_engine(sync_url(url), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    name = f"{sa.make_url(url).database}_new"
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")

    def drop() -> None:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")

    request.addfinalizer(drop)
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def test_a_backup_is_for_its_owner_alone_and_never_takes_the_place_of_a_file(
    hub: HubSettings, backup: Path
) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    before = backup.read_bytes()
    with pytest.raises(BadRequest, match="exists already"):
        make.back_up(hub, backup, now=NOW, told=quiet)
    assert backup.read_bytes() == before
    assert [path.name for path in backup.parent.iterdir() if path.name.startswith(".himalia")] == []


def test_rows_that_are_there_are_never_overwritten_unasked(
    hub: HubSettings, backup: Path, database_url: str
) -> None:
    before = lines_of(database_url)
    with pytest.raises(Conflict, match="--replace" if "sqlite" in database_url else "never empties"):
        put_back(backup, hub)
    assert lines_of(database_url) == before


def test_what_was_in_the_place_is_kept_under_another_name(tmp_path: Path, sqlite_database: str) -> None:
    old, new = (
        settings_of(tmp_path / "old", sqlite_database),
        settings_of(tmp_path / "new", f"sqlite:///{tmp_path}/n"),
    )
    for settings in (old, new):
        settings.data_dir.mkdir(mode=0o700)
        migrate.upgrade_blocking(settings.db_url)
    fill(old.db_url)
    (new.data_dir / "proxy.token").write_text("another")
    (old.data_dir / "proxy.token").write_text("the old one")
    to = tmp_path / "hub.tar.gz"
    make.back_up(old, to, now=NOW, told=quiet)

    with pytest.raises(Conflict, match=r"proxy\.token"):
        put_back(to, new)
    assert (new.data_dir / "proxy.token").read_text() == "another"
    kept = put_back(to, new, replace=True)

    assert [path.name.partition(".before-restore-")[0] for path in kept] == ["proxy.token", "n"]
    assert kept[0].read_text() == "another"
    assert lines_of(f"sqlite:///{kept[1]}")["users"][1:] == []
    assert lines_of(new.db_url) == lines_of(old.db_url)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("cut", "damaged"),
        ("changed", "users.jsonl is not what it was"),
        ("missing", "users.jsonl is missing"),
        ("stranger", "does not know"),
        ("outside", "a file that no backup has"),
        ("newer format", "this release reads 1"),
        ("newer schema", "is not known to this release"),
        ("not a backup", "no backup of a hub"),
    ],
)
def test_a_damaged_backup_is_refused_by_what_is_wrong_and_changes_nothing(
    tmp_path: Path, sqlite_database: str, damage: str, words: str
) -> None:
    migrate.upgrade_blocking(sqlite_database)
    fill(sqlite_database)
    old = settings_of(tmp_path / "old", sqlite_database)
    old.data_dir.mkdir(mode=0o700)
    whole, broken = tmp_path / "whole.tar.gz", tmp_path / "broken.tar.gz"
    make.back_up(old, whole, now=NOW, told=quiet)
    spoil(whole, broken, damage)
    new = settings_of(tmp_path / "new", f"sqlite:///{tmp_path / 'new.sqlite'}")

    with pytest.raises((BadRequest, migrate.SchemaError), match=words):
        put_back(broken, new)

    assert not (tmp_path / "new.sqlite").exists()
    assert [path.name for path in tmp_path.iterdir() if "restoring" in path.name] == []


def spoil(whole: Path, broken: Path, damage: str) -> None:
    if damage == "cut":
        broken.write_bytes(whole.read_bytes()[:-200])
        return
    if damage == "not a backup":
        broken.write_bytes(b"PK\3\4 something else" * 50)
        return
    with tarfile.open(whole) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]
    manifest = json.loads(files["manifest.json"])
    match damage:
        case "changed":
            files["rows/users.jsonl"] += b"[]\n"
        case "missing":
            del files["rows/users.jsonl"]
        case "stranger":
            files["rows/other.jsonl"] = b"{}"
        case "outside":
            manifest["files"]["../../outside"] = {"sha256": ""}
        case "newer format":
            manifest["format"] = 2
        case _:
            manifest["revision"] = "9999"
    files["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(broken, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_a_backup_of_an_older_release_is_brought_to_this_one(tmp_path: Path, database_url: str) -> None:
    folder = tmp_path / "parts"
    (folder / "rows").mkdir(parents=True)
    old = f"sqlite:///{tmp_path / 'old.sqlite'}"

    def at_that_time(connection: sa.Connection) -> None:
        person = {"id": 3, "name": "ann", "admin": False, "created": NAIVE}
        table = table_in(connection, "users")
        connection.execute(table.insert(), [person])
        (folder / "rows/users.jsonl").write_text(
            "".join(f"{line}\n" for line in rows.dump(connection, table, quiet))
        )

    migrate.build_blocking(old, "0001", at_that_time)
    to = tmp_path / "old.tar.gz"
    archive.pack(
        folder, {"revision": "0001", "himalia": "0", "hub_id": "x", "made": NOW.isoformat()}, {"users": 1}, to
    )

    put_back(to, settings_of(tmp_path / "new", database_url))

    assert migrate.check_blocking(database_url) == migrate.head()
    assert [json.loads(line)[:2] for line in lines_of(database_url)["users"][1:]] == [[3, "ann"]]


def test_the_two_commands_say_what_they_did_and_what_is_not_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, to = tmp_path / "old", tmp_path / "new", tmp_path / "hub.tar.gz"
    assert main(["user", "add", "ann", "--no-password", "--data", str(old)]) == 0
    (old / "himalia.toml").write_text('base_url = "/team/"\n')

    assert main(["backup", str(to), "--data", str(old)]) == 0
    assert "Homes and volumes are not in it" in capsys.readouterr().out
    assert main(["restore", str(to), "--look", "--data", str(new)]) == 0
    assert not new.exists()
    assert main(["restore", str(to), "--data", str(new)]) == 0

    assert "users: 1" in capsys.readouterr().out
    assert (new / "himalia.toml").read_text() == 'base_url = "/team/"\n'
    assert main(["user", "list", "--data", str(new)]) == 0
    assert capsys.readouterr().out.startswith("ann")
    assert main(["restore", str(to), "--data", str(new)]) == 1
    assert "--replace" in capsys.readouterr().err


def test_a_restore_that_is_refused_leaves_nothing_behind_and_puts_back_what_it_had_put_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, to = tmp_path / "old", tmp_path / "new", tmp_path / "hub.tar.gz"
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"no archive")
    old.mkdir(mode=0o700)
    (old / "himalia.toml").write_text(f'[db]\nurl = "sqlite:///{old}/rows.sqlite"\n')
    assert main(["user", "add", "ann", "--no-password", "--data", str(old)]) == 0
    assert main(["backup", str(to), "--data", str(old)]) == 0

    for refused in (broken, to):  # the second one names a database that holds a hub
        assert main(["restore", str(refused), "--data", str(new / "deep")]) == 1
        assert not new.exists()
    new.mkdir(mode=0o700)
    (new / "himalia.toml").write_text("# mine\n")
    old.rename(tmp_path / "gone")
    old.write_text("where the database should go")
    assert main(["restore", str(to), "--replace", "--data", str(new)]) == 1
    assert "cannot be made" in capsys.readouterr().err
    assert [path.name for path in new.iterdir()] == ["himalia.toml"]
    assert (new / "himalia.toml").read_text() == "# mine\n"


def test_secrets_go_where_the_restored_configuration_wants_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, kept = tmp_path / "old", tmp_path / "new", tmp_path / "kept"
    old.mkdir(mode=0o700)
    (old / "himalia.toml").write_text(
        f'[hub]\nsecret_file = "{kept}/secret"\n[auth]\ncrypt_keys_file = "{kept}/keys"\n'
        f'[db]\nurl = "sqlite:///{kept}/rows.sqlite"\n'
    )
    kept.mkdir(mode=0o700)
    (kept / "keys").write_text("A" * 43 + "=\n")
    assert main(["user", "add", "ann", "--no-password", "--data", str(old)]) == 0
    assert main(["backup", str(tmp_path / "hub.tar.gz"), "--data", str(old)]) == 0
    before = {path.name: path.read_bytes() for path in kept.iterdir() if path.name in ("secret", "keys")}
    kept.rename(tmp_path / "gone")
    kept.mkdir(mode=0o700)

    assert main(["restore", str(tmp_path / "hub.tar.gz"), "--data", str(new)]) == 0

    assert {name: (kept / name).read_bytes() for name in ("secret", "keys")} == before
    assert not (new / "secret").exists()
    capsys.readouterr()
    assert main(["user", "list", "--data", str(new)]) == 0
    assert capsys.readouterr().out.startswith("ann")
    assert (kept / "rows.sqlite").exists()
