"""The settings of quotas."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from himalia_hub.section import Section
from himalia_spawner.limits import memory_bytes


class QuotaLimits(Section):
    """How much somebody may use, wherever it is said. 0 is no limit; empty is as said before, at first no limit."""

    servers: int | None = Field(None, ge=0, description="servers that may run, or wait to start, at once")
    memory: str | float | None = Field(
        None, description="memory limits of these servers in sum, such as `8G`; all must have one then"
    )
    cpus: float | None = Field(
        None, ge=0, description="CPU limits of these servers in sum; all must have one then"
    )
    server_hours: float | None = Field(
        None, ge=0, description="hours that servers may run in one period, those of all servers in sum"
    )
    memory_hours: float | None = Field(
        None, ge=0, description="the same times the memory limit of each server in GiB"
    )

    @field_validator("memory")
    @classmethod
    def _amount(cls, value: str | float | None) -> str | float | None:
        if value is not None and str(value) != "0":
            memory_bytes(value)
        return value


class QuotasSection(QuotaLimits):
    """[quotas] — what each person may use; quotas that the API sets go before those written here."""

    period: Literal["day", "week", "month"] = Field(
        "month", description="what hours are counted in, by UTC; a week begins on Monday"
    )
    when_used_up: Literal["stop", "refuse_starts"] = Field(
        "stop",
        description="what used-up hours do: stop what runs, as people are told before, or only refuse starts",
    )
    users: dict[str, QuotaLimits] = Field(
        default_factory=dict, description="by user name: what this person may use instead"
    )
    groups: dict[str, QuotaLimits] = Field(
        default_factory=dict, description="by group name: what its members may use together, beside their own"
    )
