"""A lone server's password: set by a command, good at once, and never more than a way in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

PASSWORD = "correct horse battery"


def set_password(file: Path, password: str) -> subprocess.CompletedProcess[str]:
    """`--set-password` with the password on standard input."""
    command = [
        sys.executable,
        "-I",
        "-m",
        "himalia_singleuser",
        "--set-password",
        "--password-file",
        str(file),
    ]
    return subprocess.run(
        command, input=f"{password}\n", capture_output=True, text=True, timeout=120, check=False
    )


async def signs_in(server: Any, password: str) -> bool:
    status, _, headers = await server.bare("POST", "login", data={"password": password})
    assert status in (302, 401)
    assert ("Set-Cookie" in headers and "username-" in headers["Set-Cookie"]) == (status == 302)
    return bool(status == 302)


async def test_a_password_set_while_the_server_runs_counts_at_once(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "password"
    assert set_password(file, PASSWORD).returncode == 0
    server = await start(args=("--password-file", str(file)))
    assert await signs_in(server, PASSWORD)
    assert not await signs_in(server, PASSWORD + "!")

    assert set_password(file, "another horse").returncode == 0

    assert await signs_in(server, "another horse")
    assert not await signs_in(server, PASSWORD)


async def test_a_new_password_signs_everybody_out(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "password"
    set_password(file, PASSWORD)
    server = await start(args=("--password-file", str(file)))
    _, _, headers = await server.bare("POST", "login", data={"password": PASSWORD})
    cookie = {"Cookie": "; ".join(value.split(";")[0] for value in headers.getall("Set-Cookie"))}
    assert (await server.bare("GET", "api/me", headers=cookie))[0] == 200

    set_password(file, "another horse")

    assert (await server.bare("GET", "api/me", headers=cookie))[0] == 403


def test_the_file_holds_no_password_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "password"
    assert set_password(file, PASSWORD).returncode == 0
    assert PASSWORD not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("password", ["", "short", "x" * 2000])
def test_a_password_that_is_none_changes_nothing(password: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    done = set_password(file, password)
    assert done.returncode == 2
    assert "characters" in done.stderr
    assert not file.exists()


async def test_a_hash_that_jupyter_server_made_is_understood(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"argon2:{PasswordHasher(time_cost=1, memory_cost=8192).hash(PASSWORD)}\n")
    server = await start(args=("--password-file", str(file)))
    assert await signs_in(server, PASSWORD)
    assert not await signs_in(server, "wrong horse")


def test_a_file_without_a_hash_is_refused_by_name_before_the_start(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    done = subprocess.run(
        [sys.executable, "-I", "-m", "himalia_singleuser", "--password-file", str(file)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert str(file) in done.stderr
    assert "--set-password" in done.stderr
    assert PASSWORD not in done.stderr


async def test_the_token_still_opens_where_there_is_a_password(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "password"
    set_password(file, PASSWORD)
    server = await start(args=("--password-file", str(file)))
    assert (await server.ask("GET", "api/status"))[0] == 200
    assert (await server.bare("GET", "api/status"))[0] == 403
    assert (await server.bare("GET", "api/status", headers={"Authorization": f"token {PASSWORD}"}))[0] == 403
