"""What /proc tells of processes, and how to hold one without ever meaning another that reuses its number."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

_CAP_SYS_PTRACE = 19
_FAMILY = 64


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """One line of /proc/PID/stat, as far as it is of use here."""

    pid: int
    state: str
    session: int
    ticks: int
    """Start time in clock ticks since boot: with `pid` it names one process while the machine is up."""
    threads: int = 1
    parent: int = 0
    cpu_ticks: int = 0
    """Used by it, and by those of its children that it has waited for."""

    @property
    def running(self) -> bool:
        """False for a zombie: it holds nothing and answers nobody. One whose other threads live shows as Z, too."""
        return self.state not in "ZXx" or self.threads > 1


def parse_stat(text: str) -> ProcessStat:
    """Read a stat line; the command in brackets may hold blanks and brackets itself: the last one counts."""
    head, _, tail = text.rpartition(")")
    columns = tail.split()
    return ProcessStat(
        pid=int(head.split("(", 1)[0]),
        state=columns[0],
        parent=int(columns[1]),
        session=int(columns[3]),
        cpu_ticks=sum(map(int, columns[11:15])),
        threads=int(columns[17]),
        ticks=int(columns[19]),
    )


def stat(pid: int) -> ProcessStat | None:
    """The process numbered `pid`, or None if there is none."""
    try:
        # Not `open`, which takes half as long again as the rest, at each look at a server.
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return parse_stat(os.read(descriptor, 4096).decode(errors="replace"))
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return None


def running(pid: int, ticks: int) -> ProcessStat | None:
    """The process that has this number *and* this start time and is no zombie, or None."""
    found = stat(pid)
    return found if found is not None and found.ticks == ticks and found.running else None


def open_pidfd(pid: int, ticks: int) -> int | None:
    """A descriptor for exactly that process, or None if it is gone. The caller closes it."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Checked after the descriptor exists: from here on it can't come to mean a successor of that number.
    found = stat(pid)
    if found is None or found.ticks != ticks:
        os.close(descriptor)
        return None
    return descriptor


def send(pidfd: int, number: signal.Signals) -> None:
    """Signal the process behind `pidfd`; one that just ended is no error."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def pids() -> Iterator[int]:
    """Numbers of all processes there are just now."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def memory_of(pid: int) -> int:
    """Bytes that it holds, each page shared with others by its share (PSS); all of each where that may not be seen."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def uid_of(pid: int) -> int | None:
    """The real user id. From `status`: the owner of /proc/PID is root where no core may be dumped."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("Uid:"):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


def environ_of(pid: int) -> dict[str, str] | None:
    """Its environment at exec, or None if it is gone or may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            block = file.read()
    except OSError:
        return None
    entries = (entry.partition(b"=") for entry in block.split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in entries}


def may_read_all() -> bool:
    """Whether this process is shown the environments of other accounts' processes (CAP_SYS_PTRACE)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        effective = next((line.split()[1] for line in file if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _CAP_SYS_PTRACE & 1)


def command_of(pid: int) -> tuple[str, ...]:
    """Its argument vector, which anybody may read; empty if it is gone or a kernel thread."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            block = file.read()
    except OSError:
        return ()
    # A forked server's is padded with NULs to the length of its parent's.
    return tuple(os.fsdecode(word) for word in block.rstrip(b"\0").split(b"\0"))


def ticks_now() -> int:
    """The start time that a process started at this moment would have, less one for rounding."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")) - 1


def holds_lock(pid: int, device: int, inode: int) -> bool:
    """Whether it has that file open by a description that is locked; False also where this may not be seen.

    Merely having it open is not enough: that is what every hub does that asks whether it is locked.
    """
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            target = os.stat(f"/proc/{pid}/fd/{name}")
            if (target.st_dev, target.st_ino) != (device, inode):
                continue
            with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as file:
                if any(line.startswith("lock:") for line in file):
                    return True
        except OSError:
            continue
    return False


def holds_socket(pid: int, inode: int) -> bool | None:
    """Whether it, or a process that it made, has the socket of that inode; None where this may not be seen."""
    wanted, ahead, seen = f"socket:[{inode}]", [pid], set[int]()
    while ahead and len(seen) < _FAMILY:
        seen.add(pid := ahead.pop(0))
        try:
            # The last first: it was opened after the log and whatever else the process was given.
            for name in reversed(os.listdir(f"/proc/{pid}/fd")):
                with suppress(FileNotFoundError):  # closed meanwhile
                    if os.readlink(f"/proc/{pid}/fd/{name}") == wanted:
                        return True
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                    ahead += (int(word) for word in file.read().split())
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        except OSError:
            return None
    return False


def age_s(ticks: int) -> float:
    """Seconds since this start time."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


@functools.cache
def boot_id() -> str:
    """Names this run of the machine: a process recorded under another one is gone for certain."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def pidfd_works() -> bool:
    """Whether this system has what holding processes needs: Linux with pidfd and /proc."""
    try:
        os.close(os.pidfd_open(os.getpid()))
        return stat(os.getpid()) is not None and bool(boot_id())
    except (AttributeError, OSError):
        return False
