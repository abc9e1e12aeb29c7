"""How repo2docker is asked, and what its output says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from himalia_hub.ephemeral import repo2docker
from himalia_hub.ephemeral.blueprint import blueprint
from himalia_hub.ephemeral.environment import NeedsRepo2docker, recipe
from himalia_hub.ephemeral.repo2docker import Line, Order

ORDER = Order(
    Path("/checkouts/a"), "c" * 40, "himalia-x/session:1", {"himalia.commit": "c" * 40}, "unix:///run/d"
)


def test_it_is_asked_to_build_and_not_to_run_as_a_user_that_is_not_root() -> None:
    words = repo2docker.words("/opt/r2d/bin/jupyter-repo2docker", ORDER, ["--Repo2Docker.base_image=base:1"])
    assert words[:3] == ["/opt/r2d/bin/jupyter-repo2docker", "--no-run", "--json-logs"]
    given = dict(zip(words[3:-3:2], words[4:-3:2], strict=True))
    assert given == {
        "--image-name": "himalia-x/session:1", "--ref": "c" * 40, "--user-id": "1000", "--user-name": "jovyan",
        "--target-repo-dir": "/srv/repository", "--label": f"himalia.commit={'c' * 40}",
    }  # fmt: skip
    assert words[-3:] == ["--Repo2Docker.base_image=base:1", "--", "/checkouts/a"]


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ('{"message": "Picked Local content provider.\\n"}', [Line("", "Picked Local content provider.")]),
        ('{"message": "Using local repo x.\\n", "phase": "fetching"}', [Line("fetching", "Using local repo x.")]),
        (json.dumps({"message": "\x1b[1mStep 1/9\x1b[0m\r\n\n ---> a", "phase": "building"}),
         [Line("building", "Step 1/9"), Line("building", "---> a")]),
        ('{"message": "Error during build: x", "exc_info": "Traceback", "phase": "failed"}',
         [Line("failed", "Error during build: x")]),
        ("#5 0.212 not JSON", [Line("", "#5 0.212 not JSON")]),
        ('{"message": null, "phase": 3}', []),
        ("[1]", [Line("", "[1]")]),
        ("", []),
    ],
)  # fmt: skip
def test_its_log_is_read_as_phases_and_lines(raw: str, read: list[Line]) -> None:
    assert list(repo2docker.lines(raw)) == read


def test_its_images_are_of_one_commit_and_of_the_sites_options() -> None:
    key = repo2docker.key("a" * 40, [])
    assert key == repo2docker.key("a" * 40, [])
    assert len({key, repo2docker.key("b" * 40, []), repo2docker.key("a" * 40, ["--x"])}) == 3
    assert repo2docker.files_read(["README.md", "start", "environment.yml"]) == ("environment.yml", "start")


@pytest.mark.parametrize(
    "files",
    [
        *({name: ""} for name in ("install.R", "DESCRIPTION", "Project.toml", "default.nix", "postBuild", "start")),
        {"environment.yml": "dependencies: [r-base]"},
        {"runtime.txt": "r-4.4-2026-01-01"},
    ],
    ids=lambda files: next(iter(files)),
)  # fmt: skip
def test_what_only_it_can_build_is_refused_elsewhere_as_that(files: dict[str, str]) -> None:
    with pytest.raises(NeedsRepo2docker):
        recipe(files)
    with pytest.raises(NeedsRepo2docker):
        blueprint(files, base="base:1")
