"""A kernel whose process no longer runs though it is there: seen by its heartbeat, shown, and seen to come back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from component.singleuser.kernel_parts import Browser, Got, Server, running_server
from himalia_singleuser.kernels.channels import Context
from himalia_singleuser.kernels.cull import cull_once
from himalia_singleuser.kernels.heartbeat import Heartbeat
from himalia_singleuser.kernels.options import KernelOptions
from himalia_singleuser.kernels.pool import KERNELS
from himalia_singleuser.kernels.state import utc_now
from support import eventually

LIMIT_S = 2.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    options = KernelOptions(
        heartbeat_s=LIMIT_S, shutdown_grace_s=0.5, cull_idle_timeout_s=0.001, cull_connected=True
    )
    async with running_server(tmp_path, options=options) as server:
        yield server


async def model(server: Server) -> dict[str, object]:
    return dict((await server.ask("GET", "api/kernels"))[1][0])


async def stopped(server: Server) -> tuple[int, str, Browser]:
    """A kernel that answered, is watched, and then stops without ending: its process id, its id, a browser."""
    kernel = await server.new_kernel()
    browser = await server.browser(kernel)
    pid = int(await browser.printed("import os; print(os.getpid())"))
    # One that has not beaten yet is not judged.
    await eventually(lambda: server.app[KERNELS].get(kernel)._heartbeat._has_echoed)
    os.kill(pid, signal.SIGSTOP)
    return pid, kernel, browser


def told(state: str, *, silent: bool) -> Callable[[Got], bool]:
    """Whether a message tells browsers this state, as the server's own word."""

    def wanted(got: Got) -> bool:
        words = got.metadata.get("himalia", {}).get("silent")
        return (
            got.type == "status"
            and words is not None
            and got.content["execution_state"] == state
            and bool(words) is silent
        )

    return wanted


async def test_a_kernel_that_stops_beating_is_shown_as_not_answering_until_it_beats_again(
    server: Server,
) -> None:
    pid, kernel, browser = await stopped(server)

    await browser.until(told("starting", silent=True))

    assert (await model(server))["execution_state"] == "unknown"
    assert (await model(server))["reason"] == "does not answer: no heartbeat for 2 s"
    late = await server.browser(kernel)
    await late.until(told("starting", silent=True))

    os.kill(pid, signal.SIGCONT)

    await browser.until(told("idle", silent=False))
    assert "reason" not in await model(server)
    assert await browser.printed("print('here')") == "here\n"
    assert (await model(server))["execution_state"] == "idle"
    await late.close()
    await browser.close()


async def test_a_kernel_that_computes_without_a_pause_is_never_taken_for_silent(server: Server) -> None:
    kernel = await server.new_kernel()
    browser = await server.browser(kernel)

    # One step of C code that keeps Python's lock all the while.
    await browser.run(f"import ctypes; ctypes.PyDLL(None).usleep({int(2 * LIMIT_S * 1e6)})")

    assert not [one for one in browser.seen if "himalia" in one.metadata]
    await browser.close()


async def test_a_silent_kernel_is_not_culled_as_idle_and_a_restart_brings_it_back(server: Server) -> None:
    pid, kernel, browser = await stopped(server)
    await browser.until(told("starting", silent=True))

    assert await cull_once(server.app[KERNELS], utc_now()) == []
    status, restarted = await server.ask("POST", f"api/kernels/{kernel}/restart")

    assert (status, restarted["execution_state"]) == (200, "idle")
    assert await browser.printed("print('again')") == "again\n"
    await eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    await browser.close()


async def watched(tmp_path: Path, spoken: Callable[[], object], *, echo: bool) -> list[bool]:
    """What was judged of a kernel of which only the heartbeat is there, after twenty beats; it echoes at most once."""
    context, judged, asked = Context(), [], []
    endpoint = f"ipc://{tmp_path}/hb"

    def counted() -> object:
        asked.append(1)
        return spoken()

    heartbeat = Heartbeat(context, limit_s=0.08, spoken=counted, on_change=judged.append)
    kernel = context.socket("ROUTER")
    kernel.bind(endpoint)
    heartbeat.watch(endpoint)
    if echo:
        kernel.send_multipart(await asyncio.to_thread(kernel.recv_multipart))
    await eventually(lambda: len(asked) > 20)
    heartbeat.stop()
    kernel.close(linger=0)
    context.close()
    return judged


async def test_only_a_kernel_that_has_beaten_once_and_says_nothing_else_is_found_silent(
    tmp_path: Path,
) -> None:
    assert await watched(tmp_path, lambda: None, echo=False) == []
    assert await watched(tmp_path, object, echo=True) == []
    assert await watched(tmp_path, lambda: None, echo=True) == [True]
