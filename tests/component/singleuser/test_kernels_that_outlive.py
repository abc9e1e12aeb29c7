"""A server that is killed and started again finds its kernels: variables, sessions and outputs, with real kernels."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from component.singleuser.conftest import Running, Start
from component.singleuser.outliving_parts import (
    BURST,
    NOTEBOOK,
    PRINTING,
    browser,
    bytes_of,
    command,
    complete,
    ended,
    keeper_of,
    killed,
    number_in,
    opened,
    processes,
    shown,
)
from component.singleuser.recorded_parts import text_of
from support import eventually


@pytest.fixture(autouse=True)
async def no_process_is_left(tmp_path: Path) -> AsyncIterator[None]:
    """Whatever a test leaves behind is ended; most promise to leave nothing."""
    yield
    end_all(tmp_path)


def end_all(tmp_path: Path) -> None:
    for pid in processes(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_kernel_variables_session_and_all_outputs_outlive_a_killed_server(
    start: Start, tmp_path: Path
) -> None:
    first = await start()
    kernel_id, page = await opened(first)
    await page.run("kept = 41")
    await page.execute(PRINTING, cell="a")
    await page.execute("print('next')", cell="b")
    await page.until(lambda got: number_in(got, 20))
    sessions = (await first.ask("GET", "api/sessions"))[1]
    pid = processes(tmp_path)

    await killed(first)
    second = await start()

    (session,) = (await second.ask("GET", "api/sessions"))[1]
    assert (session["id"], session["path"], session["kernel"]["id"]) == (
        sessions[0]["id"],
        NOTEBOOK,
        kernel_id,
    )
    assert session["kernel"]["execution_state"] == "busy"
    (second.root / "go").touch()
    assert complete(await ended(second))
    assert await ended(second, "b", "next\n") == "next\n"
    page = await browser(second, kernel_id)
    assert await page.printed("print(kept + 1)") == "42\n"
    assert set(pid) - {first.process.pid} <= set(processes(tmp_path)), "no kernel was started anew"
    await page.close()


async def test_what_was_put_out_while_no_server_lived_is_there_afterwards(
    start: Start, tmp_path: Path
) -> None:
    first = await start()
    _, page = await opened(first)
    await page.execute(PRINTING, cell="a")
    await page.until(lambda got: number_in(got, 5))

    await killed(first)
    (first.root / "go").touch()
    journal = next((tmp_path / "home").rglob("kept-*"))
    await eventually(lambda: any(b"ended" in bytes_of(file) for file in journal.glob("*.journal.*")))
    second = await start()

    assert complete(await ended(second))
    model = (await second.ask("GET", "api/kernels"))[1][0]

    async def idle() -> bool:
        return bool((await second.ask("GET", "api/kernels"))[1][0]["execution_state"] == "idle")

    await eventually(idle, what=str(model))


async def test_no_message_of_a_burst_is_missing_that_begins_with_no_server(
    start: Start, tmp_path: Path
) -> None:
    first = await start()
    _, page = await opened(first)
    await page.execute(BURST, cell="a")
    await page.until(lambda got: got.type == "stream")
    await killed(first)
    (first.root / "go").touch()
    journal = next((tmp_path / "home").rglob("kept-*"))
    await eventually(lambda: any(b"display_data" in bytes_of(file) for file in journal.glob("*.journal.*")))
    second = await start()

    await ended(second)
    outputs = next(one["outputs"] for one in (await shown(second))["cells"] if one["id"] == "a")
    displayed = [one["data"]["text/plain"] for one in outputs if one["output_type"] == "display_data"]
    assert displayed == [str(number) for number in range(900)]


async def test_a_page_that_stayed_gets_what_it_missed_and_the_reply_of_its_cell(start: Start) -> None:
    first = await start()
    kernel_id, page = await opened(first)
    asked = await page.execute(PRINTING, cell="a")
    await page.until(lambda got: number_in(got, 5))
    before = [got for got in page.seen if got.type == "stream"]

    await killed(first)
    with suppress(ConnectionError):
        while True:
            before += [await page.receive()]
    second = await start()
    again = await browser(second, kernel_id, page.session)
    (second.root / "go").touch()
    after = await again.finished(asked)

    given = list(dict.fromkeys(got.header["msg_id"] for got in before))
    told_twice = set(given) & {got.header["msg_id"] for got in after}
    written_last = set(given[len(given) - len(told_twice) :])
    assert told_twice == written_last, "only what was being written when the server was killed"
    assert len(told_twice) <= 3, "of which a write has what a cell said within 5 ms"
    messages = {got.header["msg_id"]: got for got in before + after if got.type == "stream"}
    assert complete("".join(got.content["text"] for got in messages.values()))
    (reply,) = [got for got in after if got.type == "execute_reply"]
    assert reply.content["status"] == "ok"
    await again.close()


async def test_two_restarts_in_a_row_lose_nothing(start: Start) -> None:
    server = await start()
    _, page = await opened(server)
    await page.execute(PRINTING, cell="a")
    await page.until(lambda got: number_in(got, 5))
    for least in (30, 60):
        await killed(server)
        server = await start()

        async def came(server: Running = server, least: int = least) -> bool:
            return f"\n{least}\n" in text_of(await shown(server), "a")

        await eventually(came, within_s=30)
    (server.root / "go").touch()

    assert complete(await ended(server))


async def test_without_its_keeper_the_kernel_goes_on_and_the_gap_is_marked(
    start: Start, tmp_path: Path
) -> None:
    first = await start()
    kernel_id, page = await opened(first)
    await page.run("kept = 41")
    await page.execute(PRINTING, cell="a")
    await page.until(lambda got: number_in(got, 5))

    os.kill(keeper_of(tmp_path), signal.SIGSTOP)
    await killed(first)
    os.kill(keeper_of(tmp_path), signal.SIGKILL)
    await eventually(lambda: not any(b"singleuser.keeper" in command(pid) for pid in processes(tmp_path)))
    second = await start()

    (second.root / "go").touch()
    text = await ended(second)
    assert "Output may be missing here: the server was killed, and so was the keeper" in text
    page = await browser(second, kernel_id)
    assert await page.printed("print(kept + 1)") == "42\n"
    assert keeper_of(tmp_path)
    await page.close()


async def test_a_killed_keeper_is_replaced_and_its_successor_keeps_the_same_kernels(
    start: Start, tmp_path: Path
) -> None:
    first = await start()
    kernel_id, page = await opened(first)
    await page.run("kept = 41")
    os.kill(keeper_of(tmp_path), signal.SIGKILL)

    folder = next((tmp_path / "home").rglob("kept-*"))

    def heard() -> bool:
        told = json.loads((folder / "state.json").read_text())["kernels"][0]
        journal = b"".join(map(bytes_of, folder.glob("*.journal.*")))
        return "keeper.renewed" in first.log.read_text() and told["mark"].encode() in journal

    await eventually(heard, what="the new keeper hears the kernel, and the server knows that it does")
    await page.execute(PRINTING, cell="a")
    await page.until(lambda got: number_in(got, 5))
    await killed(first)
    second = await start()

    (second.root / "go").touch()
    assert complete(await ended(second))
    page = await browser(second, kernel_id)
    assert await page.printed("print(kept + 1)") == "42\n"
    await page.close()


async def test_a_kernel_that_died_while_no_server_lived_says_how(start: Start, tmp_path: Path) -> None:
    first = await start()
    kernel_id, page = await opened(first)
    await page.execute(PRINTING, cell="a")
    await page.until(lambda got: number_in(got, 5))
    await killed(first)
    (kernel,) = [pid for pid in processes(tmp_path) if b"ipykernel" in command(pid)]
    os.kill(kernel, signal.SIGSEGV)
    await eventually(lambda: kernel not in processes(tmp_path))

    second = await start()

    assert "The kernel died: killed by SIGSEGV" in await ended(second, last="is gone.\n")
    model = (await second.ask("GET", f"api/kernels/{kernel_id}"))[1]
    assert model["reason"] == "killed by SIGSEGV"
    page = await browser(second, kernel_id)
    assert await page.printed("print('a new one')") == "a new one\n"
    await page.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_deliberate_stop_leaves_no_process_and_no_file(
    start: Start, tmp_path: Path, number: int
) -> None:
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup a server goes on, as it should
    server = await start()
    signal.signal(signal.SIGHUP, inherited)
    _, page = await opened(server)
    await page.execute(PRINTING, cell="a")
    await page.until(lambda got: number_in(got, 1))

    await server.stop(number)

    assert processes(tmp_path) == []
    assert list((tmp_path / "home").rglob("kept-*")) == []


async def test_a_server_that_is_killed_while_it_stops_leaves_no_process(start: Start, tmp_path: Path) -> None:
    server = await start()
    _, page = await opened(server)
    last_words = "import pathlib, time; pathlib.Path('ending').touch(); time.sleep(600)"
    await page.run(f"import atexit; atexit.register(exec, {last_words!r}, {{}})")
    server.process.terminate()
    await eventually((server.root / "ending").exists, what="the kernel was asked to end")
    assert len(processes(tmp_path)) >= 3
    await killed(server)

    await eventually(lambda: processes(tmp_path) == [])


async def test_a_server_that_keeps_nothing_takes_its_kernels_along(start: Start, tmp_path: Path) -> None:
    server = await start(args=("--keep-kernels", "0"))
    kernel_id, page = await opened(server)
    await page.run("1")

    await killed(server)

    await eventually(lambda: processes(tmp_path) == [])
    assert kernel_id


async def test_kernels_that_nobody_comes_for_end_when_they_are_idle(start: Start, tmp_path: Path) -> None:
    server = await start(args=("--keep-kernels", "0.2"))
    _, page = await opened(server)
    await page.execute(PRINTING, cell="a")
    await page.until(lambda got: number_in(got, 1))

    await killed(server)
    keeper = keeper_of(tmp_path)
    journal = next((tmp_path / "home").rglob("kept-*")).resolve()

    def written() -> int:
        return sum(file.stat().st_size for file in journal.glob("*.journal.*"))

    size = written()
    await eventually(lambda: written() > size + 10_000, what="a busy kernel goes on")
    assert keeper in processes(tmp_path)
    (server.root / "go").touch()

    await eventually(lambda: processes(tmp_path) == [])
    assert not journal.exists()


async def test_another_server_of_the_same_folder_leaves_the_first_ones_kernels_alone(start: Start) -> None:
    first = await start()
    kernel_id, page = await opened(first)
    second = await start()

    assert (await second.ask("GET", "api/kernels"))[1] == []
    assert [one["id"] for one in (await first.ask("GET", "api/kernels"))[1]] == [kernel_id]
    await second.stop()
    assert await page.printed("print('still here')") == "still here\n"


async def test_a_stale_folder_is_removed_and_hinders_nobody(start: Start, tmp_path: Path) -> None:
    first = await start()
    await opened(first)
    await killed(first)
    folder = next((tmp_path / "home").rglob("kept-*"))
    end_all(tmp_path)
    state = folder / "state.json"
    for stale in (b"{}", b"nonsense", json.dumps(json.loads(state.read_text()) | {"boot": "x"}).encode()):
        state.write_bytes(stale)
        server = await start()
        assert (await server.ask("GET", "api/kernels"))[1] == []
        assert not folder.exists()
        await opened(server)
        await killed(server)
        folder = next((tmp_path / "home").rglob("kept-*"))
        state = folder / "state.json"
        end_all(tmp_path)


async def test_what_a_client_decided_before_the_kill_stays_decided(start: Start) -> None:
    first = await start()
    _, page = await opened(first)
    await page.run("1")
    await page.finished(await page.execute("print('seen')", cell="b"))
    await page.close()
    content = await shown(first)
    content["cells"][1]["outputs"] = []
    body = {"type": "notebook", "format": "json", "content": content}
    assert (await first.ask("PUT", f"api/contents/{NOTEBOOK}", json=body))[0] == 200

    await killed(first)
    second = await start()

    assert text_of(await shown(second), "b") == ""
