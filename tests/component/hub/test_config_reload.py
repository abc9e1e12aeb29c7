"""Reading the configuration again: hot values count at once, cold ones are named, a bad file changes nothing."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel

from component.hub.hub_site import Client, Site, site
from component.hub.test_suspension import CuttingProxy
from himalia_hub import config
from himalia_hub.cli import reload as cli
from himalia_hub.cli.common import read_again
from himalia_hub.db.lease import JobLease
from himalia_hub.errors import ConfigError, Unavailable
from himalia_hub.folder import Running, only_one
from himalia_hub.keys import PROXY
from himalia_hub.measures import work as measures
from himalia_hub.reloading import COLD, HOT, RELOADER, differences, is_hot, merged
from himalia_hub.secrets import hash_token
from himalia_hub.servers import cull, orphans
from himalia_hub.settings import HubSettings
from himalia_hub.tokens.models import ApiToken
from support import eventually

RELOAD = "/hub/api/config/reload"
FILE = '[servers]\nslow_start_s = 0\nallow_named = true\n[auth.methods.all]\nkind = "shared-password"\npassword = "long enough"\n'


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    (tmp_path / "himalia.toml").write_text(FILE)
    loaded = config.load(None, tmp_path, environ={}).settings
    async with site(tmp_path, servers=loaded.servers, auth=loaded.auth) as running:
        running.app[RELOADER].load = read_again(Namespace(config=None, data=tmp_path, overrides={}))
        yield running


@pytest.fixture
async def root(hub: Site) -> AsyncIterator[Client]:
    async with hub.client(await hub.token(await hub.person("root", admin=True))) as client:
        yield client


def write(hub: Site, text: str) -> None:
    (hub.world.settings.data_dir / "himalia.toml").write_text(text)


async def reload(root: Client, hub: Site, text: str) -> Any:
    write(hub, text)
    answer = await root("POST", RELOAD)
    assert answer.status == 200, answer.text
    return answer.json


async def test_hot_values_count_at_once_and_cold_ones_are_named(hub: Site, root: Client) -> None:
    text = FILE.replace("allow_named = true", "allow_named = false") + "[proxy]\nport = 9123\n"
    text += "[spawner]\nmem_limit = '1G'\nconcurrent_steps = 3\n[[profiles]]\nname = 'small'\n"
    told = await reload(root, hub, text)

    assert set(told["changed"]) == {"servers.allow_named", "spawner.mem_limit", "profiles"}
    assert {"proxy.port", "spawner.concurrent_steps"} <= set(told["needs_restart"])
    assert (await root("POST", "/hub/api/users/root/servers/x")).status == 400
    settings = hub.world.settings
    assert (settings.proxy.port, settings.spawner.concurrent_steps) == (8000, 16)
    assert settings.spawner.mem_limit == "1G"


async def test_a_file_that_is_gone_or_cannot_be_read_does_not_let_everybody_in_by_the_defaults(
    hub: Site, root: Client
) -> None:
    file = hub.world.settings.data_dir / "himalia.toml"
    file.rename(file.with_name("elsewhere"))
    refused = await root("POST", RELOAD)
    assert (refused.status, "is not there any more" in refused.json["message"]) == (400, True), refused.text
    file.symlink_to("nowhere")
    refused = await root("POST", RELOAD)
    assert (refused.status, "cannot be read" in refused.json["message"]) == (400, True), refused.text
    assert "all" in hub.world.settings.auth.methods


async def test_a_sites_templates_are_read_again_and_a_broken_one_changes_nothing(
    hub: Site, root: Client
) -> None:
    theirs = hub.world.settings.data_dir / "theirs"
    theirs.mkdir()
    text = FILE + f"[pages]\ntemplate_paths = ['{theirs}']\n"

    async def shown() -> str:
        async with hub.client() as stranger:
            return (await stranger("GET", "/hub/login")).text

    for words in ("Come in", "Step in"):
        (theirs / "login.html").write_text(words + "{{ xsrf }}")
        await reload(root, hub, text)
        assert words in await shown()
    (theirs / "login.html").write_text("fine\n{% broken")
    refused = await root("POST", RELOAD)
    assert (refused.status, "login.html line 2" in refused.json["message"]) == (400, True), refused.text
    assert "Step in" in await shown()


async def test_who_loses_a_role_of_the_configuration_that_let_them_in_is_cut(hub: Site, root: Client) -> None:
    proxy = hub.app._state[PROXY] = CuttingProxy()
    role = "[[roles]]\nname = '%s'\nscopes = ['%s']\n%s = ['%s']\n"
    visits = role % ("visitors", "access:servers", "users", "bob")
    grouped = role % ("graders", "access:servers", "groups", "g")
    harmless = role % ("readers", "list:users", "users", "bob")
    local = "[auth.methods.here]\nkind = 'local'\n"
    for name in ("bob", "cleo"):
        await hub.person(name)
    await root("POST", "/hub/api/groups/g", json={"users": ["cleo"]})
    await reload(root, hub, local + harmless + visits + grouped)
    async with hub.client() as bob, hub.client() as cleo:
        for browser, name in ((bob, "bob"), (cleo, "cleo")):
            await browser.login(name)
        sessions = [browser.cookie("jupyterhub-session-id") for browser in (bob, cleo)]
    for text in (visits + grouped, grouped, grouped, ""):
        await reload(root, hub, local + text)
    assert proxy.told == sessions


async def test_a_bad_file_changes_nothing_and_says_why(hub: Site, root: Client) -> None:
    write(hub, FILE.replace("allow_named = true", "allow_named = false\nactive_limt = 3"))
    refused = await root("POST", RELOAD)
    assert refused.status == 400
    assert "active_limt" in refused.json["message"]
    write(hub, FILE + '[[services]]\nname = "a"\n[[services]]\nname = "a"\n')
    assert "named twice" in (await root("POST", RELOAD)).json["message"]
    write(hub, FILE.replace("long enough", "short").replace("allow_named = true", "allow_named = false"))
    assert (await root("POST", RELOAD)).status == 400

    assert hub.world.settings.servers.allow_named


async def test_roles_services_and_administrators_follow_the_file(hub: Site, root: Client) -> None:
    service = '[[services]]\nname = "grader"\napi_token = "the token of the grader"\n'
    role = '[[roles]]\nname = "grading"\nscopes = ["list:users"]\nservices = ["grader"]\n'
    proxy = hub.app._state[PROXY] = CuttingProxy()
    async with hub.client("the token of the grader") as grader:
        assert (await grader("GET", "/hub/api/users")).status == 403
        await reload(root, hub, FILE + service + role)
        assert (await grader("GET", "/hub/api/users")).status == 200
        await reload(root, hub, FILE + service)
        assert (await grader("GET", "/hub/api/users")).status == 403
        await reload(root, hub, FILE)
        assert (await grader("GET", "/hub/api/user")).status == 403
    assert proxy.told[-1] == f"tokens {hash_token('the token of the grader')}"


async def test_ways_to_sign_in_follow_the_file(hub: Site, root: Client) -> None:
    await reload(root, hub, FILE.replace("long enough", "another one") + "allow_all = true\n")
    async with hub.client() as browser:
        assert (await browser.login("zoe", "long enough")).status == 403
        assert (await browser.login("zoe", "another one")).status == 302


async def test_background_work_takes_a_new_pace_at_once_and_not_after_the_old_pause(
    hub: Site, root: Client
) -> None:
    slow = "\n[cull]\nevery_s = 3600\nidle_s = 9000\n"
    await reload(root, hub, FILE.replace("[auth", "orphan_grace_s = 7200\nmeasure_s = 0\n[auth") + slow)
    world = hub.world
    work = [
        asyncio.create_task(part)
        for part in (cull.run(world, "me"), measures.run(world, "me"), orphans.run(world))
    ]
    try:
        await eventually(lambda: world.looks.orphans is not None, within_s=30)
        first = world.looks.orphans
        quick = slow.replace("3600", "0.01")
        await reload(
            root, hub, FILE.replace("[auth", "orphan_grace_s = 0.01\nmeasure_s = 0.01\n[auth") + quick
        )
        await eventually(lambda: world.looks.orphans != first, within_s=30)
        await eventually(lambda: _leases(hub), within_s=30)
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def _leases(hub: Site) -> bool:
    async with hub.db.read() as db:
        return {cull.LEASE, measures.LEASE} <= set(await db.scalars(sa.select(JobLease.name)))


async def test_nobody_keeps_a_part_of_the_configuration_that_was(hub: Site, root: Client) -> None:
    await reload(root, hub, FILE)  # the parts before this one are also the test's own
    before = [weakref.ref(getattr(hub.world.settings, name)) for name in HOT if _is_section(hub, name)]
    async with hub.client() as browser:
        assert (await browser.login("zoe", "long enough")).status == 403
    assert (await root("POST", "/hub/api/users/root/servers/x")).status == 202

    await reload(root, hub, FILE.replace("slow_start_s = 0", "slow_start_s = 1"))
    assert len(before) > 5

    def forgotten() -> bool:
        gc.collect()  # a request that was just answered may still hold one for a moment
        return not [part for part in before if part() is not None]

    await eventually(forgotten)


def _is_section(hub: Site, name: str) -> bool:
    return isinstance(getattr(hub.world.settings, name), BaseModel)


async def test_the_command_asks_the_running_hub_and_leaves_no_token(hub: Site, root: Client) -> None:
    at = f"[hub]\nport = {hub.url.rpartition(':')[2]}\n"
    write(hub, FILE.replace("allow_named = true", "allow_named = false") + at)
    tokens = await hub.count(ApiToken)

    said = await reload_by_command(hub)

    assert "in force now: servers.allow_named" in said
    assert "after a restart: hub.port" in said
    assert not hub.world.settings.servers.allow_named
    write(hub, FILE.replace("long enough", "short") + at)
    with pytest.raises(ConfigError, match="8 are needed"):
        await reload_by_command(hub)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        write(hub, FILE + f"[hub]\nport = {nobody.getsockname()[1]}\n")
    with pytest.raises(Unavailable, match="no hub answers"):
        await reload_by_command(hub)
    with only_one(hub.world.settings.data_dir) as tell:
        tell(Running(f"{hub.url}/hub/", f"{hub.url}/hub/", "http://127.0.0.1:9"))
        assert "hub.port" in await reload_by_command(hub), "it is found where it runs"
        other = f"[db]\nurl = 'sqlite:///{hub.world.settings.data_dir}/other.sqlite'\n"
        for its, said in (
            (hub.world.settings.db_url, "hub.port, db.url"),
            ("postgresql://u:***@h/d", "on postgresql"),
        ):
            tell(Running(f"{hub.url}/hub/", f"{hub.url}/hub/", "http://127.0.0.1:9", its))
            write(hub, FILE + at + other)
            assert said in await told_or_refused(hub)
    assert await hub.count(ApiToken) == tokens


async def told_or_refused(hub: Site) -> str:
    try:
        return await reload_by_command(hub)
    except ConfigError as error:
        assert "db.url" in str(error)
        return str(error)


async def reload_by_command(hub: Site) -> str:
    return await cli.reload(config.load(None, hub.world.settings.data_dir, environ={}).settings)


async def test_only_an_administrator_may_reload(hub: Site) -> None:
    async with hub.client(await hub.token(await hub.person("ann"))) as client:
        assert (await client("POST", RELOAD)).status == 403


def test_every_key_is_hot_or_cold_and_the_table_of_cold_ones_names_real_keys() -> None:
    keys = [key for key, _ in config.all_fields()]
    assert set(HubSettings.model_fields) >= HOT
    assert set(keys) >= COLD
    assert not any(is_hot(key) for key in COLD)
    assert is_hot("profiles")
    assert not is_hot("proxy.port")


def test_a_merge_takes_the_hot_and_keeps_the_cold() -> None:
    old = HubSettings(data_dir=Path("/x"))
    new = HubSettings.model_validate(
        {"data_dir": "/x", "base_url": "/x/", "servers": {"active_limit": 5, "stop_on_exit": False}}
    )

    mixed = merged(old, new)

    assert list(differences(old, mixed)) == ["servers.active_limit"]
    assert set(differences(old, new)) == {"base_url", "servers.active_limit", "servers.stop_on_exit"}
