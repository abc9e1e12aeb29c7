"""A JupyterHub's rows and settings come over, its tokens stay valid, and what cannot come is said."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

import official
from component.hub.hub_site import identify, site
from himalia_hub import clock
from himalia_hub.cli import main
from himalia_hub.config import load
from himalia_hub.errors import BadRequest
from himalia_hub.importing import config
from himalia_hub.importing.models import ImportedToken
from himalia_hub.importing.tokens import adopt, matches
from himalia_hub.shares import store as shares


@pytest.fixture
def postgres_template() -> str:
    """Nothing is in what is filled here."""
    return "template1"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A database that JupyterHub itself made, and the tokens in it."""
    file = tmp_path_factory.mktemp("jupyterhub") / "jupyterhub.sqlite"
    script = Path(official.__file__).parent / "official/make_jupyterhub.py"
    command = [official.python(), str(script), str(file)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    return file, json.loads(out.splitlines()[-1])


def carry(tmp_path: Path, database_url: str, *files: str, capsys: pytest.CaptureFixture[str]) -> str:
    data = tmp_path / "data"
    assert main(["import", "jupyterhub", *files, "--data", str(data), "--db.url", database_url]) == 0
    return capsys.readouterr().out


async def test_people_groups_servers_and_tokens_come_over_and_work(
    tmp_path: Path, database_url: str, theirs: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    file, tokens = theirs
    said = await asyncio.to_thread(carry, tmp_path, database_url, str(file), capsys=capsys)

    assert "2 people, 2 groups, 2 memberships, 3 servers, 5 tokens, 2 shares, 1 share code\n" in said
    assert "the share of ada/gpu with group 'nobody': the scope 'users:activity' cannot be shared" in said
    assert "service 'announcements': write it as [[services]]" in said
    assert "role 'teachers' (list:users): write it as [[roles]]" in said
    async with site(tmp_path / "site", database_url, servers={"slow_start_s": 0}) as hub:
        # Of two that come at once, one may have looked before the other made it ours, and ask afterwards.
        assert [await adopt(hub.db, tokens["ada"]) for _ in range(2)] == [True, True]
        assert not await adopt(hub.db, tokens["ada"] + "x")
        async with hub.client(tokens["ada"]) as ada:
            me = (await ada("GET", "/hub/api/user")).json
            assert (me["name"], me["admin"], me["groups"]) == ("ada", True, ["class"])
            people = (await ada("GET", "/hub/api/users")).json
            assert [one["name"] for one in people] == ["ada", "ben.o'neil+1"]
            groups = {one["name"]: one for one in (await ada("GET", "/hub/api/groups")).json}
            assert groups["class"]["properties"] == {"room": 7}
            assert groups["class"]["users"] == ["ada", "ben.o'neil+1"]
            model = (await ada("GET", "/hub/api/users/ada?include_stopped_servers=1")).json
            assert model["servers"]["gpu"]["user_options"] == {"profile": "gpu"}
            codes = (await ada("GET", "/hub/api/share-codes/ada/gpu")).json["items"]
            assert [code["scopes"] for code in codes] == [["access:servers!server=ada/gpu"]]
            async with hub.db.read() as db:
                found = await shares.find_code(db, tokens["code"], now=clock.now())
            assert found is not None
            assert (found[1].name, found[2].name) == ("gpu", "ada")
            void = f"/hub/api/share-codes/ada/gpu?code={tokens['code']}"
            assert (await ada("DELETE", void[:-1])).status == 404
            assert [(await ada("DELETE", void)).status for _ in range(2)] == [204, 404]
        async with hub.client(tokens["ben"]) as ben:
            shared = (await ben("GET", "/hub/api/users/ben.o'neil+1/shared")).json["items"]
            assert [(share["kind"], len(share["scopes"])) for share in shared] == [("user", 1), ("group", 2)]
        async with hub.client(tokens["ada-narrow"]) as narrow:
            assert (await narrow("GET", "/hub/api/users")).status == 200
            assert (await narrow("POST", "/hub/api/users/new")).status == 403
        async with hub.client(tokens["ada-none"]) as none:
            assert (await none("GET", "/hub/api/user")).json["scopes"] == sorted(identify("ada"))
            assert (await none("GET", "/hub/api/users")).status == 403
        async with hub.client(tokens["ben"]) as ben:
            started = await ben("POST", "/hub/api/users/ben.o'neil+1/servers/My%20Server")
            assert started.status == 202, started.text
            assert (await ben("POST", "/hub/api/users/ben.o'neil+1/servers/My%20Other")).status == 400
        for name in ("ben", "ben-chosen"):
            async with hub.client(tokens[name]) as ben:
                assert (await ben("GET", "/hub/api/user")).json["name"] == "ben.o'neil+1"
        async with hub.db.read() as db:
            left = list(await db.scalars(sa.select(ImportedToken.prefix)))
        assert left == [""] * 5, "each token is ours since its first use"
        for wrong in (tokens["ada"][:-1] + "x", tokens["ada"][:4], "x" * 5000):
            async with hub.client(wrong) as nobody:
                assert (await nobody("GET", "/hub/api/user")).status == 403


def test_rows_that_no_jupyterhub_wrote_keep_nobody_else_from_coming(
    tmp_path: Path,
    sqlite_database: str,
    theirs: tuple[Path, dict[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = Path(shutil.copy(theirs[0], tmp_path / "odd.sqlite"))
    connection = sqlite3.connect(file)
    connection.executescript("""
        UPDATE users SET last_activity = 'yesterday';
        UPDATE groups SET properties = '[1]';
        UPDATE spawners SET user_options = '{';
        UPDATE api_tokens SET scopes = '"all"';
        UPDATE shares SET scopes = replace(scopes, 'ada', 'who-she-was');
        INSERT INTO user_group_map (user_id, group_id) SELECT 999, id FROM groups;
        INSERT INTO users (name, admin, cookie_id) VALUES ('ADA', 0, 'x'), ('a/b', 0, 'y');
    """)
    connection.close()

    said = carry(tmp_path, sqlite_database, str(file), capsys=capsys)

    assert "2 people, 2 groups, 2 memberships, 3 servers, 5 tokens, 2 shares" in said
    with closing(sqlite3.connect(tmp_path / "himalia.sqlite")) as ours:
        assert ours.execute("SELECT DISTINCT scopes FROM api_tokens").fetchall() == [("[]",)]
    assert "user 'ADA': is called 'ada' here, as 'ada' already is" in said
    assert "user 'a/b': " in said


def test_importing_twice_makes_nothing_twice(
    tmp_path: Path,
    sqlite_database: str,
    theirs: tuple[Path, dict[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    carry(tmp_path, sqlite_database, str(theirs[0]), capsys=capsys)
    again = carry(tmp_path, sqlite_database, str(theirs[0]), capsys=capsys)
    assert "every row is here already" in again


@pytest.mark.parametrize("content", [None, b"", b"no database at all" * 100])
def test_what_is_no_jupyterhub_is_refused_by_name(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.sqlite"
    if content is not None:
        file.write_bytes(content)
    assert main(["import", "jupyterhub", str(file), "--data", str(tmp_path / "data")]) == 1
    assert "other.sqlite" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


CONFIG = """
import os
c = get_config()  # noqa
c.JupyterHub.bind_url = "http://:9000/team/"
c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
c.JupyterHub.ssl_key, c.JupyterHub.ssl_cert = "/etc/key.pem", "/etc/cert.pem"
c.JupyterHub.log_level = 10
c.JupyterHub.authenticate_prometheus = False
c.DockerSpawner.image = "team/notebook:3"
c.DockerSpawner.volumes = {"home-{username}": "/home/jovyan/work"}
c.DockerSpawner.remove = True
c.Spawner.environment = {"LANG": "C.UTF-8", 'A "B"': "1"}
c.Spawner.mem_limit = "2G"
c.Spawner.args.append("--debug")
c.Spawner.pre_spawn_hook = lambda spawner: None
c.Authenticator.admin_users = {"ada"}
c.ConfigurableHTTPProxy.auth_token = "very-secret"
"""


def test_settings_become_a_configuration_that_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, data = tmp_path / "jupyterhub_config.py", tmp_path / "data"
    script.write_text(CONFIG)

    assert main(["import", "jupyterhub", str(script), "--data", str(data)]) == 0

    settings = load(None, data, environ={}).settings
    assert (settings.proxy.ip, settings.proxy.port, settings.base_url) == ("0.0.0.0", 9000, "/team/")
    assert settings.proxy.args == ["--ssl-cert", "/etc/cert.pem", "--ssl-key", "/etc/key.pem"]
    assert (settings.spawner.kind, settings.spawner.image) == ("docker", "team/notebook:3")
    assert settings.spawner.docker["volumes"] == {"home-{user}": "/home/jovyan/work"}
    assert settings.spawner.environment == {"LANG": "C.UTF-8", 'A "B"': "1"}
    assert (settings.spawner.mem_limit, settings.log.level) == ("2G", "debug")
    assert not settings.servers.allow_named
    assert settings.hub.open_metrics
    said = capsys.readouterr().out
    for words in (
        "DockerSpawner.remove: no counterpart",
        "Spawner.pre_spawn_hook: code",
        "Spawner.args: it adds to a default",
        "Authenticator.admin_users: administrators",
    ):
        assert words in said
    assert "very-secret" not in said + (data / "himalia.toml").read_text()


PARTS = """
c.JupyterHub.custom_scopes = {"custom:grades:read": {"description": "read grades"}}
c.JupyterHub.services = [
    {"name": "cull", "command": ["culler", "--timeout=3600"], "environment": {"A": "1"}, "timeout": 9},
    {"name": "announcements", "url": "http://127.0.0.1:9001", "api_token": "very-secret-token"},
    {"name": "of ours", "url": "http://127.0.0.1:9002"},
]
c.JupyterHub.load_roles = [
    {"name": "cull", "scopes": ["list:users", "delete:servers"], "services": ["cull"]},
    {"name": "teachers", "scopes": ["custom:grades:read"], "groups": {"staff"}},
    {"name": "strange", "scopes": ["read:moon"]},
    {"name": "admin", "scopes": ["list:users"]},
]
"""


def test_services_and_roles_become_sections_and_the_database_does_not_ask_for_them_again(
    tmp_path: Path,
    sqlite_database: str,
    theirs: tuple[Path, dict[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    script, data = tmp_path / "jupyterhub_config.py", tmp_path / "data"
    script.write_text(PARTS)
    said = carry(tmp_path, sqlite_database, str(script), str(theirs[0]), capsys=capsys)

    settings = load(None, data, environ={}).settings
    assert [service.name for service in settings.services] == ["cull", "announcements"]
    assert settings.services[0].command == ["culler", "--timeout=3600"]
    assert {role.name: role.scopes for role in settings.roles} == {
        "cull": ["list:users", "delete:servers"],
        "teachers": ["custom:grades:read"],
    }
    for words in (
        "service 'cull': timeout has no counterpart",
        "service 'announcements': its api_token is a secret",
        "service 'of ours': name:",
        "role 'strange':",
        "role 'admin':",
    ):
        assert words in said
    assert "write it as" not in said
    assert "very-secret" not in said + (data / "himalia.toml").read_text()


def test_a_configuration_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script, data = tmp_path / "jupyterhub_config.py", tmp_path / "data"
    script.write_text("c.JupyterHub.port = 9000\n")
    data.mkdir()
    (data / "himalia.toml").write_text("# mine\n")
    assert main(["import", "jupyterhub", str(script), "--data", str(data)]) == 0
    assert (data / "himalia.toml").read_text() == "# mine\n"
    assert "port = 9000" in (data / "himalia.imported.toml").read_text()


def test_a_file_that_fails_is_refused_with_its_line(tmp_path: Path) -> None:
    script = tmp_path / "jupyterhub_config.py"
    script.write_text("c.JupyterHub.port = 1\nimport oauthenticator_of_nobody\n")
    with pytest.raises(
        BadRequest, match=r"line 2: ModuleNotFoundError: No module named 'oauthenticator_of_nobody'"
    ):
        config.read(script)


@pytest.mark.parametrize(
    "hashed", ["", "x", "md5:1:a:b", "sha512:many:a:b", "sha512:999999999:a:b", "sha512:1:a"]
)
def test_a_hash_of_another_shape_is_nobodys(hashed: str) -> None:
    assert not matches(hashed, "token")
