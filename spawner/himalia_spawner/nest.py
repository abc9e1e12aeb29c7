"""The nest: a small process that has the server's code loaded and forks a server in milliseconds.

`python -I -m himalia_spawner.nest --dir D --key K --preload M --uids A-B --ready N`. It listens on `D/K.sock` and
obeys only its own account. It never reads a plan: that holds a token, and a later child would inherit the memory.
It forks, and the child reads. It has no thread, event loop, zmq context or secret, and knows nothing of servers
but their numbers; how each ended it writes to `D/exits/PID-TICKS`, for whoever asks later.

It ends by itself when it has no child and no hub: closing the last connection is how a hub takes its leave.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NoReturn

from himalia_spawner import birth, procfs, shown
from himalia_spawner.birth import FAILED_STATUS, fault
from himalia_spawner.plan import Plan, Report, is_function, is_plan, send_report
from himalia_spawner.preloading import Unfit, changed, code_of_now, entry_of, preload
from himalia_spawner.spare import Spare, rehearse, wait_at

_BACKLOG = 512
_FIRST_HUB_MS = 60_000
_QUIET_MS = 150
_NO_FILES = (errno.EMFILE, errno.ENFILE)
_REMEDY = "stop servers that are not needed, or raise its limits"
WITHOUT_FILES = f"the warm parent of the servers has too many open files; {_REMEDY}"
_KEEP = 3  # the number a child's own connection gets; nothing above it is inherited


class Nest:
    """The loop: one `poll`, nothing that waits elsewhere."""

    forks_ahead: ClassVar = True

    def __init__(
        self, folder: Path, key: str, allowed: Callable[[int], bool], modules: Sequence[str] = ()
    ) -> None:
        self._modules = modules
        self._spare: Spare | None = None
        self._spare_is_due = True
        self.path = folder / f"{key}.sock"
        self._exits = folder / "exits"
        self._exits.mkdir(mode=0o700, exist_ok=True)
        self._allowed = allowed
        self._code = code_of_now()
        self._area = shown.Area.of_this_process()
        self._files = resource.getrlimit(resource.RLIMIT_NOFILE)
        # One descriptor per child; the children get back what was.
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._files[1], self._files[1]))
        self._listener: socket.socket | None = self._listen()
        self._peers: dict[int, socket.socket] = {}
        self._children: dict[int, tuple[int, int]] = {}
        self._met = False
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)

    def _listen(self) -> socket.socket:
        draft = self.path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(draft))
        draft.chmod(0o600)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        self._inode = draft.stat().st_ino
        draft.replace(self.path)  # whoever finds the path finds one that listens
        return listener

    def run(self) -> None:
        """Until there is neither hub nor child. A forked child never comes back from here."""
        while True:
            for descriptor, _ in self._poll.poll(self._patience_ms()) or [(-1, 0)]:
                if descriptor == -1:  # nothing has come meanwhile
                    if not (self._children or self._peers):  # and nobody needs it
                        self._leave()
                        return
                    self._lay_by()
                elif descriptor in self._children:
                    self._reap(descriptor)
                elif self._spare is not None and descriptor == self._spare.pidfd:
                    self._dismiss_spare()
                elif descriptor in self._peers:
                    self._hear(descriptor)
                elif self._listener is not None:
                    self._accept(self._listener)

    def _patience_ms(self) -> int | None:
        if not (self._children or self._peers):
            return 0 if self._met else _FIRST_HUB_MS
        # Made while nothing happens: its making would take the processor from a server that starts.
        due = self._spare_is_due and self.forks_ahead
        return _QUIET_MS if due and self._peers and self._listener else None

    def _leave(self) -> None:
        self._dismiss_spare()
        if self._listener is not None:
            with suppress(OSError):
                if os.stat(self.path).st_ino == self._inode:  # else a successor's by now
                    self.path.unlink()
            self._poll.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionError):
            peer = self._accepted(listener)
            _, uid, _ = _credentials(peer)
            if uid != os.geteuid():
                send_report(peer, Report(ok=False, error="this is another account's nest", refused=True))
                peer.close()
                return
            peer.setblocking(False)
            self._met = True
            self._peers[peer.fileno()] = peer
            self._poll.register(peer, select.POLLIN)

    def _accepted(self, listener: socket.socket) -> socket.socket:
        """The next connection. Without a descriptor for it, it is let in by the reserved one and told so: one that
        nobody takes would wake the loop for ever.
        """
        try:
            return listener.accept()[0]
        except OSError as error:
            if error.errno not in _NO_FILES:
                raise
        os.close(self._reserve)
        try:
            with listener.accept()[0] as peer:
                _refuse(peer, WITHOUT_FILES)
        finally:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        raise BlockingIOError

    def _hear(self, descriptor: int) -> None:
        peer = self._peers[descriptor]
        try:
            first = peer.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        if not first:
            self._drop(descriptor)
        elif is_plan(first):
            self._bear(descriptor, first)
        else:
            self._answer(peer, json.loads(peer.recv(4096)))

    def _answer(self, peer: socket.socket, asked: dict[str, str]) -> None:
        if asked["do"] == "retire":
            self._leave()
        for pidfd in list(self._children):
            self._reap(pidfd)  # what the hub saw end has been written down when it gets its answer
        told = {"children": len(self._children), "stale": asked["do"] == "hello" and changed(self._code)}
        with suppress(OSError):
            peer.send(json.dumps(told).encode())

    def _drop(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._peers.pop(descriptor).close()

    def _bear(self, descriptor: int, kind: bytes) -> None:
        """Have a child serve this request: the one forked ahead, where what it has rehearsed will be used."""
        peer = self._peers[descriptor]
        fault("nest.before_fork")
        born = (self._from_spare(peer) if is_function(kind) else None) or self._fork(peer)
        fault("nest.after_fork")
        self._drop(descriptor)  # it is the child's now
        if born is not None:
            self._hold(born)
        self._spare_is_due = self._spare is None

    def _hold(self, born: tuple[int, int, int]) -> None:
        pidfd, pid, ticks = born
        self._children[pidfd] = (pid, ticks)
        self._poll.register(pidfd, select.POLLIN)

    def _fork(self, peer: socket.socket) -> tuple[int, int, int] | None:
        """A child for this request. None when the machine has no more."""
        try:
            return self._forked(lambda: self._shed(peer))
        except OSError as error:
            _refuse(peer, why_not_made(error))
            return None

    def _forked(self, request: Callable[[], socket.socket | None]) -> tuple[int, int, int]:
        """A child that serves what `request` gives."""

        def fork() -> int:
            pid = os.fork()
            if pid == 0:
                self._be_child(request)
            return pid

        return self._made(fork)

    def _made(self, make: Callable[[], int]) -> tuple[int, int, int]:
        """The process that `make` gives the number of: its pidfd, number and start time."""
        held = os.dup(self._reserve)  # room to look at it, then to hold it: without that it must not be made
        try:
            pid = make()
        finally:
            os.close(held)
        found = procfs.stat(pid)
        return os.pidfd_open(pid), pid, found.ticks if found is not None else 0

    def _from_spare(self, peer: socket.socket) -> tuple[int, int, int] | None:
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        self._poll.unregister(spare.pidfd)
        with spare.door:
            if spare.take(peer):
                return spare.pidfd, spare.pid, spare.ticks
        self._bury(spare)
        return None

    def _lay_by(self) -> None:
        """Fork the next server ahead. Tried again after the next start, if it can't be made now."""
        self._spare_is_due = False
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            return
        with theirs:
            try:
                pidfd, pid, ticks = self._forked(lambda: self._wait_its_turn(theirs))
            except OSError:
                ours.close()
                return
        self._spare = Spare(pid, ticks, pidfd, ours)
        self._poll.register(pidfd, select.POLLIN)

    def _wait_its_turn(self, door: socket.socket) -> socket.socket | None:
        mine = self._shed(door)
        rehearse(self._modules)
        gc.collect()
        gc.freeze()
        return wait_at(mine)

    def _dismiss_spare(self) -> None:
        """It ends by itself, as its door closes; or has ended."""
        if self._spare is not None:
            self._poll.unregister(self._spare.pidfd)
            self._spare.door.close()
            self._bury(self._spare)
            self._spare = None

    @staticmethod
    def _bury(spare: Spare) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(spare.pidfd, signal.SIGKILL)
        os.close(spare.pidfd)
        os.waitid(os.P_PID, spare.pid, os.WEXITED)  # nobody else reaps it, so the number is still its own

    def _reap(self, pidfd: int) -> None:
        pid, ticks = self._children[pidfd]
        # First read and write, then free the entry: whoever sees the process gone finds how it ended.
        how = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if how is None:
            return
        by_signal = how.si_code != os.CLD_EXITED
        draft = self._exits / f"{pid}-{ticks}.new"
        with suppress(OSError):  # a full disk costs the words
            draft.write_text(json.dumps({"status": how.si_status, "by_signal": by_signal}))
            draft.replace(draft.with_suffix(""))
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        self._poll.unregister(pidfd)
        del self._children[pidfd]
        os.close(pidfd)

    def _be_child(self, request: Callable[[], socket.socket | None]) -> NoReturn:
        """In the child: keep nothing of the nest but its loaded code; serve the request that it gets, if any."""
        status = FAILED_STATUS
        try:
            birth.restore_signals()
            own = request()
            if own is None:
                os._exit(0)
            own.setblocking(True)
            plan, report = birth.be_born(own, allowed=self._allowed, as_root=self._take_name)
            if report.ok and not plan.entry:
                status = birth.execute(own, plan, report)
            elif report.ok:
                os.environ.update(plan.env)
                send_report(own, report)
                own.close()
                status = _serve(plan)
        except BaseException:  # it must never return into the nest's loop
            sys.excepthook(*sys.exc_info())
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _shed(self, peer: socket.socket) -> socket.socket:
        mine = peer.detach()
        others = [*self._peers.values(), *([self._listener] if self._listener else [])]
        for other in [*others, *([self._spare.door] if self._spare else [])]:
            other.detach()  # else its end would close a number that means something else by then
        os.dup2(mine, _KEEP, inheritable=False)
        os.closerange(_KEEP + 1, self._files[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, self._files)
        return socket.socket(fileno=_KEEP)

    def _take_name(self, plan: Plan) -> None:
        os.setsid()
        os.environ.clear()  # before its memory is written over
        self._area.show(plan.argv, {name: plan.env[name] for name in birth.SHOWN if name in plan.env})


def why_not_made(error: OSError) -> str:
    """What it means that there could be no child."""
    if error.errno in _NO_FILES:
        return WITHOUT_FILES
    return f"the machine could not make another process ({error.strerror}); {_REMEDY}"


def _refuse(peer: socket.socket, words: str) -> None:
    """Say why not. The plan is dropped unread but for its first byte: left in the queue, it would make the answer
    a reset at the other end.
    """
    peer.setblocking(False)
    with suppress(OSError):
        peer.recv(1)
    send_report(peer, Report(ok=False, error=words))


def _serve(plan: Plan) -> int:
    sys.argv = list(plan.argv)
    try:
        status = entry_of(plan.entry)(list(plan.argv[4:]))
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        status = 130
    atexit._run_exitfuncs()
    return status or 0


def _credentials(peer: socket.socket) -> tuple[int, int, int]:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    numbers = [int.from_bytes(raw[at : at + 4], sys.byteorder) for at in (0, 4, 8)]
    return numbers[0], numbers[1], numbers[2]


def _uids(text: str) -> Callable[[int], bool]:
    alone = {int(part) for part in text.split(",") if "-" not in part}
    pairs = [part.split("-") for part in text.split(",") if "-" in part]
    ranges = [range(int(low), int(high) + 1) for low, high in pairs if int(low) > 0]
    # Root is an account to fork for only where it is the hub's own, which is what the servers run as.
    return lambda uid: uid in alone or any(uid in each for each in ranges)


def main(kind: type[Nest] = Nest) -> int:
    """0 when it is not needed any more, 1 when it could not be a nest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder of its socket and of the exits")
    parser.add_argument("--key", required=True, help="name of its socket: a digest of version and settings")
    parser.add_argument(
        "--preload", action="append", default=[], help="module to import before the first fork"
    )
    parser.add_argument("--path", action="append", default=[], help="further folder of modules")
    parser.add_argument(
        "--uids", required=True, help="who may be forked for: ids and ranges A-B, separated by commas"
    )
    parser.add_argument(
        "--ready", type=int, required=True, help="descriptor to say on that it listens, or why not"
    )
    told = parser.parse_args()
    sys.path.extend(told.path)
    with open(told.ready, "wb", closefd=True) as ready:
        try:
            preload(told.preload)
            nest = kind(told.dir, told.key, _uids(told.uids), told.preload)
        except (Unfit, OSError) as error:
            ready.write(str(error).encode())
            return 1
        gc.collect()
        gc.freeze()  # a collection in a child must not touch, and so copy, what all share
        ready.write(b"ok")
    nest.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
