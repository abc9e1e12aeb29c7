"""Follows every cell that runs; gives its outputs to the next browser when the one that asked is gone.

A front end puts outputs into the notebook itself as long as it is there. So a run counts only while the session that
asked for it has no browser: then it is merged into what clients read and save, and in the end into the file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from aiohttp import web

from himalia_singleuser.contents import notebooks
from himalia_singleuser.contents.handlers import CONTENTS, lock_of
from himalia_singleuser.contents.models import Model
from himalia_singleuser.contents.overlay import OVERLAY
from himalia_singleuser.errors import ApiError, NotFound
from himalia_singleuser.kernels.messages import Message, parse_object
from himalia_singleuser.kernels.pool import KERNELS, TAP_FOR
from himalia_singleuser.kernels.requests import Request, Tap
from himalia_singleuser.recorder import written
from himalia_singleuser.recorder.journal import CELL_CHARACTERS, DISK_BYTES, Journal, Run
from himalia_singleuser.recorder.merge import find, merge, put_in, state_of
from himalia_singleuser.recorder.outputs import Outputs, display_id_of
from himalia_singleuser.recorder.shelf import Disk
from himalia_singleuser.recorder.written import Written
from himalia_singleuser.sessions.store import SESSIONS

log = structlog.get_logger(__name__)

QUIET_S = 30.0
"""How long no browser must have been on a notebook's kernels before its file is written."""
LOOK_EVERY_S = 5.0


