"""From a repository's files to what is installed; what cannot be honoured is refused by the file's name."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from himalia_hub.ephemeral.environment import CannotHonour, Recipe, fits, recipe
from himalia_hub.ephemeral.folders import Files
from himalia_hub.ephemeral.installer import remedy_for

LOCK = json.dumps(
    {
        "_meta": {"requires": {"python_version": "3.11"}},
        "default": {
            "six": {"version": "==1.16.0", "hashes": ["sha256:aa"], "markers": "python_version > '3'"}
        },
        "develop": {"toolz": {"version": "==1.0", "hashes": ["sha256:bb"]}},
    }
)


@pytest.mark.parametrize(
    ("files", "python", "requirements"),
    [
        ({}, "", ""),
        ({"README.md": "x"}, "", ""),
        ({"requirements.txt": "six # why\n\n# no\ntoolz>=1 ; python_version > '3'\n"}, "",
         "six\ntoolz>=1 ; python_version > '3'\n"),
        ({"requirements.txt": "-r more/base.txt\nsix", "more/base.txt": "toolz\n-r again.txt", "more/again.txt": "attrs"},
         "", "toolz\nattrs\nsix\n"),
        ({"requirements.txt": "six \\\n  --hash=sha256:aa", "runtime.txt": "python-3.12.1"}, "3.12",
         "six --hash=sha256:aa\n"),
        ({"pyproject.toml": '[project]\nname="x"\ndependencies=["six>1"]'}, "", "six>1\n"),
        ({"pyproject.toml": "[tool.ruff]\n"}, "", ""),
        ({"pyproject.toml": '[project]\nname="x"\ndependencies=["six>1"]', "requirements.txt": "toolz"}, "", "toolz\n"),
        ({"Pipfile.lock": LOCK}, "3.11",
         "six==1.16.0 ; python_version > '3' --hash=sha256:aa\ntoolz==1.0 --hash=sha256:bb\n"),
        ({"environment.yml": "dependencies:\n- python=3.12\n- pip\n- pip:\n  - six\n"}, "3.12", "six\n"),
        ({"environment.yml": "dependencies: [pip]\n", "requirements.txt": "six"}, "", ""),
        ({"setup.py": "import setuptools\nsetuptools.setup(name='x', install_requires=['six>1', 'toolz'])"}, "",
         "six>1\ntoolz\n"),
        ({"setup.py": "NEEDS = ('six',)\nif 1:\n  setup(name='x', install_requires=NEEDS)"}, "", "six\n"),
        ({"setup.py": "from setuptools import setup\nsetup()",
          "setup.cfg": "[options]\ninstall_requires =\n  six>=1\n  # why\n  toolz; python_version > '3'\n"}, "",
         "six>=1\ntoolz; python_version > '3'\n"),
        ({"setup.py": "setup(name='x')"}, "", ""),
    ],
)  # fmt: skip
def test_files_say_what_is_installed(files: dict[str, str], python: str, requirements: str) -> None:
    found = recipe(files)
    assert (found.python, found.requirements) == (python, requirements)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"Dockerfile": ""}, "Dockerfile asks for an image"),
        ({"apt.txt": "git"}, "apt.txt asks for packages of the operating system"),
        ({"postBuild": ""}, "postBuild asks for a build script"),
        ({"install.R": ""}, "install.R asks for R"),
        ({"Project.toml": ""}, "Project.toml asks for Julia"),
        ({"environment.yml": "dependencies: [numpy]"}, "environment.yml wants 'numpy' of conda"),
        ({"environment.yml": "{"}, "environment.yml is not valid YAML"),
        ({"Pipfile": ""}, "no Pipfile.lock"),
        (
            {"Pipfile.lock": '{"_meta": {"requires": {"python_version": "/srv/x/python"}}}'},
            "wants Python '/srv/x",
        ),
        ({"pyproject.toml": '[project]\nrequires-python = "/srv/x"'}, "requires Python '/srv/x'"),
        ({"Pipfile.lock": "[]"}, "Pipfile.lock cannot be read"),
        ({"Pipfile.lock": '{"default": {"a": {"git": "x"}}}'}, "Pipfile.lock takes 'a' from elsewhere"),
        ({"setup.py": ""}, "setup.py finds its dependencies by running code"),
        ({"setup.py": "setup(install_requires=open('x').read())"}, "by running code"),
        ({"setup.py": "setup(**found)"}, "by running code"),
        ({"setup.py": "a = []\na.append('x')\nsetup(install_requires=a)"}, "by running code"),
        ({"setup.py": "setup(", "setup.cfg": ""}, "setup.py cannot be read: it is no Python"),
        ({"setup.py": "setup()", "setup.cfg": "[options"}, "setup.cfg cannot be read"),
        (
            {"setup.py": "setup()", "setup.cfg": "[options]\ninstall_requires = file: r.txt"},
            "by running code",
        ),
        ({"setup.py": "setup(install_requires=['../x'])"}, "is not a package of the index"),
        ({"pyproject.toml": "["}, "pyproject.toml is not valid TOML"),
        ({"pyproject.toml": '[project]\ndynamic=["dependencies"]'}, "by running code"),
        ({"uv.lock": ""}, "no pyproject.toml beside it"),
        ({"runtime.txt": "r-4.4"}, "runtime.txt says 'r-4.4'"),
        ({"requirements.txt": "-r gone.txt"}, "includes 'gone.txt', which is not there"),
        ({"requirements.txt": "-r ../secrets.txt"}, "outside its folder"),
        ({"requirements.txt": "-r /etc/passwd"}, "outside its folder"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_name(files: dict[str, str], words: str) -> None:
    with pytest.raises(CannotHonour) as caught:
        recipe(files)
    assert words in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("words", "later"),
    [
        ("HTTP status server error (503 Service Unavailable) for url", True),
        ("error sending request for url: Connection refused (os error 111)", True),
        ("E: Temporary failure resolving 'packages.example.org'", True),
        ("requests.exceptions.HTTPError: 503 Server Error: Service Unavailable", True),
        ("six-500 was not found in the package registry", False),
        ("E: Unable to locate package xyz", False),
    ],
)
def test_a_build_that_failed_for_want_of_a_server_says_to_try_again(words: str, later: bool) -> None:
    assert remedy_for(words, "Mend it.") == (
        "Try again later: a server of packages does not answer." if later else "Mend it."
    )


@pytest.mark.parametrize(
    "line",
    ["-e .", "--index-url http://10.0.0.1/", "--extra-index-url=x", "-f ./wheels", "six @ https://x/six.whl", "./six.whl",
     ";@", "; https://x/y", "git+https://x/y", "/etc/passwd", "file:///etc/passwd", "..", "-c constraints.txt", "--no-binary :all:"],
)  # fmt: skip
def test_only_packages_of_the_index_are_installed(line: str) -> None:
    with pytest.raises(CannotHonour, match="is not a package of the index"):
        recipe({"requirements.txt": f"six\n{line}\n"})


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_no_text_makes_the_installer_take_an_address_or_a_path(text: str) -> None:
    try:
        lines = recipe({"requirements.txt": text}).requirements.splitlines()
    except CannotHonour:
        return
    for line in lines:
        package, _, _marker = line.partition(";")
        assert package[0].isalnum()
        assert not {"@", "/", "\\"} & set(package)


def test_the_key_follows_the_files_and_nothing_else() -> None:
    one = recipe({"requirements.txt": "six # first", "README.md": "a"})
    other = recipe({"requirements.txt": "six   # second", "README.md": "b", "notebook.ipynb": "{}"})
    asked = {"python": "/usr/bin/python3", "index_url": ""}
    assert one.key(**asked) == other.key(**asked)
    assert Recipe("", "six\n").key(**asked) != Recipe("", "toolz\n").key(**asked)
    assert one.key(**asked) != one.key(python="/usr/bin/python3.12", index_url="")
    assert one.key(**asked) != one.key(python="/usr/bin/python3", index_url="https://index.example/")


def test_files_are_read_from_one_folder_and_never_through_a_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("token")
    checkout = tmp_path / "checkout"
    (checkout / "binder").mkdir(parents=True)
    (checkout / "requirements.txt").write_text("six")
    (checkout / "binder" / "requirements.txt").write_text("-r linked.txt")
    (checkout / "binder" / "linked.txt").symlink_to(secret)
    (checkout / "binder" / "up").symlink_to(tmp_path)
    os.mkfifo(checkout / "binder" / "environment.yml")

    files = Files(checkout)

    assert files["requirements.txt"] == "-r linked.txt"
    for name in ("linked.txt", "up/secret.txt", "environment.yml", "../requirements.txt", "/etc/passwd"):
        assert name not in files
    with pytest.raises(CannotHonour, match=r"'linked.txt', which is not there"):
        recipe(files)


def test_two_folders_of_files_are_one_too_many(tmp_path: Path) -> None:
    for name in ("binder", ".binder"):
        (tmp_path / name).mkdir()
    with pytest.raises(CannotHonour, match=r"both binder/ and \.binder/"):
        Files(tmp_path)


def test_a_file_too_large_or_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(b"x" * 1_000_001)
    with pytest.raises(CannotHonour, match=r"requirements.txt is larger than 1 MB"):
        recipe(Files(tmp_path))
    (tmp_path / "requirements.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CannotHonour, match="not UTF-8"):
        recipe(Files(tmp_path))


@given(st.text(), st.text())
def test_no_setup_files_break_the_reader(script: str, configuration: str) -> None:
    with contextlib.suppress(CannotHonour):
        recipe({"setup.py": script, "setup.cfg": configuration})


@pytest.mark.parametrize(
    ("needs", "fit"),
    [
        ("", "3.9 3.12 3.13"), (">=3.10,<3.13", "3.12"), ("~=3.9", "3.9 3.12 3.13"), ("~=3.12.1", "3.12"),
        ("==3.12.*", "3.12"), ("!=3.12.*", "3.9 3.13"), (">3.12", "3.12 3.13"), ("<=3.12", "3.9"), ("==3.12", ""),
    ],
)  # fmt: skip
def test_the_pythons_that_a_project_requires(needs: str, fit: str) -> None:
    versions = {"3.9": (3, 9, 7), "3.12": (3, 12, 7), "3.13": (3, 13, 0)}
    assert [name for name, version in versions.items() if fits(version, needs)] == fit.split()
