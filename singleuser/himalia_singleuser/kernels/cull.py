"""Shutting down kernels that nobody uses. The decision is pure; the loop only asks it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime

import structlog

from himalia_singleuser.kernels.errors import NoSuchKernel
from himalia_singleuser.kernels.lifecycle import Kernel
from himalia_singleuser.kernels.options import KernelOptions
from himalia_singleuser.kernels.pool import KernelPool
from himalia_singleuser.kernels.state import utc_now

log = structlog.get_logger(__name__)


def is_due(*, idle_s: float, state: str, connections: int, timeout_s: float, options: KernelOptions) -> bool:
    """Whether a kernel that was idle for `idle_s` seconds should go. A timeout of 0 never ends anything."""
    if timeout_s <= 0 or idle_s <= timeout_s:
        return False
    if state != "idle" and not options.cull_busy:
        return False
    return options.cull_connected or connections == 0


def timeout_of(kernel: Kernel, options: KernelOptions) -> float:
    """The kernel's own limit from its spec's metadata, else everybody's."""
    own = kernel.spec.metadata.get("cull_idle_timeout")
    return (
        float(own)
        if isinstance(own, int | float) and not isinstance(own, bool)
        else options.cull_idle_timeout_s
    )


async def cull_once(pool: KernelPool, now: datetime) -> list[str]:
    """Stop every kernel that is due; their ids."""
    culled = []
    for kernel in pool.all():
        due = is_due(
            idle_s=(now - kernel.state.last_activity).total_seconds(),
            state=kernel.state.shown,
            connections=kernel.relay.clients,
            timeout_s=timeout_of(kernel, pool.options),
            options=pool.options,
        )
        if due:
            log.info("kernel.culled", kernel=kernel.id)
            with suppress(NoSuchKernel):
                await pool.stop(kernel.id)
                culled.append(kernel.id)
    return culled


async def cull_forever(pool: KernelPool) -> None:
    """Look every `cull_interval_s` until cancelled, and keep the kernels' logs short on the way."""
    while True:
        await asyncio.sleep(pool.options.cull_interval_s)
        for kernel in pool.all():
            kernel.trim_log()
        try:
            await cull_once(pool, utc_now())
        except Exception:  # one kernel that resists must not end the culling of the others
            log.exception("kernel.cull_failed")
