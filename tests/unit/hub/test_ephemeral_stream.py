"""Who is told of a place in the queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

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
