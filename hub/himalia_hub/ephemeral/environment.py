"""Which environment a repository asks for, read from its files. Pure: files in, a recipe or a refusal out.

The files and their order are repo2docker's (its docs: "Configuration Files"). Here a kernel's environment is a
virtualenv of wheels; what that cannot honour is refused with the file's name, never left out in silence.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from himalia_hub.ephemeral import setup_files
from himalia_hub.errors import HimaliaError

SCHEMA = 1
"""Part of every key: raise it when the same files come to mean another environment."""

FOLDERS = ("binder", ".binder")
LARGEST = 1_000_000
"""Bytes of one environment file that are read."""

FOR_CONTAINERS = {
    "Dockerfile": "an image of its own",
    "apt.txt": "packages of the operating system",
    "default.nix": "Nix",
    "install.R": "R",
    "DESCRIPTION": "R",
    "Project.toml": "Julia",
    "REQUIRE": "Julia",
    "start": "a start script",
    "postBuild": "a build script",
}
"""Files that only a container can honour, with what they ask for."""

BUILT_BY_US = ("Dockerfile", "apt.txt")
"""Those of them that the images built by the hub itself honour; others need more than a short Dockerfile."""

BY_REPO2DOCKER = (
    "An administrator can let repo2docker build images (spawner.kind = 'docker', ephemeral.builder)."
)


class CannotHonour(HimaliaError):
    """The repository asks for what this mode has not; the message names the file, the remedy the mode."""

    status = 422
    code = "environment"


class NeedsRepo2docker(CannotHonour):
    """What it asks for is in no environment that Himalia makes, but in images of repo2docker's."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A kernel's environment. `requirements` is one text for the installer.

    `project` is the text of pyproject.toml beside `requirements` that is a whole uv.lock. `files` are the names it
    was read from, for people. `python` is `3.12`, or empty for the hub's choice, which must be one of `needs`, such as
    `>=3.9,<3.13`.
    """

    python: str
    requirements: str = ""
    files: tuple[str, ...] = ()
    project: str = ""
    needs: str = ""

    def key(self, *, python: str, index_url: str) -> str:
        """What names the environment: equal for all commits whose files ask for the same. 64 hex digits."""
        told = [
            SCHEMA,
            python,
            platform.machine(),
            platform.libc_ver(),
            index_url,
            self.requirements,
            self.project,
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def config_folder(names: Iterable[str]) -> str:
    """Where the environment files lie: the root (empty), or one of `binder/`, `.binder/`. CannotHonour for both."""
    there = [folder for folder in FOLDERS if folder in set(names)]
    if len(there) > 1:
        raise CannotHonour("The repository has both binder/ and .binder/.", remedy="Keep one of them.")
    return there[0] if there else ""


def recipe(files: Mapping[str, str]) -> Recipe:
    """What to install, from the texts of the files by name. CannotHonour says what this mode cannot do."""
    for name, what in FOR_CONTAINERS.items():
        if name in files:
            refusal = CannotHonour if name in BUILT_BY_US else NeedsRepo2docker
            raise refusal(
                f"{name} asks for {what}, which sessions without containers cannot give.",
                remedy="An administrator can let links build images (spawner.kind = 'docker')."
                if name in BUILT_BY_US
                else BY_REPO2DOCKER,
            )
    python = _python(files)
    for name, read in _READERS.items():
        if name in files:
            return read(files, python)
    return Recipe(python)


def _python(files: Mapping[str, str]) -> str:
    text = files.get("runtime.txt", "").strip()
    if not text:
        return ""
    found = re.fullmatch(r"python-(3\.\d{1,2})(?:\.\d{1,2})?", text)
    if found is None:
        refusal = NeedsRepo2docker if text.startswith("r-") else CannotHonour
        raise refusal(f"runtime.txt says {text[:40]!r}.", remedy="Only Python is offered here: python-3.12.")
    return found[1]


_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|~=|>|<)\s*(\d+(?:\.\d+){0,2})(\.\*)?\s*")


def fits(version: tuple[int, int, int], needs: str) -> bool:
    """Whether this Python is one of `requires-python` (the packaging guide's version specifiers). Pure."""
    return all(_fits(version, *clause) for clause in _clauses(needs))


def _fits(version: tuple[int, int, int], sign: str, wanted: tuple[int, ...], starred: bool) -> bool:
    whole = (*wanted, 0, 0)[:3]
    same = version[: len(wanted)] == wanted if starred else version == whole
    match sign:
        case "==":
            return same
        case "!=":
            return not same
        case ">=":
            return version >= whole
        case "<=":
            return version <= whole
        case ">":
            return version > whole
        case "<":
            return version < whole
        case _:
            return version >= whole and version[: len(wanted) - 1] == wanted[:-1]


def _clauses(needs: str) -> list[tuple[str, tuple[int, ...], bool]]:
    """CannotHonour for what is no version specifier: the rest of it would be read as something else."""
    found = [_CLAUSE.fullmatch(part) for part in needs.split(",") if part.strip()]
    if not all(found):
        raise CannotHonour(
            f"pyproject.toml requires Python {needs[:40]!r}.", remedy="Write it like >=3.10 or >=3.10,<3.13."
        )
    return [(one[1], tuple(map(int, one[2].split("."))), one[3] is not None) for one in found if one]


def _needs(project: Mapping[str, Any]) -> str:
    needs = str(project.get("requires-python") or "")
    _clauses(needs)
    return needs


# ------------------------------------------------------------------ requirements.txt

_OPTION = re.compile(r"(-r|--requirement|-c|--constraint)[= ]?\s*(\S+)")
_FORBIDDEN = re.compile(r"^(?![A-Za-z0-9])|[@/\\]")


def _requirements(files: Mapping[str, str], python: str) -> Recipe:
    used: list[str] = []
    lines = list(_lines(files, "requirements.txt", used))
    return Recipe(python, "".join(f"{line}\n" for line in lines), tuple(used))


def _lines(files: Mapping[str, str], name: str, used: list[str]) -> Iterable[str]:
    """The requirements of a file and of those it includes, comments gone, continued lines joined."""
    if name in used:
        return
    if name not in files:
        raise CannotHonour(
            f"requirements.txt includes {name[:80]!r}, which is not there.", remedy="Add the file."
        )
    used.append(name)
    for number, raw in enumerate(files[name].replace("\\\n", " ").splitlines(), start=1):
        line = " ".join(re.sub(r"(^|\s)#.*$", "", raw).split())
        if not line:
            continue
        include = _OPTION.fullmatch(line)
        if include and include[1] in ("-r", "--requirement"):
            yield from _lines(files, _beside(name, include[2]), used)
        else:
            yield by_name(line, f"{name}, line {number}")


def by_name(line: str, where: str) -> str:
    """The line, when it names a package of the index. Addresses, paths and options are CannotHonour.

    They could make the installer read this machine's files, or ask hosts inside its network.
    """
    if _FORBIDDEN.search(re.sub(r"\s--hash[= ]\S+", "", line).partition(";")[0]):
        raise CannotHonour(
            f"{where}: {line[:80]!r} is not a package of the index.",
            remedy="List it by name, or ask an administrator to let links build images.",
        )
    return line


def _beside(name: str, target: str) -> str:
    """An included file's name, relative to the one that includes it; nothing outside the folder."""
    path = PurePosixPath(name).parent / target
    if path.is_absolute() or ".." in path.parts:
        raise CannotHonour(
            f"{name} includes {target[:80]!r}, outside its folder.", remedy="Move the file in."
        )
    return str(path)


# ------------------------------------------------------------------ projects


def _pyproject(files: Mapping[str, str], python: str) -> Recipe:
    project = _table(files["pyproject.toml"]).get("project")
    if not isinstance(project, dict):
        return Recipe(python)
    if "dependencies" in project.get("dynamic", ()):
        raise CannotHonour(
            "pyproject.toml finds its dependencies by running code.",
            remedy="List them in the file, or ask an administrator to let links build images.",
        )
    listed = project.get("dependencies", [])
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise CannotHonour(
            "project.dependencies of pyproject.toml is no list of texts.", remedy="Mend the file."
        )
    return replace(_listed("pyproject.toml", listed, python), needs=_needs(project))


def _table(text: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CannotHonour(f"pyproject.toml is not valid TOML: {error}.", remedy="Mend the file.") from None


def _listed(name: str, listed: Iterable[str], python: str) -> Recipe:
    lines = [by_name(line.strip(), name) for line in listed]
    return Recipe(python, "".join(f"{line}\n" for line in lines), (name,))


def _uv_lock(files: Mapping[str, str], python: str) -> Recipe:
    """The lock as it is: uv alone knows which of its packages this machine needs."""
    if "pyproject.toml" not in files:
        raise CannotHonour("uv.lock has no pyproject.toml beside it.", remedy="Commit both.")
    project = _table(files["pyproject.toml"]).get("project")
    needs = _needs(project) if isinstance(project, dict) else ""
    return Recipe(python, files["uv.lock"], ("uv.lock",), files["pyproject.toml"], needs)


def _pipfile(files: Mapping[str, str], python: str) -> Recipe:
    raise CannotHonour("Pipfile has no Pipfile.lock beside it.", remedy="Commit the lock: `pipenv lock`.")


def _pipfile_lock(files: Mapping[str, str], python: str) -> Recipe:
    """The default and the development packages, as repo2docker installs them."""
    try:
        document = json.loads(files["Pipfile.lock"])
        packages = {**document.get("default", {}), **document.get("develop", {})}
        lines = [_pipfile_line(name, entry) for name, entry in packages.items()]
        wanted = document.get("_meta", {}).get("requires", {}).get("python_version", "")
    except (ValueError, AttributeError, TypeError):
        raise CannotHonour("Pipfile.lock cannot be read.", remedy="Make it again by `pipenv lock`.") from None
    # Nothing else: as the path of a program it would be run, by the hub.
    if wanted and not (isinstance(wanted, str) and re.fullmatch(r"3\.\d{1,2}", wanted)):
        raise CannotHonour(
            f"Pipfile.lock wants Python {str(wanted)[:40]!r}.",
            remedy="Only Python is offered here: python-3.12.",
        )
    return Recipe(python or wanted, "".join(f"{line}\n" for line in lines), ("Pipfile.lock",))


def _pipfile_line(name: str, entry: Mapping[str, object]) -> str:
    version, hashes = entry.get("version"), entry.get("hashes")
    if not isinstance(version, str) or not isinstance(hashes, list):
        raise CannotHonour(
            f"Pipfile.lock takes {name[:60]!r} from elsewhere than an index.",
            remedy="Sessions without containers install packages of the index only.",
        )
    markers = f" ; {entry['markers']}" if entry.get("markers") else ""
    return f"{name}{version}{markers} " + " ".join(f"--hash={one}" for one in hashes)


def _setup_py(files: Mapping[str, str], python: str) -> Recipe:
    """What it lists in the open: its code is never run here, and so the project itself is not installed."""
    try:
        listed = setup_files.requirements(files["setup.py"], files.get("setup.cfg", ""))
    except setup_files.NotPlain:
        raise CannotHonour(
            "setup.py finds its dependencies by running code.",
            remedy="List them in the file, or ask an administrator to let links build images.",
        ) from None
    except ValueError as error:
        raise CannotHonour(f"setup.py cannot be read: {error}.", remedy="Mend the file.") from None
    return _listed("setup.py", listed, python)


# ------------------------------------------------------------------ environment.yml


def _environment_yml(files: Mapping[str, str], python: str) -> Recipe:
    """Only `python` and packages under `pip:`; anything else of conda's is refused by its name."""
    name = "environment.yml" if "environment.yml" in files else "environment.yaml"
    listed, conda = _pip_part(files[name])
    for package in conda:
        found = re.fullmatch(r"python\s*={1,2}\s*(3\.\d{1,2})(?:\.[\d*]+)?", package)
        if found:
            python = python or found[1]
        elif not re.fullmatch(r"(python|pip)\b.*", package):
            raise NeedsRepo2docker(
                f"{name} wants {package[:60]!r} of conda, which the environments made here do not have.",
                remedy=f"List it under pip: where the index has it. {BY_REPO2DOCKER}",
            )
    return _listed(name, listed, python)


def _pip_part(text: str) -> tuple[list[str], list[str]]:
    """(what stands under `pip:`, what else stands under `dependencies:`)."""
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        raise CannotHonour("environment.yml is not valid YAML.", remedy="Mend the file.") from None
    listed, conda = [], []
    entries = document.get("dependencies") if isinstance(document, dict) else None
    for entry in entries or ():
        if isinstance(entry, dict):
            pip = entry.get("pip")
            listed += [str(one) for one in pip] if isinstance(pip, list) else []
        else:
            conda.append(str(entry))
    return listed, conda


_READERS = {
    "environment.yml": _environment_yml,
    "environment.yaml": _environment_yml,
    "Pipfile.lock": _pipfile_lock,
    "Pipfile": _pipfile,
    "requirements.txt": _requirements,
    "uv.lock": _uv_lock,
    "pyproject.toml": _pyproject,
    "setup.py": _setup_py,
}
