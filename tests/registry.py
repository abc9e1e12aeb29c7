"""A real image registry on loopback, of Debian's package, in a temporary folder."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hubs import free_port

UP_S = 20.0
CONFIG = """
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
GUARD = "auth: {{htpasswd: {{realm: himalia, path: {folder}/people}}}}\n"
"""The registry itself fills a missing file with one account and a password that nobody knows."""


class Registry:
    """`name` is where images of it are named from: `127.0.0.1:PORT`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.name = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, guarded: bool = False) -> None:
        """Start it over what it holds, and wait until it answers; `guarded` lets nobody in without a password."""
        config = self.folder / "registry.yml"
        config.write_text(
            (CONFIG + (GUARD if guarded else "")).format(folder=self.folder, port=self.port), encoding="utf-8"
        )
        with (self.folder / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + UP_S
        while self._status() not in (200, 401):
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"docker-registry did not come up:\n{self.said()}", pytrace=False)
            self._pause()

    def stop(self) -> None:
        """End it; what it holds stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def said(self) -> str:
        """What it logged."""
        return (self.folder / "registry.log").read_text(errors="replace")[-3000:]

    def break_tag(self, repository: str, tag: str) -> None:
        """Have it answer 500 when this tag is asked for: its file holds no digest any more."""
        tags = self.folder / "images/docker/registry/v2/repositories" / repository / "_manifests/tags"
        (tags / tag / "current/link").write_text("nothing of use", encoding="utf-8")

    def _status(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def _pause(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(0.05)
        except subprocess.TimeoutExpired:
            return


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """A started registry that holds nothing; it ends with the block."""
    if shutil.which("docker-registry") is None:
        pytest.fail("docker-registry is missing; run: tests/tools/prepare", pytrace=False)
    made = Registry(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
