"""Starting one process: whose it is, where it lives, what it inherits. Blocking: called in a thread.

The newborn carries its plan out by itself (birth.py), first of all writing down its own number: it is known from
then on, whatever becomes of the hub or the nest.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import structlog

from himalia_spawner import birth, environ, ports, procfs, serverlog
from himalia_spawner.accounts import Account, guest_account, shared_account, system_account
from himalia_spawner.base import Person, Say, ServerSpec
from himalia_spawner.cgroups import Cgroups, Made, remove
from himalia_spawner.errors import SpawnError, SpawnFailed, SpawnRefused
from himalia_spawner.names import short_name
from himalia_spawner.nest_client import NestClient, NestLost, NestUnusable, check, offer
from himalia_spawner.nests import Nests
from himalia_spawner.plan import Plan, Report, receive_report
from himalia_spawner.records import Folder, Held, Record
from himalia_spawner.remains import kept_of
from himalia_spawner.searching import Cookie
from himalia_spawner.settings import ProcessSettings

log = structlog.get_logger()

OWN_COMMAND = (sys.executable, "-I", "-m", "himalia_singleuser")
OWN_ENTRY = "himalia_singleuser.__main__:main"
"""The same server as a function, for the nest; it is given the arguments after OWN_COMMAND."""

_BACKLOG = 128
_BIRTH_S = 60.0
_LOST_S = 1.0  # until the kernel has let go of what lay unread in the sockets of a dead nest
_BIRTH = (sys.executable, "-I", "-m", "himalia_spawner.birth")


@dataclass(frozen=True, slots=True)
class Launch:
    """What is common to all servers of one spawner. `nests` None: every server is a fresh interpreter."""

    settings: ProcessSettings
    hub: str
    homes: Path
    fault: Callable[[str], None]
    cgroups: Cgroups
    nests: Nests | None
    identify: Callable[[str], Record | None]
    """What runs under a name though nobody wrote down its number."""
    _said: set[str] = field(default_factory=set)

    def account(self, spec: ServerSpec) -> Account:
        """Whom the server runs as."""
        if spec.guest is not None:
            return guest_account(spec.guest, spec.username, self.settings.guest_range)
        return self.account_of(Person(spec.username, spec.files_of))

    def account_of(self, whose: Person) -> Account:
        """Whom this person's own servers run as."""
        if self.settings.system_users:
            return system_account(whose.username, min_uid=self.settings.min_uid)
        return shared_account(whose, self.homes)

    def run(self, spec: ServerSpec, folder: Folder, output: Path, held: Held, say: Say) -> Record:
        """Start it and give its record. On any failure nothing is left, and the reason is a SpawnError."""
        account = self.account(spec)
        nest = self._nest(spec, say)
        made = self.cgroups.make(short_name(spec.ref.name), spec.limits)
        before = folder.read()
        with ExitStack() as stack:
            try:
                self._tell_unenforced(made.unenforced, say)
                if before is not None or not spec.command:  # else there is nothing, or the intent replaces it
                    folder.clear()
                listener = None if spec.command else stack.enter_context(_bind(folder.socket))
                intent = self._intent(spec, folder, account, made, before, forked=nest is not None)
                if listener is None:
                    intent = replace(intent, url=_loopback_url())
                folder.write(intent)
                self.fault("after_intent")
                plan = self._plan(spec, folder, account, intent, made)
                descriptors = [serverlog.open_new(output)]
                stack.callback(os.close, descriptors[0])
                if listener is not None:
                    descriptors.append(listener.fileno())
                self.fault("before_fork")
                pid, ticks = self._born(nest, plan, held, descriptors, folder, intent)
                record = replace(intent, kept_until=None, pid=pid, ticks=ticks)
            except SpawnError:
                _undo(folder, made, before)
                raise
            except OSError as error:
                _undo(folder, made, before)
                raise SpawnFailed(f"the server could not be started: {error.strerror or error}") from error
            self.fault("after_record")
            return record

    def _nest(self, spec: ServerSpec, say: Say) -> NestClient | None:
        if self.nests is None:
            return None
        nest = self.nests.commands if spec.command else self.nests.own
        try:
            nest.ensure()
        except NestUnusable as error:
            words = f"The warm parent of the servers can't be used ({error}); starting a fresh interpreter"
            self._warn("spawner.nest_unusable", words, say)
            return None
        return nest

    def _tell_unenforced(self, sentences: tuple[str, ...], say: Say) -> None:
        if sentences and self.settings.unenforced_limits == "refuse":
            raise SpawnRefused(
                f"{'; '.join(sentences)}; an administrator can allow such servers by "
                "spawner.process.unenforced_limits = 'say'"
            )
        for sentence in sentences:
            self._warn("spawner.limit_not_enforced", sentence[0].upper() + sentence[1:], say)

    def _warn(self, event: str, words: str, say: Say) -> None:
        """To the person each time, to the log once."""
        say(words)
        if words not in self._said:
            self._said.add(words)
            log.warning(event, why=words)

    def _intent(
        self,
        spec: ServerSpec,
        folder: Folder,
        account: Account,
        made: Made,
        before: Record | None,
        *,
        forked: bool,
    ) -> Record:
        # What waits since a crash stays in its group, whatever the limits are now, and is bounded as it was.
        waits = before is not None and kept_of(before) is not None
        older = before.cgroups if before is not None and waits else ()
        return Record(
            name=spec.ref.name,
            incarnation=spec.ref.incarnation,
            url=f"http+unix://{quote(str(folder.socket), safe='')}",
            uid=account.uid,
            argv=(*(spec.command or OWN_COMMAND), *spec.args),
            boot=procfs.boot_id(),
            since_ticks=procfs.ticks_now(),
            forked=forked,
            limits=spec.limits,
            cgroups=tuple(dict.fromkeys((*made.folders, *older))),
            counted=made.counted,
            kept_until=before.kept_until if before is not None and waits else None,
        )

    def _plan(self, spec: ServerSpec, folder: Folder, account: Account, intent: Record, made: Made) -> Plan:
        return Plan(
            folder=str(folder.path),
            record=replace(intent, kept_until=None).text,
            argv=intent.argv,
            entry=OWN_ENTRY if intent.forked and not spec.command else "",
            env=self._environment(spec, account, intent),
            uid=account.uid,
            gid=account.gid,
            groups=account.groups,
            home=str(account.home),
            umask=int(self.settings.umask, 8),
            rlimits=self.settings.rlimits,
            cgroups=made.doors,
        )

    def _environment(self, spec: ServerSpec, account: Account, intent: Record) -> dict[str, str]:
        backend = {
            "HOME": str(account.home),
            "USER": account.user,
            "SHELL": account.shell,
            environ.SERVICE_URL: intent.url + spec.prefix,
            environ.COOKIE: str(Cookie(self.hub, spec.ref.name, spec.ref.incarnation)),
        }
        given = {environ.KEEP_S: f"{self._keep_s():g}"} | dict(spec.env)
        env = environ.child_environment(
            os.environ, given, backend, self.settings.environment, keep=self.settings.env_keep
        )
        if faults := environ.environment_faults(env):
            raise SpawnRefused("; ".join(faults))
        return env

    def _keep_s(self) -> float:
        """Only what the hub can tell from a server's other processes may outlive it."""
        readable = not self.settings.system_users or procfs.may_read_all()
        return self.settings.keep_kernels_s if readable else 0.0

    def _born(
        self,
        nest: NestClient | None,
        plan: Plan,
        held: Held,
        descriptors: list[int],
        folder: Folder,
        intent: Record,
    ) -> tuple[int, int]:
        """Have it made: number and start time, that are written down. `descriptors` are all but the lock."""
        if nest is None:
            report = self._bear_fresh(plan, [held.fileno(), *descriptors])
            born = report.pid, report.ticks
        else:
            born = self._bear_warm(nest, plan, held, descriptors, folder, intent)
        self.fault("after_fork")
        return born

    def _bear_warm(
        self,
        nest: NestClient,
        plan: Plan,
        held: Held,
        descriptors: list[int],
        folder: Folder,
        intent: Record,
    ) -> tuple[int, int]:
        for attempt in (1, 2):
            try:
                report = nest.bear(
                    plan, [held.fileno(), *descriptors], sent=lambda: self.fault("after_request")
                )
                return report.pid, report.ticks
            except NestLost:
                # Its end of the request is closed, so nobody reads it any more; a newborn that did has left its number.
                record = folder.read()
                if plan.plain and not held.again(_LOST_S):
                    return self._made_unseen(intent)
                if not plan.plain and record is not None and record.pid:
                    raise SpawnFailed("the server's process was ended while it was set up") from None
                if attempt == 2:
                    break
            try:
                nest.ensure()
            except NestUnusable as error:
                raise SpawnFailed(f"the warm parent of the servers ended and is not back: {error}") from None
        raise SpawnFailed("the warm parent of the servers ended twice during this start")

    def _made_unseen(self, intent: Record) -> tuple[int, int]:
        """The program that a nest had made when it ended, before it could write that down: it has the lock."""
        found = self.identify(intent.name)
        if found is None or found.ref != intent.ref:
            raise SpawnFailed("the warm parent of the servers ended while it set up the server")
        return found.pid, found.ticks

    def _bear_fresh(self, plan: Plan, descriptors: list[int]) -> Report:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            offer(ours, plan, descriptors)  # it lies ready: the newborn needs nobody any more
            try:
                child = subprocess.Popen(
                    (*_BIRTH, str(theirs.fileno())),
                    stdin=subprocess.DEVNULL,
                    stdout=descriptors[1],
                    stderr=descriptors[1],
                    cwd="/",
                    # Not the server's: the newborn may be root yet, and LD_PRELOAD the user's.
                    env={name: plan.env[name] for name in birth.SHOWN},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                raise SpawnFailed(
                    f"the machine could not make another process ({error.strerror}); "
                    "stop servers that are not needed, or raise its limits"
                ) from error
            # Held by its pidfd from here on; Popen would warn about, and wait for, a child "still running".
            child.returncode = 0
            theirs.close()
            self.fault("after_request")
            ours.settimeout(_BIRTH_S)
            try:
                report = receive_report(ours)
            except TimeoutError:
                child.returncode = None
                child.kill()
                child.wait()
                raise SpawnFailed(f"the server could not be set up within {_BIRTH_S:g} seconds") from None
        if report is None or not report.ok:
            os.waitpid(child.pid, 0)
        if report is None:
            raise SpawnFailed("the server's process ended before it was set up")
        return check(report)


def _undo(folder: Folder, made: Made, before: Record | None) -> None:
    """Nothing is left of this start; what waited for it goes on waiting."""
    folder.clear()
    remove(made.folders)
    if before is not None and kept_of(before) is not None:
        with suppress(OSError):
            folder.write(before)


def _bind(path: Path) -> socket.socket:
    """A listening socket at `path` that nobody but the hub's own account can connect to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _loopback_url() -> str:
    return f"http://127.0.0.1:{ports.free_port()}"


def port_of(url: str) -> int | None:
    """The TCP port in a handle's address, None for a unix socket."""
    return int(url.rpartition(":")[2]) if url.startswith("http://") else None
