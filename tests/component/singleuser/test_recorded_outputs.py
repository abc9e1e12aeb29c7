"""A cell whose browser went away: its outputs are recorded, shown, merged and written, with a real kernel and file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from component.singleuser.kernel_parts import Server, printed, running_server
from component.singleuser.recorded_parts import (
    NOTEBOOK,
    UNTIL_TOLD,
    leave_in_the_middle,
    load,
    nobody_is_there,
    on_disk,
    opened,
    save,
    server,
    shows,
    text_of,
)
from himalia_singleuser.contents.handlers import CONTENTS, lock_of
from himalia_singleuser.contents.store import Wanted
from himalia_singleuser.recorder.journal import CELL_HELD, MIB
from himalia_singleuser.recorder.recorder import RECORDER
from support import eventually

__all__ = ["server"]


async def test_the_running_and_the_queued_cell_are_recorded_and_no_client_sees_another_version(
    server: Server,
) -> None:
    known = await leave_in_the_middle(server)

    (server.root / "go").touch()

    await shows(server, "b", "next\n")
    model = await load(server)
    assert text_of(model["content"], "a") == "begun\nended\n"
    first, second = model["content"]["cells"][:2]
    assert (first["execution_count"], second["execution_count"]) == (1, 2)
    assert {"iopub.status.busy", "iopub.status.idle", "iopub.execute_input"} <= set(
        first["metadata"]["execution"]
    )
    assert (model["hash"], model["last_modified"]) == (known["hash"], known["last_modified"])


async def test_the_file_is_written_when_nobody_is_there_and_clients_still_know_their_version(
    server: Server,
) -> None:
    server.app[RECORDER].quiet_s = server.app[RECORDER].look_every_s = 0.05
    known = await leave_in_the_middle(server)
    await server.app[RECORDER].write(NOTEBOOK)
    assert text_of(on_disk(server), "a") == "begun\n"

    (server.root / "go").touch()
    await shows(server, "b", "next\n")
    await server.app[RECORDER].write(NOTEBOOK)

    assert text_of(on_disk(server), "a") == "begun\nended\n"
    model = await load(server, content=0)
    assert (model["hash"], model["last_modified"]) == (known["hash"], known["last_modified"])
    saved = await save(server, known["content"], headers={"If-Match": f'"{known["hash"]}"'})
    assert text_of(on_disk(server), "b") == "next\n", "who saves the version before the run does not undo it"
    assert (await load(server, content=0))["last_modified"] == saved["last_modified"]


async def test_the_loop_writes_by_itself_once_it_has_been_quiet(server: Server) -> None:
    recorder = server.app[RECORDER]
    recorder.quiet_s = 0.05
    await leave_in_the_middle(server)
    (server.root / "go").touch()

    await eventually(lambda: text_of(on_disk(server), "b") == "next\n", within_s=60)


async def test_what_a_client_saves_later_wins_in_that_cell_alone(server: Server) -> None:
    await leave_in_the_middle(server)
    (server.root / "go").touch()
    await shows(server, "b", "next\n")
    content = (await load(server))["content"]
    content["cells"][0]["outputs"] = []

    await save(server, content)

    assert text_of(on_disk(server), "a") == ""
    assert text_of(on_disk(server), "b") == "next\n"
    assert text_of((await load(server))["content"], "a") == ""


async def test_a_page_that_saves_a_cell_half_full_gets_the_rest(server: Server) -> None:
    await leave_in_the_middle(server)
    half = (await load(server))["content"]
    (server.root / "go").touch()
    await shows(server, "b", "next\n")
    half["cells"][2]["source"] = "edited meanwhile"

    await save(server, half)

    assert text_of(on_disk(server), "a") == "begun\nended\n"
    assert "".join(on_disk(server)["cells"][2]["source"]) == "edited meanwhile"


async def test_while_its_browser_is_there_nothing_is_added_to_what_it_saves(server: Server) -> None:
    browser = await opened(server)
    await browser.finished(await browser.execute("print('seen')", cell="b"))

    await save(server, (await load(server))["content"])

    assert text_of(on_disk(server), "b") == ""
    await browser.close()
    await nobody_is_there(server)
    await server.app[RECORDER].write(NOTEBOOK)
    assert text_of(on_disk(server), "b") == "", "the page saved without it after it was over"


async def test_what_a_page_had_not_saved_when_it_went_is_kept_with_its_code(server: Server) -> None:
    browser = await opened(server)
    await browser.finished(await browser.execute("print('edited')", cell="b"))
    await browser.finished(await browser.execute("print('brand new')", cell="new"))
    await browser.close()

    await nobody_is_there(server)
    assert text_of((await load(server))["content"], "b") == "edited\n"

    content = (await load(server))["content"]
    assert content["cells"][1]["source"] == "print('edited')"
    assert (content["cells"][-1]["id"], text_of(content, "new")) == ("new", "brand new\n")


async def test_somebody_elses_change_of_the_file_stays(server: Server) -> None:
    await leave_in_the_middle(server)
    (server.root / "go").touch()
    await shows(server, "b", "next\n")
    known = await load(server)
    theirs = on_disk(server)
    theirs["cells"][2]["source"] = "by another program"
    (server.root / NOTEBOOK).write_text(json.dumps(theirs))

    await server.app[RECORDER].write(NOTEBOOK)

    assert "".join(on_disk(server)["cells"][2]["source"]) == "by another program"
    assert text_of(on_disk(server), "a") == "begun\nended\n"
    assert (await load(server))["hash"] != known["hash"], "clients must hear of what others changed"


async def test_recorded_outputs_are_trusted_as_those_of_an_open_page(server: Server) -> None:
    browser = await opened(server)
    rich = "from IPython.display import display\ndisplay({'text/html': '<b>x</b>'}, raw=True)"
    await browser.finished(await browser.execute(rich, cell="b"))
    await browser.close()
    await nobody_is_there(server)

    assert (await load(server))["content"]["cells"][1]["metadata"]["trusted"] is True
    await server.app[RECORDER].write(NOTEBOOK)

    written = server.app[CONTENTS].get(NOTEBOOK, Wanted())["content"]["cells"][1]
    assert written["outputs"][0]["data"] == {"text/html": "<b>x</b>"}
    assert written["metadata"]["trusted"] is True, "the file's own signature says so"


async def test_a_server_that_stops_writes_all_it_recorded(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await leave_in_the_middle(server)

    assert text_of(on_disk(server), "a") == "begun\nKeyboardInterrupt"


async def test_the_cell_in_which_a_kernel_died_says_how_whether_or_not_a_browser_is_there(
    server: Server,
) -> None:
    browser = await opened(server)
    die = "import os, signal\nprint('last words', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    asked = await browser.execute(die, cell="a")

    told = await browser.until(lambda got: got.type == "stream" and "died" in got.content["text"])

    assert "killed by SIGKILL" in told.content["text"]
    assert (told.content["name"], told.parent["msg_id"]) == ("stderr", asked)
    _, kernels = await server.ask("GET", "api/kernels")
    assert "killed by SIGKILL" in kernels[0]["reason"]
    await browser.close()
    await nobody_is_there(server)
    assert "killed by SIGKILL" in text_of((await load(server))["content"], "a")


async def test_the_recorder_waits_for_a_save_of_the_same_file_under_any_name(server: Server) -> None:
    await leave_in_the_middle(server)
    (server.root / "go").touch()
    await shows(server, "b", "next\n")
    await nobody_is_there(server)

    async with lock_of(server.app, f"./{NOTEBOOK}"):
        before = on_disk(server)
        writing = asyncio.create_task(server.app[RECORDER].write(NOTEBOOK))
        ended, _ = await asyncio.wait([writing], timeout=0.3)
        assert (len(ended), on_disk(server)) == (0, before)
    await writing

    assert text_of(on_disk(server), "a") == "begun\nended\n"


PRINTS_MUCH = "for number in range(400): print(f'{number:05}' + 'x' * 99_994)\nprint('ended')"


async def test_a_cell_that_prints_ten_times_what_memory_may_hold_is_whole_when_it_is_opened_again(
    server: Server,
) -> None:
    browser = await opened(server)
    most_held = 0
    asked = await browser.execute(PRINTS_MUCH, cell="a")
    await browser.until(lambda got: got.parent.get("msg_id") == asked)
    await browser.close()

    def over() -> bool:
        nonlocal most_held
        run = server.app[RECORDER].runs()[0][0]
        most_held = max(most_held, run.size)
        return not run.is_open

    await eventually(over, within_s=60)

    text = text_of((await load(server))["content"], "a")
    assert text.splitlines() == [f"{number:05}" + "x" * 99_994 for number in range(400)] + ["ended"]
    assert most_held < CELL_HELD + MIB
    await server.app[RECORDER].write(NOTEBOOK)
    assert text_of(on_disk(server), "a") == text


async def test_a_page_that_takes_over_gets_what_is_on_disk_too(server: Server) -> None:
    browser = await opened(server)
    asked = await browser.execute(PRINTS_MUCH + f"\n{UNTIL_TOLD}", cell="a")
    await browser.until(lambda got: got.parent.get("msg_id") == asked)
    await browser.close()
    run = server.app[RECORDER].runs()[0][0]
    await eventually(
        lambda: run.recorded().outputs[-1:] and "begun" in run.recorded().outputs[-1]["text"], within_s=60
    )

    page = await server.browser(run.kernel_id)
    body = {"session_id": page.session, "cells": ["a"]}
    status, told = await server.ask("POST", f"api/kernels/{run.kernel_id}/runs/take-over", json=body)
    (server.root / "go").touch()
    got = await page.finished(asked, within_s=60)

    assert (status, told["runs"][0]["state"]) == (200, "running")
    assert len(printed(got)) == 400 * 100_000 + len("ended\nbegun\nended\n")
    await page.close()


async def test_a_later_cell_changes_the_display_of_an_earlier_one(server: Server) -> None:
    browser = await opened(server)
    await browser.finished(
        await browser.execute("h = display({'text/plain': 'old'}, raw=True, display_id='d')", cell="a")
    )
    await browser.finished(await browser.execute("h.update({'text/plain': 'new'}, raw=True)", cell="b"))
    await browser.close()
    await nobody_is_there(server)

    cells = (await load(server))["content"]["cells"]

    assert [one["data"] for one in cells[0]["outputs"]] == [{"text/plain": "new"}]
    assert cells[1]["outputs"] == []
