"""The command line and environment of configurable-http-proxy, as far as they are spoken here."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from himalia_proxy.errors import BadTarget, StartError
from himalia_proxy.target import Target, parse_target

LOG_LEVELS: Final = ("debug", "info", "warn", "error")

# Known to configurable-http-proxy, not done here. Passing one over in silence could open what an
# administrator meant to be closed, so each of them ends the start.
_FLAGS_NOT_DONE: Final = (
    "--ssl-request-cert",
    "--ssl-reject-unauthorized",
    "--ssl-allow-rc4",
    "--api-ssl-request-cert",
    "--api-ssl-reject-unauthorized",
    "--client-ssl-request-cert",
    "--client-ssl-reject-unauthorized",
    "--auto-rewrite",
)
_VALUES_NOT_DONE: Final = (
    "--ssl-ca",
    "--ssl-protocol",
    "--ssl-ciphers",
    "--ssl-dhparam",
    "--api-ssl-key",
    "--api-ssl-cert",
    "--api-ssl-ca",
    "--client-ssl-key",
    "--client-ssl-cert",
    "--client-ssl-ca",
    "--redirect-port",
    "--redirect-to",
    "--protocol-rewrite",
    "--metrics-ip",
    "--metrics-port",
    "--metrics-socket",
    "--storage-backend",
)


@dataclass(frozen=True)
class ProxySettings:
    """Everything a proxy process is told. Times are in seconds, 0 for no limit."""

    ip: str = ""
    port: int = 8000
    socket: str | None = None
    api_ip: str = "localhost"
    api_port: int = 8001
    api_socket: str | None = None
    auth_token: str | None = field(default=None, repr=False)
    ssl_key: str | None = None
    ssl_cert: str | None = None
    default_target: str | None = None
    error_target: Target | None = None
    error_path: str | None = None
    pid_file: str | None = None
    routes_file: str | None = None
    x_forward: bool = True
    prepend_path: bool = True
    include_prefix: bool = True
    change_origin: bool = False
    custom_headers: tuple[tuple[bytes, bytes], ...] = ()
    insecure: bool = False
    host_routing: bool = False
    timeout_s: float = 0.0
    proxy_timeout_s: float = 0.0
    keep_alive_timeout_s: float = 5.0
    log_level: str = "info"
    warnings: tuple[str, ...] = ()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StartError(f"{message}. `--help` lists the options.")


class _NotDone(argparse.Action):
    def __call__(
        self, parser: object, namespace: object, values: object, option_string: str | None = None
    ) -> None:
        raise StartError(
            f"{option_string} is not supported by this proxy yet: leave it out, "
            "or use configurable-http-proxy."
        )


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> ProxySettings:
    """Settings from arguments and environment; StartError names what is wrong with them."""
    given = vars(_parser().parse_args(argv))
    warnings: list[str] = []
    port, socket = given.pop("port"), given["socket"]
    if socket is not None and (port is not None or given["ip"] is not None):
        raise StartError("--socket excludes --ip and --port: the public listener is one or the other.")
    if given["ip"] == "*":
        warnings.append("--ip '*' is taken as all interfaces; leave the option out to say so.")
        given["ip"] = ""
    if given["error_path"] is not None and given["error_target"] is not None:
        raise StartError("--error-target and --error-path exclude each other.")
    if (given["ssl_key"] is None) != (given["ssl_cert"] is None):
        raise StartError("--ssl-key and --ssl-cert are needed together.")
    given["port"] = 8000 if port is None else port
    if given["api_port"] is None:
        given["api_port"] = 8001 if port is None or socket is not None else (port + 1 if port else 0)
    for name, source in (("default_target", "--default-target"), ("error_target", "--error-target")):
        if given[name] is not None:
            target = _target(given[name], source)
            given[name] = target if name == "error_target" else target.url
    given["ip"] = given["ip"] or ""
    given["custom_headers"] = tuple(_header(text) for text in given.pop("custom_header"))
    token = _token(environ)
    if token is None:
        warnings.append("CONFIGPROXY_AUTH_TOKEN is not set: whoever reaches the API can change the routes.")
    for name in ("timeout", "proxy_timeout", "keep_alive_timeout"):
        given[f"{name}_s"] = given.pop(name) / 1000
    return ProxySettings(**given, auth_token=token, warnings=tuple(warnings))


def _token(environ: Mapping[str, str]) -> str | None:
    direct, path = environ.get("CONFIGPROXY_AUTH_TOKEN"), environ.get("CONFIGPROXY_AUTH_TOKEN_FILE")
    if direct and path:
        raise StartError("CONFIGPROXY_AUTH_TOKEN and CONFIGPROXY_AUTH_TOKEN_FILE exclude each other.")
    if not path:
        return direct or None
    try:
        with open(path, encoding="ascii") as file:
            token = file.read().strip()
    except (OSError, ValueError) as error:
        raise StartError(f"CONFIGPROXY_AUTH_TOKEN_FILE cannot be read: {error}") from None
    if not token:
        raise StartError(f"CONFIGPROXY_AUTH_TOKEN_FILE names an empty file: {path}")
    return token


def _target(url: str, option: str) -> Target:
    try:
        return parse_target(url)
    except BadTarget as error:
        raise StartError(f"{option}: {error}.") from None


def _header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or any(letter in text for letter in "\r\n\0"):
        raise StartError(f"--custom-header {text!r} must be NAME:VALUE.")
    return name.strip().encode("latin-1", "replace"), value.strip().encode("latin-1", "replace")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number")
    return int(text)


def _milliseconds(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds")
    return int(text)


def _parser() -> _Parser:
    parser = _Parser(
        prog="himalia_proxy",
        description="Routes requests to servers by their path. The options are configurable-http-proxy's.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--ip", help="address of the public listener; all interfaces if left out")
    add("--port", type=_port, help="port of the public listener (8000)")
    add("--socket", metavar="PATH", help="unix socket of the public listener, instead of --ip and --port")
    add("--api-ip", default="localhost", help="address of the API listener (localhost)")
    add("--api-port", type=_port, help="port of the API listener (--port + 1)")
    add("--api-socket", metavar="PATH", help="unix socket of the API listener")
    add("--ssl-key", metavar="FILE", help="key of the public listener")
    add("--ssl-cert", metavar="FILE", help="certificate chain of the public listener")
    add("--default-target", metavar="URL", help="target of the route / at start")
    add("--error-target", metavar="URL", help="who makes error pages: GET URL/CODE?url=…")
    add("--error-path", metavar="DIR", help="folder with CODE.html or error.html")
    add("--pid-file", metavar="FILE", help="where to write the process id")
    add("--routes-file", metavar="FILE", help="keep the routes in this file over a restart")
    add("--no-x-forward", dest="x_forward", action="store_false", help="add no X-Forwarded-* headers")
    add("--no-prepend-path", dest="prepend_path", action="store_false", help="leave the target's path out")
    add("--no-include-prefix", dest="include_prefix", action="store_false", help="cut the route's prefix off")
    add("--change-origin", action="store_true", help="send the target's Host instead of the client's")
    add(
        "--custom-header",
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="send this header; repeatable",
    )
    add("--insecure", action="store_true", help="do not verify https targets")
    add("--host-routing", action="store_true", help="routes begin with a host name")
    add("--timeout", type=_milliseconds, default=0, metavar="MS", help="silence of a client during a request")
    add(
        "--proxy-timeout",
        type=_milliseconds,
        default=0,
        metavar="MS",
        help="silence of a target before it answers",
    )
    add(
        "--keep-alive-timeout", type=_milliseconds, default=5000, metavar="MS", help="idle client connections"
    )
    add("--log-level", choices=LOG_LEVELS, default="info")
    add("--version", action="version", version=_version())
    for option in _FLAGS_NOT_DONE:
        add(option, nargs=0, action=_NotDone, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for option in _VALUES_NOT_DONE:
        add(option, action=_NotDone, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _version() -> str:
    return "himalia_proxy 0.1.0"


def environ() -> Mapping[str, str]:
    """The process's environment; a function so that tests pass their own."""
    return os.environ
