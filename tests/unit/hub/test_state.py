"""The decision of a server's life: every case, and what must hold for any story of wishes, deaths and look-ups."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.servers.state import Desired, Seen, Situation, Step, next_step

FLAGS = ("routed", "fresh", "overdue", "was_ready", "unwanted")
EVERY_SITUATION = [
    Situation(desired, seen, **dict(zip(FLAGS, values, strict=True)))
    for desired, seen, *values in itertools.product(Desired, Seen, *[(False, True)] * len(FLAGS))
    if not (values[FLAGS.index("fresh")] and desired is Desired.STOPPED)
]


@pytest.mark.parametrize("now", EVERY_SITUATION, ids=str)
def test_every_situation_has_a_step(now: Situation) -> None:
    assert isinstance(next_step(now), Step)


@pytest.mark.parametrize("now", [s for s in EVERY_SITUATION if s.desired is Desired.STOPPED], ids=str)
def test_a_stopped_wish_never_starts_or_publishes(now: Situation) -> None:
    assert next_step(now) not in (Step.START, Step.PUBLISH, Step.TIME_OUT, Step.RECORD_EXIT)


@pytest.mark.parametrize("now", [s for s in EVERY_SITUATION if s.seen is Seen.UNKNOWN], ids=str)
def test_what_cannot_be_asked_is_waited_for(now: Situation) -> None:
    assert next_step(now) is Step.WAIT


@pytest.mark.parametrize("now", [s for s in EVERY_SITUATION if s.routed], ids=str)
def test_nothing_is_stopped_or_started_while_it_is_routed(now: Situation) -> None:
    assert next_step(now) not in (Step.STOP, Step.STOP_STALE, Step.START)


@pytest.mark.parametrize("now", [s for s in EVERY_SITUATION if not s.fresh], ids=str)
def test_a_server_that_died_is_never_brought_back_silently(now: Situation) -> None:
    assert next_step(now) is not Step.START


@pytest.mark.parametrize(
    "now", [s for s in EVERY_SITUATION if s.was_ready and s.desired is Desired.RUNNING], ids=str
)
def test_a_server_that_was_ready_and_is_busy_is_left_alone(now: Situation) -> None:
    if now.seen is Seen.SILENT:
        assert next_step(now) in (Step.REST, Step.PUBLISH)


@pytest.mark.parametrize("now", [s for s in EVERY_SITUATION if s.seen is Seen.ABSENT], ids=str)
def test_what_waits_after_a_crash_is_ended_only_when_somebody_wishes_it(now: Situation) -> None:
    ends = now.desired is Desired.STOPPED and now.unwanted and not now.routed
    assert (next_step(now) is Step.STOP) == ends


@dataclass
class Model:
    """A server's row and its outside, small enough to see through; every step does what steps.py does."""

    desired: Desired = Desired.STOPPED
    generation: int = 0
    acted: int = 0
    alive: int | None = None
    answers: bool = False
    routed_to: int | None = None
    ready: bool = False
    failed_generation: int = -1
    starts: int = 0

    def seen(self) -> Seen:
        if self.alive is None:
            return Seen.ABSENT
        if self.desired is Desired.RUNNING and self.alive != self.generation:
            return Seen.STALE
        return Seen.ANSWERING if self.answers else Seen.SILENT

    def situation(self, *, overdue: bool = False) -> Situation:
        fresh = self.desired is Desired.RUNNING and self.generation > self.acted
        keeps = self.desired is Desired.RUNNING and self.seen() in (Seen.SILENT, Seen.ANSWERING)
        routed = self.routed_to is not None if not keeps else self.routed_to == self.alive
        return Situation(
            self.desired, self.seen(), routed=routed, fresh=fresh, overdue=overdue, was_ready=self.ready
        )

    def step(self, *, overdue: bool = False) -> Step:
        step = next_step(self.situation(overdue=overdue))
        match step:
            case Step.START:
                assert self.alive is None, "two at once"
                self.acted = self.alive = self.generation
                self.answers = self.ready = False
                self.starts += 1
            case Step.PUBLISH:
                self.routed_to = self.alive
            case Step.UNPUBLISH:
                self.routed_to = None
            case Step.STOP | Step.STOP_STALE:
                self.alive, self.answers = None, False
            case Step.TIME_OUT | Step.RECORD_EXIT:
                self.desired, self.failed_generation = Desired.STOPPED, self.generation
            case Step.REST:
                self.ready = self.desired is Desired.RUNNING
            case Step.WAIT:
                pass
        return step

    def settle(self, *, overdue: bool = False) -> None:
        for _ in range(12):
            if self.step(overdue=overdue) in (Step.REST, Step.WAIT):
                return
        raise AssertionError("never comes to rest")


EVENTS = st.sampled_from(
    ["wish_run", "wish_stop", "step", "die", "answer", "freeze", "lose_route", "wrong_route", "late"]
)


@given(story=st.lists(EVENTS, max_size=40))
def test_the_last_wish_always_wins_whatever_it_meets(story: list[str]) -> None:
    m = Model()
    for event in story:
        match event:
            case "wish_run" if m.desired is Desired.STOPPED:
                m.desired, m.generation = Desired.RUNNING, m.generation + 1
            case "wish_stop" if m.desired is Desired.RUNNING:
                m.desired, m.generation = Desired.STOPPED, m.generation + 1
            case "step":
                m.step()
            case "late":
                m.step(overdue=True)
            case "die":
                m.alive, m.answers = None, False
            case "answer" if m.alive is not None:
                m.answers = True
            case "freeze":
                m.answers = False
            case "lose_route":
                m.routed_to = None
            case "wrong_route":
                m.routed_to = -1
    wished, generation = m.desired, m.generation
    already_dead = wished is Desired.RUNNING and m.acted == generation and m.alive is None

    m.settle()
    if m.alive is not None:
        m.answers = True
    m.settle()

    if wished is Desired.STOPPED:
        assert m.alive is None
        assert m.routed_to is None
    elif already_dead:
        assert m.failed_generation == generation
    else:
        assert m.alive == generation
        assert m.routed_to == generation
    assert next_step(m.situation()) is Step.REST


@given(story=st.lists(EVENTS, max_size=40))
def test_each_wish_starts_at_most_one_process(story: list[str]) -> None:
    m = Model()
    wishes = 0
    for event in story:
        if event == "wish_run" and m.desired is Desired.STOPPED:
            m.desired, m.generation, wishes = Desired.RUNNING, m.generation + 1, wishes + 1
        elif event == "wish_stop" and m.desired is Desired.RUNNING:
            m.desired, m.generation = Desired.STOPPED, m.generation + 1
        elif event == "die":
            m.alive, m.answers = None, False
        else:
            m.settle()

    assert m.starts <= wishes
