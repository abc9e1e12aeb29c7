"""`api/contents`: what JupyterLab's file browser and documents live on."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from aiohttp import hdrs, web

from himalia_singleuser.answers import flag, json_answer, json_body, url_of
from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.contents import changes, checkpoints, notebooks
from himalia_singleuser.contents.fileids import FILE_IDS, FileIds
from himalia_singleuser.contents.models import Model
from himalia_singleuser.contents.overlay import OVERLAY, NoOverlay
from himalia_singleuser.contents.paths import Root
from himalia_singleuser.contents.store import Store, Wanted
from himalia_singleuser.contents.trust import Notary
from himalia_singleuser.contents.unchanged import Answers, last_modified
from himalia_singleuser.errors import BadRequest, NotFound
from himalia_singleuser.keys import EVENTS, SETTINGS

T = TypeVar("T")

CONTENTS = web.AppKey("CONTENTS", Store)
ANSWERS = web.AppKey("ANSWERS", Answers)
LOCKS: web.AppKey[WeakValueDictionary[str, asyncio.Lock]] = web.AppKey("LOCKS", WeakValueDictionary)
SCHEMA = "https://events.jupyter.org/jupyter_server/contents_service/v1"
IF_MATCH = re.compile(r'(?:W/)?"([0-9a-f]{64})"')


def _path(request: web.Request) -> str:
    return request.match_info["path"].strip("/")


def lock_of(app: web.Application, path: str) -> asyncio.Lock:
    """What to hold while the file of an API path is changed: one per file, whatever it is called. NotFound as `clean`.

    Two have to be taken in the order of their files, else two renames that cross would wait for each other.
    """
    return app[LOCKS].setdefault(file_of(app, path), asyncio.Lock())


def file_of(app: web.Application, path: str) -> str:
    """The real file of an API path, for `lock_of` and its order."""
    root = app[CONTENTS].root
    return os.path.realpath(root.folder / root.clean(path))


async def _blocking(
    request: web.Request, work: Callable[..., T], *args: Any, also: tuple[str, ...] = (), **more: Any
) -> T:
    """One change at a time per file; `also` names further files that change."""
    app = request.app
    paths = {file_of(app, path): path for path in (_path(request), *also)}
    async with AsyncExitStack() as held:
        for _, path in sorted(paths.items()):
            await held.enter_async_context(lock_of(app, path))
        return await asyncio.to_thread(work, *args, **more)


def _if_match(request: web.Request) -> str | None:
    """The hash that the file must have, `*` for any; None when there is no condition.

    A condition that cannot be read is refused: to save regardless is what the client wanted to exclude.
    """
    text = request.headers.get(hdrs.IF_MATCH)
    if text is None or text.strip() == "*":
        return None if text is None else "*"
    if match := IF_MATCH.fullmatch(text.strip()):
        return match[1]
    raise BadRequest(f'If-Match is {text[:80]!r}: it must be the sha256 of the file as "64 hex digits", or *')


def _tell(request: web.Request, action: str, path: str, source: str | None = None) -> None:
    data = {"action": action, "path": path}
    if source is not None:
        data["source_path"] = source
    request.app[EVENTS].emit(SCHEMA, data)


def _answer(request: web.Request, model: Model, *, status: int = 200, located: bool = False) -> web.Response:
    headers: dict[str, str] = {hdrs.LAST_MODIFIED: last_modified(model)}
    if located:
        headers[hdrs.LOCATION] = url_of(request, "api/contents", model["path"])
    return json_answer(model, status=status, headers=headers)


@authenticated
async def get_contents(request: web.Request) -> web.Response:
    """The model of a file, notebook or folder."""
    kind, form = request.query.get("type") or None, request.query.get("format") or None
    if kind not in {None, "directory", "file", "notebook"}:
        kind = "file"
    if form not in {None, "text", "base64", "json"}:
        raise BadRequest(f"Format {form!r} is invalid")
    content, hashed = flag(request, "content", default=True), flag(request, "hash", default=False)
    wanted = Wanted(kind, form, content, hashed)
    if request.app[OVERLAY].covers(_path(request)):
        model = await asyncio.to_thread(request.app[CONTENTS].get, _path(request), wanted)
        await request.app[OVERLAY].shown(model)
        _tell(request, "get", model["path"])
        return _answer(request, model)
    known = request.headers.get(hdrs.IF_NONE_MATCH)
    answer = await asyncio.to_thread(request.app[ANSWERS].get, _path(request), wanted, known)
    _tell(request, "get", answer.path)
    headers = {hdrs.ETAG: answer.tag, hdrs.LAST_MODIFIED: answer.modified}
    if answer.body is None:
        return web.Response(status=304, headers=headers)
    return web.Response(body=answer.body, headers=headers, content_type="application/json")


@authenticated
async def save(request: web.Request) -> web.Response:
    """Save, upload, create; an empty body asks for a new file in a folder."""
    model = await json_body(request)
    if model is None:
        return await _untitled(request, {})
    if "copy_from" in model:
        raise BadRequest("Cannot copy with PUT, only POST")
    store, overlay, path = request.app[CONTENTS], request.app[OVERLAY], _path(request)
    if_match = overlay.condition(path, _if_match(request))
    settled = await overlay.saving(path, model)
    saved, is_new = await _blocking(request, store.save, path, model, if_match=if_match)
    overlay.saved(path, settled)
    _tell(request, "upload" if "chunk" in model else "save", saved["path"])
    return _answer(request, saved, status=201 if is_new else 200, located=True)


@authenticated
async def create(request: web.Request) -> web.Response:
    """A new file under a name of the server's choice, or a copy."""
    model = await json_body(request) or {}
    source = model.get("copy_from")
    if not source:
        return await _untitled(request, model)
    if not isinstance(source, str):
        raise BadRequest("copy_from must be a path")
    copied = await _blocking(request, changes.copy, request.app[CONTENTS], source, _path(request))
    _tell(request, "copy", copied["path"], source)
    return _answer(request, copied, status=201, located=True)


