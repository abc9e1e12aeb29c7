"""How many processes were killed for want of memory, read as the system tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from himalia_singleuser.kernels.memory import oom_kills


def group_in(folder: Path, said: str, events: str) -> tuple[Path, Path]:
    own, groups = folder / "own", folder / "groups"
    (groups / "user" / "ada").mkdir(parents=True)
    own.write_text(said)
    (groups / "user" / "ada" / "memory.events").write_text(events)
    return own, groups


def test_the_own_groups_count_is_read(tmp_path: Path) -> None:
    own, groups = group_in(tmp_path, "0::/user/ada\n", "max 9\noom 4\noom_kill 3\noom_group_kill 1\n")

    assert oom_kills(own, groups) == 3


@pytest.mark.parametrize(
    ("said", "events"),
    [
        ("4:memory:/x\n", "oom_kill 3\n"),
        ("0::/elsewhere\n", "oom_kill 3\n"),
        ("0::/user/ada\n", "oom_kill many\n"),
        ("0::/user/ada\n", "oom_kill \n"),
        ("", ""),
    ],
)
def test_what_is_not_told_counts_as_none(tmp_path: Path, said: str, events: str) -> None:
    assert oom_kills(*group_in(tmp_path, said, events)) == 0


def test_a_machine_without_groups_counts_none(tmp_path: Path) -> None:
    assert oom_kills(tmp_path / "own", tmp_path / "groups") == 0
