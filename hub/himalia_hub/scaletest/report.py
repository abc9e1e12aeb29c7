"""From measurements to the table that is printed. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from himalia_hub.languages import counted

STEPS = ("log in", "start", "open", "run a cell", "stop")


@dataclass(slots=True)
class Measured:
    """What came of all visits: seconds by step, megabytes of each server and kernel, and what went wrong."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    server_mb: list[float] = field(default_factory=list)
    kernel_mb: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was measured, never one in between. NaN of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def summary(measured: Measured) -> dict[str, Any]:
    """Everything as JSON would have it; None where nothing was measured."""

    def figures(values: Sequence[float]) -> dict[str, float | int | None]:
        wanted = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
        shown: Mapping[str, float | None] = {
            name: round(percentile(values, percent), 4) if values else None
            for name, percent in wanted.items()
        }
        return {"count": len(values), **shown}

    return {
        "seconds": {step: figures(values) for step, values in measured.seconds.items()},
        "memory_mb": {"server": figures(measured.server_mb), "kernel": figures(measured.kernel_mb)},
        "errors": measured.errors,
    }


def table(measured: Measured) -> str:
    """The same for a person. Seconds, then megabytes (PSS: shared pages counted in parts)."""
    columns = ("count", "p50", "p95", "p99", "max")
    lines = [f"{'seconds':<12}" + "".join(f"{name:>9}" for name in columns)]
    found = summary(measured)
    for step, figures in found["seconds"].items():
        lines.append(f"{step:<12}" + "".join(_cell(figures[name], 3) for name in columns))
    lines += ["", f"{'megabytes':<12}" + "".join(f"{name:>9}" for name in columns)]
    for name, figures in found["memory_mb"].items():
        lines.append(f"{name:<12}" + "".join(_cell(figures[column], 1) for column in columns))
    lines += ["", counted("%(num)s error", "%(num)s errors", len(measured.errors))]
    lines += [f"  {error}" for error in dict.fromkeys(measured.errors[:20])]
    return "\n".join(lines)


def _cell(value: float | None, digits: int) -> str:
    if value is None:
        return f"{'–':>9}"
    return f"{value:>9}" if isinstance(value, int) else f"{value:>9.{digits}f}"
