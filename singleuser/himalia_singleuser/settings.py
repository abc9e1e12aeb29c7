"""What the server was told at its start: command line, then the JUPYTERHUB_* environment.

A plain dataclass and argparse, because this process exists a thousand times and every import counts.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from himalia_singleuser.environ import (
    SettingsError,
    descriptor,
    json_list,
    json_object,
    mode,
    number,
    switch,
)
from himalia_singleuser.options import (
    HEARTBEAT_S,
    KEEP_KERNELS_S,
    PASSWORD_NAME,
    PING_S,
    SPARE_KERNEL_S,
    no_arguments,
    parser,
)

LONGEST_S = 10e6


@dataclass(frozen=True, slots=True)
class HubSettings:
    """How to reach and obey the hub that started this server (JUPYTERHUB_* contract)."""

    api_url: str
    """How to reach the hub's API, `http(s)://…/hub/api`; over `api_socket` its host means nothing."""
    api_token: str = field(repr=False)
    base_url: str
    client_id: str
    user: str
    server_name: str = ""
    host: str = ""
    public_url: str = ""
    public_hub_url: str = ""
    activity_url: str = ""
    api_socket: str = ""
    """A unix socket to the hub; empty: by its address."""
    activity_interval_s: float = 300.0
    busy_kernels_count: bool = True
    oauth_callback_url: str = ""
    access_scopes: tuple[str, ...] = ()
    token_in_url: bool = False
    """Whether `?token=` signs a browser in, as links of programs that start servers have it."""
    cookie_host_prefix: bool = False
    cookie_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """Where the hub's own pages are, as the browser sees them; ends with a slash."""
        if self.public_hub_url:
            return self.public_hub_url.rstrip("/") + "/"
        return f"{self.host}{self.base_url}hub/"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a feature may want to know. `base_url` begins and ends with a slash."""

    root_dir: Path
    base_url: str = "/"
    default_url: str = "/lab"
    token: str = field(default="", repr=False)
    token_was_given: bool = False
    password_file: Path | None = None
    ip: str = "127.0.0.1"
    port: int = 8888
    port_was_given: bool = False
    socket: str = ""
    listen_fd: int | None = None
    lock_fd: int | None = None
    socket_mode: int = 0o700
    home_lock: Path | None = None
    hub: HubSettings | None = None
    runtime_dir: Path = Path("/tmp")
    data_dir: Path = Path("~/.local/share/jupyter")
    config_dir: Path = Path("~/.jupyter")
    cache_dir: Path = Path("~/.cache")
    data_path: tuple[Path, ...] = ()
    config_path: tuple[Path, ...] = ()
    allow_hidden: bool = False
    delete_to_trash: bool = True
    always_delete_dir: bool = False
    follow_symlinks: bool = False
    clear_outputs_on_save: bool = False
    allow_origin: str = ""
    allow_origin_pat: str = ""
    allow_remote_access: bool = False
    terminals: bool = True
    terminal_shell: tuple[str, ...] = ()
    stop_grace_s: float = 5.0
    spare_kernel_s: float = 0.0
    """How long a kernel is kept ready for the next notebook; 0: none is."""
    heartbeat_s: float = HEARTBEAT_S
    """A kernel without a heartbeat for so long is shown as not answering; 0: none is watched."""
    ping_s: float = PING_S
    """How often a WebSocket is asked for a sign of life; one that gives none five times as long is closed."""
    cull_kernels_s: float = 0.0
    """After so long without work a kernel is ended; 0: none is. `cull_connected`: also one that a page shows."""
    cull_connected: bool = False
    cull_busy: bool = False
    cull_terminals_s: float = 0.0
    stop_when_idle_s: float = 0.0
    """After so long without a request, a kernel or a terminal this server ends itself; 0: it never does."""
    keep_kernels_s: float = 0.0
    """How long kernels outlive a server that is killed, counted from when they are idle; 0: they end with it."""
    set_password: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    @staticmethod
    def looks_every_s(limit_s: float) -> float:
        """How often it is looked whether something has been idle for `limit_s`: at most half as much too late."""
        return min(300.0, max(limit_s / 2, 0.1)) if limit_s else 300.0


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Settings from the command line over the environment; SettingsError when they make no sense."""
    args = parser().parse_args(argv) if argv else no_arguments()
    hub = None if args.set_password else _hub_settings(environ)
    ip, port, socket = _address(args, environ, hub)
    base_url = args.base_url or environ.get("JUPYTERHUB_SERVICE_PREFIX", "/")
    home = Path(environ.get("HOME") or Path.home())
    data_dir = Path(
        environ.get("JUPYTER_DATA_DIR")
        or Path(environ.get("XDG_DATA_HOME") or home / ".local/share") / "jupyter"
    )
    config_dir = Path(environ.get("JUPYTER_CONFIG_DIR") or home / ".jupyter")
    real_home = Path(environ.get("HIMALIA_REAL_HOME") or home)
    token = args.token if args.token is not None else environ.get("JUPYTER_TOKEN", "")
    return Settings(
        root_dir=_root_dir(args.root or environ.get("JUPYTERHUB_ROOT_DIR") or ".", real_home),
        base_url=normal_base_url(base_url),
        default_url=_default_url(args, environ),
        # Behind a hub nobody needs a token of this server's own: the hub says who may enter.
        token=token or ("" if hub else secrets.token_hex(24)),
        token_was_given=bool(token),
        password_file=None if hub else _password_file(args, config_dir),
        ip=ip,
        port=port,
        port_was_given=args.port is not None or hub is not None,
        socket=socket,
        listen_fd=descriptor(environ, "HIMALIA_LISTEN_FD"),
        lock_fd=descriptor(environ, "HIMALIA_LOCK_FD"),
        socket_mode=mode(environ, "HIMALIA_SOCKET_MODE"),
        home_lock=Path(environ["HIMALIA_HOME_LOCK"]) if environ.get("HIMALIA_HOME_LOCK") else None,
        hub=hub,
        runtime_dir=Path(environ.get("JUPYTER_RUNTIME_DIR") or data_dir / "runtime"),
        data_dir=data_dir,
        config_dir=config_dir,
        cache_dir=Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "himalia",
        data_path=_search_path(environ.get("JUPYTER_PATH", ""), data_dir, "share/jupyter"),
        config_path=_search_path(environ.get("JUPYTER_CONFIG_PATH", ""), config_dir, "etc/jupyter"),
        allow_hidden=args.allow_hidden,
        delete_to_trash=not args.no_trash,
        clear_outputs_on_save=args.clear_outputs_on_save or switch(environ, "HIMALIA_CLEAR_OUTPUTS_ON_SAVE"),
        allow_origin=args.allow_origin,
        allow_origin_pat=_pattern(args.allow_origin_pat),
        allow_remote_access=hub is not None or ip not in {"127.0.0.1", "::1", "localhost"},
        spare_kernel_s=_seconds(args, environ, "spare-kernel", SPARE_KERNEL_S),
        heartbeat_s=_seconds(args, environ, "heartbeat", HEARTBEAT_S),
        ping_s=_seconds(args, environ, "ping", PING_S, least=0.01),
        cull_kernels_s=_seconds(args, environ, "cull-kernels", 0.0),
        cull_connected=args.cull_connected or switch(environ, "HIMALIA_CULL_CONNECTED"),
        cull_busy=args.cull_busy or switch(environ, "HIMALIA_CULL_BUSY"),
        cull_terminals_s=_seconds(args, environ, "cull-terminals", 0.0),
        stop_when_idle_s=_seconds(args, environ, "stop-when-idle", 0.0),
        keep_kernels_s=_keep_kernels_s(args, environ),
        set_password=args.set_password,
        environ=dict(environ),
    )


