"""`nbconvert`: which formats there are, and conversion in a process of its own with a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from datetime import datetime
from typing import Any
from urllib.parse import quote

from aiohttp import hdrs, web

from himalia_singleuser.answers import json_answer, json_body
from himalia_singleuser.auth_marks import authenticated
from himalia_singleuser.contents import notebooks
from himalia_singleuser.contents.handlers import CONTENTS
from himalia_singleuser.contents.shape import complaint
from himalia_singleuser.contents.store import Wanted
from himalia_singleuser.errors import ApiError, BadRequest, NotFound
from himalia_singleuser.fields import text_field
from himalia_singleuser.middleware import content_policy

LIMIT_S = 120
EXPORTERS = {
    "asciidoc": "text/asciidoc",
    "html": "text/html",
    "latex": "text/latex",
    "markdown": "text/markdown",
    "notebook": "application/json",
    "pdf": "application/pdf",
    "python": "text/x-python",
    "rst": "text/x-rst",
    "script": "",
    "slides": "text/html",
}
"""What nbconvert brings, listed here because asking it means importing it (two seconds)."""

JAIL = f"""
import ctypes, resource
NEW_USER, NEW_NET = 0x10000000, 0x40000000
libc = ctypes.CDLL(None)
libc.unshare(NEW_NET) and libc.unshare(NEW_USER | NEW_NET)
resource.setrlimit(resource.RLIMIT_CPU, ({LIMIT_S}, {LIMIT_S}))
"""
"""What a converter must not have: a network of the server's, time without end. A notebook comes from anybody, and
its converters have read and fetched what it named. Where the system lets nobody make a
network namespace, as in many containers, it keeps the network that the person's own kernels have too."""

UNFIT_NOTEBOOK, MISSING_PROGRAM = 3, 4
"""Exit codes of PROGRAM for what is not a fault of ours."""

PROGRAM = (
    JAIL
    + f"UNFIT_NOTEBOOK, MISSING_PROGRAM = {UNFIT_NOTEBOOK}, {MISSING_PROGRAM}\n"
    + """
import io, json, sys, warnings, zipfile
warnings.simplefilter("ignore")
from nbconvert.exporters import get_exporter
from nbconvert.utils.pandoc import PandocMissing
import nbformat
form, name, sanitize = sys.argv[1:4]
name = name.split("/")[-1]
options = {"sanitize_html": True} if sanitize == "1" and form in {"html", "slides"} else {}
exporter = get_exporter(form)(**options)
try:
    notebook = nbformat.reads(sys.stdin.buffer.read().decode(), as_version=4)
    body, resources = exporter.from_notebook_node(notebook, resources={"metadata": {"name": name}})
except (OSError, PandocMissing, ImportError) as error:
    sys.stderr.write(str(error).splitlines()[0])
    sys.exit(MISSING_PROGRAM)
except Exception as error:
    # What the format does not allow breaks exporters in a hundred ways.
    sys.stderr.write(f"{type(error).__name__}: {error}".splitlines()[0])
    sys.exit(UNFIT_NOTEBOOK)
body = body if isinstance(body, bytes) else body.encode(errors="replace")
extension, extra = resources.get("output_extension", ""), resources.get("outputs") or {}
mime = exporter.output_mimetype or "text/plain"
if extra:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name + extension, body)
        for path, data in extra.items():
            # Names come from the notebook: one with `..` would be unpacked somewhere else.
            parts = [part for part in path.replace(chr(92), "/").split("/") if part not in ("", ".", "..")]
            archive.writestr("/".join(parts) or "unnamed", data)
    body, extension, mime = packed.getvalue(), ".zip", "application/zip"
sys.stdout.buffer.write(json.dumps({"extension": extension, "mime": mime}).encode() + b"\\n" + body)
"""
)


@authenticated
async def list_exporters(request: web.Request) -> web.Response:
    """The formats of the download menu."""
    return json_answer({name: {"output_mimetype": mime} for name, mime in EXPORTERS.items()})


@authenticated
async def convert_file(request: web.Request) -> web.Response:
    """A notebook below the root, as another format."""
    wanted = Wanted(type="notebook", content=True)
    model = await asyncio.to_thread(request.app[CONTENTS].get, request.match_info["path"], wanted)
    sanitize = request.query.get("sanitize_html", "") in {"1", "true"}
    answer = await _convert(request, model["content"], model["name"], sanitize=sanitize)
    if request.query.get("download", "") in {"1", "true"}:
        name = model["name"].removesuffix(".ipynb") + answer.headers["X-Extension"]
        answer.headers[hdrs.CONTENT_DISPOSITION] = f"attachment; filename*=utf-8''{quote(name, safe='')}"
    del answer.headers["X-Extension"]
    answer.last_modified = datetime.fromisoformat(model["last_modified"])
    return answer


@authenticated
async def convert_body(request: web.Request) -> web.Response:
    """A notebook that is sent along."""
    model = await json_body(request)
    if model is None or "content" not in model:
        raise BadRequest("Give the notebook as {'name': ..., 'content': {...}}")
    notebook = notebooks.require_shape(model["content"])
    name = text_field(model, "name") or "notebook.ipynb"
    if not name.isprintable():
        raise BadRequest(f"name is {name!r}: give one without control characters")
    answer = await _convert(request, notebook, name, sanitize=False)
    del answer.headers["X-Extension"]
    return answer


async def _convert(
    request: web.Request, notebook: dict[str, Any], name: str, *, sanitize: bool
) -> web.Response:
    form = request.match_info["format"]
    if form not in EXPORTERS:
        raise NotFound(f"There is no format {form!r}: {', '.join(EXPORTERS)}")
    argv = [sys.executable, "-I", "-c", PROGRAM, form, name.removesuffix(".ipynb"), "1" if sanitize else "0"]
    pipe = asyncio.subprocess.PIPE
    data = notebooks.serialise(notebook)
    # An empty folder of its own: relative names in a notebook lead to nothing, and what is written goes with it.
    with tempfile.TemporaryDirectory(prefix="convert-") as folder:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder, start_new_session=True
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(data), LIMIT_S)
        except TimeoutError:
            raise ApiError(f"The conversion to {form} took longer than {LIMIT_S} s", status=504) from None
        finally:
            # The whole session: TeX and its like are children of the converter.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode != 0:
        lines = err.decode("utf-8", "replace").strip().splitlines()
        # 501: this server lacks what the format needs, such as TeX; asking again does not help.
        code = {UNFIT_NOTEBOOK: 400, MISSING_PROGRAM: 501}.get(process.returncode or 0, 500)
        reason = lines[-1] if lines else "no reason given"
        if code == 400:
            reason = complaint(notebook) or reason
        raise ApiError(f"nbconvert to {form} failed: {reason}", status=code)
    about, _, body = out.partition(b"\n")
    return _document(request, about, body)


def _document(request: web.Request, about: bytes, body: bytes) -> web.Response:
    import json

    facts = json.loads(about)
    mime = facts["mime"]
    charset = "; charset=utf-8" if mime.startswith("text/") else ""
    headers = {
        hdrs.CONTENT_TYPE: mime + charset,
        hdrs.CACHE_CONTROL: "no-store, no-cache, must-revalidate, max-age=0",
        "Content-Security-Policy": content_policy(request, sandbox=True),
        "X-Extension": facts["extension"],
    }
    return web.Response(body=body, headers=headers)


routes = [
    web.get("/api/nbconvert", list_exporters, allow_head=False),
    web.get(r"/nbconvert/{format:\w+}/{path:.+}", convert_file, allow_head=False),
    web.post(r"/nbconvert/{format:\w+}", convert_body),
]
