"""The published suite: what every spawner must do, as pytest test methods.

A plug-in's tests inherit the class and provide a fixture `rig`, an object that fits `Rig`:

    class TestMySpawner(SpawnerContract):
        @pytest.fixture
        async def rig(self) -> AsyncIterator[Rig]: ...

The methods are coroutines: run them with pytest-asyncio (`asyncio_mode = "auto"`) or a like plug-in.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Protocol

from himalia_spawner.base import Handle, Measures, Presence, ServerRef, ServerSpec, Sighting, Spawner
from himalia_spawner.errors import SpawnError, SpawnRefused
from himalia_spawner.names import backend_name

WORDS = "the contract's last words: kaputt, große Not"
"""What a CRASHES server writes before it ends with status 3."""

ODD_NAMES: tuple[tuple[str, str], ...] = (
    ("ada", ""),
    ("ada", "gpu"),
    ("ada-gpu", ""),
    ("ADA", ""),
    ("müller", "zwei"),
    ("a b/c;$(reboot)", "`x`"),
    ("..", ""),
    ("-rf", "--"),
    ("x" * 255, "y" * 255),
    ("名前", "サーバ"),
    ("o'brien@example.org", "\"quoted\" 'name'"),
    ("%2e%2e%2f", "\\"),
)
"""User and server names that have broken spawners."""


class Kind(StrEnum):
    """What a server of the suite does."""

    SERVES = "serves"  # answers at its address until it is stopped
    CRASHES = "crashes"  # writes WORDS, ends with status 3
    STUBBORN = "stubborn"  # serves, and ignores every signal it can
    REFUSED = "refused"  # can't be started at all: no such command, image or account


class Rig(Protocol):
    """What the suite needs to know of a spawner to test it."""

    def spawner(self) -> Spawner:
        """Another spawner object over the same backend, as after a restart of the hub; the rig closes it."""

    def spec(self, kind: Kind, ref: ServerRef, username: str, server_name: str) -> ServerSpec:
        """A server of that kind, with a few environment variables of its own."""

    async def environment(self, handle: Handle) -> Mapping[str, str]:
        """What the running server sees."""

    async def kill(self, handle: Handle) -> None:
        """End the server behind its spawner's back."""


