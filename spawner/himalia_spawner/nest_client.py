"""The hub's side of the nest: have one that is up to date, ask it for servers, hear how they ended. Blocking."""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from himalia_spawner import ending, serverlog
from himalia_spawner.base import Exit
from himalia_spawner.errors import SpawnFailed, SpawnRefused
from himalia_spawner.plan import Plan, Report, receive_report, send_plan

EXTRA_PATH: tuple[str, ...] = ()
"""Further folders of modules for the nest; tests put their small servers there."""

_READY_S = 60.0
_BIRTH_S = 60.0
_ANSWER_S = 5.0
_GUARD_S = 5.0  # a nest is started in 1; who is told too early starts one server without it
_ROOM = 4096  # bytes in which a server's own line in `ps` and its mark in /proc find place
_AGAIN_S = 30.0


class NestUnusable(Exception):
    """There is no nest and none can be started; `str()` says why."""


class NestLost(Exception):
    """The nest went away under a request, and no server came of it: ask again."""


@functools.cache
def _release() -> str:
    """The installed release, read once: that is a search through all packages, and asked for at each start."""
    try:
        return version("himalia")
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True, slots=True)
class Brood:
    """What one nest is for; another of these is another nest."""

    preload: tuple[str, ...]
    uids: str
    """User ids and ranges `A-B`, separated by commas."""
    program: str = "himalia_spawner.nest"
    rlimits: str = ""
    """Of the nest of commands, in words: it can't always go back to what it once took to hand on."""

    @property
    def key(self) -> str:
        """Names the nest's socket: changes with version, interpreter and settings."""
        told = json.dumps(
            [_release(), sys.executable, self.preload, self.uids, EXTRA_PATH, self.program, self.rlimits]
        )
        return hashlib.sha256(told.encode()).hexdigest()[:8]


