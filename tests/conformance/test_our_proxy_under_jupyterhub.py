"""`c.ConfigurableHTTPProxy.command = ["himalia", "proxy"]` under the official JupyterHub: nothing else is changed."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from conformance.official_hub import OfficialHub, official_hub, person, sign_in, start_server, xsrf
from support import eventually
from wire import KernelClient

pytestmark = pytest.mark.timeout(300)

WAYS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "internal TLS": {"config": "c.JupyterHub.internal_ssl = True\n"},
    "a subdomain for each person": {"domain": "hub.test"},
}


async def routes(hub: OfficialHub) -> dict[str, str]:
    status, table = await hub.call("GET", "proxy")
    assert status == 200
    return {path: route["target"] for path, route in table.items()}


async def computed(session: aiohttp.ClientSession, server: str, kernel: str) -> str:
    """What a cell prints, over the kernel's WebSocket."""
    url = f"{server}api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
    async with session.ws_connect(url, max_msg_size=0) as socket:
        client = KernelClient(socket)
        asked = await client.send("execute_request", code="print(6 * 7)")
        await client.reply(asked)
        return await client.stream_of(asked)


@pytest.mark.parametrize("way", WAYS)
async def test_people_work_through_our_proxy_and_it_may_die(tmp_path: Path, way: str) -> None:
    async with official_hub(tmp_path, **WAYS[way]) as hub, person(hub) as session:
        await sign_in(hub, session, "ada")
        server = await start_server(hub, "ada")
        async with session.get(f"{server}lab") as page:  # by way of the hub's OAuth pages
            assert page.status == 200, await page.text()
            assert page.url.path == "/user/ada/lab"
        headers = {"X-XSRFToken": xsrf(session, server)}
        async with session.post(f"{server}api/kernels", json={"name": "python3"}, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
            kernel = (await answer.json())["id"]
        assert await computed(session, server, kernel) == "42\n"
        table = await routes(hub)
        assert len(table) == 2

        before = hub.proxy()
        before.kill()

        async def there_again() -> bool:
            try:
                return hub.proxy() != before and await routes(hub) == table
            except (AssertionError, aiohttp.ClientError, psutil.NoSuchProcess):
                return False

        await eventually(there_again, within_s=60, what=f"the proxy: {hub.said()}")
        assert await computed(session, server, kernel) == "42\n"

        assert (await hub.call("DELETE", "users/ada/server"))[0] in (202, 204)

        async def routed() -> set[str]:
            return set(await routes(hub))

        await eventually(lambda: _is_one(routed()), within_s=60)
        log = hub.said()
    assert "Traceback" not in log, log
    assert "himalia proxy:" not in log, log


async def _is_one(found: Any) -> bool:
    return len(await found) == 1
