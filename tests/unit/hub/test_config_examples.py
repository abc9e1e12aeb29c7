"""The examples and units in deploy/ name only what exists."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from himalia_hub import config
from himalia_hub.cli.config import check
from himalia_hub.cli.verbs import VERBS
from himalia_proxy.settings import read_settings

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.mark.parametrize("file", sorted((DEPLOY / "examples").glob("*.toml")), ids=lambda file: file.name)
def test_an_example_is_right(file: Path) -> None:
    check(config.load(file, environ={}).settings)


@pytest.mark.parametrize("file", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda file: file.name)
def test_a_unit_starts_a_verb_that_exists(file: Path) -> None:
    (command,) = [line for line in file.read_text().splitlines() if line.startswith("ExecStart=")]

    program, verb, *_ = shlex.split(command.removeprefix("ExecStart="))

    assert program.endswith("/bin/himalia")
    assert verb in VERBS


def test_the_proxy_unit_uses_options_that_the_proxy_has() -> None:
    text = (DEPLOY / "systemd" / "himalia-proxy.service").read_text()
    words = shlex.split(next(line for line in text.splitlines() if line.startswith("ExecStart=")))

    settings = read_settings(words[2:], {"CONFIGPROXY_AUTH_TOKEN": "x" * 32})

    assert settings
