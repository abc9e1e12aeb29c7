"""What people write for limits, as numbers: pure."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_CPUS = re.compile(r"(\d+(?:\.\d+)?)\s*(m|cpus?)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def memory_bytes(text: str | float) -> int:
    """Bytes from `"2G"`, `"512 MiB"`, `"0.5g"` or a number. K, M, G, T, P are powers of 1024 (JupyterHub)."""
    found = _BYTES.fullmatch(str(text).strip())
    if found is None:
        raise ValueError(f"{text!r} is no amount of memory; write bytes or a number with K, M, G or T: '2G'")
    value = int(Decimal(found[1]) * 1024 ** _POWERS[found[2].lower()])
    if value < 1:
        raise ValueError(f"{text!r} is less than one byte; leave the limit out for no limit")
    return value


def cpu_count(text: str | float) -> float:
    """CPUs from `"0.5"`, `"2 cpus"`, `"500m"` (thousandths, as in Kubernetes) or a number."""
    found = _CPUS.fullmatch(str(text).strip())
    if found is None:
        raise ValueError(f"{text!r} is no number of CPUs; write '0.5', '2' or '500m'")
    value = float(found[1]) / (1000 if (found[2] or "").lower() == "m" else 1)
    if value <= 0 or not math.isfinite(value):
        raise ValueError(f"{text!r} CPUs is none at all; leave the limit out for no limit")
    return value


def guest_range(value: tuple[int, int]) -> tuple[int, int]:
    """The first and the last user id for throw-away sessions, as given; ValueError where accounts of people may lie."""
    low, high = value
    if not 1000 <= low <= high < 2**31:
        raise ValueError(f"{low} to {high} is no range of user ids; begin at 1000 or above")
    return value
