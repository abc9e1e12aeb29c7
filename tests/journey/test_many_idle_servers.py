"""Idle servers, held: all answer, kernels start, and nothing grows. `make soak` does it with 200 for ten minutes."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "bench"))

from soak import must_be_flat, soak

from hubs import Hub


async def test_twenty_idle_servers_answer_run_kernels_and_cost_no_more_with_time(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "data")
    try:
        must_be_flat(await soak(hub, users=20, seconds=3, kernels=2, every_s=1))
        await hub.stop()
        assert hub.processes() == []
    finally:
        hub.clean_up()
