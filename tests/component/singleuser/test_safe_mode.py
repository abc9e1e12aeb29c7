"""Safe mode: a home that breaks a server breaks none that has another one, and the person's files are there."""

from __future__ import annotations

from pathlib import Path

from component.singleuser.conftest import Running, Start
from himalia_singleuser.safe_mode import safe_home
from support import eventually


async def kernel_lives(server: Running) -> bool:
    status, model, _ = await server.ask("POST", "api/kernels", json={"name": "python3"})
    if status != 201:
        return False

    async def started() -> bool:
        _, now, _ = await server.ask("GET", f"api/kernels/{model['id']}")
        return bool(now.get("execution_state") in ("idle", "busy"))

    await eventually(started, within_s=60)
    return True


async def test_a_spoiled_home_is_left_alone_and_its_files_are_served(start: Start, tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    (home / "thesis.txt").write_text("precious")
    for spoiled in (".local", ".jupyter", ".ipython", ".cache"):
        (home / spoiled).write_text("a file where programs want a folder")
    before = sorted(path.name for path in home.iterdir())

    server = await start(environ={"HIMALIA_SAFE_MODE": "1", "TMPDIR": str(temporary)}, args=("--root", "~"))
    _, listed, _ = await server.ask("GET", "api/contents/")
    assert await kernel_lives(server)
    (made,) = temporary.glob("himalia-safe-*")
    assert await server.stop() == 0

    assert [one["name"] for one in listed["content"]] == ["thesis.txt"]
    assert sorted(path.name for path in home.iterdir()) == before
    assert not made.exists()


def test_only_what_leads_into_the_real_home_is_dropped(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = {
        "HOME": str(home),
        "JUPYTER_RUNTIME_DIR": "/run/somewhere",
        "JUPYTER_CONFIG_DIR": f"{home}/.jupyter",
        "PYTHONPATH": f"/opt/lib:{home}/lib",
        "XDG_DATA_HOME": f"{home}2/share",
    }
    with safe_home(environ):
        inside = dict(environ)

    assert inside.pop("HOME") != str(home)
    assert inside == {
        "HIMALIA_REAL_HOME": str(home),
        "JUPYTER_RUNTIME_DIR": "/run/somewhere",
        "PYTHONNOUSERSITE": "1",
        "XDG_DATA_HOME": f"{home}2/share",
    }
