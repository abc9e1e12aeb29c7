from __future__ import annotations

import pytest

from himalia_hub import clock
from himalia_hub.bulk.models import BulkItem
from himalia_hub.bulk.outcome import State, outcome
from himalia_hub.servers.models import Server
from himalia_hub.servers.state import Desired, Phase


def item(**more: object) -> BulkItem:
    values = {
        "username": "ann",
        "server_name": "",
        "asked": clock.now(),
        "generation": 3,
        "problem": "",
    } | more
    return BulkItem(**values)


def server(desired: Desired, phase: Phase, *, generation: int = 3, acted: int = 3) -> Server:
    return Server(desired=desired, phase=phase, generation=generation, acted_generation=acted, failure=None)


RUN, STOP = Desired.RUNNING, Desired.STOPPED


@pytest.mark.parametrize(
    ("action", "row", "state"),
    [
        ("stop", server(STOP, Phase.READY), State.UNDERWAY),
        ("stop", server(STOP, Phase.STOPPED), State.DONE),
        ("stop", server(STOP, Phase.FAILED), State.DONE),
        ("stop", None, State.DONE),
        ("stop", server(RUN, Phase.READY, generation=4, acted=4), State.FAILED),
        ("remove", server(STOP, Phase.STOPPED), State.UNDERWAY),
        ("remove", None, State.DONE),
        ("start", server(RUN, Phase.STOPPED, acted=2), State.UNDERWAY),
        ("start", server(RUN, Phase.READY), State.DONE),
        ("start", server(STOP, Phase.FAILED), State.FAILED),
        ("start", server(STOP, Phase.STOPPED), State.FAILED),
        ("start", None, State.FAILED),
    ],
)
def test_each_state_of_a_row_is_an_outcome(action: str, row: Server | None, state: State) -> None:
    assert outcome(action, item(), row).state is state


def test_what_was_refused_stays_refused_and_what_was_not_asked_waits() -> None:
    refused, waiting = item(problem="the limit is 40", asked=None), item(asked=None)

    assert outcome("start", refused, None).said == "the limit is 40"
    assert outcome("start", waiting, server(RUN, Phase.READY)).state is State.WAITING
