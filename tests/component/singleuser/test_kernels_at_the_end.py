"""How kernels end with their server: side by side, and with time for their own last words."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from component.singleuser.kernel_parts import running_server
from himalia_singleuser.kernels.options import KernelOptions

LONG_S = 600.0
"""The patience with kernels here: whatever waits for it to end makes the test's own time run out."""

LAST_WORDS = """
import atexit, pathlib, time
def last_words(mine=pathlib.Path({mine!r}), other=pathlib.Path({other!r})):
    mine.touch()
    for _ in range(600):
        if other.exists():
            pathlib.Path(str(mine) + '.met').touch()
            return
        time.sleep(0.05)
atexit.register(last_words)
"""


async def test_kernels_end_side_by_side_and_not_one_after_another(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    async with asyncio.timeout(120):
        async with running_server(tmp_path, options=KernelOptions(shutdown_grace_s=LONG_S)) as server:
            for mine, other in ((one, two), (two, one)):
                browser = await server.browser(await server.new_kernel())
                await browser.run(LAST_WORDS.format(mine=mine, other=other))

        # Each stayed until it saw the other's end begin: in a row, the first would have waited in vain.
        assert Path(one + ".met").exists()
        assert Path(two + ".met").exists()


def _install(data: Path, interrupt_mode: str) -> None:
    folder = data / "kernels" / "tested"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "tested", "language": "python", "interrupt_mode": interrupt_mode}
    (folder / "kernel.json").write_text(json.dumps(spec))


@pytest.mark.parametrize("interrupt_mode", ["signal", "message"])
async def test_a_running_cell_is_interrupted_at_the_end_and_its_kernel_still_says_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupt_mode: str
) -> None:
    interrupted, ended = tmp_path / "interrupted", tmp_path / "ended"
    _install(tmp_path / "data", interrupt_mode)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    async with asyncio.timeout(120):
        async with running_server(tmp_path, options=KernelOptions(shutdown_grace_s=LONG_S)) as server:
            browser = await server.browser(await server.new_kernel(name="tested"))
            await browser.run(LAST_WORDS.format(mine=str(ended), other=str(ended)))
            await browser.execute(
                "import pathlib\ntry:\n    print('in', flush=True)\n    while True: pass\n"
                f"except KeyboardInterrupt:\n    pathlib.Path({str(interrupted)!r}).touch()\n"
            )
            await browser.until(lambda got: got.type == "stream")

    assert interrupted.exists()
    assert ended.exists()