async def _untitled(request: web.Request, model: dict[str, Any]) -> web.Response:
    made = await _blocking(request, changes.new_untitled, request.app[CONTENTS], _path(request), model)
    _tell(request, "create", made["path"])
    return _answer(request, made, status=201, located=True)


@authenticated
async def rename(request: web.Request) -> web.Response:
    """Rename or move. Sessions are the client's to tell."""
    model = await json_body(request)
    new = (model or {}).get("path")
    if not isinstance(new, str):
        raise BadRequest("JSON body missing: the new path is needed as {'path': ...}")
    moved = await _blocking(request, changes.move, request.app[CONTENTS], _path(request), new, also=(new,))
    request.app[OVERLAY].moved(_path(request), moved["path"])
    await asyncio.to_thread(request.app[FILE_IDS].moved, _path(request).strip("/"), moved["path"])
    _tell(request, "rename", moved["path"], _path(request))
    return _answer(request, moved, located=True)


@authenticated
async def delete(request: web.Request) -> web.Response:
    """Delete a file, or a folder by the rules of the settings."""
    settings = request.app[SETTINGS]
    await _blocking(
        request,
        changes.delete,
        request.app[CONTENTS],
        _path(request),
        to_trash=settings.delete_to_trash,
        whole_folders=settings.always_delete_dir,
    )
    await asyncio.to_thread(request.app[FILE_IDS].deleted, _path(request).strip("/"))
    _tell(request, "delete", _path(request))
    return web.Response(status=204)


@authenticated
async def list_checkpoints(request: web.Request) -> web.Response:
    """What is kept of the file, the newest last."""
    _, file = request.app[CONTENTS].root.shown(_path(request))
    return json_answer(await asyncio.to_thread(checkpoints.models, file))


@authenticated
async def create_checkpoint(request: web.Request) -> web.Response:
    """Keep the present content."""
    path, file = request.app[CONTENTS].root.writable(_path(request))
    made = await _blocking(request, checkpoints.create, file)
    location = url_of(request, "api/contents", path, "checkpoints", made["id"])
    return json_answer(made, status=201, headers={hdrs.LOCATION: location})


@authenticated
async def restore_checkpoint(request: web.Request) -> web.Response:
    """Bring the kept content back."""
    _, file = request.app[CONTENTS].root.writable(_path(request))
    await _blocking(request, checkpoints.restore, file, request.match_info["id"])
    return web.Response(status=204)


