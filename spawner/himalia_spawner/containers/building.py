"""Having the engine build an image: its classic endpoint (Engine API, ImageBuild), for BuildKit needs a program more.

What a build runs, runs in containers of the engine's, within the order's limits. It is cut off by closing the
connection: the engine ends a build that nobody listens to, and removes its container.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from docker import errors
from docker.types import CancellableStream

from himalia_spawner.base import ImageOrder, Say, silent
from himalia_spawner.containers import asked, images
from himalia_spawner.containers.engine import Engine
from himalia_spawner.errors import BackendGone, SpawnRefused

CPU_PERIOD_US = 100_000
END_S = 10.0
"""How long a build that is cut off is waited for."""
TAIL = 12
"""Lines of a failed build that its error holds."""

_LAYER = re.compile(r"---> ([0-9a-f]{12,64})")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CHATTER = ("---> ", "Removing intermediate container", "Removed intermediate container")


class Builder:
    """Builds on one engine, and marks what it builds as its hub's."""

    def __init__(self, engine: Engine, base: str, hub: str) -> None:
        self.base, self.url, self._engine = base, engine.url, engine
        self.labels: Mapping[str, str] = {asked.HUB: hub}

    async def id_of(self, name: str) -> str | None:
        """What the image is now; None when it is not there."""
        found = await images.inspect(self._engine, name)
        return None if found is None else found.id

    async def build(self, order: ImageOrder, say: Say = silent) -> int:
        """Build it under its name; its bytes. SpawnRefused with the build's last words; BackendGone."""
        loop = asyncio.get_running_loop()
        labels = {**order.labels, **self.labels}
        work = _Build(self._engine, order, labels, lambda line: loop.call_soon_threadsafe(say, line))
        running = asyncio.ensure_future(asyncio.to_thread(work.run))
        try:
            async with asyncio.timeout(order.seconds):
                await asyncio.shield(running)
        except TimeoutError:
            raise SpawnRefused(f"the image was not built within {order.seconds:g} seconds") from None
        finally:
            if not running.done():
                work.cut_off()
                await asyncio.wait([running], timeout=END_S)
            if running.done() and not running.cancelled():
                running.exception()  # it was told above, or is that of the cut
            if not work.succeeded:
                await _forget_layers(self._engine, work.layers)
        return await self.must_fit(order.name, order.most)

    async def must_fit(self, name: str, most: int) -> int:
        """Its bytes. SpawnRefused when it is not there, or larger than `most`; then it is removed."""
        try:
            found = await self._engine.see(lambda client: client.inspect_image(name))
        except errors.ImageNotFound:
            raise SpawnRefused(f"the image {name!r} is not on the engine") from None
        size = int(found.get("Size") or 0)
        if size > most:
            await _remove(self._engine, name)
            raise SpawnRefused(f"the image is {size / 1e9:.1f} GB large; {most / 1e9:g} GB are allowed here")
        return size

    async def remove(self, name: str) -> None:
        """Remove it, unless something uses it."""
        await _remove(self._engine, name)


async def _remove(engine: Engine, name: str) -> None:
    try:
        await engine.ask(lambda client: client.remove_image(name))
    except errors.ImageNotFound:
        return
    except errors.APIError as error:
        if error.status_code != 409:  # a container has it, or another image is made from it
            raise


async def _forget_layers(engine: Engine, layers: list[str]) -> None:
    """What a failed build left: its last layer, and with it those below that nothing else is made from."""
    for layer in reversed(layers[-1:]):
        with suppress(errors.APIError, BackendGone):
            found = await engine.see(lambda client, layer=layer: client.inspect_image(layer))  # type: ignore[misc]
            if not found.get("RepoTags"):
                await _remove(engine, layer)


class _Build:
    """One build in its thread. `layers` are the images it made on its way."""

    def __init__(
        self, engine: Engine, order: ImageOrder, labels: Mapping[str, str], say: Callable[[str], object]
    ) -> None:
        self._engine, self._order, self._labels, self._say = engine, order, labels, say
        self._cut = threading.Event()
        self._stream: CancellableStream | None = None
        self.layers: list[str] = []
        self.succeeded = False

    def run(self) -> None:
        client = self._engine.stream()
        try:
            with open(self._order.context, "rb") as context:
                answer = client.post(
                    f"{client.base_url}/v{client.api_version}/build", params=self._params(), data=context,
                    headers={"Content-Type": "application/x-tar"}, stream=True, timeout=None,
                )  # fmt: skip
            with answer:
                if answer.status_code != 200:
                    raise SpawnRefused(f"the engine refuses to build: {_words(answer)}")
                self._stream = CancellableStream(_lines(answer), answer)
                if not self._cut.is_set():
                    self._follow(self._stream)
        finally:
            client.close()

    def cut_off(self) -> None:
        """End it, from another thread."""
        self._cut.set()
        if self._stream is not None:
            with suppress(Exception):  # closing under a reader raises whatever the transport likes
                self._stream.close()

    def _params(self) -> dict[str, Any]:
        order = self._order
        params: dict[str, Any] = {
            "t": order.name,
            "rm": 1,
            "forcerm": 1,
            "labels": json.dumps(self._labels),
        }
        if order.memory is not None:
            params |= {"memory": order.memory, "memswap": order.memory}
        if order.cpus is not None:
            params |= {"cpuperiod": CPU_PERIOD_US, "cpuquota": round(order.cpus * CPU_PERIOD_US)}
        return params

    def _follow(self, lines: Iterator[dict[str, Any]]) -> None:
        tail: list[str] = []
        for line in lines:
            for text in _plain(str(line.get("error") or line.get("stream") or "")):
                if found := _LAYER.fullmatch(text):
                    self.layers.append(found[1])
                elif not text.startswith(_CHATTER):
                    tail = [text] if text.startswith("Step ") else [*tail, text][-TAIL:]
                    self._say(text)
            if "error" in line:
                raise SpawnRefused(
                    f"the image cannot be built: {' '.join(tail)[-700:]}", log_tail=tuple(tail)
                )
        self.succeeded = not self._cut.is_set()


def _plain(text: str) -> list[str]:
    """Its lines without colours."""
    lines = (line.strip() for line in _COLOUR.sub("", text).splitlines())
    return [line for line in lines if line]


def _lines(answer: Any) -> Iterator[dict[str, Any]]:
    """The engine's stream: one JSON object after the other, each on its line."""
    for raw in answer.iter_lines():
        if raw:
            yield json.loads(raw)


def _words(answer: Any) -> str:
    try:
        return str(answer.json()["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
