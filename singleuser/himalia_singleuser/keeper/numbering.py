"""Whether something is missing between two messages of a kernel: jupyter_client numbers what a process sends.

`msg_id` is `SESSION_PID_NUMBER` (jupyter_client/session.py, `Session.msg_id`; all Python kernels use it). Replies are
counted too, so a few numbers are always left out of what is published. ZMQ drops by the hundred: it takes a reader's
messages again only after half of the 1,000 that wait for it have gone. Of ids of another form nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from himalia_singleuser.keeper.journal import DELIMITER

MSG_ID = re.compile(rb'"msg_id":\s*"([^"]+)_(\d+)"')
FEW = 8
"""Numbers that replies and questions may take between two published messages."""
MOST_SENDERS = 64


class Numbering:
    """The last number of each process that publishes: the kernel, and what it forked."""

    def __init__(self) -> None:
        self._last: dict[bytes, int] = {}

    def skips(self, frames: Sequence[bytes]) -> bool:
        """Whether messages are missing between the one before and this one (frames as they were on the wire)."""
        try:
            found = MSG_ID.search(frames[frames.index(DELIMITER) + 2])
        except (ValueError, IndexError):
            return False
        if found is None:
            return False
        sender, number = found[1], int(found[2])
        last = self._last.get(sender)
        if last is None and len(self._last) >= MOST_SENDERS:
            del self._last[next(iter(self._last))]
        # Threads number and send on their own: one may overtake another.
        self._last[sender] = number if last is None else max(last, number)
        return last is not None and number > last + 1 + FEW
