"""The last run of each cell, by notebook: in memory within a bound on all of them together, on disk past it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from himalia_singleuser.kernels.messages import Message, parse_object
from himalia_singleuser.recorder.merge import Recorded
from himalia_singleuser.recorder.outputs import KINDS, Outputs

MIB = 1024 * 1024
CELL_CHARACTERS = 256 * MIB
"""Of one run, more than a page can show. Past it outputs are counted, not kept."""
CELL_HELD = 4 * MIB
"""Of one run in memory: what is over goes to disk."""
ALL_HELD = 64 * MIB
DISK_BYTES = 1024 * MIB
SMALL = MIB // 32
"""What is less is not worth a file."""
UNREAD_BYTES = MIB // 16
"""Of one run: so much is kept as it came, because most runs end with their browser there, and are never read. Reading
it takes milliseconds in which nobody else gets a turn.
"""
MOST_RUNS = 2000


@dataclass(slots=True)
class Run:
    """One run of a notebook's cell: who asked, what it put out."""

    kernel_id: str
    request_id: str
    asker: str
    """The session whose browser holds the outputs: the one that asked, or has taken over."""
    path: str
    cell_id: str
    code: str
    timed: bool
    outputs: Outputs = field(default_factory=lambda: Outputs(CELL_HELD))
    execution_count: int | None = None
    times: dict[str, str] = field(default_factory=dict)
    is_open: bool = True
    is_saved: bool = False
    is_written: bool = False
    """Whether all of it is in the file."""
    is_given: bool = False
    """Whether a client was shown it; before, clients have what the file had."""
    given: set[str] = field(default_factory=set)
    _unread: list[tuple[str, bytes]] = field(default_factory=list)
    _unread_bytes: int = 0
    _has_displays: bool = False
    changes: int = 0
    """Counts what came: whoever writes the outputs down knows whether it has."""

    def dump_outputs(self) -> dict[str, Any]:
        """What came so far, as JSON."""
        unread = [[kind, content.decode("utf-8", "surrogateescape")] for kind, content in self._unread]
        return {"outputs": self.outputs.dump(), "unread": unread, "has_displays": self._has_displays}

    def load_outputs(self, told: dict[str, Any]) -> None:
        """What `dump_outputs` gave."""
        self.outputs = Outputs.load(told["outputs"])
        self._has_displays = told["has_displays"]
        self._unread = [(kind, text.encode("utf-8", "surrogateescape")) for kind, text in told["unread"]]
        self._unread_bytes = sum(len(content) for _, content in self._unread)

    def dump(self) -> dict[str, Any]:
        """All else, as JSON."""
        return {name: getattr(self, name) for name in _PLAIN} | {"given": sorted(self.given)}

    @classmethod
    def load(cls, told: dict[str, Any]) -> Run:
        """What `dump` gave."""
        named = {name: told[name] for name in _PLAIN}
        return cls(**named, given=set(told["given"]))

    @property
    def size(self) -> int:
        """About what it holds in memory, in characters."""
        return len(self.code) + self.outputs.held + self._unread_bytes

    def shelve(self) -> None:
        """Put on disk what can be."""
        self.read()
        self.outputs.shelve()

    def take(self, message: Message) -> bool:
        """A message of the kernel about it. Whether its size should be looked at again."""
        kind = message.type
        self.changes += 1
        if kind in KINDS:
            self.is_written = False
            self._unread.append((kind, message.parts[3]))
            self._unread_bytes += len(message.parts[3])
            self._has_displays = self._has_displays or b"display_id" in message.parts[3]
            if self._unread_bytes > UNREAD_BYTES:
                self.read()
                return True
        elif kind == "execute_input":
            count = message.content.get("execution_count")
            self.execution_count = count if isinstance(count, int) else None
            self._time("iopub.execute_input", message.header)
        elif kind == "execute_reply":
            self._time("shell.execute_reply", message.header)
            started = (parse_object(message.parts[2]) or {}).get("started")
            if isinstance(started, str) and self.timed:
                self.times["shell.execute_reply.started"] = started
        elif kind == "status":
            state = message.content.get("execution_state")
            self._time(f"iopub.status.{state}", message.header)
        return False

    def _time(self, name: str, header: dict[str, Any]) -> None:
        self.is_written = False
        if self.timed and isinstance(header.get("date"), str):
            self.times[name] = header["date"]

    def read(self) -> None:
        """Put what was kept as it came into the outputs."""
        for kind, content in self._unread:
            self.outputs.take(kind, parse_object(content) or {}, len(content))
        self._unread, self._unread_bytes = [], 0

    def shows(self, display_id: str) -> bool:
        """Whether it put out a display of this id. Most runs show none that can change: these are not read for it."""
        if self._has_displays:
            self.read()
        return self._has_displays and self.outputs.shows(display_id)

    def recorded(self) -> Recorded:
        """The run so far."""
        self.read()
        return Recorded(
            self.cell_id,
            self.code,
            self.outputs.list(),
            self.execution_count,
            dict(self.times),
            self.is_saved,
        )


