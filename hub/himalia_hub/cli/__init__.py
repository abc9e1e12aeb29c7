"""`himalia`: what stands before the first import of a library, then the verb."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from himalia_hub import bare

# structlog imports rich wherever it is installed, for tracebacks that we do not want: 9 MB for nothing.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with this command line, by default the process's own; the exit code."""
    if argv is None and not bare.SERVING.isdisjoint(sys.argv[1:]):
        bare.import_bare()
    from himalia_hub.cli.verbs import run  # pydantic comes with it

    return run(list(sys.argv[1:] if argv is None else argv))
