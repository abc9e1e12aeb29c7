"""The rehearsal before a server has its person: it works, and nothing of it stays."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, os
from himalia_singleuser import warm

def state():
    return {
        "cwd": os.getcwd(),
        "files": sorted(os.readlink(f"/proc/self/fd/{n}") for n in ("0", "1", "2")) + [len(os.listdir("/proc/self/fd"))],
        "threads": len(os.listdir("/proc/self/task")),
        "environment": dict(os.environ),
    }

warm.rehearse()  # libuv makes one pipe for signals in a process, at its first loop, and keeps it
before = state()
warm.rehearse()
print(json.dumps([before, state()]))
"""


def test_a_rehearsal_leaves_no_thread_no_file_and_the_process_where_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    assert after == before
    assert before["threads"] == 1
    assert done.stderr == ""
