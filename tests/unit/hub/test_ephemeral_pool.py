"""How many sessions are kept warm for which link: every wish in turn, the most wanted first, never too many."""

from __future__ import annotations

import pytest

from himalia_hub.ephemeral.models import Launch
from himalia_hub.ephemeral.pool import Demand, desired
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.ephemeral.warmth import ALL, Bounds, Warmth


def demand(name: str, recent: int, least: int = 0, most: int | None = None) -> Demand:
    return Demand(("gh", name, "c", "e"), recent, Launch(), Bounds(least, most))


@pytest.mark.parametrize(
    ("recent", "total", "least", "expected"),
    [
        ({}, 5, 1, {}),
        ({"a": 2}, 5, 0, {"a": 2}),
        ({"a": 0}, 5, 0, {}),
        ({"a": 0}, 5, 1, {"a": 1}),
        ({"a": 9, "b": 1}, 3, 0, {"a": 2, "b": 1}),
        ({"a": 1, "b": 9, "c": 5}, 2, 1, {"b": 1, "c": 1}),
        ({"a": 3}, 0, 2, {}),
    ],
)
def test_links_take_turns_and_the_most_wanted_come_first(
    recent: dict[str, int], total: int, least: int, expected: dict[str, int]
) -> None:
    wish = desired([demand(name, count, least) for name, count in recent.items()], total=total)
    assert {link[1]: number for link, number in wish.items()} == expected


def test_no_link_has_more_than_its_most_nor_fewer_than_its_least_while_there_is_room() -> None:
    wish = desired([demand("a", 9, 0, 2), demand("b", 0, 3), demand("c", 5, 1, 0)], total=10)
    assert {link[1]: number for link, number in wish.items()} == {"a": 2, "b": 3}


def test_what_an_administrator_said_wins_over_a_rule_and_a_rule_over_the_section() -> None:
    rules = [{"match": "^gh/ann/", "pool_min": 2, "pool_max": 4}]
    section = EphemeralSection.model_validate({"pool_max": 5, "pool_min": 1, "repositories": rules})
    warmth = Warmth(section, {("gh", "ann/b/HEAD"): Bounds(0, 1, "root"), ALL: Bounds(0, 7, "root")})
    assert warmth.of("gh", "bob/a/HEAD") == Bounds(1, None)
    assert warmth.of("gh", "ann/a/HEAD") == Bounds(2, 4)
    assert warmth.of("gh", "ann/b/HEAD") == Bounds(0, 1, "root")
    assert (warmth.total, warmth.by) == (7, "root")
    assert (Warmth(section).total, Warmth(section).by) == (5, "")
