"""The doctor names what is wrong and what to do, and changes nothing."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from himalia_hub.cli import main
from himalia_hub.db import migrate
from himalia_hub.health import machine


def ask(data: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and what was found by what it is about (the worst of each)."""
    capsys.readouterr()
    code = main(["doctor", "--json", "--data", str(data), *more])
    found = json.loads(capsys.readouterr().out)
    worst = sorted(found, key=lambda finding: ["ok", "advice", "problem"].index(finding["grade"]))
    return code, {finding["about"]: finding for finding in worst}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    assert main(["user", "add", "ann", "--no-password", "--data", str(folder)]) == 0
    return folder


def test_a_hub_that_was_never_started_has_no_problem_and_is_not_made_by_asking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = ask(tmp_path / "none", capsys)
    assert (code, {finding["grade"] for finding in found.values()}) == (0, {"ok", "advice"})
    assert list(tmp_path.iterdir()) == []


def loosen(data: Path) -> None:
    data.chmod(0o755)


def show_secret(data: Path) -> None:
    (data / "secret").write_bytes(b"x" * 32)
    (data / "secret").chmod(0o644)


def cut_secret(data: Path) -> None:
    (data / "secret").write_bytes(b"x" * 5)
    (data / "secret").chmod(0o600)


def newer_schema(data: Path) -> None:
    run(data, "UPDATE alembic_version SET version_num = '9999'")


def older_schema(data: Path) -> None:
    (data / "himalia.sqlite").unlink()
    migrate.build_blocking(f"sqlite:///{data / 'himalia.sqlite'}", "0001", lambda _: None)
    run(data, "UPDATE alembic_version SET version_num = '0001'")


def damaged_file(data: Path) -> None:
    """Overwrite pages of the file after its first ones."""
    run(data, "PRAGMA wal_checkpoint(TRUNCATE)")
    with (data / "himalia.sqlite").open("r+b") as file:
        file.seek(4096 * 8)
        file.write(b"\xff" * 4096 * 4)


def dangling_row(data: Path) -> None:
    run(data, "INSERT INTO user_group_map (group_id, user_id) VALUES (99, 1)")


def spoiled_json(data: Path) -> None:
    run(data, "INSERT INTO groups (name, properties) VALUES ('g', '{not json')")


def run(data: Path, statement: str) -> None:
    with sqlite3.connect(data / "himalia.sqlite") as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "about", "said", "remedy"),
    [
        (loosen, "data folder", "755", "chmod 700"),
        (show_secret, "secret", "readable by others", "chmod 600"),
        (cut_secret, "secret", "holds 5 bytes", "restore"),
        (newer_schema, "database", "9999", "use the release that made it"),
        (older_schema, "database", "0001", "himalia db upgrade"),
        (damaged_file, "rows", "damaged", "himalia restore"),
        (dangling_row, "rows", "that is gone", "himalia restore"),
        (spoiled_json, "rows", "cannot be read in 'properties'", "himalia restore"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(
    data: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    about: str,
    said: str,
    remedy: str,
) -> None:
    assert ask(data, capsys)[0] == 0
    spoil(data)
    code, found = ask(data, capsys)
    assert (code, found[about]["grade"]) == (1, "problem")
    assert said in found[about]["said"]
    assert remedy in found[about]["remedy"]


def test_a_database_that_is_away_is_named_without_its_password(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"postgresql://himalia:hunter2@127.0.0.1:{nobody.getsockname()[1]}/none"
        code, found = ask(data, capsys, "--db.url", url)
    assert (code, found["database"]["grade"]) == (1, "problem")
    assert "hunter2" not in json.dumps(found)
    assert "127.0.0.1" in found["database"]["said"]


def test_an_engine_that_is_away_and_a_wrong_setting_are_named(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "secret").write_bytes(b"x" * 32)
    (data / "secret").chmod(0o600)
    away = "unix:///run/no-such-engine.sock"
    code, found = ask(data, capsys, "--spawner.kind", "docker", "--spawner.docker.url", away)
    assert (code, found["spawner docker"]["grade"]) == (1, "problem")
    assert away in found["spawner docker"]["said"]
    code, found = ask(data, capsys, "--spawner.kind", "nothing")
    assert (code, found["spawner nothing"]["grade"]) == (1, "problem")
    (data / "himalia.toml").write_text(
        '[auth.methods.all]\nkind = "shared-password"\npasword = "long enough"\n'
    )
    code, found = ask(data, capsys)
    assert (code, found["sign-in all"]["grade"]) == (1, "problem")
    assert "pasword" in found["sign-in all"]["said"]


def test_a_kernel_whose_program_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "kernels" / "old"
    gone.mkdir(parents=True)
    (gone / "kernel.json").write_text(json.dumps({"argv": ["/opt/gone/bin/python", "-m", "ipykernel"]}))
    monkeypatch.setattr(machine, "kernel_paths", lambda: [str(tmp_path)])
    code, found = ask(data, capsys)
    assert code == 1
    assert "'/opt/gone/bin/python'" in found["kernels"]["said"]
