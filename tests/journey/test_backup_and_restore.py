"""A hub that was copied while it worked goes on from its copy on a machine that has nothing else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from hubs import PATIENT, Hub, Launch, client
from support import eventually

PEOPLE = ("ada", "ben", "cleo")


async def test_a_backup_made_while_servers_start_is_a_hub_whose_servers_can_be_started(
    launch: Launch, tmp_path: Path
) -> None:
    hub, admin = await launch()
    await admin.call("POST", "/users", json={"usernames": list(PEOPLE)})
    token_of_ada = hub.token("ada")
    starts = [asyncio.create_task(admin.call("POST", f"/users/{name}/server")) for name in PEOPLE]
    await eventually(hub.processes, within_s=60, what="a server is being started")
    await asyncio.to_thread(hub.cli, "backup", str(tmp_path / "hub.tar.gz"))
    assert {status for status, _ in await asyncio.gather(*starts)} <= {201, 202}
    await hub.stop()

    new = Hub(tmp_path / "new", port=hub.port, config=f"[servers]\n{PATIENT}")
    new.data.chmod(0o700)  # as the hub itself makes it
    try:
        new.cli("restore", str(tmp_path / "hub.tar.gz"), "--replace")
        await new.start()
        async with client(new, admin.token) as again, client(new, token_of_ada) as ada:
            status, me = await ada.call("GET", "/user")
            assert (status, me["name"]) == (200, "ada")
            for name in PEOPLE:

                async def at_rest(name: str = name) -> bool:
                    _, person = await again.call("GET", f"/users/{name}")
                    return person["pending"] is None and person["server"] is None

                await eventually(
                    at_rest, within_s=60, what=f"{name}'s server, which did not move along, is forgotten"
                )
            status, body = await again.call("POST", "/users/ada/server")
            assert status == 201, body
        found = {finding["about"]: finding for finding in json.loads(new.cli("doctor", "--json"))}
        assert {finding["grade"] for about, finding in found.items() if about != "accounts"} == {"ok"}, found
        assert found["spawner process"]["said"] == "holds 1 server"
        await new.stop()
    finally:
        new.clean_up()
