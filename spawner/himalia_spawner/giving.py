"""Giving files to a person: the hub's half of `receive.py`."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import BinaryIO, cast

from himalia_spawner.accounts import Account
from himalia_spawner.base import Write
from himalia_spawner.errors import SpawnFailed

_RECEIVE = (sys.executable, "-I", "-m", "himalia_spawner.receive")


def give(account: Account, name: str, key: str, write: Write) -> str:
    """Have the archive that `write` writes unpacked in the account's home; the name of the folder. Blocking."""
    child = _child(account, key, name)
    assert child.stdin is not None
    try:
        with (
            suppress(BrokenPipeError),
            cast("BinaryIO", child.stdin) as sink,
        ):  # a child that ends early says why
            write(sink)
    except BaseException:
        child.kill()
        child.stdin = None
        child.communicate()
        raise
    return _answer(child, account)


def forget(account: Account, key: str) -> None:
    """Remove what remembers in the home that this was done. Blocking."""
    child = _child(account, key, "")
    assert child.stdin is not None
    child.stdin.close()
    _answer(child, account)


def _child(account: Account, key: str, name: str) -> subprocess.Popen[bytes]:
    switched = account.groups is not None
    try:
        return subprocess.Popen(
            [*_RECEIVE, key, name],
            cwd=account.home,
            env={"HOME": str(account.home), "PATH": "/usr/local/bin:/usr/bin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            umask=0o077,
            user=account.uid if switched else None,
            group=account.gid if switched else None,
            extra_groups=account.groups if switched else None,
        )
    except OSError as error:
        raise SpawnFailed(f"the home of {account.user!r} cannot be used: {error.strerror}") from error


def _answer(child: subprocess.Popen[bytes], account: Account) -> str:
    child.stdin = None
    out, said = child.communicate()
    if child.returncode != 0:
        why = said.decode(errors="replace").strip().splitlines()
        words = why[-1][:200] if why else f"it ended with {child.returncode}"
        raise SpawnFailed(f"the files could not be put into the home of {account.user!r}: {words}")
    return out.decode().strip()
