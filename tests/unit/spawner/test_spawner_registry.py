from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from himalia_spawner import registry
from himalia_spawner.fake import FakeSettings, FakeSpawner
from himalia_spawner.process import ProcessSpawner
from himalia_spawner.registry import SpawnerUnusable, find_plugin, load_spawner, protocol_faults


class Almost:
    """A spawner but for what it lacks."""

    Settings = FakeSettings

    def start(self, spec):
        """Not a coroutine."""


class Unbuildable(FakeSpawner):
    def __init__(self, settings, *, hub_id, data_dir):
        raise RuntimeError("the engine is on fire")


@pytest.fixture
def installed(monkeypatch):
    """Plug-ins that seem to be installed, by name."""
    points: dict[str, str] = {}

    def entry_points(*, group: str, name: str | None = None):
        assert group == "himalia.spawners"
        return [EntryPoint(key, points[key], group) for key in points if name in (None, key)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    return points


def test_the_built_in_spawner_comes_through_the_entry_point() -> None:
    plugin = find_plugin("process")

    assert (plugin.distribution, plugin.factory) == ("himalia", ProcessSpawner)


def test_an_unknown_spawner_is_named_with_the_nearest_right_one() -> None:
    with pytest.raises(SpawnerUnusable, match=r"no spawner 'proces'.*'process'"):
        find_plugin("proces")


def test_an_unknown_setting_is_named_with_the_nearest_right_one(tmp_path: Path) -> None:
    section = {"system_user": True, "kill_timeout_s": -1}

    with pytest.raises(SpawnerUnusable) as caught:
        load_spawner("process", section, hub_id="h", data_dir=tmp_path)

    assert "spawner.process.system_user is unknown; did you mean 'system_users'?" in str(caught.value)
    assert "spawner.process.kill_timeout_s" in str(caught.value)


def test_a_plugin_that_can_not_be_imported_is_reported_not_raised(installed) -> None:
    installed["broken"] = "no_such_module_anywhere:Spawner"

    with pytest.raises(SpawnerUnusable, match=r"'broken'.*can't be imported.*no_such_module_anywhere"):
        find_plugin("broken")


def test_a_class_that_is_no_spawner_is_told_what_it_lacks() -> None:
    faults = protocol_faults(Almost)

    assert "start() must be `async def`" in faults
    assert "it has no method purge()" in faults
    assert protocol_faults(FakeSpawner) == protocol_faults(ProcessSpawner) == []
    assert protocol_faults(load_spawner)


def test_a_plugin_without_settings_is_refused(installed) -> None:
    installed["bare"] = "builtins:dict"

    with pytest.raises(SpawnerUnusable, match="has no `Settings`"):
        find_plugin("bare")


def test_what_a_plugin_raises_when_made_is_put_down_to_it(installed, monkeypatch, tmp_path: Path) -> None:
    installed["fire"] = "himalia_spawner.fake:Unbuildable"
    monkeypatch.setattr("himalia_spawner.fake.Unbuildable", Unbuildable, raising=False)

    with pytest.raises(SpawnerUnusable, match=r"'fire'.*could not be made.*on fire"):
        load_spawner("fire", {}, hub_id="h", data_dir=tmp_path)


def test_a_fault_function_reaches_only_spawners_that_take_one(installed, tmp_path: Path) -> None:
    installed["fake"] = "himalia_spawner.fake:FakeSpawner"

    assert isinstance(load_spawner("fake", {}, hub_id="h", data_dir=tmp_path, fault=print), FakeSpawner)
