"""The units of deploy/systemd, run by a systemd that booted, with the configuration that belongs to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import systemd_lab
import wire
from hubs import PASSWORD, answers, client
from support import eventually
from systemd_lab import Machine

ROOT = Path(__file__).parents[2]
HIMALIA = ("/opt/himalia/bin/himalia",)
CONFIG = ("--config", "/etc/himalia/himalia.toml")
SLOW_S = 90

pytestmark = pytest.mark.timeout(600)


class Site:
    """The hub in there, as people reach it."""

    def __init__(self, machine: Machine) -> None:
        self.url = f"http://{machine.address}:8000"
        self.api = f"{self.url}/hub/api"


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Installed as docs/howto/install-with-systemd.md says, and not started."""
    with systemd_lab.systemd_machine() as one:
        one.run("install", "-d", "-m", "700", "/etc/himalia", "/var/lib/himalia")
        one.run(
            "sh", "-c", "umask 077; cat > /etc/himalia/himalia.toml",
            stdin=(ROOT / "deploy/examples/system-users.toml").read_text(),
        )  # fmt: skip
        one.run(
            "sh", "-c", "umask 077; head -c 32 /dev/urandom | base64 > /etc/himalia/proxy.token;"
            'echo "CONFIGPROXY_AUTH_TOKEN=$(cat /etc/himalia/proxy.token)" > /etc/himalia/proxy.env',
        )  # fmt: skip
        for words in (
            ("config", "check"), ("db", "upgrade"), ("user", "add", "ada", "--admin", "--password-stdin"),
        ):  # fmt: skip
            one.run(*HIMALIA, *words, *CONFIG, stdin=PASSWORD)
        yield one


async def test_servers_outlive_a_restart_of_either_unit_and_nothing_outlives_a_stop(machine: Machine) -> None:
    site = Site(machine)
    machine.run("systemctl", "start", "himalia-proxy", "himalia-hub")
    await eventually(lambda: answers(site.api), within_s=SLOW_S, what="the hub answers")
    async with client(site, machine.run(*HIMALIA, "token", "ada", *CONFIG)) as ada:
        status, body = await ada.call("POST", "/users/ada/server")
        assert status in (201, 202), body

        async def ready() -> bool:
            server = await ada.server("ada")
            assert not server["stopped"], server
            return bool(server["ready"])

        async def cell(code: str) -> str:
            async with wire.kernel_client(f"{site.url}/user/ada/", ada.token) as kernel:
                return (await kernel.stream_of(await kernel.send("execute_request", code=code))).strip()

        await eventually(ready, within_s=SLOW_S)
        about = (
            "import os, pwd; kept = 6 * 7; print(pwd.getpwuid(os.getuid()).pw_name, os.path.expanduser('~'))"
        )
        assert await cell(about) == "ada /home/ada"

        for unit in ("himalia-hub", "himalia-proxy"):
            machine.run("systemctl", "restart", unit)
            await eventually(lambda: answers(site.api), within_s=SLOW_S, what="the hub answers again")
            assert await cell("print(kept)") == "42", f"the server outlives a restart of {unit}"

        status, body = await ada.call("DELETE", "/users/ada/server")
        assert status in (202, 204), body
        await eventually(
            lambda: not machine.processes("ada "), within_s=30, what="no process of hers is left"
        )
    machine.run("systemctl", "stop", "himalia-hub", "himalia-proxy")
    await eventually(lambda: not machine.processes("/opt/himalia"), within_s=30, what="no process is left")
