"""The command line of a proxy process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from himalia_proxy.activity import iso, parse_time
from himalia_proxy.errors import StartError
from himalia_proxy.launch import proxy_argv
from himalia_proxy.settings import _FLAGS_NOT_DONE, _VALUES_NOT_DONE, read_settings

TOKEN = {"CONFIGPROXY_AUTH_TOKEN": "t"}


@pytest.mark.parametrize("option", _FLAGS_NOT_DONE + _VALUES_NOT_DONE)
def test_an_option_that_is_not_supported_ends_the_start_and_is_named(option: str) -> None:
    argv = [option] if option in _FLAGS_NOT_DONE else [option, "value"]
    with pytest.raises(StartError, match=f"^{option} is not supported"):
        read_settings(argv, TOKEN)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--prot", "8"], "--prot"),
        (["--port", "eight"], "eight"),
        (["--port", "70000"], "70000"),
        (["--socket", "/s", "--port", "1"], "--socket"),
        (["--error-path", "/e", "--error-target", "http://h"], "--error-path"),
        (["--error-target", "h"], "--error-target"),
        (["--default-target", "ftp://h"], "--default-target"),
        (["--custom-header", "novalue"], "novalue"),
        (["--ssl-key", "k"], "--ssl-cert"),
        (["--log-level", "loud"], "loud"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_option_is_named(argv: list[str], named: str) -> None:
    with pytest.raises(StartError, match=named):
        read_settings(argv, TOKEN)


@pytest.mark.parametrize(
    ("argv", "api_port"),
    [
        ([], 8001),
        (["--port", "9000"], 9001),
        (["--socket", "/s"], 8001),
        (["--port", "1", "--api-port", "7"], 7),
    ],
)
def test_the_api_port_follows_the_public_one(argv: list[str], api_port: int) -> None:
    assert read_settings(argv, TOKEN).api_port == api_port


def test_times_are_given_in_milliseconds() -> None:
    settings = read_settings(
        ["--timeout", "1500", "--proxy-timeout", "250", "--keep-alive-timeout", "9"], TOKEN
    )
    assert (settings.timeout_s, settings.proxy_timeout_s, settings.keep_alive_timeout_s) == (1.5, 0.25, 0.009)


def test_the_token_comes_from_one_place(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from file\n")
    by_file = {"CONFIGPROXY_AUTH_TOKEN_FILE": str(file)}

    assert read_settings([], by_file).auth_token == "from file"
    assert read_settings([], TOKEN).warnings == ()
    assert "CONFIGPROXY_AUTH_TOKEN" in read_settings([], {}).warnings[0]
    with pytest.raises(StartError, match="exclude"):
        read_settings([], by_file | TOKEN)
    with pytest.raises(StartError, match="cannot be read"):
        read_settings([], {"CONFIGPROXY_AUTH_TOKEN_FILE": str(tmp_path / "missing")})


def test_a_token_is_not_shown_with_the_settings() -> None:
    assert "secret" not in repr(read_settings([], {"CONFIGPROXY_AUTH_TOKEN": "secret"}))


def test_the_command_line_we_start_proxies_with_is_understood() -> None:
    argv = proxy_argv(
        ["himalia-proxy"], ip="127.0.0.1", port=8000, api_ip="127.0.0.1", api_port=8001,
        error_target="http://127.0.0.1:8081/hub/error", log_level="warning", extra=["--routes-file", "r.json"],
    )  # fmt: skip

    settings = read_settings(argv[1:], TOKEN)

    assert (settings.ip, settings.port, settings.api_ip, settings.api_port) == (
        "127.0.0.1",
        8000,
        "127.0.0.1",
        8001,
    )
    assert settings.error_target.path == b"/hub/error"
    assert (settings.log_level, settings.routes_file) == ("warn", "r.json")


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T10:00:00.000Z",
        "2026-11-23T11:00:00+01:00",
        "Mon, 23 Nov 2026 10:00:00 GMT",
        "2026-11-23T10:00",
    ],
)
def test_a_time_is_understood_in_the_forms_hubs_write(text: str) -> None:
    assert parse_time(text) == datetime(2026, 11, 23, 10, tzinfo=UTC).timestamp()


def test_a_time_is_written_to_the_millisecond_in_utc() -> None:
    assert iso(0.0625) == "1970-01-01T00:00:00.062Z"
    assert iso(1) == "1970-01-01T00:00:01.000Z"
