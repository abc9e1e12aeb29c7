"""Taking back what a killed server left: kernels, sessions, cells that ran, and what they put out meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import structlog

from himalia_singleuser.keeper.client import KeptLauncher, KeptProcess
from himalia_singleuser.keeper.folder import KernelFolder, born
from himalia_singleuser.keeper.journal import Reader
from himalia_singleuser.keeper.notes import load_runs, requests_since, shown_mark
from himalia_singleuser.keeper.rejoin import HOLE, Rejoin
from himalia_singleuser.keeper.state import load_connection, load_request, load_spec
from himalia_singleuser.kernels.lifecycle import Kernel
from himalia_singleuser.kernels.messages import parse_object
from himalia_singleuser.kernels.pool import KernelPool
from himalia_singleuser.kernels.process import Ended
from himalia_singleuser.kernels.requests import Request
from himalia_singleuser.kernels.spoken_for import give_up_on, note_gap
from himalia_singleuser.recorder.recorder import Recorder
from himalia_singleuser.sessions.store import Session, SessionStore

log = structlog.get_logger(__name__)

UNANSWERED = frozenset({"starting", "restarting"})
GAP = (
    "Output may be missing here: the server was killed, and so was the keeper of its kernels. "
    "The kernel itself goes on."
)


async def take_back(
    folder: KernelFolder,
    state: dict[str, Any],
    kept: dict[str, Any] | None,
    *,
    launcher: KeptLauncher,
    pool: KernelPool,
    sessions: SessionStore,
    recorder: Recorder,
) -> list[asyncio.Task[None]]:
    """All of it; `kept` is what the keeper has, None when it was killed, too. Tasks that do what remains."""
    for told in state["sessions"]:
        sessions.take_back(Session(**told))
    recorder.take_back(load_runs(folder.path, state["runs"]), state["written"])
    kernels: dict[str, Kernel] = {}
    for told in state["kernels"]:
        kernels[told["id"]] = _kernel(told, folder.path, pool)
    for kernel_id, session_id, parts in requests_since(folder.path, state["requests"]):
        if kernel_id in kernels:
            kernels[kernel_id].relay.requests.open(session_id, parse_object(parts[0]) or {}, parts)
    tasks = []
    for told in state["kernels"]:
        kernel = kernels[told["id"]]
        known = (kept or {}).get(kernel.id)
        process = _process(kernel, told, known, kept is not None, launcher, pool)
        gap = GAP if kept is None else HOLE if known and known["missed"] else ""
        tasks.append(await _catch_up(kernel, process, told, folder.path, gap))
    for kernel_id in set(kept or ()) - set(kernels):
        launcher.forget(kernel_id)  # it was just being started, and nobody knows of it
    log.info("server.kernels_taken_back", kernels=len(kernels), keeper=kept is not None)
    return tasks


def _kernel(told: dict[str, Any], folder: Path, pool: KernelPool) -> Kernel:
    kernel = pool.take_back(
        told["id"],
        load_spec(told["spec"]),
        folder=folder,
        cwd=Path(told["cwd"]),
        env=told["env"],
        connection=load_connection(told["connection"]),
    )
    kernel.state.value, kernel.reason = told["state"], told["reason"]
    kernel.relay.expect(told["sessions"])
    for request in told["requests"]:
        kernel.relay.requests.take_back(load_request(request))
    return kernel


def _process(
    kernel: Kernel,
    told: dict[str, Any],
    known: dict[str, Any] | None,
    keeper_lives: bool,
    launcher: KeptLauncher,
    pool: KernelPool,
) -> KeptProcess:
    """Its process, alive or not: as the keeper knows it, or else by its number and the time it began."""
    ended: Ended | None = None
    pid = told["pid"]
    if known is not None:
        pid = known["pid"]
        if known["ended"] is not None:
            ended = Ended(known["ended"]["code"], known["ended"]["oom"])
    elif keeper_lives or not pid or born(pid) != told["born"]:
        ended = Ended(None)
    assert pool.folder is not None
    log_file = pool.folder / f"kernel-{kernel.id}.log"
    process = launcher.attend(kernel.id, 0 if ended else pid, log_file, kernel.connection.endpoint("iopub"))
    if ended is not None:
        process.tell(ended)
    return process


async def _catch_up(
    kernel: Kernel, process: KeptProcess, told: dict[str, Any], folder: Path, gap: str
) -> asyncio.Task[None]:
    rejoin = Rejoin(kernel.relay, Reader(str(folder), kernel.id))
    await rejoin.replay(known=told["mark"].encode(), shown=shown_mark(folder, kernel.id))
    is_alive = process.pid != 0
    if is_alive and gap:
        note_gap(kernel.relay, gap)
    if gap or not is_alive:
        rejoin.end()
    old = kernel.relay.requests.all()
    kernel.take_over(process, has_answered=is_alive and told["state"] not in UNANSWERED)
    if not is_alive:
        return asyncio.create_task(asyncio.sleep(0))
    return asyncio.create_task(_settle(kernel, old, None if gap else rejoin))


async def _settle(kernel: Kernel, old: list[Request], rejoin: Rejoin | None) -> None:
    """Close what the kernel was asked by the former server, once it answers again: it works in the order asked."""
    async with asyncio.TaskGroup() as both:
        if rejoin is not None:
            both.create_task(rejoin.follow())
        both.create_task(kernel.relay.catch_up())
    for request in old:
        if kernel.relay.requests.is_open(request):
            give_up_on(kernel.relay, request)
