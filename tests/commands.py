"""`himalia`'s short commands without their imports, which are most of what one costs: a process that has them forks.

It is the commands' own code in a process of its own, with its own descriptors, environment and exit code. Run as a
program this file is that parent: it reads a command a line, and answers with its exit code.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

LOADED = (
    *("himalia_hub.cli.verbs", "himalia_hub.cli.user", "himalia_hub.cli.token", "himalia_hub.cli.db"),
    *("aiosqlite", "alembic.command", "psycopg", "sqlalchemy.dialects.postgresql.psycopg"),
)
_one_at_a_time = threading.Lock()


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


def himalia(*words: str, stdin: str = "") -> Done:
    """Run `himalia words…` to its end."""
    with tempfile.TemporaryDirectory(prefix="himalia-command-") as folder, _one_at_a_time:
        Path(folder, "0").write_text(stdin)
        asked = {"words": words, "folder": folder, "env": dict(os.environ), "cwd": os.getcwd()}
        parent = _parent()
        assert parent.stdin is not None and parent.stdout is not None
        parent.stdin.write(json.dumps(asked) + "\n")
        parent.stdin.flush()
        code = int(parent.stdout.readline())
        return Done(code, Path(folder, "1").read_text(), Path(folder, "2").read_text())


@functools.cache
def _parent() -> subprocess.Popen[str]:
    parent = subprocess.Popen(
        [sys.executable, "-I", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    atexit.register(parent.communicate)
    return parent


def _serve() -> None:
    for module in LOADED:
        import_module(module)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(asked: dict[str, Any]) -> None:
    """Never returns, as a command does not."""
    code = 70
    try:
        for number, mode in enumerate(("r", "w", "w")):
            with open(f"{asked['folder']}/{number}", mode) as file:
                os.dup2(file.fileno(), number)
        sys.stdin = os.fdopen(0)  # the other one has read what is not the command's
        os.environ.clear()
        os.environ.update(asked["env"])
        os.chdir(asked["cwd"])
        code = import_module("himalia_hub.cli").main(asked["words"])
    except SystemExit as end:  # how argparse ends after its help, or over a wrong word
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
