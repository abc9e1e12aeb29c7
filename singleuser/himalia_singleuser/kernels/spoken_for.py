"""What the server says in a kernel's place: that it died, that something is missing, how a cell ended."""

from __future__ import annotations

from typing import Any

from himalia_singleuser.kernels.messages import make
from himalia_singleuser.kernels.relay import HIDDEN_ERROR, Relay
from himalia_singleuser.kernels.requests import Request


def certify_death(relay: Relay, how: str) -> None:
    """The kernel died: the cell that ran says so, in the page that shows it or in what is recorded."""
    running = relay.requests.running
    if running is not None:
        content = {
            "name": "stderr",
            "text": f"\nThe kernel died: {how}. What it held in memory is gone.\n",
        }
        message = make("iopub", "stream", content, parent=running.header_part)
        relay.requests.published(message)
        relay.broadcast(message)


def note_gap(relay: Relay, why: str) -> None:
    """Say in every cell that runs or waits that something of its output may be missing."""
    for request in relay.requests.all():
        content = {"name": "stderr", "text": f"\n[{why}]\n"}
        message = make("iopub", "stream", content, parent=request.header_part)
        relay.requests.published(message)
        relay.broadcast(message)


def give_up_on(relay: Relay, request: Request) -> None:
    """Say for the kernel how a request ended whose reply went to a server that was killed."""
    if request.reply is None:
        status = ("error" if request.failed else "ok") if request.started else "aborted"
        content: dict[str, Any] = {"status": status, "execution_count": request.count}
        content |= HIDDEN_ERROR if request.failed else {"payload": [], "user_expressions": {}}
        relay.answer(request.asker, make("shell", "execute_reply", content, parent=request.header_part))
    if relay.requests.is_open(request):
        idle = make("iopub", "status", {"execution_state": "idle"}, parent=request.header_part)
        relay.requests.published(idle)
        relay.broadcast(idle)
