"""Services: the official client library and culler as the hub runs them, and what becomes of them when they or it end."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import aiohttp

import official
from hubs import PASSWORD, Client, Hub, Launch, free_port
from support import eventually

WHOAMI = Path(__file__).parents[1] / "services" / "whoami.py"


def whoami(port: int, more: str = "") -> str:
    """Configuration of the small official service."""
    command = json.dumps([official.python(), str(WHOAMI)])
    return f"[[services]]\nname = 'whoami'\nurl = 'http://127.0.0.1:{port}'\ncommand = {command}\n{more}"


async def _sign_in(session: aiohttp.ClientSession, hub: Hub, name: str) -> None:
    async with session.get(f"{hub.url}/hub/login") as page:
        xsrf = re.search(r'data-xsrf="([^"]*)"', await page.text())
    assert xsrf
    form = {"username": name, "password": PASSWORD, "_xsrf": xsrf[1]}
    async with session.post(f"{hub.url}/hub/login", data=form) as answer:
        assert answer.url.path == "/hub/home", await answer.text()


async def _answers(url: str, **headers: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            return answer.status < 500 and "/hub/" not in answer.url.path
    except aiohttp.ClientError:
        return False


async def _pid(admin: Client, name: str) -> int:
    status, model = await admin.call("GET", f"/services/{name}")
    assert status == 200, model
    return int(model["pid"])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_people_sign_in_to_an_official_service_once_and_out_of_it_too(launch: Launch) -> None:
    hub, admin = await launch(whoami(free_port() + 3))
    hub.add_user("ann")
    token_page, oauth_page = (f"{hub.url}/services/whoami/{kind}/" for kind in ("token", "oauth"))
    headers = {"Authorization": f"token {admin.token}"}
    await eventually(lambda: _answers(token_page, **headers), within_s=60, what="the service answers")

    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as root:
        await _sign_in(root, hub, "root")
        async with root.get(oauth_page) as question:
            text = await question.text()
            assert question.url.path == "/hub/api/oauth2/authorize"
            assert "whoami" in text
        xsrf = re.search(r'name="_xsrf" value="([^"]*)"', text)
        assert xsrf
        agreed = [("_xsrf", xsrf[1]), ("scopes", "access:services!service=whoami")]
        async with root.post(question.url, data=agreed) as answer:
            model = await answer.json()
        assert (answer.url.path, model["name"]) == ("/services/whoami/oauth/", "root")
        async with root.get(oauth_page) as again:
            known = {"read:users:groups!user=root", "read:users:name!user=root"}
            assert set((await again.json())["scopes"]) == {"access:services!service=whoami"} | known

    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as ann:
        await _sign_in(ann, hub, "ann")
        async with ann.get(oauth_page) as refused:
            assert (refused.status, refused.url.path) == (403, "/hub/api/oauth2/authorize")

    for token, status in ((admin.token, 200), (hub.token("ann"), 403), ("no such token", 403)):
        given = {"Authorization": f"token {token}"}
        async with admin.session.get(token_page, headers=given) as answer:
            assert answer.status == status


async def test_the_official_culler_stops_an_idle_server_as_a_managed_service(launch: Launch) -> None:
    command = json.dumps([official.python(), "-m", "jupyterhub_idle_culler", "--timeout=2", "--cull-every=1"])
    scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
    role = f"[[roles]]\nname = 'culler'\nscopes = {json.dumps(scopes)}\nservices = ['culler']\n"
    hub, admin = await launch(f"[[services]]\nname = 'culler'\ncommand = {command}\n{role}")
    status, body = await admin.call("POST", "/users/root/server")
    assert status == 201, body  # it runs: that it still does a moment later depends on the culler

    await eventually(lambda: not hub.processes(), within_s=60, what="the idle server is culled")

    async def recorded() -> list[dict[str, str]]:
        return (await admin.call("GET", "/audit?actor=services/culler"))[1]

    rows = await eventually(recorded, what="what it did is recorded once it is done")
    assert (rows[0]["action"], rows[0]["target_user"]) == ("DELETE api/users/{user}/server", "root")


async def test_a_service_is_started_again_when_it_dies_and_never_outlives_its_hub(launch: Launch) -> None:
    hub, admin = await launch(whoami(free_port() + 3))
    known = {0}

    async def another() -> int:
        pid = await _pid(admin, "whoami")
        return pid if pid not in known and _alive(pid) else 0

    first = await eventually(another, within_s=60, what="it is started")
    known.add(first)
    os.kill(first, signal.SIGKILL)
    second = await eventually(another, within_s=60, what="it is started again")
    known.add(second)
    assert '"event": "service.ended"' in hub.said()

    hub.kill()
    await eventually(lambda: not _alive(second), within_s=60, what="it dies with a hub that is killed")
    await hub.start()
    third = await eventually(another, within_s=60, what="the next hub runs one of its own")

    await hub.stop()
    assert not _alive(third)


async def test_a_service_gets_no_secret_of_the_hub_and_one_that_cannot_run_is_tried_again(
    launch: Launch, tmp_path: Path
) -> None:
    seen = tmp_path / "environment"
    new = str(seen.with_suffix(".new"))
    script = f"import os, json; open({new!r}, 'w').write(json.dumps(dict(os.environ))); os.replace({new!r}, {str(seen)!r})"
    command = json.dumps([official.python(), "-c", script])
    odd = f"[[services]]\nname = 'odd'\ncommand = {command}\nenvironment = {{ COLOUR = 'red' }}\n"
    hub, admin = await launch(odd + "[[services]]\nname = 'none'\ncommand = ['/no/such/program']\n")

    def tries() -> int:
        ends = [line for line in hub.said().splitlines() if "service.ended" in line]
        return sum(json.loads(line)["name"] == "none" for line in ends)

    await eventually(lambda: tries() >= 2, within_s=60, what="tried again")
    log = (hub.data / "logs" / "service-none.log").read_text()
    assert "cannot run '/no/such/program': No such file or directory" in log
    env = await eventually(lambda: seen.exists() and json.loads(seen.read_text()), within_s=60)
    assert env["COLOUR"] == "red"
    assert env["JUPYTERHUB_SERVICE_NAME"] == "odd"
    assert not [name for name in env if "HIMALIA" in name or "PROXY" in name]
    headers = {"Authorization": f"token {env['JUPYTERHUB_API_TOKEN']}"}
    async with admin.session.get(f"{env['JUPYTERHUB_API_URL']}/user", headers=headers) as answer:
        model = await answer.json()
    assert (model["kind"], model["name"], model["scopes"]) == ("service", "odd", [])
