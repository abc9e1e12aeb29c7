"""The pages of a hub, and people who look at them. Tests of other parts make a `hub` of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import schema
from component.hub import hub_site
from component.hub.pages_site import Browser, Site, site
from himalia_hub.users.models import User

EVIL = "<script>alert(1)<script>"  # a slash cannot be in a name


@pytest.fixture(autouse=True, scope="module")
def passwords() -> Iterator[None]:
    """Modules that are about their price make a `passwords` of their own."""
    with hub_site.quick_passwords():
        yield


@pytest.fixture
def postgres_template(postgres_url: str) -> str:
    """With the schema in it. Modules whose tests want an empty one say so."""
    return schema.postgres_template(postgres_url)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


@pytest.fixture
async def ann(hub: Site) -> User:
    return await hub.person("ann")


@pytest.fixture
async def root(hub: Site) -> User:
    return await hub.person("root", admin=True)


@pytest.fixture
async def browser(hub: Site, ann: User) -> AsyncIterator[Browser]:
    async with hub.browser("ann") as signed_in:
        yield signed_in


@pytest.fixture
async def admin(hub: Site, root: User) -> AsyncIterator[Browser]:
    async with hub.browser("root") as signed_in:
        yield signed_in


@pytest.fixture
async def hub_on_each(tmp_path: Path, database_url: str) -> AsyncIterator[hub_site.Site]:
    """The whole hub, without loops, on each kind of database."""
    async with hub_site.site(tmp_path, database_url) as running:
        yield running
