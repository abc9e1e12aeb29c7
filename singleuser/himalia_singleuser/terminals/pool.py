"""All terminals of this server."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from aiohttp import web

from himalia_singleuser.errors import BadRequest, Conflict, Forbidden, NotFound
from himalia_singleuser.terminals.pty import COLUMNS, LINES
from himalia_singleuser.terminals.terminal import Terminal

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TerminalOptions:
    """A timeout of 0 never ends a terminal."""

    cull_inactive_timeout_s: float = 0.0
    cull_interval_s: float = 300.0


NAME = re.compile(r"\w{1,100}")
NEVER_INHERITED = ("HIMALIA_LISTEN_FD", "HIMALIA_LOCK_FD")


class NoSuchTerminal(NotFound):
    """No terminal of that name runs."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Terminal not found: {name}")


class TerminalPool:
    """Terminals by name, counted from "1"."""

    def __init__(
        self,
        *,
        root_dir: Path,
        shell: Sequence[str],
        environ: Mapping[str, str],
        server_url: str,
        on_activity: Callable[[datetime], None],
        enabled: bool = True,
    ) -> None:
        self._enabled = enabled
        self._root_dir = root_dir
        self._environ = {name: value for name, value in environ.items() if name not in NEVER_INHERITED}
        self._environ |= {
            "TERM": "xterm-256color",
            # What a shell starts with, and keeps up where it exports them; never those of the server's own terminal.
            "COLUMNS": str(COLUMNS),
            "LINES": str(LINES),
            "JUPYTER_SERVER_ROOT": str(root_dir),
            "JUPYTER_SERVER_URL": server_url,
        }
        self._shell = tuple(shell) or (self._environ.get("SHELL") or "/bin/sh", "-l")
        self._on_activity = on_activity
        self._terminals: dict[str, Terminal] = {}

    def all(self) -> list[Terminal]:
        """Every terminal, the oldest first."""
        return list(self._terminals.values())

    def get(self, name: str) -> Terminal:
        """The terminal of that name; NoSuchTerminal when there is none."""
        try:
            return self._terminals[name]
        except KeyError:
            raise NoSuchTerminal(name) from None

    def start(self, name: str = "", *, cwd: str = "") -> Terminal:
        """A new shell. Relative folders are under the root; one that does not exist becomes the root."""
        if not self._enabled:
            raise Forbidden("Terminals are switched off on this server.")
        if name and not NAME.fullmatch(name):
            raise BadRequest(f"Terminal name {name!r} may hold letters, digits and underscores only.")
        name = name or next(str(n) for n in range(1, 1 << 31) if str(n) not in self._terminals)
        if name in self._terminals:
            raise Conflict(f"Terminal {name} is already there.")
        try:
            terminal = Terminal(
                name,
                self._shell,
                cwd=self._folder(cwd),
                env=self._environ,
                on_end=self._forget,
                on_activity=self._on_activity,
            )
        except OSError as error:
            raise BadRequest(f"No terminal can be opened: {error.strerror or error}") from None
        self._terminals[name] = terminal
        log.info("terminal.started", terminal=name, pid=terminal.pid)
        return terminal

    async def stop(self, name: str) -> None:
        """Gone on return."""
        await self.get(name).end()

    async def close(self) -> None:
        """Every terminal is gone on return, and what was started in it."""
        await asyncio.gather(*(terminal.end(whole_session=True) for terminal in self.all()))

    async def cull_once(self, now: datetime, timeout_s: float) -> list[str]:
        """Stop the terminals that showed and took nothing for `timeout_s` seconds; their names."""
        due = [one for one in self.all() if (now - one.last_activity).total_seconds() > timeout_s]
        for terminal in due:
            await terminal.end()
        return [terminal.name for terminal in due]

    async def cull_forever(self, options: TerminalOptions) -> None:
        """Look every `cull_interval_s` until cancelled."""
        while options.cull_inactive_timeout_s > 0:
            await asyncio.sleep(options.cull_interval_s)
            culled = await self.cull_once(datetime.now(UTC), options.cull_inactive_timeout_s)
            if culled:
                log.info("terminal.culled", terminals=culled)

    def _folder(self, cwd: str) -> Path:
        if "\0" in cwd:
            raise BadRequest("cwd contains a NUL byte.")
        folder = self._root_dir / os.path.expanduser(cwd)
        return folder if folder.is_dir() else self._root_dir

    def _forget(self, terminal: Terminal) -> None:
        if self._terminals.get(terminal.name) is terminal:
            del self._terminals[terminal.name]
            log.info("terminal.ended", terminal=terminal.name)


TERMINALS = web.AppKey("TERMINALS", TerminalPool)
