"""Whom a server runs as: the system account of its user's name, or the hub's own with a folder per user."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from himalia_spawner.base import Guest, Person
from himalia_spawner.errors import SpawnFailed, SpawnRefused
from himalia_spawner.names import home_name


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


def shared_account(whose: Person, homes: Path) -> Account:
    """The hub's own account, with a folder of the person's own as home."""
    home = homes / home_name(whose.files_of)
    try:
        try:
            os.mkdir(home, 0o700)
        except FileNotFoundError:
            homes.mkdir(mode=0o700, parents=True, exist_ok=True)
            home.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        if not home.is_dir():
            raise SpawnFailed(f"the home {str(home)!r} is no folder") from None
    except OSError as error:
        raise SpawnFailed(f"the home {str(home)!r} could not be made: {error.strerror}") from error
    shell = os.environ.get("SHELL") or "/bin/bash"
    return Account(os.getuid(), os.getgid(), None, whose.username, home, shell)


def guest_account(guest: Guest, username: str, uids: range) -> Account:
    """The account of a throw-away session: a number of the range set aside for them, or the hub's own."""
    home = Path(guest.home)
    if guest.uid is None:
        return Account(os.getuid(), os.getgid(), None, username, home, "/bin/bash")
    if guest.uid not in uids:
        raise SpawnRefused(
            f"user id {guest.uid} is not one of those set aside for throw-away sessions (spawner.process.guest_uids)"
        )
    return Account(guest.uid, guest.uid, (), username, home, "/bin/bash")
