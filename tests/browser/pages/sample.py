"""A hub with people in every state, for looking at pages: by axe, and by whoever reads the screenshots."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from component.hub import link_rows
from component.hub.pages_site import FAILURE, RUNNING, STOPPED, Site
from himalia_hub import clock
from himalia_hub.ephemeral.models import Launch, Stage
from himalia_hub.groups import store as groups
from himalia_hub.measures.store import Point, keep
from himalia_hub.rbac.models import Role
from himalia_hub.roles import store as roles
from himalia_hub.secrets import hash_token
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Phase
from himalia_hub.shares.models import ShareCode
from himalia_hub.signups.models import SignUp
from himalia_hub.tokens import store as tokens
from himalia_hub.users.models import User

SETTINGS: dict[str, Any] = {
    "cull": {"idle_s": 3600},
    "auth": {"sign_up": True},
    "ephemeral": {"open_to": "everybody", "trusted_network": True},
    "profiles": [
        {
            "name": "small",
            "title": "Small",
            "description": "One CPU and 1 GB, for exercises.",
            "default": True,
        },
        {"name": "large", "title": "Large", "description": "Eight CPUs and 32 GB.", "groups": ["ml"]},
    ],
}
"""What a hub has to be so that it has every page."""
CODE = "an-invitation"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

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

DOORS = {"login": "login", "sign-up": "sign-up"}
"""What strangers see."""
PAGES = {
    **DOORS,
    "home": "home",
    "account": "account",
    "second-step": "account/second-step",
    "tokens": "token",
    "share": "share/root/teaching",
    "progress": "spawn-pending/root/seminar",
    "stopping": "spawn-pending/root/archive",
    "failed": "spawn-pending/root/teaching",
    "not-running": "spawn/zoe",
    "accept-share": f"accept-share?code={CODE}",
    "oauth": "api/oauth2/authorize?client_id=jupyterhub-user-ben&response_type=code&state=x",
    "links": "links?repository=ann/notebooks",
    "link-ask": f"v2/gh/ann/thesis/{COMMIT}",
    "link-opening": "launches/building",
    "link-over": "launches/over",
    "link-failed": "launches/failed",
    "sessions": "sessions",
    "session-keep": "sessions/root/keep",
    "admin": "admin",
    "admin-search": "admin?q=state:running+group:ml&sort=activity",
    "admin-bad-search": "admin?q=state:runing+owner:ada",
    "admin-nobody": "admin?q=nobody-is-called-so",
    "admin-person": "admin/people?name=ben",
    "admin-use": "admin/use?on=root/",
    "admin-visit": "admin/visit?on=ben/",
    "admin-add": "admin/people/add",
    "admin-sign-ups": "admin/sign-ups",
    "admin-groups": "admin/groups",
    "admin-roles": "admin/roles",
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
        tutor = Role(
            name="tutor", description="Helps in the course", scopes=["servers!group=ml", "list:users"]
        )
        db.add(tutor)
        await db.flush()
        await roles.give(db, tutor, "group", ["biology-2026"], until=clock.now() + timedelta(days=30))
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
    await _links(hub, root)
    await _to_open(hub)
    used = clock.now() - timedelta(minutes=12)
    own = await hub.server(root, "", RUNNING, Phase.READY, last_activity=used)
    await _an_hour(hub, own)
    async with hub.db.begin() as db:
        words = "Second year, the statistics course"
        db.add(SignUp(name="xenia", password_hash="none", note=words, created=clock.now()))
    await hub.server(root, "teaching", STOPPED, Phase.FAILED, failure=FAILURE)
    await hub.server(root, "archive", STOPPED, Phase.STOPPING)
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


async def _links(hub: Site, root: User) -> None:
    """Sessions of others and of `root`, and each page of a launch."""
    async with hub.db.begin() as db:
        await link_rows.some(db)
        for key, stage, more in (
            ("building", Stage.BUILDING, {"environment": link_rows.KEY}),
            ("over", Stage.ENDED, {"ended_because": "stopped by its visitor"}),
            (
                "failed",
                Stage.FAILED,
                {
                    "failure": {
                        "message": "The repository has no branch or tag 'exam'.",
                        "remedy": "Check the last part of the link.",
                    }
                },
            ),
        ):
            await link_rows.launch(db, "bob/course", stage, key=key, seated=False, **more)
    guest = await hub.person("course-k3")
    server = await hub.server(guest, "", RUNNING, Phase.READY)
    async with hub.db.begin() as db:
        (await db.get_one(User, guest.id)).guest = True
        whose: dict[str, Any] = {"visitor": f"user:{root.id}", "guest": guest.name, "guest_id": guest.id}
        one: Launch = await link_rows.launch(db, "bob/course", Stage.READY, key="root", seated=True, **whose)
        one.server_id, one.commit = server.id, COMMIT


async def _to_open(hub: Site) -> None:
    """Ben's server has a token and an invitation."""
    server = await hub.row("ben")
    assert server is not None
    now = clock.now()
    async with hub.db.begin() as db:
        await db.run_sync(
            tokens.put_server_token,
            user_id=server.user_id, server_id=server.id, incarnation="1", secret="of ben", prefix="/", now=now,
        )  # fmt: skip
        db.add(
            ShareCode(
                server_id=server.id, hashed=hash_token(CODE), scopes=["access:servers"], created=now,
                expires_at=now + timedelta(days=1),
            )
        )  # fmt: skip
