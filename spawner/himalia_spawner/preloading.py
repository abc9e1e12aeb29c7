"""The code that the nest has loaded: loading it, knowing when it is of yesterday, finding a function in it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress

PREPARE, REHEARSE = "prepare", "rehearse"
"""Functions that a preloaded module may have: called in the nest before its first fork, and in a child forked ahead.
What they do leaves no thread and nothing open."""


class Unfit(Exception):
    """The nest can't be one; `str()` says why."""


def preload(names: list[str]) -> None:
    """Import what the servers need and run it once, for all. Unfit when a thread is left: forks lose threads."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a site's own module may do anything
            raise Unfit(f"{name!r} of spawner.process.preload can't be imported: {error!r}") from error
    if len(os.listdir("/proc/self/task")) > 1:
        raise Unfit("importing spawner.process.preload started a thread; such modules can't be preloaded")
    call_hooks(names, PREPARE)


def call_hooks(modules: Iterable[str], hook: str) -> None:
    """Call this function of each module that has it. One that fails only leaves its work to the servers."""
    for name in modules:
        with suppress(Exception):
            if (found := getattr(sys.modules[name], hook, None)) is not None:
                found()
    if len(os.listdir("/proc/self/task")) > 1:
        raise Unfit(f"{hook}() of a module in spawner.process.preload left a thread")


def code_of_now() -> dict[str, int]:
    """The files of all loaded modules with their times: a change means that the nest is out of date."""
    found = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path:
            with suppress(OSError):
                found[path] = os.stat(path).st_mtime_ns
    return found


def changed(code: dict[str, int]) -> bool:
    """Whether any of these files has another time now, or is gone."""
    for path, then in code.items():
        try:
            if os.stat(path).st_mtime_ns != then:
                return True
        except OSError:
            return True
    return False


def entry_of(name: str) -> Callable[[list[str]], int | None]:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    found: Callable[[list[str]], int | None] = getattr(importlib.import_module(module), function)
    return found
