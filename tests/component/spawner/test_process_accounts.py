"""Servers as system users: their own rights and homes, and accounts that must not have any."""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import replace

import pytest

from himalia_spawner.errors import SpawnRefused


async def test_system_users_run_their_servers_as_themselves(rig, own, account, monkeypatch) -> None:
    spec = replace(own, username=account)
    monkeypatch.setattr("himalia_spawner.launch.OWN_COMMAND", anybodys_command(rig))
    handle = await rig.spawner(system_users=True).start(spec)

    about = await rig.about(handle)

    entry = pwd.getpwnam(account)
    assert (about["uid"], about["gid"]) == (entry.pw_uid, entry.pw_gid)
    assert sorted(about["groups"]) == sorted(os.getgrouplist(account, entry.pw_gid))
    assert about["cwd"] == about["env"]["HOME"] == entry.pw_dir
    assert about["env"]["USER"] == account
    assert handle.state["uid"] == entry.pw_uid
    await rig.spawner(system_users=True).stop(own.ref)
    assert not rig.processes()


def anybodys_command(rig) -> tuple[str, ...]:
    """The serving command at places that every account may read; a virtual environment may lie in /root."""
    rig.root.chmod(0o711)
    script = shutil.copy(rig.server().command[2], rig.root / "server.py")
    os.chmod(script, 0o644)
    return ("/usr/bin/python3", "-I", str(script), "serve")


async def test_system_users_are_adopted_after_a_kill_between_fork_and_record(rig, own, account) -> None:
    spec = replace(own, username=account, command=anybodys_command(rig))
    first = rig.spawner(system_users=True)
    handle = await first.start(spec)
    await rig.about(handle)
    folder = first._ledger.folder("ada-server")
    folder.write(replace(folder.read(), pid=0, ticks=0))  # as it is between fork and record
    await first.close()

    sighting = await rig.spawner(system_users=True).look("ada-server")

    assert sighting.handle == handle


@pytest.mark.parametrize(
    ("username", "words"),
    [
        ("no-such-account-here", "useradd"),
        ("root", "never run servers"),
        ("daemon", "never run servers"),
        ("", "no system"),
    ],
)
async def test_accounts_that_must_not_run_servers_are_refused_with_a_remedy(
    rig, as_root, username, words
) -> None:
    with pytest.raises(SpawnRefused, match=words) as caught:
        await rig.spawner(system_users=True).start(rig.server(username=username))

    assert repr(username) in str(caught.value)
    assert not rig.processes()


async def test_an_account_without_a_home_is_refused_by_name(rig, account) -> None:
    os.rename(f"/home/{account}", f"/home/{account}.away")
    try:
        await _refused_for_its_home(rig, account)
    finally:
        os.rename(f"/home/{account}.away", f"/home/{account}")


async def _refused_for_its_home(rig, account) -> None:
    with pytest.raises(SpawnRefused, match=rf"'/home/{account}'.*mkhomedir_helper"):
        await rig.spawner(system_users=True).start(rig.server(username=account))
