"""The figures of a scale test."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.scaletest.report import Measured, percentile, summary, table


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([50, 95, 99, 100]))
def test_a_percentile_is_a_measured_value_with_that_share_at_or_below_it(
    values: list[float], percent: int
) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)


def test_of_nothing_there_is_no_percentile() -> None:
    assert math.isnan(percentile([], 50))
    assert summary(Measured())["seconds"]["start"] == {
        "count": 0, "p50": None, "p95": None, "p99": None, "max": None,
    }  # fmt: skip


def test_the_table_has_a_line_per_step_and_says_what_went_wrong_once() -> None:
    measured = Measured(errors=["start: refused", "start: refused"])
    measured.seconds["log in"] = [0.1, 0.2]
    lines = table(measured).splitlines()
    assert lines[1].split() == ["log", "in", "2", "0.100", "0.200", "0.200", "0.200"]
    assert [line for line in lines if "refused" in line] == ["  start: refused"]
    assert "2 errors" in lines
