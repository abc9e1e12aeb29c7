"""The kill test walks a complete list."""

from __future__ import annotations

import re
from pathlib import Path

import himalia_hub
from himalia_hub.ephemeral.models import OVER, Stage
from himalia_hub.faults import CUT_POINTS, LAUNCH_POINTS, POINTS
from himalia_spawner.process import FAULT_POINTS


def test_the_spawners_points_are_all_in_the_list() -> None:
    assert {point for point in POINTS if point.startswith("spawner.")} == {
        f"spawner.{p}" for p in FAULT_POINTS
    }


def test_every_point_in_the_hubs_code_is_in_the_list_and_the_other_way_round() -> None:
    source = "".join(path.read_text() for path in Path(himalia_hub.__file__).parent.rglob("*.py"))
    used = set(re.findall(r'fault\("([a-z_.]+)"\)', source))

    # On the two that are left out no work is done.
    stages = {f"launch.{stage.value}" for stage in Stage if stage not in (*OVER, Stage.READY, Stage.WARM)}
    listed = {*POINTS, *LAUNCH_POINTS, *CUT_POINTS}
    assert used | stages == {point for point in listed if not point.startswith("spawner.")}
