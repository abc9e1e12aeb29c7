"""All that a hub needs to know of spawners: the Protocol and the values that cross it."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO, Protocol, runtime_checkable


class Presence(StrEnum):
    """Whether a backend holds a server. UNKNOWN means that it could not be asked; never guess ABSENT."""

    ABSENT = "absent"
    PRESENT = "present"
    UNKNOWN = "unknown"


class Cause(StrEnum):
    """Why a server is not there, as its user should read it; the words are in `Exit.reason` or the error."""

    REFUSED = "refused"
    CRASHED = "crashed"
    MEMORY = "ran out of memory"
    TIMED_OUT = "timed out"
    ENGINE_GONE = "engine gone"
    REMOVED = "removed by somebody else"
    NODE_LOST = "was lost with its machine"


Say = Callable[[str], None]
"""Takes a sentence for the person who waits: only what has happened, or is happening, as it happens."""


def silent(_sentence: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server and all it starts may use together; None is no limit.

    `memory` and `disk` in bytes, `cpus` in CPUs (0.5 is half of one), `pids` counts processes and threads.
    """

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    disk: int | None = None


@dataclass(frozen=True, slots=True)
class ServerRef:
    """Which server is meant.

    `name` is deterministic for a (user, server) pair, so creating twice finds the first; `incarnation`
    (the hub's server id and generation) tells one life of that name from the next, so that a late stop
    never hits a successor.
    """

    name: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class Guest:
    """Whom a throw-away session runs as: an account that exists only as a number, and a folder that is its home.

    `uid` None is the hub's own account. The folder is there, belongs to the account, and is removed by the hub.
    """

    home: str
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """Whose home is meant: by what they are called, and by the name that their files are kept under."""

    username: str
    files_of: str


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """What to start.

    `env` is complete but for what only the backend knows: `JUPYTERHUB_SERVICE_URL`, `HOME`, `USER`, `SHELL`.
    `prefix` is the URL path the server answers under, with a slash at both ends. An empty `command` means
    the project's own single-user server. `image` is for spawners that have images; empty takes their default.
    `guest` is set for a throw-away session. `kept_as` is the name that the person's files are kept under, which stays
    when they are renamed; empty is `username`.
    """

    ref: ServerRef
    username: str
    server_name: str
    prefix: str
    env: Mapping[str, str] = field(repr=False)  # holds the API token
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    image: str = ""
    limits: Limits = Limits()
    guest: Guest | None = None
    kept_as: str = ""

    @property
    def files_of(self) -> str:
        """By which name a person's folders and volumes are called."""
        return self.kept_as or self.username


@dataclass(frozen=True, slots=True)
class Handle:
    """A server that a backend holds: whose it is, and where it listens.

    `url` has no path: `http://127.0.0.1:PORT`, or `http+unix://%2Fpath%2Fto%2Fsocket`.
    `state` is the backend's own JSON, for logs and pages; the hub never reads it.
    """

    ref: ServerRef
    url: str
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a server ended, as far as the backend can tell. `reason` is a sentence for its user."""

    reason: str
    status: int | None = None
    signal: int | None = None
    log_tail: tuple[str, ...] = ()
    cause: Cause = Cause.CRASHED


@dataclass(frozen=True, slots=True)
class Kept:
    """What a crashed server left that waits for its next start (its kernels), for `left_s` seconds still.

    Only a backend that can have such things ever tells of them: where a server's end is its container's, none does.
    The next start under the name takes them back; a stop of `ref` ends them at once.
    """

    ref: ServerRef
    left_s: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is there now under a name. PRESENT always has a handle once its address is known.

    `listening` is False while nobody, or somebody else's process, listens at the handle's address: such a
    server must not get a route. `detail` then says which, in words for its user. `kept` is for ABSENT only.
    """

    presence: Presence
    handle: Handle | None = None
    exit: Exit | None = None
    detail: str = ""
    listening: bool = True
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """What a server and all it started use at one moment; None where the backend cannot tell.

    `memory` in bytes, without files that are only cached. `cpu_s` in CPU seconds since some moment of its life: two
    measures give a rate.
    """

    memory: int | None = None
    cpu_s: float | None = None


@runtime_checkable
class Measures(Protocol):
    """A spawner that can tell, cheaply, what its servers use."""

    async def measure(self, names: Collection[str]) -> dict[str, Measure]:
        """By name, for those that run here and could be asked; the others are left out. Raises nothing."""


@runtime_checkable
class HeardBySocket(Protocol):
    """A spawner that mounts a unix socket of the hub into its servers, so that they need no address of it.

    The hub listens at `hub_socket` (an absolute path, in a folder that the spawner made); None: not wanted.
    """

    hub_socket: str | None


