"""What a server uses: the sum over its processes, and no other's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from himalia_singleuser import usage
from himalia_singleuser.usage import Meter, descendants

TICKS = os.sysconf("SC_CLK_TCK")


def put(
    proc: Path, pid: int, *, pss_kb: int = 0, ticks: int = 0, children: str = "", started: int = 7
) -> None:
    """A process as /proc shows it."""
    task = proc / str(pid) / "task" / str(pid)
    task.mkdir(parents=True, exist_ok=True)
    (task / "children").write_text(children)
    columns = ["S", *["0"] * 10, str(ticks), "0", *["0"] * 6, str(started)]
    (proc / str(pid) / "stat").write_text(f"{pid} (a (b) c) {' '.join(columns)}")
    (proc / str(pid) / "smaps_rollup").write_text(f"00-ff ---p 0 0 [rollup]\nRss: 9 kB\nPss: {pss_kb} kB\n")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [100.0]
    monkeypatch.setattr(usage.time, "monotonic", lambda: at[0])
    return at


def test_all_below_the_roots_counts_once_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, 1, pss_kb=1, children="2 3 ")
    put(tmp_path, 2, pss_kb=10, children="4 ")
    put(tmp_path, 3, pss_kb=100)
    put(tmp_path, 4, pss_kb=1000)
    put(tmp_path, 5, pss_kb=10000)

    assert descendants([2, 4], tmp_path) == {2, 4}
    assert Meter(tmp_path).look([1]).memory == 1111 * 1024


def test_processors_are_time_used_since_the_look_before(tmp_path: Path, clock: list[float]) -> None:
    put(tmp_path, 1, ticks=5 * TICKS, children="2 ")
    put(tmp_path, 2, ticks=50 * TICKS)
    meter = Meter(tmp_path)
    assert meter.look([1]).cpus is None

    clock[0] += 10
    put(tmp_path, 1, ticks=6 * TICKS, children="2 ")
    put(tmp_path, 2, ticks=4 * TICKS, started=8)  # another process that has the number now

    assert meter.look([1]).cpus == pytest.approx(0.5)


def test_what_ends_meanwhile_is_nothing(tmp_path: Path) -> None:
    put(tmp_path, 1, children="2 ")

    assert Meter(tmp_path).look([1]).memory == 0


def test_this_process_uses_memory() -> None:
    assert Meter().look([os.getpid()]).memory > 2**20