@dataclass(slots=True, eq=False)
class NestClient:
    """One hub's connection to its nest. Every method may be called from any thread."""

    folder: Path
    brood: Brood
    log: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _hello: socket.socket | None = None
    _process: subprocess.Popen[bytes] | None = None
    _broken: str = ""
    _broken_until: float = 0.0
    _closed: bool = False

    @property
    def path(self) -> Path:
        """Where it listens."""
        return self.folder / f"{self.brood.key}.sock"

    def ensure(self) -> None:
        """Have a nest, starting one if need be. NestUnusable says why there is none; not tried again at once."""
        with self._lock:
            if self._closed:
                raise NestUnusable("the hub is closing")
            if self._alive():
                return
            if time.monotonic() < self._broken_until:
                raise NestUnusable(self._broken)
            try:
                self._connect_or_start()
            except (NestUnusable, OSError) as error:
                self._broken, self._broken_until = str(error), time.monotonic() + _AGAIN_S
                raise NestUnusable(self._broken) from None

    def adopt(self) -> None:
        """Make the acquaintance of one that runs, as after a restart of the hub; do nothing where none does."""
        if self.path.exists() and (found := self._connect()) is not None:
            with found:
                self.ensure()

    def renew(self) -> bool:
        """Replace a nest whose code or settings are of yesterday; its servers go on. True if that was needed."""
        with self._lock:
            if self._hello is None or self._closed:
                return False
            try:
                if not self._asked("hello")["stale"]:
                    return False
            except OSError:
                self._forget()
                return False
            self._retire(self._hello)
        self.ensure()
        return True

    def bear(self, plan: Plan, descriptors: list[int], *, sent: Any) -> Report:
        """Have a server made. `sent()` is called when the request is out.

        SpawnError when it could not be done; NestLost when the nest is gone and nothing was made.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as request:
            try:
                # Not `settimeout`, which asks before each step whether it can be done.
                for way in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                    request.setsockopt(socket.SOL_SOCKET, way, _timeval(_BIRTH_S))
                request.connect(str(self.path))
                with suppress(BrokenPipeError):  # it may have said why and closed: that is still to be read
                    offer(request, plan, descriptors)
                sent()
                report = receive_report(request)
            except BlockingIOError:
                raise SpawnFailed(f"the server could not be set up within {_BIRTH_S:g} seconds") from None
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise  # that is for want of a descriptor here, and no news of the nest
                raise NestLost from None
        if report is None:
            raise NestLost
        return check(report)

    def sync(self) -> None:
        """Return when the nest has written down every end there was; at once if there is no nest."""
        with suppress(OSError):
            self._asked("sync")

    def exit_of(self, pid: int, ticks: int) -> Exit | None:
        """How that process ended, if a nest wrote it down; told once."""
        path = self.folder / "exits" / f"{pid}-{ticks}"
        try:
            told = json.loads(path.read_bytes())
            path.unlink(missing_ok=True)
            return ending.how_ended(told["status"], by_signal=told["by_signal"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def hello(self) -> socket.socket | None:
        """The connection that says "a hub is here", readable when the nest has gone; None while there is none."""
        return self._hello

    def lost(self) -> None:
        """It has gone: reap it if it was our child."""
        with self._lock:
            if not self._alive():
                self._forget()

    def close(self) -> None:
        """Take leave. A nest without servers ends then; one with servers goes on."""
        with self._lock:
            self._closed = True
            self._forget()

    def _asked(self, what: str) -> dict[str, Any]:
        """An answer over a connection of its own: on the hello, anything to read is taken for the nest's end."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as request:
            request.settimeout(_ANSWER_S)
            request.connect(str(self.path))
            return _ask(request, what)

    # -- with the lock held ---------------------------------------------------------------------------

    def _alive(self) -> bool:
        if self._hello is None:
            return False
        poll = select.poll()
        poll.register(self._hello, select.POLLIN)
        if not poll.poll(0):  # it never speaks unasked: anything to read is its end
            return True
        self._forget()
        return False

    def _forget(self) -> None:
        if self._hello is not None:
            self._hello.close()
            self._hello = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0 if self._closed else 1)
            self._process.returncode = self._process.returncode or 0  # else Popen waits for it, or warns
            self._process = None

    def _connect_or_start(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        # Two hubs at once, as after a restart that overlaps: one starts it, the other finds it.
        guard = os.open(self.folder / "guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _locked_within(guard, _GUARD_S):
                # Who holds it was stopped, perhaps for good: that is no reason for nobody here to start anything.
                self._hello = self._connect()
                if self._hello is None:
                    raise NestUnusable(
                        f"another hub has held {str(self.folder / 'guard')!r} for {_GUARD_S:g} s"
                    )
                return
            self._retire_others()
            hello = self._connect()
            if hello is not None and _ask(hello, "hello")["stale"]:
                self._retire(hello)
                hello = None
            if hello is None:
                self._start()
                hello = self._connect()
            if hello is None:
                raise NestUnusable(f"the nest does not answer at {str(self.path)!r}")
            self._hello = hello
            self._broken = ""
        finally:
            os.close(guard)

    def _connect(self, path: Path | None = None) -> socket.socket | None:
        hello = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            hello.settimeout(_ANSWER_S)
            hello.connect(str(path or self.path))
            _ask(hello, "hello")
        except OSError:
            hello.close()
            return None
        return hello

    def _retire(self, hello: socket.socket) -> None:
        with suppress(OSError):
            _ask(hello, "retire")
        hello.close()
        if hello is self._hello:
            self._hello = None
            self._forget()

    def _retire_others(self) -> None:
        for path in self.folder.glob("*.sock"):
            if path != self.path:
                other = self._connect(path)
                if other is not None:
                    self._retire(other)
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _start(self) -> None:
        reading, writing = os.pipe()
        argv = [sys.executable, "-I", "-m", self.brood.program]
        argv += ["--dir", str(self.folder), "--key", self.brood.key, "--uids", self.brood.uids]
        argv += [f"--preload={name}" for name in self.brood.preload] + [
            f"--path={each}" for each in EXTRA_PATH
        ]
        output = serverlog.open_new(self.log)
        try:
            self._process = subprocess.Popen(
                [*argv, "--ready", str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
                cwd="/",
                pass_fds=[writing],
                start_new_session=True,
            )
        except OSError as error:
            os.close(reading)
            raise NestUnusable(f"it could not be started: {error.strerror}") from None
        finally:
            os.close(output)
            os.close(writing)
        said = _read_all(reading, _READY_S)
        if said != "ok":
            last = "; ".join(serverlog.tail(self.log, 3))
            self._process.kill()
            self._forget()
            raise NestUnusable(said or f"it ended at its start: {last or 'it wrote nothing'}")


def offer(to: socket.socket, plan: Plan, descriptors: list[int]) -> None:
    """Send a plan; SpawnRefused when the environment makes it too large."""
    try:
        send_plan(to, plan, descriptors)
    except OSError as error:
        if error.errno != errno.EMSGSIZE:
            raise
        size = sum(len(name) + len(value) for name, value in plan.env.items())
        raise SpawnRefused(f"the environment of the server is too large: {size} bytes") from None


def check(report: Report) -> Report:
    """Raise what a newborn reported, as the error it is; else give it."""
    if not report.ok:
        raise (SpawnRefused if report.refused else SpawnFailed)(report.error)
    return report


def _ask(peer: socket.socket, what: str) -> dict[str, Any]:
    peer.send(json.dumps({"do": what}).encode())
    answer = peer.recv(4096)
    if not answer:
        raise ConnectionResetError
    told: dict[str, Any] = json.loads(answer)
    return told


def _timeval(seconds: float) -> bytes:
    """As SO_RCVTIMEO takes it (socket(7))."""
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


def _locked_within(descriptor: int, limit_s: float) -> bool:
    """Take the lock on an open file; False when somebody else has it for so long."""
    until = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            select.select((), (), (), 0.05)
        else:
            return True


def _environment() -> dict[str, str]:
    """Nothing of the hub's, which holds secrets; and room for what its children will show."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "HIMALIA_FAULT") if name in os.environ
    }
    return {**kept, "HIMALIA_ROOM": "." * _ROOM}


def _read_all(descriptor: int, within_s: float) -> str:
    deadline, data = time.monotonic() + within_s, b""
    with open(descriptor, "rb", buffering=0) as file:
        poll = select.poll()
        poll.register(file, select.POLLIN)
        while poll.poll(max(0, deadline - time.monotonic()) * 1000):
            piece = file.read(4096)
            if not piece:
                break
            data += piece
    return data.decode(errors="replace")
