"""Lengths of faults: short in the suite, as long as they are feared by `make fault-long`."""

from __future__ import annotations

import os
import time

from support import eventually

LONG = os.environ.get("FAULT_LONG") == "1"


def seconds(short: float, long: float) -> float:
    """Of one fault."""
    return long if LONG else short


async def lasting(length_s: float) -> None:
    """A fault's length is no condition of ours, and nothing tells its end but the clock."""
    until = time.monotonic() + length_s
    await eventually(lambda: time.monotonic() >= until, within_s=length_s + 60)
