"""What a run puts below its cell, and who wins when a client saves: the rules that need no kernel."""

from __future__ import annotations

import copy
import json

from hypothesis import given
from hypothesis import strategies as st

from himalia_singleuser.kernels.messages import make
from himalia_singleuser.recorder.journal import Journal, Run
from himalia_singleuser.recorder.merge import ABSENT, Recorded, find, merge, put_in, state_of
from himalia_singleuser.recorder.outputs import Outputs, canonical

MOST = 100_000
texts = st.text(alphabet="ab\r\n\b", max_size=12)
streams = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), texts.filter(bool)), max_size=8)


def outputs_after(*messages: tuple[str, dict], most: int = MOST) -> list[dict]:
    outputs = Outputs(most)
    for message in messages:
        take(outputs, message)
    return outputs.list()


def take(outputs: Outputs, message: tuple[str, dict]) -> None:
    kind, content = message
    outputs.take(kind, content, len(json.dumps(content)))


def stream(text: str, name: str = "stdout") -> tuple[str, dict]:
    return "stream", {"name": name, "text": text}


def display(text: str, display_id: str = "", kind: str = "display_data") -> tuple[str, dict]:
    transient = {"display_id": display_id} if display_id else {}
    return kind, {"data": {"text/plain": text}, "metadata": {}, "transient": transient}


def screen(text: str) -> str:
    """A terminal of endless width, one letter at a time."""
    lines: list[list[str]] = [[]]
    at = 0
    for letter in text:
        if letter == "\n":
            lines.append([])
            at = 0
        elif letter == "\r":
            at = 0
        elif letter == "\b":
            at = max(0, at - 1)
        else:
            lines[-1][at : at + 1] = [letter]
            at += 1
    return "\n".join(map("".join, lines))


@given(pieces=st.lists(texts.filter(bool), min_size=1, max_size=8))
def test_a_stream_shows_what_a_terminal_would_however_it_is_cut(pieces):
    shown = outputs_after(*map(stream, pieces))

    assert shown == [{"output_type": "stream", "name": "stdout", "text": screen("".join(pieces))}]


@given(pieces=streams)
def test_streams_of_one_name_that_follow_each_other_are_one_output(pieces):
    shown = outputs_after(*(stream(text, name) for name, text in pieces))

    names = [name for name, _ in pieces]
    assert [one["name"] for one in shown] == [
        name for at, name in enumerate(names) if at == 0 or names[at - 1] != name
    ]


@given(pieces=streams, at=st.integers(0, 8), wait=st.booleans())
def test_after_clear_output_only_what_came_later_is_left(pieces, at, wait):
    messages = [stream(text, name) for name, text in pieces]
    before, after = messages[:at], messages[at:]

    shown = outputs_after(*before, ("clear_output", {"wait": wait}), *after)

    assert shown == (outputs_after(*after) if after or not wait else outputs_after(*before))


def test_an_update_changes_every_display_of_its_id_and_nothing_else():
    shown = outputs_after(
        display("1", "a"), display("2", "b"), display("3", "a"), display("new", "a", "update_display_data")
    )

    assert [one["data"]["text/plain"] for one in shown] == ["new", "2", "new"]
    assert not any("transient" in one for one in shown)


@given(texts=st.lists(st.text("ab\n", min_size=1, max_size=30), max_size=30), most=st.integers(1, 200))
def test_more_than_the_bound_is_left_out_and_the_last_line_says_so(texts, most):
    outputs = Outputs(most)
    for text in texts:
        take(outputs, stream(text))
        take(outputs, display(text))

    assert outputs.size <= most
    assert bool(outputs.left_out) == ("more outputs came" in json.dumps(outputs.list()))


