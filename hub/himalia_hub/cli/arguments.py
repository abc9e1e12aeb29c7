"""What every verb understands, and a parser that helps with typing errors."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from himalia_hub.config import section_of
from himalia_hub.meant import nearest
from himalia_hub.settings import HubSettings

SETTING_FLAG = re.compile(r"--([a-z][a-z0-9_-]*(?:\.[A-Za-z0-9_-]+)+)(?:=(.*))?", re.DOTALL)
SECTIONS = frozenset(name for name, info in HubSettings.model_fields.items() if section_of(info))
# Settings that stand in no section have no dot by which a flag is known.
TOP_FLAGS = {
    f"--{name.replace('_', '-')}": name
    for name in HubSettings.model_fields
    if name not in SECTIONS and name != "data_dir"
}


@dataclass(slots=True)
class Common:
    """The options of every verb, taken out of a command line, and what is left of it."""

    rest: list[str] = field(default_factory=list)
    data: Path | None = None
    config: Path | None = None
    overrides: dict[str, str] = field(default_factory=dict)


def split_common(argv: Sequence[str], *, sections_only: bool = False) -> Common:
    """Take `--data`, `--config` and settings out, wherever they stand before a `--`.

    `sections_only` leaves flags with a dot alone that begin with no section of ours: they are meant for the
    program that the verb starts.
    """
    common = Common()
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            common.rest += [word, *words]
            break
        name, equals, text = word.partition("=")
        key = _setting_key(name, sections_only=sections_only)
        if key is None and name not in ("--data", "--config"):
            common.rest.append(word)
            continue
        if not equals:
            if not words or words[0].startswith("--"):
                _usage(f"{name} needs a value{'; write ' + name + '=VALUE' if words else ''}")
            text = words.pop(0)
        if key is not None:
            common.overrides[key] = text
        elif not text:
            _usage(f"{name} needs a value")
        elif name == "--data":
            common.data = Path(text)
        else:
            common.config = Path(text)
    return common


def _setting_key(flag: str, *, sections_only: bool) -> str | None:
    if flag in TOP_FLAGS and not sections_only:
        return TOP_FLAGS[flag]
    matched = SETTING_FLAG.fullmatch(flag)
    if matched is None or (sections_only and matched[1].partition(".")[0] not in SECTIONS):
        return None
    return matched[1]


def common_options() -> Parser:
    """The same options for the help texts; `split_common` has taken their values out before."""
    parser = Parser(add_help=False)
    parser.add_argument(
        "--data",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="folder for database, secret, logs and homes (default: himalia-data)",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="configuration to read (default: himalia.toml in the data folder, when there is one)",
    )
    return parser


class Parser(argparse.ArgumentParser):
    """Names the nearest right word for a wrong one. Long options are never abbreviated."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As usual, but an unknown option comes with the one that was probably meant."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            self.error(f"unknown argument {word!r}{_meant(word, self._options())}")
        return known

    def _options(self) -> Iterable[str]:
        yield from (f"--{name}" for name in ("data", "config"))
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    yield from parser._options()

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            near = _meant(str(value), choices) or f"; there are: {', '.join(choices)}"
            raise argparse.ArgumentError(None, f"unknown {(action.metavar or 'value')} {value!r}{near}")


def _meant(word: str, choices: Iterable[str]) -> str:
    near = nearest(word, list(choices), 1, 0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _usage(text: str) -> NoReturn:
    print(f"himalia: {text}", file=sys.stderr)
    raise SystemExit(2)
