"""A Docker Swarm of the tests' own: three engines in namespaces of this machine, on a bridge that this module makes.

Each node has its own network, mounts, host name and processes. Its first process takes everything it runs with it when
it is killed, as a power cut would, and nothing of it is left on this machine but folders, which go at the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from docker import errors
from docker.api.client import APIClient

import docker_lab

NUMBERS = range(240, 253)
"""Third bytes of 172.31.0.0/16 from which a lab takes one; the single engine of docker_lab has 254."""
HEARTBEAT_S = 2
"""A manager calls a node down after three missed heartbeats; Docker's own default is 5 s."""
UP_S = 60.0
GONE_S = 20.0
BEGIN = """
hostname "$1" && mount --rbind /sys/fs/cgroup "$2" && mount -t sysfs sysfs /sys && mount --rbind "$2" /sys/fs/cgroup || exit 1
shift 2
dockerd "$@" &
wait
"""
"""The first process of a node: /sys shows its own network, less the cgroups. It waits, so that orphans are reaped."""


@dataclass
class Node:
    """One machine. `link` is this machine's end of its cable."""

    name: str
    address: str
    netns: str
    link: str
    cgroup: str
    data: Path
    run: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"unix://{self.run}/docker.sock"

    def client(self) -> APIClient:
        """A client for the test itself; the caller closes it."""
        return APIClient(self.url, version="auto", timeout=60)

    def containers(self) -> list[str]:
        """Names of the containers that run."""
        client = self.client()
        try:
            return [one["Names"][0].lstrip("/") for one in client.containers()]
        finally:
            client.close()


