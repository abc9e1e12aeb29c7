"""Whether a server has the port that it was given, or somebody was faster: between giving and listening it is free.

Only for commands other than our own server, which listens on a socket that it inherits.
"""

from __future__ import annotations

import structlog

from himalia_spawner import ports, procfs
from himalia_spawner.base import ServerSpec
from himalia_spawner.launch import port_of
from himalia_spawner.records import Record

log = structlog.get_logger()

BELIEVED_S = 10.0
"""A process that lives on for so long without its port has it from somebody: what listens for it is no child of it."""


class Claims:
    """The ports of servers that were started here, each until its server was seen to listen there itself."""

    def __init__(self) -> None:
        self._begun: dict[str, ServerSpec] = {}
        self._moving: set[str] = set()
        self._moved: set[str] = set()

    def begun(self, spec: ServerSpec) -> None:
        """It was given a port."""
        if spec.command:
            self._begun[spec.ref.name] = spec
            self._moved.discard(spec.ref.name)

    def forget(self, name: str) -> None:
        """It gets no other port any more."""
        self._begun.pop(name, None)
        self._moved.discard(name)

    def hindrance(self, record: Record) -> str:
        """Why nobody can be led to this running server yet; empty when it listens, or has no port."""
        port = port_of(record.url)
        if port is None:
            return ""
        listener = ports.listener(port)
        if listener is None:
            return "the server does not listen yet"
        if listener.uid != record.uid:
            return (
                f"port {port} was taken by a process of another account (user id {listener.uid}); "
                "start the server again"
            )
        # Whoever runs as the same account may be anybody's server.
        if record.name in self._begun and not self._owns(record, listener):
            return f"port {port} was taken by another process"
        self.forget(record.name)
        return ""

    def lost(self, record: Record) -> bool:
        """Whether this server ended without ever listening, for a port that it could not get, and may have another."""
        if record.name in self._moving:
            return True
        port, spec = port_of(record.url), self._begun.get(record.name)
        if port is None or spec is None or record.name in self._moved or not record.exit_status:
            return False
        return spec.ref == record.ref and not ports.is_free(port)

    def move(self, record: Record) -> ServerSpec:
        """What to start with another port, once. It is on its way until `moved`."""
        self._moving.add(record.name)
        self._moved.add(record.name)
        log.warning("spawner.port_taken", server=record.name, port=port_of(record.url), why="trying another")
        return self._begun[record.name]

    def moved(self, name: str) -> None:
        """It runs, or could not be started again."""
        self._moving.discard(name)

    def _owns(self, record: Record, listener: ports.Listener) -> bool:
        if procfs.holds_socket(record.pid, listener.inode) is not False:
            return True
        return procfs.age_s(record.ticks) > BELIEVED_S