def _seconds(
    args: argparse.Namespace, environ: Mapping[str, str], flag: str, default: float, *, least: float = 0.0
) -> float:
    """What `--flag` or `HIMALIA_FLAG` says."""
    name = flag.replace("-", "_")
    given: float | None = getattr(args, name)
    seconds = number(environ, f"HIMALIA_{name.upper()}", default) if given is None else given
    if not least <= seconds < LONGEST_S:
        raise SettingsError(
            f"--{flag} is {seconds}: it must be a number of seconds from {least:g} to {LONGEST_S:g}"
        )
    return seconds


def _keep_kernels_s(args: argparse.Namespace, environ: Mapping[str, str]) -> float:
    """The first process of a container takes all others with it: there, nothing can be kept. Behind a hub only a
    spawner knows whether what a dead server left behind is spared, and says so (ours does). In safe mode the home goes
    with the server, and with it the way back to its kernels.
    """
    if os.getpid() == 1 or environ.get("HIMALIA_SAFE_MODE") == "1":
        return 0.0
    if args.keep_kernels is not None:
        return max(0.0, float(args.keep_kernels))
    behind_a_hub = bool(environ.get("JUPYTERHUB_API_TOKEN"))
    return number(environ, "HIMALIA_KEEP_KERNELS", 0.0 if behind_a_hub else KEEP_KERNELS_S)


def _default_url(args: argparse.Namespace, environ: Mapping[str, str]) -> str:
    given = args.default_url or ("/tree" if args.notebook else environ.get("JUPYTERHUB_DEFAULT_URL"))
    return given or "/lab"


def _password_file(args: argparse.Namespace, config_dir: Path) -> Path:
    """The file to look for passwords in. One that was named must be there and hold a hash."""
    if not args.password_file:
        return config_dir / PASSWORD_NAME
    from himalia_singleuser.auth.passwords import BadPasswordError, read

    path = Path(os.path.abspath(os.path.expanduser(args.password_file)))
    if not args.set_password:
        try:
            read(path)
        except BadPasswordError as error:
            raise SettingsError(str(error)) from None
    return path


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise SettingsError(f"--allow-origin-pat {text!r} is no regular expression: {error}") from None
    return text


