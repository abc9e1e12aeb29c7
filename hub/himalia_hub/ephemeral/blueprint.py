"""From a repository's files to a Dockerfile, where sessions are containers. Pure.

A repository's own Dockerfile is built as it is. For others a short one is written over the site's base image: the
kernel's environment is a virtualenv beside the server's, as it is where sessions are processes. Whatever code is run
for that, runs in the engine's build container, never on the hub's machine.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from himalia_hub.ephemeral.environment import (
    BUILT_BY_US,
    FOR_CONTAINERS,
    CannotHonour,
    NeedsRepo2docker,
    Recipe,
    recipe,
)
from himalia_hub.ephemeral.installer import KERNEL, kernelspec

SCHEMA = 1
"""Part of every key: raise it when the same files come to mean another image."""

VENV = "/opt/repository"
SOURCE = "/src"
USER = "1000:100"
"""Whom everything but the system's packages is installed by, as in images of Jupyter's own stacks."""

INSTALLER, KERNELSPEC = "himalia-uv", "himalia-kernel.json"
"""Names in the context that no repository has."""

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+(=[A-Za-z0-9.+:~-]+)?")
_FROM = re.compile(r"\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What to build. `files` go into the build's context by name; with `whole` the repository does, too.

    `read` are the names it was read from, for people. `own` is a Dockerfile of the repository's.
    """

    dockerfile: str
    files: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    read: tuple[str, ...] = ()
    own: bool = False

    def key(self, *, base: str, commit: str) -> str:
        """What names the image: equal for all commits whose files ask for the same. 64 hex digits.

        `base` is the base image's id. With the whole repository in it, an image is of one commit.
        """
        told = [SCHEMA, base, self.dockerfile, dict(self.files), commit if self.whole else ""]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def blueprint(
    files: Mapping[str, str], *, base: str, index_url: str = "", bases: Collection[str] = (), folder: str = ""
) -> Blueprint:
    """How to build the image that the files ask for; `folder` is where they lie in the repository.

    `bases` are patterns of the images that a Dockerfile may start from; none: any. CannotHonour says what cannot be.
    """
    if "Dockerfile" in files:
        _check_bases(files["Dockerfile"], bases)
        return Blueprint(files["Dockerfile"], whole=True, read=("Dockerfile",), own=True)
    for name, what in FOR_CONTAINERS.items():
        if name in files and name not in BUILT_BY_US:
            raise NeedsRepo2docker(
                f"{name} asks for {what}, which the images built here do not have.",
                remedy="Write a Dockerfile that installs it, or ask an administrator to build with repo2docker "
                "(ephemeral.builder).",
            )
    install, added, whole, read, python = _install(files, folder)
    system = list(_system_packages(files.get("apt.txt", "")))
    lines = [f"FROM {base}", "USER 0"]
    if system:
        read = (*read, "apt.txt")
        lines.append(
            "RUN apt-get update && apt-get install --yes --no-install-recommends "
            f"{' '.join(map(shlex.quote, system))} && rm -rf /var/lib/apt/lists/*"
        )
    index = [f"ARG UV_DEFAULT_INDEX={index_url}"] if index_url else []
    lines += [
        f"COPY {INSTALLER} /usr/local/bin/uv\nRUN mkdir -m 777 {VENV} {SOURCE}",
        f"USER {USER}\nWORKDIR {SOURCE}",
        *("ARG UV_NO_CACHE=1", "ARG UV_NO_PROGRESS=1", "ARG UV_PYTHON_DOWNLOADS=never", *index),
        f"RUN uv venv --quiet --no-project --clear{f' --python {python}' if python else ''} {VENV}",
        f"ENV VIRTUAL_ENV={VENV}",
        *install,
        f"RUN uv pip install {shlex.quote(KERNEL)}",
        f"COPY {KERNELSPEC} {VENV}/share/jupyter/kernels/python3/kernel.json",
        f"ENV PATH={VENV}/bin:$PATH JUPYTER_PATH={VENV}/share/jupyter",
    ]
    added[KERNELSPEC] = kernelspec(f"{VENV}/bin/python")
    return Blueprint("\n".join(lines) + "\n", added, whole, read)


