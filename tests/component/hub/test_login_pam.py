"""The machine's accounts, through real PAM: a service and two users that the tests make and remove. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from himalia_hub.auth.base import Context, WayDown
from himalia_hub.auth.contract import PasswordRig, PasswordWayContract
from himalia_hub.auth.pam import Pam
from himalia_hub.auth.registry import find_plugin
from himalia_hub.errors import ConfigError

SERVICE = f"himalia-test-{os.getpid()}"
ANN, BOB = f"hma{os.getpid()}", f"hmb{os.getpid()}"
PASSWORDS = {ANN: "Correct horse, battery", BOB: "another: ä long one"}


def run(*command: str, stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A service of pam_unix for accounts and passwords, and two accounts. A wrong password is answered without a pause."""
    file = Path("/etc/pam.d") / SERVICE
    file.write_text("auth required pam_unix.so nullok nodelay\naccount required pam_unix.so\n")
    try:
        for name, password in PASSWORDS.items():
            run("useradd", "--no-create-home", name)
            run("chpasswd", stdin=f"{name}:{password}\n")
        yield SERVICE
    finally:
        for name in PASSWORDS:
            subprocess.run(["userdel", name], capture_output=True, timeout=60)
        file.unlink()


def way(service: str, **more: object) -> Pam:
    return Pam(Pam.Settings(service=service, **more), Context("machine", None, Path("/")))


class TestPam(PasswordWayContract):
    @pytest.fixture
    def rig(self, service: str) -> PasswordRig:
        return PasswordRig(way(service), ANN, PASSWORDS[ANN], BOB, PASSWORDS[BOB])


async def test_an_account_that_is_locked_or_without_a_password_does_not_come_in(service: str) -> None:
    run("usermod", "--lock", BOB)
    try:
        assert await way(service).check(BOB, PASSWORDS[BOB]) is None
    finally:
        run("usermod", "--unlock", BOB)
    run("passwd", "--delete", BOB)
    try:
        assert await way(service).check(BOB, "") is None
    finally:
        run("chpasswd", stdin=f"{BOB}:{PASSWORDS[BOB]}\n")


async def test_accounts_of_the_system_do_not_come_in(service: str) -> None:
    assert await way(service, least_uid=2**31).check(ANN, PASSWORDS[ANN]) is None


async def test_pam_that_takes_too_long_is_ended_and_said(service: str) -> None:
    with pytest.raises(WayDown):
        await way(service, timeout_s=0.001).check(ANN, PASSWORDS[ANN])


async def test_a_broken_service_is_no_wrong_password(service: str) -> None:
    broken = Path("/etc/pam.d") / f"{SERVICE}-broken"
    broken.write_text("auth required pam_of_nobody.so\naccount required pam_unix.so\n")
    try:
        with pytest.raises(WayDown):
            await way(broken.name).check(ANN, PASSWORDS[ANN])
    finally:
        broken.unlink()


def test_a_service_that_is_not_there_stops_the_start() -> None:
    plugin = find_plugin("pam")
    with pytest.raises(ConfigError, match=r"there is no .*nowhere"):
        plugin.make(plugin.validate("machine", {"service": "nowhere"}), Context("machine", None, Path("/")))
