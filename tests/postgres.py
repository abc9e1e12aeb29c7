"""A private PostgreSQL for the tests: made in a temporary folder, gone with it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

APT = "apt-get install -y --no-install-recommends postgresql"
START_WITHIN_S = 60


class PostgresMissing(RuntimeError):
    """There is no PostgreSQL server on this machine."""


def binaries() -> Path:
    """The folder of the newest installed PostgreSQL; PostgresMissing says how to get one."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), reverse=True
    )
    if found:
        return found[0].parent
    if elsewhere := shutil.which("initdb"):
        return Path(elsewhere).resolve().parent
    raise PostgresMissing(f"no PostgreSQL server is installed; as root: {APT}")


class Cluster:
    """A server that tests may stop, start, and hold up. `url` is of its `postgres` database, over a unix socket."""

    def __init__(
        self, programs: Path, folder: Path, command: list[str | Path], common: dict[str, Any]
    ) -> None:
        self.url = f"postgresql://himalia@/postgres?host={folder}"
        self.folder = folder
        self._programs, self._command, self._common = programs, command, common
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """And wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(self._command, stdout=log, stderr=log, **self._common)
        _wait_until_ready(self._programs, self.folder, self._server, self._common["env"])

    def stop(self) -> None:
        """Break every connection and end, as `pg_ctl stop` does; kill it when that takes too long."""
        if self._server is None:
            return
        self.signal(signal.SIGCONT)
        self._server.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self._server.wait(20)
        self._server.kill()
        self._server.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send this to the server and to each process that serves a connection."""
        assert self._server is not None
        with suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self._server.pid)
            for process in (leader, *leader.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running cluster in a folder of its own.

    The folder is short because a socket's path may have 107 bytes only.
    """
    programs = binaries()
    folder = Path(tempfile.mkdtemp(prefix="himalia-pg-", dir="/tmp"))
    # PostgreSQL refuses to run as root; its own Debian account owns the folder then.
    account = pwd.getpwnam("postgres") if os.getuid() == 0 else None
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    data = folder / "data"
    common = {"cwd": folder, "env": env, "stdin": subprocess.DEVNULL, **who}
    try:
        made = subprocess.run(
            [programs / "initdb", "-D", data, "-U", "himalia", "-A", "trust", "-E", "UTF8", "--no-sync"],
            capture_output=True,
            text=True,
            check=False,
            **common,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr.strip()}")
        # Durability is not what is tested, and a vacuum in any database of the cluster moves `PostgresRevision`;
        # everything else is as shipped.
        quick = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200"]
        quick += ["-c", "autovacuum=off"]
        listen = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
        made_one = Cluster(programs, folder, [programs / "postgres", "-D", data, *quick, *listen], common)
        try:
            made_one.start()
            yield made_one
        finally:
            made_one.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(
    programs: Path, folder: Path, server: subprocess.Popen[bytes], env: dict[str, str]
) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    ask = [programs / "pg_isready", "-q", "-h", folder, "-t", "1"]
    while subprocess.run(ask, env=env, check=False).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start:\n{(folder / 'log').read_text()[-2000:]}")
