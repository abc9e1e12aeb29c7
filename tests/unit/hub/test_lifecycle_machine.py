"""Random wishes, deaths and lost hubs against the pure lifecycle: whatever happened, it comes to rest where it should.

The world is a model of the two things outside (one process by name, one route) and of the row. Each step is taken as
`servers/steps.py` takes it, and may be cut off before or after what it does outside, as by SIGKILL.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from himalia_hub.servers.state import Desired, Phase, Seen, Situation, Step, next_step
from long import LONG

AT_REST = 20
"""More steps than any way to rest takes."""


@dataclass
class Process:
    """What runs under the server's name, for which wish, and whether it answers."""

    generation: int
    answers: bool = False


class Lifecycle(RuleBasedStateMachine):
    """One server, its row, its process and its route."""

    @initialize()
    def stopped(self) -> None:
        self.desired, self.phase = Desired.STOPPED, Phase.STOPPED
        self.generation = self.acted = 0
        self.process: Process | None = None
        self.route: int | None = None
        self.askable, self.late = True, False

    # ------------------------------------------------------------------ what people and accidents do

    @rule()
    def somebody_starts_it(self) -> None:
        if self.desired is Desired.STOPPED:
            self.desired, self.generation, self.late = Desired.RUNNING, self.generation + 1, False

    @rule()
    def somebody_stops_it(self) -> None:
        if self.desired is Desired.RUNNING:
            self.desired, self.generation = Desired.STOPPED, self.generation + 1

    @precondition(lambda self: self.process is not None)
    @rule()
    def it_answers(self) -> None:
        self.process.answers = True

    @precondition(lambda self: self.process is not None)
    @rule()
    def it_freezes(self) -> None:
        self.process.answers = False

    @rule()
    def it_dies(self) -> None:
        self.process = None

    @rule()
    def the_proxy_forgets(self) -> None:
        self.route = None

    @rule(answers=st.booleans())
    def the_backend_can_be_asked(self, answers: bool) -> None:
        self.askable = answers

    @rule()
    def time_passes(self) -> None:
        self.late = True

    # ------------------------------------------------------------------ what the hub does

    def look(self) -> Situation:
        seen = Seen.ABSENT
        if not self.askable:
            seen = Seen.UNKNOWN
        elif self.process is not None:
            if self.desired is Desired.STOPPED:
                seen = Seen.SILENT
            elif self.process.generation != self.generation:
                seen = Seen.STALE
            else:
                seen = Seen.ANSWERING if self.process.answers else Seen.SILENT
        return Situation(
            desired=self.desired,
            seen=seen,
            routed=self.route is not None and self.askable,
            fresh=self.desired is Desired.RUNNING and self.generation > self.acted,
            overdue=self.late and self.phase is Phase.STARTING,
            was_ready=self.phase is Phase.READY,
        )

    def act(self, step: Step, *, outside: bool = True, record: bool = True) -> None:
        """One step; cut off before what it does outside, or before that is written down."""
        match step:
            case Step.START:
                self.phase = Phase.STARTING
                if outside:
                    if self.process is None:  # else the spawner adopts what carries the name
                        assert self.generation > self.acted, "what had run and died was brought back silently"
                        self.process = Process(self.generation)
                    if record:
                        self.acted = self.generation
            case Step.PUBLISH if outside:
                assert self.process is not None
                self.route = self.process.generation
            case Step.UNPUBLISH if outside:
                self.route = None
            case Step.STOP | Step.STOP_STALE if outside:
                assert self.route is None, "a route led to what was being stopped"
                self.phase = Phase.STOPPING if step is Step.STOP else self.phase
                self.process = None
            case Step.TIME_OUT | Step.RECORD_EXIT if record:
                self.desired, self.phase = Desired.STOPPED, Phase.FAILED
            case Step.REST if record:
                if self.desired is Desired.RUNNING:
                    self.phase, self.acted = Phase.READY, self.generation
                elif self.phase is not Phase.FAILED:
                    self.phase = Phase.STOPPED
            case _:
                pass

    @rule(outside=st.booleans(), record=st.booleans())
    def a_hub_steps_and_may_be_killed(self, outside: bool, record: bool) -> None:
        self.act(next_step(self.look()), outside=outside, record=outside and record)

    @rule()
    def a_hub_works_until_it_rests(self) -> None:
        for _ in range(AT_REST):
            step = next_step(self.look())
            self.act(step)
            if step in (Step.REST, Step.WAIT):
                return
        raise AssertionError("it never rests")

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def nothing_is_decided_about_what_cannot_be_asked(self) -> None:
        if not self.askable:
            assert next_step(self.look()) is Step.WAIT

    @invariant()
    def when_all_is_well_again_it_comes_to_rest_as_wished(self) -> None:
        kept = self.__dict__ | {"process": self.process and Process(**vars(self.process))}
        self.askable, self.late = True, False
        for _ in range(AT_REST):
            step = next_step(self.look())
            if self.process is not None and step is Step.WAIT:
                self.process.answers = True
                continue
            before = (self.desired, self.phase, self.acted, self.route, self.process and vars(self.process))
            self.act(step)
            after = (self.desired, self.phase, self.acted, self.route, self.process and vars(self.process))
            if step is Step.REST and before == after:
                break
        else:
            raise AssertionError("it never rests")
        if self.desired is Desired.RUNNING:
            assert self.process is not None
            assert self.process.generation == self.generation
            assert self.route == self.generation
            assert self.phase is Phase.READY
        else:
            assert self.process is None
            assert self.route is None
            assert self.phase in (Phase.STOPPED, Phase.FAILED)
        self.__dict__.update(kept)


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(
    max_examples=20_000 if LONG else 1000, stateful_step_count=15, deadline=None
)
