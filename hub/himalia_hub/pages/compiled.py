"""Templates compiled before the first visitor comes, and kept beside their sources as Python keeps its own bytecode."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import structlog
from jinja2.bccache import Bucket

if TYPE_CHECKING:
    from jinja2 import Environment

log = structlog.get_logger()


class Kept(jinja2.FileSystemBytecodeCache):
    """Bytecode in a folder; where that cannot be written, in memory only.

    Jinja names an entry by the template and checks it against the source. What it does not check is how the
    environment that compiled it was set up: `made_by` are the files that say so. Whoever may write the folder may
    write the code beside it.
    """

    def __init__(self, folder: Path, made_by: Iterable[Path]) -> None:
        version = hashlib.sha256(b"".join(path.read_bytes() for path in made_by)).hexdigest()[:12]
        super().__init__(str(folder), f"%s.{version}.jinja")

    def load_bytecode(self, bucket: Bucket) -> None:
        """What was kept, or nothing where it cannot be read or was cut off by a loss of power."""
        try:
            super().load_bytecode(bucket)
        except (OSError, EOFError, pickle.UnpicklingError):
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep it for the next start, where there is room and leave to."""
        with contextlib.suppress(OSError):
            Path(self.directory).mkdir(exist_ok=True)
            super().dump_bytecode(bucket)


def compile_all(environment: Environment, folder: Path) -> None:
    """Compile every page of this folder, or what takes its place. One that cannot be is named in the log; its page says
    what is wrong when somebody asks for it.
    """
    for where, why in _failing(environment, folder):
        log.warning("template.broken", **where, why=why)


def broken(environment: Environment, folder: Path) -> Iterator[str]:
    """The same in words, for whoever had them read again."""
    for where, why in _failing(environment, folder):
        yield f"the template {' line '.join(str(part) for part in where.values())}: {why}"


def _failing(environment: Environment, folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
    for path in sorted(folder.glob("*.html")):
        try:
            environment.get_template(path.name)
        except jinja2.TemplateSyntaxError as error:
            yield {"file": error.filename, "line": error.lineno}, error.message or ""
        except (jinja2.TemplateError, OSError, UnicodeDecodeError) as error:
            yield {"file": path.name}, str(error)
