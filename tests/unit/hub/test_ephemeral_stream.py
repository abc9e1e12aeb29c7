"""Who is told of a place in the queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from himalia_hub.ephemeral.listeners import Vigil
from himalia_hub.ephemeral.models import Launch, Stage
from himalia_hub.ephemeral.store import Place
from himalia_hub.ephemeral.stream import PASSED_OVER, waits

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG = 2 * PASSED_OVER


@pytest.mark.parametrize(
    ("number", "running", "stage", "since", "told"),
    [
        (4, 0, Stage.RESOLVING, timedelta(), True),
        (1, 3, Stage.RESOLVING, timedelta(), True),
        (3, 0, Stage.RESOLVING, LONG, False),
        (3, 0, Stage.WAITING, timedelta(), False),
        (3, 0, Stage.WAITING, LONG, True),
        (2, 2, Stage.WAITING, timedelta(), True),
    ],
)
def test_a_place_is_told_to_who_finds_none_free_or_is_passed_over(
    number: int, running: int, stage: Stage, since: timedelta, told: bool
) -> None:
    launch = Launch(stage=stage, stage_since=NOW - since)
    assert waits(launch, Place(number, running), 3, now=NOW) is told


def test_nobody_is_taken_for_gone_before_a_hub_has_listened_that_long_without_a_break() -> None:
    vigil, judged = Vigil(60), []
    for second in [*range(0, 100, 5), *range(200, 300, 5)]:  # it was away in between
        now = NOW + timedelta(seconds=second)
        if (before := vigil.gone_before(now)) is not None:
            assert before == now - timedelta(seconds=60)
            judged.append(second)
    never = Vigil(0)

    assert judged == [60, 75, 90, 260, 275, 290], "and four times in that while"
    assert not any(never.gone_before(NOW + timedelta(seconds=second)) for second in range(0, 1000, 5))
