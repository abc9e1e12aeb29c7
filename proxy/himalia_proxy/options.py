"""The command line: all options of configurable-http-proxy 5.3, and ours. Reading it is settings.py's work."""

from __future__ import annotations

import argparse
from importlib import metadata
from ipaddress import ip_network
from typing import Any, Final, NoReturn

from himalia_proxy.errors import StartError
from himalia_proxy.headers import Network

LOG_LEVELS: Final = ("debug", "info", "warn", "error")
_HIDDEN: Final = argparse.SUPPRESS


class Parser(argparse.ArgumentParser):
    """Raises StartError for what it does not understand."""

    def error(self, message: str) -> NoReturn:
        """End the start."""
        raise StartError(f"{message}. `--help` lists the options.")


def parser() -> Parser:
    """All options; none has effects of its own."""
    made = Parser(
        prog="himalia proxy",
        description="Routes requests to servers by their path. The options are configurable-http-proxy's and more.",
        allow_abbrev=False,
    )
    _listeners(made.add_argument_group("listeners"))
    _tls(made.add_argument_group("TLS (files are read again when they change, and on SIGHUP)"))
    _routing(made.add_argument_group("routing"))
    _forwarding(made.add_argument_group("forwarding"))
    _limits(made.add_argument_group("limits"))
    _process(made.add_argument_group("process"))
    return made


def _listeners(group: Any) -> None:
    add = group.add_argument
    add("--ip", help="address of the public listener; all interfaces if left out")
    add("--port", type=_port, help="port of the public listener (8000)")
    add("--socket", metavar="PATH", help="unix socket of the public listener, instead of --ip and --port")
    add("--api-ip", default="localhost", help="address of the API listener (localhost)")
    add("--api-port", type=_port, help="port of the API listener (--port + 1)")
    add("--api-socket", metavar="PATH", help="unix socket of the API listener")
    add("--metrics-ip", default="", help="address of the metrics listener; all interfaces if left out")
    add("--metrics-port", type=_port, help="port of /metrics for Prometheus; none if left out")
    add("--metrics-socket", metavar="PATH", help="unix socket of the metrics listener")
    add(
        "--redirect-port",
        type=_port,
        metavar="PORT",
        help="port of plain http whose requests are sent to https",
    )
    add("--redirect-to", type=_port, metavar="PORT", help="the https port they are sent to (--port)")


def _tls(group: Any) -> None:
    add = group.add_argument
    for prefix, whose in (("", "public"), ("api-", "API"), ("client-", "https targets'")):
        side = "side" if prefix == "client-" else "listener"
        add(f"--{prefix}ssl-key", metavar="FILE", help=f"key, {whose} {side}")
        add(f"--{prefix}ssl-cert", metavar="FILE", help=f"certificate chain, {whose} {side}")
        add(f"--{prefix}ssl-ca", metavar="FILE", help=f"certificates that are trusted, {whose} {side}")
        asked = _HIDDEN if prefix == "client-" else "ask clients for a certificate"
        add(f"--{prefix}ssl-request-cert", action="store_true", help=asked)
        must = _HIDDEN if prefix == "client-" else "refuse clients without a good one"
        add(f"--{prefix}ssl-reject-unauthorized", action="store_true", help=must)
    add("--ssl-protocol", metavar="NAME", help="TLSv1_2 or TLSv1_3; both if left out")
    add("--ssl-ciphers", metavar="LIST", help="ciphers of TLS 1.2, as OpenSSL names them")
    add("--ssl-dhparam", metavar="FILE", help="Diffie-Hellman parameters")
    add("--ssl-allow-rc4", action="store_true", help=_HIDDEN)
    add("--insecure", action="store_true", help="do not verify https targets")


