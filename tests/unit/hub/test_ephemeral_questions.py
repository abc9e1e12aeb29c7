"""One question to a repository for a crowd, and never an answer older than the click."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from himalia_hub import clock
from himalia_hub.ephemeral.git import NoSuchRef
from himalia_hub.ephemeral.questions import Questions
from himalia_hub.ephemeral.sources import Source

SOURCE = Source("git", "spec", "https://example.org/notes.git", "main", "notes", "stem")
A_MOMENT = timedelta(seconds=1)


class Asked:
    """A repository whose ref moves with each question."""

    def __init__(self) -> None:
        self.times = 0
        self.go_on = asyncio.Event()

    async def __call__(self, _: Source) -> str:
        self.times += 1
        number = self.times
        await self.go_on.wait()
        return f"commit {number}"


async def test_all_who_clicked_before_the_question_have_its_answer_whenever_they_come_for_it() -> None:
    asked = Asked()
    questions, clicked = Questions(asked), clock.now() - A_MOMENT

    crowd = [asyncio.create_task(questions.commit(SOURCE, clicked)) for _ in range(5)]
    asked.go_on.set()

    assert await asyncio.gather(*crowd) == ["commit 1"] * 5
    assert questions.answered(SOURCE, clicked)
    assert await questions.commit(SOURCE, clicked) == "commit 1"
    assert asked.times == 1


async def test_who_clicks_after_the_question_was_answered_has_an_answer_of_their_own() -> None:
    asked = Asked()
    asked.go_on.set()
    questions, clicked = Questions(asked), clock.now() - A_MOMENT
    await questions.commit(SOURCE, clicked)

    assert not questions.answered(SOURCE, clock.now() + A_MOMENT)
    assert await questions.commit(SOURCE, clock.now() + A_MOMENT) == "commit 2"


async def test_another_ref_is_another_question() -> None:
    asked = Asked()
    asked.go_on.set()
    questions, clicked = Questions(asked), clock.now() - A_MOMENT
    other = Source("git", "spec", SOURCE.url, "dev", "notes", "stem")

    assert await questions.commit(SOURCE, clicked) == "commit 1"
    assert await questions.commit(other, clicked) == "commit 2"


async def test_who_shares_a_question_shares_its_failure() -> None:
    async def fail(_: Source) -> str:
        raise NoSuchRef("The repository has no branch or tag 'main'.", remedy="Check the link.")

    questions, clicked = Questions(fail), clock.now() - A_MOMENT
    for _ in range(2):
        with pytest.raises(NoSuchRef):
            await questions.commit(SOURCE, clicked)


async def test_one_who_goes_away_does_not_end_the_question_of_the_others() -> None:
    asked = Asked()
    questions, clicked = Questions(asked), clock.now() - A_MOMENT
    first = asyncio.create_task(questions.commit(SOURCE, clicked))
    second = asyncio.create_task(questions.commit(SOURCE, clicked))
    while not asked.times:
        await asyncio.sleep(0)

    first.cancel()
    asked.go_on.set()

    assert await second == "commit 1"


async def test_dropped_questions_end_and_are_forgotten() -> None:
    asked = Asked()
    questions, clicked = Questions(asked), clock.now() - A_MOMENT
    waiting = asyncio.create_task(questions.commit(SOURCE, clicked))
    while not asked.times:
        await asyncio.sleep(0)

    results = await asyncio.gather(waiting, *questions.drop(), return_exceptions=True)

    assert all(isinstance(one, asyncio.CancelledError) for one in results)
    asked.go_on.set()
    assert await questions.commit(SOURCE, clicked) == "commit 2"
