"""The base of every table of the configuration; features keep their own sections beside their code."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel, ValidationInfo, field_validator


class Section(BaseModel, extra="forbid", frozen=True):
    """Base of every table: a key that is not known is an error, and nothing changes after the start."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes `true` for 1: `port = true` would be port 1."""
        if isinstance(value, bool):
            kind = cls.model_fields[info.field_name or ""].annotation
            kinds = {kind, *typing.get_args(kind)}
            if bool not in kinds and not kinds.isdisjoint({int, float}):
                raise ValueError(f"{value!r} is no number")
        return value
