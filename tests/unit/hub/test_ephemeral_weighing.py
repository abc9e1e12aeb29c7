"""What counts as the size of a folder whose owner means no good."""

from __future__ import annotations

from pathlib import Path

from himalia_hub.ephemeral.weighing import ENTRY, holds_more


def test_content_counts_as_it_lies_on_the_disk_and_each_entry_counts_too(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    (home / "deep" / "er").mkdir(parents=True)
    outside.mkdir()
    (outside / "large").write_bytes(bytes(2_000_000))
    (home / "link").symlink_to(outside)
    with (home / "holes").open("wb") as file:
        file.truncate(10**12)
    assert not holds_more(home, 100_000)

    (home / "deep" / "er" / "data").write_bytes(bytes(200_000))
    assert holds_more(home, 100_000)
    assert not holds_more(home, 400_000)

    for number in range(100):
        (home / f"empty{number}").touch()
    assert holds_more(home, 100 * ENTRY)


def test_what_is_gone_or_closed_counts_nothing(tmp_path: Path) -> None:
    assert not holds_more(tmp_path / "gone", 0)
