"""A server cannot reach its hub: who is known there works on, nobody else is let in, nothing is ended, and it heals alone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from hubs import PATIENT, Hub, client, free_port
from line import Line
from long import lasting, seconds
from support import eventually
from witness import nothing_lost

BELIEVED_S = 3.5
"""A little longer than a server believes what its hub said of a token without asking again."""


async def test_while_its_hub_is_out_of_reach_a_server_keeps_whom_it_knows_and_lets_nobody_else_in(
    tmp_path: Path,
) -> None:
    port = free_port()
    hub = Hub(tmp_path / "data", port=port, config=f"[servers]\n{PATIENT}")
    line = Line(port + 5, port + 2)
    async with AsyncExitStack() as stack:
        stack.callback(hub.clean_up)
        await line.connect()
        stack.push_async_callback(line.cut)
        hub.add_user("root", admin=True)
        hub.add_user("ann")
        admin = await stack.enter_async_context(client(hub, hub.token("root")))
        ann = await stack.enter_async_context(client(hub, hub.token("ann")))
        again = await stack.enter_async_context(client(hub, hub.token("ann")))
        await hub.start(env={"HIMALIA_HUB__API_URL": f"http://127.0.0.1:{port + 5}"})
        assert (await ann.call("POST", "/users/ann/server"))[0] == 201
        assert await ann.save("ann", "before.txt", "1") == 201
        before = set(hub.processes())

        await line.cut()
        await lasting(seconds(BELIEVED_S, 120))
        assert await ann.save("ann", "meanwhile.txt", "2") == 201, "she works on"
        assert await again.save("ann", "stranger.txt", "3") == 502, "nobody can say who this is"
        assert (await admin.server("ann"))["ready"], "nothing is ended for it"
        assert before <= set(hub.processes())

        await line.connect()

        async def let_in() -> bool:
            return await again.save("ann", "after.txt", "4") in (200, 201)

        await eventually(let_in, within_s=60, what="who was not known is let in")
        await nothing_lost(admin, hub, others=[ann, again])
