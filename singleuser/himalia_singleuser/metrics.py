"""`metrics`: how much of what runs here, as Prometheus reads it.

Written by hand: the client library costs two megabytes in each of a thousand servers. Names that jupyter_server has
too are spelled as there, so that dashboards made for it go on.
"""

from __future__ import annotations

import resource

from aiohttp import web

from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.keys import ACTIVITY, KERNEL_COUNTS, SOCKETS
from himalia_singleuser.status import SERVER_VERSION
from himalia_singleuser.terminals.pool import TERMINALS


@authenticated
async def metrics(request: web.Request) -> web.Response:
    """Text format 0.0.4; every figure is read now, none is kept."""
    app = request.app
    counts, terminals, activity = app.get(KERNEL_COUNTS), app.get(TERMINALS), app[ACTIVITY]
    used = resource.getrusage(resource.RUSAGE_SELF)
    text = "".join(
        [
            _gauge("jupyter_server_info", "The API that is spoken.", 1, f'{{version="{SERVER_VERSION}"}}'),
            _gauge(
                "kernel_currently_running_total", "Kernels that run.", counts.kernel_count() if counts else 0
            ),
            _gauge(
                "terminal_currently_running_total",
                "Terminals that run.",
                len(terminals.all()) if terminals else 0,
            ),
            _gauge(
                "himalia_singleuser_kernel_connections",
                "Channel sockets of front ends to kernels.",
                counts.connection_count() if counts else 0,
            ),
            _gauge("himalia_singleuser_websockets", "Open WebSockets of any kind.", len(app[SOCKETS])),
            _gauge(
                "himalia_singleuser_last_activity_timestamp_seconds",
                "When somebody last did something here.",
                activity.last.timestamp(),
            ),
            _gauge(
                "himalia_singleuser_start_timestamp_seconds",
                "When the server was started.",
                activity.started.timestamp(),
            ),
            _gauge(
                "himalia_singleuser_peak_memory_bytes",
                "The most memory that this process had, kernels not included.",
                used.ru_maxrss * 1024,
            ),
            _gauge(
                "himalia_singleuser_cpu_seconds_total",
                "CPU time of this process, kernels not included.",
                used.ru_utime + used.ru_stime,
                kind="counter",
            ),
        ]
    )
    return web.Response(
        body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )


def _gauge(name: str, told: str, value: float, labels: str = "", *, kind: str = "gauge") -> str:
    return f"# HELP {name} {told}\n# TYPE {name} {kind}\n{name}{labels} {value}\n"


routes = [web.get("/metrics", metrics, allow_head=False)]
