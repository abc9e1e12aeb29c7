"""A cell that says `1`: straight over ZMQ, and through our server's WebSocket, with a keeper and without.

    make bench WHAT=roundtrip    or    .venv/bin/python tests/bench/roundtrip.py [--rounds 20] [--cells 50]

All three kernels run at once and each round asks each of them, so that what else the machine does meets all of them.
Prints the median of each way over all cells, how much it is above the bare one's (over all, and by round), and the
processor time of our server for one cell.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.kernel_clients import WAYS, connected, cpu_s

WARM_UP = 20


def show(taken: dict[str, list[list[float]]], cpu_ms: dict[str, float]) -> None:
    """`taken`: milliseconds of each cell, by way and round."""
    print("| Way | p50, ms | above bare, ms | by round: median | least | p95, ms | CPU of the server, ms |")
    print("|---|---|---|---|---|---|---|")
    least = next(iter(taken.values()))
    for way, rounds in taken.items():
        cells = [one for cells in rounds for one in cells]
        p50, p95 = statistics.median(cells), statistics.quantiles(cells, n=20)[-1]
        above = [
            statistics.median(mine) - statistics.median(bare)
            for mine, bare in zip(rounds, least, strict=True)
        ]
        by_round = f"{statistics.median(above):.2f} | {min(above):.2f}"
        over_all = p50 - statistics.median([one for cells in least for one in cells])
        print(f"| {way} | {p50:.2f} | {over_all:.2f} | {by_round} | {p95:.2f} | {cpu_ms[way]:.2f} |")


def main() -> None:
    """Parse, run, show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cells", type=int, default=50, help="of each way in each round")
    args = parser.parse_args()
    with ExitStack() as stack:
        homes = {
            way: Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", prefix="cells-")))
            for way in WAYS
        }
        runs = {way: stack.enter_context(connected(way, homes[way])) for way in WAYS}
        for run in runs.values():
            for _ in range(WARM_UP):
                run("1")
        before = {way: cpu_s(home).get("server", 0.0) for way, home in homes.items()}
        taken: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        for _ in range(args.rounds):
            for way, run in runs.items():
                taken[way].append([1000 * run("1") for _ in range(args.cells)])
        cells = args.rounds * args.cells
        cpu_ms = {
            way: 1000 * (cpu_s(home).get("server", 0.0) - before[way]) / cells for way, home in homes.items()
        }
    show(taken, cpu_ms)


if __name__ == "__main__":
    main()
