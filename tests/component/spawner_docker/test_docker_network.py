"""The containers' network, on a real engine that lets two networks have one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from docker import APIClient

import docker_lab

if TYPE_CHECKING:
    from conftest import DockerRig

pytestmark = pytest.mark.timeout(120)
NAME = "himalia-twice"


def named(client: APIClient, name: str) -> list[str]:
    """Ids of the networks of exactly this name, the oldest first; the engine's own filter also finds longer names."""
    found = [one for one in client.networks(names=[name]) if one["Name"] == name]
    return [one["Id"] for one in sorted(found, key=lambda one: one["Created"])]


async def test_of_two_networks_with_one_name_the_older_is_left_and_used(rig: DockerRig) -> None:
    client = rig.lab.client()
    try:
        for _ in range(2):
            client.create_network(NAME, driver="bridge", check_duplicate=False)
        older, _ = named(client, NAME)
        handle = await rig.spawner(network=NAME).start(rig.server())
        joined = rig.inspect(handle)["NetworkSettings"]["Networks"]  # type: ignore[index]
        assert [one["NetworkID"] for one in joined.values()] == [older]
        assert named(client, NAME) == [older]
    finally:
        client.close()


async def test_a_network_that_a_container_uses_is_the_one_that_is_left(rig: DockerRig) -> None:
    client = rig.lab.client()
    name = f"{NAME}-used"
    try:
        for _ in range(2):
            client.create_network(name, driver="bridge", check_duplicate=False)
        older, younger = named(client, name)
        holder = client.create_container(docker_lab.PYTHON_IMAGE, command=["sleep", "600"])["Id"]
        client.start(holder)
        client.connect_container_to_network(holder, younger)
        await rig.spawner(network=name).start(rig.server())
        assert named(client, name) == [younger] != [older]
    finally:
        client.close()


async def test_a_name_that_is_part_of_another_networks_name_is_not_that_network(rig: DockerRig) -> None:
    client = rig.lab.client()
    try:
        longer = client.create_network(f"{NAME}-and-more", driver="bridge")["Id"]
        handle = await rig.spawner(network=f"{NAME}-and").start(rig.server())
        joined = rig.inspect(handle)["NetworkSettings"]["Networks"]  # type: ignore[index]
        assert longer not in [one["NetworkID"] for one in joined.values()]
    finally:
        client.close()
