"""The bells: who is woken by what, and what a ring brings."""

from __future__ import annotations

from himalia_hub.servers.doorbell import Doorbell
from himalia_hub.servers.models import Server


async def test_the_end_of_a_story_brings_its_row_to_those_who_wait_for_that_server_only() -> None:
    bell, row = Doorbell(), Server(id=1)
    with bell.watch(1, only_the_end=True) as mine, bell.watch(2, only_the_end=True) as other:
        assert bell.is_awaited(1)

        bell.settle(1, row)
        bell.ring(1)  # what follows at once has no row, and does not take it away

        assert await mine.wait(0)
        assert mine.row is row
        assert not await other.wait(0)
        assert other.row is None
    assert not bell.is_awaited(1)


async def test_a_line_of_the_story_does_not_wake_who_waits_for_its_end() -> None:
    bell = Doorbell()
    with bell.watch(1) as reads, bell.watch(1, only_the_end=True) as waits:
        bell.tell(1)

        assert await reads.wait(0)
        assert not await waits.wait(0)
