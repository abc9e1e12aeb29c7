"""Kernels, kernelspecs and sessions over REST, with real kernels."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from yarl import URL

from component.singleuser.kernel_parts import running_server
from himalia_singleuser.kernels.cull import cull_once
from himalia_singleuser.kernels.options import KernelOptions
from himalia_singleuser.kernels.pool import KERNELS
from himalia_singleuser.kernels.state import utc_now
from support import eventually

NOWHERE = str(uuid.UUID(int=0))


def install(folder, name, argv, **more):
    home = folder / "kernels" / name
    home.mkdir(parents=True)
    (home / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": name, **more}))
    (home / "logo-64x64.png").write_bytes(b"png")


@pytest.fixture
async def server(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    install(tmp_path / "data", "missing", ["/no/such/program", "{connection_file}"])
    install(tmp_path / "data", "dying", [sys.executable, "-c", "raise SystemExit('no licence found')"])
    polite = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    install(tmp_path / "data", "polite", polite, interrupt_mode="message", env={"GREETING": "hi"})
    async with running_server(tmp_path, options=KernelOptions(restart_limit=1)) as running:
        yield running


def processes_with(argument):
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += [file.parent.name] if argument in file.read_text() else []
    return found


async def test_a_server_without_kernels_has_made_nothing_in_the_runtime_folder(server, tmp_path):
    await server.ask("GET", "api/kernelspecs")
    assert await server.ask("GET", "api/kernels") == (200, [])
    assert not list((tmp_path / "run").glob("k-*"))


async def test_specs_are_listed_with_their_resources_and_shown_one_by_one(server):
    _, listed = await server.ask("GET", "api/kernelspecs")
    assert listed["default"] == "python3"
    one = listed["kernelspecs"]["missing"]
    assert one["resources"] == {"logo-64x64": "/user/ada/kernelspecs/missing/logo-64x64.png"}
    assert await server.ask("GET", "api/kernelspecs/missing") == (200, one)
    assert (await server.ask("GET", "api/kernelspecs/fortran"))[0] == 404


async def test_icons_are_served_and_nothing_outside_the_spec(server):
    async with server.http.get(server.url + "kernelspecs/missing/logo-64x64.png") as answer:
        assert (answer.status, await answer.read()) == (200, b"png")
        assert answer.headers["Cache-Control"] == "max-age=2592000"
        assert "ETag" in answer.headers
    for path in ("nothing.png", "..%2fdying%2fkernel.json", "%2e%2e/dying/kernel.json", "%00"):
        async with server.http.get(URL(server.url + "kernelspecs/missing/" + path, encoded=True)) as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"name": "fortran"}, 400, "Installed kernels: dying, missing"),
        ({"name": "missing"}, 400, "/no/such/program: No such file"),
        ({"name": 3}, 400, "name must be a string"),
        ({"kernel_id": "x"}, 400, "five words"),
        ({"path": "a\0b"}, 400, "NUL"),
    ],
)
async def test_a_kernel_that_cannot_start_is_refused_with_the_reason(server, body, status, said):
    got, answer = await server.ask("POST", "api/kernels", json=body)
    assert got == status
    assert said in answer["message"]
    assert await server.ask("GET", "api/kernels") == (200, [])


async def test_bad_json_is_refused(server):
    assert (await server.ask("POST", "api/kernels", data=b"{"))[0] == 400


@pytest.mark.parametrize(
    "path", [f"api/kernels/{NOWHERE}", f"api/kernels/{NOWHERE}/channels", f"api/sessions/{NOWHERE}"]
)
async def test_what_is_not_there_is_404(server, path):
    assert (await server.ask("GET", path))[0] == 404


async def test_channels_without_an_upgrade_is_refused(server):
    kernel = await server.new_kernel()
    assert (await server.ask("GET", f"api/kernels/{kernel}/channels"))[0] == 400


async def test_the_folder_of_the_path_becomes_the_working_directory(server):
    (server.root / "a b").mkdir()
    for path, folder in [("a b/no/such.ipynb", "a b"), ("../../etc", "."), ("", ".")]:
        browser = await server.browser(await server.new_kernel(path=path))
        where = await browser.printed("import os; print(os.getcwd())")
        assert where.strip() == str((server.root / folder).resolve())


async def test_a_kernel_sees_the_environment_but_no_descriptor_of_the_server(server, tmp_path):
    with open(tmp_path / "leak", "w") as leak:
        os.set_inheritable(leak.fileno(), True)
        browser = await server.browser(await server.new_kernel(name="polite"))
    said = await browser.printed("import os; print(os.environ['GREETING'], os.environ['JPY_PARENT_PID'])")
    files = await browser.printed(
        "print([os.readlink(f'/proc/self/fd/{n}') for n in range(3, 200) if os.path.exists(f'/proc/self/fd/{n}')])"
    )
    assert said.split() == ["hi", str(os.getpid())]
    assert "leak" not in files


async def test_an_interrupt_by_message_stops_the_cell(server):
    kernel = await server.new_kernel(name="polite")
    browser = await server.browser(kernel)
    asked = await browser.execute("print('in', flush=True)\nwhile True: pass")
    await browser.until(lambda got: got.type == "stream")
    assert (await server.ask("POST", f"api/kernels/{kernel}/interrupt"))[0] == 204
    assert (await browser.reply(asked)).content["status"] == "error"


async def test_a_kernel_that_dies_at_every_start_is_given_up_with_its_last_words(server):
    kernel_id = await server.new_kernel(name="dying")
    kernel = server.app[KERNELS].get(kernel_id)

    await eventually(lambda: kernel.gone)

    assert "no licence found" in kernel.reason
    assert await server.ask("GET", "api/kernels") == (200, [])
    assert (await server.ask("GET", f"api/kernels/{kernel_id}"))[0] == 404


async def test_two_restarts_at_once_and_a_delete_leave_no_process(server, tmp_path):
    kernel_id = await server.new_kernel()
    folder = str(next((tmp_path / "run").glob("k-*")))
    restart = [server.ask("POST", f"api/kernels/{kernel_id}/restart") for _ in range(2)]
    assert [status for status, _ in await asyncio.gather(*restart)] == [200, 200]
    assert len(processes_with(folder)) == 1
    await asyncio.gather(
        server.ask("POST", f"api/kernels/{kernel_id}/restart"),
        server.ask("DELETE", f"api/kernels/{kernel_id}"),
    )
    assert processes_with(folder) == []
    assert await server.ask("GET", "api/kernels") == (200, [])


async def test_only_idle_kernels_past_their_time_are_culled(tmp_path):
    async with running_server(tmp_path, options=KernelOptions(cull_idle_timeout_s=0.001)) as server:
        kernel_id = await server.new_kernel()
        pool = server.app[KERNELS]
        assert await cull_once(pool, utc_now()) == []  # it is still starting
        browser = await server.browser(kernel_id)
        assert await cull_once(pool, utc_now()) == []  # somebody is connected
        await browser.close()
        await eventually(lambda: pool.connection_count() == 0)
        # Not at once: the clock may have stood still since it was left, or been put back.
        assert await eventually(lambda: cull_once(pool, utc_now())) == [kernel_id]
        assert pool.kernel_count() == 0


NOTEBOOK = {"path": "sub/x.ipynb", "type": "notebook", "kernel": {"name": "python3"}}


async def test_one_path_has_one_session_and_one_kernel(server):
    status, first = await server.ask("POST", "api/sessions", json=NOTEBOOK)
    again_status, again = await server.ask("POST", "api/sessions", json=NOTEBOOK)

    assert (status, again_status) == (201, 201)
    assert first["id"] == again["id"]
    assert first["kernel"]["id"] == again["kernel"]["id"]
    assert first["notebook"] == {"path": "sub/x.ipynb", "name": ""}
    assert len((await server.ask("GET", "api/kernels"))[1]) == 1


async def test_a_session_knows_its_name_in_the_kernels_environment(server):
    _, model = await server.ask("POST", "api/sessions", json=NOTEBOOK)
    browser = await server.browser(model["kernel"]["id"])
    name = await browser.printed("import os; print(os.environ['JPY_SESSION_NAME'])")
    assert name.strip() == str(server.root.resolve() / "x.ipynb")


async def test_a_session_is_renamed_and_given_another_kernel_and_the_old_one_ends(server):
    _, model = await server.ask("POST", "api/sessions", json=NOTEBOOK)
    path = f"api/sessions/{model['id']}"

    _, renamed = await server.ask("PATCH", path, json={"path": "y.ipynb", "id": model["id"]})
    assert (renamed["path"], renamed["kernel"]["id"]) == ("y.ipynb", model["kernel"]["id"])
    _, changed = await server.ask("PATCH", path, json={"kernel": {"name": "polite"}})

    assert changed["kernel"]["name"] == "polite"
    kernels = [one["id"] for one in (await server.ask("GET", "api/kernels"))[1]]
    assert kernels == [changed["kernel"]["id"]]


async def test_a_console_attaches_to_a_running_kernel_and_an_unknown_id_starts_one(server):
    running = await server.new_kernel()
    console = {"path": "c", "type": "console", "kernel": {"id": running}}
    assert (await server.ask("POST", "api/sessions", json=console))[1]["kernel"]["id"] == running
    fresh = {"path": "d", "type": "console", "kernel": {"id": NOWHERE}}
    assert (await server.ask("POST", "api/sessions", json=fresh))[1]["kernel"]["id"] == NOWHERE


async def test_deleting_a_session_ends_its_kernel_and_twice_is_404(server):
    _, model = await server.ask("POST", "api/sessions", json=NOTEBOOK)
    assert (await server.ask("DELETE", f"api/sessions/{model['id']}"))[0] == 204
    assert await server.ask("GET", "api/kernels") == (200, [])
    assert (await server.ask("DELETE", f"api/sessions/{model['id']}"))[0] == 404


async def test_a_session_whose_kernel_is_gone_is_dropped_and_deleting_it_says_so(server):
    _, model = await server.ask("POST", "api/sessions", json=NOTEBOOK)
    await server.ask("DELETE", f"api/kernels/{model['kernel']['id']}")
    assert (await server.ask("DELETE", f"api/sessions/{model['id']}"))[0] == 410
    assert await server.ask("GET", "api/sessions") == (200, [])


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (None, 400, "No JSON data"),
        ({"type": "notebook"}, 400, "Missing field in JSON data: path"),
        ({"path": "x"}, 400, "Missing field in JSON data: type"),
        ({"path": "x", "type": "notebook", "kernel": "python3"}, 400, "kernel must be an object"),
        (NOTEBOOK | {"kernel": {"name": "fortran"}}, 501, "fortran"),
        (NOTEBOOK | {"kernel": {"name": "missing"}}, 501, "/no/such/program"),
    ],
)
async def test_a_session_that_cannot_be_is_refused_with_the_reason(server, body, status, said):
    got, answer = (
        await server.ask("POST", "api/sessions", json=body)
        if body
        else await server.ask("POST", "api/sessions")
    )
    assert got == status
    assert said in answer["message"]
    assert ("short_message" in answer) == (status == 501)


async def test_a_session_cannot_be_given_a_kernel_that_does_not_run(server):
    _, model = await server.ask("POST", "api/sessions", json=NOTEBOOK)
    path = f"api/sessions/{model['id']}"
    assert (await server.ask("PATCH", path, json={"kernel": {"id": NOWHERE}}))[0] == 400
    assert (await server.ask("PATCH", path, json={"kernel": {"name": "fortran"}}))[0] == 501
    assert (await server.ask("PATCH", path))[0] == 400
    assert (await server.ask("GET", path))[1]["kernel"]["id"] == model["kernel"]["id"]