@authenticated
async def delete_checkpoint(request: web.Request) -> web.Response:
    """Forget it."""
    _, file = request.app[CONTENTS].root.writable(_path(request))
    await _blocking(request, checkpoints.delete, file, request.match_info["id"])
    return web.Response(status=204)


@authenticated
async def clear_outputs(request: web.Request) -> web.Response:
    """Remove the outputs of the notebook on disk. Its page, if open, is asked what to do at its next save."""
    store, path = request.app[CONTENTS], _path(request)
    model = await _blocking(request, changes.clear_outputs, store, path, if_match=_if_match(request))
    _tell(request, "save", model["path"])
    return _answer(request, model)


@authenticated
async def trust(request: web.Request) -> web.Response:
    """Sign the notebook as it is on disk."""
    await asyncio.to_thread(_trust, request.app[CONTENTS], _path(request))
    return web.Response(status=201)


def _trust(store: Store, path: str) -> None:
    path, file = store.root.writable(path)
    store.get(path, Wanted(type="notebook", content=False))
    store.notary.sign(notebooks.parse(file.read_bytes(), path))


@authenticated
async def file_id(request: web.Request) -> web.Response:
    """The id of `?path=`, a file or folder that is there."""
    if "path" not in request.query:
        raise BadRequest("The query needs the path of a file: ?path=")
    wanted = Wanted(content=False)
    model = await asyncio.to_thread(request.app[CONTENTS].get, request.query["path"], wanted)
    known = await asyncio.to_thread(request.app[FILE_IDS].id_of, model["path"])
    return json_answer({"id": known, "path": model["path"]})


@authenticated
async def file_path(request: web.Request) -> web.Response:
    """Where the file of `?id=` is now."""
    if "id" not in request.query:
        raise BadRequest("The query needs the id of a file: ?id=")
    known = request.query["id"]
    path = await asyncio.to_thread(request.app[FILE_IDS].path_of, known)
    if path is None:
        raise NotFound(f"The path for file, {known}, could not be found.")
    await asyncio.to_thread(request.app[CONTENTS].get, path, Wanted(content=False))
    return json_answer({"id": known, "path": path})


@authenticated
async def old_notebooks_url(request: web.Request) -> web.Response:
    """`api/notebooks/*` is the name of ten years ago."""
    query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
    location = url_of(request, "api/contents", _path(request)) + query
    return web.Response(status=302, headers={hdrs.LOCATION: location})


async def open_store(app: web.Application) -> AsyncIterator[None]:
    """The store with its locks; in the end the drafts of unfinished uploads are removed."""
    settings = app[SETTINGS]
    root = Root(settings.root_dir, settings.allow_hidden, settings.follow_symlinks)
    app[CONTENTS] = Store(root, Notary(settings.data_dir), clear_outputs=settings.clear_outputs_on_save)
    app[ANSWERS] = Answers(app[CONTENTS])
    app[LOCKS] = WeakValueDictionary()
    app[OVERLAY] = NoOverlay()
    app[FILE_IDS] = FileIds(settings.data_dir, settings.root_dir)
    yield
    await asyncio.to_thread(app[CONTENTS].uploads.close)


PLACE = "/api/contents/{path:.+}"

routes = [
    web.get(PLACE + "/checkpoints", list_checkpoints, allow_head=False),
    web.post(PLACE + "/checkpoints", create_checkpoint),
    web.post(PLACE + r"/checkpoints/{id:[\w-]+}", restore_checkpoint),
    web.delete(PLACE + r"/checkpoints/{id:[\w-]+}", delete_checkpoint),
    web.post(PLACE + "/trust", trust),
    web.get("/api/fileid/id", file_id, allow_head=False),
    web.get("/api/fileid/path", file_path, allow_head=False),
    web.post(r"/api/contents/{path:.+\.ipynb}/clear-outputs", clear_outputs),
    *(
        route
        for path in ("/api/contents{path:/?}", PLACE)
        for route in (
            web.get(path, get_contents, allow_head=False),
            web.put(path, save),
            web.post(path, create),
            web.patch(path, rename),
            web.delete(path, delete),
        )
    ),
    web.get("/api/notebooks{path:(?:/.*)?}", old_notebooks_url, allow_head=False),
]
lifetimes = [open_store]
