"""Answers kept in memory: the same one while nothing changed, and never more than the bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from himalia_singleuser.contents import unchanged
from himalia_singleuser.contents.paths import Root
from himalia_singleuser.contents.store import Store, Wanted
from himalia_singleuser.contents.trust import Notary
from himalia_singleuser.contents.unchanged import Answers


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Of a store on an empty folder, where files count as quiet at once."""
    monkeypatch.setattr(unchanged, "QUIET_S", -60.0)
    (tmp_path / "root").mkdir()
    return Answers(Store(Root(tmp_path / "root"), Notary(tmp_path / "data")))


def test_the_same_answer_is_given_while_nothing_changed(answers: Answers, tmp_path: Path) -> None:
    file = tmp_path / "root" / "a.txt"
    file.write_text("one")
    for path in ("a.txt", ""):
        first = answers.get(path, Wanted(), None)
        assert answers.get(path, Wanted(), None) is first
        assert answers.get(path, Wanted(content=False), None) is not first
        assert answers.get(path, Wanted(), first.tag).body is None

    file.write_text("longer")

    assert b"longer" in (answers.get("a.txt", Wanted(), None).body or b"")


def test_a_folder_with_a_link_is_read_each_time(answers: Answers, tmp_path: Path) -> None:
    (tmp_path / "root" / "a.txt").write_text("one")
    (tmp_path / "root" / "b.txt").symlink_to("a.txt")

    assert answers.get("", Wanted(), None) is not answers.get("", Wanted(), None)


def test_what_is_kept_is_bounded_and_large_ones_keep_their_tag_only(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "MOST_BYTES", 4000)
    for name, size in (("large", 3000), *((f"small{number}", 600) for number in range(8))):
        (tmp_path / "root" / name).write_text("x" * size)

    large = answers.get("large", Wanted(), None)
    small = [answers.get(f"small{number}", Wanted(), None) for number in range(8)]

    assert answers.get("large", Wanted(), None) is not large
    assert answers.get("large", Wanted(), large.tag).body is None
    again = [answers.get(f"small{number}", Wanted(), None) for number in reversed(range(8))]
    alike = [one is other for one, other in zip(reversed(small), again, strict=True)]
    assert alike[:3] == [True] * 3
    assert not alike[-1]
