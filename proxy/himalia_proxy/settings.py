"""What a proxy process is told by its command line and environment, checked before anything is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from himalia_proxy.errors import BadTarget, StartError
from himalia_proxy.headers import Network
from himalia_proxy.options import parser
from himalia_proxy.target import Target, parse_target
from himalia_proxy.tls import CIPHERS, TlsFiles, Tuning, versions


@dataclass(frozen=True)
class ProxySettings:
    """Everything a proxy process is told. Times are in seconds, 0 for no limit."""

    ip: str = ""
    port: int = 8000
    socket: str | None = None
    api_ip: str = "localhost"
    api_port: int = 8001
    api_socket: str | None = None
    metrics_ip: str = ""
    metrics_port: int | None = None
    metrics_socket: str | None = None
    redirect_port: int | None = None
    redirect_to: int = 443
    auth_token: str | None = field(default=None, repr=False)
    tls: TlsFiles | None = None
    api_tls: TlsFiles | None = None
    client_tls: TlsFiles | None = None
    tuning: Tuning = field(default_factory=Tuning)
    default_target: str | None = None
    error_target: Target | None = None
    error_path: str | None = None
    follow: Target | None = None
    follow_hub: Target | None = None
    hub_token: str | None = field(default=None, repr=False)
    pid_file: str | None = None
    routes_file: str | None = None
    x_forward: bool = True
    prepend_path: bool = True
    include_prefix: bool = True
    change_origin: bool = False
    auto_rewrite: bool = False
    protocol_rewrite: str | None = None
    custom_headers: tuple[tuple[bytes, bytes], ...] = ()
    trust_forwarded: tuple[Network, ...] | None = None
    forwarded: bool = False
    insecure: bool = False
    host_routing: bool = False
    timeout_s: float = 0.0
    proxy_timeout_s: float = 0.0
    keep_alive_timeout_s: float = 5.0
    half_open_timeout_s: float = 60.0
    drain_timeout_s: float = 5.0
    tunnel_grace_s: float = 0.0
    workers: int = 1
    handover_socket: str | None = None
    handover_grace_s: float = 3600.0
    max_header_size: int = 65536
    max_body_size: int = 0
    max_connections_per_address: int = 0
    access_log: str | None = None
    login_cookie: str = "jupyterhub-session-id"
    log_level: str = "info"
    warnings: tuple[str, ...] = ()


_TIMES: Final = (
    "timeout",
    "proxy_timeout",
    "keep_alive_timeout",
    "half_open_timeout",
    "drain_timeout",
    "tunnel_grace",
    "handover_grace",
)


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> ProxySettings:
    """Settings from arguments and environment; StartError names what is wrong with them."""
    given = vars(parser().parse_args(argv))
    warnings: list[str] = []
    given |= _tls(given, environ, warnings)
    given |= _addresses(given, warnings)
    if given["error_path"] is not None and given["error_target"] is not None:
        raise StartError("--error-target and --error-path exclude each other.")
    for name in ("default_target", "error_target", "follow", "follow_hub"):
        if given[name] is not None:
            target = _target(given[name], f"--{name.replace('_', '-')}")
            given[name] = target.url if name == "default_target" else target
    if given["follow"] and given["follow_hub"]:
        raise StartError("--follow and --follow-hub exclude each other.")
    if given["workers"] < 1:
        raise StartError("--workers must be 1 or more.")
    given["custom_headers"] = tuple(_header(text) for text in given.pop("custom_header"))
    if given["trust_forwarded"] is not None:
        given["trust_forwarded"] = tuple(given["trust_forwarded"])
    backend = given.pop("storage_backend")
    if backend is not None:
        warnings.append(
            f"--storage-backend {backend!r} names a module of Node.js, which cannot be loaded here: "
            "routes are kept in memory. --routes-file FILE keeps them over a restart."
        )
    token = _token(environ)
    if token is None:
        warnings.append("CONFIGPROXY_AUTH_TOKEN is not set: whoever reaches the API can change the routes.")
    for name in _TIMES:
        given[f"{name}_s"] = given.pop(name) / 1000
    return ProxySettings(
        **given,
        auth_token=token,
        hub_token=environ.get("HIMALIA_HUB_TOKEN") or None,
        warnings=tuple(warnings),
    )


def _addresses(given: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    port, socket = given["port"], given["socket"]
    if socket is not None and (port is not None or given["ip"] is not None):
        raise StartError("--socket excludes --ip and --port: the public listener is one or the other.")
    if given["metrics_socket"] is not None and (given["metrics_port"] is not None or given["metrics_ip"]):
        raise StartError("--metrics-socket excludes --metrics-ip and --metrics-port.")
    found: dict[str, Any] = {"port": 8000 if port is None else port}
    for name in ("ip", "api_ip", "metrics_ip"):
        found[name] = given[name] or ""
        if found[name] == "*":
            option = f"--{name.replace('_', '-')}"
            warnings.append(f"{option} '*' is taken as all interfaces; give '' to say so.")
            found[name] = ""
    if given["api_port"] is None:
        found["api_port"] = 8001 if port is None or socket is not None else (port + 1 if port else 0)
    if given["redirect_port"] is not None and given["tls"] is None:
        raise StartError("--redirect-port needs --ssl-key and --ssl-cert: there is no https to redirect to.")
    if given["redirect_port"] is not None and socket is not None and given["redirect_to"] is None:
        raise StartError("--redirect-port with --socket needs --redirect-to: the https port is not known.")
    found["redirect_to"] = found["port"] if given["redirect_to"] is None else given["redirect_to"]
    return found


def _tls(given: dict[str, Any], environ: Mapping[str, str], warnings: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, prefix in (("tls", "ssl"), ("api_tls", "api_ssl"), ("client_tls", "client_ssl")):
        option = f"--{prefix.replace('_', '-')}"
        key, cert, ca, request, reject = (
            given.pop(f"{prefix}_{what}")
            for what in ("key", "cert", "ca", "request_cert", "reject_unauthorized")
        )
        if (key is None) != (cert is None):
            raise StartError(f"{option}-key and {option}-cert are needed together.")
        passphrase = environ.get(f"CONFIGPROXY_{prefix.upper()}_KEY_PASSPHRASE")
        files = TlsFiles(option, key, cert, ca, request, reject, passphrase)
        if name == "client_tls":
            found[name] = files if key or ca else None
            continue
        if key is None and (ca or request or reject):
            raise StartError(f"{option}-ca and the like need {option}-key and {option}-cert.")
        if reject and not request:
            warnings.append(
                f"{option}-reject-unauthorized does nothing without {option}-request-cert: no certificate is asked for."
            )
        found[name] = files if key else None
    if given.pop("ssl_allow_rc4"):
        warnings.append("--ssl-allow-rc4 does nothing: RC4 is broken, and OpenSSL has removed it.")
    protocol, ciphers = given.pop("ssl_protocol"), given.pop("ssl_ciphers")
    found["tuning"] = Tuning(versions(protocol or "tls"), ciphers or CIPHERS, given.pop("ssl_dhparam"))
    return found


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


def environ() -> Mapping[str, str]:
    """The process's environment; a function so that tests pass their own."""
    return os.environ
