"""Starting one process: whose it is, where it lives, what it inherits. Blocking: called in a thread."""

from __future__ import annotations

import errno
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from himalia_spawner import environ, ports, procfs, serverlog
from himalia_spawner.base import ServerSpec
from himalia_spawner.errors import SpawnError, SpawnFailed, SpawnRefused
from himalia_spawner.names import home_name
from himalia_spawner.records import Folder, Record
from himalia_spawner.searching import Cookie
from himalia_spawner.settings import ProcessSettings

OWN_COMMAND = (sys.executable, "-I", "-m", "himalia_singleuser")
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Account:
    """The system identity a server runs under. `groups` None means: the hub's own, nothing is switched."""

    uid: int
    gid: int
    groups: tuple[int, ...] | None
    user: str
    home: Path
    shell: str


def system_account(username: str, *, min_uid: int) -> Account:
    """The account of the user's own name; SpawnRefused if there is none or it must not be used."""
    try:
        entry = pwd.getpwnam(username)
    except (KeyError, ValueError):
        raise SpawnRefused(
            f"there is no system account {username!r} on this machine; create it (useradd -m {username}), "
            "or set spawner.process.system_users = false"
        ) from None
    # Directory services match names without regard to case: two hub users would share one account.
    if entry.pw_name != username:
        raise SpawnRefused(
            f"the system account for {username!r} is called {entry.pw_name!r}; the names must be equal"
        )
    if entry.pw_uid < min_uid:
        raise SpawnRefused(
            f"system account {username!r} has user id {entry.pw_uid}; ids below {min_uid} belong to the "
            "system and never run servers (spawner.process.min_uid)"
        )
    home = Path(entry.pw_dir)
    if not home.is_dir():
        raise SpawnRefused(
            f"the home {str(home)!r} of system account {username!r} does not exist; create it "
            f"(mkhomedir_helper {username})"
        )
    groups = tuple(os.getgrouplist(username, entry.pw_gid))
    return Account(entry.pw_uid, entry.pw_gid, groups, username, home, entry.pw_shell or "/bin/sh")


def shared_account(username: str, homes: Path) -> Account:
    """The hub's own account, with a folder of the user's own as home."""
    home = homes / home_name(username)
    try:
        homes.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SpawnFailed(f"the home {str(home)!r} could not be made: {error.strerror}") from error
    return Account(os.getuid(), os.getgid(), None, username, home, os.environ.get("SHELL") or "/bin/bash")


@dataclass(frozen=True, slots=True)
class Launch:
    """What is common to all servers of one spawner."""

    settings: ProcessSettings
    hub: str
    homes: Path
    fault: Callable[[str], None]

    def account(self, username: str) -> Account:
        """Whom `username`'s server runs as."""
        if self.settings.system_users:
            return system_account(username, min_uid=self.settings.min_uid)
        return shared_account(username, self.homes)

    def run(self, spec: ServerSpec, folder: Folder, log: Path, lock: int) -> Record:
        """Start it and write its record. On any failure nothing is left, and the reason is a SpawnError."""
        account = self.account(spec.username)
        argv = (*(spec.command or OWN_COMMAND), *spec.args)
        with ExitStack() as stack:
            try:
                folder.clear()
                listener = None if spec.command else stack.enter_context(_bind(folder.socket))
                url = f"http+unix://{quote(str(folder.socket), safe='')}" if listener else _loopback_url()
                intent = Record(
                    spec.ref.name,
                    spec.ref.incarnation,
                    url,
                    account.uid,
                    argv,
                    procfs.boot_id(),
                    procfs.ticks_now(),
                )
                folder.write(intent)
                self.fault("after_intent")
                output = serverlog.open_new(log)
                stack.callback(os.close, output)
                env = self._environment(spec, account, intent, lock, listener)
                inherited = [lock, *([listener.fileno()] if listener else [])]
                pid = self._fork(argv, env, account, output, inherited)
                record = _recorded(folder, intent, pid)
            except SpawnError:
                folder.clear()
                raise
            except OSError as error:
                folder.clear()
                raise SpawnFailed(f"the server could not be started: {error.strerror or error}") from error
            self.fault("after_record")
            return record

    def _environment(
        self, spec: ServerSpec, account: Account, intent: Record, lock: int, listener: socket.socket | None
    ) -> dict[str, str]:
        backend = {
            "HOME": str(account.home),
            "USER": account.user,
            "SHELL": account.shell,
            environ.SERVICE_URL: intent.url + spec.prefix,
            environ.LOCK_FD: str(lock),
            environ.COOKIE: str(Cookie(self.hub, spec.ref.name, spec.ref.incarnation)),
        }
        if listener is not None:
            backend[environ.LISTEN_FD] = str(listener.fileno())
        env = environ.child_environment(
            os.environ, spec.env, backend, self.settings.environment, keep=self.settings.env_keep
        )
        if faults := environ.environment_faults(env):
            raise SpawnRefused("; ".join(faults))
        return env

    def _fork(
        self, argv: tuple[str, ...], env: dict[str, str], account: Account, output: int, inherited: list[int]
    ) -> int:
        switch = account.groups is not None
        self.fault("before_fork")
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=account.home,
                env=env,
                pass_fds=inherited,
                start_new_session=True,
                umask=int(self.settings.umask, 8),
                user=account.uid if switch else None,
                group=account.gid if switch else None,
                extra_groups=account.groups,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise _explained(error, argv[0], account) from error
        self.fault("after_fork")
        # The process is held by its pidfd from here on; Popen would warn about, and wait for, a child "still
        # running" when it is collected.
        child.returncode = 0
        return child.pid


def _recorded(folder: Folder, intent: Record, pid: int) -> Record:
    """Write down who was born. A server that can't be written down (disk full) must not live."""
    try:
        found = procfs.stat(pid)  # our own child and not yet reaped: it has an entry even if it ended already
        record = replace(intent, pid=pid, ticks=found.ticks if found is not None else 0)
        folder.write(record)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return record


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
    parts = urlsplit(url)
    return parts.port if parts.scheme == "http" else None


def _explained(error: Exception, command: str, account: Account) -> SpawnError:
    """What a failed fork or exec means, in words and with its class."""
    if not isinstance(error, OSError):
        return SpawnRefused(f"the command {command!r} can't be run: {error}")
    if error.filename == str(account.home) or error.filename == account.home:
        return SpawnRefused(
            f"the home {str(account.home)!r} can't be entered as {account.user!r}: {error.strerror}; "
            "check that it exists and belongs to its user"
        )
    match error.errno:
        case errno.ENOENT:
            return SpawnRefused(f"the command {command!r} is not found; install it or give its whole path")
        case errno.EACCES | errno.EPERM:
            return SpawnRefused(
                f"the command {command!r} may not be run as {account.user!r} ({error.strerror}); "
                "put it where every user may read and execute it"
            )
        case errno.ENOEXEC | errno.E2BIG | errno.ENOTDIR | errno.ELOOP | errno.EINVAL:
            return SpawnRefused(f"the command {command!r} can't be run: {error.strerror}")
        case errno.EAGAIN | errno.ENOMEM:
            return SpawnFailed(
                f"the machine could not make another process ({error.strerror}); "
                "stop servers that are not needed, or raise its limits"
            )
        case _:
            return SpawnFailed(f"the command {command!r} could not be started: {error.strerror}")