class SwarmLab:
    """Three nodes; n1 manages. This machine reaches them, and they reach it at `gateway`."""

    def __init__(self, folder: Path, run: Path) -> None:
        self.folder, self.run = folder, run
        self.number = _take_bridge()
        self.bridge = f"hsw{self.number}"
        self.gateway = f"172.31.{self.number}.254"
        self.nodes = [self._node(index) for index in (1, 2, 3)]

    def _node(self, index: int) -> Node:
        name = f"n{index}"
        return Node(
            name, f"172.31.{self.number}.{index}", f"{self.bridge}-{name}", f"{self.bridge}p{index}",
            f"/{self.bridge}-{name}", self.folder / name, self.run / name,
        )  # fmt: skip

    @property
    def manager(self) -> Node:
        return self.nodes[0]

    def node(self, name: str) -> Node:
        """The node of that name."""
        return next(one for one in self.nodes if one.name == name)

    # -- up and down ----------------------------------------------------------------------------------

    def up(self) -> None:
        """Bridge, nodes, swarm; each node is ready when this returns."""
        _ip("address", "add", f"{self.gateway}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        # Where bridged frames pass iptables, another engine's own rules would drop them.
        _run("iptables", "-w", "-I", "FORWARD", *self._bridged)
        for node in self.nodes:
            _ip("netns", "add", node.netns)
            _ip("link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", node.netns)
            _ip("link", "set", node.link, "master", self.bridge, "up")
            _ip("-n", node.netns, "link", "set", "lo", "up")
            _ip("-n", node.netns, "address", "add", f"{node.address}/24", "dev", "eth0")
            _ip("-n", node.netns, "link", "set", "eth0", "up")
            _ip("-n", node.netns, "route", "add", "default", "via", self.gateway)
            self.begin(node)
        for node in self.nodes:
            self._until_answers(node)
        self._join()

    @property
    def _bridged(self) -> tuple[str, ...]:
        return ("-i", self.bridge, "-o", self.bridge, "-j", "ACCEPT")

    def begin(self, node: Node) -> None:
        """Start a node's engine, for the first time or after `kill`."""
        for folder in (node.data, node.run / "cgroup"):
            folder.mkdir(parents=True, exist_ok=True)
        for stale in (node.run / "dockerd.pid", node.run / "exec/containerd/containerd.pid"):
            stale.unlink(missing_ok=True)  # the number in it is some other process by now
        with (self.folder / f"{node.name}.log").open("ab") as log:
            node.process = subprocess.Popen(
                [
                    "nsenter", f"--net=/run/netns/{node.netns}",
                    "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
                    "--propagation", "slave",
                    "sh", "-c", BEGIN, "sh", node.name, str(node.run / "cgroup"),
                    "--data-root", str(node.data), "--exec-root", str(node.run / "exec"),
                    "--pidfile", str(node.run / "dockerd.pid"), "-H", node.url, "--cgroup-parent", node.cgroup,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _until_answers(self, node: Node) -> None:
        deadline = time.monotonic() + UP_S
        while True:
            with suppress(errors.DockerException, OSError):
                if (node.run / "docker.sock").is_socket():
                    node.client().close()
                    return
            assert node.process is not None
            if node.process.poll() is not None or time.monotonic() > deadline:
                words = (self.folder / f"{node.name}.log").read_text(errors="replace")[-3000:]
                pytest.fail(f"dockerd of {node.name} did not come up:\n{words}", pytrace=False)
            with suppress(subprocess.TimeoutExpired):
                node.process.wait(0.1)

    def _join(self) -> None:
        manager = self.manager.client()
        try:
            spec = manager.create_swarm_spec(dispatcher_heartbeat_period=HEARTBEAT_S * 10**9)
            manager.init_swarm(self.manager.address, "0.0.0.0:2377", swarm_spec=spec)
            token = manager.inspect_swarm()["JoinTokens"]["Worker"]
        finally:
            manager.close()
        for node in self.nodes[1:]:
            client = node.client()
            try:
                client.join_swarm([f"{self.manager.address}:2377"], token, "0.0.0.0:2377", node.address)
            finally:
                client.close()

    def down(self) -> None:
        """End all of it; nothing is left on this machine."""
        for node in self.nodes:
            self.kill(node)
            # The kernel empties a removed namespace later; until then the cable's name is taken.
            for what in (["link", "del", node.link], ["netns", "del", node.netns]):
                subprocess.run(["ip", *what], stderr=subprocess.DEVNULL, check=False)
            _remove_cgroups(node.cgroup)
        subprocess.run(
            ["iptables", "-w", "-D", "FORWARD", *self._bridged], stderr=subprocess.DEVNULL, check=False
        )
        _ip("link", "del", self.bridge)

    # -- what befalls nodes ---------------------------------------------------------------------------

    def kill(self, node: Node) -> None:
        """Everything that runs on it ends at once, as by a power cut."""
        if node.process is not None:
            # Its child is the first process of the node's own process namespace, and all others end with that.
            node.process.send_signal(signal.SIGKILL)
            node.process.wait()
            node.process = None

    def cut(self, node: Node) -> None:
        """Take its cable away; it runs on by itself."""
        _ip("link", "set", node.link, "down")

    def heal(self, node: Node) -> None:
        """Give its cable back."""
        _ip("link", "set", node.link, "up")

    def states(self) -> dict[str, str]:
        """What the manager thinks of each node: ready or down."""
        client = self.manager.client()
        try:
            return {one["Description"]["Hostname"]: one["Status"]["State"] for one in client.nodes()}
        finally:
            client.close()

    # -- images and services --------------------------------------------------------------------------

    def build(self, image: str) -> None:
        """Have one of docker_lab's images on every node, the same on each."""
        client = self.manager.client()
        try:
            if client.images(image):
                return
        finally:
            client.close()
        packed = self.folder / "image.tar"
        docker_lab.pack(image, packed)
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda one: docker_lab.load(one.url, packed), self.nodes))
        packed.unlink()

    def remove_services(self) -> None:
        """Remove every service; their tasks end by themselves."""
        client = self.manager.client()
        try:
            for one in client.services():
                with suppress(errors.NotFound):
                    client.remove_service(one["ID"])
        finally:
            client.close()


def _take_bridge() -> int:
    """Make the bridge of the first number that nobody has: making it is also claiming it."""
    for number in NUMBERS:
        made = subprocess.run(
            ["ip", "link", "add", f"hsw{number}", "type", "bridge"], capture_output=True, check=False
        )
        if made.returncode == 0:
            return number
    pytest.fail(f"no bridge could be made: {made.stderr.decode()}", pytrace=False)


def _remove_cgroups(name: str) -> None:
    """Remove a node's control groups. Its processes are killed, and take a moment to leave them."""
    top = Path("/sys/fs/cgroup")
    roots = (top, *(one for one in top.iterdir() if one.is_dir() and not one.is_symlink()))
    folders = [one for root in roots if (one := root / name.strip("/")).is_dir()]
    deadline, pause = time.monotonic() + GONE_S, threading.Event()
    while folders and time.monotonic() < deadline:
        for folder in folders:
            for inner in (
                *sorted((each for each in folder.rglob("*") if each.is_dir()), reverse=True),
                folder,
            ):
                with suppress(OSError):
                    inner.rmdir()
        folders = [one for one in folders if one.is_dir()]
        pause.wait(0.05 if folders else 0)


def _ip(*args: str) -> None:
    _run("ip", *args)


def _run(*args: str) -> None:
    done = subprocess.run(args, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(args)}: {done.stderr}"


@contextmanager
def swarm_lab() -> Iterator[SwarmLab]:
    """Three joined nodes; at the end everything of them is gone."""
    for program in ("dockerd", "docker", "ip", "iptables", "nsenter", "unshare"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is missing; run: tests/tools/prepare", pytrace=False)
    if os.geteuid() != 0:
        pytest.fail("a swarm of its own needs root; run the tests as root", pytrace=False)
    docker_lab.mount_cgroups()
    run = Path(tempfile.mkdtemp(prefix="hs-", dir="/run"))
    with docker_lab.roomy_folder("himalia-swarm-", 3 * docker_lab.ROOM) as folder:
        lab = SwarmLab(folder, run)
        try:
            lab.up()
            yield lab
        finally:
            lab.down()
            shutil.rmtree(run, ignore_errors=True)
