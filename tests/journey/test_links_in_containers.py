"""Links where sessions are containers: what a repository asks for is built on the engine, and run from there."""

from __future__ import annotations

import io
import json
import os
import ssl
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import docker_lab
from docker_lab import Lab
from hubs import Client, Hub, client
from launches import config, opened
from repositories import Repository, git_daemon, link
from support import eventually
from wire import kernel_client

pytestmark = pytest.mark.timeout(300)
BASE = "himalia-test-base:1"


@pytest.fixture(scope="module")
def engine(docker_engine: Lab) -> Iterator[Lab]:
    """The engine with our server in an image that trusts what this machine trusts."""
    docker_engine.build(docker_lab.SERVER_IMAGE)
    trusted = Path(
        os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or ""
    ).read_bytes()
    dockerfile = f"FROM {docker_lab.SERVER_IMAGE}\nCOPY trusted.pem /etc/trusted.pem\nENV SSL_CERT_FILE=/etc/trusted.pem\n"
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, data in (("Dockerfile", dockerfile.encode()), ("trusted.pem", trusted)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    context.seek(0)
    asking = docker_engine.client()
    try:
        said = list(asking.build(fileobj=context, custom_context=True, tag=BASE, rm=True, decode=True))
        assert not any("error" in line for line in said), said
    finally:
        asking.close()
    yield docker_engine


@pytest.fixture
def notes(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repositories", "notes")


@pytest.fixture
async def url(notes: Repository) -> AsyncIterator[str]:
    async with git_daemon(notes.bare.parent) as base:
        yield base + notes.name


@pytest.fixture
async def hub(engine: Lab, tmp_path: Path) -> AsyncIterator[tuple[Hub, Client]]:
    docker = {"url": engine.url, "image": BASE, "pull": "never", "stop_timeout_s": 5}
    table = "\n".join(f"{name} = {json.dumps(value)}" for name, value in docker.items())
    others = f'builder = "either"\nrepo2docker_command = {json.dumps(str(tmp_path / "repo2docker"))}'
    links = config(tmp_path / "ephemeral", f"allowed_bases = [{BASE!r}]", others).replace(
        "trusted_network = true\n", ""
    )
    hub = Hub(tmp_path / "data", config=f'[spawner]\nkind = "docker"\n[spawner.docker]\n{table}\n{links}')
    try:
        hub.add_user("root", admin=True)
        await hub.start()
        async with client(hub, hub.token("root")) as admin:
            yield hub, admin
    finally:
        hub.clean_up()
        engine.remove_containers()


async def run(ready: dict[str, Any], code: str) -> str:
    async with kernel_client(ready["url"], ready["token"]) as kernel:
        return (await kernel.stream_of(await kernel.send("execute_request", code=code))).strip()


def dangling(engine: Lab) -> set[str]:
    """The images without a name; other tests of the engine may have left some."""
    asking = engine.client()
    try:
        return {image["Id"] for image in asking.images(filters={"dangling": True})}
    finally:
        asking.close()


def said(told: list[dict[str, Any]], phase: str) -> str:
    return "".join(event["message"] for event in told if event["phase"] == phase)


async def test_a_link_becomes_a_container_with_the_repositorys_packages_and_files(
    hub: tuple[Hub, Client], engine: Lab, url: str, notes: Repository, tmp_path: Path
) -> None:
    here, admin = hub
    notes.commit({"requirements.txt": "tabulate", "index.ipynb": "{}"})

    told = await opened(here, link(url))

    assert told[-1]["phase"] == "ready", "".join(event["message"] for event in told)
    assert "Step 1/" in said(told, "building")
    assert len(engine.containers()) == 1
    seen = await run(told[-1], "import os, sys, tabulate; print(os.listdir(), os.getuid(), sys.prefix)")
    assert "index.ipynb" in seen
    assert seen.endswith("/opt/repository")
    assert int(seen.split()[-2]) >= 300_000

    # A commit that changes no environment file finds the image there.
    notes.commit({"README.md": "new"})
    again = await opened(here, link(url))
    assert not said(again, "building")
    assert "README.md" in await run(again[-1], "import os; print(os.listdir())")

    for one in (told[-1], again[-1]):
        name = one["url"].rstrip("/").rpartition("/")[2]
        status, body = await admin.call("DELETE", f"/users/{name}/server")
        assert status in (202, 204), body
    sessions = tmp_path / "ephemeral" / "sessions"
    await eventually(
        lambda: not engine.containers() and not os.listdir(sessions), within_s=60, what="every trace is gone"
    )


async def test_a_dockerfile_is_built_by_the_engine_and_a_failed_build_leaves_nothing(
    hub: tuple[Hub, Client], engine: Lab, url: str, notes: Repository, tmp_path: Path
) -> None:
    here, _ = hub
    nameless = dangling(engine)
    notes.commit(
        {"Dockerfile": f"FROM {BASE}\nRUN echo made-here > /tmp/made && cat /tmp/made\nENV MADE=yes\n"}
    )
    told = await opened(here, link(url))
    assert told[-1]["phase"] == "ready", "".join(event["message"] for event in told)
    assert "made-here" in said(told, "building")
    assert "yes" in await run(told[-1], "import os; print(os.environ['MADE'])")

    notes.commit({"Dockerfile": f"FROM {BASE}\nRUN echo halfway && exit 3\n"})
    told = await opened(here, link(url))
    assert told[-1]["phase"] == "failed"
    assert "halfway" in told[-1]["message"]
    assert "returned a non-zero code: 3" in told[-1]["message"]

    notes.commit({"Dockerfile": "FROM himalia-test-server:1\n"})
    told = await opened(here, link(url))
    assert "starts from 'himalia-test-server:1', which is not allowed" in told[-1]["message"]

    await eventually(lambda: dangling(engine) <= nameless, what="no image without a name is left")


REPO2DOCKER = f"""#!{sys.executable}
import json, os, subprocess, sys
given = dict(zip(sys.argv[3:], sys.argv[4:]))
dockerfile = '''FROM {BASE}
LABEL repo2docker.version=test
USER 0
RUN (echo '#!/bin/sh'; echo 'BY_ENTRYPOINT=yes exec "$@"') > /usr/local/bin/enter
USER 1000
COPY . /srv/repository/
ENTRYPOINT ["/bin/sh", "/usr/local/bin/enter"]
'''
words = ["docker", "build", "-q", "-t", given["--image-name"], "-f", "-", sys.argv[-1]]
print(json.dumps({{"message": "Using CondaBuildPack builder", "phase": "building"}}), flush=True)
sys.exit(subprocess.run(words, input=dockerfile, text=True, env={{**os.environ, "DOCKER_BUILDKIT": "0"}}).returncode)
"""
"""The real one needs a registry for its base image; this one is asked, speaks, and marks and enters images as it does."""


async def test_what_only_repo2docker_builds_is_built_by_it_and_entered_as_it_wants(
    hub: tuple[Hub, Client], engine: Lab, url: str, notes: Repository, tmp_path: Path
) -> None:
    here, _ = hub
    program = tmp_path / "repo2docker"
    program.write_text(REPO2DOCKER)
    program.chmod(0o755)
    notes.commit({"environment.yml": "dependencies: [numpy]", "index.ipynb": "{}"})

    told = await opened(here, link(url))

    assert told[-1]["phase"] == "ready", "".join(event["message"] for event in told)
    assert "Using CondaBuildPack builder" in said(told, "building")
    seen = await run(
        told[-1], "import os; print(os.environ['BY_ENTRYPOINT'], os.listdir('/srv/repository'), os.listdir())"
    )
    assert seen.startswith("yes")
    assert seen.count("index.ipynb") == 2
