"""How far a server has come with what was asked of it. Pure: read from its row at any time, by any replica."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from himalia_hub.bulk.models import BulkItem
from himalia_hub.languages import gettext, sentence
from himalia_hub.servers.models import Server
from himalia_hub.servers.view import phase_word


class State(StrEnum):
    """WAITING: not asked for yet. UNDERWAY: asked, not there. DONE and FAILED are ends."""

    WAITING = "waiting"
    UNDERWAY = "underway"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One server of a job: what became of it, in the reader's words."""

    on: str
    state: State
    said: str


def outcome(action: str, item: BulkItem, server: Server | None) -> Outcome:
    """What became of one item; `server` is its row as it is now, None when there is none (any more)."""
    on = f"{item.username}/{item.server_name}"
    if item.problem:
        return Outcome(on, State.FAILED, sentence(item.problem))
    if item.asked is None:
        return Outcome(on, State.WAITING, gettext("not asked yet"))
    if action == "start":
        return _started(on, server)
    if server is None:
        return Outcome(on, State.DONE, gettext("removed") if action == "remove" else gettext("stopped"))
    if item.generation is not None and server.generation > item.generation:
        return Outcome(on, State.FAILED, gettext("somebody asked for something else meanwhile"))
    if action == "stop" and phase_word(server) in ("stopped", "failed"):
        return Outcome(on, State.DONE, gettext("stopped"))
    return Outcome(on, State.UNDERWAY, gettext("stopping"))


def _started(on: str, server: Server | None) -> Outcome:
    word = phase_word(server) if server else "stopped"
    if word == "ready":
        return Outcome(on, State.DONE, gettext("running"))
    if word in ("starting", "unknown"):
        return Outcome(on, State.UNDERWAY, gettext("starting"))
    failure = (server.failure or {}) if server and word == "failed" else {}
    if failure:
        cause, message = sentence(failure.get("cause", "failed")), sentence(failure.get("message", ""))
        return Outcome(on, State.FAILED, f"{cause}: {message}")
    return Outcome(on, State.FAILED, gettext("was stopped again"))
