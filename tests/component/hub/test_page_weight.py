"""What a first visit of any page sends: everything it names, as packed as a browser takes it."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp

from browser.pages.sample import PAGES, fill
from component.hub.pages_site import RUNNING, Site, site
from himalia_hub.servers.state import Phase

AT_MOST = 60_000
TAGS = re.compile(r"<(link|script|img)\b([^>]*)>")
ADDRESS = re.compile(r'(?:href|src)="([^"]+)"')


async def test_no_page_sends_more_than_60_kilobytes_one_stylesheet_and_two_scripts(tmp_path: Path) -> None:
    async with site(tmp_path) as hub:
        await fill(hub)
        await a_full_list(hub)
        async with hub.browser("root") as root, hub.browser() as nobody:
            sent = {
                name: await weight(
                    nobody.session if path == "login" else root.session, f"{hub.url}/hub/{path}"
                )
                for name, path in PAGES.items()
            }

    assert {name: found for name, found in sent.items() if found[0] > AT_MOST} == {}
    assert {found[1] for found in sent.values()} == {1}
    assert {found[2] for found in sent.values()} <= {1, 2}


async def a_full_list(hub: Site) -> None:
    """A first page of fifty rows, most of which have something to show and to press."""
    for number in range(40):
        await hub.server(await hub.person(f"a-student-{number}"), "", RUNNING, Phase.READY)


async def weight(session: aiohttp.ClientSession, url: str) -> tuple[int, int, int]:
    """(bytes, stylesheets, scripts) of a page and all that it loads."""
    page = await load(session, url)
    total, kinds, seen = page[0], {"stylesheet": 0, "script": 0}, set()
    for tag, attributes in TAGS.findall(page[1]):
        address = ADDRESS.search(attributes)
        if address is None or address[1] in seen:
            continue
        seen.add(address[1])
        kinds["script"] += tag == "script"
        kinds["stylesheet"] += 'rel="stylesheet"' in attributes
        total += (await load(session, url.partition("/hub/")[0] + address[1]))[0]
    return total, kinds["stylesheet"], kinds["script"]


async def load(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    """How many bytes a body was when it was sent, and its text."""
    packed = {"Accept-Encoding": "gzip", "Accept": "text/html,*/*"}
    async with session.get(url, headers=packed) as answer:
        text = await answer.text()
        length = answer.headers.get("Content-Length")
    assert length is not None, url
    return int(length), text
