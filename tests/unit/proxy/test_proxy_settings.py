"""The command line of a proxy process."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from himalia_proxy.activity import iso, parse_time
from himalia_proxy.errors import StartError
from himalia_proxy.launch import proxy_argv
from himalia_proxy.options import parser
from himalia_proxy.settings import read_settings
from himalia_proxy.tls import TlsFiles

TOKEN = {"CONFIGPROXY_AUTH_TOKEN": "t"}


EVERY_OPTION = """--ip 127.0.0.1 --port 1 --ssl-key k --ssl-cert c --ssl-ca a --ssl-request-cert --ssl-reject-unauthorized
--ssl-protocol TLSv1_2 --ssl-ciphers HIGH --ssl-allow-rc4 --ssl-dhparam d --api-ip i --api-port 2 --api-ssl-key k
--api-ssl-cert c --api-ssl-ca a --api-ssl-request-cert --api-ssl-reject-unauthorized --client-ssl-key k
--client-ssl-cert c --client-ssl-ca a --client-ssl-request-cert --client-ssl-reject-unauthorized
--default-target http://h --error-target http://h --redirect-port 3 --redirect-to 4 --pid-file p --no-x-forward
--no-prepend-path --no-include-prefix --auto-rewrite --change-origin --protocol-rewrite https --custom-header a:b
--insecure --host-routing --metrics-ip m --metrics-port 5 --log-level info --timeout 6 --proxy-timeout 7
--storage-backend s --keep-alive-timeout 8"""


def test_every_option_of_the_official_proxy_is_accepted() -> None:
    settings = read_settings(EVERY_OPTION.split(), TOKEN)

    assert settings.tls == TlsFiles("--ssl", "k", "c", "a", request_cert=True, reject_unauthorized=True)
    assert (settings.redirect_port, settings.redirect_to, settings.metrics_port) == (3, 4, 5)
    assert (settings.auto_rewrite, settings.protocol_rewrite) == (True, "https")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--storage-backend", "redis-store"], "'redis-store'.*--routes-file"),
        (["--ssl-allow-rc4"], "RC4 is broken"),
        (["--ip", "*"], "all interfaces"),
        (["--ssl-key", "k", "--ssl-cert", "c", "--ssl-reject-unauthorized"], "--ssl-request-cert"),
    ],
)
def test_an_option_without_effect_says_so(argv: list[str], said: str) -> None:
    (warning,) = read_settings(argv, TOKEN).warnings
    assert re.search(said, warning)


@pytest.mark.parametrize("name", ["TLSv1_2", "TLSv1.2", "TLSv1_2_method"])
def test_a_protocol_is_named_as_openssl_does(name: str) -> None:
    only = ssl.TLSVersion.TLSv1_2
    assert read_settings(["--ssl-protocol", name], TOKEN).tuning.versions == (only, only)


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
        (["--api-ssl-cert", "c"], "--api-ssl-key"),
        (["--ssl-ca", "a"], "--ssl-key"),
        (["--ssl-protocol", "SSLv3"], "'SSLv3' is not spoken"),
        (["--redirect-port", "80"], "--redirect-port needs --ssl-key"),
        (["--metrics-port", "1", "--metrics-socket", "/m"], "--metrics-socket excludes"),
        (["--protocol-rewrite", "gopher"], "gopher"),
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


def test_the_reference_page_names_every_option() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "proxy.md").read_text()
    options = {option for action in parser()._actions for option in action.option_strings if option != "-h"}
    assert [option for option in sorted(options) if f"`{option}" not in page] == []
