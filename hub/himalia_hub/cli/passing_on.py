"""Becoming another of the project's programs. The hub imports neither: a new interpreter does."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def become(module: str, args: Sequence[str]) -> int:
    """Replace this process. `-I`: neither the present folder nor the user's own packages are looked at."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-I", "-m", module, *args])  # noqa: S606 -- becoming it is the point
