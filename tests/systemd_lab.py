"""A machine of the tests' own that boots with systemd: the units of deploy/, installed as docs/howto says.

It sees this machine's files through an overlay that keeps what it writes to itself, and has its own processes, mounts,
network, host name and control groups. Its first process takes everything with it when it is killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NUMBERS = range(230, 240)
"""Third bytes of 172.31.0.0/16 from which a machine takes one."""
PEOPLE = ("ada",)
UP_S = 300.0
PACKAGES = ("hub", "proxy", "spawner", "singleuser", "migrations")
BEGIN = """
set -e
top=$1 units=$2 people=$3
mount --make-rprivate /
mount -t tmpfs -o size=3G,mode=755 himalia-systemd "$top"
cd "$top" && mkdir up work root
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/up,workdir=$top/work" root
cd root
tar -x --keep-directory-symlink --anchored --exclude='etc/*' --exclude='bin/*' --exclude='usr/bin/*' --exclude='lib*/*' -f -
# Its own library before one that this machine has of another patch: a home, where it may lie, is hidden from units.
for library in usr/lib/libpython*; do [ ! -e "$library" ] || cp "$library" usr/local/lib; done
ldconfig -r .
# Nothing of what this machine would start at its boot: only these units, and what they say they need.
: > etc/fstab
mount -t tmpfs units etc/systemd/system
cp "$units"/* etc/systemd/system
printf '[Unit]\\nRequires=basic.target\\nAfter=basic.target\\n' > etc/systemd/system/himalia-test.target
for name in $people; do useradd --root "$PWD" --create-home "$name"; done
mount -t proc proc proc
mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys && mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 run run && mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=755 dev dev && mkdir dev/pts dev/shm
for node in null zero full random urandom tty; do cp -a "/dev/$node" dev/; done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts && ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ip link set lo up && hostname himalia-test
pivot_root . mnt
exec chroot . sh -c 'umount -l /mnt; exec env -i container=himalia-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
  /lib/systemd/systemd --unit=himalia-test.target --log-target=journal'
"""


class Machine:
    """It runs. `address` is where this machine reaches it."""

    def __init__(self, folder: Path, group: Path) -> None:
        self._folder, self._group = folder, group
        self.link, number = _take_number()
        self.address, self._gateway = f"172.31.{number}.2", f"172.31.{number}.1"
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0

    def boot(self) -> None:
        """Start it, and wait until systemd answers."""
        (self._folder / "top").mkdir()
        with (self._folder / "boot.log").open("wb") as log, _files() as files:
            self._process = subprocess.Popen(
                [
                    "sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(self._group),
                    "unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "--kill-child",
                    "sh", "-c", BEGIN, "sh", str(self._folder / "top"), str(ROOT / "deploy/systemd"), " ".join(PEOPLE),
                ],
                stdin=files.stdout, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            deadline, pause = time.monotonic() + UP_S, threading.Event()
            while not self._answers():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    words = (self._folder / "boot.log").read_text(errors="replace")[-3000:]
                    pytest.fail(f"systemd did not come up ({self._process.poll()}):\n{words}", pytrace=False)
                pause.wait(0.1)
        _ip("link", "set", self.link, "netns", str(self._first), "name", "eth0")
        for words in (f"address add {self.address}/24 dev eth0", "link set eth0 up"):
            self.run("ip", *words.split())

    def _answers(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with suppress(OSError, IndexError):
            self._first = int(children.read_text().split()[0])
            if Path(f"/proc/{self._first}/comm").read_text().strip() == "systemd":
                return self._enter("systemctl", "is-active", "basic.target").returncode == 0
        return False

    def _enter(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", "-t", str(self._first), "-a", "--root", "--wd", *words]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        return subprocess.run(
            inside, input=stdin, capture_output=True, text=True, timeout=120, check=False, env=env
        )

    def run(self, *words: str, stdin: str = "") -> str:
        """A command in there, as root, which must succeed; its output."""
        done = self._enter(*words, stdin=stdin)
        if done.returncode != 0:
            journal = self._enter("journalctl", "--no-pager", "-n", "60", "-o", "cat").stdout
            raise AssertionError(f"{' '.join(words)}: {done.stdout}{done.stderr}\n{journal}")
        return done.stdout.strip()

    def processes(self, word: str) -> list[str]:
        """Accounts and command lines in there that hold a word."""
        return [line for line in self.run("ps", "-eo", "user,args").splitlines() if word in line]

    def end(self) -> None:
        """As by a power cut; nothing of it is left on this machine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        subprocess.run(["ip", "link", "del", f"{self.link}h"], stderr=subprocess.DEVNULL, check=False)
        _remove_group(self._group)


@contextmanager
def _files() -> Iterator[subprocess.Popen[bytes]]:
    """This machine's Python at /usr/local and the program at /opt/himalia, as a tar."""
    words = ["--venv", str(ROOT / ".venv"), "/opt/himalia"]
    for package in PACKAGES:
        words += ["--package", str(ROOT / package / f"himalia_{package}")]
    words += ["--script", "/opt/himalia/bin/himalia", "himalia_hub.cli:main"]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tests/tools/rootfs"), *words], stdout=subprocess.PIPE
    ) as tar:
        yield tar


def _take_number() -> tuple[str, int]:
    """Make the cable of the first number that nobody has: making it is also claiming it."""
    for number in NUMBERS:
        link = f"hsd{number}"
        made = subprocess.run(
            ["ip", "link", "add", f"{link}h", "type", "veth", "peer", "name", link],
            capture_output=True,
            check=False,
        )
        if made.returncode == 0:
            _ip("address", "add", f"172.31.{number}.1/24", "dev", f"{link}h")
            _ip("link", "set", f"{link}h", "up")
            return link, number
    pytest.fail(f"no cable could be made: {made.stderr.decode()}", pytrace=False)


def _ip(*args: str) -> None:
    done = subprocess.run(["ip", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(args)}: {done.stderr}"


def _remove_group(group: Path) -> None:
    """Remove a control group with those in it. Its processes are killed, and take a moment to leave."""
    deadline, pause = time.monotonic() + 20, threading.Event()
    while group.exists() and time.monotonic() < deadline:
        for inner in (*sorted((each for each in group.rglob("*") if each.is_dir()), reverse=True), group):
            with suppress(OSError):
                inner.rmdir()
        pause.wait(0.05)


@contextmanager
def systemd_machine() -> Iterator[Machine]:
    """A machine that has booted, with the units installed and not started."""
    for program in ("unshare", "nsenter", "ip", "useradd", "/lib/systemd/systemd"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is missing; run: tests/tools/prepare", pytrace=False)
    if os.geteuid() != 0:
        pytest.fail("a machine of its own needs root; run the tests as root", pytrace=False)
    folder = Path(tempfile.mkdtemp(prefix="himalia-systemd-", dir="/var/tmp"))
    groups = folder / "cgroup"
    groups.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(groups)], check=True)
    try:
        group = groups / folder.name
        group.mkdir()
        machine = Machine(folder, group)
        try:
            machine.boot()
            yield machine
        finally:
            machine.end()
    finally:
        subprocess.run(["umount", "-l", str(groups)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
