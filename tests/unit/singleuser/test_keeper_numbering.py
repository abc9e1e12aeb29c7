"""What the numbers in a kernel's messages say of missing ones."""

from __future__ import annotations

import json

import pytest

from himalia_singleuser.keeper.journal import DELIMITER
from himalia_singleuser.keeper.numbering import FEW, MOST_SENDERS, Numbering


def message(msg_id: str) -> list[bytes]:
    header = json.dumps({"msg_type": "stream", "msg_id": msg_id, "session": "x_7_1"}).encode()
    return [b"stream", DELIMITER, b"signature", header, b"{}", b"{}", b"{}"]


def skips(*ids: str) -> list[bool]:
    numbering = Numbering()
    return [numbering.skips(message(one)) for one in ids]


def test_a_long_run_of_missing_numbers_is_seen_once_and_replies_between_are_not() -> None:
    assert skips("a_1_1", "a_1_2", f"a_1_{3 + FEW}", "a_1_500", "a_1_501") == [False] * 3 + [True, False]


def test_each_process_counts_by_itself_and_may_overtake_itself() -> None:
    assert skips("a_1_100", "a_2_5", "a_1_102", "a_1_101", "a_2_6", "b_3_9000", "a_1_103") == [False] * 7


@pytest.mark.parametrize(
    "frames",
    [[], [b"x"], [DELIMITER], [DELIMITER, b"s", b"nonsense"], message("8c0f-uuid"), message("a_1_x")],
)
def test_of_what_has_no_number_nothing_is_said(frames: list[bytes]) -> None:
    numbering = Numbering()
    numbering.skips(message("a_1_1"))
    assert not numbering.skips(frames)
    assert numbering.skips(message("a_1_100"))


def test_senders_that_come_and_go_take_no_memory() -> None:
    numbering = Numbering()
    for number in range(10 * MOST_SENDERS):
        numbering.skips(message(f"a_{number}_1"))
    assert len(numbering._last) == MOST_SENDERS
