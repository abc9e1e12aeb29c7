"""A server or a keeper that gets no processor while a kernel goes on: ZMQ drops what it has 1,000 messages of unread."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from component.singleuser.conftest import Start
from component.singleuser.outliving_parts import (
    browser,
    bytes_of,
    ended,
    keeper_of,
    killed,
    opened,
    processes,
    shown,
)
from support import eventually

MANY, TURN = 4_000, 400
BURST = f"""
import pathlib, time
from IPython.display import display
print('begun', flush=True)
for number in range({MANY}):
    while number % {TURN} == 0 and not pathlib.Path(f'turn-{{number}}').exists():
        time.sleep(0.01)
    display(number)
pathlib.Path('burst').touch()
while not pathlib.Path('on').exists():
    time.sleep(0.01)
print('ended')
"""
TURNS = range(0, MANY, TURN)
GAP = "Output may be missing here"


@pytest.fixture(autouse=True)
async def no_process_is_left(tmp_path: Path) -> AsyncIterator[None]:
    """Whatever a test leaves behind is ended, stopped or not."""
    yield
    for pid in processes(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def displayed(content: dict[str, Any]) -> list[int]:
    """The numbers that the notebook's first cell shows."""
    outputs = next(one["outputs"] for one in content["cells"] if one["id"] == "a")
    return [int(one["data"]["text/plain"]) for one in outputs if one["output_type"] == "display_data"]


def is_kept(tmp_path: Path, number: int) -> bool:
    """Whether the keeper has written down that this number was displayed."""
    folder = next((tmp_path / "home").rglob("kept-*"))
    return any(f'"{number}"'.encode() in bytes_of(file) for file in folder.glob("*.journal.*"))


async def test_a_server_that_was_stopped_during_a_burst_shows_and_records_it_whole(
    start: Start, tmp_path: Path
) -> None:
    server = await start()
    _, page = await opened(server)
    asked = await page.execute(BURST, cell="a")
    await page.until(lambda got: got.type == "stream")

    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        for first in TURNS:  # no more at once than the keeper can have unread, on whatever machine
            (server.root / f"turn-{first}").touch()
            await eventually(lambda first=first: is_kept(tmp_path, first + TURN - 1), within_s=60)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    (server.root / "on").touch()

    messages = await page.finished(asked, within_s=60)
    numbers = [int(got.content["data"]["text/plain"]) for got in messages if got.type == "display_data"]
    assert numbers == list(range(MANY))
    assert "kernel.taken_from_journal" in server.log.read_text(), "it was stopped for long enough"
    await page.close()
    assert GAP not in await ended(server)
    assert displayed(await shown(server)) == list(range(MANY))


async def test_what_a_keeper_missed_of_a_killed_server_is_marked_in_the_cell(
    start: Start, tmp_path: Path
) -> None:
    first = await start()
    kernel_id, page = await opened(first)
    await page.execute(BURST, cell="a")
    await page.until(lambda got: got.type == "stream")

    keeper = keeper_of(tmp_path)
    os.kill(keeper, signal.SIGSTOP)
    await killed(first)
    for number in TURNS:
        (first.root / f"turn-{number}").touch()
    await eventually((first.root / "burst").exists, within_s=60)
    os.kill(keeper, signal.SIGCONT)
    second = await start()
    (second.root / "on").touch()

    assert GAP in await ended(second)
    numbers = displayed(await shown(second))
    assert numbers[:500] == list(range(500)), "what the keeper could still read is there, in order"
    assert len(numbers) < MANY
    page = await browser(second, kernel_id)
    assert await page.printed("print(number)") == f"{MANY - 1}\n"
    await page.close()


async def test_displays_that_the_cell_itself_took_away_are_no_gap(start: Start) -> None:
    server = await start()
    _, page = await opened(server)
    await page.run("swallow = lambda message: None; publisher = get_ipython().display_pub")
    taken = "publisher.register_hook(swallow); [display(n) for n in range(50)]; publisher.unregister_hook(swallow)"

    assert await page.printed(f"print('before', flush=True); {taken}; print('after')") == "before\nafter\n"

    assert "kernel.taken_from_journal" in server.log.read_text()
    await page.close()
