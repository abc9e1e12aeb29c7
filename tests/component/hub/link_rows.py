"""Launches and environments as rows, with nobody at work on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from himalia_hub import clock
from himalia_hub.ephemeral import admission, sources, store
from himalia_hub.ephemeral.models import BuildLine, Environment, Launch, Stage
from himalia_hub.ephemeral.settings import EphemeralSection

KEY = "5e1f" * 16
"""Of an environment that is being built."""


async def launch(db: AsyncSession, repository: str, stage: Stage, **values: Any) -> Launch:
    """One that is at this stage, for `gh/<repository>`."""
    row = await admission.add(
        db, sources.read("gh", f"{repository}/HEAD", {}), opening="", visitor="net:198.51.100.7",
        section=EphemeralSection(), now=clock.now(),
    )  # fmt: skip
    row.stage = stage
    for name, value in values.items():
        setattr(row, name, value)
    await db.flush()
    return row


async def some(db: AsyncSession) -> list[Launch]:
    """A session, one who waits for a build, one in the queue; an environment that failed and two that are made."""
    now = clock.now()
    for key, files, values in (
        ("a" * 64, ["requirements.txt"], {"ready": now, "bytes": 312_000_000}),
        (KEY, ["environment.yml", "apt.txt"], {}),
        ("c" * 64, ["Dockerfile"], {"failure": {"message": "No <b>space</b>.", "remedy": "Make room."}}),
    ):
        db.add(Environment(key=key, files=files, created=now, last_used=now, **values))
    await db.flush()
    db.add_all([BuildLine(environment=KEY, text=f"Downloading <numpy> {part} %") for part in (10, 50)])
    return [
        await launch(
            db,
            "ann/notebooks",
            Stage.READY,
            seated=True,
            environment="a" * 64,
            guest="notebooks-x1",
            commit="1" * 40,
        ),
        await launch(db, "bob/course", Stage.BUILDING, seated=True, environment=KEY),
        await launch(db, "bob/course", Stage.WAITING, environment=KEY),
        await launch(db, "bob/course", Stage.WARM, visitor=store.POOL, environment="a" * 64),
    ]
