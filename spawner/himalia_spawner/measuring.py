"""What servers of this machine use: from their control groups where they have some, else from their processes.

Blocking, milliseconds: one look at every process of the machine, and a file or two for each that belongs to a server.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping

from himalia_spawner import cgroups, procfs
from himalia_spawner.base import Measure
from himalia_spawner.ledger import Ledger
from himalia_spawner.procfs import ProcessStat
from himalia_spawner.records import Record


def measured(ledger: Ledger, names: Collection[str]) -> dict[str, Measure]:
    """What each server, its kernels and all they started use; those that do not run are left out."""
    records = {name: record for name in names if (record := ledger.folder(name).read())}
    processes = {found.pid: found for pid in procfs.pids() if (found := procfs.stat(pid)) and found.running}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for found in processes.values():
        children[found.parent].append(found.pid)
    return {
        name: _measure(record, processes, children)
        for name, record in records.items()
        if (main := processes.get(record.pid)) and main.ticks == record.ticks and record.name == name
    }


def _measure(
    record: Record, processes: Mapping[int, ProcessStat], children: Mapping[int, list[int]]
) -> Measure:
    # Kernels outlive a crash of their server, and are then nobody's children: only its control group knows them.
    pids = cgroups.members(record.cgroups) | descendants(record.pid, children)
    memory = cgroups.memory_of(record.cgroups)
    if memory is None:
        memory = sum(procfs.memory_of(pid) for pid in pids)
    ticks = sum(processes[pid].cpu_ticks for pid in pids if pid in processes)
    return Measure(memory, ticks / os.sysconf("SC_CLK_TCK"))


def descendants(pid: int, children: Mapping[int, list[int]]) -> set[int]:
    """A process and all below it: pure."""
    found, ahead = set(), [pid]
    while ahead:
        each = ahead.pop()
        if each not in found:
            found.add(each)
            ahead += children.get(each, ())
    return found
