"""A hub that runs as a service reads its configuration again at SIGHUP, and lives on whatever stands in it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from hubs import Hub, client
from support import eventually


class Service(Hub):
    """`himalia hub`, as systemd runs it."""

    verb = "hub"


async def test_a_service_takes_new_values_at_sighup_and_outlives_a_broken_file(tmp_path: Path) -> None:
    hub = Service(tmp_path / "data", config="[servers]\nallow_named = true\n")
    file = hub.data / "himalia.toml"
    try:
        hub.cli("db", "upgrade")
        hub.add_user("ann")
        await hub.start()
        async with client(hub, hub.token("ann")) as ann:
            text = file.read_text()
            await _hang_up(hub, file, text + "alow_named = 1\n", "config.not_reloaded")
            assert (await ann.call("PUT", "/users/ann/servers/one"))[0] == 201
            await _hang_up(
                hub, file, text.replace("allow_named = true", "allow_named = false"), "config.reloaded"
            )
            assert (await ann.call("PUT", "/users/ann/servers/two"))[0] == 400
        assert hub.process is not None
        assert hub.process.poll() is None
    finally:
        await hub.stop()
        hub.clean_up()


async def _hang_up(hub: Hub, file: Path, text: str, said: str) -> None:
    file.write_text(text)
    assert hub.process is not None
    os.kill(hub.process.pid, signal.SIGHUP)
    await eventually(lambda: said in hub.said(), within_s=30, what=said)
