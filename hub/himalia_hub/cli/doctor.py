"""`himalia doctor`: whether everything is as it should be, and what to do where it is not."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict

from himalia_hub.cli.common import settings_from
from himalia_hub.cli.terminal import Terminal
from himalia_hub.health.examine import examine
from himalia_hub.health.finding import Finding, Grade
from himalia_hub.settings import HubSettings

HELP = "look at folder, database, proxy, spawner and kernels, and say what to do; changes nothing; exit 1 on a problem"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """For people or for scripts."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines, for monitoring")


def run(args: argparse.Namespace) -> int:
    """A line a finding, as it is found."""
    found = asyncio.run(_look(settings_from(args), None if args.json else Terminal(sys.stdout)))
    if args.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2, ensure_ascii=False))
    return 1 if any(finding.grade is Grade.PROBLEM for finding in found) else 0


async def _look(settings: HubSettings, terminal: Terminal | None) -> list[Finding]:
    found: list[Finding] = []
    async for finding in examine(settings):
        found.append(finding)
        if terminal is not None:
            _tell(terminal, finding)
    return found


def _tell(terminal: Terminal, finding: Finding) -> None:
    line = f"{finding.about}: {finding.said}"
    match finding.grade:
        case Grade.OK:
            terminal.done(line)
        case Grade.ADVICE:
            terminal.note(line)
        case Grade.PROBLEM:
            terminal.fail(line)
    if finding.remedy:
        terminal.hint(finding.remedy)
