"""The box above the list: `state:running owner:ann idle:>1h` and plain words, read into terms. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from himalia_spawner.limits import cpu_count, memory_bytes

LONGEST = 255
STATES = {
    "running": "ready",
    "starting": "starting",
    "stopping": "stopping",
    "stopped": "stopped",
    "failed": "failed",
    "checking": "unknown",
}
"""What people write for a state, and what it is called in the code."""
KINDS = ("admin", "ephemeral", "suspended", "named")
AGES = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

_TERM = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_AGE = re.compile(r"([<>])(\d{1,6})([a-z]+)")


@dataclass(frozen=True, slots=True)
class Age:
    """More than, or less than, so long ago."""

    more: bool
    than: timedelta


@dataclass(frozen=True, slots=True)
class Amount:
    """More than, or less than, so many bytes or CPUs."""

    more: bool
    than: float


Value = str | tuple[str, ...] | Age | Amount


@dataclass(frozen=True, slots=True)
class Term:
    """One condition as it was `written`, at an offset of the text. `key` is empty for a plain word.

    `value` is what the key reads: a text, a tuple of states, an Age, or an Amount. `problem` says why it means nothing.
    """

    start: int
    written: str
    key: str
    value: Value
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """All of them hold at once. One that means nothing is never ignored: then nothing matches."""

    text: str
    terms: tuple[Term, ...]

    @property
    def problems(self) -> tuple[Term, ...]:
        """The terms that mean nothing."""
        return tuple(term for term in self.terms if term.problem)

    @property
    def parts(self) -> list[tuple[str, str]]:
        """The text in pieces with what is wrong with each, for showing it with the wrong ones underlined."""
        pieces, at = [], 0
        for term in self.problems:
            pieces += [(self.text[at : term.start], ""), (term.written, term.problem)]
            at = term.start + len(term.written)
        return [piece for piece in [*pieces, (self.text[at:], "")] if piece[0]]


def parse(text: str) -> Query:
    """Read what was typed. Terms are separated by spaces; a value with spaces stands in double quotes."""
    text = text[:LONGEST]
    return Query(text, tuple(_term(found.start(), found.group()) for found in _TERM.finditer(text)))


def _term(start: int, written: str) -> Term:
    key, colon, value = written.partition(":")
    value = value.replace('"', "")
    if not colon or key.startswith('"'):
        return Term(start, written, "", written.replace('"', "").lower())
    key = key.lower()
    if key not in KEYS:
        return Term(start, written, key, value, f"there is no “{key[:30]}:”; there are {_listed(KEYS)}")
    if not value:
        return Term(start, written, key, value, f"“{key}:” needs a value, such as {EXAMPLES[key]}")
    try:
        return Term(start, written, key, KEYS[key](value))
    except ValueError as why:
        return Term(start, written, key, value, str(why))


def _states(value: str) -> tuple[str, ...]:
    words = value.lower().split(",")
    for word in words:
        if word not in STATES:
            raise ValueError(f"“{word[:30]}” is no state; there are {_listed(STATES)}")
    return tuple(STATES[word] for word in words)


def _kind(value: str) -> str:
    if value.lower() not in KINDS:
        raise ValueError(f"nobody is “{value[:30]}”; there are {_listed(KINDS)}")
    return value.lower()


def _age(value: str) -> Age:
    found = _AGE.fullmatch(value.lower())
    if found is None or found[3] not in AGES:
        raise ValueError(f"“{value[:30]}” is no length of time; write >1h, <30m or >2d")
    return Age(found[1] == ">", timedelta(seconds=int(found[2]) * AGES[found[3]]))


def _memory(value: str) -> Amount:
    return _amount(value, memory_bytes, f"“{value[:30]}” is no amount of memory; write >2G or <500M")


def _cpus(value: str) -> Amount:
    def read(text: str) -> float:
        return cpu_count(text.removesuffix("%")) / 100 if text.endswith("%") else cpu_count(text)

    return _amount(value, read, f"“{value[:30]}” is no share of CPUs; write >0.5 or >50%")


def _amount(value: str, read: Callable[[str], float], problem: str) -> Amount:
    try:
        if value[:1] in ("<", ">"):
            return Amount(value[0] == ">", read(value[1:]))
    except ValueError:
        pass
    raise ValueError(problem)


def _listed(words: object) -> str:
    *first, last = [f"{word}" for word in words]  # type: ignore[attr-defined]
    return f"{', '.join(first)} and {last}" if first else last


KEYS: dict[str, Callable[[str], Value]] = {
    "state": _states,
    "owner": str.lower,
    "server": str,
    "group": str,
    "idle": _age,
    "up": _age,
    "mem": _memory,
    "cpu": _cpus,
    "is": _kind,
}
EXAMPLES = {
    "state": "state:running",
    "owner": "owner:ann",
    "server": "server:thesis",
    "group": "group:ml",
    "idle": "idle:>1h",
    "up": "up:>2d",
    "mem": "mem:>2G",
    "cpu": "cpu:>50%",
    "is": "is:admin",
}
