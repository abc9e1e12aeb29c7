"""Outputs past what memory may hold: on disk, and as if they had stayed in memory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_singleuser.kernels.messages import make
from himalia_singleuser.recorder.journal import Journal, Run
from himalia_singleuser.recorder.outputs import Outputs
from himalia_singleuser.recorder.shelf import Disk

MOST = 10**6
Told = tuple[str, dict[str, Any]]


def displays(kind: str) -> st.SearchStrategy[Told]:
    def made(text: str, display_id: str) -> Told:
        return kind, {"data": {"text/plain": text}, "metadata": {}, "transient": {"display_id": display_id}}

    return st.builds(made, st.sampled_from("xyz\ud800"), st.sampled_from(["", "a", "b"]))


STREAMS = st.builds(
    lambda name, text: ("stream", {"name": name, "text": text}),
    st.sampled_from(["stdout", "stderr"]),
    st.text("ab\r\n\b\u20ac\ud800", min_size=1, max_size=12),
)
CLEARS = st.builds(lambda wait: ("clear_output", {"wait": wait}), st.booleans())
MESSAGES = st.lists(
    st.one_of(STREAMS, displays("display_data"), displays("update_display_data"), CLEARS), max_size=20
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def taken(messages: list[Told], outputs: Outputs) -> Outputs:
    for kind, content in messages:
        outputs.take(kind, content, len(json.dumps(content)))
    return outputs


@given(messages=MESSAGES, at=st.sets(st.integers(0, 20)))
def test_outputs_are_the_same_however_often_they_go_to_disk(
    folder: Path, messages: list[Told], at: set[int]
) -> None:
    stayed = taken(messages, Outputs(MOST))
    disk = Disk(lambda: folder, MOST)
    moved = Outputs(MOST, disk)
    for number, message in enumerate(messages):
        taken([message], moved)
        if number in at:
            moved.shelve()

    assert moved.list() == stayed.list()
    assert moved.displays() == stayed.displays()
    assert moved.size == stayed.size
    assert 0 <= moved.held <= moved.size
    again = taken(list(moved.messages()), Outputs(MOST))
    assert again.list() == taken(list(stayed.messages()), Outputs(MOST)).list()
    moved.close()
    assert disk.used == 0


@given(messages=MESSAGES, more=MESSAGES)
def test_the_next_server_goes_on_with_what_a_killed_one_put_on_disk(
    folder: Path, messages: list[Told], more: list[Told]
) -> None:
    first = taken(messages, Outputs(MOST, Disk(lambda: folder, MOST)))
    first.shelve()

    told = json.loads(json.dumps(first.dump()))
    second = Outputs.load(told)
    second.attach(Disk(lambda: folder, MOST))

    assert taken(more, second).list() == taken(messages + more, Outputs(MOST)).list()


def test_the_file_of_a_killed_server_that_is_gone_is_said() -> None:
    with tempfile.TemporaryDirectory() as place:
        disk = Disk(lambda: Path(place), MOST)
        first = taken([("stream", {"name": "stdout", "text": "much\n"})], Outputs(MOST, disk))
        first.shelve()
        told = first.dump()
    second = Outputs.load(told)
    second.attach(disk)

    assert "1 more outputs came than could be kept: the file that an earlier server" in str(second.list())


def test_what_was_asked_for_before_a_clear_is_still_read_after_it(folder: Path) -> None:
    outputs = taken(
        [("stream", {"name": "stdout", "text": "old\n"})], Outputs(MOST, Disk(lambda: folder, MOST))
    )
    outputs.shelve()

    told = outputs.messages()
    taken([("clear_output", {}), ("stream", {"name": "stdout", "text": "new\n"})], outputs)
    outputs.shelve()

    assert list(told) == [("stream", {"name": "stdout", "text": "old\n"})]
    assert outputs.list()[0]["text"] == "new\n"


def run_of(cell_id: str, disk: Disk | None) -> Run:
    run = Run("kernel", "request", "asker", "a.ipynb", cell_id, "", timed=False)
    run.outputs = Outputs(MOST * 100, disk)
    return run


def printed(journal: Journal, run: Run, times: int) -> None:
    for _ in range(times):
        if run.take(make("iopub", "stream", {"name": "stdout", "text": "x" * 99_999 + "\n"})):
            journal.grew(run)


def test_a_run_far_past_the_bound_is_whole_and_holds_little_memory(folder: Path) -> None:
    journal, disk = Journal(most=3 * MOST, most_of_one=MOST), Disk(lambda: folder, 100 * MOST)
    run = run_of("a", disk)
    journal.add(run)

    for _ in range(20):
        printed(journal, run, 10)
        assert journal.held < 2 * MOST

    assert len(run.recorded().outputs[0]["text"]) == 200 * 100_000
    journal.drop(run)
    assert disk.used == 0


def test_many_runs_of_middle_size_go_to_disk_before_any_is_forgotten(folder: Path) -> None:
    journal, disk = Journal(most=3 * MOST), Disk(lambda: folder, 100 * MOST)
    runs = [run_of(str(number), disk) for number in range(20)]
    for run in runs:
        journal.add(run)
        printed(journal, run, 5)
        run.is_open = False

    assert journal.of("a.ipynb") == runs
    assert journal.held <= 3 * MOST
    assert {len(run.recorded().outputs[0]["text"]) for run in runs} == {500_000}


@pytest.mark.parametrize("budget", [500_000, 0])
def test_a_full_disk_is_said_in_the_last_line_and_costs_nothing_that_was_kept(
    folder: Path, budget: int
) -> None:
    journal, disk = Journal(most=3 * MOST, most_of_one=MOST), Disk(lambda: folder, budget)
    run = run_of("a", disk)
    journal.add(run)
    printed(journal, run, 40)

    *kept, note = run.recorded().outputs
    assert 900_000 < sum(len(one["text"]) for one in kept) < 2 * MOST
    assert f"than could be kept: outputs hold {budget} bytes of the disk already" in note["text"]
    assert journal.held < 2 * MOST


def test_a_folder_that_nobody_can_write_to_is_a_full_disk(folder: Path) -> None:
    outputs = taken(
        [("stream", {"name": "stdout", "text": "a\n"})], Outputs(MOST, Disk(lambda: folder / "no", 9))
    )
    outputs.shelve()
    taken([("stream", {"name": "stdout", "text": "b\n"})], outputs)

    assert [one["text"].strip() for one in outputs.list()] == [
        "a",
        "[1 more outputs came than could be kept: No such file or directory]",
    ]


def test_nothing_is_left_on_disk_once_nobody_reads_it(folder: Path) -> None:
    before = set(os.listdir(folder))
    outputs = taken(
        [("stream", {"name": "stdout", "text": "a\n"})], Outputs(MOST, Disk(lambda: folder, MOST))
    )
    outputs.shelve()
    assert len(set(os.listdir(folder)) - before) == 1

    del outputs

    assert set(os.listdir(folder)) == before