def _routing(group: Any) -> None:
    add = group.add_argument
    add("--default-target", metavar="URL", help="target of the route / at start")
    add("--error-target", metavar="URL", help="who makes error pages: GET URL/CODE?url=…")
    add("--error-path", metavar="DIR", help="folder with CODE.html or error.html")
    add("--host-routing", action="store_true", help="routes begin with a host name")
    add("--no-prepend-path", dest="prepend_path", action="store_false", help="leave the target's path out")
    add("--no-include-prefix", dest="include_prefix", action="store_false", help="cut the route's prefix off")
    add("--routes-file", metavar="FILE", help="keep the routes in this file over a restart")
    lead = "serve by the table of the proxy whose API is there, and let it know what is used"
    add("--follow", metavar="URL", help=lead)
    hub = "the same of a hub whose REST API is there, such as http://10.0.0.5:8081/hub/api"
    add("--follow-hub", metavar="URL", help=hub)
    add("--storage-backend", metavar="MODULE", help=_HIDDEN)


def _forwarding(group: Any) -> None:
    add = group.add_argument
    add("--no-x-forward", dest="x_forward", action="store_false", help="add no X-Forwarded-* headers")
    whose = "address or network of proxies in front, whose X-Forwarded-* are passed on; others' are dropped; repeatable"
    add("--trust-forwarded", action="append", type=_network, metavar="NETWORK", help=whose)
    add("--forwarded", action="store_true", help="add a Forwarded header (RFC 7239)")
    add("--change-origin", action="store_true", help="send the target's Host instead of the client's")
    add(
        "--auto-rewrite",
        action="store_true",
        help="redirects to the target's host name the client's Host instead",
    )
    add("--protocol-rewrite", choices=("http", "https"), help="scheme of redirects to the target's host")
    header = "send this header; repeatable"
    add("--custom-header", action="append", default=[], metavar="NAME:VALUE", help=header)


def _limits(group: Any) -> None:
    add = group.add_argument
    silent = "silence of a client during a request (no limit)"
    add("--timeout", type=_milliseconds, default=0, metavar="MS", help=silent)
    late = "silence of a target before it answers (no limit)"
    add("--proxy-timeout", type=_milliseconds, default=0, metavar="MS", help=late)
    idle = "idle client connections (5000)"
    add("--keep-alive-timeout", type=_milliseconds, default=5000, metavar="MS", help=idle)
    vanished = "connections whose peer has vanished are dropped within about this time (60000; 0: never)"
    add("--half-open-timeout", type=_milliseconds, default=60000, metavar="MS", help=vanished)
    add("--max-header-size", type=_bytes, default=65536, metavar="BYTES", help="largest request head (65536)")
    add("--max-body-size", type=_bytes, default=0, metavar="BYTES", help="largest request body (0: no limit)")
    each = "connections one address may have at a time (0: no limit); not behind another proxy"
    add("--max-connections-per-address", type=_count, default=0, metavar="N", help=each)


def _process(group: Any) -> None:
    add = group.add_argument
    add("--pid-file", metavar="FILE", help="where to write the process id")
    several = "processes that serve clients; with more than one, another holds table and API (1)"
    add("--workers", type=_count, default=1, metavar="N", help=several)
    over = "unix socket by which a new proxy takes over from a running one, nobody refused"
    add("--handover-socket", metavar="PATH", help=over)
    after = "how long a proxy that was replaced leaves its tunnels open (3600000)"
    add("--handover-grace", type=_milliseconds, default=3_600_000, metavar="MS", help=after)
    drain = "how long a stop waits for requests (5000)"
    add("--drain-timeout", type=_milliseconds, default=5000, metavar="MS", help=drain)
    grace = "how long a stop leaves tunnels open (0)"
    add("--tunnel-grace", type=_milliseconds, default=0, metavar="MS", help=grace)
    add("--access-log", metavar="FILE", help="a line of JSON for each request; '-' is standard output")
    cookie = "cookie that names a login, by which tunnels can be cut (jupyterhub-session-id)"
    add("--login-cookie", default="jupyterhub-session-id", metavar="NAME", help=cookie)
    add("--log-level", type=str.lower, choices=LOG_LEVELS, default="info")
    add("--version", action="version", version=f"himalia {_version()}")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number")
    return int(text)


def _milliseconds(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds")
    return int(text)


def _network(text: str) -> Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no address or network, such as 10.0.0.0/8") from None


def _bytes(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def _version() -> str:
    try:
        return metadata.version("himalia")
    except metadata.PackageNotFoundError:
        return "(from sources)"
