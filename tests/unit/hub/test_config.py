"""The configuration: who wins, what is refused, and how it is told."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from himalia_hub import config
from himalia_hub.errors import ConfigError
from himalia_hub.settings import address_of


def write(folder: Path, text: str, name: str = "himalia.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file


def problems(error: ConfigError) -> list[str]:
    return [line.strip() for line in str(error).splitlines()[1:]]


def test_file_then_environment_then_command_line(tmp_path: Path) -> None:
    file = write(tmp_path, "[proxy]\nip = '10.0.0.1'\nport = 1001\napi_port = 1002\n")
    environ = {"HIMALIA_PROXY__PORT": "2001", "HIMALIA_PROXY__API_PORT": "2002"}

    loaded = config.load(file, tmp_path, {"proxy.api_port": "3002"}, environ=environ)

    assert (loaded.settings.proxy.ip, loaded.settings.proxy.port, loaded.settings.proxy.api_port) == (
        "10.0.0.1",
        2001,
        3002,
    )
    assert loaded.source("proxy.ip") == f"file {file}"
    assert loaded.source("proxy.port") == "environment HIMALIA_PROXY__PORT"
    assert loaded.source("proxy.api_port") == "--proxy.api_port"
    assert loaded.source("proxy.start") == "default"
    assert loaded.source("data_dir") == "--data"


def test_every_problem_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    """CVE-2020-26250: a setting by its older name was passed over, and everybody let in."""
    file = write(tmp_path, "[spawner]\nkindd = 'x'\nstart_timeout_s = -1\n[log]\nlevel = 'loud'\n")
    environ = {"HIMALIA_PROXY__PORT": "many", "HIMALIA_SPWANER__KIND": "y"}

    with pytest.raises(ConfigError) as caught:
        config.load(file, tmp_path, {"hub.prot": "1"}, environ=environ)

    told = problems(caught.value)
    assert str(caught.value).startswith("6 problems in the configuration:")
    assert f"spawner.kindd (file {file}): unknown key; did you mean spawner.kind?" in told
    assert "spwaner.kind (environment HIMALIA_SPWANER__KIND): unknown key; did you mean spawner.kind?" in told
    assert "hub.prot (--hub.prot): unknown key; did you mean hub.port?" in told
    assert any(line.startswith(f"spawner.start_timeout_s (file {file}): -1: ") for line in told)
    assert any(line.startswith("proxy.port (environment HIMALIA_PROXY__PORT): 'many': ") for line in told)
    assert any(line.startswith(f"log.level (file {file}): 'loud': ") for line in told)


def test_a_key_in_the_wrong_table_is_led_to_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean servers.active_limit\?"):
        config.load(write(tmp_path, "active_limit = 3\n"), tmp_path, environ={})


def test_the_file_in_the_data_folder_is_found(tmp_path: Path) -> None:
    write(tmp_path, "[proxy]\nport = 9000\n")

    assert config.load(data_dir=tmp_path, environ={}).settings.proxy.port == 9000
    by_name = config.load(environ={"HIMALIA_DATA_DIR": str(tmp_path)})
    assert (by_name.settings.proxy.port, by_name.settings.data_dir) == (9000, tmp_path)
    assert config.load(write(tmp_path, "", "other.toml"), tmp_path, environ={}).settings.proxy.port == 8000


def test_the_file_in_the_data_folder_cannot_name_another_folder(tmp_path: Path) -> None:
    write(tmp_path, "data_dir = '/elsewhere'\n")

    with pytest.raises(ConfigError, match=r"data_dir .*'/elsewhere' is not the folder"):
        config.load(data_dir=tmp_path, environ={})


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    loaded = config.load(data_dir=tmp_path / "none", environ={"PATH": "/bin", "HIMALIA_LISTEN_FD": "3"})

    assert (loaded.file, loaded.settings.proxy.port) == (None, 8000)


@pytest.mark.parametrize(
    ("text", "told"),
    [("a = = 1", "is not valid TOML"), (None, "cannot be read: No such file or directory")],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, told: str) -> None:
    file = tmp_path / "named.toml"
    if text is not None:
        file.write_text(text)

    with pytest.raises(ConfigError, match=f"{file} {told}"):
        config.load(file, environ={})


def test_a_data_folder_that_may_not_be_entered_is_named(tmp_path: Path, monkeypatch) -> None:
    lstat = Path.lstat

    def refuse(path: Path) -> os.stat_result:
        if path.is_relative_to(tmp_path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(ConfigError) as caught:
        config.load(data_dir=tmp_path, environ={})

    [line] = problems(caught.value)
    assert line.startswith(
        f"{tmp_path / 'himalia.toml'} cannot be looked for: Permission denied; be the owner of"
    )


def test_paths_in_a_file_start_at_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "etc", "data_dir = '../data'\n[hub]\nsecret_file = 'secret'\n")

    settings = config.load(file, environ={}).settings

    assert settings.hub.secret_file == tmp_path / "etc" / "secret"
    assert settings.data_dir.resolve() == tmp_path / "data"


def test_lists_and_tables_can_be_given_as_text(tmp_path: Path) -> None:
    environ = {
        "HIMALIA_SPAWNER__COMMAND": '["a", "b c"]',
        "HIMALIA_SPAWNER__ENVIRONMENT__LANG": "C.UTF-8",
        "HIMALIA_SPAWNER__PROCESS__UMASK": "027",
        "HIMALIA_SPAWNER__PROCESS__ENVIRONMENT__TZ": "UTC",
        "HIMALIA_DB__URL": "",
        "HIMALIA_AUTH__SECURE_COOKIES": "yes",
    }

    spawner = (
        loaded := config.load(data_dir=tmp_path, overrides={"spawner.args": "--x 'y z'"}, environ=environ)
    ).settings.spawner

    assert spawner.command == ["a", "b c"]
    assert spawner.args == ["--x", "y z"]
    assert spawner.environment == {"LANG": "C.UTF-8"}
    assert spawner.process == {"umask": "027", "environment": {"TZ": "UTC"}}
    assert loaded.settings.db.url is None
    assert loaded.settings.auth.secure_cookies is True


def test_a_table_as_json_replaces_the_whole_table(tmp_path: Path) -> None:
    file = write(tmp_path, "[spawner.environment]\nA = '1'\n")

    loaded = config.load(file, environ={"HIMALIA_SPAWNER__ENVIRONMENT": '{"B": "2"}'})

    assert loaded.settings.spawner.environment == {"B": "2"}
    assert loaded.source("spawner.environment") == "environment HIMALIA_SPAWNER__ENVIRONMENT"


def test_names_with_dots_are_names_in_a_free_table(tmp_path: Path) -> None:
    file = write(tmp_path, "[spawner.environment]\n'a.b' = '1'\n")

    assert config.load(file, environ={}).settings.spawner.environment == {"a.b": "1"}


@pytest.mark.parametrize(
    "text",
    ["[db]\nurl = ['postgresql://ann:hunter2@h/d']\n", "db = 'postgresql://ann:hunter2@h/d'\n"],
)
def test_a_secret_is_never_part_of_a_message(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="db") as caught:
        config.load(write(tmp_path, text), environ={})

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("public_url = 'hub.example.org'\n", "public_url .*: 'hub.example.org' must begin with http"),
        ("[hub]\nconnect_url = '10.0.0.1:81'\n", "hub.connect_url .*: '10.0.0.1:81' must begin with http"),
        ("[proxy]\nport = true\n", "proxy.port .*: True is no number"),
        ("[[profiles]]\nname = 'Big'\n", "profiles.0.name .*: 'Big': does not fit; its name .*: a-z"),
        (
            "[[roles]]\nname = 'all'\nscopes = ['read:user']\n",
            "roles: all: .*'read:user'; did you mean 'read:users'",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(write(tmp_path, text), environ={})

    [line] = problems(caught.value)
    assert re.match(told, line)


@pytest.mark.parametrize(
    "key", ["api_token = 'hunter2'", "environment = { A = ['hunter2'] }", "nme = 'hunter2'"]
)
def test_a_secret_in_a_list_of_tables_is_never_part_of_a_message(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=r"services\.0\.") as caught:
        config.load(write(tmp_path, f"[[services]]\n{key}\n"), environ={})

    assert "hunter2" not in str(caught.value)


def test_a_value_and_a_table_under_one_name_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, "hub = 3\n")

    with pytest.raises(ConfigError, match=r"hub.port \(--hub.port\): 'hub' is already a value"):
        config.load(file, overrides={"hub.port": "1"}, environ={})


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("db.url", True),
        ("proxy.auth_token", True),
        ("proxy.port", False),
        ("spawner.environment.API_TOKEN", True),
        ("spawner.environment.LANG", False),
    ],
)
def test_secrets_are_known_by_type_or_by_name(key: str, secret: bool) -> None:
    assert config.is_secret(key) is secret


@pytest.mark.parametrize(
    "text",
    ["", "8081", "somewhere:8081", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:70000", "10.0.0.1:x"],
)
def test_a_further_address_that_cannot_be_listened_on_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "himalia.toml"
    file.write_text(f"[hub]\nalso_listen = [{text!r}]\n")
    with pytest.raises(ConfigError) as refused:
        config.load(file, tmp_path, environ={})
    assert repr(text) in str(refused.value)
    assert "also_listen" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "address"), [("172.17.0.1:8081", ("172.17.0.1", 8081)), ("[::1]:80", ("::1", 80))]
)
def test_an_address_is_an_ip_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert address_of(text) == address
