"""What becomes a managed service: `python -I -m himalia_hub.services.child PARENT USER COMMAND…`, for a moment.

Between fork and exec of the hub itself no Python may run safely; this small program drops rights, ties its life to the
hub's and becomes the command. A hub that is killed thus leaves no second culler beside its successor's, and no
installer that goes on writing where the successor begins anew.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_RUN = 127


def tied(*command: str, user: str = "") -> list[str]:
    """The words by which this process starts a command that ends when it does; `user` is whom it runs as."""
    return [sys.executable, "-I", "-m", "himalia_hub.services.child", str(os.getpid()), user, *command]


def main(parent: int, user: str, argv: list[str]) -> None:
    """Become the command; does not return. SystemExit says what is wrong."""
    if user:
        try:
            account = pwd.getpwnam(user)
            os.initgroups(user, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        except (KeyError, PermissionError) as error:
            sys.exit(f"cannot become the system user {user!r}: {error}")
        os.environ.update(HOME=account.pw_dir, USER=user, LOGNAME=user)
    # After the change of rights, which would clear it (prctl(2)).
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the hub has ended")
    try:
        os.execvp(argv[0], argv)  # noqa: S606 -- a shell is what must not come between
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]!r}: {error.strerror}\n")
        sys.exit(CANNOT_RUN)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
