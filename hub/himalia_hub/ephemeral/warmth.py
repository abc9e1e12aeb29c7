"""How many sessions may be warm: by the configuration, or as administrators said while the hub runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub.ephemeral.models import WarmLimit
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_hub.errors import BadRequest

MOST = 1000
"""Nobody means more; a slip of the finger may."""
ALL = ("", "")
"""In place of a link, what holds for all of them together."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """At least and at most so many warm sessions of one link. `most` None: as many as were opened lately."""

    least: int
    most: int | None
    author: str = ""
    """Which administrator said so; empty: the configuration."""


@dataclass(frozen=True, slots=True)
class Warmth:
    """What is wanted: `total` sessions at once, and of each link what `of` says."""

    section: EphemeralSection
    said: Mapping[tuple[str, str], Bounds] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Warm sessions at once."""
        whole = self.said.get(ALL)
        return self.section.pool_max if whole is None or whole.most is None else whole.most

    @property
    def by(self) -> str:
        """Who set the total; empty: the configuration."""
        return self.said[ALL].author if ALL in self.said else ""

    def of(self, provider: str, spec: str) -> Bounds:
        """For one link: what was said of it, else what the configuration says of its repository, else of all."""
        if (provider, spec) in self.said:
            return self.said[provider, spec]
        rule = self.section.rule(provider, spec)
        return Bounds(self.section.pool_min if rule.pool_min is None else rule.pool_min, rule.pool_max)


async def read(db: AsyncSession, section: EphemeralSection) -> Warmth:
    """What holds now."""
    rows = await db.scalars(sa.select(WarmLimit))
    said = {(row.provider, row.spec): Bounds(row.least or 0, row.most, row.author) for row in rows}
    return Warmth(section, said)


async def say(
    db: AsyncSession,
    link: tuple[str, str],
    least: int | None,
    most: int | None,
    *,
    author: str,
    now: datetime,
) -> None:
    """Want so many of this link (or of ALL: then `most` alone counts) from now on. Both None: as configured.

    BadRequest for numbers that are out of range, or do not go together.
    """
    for name, number in (("least", least), ("most", most)):
        if number is not None and not 0 <= number <= MOST:
            raise BadRequest(f"{name} is {number}; it must be from 0 to {MOST}")
    if least is not None and most is not None and least > most:
        raise BadRequest(f"at least {least} and at most {most} do not go together")
    await db.execute(sa.delete(WarmLimit).where(WarmLimit.link == _name(link)))
    if least is None and most is None:
        return
    provider, spec = link
    db.add(
        WarmLimit(
            link=_name(link), provider=provider, spec=spec, least=least, most=most, author=author, created=now
        )
    )


def _name(link: tuple[str, str]) -> str:
    """What is unique in the table; a spec may be longer than what databases index."""
    return hashlib.sha256("\0".join(link).encode()).hexdigest()
