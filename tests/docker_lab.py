"""A Docker engine of the tests' own, and images that need no registry.

The engine's folders lie in one temporary folder, its socket is in nobody's way, and all of it ends with the session.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from docker.api.client import APIClient

from himalia_spawner.containers import asked

ROOT = Path(__file__).parents[1]
PYTHON_IMAGE, SERVER_IMAGE, OFFICIAL_IMAGE = (
    "himalia-test-python:1",
    "himalia-test-server:1",
    "himalia-test-official:1",
)
SERVER_COMMAND = ["/opt/himalia/bin/python", "-I", "-m", "himalia_singleuser"]
UP_S = 60.0
ROOM = 4 * 2**30
"""Bytes that one engine needs at most: while it loads an image it has it twice."""
PLATFORM = {"x86_64": "amd64", "aarch64": "arm64"}
"""What images call these machines."""


class Lab:
    """The engine. `url` is what `spawner.docker.url` wants."""

    def __init__(self, folder: Path, run: Path) -> None:
        self.folder, self.run = folder, run
        self.url = f"unix://{run}/docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *args: str) -> None:
        """Start dockerd and wait until it answers."""
        log = (self.folder / "dockerd.log").open("ab")
        self.process = subprocess.Popen(
            [
                "dockerd", "--data-root", str(self.folder / "data"), "--exec-root", str(self.run / "exec"),
                "--pidfile", str(self.run / "dockerd.pid"), "-H", self.url, "--bip", "172.31.254.1/24", *args,
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        deadline = time.monotonic() + UP_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                words = (self.folder / "dockerd.log").read_text(errors="replace")[-3000:]
                if self._forget_networks(words):
                    self.start(*args)
                    return
                pytest.fail(f"dockerd did not come up:\n{words}", pytrace=False)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)

    def _forget_networks(self, words: str) -> bool:
        """Whether this was an engine that panics over the record of a network which it was killed while making.

        Debian's does; who runs one removes the record, and so does this.
        """
        record = self.folder / "data/network/files/local-kv.db"
        if "libnetwork.(*controller).reservePools" not in words or not record.exists():
            return False
        record.unlink()
        return True

    def answers(self) -> bool:
        """Whether the engine answers just now."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            try:
                probe.connect(self.url.removeprefix("unix://"))
                probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in probe.recv(100)
            except OSError:
                return False

    def client(self) -> APIClient:
        """A client for the test itself; the caller closes it."""
        return APIClient(self.url, version="auto", timeout=60)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the engine and wait for it; its containers end with it unless it restores them."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)
            # Its containerd dies with it. Where pid 1 is slow to reap, the next engine takes the zombie for a
            # living one and waits for it in vain.
            (self.run / "exec/containerd/containerd.pid").unlink(missing_ok=True)
        self.process = None

    def build(self, image: str) -> None:
        """Make one of the images of this module, unless it is there."""
        client = self.client()
        try:
            if client.images(image):
                return
        finally:
            client.close()
        arguments, config = _recipe(image)
        changes = [f"USER {config['User']}", *(f"ENV {variable}" for variable in config["Env"])]
        changes += [f"LABEL {name}={json.dumps(value)}" for name, value in config.get("Labels", {}).items()]
        command = ["docker", "-H", self.url, "import"]
        for change in changes:
            command += ["-c", change]
        rootfs = [sys.executable, str(ROOT / "tests/tools/rootfs"), *arguments]
        with subprocess.Popen(rootfs, stdout=subprocess.PIPE) as tar:
            subprocess.run([*command, "-", image], stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True)
        assert tar.returncode == 0, "tests/tools/rootfs failed"

    def containers(self, **filters: str) -> list[str]:
        """Names of all containers."""
        client = self.client()
        try:
            return [one["Names"][0].lstrip("/") for one in client.containers(all=True, filters=filters)]
        finally:
            client.close()

    def lives(self) -> list[tuple[str, str]]:
        """Name and incarnation of each server whose container runs, by their labels."""
        client = self.client()
        try:
            found = [one["Labels"] for one in client.containers(filters={"label": asked.NAME})]
            return [(labels[asked.NAME], labels[asked.INCARNATION]) for labels in found]
        finally:
            client.close()

    def volume(self, name: str) -> Path:
        """Where this machine finds what is in a volume, made or still to be made under that name."""
        return self.folder / "data" / "volumes" / name / "_data"

    def remove_containers(self) -> None:
        """Remove every container, whatever it does."""
        client = self.client()
        try:
            for one in client.containers(all=True):
                with suppress(Exception):  # it may be gone by now
                    client.remove_container(one["Id"], force=True)
        finally:
            client.close()

    def remove_networks(self) -> None:
        """Remove every network that was made: its bridge and its addresses outlive the engine otherwise."""
        client = self.client()
        try:
            for one in client.networks():
                if one["Name"] not in ("bridge", "host", "none"):
                    client.remove_network(one["Id"])
        finally:
            client.close()


