"""Raw bytes both ways, once a target has answered 101: WebSockets and whatever else was agreed on.

Of WebSockets it is followed where frames end, and nothing else, for the one frame that a proxy may have to say: that it
goes away.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import parse_qs

from himalia_proxy.frames import GOING_AWAY, RESTARTING, Frames, close_frame
from himalia_proxy.framing import Headers, RequestHead
from himalia_proxy.listeners import find_half_open
from himalia_proxy.table import Entry

HALF_CLOSED_S: Final = 30.0


class End(asyncio.Protocol):
    """One end of a tunnel. `counts` is the route whose activity its bytes are: the client's end has one.

    `frames` follows what comes from this end, if that are frames.
    """

    __slots__ = (
        "_counts",
        "_ended",
        "_frames",
        "_gone",
        "_leaving",
        "_mute",
        "_timer",
        "_tls",
        "login",
        "other",
        "tokens",
        "transport",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        counts: Entry | None,
        gone: Callable[[End], None],
        *,
        tls: bool,
        frames: Frames | None,
    ) -> None:
        self.transport = transport
        self.other: End = self
        self.login: bytes | None = None
        self.tokens: tuple[str, ...] = ()
        self._counts = counts
        self._gone = gone
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._tls = tls
        self._frames = frames
        self._leaving = False  # the other end is to be told goodbye as soon as a frame ends
        self._mute = False  # it was: nothing more is for it

    @property
    def entry(self) -> Entry:
        """The route it was opened on; of a client's end only."""
        assert self._counts is not None
        return self._counts

    def data_received(self, data: bytes) -> None:
        if self._counts is not None:
            self._counts.last_activity = time.time()
        frames = self._frames
        if frames is not None:
            if self._leaving:
                self._last(data, frames)
                return
            frames.feed(data)
        self.other.transport.write(data)

    def _last(self, data: bytes, frames: Frames) -> None:
        """What still comes once the tunnel is to end: the rest of a frame is passed on, then goodbye is said."""
        if not self._mute:
            size = frames.feed(data, stop=True)
            self.other.transport.write(data[:size])
            data = data[size:]
            self._say_goodbye(frames)
        if self._mute and data:
            frames.feed(data)
            if frames.closed:  # the answer to ours, most likely: nothing follows it
                self.transport.close()

    def _say_goodbye(self, frames: Frames) -> None:
        if frames.between:
            # `self` is the client's end if it has a route: what goes to the target is masked, as from a client.
            masked = self._counts is not None
            code = GOING_AWAY if masked else RESTARTING
            self.other.transport.write(close_frame(code, "The proxy is going away.", masked=masked))
            self._mute = True
        elif frames.closed:
            self._mute = True

    def leave(self) -> None:
        """Tell both ends that the tunnel ends, at the next end of a frame; close what is no WebSocket."""
        for end in (self, self.other):
            if end._frames is None or end._frames.lost:
                self.close()
                return
        for end in (self, self.other):
            assert end._frames is not None
            end._leaving = True
            end._say_goodbye(end._frames)

    def eof_received(self) -> bool | None:
        """Pass the end on and keep the other direction, but not for ever."""
        self._ended = True
        other = self.other
        if self._mute:
            return None  # the other end has heard the last word; who ends after it is closed alone
        if self._tls or other._tls or other._ended or not other.transport.can_write_eof():
            self.close()
            return None
        other.transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(HALF_CLOSED_S, self.close)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if self._counts is not None:
            self._gone(self)
        for end in (self, self.other):
            if end._timer is not None:
                end._timer.cancel()  # it would keep both ends in memory
                end._timer = None
        other = self.other
        if self._counts is None and self._mute and other._frames is not None and not other._frames.closed:
            return  # the client was told and has not answered: an end that comes along with the word would hide it
        if not other.transport.is_closing():
            other.transport.close()

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def close(self) -> None:
        """Close both ends once what they hold has left."""
        self.transport.close()
        self.other.transport.close()

    def abort(self) -> None:
        """Cut both ends."""
        self.transport.abort()
        self.other.transport.abort()


class Tunnels:
    """The open tunnels of a process. `half_open_s`: a peer that has vanished is found within about this time."""

    def __init__(self, *, half_open_s: float) -> None:
        self._open: set[End] = set()
        self._half_open_s = half_open_s

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[End]:
        return iter(list(self._open))

    def by_route(self) -> Counter[str]:
        """How many are open on each route."""
        return Counter(end.entry.path for end in self._open)

    def join(
        self,
        client: asyncio.Transport,
        target: asyncio.Transport,
        entry: Entry,
        *,
        tls: bool,
        framed: bool,
        login: bytes | None,
        tokens: tuple[str, ...],
        gone: Callable[[], None],
    ) -> End:
        """Make two connections one tunnel, `framed` if a WebSocket; the client's end. `gone`: when that has ended."""

        def forget(end: End) -> None:
            self._open.discard(end)
            gone()

        near = End(client, entry, forget, tls=tls, frames=Frames() if framed else None)
        far = End(target, None, forget, tls=entry.target.tls, frames=Frames() if framed else None)
        near.other, far.other, near.login, near.tokens = far, near, login, tokens
        self._open.add(near)
        client.set_protocol(near)
        target.set_protocol(far)
        # The client's connection has inherited this from the listener.
        find_half_open(target.get_extra_info("socket"), self._half_open_s)
        return near

    def cut(
        self,
        *,
        user: str | None = None,
        login: str | None = None,
        route: str | None = None,
        token: str | None = None,
    ) -> int:
        """Cut the tunnels of a server's owner, of a login (the value of its cookie), of a route, of tokens (their
        hashes as in `tokens_of`, with commas between); how many.
        """
        wanted = None if login is None else fingerprint(login.encode("utf-8", "surrogateescape"))
        hashes = None if token is None else frozenset(token.split(","))
        found = [
            end
            for end in self._open
            if (user is None or end.entry.data.get("user") == user)
            and (wanted is None or end.login == wanted)
            and (route is None or end.entry.path == route)
            and (hashes is None or not hashes.isdisjoint(end.tokens))
        ]
        for end in found:
            # Not `close`: that waits for a client that reads nothing, and this one is to hear nothing more.
            end.abort()
        return len(found)


def fingerprint(value: bytes) -> bytes:
    """What is kept of a login's cookie: enough to find it again, useless to whoever reads memory."""
    return hashlib.blake2b(value, digest_size=16).digest()


def tokens_of(request: RequestHead) -> tuple[str, ...]:
    """SHA-256, in hex, of each token that a request names itself by: in `Authorization`, or as `?token=`.

    Which of them the target goes by is its own affair. A hash as hubs keep it, who know no token either; tokens are
    random, so it tells nothing to whoever reads memory.
    """
    found = []
    for name, value in request.headers:
        if len(name) == 13 and name.lower() == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            if scheme.lower() in (b"token", b"bearer"):
                found.append(rest.strip())
    if request.query is not None and b"token=" in request.query:
        found += parse_qs(request.query).get(b"token", [])
    return tuple(hashlib.sha256(one).hexdigest() for one in found)


def login_of(headers: Headers, cookie: bytes) -> bytes | None:
    """The fingerprint of the cookie of that name, if a request has it."""
    for name, value in headers:
        if len(name) == 6 and name.lower() == b"cookie":
            for part in value.split(b";"):
                key, mark, found = part.strip().partition(b"=")
                if mark and key == cookie:
                    return fingerprint(found.strip(b'"'))
    return None
