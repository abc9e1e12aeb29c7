"""Quotas on the wire."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from himalia_hub.clock import iso
from himalia_hub.schemas import Body
from himalia_hub.usage.store import Standing


class QuotaBody(Body):
    """PUT …/quota: what is left out, or null, is as the configuration says; 0 is no limit. Memory in bytes."""

    servers: int | None = Field(None, ge=0)
    memory: int | None = Field(None, ge=0)
    cpus: float | None = Field(None, ge=0, allow_inf_nan=False)
    server_hours: float | None = Field(None, ge=0, allow_inf_nan=False)
    memory_hours: float | None = Field(None, ge=0, allow_inf_nan=False)


def standing_model(standing: Standing) -> dict[str, Any]:
    """`limits` (null: none), what is in `use`, and when hours begin anew (`resets_at`)."""
    return {
        "limits": standing.limits._asdict(),
        "use": standing.use._asdict(),
        "resets_at": iso(standing.resets),
    }
