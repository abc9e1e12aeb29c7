"""`himalia scaletest`: everybody gets through, and nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from hubs import Hub, client


async def scaletest(folder: Path, *args: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, figures and what it said on the way; its own temporary folder lies in `folder`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "himalia_hub", "scaletest", "--json", "--idle", "0", *args,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 240)
    return process.returncode or 0, json.loads(out or "{}"), err.decode()


async def test_it_starts_a_hub_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    code, figures, said = await scaletest(tmp_path, "--users", "3")
    assert (code, figures["errors"]) == (0, []), said
    assert {step: found["count"] for step, found in figures["seconds"].items()} == dict.fromkeys(
        ("log in", "start", "open", "run a cell", "stop"), 3
    )
    assert figures["memory_mb"]["server"]["p50"] > 1
    assert "3/3 visits" in said
    assert list(tmp_path.glob("himalia-scaletest-*")) == []


async def test_on_a_running_hub_the_people_it_made_are_gone_afterwards(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "data")
    try:
        hub.add_user("ada", admin=True)
        await hub.start()
        code, figures, said = await scaletest(tmp_path, "--running", "--users", "2", "--data", str(hub.data))
        assert (code, figures["errors"]) == (0, []), said
        async with client(hub, hub.token("ada")) as ada:
            status, people = await ada.call("GET", "/users")
        assert (status, [person["name"] for person in people]) == (200, ["ada"])
        assert hub.processes() == []
        await hub.stop()
    finally:
        hub.clean_up()


async def test_an_address_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    code, _, said = await scaletest(tmp_path, "--running", "--proxy.ip", "0.0.0.0", "--data", str(tmp_path))
    assert code == 1
    assert "0.0.0.0" in said
