"""The cells a kernel was asked to run and has not finished: who asked, who is answered now, what is asked back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from himalia_singleuser.kernels.messages import Header, Message, parse_object


@dataclass(slots=True)
class Request:
    """One `execute_request` on its way."""

    header: Header
    header_part: bytes
    metadata: dict[str, Any]
    content: dict[str, Any]
    asker: str
    holder: str
    started: bool = False
    question: Message | None = None
    reply: Message | None = None
    idle: bool = False
    failed: bool = False
    count: int | None = None

    @property
    def id(self) -> str:
        """Its `msg_id`."""
        return str(self.header["msg_id"])


class Tap(Protocol):
    """Who follows the requests of one kernel. Called on the event loop, must be quick."""

    def opened(self, request: Request) -> None:
        """It is sent to the kernel."""

    def said(self, request: Request, message: Message) -> None:
        """The kernel published something about it, or replied."""

    def closed(self, request: Request) -> None:
        """Nothing more will come."""

    def ended(self, here: frozenset[str]) -> None:
        """The kernel is gone for good; `here` are the sessions with a browser at that moment."""


class NoTap:
    """Follows nothing."""

    def opened(self, request: Request) -> None:
        """Nothing."""

    def said(self, request: Request, message: Message) -> None:
        """Nothing."""

    def closed(self, request: Request) -> None:
        """Nothing."""

    def ended(self, here: frozenset[str]) -> None:
        """Nothing."""


class TapFor(Protocol):
    """Makes taps."""

    def __call__(self, kernel_id: str, /) -> Tap:
        """The one that follows this kernel."""


@dataclass(slots=True)
class Requests:
    """The open requests of one kernel, oldest first."""

    tap: Tap = field(default_factory=NoTap)
    _open: dict[str, Request] = field(default_factory=dict)

    def open(self, session_id: str, header: Header, parts: Sequence[bytes]) -> None:
        """An `execute_request` goes to the kernel. Silent ones are nobody's cell."""
        content, metadata = parse_object(parts[3]) or {}, parse_object(parts[2]) or {}
        if content.get("silent") is True:
            return
        request = Request(header, parts[0], metadata, content, asker=session_id, holder=session_id)
        self._open[request.id] = request
        self.tap.opened(request)

    def take_back(self, request: Request) -> None:
        """One that an earlier server opened, and that whoever follows already knows."""
        self._open[request.id] = request

    def all(self) -> list[Request]:
        """Those that are open, the oldest first."""
        return list(self._open.values())

    def is_open(self, request: Request) -> bool:
        """Whether more is to come."""
        return request.id in self._open

    def find(self, request_id: str) -> Request | None:
        """The open request of that `msg_id`, or None."""
        return self._open.get(request_id)

    def owned_by(self, session_id: str) -> bool:
        """Whether the kernel may still answer to this session."""
        return any(request.asker == session_id for request in self._open.values())

    @property
    def running(self) -> Request | None:
        """The one the kernel works on."""
        return next((request for request in self._open.values() if request.started), None)

    def published(self, message: Message) -> None:
        """An iopub message: note what it says about its request."""
        request = self._parent_of(message)
        if request is None:
            return
        request.started = True
        if message.type == "execute_input":
            count = message.content.get("execution_count")
            request.count = count if isinstance(count, int) else None
        request.failed = request.failed or message.type == "error"
        self.tap.said(request, message)
        if message.type == "status" and message.content.get("execution_state") == "idle":
            request.idle = True
            self._close_if_over(request)

    def replied(self, message: Message) -> Request | None:
        """A message on shell or stdin: the request it belongs to."""
        if message.type not in {"execute_reply", "input_request"}:
            return None
        request = self._parent_of(message)
        if request is None:
            return None
        if message.type == "input_request":
            request.question = message
            return request
        request.reply, request.question = message, None
        self.tap.said(request, message)
        self._close_if_over(request)
        return request

    def answered(self, parts: Sequence[bytes]) -> Request | None:
        """An `input_reply` by a browser: the request whose question it answers."""
        parent = parse_object(parts[1]) or {}
        for request in self._open.values():
            question = request.question
            if question is not None and question.header.get("msg_id") == parent.get("msg_id"):
                request.question = None
                return request
        return None

    def close_all(self) -> None:
        """The kernel will answer none of them any more."""
        for request in list(self._open.values()):
            self._close(request)

    def _parent_of(self, message: Message) -> Request | None:
        return self._open.get(str(message.parent.get("msg_id", ""))) if self._open else None

    def _close_if_over(self, request: Request) -> None:
        status = request.reply.content.get("status") if request.reply else None
        if status in {"aborted", "abort"} or (request.reply is not None and request.idle):
            self._close(request)

    def _close(self, request: Request) -> None:
        self._open.pop(request.id, None)
        self.tap.closed(request)
