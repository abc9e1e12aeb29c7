"""What deploy/ holds is read without complaint by the programs it is for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
LOCKS = sorted((DEPLOY / "requirements").glob("*.lock"))
SETTINGS = {"CONFIGPROXY_AUTH_TOKEN": "x", "DOCKER_GID": "1", "POSTGRES_PASSWORD": "x"}


def pins(lock: Path) -> set[str]:
    """`name==version` of every line that names a package."""
    return set(re.findall(r"^([a-z0-9][\w.\[\],-]*==\S+)", lock.read_text(), re.MULTILINE))


def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    for unit in (DEPLOY / "systemd").iterdir():
        program = str(Path(sys.executable).parent / "himalia")
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/himalia/bin/himalia", program))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(map(str, tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )

    ours = [line for line in done.stderr.splitlines() if "himalia" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.postgres.yaml"]])
def test_compose_accepts_the_files_and_wants_no_more_than_they_say(files: list[str]) -> None:
    words = [word for file in files for word in ("--file", str(DEPLOY / file))]

    done = subprocess.run(
        ["docker-compose", *words, "config", "--quiet"],
        env={"PATH": os.environ["PATH"], **SETTINGS},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_compose_names_a_secret_that_is_missing() -> None:
    done = subprocess.run(
        ["docker-compose", "--file", str(DEPLOY / "compose.yaml"), "config", "--quiet"],
        env={"PATH": os.environ["PATH"], "DOCKER_GID": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert "CONFIGPROXY_AUTH_TOKEN" in done.stderr


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_an_image_gets_the_versions_that_everybody_else_gets(lock: Path) -> None:
    built_with = pins(DEPLOY / "requirements/build.lock")
    known = pins(ROOT / "requirements.lock") | (built_with if lock.stem == "build" else set())
    assert pins(lock)
    assert pins(lock) <= known
