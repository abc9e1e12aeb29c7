"""The cells a kernel was asked to run and has not finished: who asked, who listens now, what is asked back.

A browser that comes anew to a running cell adopts it: it sends the `execute_request` once more, with the same
`msg_id` and `ADOPT` in its metadata. That one is never run again; its outputs so far are told to the new
browser, and from then on replies and questions go there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from himalia_singleuser.kernels.messages import Header, Message, parse_object

ADOPT = "himalia_adopt"
MOST_PARENTS = 4096
MOST_ENDED = 256


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

    @property
    def id(self) -> str:
        """Its `msg_id`."""
        return str(self.header["msg_id"])

    @property
    def cell_id(self) -> str:
        """The notebook cell that front ends name in the metadata, or nothing."""
        cell_id = self.metadata.get("cellId")
        return cell_id if isinstance(cell_id, str) else ""

    def model(self) -> dict[str, Any]:
        """What a page needs to adopt it."""
        return {
            "msg_id": self.id,
            "cell_id": self.cell_id,
            "state": "running" if self.started else "queued",
            "content": self.content,
        }


class Tap(Protocol):
    """Who follows the requests of one kernel. Called on the event loop, must be quick."""

    def opened(self, request: Request) -> None:
        """It was sent to the kernel."""

    def said(self, request: Request, message: Message) -> None:
        """The kernel published something about it, or replied."""

    def closed(self, request: Request) -> None:
        """Nothing more will come."""

    def left(self, session_id: str) -> None:
        """The browser of that session is gone."""

    def returned(self, session_id: str) -> None:
        """It is back and will be told all it missed."""

    def told_to(self, request: Request, session_id: str) -> list[Message]:
        """What the request put out so far, for a browser that will see the rest."""

    def ended(self) -> None:
        """The kernel is gone for good."""


class NoTap:
    """Follows nothing."""

    def opened(self, request: Request) -> None:
        """Nothing."""

    def said(self, request: Request, message: Message) -> None:
        """Nothing."""

    def closed(self, request: Request) -> None:
        """Nothing."""

    def left(self, session_id: str) -> None:
        """Nothing."""

    def returned(self, session_id: str) -> None:
        """Nothing."""

    def told_to(self, request: Request, session_id: str) -> list[Message]:
        """Nothing."""
        return []

    def ended(self) -> None:
        """Nothing."""


@dataclass(slots=True)
class Requests:
    """The open requests of one kernel, oldest first."""

    tap: Tap
    _open: dict[str, Request] = field(default_factory=dict)
    _ended: dict[str, Request] = field(default_factory=dict)
    _parents: dict[bytes, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Request]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def open(self, session_id: str, header: Header, parts: Sequence[bytes]) -> None:
        """An `execute_request` goes to the kernel. Silent ones are nobody's cell."""
        content, metadata = parse_object(parts[3]) or {}, parse_object(parts[2]) or {}
        if content.get("silent") is True:
            return
        request = Request(header, parts[0], metadata, content, asker=session_id, holder=session_id)
        self._open[request.id] = request
        self.tap.opened(request)

    def find(self, msg_id: str) -> Request | None:
        """The request of that id, open or lately ended."""
        return self._open.get(msg_id) or self._ended.get(msg_id)

    def is_open(self, request: Request) -> bool:
        """Whether more is to come."""
        return request.id in self._open

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
        self.tap.said(request, message)
        if message.type == "status":
            state = (parse_object(message.parts[3]) or {}).get("execution_state")
            if state == "idle":
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

    def close_all(self) -> list[Request]:
        """The kernel will answer none of them any more."""
        closed = list(self._open.values())
        for request in closed:
            self._close(request)
        return closed

    def _parent_of(self, message: Message) -> Request | None:
        if not self._open:
            return None
        raw = message.parts[1]
        msg_id = self._parents.get(raw)
        if msg_id is None:
            # A kernel writes the same parent into every message of a request: it is parsed once.
            msg_id = str((parse_object(raw) or {}).get("msg_id", ""))
            if len(self._parents) >= MOST_PARENTS:
                self._parents.clear()
            self._parents[raw] = msg_id
        return self._open.get(msg_id)

    def _close_if_over(self, request: Request) -> None:
        status = (parse_object(request.reply.parts[3]) or {}).get("status") if request.reply else None
        if status in {"aborted", "abort"} or (request.reply is not None and request.idle):
            self._close(request)

    def _close(self, request: Request) -> None:
        self._open.pop(request.id, None)
        self._parents.clear()
        self._ended[request.id] = request
        while len(self._ended) > MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        self.tap.closed(request)
