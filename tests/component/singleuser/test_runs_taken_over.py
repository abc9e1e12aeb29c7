"""A page that opens a notebook takes over the cells that still run: with a real kernel, over its WebSocket."""

from __future__ import annotations

from typing import Any

from component.singleuser.kernel_parts import Browser, Got, Server, printed
from component.singleuser.recorded_parts import (
    leave_in_the_middle,
    load,
    nobody_is_there,
    notebook_of,
    opened,
    save,
    server,
    shows,
    text_of,
)
from himalia_singleuser.kernels.pool import KERNELS
from support import eventually

__all__ = ["server"]

ASKS = "name = input('who? ')\nprint('hello', name)"
SHOWS = (
    "from IPython.display import display\nimport pathlib, time\nshown = display('at 0', display_id='bar')\n"
    "while not pathlib.Path('go').exists(): time.sleep(0.02)\nshown.update('at 1')"
)


def kernel_of(server: Server) -> str:
    return server.app[KERNELS].all()[0].id


async def take_over(server: Server, page: Browser, *cells: str) -> list[dict[str, Any]]:
    body = {"session_id": page.session, "cells": list(cells or "abc")}
    status, told = await server.ask("POST", f"api/kernels/{kernel_of(server)}/runs/take-over", json=body)
    assert status == 200, told
    return list(told["runs"])


async def all_about(page: Browser, run: dict[str, Any]) -> list[Got]:
    """What the page gets of a run from the moment that it took it over until the end."""
    await page.finished(run["msg_id"])
    about = [one for one in page.seen if one.parent.get("msg_id") == run["msg_id"]]
    begins = [one.header["msg_id"] for one in about].index(run["begins"])
    assert about[begins].type == "clear_output"
    return about[begins:]


async def test_who_takes_over_gets_all_that_came_and_all_that_comes(server: Server) -> None:
    await leave_in_the_middle(server)
    page = await server.browser(kernel_of(server))

    first, second = await take_over(server, page)
    (server.root / "go").touch()

    assert (first["cell_id"], first["state"], first["execution_count"]) == ("a", "running", 1)
    assert (second["cell_id"], second["state"]) == ("b", "queued")
    assert printed(await all_about(page, first)) == "begun\nended\n"
    assert printed(await all_about(page, second)) == "next\n"


async def test_a_page_that_takes_over_saves_half_and_leaves_again_loses_nothing(server: Server) -> None:
    content = (await leave_in_the_middle(server))["content"]
    page = await server.browser(kernel_of(server))
    await take_over(server, page)
    half = {"output_type": "stream", "name": "stdout", "text": "begun\n"}
    content["cells"][0] |= {"outputs": [half], "execution_count": None}
    await save(server, content)
    await page.close()
    await nobody_is_there(server)

    (server.root / "go").touch()
    await shows(server, "b", "next\n")

    assert text_of((await load(server))["content"], "a") == "begun\nended\n"
    await save(server, content)
    assert text_of((await load(server))["content"], "a") == "begun\nended\n", "the half is what the page knew"


async def test_a_question_that_waits_is_asked_of_the_page_that_takes_over(server: Server) -> None:
    left = await opened(server)
    await left.execute(ASKS, cell="a")
    await left.until(lambda got: got.type == "input_request")
    await left.close()
    page = await server.browser(kernel_of(server))

    (run,) = await take_over(server, page)
    begun = await page.until(lambda got: got.header["msg_id"] == run["begins"])
    assert begun.parent["msg_id"] == run["msg_id"]
    asked = await page.until(lambda got: got.type == "input_request")
    await page.send("input_reply", {"status": "ok", "value": "Ada"}, channel="stdin", parent=asked.header)

    assert printed(await page.finished(run["msg_id"])) == "hello Ada\n"


async def test_displays_keep_their_ids_so_that_they_can_be_changed(server: Server) -> None:
    left = await opened(server)
    await left.execute(SHOWS, cell="a")
    await left.until(lambda got: got.type == "display_data")
    await left.close()
    page = await server.browser(kernel_of(server))

    (run,) = await take_over(server, page)
    (server.root / "go").touch()

    shown = [one for one in await all_about(page, run) if one.type.endswith("display_data")]
    assert [(one.type, one.content["transient"]) for one in shown] == [
        ("display_data", {"display_id": "bar"}),
        ("update_display_data", {"display_id": "bar"}),
    ]


async def test_what_is_over_is_told_whole_and_what_another_page_shows_is_left_to_it(server: Server) -> None:
    await leave_in_the_middle(server)
    (server.root / "go").touch()
    await shows(server, "b", "next\n")
    kernel = server.app[KERNELS].all()[0]
    await eventually(lambda: kernel.relay.requests.running is None)
    here = await server.browser(kernel_of(server))
    request = await here.execute("input('still here? ')", cell="c")
    asked = await here.until(lambda got: got.type == "input_request")
    page = await server.browser(kernel_of(server))

    first, second = await take_over(server, page)

    assert [one["state"] for one in (first, second)] == ["ended", "ended"]
    assert text_of({"cells": [{"id": "a", **first}]}, "a") == "begun\nended\n"
    await here.send("input_reply", {"status": "ok", "value": ""}, channel="stdin", parent=asked.header)
    await here.finished(request)


async def test_only_cells_that_the_page_can_show_are_given_to_it(server: Server) -> None:
    await leave_in_the_middle(server)
    page = await server.browser(kernel_of(server))

    assert [run["cell_id"] for run in await take_over(server, page, "b", "other")] == ["b"]
    (server.root / "go").touch()
    await shows(server, "a", "begun\nended\n")


async def test_a_request_that_makes_no_sense_is_answered_with_what_is_wrong(server: Server) -> None:
    await save(server, notebook_of())
    page = await server.browser(await server.new_kernel())
    address = f"api/kernels/{kernel_of(server)}/runs/take-over"
    session = {"session_id": page.session}
    for url, body, status, word in [
        (address, {"cells": []}, 400, "session_id"),
        (address, session, 400, "cells"),
        (address, session | {"cells": "abc"}, 400, "cells"),
        (address, {"session_id": "nobody", "cells": []}, 409, "nobody"),
        ("api/kernels/00-00-00-00-00/runs/take-over", session | {"cells": []}, 404, "00-00"),
    ]:
        got, told = await server.ask("POST", url, json=body)
        assert (got, word in told["message"]) == (status, True), (url, body, told)
    assert await take_over(server, page) == []
