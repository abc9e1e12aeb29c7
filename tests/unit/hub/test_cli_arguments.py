"""The command line itself: what is understood where, and how typing errors are met."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from himalia_hub.cli import main
from himalia_hub.cli.arguments import split_common
from himalia_hub.cli.token import duration
from himalia_hub.cli.verbs import VERBS

REST = ["user", "list"]


@pytest.mark.parametrize(
    "argv",
    [
        ["--data", "d", "--proxy.port", "1", "user", "list"],
        ["user", "--data", "d", "list", "--proxy.port=1"],
        ["user", "list", "--proxy.port", "1", "--data=d"],
    ],
)
def test_common_options_stand_anywhere(argv: list[str]) -> None:
    common = split_common(argv)

    assert (common.rest, common.data, common.overrides) == (REST, Path("d"), {"proxy.port": "1"})


def test_nothing_is_taken_after_two_dashes() -> None:
    assert split_common(["proxy", "--", "--data", "d"]).rest == ["proxy", "--", "--data", "d"]


def test_settings_outside_a_table_have_flags_too() -> None:
    assert split_common(["up", "--base-url", "/x/"]).overrides == {"base_url": "/x/"}


def test_foreign_flags_with_dots_are_passed_on() -> None:
    given = ["singleuser", "--ServerApp.ip=x", "--some.thing", "1", "--proxy.port", "2", "--data", "d"]

    common = split_common(given, sections_only=True)

    assert common.rest == ["singleuser", "--ServerApp.ip=x", "--some.thing", "1"]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["usr"], "unknown VERB 'usr'; did you mean user?"),
        (["user", "lst"], "unknown ACTION 'lst'; did you mean list?"),
        (["user", "list", "--jsn"], "unknown argument '--jsn'; did you mean --json?"),
        (["db", "current", "--dta=x"], "unknown argument '--dta'; did you mean --data?"),
        (["db", "current", "--data"], "--data needs a value"),
        (["db", "current", "--proxy.port", "--data"], "--proxy.port needs a value; write --proxy.port=VALUE"),
        (["token", "ann", "--expires-in", "soon"], "'soon' is not a time span"),
        (["zzz"], "there are: up, hub, proxy"),
        ([], "required: VERB"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_was_meant(argv, told, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)

    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_help_names_every_verb(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(re.search(rf"^    {verb}\s", shown, re.MULTILINE) for verb in VERBS)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43200), ("30d", 2592000)]
)
def test_time_spans_carry_their_unit(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)
