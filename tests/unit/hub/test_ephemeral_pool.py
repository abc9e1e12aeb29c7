"""How many sessions are kept warm for which link: every wish in turn, the most wanted first, never too many."""

from __future__ import annotations

import pytest

from himalia_hub.ephemeral.models import Launch
from himalia_hub.ephemeral.pool import Demand, desired


def demand(name: str, recent: int) -> Demand:
    return Demand(("gh", name, "c", "e"), recent, Launch())


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
    wish = desired([demand(name, count) for name, count in recent.items()], total=total, least=least)
    assert {link[1]: number for link, number in wish.items()} == expected