def pack(image: str, path: Path) -> None:
    """Write one of the images of this module as a file that several engines load; it has one id on all of them.

    For one engine a stream into `docker import` is quicker, but gives each import its own id.
    """
    arguments, config = _recipe(image)
    with tempfile.NamedTemporaryFile(dir=path.parent) as layer:
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests/tools/rootfs"), *arguments], stdout=layer, check=False
        )
        assert done.returncode == 0, "tests/tools/rootfs failed"
        with open(layer.name, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        described = {
            "architecture": PLATFORM.get(platform.machine(), platform.machine()), "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }  # fmt: skip
        manifest = [{"Config": "config.json", "RepoTags": [image], "Layers": ["layer.tar"]}]
        with tarfile.open(path, "w") as tar:
            tar.add(layer.name, "layer.tar")
            for name, value in (("config.json", described), ("manifest.json", manifest)):
                text = json.dumps(value).encode()
                info = tarfile.TarInfo(name)
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text))


def load(url: str, path: Path) -> None:
    """Give an engine the image in a file."""
    subprocess.run(
        ["docker", "-H", url, "load", "-q", "-i", str(path)], stdout=subprocess.DEVNULL, check=True
    )


def _recipe(image: str) -> tuple[list[str], dict[str, Any]]:
    """Arguments of tests/tools/rootfs, and the image's own configuration (OCI image specification, config)."""
    config: dict[str, Any] = {"User": "1000:100", "Env": ["LANG=C.UTF-8"]}
    if image == PYTHON_IMAGE:
        return [], config
    if image == SERVER_IMAGE:
        config["Env"].append("PATH=/opt/himalia/bin:/usr/local/bin:/usr/bin:/bin")
        config["Labels"] = {"himalia.singleuser": json.dumps(SERVER_COMMAND)}
        venv = ["--venv", str(ROOT / ".venv"), "/opt/himalia"]
        return [*venv, "--package", str(ROOT / "singleuser/himalia_singleuser")], config
    config["Env"].append("PATH=/opt/official/bin:/usr/local/bin:/usr/bin:/bin")
    script = ["--script", "/opt/official/bin/jupyterhub-singleuser", "jupyterhub.singleuser:main"]
    return ["--venv", str(ROOT / ".venv-official"), "/opt/official", *script], config


@contextmanager
def docker_lab() -> Iterator[Lab]:
    """A started engine; at the end everything of it is gone."""
    for program in ("dockerd", "docker"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is missing; run: tests/tools/prepare", pytrace=False)
    if os.geteuid() != 0:
        pytest.fail("a Docker engine of its own needs root; run the tests as root", pytrace=False)
    run = Path(tempfile.mkdtemp(prefix="hd-", dir="/run"))
    with roomy_folder("himalia-docker-", ROOM) as folder:
        lab = Lab(folder, run)
        try:
            mount_cgroups()
            lab.start()
            yield lab
        finally:
            with suppress(Exception):  # an engine that a test broke is ended below all the same
                lab.remove_containers()
                lab.remove_networks()
            lab.stop()
            _unmount_below(folder, run)
            shutil.rmtree(run, ignore_errors=True)


@contextmanager
def roomy_folder(prefix: str, room: int) -> Iterator[Path]:
    """For what engines keep, `room` bytes at most.

    In memory where there is plenty: they sync the whole disk for each layer they mount.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/var/tmp"))
    in_memory = psutil.virtual_memory().available > room + ROOM
    try:
        if in_memory:
            command = ["mount", "-t", "tmpfs", "-o", f"size={room}", prefix.rstrip("-"), str(folder)]
            subprocess.run(command, check=True)
        yield folder
    finally:
        if in_memory:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def mount_cgroups() -> None:
    """A machine without systemd may have none mounted, and no container starts without them."""
    if any(
        line.split()[2] in ("cgroup", "cgroup2") for line in Path("/proc/mounts").read_text().splitlines()
    ):
        return
    top = Path("/sys/fs/cgroup")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "cgroup", str(top)], check=True)
    for line in Path("/proc/cgroups").read_text().splitlines()[1:]:
        name, _, _, enabled = line.split()
        if enabled == "1":
            (top / name).mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", "cgroup", "-o", name, "cgroup", str(top / name)], check=False)


def _unmount_below(*folders: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted(mounts, reverse=True):
        if any(mount.startswith(f"{folder}/") for folder in folders):
            subprocess.run(["umount", "-l", mount], check=False)
