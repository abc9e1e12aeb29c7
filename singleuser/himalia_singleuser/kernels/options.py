"""How kernels are run and relayed. Bounds that the administrator or the user may move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aiohttp import web

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """Defaults fit one person on a shared machine. Rates of 0 mean "no limit"."""

    default_kernel: str = "python3"
    allowed_kernels: frozenset[str] = frozenset()
    transport: Literal["ipc", "tcp"] = "ipc"
    ready_timeout_s: float = 60.0
    spare_idle_s: float = 0.0
    """How long a kernel that nobody has asked for yet is kept for the next notebook; 0: there is none."""
    shutdown_grace_s: float = 5.0
    heartbeat_s: float = 15.0
    """A kernel that misses its heartbeats for so long is shown as not answering; 0: none is watched."""
    restart_limit: int = 5
    stable_after_s: float = 10.0
    cull_idle_timeout_s: float = 0.0
    cull_interval_s: float = 300.0
    cull_connected: bool = False
    cull_busy: bool = False
    queue_bytes: int = 64 * MIB
    """Per browser: what may wait for a slow reader before outputs are left out and the gap is told."""
    replay_bytes: int = 32 * MIB
    """Per kernel: what is kept in memory for browsers that went away."""
    spill_bytes: int = 512 * MIB
    """Per kernel: what of it goes on to disk past that, before the oldest is left out; 0 for none."""
    replay_sessions: int = 4
    """Per kernel: how many browsers that went away are remembered; each holds three ZMQ sockets."""
    buffer_offline_messages: bool = True
    # Stock cuts at 1000 messages/s and 1 MB/s, which throws away a third of an ordinary burst. The queue
    # above already bounds memory, so the default only protects the browser from endless printing.
    iopub_msg_rate_limit: float = 0.0
    iopub_data_rate_limit: float = 4.0 * MIB
    rate_limit_window_s: float = 3.0
    allowed_message_types: frozenset[str] = frozenset()
    allow_tracebacks: bool = True


KERNEL_OPTIONS = web.AppKey("KERNEL_OPTIONS", KernelOptions)
