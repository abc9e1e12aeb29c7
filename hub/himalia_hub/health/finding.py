"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How it is. ADVICE: it works, and could be better or will not for long. PROBLEM: something does not work."""

    OK = "ok"
    ADVICE = "advice"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, in one sentence, and what to do about it where something is to be done."""

    about: str
    grade: Grade
    said: str
    remedy: str = ""


def ok(about: str, said: str) -> Finding:
    """As it should be."""
    return Finding(about, Grade.OK, said)


def advice(about: str, said: str, remedy: str) -> Finding:
    """Works, and could be better."""
    return Finding(about, Grade.ADVICE, said, remedy)


def problem(about: str, said: str, remedy: str) -> Finding:
    """Does not work."""
    return Finding(about, Grade.PROBLEM, said, remedy)
