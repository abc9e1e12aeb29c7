from __future__ import annotations

import asyncio
import os
import threading
import time

import argon2
import pytest

from himalia_hub.auth import password
from himalia_hub.auth.base import WayDown
from himalia_hub.errors import BadRequest


async def test_only_the_right_password_fits() -> None:
    stored = await password.hash_off_loop("correct horse")

    assert (await password.verify(stored, "correct horse")) == password.Verdict(right=True)
    assert not (await password.verify(stored, "correct horse ")).right
    assert not (await password.verify(None, "correct horse")).right
    assert not (await password.verify("not a hash", "correct horse")).right


async def test_nobodys_password_is_the_dummys_and_still_signs_nobody_in() -> None:
    assert not (await password.verify(None, "nobody's password")).right


async def test_a_hash_with_older_parameters_is_made_anew() -> None:
    old = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("secret enough")

    verdict = await password.verify(old, "secret enough")

    assert verdict.right
    assert verdict.better_hash is not None
    assert (await password.verify(verdict.better_hash, "secret enough")) == password.Verdict(right=True)


async def test_an_unknown_account_costs_as_much_as_a_known_one() -> None:
    stored = await password.hash_off_loop("correct horse")
    await password.verify(None, "warm the dummy up")

    async def least(hashed: str | None) -> float:
        took = []
        for _ in range(5):
            began = time.process_time()
            await password.verify(hashed, "wrong")
            took.append(time.process_time() - began)
        return min(took)

    assert 0.4 < await least(None) / await least(stored) < 2.5


async def test_hashing_never_runs_on_the_loop_and_at_most_in_its_own_threads() -> None:
    await asyncio.gather(*(password.verify(None, "x") for _ in range(12)))

    argon = [thread for thread in threading.enumerate() if thread.name.startswith("argon2")]
    assert 1 <= len(argon) <= 4


async def test_the_event_loop_goes_before_those_threads() -> None:
    await password.verify(None, "x")

    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    argon = [thread for thread in threading.enumerate() if thread.name.startswith("argon2")]
    assert {os.getpriority(os.PRIO_PROCESS, each.native_id or 0) for each in argon} == {min(ours + 5, 19)}


async def test_who_comes_to_a_queue_that_is_full_is_told_at_once_and_those_in_it_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(password, "LONGEST_QUEUE", 3)

    told = await asyncio.gather(*(password.verify(None, "x") for _ in range(5)), return_exceptions=True)

    assert [isinstance(each, WayDown) for each in told] == [False, False, False, True, True]
    assert not (await password.verify(None, "x")).right, "and then there is room again"


@pytest.mark.parametrize("text", ["short", "x" * 1025])
def test_a_new_password_has_bounds(text: str) -> None:
    with pytest.raises(BadRequest):
        password.check_new(text, least=8)


async def test_an_endless_password_is_refused_without_hashing() -> None:
    assert not (await password.verify(await password.hash_off_loop("x" * 2000), "x" * 2000)).right
