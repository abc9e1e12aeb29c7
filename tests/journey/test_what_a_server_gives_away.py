"""What the other accounts of the machine can take from a running server: no secret, and no way in but the socket that was meant."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

import wire
from himalia_hub.secrets import load_or_create
from himalia_spawner.ledger import runtime_folder
from hubs import PATIENT, Client, Hub, client
from witness import select

LOOK = """
import json, os, sys
folders, secrets = json.load(sys.stdin)
found, read = [], 0
def look(path):
    global read
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except OSError:
        return
    read += 1
    found.extend(path for secret in secrets if secret.encode() in data)
for folder in folders:
    for parent, _, names in os.walk(folder):
        for name in names:
            look(os.path.join(parent, name))
for pid in filter(str.isdigit, os.listdir('/proc')):
    for name in ('cmdline', 'environ'):
        look(f'/proc/{pid}/{name}')
print(json.dumps([found, read]))
"""


@pytest.fixture
async def place() -> AsyncIterator[tuple[Hub, Client]]:
    """A hub in a folder that every account may enter, whose root runs a server with a kernel."""
    if os.getuid() != 0:
        pytest.fail(
            "only root can look with the eyes of another account; run the tests as root", pytrace=False
        )
    folder = Path(tempfile.mkdtemp(prefix="himalia-open-", dir="/tmp"))
    folder.chmod(0o755)
    hub = Hub(folder / "data", config=f"[servers]\n{PATIENT}")
    try:
        hub.add_user("root", admin=True)
        async with client(hub, hub.token("root")) as admin:
            await hub.start()
            assert (await admin.call("POST", "/users/root/server"))[0] == 201
            async with wire.kernel_client(f"{hub.url}/user/root/", admin.token):
                yield hub, admin
    finally:
        hub.clean_up()
        shutil.rmtree(folder)


async def test_no_other_account_finds_a_secret_in_files_command_lines_or_environments(
    place: tuple[Hub, Client],
) -> None:
    """CVE-2020-26261: the token stood in a unit's environment that everybody could read."""
    hub, admin = place
    (row,) = select(hub, "SELECT id, incarnation FROM servers")
    of_server = load_or_create(hub.data / "secret").server_token(row.id, row.incarnation)
    secrets = {admin.token, of_server, (hub.data / "proxy.token").read_text().strip()}
    assert await knows(hub, of_server), "it is the one that the server shows"
    nobody = pwd.getpwnam("nobody")
    folders = [str(hub.data.parent), str(runtime_folder(None, hub.data))]

    looked = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", LOOK],
        input=json.dumps([folders, sorted(secrets)]),
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
    )

    found, read = json.loads(looked.stdout)
    assert found == []
    assert read > 20, "it did look: command lines are everybody's to read"


async def test_a_server_on_a_unix_socket_listens_nowhere_else(place: tuple[Hub, Client]) -> None:
    """CVE-2025-32428: a service meant for a unix socket listened on TCP as well."""
    hub, _ = place
    # A kernel of ipykernel listens by itself, on loopback, and takes nothing there without a word of its own.
    running = {pid: psutil.Process(pid).cmdline() for pid, _ in hub.processes()}
    servers = [pid for pid, command in running.items() if "ipykernel_launcher" not in command]
    assert hub.process is not None
    proxy = json.loads((hub.data / "proxy.json").read_text())["pid"]

    def listens(*pids: int) -> set[tuple[str, int]]:
        return {
            (one.laddr.ip, one.laddr.port)
            for pid in pids
            for one in psutil.Process(pid).net_connections("inet")
            if one.status == psutil.CONN_LISTEN
        }

    assert len(running) > len(servers) >= 1, "a server, and a kernel of it"
    assert listens(*servers) == set()
    assert listens(hub.process.pid, *hub.nests()) == {("127.0.0.1", hub.port + 2)}
    family = [proxy, *(child.pid for child in psutil.Process(proxy).children(recursive=True))]
    assert {port for _, port in listens(*family)} == {hub.port, hub.port + 1}


async def knows(hub: Hub, token: str) -> bool:
    """Whether the hub takes this token for somebody's."""
    headers = {"Authorization": f"token {token}"}
    async with aiohttp.ClientSession() as session, session.get(f"{hub.api}/user", headers=headers) as answer:
        return answer.status == 200
