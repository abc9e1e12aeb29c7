"""What a kernel publishes, at a bare ZMQ client and at a browser of our server, with a keeper and without.

    make bench WHAT=burst    or    .venv/bin/python tests/bench/burst.py [--rounds 5] [--messages 20000]

Each round runs each way once, so that what else the machine does meets all of them. Prints messages per second, their
ratio to the bare client's, and processor time per message by process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.kernel_clients import WAYS, connected, cpu_s

BURSTS = {
    "display_data": "from IPython.display import display\nfor number in range({count}): display(number)",
    "flushed lines": "for number in range({count}): print('line', number, flush=True)",
    "lines": "for number in range({count}): print('line', number)",
}


@dataclass
class Figures:
    """Of one way."""

    rates: list[float] = field(default_factory=list)
    cpu_us: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def measure(way: str, burst: str, count: int, into: Figures) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="burst-") as name:
        home = Path(name)
        with connected(way, home) as run:
            run("from IPython.display import display; display(1)")
            before = cpu_s(home)
            into.rates.append(count / run(BURSTS[burst].format(count=count)))
            for kind, seconds in cpu_s(home).items():
                into.cpu_us[kind].append((seconds - before.get(kind, 0)) / count * 1e6)


def show(burst: str, all_figures: dict[str, Figures]) -> None:
    print(f"\n{burst}\n\n| Way | /s, median | best | of bare, by round | by best | µs of CPU each |")
    print("|---|---|---|---|---|---|")
    bare = next(iter(all_figures.values())).rates
    for way, got in all_figures.items():
        cpu = ", ".join(f"{kind} {statistics.median(us):.0f}" for kind, us in sorted(got.cpu_us.items()))
        by_round = statistics.median(mine / theirs for mine, theirs in zip(got.rates, bare, strict=True))
        rates = f"{statistics.median(got.rates):,.0f} | {max(got.rates):,.0f}"
        print(f"| {way} | {rates} | {by_round:.2f} | {max(got.rates) / max(bare):.2f} | {cpu} |")


def main() -> None:
    """Parse, run, show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--burst", choices=BURSTS, action="append")
    args = parser.parse_args()
    for burst in args.burst or BURSTS:
        figures = {way: Figures() for way in WAYS}
        for number in range(args.rounds):
            for way, into in figures.items():
                measure(way, burst, args.messages, into)
                print(f"round {number + 1} of {args.rounds}, {way}: {into.rates[-1]:,.0f}/s", flush=True)
        show(burst, figures)


if __name__ == "__main__":
    main()