class SpawnerContract:
    """The laws. Inherit, and provide the fixture `rig`."""

    patience_s = 10.0

    async def test_what_was_never_started_is_absent(self, rig: Rig) -> None:
        assert (await rig.spawner().look("nobody-was-here")).presence is Presence.ABSENT

    async def test_a_started_server_is_present_with_its_handle(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig)

        handle = await spawner.start(spec)
        sighting = await spawner.look(spec.ref.name)

        assert sighting.presence is Presence.PRESENT
        assert sighting.handle == handle
        assert handle.ref == spec.ref
        assert await spawner.list() == [handle]

    async def test_it_comes_to_listen(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig)

        await spawner.start(spec)

        await self._until(lambda: _listens(spawner, spec.ref.name))

    async def test_starting_twice_gives_the_same_handle(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig)

        assert await spawner.start(spec) == await spawner.start(spec)

    async def test_starting_twice_at_once_makes_one_server(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig)

        first, second = await asyncio.gather(spawner.start(spec), spawner.start(spec))

        assert first == second
        assert await spawner.list() == [first]

    async def test_two_hubs_starting_at_once_make_one_server(self, rig: Rig) -> None:
        spec = _spec(rig)
        hubs = [rig.spawner(), rig.spawner()]

        results = await asyncio.gather(*(hub.start(spec) for hub in hubs), return_exceptions=True)

        handles = [each for each in results if isinstance(each, Handle)]
        assert handles, f"no hub could start it: {results}"
        assert all(isinstance(each, (Handle, SpawnError)) for each in results)
        assert await hubs[0].list() == await hubs[1].list() == [handles[0]]

    async def test_stopping_ends_it_and_stopping_twice_is_fine(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig)
        await spawner.start(spec)

        await spawner.stop(spec.ref)
        await spawner.stop(spec.ref)

        assert await spawner.look(spec.ref.name) == Sighting(Presence.ABSENT)
        assert await spawner.list() == []

    async def test_stopping_what_never_was_is_fine(self, rig: Rig) -> None:
        await rig.spawner().stop(ServerRef("nobody-was-here", "1"))

    async def test_stopping_another_incarnation_does_nothing(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig, incarnation="2")
        handle = await spawner.start(spec)

        await spawner.stop(ServerRef(spec.ref.name, "1"))

        assert (await spawner.look(spec.ref.name)).handle == handle

    async def test_a_second_incarnation_does_not_start_beside_the_first(self, rig: Rig) -> None:
        spawner, old, new = rig.spawner(), _spec(rig, incarnation="1"), _spec(rig, incarnation="2")
        handle = await spawner.start(old)

        error = await _error_of(spawner.start(new))

        assert isinstance(error, SpawnError)
        assert await spawner.list() == [handle]

    async def test_after_a_stop_the_next_incarnation_starts(self, rig: Rig) -> None:
        spawner, old, new = rig.spawner(), _spec(rig, incarnation="1"), _spec(rig, incarnation="2")
        await spawner.start(old)
        await spawner.stop(old.ref)

        handle = await spawner.start(new)

        assert handle.ref == new.ref

    async def test_a_stubborn_server_is_stopped_too(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig, Kind.STUBBORN)
        await spawner.start(spec)
        await self._until(lambda: _listens(spawner, spec.ref.name))

        await spawner.stop(spec.ref, grace_s=0.2)

        assert (await spawner.look(spec.ref.name)).presence is Presence.ABSENT

    async def test_odd_names_get_servers_of_their_own(self, rig: Rig) -> None:
        spawner = rig.spawner()
        specs = [_spec(rig, username=user, server_name=server) for user, server in ODD_NAMES]

        handles = [await spawner.start(spec) for spec in specs]

        assert len({handle.url for handle in handles}) == len(ODD_NAMES)
        assert {each.ref for each in await spawner.list()} == {spec.ref for spec in specs}
        await asyncio.gather(*(spawner.stop(spec.ref) for spec in specs))
        assert await spawner.list() == []

    async def test_the_environment_is_exact(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig)
        os.environ["CONTRACT_HUB_SECRET"] = "of the hub"
        try:
            handle = await spawner.start(spec)
            seen = await rig.environment(handle)
        finally:
            del os.environ["CONTRACT_HUB_SECRET"]

        assert {name: seen.get(name) for name in spec.env} == dict(spec.env)
        assert seen["JUPYTERHUB_SERVICE_URL"].endswith(spec.prefix)
        assert {"HOME", "USER", "SHELL"} <= seen.keys()
        assert "CONTRACT_HUB_SECRET" not in seen

    async def test_a_crash_keeps_its_status_and_last_words(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig, Kind.CRASHES)

        await spawner.start(spec)
        await self._until(lambda: _is_absent(spawner, spec.ref.name))
        how = (await spawner.look(spec.ref.name)).exit

        assert how is not None
        assert (how.status, how.signal) == (3, None)
        assert "3" in how.reason
        assert WORDS in how.log_tail
        assert WORDS in await spawner.logs(spec.ref.name)
        assert await spawner.logs(spec.ref.name, 0) == []

    async def test_a_crashed_server_can_be_stopped_and_started_again(self, rig: Rig) -> None:
        spawner, crashing = rig.spawner(), _spec(rig, Kind.CRASHES)
        await spawner.start(crashing)
        await self._until(lambda: _is_absent(spawner, crashing.ref.name))

        await spawner.stop(crashing.ref)
        handle = await spawner.start(_spec(rig, incarnation="2"))

        assert (await spawner.look(crashing.ref.name)).handle == handle

    async def test_a_refused_start_says_why_and_leaves_nothing(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig, Kind.REFUSED)

        error = await _error_of(spawner.start(spec))

        assert isinstance(error, SpawnRefused), repr(error)
        assert str(error)
        assert not error.retryable
        assert (await spawner.look(spec.ref.name)).presence is Presence.ABSENT
        await spawner.stop(spec.ref)
        assert (await spawner.start(_spec(rig, incarnation="2"))).ref.incarnation == "2"

    async def test_an_exit_is_told_at_once(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig)
        handle = await spawner.start(spec)

        async with asyncio.timeout(self.patience_s):
            told = asyncio.create_task(_until_told(spawner, spec.ref.name))
            await rig.kill(handle)
            began = time.monotonic()
            await told

        assert time.monotonic() - began < 2
        sighting = await spawner.look(spec.ref.name)
        assert sighting.presence is Presence.ABSENT
        assert sighting.exit is not None
        assert sighting.exit.reason

    async def test_a_new_hub_adopts_what_runs(self, rig: Rig) -> None:
        old, spec = rig.spawner(), _spec(rig)
        handle = await old.start(spec)
        await old.close()

        new = rig.spawner()

        assert (await new.look(spec.ref.name)).handle == handle
        assert await new.list() == [handle]
        assert await new.start(spec) == handle
        await new.stop(spec.ref)
        assert (await new.look(spec.ref.name)).presence is Presence.ABSENT

    async def test_a_new_hub_hears_of_the_end_of_what_it_adopted(self, rig: Rig) -> None:
        old, spec = rig.spawner(), _spec(rig)
        handle = await old.start(spec)
        await old.close()
        new = rig.spawner()

        async with asyncio.timeout(self.patience_s):
            told = asyncio.create_task(_until_told(new, spec.ref.name))
            await self._until(lambda: _is_present(new, spec.ref.name))
            await rig.kill(handle)
            await told

        assert (await new.look(spec.ref.name)).presence is Presence.ABSENT

    async def test_purging_removes_the_log_but_never_a_running_server(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig)
        handle = await spawner.start(spec)

        error = await _error_of(spawner.purge(spec.ref.name))

        assert isinstance(error, SpawnError)
        assert (await spawner.look(spec.ref.name)).handle == handle
        await spawner.stop(spec.ref)
        await spawner.purge(spec.ref.name)
        await spawner.purge(spec.ref.name)
        assert await spawner.logs(spec.ref.name) == []

    async def test_what_servers_use_is_told_of_those_that_run(self, rig: Rig) -> None:
        spawner, spec = rig.spawner(), _spec(rig)
        if not isinstance(spawner, Measures):
            return  # an optional ability; its hub shows "unknown"
        await spawner.start(spec)
        await self._until(lambda: _listens(spawner, spec.ref.name))

        told = await spawner.measure([spec.ref.name, "nobody-was-here"])
        await spawner.stop(spec.ref)

        assert told.keys() == {spec.ref.name}
        assert (told[spec.ref.name].memory or 0) > 100_000
        # Nothing yet is an answer too: Linux counts in hundredths, and a forked server listens before it has used one.
        assert told[spec.ref.name].cpu_s is not None
        assert await spawner.measure([spec.ref.name]) == {}

    async def _until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(self.patience_s):
            while not await condition():
                await asyncio.sleep(0.01)


def _spec(
    rig: Rig,
    kind: Kind = Kind.SERVES,
    *,
    username: str = "ada",
    server_name: str = "",
    incarnation: str = "1",
) -> ServerSpec:
    ref = ServerRef(backend_name(username, server_name), incarnation)
    return rig.spec(kind, ref, username, server_name)


async def _listens(spawner: Spawner, name: str) -> bool:
    sighting = await spawner.look(name)
    return sighting.presence is Presence.PRESENT and sighting.listening


async def _is_present(spawner: Spawner, name: str) -> bool:
    return (await spawner.look(name)).presence is Presence.PRESENT


async def _is_absent(spawner: Spawner, name: str) -> bool:
    return (await spawner.look(name)).presence is Presence.ABSENT


async def _until_told(spawner: Spawner, name: str) -> None:
    async for told in spawner.watch():
        if told == name:
            return


async def _error_of(work: Awaitable[object]) -> Exception | None:
    try:
        await work
    except Exception as error:  # the tests say which kind it must be
        return error
    return None
