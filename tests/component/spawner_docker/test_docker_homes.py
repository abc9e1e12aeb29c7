"""The server's user can write in what is theirs, however the engine made it; what others own stays theirs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import docker_lab
from himalia_spawner.base import Handle, ServerRef
from himalia_spawner.docker.ownership import Top
from himalia_spawner.docker.settings import DockerSettings
from himalia_spawner.docker.spawner import DockerSpawner
from himalia_spawner.errors import SpawnRefused
from himalia_spawner.names import backend_name

if TYPE_CHECKING:
    from conftest import DockerRig

pytestmark = pytest.mark.timeout(120)
NAME = backend_name("ada", "")
NOWHERE = "/srv/people/ada"
"""A home for which the image has no folder, so that the engine makes one, for root."""


class Killed(BaseException):
    """Stands for the hub's death at a fault point."""


def can_write(rig: DockerRig, handle: Handle, place: str = "$HOME") -> bool:
    client = rig.lab.client()
    try:
        asked = client.exec_create(
            handle.state["container"], ["sh", "-c", f"echo kept > {place}/note && cat {place}/note"]
        )
        return bool(client.exec_start(asked["Id"]) == b"kept\n")
    finally:
        client.close()


@pytest.fixture
def volume(rig: DockerRig) -> Iterator[str]:
    name = "himalia-test-home"
    yield name
    rig.lab.remove_containers()
    client = rig.lab.client()
    try:
        client.remove_volume(name)
    finally:
        client.close()


async def test_a_home_that_the_image_lacks_is_its_persons_to_write_in(rig: DockerRig, volume: str) -> None:
    spawner = rig.spawner(volumes={volume: "{home}"}, home=NOWHERE)
    first = await spawner.start(rig.server())
    assert can_write(rig, first)
    assert len(rig.lab.containers()) == 1, "what gave the home away is still there"

    await spawner.stop(ServerRef(NAME, "1"))
    for incarnation in ("2", "3"):  # looked at, then known
        again = await spawner.start(replace(rig.server(), ref=ServerRef(NAME, incarnation)))
        assert can_write(rig, again)
        await spawner.stop(ServerRef(NAME, incarnation))


async def test_a_volume_removed_and_made_again_is_given_again(rig: DockerRig, volume: str) -> None:
    spawner = rig.spawner(volumes={volume: "{home}"}, home=NOWHERE)
    for incarnation in ("1", "2", "3"):
        handle = await spawner.start(replace(rig.server(), ref=ServerRef(NAME, incarnation)))
        assert can_write(rig, handle)
        await spawner.stop(ServerRef(NAME, incarnation))
        if incarnation == "2":
            client = rig.lab.client()
            client.remove_volume(volume)
            client.close()


async def test_a_hub_killed_before_the_home_was_given_leaves_a_start_that_goes_on(
    rig: DockerRig, volume: str
) -> None:
    settings = DockerSettings.model_validate(rig.settings | {"volumes": {volume: "{home}"}, "home": NOWHERE})

    def die(point: str) -> None:
        if point == "after_create":
            raise Killed

    killed = DockerSpawner(settings, hub_id="tests", data_dir=rig.root / "data", fault=die)
    rig.made.append(killed)
    with pytest.raises(Killed):
        await killed.start(rig.server())

    assert can_write(rig, await rig.spawner(volumes={volume: "{home}"}, home=NOWHERE).start(rig.server()))


async def test_a_new_folder_of_this_machine_for_one_person_becomes_theirs(rig: DockerRig) -> None:
    spawner = rig.spawner(volumes={str(rig.root / "homes" / "{user}"): "{home}"})
    assert can_write(rig, await spawner.start(rig.server()))
    found = (rig.root / "homes" / "ada").stat()
    assert (found.st_uid, found.st_gid) == (1000, 100)


async def test_a_folder_of_this_machine_that_holds_something_or_is_for_all_stays_roots(
    rig: DockerRig,
) -> None:
    full, common = rig.root / "full" / "ada", rig.root / "common"
    full.mkdir(parents=True)
    common.mkdir()
    (full / "of-root").touch()
    volumes = {str(rig.root / "full" / "{user}"): "{home}", str(common): "/srv/common"}

    handle = await rig.spawner(volumes=volumes).start(rig.server())

    assert not can_write(rig, handle)
    assert not can_write(rig, handle, "/srv/common")
    assert full.stat().st_uid == common.stat().st_uid == 0


async def test_a_home_that_cannot_be_given_is_refused_with_its_name_and_nothing_is_left(
    rig: DockerRig,
) -> None:
    homes = rig.root / "homes"
    (homes / "ada").mkdir(parents=True)
    subprocess.run(["mount", "--bind", homes, homes], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", homes], check=True)
    try:
        with pytest.raises(SpawnRefused, match=str(homes / "ada")):
            await rig.spawner(volumes={str(homes / "{user}"): "{home}"}).start(rig.server())
        assert rig.lab.containers() == []
    finally:
        subprocess.run(["umount", homes], check=True)


async def test_a_volume_that_only_the_image_asked_for_goes_with_its_container(rig: DockerRig) -> None:
    client = rig.lab.client()
    try:
        made = client.create_container(docker_lab.PYTHON_IMAGE, command=["true"])["Id"]
        client.commit(made, "himalia-test-scratch", tag="1", changes=["VOLUME /scratch"])
        client.remove_container(made)
        before = {one["Name"] for one in client.volumes()["Volumes"] or []}
        spawner = rig.spawner()
        await spawner.start(rig.server(image="himalia-test-scratch:1"))
        assert {one["Name"] for one in client.volumes()["Volumes"] or []} > before

        await spawner.stop(ServerRef(NAME, "1"))

        assert {one["Name"] for one in client.volumes()["Volumes"] or []} == before
    finally:
        client.close()


@pytest.mark.parametrize(
    ("top", "may"),
    [
        (Top(1000, 0, 0o755, is_empty=True), True),
        (Top(1000, 0, 0o555, is_empty=True), False),
        (Top(0, 100, 0o775, is_empty=True), True),
        (Top(0, 0, 0o775, is_empty=True), False),
        (Top(0, 0, 0o1777, is_empty=True), True),
    ],
)
def test_who_may_write_is_read_from_owner_group_and_mode(top: Top, may: bool) -> None:
    assert top.lets_in(1000, 100) is may
