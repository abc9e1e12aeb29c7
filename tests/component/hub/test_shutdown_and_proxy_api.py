from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from component.hub.hub_site import Client, Site, site
from himalia_hub.ending import ENDING
from himalia_proxy.base import Route


class FullProxy:
    """A proxy with a few routes."""

    async def routes(self) -> dict[str, Route]:
        return {f"/user/u{n}/": Route(f"/user/u{n}/", "http://h", {"user": f"u{n}"}) for n in range(5)}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


@pytest.fixture
async def root(hub: Site) -> AsyncIterator[Client]:
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as client:
        yield client


async def test_a_shutdown_is_wished_once_its_body_is_right(hub: Site, root: Client) -> None:
    ending = hub.app[ENDING]
    for body in ({"servers": "yes"}, {"proxy": 1}, {"nonsense": True}, [1]):
        assert (await root("POST", "/hub/api/shutdown", json=body)).status == 400
    assert not ending.wished.is_set()

    assert (await root("POST", "/hub/api/shutdown", json={"servers": True})).status == 202

    assert (ending.wished.is_set(), ending.servers, ending.proxy) == (True, True, None)


async def test_the_proxys_table_comes_by_page(
    hub: Site, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(hub.world.proxy), "routes", FullProxy.routes)
    assert len((await root("GET", "/hub/api/proxy")).json) == 5
    assert list((await root("GET", "/hub/api/proxy?limit=2&offset=1")).json) == ["/user/u1/", "/user/u2/"]
    media = {"Accept": "application/jupyterhub-pagination+json"}
    page = (await root("GET", "/hub/api/proxy?limit=2", headers=media)).json
    assert list(page["items"]) == ["/user/u0/", "/user/u1/"]
    assert (page["_pagination"]["total"], page["_pagination"]["next"]["offset"]) == (5, 2)
