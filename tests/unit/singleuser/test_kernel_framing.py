"""Both WebSocket framings of kernel messages, for any message and against any bytes."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_singleuser.kernels.errors import FrameError
from himalia_singleuser.kernels.framing import (
    decode_legacy,
    decode_v1,
    encode_legacy,
    encode_v1,
    read_header,
)
from himalia_singleuser.kernels.messages import Message, Signer, dump, parse_object

channels = st.sampled_from(["shell", "control", "stdin", "iopub"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(st.text(), values, max_size=4)
buffers = st.lists(st.binary(max_size=200), max_size=4)


@given(
    before=st.text(" \t\n\r{\ufeff", max_size=2),
    value=values | objects,
    after=st.text(" \t\n\r}{\0", max_size=2),
)
def test_an_object_is_read_where_the_standard_library_reads_one(before, value, after):
    text = before + json.dumps(value) + after
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    assert parse_object(text.encode()) == (expected if isinstance(expected, dict) else None)


@given(channel=channels, parts=st.lists(st.binary(max_size=100), min_size=4, max_size=8))
def test_v1_gives_back_every_part_byte_for_byte(channel, parts):
    assert decode_v1(encode_v1(channel, parts)) == (channel, parts)


@given(channel=channels, dicts=st.tuples(objects, objects, objects, objects), extra=buffers)
def test_the_default_protocol_gives_back_every_object_and_buffer(channel, dicts, extra):
    header = {**dicts[0], "msg_id": "1", "msg_type": "comm_msg"}
    message = Message(channel, [*map(dump, (header, *dicts[1:])), *extra], header)

    frame, text = encode_legacy(message)
    got_channel, parts = decode_legacy(frame, text=text)

    assert text is not bool(extra)
    assert got_channel == channel
    assert [json.loads(part) for part in parts[:4]] == [header, *dicts[1:]]
    assert parts[4:] == extra


@given(frame=st.binary(max_size=300))
def test_no_bytes_do_worse_than_a_frame_error(frame):
    for decode in (
        decode_v1,
        lambda raw: decode_legacy(raw, text=True),
        lambda raw: decode_legacy(raw, text=False),
    ):
        try:
            decode(frame)
        except FrameError as error:
            assert str(error)


@given(data=st.data(), parts=st.lists(st.binary(max_size=30), min_size=4, max_size=6))
def test_a_frame_with_one_changed_byte_is_read_or_refused_but_never_breaks(data, parts):
    frame = bytearray(encode_v1("shell", parts))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        _, pieces = decode_v1(bytes(frame))
    except FrameError:
        return
    assert sum(map(len, pieces)) <= len(frame)


@pytest.mark.parametrize("count", [2**63, 2**64 - 1, 2**32, 0, 5])
def test_a_v1_count_that_the_frame_cannot_hold_is_refused(count):
    with pytest.raises(FrameError, match="offset count"):
        decode_v1(struct.pack("<Q", count) + bytes(64))


@pytest.mark.parametrize("count", [2**32 - 1, 2**31, 0])
def test_a_default_count_that_the_frame_cannot_hold_is_refused(count):
    with pytest.raises(FrameError, match="part count"):
        decode_legacy(struct.pack(">I", count) + bytes(64), text=False)


@pytest.mark.parametrize(
    "body", [b"[]", b'"x"', b"nonsense", b"[" * 100_000, b'{"header": 3}', b'{"channel": 1}']
)
def test_json_that_is_no_message_is_refused(body):
    with pytest.raises(FrameError):
        decode_legacy(body, text=True)


def test_a_message_without_channel_goes_to_shell():
    assert decode_legacy(b'{"header": {}}', text=True)[0] == "shell"


@pytest.mark.parametrize("part", [b"", b"{}", b"[]", b'{"msg_id": "1"}', b'{"msg_id": 1, "msg_type": "x"}'])
def test_a_header_must_name_its_type_and_id(part):
    with pytest.raises(FrameError):
        read_header(part)


def test_latin_1_from_a_kernel_becomes_valid_utf_8_for_the_browser():
    header = {"msg_id": "1", "msg_type": "stream"}
    message = Message("iopub", [dump(header), b"{}", b"{}", b'{"text": "caf\xe9"}'], header)

    frame, _ = encode_legacy(message)

    assert json.loads(frame.decode())["content"]["text"] == "caf\ufffd"


@given(parts=st.lists(st.binary(max_size=50), min_size=4, max_size=7), data=st.data())
def test_a_changed_signed_part_is_refused(parts, data):
    signer = Signer(b"key")
    wire = signer.to_wire(parts)
    assert signer.from_wire([b"topic", *wire]) == parts
    at = 2 + data.draw(st.integers(0, 3))
    wire[at] += b"x"
    assert signer.from_wire(wire) is None
