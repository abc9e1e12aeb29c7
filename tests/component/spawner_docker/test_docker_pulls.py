"""Pulls from a real registry: with progress where they go well, with the registry's own words where they do not."""

from __future__ import annotations

import asyncio
import io
import os
import re
import tarfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import docker_lab
from docker_lab import Lab
from himalia_spawner.errors import SpawnRefused
from registry import Registry, registry

if TYPE_CHECKING:
    from conftest import DockerRig

pytestmark = pytest.mark.timeout(180)
TAG = "1"
LAYER_BYTES = 48 * 2**20


@pytest.fixture(scope="module")
def image(docker_engine: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, str]]:
    """A registry, and an image of which the engine lacks the last layer, which is big and cannot be compressed."""
    docker_engine.build(docker_lab.PYTHON_IMAGE)
    with registry(tmp_path_factory.mktemp("registry")) as made:
        client = docker_engine.client()
        try:
            box = client.create_container(docker_lab.PYTHON_IMAGE, command=["true"])["Id"]
            client.put_archive(box, "/var/tmp", _ballast())
            client.commit(box, f"{made.name}/team/python", tag=TAG)
            client.remove_container(box)
            said = client.push(f"{made.name}/team/python", TAG)
            assert "errorDetail" not in said, said
            yield made, f"{made.name}/team/python:{TAG}"
        finally:
            docker_engine.remove_containers()
            for tag in [tag for one in client.images() for tag in one["RepoTags"] or []]:
                if tag.startswith(made.name):
                    client.remove_image(tag, force=True)
            client.close()


def _ballast() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        head = tarfile.TarInfo("ballast")
        head.size = LAYER_BYTES
        tar.addfile(head, io.BytesIO(os.urandom(LAYER_BYTES)))
    return content.getvalue()


@pytest.fixture
def absent(rig: DockerRig, image: tuple[Registry, str]) -> tuple[Registry, str]:
    """The same, once the engine has forgotten what an earlier test pulled."""
    client = rig.lab.client()
    try:
        if client.images(image[1]):
            client.remove_image(image[1], force=True)
    finally:
        client.close()
    return image


async def test_a_missing_image_is_pulled_with_its_progress_and_then_there(
    absent: tuple[Registry, str], rig: DockerRig
) -> None:
    _, name = absent
    said: list[str] = []

    await rig.spawner(pull="missing").start(rig.server(image=name), said.append)

    assert said[0] == f"Pulling the image {name}"
    shares = [int(found.group(1)) for one in said if (found := re.search(r": (\d+) % of \d+ MB", one))]
    assert shares == sorted(set(shares))
    assert shares, said
    assert said.index("The image is here") < said.index("The container is made")


async def test_a_registry_that_wants_a_password_is_quoted_and_the_remedy_named(
    absent: tuple[Registry, str], rig: DockerRig
) -> None:
    made, name = absent
    await asyncio.to_thread(made.stop)
    await asyncio.to_thread(made.start, guarded=True)
    try:
        with pytest.raises(SpawnRefused, match=rf"{name}.*no basic auth credentials.*docker login"):
            await rig.spawner(pull="missing").start(rig.server(image=name))
    finally:
        await asyncio.to_thread(made.stop)
        await asyncio.to_thread(made.start)
    assert rig.lab.containers() == []


async def test_an_image_that_the_registry_lacks_is_refused_with_its_words(
    image: tuple[Registry, str], rig: DockerRig
) -> None:
    name = image[1].replace(f":{TAG}", ":no-such-tag")
    with pytest.raises(SpawnRefused, match=rf"{name}.*(manifest unknown|not found)"):
        await rig.spawner(pull="missing").start(rig.server(image=name))
    assert rig.lab.containers() == []


async def test_a_registry_that_answers_500_refuses_the_start_but_not_an_image_that_is_here(
    image: tuple[Registry, str], rig: DockerRig
) -> None:
    made, _ = image
    client = rig.lab.client()
    try:
        client.tag(docker_lab.PYTHON_IMAGE, f"{made.name}/team/broken", TAG)
        client.push(f"{made.name}/team/broken", TAG)
        made.break_tag("team/broken", TAG)
        said: list[str] = []
        broken = f"{made.name}/team/broken:{TAG}"
        await rig.spawner(pull="always").start(rig.server(image=broken), said.append)
        assert any("could not be renewed" in one for one in said), said
        rig.lab.remove_containers()
        client.remove_image(broken, force=True)
    finally:
        client.close()

    with pytest.raises(SpawnRefused, match=rf"{broken}.*(500|unknown error)"):
        await rig.spawner(pull="missing").start(rig.server(image=broken))
    assert rig.lab.containers() == []


async def test_a_registry_that_nobody_runs_is_refused_with_its_address(
    image: tuple[Registry, str], rig: DockerRig
) -> None:
    name = f"127.0.0.1:{image[0].port + 1}/team/python:1"
    with pytest.raises(SpawnRefused, match=r"connection refused"):
        await rig.spawner(pull="missing").start(rig.server(image=name))
