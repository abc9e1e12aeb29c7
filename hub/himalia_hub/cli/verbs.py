"""The verbs: one small file for each, joined here. Exit codes: 0 done, 1 refused or failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from types import ModuleType

from himalia_hub.bare import SERVING
from himalia_hub.cli.arguments import Parser, common_options, split_common
from himalia_hub.errors import HimaliaError, sentence
from himalia_spawner.errors import SpawnError

VERBS = (
    *("up", "hub", "proxy", "singleuser", "db", "backup", "restore", "doctor", "import", "token", "user"),
    *("config", "scaletest", "clear-outputs"),
)
# These hand everything they are given to another program, so their flags are not ours to judge.
PASSING_ON = frozenset({"proxy", "singleuser", "clear-outputs"})

EPILOG = """\
Every setting can be given as --section.key VALUE, before or after the verb, such as --proxy.port 9000;
`himalia config show` lists them with the values in force."""


def run(given: Sequence[str]) -> int:
    """Run one verb; the exit code. What cannot be done is one sentence on standard error."""
    verb = next((word for word in split_common(given).rest if not word.startswith("-")), "")
    common = split_common(given, sections_only=verb in PASSING_ON)
    try:
        if verb in PASSING_ON and common.rest[0] == verb:  # not `himalia --help proxy`
            return int(_module(verb).run(common.rest[1:]))
        everything = not verb and not {"-h", "--help"}.isdisjoint(common.rest)
        args = make_parser(None if everything else verb).parse_args(common.rest)
        args.data, args.config, args.overrides = common.data, common.config, common.overrides
        return int(args.run(args))
    except (HimaliaError, SpawnError) as error:
        print(f"himalia: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _module(verb: str) -> ModuleType:
    if verb in SERVING:
        from himalia_hub import lean

        lean.stay_small()
        lean.import_aiohttp()
    name = verb.replace("-", "_")
    return import_module(f"himalia_hub.cli.{name}_" if iskeyword(name) else f"himalia_hub.cli.{name}")


def make_parser(verb: str | None = None) -> Parser:
    """The parser of all verbs. Given one, only that is filled in, so that the others' code is not loaded."""
    parser = Parser(
        prog="himalia",
        description="A multi-user notebook hub.",
        epilog=EPILOG,
        parents=[common_options()],
    )
    verbs: argparse._SubParsersAction[Parser] = parser.add_subparsers(
        metavar="VERB", required=True, dest="verb", parser_class=Parser
    )
    for name in VERBS:
        if verb is not None and name != verb:
            verbs.add_parser(name)
            continue
        module = _module(name)
        sub = verbs.add_parser(
            name, help=module.HELP, description=module.HELP, epilog=EPILOG, parents=[common_options()]
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser
