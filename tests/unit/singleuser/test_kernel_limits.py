"""The rate limit, the queue and the ring: what is dropped, what is said, and that bounds hold."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from himalia_singleuser.kernels.limits import RateLimit, Verdict
from himalia_singleuser.kernels.messages import Message, dump, make, parse_object
from himalia_singleuser.kernels.outbox import MESSAGE_BYTES, Outbox
from himalia_singleuser.kernels.replay import Replay
from himalia_singleuser.kernels.spill import Spill

PARENT = dump({"msg_id": "cell", "msg_type": "execute_request"})


def stream(text, *, parent=PARENT, name="stdout"):
    return make("iopub", "stream", {"name": name, "text": text}, parent=parent)


def text_of(messages):
    return "".join(parse_object(one.parts[3]).get("text", "") for one in messages)


def limit(**changes):
    return RateLimit(**{"messages_per_s": 10, "bytes_per_s": 100, "window_s": 1.0} | changes)


def test_the_first_message_over_the_limit_is_told_and_the_next_are_dropped_in_silence():
    rate = limit()
    verdicts = [rate.judge("display_data", 1, now=0.0) for _ in range(13)]
    assert verdicts == [Verdict.PASS] * 10 + [Verdict.DROP_AND_TELL] + [Verdict.DROP] * 2


def test_only_stream_bytes_count_against_the_data_limit():
    rate = limit(messages_per_s=0)
    assert rate.judge("display_data", 10_000, now=0.0) is Verdict.PASS
    assert rate.judge("stream", 101, now=0.0) is Verdict.DROP_AND_TELL
    assert rate.cause == "data"


def test_states_pass_at_any_rate():
    rate = limit()
    assert all(rate.judge("status", 1, now=0.0) is Verdict.PASS for _ in range(100))


def test_output_resumes_only_below_four_fifths():
    rate = limit()
    for at in range(11):
        rate.judge("error", 1, now=at / 20)
    assert rate.judge("error", 1, now=1.01) is Verdict.DROP
    assert rate.judge("error", 1, now=2.5) is Verdict.PASS


def test_an_idle_kernel_starts_with_a_clean_slate():
    rate = limit()
    for _ in range(20):
        rate.judge("error", 1, now=0.0)
    rate.clear()
    assert rate.judge("error", 1, now=0.0) is Verdict.PASS


def test_no_rate_means_no_limit():
    rate = limit(messages_per_s=0, bytes_per_s=0)
    assert all(rate.judge("stream", 10**9, now=0.0) is Verdict.PASS for _ in range(100))


@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=50))
def test_a_reader_that_is_behind_gets_every_character_of_a_stream_in_fewer_messages(texts):
    outbox = Outbox(10**6)
    for text in texts:
        assert outbox.put(stream(text))
    taken = outbox.take_all()
    assert text_of(taken) == "".join(texts)
    assert len(taken) <= 2
    assert outbox.size == 0


def test_streams_of_two_cells_or_two_names_are_never_joined():
    outbox = Outbox(10**6)
    others = [stream("b", parent=dump({"msg_id": "other"})), stream("c", name="stderr"), stream("d")]
    for message in [stream("z"), stream("a"), *others]:
        outbox.put(message)
    assert [parse_object(one.parts[3])["text"] for one in outbox.take_all()] == ["z", "a", "b", "c", "d"]


def test_past_the_bound_outputs_are_left_out_and_counted_but_states_stay():
    outbox = Outbox(5000)
    for _ in range(100):
        assert outbox.put(make("iopub", "display_data", {"data": "x" * 500}, parent=PARENT))
    assert outbox.size <= 5000
    assert outbox.put(make("iopub", "status", {"execution_state": "idle"}, parent=PARENT))
    taken = outbox.take_all()
    types = [one.type for one in taken]
    assert types[-2:] == ["stream", "status"]
    assert f"{100 - types.count('display_data')} output messages" in text_of(taken)


def test_messages_that_must_not_be_left_out_fill_the_queue_up_to_twice_its_bound_and_no_further():
    outbox = Outbox(5000)
    accepted = sum(outbox.put(make("shell", "execute_reply", {"data": "x" * 500})) for _ in range(100))
    assert 5 < accepted < 100
    assert outbox.size <= 10_000


def replay(**changes):
    return Replay(**{"most_bytes": 10**6, "most_sessions": 2} | changes)


def test_nothing_is_kept_while_nobody_is_away():
    ring = replay()
    ring.keep(stream("a"))
    assert ring.size == 0


def test_each_session_gets_what_it_missed_and_nobody_elses_replies():
    ring = replay()
    ring.leave("one", [stream("unsent ")])
    ring.keep(stream("first "))
    ring.leave("two")
    ring.keep(make("shell", "execute_reply", {"text": "reply-of-one "}), target="one")
    ring.keep(stream("second"))
    assert text_of(ring.take("two")) == "second"
    assert text_of(ring.take("one")) == "unsent first reply-of-one second"
    assert ring.size == 0


def test_the_session_away_the_longest_is_forgotten_for_a_third():
    ring = replay()
    assert ring.leave("one") == []
    assert ring.leave("two") == []
    assert ring.leave("three") == ["one"]
    assert ring.absent == {"two", "three"}


@given(sizes=st.lists(st.integers(0, 3000), max_size=60))
def test_the_ring_never_outgrows_its_bound_and_says_how_much_is_missing(sizes):
    ring = replay(most_bytes=8000)
    ring.leave("one")
    for size in sizes:
        ring.keep(stream("x" * size))
        assert ring.size <= 8000
    got = list(ring.take("one"))
    kept = [one for one in got if "not shown" not in text_of([one])]
    note = text_of([got[0]]) if len(kept) < len(got) else ""
    missed = len(sizes) - len(kept)
    assert (f"[{missed} output messages" in note) if missed else not note
    assert ring.size == 0


def test_an_empty_message_still_costs_something():
    ring = replay(most_bytes=10 * MESSAGE_BYTES)
    ring.leave("one")
    for _ in range(100):
        ring.keep(Message("iopub", [b"", b"", b"", b""], {}))
    assert len(list(ring.take("one"))) <= 11


def test_joined_text_keeps_its_parent():
    outbox = Outbox(10**6)
    for text in "abc":
        outbox.put(stream(text))
    assert all(json.loads(one.parts[1])["msg_id"] == "cell" for one in outbox.take_all())


def test_what_memory_cannot_hold_comes_from_disk_in_order_and_for_its_session_only(tmp_path):
    ring = replay(most_bytes=3_000, spill=Spill(tmp_path, 10**6))
    ring.leave("one")
    ring.leave("two")
    for number in range(200):
        ring.keep(stream(f"{number} "))
        ring.keep(make("shell", "execute_reply", {"text": f"reply-{number} "}), target="one")

    kept = list(ring.take("two"))

    assert text_of(kept) == "".join(f"{number} " for number in range(200))
    assert text_of(list(ring.take("one"))) == "".join(f"{n} reply-{n} " for n in range(200))
    assert list(tmp_path.iterdir()) == []


def test_past_memory_and_disk_the_oldest_of_the_rest_is_left_out_and_told(tmp_path):
    ring = replay(most_bytes=3_000, spill=Spill(tmp_path, 5_000))
    ring.leave("one")
    for number in range(400):
        ring.keep(stream(f"{number} "))

    said = text_of(list(ring.take("one")))

    assert said.startswith("0 1 2 ")
    assert said.endswith("398 399 ")
    assert "more came than is kept" in said


def test_a_disk_that_takes_nothing_costs_only_what_it_would_have_kept(tmp_path):
    ring = replay(most_bytes=3_000, spill=Spill(tmp_path / "missing", 10**6))
    ring.leave("one")
    for number in range(400):
        ring.keep(stream(f"{number} "))

    assert text_of(list(ring.take("one"))).endswith("398 399 ")