def normal_base_url(url: str) -> str:
    """`a/b` as `/a/b/`, unquoted: routes are matched on decoded paths."""
    parts = [part for part in unquote(url).split("/") if part]
    return "/" + "".join(part + "/" for part in parts)


def _root_dir(text: str, home: Path) -> Path:
    if text == "~" or text.startswith("~/"):
        text = str(home) + text[1:]
    root = Path(os.path.abspath(text))
    if not root.is_dir():
        raise SettingsError(f"the folder {str(root)!r} does not exist: create it or give another --root")
    return root


def _address(
    args: argparse.Namespace, environ: Mapping[str, str], hub: HubSettings | None
) -> tuple[str, int, str]:
    """Flags win over JUPYTERHUB_SERVICE_URL, which wins over the defaults."""
    ip, port, socket = "127.0.0.1", 8888, ""
    if hub and (url := environ.get("JUPYTERHUB_SERVICE_URL")):
        parts = urlsplit(url)
        if parts.scheme == "http+unix":
            socket = unquote(parts.netloc)
        elif parts.scheme == "http" and parts.hostname:
            ip, port = parts.hostname, parts.port or 80
        else:
            raise SettingsError(f"JUPYTERHUB_SERVICE_URL is {url!r}: http:// or http+unix:// is understood")
    if args.ip or args.port is not None:
        socket = ""
    return args.ip or ip, port if args.port is None else args.port, args.socket or socket


def _hub_settings(environ: Mapping[str, str]) -> HubSettings | None:
    token = environ.get("JUPYTERHUB_API_TOKEN") or environ.get("JPY_API_TOKEN")
    api_url = environ.get("JUPYTERHUB_API_URL")
    if not (token and api_url and environ.get("JUPYTERHUB_SERVICE_PREFIX")):
        return None
    client_id = environ.get("JUPYTERHUB_CLIENT_ID")
    if not client_id:
        raise SettingsError("JUPYTERHUB_CLIENT_ID is not set: the hub must give the OAuth client's name")
    scopes = environ.get("JUPYTERHUB_OAUTH_ACCESS_SCOPES") or environ.get("JUPYTERHUB_OAUTH_SCOPES")
    return HubSettings(
        api_url=_over_socket(api_url.rstrip("/"))[0],
        api_socket=_over_socket(api_url)[1],
        api_token=token,
        base_url=normal_base_url(environ.get("JUPYTERHUB_BASE_URL", "/")),
        client_id=client_id,
        user=environ.get("JUPYTERHUB_USER", ""),
        server_name=environ.get("JUPYTERHUB_SERVER_NAME", ""),
        host=environ.get("JUPYTERHUB_HOST", "").rstrip("/"),
        public_url=environ.get("JUPYTERHUB_PUBLIC_URL", ""),
        public_hub_url=environ.get("JUPYTERHUB_PUBLIC_HUB_URL", ""),
        activity_url=_over_socket(environ.get("JUPYTERHUB_ACTIVITY_URL", ""))[0],
        activity_interval_s=number(environ, "JUPYTERHUB_ACTIVITY_INTERVAL", 300.0),
        busy_kernels_count=environ.get("HIMALIA_BUSY_KERNELS_COUNT", "1") != "0",
        oauth_callback_url=environ.get("JUPYTERHUB_OAUTH_CALLBACK_URL", ""),
        token_in_url=environ.get("JUPYTERHUB_ALLOW_TOKEN_IN_URL", "0") == "1",
        access_scopes=tuple(json_list("JUPYTERHUB_OAUTH_ACCESS_SCOPES", scopes or "[]")),
        cookie_host_prefix=environ.get("JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED", "0") == "1",
        cookie_options=json_object(environ, "JUPYTERHUB_COOKIE_OPTIONS"),
    )


def _over_socket(url: str) -> tuple[str, str]:
    """`http+unix://%2Fsocket/path` as the URL to ask for and the socket to ask at; other URLs with no socket."""
    parts = urlsplit(url)
    if parts.scheme != "http+unix":
        return url, ""
    return f"http://hub{parts.path}", unquote(parts.netloc)


def _search_path(extra: str, own: Path, below_prefix: str) -> tuple[Path, ...]:
    """Where Jupyter looks for data or configuration: first hit wins."""
    system = [Path("/usr/local") / below_prefix, Path("/usr") / below_prefix]
    if below_prefix.startswith("etc"):
        system[1] = Path("/") / below_prefix
    found = [Path(part) for part in extra.split(os.pathsep) if part]
    found += [Path(sys.prefix) / below_prefix, own, *system]
    return tuple(dict.fromkeys(found))