class Recorder:
    """The runs of all kernels of one server. On the event loop; files are read and written in threads."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._journal = Journal()
        self._disk = Disk(lambda: app[KERNELS].folder, DISK_BYTES)
        self._runs: dict[str, Run] = {}
        self._written: dict[str, Written] = {}
        self._alone_since: dict[str, float] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called when a client's or the recorder's own writing changed what must be remembered."""
        self.stopping = asyncio.Event()
        self.quiet_s = QUIET_S
        self.look_every_s = LOOK_EVERY_S

    def opened(self, kernel_id: str, request: Request) -> None:
        """A cell is to run. Consoles, and front ends that name no cell, are not recorded."""
        cell_id, code = request.metadata.get("cellId"), request.content.get("code")
        path = self._app[SESSIONS].notebook_of(kernel_id)
        if not isinstance(cell_id, str) or not cell_id or not isinstance(code, str) or path is None:
            return
        timed = request.metadata.get("recordTiming") is True
        run = Run(kernel_id, request.id, request.asker, path.strip("/"), cell_id, code, timed)
        run.outputs = Outputs(CELL_CHARACTERS, self._disk)
        self._runs[request.id] = run
        self._journal.add(run)

    def said(self, request: Request, message: Message) -> None:
        """The kernel said something about it."""
        run = self._runs.get(request.id)
        if message.type == "update_display_data" and run is not None:
            display_id = display_id_of(parse_object(message.parts[3]) or {})
            for other in self._journal.of_kernel(run.kernel_id):
                if other is not run and other.shows(display_id):
                    self._take(other, message)
        if run is not None:
            self._take(run, message)

    def closed(self, request: Request) -> None:
        """Nothing more will come of it."""
        run = self._runs.pop(request.id, None)
        if run is not None:
            run.is_open = False
            self._journal.shrink()

    def ended(self, kernel_id: str, here: frozenset[str]) -> None:
        """A kernel is gone: pages that are open hold its outputs themselves."""
        for run in self._journal.of_kernel(kernel_id):
            if run.asker in here:
                self._journal.drop(run)

    def _take(self, run: Run, message: Message) -> None:
        if self._journal.holds(run) and run.take(message):
            self._journal.grew(run)

    def _is_here(self, run: Run) -> bool:
        kernel = self._app[KERNELS].find(run.kernel_id)
        return kernel is not None and kernel.relay.is_here(run.asker)

    def _left_alone(self, path: str) -> list[Run]:
        """The runs of a notebook whose browser is gone."""
        return [run for run in self._journal.of(path) if not self._is_here(run)]

    def left_alone_by(self, kernel_id: str) -> list[Run]:
        """The runs of a kernel whose browser is gone, the oldest first."""
        return [run for run in self._journal.of_kernel(kernel_id) if not self._is_here(run)]

    def covers(self, path: str) -> bool:
        """Whether a notebook has runs whose browser is gone, or was written here last."""
        return path in self._written or bool(self._left_alone(path))

    async def shown(self, model: Model) -> None:
        """Merge the runs into a notebook that a client reads."""
        path = model["path"]
        before = self._written.get(path)
        if before is not None:
            _, file = self._app[CONTENTS].root.shown(path)
            if before.stamp == await asyncio.to_thread(written.stamp_of, file):
                before.tell(model)
            else:
                self._changed_by_others(path)
        notebook = model.get("content")
        if model["type"] != "notebook" or not isinstance(notebook, dict):
            return
        runs = self._left_alone(path)
        put_in(notebook, [run.recorded() for run in runs])
        for run in runs:
            if not run.is_given:
                run.given.clear()
            run.is_given = True
            run.given.add(state_of(find(notebook, run.cell_id)))

    def _changed_by_others(self, path: str) -> None:
        """What is in the file, or was, is theirs to say from now on."""
        del self._written[path]
        for run in self._journal.of(path):
            if run.is_written and not run.is_open:
                self._journal.drop(run)

    async def saving(self, path: str, model: dict[str, Any]) -> set[str]:
        """Merge the runs into what a client saves, where it cannot know them; the cells it decides on."""
        content, every = model.get("content"), self._journal.of(path)
        if model.get("type") not in (None, "notebook") or content is None or not every:
            return set()
        notebook, runs = notebooks.require_shape(content), self._left_alone(path)
        for run in every:
            # One that was taken over: its page saves it half done, and may leave again before it is over.
            if run.given and self._is_here(run):
                run.given.add(state_of(find(notebook, run.cell_id)))
        on_disk: dict[str, str] = {}
        ids = [run.cell_id for run in runs if not run.given]
        if ids:
            with suppress(ApiError, OSError):
                on_disk = await asyncio.to_thread(written.states, self._app[CONTENTS], path, ids)
        for run in runs:
            if not run.given and run.cell_id in on_disk:
                run.given.add(on_disk[run.cell_id])
        # The source is the client's, however old: it is what the person sees.
        for run in runs:
            run.is_saved = run.is_saved or find(notebook, run.cell_id) is not None
        whole = {run.cell_id for run in runs if not run.is_open and _holds_all(notebook, run)}
        given = {run.cell_id: run.given for run in runs}
        return whole | merge(notebook, [run.recorded() for run in runs], given)

    def runs(self) -> list[tuple[Run, str]]:
        """All runs, the oldest first, each with the request that still adds to it or an empty text."""
        open_runs = {id(run): request_id for request_id, run in self._runs.items()}
        return [(run, open_runs.get(id(run), "")) for run in self._journal.all()]

    def written(self) -> dict[str, dict[str, Any]]:
        """The files that only the recorder has changed since a client saved them, as JSON."""
        return {path: asdict(one) for path, one in self._written.items()}

    def take_back(self, runs: list[tuple[Run, str]], written_files: dict[str, dict[str, Any]]) -> None:
        """What `runs` and `written` gave to an earlier server."""
        for run, request_id in runs:
            run.outputs.attach(self._disk)
            self._journal.add(run)
            if request_id:
                self._runs[request_id] = run
        for path, one in written_files.items():
            device, size, inode = one["stamp"]
            self._written[path] = Written(**{**one, "stamp": (device, size, inode)})

    def saved(self, path: str, settled: set[str]) -> None:
        """A client's version is on disk: what it decided on is forgotten, and so is what its page held itself."""
        runs = self._journal.of(path)
        was_written = self._written.pop(path, None) is not None
        for run in runs:
            if self._is_here(run):
                run.is_saved = True
                if not run.is_open:
                    self._journal.drop(run)
            elif run.cell_id in settled:
                self._journal.drop(run)
        if runs or was_written:
            self.changed()

    def condition(self, path: str, if_match: str | None) -> str | None:
        """The hash of what the recorder wrote over the version that the client knows."""
        before = self._written.get(path)
        return before.hash if before is not None and if_match == before.told_hash else if_match

    def moved(self, old: str, new: str) -> None:
        """The runs go with their notebook."""
        self.changed()
        self._journal.move(old, new)
        for path in [one for one in self._written if one == old or one.startswith(old + "/")]:
            self._written[new + path[len(old) :]] = self._written.pop(path)

    async def write_forever(self) -> None:
        """Write notebooks that have been alone for a while, until `stopping` is set.

        It is not cancelled: a thread that writes would go on, and could write an older version last.
        """
        while not await self._stops_within(self.look_every_s):
            now = time.monotonic()
            alone = {path for path in self._journal.paths() if not self._has_clients(path)}
            self._alone_since = {path: self._alone_since.get(path, now) for path in alone}
            for path, since in list(self._alone_since.items()):
                if now - since >= self.quiet_s:
                    self._alone_since[path] = now
                    await self.write(path)

    async def _stops_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        return self.stopping.is_set()

    async def write_all(self) -> None:
        """The server ends: nothing stays in memory only."""
        for path in self._journal.paths():
            await self.write(path)

    async def write(self, path: str) -> None:
        """Write what is not in the file yet. A file that cannot be written is tried again later."""
        store = self._app[CONTENTS]
        runs = self._left_alone(path)
        if store.clear_outputs or all(run.is_written for run in runs):
            return
        async with lock_of(self._app, path):
            runs = [run for run in runs if self._journal.holds(run)]
            recorded = [run.recorded() for run in runs]
            for run in runs:
                run.is_written = True
            ids = [run.cell_id for run in runs if not run.given]
            try:
                on_disk = await asyncio.to_thread(written.states, store, path, ids)
                done = await asyncio.to_thread(written.write, store, path, recorded, self._written.get(path))
            except Exception as error:  # one notebook must not stop the rest
                log.warning("recorder.not_written", path=path, error=str(error))
                for run in runs:
                    run.is_written = False
                    if isinstance(error, NotFound):
                        self._journal.drop(run)
                return
        self._written[path] = done
        self.changed()
        for run in runs:
            if not run.given:
                run.given.add(on_disk[run.cell_id])
            run.is_saved = True
        log.info("recorder.written", path=path, cells=len(runs))

    def _has_clients(self, path: str) -> bool:
        kernels = (self._app[KERNELS].find(run.kernel_id) for run in self._journal.of(path))
        return any(kernel is not None and kernel.relay.clients for kernel in kernels)


