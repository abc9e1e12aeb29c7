from __future__ import annotations

import gzip
import re

import pytest
from multidict import MultiDict

from himalia_hub import clock
from himalia_hub.pages.assets import STATIC
from himalia_hub.pages.cards import WORDS, card, cards, failure_of, revision
from himalia_hub.pages.options import UnusableOptions, options_from_query
from himalia_hub.pages.render import TEMPLATES, environment
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase
from himalia_hub.settings import HubSettings

SETTINGS = HubSettings()


def row(
    name: str = "", desired: Desired = Desired.STOPPED, phase: Phase = Phase.STOPPED, *, doomed: bool = False
) -> Server:
    return Server(
        user_id=1, name=name, display_name="", backend_name=name, desired=desired, phase=phase, doomed=doomed,
        generation=1, acted_generation=1, phase_since=clock.now(),
    )  # fmt: skip


@pytest.mark.parametrize("desired", Desired)
@pytest.mark.parametrize("phase", Phase)
def test_every_state_has_a_word_and_a_way_on(desired: Desired, phase: Phase) -> None:
    shown = card(row("", desired, phase), "ann", SETTINGS)

    assert shown.word == WORDS[shown.state]
    assert shown.can_open or shown.can_start or shown.can_stop or shown.moving
    assert not (shown.can_start and shown.can_stop)


def test_everybody_has_a_default_server_first() -> None:
    assert [one.name for one in cards([], "ann", SETTINGS)] == [""]
    assert [one.name for one in cards([row("b")], "ann", SETTINGS)] == ["", "b"]
    assert [one.name for one in cards([row(""), row("b")], "ann", SETTINGS)] == ["", "b"]


def test_a_server_that_is_being_removed_is_not_shown_once_stopped() -> None:
    assert [one.name for one in cards([row("b", doomed=True)], "ann", SETTINGS)] == [""]


def test_names_are_quoted_where_they_become_addresses() -> None:
    shown = card(row("a b"), "ann/é", SETTINGS)

    assert shown.url == "/user/ann%2F%C3%A9/a%20b/"
    assert shown.tail == "ann%2F%C3%A9/a%20b"


def test_the_revision_follows_the_state() -> None:
    before = revision(cards([row("", Desired.STOPPED)], "ann", SETTINGS))

    assert revision(cards([row("", Desired.RUNNING)], "ann", SETTINGS)) != before


@pytest.mark.parametrize(
    "stored", [{"cause": None}, {"cause": "x", "at": "soon"}, {"log_tail": None, "at": None, "message": 3}]
)
def test_a_failure_with_gaps_still_has_words(stored: dict[str, object]) -> None:
    failure = failure_of(stored)

    assert failure
    assert failure.cause
    assert failure.message
    assert failure_of({}) is None


def test_options_are_never_mixed_with_other_parameters() -> None:
    assert options_from_query(MultiDict(a="1", next="/x", _xsrf="t")) == {"a": ["1"]}
    assert options_from_query(MultiDict([("opt-a", "1"), ("opt-a", "2"), ("b", "3")])) == {"a": ["1", "2"]}
    assert options_from_query(MultiDict(next="/x")) is None
    with pytest.raises(UnusableOptions, match="names no option"):
        options_from_query(MultiDict({"opt-": "1"}))


def test_templates_hold_nothing_that_the_content_policy_forbids() -> None:
    for path in TEMPLATES.glob("*.html"):
        environment().get_template(path.name)
        text = path.read_text()
        assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:|\|\s*safe", text), path.name
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text)), path.name


def test_style_and_scripts_stay_small_as_they_are_sent() -> None:
    names = ("himalia.css", "himalia.js", "vendor/htmx-2.0.11.min.js")
    sent = {name: len(gzip.compress((STATIC / name).read_bytes())) for name in names}

    assert sum(sent.values()) <= 30 * 1024, sent
    assert len((STATIC / "himalia.js").read_text().splitlines()) <= 400


PAIRS = [
    ("ink", "bg"), ("ink", "surface"), ("ink", "sunken"), ("ink", "soft"), ("muted", "bg"), ("muted", "surface"),
    ("muted", "sunken"), ("accent", "bg"), ("accent", "surface"), ("accent-hover", "surface"), ("on-accent", "accent"),
    ("on-accent", "accent-hover"), ("ok", "ok-bg"), ("busy", "busy-bg"), ("bad", "bad-bg"), ("idle", "idle-bg"),
    ("busy", "surface"), ("bad", "surface"), ("ok", "surface"), ("ok", "sunken"),
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme: str) -> None:
    parts = (STATIC / "himalia.css").read_text().split("@media", 2)
    colours = _colours(parts[0]) | (_colours(parts[1]) if scheme == "dark" else {})

    low = {(f, b): r for f, b in PAIRS if (r := _contrast(colours[f], colours[b])) < 4.5}
    edges = {b: r for b in ("bg", "surface") if (r := _contrast(colours["edge"], colours[b])) < 3}

    assert (low, edges) == ({}, {})


def _colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+):\s*#([0-9a-f]{6}|[0-9a-f]{3})\b", css))


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    wide = colour if len(colour) == 6 else "".join(c * 2 for c in colour)
    parts = [int(wide[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
