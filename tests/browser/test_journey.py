"""The main job, as a person does it: from an empty folder to a cell, and back; as processes and as containers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext

import docker_lab
import steps
from chromium import Watcher
from docker_lab import Lab
from hubs import Hub
from steps import Shot
from support import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]
NOT_RUNNING = r"^424 GET .*/hub/user/ada/lab$"
"""The page that says so."""


async def test_from_an_empty_folder_to_a_cell_and_back(
    hub: Hub, context: BrowserContext, watcher: Watcher, shot: Shot
) -> None:
    await hub.start()
    await the_main_job(hub, hub.data / "homes" / "ada", context, shot)

    watcher.expected.append(NOT_RUNNING)
    assert watcher.unexpected() == []
    await hub.stop()
    assert hub.processes() == []


async def test_the_same_with_a_container_for_the_server(
    docker_engine: Lab, tmp_path: Path, context: BrowserContext, watcher: Watcher, shot: Shot
) -> None:
    docker_engine.build(docker_lab.SERVER_IMAGE)
    config = {"url": docker_engine.url, "image": docker_lab.SERVER_IMAGE, "pull": "never"}
    table = "\n".join(f"{name} = {json.dumps(value)}" for name, value in config.items())
    hub = Hub(tmp_path / "data", config=f'[spawner]\nkind = "docker"\n[spawner.docker]\n{table}\n')
    try:
        await hub.start()
        await the_main_job(
            hub, docker_engine.volume("himalia-ada"), context, lambda page, name: shot(page, f"docker-{name}")
        )

        watcher.expected.append(NOT_RUNNING)
        assert watcher.unexpected() == []
        await eventually(lambda: not docker_engine.containers(), within_s=30, what="the container is gone")
        await hub.stop()
    finally:
        hub.clean_up()
        docker_engine.remove_containers()


async def the_main_job(hub: Hub, home: Path, context: BrowserContext, shot: Shot) -> None:
    """Set-up link, administrator, sign in, start, every kind of cell, terminal, stop from the admin list."""
    page = await context.new_page()
    await steps.set_up(page, hub, shot)
    await steps.sign_out_and_in(page, hub, shot)
    await steps.start_the_server(page, shot)
    await steps.work_in_a_notebook(page, shot)
    token = hub.token("ada")
    await steps.a_second_client_waits_for_input(page, hub, token)
    await steps.a_second_page_sees_the_broadcast(page, context, hub)
    await steps.saved_outputs_survive_a_reload(page, home / "Untitled.ipynb", shot)
    await steps.use_a_terminal(page, shot)
    await steps.stop_it_from_the_admin_list(page, hub, shot)


def test_the_screenshots_folder_is_not_committed() -> None:
    ignored = (Path(__file__).parents[2] / ".gitignore").read_text()
    assert "tests/browser/shots/" in ignored
