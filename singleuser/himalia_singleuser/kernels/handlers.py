"""`api/kernels`, `api/kernelspecs` and the channels WebSocket."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

from aiohttp import WSCloseCode, web

from himalia_singleuser.answers import json_answer, json_body, url_of
from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.errors import BadRequest, NotFound
from himalia_singleuser.fields import text_field
from himalia_singleuser.kernels import specs
from himalia_singleuser.kernels.client import Client
from himalia_singleuser.kernels.cull import cull_forever
from himalia_singleuser.kernels.errors import FrameError, NoSuchSpec
from himalia_singleuser.kernels.framing import V1, decode_legacy, decode_v1
from himalia_singleuser.kernels.pool import KERNELS, pool_for
from himalia_singleuser.kernels.relay import Relay
from himalia_singleuser.keys import KERNEL_COUNTS, SETTINGS
from himalia_singleuser.sockets import Socket, accept, wants_upgrade

ICON_AGE_S = 30 * 24 * 3600


@authenticated
async def list_kernels(request: web.Request) -> web.Response:
    """Every kernel's model."""
    return json_answer([kernel.model() for kernel in request.app[KERNELS].all()])


@authenticated
async def start_kernel(request: web.Request) -> web.Response:
    """Start a kernel; it may still be starting when this answers."""
    body = await json_body(request) or {}
    kernel = await request.app[KERNELS].start(
        text_field(body, "name"), path=text_field(body, "path"), kernel_id=text_field(body, "kernel_id")
    )
    location = {"Location": url_of(request, "api/kernels", kernel.id)}
    return json_answer(kernel.model(), status=201, headers=location)


@authenticated
async def show_kernel(request: web.Request) -> web.Response:
    """One kernel's model."""
    return json_answer(request.app[KERNELS].get(request.match_info["kernel_id"]).model())


@authenticated
async def stop_kernel(request: web.Request) -> web.Response:
    """Shut it down; it is gone when this answers."""
    await request.app[KERNELS].stop(request.match_info["kernel_id"])
    return web.Response(status=204)


@authenticated
async def interrupt_kernel(request: web.Request) -> web.Response:
    """Interrupt the running cell."""
    await request.app[KERNELS].interrupt(request.match_info["kernel_id"])
    return web.Response(status=204)


@authenticated
async def restart_kernel(request: web.Request) -> web.Response:
    """A new process under the same id; it answers when this does."""
    kernel = await request.app[KERNELS].restart(request.match_info["kernel_id"])
    return json_answer(kernel.model())


@authenticated
async def channels(request: web.Request) -> web.StreamResponse:
    """The WebSocket between one browser and one kernel."""
    pool, kernel_id = request.app[KERNELS], request.match_info["kernel_id"]
    kernel = pool.get(kernel_id)
    if not wants_upgrade(request):
        raise BadRequest("This address speaks WebSocket only; the request has no `Upgrade: websocket`.")
    # A kernel that does not answer in time is connected all the same: its browser should see that it
    # is starting, and be able to interrupt or restart it.
    await kernel.wait_ready(pool.options.ready_timeout_s)
    if kernel.gone:
        pool.get(kernel_id)
    session_id = request.query.get("session_id") or str(uuid.uuid4())
    async with accept(request, protocols=(V1,)) as socket:
        client = Client(session_id, pool.options, v1=socket.ws.ws_protocol == V1)
        if kernel.gone:
            await socket.close(WSCloseCode.GOING_AWAY, "the kernel was shut down")
        else:
            await _serve(kernel.relay, client, socket)
    return socket.ws


async def _serve(relay: Relay, client: Client, socket: Socket) -> None:
    relay.attach(client)
    writing = [
        asyncio.create_task(client.write_to(socket)),
        asyncio.create_task(client.close_when_dismissed(socket)),
    ]
    try:
        async for frame, text in socket.frames():
            channel, parts = decode_v1(frame) if client.v1 else decode_legacy(frame, text=text)
            relay.submit(client, channel, parts)
    except FrameError as error:
        await socket.close(WSCloseCode.INVALID_TEXT, f"malformed message: {error}")
    finally:
        for task in writing:
            task.cancel()
        await asyncio.wait(writing)
        relay.detach(client)


@authenticated
async def list_specs(request: web.Request) -> web.Response:
    """Every installed kernelspec and the name of the default one."""
    options = request.app[KERNELS].options
    known = await asyncio.to_thread(specs.find_all, options.allowed_kernels)
    base_url = request.app[SETTINGS].base_url
    return json_answer(
        {
            "default": specs.default_name(options.default_kernel, known),
            "kernelspecs": {name: spec.model(base_url) for name, spec in known.items()},
        }
    )


@authenticated
async def show_spec(request: web.Request) -> web.Response:
    """One kernelspec."""
    spec = await _spec(request)
    return json_answer(spec.model(request.app[SETTINGS].base_url))


@authenticated
async def spec_file(request: web.Request) -> web.StreamResponse:
    """A file of a kernelspec's folder: icons, kernel.js, kernel.css."""
    spec, name = await _spec(request), request.match_info["file"]
    folder = spec.folder.resolve()
    file = (folder / name).resolve() if "\0" not in name else folder
    if not file.is_relative_to(folder) or not file.is_file():
        raise NotFound(f"Kernel spec {spec.name} has no file {name}.")
    age = f"max-age={ICON_AGE_S}" if file.suffix == ".png" else "no-cache"
    return web.FileResponse(file, headers={"Cache-Control": age})


async def _spec(request: web.Request) -> specs.KernelSpec:
    known = await asyncio.to_thread(specs.find_all, request.app[KERNELS].options.allowed_kernels)
    try:
        return specs.find_in(known, request.match_info["name"])
    except NoSuchSpec as error:
        raise NotFound(error.message) from None


async def kernels_lifetime(app: web.Application) -> AsyncIterator[None]:
    """Kernels live no longer than the server that was told to stop."""
    pool = app[KERNELS] = pool_for(app)
    app[KERNEL_COUNTS] = pool
    culling = asyncio.create_task(cull_forever(pool))
    yield
    culling.cancel()
    await pool.close()


_KERNEL = r"/api/kernels/{kernel_id:\w+-\w+-\w+-\w+-\w+}"

routes: list[web.RouteDef] = [
    web.get("/api/kernels", list_kernels, allow_head=False),
    web.post("/api/kernels", start_kernel),
    web.get(_KERNEL, show_kernel, allow_head=False),
    web.delete(_KERNEL, stop_kernel),
    web.post(_KERNEL + "/interrupt", interrupt_kernel),
    web.post(_KERNEL + "/restart", restart_kernel),
    web.get(_KERNEL + "/channels", channels, allow_head=False),
    web.get("/api/kernelspecs", list_specs, allow_head=False),
    web.get("/api/kernelspecs/{name}", show_spec, allow_head=False),
    web.get("/kernelspecs/{name}/{file:.+}", spec_file),
]
lifetimes = [kernels_lifetime]
