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


@contextmanager
def cluster() -> Iterator[str]:
    """A running cluster; the value is a URL of its `postgres` database over a unix socket.

    The folder is short and of its own because a socket's path may have 107 bytes only.
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
        # Durability is not what is tested; everything else is as shipped.
        quick = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200"]
        listen = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *quick, *listen], stdout=log, stderr=log, **common
            )
        try:
            _wait_until_ready(programs, folder, server, env)
            yield f"postgresql://himalia@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()
            server.wait()
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
