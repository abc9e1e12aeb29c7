"""A kernel kept ready for the next notebook: unseen, taken where it fits, gone when nobody comes. Real ipykernels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest

from component.singleuser.kernel_parts import Server, running_server
from himalia_singleuser.kernels import spare
from himalia_singleuser.kernels.lifecycle import Kernel
from himalia_singleuser.kernels.options import KernelOptions
from himalia_singleuser.kernels.pool import KERNELS
from support import eventually

Open = Callable[..., Awaitable[Server]]


@pytest.fixture
async def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """A server whose JupyterLab page was opened: `await opened(idle_s=60)`."""
    monkeypatch.setattr(spare, "PAUSE_S", 0.0)
    async with AsyncExitStack() as stack:

        async def begin(*, idle_s: float, page: str = "lab") -> Server:
            options = KernelOptions(spare_idle_s=idle_s)
            server = await stack.enter_async_context(running_server(tmp_path, options=options))
            async with server.http.get(server.url + page) as answer:
                assert answer.status == 200
            return server

        yield begin


async def spare_of(server: Server) -> Kernel:
    """The spare kernel, once it answers."""

    async def ready() -> Kernel | None:
        kernel = server.app[KERNELS].spare.kernel
        return kernel if kernel is not None and await kernel.wait_ready(0) else None

    kernel = await eventually(ready, within_s=30)
    assert kernel is not None
    return kernel


async def session_of(server: Server, path: str) -> str:
    body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
    status, session = await server.ask("POST", "api/sessions", json=body)
    assert status == 201, session
    return str(session["kernel"]["id"])


async def test_the_spare_kernel_is_on_no_list_until_a_session_gets_it(opened: Open) -> None:
    server = await opened(idle_s=60)
    kernel = await spare_of(server)
    pid = kernel.pid
    assert (await server.ask("GET", "api/kernels"))[1] == []
    assert (await server.ask("GET", "api/status"))[1]["kernels"] == 0
    assert (await server.ask("GET", f"api/kernels/{kernel.id}"))[0] == 404

    kernel_id = await session_of(server, "work.ipynb")

    assert (kernel_id, kernel.pid) == (kernel.id, pid)
    assert [one["id"] for one in (await server.ask("GET", "api/kernels"))[1]] == [kernel.id]


async def test_who_gets_it_cannot_tell_it_from_a_new_one(opened: Open) -> None:
    server = await opened(idle_s=60)
    await spare_of(server)
    browser = await server.browser(await session_of(server, "work.ipynb"))
    about = "print(sorted(globals()), get_ipython().execution_count)"
    place = "import os; print(os.environ['JPY_SESSION_NAME'], os.getcwd())"

    new = await server.browser(await server.new_kernel(kernel_id="00000000-0000-0000-0000-000000000001"))

    assert await browser.printed(about) == await new.printed(about)
    assert (await browser.printed(place)).split() == [str(server.root / "work.ipynb"), str(server.root)]


async def test_the_next_one_is_made_ready_where_the_last_notebook_was(opened: Open) -> None:
    server = await opened(idle_s=60)
    (server.root / "sub").mkdir()
    first = await spare_of(server)

    kernel_id = await session_of(server, "sub/work.ipynb")

    assert kernel_id != first.id, "its working directory is another one"
    await eventually(lambda: first.gone)
    second = await spare_of(server)
    assert second.cwd == server.root / "sub"
    assert await session_of(server, "sub/other.ipynb") == second.id


async def test_one_that_is_asked_for_while_it_starts_is_waited_for(opened: Open) -> None:
    server = await opened(idle_s=60)
    spare_pool = server.app[KERNELS].spare
    await eventually(lambda: spare_pool.kernel is not None)
    starting = spare_pool.kernel

    kernel_id = await session_of(server, "work.ipynb")

    assert starting is not None
    assert kernel_id == starting.id
    assert await (await server.browser(kernel_id)).printed("print(6 * 7)") == "42\n"


async def test_it_is_gone_when_nobody_comes_and_with_the_server(opened: Open) -> None:
    server = await opened(idle_s=0.05, page="tree")
    spare_pool = server.app[KERNELS].spare
    await eventually(lambda: spare_pool.kernel is not None)
    kernel = spare_pool.kernel
    assert kernel is not None
    pid = kernel.pid

    await eventually(lambda: kernel.gone and not psutil.pid_exists(pid or 0), within_s=30)


async def test_there_is_none_where_no_page_was_opened_or_none_is_wanted(opened: Open) -> None:
    server = await opened(idle_s=60, page="api")
    await server.browser(await server.new_kernel())
    assert server.app[KERNELS].spare.kernel is None
