"""The keeper's journal: whole messages, in order, until they are not needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_singleuser.keeper import journal as module
from himalia_singleuser.keeper.journal import DELIMITER, Journal, Reader
from himalia_singleuser.keeper.wire import LONG, MORE


def message(number: int, size: int = 10) -> list[bytes]:
    return [b"topic", DELIMITER, f"{number:064x}".encode()[::-1], b"x" * size]


def wire(frames: list[bytes]) -> bytes:
    """A message as ZMTP writes it."""
    parts = []
    for number, frame in enumerate(frames, 1):
        more, size = MORE * (number < len(frames)), len(frame)
        parts.append(bytes((more, size)) if size < 256 else bytes((more | LONG,)) + size.to_bytes(8, "big"))
        parts.append(frame)
    return b"".join(parts)


def read(folder: Path) -> list[list[bytes]]:
    return list(Reader(str(folder), "k").read())


@given(st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=6), max_size=20))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, messages: list[list[bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(str(folder), "k")
    for one in messages:
        journal.append(wire(one))

    assert read(folder) == messages


def test_a_reader_goes_on_where_it_was_while_the_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 300)
    journal, reader = Journal(str(tmp_path), "k"), Reader(str(tmp_path), "k")
    seen: list[list[bytes]] = []
    for number in range(20):
        journal.append(wire(message(number)))
        if number % 3 == 0:
            seen += reader.read()
    seen += reader.read()

    assert seen == [message(number) for number in range(20)]


def test_what_is_not_needed_is_deleted_and_the_named_message_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 300)
    journal = Journal(str(tmp_path), "k")
    for number in range(30):
        journal.append(wire(message(number)))

    journal.trim(message(20)[2])

    left = read(tmp_path)
    assert message(20) in left
    assert message(10) not in left
    assert left == [message(number) for number in range(30) if message(number) in left]
    journal.trim(b"f" * 64)
    assert read(tmp_path) == left, "an unknown message deletes nothing"
    journal.clear()
    assert list(tmp_path.iterdir()) == []


def test_past_its_bound_it_has_no_holes_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 300)
    journal = Journal(str(tmp_path), "k", most_bytes=2000)
    for number in range(30):
        journal.append(wire(message(number)))

    kept = read(tmp_path)
    assert kept == [message(number) for number in range(len(kept))]
    assert journal.missed == 30 - len(kept)
    journal.trim(kept[-1][2])
    assert journal.missed == 0
    journal.append(wire(message(99)))
    assert read(tmp_path)[-1] == message(99)


def test_half_a_message_of_a_killed_writer_is_left_out(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "k")
    journal.append(wire(message(1)))
    journal.append(wire(message(2, 1000)))
    (file,) = tmp_path.iterdir()
    for cut in (1, 500, len(wire(message(2, 1000))) - 1):
        os.truncate(file, file.stat().st_size - cut)

        assert read(tmp_path) == [message(1)]
        assert Reader(str(tmp_path), "other").read
        journal.clear()
        journal.append(wire(message(1)))
        journal.append(wire(message(2, 1000)))
        (file,) = tmp_path.iterdir()


def test_a_full_disk_is_counted_as_missed_and_leaves_whole_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(str(tmp_path), "k")
    journal.append(wire(message(1)))
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:20]))
    journal.append(wire(message(2)))
    monkeypatch.setattr(os, "write", real)

    assert journal.missed == 1
    assert read(tmp_path) == [message(1)]
