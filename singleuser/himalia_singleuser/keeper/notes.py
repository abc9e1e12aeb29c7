"""What a server writes down of its kernels, sessions and recorded runs, for the next one should it be killed."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from himalia_singleuser.keeper.folder import KernelFolder, born
from himalia_singleuser.keeper.journal import mark_of
from himalia_singleuser.keeper.state import dump_kernel, raw, text
from himalia_singleuser.kernels.pool import KernelPool
from himalia_singleuser.recorder.journal import Run
from himalia_singleuser.recorder.recorder import Recorder
from himalia_singleuser.sessions.store import SessionStore

MARK_BYTES = 64
OWN_FILE_CHARACTERS = 32 * 1024
"""Outputs of a run that are longer go to a file of their own, which is written again only when they change."""


class Notes:
    """Three kinds: a state written now and then, the requests since (appended), and per kernel the last message
    that its browsers were given, in memory shared with a file: that costs no call and is there after a SIGKILL.
    """

    def __init__(self, folder: KernelFolder, begin: int = 0) -> None:
        self._folder = folder
        self._marks: dict[str, mmap.mmap] = {}
        self._number = begin
        self._requests = -1
        self._files: dict[int, tuple[int, str]] = {}
        self._next_file = 0

    def opened(self, kernel_id: str, session_id: str, parts: Sequence[bytes]) -> None:
        """One more request, before the kernel gets it. A full disk costs its outputs, should this server be killed."""
        if self._requests < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._requests = os.open(self._folder.path / f"requests.{self._number}", flags, 0o600)
        line = json.dumps([kernel_id, session_id, text(parts[:4])]) + "\n"
        with suppress(OSError):
            os.write(self._requests, line.encode())

    def shown(self, kernel_id: str, frames: Sequence[bytes]) -> None:
        """The browsers have been given all up to this message."""
        page = self._marks.get(kernel_id)
        if page is None:
            page = self._marks[kernel_id] = _shared(self._folder.path / f"{kernel_id}.shown")
        page[:MARK_BYTES] = mark_of(frames)[:MARK_BYTES].ljust(MARK_BYTES)

    def write(self, pool: KernelPool, sessions: SessionStore, recorder: Recorder) -> dict[str, str]:
        """All as it is now; the marks up to which journals are needed no longer, by kernel. OSError when it cannot."""
        marks = {kernel.id: mark_of(kernel.relay.latest).decode() for kernel in pool.all()}
        runs = recorder.runs()
        state = {
            "requests": self._number + 1,
            "kernels": [
                dump_kernel(kernel, born=born(kernel.pid or 0), mark=marks[kernel.id])
                for kernel in pool.all()
            ],
            "sessions": [asdict(session) for session in sessions.all()],
            "runs": [self._dump(run, request_id) for run, request_id in runs],
            "written": recorder.written(),
        }
        self._folder.write(state)
        self._begin_anew(runs)
        return marks

    def _dump(self, run: Run, request_id: str) -> dict[str, Any]:
        told = run.dump() | {"request": request_id}
        if run.size < OWN_FILE_CHARACTERS:
            return told | {"outputs": run.dump_outputs()}
        changes, name = self._files.get(id(run), (-1, ""))
        if changes != run.changes:
            self._next_file += 1
            name = f"outputs.{os.getpid()}.{self._next_file}"
            self._folder.replace(name, json.dumps(run.dump_outputs()).encode())
            self._files[id(run)] = (run.changes, name)
        return told | {"outputs": name}

    def _begin_anew(self, runs: list[tuple[Run, str]]) -> None:
        """What the state holds now need not be kept beside it."""
        self.close_requests()
        self._number += 1
        living = {id(run) for run, _ in runs}
        self._files = {key: value for key, value in self._files.items() if key in living}
        needed = {name for _, name in self._files.values()} | {f"requests.{self._number}"}
        for entry in os.scandir(self._folder.path):
            if entry.name.startswith(("requests.", "outputs.")) and entry.name not in needed:
                with suppress(OSError):
                    os.unlink(entry.path)

    def forget(self, kernel_id: str) -> None:
        """A kernel that is gone for good."""
        page = self._marks.pop(kernel_id, None)
        if page is not None:
            page.close()
        with suppress(OSError):
            os.unlink(self._folder.path / f"{kernel_id}.shown")

    def close_requests(self) -> None:
        """The next request begins another file."""
        if self._requests >= 0:
            os.close(self._requests)
            self._requests = -1

    def close(self) -> None:
        """Write no more."""
        self.close_requests()
        for page in self._marks.values():
            page.close()
        self._marks.clear()


def _shared(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, MARK_BYTES)
        return mmap.mmap(descriptor, MARK_BYTES)
    finally:
        os.close(descriptor)


def shown_mark(folder: Path, kernel_id: str) -> bytes:
    """The last message of a kernel that a server gave to its browsers."""
    try:
        return (folder / f"{kernel_id}.shown").read_bytes().strip(b" \0")
    except OSError:
        return b""


def requests_since(folder: Path, number: int) -> Iterator[tuple[str, str, list[bytes]]]:
    """Kernel, session and parts of each request since the state was written; a half-written last one is left out."""
    try:
        lines = (folder / f"requests.{number}").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError):
            kernel_id, session_id, parts = json.loads(line)
            yield kernel_id, session_id, raw(parts)


def load_runs(folder: Path, told: list[dict[str, Any]]) -> list[tuple[Run, str]]:
    """The recorded runs of a state, each with the request that may still add to it."""
    runs = []
    for one in told:
        run = Run.load(one)
        outputs = one["outputs"]
        if isinstance(outputs, str):
            try:
                outputs = json.loads((folder / outputs).read_bytes())
            except (OSError, ValueError):
                continue
        run.load_outputs(outputs)
        runs.append((run, one["request"]))
    return runs
