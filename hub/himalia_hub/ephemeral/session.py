"""The session of a launch: a guest's account in the hub, a server of its own, and the end of both."""

from __future__ import annotations

import os
import secrets
import string
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.audit.record import CHANGE
from himalia_hub.ephemeral import store
from himalia_hub.ephemeral.folders import Folders
from himalia_hub.ephemeral.models import OVER, Launch
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.ephemeral.sources import PROVIDERS, Source, page_of, told_url
from himalia_hub.errors import BadRequest
from himalia_hub.servers import store as servers
from himalia_hub.servers.furnish import Furnish, Furnishing
from himalia_hub.servers.models import Server
from himalia_hub.settings import HubSettings
from himalia_hub.shares import store as shares
from himalia_hub.usage.models import UsageDay
from himalia_hub.users import store as users
from himalia_hub.users.models import User
from himalia_spawner.base import Guest, Limits
from himalia_spawner.limits import cpu_count, memory_bytes

VISITOR_RIGHTS = ("access:servers", "read:servers", "delete:servers")
"""What a signed-in person may do with the session that they opened: it is not theirs, but shared with them."""

_ALPHABET = string.ascii_lowercase + string.digits


def guest_name(slug: str) -> str:
    """A name that nobody has: BinderHub's shape, `<repository>-<8 random>`."""
    return f"{slug}-{''.join(secrets.choice(_ALPHABET) for _ in range(8))}"


async def begin(db: AsyncSession, launch: Launch, source: Source) -> Server:
    """The guest and the wish for its server, in the transaction that ties both to the launch."""
    if launch.server_id is not None and (server := await db.get(Server, launch.server_id)) is not None:
        return server
    now = clock.now()
    guest = await users.create(db, guest_name(source.slug), now=now)
    guest.guest = True
    server = await servers.want_running(db, guest, "", options=None, now=now)
    server.extended_s = 0.0
    await share(db, launch, server)
    await db.execute(
        sa.update(Launch)
        .where(Launch.id == launch.id)
        .values(guest_id=guest.id, guest=guest.name, server_id=server.id)
    )
    return server


async def share(db: AsyncSession, launch: Launch, server: Server) -> None:
    """Let a visitor with an account in as who they are."""
    who, _, number = launch.visitor.partition(":")
    if who == "user" and (person := await db.get(User, int(number))) is not None:
        await shares.grant(db, server, person, VISITOR_RIGHTS, now=clock.now())


async def end(db: AsyncSession, launch: Launch) -> list[int]:
    """Wish its guest's servers away; the ids of those that are still there."""
    if launch.guest_id is None:
        return []
    theirs = await servers.list_for_user(db, launch.guest_id)
    for server in theirs:
        await servers.want_stopped(db, server, now=clock.now(), doomed=True, why=launch.ended_because)
    return [server.id for server in theirs]


async def forget(db: AsyncSession, launch: Launch) -> dict[str, float]:
    """Delete the guest with all that was its own: sign-ins, tokens, rights. Gives what it used, for the launch's row.

    One line in the audit log says that it ended, and why; none for what never was anybody's session.
    """
    if launch.guest_id is None:
        return {}
    sums = [
        sa.func.coalesce(sa.func.sum(column), 0.0) for column in (UsageDay.server_s, UsageDay.memory_gib_s)
    ]
    used = (await db.execute(sa.select(*sums).where(UsageDay.user_id == launch.guest_id))).one()
    if launch.visitor != store.POOL:
        db.add(_audit_row(launch, used_s=float(used[0])))
    await db.execute(sa.delete(User).where(User.id == launch.guest_id, User.guest))
    return {"used_s": float(used[0]), "memory_gib_s": float(used[1])}