_PLAIN = (
    *("kernel_id", "request_id", "asker", "path", "cell_id", "code", "timed", "execution_count", "times"),
    *("is_open", "is_saved", "is_written", "is_given"),
)


class Journal:
    """At most one run per cell: the last one."""

    def __init__(self, *, most: int = ALL_HELD, most_of_one: int = CELL_HELD) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._runs: dict[tuple[str, str], Run] = {}

    def add(self, run: Run) -> None:
        """Begin a run in place of the cell's last one."""
        self._forget(run)
        self._runs[run.path, run.cell_id] = run
        self.shrink()

    @property
    def held(self) -> int:
        """What all runs hold in memory, in characters."""
        return sum(run.size for run in self._runs.values())

    def shrink(self) -> None:
        """While all hold too much: the largest go to disk, then the oldest that are over are forgotten, those in the
        file first.
        """
        if self.held > self._most:
            self._shelve_largest()
        total = self.held
        over = [run for run in self._runs.values() if not run.is_open]
        for run in sorted(over, key=lambda one: not one.is_written):
            if total <= self._most and len(self._runs) <= MOST_RUNS:
                return
            total -= run.size
            self.drop(run)

    def _shelve_largest(self) -> None:
        total = self.held
        for run in sorted(self._runs.values(), key=lambda one: -one.size):
            if total <= self._most // 2 or run.size < SMALL:
                return
            total -= run.size
            run.shelve()
            total += run.size

    def grew(self, run: Run) -> None:
        """Make room; where there is none, this run grows no more."""
        if run.size > self._most_of_one:
            run.shelve()
        self.shrink()
        if self.held > self._most:
            run.outputs.stop()

    def _forget(self, run: Run) -> None:
        old = self._runs.pop((run.path, run.cell_id), None)
        if old is not None:
            old.outputs.close()

    def drop(self, run: Run) -> None:
        """Forget it, if it is still the cell's last."""
        if self._runs.get((run.path, run.cell_id)) is run:
            self._forget(run)

    def holds(self, run: Run) -> bool:
        """Whether it is still the cell's last, and not settled by a client."""
        return self._runs.get((run.path, run.cell_id)) is run

    def of(self, path: str) -> list[Run]:
        """The runs of a notebook, the oldest first."""
        return [run for run in self._runs.values() if run.path == path]

    def of_kernel(self, kernel_id: str) -> list[Run]:
        """The runs that this kernel worked on."""
        return [run for run in self._runs.values() if run.kernel_id == kernel_id]

    def all(self) -> list[Run]:
        """Every run, the oldest first."""
        return list(self._runs.values())

    def paths(self) -> Iterator[str]:
        """Notebooks with runs, each once."""
        return iter(list(dict.fromkeys(run.path for run in self._runs.values())))

    def move(self, old: str, new: str) -> None:
        """A file or folder has another name."""
        runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            if run.path == old or run.path.startswith(old + "/"):
                run.path = new + run.path[len(old) :]
            self._runs[run.path, run.cell_id] = run
