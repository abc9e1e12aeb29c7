"""What a kernel is doing, told from the messages that pass. Pure but for the clock it is given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from himalia_singleuser.kernels.messages import Message

UNTRACKED_TYPES = (
    "comm_info_request", "comm_info_reply",
    "kernel_info_request", "kernel_info_reply",
    "shutdown_request", "shutdown_reply",
    "interrupt_request", "interrupt_reply",
    "debug_request", "debug_reply", "debug_event",
    "stream", "display_data", "update_display_data", "clear_output", "error",
    "execute_input", "execute_result", "input_request", "input_reply", "status",
)  # fmt: skip
"""Traffic that front ends make by themselves or that only accompanies a request; the page config lists it."""

_UNTRACKED = frozenset(UNTRACKED_TYPES)


def utc_now() -> datetime:
    """The time of the server's clock, with zone."""
    return datetime.now(UTC)


class ExecutionState:
    """`execution_state` and `last_activity` of one kernel."""

    def __init__(self, on_activity: Callable[[datetime], None] = lambda _: None) -> None:
        self.value = "starting"
        self.silent = False
        """Whether it misses its heartbeats."""
        self.last_activity = utc_now()
        self._on_activity = on_activity

    @property
    def shown(self) -> str:
        """What clients are told: of a silent kernel nobody knows."""
        return "unknown" if self.silent else self.value

    def touch(self) -> None:
        """Somebody did something: idle time starts anew."""
        self.last_activity = utc_now()
        self._on_activity(self.last_activity)

    def answered(self) -> None:
        """The kernel answered for the first time since it started."""
        if self.value in {"starting", "restarting"}:
            self.value = "idle"

    def sent(self, msg_type: str) -> None:
        """A browser sent a message of this type."""
        if msg_type not in _UNTRACKED:
            self.touch()

    def published(self, message: Message) -> None:
        """The kernel published a message on iopub."""
        if message.type == "status":
            parent = message.parent
            if parent and parent.get("msg_type") not in _UNTRACKED:
                self.value = str(message.content.get("execution_state", self.value))
                self.touch()
                return
        if self.value == "busy":
            self.touch()