def _holds_all(notebook: dict[str, Any], run: Run) -> bool:
    return state_of(find(notebook, run.cell_id)) == state_of({"outputs": run.recorded().outputs})


@dataclass(frozen=True, slots=True)
class KernelTap:
    """The recorder as one kernel's requests see it."""

    recorder: Recorder
    kernel_id: str

    def opened(self, request: Request) -> None:
        """It is sent to the kernel."""
        self.recorder.opened(self.kernel_id, request)

    def said(self, request: Request, message: Message) -> None:
        """The kernel published something about it, or replied."""
        self.recorder.said(request, message)

    def closed(self, request: Request) -> None:
        """Nothing more will come."""
        self.recorder.closed(request)

    def ended(self, here: frozenset[str]) -> None:
        """The kernel is gone for good."""
        self.recorder.ended(self.kernel_id, here)


_fits: type[Tap] = KernelTap

RECORDER = web.AppKey("RECORDER", Recorder)


async def recorder_lifetime(app: web.Application) -> AsyncIterator[None]:
    """Needs the contents, and comes before the kernels: what they say at their end is still written."""
    recorder = app[RECORDER] = Recorder(app)
    app[OVERLAY] = recorder
    app[TAP_FOR] = lambda kernel_id: KernelTap(recorder, kernel_id)
    writing = asyncio.create_task(recorder.write_forever())
    yield
    recorder.stopping.set()
    await writing
    await recorder.write_all()


routes: list[web.RouteDef] = []
lifetimes = [recorder_lifetime]
