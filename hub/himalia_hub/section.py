"""The base of every table of the configuration; features keep their own sections beside their code."""

from __future__ import annotations

from pydantic import BaseModel


class Section(BaseModel, extra="forbid", frozen=True):
    """Base of every table: a key that is not known is an error, and nothing changes after the start."""
