"""The processes that serve by this one's table: workers, and predecessors that still hold tunnels.

They are sent every change and say when they have it; they send what they count and which routes were active.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from himalia_proxy.channel import Channel, Message, Speaks
from himalia_proxy.core import Core, log
from himalia_proxy.counts import Counts
from himalia_proxy.table import loadable, shown

PATIENCE_S: Final = 5.0

Change = dict[str, dict[str, Any]]
"""What happened to the table: `{"put": {path: data or None}}`, or `{"whole": …}` for all there is."""


class Member:
    """One of them. `lost` is called when it is gone; `stuck` when it has not answered within PATIENCE_S."""

    def __init__(self, members: Members, *, ready: Callable[[], None], lost: Callable[[], None]) -> None:
        self._members = members
        self._ready = ready
        self._lost = lost
        self.stuck: Callable[[], None] = lambda: None
        self.channel: Channel
        self.counts: Mapping[str, Any] | None = None
        self.gauges: Mapping[str, float] = {}
        self.tunnels: Mapping[str, int] = {}

    def heard(self, message: Message) -> None:
        """Take a message of its."""
        if "ready" in message:
            self._ready()
        if "report" in message:
            report = message["report"]
            self.counts, self.gauges, self.tunnels = report["counts"], report["gauges"], report["tunnels"]
            self._members.active(report["activity"])
        if "done" in message:
            self._members.answered(self, message["done"], message.get("cut", 0))

    def gone(self) -> None:
        """It has ended."""
        self._members.forget(self)
        self._lost()


class _Question:
    """Something all members were told, and who has not answered yet."""

    def __init__(self, asked: set[Member], until: float, then: Callable[[int], None]) -> None:
        self.waiting = asked
        self.until = until
        self.total = 0
        self.then = then


class Members:
    """All of them; a process without any answers at once."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._all: set[Member] = set()
        self._questions: dict[int, _Question] = {}
        self._number = 0
        self._ended = Counts()
        core.ticks.append(self._tick)

    async def add(
        self, sock: socket.socket, *, ready: Callable[[], None], lost: Callable[[], None]
    ) -> Member:
        """Have one more, at the other end of `sock`."""
        member = Member(self, ready=ready, lost=lost)
        member.channel = Channel(member.heard, member.gone)
        await member.channel.speak_over(sock)
        self._all.add(member)
        return member

    def admit(self, transport: asyncio.Transport, ahead: bytes, *, lost: Callable[[], None]) -> None:
        """Have a proxy that follows, at the other end of a connection that is the member's from now on."""
        member = Member(self, ready=lambda: None, lost=lost)
        member.channel = Channel(member.heard, member.gone)
        transport.set_protocol(member.channel)
        member.channel.connection_made(transport)
        self._all.add(member)
        member.channel.send({"table": {entry.path: shown(entry) for entry in self._core.table}})
        if ahead:
            member.channel.data_received(ahead)

    def publish(self, change: Change, then: Callable[[], None]) -> None:
        """Send a change of the table; `then` is called when every member has it."""
        self._ask({"change": change}, lambda _: then())

    def cut(self, asked: Mapping[str, str], then: Callable[[int], None]) -> None:
        """Cut tunnels here and there (see `Tunnels.cut`); `then` is told how many there were."""
        here = self._core.tunnels.cut(**asked)
        self._ask({"cut": dict(asked)}, lambda there: then(here + there))

    def tell(self, message: Message) -> None:
        """Send without waiting for an answer."""
        for member in self._all:
            member.channel.send(message)

    def counts(self) -> Counts:
        """What all have counted since the start, those included that have ended."""
        total = Counts()
        for each in (self._core.counts.plain(), self._ended.plain(), *(one.counts for one in self._all)):
            if each is not None:
                total.add(each)
        return total

    def gauges(self) -> dict[str, float]:
        """What is open in all of them."""
        own = self._core.gauges()
        for member in self._all:
            for name, value in member.gauges.items():
                own[name] = max(own.get(name, 0), value) if name == "routes" else own.get(name, 0) + value
        return own

    def tunnels(self) -> Counter[str]:
        """Open tunnels by route."""
        total = self._core.tunnels.by_route()
        for member in self._all:
            total.update(member.tunnels)
        return total

    def active(self, times: Mapping[str, float]) -> None:
        """Routes of a member were used."""
        for path, moment in times.items():
            entry = self._core.table.get(path)
            if entry is not None and entry.last_activity < moment:
                entry.last_activity = moment

    def answered(self, member: Member, number: int, cut: int) -> None:
        """A member has done what it was told."""
        question = self._questions.get(number)
        if question is not None and member in question.waiting:
            question.total += cut
            question.waiting.discard(member)
            self._settle(number, question)

    def forget(self, member: Member) -> None:
        """A member is gone, and nobody waits for it any more."""
        self._all.discard(member)
        if member.counts is not None:
            self._ended.add(member.counts)
        for number, question in list(self._questions.items()):
            question.waiting.discard(member)
            self._settle(number, question)

    def _ask(self, message: Message, then: Callable[[int], None]) -> None:
        self._number += 1
        for member in self._all:
            member.channel.send(message | {"n": self._number})
        until = self._core.loop.time() + PATIENCE_S
        question = self._questions[self._number] = _Question(set(self._all), until, then)
        self._settle(self._number, question)

    def _settle(self, number: int, question: _Question) -> None:
        if not question.waiting and self._questions.pop(number, None) is not None:
            question.then(question.total)

    def _tick(self, now: float) -> None:
        for question in list(self._questions.values()):
            if question.until < now:
                for member in list(question.waiting):
                    log.error("member.stuck patience_s=%g", PATIENCE_S)
                    member.stuck()
                    member.channel.close()


class Membership:
    """The other side: this process serves by another one's table. `told` gets what concerns the process itself."""

    def __init__(self, core: Core, members: Members, told: Callable[[Message], None]) -> None:
        self._core = core
        self._members = members
        self._told = told
        self._reported: dict[str, float] = {}
        self._last: Message = {}
        self.channel: Speaks | None = None
        core.ticks.append(lambda _: self.report())

    def heard(self, message: Message) -> None:
        """Do what the head says."""
        if "table" in message:
            routes = list(loadable(message["table"]))
            self._core.table.load(routes)
            self._reported = {path: last_activity for path, _, last_activity in routes}
            self._members.tell({"table": message["table"]})
        if "change" in message:
            change, number = message["change"], message["n"]
            self._core.apply(change)
            self._members.publish(change, lambda: self._say({"done": number}))
        if "cut" in message:
            number = message["n"]
            self._members.cut(message["cut"], lambda cut: self._say({"done": number, "cut": cut}))
        self._told(message)

    def report(self) -> None:
        """Say what was counted and which routes were used, if anything is new."""
        if self.channel is None:
            return
        reported = self._reported
        activity = {
            entry.path: entry.last_activity
            for entry in self._core.table
            if reported.get(entry.path, 0) < entry.last_activity
        }
        reported.update(activity)
        if len(reported) > 2 * len(self._core.table) + 1000:
            self._reported = {entry.path: entry.last_activity for entry in self._core.table}
        counts, gauges = self._members.counts().plain(), self._members.gauges()
        tunnels = self._members.tunnels()
        report = {"activity": activity, "counts": counts, "gauges": gauges, "tunnels": tunnels}
        if report != self._last:
            self._last = report
            self._say({"report": report})

    def _say(self, message: Message) -> None:
        if self.channel is not None:
            self.channel.send(message)
