"""A kernel's process belongs to somebody from its first moment to its last."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from subprocess import Popen

import pytest

from himalia_singleuser.kernels import process
from himalia_singleuser.kernels.process import ChildLauncher, Start
from himalia_singleuser.kernels.spawning import spawn


async def test_a_start_that_is_called_off_half_way_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reached, go_on, started = threading.Event(), threading.Event(), list[Popen[bytes]]()

    def slowly(*asked: str) -> Popen[bytes]:
        reached.set()
        assert go_on.wait(30)
        started.append(spawn(*asked))  # type: ignore[arg-type]
        return started[-1]

    monkeypatch.setattr(process, "spawn", slowly)
    wanted = Start("k", ["sleep", "600"], cwd=tmp_path, env=dict(os.environ), log=tmp_path / "log", iopub="")
    starting = asyncio.create_task(ChildLauncher().start(wanted))
    assert await asyncio.to_thread(reached.wait, 30)

    starting.cancel()
    await asyncio.sleep(0)
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)
