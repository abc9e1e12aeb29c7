"""What a person may choose to start, and what a choice comes to."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from himalia_hub.cli.config import MASK, as_toml
from himalia_hub.config import load
from himalia_hub.errors import BadRequest, ConfigError
from himalia_hub.groups.names import GroupName
from himalia_hub.profiles.choice import checked_options, offered, resolve
from himalia_hub.settings import HubSettings
from himalia_spawner.base import Limits

SMALL = {"name": "small", "mem_limit": "1G", "environment": {"SIZE": "small", "KIND": "profile"}}
LARGE = {"name": "large", "mem_limit": "8G", "cpu_limit": "2", "groups": ["staff"], "image": "big:1"}


def settings(**sections: Any) -> HubSettings:
    return HubSettings.model_validate({"profiles": [SMALL, LARGE], **sections})


def names(hub: HubSettings, *groups: str) -> list[str]:
    return [profile.name for profile in offered(hub, groups)]


def test_a_profile_with_groups_is_offered_to_their_members_only() -> None:
    assert names(settings()) == ["small"]
    assert names(settings(), "staff") == ["small", "large"]


def test_a_group_gives_its_members_profiles_beside_those_of_the_configuration() -> None:
    assert names(settings(), GroupName("ml", ["large"])) == ["small", "large"]
    assert names(settings(), GroupName("ml"), "other") == ["small"]
    assert names(settings(), GroupName("ml", ["gone"])) == ["small"]
    assert resolve(settings(), "ann", [GroupName("ml", ["large"])], {"profile": "large"}).image == "big:1"


def test_the_default_profile_comes_first() -> None:
    hub = settings(profiles=[SMALL, {**LARGE, "default": True}])
    assert names(hub, "staff") == ["large", "small"]
    assert resolve(hub, "ann", ["staff"], {}).profile == "large"
    assert resolve(hub, "ann", [], {}).profile == "small"


@pytest.mark.parametrize("value", ["large", "nothing", "", None, 3, ["small", "large"], {"a": 1}])
def test_a_profile_that_is_not_offered_is_refused_with_what_is(value: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        checked_options(settings(), [], {"profile": value})
    assert (refused.value.status, refused.value.remedy) == (400, "choose one of small")


def test_an_option_that_no_profile_knows_is_refused_by_name() -> None:
    """CVE-2023-48311: an option of the request named any image."""
    with pytest.raises(BadRequest, match="'image'"):
        checked_options(settings(), [], {"profile": "small", "image": "evil:latest"})


def test_a_form_and_a_request_say_the_same() -> None:
    assert checked_options(settings(), [], {"profile": ["small"]}) == {"profile": "small"}
    assert checked_options(settings(), [], {"profile": "small"}) == {"profile": "small"}
    assert checked_options(settings(), [], {}) == {}
    assert checked_options(settings(), [], None) is None


def test_without_profiles_options_are_kept_and_change_nothing() -> None:
    hub = settings(profiles=[])
    kept = checked_options(hub, [], {"image": "evil:latest"})
    assert kept == {"image": "evil:latest"}
    assert resolve(hub, "ann", [], kept).image == ""


def test_a_remembered_profile_that_is_offered_no_more_gives_way_to_the_first() -> None:
    assert resolve(settings(), "ann", ["staff"], {"profile": "large"}).profile == "large"
    assert resolve(settings(), "ann", [], {"profile": "large"}).profile == "small"


def test_nobody_starts_a_profile_when_none_is_offered() -> None:
    with pytest.raises(BadRequest, match="no profile is offered"):
        resolve(settings(profiles=[LARGE]), "ann", [], {})


def test_the_nearer_word_wins_spawner_profile_groups_person() -> None:
    spawner = {
        "mem_limit": "512M", "pids_limit": 100, "environment": {"SIZE": "all", "SITE": "x"},
        "groups": {"b": {"cpu_limit": 2, "mem_limit": "3G"}, "a": {"cpu_limit": 1}},
        "users": {"ann": {"mem_limit": "4G", "environment": {"KIND": "person"}}},
    }  # fmt: skip
    hub = settings(spawner=spawner)
    bob = resolve(hub, "bob", [], {})
    assert bob.limits == Limits(memory=2**30, pids=100)
    assert bob.environment == {"SIZE": "small", "KIND": "profile", "SITE": "x"}
    ann = resolve(hub, "ann", ["a", "b"], {})
    assert ann.limits == Limits(memory=4 * 2**30, cpus=2, pids=100)
    assert ann.environment["KIND"] == "person"


def test_config_show_prints_profiles_and_overrides_as_toml_that_reads_back(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(
        '[[profiles]]\nname = "small"\nmem_limit = "1G"\nenvironment = { API_KEY = "hidden", LANG = "C" }\n'
        "[spawner.users.ann]\ncpu_limit = 2\n"
    )
    text = as_toml(load(file, tmp_path, environ={}))
    assert "hidden" not in text
    again = tomllib.loads(text)
    assert again["profiles"] == [
        {"name": "small", "mem_limit": "1G", "environment": {"API_KEY": MASK, "LANG": "C"}}
    ]
    assert again["spawner"]["users"] == {"ann": {"cpu_limit": 2}}


def test_a_mistyped_key_of_a_profile_is_named_with_the_right_one(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('[[profiles]]\nname = "small"\nmem_limt = "1G"\n[spawner.users.ann]\ncpu_limits = 2\n')
    with pytest.raises(ConfigError) as refused:
        load(file, tmp_path, environ={})
    assert "profiles.0.mem_limt" in str(refused.value)
    assert "did you mean mem_limit?" in str(refused.value)
    assert "did you mean cpu_limit?" in str(refused.value)


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        ([SMALL, SMALL], "named twice"),
        ([{**SMALL, "default": True}, {**LARGE, "default": True}], "mark one"),
        ([{"name": "Not a name"}], "name"),
        ([{"name": "x", "mem_limit": "much"}], "amount of memory"),
        ([{"name": "x", "cpu_limit": "none"}], "number of CPUs"),
        ([{"name": "x", "colour": "red"}], "colour"),
    ],
)
def test_a_profile_that_cannot_be_meant_is_refused_at_the_start(profiles: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(profiles=profiles)
