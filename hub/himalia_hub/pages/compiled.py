"""Templates compiled before the first visitor comes, and kept beside their sources as Python keeps its own bytecode."""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, MutableMapping
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


class Packed(jinja2.BaseLoader):
    """Another loader's templates, read and compiled early, and packed until somebody asks for their page: a third of
    a megabyte in the place of one and a half, and the text of the hub's start although files may change while it runs.
    """

    def __init__(self, loader: jinja2.BaseLoader) -> None:
        self._loader = loader
        self._packed: dict[str, bytes] = {}

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        """As the other loader."""
        return self._loader.get_source(environment, template)

    def load(
        self,
        environment: Environment,
        name: str,
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002 -- as its base calls it
    ) -> jinja2.Template:
        """The template as it was packed, or from the other loader."""
        if name not in self._packed:
            return self._loader.load(environment, name, globals)
        code = marshal.loads(zlib.decompress(self._packed[name]))  # noqa: S302 -- of pack()
        return environment.template_class.from_code(environment, code, globals or {}, None)

    def pack(self, environment: Environment, name: str) -> None:
        """Read and compile one; raises as `get_template` does."""
        source, path, _ = self._loader.get_source(environment, name)
        kept = environment.bytecode_cache
        bucket = kept.get_bucket(environment, name, path, source) if kept is not None else None
        code = bucket.code if bucket is not None else None
        if code is None:
            code = environment.compile(source, name, path)
            if kept is not None and bucket is not None:
                bucket.code = code
                kept.set_bucket(bucket)
        self._packed[name] = zlib.compress(marshal.dumps(code), 1)


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
    loader = environment.loader
    for path in sorted(folder.glob("*.html")):
        try:
            if isinstance(loader, Packed):
                loader.pack(environment, path.name)
            else:
                environment.get_template(path.name)
        except jinja2.TemplateSyntaxError as error:
            yield {"file": error.filename, "line": error.lineno}, error.message or ""
        except (jinja2.TemplateError, OSError, UnicodeDecodeError) as error:
            yield {"file": path.name}, str(error)
