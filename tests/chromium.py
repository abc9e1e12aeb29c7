"""Chromium's flags, where screenshots go, and a watcher that keeps what went wrong in its pages."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from playwright.async_api import ConsoleMessage, Page, Response, expect

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Of everybody who drives Chromium: playwright keeps one figure for the process, and its own of 5 s is that of an idle machine.
expect.set_options(timeout=60_000)
SHOTS = Path(os.environ.get("HIMALIA_SHOTS", Path(__file__).parent / "browser" / "shots"))


@dataclass
class Watcher:
    """What went wrong in the pages of one context. `expected` holds patterns of `STATUS METHOD URL` or console text."""

    expected: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Follow this page."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.seen.append(f"page error: {error}"))
        page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        # A failed request is reported by its response, with its method; Chromium's console line only repeats it.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.seen.append(f"console: {message.text}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.seen.append(f"{response.status} {response.request.method} {response.url}")

    def unexpected(self) -> list[str]:
        """What no pattern allows."""
        return [line for line in self.seen if not any(re.search(pattern, line) for pattern in self.expected)]
