"""One terminal and the browser tabs that look at it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode

from himalia_singleuser.answers import iso
from himalia_singleuser.terminals.pty import Pty

MOST_READS = 1000
MOST_KEPT_CHARS = 1024 * 1024
ENOUGH_WAITING_CHARS = 256 * 1024
TOO_MUCH_WAITING_CHARS = 8 * 1024 * 1024
LARGEST_SIDE = 4096


class Tab:
    """A reader of one terminal: what waits for it, and the size it shows."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._filled = asyncio.Event()
        self._ended = False
        self.waiting = 0
        self.size: tuple[int, int] | None = None
        self.dismissed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def put(self, text: str) -> None:
        """Queue text; a tab that is megabytes behind is dismissed, and may come back for the last screen."""
        self._texts.append(text)
        self.waiting += len(text)
        self._filled.set()
        if self.waiting > TOO_MUCH_WAITING_CHARS and not self.dismissed.done():
            self.dismissed.set_result((WSCloseCode.TRY_AGAIN_LATER, "this client reads too slowly"))

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._filled.set()

    async def take(self) -> str:
        """All text that waits, as one; an empty string after the end."""
        while not self._texts and not self._ended:
            self._filled.clear()
            await self._filled.wait()
        text = "".join(self._texts)
        self._texts.clear()
        self.waiting = 0
        return text


class Terminal:
    """A shell that goes on whether or not somebody looks."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        on_end: Callable[[Terminal], None],
        on_activity: Callable[[datetime], None],
    ) -> None:
        self.name = name
        self.last_activity = datetime.now(UTC)
        self._on_end, self._on_activity = on_end, on_activity
        self._tabs: set[Tab] = set()
        self._last_reads: deque[str] = deque(maxlen=MOST_READS)
        self._kept_chars = 0
        self._pty = Pty(argv, cwd=cwd, env=env, on_text=self._shown, on_end=self._ended)

    @property
    def pid(self) -> int:
        """The shell's process id."""
        return self._pty.pid

    def model(self) -> dict[str, Any]:
        """The terminal model of the REST API."""
        return {"name": self.name, "last_activity": iso(self.last_activity)}

    def join(self) -> Tab:
        """A new tab; it gets the last reads first."""
        tab = Tab()
        if self._last_reads:
            tab.put("".join(self._last_reads))
        if self._pty.ended.is_set():
            tab.end()
        self._tabs.add(tab)
        return tab

    def leave(self, tab: Tab) -> None:
        """The tab is closed; the size may grow now."""
        self._tabs.discard(tab)
        self._fit()
        self.keep_reading()

    def typed(self, text: str) -> bool:
        """Somebody typed. False when the shell is too far behind to take it."""
        self._touch()
        return self._pty.write(text)

    def resized(self, tab: Tab, rows: int, cols: int) -> None:
        """One tab changed its size; the terminal takes the smallest of all."""
        tab.size = (min(rows, LARGEST_SIDE), min(cols, LARGEST_SIDE))
        self._fit()

    def keep_reading(self) -> None:
        """Read on unless every tab has enough waiting: then the program waits, as on a slow line."""
        if self._tabs and all(tab.waiting > ENOUGH_WAITING_CHARS for tab in self._tabs):
            self._pty.pause()
        else:
            self._pty.resume()

    async def end(self, *, whole_session: bool = False) -> None:
        """The shell is gone on return."""
        await self._pty.end(whole_session=whole_session)

    def _shown(self, text: str) -> None:
        self._touch()
        if len(self._last_reads) == MOST_READS:
            self._kept_chars -= len(self._last_reads.popleft())
        self._last_reads.append(text)
        self._kept_chars += len(text)
        while self._kept_chars > MOST_KEPT_CHARS:
            self._kept_chars -= len(self._last_reads.popleft())
        for tab in self._tabs:
            tab.put(text)
        self.keep_reading()

    def _ended(self) -> None:
        for tab in self._tabs:
            tab.end()
        self._on_end(self)

    def _fit(self) -> None:
        sizes = [tab.size for tab in self._tabs if tab.size is not None]
        if sizes:
            self._pty.resize(min(rows for rows, _ in sizes), min(cols for _, cols in sizes))

    def _touch(self) -> None:
        self.last_activity = datetime.now(UTC)
        self._on_activity(self.last_activity)
