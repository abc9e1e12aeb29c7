"""Starting a kernel's process. By itself, because the keeper does it too, and must stay small."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence


def spawn(argv: Sequence[str], cwd: str, env: Mapping[str, str], log: str) -> subprocess.Popen[bytes]:
    """Run `argv` as the leader of a new session, its output appended to `log`. OSError when it cannot be run."""
    with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            close_fds=True,
        )