def _audit_row(launch: Launch, *, used_s: float) -> AuditRow:
    facts = {
        "repository": launch.url,
        "commit": launch.commit,
        "because": launch.failure["message"] if launch.failure else launch.ended_because,
        "used_s": round(used_s, 1),
    }
    return AuditRow(
        at=clock.now(), kind=CHANGE, action="END session", actor=launch.guest, on_behalf_of="", token_id=None,
        address=_address_of(launch)[:64],
        target_user=launch.guest, target="", status=200, change={"after": facts}, request_id="",
    )  # fmt: skip


def _address_of(launch: Launch) -> str:
    """The address of a visitor without an account, of IPv6 the network; empty for others."""
    return launch.visitor.removeprefix(store.NET) if launch.visitor.startswith(store.NET) else ""


def latest_of(section: EphemeralSection, server: Server | None) -> datetime | None:
    """When it ends however much it is used, unless that is put off. Pure."""
    if server is None or server.started is None:
        return None
    return server.started + timedelta(seconds=section.max_age_s + (server.extended_s or 0.0))


def slug_of(launch: Launch) -> str:
    """The short name of its repository, for files and folders: the guest's without the random end."""
    return launch.guest.rpartition("-")[0] or "session"


def furnisher(settings: HubSettings, folders: Folders, *, images_of: str = "") -> Furnish:
    """What the reconciler asks at every start of a guest's server.

    `images_of`: the hub's id, where sessions are containers.
    """

    def furnish(db: Session, server: Server) -> Furnishing:
        launch = store.of_server(db, server.id)
        if launch is None or launch.stage in OVER:
            raise BadRequest("this session is over", remedy="open its link again")
        return furnishing(settings, folders, launch, images_of=images_of)

    return furnish


def furnishing(settings: HubSettings, folders: Folders, launch: Launch, *, images_of: str = "") -> Furnishing:
    """Account, home, environment and limits of a session. Pure."""
    section = settings.ephemeral
    rule = section.rule(launch.provider, launch.spec)
    environment = folders.environments / launch.environment
    persistent = f"v2/{launch.provider}/{launch.stem}/{launch.commit}"
    waits = {"HIMALIA_SPARE_KERNEL": "86400"} if launch.visitor == store.POOL else {}
    told = {"BINDER_CLIENT_IP": _address_of(launch)} if section.tell_client_address else {}
    return Furnishing(
        guest=Guest(str(folders.home(launch)), launch.uid),
        environment={
            **({} if images_of else _inside(environment)),
            "JUPYTERHUB_ALLOW_TOKEN_IN_URL": "1",
            "BINDER_REPO_URL": told_url(launch.provider, launch.url),
            "BINDER_REF_URL": page_of(launch.provider, launch.url, launch.stem, launch.commit),
            "BINDER_LAUNCH_HOST": (settings.public_url.rstrip("/") or launch.site or settings.site)
            + settings.base_url,
            "BINDER_REQUEST": f"v2/{launch.provider}/{launch.spec}",
            "BINDER_PERSISTENT_REQUEST": persistent,
            **waits,
            **{name: value for name, value in told.items() if value},
        },
        limits=Limits(
            memory=None if rule.mem_limit is None else memory_bytes(rule.mem_limit),
            cpus=None if rule.cpu_limit is None else cpu_count(rule.cpu_limit),
            pids=section.pids_limit,
        ),
        image=image_name(images_of, launch.environment) if images_of else "",
    )


def image_name(hub: str, key: str) -> str:
    """The image of an environment. Several hubs may share an engine: each has its own."""
    return f"himalia-{hub[:8].lower()}/session:{key[:32]}"


def _inside(environment: Path) -> dict[str, str]:
    """What makes a virtualenv the one that terminals and kernels use; an image says so itself."""
    return {
        "PATH": os.pathsep.join([str(environment / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]),
        "VIRTUAL_ENV": str(environment),
        "JUPYTER_PATH": str(environment / "share" / "jupyter"),
    }


def provider_name(launch: Launch) -> str:
    """The provider as people call it."""
    return PROVIDERS[launch.provider].name if launch.provider in PROVIDERS else launch.provider