@given(pieces=streams, shown=st.booleans(), wait=st.booleans(), at=st.integers(0, 9))
def test_who_gets_the_outputs_again_as_messages_and_then_the_rest_has_all_of_them(pieces, shown, wait, at):
    messages = [stream(text, name) for name, text in pieces]
    messages.insert(at // 2, display("0", "a"))
    messages += [display("1", "a", "update_display_data")] if shown else []
    messages.insert(at, ("clear_output", {"wait": wait}))
    first = Outputs(MOST)
    for message in messages[: at + 1]:
        take(first, message)

    assert outputs_after(*first.messages(), *messages[at + 1 :]) == outputs_after(*messages)


def test_a_progress_bar_never_reaches_the_bound():
    shown = outputs_after(*(stream(f"\r{percent:3}%") for percent in range(101)), most=50)

    assert shown == [{"output_type": "stream", "name": "stdout", "text": "100%"}]


@given(
    kind=st.sampled_from(["stream", "display_data", "execute_result", "error", "update_display_data"]),
    content=st.dictionaries(
        st.sampled_from(["name", "text", "data", "metadata", "transient", "traceback"]),
        st.sampled_from([None, 1, "a", [1], {"display_id": "a"}, {"display_id": 1}, {"text/plain": ["a"]}]),
    ),
)
def test_no_content_breaks_the_recording(kind, content):
    assert json.dumps(outputs_after((kind, content), ("clear_output", content)))


@given(pieces=streams)
def test_outputs_count_as_the_same_however_a_client_writes_them(pieces):
    shown = outputs_after(*(stream(text, name) for name, text in pieces))
    cut = [{**one, "text": one["text"].splitlines(keepends=True)} for one in shown]

    assert canonical(cut) == canonical(shown) == shown


def notebook_of(cells: dict[str, list[dict]], minor: int = 5) -> dict:
    return {
        "nbformat": 4,
        "nbformat_minor": minor,
        "metadata": {},
        "cells": [
            {
                "id": cell_id,
                "cell_type": "code",
                "source": "old",
                "metadata": {},
                "outputs": outputs,
                "execution_count": None,
            }
            for cell_id, outputs in cells.items()
        ],
    }


def out(text: str) -> list[dict]:
    return [{"output_type": "stream", "name": "stdout", "text": text}] if text else []


IDS = ("a", "b", "c")
versions = st.dictionaries(st.sampled_from(IDS), st.sampled_from(["", "x", "y"]).map(out))


@given(base=versions, client=versions, recorded=versions)
def test_a_cell_saved_as_it_was_given_takes_the_run_and_any_other_stays_the_clients(base, client, recorded):
    before, saved = notebook_of(base), notebook_of(client)
    given_states = {cell_id: {state_of(find(before, cell_id))} for cell_id in IDS}
    runs = [Recorded(cell_id, "code", outputs, 7, {}) for cell_id, outputs in recorded.items()]

    settled = merge(saved, runs, given_states)

    for cell_id in IDS:
        cell = find(saved, cell_id)
        if cell_id in recorded and client.get(cell_id) == base.get(cell_id):
            assert cell is not None
            assert (cell["outputs"], cell["execution_count"]) == (recorded[cell_id], 7)
            assert cell_id not in settled
        else:
            assert (cell and cell["outputs"]) == client.get(cell_id)
            assert (cell_id in settled) == (cell_id in recorded)


def test_a_cell_that_was_never_saved_comes_last_with_the_code_that_ran():
    notebook = notebook_of({"a": []})

    put_in(notebook, [Recorded("new", "print(1)", out("1\n"), 1, {})])

    assert [cell["id"] for cell in notebook["cells"]] == ["a", "new"]
    assert notebook["cells"][1]["source"] == "print(1)"
    assert state_of(find(notebook_of({}), "new")) == ABSENT


def test_the_source_is_the_one_that_ran_until_a_client_saves():
    notebook = notebook_of({"a": [], "b": []})

    put_in(notebook, [Recorded("a", "ran", [], 1, {}), Recorded("b", "ran", [], 1, {}, is_saved=True)])

    assert [cell["source"] for cell in notebook["cells"]] == ["ran", "old"]


def test_notebooks_without_cell_ids_are_left_as_they_are():
    notebook = notebook_of({"a": out("x")}, minor=4)
    before = copy.deepcopy(notebook)

    put_in(notebook, [Recorded("a", "ran", out("y"), 1, {})])

    assert notebook == before


def run_of(cell_id: str, **more) -> Run:
    return Run("kernel", "request", "asker", "a.ipynb", cell_id, "code", timed=False, **more)


def test_all_runs_together_stay_within_the_bound():
    journal = Journal(most=3_000_000)
    for number in range(10):
        run = run_of(str(number))
        journal.add(run)
        for _ in range(100):
            part = make("iopub", "stream", {"name": "stdout", "text": "x" * 10_000 + "\n"})
            if run.take(part):
                journal.grew(run)
        run.is_open = False
        journal.shrink()

    kept = journal.of("a.ipynb")
    assert [run.cell_id for run in kept] == ["8", "9"]
    assert sum(run.size for run in kept) <= 3_000_000


def test_runs_go_with_a_renamed_folder():
    journal = Journal()
    run = run_of("a")
    run.path = "old/deep/a.ipynb"
    journal.add(run)

    journal.move("old", "new")

    assert journal.of("new/deep/a.ipynb") == [run]
    assert journal.of("old/deep/a.ipynb") == []


def test_times_are_kept_only_when_the_front_end_asks_for_them():
    timed, untimed = Run("k", "r", "s", "a.ipynb", "a", "", timed=True), run_of("b")
    status = make("iopub", "status", {"execution_state": "busy"})
    for run in (timed, untimed):
        run.take(status)

    assert timed.recorded().execution == {"iopub.status.busy": status.header["date"]}
    assert untimed.recorded().execution == {}
