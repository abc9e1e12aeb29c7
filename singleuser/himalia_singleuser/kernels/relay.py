"""One kernel's channels and the browsers on them.

    browser ─ Client ─┐               ┌─ shell, control, stdin   (DEALER, identity = session id)
    browser ─ Client ─┼─ Relay ───────┤
    browser ─ Client ─┘               └─ iopub                   (SUB, one for all)

The kernel answers to the identity that asked, so each session has DEALER sockets of its own and a reply
finds its asker without being read. They outlive the browser: one that comes back with the same session id
takes them over, and gets from `Replay` what was said meanwhile.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from typing import Any

import structlog
from aiohttp import WSCloseCode

from himalia_singleuser.kernels.channels import Channel, ChannelFullError, Context
from himalia_singleuser.kernels.client import Client
from himalia_singleuser.kernels.connection import Connection
from himalia_singleuser.kernels.framing import read_header
from himalia_singleuser.kernels.messages import Message, Signer, dump, make, parse_object
from himalia_singleuser.kernels.options import KernelOptions
from himalia_singleuser.kernels.replay import Replay
from himalia_singleuser.kernels.requests import Request, Requests, Tap
from himalia_singleuser.kernels.session import ASKED_CHANNELS, Session
from himalia_singleuser.kernels.spill import SPILL_FOLDER, Spill
from himalia_singleuser.kernels.witness import Witness

log = structlog.get_logger(__name__)

IOPUB_WAIT_S = 0.2
CATCH_UP_S = 5.0
HIDDEN_ERROR: dict[str, Any] = {"ename": "ExecutionError", "evalue": "Execution error", "traceback": []}


class Relay:
    """Between one kernel and any number of browsers. Knows nothing of processes."""

    def __init__(
        self,
        context: Context,
        connection: Connection,
        options: KernelOptions,
        *,
        on_published: Callable[[Message], None],
        on_sent: Callable[[str], None],
        tap: Tap,
        witness: Witness,
        kernel_id: str,
    ) -> None:
        self._context = context
        self._options = options
        self._on_published = on_published
        self._on_sent = on_sent
        self._witness = witness
        self._kernel_id = kernel_id
        self.divert: Callable[[list[bytes]], None] | None = None
        """Where published messages go instead, while those before them are still missing."""
        self.notice: Message | None = None
        """What a browser that comes is told first."""
        self.latest: list[bytes] = []
        """The last published message, as it came."""
        self._sessions: dict[str, Session] = {}
        self.requests = Requests(tap)
        self._replay = Replay(
            most_bytes=options.replay_bytes,
            most_sessions=options.replay_sessions,
            spill=Spill(SPILL_FOLDER, options.spill_bytes) if options.spill_bytes else None,
        )
        self._iopub: Channel | None = None
        self._idle_after: dict[str, asyncio.Event] = {}
        self.heard_iopub = asyncio.Event()
        self.open(connection)

    def open(self, connection: Connection) -> None:
        """Connect to a kernel that starts, or has been replaced, at `connection`.

        Old sockets are closed first: what ZMQ still held for the dead kernel must not reach the new one.
        """
        self.requests.close_all()
        self._connection = connection
        self._signer = Signer(connection.key)
        if self._iopub is not None:
            self._iopub.close()
        self.heard_iopub.clear()
        self._iopub = Channel(self._context, connection.endpoint("iopub"), self._published, subscribe=True)
        for session in self._sessions.values():
            session.connect(connection)

    def close(self, reason: str = "") -> None:
        """Send every browser away and close all sockets."""
        self.requests.close_all()
        self.requests.tap.ended(frozenset(filter(self.is_here, self._sessions)))
        self._replay.close()
        for session in self._sessions.values():
            if session.client is not None:
                session.client.dismiss(WSCloseCode.GOING_AWAY, reason)
            session.close()
        self._sessions.clear()
        if self._iopub is not None:
            self._iopub.close()
            self._iopub = None

    @property
    def clients(self) -> int:
        """Browsers connected now."""
        return sum(session.client is not None for session in self._sessions.values())

    def attach(self, client: Client) -> None:
        """Let a browser in. One that still holds the session id is stale and is sent away."""
        missed: Iterable[Message] = self._replay.take(client.session_id)
        session = self._sessions.get(client.session_id)
        is_new = session is None
        if session is None:
            session = self._sessions[client.session_id] = self._connect(client.session_id)
        elif session.client is not None:
            session.client.dismiss(WSCloseCode.POLICY_VIOLATION, "another connection took over this session")
            missed = session.client.unsent()
        session.client = client
        client.on_caught_up = self._note_shown
        client.catch_up(chain(missed, [self.notice] if self.notice is not None else ()))
        if is_new:
            self._witness.changed()
            self._show_what_runs(client)

    def detach(self, client: Client) -> None:
        """The browser is gone; what it has not read is kept for its return."""
        session = self._sessions.get(client.session_id)
        if session is None or session.client is not client:
            return
        session.client = None
        forgotten = [client.session_id]
        if self._options.buffer_offline_messages:
            forgotten = self._replay.leave(client.session_id, client.unsent())
        self._forget(forgotten)

    def submit(self, client: Client, channel: str, parts: list[bytes]) -> None:
        """A browser's message to the kernel: signed, otherwise untouched. FrameError on a bad header."""
        header = read_header(parts[0])
        msg_type = header["msg_type"]
        session = self._sessions.get(client.session_id)
        if session is None or channel not in ASKED_CHANNELS:
            log.info("kernel.message_ignored", channel=channel, type=msg_type)
            return
        allowed = self._options.allowed_message_types
        if allowed and msg_type not in allowed:
            return
        runs_cell = msg_type == "execute_request" and channel == "shell"
        if runs_cell:
            # Before the kernel has it: should this server be killed in between, the next one knows whose outputs come.
            self._witness.opened(self._kernel_id, client.session_id, parts)
        elif msg_type == "input_reply":
            asked = self.requests.answered(parts)
            session = self._sessions.get(asked.asker, session) if asked is not None else session
        try:
            session.send(channel, self._signer.to_wire(parts))
        except ChannelFullError:
            client.dismiss(WSCloseCode.TRY_AGAIN_LATER, "the kernel has too many unread requests")
            return
        # While the kernel works: its answer can be read only after this.
        if runs_cell:
            self.requests.open(client.session_id, header, parts)
            # A short cell's messages are read together once it has replied: to be woken by each of them would
            # take the processor from the kernel.
            if self._iopub is not None:
                self._iopub.rest()
        self._on_sent(msg_type)

    def _show_what_runs(self, client: Client) -> None:
        """A browser that is new here sees that the kernel is busy, and is asked what nobody else can answer."""
        running = self.requests.running
        if running is None:
            return
        busy = {"execution_state": "busy"}
        client.catch_up([make("iopub", "status", busy, parent=running.header_part)])
        if running.question is not None and not self.is_here(running.holder):
            running.holder = client.session_id
            client.catch_up([running.question])

    def hand_over(
        self, request: Request, session_id: str, outputs: Iterable[tuple[str, dict[str, Any]]]
    ) -> str:
        """Make an open request a session's: it gets what the request put out, then all that is to come.

        `outputs`: types and contents of iopub messages. The id of the message after which its outputs begin.
        """
        session = self._sessions[session_id]
        request.holder = session_id
        start = make("iopub", "clear_output", {"wait": False}, parent=request.header_part)
        # Made one by one as they are written: much of them may be on disk.
        made = (make("iopub", kind, content, parent=request.header_part) for kind, content in outputs)
        told = [one for one in (request.question, request.reply) if one is not None]
        if request.idle:
            told.append(make("iopub", "status", {"execution_state": "idle"}, parent=request.header_part))
        if session.client is not None:
            session.client.deliver_all(chain([start], made, told))
        return str(start.header["msg_id"])

    @property
    def session_ids(self) -> list[str]:
        """All sessions, with a browser or without."""
        return list(self._sessions)

    def is_here(self, session_id: str) -> bool:
        """Whether a browser holds this session now."""
        session = self._sessions.get(session_id)
        return session is not None and session.client is not None

    def _forget(self, session_ids: Iterable[str]) -> None:
        """Close sessions, except those to which the kernel owes an answer: `_tidy` closes these later."""
        for session_id in session_ids:
            if not self.requests.owned_by(session_id):
                self._sessions.pop(session_id).close()

    def _tidy(self) -> None:
        waited_for = self._replay.absent
        self._forget(
            [
                session_id
                for session_id, session in self._sessions.items()
                if session.client is None and session_id not in waited_for
            ]
        )

    def broadcast(self, message: Message) -> None:
        """To every browser, present or away."""
        for session in self._sessions.values():
            if session.client is not None:
                session.client.deliver(message)
        self._replay.keep(message)

    async def ask(self, channel: str, msg_type: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the kernel on a socket of the server's own; the content of its reply, however late."""
        return await self._ask(channel, make(channel, msg_type, content or {}))

    async def catch_up(self) -> None:
        """Until the kernel has dealt with all that it was asked before, and all it published of that is here."""
        request = make("shell", "kernel_info_request", {})
        idle = self._idle_after[request.header["msg_id"]] = asyncio.Event()
        try:
            await self._ask("shell", request)
            with suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP_S):
                    await idle.wait()
        finally:
            del self._idle_after[request.header["msg_id"]]

    async def _ask(self, channel: str, request: Message) -> dict[str, Any]:
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def received(frames: list[bytes]) -> None:
            parts = self._signer.from_wire(frames)
            if parts is None or answer.done():
                return
            parent = parse_object(parts[1]) or {}
            if parent.get("msg_id") == request.header["msg_id"]:
                answer.set_result(parse_object(parts[3]) or {})

        identity = uuid.uuid4().hex.encode()
        socket = Channel(self._context, self._connection.endpoint(channel), received, identity=identity)
        try:
            socket.send(self._signer.to_wire(request.parts))
            return await answer
        finally:
            socket.close()

    async def wait_until_heard(self) -> None:
        """Until the kernel answered and something came over iopub: only then is nothing lost any more.

        A subscription travels to the kernel on its own; outputs published before it arrives are dropped
        by ZMQ, so an answer on shell alone proves nothing.
        """
        while True:
            await self.ask("shell", "kernel_info_request")
            try:
                async with asyncio.timeout(IOPUB_WAIT_S):
                    await self.heard_iopub.wait()
                return
            except TimeoutError:
                continue

    def _connect(self, session_id: str) -> Session:
        return Session(
            self._context, self._connection, session_id, on_reply=self._replied, is_up=self.heard_iopub.is_set
        )

    def _replied(self, session_id: str, channel: str, frames: list[bytes]) -> None:
        if self._iopub is not None:
            self._iopub.wake()  # what was published before a question or a reply goes out before it
        message = self._read(channel, frames)
        if message is not None:
            self.answer(session_id, message)

    def answer(self, session_id: str, message: Message) -> None:
        """Give a reply to the session that waits for it, or keep it for its return."""
        request = self.requests.replied(message)
        target = request.holder if request is not None else session_id
        session = self._sessions.get(target)
        if session is not None and session.client is not None:
            session.client.deliver(message)
        else:
            self._replay.keep(message, target=target)
        if request is not None and not self.requests.is_open(request):
            # Not now: the sockets that may be closed are the ones this message came from.
            asyncio.get_running_loop().call_soon(self._tidy)

    def _published(self, frames: list[bytes]) -> None:
        if self.divert is None:
            self.take(frames)
        else:
            self.divert(frames)

    def take(self, frames: list[bytes], *, shown: bool = False) -> None:
        """A published message; one that was `shown` to the browsers already is only followed."""
        message = self._read("iopub", frames)
        if message is None:
            return
        self.heard_iopub.set()
        if message.type == "iopub_welcome":
            return  # the kernel's greeting to this one subscription; no browser asked for it
        if not shown:
            self.broadcast(message)
        # After the browsers have it, and still before anybody else gets a turn.
        self._on_published(message)
        self.requests.published(message)
        if message.type == "status":
            self._note_status(message)
        self.latest = frames
        self._note_shown()

    def _note_shown(self) -> None:
        """All browsers that are there have been given all there is: should this server be killed, they miss nothing."""
        if self.latest and not any(one.client and one.client.is_behind for one in self._sessions.values()):
            self._witness.shown(self._kernel_id, self.latest)

    def _note_status(self, message: Message) -> None:
        if self._iopub is not None:
            self._iopub.calm()
        waiting = self._idle_after.get(str(message.parent.get("msg_id")))
        if waiting is not None and message.content.get("execution_state") == "idle":
            waiting.set()

    def expect(self, session_ids: Iterable[str]) -> None:
        """Sessions that an earlier server had may come back; what they miss from now on is kept for them."""
        for session_id in session_ids:
            self._sessions[session_id] = self._connect(session_id)
            self._forget(self._replay.leave(session_id))

    def _read(self, channel: str, frames: list[bytes]) -> Message | None:
        parts = self._signer.from_wire(frames)
        header = parse_object(parts[0]) if parts else None
        if parts is None or header is None:
            log.warning("kernel.message_refused", channel=channel, frames=len(frames))
            return None
        message = Message(channel, parts, header)
        if not self._options.allow_tracebacks:
            return _without_traceback(message)
        return message


def _without_traceback(message: Message) -> Message:
    if message.type != "error" and not message.type.endswith("_reply"):
        return message
    content = parse_object(message.parts[3]) or {}
    if "traceback" not in content:
        return message
    parts = [*message.parts[:3], dump(content | HIDDEN_ERROR), *message.parts[4:]]
    return Message(message.channel, parts, message.header)
