"""JupyterHub's own single-user server behind our hub, each person's at a host of their own."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest

import official
from conformance.official_hub import loopback_connector, xsrf
from hubs import PASSWORD, Hub, client
from support import eventually

pytestmark = pytest.mark.timeout(300)


async def test_it_signs_its_person_in_at_their_host_where_no_cookie_of_the_hub_is_and_out_again(
    tmp_path: Path,
) -> None:
    hub = Hub(
        tmp_path / "data",
        config=f"[spawner]\ncommand = {json.dumps([official.singleuser(), '--allow-root'])}\n",
    )
    site = f"http://hub.test:{hub.port}"
    settings = hub.data / "himalia.toml"
    settings.write_text(f"subdomain_host = {json.dumps(site)}\n" + settings.read_text())
    hub.add_user("ann")
    try:
        await hub.start()
        async with (
            client(hub, hub.token("ann")) as ann,
            aiohttp.ClientSession(
                connector=loopback_connector(), cookie_jar=aiohttp.CookieJar(unsafe=True)
            ) as browser,
        ):
            await ann.call("POST", "/users/ann/server")

            async def ready() -> bool:
                return bool((await ann.server("ann"))["ready"])

            await eventually(ready, within_s=120, what="the official server is ready")
            async with browser.get(f"{site}/hub/login") as page:
                form = {"username": "ann", "password": PASSWORD, "_xsrf": xsrf(browser, str(page.url))}
            async with browser.post(f"{site}/hub/login", data=form, headers={"Origin": site}) as page:
                assert page.url.path == "/hub/home", await page.text()
            own = f"http://ann.hub.test:{hub.port}/user/ann/"
            async with browser.get(f"{site}/user/ann/lab") as page:
                assert page.status == 200
                assert str(page.url) == f"{own}lab"
            at_own = {cookie.key for cookie in browser.cookie_jar.filter_cookies(page.url).values()}
            assert "jupyterhub-user-ann" in at_own
            assert not {"jupyterhub-hub-login", "jupyterhub-session-id"} & at_own

            # Nobody asks about a WebSocket that is open, and the proxy sees no sign-in on it.
            async with browser.ws_connect(
                f"{own}api/events/subscribe", origin=own.rpartition("/user")[0]
            ) as socket:
                async with browser.get(f"{site}/hub/logout") as page:
                    assert page.url.path == "/hub/login"
                while (await socket.receive(timeout=60)).type is aiohttp.WSMsgType.TEXT:
                    pass
                assert socket.closed
        await hub.stop()
    finally:
        hub.clean_up()
