"""A page that opened a notebook takes over its cells that still run: they go on filling there."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from himalia_singleuser.answers import json_answer, json_body
from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.errors import BadRequest, Conflict
from himalia_singleuser.fields import needed_text
from himalia_singleuser.kernels.lifecycle import Kernel
from himalia_singleuser.kernels.pool import KERNELS
from himalia_singleuser.recorder.journal import Run
from himalia_singleuser.recorder.recorder import RECORDER


@authenticated
async def take_over(request: web.Request) -> web.Response:
    """Give a session the runs whose browser is gone, of the cells that it can show.

    What they put out so far, and a question that waits, come over the session's WebSocket, and so does all that
    follows. Runs that are over are told here, as a notebook holds them.
    """
    kernel = request.app[KERNELS].get(request.match_info["kernel_id"])
    body = await json_body(request) or {}
    session_id, cells = needed_text(body, "session_id"), body.get("cells")
    if not isinstance(cells, list):
        raise BadRequest("Field cells must be the list of the ids of the cells that are shown.")
    if not kernel.relay.is_here(session_id):
        raise Conflict(f"Session {session_id!r} is not connected to this kernel.")
    shown = {cell for cell in cells if isinstance(cell, str)}
    runs = [run for run in request.app[RECORDER].left_alone_by(kernel.id) if run.cell_id in shown]
    return json_answer({"runs": [_hand_over(kernel, run, session_id) for run in runs]})


def _hand_over(kernel: Kernel, run: Run, session_id: str) -> dict[str, Any]:
    told: dict[str, Any] = {"cell_id": run.cell_id, "execution_count": run.execution_count}
    request = kernel.relay.requests.find(run.request_id)
    if request is None:
        recorded = run.recorded()
        displays = run.outputs.displays()
        return told | {
            "state": "ended",
            "outputs": recorded.outputs,
            "displays": displays,
            "execution": run.times,
        }
    run.asker = session_id
    run.read()
    begins = kernel.relay.hand_over(request, session_id, run.outputs.messages())
    state = "running" if request.started else "queued"
    return told | {"state": state, "msg_id": request.id, "begins": begins, "timed": run.timed}


routes: list[web.RouteDef] = [web.post("/api/kernels/{kernel_id}/runs/take-over", take_over)]
