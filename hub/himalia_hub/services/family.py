"""A command with everything that it starts: `python -I -m himalia_hub.services.family PARENT COMMAND…`.

A program such as a builder of images starts others, which outlive it when it is killed, and no process group holds
those that leave it. This one stays above the command: orphans become its children (prctl(2), PR_SET_CHILD_SUBREAPER),
and it ends them all when the command ends, when it is told to (SIGTERM), and when the hub does, however that ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType
from typing import NoReturn

from himalia_hub.services.child import CANNOT_RUN, PR_SET_PDEATHSIG
from himalia_spawner import procfs

PR_SET_CHILD_SUBREAPER = 36


def whole(*command: str) -> list[str]:
    """The words by which this process starts a command of which nothing is left when it or this process ends."""
    return [sys.executable, "-I", "-m", "himalia_hub.services.family", str(os.getpid()), *command]


def main(parent: int, argv: list[str]) -> None:
    """Run the command to its end, and exit as it did."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, _leave)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the hub has ended")
    try:
        status = subprocess.Popen(argv).wait()
        sys.exit(status if status >= 0 else 128 - status)
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]!r}: {error.strerror}\n")
        sys.exit(CANNOT_RUN)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_all()


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _end_all() -> None:
    """Until none is left: the children of one that is killed come to this process, which is then the next above."""
    while below := _children():
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _children() -> list[int]:
    """Those that were not waited for yet, dead ones too. Nobody else waits for them: each number is still its own."""
    here = os.getpid()
    return [one.pid for one in map(procfs.stat, procfs.pids()) if one is not None and one.parent == here]


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
