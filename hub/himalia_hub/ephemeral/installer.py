"""Making a virtualenv from a recipe, by uv: wheels only, at its final place, marked when it is whole.

uv is a program, called as one (it promises no Python API). `--no-build` keeps code of packages from running while
they are installed; what runs later runs in somebody's session, under its limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from himalia_hub.ephemeral.environment import CannotHonour, Recipe, by_name
from himalia_hub.ephemeral.folders import closed_to_others
from himalia_hub.errors import HimaliaError
from himalia_hub.languages import counted
from himalia_hub.services.child import tied

READY = "himalia-ready.json"
"""Written last: a folder without it is the rest of a build that was cut off."""

KERNEL = "ipykernel>=7"
"""Put into every environment, for its kernel."""

NEWEST = 99
"""More patches than any Python has."""

TOO_SLOW = "Ask for fewer packages, or try again later."

Say = Callable[[str], None]

_OUT_OF_REACH = re.compile(
    r"HTTP status server error|error sending request|dns error|timed out|connection (refused|reset)|name resolution"
    r"|could not resolve|failure resolving|\b5\d\d server error|HTTP 5\d\d\b",
    re.IGNORECASE,
)
"""How uv, apt, pip and conda say that a server does not give what it has: nothing that a repository's files mend."""


class BuildFailed(HimaliaError):
    """The environment cannot be made; the message is the installer's own last words."""

    status = 422
    code = "build"


def remedy_for(words: str, otherwise: str) -> str:
    """What to do about a build that failed with these words."""
    return (
        "Try again later: a server of packages does not answer." if _OUT_OF_REACH.search(words) else otherwise
    )


def is_ready(folder: Path) -> bool:
    """Whether this environment is whole."""
    return (folder / READY).is_file()


def uv() -> str:
    """The installer's path. HimaliaError with the remedy when this hub has none."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise HimaliaError("The hub has no `uv`.", remedy="pip install uv")
    return found


def version_of(wanted: str) -> tuple[int, int, int] | None:
    """Of `3.12` its newest patch, of nothing the hub's own; None of what names an interpreter in another way."""
    if not wanted:
        return sys.version_info[:3]
    found = re.fullmatch(r"3\.(\d{1,2})", wanted)
    return (3, int(found[1]), NEWEST) if found else None


async def find_python(wanted: str, *, passable: bool) -> str:
    """The path of an installed interpreter: `3.12`, `>=3.9,<3.13`, a path, or empty for the hub's own.

    `passable`: other accounts must be able to run it. CannotHonour when there is none.
    """
    if not wanted:
        # Not the interpreter of the hub's virtualenv: that would tie the two together.
        return os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    words = ("python", "find", "--no-project", "--system", "--", wanted)
    try:
        out = await _run(*words, env=_environ(None), say=None, seconds=30)
    except BuildFailed:
        raise CannotHonour(
            f"Python {wanted} is not installed on this hub.", remedy="Ask for another version in runtime.txt."
        ) from None
    found = out.strip().splitlines()[-1]
    if passable and closed_to_others(Path(found).resolve()) is not None:
        raise CannotHonour(
            f"Python {wanted} of this hub is not for sessions: {found}", remedy="Ask for another."
        )
    return found


async def make(
    recipe: Recipe,
    folder: Path,
    *,
    python: str,
    index_url: str,
    cache: Path,
    seconds: float,
    most: int,
    say: Say,
) -> int:
    """Make the environment at `folder`, whatever lies there half-made; its bytes. `say` hears the installer's lines.

    `seconds` and `most` (bytes) bound it. BuildFailed, CannotHonour say why it cannot be; then nothing is left.
    """
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    env = _environ(cache) | ({"UV_DEFAULT_INDEX": index_url} if index_url else {})
    try:
        async with asyncio.timeout(seconds):
            await _run("venv", "--quiet", "--no-project", "--python", python, str(folder), env=env, say=say)
            requirements = await _requirements(recipe, folder, env)
            await _install(folder, requirements, env, say, most)
            size = await asyncio.to_thread(_size, folder)
        if size > most:
            raise BuildFailed(
                f"The environment is larger than the {most / 1e9:g} GB allowed here.", remedy="Ask for less."
            )
        spec = folder / "share" / "jupyter" / "kernels" / "python3"
        spec.mkdir(parents=True, exist_ok=True)
        (spec / "kernel.json").write_text(kernelspec(str(folder / "bin" / "python")))
        (folder / READY).write_text(json.dumps({"python": python, "bytes": size, "files": recipe.files}))
        return size
    except BaseException as error:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if isinstance(error, TimeoutError):
            raise BuildFailed(
                counted(
                    "The environment was not made within %(num)s second.",
                    "The environment was not made within %(num)s seconds.",
                    seconds,
                ),
                remedy=TOO_SLOW,
            ) from None
        raise


