"""Finding processes of a server by what they carry: the cookie in their environment, the lock, the session.

Needed only where the record does not tell: after a spawner was killed between fork and record, and for what a
server leaves behind. Each function reads all of /proc, milliseconds on a busy machine: call in a thread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from himalia_spawner import cgroups, procfs
from himalia_spawner.environ import COOKIE, KEPT
from himalia_spawner.records import Record


@dataclass(frozen=True, slots=True)
class Cookie:
    """What every process of a server carries in its environment: hub, name and incarnation."""

    hub: str
    name: str
    incarnation: str

    def __str__(self) -> str:
        return f"{self.hub}/{self.name}/{self.incarnation}"


def parse_cookie(text: str) -> Cookie | None:
    """Read a cookie; an incarnation may itself hold slashes."""
    hub, first, rest = text.partition("/")
    name, second, incarnation = rest.partition("/")
    return Cookie(hub, name, incarnation) if first and second and hub and name else None


@dataclass(frozen=True, slots=True)
class Found:
    """A process that is, or belongs to, a server."""

    pid: int
    ticks: int
    uid: int
    cookie: Cookie | None
    env: dict[str, str] | None

    @property
    def kept(self) -> bool:
        """Whether it is meant to outlive a crash of its server: a kernel, or what holds kernels."""
        return bool(self.env and self.env.get(KEPT))


def carriers(hub: str, name: str | None = None, *, leaders: bool = False) -> list[Found]:
    """Running processes with this hub's cookie, oldest first.

    `leaders` gives only what may be a server: leaders of sessions that are not kept from an earlier life.
    """
    found = []
    for pid in procfs.pids():
        stat = procfs.stat(pid)
        if stat is None or not stat.running or (leaders and stat.session != pid):
            continue
        env = procfs.environ_of(pid)
        cookie = parse_cookie(env.get(COOKIE, "")) if env else None
        if cookie is None or cookie.hub != hub or (name is not None and cookie.name != name):
            continue
        uid = procfs.uid_of(pid)
        each = Found(pid, stat.ticks, uid, cookie, env) if uid is not None else None
        if each is not None and not (leaders and each.kept):
            found.append(each)
    return sorted(found, key=lambda each: each.ticks)


def find_server(hub: str, name: str, intent: Record | None, lock: tuple[int, int] | None) -> Found | None:
    """The server itself, when no record names its pid; None if there is none, or none yet.

    Its kernels carry the cookie too, and lead sessions. The server is told from them by the lock, which they
    don't inherit, and by being older than all it started.
    """
    candidates = carriers(hub, name, leaders=True)
    if intent is not None:
        candidates = [
            each
            for each in candidates
            if each.uid == intent.uid and each.cookie and each.cookie.incarnation == intent.incarnation
        ] or _by_command(intent)
    if lock is not None:
        candidates.sort(key=lambda each: (not procfs.holds_lock(each.pid, *lock), each.ticks))
    return candidates[0] if candidates else None


def _by_command(intent: Record) -> list[Found]:
    """Fits by what all may read: a root without CAP_SYS_PTRACE is not shown others' environments."""
    found = []
    for pid in procfs.pids():
        stat = procfs.stat(pid)
        if stat is None or not stat.running or stat.session != pid or stat.ticks < intent.since_ticks:
            continue
        if procfs.environ_of(pid) is not None or procfs.uid_of(pid) != intent.uid:
            continue
        # A script's own argv[0] is replaced by its interpreter and path.
        if (len(intent.argv) > 1 and procfs.command_of(pid)[-len(intent.argv) + 1 :] == intent.argv[1:]) or (
            procfs.command_of(pid) == intent.argv
        ):
            found.append(Found(pid, stat.ticks, intent.uid, None, None))
    return sorted(found, key=lambda each: each.ticks)


@dataclass(frozen=True, slots=True)
class Trail:
    """By what the processes of one server that has ended are known.

    `whole_account`: nothing else runs under that user id, so whatever does is the server's, however it hides.
    """

    cookie: Cookie
    session: int
    uid: int
    lock: tuple[int, int] | None = None
    groups: tuple[str, ...] = ()
    whole_account: bool = False


def leftovers(trails: Sequence[Trail]) -> list[list[Found]]:
    """Processes that outlived these servers, of each: by cookie, session, control group, or by holding its lock.

    Only those of the server's own user: the cookie is just a variable, anybody can set it. That of an earlier
    incarnation counts too: what waited after a crash carries it for good.
    """
    found: list[list[Found]] = [[] for _ in trails]
    grouped = [cgroups.members(trail.groups) for trail in trails]
    by_uid = defaultdict[int, list[int]](list)
    for number, trail in enumerate(trails):
        by_uid[trail.uid].append(number)
    for pid in procfs.pids():
        stat = procfs.stat(pid)
        uid = procfs.uid_of(pid) if stat is not None and stat.running else None
        if stat is None or uid is None or uid not in by_uid:
            continue
        env = procfs.environ_of(pid)
        own = parse_cookie(env.get(COOKIE, "")) if env else None
        for number in by_uid[uid]:
            trail = trails[number]
            carries = own is not None and (own.hub, own.name) == (trail.cookie.hub, trail.cookie.name)
            belongs = pid in grouped[number] or (trail.session > 0 and stat.session == trail.session)
            known = trail.whole_account or carries or belongs
            if known or (trail.lock is not None and procfs.holds_lock(pid, *trail.lock)):
                found[number].append(Found(pid, stat.ticks, uid, None, env))
    return found
