"""What is built for a repository where sessions are containers, from its files alone."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from himalia_hub.ephemeral.blueprint import INSTALLER, Blueprint, blueprint
from himalia_hub.ephemeral.environment import CannotHonour
from himalia_hub.ephemeral.making import pack

BASE = "base:1"


def made(files: dict[str, str], **options: str) -> Blueprint:
    return blueprint(files, base=BASE, **options)  # type: ignore[arg-type]


def key(found: Blueprint, commit: str = "a" * 40, base: str = "sha256:1") -> str:
    return found.key(base=base, commit=commit)


def test_packages_of_the_index_are_asked_for_by_content_and_not_by_commit() -> None:
    found = made({"requirements.txt": "numpy==2.0 # fast\n", "README.md": "x"})
    assert found.files["requirements.txt"] == "numpy==2.0\n"
    assert not found.whole
    assert "RUN uv pip install -r requirements.txt" in found.dockerfile
    assert key(found) == key(made({"requirements.txt": "numpy==2.0"}), commit="b" * 40)
    assert key(found) != key(made({"requirements.txt": "numpy==2.1"}))
    assert key(found) != key(found, base="sha256:2"), "a renewed base makes another image"


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"setup.py": "import setuptools"}, "RUN uv pip install ./"),
        ({"pyproject.toml": "[project]\nname='x'\ndynamic=['dependencies']"}, "RUN uv pip install ./"),
        ({"requirements.txt": "-e .\nnumpy"}, "RUN uv pip install -r requirements.txt"),
        (
            {"requirements.txt": "x @ git+https://example.org/x.git"},
            "RUN uv pip install -r requirements.txt",
        ),
    ],
)
def test_what_runs_code_of_the_repositorys_runs_in_the_build_and_is_of_one_commit(
    files: dict[str, str], line: str
) -> None:
    found = made(files)
    assert found.whole
    assert line in found.dockerfile.splitlines()
    assert found.dockerfile.index("USER 1000:100") < found.dockerfile.index(line), "never as root"
    assert key(found, "a" * 40) != key(found, "b" * 40)


def test_a_dockerfile_is_built_as_it_is() -> None:
    found = made({"Dockerfile": "FROM x\n", "requirements.txt": "numpy", "apt.txt": "curl"})
    assert (found.dockerfile, found.whole, found.own, found.read) == ("FROM x\n", True, True, ("Dockerfile",))


def test_a_dockerfile_starts_from_nothing_but_what_is_allowed() -> None:
    def check(text: str) -> None:
        blueprint({"Dockerfile": text}, base=BASE, bases=["good/*"])

    check(
        "FROM --platform=linux/amd64 good/one AS first\nfrom first\nCOPY --from=first /a /b\nFROM scratch\n"
    )
    for bad in (
        "FROM himalia-hub",
        "FROM good/one\nFROM ${OTHER}",
        "ARG A=good/x\nFROM $A",
        "FROM good/a \\\n AS b\nFROM bad",
    ):
        with pytest.raises(CannotHonour, match="not allowed here"):
            check(bad)


@pytest.mark.parametrize("line", ["curl; id", "$(id)", "-o=x", "a\tb|c", "https://x/y.deb", "curl&&id"])
def test_a_line_of_apt_txt_is_names_of_packages_or_refused(line: str) -> None:
    assert "libgl1 fonts-noto=1.2" in made({"apt.txt": "libgl1 # for plots\nfonts-noto=1.2\n"}).dockerfile
    with pytest.raises(CannotHonour, match=r"apt\.txt, line 1"):
        made({"apt.txt": line})


@pytest.mark.parametrize("name", ["install.R", "Project.toml", "postBuild", "start", "default.nix"])
def test_what_a_generated_image_has_not_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(CannotHonour, match=name):
        made({name: ""})
    with pytest.raises(CannotHonour, match=r"environment\.yml wants 'r-base'"):
        made({"environment.yml": "dependencies: [r-base]"})


def test_the_context_holds_links_as_links_and_the_repository_cannot_replace_what_is_generated(
    tmp_path: Path,
) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "setup.py").write_text("")
    (tmp_path / "repository" / "Dockerfile").write_text("FROM theirs")
    (tmp_path / "repository" / "secret").symlink_to("/etc/shadow")
    found = made({"setup.py": ""})

    pack(tmp_path / "context.tar", found, tmp_path / "repository")

    with tarfile.open(tmp_path / "context.tar") as tar:
        assert sorted(tar.getnames()) == sorted(
            {"Dockerfile", "himalia-kernel.json", INSTALLER, "secret", "setup.py"}
        )
        assert tar.getmember("secret").issym()
        content = tar.extractfile("Dockerfile")
        assert isinstance(content, io.BufferedReader)
        assert content.read().decode() == found.dockerfile
