"""What is removed when repositories and environments grow old, or the disk grows full."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.ephemeral.collect import Kept, collect, unwanted
from himalia_hub.ephemeral.folders import Folders

PLACES = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50)), max_size=12)


@given(PLACES, st.sets(st.integers(0, 11)), st.floats(0, 100), st.integers(0, 300))
def test_the_longest_unused_go_first_and_what_is_in_use_never(
    found: list[tuple[float, int]], used: set[int], older_than: float, to_free: int
) -> None:
    kept = [Kept(Path(str(number)), at, size) for number, (at, size) in enumerate(found)]
    in_use = {Path(str(number)) for number in used}

    gone = unwanted(kept, in_use=in_use, older_than=older_than, to_free=to_free)

    left = [one for one in kept if one.path not in gone and one.path not in in_use]
    assert not in_use & set(gone)
    assert all(one.used_at >= older_than for one in left)
    went = [one for one in kept if one.path in gone]
    assert not left or sum(one.bytes for one in went) >= to_free
    assert all(one.used_at <= other.used_at for one in went for other in left)


def test_old_folders_are_removed_and_young_ones_are_not(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "ephemeral")
    folders.make()
    old, young, busy = (folders.environments / name for name in ("old", "young", "busy"))
    for folder in (old, young, busy):
        (folder / "deep").mkdir(parents=True)
    for folder in (old, busy):
        os.utime(folder, (1, 1))
    assert old in collect(folders, {busy}, keep_s=1e6)
    assert not old.exists()
    assert busy.exists()
