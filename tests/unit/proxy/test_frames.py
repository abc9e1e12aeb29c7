"""The end of a WebSocket frame is found wherever packets are cut, and bytes that are no frames are not taken for some."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_proxy.frames import Frames, close_frame


def frame(opcode: int, payload: bytes, *, masked: bool, last: bool = True) -> bytes:
    size = len(payload)
    short = size if size < 126 else 126 if size < 65536 else 127
    wide = b"" if size < 126 else size.to_bytes(2 if size < 65536 else 8, "big")
    head = bytes((opcode | (0x80 if last else 0), short | (0x80 if masked else 0)))
    return head + wide + (b"mask" if masked else b"") + payload


frames = st.builds(
    frame,
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0, 1, 125, 126, 300, 65535, 65536]).map(lambda size: b"\x88\x05" * (size // 2 + 1)),
    masked=st.booleans(),
    last=st.booleans(),
) | st.builds(frame, st.sampled_from([9, 10]), st.binary(max_size=125), masked=st.booleans())


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(at)]


@given(sent=st.lists(frames, min_size=1, max_size=6), cuts=st.lists(st.integers(0, 10**6), max_size=12))
def test_another_frame_may_begin_exactly_where_one_has_ended(sent: list[bytes], cuts: list[int]) -> None:
    ends, at = {0}, 0
    for one in sent:
        at += len(one)
        ends.add(at)
    followed, passed = Frames(), 0
    for piece in pieces(b"".join(sent), cuts):
        assert followed.feed(piece) == len(piece)
        passed += len(piece)
        assert followed.between == (passed in ends)
    assert not followed.lost


@given(sent=st.lists(frames, min_size=1, max_size=4), cut=st.integers(1, 10**6))
def test_from_the_middle_of_a_frame_it_is_followed_to_its_end_and_no_further(
    sent: list[bytes], cut: int
) -> None:
    data = b"".join(sent)
    cut %= len(data)
    followed = Frames()
    followed.feed(data[:cut])
    at = 0
    ends = [at := at + len(one) for one in sent]
    wanted = next(end for end in ends if end > cut or (end == cut and followed.between))
    if not followed.between:
        assert cut + followed.feed(data[cut:], stop=True) == wanted
        assert followed.between


@given(data=st.binary(min_size=2, max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_whatever_comes_is_followed_to_its_last_byte(data: bytes, cuts: list[int]) -> None:
    followed = Frames()
    assert sum(followed.feed(piece) for piece in pieces(data, cuts)) == len(data)


@pytest.mark.parametrize("head", [b"\x83\x00", b"\x8b\x00", b"\x89\x7e\x00\x80", b"GET /"])
def test_what_is_no_frame_is_known_for_it(head: bytes) -> None:
    followed = Frames()
    followed.feed(head)
    assert followed.lost
    assert not followed.between


@pytest.mark.parametrize("size", [0, 1, 2, 125, 126, 127, 129, 253, 65535, 65536])
@pytest.mark.parametrize("masked", [False, True])
def test_each_way_to_write_a_length_is_read_at_every_cut_of_its_head(size: int, masked: bool) -> None:
    data = frame(2, bytes(size), masked=masked)
    for cut in range(min(len(data), 16)):
        followed = Frames()
        followed.feed(data[:cut])
        assert followed.between == (cut == 0)
        followed.feed(data[cut:])
        assert followed.between


def test_a_flood_of_tiny_frames_is_not_followed() -> None:
    followed = Frames()
    assert followed.feed(bytes(2 * 1000)) == 2000
    assert followed.lost


def test_behind_a_close_frame_nothing_may_be_said() -> None:
    followed = Frames()
    followed.feed(frame(8, b"\x03\xe8", masked=True))
    assert followed.closed
    assert not followed.between


def test_a_close_frame_says_its_code_masked_as_clients_do_and_plain_as_servers_do() -> None:
    assert close_frame(1012, "over", masked=False) == b"\x88\x06\x03\xf4over"
    sent = close_frame(1001, "over", masked=True)
    assert sent[:2] == b"\x88\x86"
    assert bytes(byte ^ sent[2 + number % 4] for number, byte in enumerate(sent[6:])) == b"\x03\xe9over"