async def _requirements(recipe: Recipe, folder: Path, env: dict[str, str]) -> str:
    if not recipe.project:
        return recipe.requirements
    project = folder / "himalia-project"
    project.mkdir()
    (project / "pyproject.toml").write_text(recipe.project)
    (project / "uv.lock").write_text(recipe.requirements)
    words = (
        "export",
        "--frozen",
        "--no-emit-project",
        "--no-header",
        "--no-annotate",
        "--format",
        "requirements.txt",
    )
    out = await _run(*words, env=env, say=None, cwd=project)
    shutil.rmtree(project)
    for line in out.replace("\\\n", " ").splitlines():
        if line.strip():
            by_name(line, "uv.lock")
    return out


async def _install(folder: Path, requirements: str, env: dict[str, str], say: Say, most: int) -> None:
    """Theirs first and as they say, then the kernel: their pins win, and hashes are asked for where they gave them."""
    (folder / "requirements.txt").write_text(requirements)
    common = (
        "pip",
        "install",
        "--no-build",
        "--no-progress",
        "--link-mode",
        "hardlink",
        "--python",
        str(folder),
    )
    if requirements.strip():
        await _run(*common, "--requirement", "requirements.txt", env=env, say=say, most=most, cwd=folder)
    await _run(*common, KERNEL, env=env, say=say, most=most)


def kernelspec(python: str) -> str:
    """`kernel.json` of an environment, by the path of its interpreter.

    In the place of ipykernel's, which says `python` and leaves open which.
    """
    argv = [python, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    words = {
        "argv": argv,
        "display_name": "Python 3 (this repository)",
        "language": "python",
        "metadata": {"debugger": True},
    }
    return json.dumps(words)


def _size(folder: Path) -> int:
    return sum(entry.lstat().st_size for entry in folder.rglob("*"))


def _environ(cache: Path | None) -> dict[str, str]:
    """The installer's surroundings: nothing of the hub's own environment but how to reach the outside."""
    passed = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy",
              "no_proxy", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_HTTP_TIMEOUT",
              "UV_HTTP_RETRIES")  # fmt: skip
    told = {name: os.environ[name] for name in passed if name in os.environ}
    told |= {"UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_ENV_FILE": "1", "NO_COLOR": "1"}
    told |= {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": str(cache or "/")}
    return told | ({"UV_CACHE_DIR": str(cache)} if cache else {"UV_NO_CACHE": "1"})


async def _run(
    *words: str,
    env: dict[str, str],
    say: Say | None,
    seconds: float = 3600,
    most: int | None = None,
    cwd: Path = Path("/"),
) -> str:
    """One uv command; what it printed on standard output. Lines of its complaints go to `say` as they come.

    They name files as they were given: a path below `cwd` tells nobody where on this machine that is.

    It ends with the hub: the successor of one that was killed makes the same folder anew, alone.
    """
    process = await asyncio.create_subprocess_exec(
        *tied(uv(), *words), env=env, cwd=cwd, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    if most is not None:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
    tail: list[str] = []

    async def listen(stream: asyncio.StreamReader) -> None:
        async for raw in stream:
            line = raw.decode(errors="replace").rstrip()
            if line.startswith("Using Python "):
                continue  # says where on this machine, and nothing that its reader needs
            tail.append(line)
            del tail[:-20]
            if say is not None and line:
                say(line)

    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(seconds):
            out, _ = await asyncio.gather(process.stdout.read(), listen(process.stderr))
            await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        raise
    if process.returncode:
        raise _explained(tail)
    return out.decode(errors="replace")


def _explained(tail: list[str]) -> HimaliaError:
    """The installer's words, shortened; a package that would have to be built has words of its own."""
    text = " ".join(line.strip(" ×╰─▶│├") for line in tail if line.strip())
    if "no-build" in text or "has no wheel" in text or "no wheels" in text:
        return CannotHonour(
            f"A package has no wheel for this machine: {text[-500:]}",
            remedy="Packages are not compiled here; ask for a version that has one.",
        )
    return BuildFailed(
        f"The environment could not be made: {text[-700:]}",
        remedy=remedy_for(text, "Mend the list of packages."),
    )
