"""From a newborn process to a server: write down its number, take its place, drop rights, then serve.

Runs in a process that the nest has forked, or in a fresh interpreter (`python -I -m himalia_spawner.birth N`,
N being the socket with the plan) that then execs the server's command. Each step is checked; the first that
fails is reported in words and ends the process, so that no server ever runs with more rights or fewer limits
than it was given. Only the standard library is imported.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from himalia_spawner import procfs
from himalia_spawner.environ import COOKIE, LISTEN_FD, LOCK_FD, SERVICE_URL
from himalia_spawner.plan import Plan, Report, receive_plan, send_report
from himalia_spawner.records import Folder, completed

FAILED_STATUS = 120
"""Exit status of a newborn that could not become a server."""

SHOWN = (COOKIE, SERVICE_URL, "HOME", "USER")
"""What of its environment a process shows in /proc before its command is run: no secret among them."""

HANDLED = (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""What an interpreter ignores for itself, and a program that it executes would go on to ignore."""

_armed = os.environ.get("HIMALIA_FAULT", "")


def fault(point: str) -> None:
    """Die here if a test asked for it: `HIMALIA_FAULT=point:exit137`."""
    if _armed and _armed.partition(":")[0] == point:
        os.kill(os.getpid(), signal.SIGKILL)


def _nothing(_plan: Plan) -> None:
    """Change nothing else."""


class Stillborn(Exception):
    """A step failed; `str()` is a sentence for a person. `refused` means: trying again will not help."""

    def __init__(self, words: str, *, refused: bool = False) -> None:
        super().__init__(words)
        self.refused = refused

    def report(self) -> Report:
        """What is told of it."""
        return Report(ok=False, error=str(self), refused=self.refused)


def be_born(
    source: socket.socket, *, allowed: Callable[[int], bool], as_root: Callable[[Plan], None] = _nothing
) -> tuple[Plan, Report]:
    """Receive the plan and carry it out up to the moment of serving. The report is yet to be sent where it is `ok`.

    `allowed` judges the user id; `as_root` is called first of all that changes this process.
    """
    fault("birth.before_plan")
    plan, descriptors = receive_plan(source)
    fault("birth.after_plan")
    try:
        if not allowed(plan.uid):
            raise Stillborn(f"user id {plan.uid} may not run servers", refused=True)
        as_root(plan)
        # From here on a successor of the hub finds this process by its number.
        found = procfs.stat(os.getpid())
        report = Report(ok=True, pid=os.getpid(), ticks=found.ticks if found else 0)
        write_down(plan, report)
        fault("birth.after_record")
        _join_cgroups(plan)
        limit(plan)
        os.umask(plan.umask)
        _take_streams(descriptors[1])
        drop_rights(plan)
        go_home(plan)
        fault("birth.after_drop")
    except Stillborn as error:
        send_report(source, failed := error.report())
        return plan, failed
    plan.env[LOCK_FD] = str(descriptors[0])
    if len(descriptors) > 2:
        plan.env[LISTEN_FD] = str(descriptors[2])
    return plan, report


def write_down(plan: Plan, report: Report) -> None:
    """Complete the record by the process that this report names."""
    try:
        Folder(Path(plan.folder)).write_text(completed(plan.record, report.pid, report.ticks))
    except OSError as error:
        raise Stillborn(f"the server could not be written down: {error.strerror}") from None


def _join_cgroups(plan: Plan) -> None:
    for path in plan.cgroups:
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
        except OSError as error:
            raise Stillborn(
                f"the control group {os.path.dirname(path)!r} could not be entered ({error.strerror}); "
                "its limits would not hold"
            ) from None


def limit(plan: Plan) -> None:
    """Take the limits of the plan."""
    for name, wanted in plan.rlimits.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}")
        _, hard = resource.getrlimit(number)
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            # Of core dumps even the hard limit: a core holds the token, and lands in a folder of anybody's.
            resource.setrlimit(number, (soft, soft if name == "core" else hard))
        except (OSError, ValueError) as error:
            raise Stillborn(f"the limit {name} could not be set to {wanted}: {error}") from None


def _take_streams(log: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
    finally:
        for descriptor in {nothing, log} - {0, 1, 2}:
            os.close(descriptor)


def drop_rights(plan: Plan) -> None:
    """Change to the account of the plan, or see that it is this one already."""
    if plan.groups is None:
        if os.geteuid() != plan.uid:
            raise Stillborn(f"the hub's account is {os.geteuid()}, not {plan.uid}", refused=True)
        return
    try:
        os.setgroups(plan.groups)
        os.setresgid(plan.gid, plan.gid, plan.gid)
        os.setresuid(plan.uid, plan.uid, plan.uid)
    except OSError as error:
        raise Stillborn(
            f"the account could not be changed to user id {plan.uid} ({error.strerror}); "
            "the hub must run as root, with the capabilities SETUID and SETGID",
            refused=True,
        ) from None
    # A failed change that reports success would leave root to the user: look.
    if os.getresuid() != (plan.uid,) * 3 or os.getresgid() != (plan.gid,) * 3:
        raise Stillborn(f"the account is not {plan.uid}:{plan.gid} after the change", refused=True)


def go_home(plan: Plan) -> None:
    """Make the home the working directory."""
    try:
        os.chdir(plan.home)
    except OSError as error:
        raise Stillborn(
            f"the home {plan.home!r} can't be entered as {plan.env.get('USER', plan.uid)!r}: {error.strerror}; "
            "check that it exists and belongs to its user",
            refused=True,
        ) from None


def restore_signals() -> None:
    """Every signal as a fresh interpreter has it."""
    for number in HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def why_not_run(error: OSError, command: str, user: str) -> Stillborn:
    """What a failed exec means, in words and with its class."""
    match error.errno:
        case errno.ENOENT:
            return Stillborn(
                f"the command {command!r} is not found; install it or give its whole path", refused=True
            )
        case errno.EACCES | errno.EPERM:
            return Stillborn(
                f"the command {command!r} may not be run as {user!r} ({error.strerror}); "
                "put it where every user may read and execute it",
                refused=True,
            )
        case errno.ENOMEM | errno.EAGAIN:
            return Stillborn(f"the command {command!r} could not be run for want of memory")
        case _:
            return Stillborn(f"the command {command!r} can't be run: {error.strerror}", refused=True)


def execute(source: socket.socket, plan: Plan, report: Report) -> int:
    """Become the command of the plan, that has been carried out; an exit status where that cannot be."""
    for number in IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    for name in (LOCK_FD, LISTEN_FD):
        if name in plan.env:
            os.set_inheritable(int(plan.env[name]), True)
    command = plan.argv[0]
    send_report(source, report)
    try:
        os.execvpe(command, plan.argv, plan.env)  # noqa: S606 -- no shell is wanted
    except OSError as error:
        trouble = why_not_run(error, command, plan.env.get("USER", ""))
    except ValueError as error:
        trouble = Stillborn(f"the command {command!r} can't be run: {error}", refused=True)
    send_report(source, trouble.report())
    return FAILED_STATUS


def main() -> int:
    """A fresh interpreter that becomes the command of its plan. The hub alone can have given it one."""
    source = socket.socket(fileno=int(sys.argv[1]))
    source.set_inheritable(False)
    plan, report = be_born(source, allowed=lambda _uid: True)
    if not report.ok:
        return FAILED_STATUS
    restore_signals()
    return execute(source, plan, report)


if __name__ == "__main__":
    raise SystemExit(main())
