"""The code that the nest has loaded: loading it, knowing when it is of yesterday, finding a function in it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress


class Unfit(Exception):
    """The nest can't be one; `str()` says why."""


def preload(names: list[str]) -> None:
    """Import what the servers need, once for all of them. Unfit when that starts a thread: forks lose threads."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a site's own module may do anything
            raise Unfit(f"{name!r} of spawner.process.preload can't be imported: {error!r}") from error
    if len(os.listdir("/proc/self/task")) > 1:
        raise Unfit("importing spawner.process.preload started a thread; such modules can't be preloaded")


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
