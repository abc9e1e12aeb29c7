"""How many processes were killed for want of memory, read as the system tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from himalia_singleuser.kernels.memory import oom_kills

ADA = "user/ada"


def told(folder: Path, said: str, files: dict[str, str]) -> int:
    """The count where `/proc/self/cgroup` reads `said`, with these files below `/sys/fs/cgroup`."""
    own, groups = folder / "own", folder / "groups"
    own.write_text(said)
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    return oom_kills(own, groups)


def test_version_2_counts_in_the_own_group(tmp_path: Path) -> None:
    events = {f"{ADA}/memory.events": "max 9\noom 4\noom_kill 3\noom_group_kill 1\n"}

    assert told(tmp_path, f"0::/{ADA}\n", events) == 3


def test_version_1_counts_in_the_group_of_the_memory_controller(tmp_path: Path) -> None:
    said = f"5:cpu,cpuacct:/elsewhere\n4:memory:/{ADA}\n0::/elsewhere\n"
    control = {f"memory/{ADA}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"}

    assert told(tmp_path, said, control) == 2


@pytest.mark.parametrize(
    ("said", "file"),
    [("0::/docker/f00\n", "memory.events"), ("4:memory:/docker/f00\n", "memory/memory.oom_control")],
)
def test_a_container_finds_its_group_at_the_top_of_what_it_sees(tmp_path: Path, said: str, file: str) -> None:
    assert told(tmp_path, said, {file: "oom_kill 1\n"}) == 1


@pytest.mark.parametrize(
    ("said", "events"),
    [
        ("4:memory:/x\n", "oom_kill 3\n"),
        ("0::/elsewhere\n", "oom_kill 3\n"),
        (f"0::/{ADA}\n", "oom_kill many\n"),
        (f"0::/{ADA}\n", "oom_kill \n"),
        ("nonsense\n", "oom_kill 3\n"),
        ("", ""),
    ],
)
def test_what_is_not_told_counts_as_none(tmp_path: Path, said: str, events: str) -> None:
    assert told(tmp_path, said, {f"{ADA}/memory.events": events}) == 0


def test_a_machine_without_groups_counts_none(tmp_path: Path) -> None:
    assert oom_kills(tmp_path / "own", tmp_path / "groups") == 0
