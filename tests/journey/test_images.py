"""The images of deploy/Dockerfile, and a hub that deploy/compose.yaml makes of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import docker_lab
import wire
from docker_lab import Lab
from hubs import PASSWORD, Client, answers, client, free_port
from support import eventually

ROOT = Path(__file__).parents[2]
ACCOUNTS = {"proxy": "991:991", "hub": "991:991", "singleuser": "1000:100"}
MOST_MB = {"proxy": 35, "hub": 160, "singleuser": 400}
"""Beyond the base, which is not ours: what somebody's pull of an upgrade costs."""
SOCKETS_OF = 991
SLOW_S = 90

pytestmark = pytest.mark.timeout(1200)  # packages are installed five times over, and machines are slow


@pytest.fixture(scope="module")
def images(docker_engine: Lab) -> Iterator[Lab]:
    """The engine with the three images, built without registry and network over the suite's own base."""
    docker_engine.build(docker_lab.PYTHON_IMAGE)
    done = subprocess.run(
        [str(ROOT / "deploy/build-images"), docker_lab.PYTHON_IMAGE],
        env={**os.environ, "DOCKER_HOST": docker_engine.url, "OFFLINE": "yes", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    yield docker_engine


class Composed:
    """What the compose files make: `docker-compose` as the how-to calls it, under a name of its own."""

    def __init__(self, lab: Lab, folder: Path, *files: str) -> None:
        self.lab, self.folder, self.files = lab, folder, files
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/hub/api"
        self.project = f"himalia{self.port}"
        sockets = folder / "run"
        sockets.mkdir(mode=0o700)
        os.chown(sockets, SOCKETS_OF, SOCKETS_OF)
        engine = lab.url.removeprefix("unix://")
        settings = {
            "CONFIGPROXY_AUTH_TOKEN": os.urandom(16).hex(), "DOCKER_GID": os.stat(engine).st_gid,
            "HIMALIA_LISTEN": f"127.0.0.1:{self.port}", "HIMALIA_RUN": sockets, "DOCKER_SOCKET": engine,
        }  # fmt: skip
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    async def run(self, *words: str, stdin: str = "") -> str:
        """One command of docker-compose, which must succeed; its output."""
        files = [word for file in self.files for word in ("--file", str(ROOT / "deploy" / file))]
        command = ["docker-compose", *files, "--env-file", str(self.folder / ".env"), "-p", self.project]
        done = await asyncio.to_thread(
            subprocess.run, [*command, *words], input=stdin, capture_output=True, text=True, timeout=200,
            check=False, env={**os.environ, "DOCKER_HOST": self.lab.url},
        )  # fmt: skip
        assert done.returncode == 0, f"docker-compose {' '.join(words)}:\n{done.stdout}{done.stderr}"
        return str(done.stdout).strip()


@pytest.fixture
async def composed(images: Lab) -> AsyncIterator[Composed]:
    folder = Path(tempfile.mkdtemp(prefix="hc-", dir="/run"))  # a socket's path is at most 107 bytes long
    one = Composed(images, folder, "compose.yaml")
    try:
        await one.run("up", "--detach")
        yield one
    finally:
        await one.run("down", "--volumes")
        images.remove_containers()
        images.remove_networks()
        shutil.rmtree(folder)


def test_images_run_as_ordinary_users_and_stay_small(images: Lab) -> None:
    at = images.client()
    try:
        base = at.inspect_image(docker_lab.PYTHON_IMAGE)["Size"]
        found = {name: at.inspect_image(f"himalia-{name}:latest") for name in ACCOUNTS}
    finally:
        at.close()

    assert {name: one["Config"]["User"] for name, one in found.items()} == ACCOUNTS
    added = {name: (one["Size"] - base) / 1e6 for name, one in found.items()}
    print(added)
    assert {name: size for name, size in added.items() if size > MOST_MB[name]} == {}


async def test_a_hub_of_the_images_runs_a_cell_outlives_its_restart_and_leaves_nothing(
    composed: Composed,
) -> None:
    lab = composed.lab
    await eventually(lambda: answers(composed.api), within_s=SLOW_S, what="the hub answers through the proxy")
    await composed.run(
        "exec", "-T", "hub", "himalia", "user", "add", "ada", "--admin", "--password-stdin", stdin=PASSWORD
    )
    await log_in(composed)
    token = await composed.run("exec", "-T", "hub", "himalia", "token", "ada")
    async with client(composed, token) as ada:
        others = set(lab.containers())
        await start(ada)
        assert not any(inspected["HostConfig"]["Privileged"] for inspected in inspect(lab))
        assert {inspected["Config"]["User"] for inspected in inspect(lab)} >= set(ACCOUNTS.values())
        about = "import os, sys; kept = 6 * 7; print(os.getuid(), os.path.expanduser('~'), sys.prefix)"
        assert await cell(ada, about) == "1000 /home/jovyan /opt/notebook"

        await composed.run("restart", "hub")
        await eventually(lambda: answers(composed.api), within_s=SLOW_S, what="the hub answers again")
        assert await cell(ada, "print(kept)") == "42", "the server is the one that it was"

        status, body = await ada.call("DELETE", "/users/ada/server")
        assert status in (202, 204), body
        await eventually(lambda: set(lab.containers()) == others, within_s=30, what="its container is gone")


async def log_in(composed: Composed) -> None:
    """By name and password, as the page's form does it; the home page follows."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.get(f"{composed.url}/hub/login") as page:
            assert page.status == 200
        xsrf = next(each.value for each in session.cookie_jar if each.key == "_xsrf")
        fields = {"username": "ada", "password": PASSWORD, "_xsrf": xsrf}
        async with session.post(f"{composed.url}/hub/login", data=fields) as answer:
            assert (answer.status, answer.url.path) == (200, "/hub/home"), await answer.text()


async def start(ada: Client) -> None:
    """Ask for the server and wait until it is ready."""
    status, body = await ada.call("POST", "/users/ada/server")
    assert status in (201, 202), body

    async def ready() -> bool:
        server = await ada.server("ada")
        assert not server["stopped"], server
        return bool(server["ready"])

    await eventually(ready, within_s=SLOW_S)


async def cell(ada: Client, code: str) -> str:
    """What a cell prints on the server's kernel."""
    async with wire.kernel_client(f"{ada.hub.url}/user/ada/", ada.token) as kernel:
        return (await kernel.stream_of(await kernel.send("execute_request", code=code))).strip()


def inspect(lab: Lab) -> list[dict[str, Any]]:
    """What the engine says of every container."""
    at = lab.client()
    try:
        return [at.inspect_container(one["Id"]) for one in at.containers(all=True)]
    finally:
        at.close()
