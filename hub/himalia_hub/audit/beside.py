"""Rows of what no request asked for: what the hub does by itself, and what is done on its machine.

No person's name has a slash, so these actors are nobody else.
"""

from __future__ import annotations

import os
import pwd
from typing import Any

from himalia_hub import clock
from himalia_hub.audit.models import AuditRow
from himalia_hub.audit.record import CHANGE

HUB = "himalia/hub"
OK = 200


def by_hub(action: str, *, target_user: str, target: str = "", why: str = "") -> AuditRow:
    """Something that the hub did, and why."""
    return _row(action, HUB, target_user, target, {"after": {"why": why}} if why else None)


def by_shell(
    action: str, *, target_user: str, target: str = "", change: dict[str, Any] | None = None
) -> AuditRow:
    """Something done by a command, by whom the system says they are; behind `sudo`, who they were before."""
    return _row(action, f"shell/{_account()}", target_user, target, change)


def _account() -> str:
    before = os.environ.get("SUDO_USER", "")
    if os.geteuid() == 0 and before:
        return before[:100]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # an account of a container that its image does not name
        return str(os.getuid())


def _row(action: str, actor: str, target_user: str, target: str, change: dict[str, Any] | None) -> AuditRow:
    return AuditRow(
        at=clock.now(),
        kind=CHANGE,
        action=action,
        actor=actor,
        on_behalf_of="",
        token_id=None,
        address="",
        target_user=target_user,
        target=target,
        status=OK,
        change=change,
        request_id="",
    )
