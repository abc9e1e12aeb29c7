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

import psutil

from himalia_hub.services.child import CANNOT_RUN, PR_SET_PDEATHSIG

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
    """Until none is left: one that is killed may just have started another, which comes to this process then."""
    here = psutil.Process()
    while below := here.children(recursive=True):
        for one in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
