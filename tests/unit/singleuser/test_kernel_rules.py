"""Kernelspecs, execution state, culling, addresses: the rules that need no kernel."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from himalia_singleuser.kernels import specs
from himalia_singleuser.kernels.connection import new_connection, private_folder
from himalia_singleuser.kernels.cull import is_due
from himalia_singleuser.kernels.errors import NoSuchSpec
from himalia_singleuser.kernels.messages import dump, make
from himalia_singleuser.kernels.options import KernelOptions
from himalia_singleuser.kernels.session import wire_identity
from himalia_singleuser.kernels.state import ExecutionState


def install(folder: Path, name: str, **spec) -> Path:
    home = folder / "kernels" / name
    home.mkdir(parents=True)
    (home / "kernel.json").write_text(json.dumps({"argv": ["run", "{connection_file}"]} | spec))
    return home


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return tmp_path


def test_the_native_kernel_is_found_beside_the_interpreter():
    assert specs.find_in(specs.find_all(), "Python3").folder.is_relative_to(sys.prefix)


@pytest.mark.parametrize(
    "junk", ["", "[]", "{}", '{"argv": []}', '{"argv": "x"}', '{"argv": [1]}', '{"argv": ["x"], "env": 3}']
)
def test_a_broken_spec_hides_only_itself(data, junk):
    install(data, "good", display_name="Good")
    (install(data, "bad") / "kernel.json").write_text(junk)
    found = specs.find_all()
    assert "good" in found
    assert "bad" not in found


def test_an_unknown_kernel_is_refused_with_the_names_there_are():
    with pytest.raises(NoSuchSpec, match="python3"):
        specs.find_in(specs.find_all(), "fortran")


def test_a_spec_that_is_not_allowed_is_not_there(data):
    install(data, "secret")
    assert set(specs.find_all(frozenset({"python3"}))) == {"python3"}


def test_slots_and_environment_are_filled(data):
    home = install(data, "demo", env={"WHERE": "${HOME}/x", "UNKNOWN": "${NO_SUCH}"})
    spec = specs.read("demo", home)
    assert spec is not None
    env = spec.environ(
        {"HOME": "/home/ada", "HIMALIA_LISTEN_FD": "3", "HIMALIA_LOCK_FD": "4", "JUPYTERHUB_USER": "ada"}, {}
    )
    assert env["WHERE"] == "/home/ada/x"
    assert env["JUPYTERHUB_USER"] == "ada"
    assert not {"HIMALIA_LISTEN_FD", "HIMALIA_LOCK_FD"} & set(env)
    assert spec.command("/run/c.json") == ["run", "/run/c.json"]


def test_a_server_without_kernels_has_not_loaded_what_only_kernels_need():
    code = (
        "import sys, himalia_singleuser.kernels.handlers, himalia_singleuser.sessions.handlers,"
        "himalia_singleuser.terminals.handlers, himalia_singleuser.events.handlers;"
        "heavy = {'zmq', 'jupyter_client', 'jupyter_core', 'nbformat', 'jsonschema', 'traitlets'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_only_logos_and_the_two_scripts_are_resources(data):
    home = install(data, "demo")
    for name in ("logo-64x64.png", "kernel.js", "notes.txt"):
        (home / name).touch()
    spec = specs.read("demo", home)
    assert spec is not None
    assert spec.model("/user/a/")["resources"] == {
        "logo-64x64": "/user/a/kernelspecs/demo/logo-64x64.png",
        "kernel.js": "/user/a/kernelspecs/demo/kernel.js",
    }


def status(state, parent_type):
    parent = dump({"msg_type": parent_type}) if parent_type else b"{}"
    return make("iopub", "status", {"execution_state": state}, parent=parent)


def test_only_requests_of_people_make_a_kernel_busy():
    state = ExecutionState()
    state.answered()
    state.published(status("busy", "kernel_info_request"))
    assert state.value == "idle"
    state.published(status("busy", "execute_request"))
    assert state.value == "busy"
    state.published(status("idle", "execute_request"))
    assert state.value == "idle"


def test_a_busy_kernel_that_prints_is_active_and_an_idle_one_is_not():
    seen = []
    state = ExecutionState(seen.append)
    print_out = make("iopub", "stream", {"name": "stdout", "text": "x"})
    state.published(print_out)
    assert not seen
    state.published(status("busy", "execute_request"))
    state.published(print_out)
    assert len(seen) == 2


@pytest.mark.parametrize("idle_s", [5, 50])
@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("connections", [0, 1])
@pytest.mark.parametrize("cull_busy", [False, True])
@pytest.mark.parametrize("cull_connected", [False, True])
def test_a_kernel_is_culled_only_when_every_rule_agrees(
    idle_s, state, connections, cull_busy, cull_connected
):
    options = KernelOptions(cull_busy=cull_busy, cull_connected=cull_connected)
    due = is_due(idle_s=idle_s, state=state, connections=connections, timeout_s=10, options=options)
    assert due == (idle_s > 10 and (state == "idle" or cull_busy) and (connections == 0 or cull_connected))
    assert not is_due(idle_s=idle_s, state=state, connections=connections, timeout_s=0, options=options)


def test_sockets_lie_where_only_their_owner_gets_and_fit_a_socket_address(tmp_path):
    for wanted in (tmp_path / "run", tmp_path / ("deep" * 30)):
        folder = private_folder(wanted)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        connection = new_connection("ipc", folder)
        assert len(connection.endpoint("control").removeprefix("ipc://")) <= 107
        connection.write(folder / "c.json", kernel_name="demo")
        assert stat.S_IMODE((folder / "c.json").stat().st_mode) == 0o600
        (folder / "c.json").unlink()
        folder.rmdir()


@pytest.mark.parametrize("session_id", ["", "\0x", "x" * 256, "ü" * 200, "plain", "\ud800"])
def test_any_session_id_becomes_an_identity_that_zmq_takes(session_id):
    identity = wire_identity(session_id)
    assert 0 < len(identity) <= 255
    assert identity[0] != 0
    assert wire_identity(session_id) == identity