def _install(
    files: Mapping[str, str], folder: str
) -> tuple[list[str], dict[str, str], bool, tuple[str, ...], str]:
    """(lines, files for the context, whether the whole repository is needed, names read, Python's version)."""
    try:
        found = recipe(_Without(files))
    except CannotHonour:
        line = _from_source(files, folder)
        if line is None:
            raise
        python = recipe(_only(files, "runtime.txt")).python
        read = tuple(name for name in ("requirements.txt", "pyproject.toml", "setup.py") if name in files)[:1]
        return [f"COPY --chown={USER} . {SOURCE}", line], {}, True, read, python
    lines, added = _by_name(found)
    return lines, added, False, found.files, found.python


def _by_name(found: Recipe) -> tuple[list[str], dict[str, str]]:
    """Packages of the index, asked for as where there are no containers, so that the same files mean the same."""
    if found.project:
        export = "uv export --quiet --frozen --no-emit-project --format requirements.txt"
        return [
            "COPY pyproject.toml uv.lock ./",
            f"RUN {export} > /tmp/requirements.txt && uv pip install -r /tmp/requirements.txt",
        ], {"pyproject.toml": found.project, "uv.lock": found.requirements}
    if not found.requirements.strip():
        return [], {}
    return ["COPY requirements.txt ./", "RUN uv pip install -r requirements.txt"], {
        "requirements.txt": found.requirements
    }


def _from_source(files: Mapping[str, str], folder: str) -> str | None:
    """How to install what runs code of the repository's: paths, addresses, a project that finds its dependencies."""
    place = f"{folder}/" if folder else ""
    if "requirements.txt" in files:
        return f"RUN uv pip install -r {place}requirements.txt"
    if not {"Pipfile", "Pipfile.lock", "environment.yml", "environment.yaml", "uv.lock"} & set(files) and (
        "setup.py" in files or "pyproject.toml" in files
    ):
        return f"RUN uv pip install ./{place}"
    return None


class _Without(Mapping[str, str]):
    """The files without those that are honoured by other lines of the Dockerfile."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def __getitem__(self, name: str) -> str:
        if not self._keeps(name):
            raise KeyError(name)
        return self._files[name]

    def __contains__(self, name: object) -> bool:
        return self._keeps(name) and name in self._files

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._files if self._keeps(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _keeps(self, name: object) -> bool:
        return name not in BUILT_BY_US


def _only(files: Mapping[str, str], name: str) -> Mapping[str, str]:
    return {name: files[name]} if name in files else {}


def _system_packages(text: str) -> Iterator[str]:
    """Names of packages, each whole: what is no name would reach a shell that is root."""
    for number, raw in enumerate(text.splitlines(), start=1):
        for word in raw.partition("#")[0].split():
            if not _PACKAGE.fullmatch(word):
                raise CannotHonour(
                    f"apt.txt, line {number}: {word[:60]!r} is no package.", remedy="List names of packages."
                )
            yield word


def _check_bases(dockerfile: str, bases: Collection[str]) -> None:
    """Each image that it starts from must fit a pattern: what lies on the engine may be nobody's business."""
    stages = {"scratch"}
    for line in dockerfile.splitlines() if bases else ():
        found = _FROM.fullmatch(line)
        if found is None:
            continue
        image = found[1]
        if image.lower() not in stages and not any(fnmatch.fnmatchcase(image, one) for one in bases):
            raise CannotHonour(
                f"Dockerfile starts from {image[:100]!r}, which is not allowed here.",
                remedy=f"Start from one of {', '.join(bases)}.",
            )
        stages.add((found[2] or "").lower())
