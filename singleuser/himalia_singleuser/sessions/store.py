"""The sessions of this server, in memory: they mean nothing without their kernels."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from himalia_singleuser.errors import ApiError, BadRequest, NotFound, NotImplementedYet
from himalia_singleuser.fields import needed_text, object_field, text_field
from himalia_singleuser.kernels.errors import KernelWontStart, NoSuchKernel, NoSuchSpec
from himalia_singleuser.kernels.lifecycle import Kernel
from himalia_singleuser.kernels.pool import KernelPool


class NoSuchSession(NotFound):
    """No session of that id; its kernel was shut down or it never was."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session not found: {session_id}")


class KernelAlreadyGoneError(ApiError):
    """The session's kernel ended before the session was deleted."""

    status = 410
    default_message = "Kernel deleted before session"


@dataclass(slots=True)
class Session:
    """One document, console or file and its kernel."""

    id: str
    path: str
    name: str
    type: str
    kernel_id: str

    def model(self, kernel: Kernel) -> dict[str, Any]:
        """The session model of the REST API."""
        model: dict[str, Any] = {
            "id": self.id,
            "path": self.path,
            "name": self.name,
            "type": self.type,
            "kernel": kernel.model(),
        }
        if self.type == "notebook":
            model["notebook"] = {"path": self.path, "name": self.name}
        return model


class SessionStore:
    """Rules of the sessions API over a pool of kernels."""

    def __init__(self, pool: KernelPool) -> None:
        self._pool = pool
        self._sessions: dict[str, Session] = {}
        # One at a time: two pages that open the same notebook together must get one kernel.
        self._lock = asyncio.Lock()
        self.changed: Callable[[], None] = lambda: None
        """Called when there is another session, or one is other than it was."""

    def all(self) -> list[Session]:
        """Every session, also one whose kernel is gone."""
        return list(self._sessions.values())

    def take_back(self, session: Session) -> None:
        """One of an earlier server."""
        self._sessions[session.id] = session

    def notebook_of(self, kernel_id: str) -> str | None:
        """The API path of the notebook that uses this kernel; None when none does, or several do."""
        paths = {
            session.path
            for session in self._sessions.values()
            if session.kernel_id == kernel_id and session.type == "notebook"
        }
        return paths.pop() if len(paths) == 1 else None

    def models(self) -> list[dict[str, Any]]:
        """Every session whose kernel lives; the others are forgotten."""
        listed = []
        for session in list(self._sessions.values()):
            kernel = self._pool.find(session.kernel_id)
            if kernel is None:
                del self._sessions[session.id]
            else:
                listed.append(session.model(kernel))
        return listed

    def model(self, session_id: str) -> dict[str, Any]:
        """One session's model; NoSuchSession also when its kernel is gone."""
        session = self._get(session_id)
        kernel = self._pool.find(session.kernel_id)
        if kernel is None:
            del self._sessions[session_id]
            raise NoSuchSession(session_id)
        return session.model(kernel)

    async def create(self, body: dict[str, Any] | None) -> dict[str, Any]:
        """The session of the path in `body`: the one there is, or a new one with its kernel."""
        path, name, kind = _identity_of(body)
        wanted = object_field(body or {}, "kernel")
        async with self._lock:
            for session in self._sessions.values():
                kernel = self._pool.find(session.kernel_id)
                if session.path == path and kernel is not None:
                    return session.model(kernel)
            kernel = await self._kernel_for(wanted, path, name)
            session = Session(str(uuid.uuid4()), path, name, kind, kernel.id)
            self._sessions[session.id] = session
            self.changed()
            return session.model(kernel)

    async def update(self, session_id: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Change path, name, type or kernel. A kernel that no session uses any more is shut down."""
        if body is None:
            raise BadRequest("No JSON data provided")
        changes = {
            key: text_field(body, key) for key in ("path", "name", "type") if body.get(key) is not None
        }
        wanted = object_field(body, "kernel")
        async with self._lock:
            self.model(session_id)
            session = self._get(session_id)
            kernel_id = await self._other_kernel(session, wanted, changes.get("path", session.path))
            session.path = changes.get("path", session.path)
            session.name = changes.get("name", session.name)
            session.type = changes.get("type", session.type)
            former, session.kernel_id = session.kernel_id, kernel_id
            self.changed()
        if former != kernel_id and not any(one.kernel_id == former for one in self._sessions.values()):
            await self._stop_kernel(former)
        return self.model(session_id)

    async def delete(self, session_id: str) -> None:
        """Forget the session and shut its kernel down. KernelAlreadyGoneError when there is none."""
        session = self._get(session_id)
        del self._sessions[session_id]
        self.changed()
        if not await self._stop_kernel(session.kernel_id):
            raise KernelAlreadyGoneError

    def _get(self, session_id: str) -> Session:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise NoSuchSession(session_id) from None

    async def _kernel_for(self, wanted: dict[str, Any], path: str, name: str) -> Kernel:
        kernel_id = text_field(wanted, "id")
        running = self._pool.find(kernel_id) if kernel_id else None
        if running is not None:
            return running
        try:
            return await self._pool.start(
                text_field(wanted, "name"),
                path=path.rpartition("/")[0],
                kernel_id=kernel_id,
                session_name=name or path.rpartition("/")[2],
            )
        except (NoSuchSpec, KernelWontStart) as error:
            # 501 is what front ends turn into their "select another kernel" dialog.
            raise NotImplementedYet(
                error.message, extra={"short_message": f"No such kernel: {error.name}"}
            ) from None

    async def _other_kernel(self, session: Session, wanted: dict[str, Any], path: str) -> str:
        kernel_id = text_field(wanted, "id")
        if kernel_id:
            if self._pool.find(kernel_id) is None:
                raise BadRequest(f"No such kernel: {kernel_id}")
            return kernel_id
        if text_field(wanted, "name"):
            return (await self._kernel_for(wanted, path, session.name)).id
        return session.kernel_id

    async def _stop_kernel(self, kernel_id: str) -> bool:
        try:
            await self._pool.stop(kernel_id)
        except NoSuchKernel:
            return False
        return True


def _identity_of(body: dict[str, Any] | None) -> tuple[str, str, str]:
    if body is None:
        raise BadRequest("No JSON data provided")
    if "notebook" in body and "path" not in body:
        # How clients from before 2015 named it; some scripts still do.
        notebook = object_field(body, "notebook")
        return needed_text(notebook, "path"), text_field(notebook, "name"), "notebook"
    return needed_text(body, "path"), text_field(body, "name"), needed_text(body, "type")


SESSIONS = web.AppKey("SESSIONS", SessionStore)
