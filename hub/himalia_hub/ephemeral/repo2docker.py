"""Images by `jupyter-repo2docker`, called as a program (its Python classes change the process that uses them).

It is given the files that the hub has fetched, under the hub's own rules, never the repository's address. It writes a
Dockerfile and has `docker buildx` build it: what a repository asks to be run, runs in the engine's build container.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from himalia_hub.ephemeral.environment import CannotHonour
from himalia_hub.ephemeral.installer import TOO_SLOW, BuildFailed, Say, remedy_for
from himalia_hub.languages import counted
from himalia_hub.services.family import whole

SCHEMA = 1
"""Part of every key: raise it when the same commit comes to mean another image."""

USER_ID, USER_NAME = 1000, "jovyan"
SOURCE = "/srv/repository"
"""Where it copies the repository and runs `postBuild`; at its own choice, the home, a session's files are mounted."""

READ = (
    "Dockerfile", "default.nix", "environment.yml", "environment.yaml", "Project.toml", "Manifest.toml", "install.R",
    "DESCRIPTION", "Pipfile", "Pipfile.lock", "requirements.txt", "setup.py", "pyproject.toml", "runtime.txt",
    "apt.txt", "postBuild", "start",
)  # fmt: skip
"""What it looks for (its docs: "Configuration Files")."""

TAIL = 12
"""Lines of a failed build that its error holds."""
LONGEST_LINE = 1_000_000
"""Bytes; what a line has beyond them is not read as part of it."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_REPEATS = "Error during build: Command '["
"""How it ends when the program that it called failed, whose own words came before."""
_OF_THE_SITE = re.compile(r"must be installed|Cannot connect to the Docker daemon|initialization error")
"""Failures that no change of a repository mends."""


@dataclass(frozen=True, slots=True)
class Order:
    """One image: of which files, under which whole name, and what it is marked with.

    `engine` is the engine's address, empty for what the hub's environment says.
    """

    checkout: Path
    commit: str
    image: str
    labels: Mapping[str, str]
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of what it says; `phase` is `fetching`, `building`, `failed`, or empty where it names none."""

    phase: str
    text: str


def files_read(names: Iterable[str]) -> tuple[str, ...]:
    """Those that it makes the environment from, for people."""
    there = set(names)
    return tuple(name for name in READ if name in there)


def key(commit: str, options: Sequence[str]) -> str:
    """What names the image: it holds the repository's files, so it is of one commit. 64 hex digits."""
    told = json.dumps([SCHEMA, "repo2docker", commit, list(options)])
    return hashlib.sha256(told.encode()).hexdigest()


def found(command: str) -> str:
    """Its path. CannotHonour names the setting when this hub has none."""
    beside = Path(sys.executable).parent / command
    path = shutil.which(command) or (str(beside) if beside.is_file() else None)
    if path is None:
        raise CannotHonour(
            f"The images of this repository are built by {command!r} (ephemeral.repo2docker_command), which this hub "
            "does not have.",
            remedy="Ask an administrator to install jupyter-repo2docker.",
        )
    return path


def words(program: str, order: Order, options: Sequence[str]) -> list[str]:
    """The command; the site's own `options` come last and win."""
    marks = [word for name, value in order.labels.items() for word in ("--label", f"{name}={value}")]
    return [
        program, "--no-run", "--json-logs", "--image-name", order.image, "--ref", order.commit,
        "--user-id", str(USER_ID), "--user-name", USER_NAME, "--target-repo-dir", SOURCE, *marks, *options,
        "--", str(order.checkout),
    ]  # fmt: skip


def lines(raw: str) -> Iterator[Line]:
    """What one line of its output says: a JSON object of its log, or plain text of a program that it calls."""
    try:
        told = json.loads(raw)
    except ValueError:
        told = None
    phase, text = "", raw
    if isinstance(told, dict):
        phase, text = str(told.get("phase") or ""), str(told.get("message") or "")
    for one in _COLOUR.sub("", text).splitlines():
        if one.strip():
            yield Line(phase, one.strip())


async def build(
    program: str, order: Order, options: Sequence[str], *, scratch: Path, seconds: float, say: Say
) -> None:
    """Have it build the image; `say` hears its lines. BuildFailed with its last words, or after `seconds`.

    `scratch` is a folder of this build's alone, removed before and after: a killed hub leaves it to its successor.
    """
    await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
    scratch.mkdir(parents=True, mode=0o700)
    tail: list[str] = []
    try:
        async with asyncio.timeout(seconds):
            status = await _run(words(program, order, options), _environ(order.engine, scratch), tail, say)
    except TimeoutError:
        said = counted(
            "The image was not built within %(num)s second.",
            "The image was not built within %(num)s seconds.",
            seconds,
        )
        raise BuildFailed(said, remedy=TOO_SLOW) from None
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
    if status:
        text = " ".join(tail)[-700:] or f"status {status}"
        ours = _OF_THE_SITE.search(text) is not None
        raise BuildFailed(
            f"repo2docker could not build the image: {text}",
            remedy="Ask an administrator." if ours else remedy_for(text, "Mend the repository's files."),
        )


async def _run(command: Sequence[str], env: Mapping[str, str], tail: list[str], say: Say) -> int:
    """Its exit status. When this is cancelled, it has ended with all that it started before this returns."""
    process = await asyncio.create_subprocess_exec(
        *whole(*command), env=env, cwd="/", start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async for raw in _split(process.stdout):
            for line in lines(raw):
                if line.phase == "fetching" or line.text.startswith(_REPEATS):
                    continue  # names a folder of this machine, and nothing that its reader needs
                tail.append(line.text)
                del tail[:-TAIL]
                say(line.text)
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()  # reads on: a pipe that nobody empties would keep it from being closed


async def _split(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    rest = b""
    while piece := await stream.read(2**16):
        *whole_lines, rest = (rest + piece).split(b"\n")
        rest = rest[:LONGEST_LINE]
        for line in whole_lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def _environ(engine: str, scratch: Path) -> dict[str, str]:
    """Its surroundings: how to reach engine and outside, the account's own Docker settings, and room for files."""
    passed = ("PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy",
              "http_proxy", "no_proxy", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY",
              "BUILDX_BUILDER")  # fmt: skip
    told = {name: os.environ[name] for name in passed if name in os.environ}
    return (
        told
        | ({"DOCKER_HOST": engine} if engine else {})
        | {"TMPDIR": str(scratch), "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    )
