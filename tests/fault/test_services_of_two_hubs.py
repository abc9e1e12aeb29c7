"""A managed service runs once, whichever hub is alive."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hubs import Client
from replicas import two_hubs
from support import eventually
from witness import nothing_lost

pytestmark = pytest.mark.postgres


async def test_one_of_two_hubs_runs_a_service_and_the_other_takes_over_when_it_is_killed(
    tmp_path: Path, postgres_database: str
) -> None:
    mark = f"service-mark-{tmp_path.name}"
    command = json.dumps([sys.executable, "-c", "import signal; signal.pause()", mark])
    config = f"[servers]\nlease_s = 2\n[[services]]\nname = 'bot'\ncommand = {command}\n"
    async with two_hubs(tmp_path / "s", postgres_database, config) as site:
        await site.first.start()
        first = await eventually(lambda: _only(mark), within_s=30, what="the first hub runs it")
        await site.second.start()
        assert await _pid(site.to_second) == first

        site.first.kill()

        async def taken_over() -> bool:
            (pid,) = _running(mark) or (0,)
            return pid not in (0, first) and await _pid(site.to_second) == pid

        await eventually(taken_over, within_s=30, what="the second hub runs one of its own")
        await nothing_lost(site.to_second, site.second)
        await site.second.stop()
        assert not _running(mark)


async def _pid(client: Client) -> int:
    status, model = await client.call("GET", "/services/bot")
    assert status == 200, model
    return int(model["pid"])


def _only(mark: str) -> int:
    found = _running(mark)
    assert len(found) < 2, "two at once"
    return found[0] if found else 0


def _running(mark: str) -> list[int]:
    """Processes with this word in their command line; the program between fork and exec has it too."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in words:
                found.append(int(entry.name))
    return found