@runtime_checkable
class TellsOfFiles(Protocol):
    """A spawner that does otherwise with people's files than keep them by `ServerSpec.files_of`, for good."""

    files_by_account: bool
    """Whether they are those of the machine's own account of the person's name."""
    files_end_with_person: bool
    """Whether they are deleted with the person."""


@runtime_checkable
class TakesGuests(Protocol):
    """A spawner that can run a throw-away session in a folder of the hub's, apart from everything else."""

    guest_uids: range
    """User ids that are for sessions, one each; empty where it cannot switch accounts."""


Write = Callable[[BinaryIO], None]
"""Writes a tar archive into what it is given. Blocking; called in a thread."""


def end_of(key: str) -> str:
    """The name of an archive's last, empty member: without it, one that was cut between two members looks whole."""
    return f".himalia-{key}.end"


@runtime_checkable
class TakesFiles(Protocol):
    """A spawner that knows people's homes and can put a folder there, as theirs."""

    async def take_in(self, whose: Person, name: str, key: str, write: Write) -> str:
        """Unpack the archive, which ends with `end_of(key)`, into a new folder of this name or the next free; its name.

        Twice with the same `key` equals once. SpawnError says why not, and then nothing of it is left in the home.
        """

    async def taken_in(self, whose: Person, key: str) -> None:
        """The caller has recorded it: `key` may be forgotten. Twice equals once."""


@dataclass(frozen=True, slots=True)
class ImageOrder:
    """An image to build: its whole name, and `context`, the path of a tar with its `Dockerfile` and all that it copies.

    `seconds`, `memory` and `most` (bytes of the image), and `cpus` bound it; None is no limit.
    """

    name: str
    context: str
    labels: Mapping[str, str]
    seconds: float
    most: int
    memory: int | None = None
    cpus: float | None = None


class ImageBuilder(Protocol):
    """Images on the engine that runs the servers."""

    base: str
    """What servers run from where nothing else is said."""
    url: str
    """The engine's address; empty: what the environment says."""
    labels: Mapping[str, str]
    """What every image of this hub's is marked with."""

    async def id_of(self, name: str) -> str | None:
        """What the image is now; None when it is not there."""

    async def build(self, order: ImageOrder, say: Say = silent) -> int:
        """Build it; its bytes. `say` hears the engine's lines. SpawnRefused says why not; then nothing is left."""

    async def must_fit(self, name: str, most: int) -> int:
        """Its bytes. SpawnRefused when it is not there, or larger than `most`; then it is removed."""

    async def remove(self, name: str) -> None:
        """Remove it, unless something uses it; its not being there is success."""


@runtime_checkable
class BuildsImages(Protocol):
    """A spawner whose servers are containers, and that can have the image of one built."""

    images: ImageBuilder


@runtime_checkable
class LeavesTraces(Protocol):
    """A spawner that keeps something of a server that has ended, such as its log: it may be orphaned too."""

    async def traces(self, known: Collection[str]) -> builtins.list[str]:
        """What is left of servers that do not run and whose names are not `known`: one mark for each."""

    async def remove_trace(self, mark: str) -> None:
        """Remove it, unless its server runs by now; never a person's files."""


class Spawner(Protocol):
    """Starts and stops servers. Knows nothing of users' rights, tokens or the database."""

    node: str | None
    """The host whose processes this spawner sees, or None where any hub can reach every server."""

    async def start(self, spec: ServerSpec, say: Say = silent) -> Handle:
        """Create it, or adopt what already carries `spec.ref`. Twice equals once. `say` hears of long steps.

        Raises SpawnRefused or SpawnFailed when there is nothing to wait for, BackendGone to try later.
        """

    async def look(self, name: str) -> Sighting:
        """What is there under `name`, whatever its incarnation."""

    async def stop(self, ref: ServerRef, *, grace_s: float | None = None) -> None:
        """Gone on return, with all it left. Not being there, or another incarnation being there, is success.

        `grace_s` caps the time given before SIGKILL; None takes the backend's own escalation times.
        """

    def watch(self) -> AsyncIterator[str]:
        """Names of servers that just ended or changed, as it happens, until cancelled."""

    async def list(self) -> list[Handle]:
        """Every server the backend holds for this hub, for finding orphans."""

    async def logs(self, name: str, lines: int = 50) -> builtins.list[str]:
        """The last lines the server wrote, oldest first; empty if there are none."""

    async def purge(self, name: str) -> None:
        """Remove what outlives a stop (logs, runtime folder), never a person's files."""

    async def close(self) -> None:
        """Let go of the backend. Servers go on."""
