"""A hub with people in every state, for looking at pages: by axe, and by whoever reads the screenshots."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from component.hub import link_rows
from component.hub.pages_site import FAILURE, RUNNING, STOPPED, Site
from himalia_hub import clock
from himalia_hub.groups import store as groups
from himalia_hub.measures.store import Point, keep
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Phase
from himalia_hub.signups.models import SignUp

NAMES = [
    "ada",
    "ben",
    "chen.wei",
    "dora",
    "emil",
    "farida",
    "gustav",
    "hana",
    "ines",
    "jonas",
    "karim",
    "lena",
    "mei",
    "noor",
    "otto",
    "priya",
    "quentin",
    "rosa",
    "sven",
    "tomoko",
    "uma",
    "viktor",
    "wanda",
    "yusuf",
    "zoe",
]

PAGES = {
    "login": "login",
    "home": "home",
    "account": "account",
    "tokens": "token",
    "share": "share/root/teaching",
    "progress": "spawn-pending/root/seminar",
    "failed": "spawn-pending/root/teaching",
    "admin": "admin",
    "admin-search": "admin?q=state:running+group:ml&sort=activity",
    "admin-bad-search": "admin?q=state:runing+owner:ada",
    "admin-nobody": "admin?q=nobody-is-called-so",
    "admin-person": "admin/people?name=ben",
    "admin-use": "admin/use?on=root/",
    "admin-add": "admin/people/add",
    "admin-sign-ups": "admin/sign-ups",
    "admin-groups": "admin/groups",
    "admin-notices": "admin/notices",
    "admin-usage": "admin/usage",
    "admin-links": "admin/links",
    "admin-build": f"admin/links/environments/{link_rows.KEY}",
    "admin-audit": "admin/audit",
    "admin-health": "admin/health",
    "admin-logs": "admin/logs",
    "admin-shutdown": "admin/shutdown",
    "not-found": "nothing/here",
}
"""Every page that is looked at, by the name of its picture."""


async def fill(hub: Site) -> None:
    """Give the hub its people, groups and servers; `root` is the administrator who looks."""
    root = await hub.person("root", admin=True)
    async with hub.db.begin() as db:
        ml, biology = await groups.create(db, "ml"), await groups.create(db, "biology-2026")
    for number, name in enumerate(NAMES):
        user = await hub.person(name)
        used = clock.now() - timedelta(minutes=7 * number * number)
        match number % 5:
            case 1:
                running = await hub.server(user, "", RUNNING, Phase.READY, last_activity=used)
                await hub.measured(running, (90 + 61 * number) * 2**20, 0.01 * number)
            case 2:
                await hub.server(user, "", RUNNING, Phase.STARTING)
            case 3:
                await hub.server(user, "", STOPPED, Phase.FAILED, failure=FAILURE)
            case _:
                pass
        if number % 7 == 4:
            await hub.server(user, "thesis", RUNNING, Phase.READY, last_activity=used)
        async with hub.db.begin() as db:
            if number % 3 == 0:
                await groups.add(db, ml, [user])
            if number % 4 == 0:
                await groups.add(db, biology, [user])
    async with hub.db.begin() as db:
        await link_rows.some(db)
    used = clock.now() - timedelta(minutes=12)
    own = await hub.server(root, "", RUNNING, Phase.READY, last_activity=used)
    await _an_hour(hub, own)
    async with hub.db.begin() as db:
        words = "Second year, the statistics course"
        db.add(SignUp(name="xenia", password_hash="none", note=words, created=clock.now()))
    await hub.server(root, "teaching", STOPPED, Phase.FAILED, failure=FAILURE)
    seminar = await hub.server(root, "seminar", RUNNING, Phase.STARTING)
    await hub.event(seminar, "Server requested", progress=0)
    await hub.event(seminar, "Starting the server", progress=30)


async def _an_hour(hub: Site, server: Server) -> None:
    """What it used: a notebook that loads a table, works on it twice, and lets go."""
    now, points = clock.now(), []
    for left in range(59, -1, -1):
        busy = 35 < left < 48 or left < 9
        memory = 2**20 * (140 + (520 if busy else 180 if left < 48 else 0) + 7 * (left % 5))
        cpus = (0.92 if busy else 0.01) + 0.015 * (left % 4)
        points.append(Point(server.id, now - timedelta(minutes=left), memory, cpus))
    await hub.db.write(partial(keep, now_used=points[-1:], minutes=points))
