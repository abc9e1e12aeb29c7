"""The command line of the single-user server, and the defaults that its help names."""

from __future__ import annotations

import argparse
from functools import cache
from typing import Any, NoReturn

SPARE_KERNEL_S = 600.0
HEARTBEAT_S = 15.0
PING_S = 10.0
KEEP_KERNELS_S = 3600.0
PASSWORD_NAME = "himalia_password"

OPTIONS: dict[str, str] = {
    "--root": "folder to show (default: the current one)",
    "--ip": "address to listen on (default 127.0.0.1)",
    "--port": "port to listen on, 0 for any free one (default 8888)",
    "--socket": "unix socket to listen on instead of a port",
    "--base-url": "path prefix of all URLs (default /)",
    "--default-url": "where the base URL leads to (default /lab)",
    "--notebook": "open on Jupyter Notebook instead of JupyterLab",
    "--token": "token that opens this server (default: a new random one)",
    "--password-file": f"file with the hash of a password (default: ~/.jupyter/{PASSWORD_NAME})",
    "--set-password": "ask for a password, keep its hash, end",
    "--allow-hidden": "show files whose name begins with a dot",
    "--no-trash": "delete for good instead of to the trash",
    "--spare-kernel": "how long a kernel is kept ready for the next notebook "
    f"(default {SPARE_KERNEL_S:g}; 0: none is)",
    "--heartbeat": "how long a kernel may miss its heartbeats before it is shown as not answering "
    f"(default {HEARTBEAT_S:g}; 0: it never is)",
    "--ping": "how often a browser is asked for a sign of life; one that gives none five times as long is given up "
    f"(default {PING_S:g})",
    "--keep-kernels": "how long idle kernels wait for the next server when this one is killed "
    f"(default {KEEP_KERNELS_S:g}; behind a hub what its spawner says)",
    "--cull-kernels": "how long a kernel may be idle before it is ended (default 0: for ever)",
    "--cull-terminals": "how long a terminal may show and take nothing before it is ended (default 0: for ever)",
    "--stop-when-idle": "how long nobody asks and nothing runs before this server ends (default 0: for ever)",
    "--cull-connected": "end idle kernels that a page shows, too",
    "--cull-busy": "end kernels that compute, too",
    "--clear-outputs-on-save": "write notebooks without their outputs",
    "--allow-origin": "origin of other pages that may call this server",
    "--allow-origin-pat": "regular expression that such origins must match as a whole",
}
SWITCHES = {"--notebook", "--set-password", "--allow-hidden", "--no-trash"}
SWITCHES |= {"--cull-connected", "--cull-busy", "--clear-outputs-on-save"}
SECONDS = {"--spare-kernel", "--heartbeat", "--ping", "--keep-kernels"}
SECONDS |= {"--cull-kernels", "--cull-terminals", "--stop-when-idle"}
EMPTY = {"--allow-origin", "--allow-origin-pat"}


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, with the option that was probably meant."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As usual; what is unknown ends the program with 2."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            import difflib  # nothing that a thousand servers should hold

            near = difflib.get_close_matches(unknown[0].partition("=")[0], OPTIONS, 1, 0.5)
            self.error(f"unknown argument {unknown[0]!r}{f'; did you mean {near[0]}?' if near else ''}")
        return known

    def error(self, message: str) -> NoReturn:
        """Without the two dozen options of a usage line."""
        self.exit(2, f"{self.prog}: {message}\n  `--help` lists the options.\n")


def parser() -> Parser:
    """The parser of all options; those that are not given are None, False or empty."""
    made = Parser(
        prog="himalia singleuser",
        description="A Jupyter server for one person, alone or behind a hub.",
        allow_abbrev=False,
    )
    for flag, words in OPTIONS.items():
        if flag in SWITCHES:
            made.add_argument(flag, action="store_true", help=words)
        elif flag in SECONDS:
            made.add_argument(flag, type=float, metavar="SECONDS", help=words)
        else:
            kind = int if flag == "--port" else str
            made.add_argument(flag, type=kind, default="" if flag in EMPTY else None, help=words)
    return made


@cache
def no_arguments() -> argparse.Namespace:
    """The commonest command line, read once in the parent of all servers: making a parser costs each a megabyte."""
    made: argparse.Namespace = parser().parse_args([])
    return made
