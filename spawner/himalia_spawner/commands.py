"""The nest of commands: has nothing loaded, and starts programs by vfork, without a copy of itself.

`python -I -m himalia_spawner.commands`, with the arguments of nest.py, which describes the rest. What a program needs
of its parent (folder, umask, limits) is taken by this process for a moment and inherited; so there is nothing to do
between the birth and the program, no memory to copy, and no interpreter to run. A plan that asks for more (another
account, a control group, other limits) is carried out by a forked child, as in the other nest.

It reads plans, which the other must not: no child of it ever runs anybody's code in its memory.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress

from himalia_spawner import birth
from himalia_spawner.birth import Stillborn, fault
from himalia_spawner.environ import LOCK_FD
from himalia_spawner.nest import WITHOUT_FILES, Nest, main, why_not_made
from himalia_spawner.plan import Plan, Report, is_plain, receive_plan, send_report

_LOCK = 3  # the number that a server's lock gets
_SIGNALS = (signal.SIGINT, *birth.HANDLED, *birth.IGNORED_BY_PYTHON)
_DIES_MS = 1000


class Commands(Nest):
    """As the other, but for plans that are `plain`."""

    forks_ahead = False

    def _bear(self, descriptor: int, kind: bytes) -> None:
        if not is_plain(kind):
            super()._bear(descriptor, kind)
            return
        peer = self._peers[descriptor]
        try:
            send_report(peer, self._bear_plain(*receive_plan(peer)))
        except Exception:  # one request must not end the parent of all the others
            sys.excepthook(*sys.exc_info())
        self._drop(descriptor)

    def _bear_plain(self, plan: Plan, descriptors: list[int]) -> Report:
        try:
            if len(descriptors) < 2:
                raise Stillborn(WITHOUT_FILES)
            if not self._allowed(plan.uid):
                raise Stillborn(f"user id {plan.uid} may not run servers", refused=True)
            birth.drop_rights(plan)
            fault("nest.before_fork")
            pidfd, pid, ticks = born = self._made(lambda: self._spawn(plan, *descriptors[:2]))
        except Stillborn as error:
            return error.report()
        except OSError as error:
            return Report(ok=False, error=why_not_made(error))
        finally:
            for each in descriptors:
                os.close(each)
        self._hold(born)
        fault("nest.after_fork")
        report = Report(ok=True, pid=pid, ticks=ticks, final=True)
        try:
            birth.write_down(plan, report)
        except Stillborn as error:  # nobody would find it again
            _end(pidfd)
            return error.report()
        return report

    def _spawn(self, plan: Plan, lock: int, log: int) -> int:
        """Make the process, with everything it inherits; this one is as before afterwards."""
        kept = _LOCK if lock != _LOCK else _LOCK + 1  # onto itself it would be closed by some systems
        streams = [(self._reserve, 0), (log, 1), (log, 2), (lock, kept)]
        mask, files = os.umask(plan.umask), resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._files)
            birth.limit(plan)
            birth.go_home(plan)
            plan.env[LOCK_FD] = str(kept)
            return _run(plan, [(os.POSIX_SPAWN_DUP2, *pair) for pair in streams])
        finally:
            os.chdir("/")
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
            os.umask(mask)


def _run(plan: Plan, actions: list[tuple[int, int, int]]) -> int:
    """The number of a process that runs the plan's command. OSError when there can't be another, else Stillborn."""
    command = plan.argv[0]
    trouble: OSError | None = None
    try:
        for path in _places(command, plan.env):
            try:
                return os.posix_spawn(
                    path,
                    plan.argv,
                    plan.env,
                    file_actions=actions,
                    setsid=True,
                    setsigmask=(),
                    setsigdef=_SIGNALS,
                )
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.ENOMEM):
                    raise
                # As execvp does: what may not be run in one folder says more than what is not there in the next.
                if trouble is None or trouble.errno in (errno.ENOENT, errno.ENOTDIR):
                    trouble = error
    except ValueError as error:
        raise Stillborn(f"the command {command!r} can't be run: {error}", refused=True) from None
    missing = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    raise birth.why_not_run(trouble or missing, command, plan.env.get("USER", ""))


def _places(command: str, env: Mapping[str, str]) -> list[str]:
    if os.path.dirname(command):
        return [command]
    return [os.path.join(folder, command) for folder in os.get_exec_path(env)]


def _end(pidfd: int) -> None:
    """Kill it, and see it dead: it holds the lock."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_DIES_MS)


if __name__ == "__main__":
    raise SystemExit(main(Commands))
