from __future__ import annotations

from collections.abc import Mapping

import pytest

from himalia_spawner.base import Exit, Handle, Presence, ServerRef, ServerSpec
from himalia_spawner.contract import WORDS, Kind, SpawnerContract
from himalia_spawner.errors import BackendGone, SpawnFailed
from himalia_spawner.fake import FakeBackend, FakeSpawner

COMMANDS = {Kind.CRASHES: ("crash", WORDS), Kind.REFUSED: ("refuse",)}


class FakeRig:
    def __init__(self) -> None:
        self.backend = FakeBackend()

    def spawner(self) -> FakeSpawner:
        return FakeSpawner(backend=self.backend)

    def spec(self, kind: Kind, ref: ServerRef, username: str, server_name: str) -> ServerSpec:
        return ServerSpec(ref, username, server_name, "/user/x/", {"A": "1"}, COMMANDS.get(kind, ()))

    async def environment(self, handle: Handle) -> Mapping[str, str]:
        return self.backend.servers[handle.ref.name].env

    async def kill(self, handle: Handle) -> None:
        self.backend.end(handle.ref.name, Exit("the server was ended by SIGKILL", signal=9))


class TestFakeSpawner(SpawnerContract):
    @pytest.fixture
    def rig(self) -> FakeRig:
        return FakeRig()


async def test_an_unreachable_backend_is_unknown_never_absent() -> None:
    spawner = FakeSpawner()
    spawner.backend.unreachable = True

    assert (await spawner.look("ada")).presence is Presence.UNKNOWN
    with pytest.raises(BackendGone):
        await spawner.stop(ServerRef("ada", "1"))


async def test_the_next_start_fails_as_told_and_the_one_after_works() -> None:
    spawner = FakeSpawner()
    spec = ServerSpec(ServerRef("ada", "1"), "ada", "", "/user/ada/", {})
    spawner.backend.refuse_with = SpawnFailed("no luck")

    with pytest.raises(SpawnFailed, match="no luck"):
        await spawner.start(spec)

    assert (await spawner.start(spec)).ref == spec.ref
