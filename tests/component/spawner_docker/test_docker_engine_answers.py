"""An engine that answers late, wrongly or twice: bounded waiting, words, and a retry that finds what was made."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from himalia_spawner.base import Handle, Presence, ServerRef
from himalia_spawner.docker.settings import DockerSettings
from himalia_spawner.docker.spawner import DockerSpawner
from himalia_spawner.errors import BackendGone, SpawnFailed
from himalia_spawner.names import backend_name
from relay import Relay, relay
from support import eventually

if TYPE_CHECKING:
    from conftest import DockerRig

pytestmark = pytest.mark.timeout(120)
NAME = backend_name("ada", "")
LIMIT_S = 2.0


@pytest.fixture
async def between(rig: DockerRig) -> AsyncIterator[Relay]:
    """Stands between the spawner and its engine."""
    async with relay(rig.root / "relay.sock", Path(rig.lab.url.removeprefix("unix://"))) as made:
        yield made
        for spawner in rig.made:  # before the relay ends: their streams go through it
            await spawner.close()


async def test_a_slow_engine_is_waited_for(rig: DockerRig, between: Relay) -> None:
    between.slow_s = 0.2
    spawner = rig.spawner(url=between.url)
    handle = await spawner.start(rig.server())
    assert (await spawner.look(NAME)).handle == handle
    await spawner.stop(handle.ref)
    assert rig.lab.containers() == []


async def test_an_engine_that_does_not_answer_in_time_is_unknown_and_said_with_the_limit(
    rig: DockerRig, between: Relay
) -> None:
    patient = rig.spawner(url=between.url)
    spawner = rig.spawner(url=between.url, request_timeout_s=LIMIT_S)
    handle = await patient.start(rig.server())
    between.held = "GET /.*/containers/.*/json"

    began = time.monotonic()
    sighting = await spawner.look(NAME)

    assert sighting.presence is Presence.UNKNOWN
    assert f"does not answer within {LIMIT_S:g} seconds" in sighting.detail
    assert LIMIT_S <= time.monotonic() - began < LIMIT_S + 10
    with pytest.raises(BackendGone, match="does not answer within"):
        await spawner.stop(handle.ref)
    between.release()
    assert (await patient.look(NAME)).handle == handle


async def test_a_container_whose_making_was_answered_too_late_is_found_by_the_retry(
    rig: DockerRig, between: Relay
) -> None:
    spawner = rig.spawner(url=between.url, request_timeout_s=LIMIT_S)
    between.held = "POST /.*/containers/create"
    with pytest.raises(BackendGone):
        await spawner.start(rig.server())
    await eventually(lambda: len(rig.lab.containers()) == 1, within_s=30)
    between.release()
    patient = rig.spawner(url=between.url)

    handle = await patient.start(rig.server())

    assert (await patient.look(NAME)).handle == handle
    assert len(rig.lab.containers()) == 1


async def test_a_start_answered_too_late_is_adopted_by_the_retry(rig: DockerRig, between: Relay) -> None:
    spawner = rig.spawner(url=between.url, request_timeout_s=LIMIT_S)
    between.held = "POST /.*/start"
    with pytest.raises(BackendGone):
        await spawner.start(rig.server())
    between.release()

    async def retried() -> Handle | None:
        try:
            return await spawner.start(rig.server())
        except BackendGone:
            return None

    handle = await eventually(retried, within_s=30)
    assert rig.inspect(handle)["State"]["Running"]  # type: ignore[index]
    assert len(rig.lab.containers()) == 1


async def test_an_engine_that_answers_500_is_unknown_and_never_taken_for_an_absent_server(
    rig: DockerRig, between: Relay
) -> None:
    spawner = rig.spawner(url=between.url)
    handle = await spawner.start(rig.server())
    between.broken = "/v1"

    sighting = await spawner.look(NAME)

    assert sighting.presence is Presence.UNKNOWN
    assert "500" in sighting.detail
    assert "the test broke it" in sighting.detail
    for asked in (spawner.list(), spawner.stop(handle.ref), spawner.start(rig.server())):
        with pytest.raises(BackendGone, match="the test broke it"):
            await asked
    between.broken = None
    assert (await spawner.look(NAME)).handle == handle


async def test_a_stop_that_the_engine_answers_with_500_says_so_and_works_the_next_time(
    rig: DockerRig, between: Relay
) -> None:
    spawner = rig.spawner(url=between.url)
    handle = await spawner.start(rig.server())
    between.broken = "POST /.*/stop"
    with pytest.raises(SpawnFailed, match="the test broke it"):
        await spawner.stop(handle.ref)
    between.broken = None
    await spawner.stop(handle.ref)
    assert rig.lab.containers() == []


async def test_a_container_that_another_hub_made_in_between_is_adopted_by_its_labels(rig: DockerRig) -> None:
    faster: list[Handle] = []

    def be_slower(point: str) -> None:
        if point == "before_create":
            thread = threading.Thread(target=lambda: faster.append(asyncio.run(_start_and_close(rig))))
            thread.start()
            thread.join()

    settings = DockerSettings.model_validate(rig.settings)
    slower = DockerSpawner(settings, hub_id="tests", data_dir=rig.root / "data", fault=be_slower)
    rig.made.append(slower)

    assert await slower.start(rig.server()) == faster[0]
    assert len(rig.lab.containers()) == 1
    await slower.stop(ServerRef(NAME, "1"))
    assert rig.lab.containers() == []


async def _start_and_close(rig: DockerRig) -> Handle:
    spawner = rig.spawner()
    try:
        return await spawner.start(rig.server())
    finally:
        await spawner.close()
