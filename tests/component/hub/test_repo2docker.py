"""Images by repo2docker: a program that speaks as it does, and everything that becomes of it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest

from himalia_hub.ephemeral.environment import CannotHonour
from himalia_hub.ephemeral.folders import Folders
from himalia_hub.ephemeral.installer import BuildFailed
from himalia_hub.ephemeral.making import Images
from himalia_hub.ephemeral.models import Launch
from himalia_hub.ephemeral.settings import EphemeralSection
from himalia_spawner.base import ImageOrder, Say, silent
from himalia_spawner.errors import SpawnRefused
from support import eventually

COMMIT = "c" * 40
URL = "https://example.org/notes"
SPEAKS = """
def say(message, phase=None):
    sys.stderr.write(json.dumps({"message": message} | ({"phase": phase} if phase else {})) + "\\n")

say("Picked Local content provider.\\n")
say("Using local repo /somewhere.\\n", "fetching")
say("Using CondaBuildPack builder\\n", "building")
say("#1 [internal] load build definition\\n#2 resolve\\n", "building")
"""


class Engine:
    """What the hub asks of the engine beside the build itself."""

    base, url = "base:1", "unix:///run/elsewhere.sock"
    labels: Mapping[str, str] = MappingProxyType({"himalia.hub": "h" * 8})

    def __init__(self) -> None:
        self.size = 7

    async def id_of(self, name: str) -> str | None:
        return name

    async def build(self, order: ImageOrder, say: Say = silent) -> int:
        raise AssertionError("repo2docker builds")

    async def must_fit(self, name: str, most: int) -> int:
        if self.size > most:
            raise SpawnRefused("the image is too large")
        return self.size

    async def remove(self, name: str) -> None:
        """Nothing is there."""


class Site:
    """A hub's maker of images and one launch, with a program of the test's as repo2docker."""

    def __init__(self, folder: Path) -> None:
        self.folders, self.engine, self.program = Folders(folder / "ephemeral"), Engine(), folder / "r2d"
        self.folders.make()
        self.launch = Launch(provider="git", spec="x/HEAD", url=URL, commit=COMMIT, environment="e" * 64)
        self.said: list[str] = []

    def commits(self, *names: str) -> None:
        checkout = self.folders.checkout(URL, COMMIT)
        checkout.mkdir(exist_ok=True)
        for name in names:
            (checkout / name).write_text("tree\n")

    def speaks(self, body: str) -> None:
        self.program.write_text(f"#!{sys.executable}\nimport json, os, subprocess, sys\n{SPEAKS}\n{body}\n")
        self.program.chmod(0o755)

    def maker(self, **settings: object) -> Images:
        told = {"builder": "repo2docker", "repo2docker_command": str(self.program)} | settings
        return Images(EphemeralSection.model_validate(told), self.folders, self.engine, hub="h" * 8)

    async def make(self, **settings: object) -> int:
        return await self.maker(**settings).make(self.launch, self.said.append)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_it_is_given_the_files_the_image_the_engine_and_room_and_its_lines_are_told(
    site: Site, tmp_path: Path
) -> None:
    site.commits("environment.yml", "postBuild")
    site.speaks(
        f"open({str(tmp_path / 'told')!r}, 'w').write(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
        "open(os.path.join(os.environ['TMPDIR'], 'left'), 'w').close()"
    )
    maker = site.maker(repo2docker_options=["--Repo2Docker.base_image=base:1"])
    assert (await maker.wanted(site.launch)).files == ("environment.yml", "postBuild")

    assert await maker.make(site.launch, site.said.append) == 7

    words, env = json.loads((tmp_path / "told").read_text())
    assert words[-3:] == [
        "--Repo2Docker.base_image=base:1",
        "--",
        str(site.folders.checkout(URL, COMMIT)),
    ]
    assert f"himalia.environment={'e' * 64}" in words
    assert f"himalia.commit={COMMIT}" in words
    assert "himalia.hub=hhhhhhhh" in words
    assert env["DOCKER_HOST"] == site.engine.url
    assert not Path(env["TMPDIR"]).exists(), "what it leaves goes"
    assert site.said == [
        "Picked Local content provider.", "Using CondaBuildPack builder",
        "#1 [internal] load build definition", "#2 resolve",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "settings", "words", "remedy"),
    [
        ("say('E: no package xyz', 'building')\nsay(\"Error during build: Command '['a'\", 'failed')\nsys.exit(1)", {},
         "E: no package xyz", "Mend the repository"),
        ("say('Error during build: The buildx plugin must be installed', 'failed'); sys.exit(1)", {},
         "The buildx plugin must be installed", "Ask an administrator"),
        ("os.kill(os.getpid(), 9)", {}, "#2 resolve", "Mend the repository"),
        ("sys.stderr.write('x' * 3_000_000); sys.exit(1)", {}, "xxx", "Mend the repository"),
        ("", {"environment_max_bytes": 6}, "The image is too large", "Ask an administrator"),
    ],
    ids=("package", "plugin", "killed", "line", "size"),
)  # fmt: skip
async def test_a_build_that_fails_ends_with_its_last_words_and_what_to_do(
    site: Site, body: str, settings: dict[str, object], words: str, remedy: str
) -> None:
    site.commits("environment.yml")
    site.speaks(body)
    with pytest.raises(BuildFailed) as caught:
        await site.make(**settings)
    assert words in caught.value.message
    assert "Command" not in caught.value.message
    assert remedy in caught.value.remedy
    assert len(caught.value.message) < 1000


async def test_a_hub_without_the_command_names_the_setting_that_wants_it(site: Site) -> None:
    site.commits("environment.yml")
    with pytest.raises(CannotHonour, match=r"'no-such' \(ephemeral\.repo2docker_command\)") as caught:
        await site.make(repo2docker_command="no-such")
    assert "install jupyter-repo2docker" in caught.value.remedy


@pytest.mark.parametrize("builder", ["own", "either"])
@pytest.mark.parametrize("name", ["requirements.txt", "Dockerfile", "apt.txt"])
async def test_what_the_hub_builds_itself_is_not_left_to_it(site: Site, name: str, builder: str) -> None:
    site.commits(name)
    maker = site.maker(builder=builder)
    assert (await maker.wanted(site.launch)).files == (name,)
    with pytest.raises(AssertionError, match="repo2docker builds"):
        await maker.make(site.launch, site.said.append)  # the engine is asked to build


async def test_a_repository_may_be_built_by_it_where_others_are_not(site: Site) -> None:
    site.commits("install.R")
    site.speaks("")
    with pytest.raises(CannotHonour, match=r"install\.R asks for R"):
        await site.make(builder="own")
    assert await site.make(builder="own", repositories=[{"match": "^git/x", "builder": "either"}]) == 7


STARTS_ANOTHER = """
other = subprocess.Popen(["sleep", "600"], start_new_session=True)
say(f"pid {other.pid}", "building")
subprocess.Popen(["sleep", "600"]).wait()
"""


async def _pid(said: Callable[[], str]) -> int:
    await eventually(lambda: "pid " in said(), within_s=60, what="it has started another")
    return int(said().rpartition("pid ")[2].split()[0])


async def test_a_build_that_is_given_up_or_takes_too_long_ends_with_all_that_it_started(site: Site) -> None:
    site.commits("environment.yml")
    site.speaks(STARTS_ANOTHER)
    making = asyncio.create_task(site.make())
    pid = await _pid(lambda: " ".join(site.said))
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not psutil.pid_exists(pid)
    assert not list(site.folders.cache.iterdir())

    with pytest.raises(BuildFailed, match=r"not built within 0\.5 seconds"):
        await site.make(build_timeout_s=0.5)
    assert not [
        one for one in psutil.process_iter(["cmdline"]) if str(site.program) in (one.info["cmdline"] or ())
    ]


HUB = """
import subprocess, sys, time
from himalia_hub.services.family import whole
subprocess.Popen(whole(sys.argv[1]))
time.sleep(600)
"""


async def test_it_ends_with_all_that_it_started_when_the_hub_is_killed(site: Site) -> None:
    site.speaks(STARTS_ANOTHER)
    hub = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HUB, str(site.program), stderr=asyncio.subprocess.PIPE
    )
    assert hub.stderr is not None
    told = b""
    while b"pid " not in told:
        told = await hub.stderr.readline()
    pid = int(json.loads(told)["message"].split()[1])
    assert psutil.pid_exists(pid)
    hub.kill()
    await hub.communicate()  # the end of what it wrote to: nobody holds that open any more
    await eventually(lambda: not psutil.pid_exists(pid), within_s=60, what="it has ended")
